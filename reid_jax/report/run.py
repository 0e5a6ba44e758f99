"""A run in memory, as the pages show it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["Run"]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run as arrays and mappings; what a run does not have is empty.

    Attributes:
        results: what it found: at least `exp`, `data_source` and `metrics`, and whatever else of
            `results.json` is to be shown.
        config: the record of the run, all resolved values in its section `config`.
        training_set: `num_images` and `num_identities` that were trained on.
        training: name to [N] float64 with NaN for null, of the logged training steps; 'step' is
            [N] and ascends.
        validation: the same of the validations during training.
        ranking: the arrays of the evaluation: `cmc`, the histogram of distances, ranked lists.
        evaluations: name to the results of each later evaluation.
        files: names of the run's files beside its page, which the page links to.
        problems: sentences about what could not be read.
    """

    results: Mapping[str, Any]
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    validation: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    ranking: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    training_set: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    evaluations: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    files: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
