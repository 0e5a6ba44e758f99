"""Zhang and Xu (batch_contrastive): softmax, and batch-contrastive and center loss besides."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from reid_jax import parallel
from reid_jax.deviations import deviations
from reid_jax.distances import euclidean, unit_rows
from reid_jax.losses import (
    CenterState,
    batch_contrastive_loss,
    center_loss,
    update_centers,
)
from reid_jax.objectives import terms
from reid_jax.objectives.objective import Arrays, Objective, centers_of_labels, stateless

__all__ = ["batch_contrastive", "batch_distances", "softmax"]


def batch_distances(
    embeddings: jax.Array, labels: jax.Array, *, axis_name: str | None = None
) -> Arrays:
    """The three curves of Fig. 1 of Zhang and Xu (batch_contrastive), for one batch.

    Args:
        embeddings: [B, D] rows of this device.
        labels: [B] int32.
        axis_name: device axis.
    Returns:
        Euclidean distances, scalars: `intra_distance` (mean over positive pairs),
        `inter_distance_mean` and `inter_distance_min` (over negative pairs). NaN where the
        paper plots nothing: intra and minimum in a batch without a positive pair.
    """
    embeddings = lax.stop_gradient(embeddings)
    others = parallel.gather(embeddings, axis_name=axis_name)
    other_labels = parallel.gather(labels, axis_name=axis_name)
    index = parallel.global_row_index(len(labels), axis_name=axis_name)
    distances = euclidean(embeddings, others)
    same = labels[:, None] == other_labels[None, :]
    positive = same & (index[:, None] != jnp.arange(len(others))[None, :])
    row_minimum = jnp.min(jnp.where(same, jnp.inf, distances), axis=1)
    minimum = jnp.min(parallel.gather(row_minimum, axis_name=axis_name))
    nan = jnp.nan
    intra = parallel.mean(distances, positive, axis_name=axis_name, empty=nan)
    return {
        "intra_distance": intra,
        "inter_distance_mean": parallel.mean(distances, ~same, axis_name=axis_name, empty=nan),
        "inter_distance_min": jnp.where(jnp.isnan(intra) | jnp.isinf(minimum), nan, minimum),
    }


def _identification(outputs: Arrays, batch: Arrays, *, axis_name: str | None) -> tuple:
    """Mean cross-entropy, and what every classification run logs."""
    labels = batch["identity"]
    loss, metrics = terms.identification(outputs["logits"], labels, axis_name=axis_name)
    distances = batch_distances(unit_rows(outputs["embedding"]), labels, axis_name=axis_name)
    return loss, metrics | distances


def softmax() -> Objective:
    """Mean softmax cross-entropy alone: the baseline of Zhang and Xu (batch_contrastive), Eq. 2.

    Returns:
        The objective. It reads `logits` [B, K] and `embedding` [B, D] of the model and
        `identity` [B] of the batch, and carries nothing.
    Deviation: none.
    """
    return Objective(stateless, _softmax, notes=deviations([softmax]))


def _softmax(
    outputs: Arrays, batch: Arrays, loss_state: Any, *, axis_name: str | None = None
) -> tuple[jax.Array, tuple[Any, Arrays]]:
    loss, metrics = _identification(outputs, batch, axis_name=axis_name)
    return loss, (loss_state, metrics)


@flax.struct.dataclass
class CountedCenters:
    """Centers whose rate is a function of the step.

    Attributes:
        state: the centers.
        step: [] int32, of the next update.
    """

    state: CenterState
    step: jax.Array


def batch_contrastive(
    *,
    margin: float,
    center_rate: float | Callable[[jax.Array], Any],
    loss_weight: float,
    gradient: str = "autodiff",
) -> Objective:
    r"""Softmax, batch-contrastive and center loss of Zhang and Xu (batch_contrastive), Eq. 9.

    .. math:: L = L_s + \lambda (L_b + L_c)

    The mean cross-entropy L_s sees the dropped-out pool5, the sums L_b and L_c the L2-normalised
    pool5 before dropout. The loss uses the centers from before the step, then they move.

    Args:
        margin: tau, in squared distance of unit vectors.
        center_rate: eta of Eq. 6, or a function of the step: Algorithm 1 has one eta for the
            centers and the network, whose learning rate falls.
        loss_weight: lambda.
        gradient: `"autodiff"` or `"eq8"`, see `batch_contrastive_loss`.
    Returns:
        The objective. It reads `logits` [B, K] and `embedding` [B, D] (before dropout) of the
        model and `identity` [B] of the batch, and carries the centers of the normalised
        embeddings, [K, D], with the number of the step if the rate is a function of it.
    """
    documented = [batch_contrastive, batch_contrastive_loss, update_centers]
    return Objective(
        _counted_centers if callable(center_rate) else centers_of_labels,
        functools.partial(
            _batch_contrastive,
            margin=margin,
            center_rate=center_rate,
            loss_weight=loss_weight,
            gradient=gradient,
        ),
        notes=deviations(documented),
    )


def _counted_centers(labels: np.ndarray, dim: int) -> CountedCenters:
    return CountedCenters(centers_of_labels(labels, dim), jnp.zeros((), jnp.int32))


def _batch_contrastive(
    outputs: Arrays,
    batch: Arrays,
    loss_state: Any,
    *,
    margin: float,
    center_rate: float | Callable[[jax.Array], Any],
    loss_weight: float,
    gradient: str,
    axis_name: str | None = None,
) -> tuple[jax.Array, tuple[Any, Arrays]]:
    counted = isinstance(loss_state, CountedCenters)
    centers: CenterState = loss_state.state if counted else loss_state
    rate: Any = center_rate(loss_state.step) if callable(center_rate) else center_rate
    identification, metrics = _identification(outputs, batch, axis_name=axis_name)
    embeddings, labels = unit_rows(outputs["embedding"]), batch["identity"]
    contrastive = parallel.total(
        batch_contrastive_loss(
            embeddings, labels, margin=margin, gradient=gradient, axis_name=axis_name
        ),
        axis_name=axis_name,
    )
    center = parallel.total(center_loss(embeddings, labels, centers.centers), axis_name=axis_name)
    moved = update_centers(
        centers, lax.stop_gradient(embeddings), labels, rate=rate, axis_name=axis_name
    )
    next_state = CountedCenters(moved, loss_state.step + 1) if counted else moved
    metrics |= {"batch_contrastive_loss": contrastive, "center_loss": center}
    return identification + loss_weight * (contrastive + center), (next_state, metrics)
