"""What a note is, and of which runs it can be true."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from experiments.config import Config

__all__ = [
    "DECAY_OF_ALL",
    "DECAY_OF_KERNELS",
    "SCRATCH",
    "Note",
    "at_small_scale",
    "decays",
    "from_scratch",
]


@dataclasses.dataclass(frozen=True)
class Note:
    """Where a run differs from its paper, or fills a gap in it.

    Attributes:
        text: a sentence or two.
        when: `when(config, scale)`, whether it is true of a run.
    """

    text: str
    when: Callable[[Config, str], bool] = lambda config, scale: True


def from_scratch(config: Config, scale: str) -> bool:
    """`Note.when` of runs that begin with random weights."""
    del scale
    return not (config.model.weights or config.model.start_from)


def at_small_scale(config: Config, scale: str) -> bool:
    """`Note.when` of runs at the small scale."""
    del config
    return scale == "small"


def decays(parameters: str) -> Callable[[Config, str], bool]:
    """`Note.when` of runs whose weight decay is of `kernels` or of `all` parameters."""
    return lambda config, scale: config.optimizer.weight_decay_of == parameters


SCRATCH = Note("the paper fine-tunes a network of ImageNet, this run does not.", from_scratch)
DECAY_OF_ALL = Note(
    "the weight decay is not given, nor what it is of; 5e-4 of all parameters, batch norm and "
    "biases too, here.",
    decays("all"),
)
DECAY_OF_KERNELS = Note(
    "the weight decay is not given, nor what it is of; 5e-4 of the kernels here.",
    decays("kernels"),
)
