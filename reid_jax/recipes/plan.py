"""How long a training is, by what its parts take on this machine."""

from __future__ import annotations

import dataclasses
import math

__all__ = ["FEWEST_STEPS", "Measured", "Plan", "duration", "planned"]

FEWEST_STEPS = 50
"""Of a training that is shortened to a time."""

MOST_VALIDATIONS = 5
SECONDS_AT_THE_END = 10  # page and files
RESERVE = 0.9  # a machine may become slower


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a training keeps to from where it begins, also on another machine.

    Attributes:
        num_steps: its length.
        validate_every: steps from one validation to the next.
        dtype: what layers compute in; parameters and losses are float32.
    """

    num_steps: int
    validate_every: int
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True)
class Measured:
    """Seconds that the parts of a training take on this machine.

    Attributes:
        step: of a step.
        starting: before the first step.
        validation: of a validation; 0: there is none.
        test: of the test.
    """

    step: float
    starting: float
    validation: float
    test: float

    def total(self, num_steps: int, validations: int) -> float:
        """Of a whole training."""
        at_the_end = self.test + SECONDS_AT_THE_END
        return self.starting + num_steps * self.step + validations * self.validation + at_the_end

    def needed(self, num_steps: int) -> float:
        """Of a training with one validation, with what is kept in reserve."""
        return self.total(num_steps, 1) / RESERVE


def planned(length: int, measured: Measured, *, seconds_left: float | None) -> tuple[Plan, float]:
    """The plan of a training of a length, shortened to the time that is left.

    Args:
        length: steps that suit the images.
        measured: seconds of the parts.
        seconds_left: for all of it; None: any time.

    Returns:
        The plan, whose steps may be 0 or fewer where the time is too short for any; and its
        seconds.
    """
    validations = MOST_VALIDATIONS
    if seconds_left is not None:
        # At most a fifth of the time goes into choosing the best state.
        most = int(seconds_left / 5 / max(measured.validation, 1e-3))
        validations = min(validations, max(1, most))
        fitting = (seconds_left * RESERVE - measured.total(0, validations)) / measured.step
        length = min(length, int(fitting))
    every = max(1, math.ceil(length / validations))
    return Plan(length, every), measured.total(length, validations)


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
