"""What a model knows of its distances: thresholds, a probability, and whom they were measured on.

`Decision` goes through JSON; reading is strict, as a threshold that is wrong decides wrongly.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from reid_jax.evaluation.calibration import Calibration
from reid_jax.evaluation.operating import FEWEST_ACCEPTED, OperatingPoint, OperatingPoints

__all__ = ["Decision", "Verdict"]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether two images show one person.

    Attributes:
        distance: of the two images.
        probability: that they do, where one pair in two does; None: it was not measured.
        same: whether the distance is at most the threshold.
        threshold: that decided.
        false_accept_rate: at which it was measured; None: where both errors are as large.
    """

    distance: float
    probability: float | None
    same: bool
    threshold: float
    false_accept_rate: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decision(OperatingPoints):
    """Operating points and a probability, and what they were measured on.

    Attributes:
        measured_on: 'validation' people, or 'test' people where there were no others: then they are
            also those that a result is of.
        dataset: name of their data set.
        data_source: of the images: 'official', 'custom' or 'stand-in' (rendered people).
        distance: the unit of all thresholds.
        num_images: that the pairs are of.
        calibration: the probability; None: too few people.
    """

    measured_on: Literal["validation", "test"]
    dataset: str
    data_source: Literal["official", "custom", "stand-in"]
    distance: str
    num_images: int
    calibration: Calibration | None

    @property
    def rates(self) -> tuple[float, ...]:
        """The false accept rates that have a threshold."""
        return tuple(p.false_accept_rate for p in self.points if p.threshold is not None)

    def threshold(self, false_accept_rate: float | None = None) -> float:
        """The largest distance that is accepted.

        Args:
            false_accept_rate: one of `rates`; None takes the point of equal error.

        Raises:
            ValueError: for another rate, with those that there are.
        """
        if false_accept_rate is None:
            return self.equal_error.threshold
        threshold = self.point(false_accept_rate).threshold
        assert threshold is not None
        return threshold

    def point(self, false_accept_rate: float) -> OperatingPoint:
        """The operating point of a rate that has a threshold.

        Args:
            false_accept_rate: one of `rates`.

        Raises:
            ValueError: for another rate, with those that there are.
        """
        for point in self.points:
            if point.false_accept_rate in self.rates and math.isclose(
                point.false_accept_rate, false_accept_rate
            ):
                return point
        known = ", ".join(f"{rate:g}" for rate in self.rates) or "none"
        raise ValueError(
            f"no threshold was measured at a false accept rate of {false_accept_rate:g}: there are "
            f"{known}, and the equal error ({self.num_different_pairs:,} pairs of two persons "
            f"resolve no rate below {FEWEST_ACCEPTED / self.num_different_pairs:.1g})"
        )

    def probability(self, distances: Any) -> np.ndarray | None:
        """The probability that two images of a distance show one person.

        Args:
            distances: [...] in the unit of `distance`.

        Returns:
            [...] float64; None where it was not measured.
        """
        return None if self.calibration is None else self.calibration.probability(distances)

    def verdict(self, distance: float, false_accept_rate: float | None = None) -> Verdict:
        """Decides whether two images of a distance show one person.

        Args:
            distance: in the unit of `distance`.
            false_accept_rate: see `threshold`.

        Raises:
            ValueError: as `threshold`.
        """
        threshold = self.threshold(false_accept_rate)
        probability = self.probability(distance)
        return Verdict(
            distance=float(distance),
            probability=None if probability is None else float(probability),
            same=bool(distance <= threshold),
            threshold=threshold,
            false_accept_rate=false_accept_rate,
        )

    @property
    def origin(self) -> str:
        """Whom it was measured on, in words."""
        rendered = ", rendered" if self.data_source == "stand-in" else ""
        return f"{self.num_people:,} {self.measured_on} people of {self.dataset}{rendered}"

    def lines(self) -> list[str]:
        """Error rates and thresholds for a terminal, with 95 % intervals over people."""
        equal = self.equal_error
        lines = [
            f"Same person or not, measured on {self.origin} (%, 95 % intervals over people):",
            f"  equal error                   {_share(equal.rate, equal.rate_interval)}  "
            f"distance {equal.threshold:.4g}",
        ]
        for point in self.points:
            at = f"  true accept at {100 * point.false_accept_rate:g} % false"
            if point.threshold is None or point.true_accept_rate is None:
                lines.append(f"{at:<31} too few pairs ({self.num_different_pairs:,} different)")
                continue
            shown = _share(point.true_accept_rate, point.true_accept_interval)
            lines.append(f"{at:<31} {shown}  distance {point.threshold:.4g}")
        if self.calibration:
            error = self.calibration.expected_calibration_error
            lines.append(f"  probability off by            {100 * error:6.2f}")
        return lines

    def as_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return _plain(self)

    @classmethod
    def from_json(cls, record: Any, *, where: str) -> Decision:
        """Reads what `as_json` gives.

        Args:
            record: an object of JSON.
            where: its place, for messages.

        Raises:
            ValueError: if a key is missing or unknown, or a value is of another type, naming it.
        """
        made = _read(cls, record, where)
        if made.calibration and not made.calibration.slope > 0:
            raise ValueError(
                f"{where}.calibration.slope is {made.calibration.slope}, expected above 0"
            )
        return made


def _share(value: float, interval: tuple[float, float] | None) -> str:
    between = "" if interval is None else f"[{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]"
    return f"{100 * value:6.2f} {between:<16}"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _read(kind: Any, value: Any, where: str) -> Any:
    """A value of JSON as an annotation has it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # Of one kind, or None.
        return None if value is None else _read(arguments[0], value, where)
    if origin is Literal:
        if value in arguments:
            return value
    elif dataclasses.is_dataclass(kind):
        return _read_fields(kind, value, where)
    elif origin is tuple and isinstance(value, list):
        kinds = arguments if arguments[-1] is not Ellipsis else arguments[:1] * len(value)
        if len(kinds) == len(value):
            return tuple(
                _read(each, entry, f"{where}[{place}]")
                for place, (each, entry) in enumerate(zip(kinds, value, strict=True))
            )
    elif kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    elif kind in (int, str) and type(value) is kind:
        return value
    expected = getattr(kind, "__name__", kind)
    raise ValueError(f"{where} is {value!r}, expected {expected if origin is None else kind}")


def _read_fields(kind: Any, value: Any, where: str) -> Any:
    names = [field.name for field in dataclasses.fields(kind)]
    if not isinstance(value, Mapping) or set(value) != set(names):
        found = ", ".join(value) if isinstance(value, Mapping) else repr(value)
        raise ValueError(
            f"{where} has {found or 'nothing'}, expected {', '.join(names)}: measure it again"
        )
    kinds = typing.get_type_hints(kind)
    return kind(**{name: _read(kinds[name], value[name], f"{where}.{name}") for name in names})
