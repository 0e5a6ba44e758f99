"""What a method adds to the common run: an objective with its state, and a sampler."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from reid_jax import data, losses
from reid_jax.training import objectives

__all__ = ["DEVIATIONS", "METHODS", "SAMPLERS", "Method"]


@dataclasses.dataclass(frozen=True)
class Method:
    """What the training loop needs of a method.

    Attributes:
        objective: see :mod:`reid_jax.training.objectives`.
        loss_state: its initial state.
        refresh: gives the loss state before each step from the training state, or None.
    """

    objective: Callable[..., Any]
    loss_state: Any = None
    refresh: Callable[[Any], Any] | None = None


def _softmax(config: ConfigDict, num_identities: int, dim: int) -> Method:
    del config, num_identities, dim
    return Method(objectives.softmax)


def _batch_contrastive(config: ConfigDict, num_identities: int, dim: int) -> Method:
    if config.loss.gradient not in ("autodiff", "eq8"):
        raise ValueError(f"loss.gradient={config.loss.gradient!r}; known: autodiff, eq8")
    objective = functools.partial(objectives.batch_contrastive, **config.loss)
    return Method(objective, losses.init_centers(num_identities, dim))


METHODS = {"softmax": _softmax, "batch_contrastive": _batch_contrastive}
"""``METHODS[method](config, num_identities, dim) -> Method``"""


def _uniform(config: ConfigDict, labels: np.ndarray, cameras: np.ndarray | None, seed: int) -> Any:
    del cameras
    return data.UniformSampler(len(labels), batch_size=config.sampler.batch_size, seed=seed)


SAMPLERS = {"uniform": _uniform}
"""``SAMPLERS[name](config, labels, cameras, seed) -> sampler``"""

DEVIATIONS = {
    "softmax": (objectives.softmax, objectives.batch_distances),
    "batch_contrastive": (
        objectives.batch_contrastive,
        losses.batch_contrastive_loss,
        losses.update_centers,
        losses.init_centers,
        objectives.batch_distances,
    ),
}
"""The functions whose ``Deviation:`` notes belong in a method's report."""
