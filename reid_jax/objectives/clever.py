"""Zheng et al. (clever): identification, verification and losses between class centers."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from reid_jax import parallel
from reid_jax.deviations import deviations
from reid_jax.losses import (
    CenterState,
    center_loss,
    inter_center_loss,
    inter_center_step,
    intra_center_loss,
    update_centers,
    update_pair_centers,
)
from reid_jax.objectives import terms
from reid_jax.objectives.objective import Arrays, Objective, centers_of_labels

__all__ = ["INTER_GRADS", "clever", "identification_center"]

INTER_GRADS = ("centers", "none", "through_update")
"""What the gradient of the inter-center loss moves; see `clever`."""


def clever(
    *,
    identification_weight: float,
    verification_weight: float,
    intra_weight: float,
    inter_weight: float,
    margin: float,
    center_rate: float,
    inter_grad: str = "centers",
    neg_updates_centers: bool = True,
) -> Objective:
    r"""Identification, verification, intra-center and inter-center loss of pairs (Eqs. 1 to 8).

    .. math:: L = w_I L_I + w_V L_V + \beta L_{intra} + \gamma L_{inter}

    L_I is the mean cross-entropy over all images, L_V that over all pairs, L_intra (Eq. 1) the mean
    over positive pairs and L_inter (Eq. 6) the mean over negative pairs; a mean over no pair is 0
    in the loss and NaN in the metrics. L_intra uses the centers from before the step. The rows of
    Table 1 differ in the weights; a verification weight of 0 leaves L_V out.

    The paper does not say how L_inter, which has centers alone in it, trains the network. Three
    readings:

    * `"centers"`: its gradient moves the centers, and them alone, in the form that Eqs. 4 and 5
      have for L_intra (see `inter_center_step`); the network feels it through L_intra. That is
      "pulling their centers away" (Fig. 1) and the pattern of Table 1, where L_inter adds to
      L_intra and nothing by itself.
    * `"none"`: centers are constants, as in center loss. It adds to the value of the loss only.
    * `"through_update"`: it is taken on the centers after their step of Eq. 5, and its gradient
      goes through that step into the images of the batch.

    With an inter weight of 0 all three are `"none"`.

    Args:
        identification_weight: w_I, 1 in the paper.
        verification_weight: w_V; 1 in Eq. 8, 0.5 in the code of the baseline row IV.
        intra_weight: beta.
        inter_weight: gamma.
        margin: d, in squared distance of centers.
        center_rate: alpha of Eq. 5.
        inter_grad: one of `INTER_GRADS`.
        neg_updates_centers: whether the images of negative pairs move centers too.
    Returns:
        The objective. It reads `embedding_a`, `embedding_b` [P, D] (not normalised),
        `logits_a`, `logits_b` [P, K] and `pair_logits` [P, 2] of the model, `identity_a`,
        `identity_b` and `same` [P] of the batch, and carries the centers, [K, D].
    Raises:
        ValueError: if `inter_grad` is unknown.
    Deviation: the paper prints the gradients of Eq. 1 alone, and by Eq. 6 L_inter cannot reach the
        network, if centers are constants as in center loss; what it moves is loss.inter_grad.
    """
    if inter_grad not in INTER_GRADS:
        raise ValueError(f"inter_grad is {inter_grad!r}, expected one of {', '.join(INTER_GRADS)}.")
    loss = functools.partial(
        _clever,
        identification_weight=identification_weight,
        verification_weight=verification_weight,
        intra_weight=intra_weight,
        inter_weight=inter_weight,
        margin=margin,
        center_rate=center_rate,
        inter_grad=inter_grad,
        neg_updates_centers=neg_updates_centers,
    )
    # The notes of the losses that are there; an intra weight may be traced, and then counts.
    documented: list[Any] = [clever, inter_center_loss] if inter_weight else []
    if isinstance(intra_weight, jax.Array) or intra_weight or inter_weight:
        documented += [intra_center_loss, update_pair_centers]
    documented += [inter_center_step] if inter_weight and inter_grad == "centers" else []
    return Objective(centers_of_labels, loss, notes=deviations(documented))


def _clever(
    outputs: Arrays,
    batch: Arrays,
    loss_state: CenterState,
    *,
    identification_weight: float,
    verification_weight: float,
    intra_weight: float,
    inter_weight: float,
    margin: float,
    center_rate: float,
    inter_grad: str,
    neg_updates_centers: bool,
    axis_name: str | None = None,
) -> tuple[jax.Array, tuple[CenterState, Arrays]]:
    loss_state = lax.stop_gradient(loss_state)
    a, b = outputs["embedding_a"], outputs["embedding_b"]
    labels_a, labels_b, same = batch["identity_a"], batch["identity_b"], batch["same"]

    identification, metrics = terms.pair_identification(outputs, batch, axis_name=axis_name)
    loss = identification_weight * identification
    if verification_weight:
        verification, of_pairs = terms.verification(
            outputs["pair_logits"], same, axis_name=axis_name
        )
        loss += verification_weight * verification
        metrics |= of_pairs

    intra_rows = intra_center_loss(a, b, labels_a, loss_state.centers)
    intra, intra_logged = _mean_of_kind(intra_rows, same, axis_name)

    moving_a, moving_b = labels_a, labels_b
    if not neg_updates_centers:
        moving_a, moving_b = (jnp.where(same, labels, -1) for labels in (labels_a, labels_b))
    moved = update_pair_centers(
        loss_state, a, b, moving_a, moving_b, rate=center_rate, axis_name=axis_name
    )

    reading = inter_grad if inter_weight else "none"
    compared = moved.centers if reading == "through_update" else loss_state.centers
    rows = inter_center_loss(labels_a, labels_b, compared, margin=margin)
    inter, inter_logged = _mean_of_kind(rows, ~same, axis_name)
    active = (rows > 0).astype(rows.dtype)

    next_state = lax.stop_gradient(moved)
    if reading == "centers":
        step = inter_center_step(
            labels_a,
            labels_b,
            same,
            loss_state.centers,
            margin=margin,
            rate=center_rate,
            axis_name=axis_name,
        )
        next_state = dataclasses.replace(next_state, centers=next_state.centers + step)

    metrics |= {
        "intra_center_loss": intra_logged,
        "inter_center_loss": inter_logged,
        "inter_active": parallel.mean(active, ~same, axis_name=axis_name, empty=jnp.nan),
        "center_norm": _mean_norm(next_state.centers),
    }
    return loss + intra_weight * intra + inter_weight * inter, (next_state, metrics)


def identification_center(
    *,
    center_weight: float,
    center_rate: float,
    reweighting_weight: float = 0.0,
    reweighting_level: float = 0.0,
) -> Objective:
    r"""Identification and center loss of single images: the baseline rows IC and CNN-FRW-IC.

    .. math:: L = \frac1B \sum_i \big( \ell^{id}_i + \lambda \, \tfrac12 \lVert x_i - c_{y_i}
        \rVert_2^2 \big) + \beta_f \big( \tfrac12 \lVert w \rVert_2^2 - C \big)^2

    Jin et al. (arXiv 1705.03332) and their code. The last term is there for a model that reweights
    its features by w. Each center moves by `center_rate` of the way to the mean of its images.

    Args:
        center_weight: lambda.
        center_rate: alpha.
        reweighting_weight: beta_f; above 0 if, and only if, the model reweights features.
        reweighting_level: C.
    Returns:
        The objective. It reads `logits` [B, K] and `embedding` [B, D] of the model, and
        `feature_weights` [D] if it reweights features, `identity` [B] of the batch, and carries
        the centers, [K, D]. It raises ValueError if the model reweights features and
        `reweighting_weight` is 0, or the reverse.
    Deviation: none.
    """
    loss = functools.partial(
        _identification_center,
        center_weight=center_weight,
        center_rate=center_rate,
        reweighting_weight=reweighting_weight,
        reweighting_level=reweighting_level,
    )
    documented = [identification_center, center_loss]
    return Objective(centers_of_labels, loss, notes=deviations(documented))


def _identification_center(
    outputs: Arrays,
    batch: Arrays,
    loss_state: CenterState,
    *,
    center_weight: float,
    center_rate: float,
    reweighting_weight: float,
    reweighting_level: float,
    axis_name: str | None = None,
) -> tuple[jax.Array, tuple[CenterState, Arrays]]:
    reweights = "feature_weights" in outputs
    if reweights != (reweighting_weight > 0):
        raise ValueError(
            f"reweighting_weight is {reweighting_weight}, and the model has "
            f"{'' if reweights else 'no '}feature_weights: give both or neither."
        )
    embeddings, labels = outputs["embedding"], batch["identity"]
    loss, metrics = terms.identification(outputs["logits"], labels, axis_name=axis_name)
    center = parallel.mean(center_loss(embeddings, labels, loss_state.centers), axis_name=axis_name)
    loss += center_weight * center
    next_state = update_centers(
        loss_state,
        lax.stop_gradient(embeddings),
        labels,
        rate=center_rate,
        prior_count=0,
        axis_name=axis_name,
    )
    metrics |= {"center_loss": center, "center_norm": _mean_norm(next_state.centers)}
    if reweights:
        half_square = jnp.sum(outputs["feature_weights"] ** 2) / 2
        reweighting = (half_square - reweighting_level) ** 2
        loss += reweighting_weight * reweighting
        metrics["reweighting_loss"] = reweighting
    return loss, (next_state, metrics)


def _mean_of_kind(
    rows: jax.Array, where: jax.Array, axis_name: str | None
) -> tuple[jax.Array, jax.Array]:
    """The mean over pairs of a kind for the loss, 0 without any, and for the log, then NaN."""
    mean = parallel.mean(rows, where, axis_name=axis_name)
    count = parallel.total(where.astype(rows.dtype), axis_name=axis_name)
    return mean, jnp.where(count > 0, mean, jnp.nan)


def _mean_norm(centers: jax.Array) -> jax.Array:
    return jnp.mean(jnp.linalg.norm(centers, axis=1))
