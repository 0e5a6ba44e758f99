"""Operating points: thresholds with their error rates, and how sure these are."""

from __future__ import annotations

import dataclasses

import numpy as np

from reid_jax.evaluation.verification import Roc, equal_error, roc, threshold_at

__all__ = [
    "FALSE_ACCEPT_RATES",
    "FEWEST_ACCEPTED",
    "EqualError",
    "OperatingPoint",
    "OperatingPoints",
    "PersonPairs",
    "RocPoints",
    "operating_points",
]

FALSE_ACCEPT_RATES = (1e-1, 1e-2, 1e-3, 1e-4)
"""Rates at which a threshold is measured."""

FEWEST_ACCEPTED = 10
"""Different pairs that a false accept rate must come to: from fewer it is no more than a guess."""

FEWEST_PEOPLE = 5
"""People that a resampling needs."""

LEVEL = 0.95
GRID, ROC_POINTS = 1000, 50

Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True, eq=False)
class PersonPairs:
    """Distances of pairs of images, and who is on them.

    Attributes:
        distances: [P] finite, smaller is more alike.
        people_a: [P] int, the person on the first image.
        people_b: [P] int, the person on the second.

    Raises:
        ValueError: if lengths differ, a distance is not finite, or there is no pair of one of the
            two kinds.
    """

    distances: np.ndarray
    people_a: np.ndarray
    people_b: np.ndarray

    def __post_init__(self) -> None:
        shapes = {np.shape(getattr(self, field.name)) for field in dataclasses.fields(self)}
        if len(shapes) > 1 or len(next(iter(shapes))) != 1:
            raise ValueError(f"distances and people must all be [P], got shapes {shapes}")
        num_bad = int((~np.isfinite(self.distances)).sum())
        if num_bad:
            raise ValueError(f"{num_bad} of {len(self.distances)} distances are not finite")
        num_same = int(self.same.sum())
        if not 0 < num_same < len(self.same):
            raise ValueError(
                f"of {len(self.same)} pairs {num_same} show one person: pairs of both kinds are "
                "needed"
            )

    @property
    def same(self) -> np.ndarray:
        """[P] bool, whether both images show one person."""
        return np.equal(self.people_a, self.people_b)

    @property
    def people(self) -> np.ndarray:
        """[K] whoever is in a pair, ascending."""
        return np.union1d(self.people_a, self.people_b)


@dataclasses.dataclass(frozen=True)
class EqualError:
    """The point of equal error, as `equal_error` defines it.

    Attributes:
        rate: of both errors, a fraction.
        rate_interval: 95 % of resamplings lie in it; None: too few people.
        threshold: accepted are distances up to it.
        threshold_interval: likewise.
    """

    rate: float
    rate_interval: Interval | None
    threshold: float
    threshold_interval: Interval | None


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """The threshold that keeps a false accept rate, as `threshold_at` defines it.

    Attributes:
        false_accept_rate: the largest share of different pairs that may be accepted.
        threshold: accepted are distances up to it; None, as all that follows: the pairs are too few
            to measure this rate, or none of their distances keeps it.
        threshold_interval: 95 % of resamplings lie in it; None: too few people.
        true_accept_rate: share of same pairs that are accepted.
        true_accept_interval: likewise; each resampling has its own threshold.
    """

    false_accept_rate: float
    threshold: float | None
    threshold_interval: Interval | None
    true_accept_rate: float | None
    true_accept_interval: Interval | None


@dataclasses.dataclass(frozen=True)
class RocPoints:
    """Some points of the curve, for a figure.

    Attributes:
        threshold: [N] increasing.
        false_accept_rate: [N], evenly spaced on a logarithmic axis.
        true_accept_rate: [N].
    """

    threshold: tuple[float, ...]
    false_accept_rate: tuple[float, ...]
    true_accept_rate: tuple[float, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OperatingPoints:
    """What pairs of people say of thresholds.

    Attributes:
        num_people: who is in the pairs.
        num_same_pairs: pairs of one person.
        num_different_pairs: pairs of two persons.
        equal_error: where both errors are as large.
        points: one for each false accept rate that was asked for.
        roc: the curve.
    """

    num_people: int
    num_same_pairs: int
    num_different_pairs: int
    equal_error: EqualError
    points: tuple[OperatingPoint, ...]
    roc: RocPoints


def operating_points(
    pairs: PersonPairs,
    *,
    false_accept_rates: tuple[float, ...] = FALSE_ACCEPT_RATES,
    num_resamplings: int = 400,
    seed: int = 0,
) -> OperatingPoints:
    """Measures thresholds and their error rates, with bootstrap intervals over people.

    The pairs are counted one by one: a histogram of distances would move a threshold for one false
    accept in 10,000 by as much as its bin. What is resampled is people, with replacement, and not
    pairs: pairs of one person are alike, and taken for independent they would make the intervals
    far too narrow. A person drawn n times counts n times in pairs of their own, and a pair of two
    persons as often as the product of their numbers (the subsets bootstrap of R. M. Bolle, N. K.
    Ratha and S. Pankanti, Error analysis of pattern recognition systems: the subsets bootstrap,
    CVIU 93, 2004, with both persons of a pair resampled).

    Args:
        pairs: of at least two persons.
        false_accept_rates: at which a threshold is wanted. One that fewer than ten of the different
            pairs come to is not measured.
        num_resamplings: of the people.
        seed: of the resamplings.

    Returns:
        OperatingPoints.

    Raises:
        ValueError: on a rate outside [0, 1].
    """
    distances = np.asarray(pairs.distances, np.float64)
    same = pairs.same
    curve = roc(distances[same], distances[~same])
    num_different = int((~same).sum())
    # Rounded, as a rate times a number of pairs may be a hair below a whole number.
    measured = [
        rate for rate in false_accept_rates if round(rate * num_different, 6) >= FEWEST_ACCEPTED
    ]
    samples = _resampled(pairs, measured, num_resamplings, seed)
    threshold, rate = equal_error(curve)
    points = []
    for asked in false_accept_rates:
        at, accepted = threshold_at(curve, asked)
        if asked not in measured or at is None:
            points.append(OperatingPoint(asked, None, None, None, None))
            continue
        points.append(
            OperatingPoint(
                asked,
                at,
                _interval(samples.get((asked, "threshold"))),
                accepted,
                _interval(samples.get((asked, "accepted"))),
            )
        )
    return OperatingPoints(
        num_people=len(pairs.people),
        num_same_pairs=int(same.sum()),
        num_different_pairs=num_different,
        equal_error=EqualError(
            rate,
            _interval(samples.get(("equal", "rate"))),
            threshold,
            _interval(samples.get(("equal", "threshold"))),
        ),
        points=tuple(points),
        roc=_roc_points(curve, num_different),
    )


Samples = dict[tuple[float | str, str], list[float]]


def _resampled(pairs: PersonPairs, rates: list[float], number: int, seed: int) -> Samples:
    """The values of each resampling, by what they are of."""
    people = pairs.people
    samples: Samples = {}
    if len(people) < FEWEST_PEOPLE:
        return samples
    order = np.argsort(pairs.distances, kind="stable")
    distances = np.asarray(pairs.distances, np.float64)[order]
    first, second = (
        np.searchsorted(people, side[order]) for side in (pairs.people_a, pairs.people_b)
    )
    same = first == second
    grid = np.unique(
        np.concatenate([_some(distances[same], GRID), _some(distances[~same], GRID, low_end=True)])
    )
    # Pairs up to each threshold of the grid, of each kind.
    ends = [np.searchsorted(distances[kind], grid, side="right") for kind in (same, ~same)]
    own, one, other = first[same], first[~same], second[~same]
    random = np.random.default_rng(seed)
    draws = random.multinomial(len(people), np.full(len(people), 1 / len(people)), size=number)
    draws = draws.astype(np.int32)  # Small, so that the numbers of many pairs are read fast.
    for drawn in draws:
        counts = []
        for weights, end in zip((drawn[own], drawn[one] * drawn[other]), ends, strict=True):
            counts.append(np.concatenate([[0], np.cumsum(weights, dtype=np.int64)])[end])
        if not counts[0][-1] or not counts[1][-1]:
            continue  # Nobody who was drawn has a pair of this kind.
        occurs = np.diff(counts[0] + counts[1], prepend=0) > 0
        thresholds = grid[occurs]
        accepted, wrong = (count[occurs] / count[-1] for count in counts)
        curve = Roc(thresholds, thresholds, wrong, accepted)
        threshold, rate = equal_error(curve)
        found: dict[tuple[float | str, str], float | None] = {
            ("equal", "rate"): rate,
            ("equal", "threshold"): threshold,
        }
        for asked in rates:
            found[asked, "threshold"], found[asked, "accepted"] = threshold_at(curve, asked)
        for name, value in found.items():
            if value is not None:
                samples.setdefault(name, []).append(value)
    return samples


def _some(ordered: np.ndarray, number: int, *, low_end: bool = False) -> np.ndarray:
    """Some of ascending values: evenly spread ranks, of the low end more than of the rest."""
    ranks = np.linspace(0, len(ordered) - 1, number)
    if low_end:
        ranks = np.concatenate([ranks, np.geomspace(1, len(ordered), number) - 1])
    return ordered[np.unique(np.round(ranks).astype(np.int64))]


def _interval(values: list[float] | None) -> Interval | None:
    if not values:
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _roc_points(curve: Roc, num_different: int) -> RocPoints:
    rates = np.concatenate([[0.0], np.geomspace(1 / num_different, 1, ROC_POINTS)])
    last = np.searchsorted(curve.false_accept_rate, rates + 1e-12, side="right") - 1
    places = np.unique(last[last >= 0])

    def rounded(values: np.ndarray) -> tuple[float, ...]:
        return tuple(float(f"{value:.6g}") for value in values[places])

    return RocPoints(
        rounded(curve.thresholds),
        rounded(curve.false_accept_rate),
        rounded(curve.true_accept_rate),
    )
