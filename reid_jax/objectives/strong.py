"""Luo et al. 2019: identification behind BNNeck and hard triplets before it, a strong baseline."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from reid_jax import parallel
from reid_jax.deviations import deviations
from reid_jax.losses import batch_hard_triplet_loss, center_loss, update_centers
from reid_jax.objectives import terms
from reid_jax.objectives.objective import Arrays, Objective, centers_of_labels, stateless

__all__ = ["strong"]


def strong(
    *,
    margin: float,
    triplet_weight: float = 1.0,
    label_smoothing: float = 0.0,
    center_weight: float = 0.0,
    center_rate: float = 0.5,
) -> Objective:
    r"""Identification, batch-hard triplet and, if asked for, center loss: the strong baseline.

    .. math:: L = L_{ID} + w L_{triplet} + \beta L_C

    Luo et al. 2019, "Bag of Tricks and A Strong Baseline for Deep Person Re-identification"
    (arXiv 1903.07071), Eq. 5. L_ID and L_triplet are means over the batch, L_C is a sum. Build the
    network with `neck=True`: the triplet and center losses then see `before_neck`, and L_ID what
    the neck makes of it; without a neck all see the embedding.

    Args:
        margin: of the triplet loss, in Euclidean distance of features that are not normalised.
        triplet_weight: w; 0 leaves the triplet loss out.
        label_smoothing: epsilon, see `identification_loss`.
        center_weight: beta; 0 leaves the center loss out.
        center_rate: how far a step moves the centers.
    Returns:
        The objective. It reads `logits` [B, K] and `before_neck` (or `embedding`) [B, D] of the
        model and `identity` [B] of the batch, which should hold several images of each; it carries
        the centers, [K, D], or nothing. `triplet_active` is the share of anchors with a loss.
    Deviation: the authors' code draws the first centers at random and moves them by SGD; they start
        at zero and move by `update_centers` here.
    """
    loss = functools.partial(
        _strong,
        margin=margin,
        triplet_weight=triplet_weight,
        label_smoothing=label_smoothing,
        center_weight=center_weight,
        center_rate=center_rate,
    )
    if not center_weight:
        return Objective(stateless, loss)
    return Objective(centers_of_labels, loss, notes=deviations([strong]))


def _strong(
    outputs: Arrays,
    batch: Arrays,
    loss_state: Any,
    *,
    margin: float,
    triplet_weight: float,
    label_smoothing: float,
    center_weight: float,
    center_rate: float,
    axis_name: str | None = None,
) -> tuple[jax.Array, tuple[Any, Arrays]]:
    labels = batch["identity"]
    features = outputs["before_neck"] if "before_neck" in outputs else outputs["embedding"]
    loss, metrics = terms.identification(
        outputs["logits"], labels, axis_name=axis_name, smoothing=label_smoothing
    )
    if triplet_weight:
        rows = batch_hard_triplet_loss(features, labels, margin=margin, axis_name=axis_name)
        triplet = parallel.mean(rows, axis_name=axis_name)
        active = parallel.mean((rows > 0).astype(rows.dtype), axis_name=axis_name)
        loss = loss + triplet_weight * triplet
        metrics |= {"triplet_loss": triplet, "triplet_active": active}
    if center_weight:
        center = parallel.total(
            center_loss(features, labels, loss_state.centers), axis_name=axis_name
        )
        loss_state = update_centers(
            loss_state, lax.stop_gradient(features), labels, rate=center_rate, axis_name=axis_name
        )
        loss = loss + center_weight * center
        metrics["center_loss"] = center
    norms = jnp.linalg.norm(lax.stop_gradient(features), axis=1)
    metrics["code_norm"] = parallel.mean(norms, axis_name=axis_name)
    return loss, (loss_state, metrics)
