"""What an objective is: pure functions that make, use and refresh a loss state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from reid_jax.losses import CenterState, init_centers

__all__ = ["Arrays", "InitFn", "LossFn", "Objective", "Refresh", "centers_of_labels", "stateless"]

Arrays = dict[str, jax.Array]


class InitFn(Protocol):
    """Makes the loss state of a training."""

    def __call__(self, labels: np.ndarray, dim: int, /) -> Any:
        """Makes the loss state before the first step.

        Args:
            labels: [N] int32 in [0, K), of all training images.
            dim: D of the embedding; 0 for a network that has none.

        Returns:
            A tree of arrays (centers, mean codes), or None for nothing.
        """


class LossFn(Protocol):
    """Reduces a batch to the global loss and carries the loss state on."""

    def __call__(
        self, outputs: Arrays, batch: Arrays, loss_state: Any, *, axis_name: str | None = None
    ) -> tuple[jax.Array, tuple[Any, Arrays]]:
        """Computes the loss of a batch.

        Args:
            outputs: of the model, this device's rows.
            batch: this device's rows, with the keys of `reid_jax.schema`.
            loss_state: from before the step.
            axis_name: device axis over which the rows are divided; None if all are here.

        Returns:
            (loss, (loss_state, metrics)): the scalar of the global batch, the same on every device;
            the state after the step; scalars for the log.
        """


class Refresh(NamedTuple):
    """How a loss state is computed anew from all training images, before a step.

    Attributes:
        make: `make(embed, labels, *, devices) -> recompute`; `embed(variables, images)` gives
            the codes [b, D] of resident images, and `recompute(state, images)` the loss state on
            every device.
        every: `every(steps_per_epoch)`: steps from one refresh to the next; None refreshes once,
            before the first step.
    """

    make: Callable[..., Callable[[Any, jax.Array], Any]]
    every: Callable[[int], int | None]


class Objective(NamedTuple):
    """What a training minimises: a pair of pure functions, as optax has (init, update).

    Attributes:
        init: `init(labels, dim) -> loss_state`, see `InitFn`.
        loss: `loss(outputs, batch, loss_state, *, axis_name) -> (loss, (loss_state, metrics))`,
            see `LossFn`.
        refresh: for a method that needs more than the batch before a step, else None.
        notes: where it differs from its paper, one sentence each.
    """

    init: InitFn
    loss: LossFn
    refresh: Refresh | None = None
    notes: Sequence[str] = ()


def stateless(labels: np.ndarray, dim: int) -> None:
    """The `init` of an objective that carries nothing."""
    del labels, dim


def centers_of_labels(labels: np.ndarray, dim: int) -> CenterState:
    """The `init` of an objective that carries a center of each identity, [K, D], zeros."""
    return init_centers(int(np.max(labels)) + 1, dim)
