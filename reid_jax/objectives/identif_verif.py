"""Zheng, Zheng and Yang (identif_verif): identification and verification on pairs of images."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from reid_jax import parallel
from reid_jax.deviations import deviations
from reid_jax.distances import unit_rows
from reid_jax.losses import contrastive_loss, identification_loss, verification_loss
from reid_jax.objectives import terms
from reid_jax.objectives.objective import Arrays, Objective, stateless

__all__ = ["identification_contrastive", "identification_verification"]


def identification_verification(
    *, identification_weight: float, verification_weight: float
) -> Objective:
    r"""Weighted identification and verification loss of pairs (Sec. III-D, Eqs. 1 to 4).

    .. math:: L = w_v L_v + w_i L_{i,1} + w_i L_{i,2}

    with w_v = 1 and w_i = 0.5 in the paper; each L is the mean cross-entropy over the pairs. A
    weight of 0 leaves its term out, and the head of that term may then be missing.

    Args:
        identification_weight: w_i, of each of the two streams.
        verification_weight: w_v.
    Returns:
        The objective. It reads `logits_a`, `logits_b` [P, K], `pair_logits` [P, 2] and
        `embedding_a`, `embedding_b` [P, D] of the model, `identity_a`, `identity_b` and
        `same` [P] of the batch, and carries nothing.
    Deviation: none.
    """
    loss = functools.partial(
        _identification_verification,
        identification_weight=identification_weight,
        verification_weight=verification_weight,
    )
    documented = [identification_verification, identification_loss, verification_loss]
    return Objective(stateless, loss, notes=deviations(documented))


def _identification_verification(
    outputs: Arrays,
    batch: Arrays,
    loss_state: Any,
    *,
    identification_weight: float,
    verification_weight: float,
    axis_name: str | None = None,
) -> tuple[jax.Array, tuple[Any, Arrays]]:
    loss, metrics = _identification(outputs, batch, identification_weight, axis_name)
    if verification_weight:
        verification, of_pairs = terms.verification(
            outputs["pair_logits"], batch["same"], axis_name=axis_name
        )
        loss += verification_weight * verification
        metrics |= of_pairs
    return loss, (loss_state, metrics)


def identification_contrastive(
    *, identification_weight: float, contrastive_weight: float, margin: float
) -> Objective:
    r"""The same with the contrastive loss in the place of verification (Sec. IV-B).

    .. math:: L_c = \tfrac1{2P} \sum_p s_p d_p^2 + (1 - s_p) \max(0, M - d_p)^2

    Args:
        identification_weight: of each of the two streams.
        contrastive_weight: of L_c.
        margin: M, in Euclidean distance of unit vectors.
    Returns:
        The objective. It reads `embedding_a`, `embedding_b` [P, D], `logits_a` and
        `logits_b` [P, K] of the model, `identity_a`, `identity_b` and `same` [P] of the
        batch, and carries nothing.
    Deviation: the paper gives neither the margin nor what d is taken on; here on L2-normalised
        embeddings, margin 1 and weight 1 in the configs.
    """
    loss = functools.partial(
        _identification_contrastive,
        identification_weight=identification_weight,
        contrastive_weight=contrastive_weight,
        margin=margin,
    )
    documented = [identification_contrastive, contrastive_loss]
    return Objective(stateless, loss, notes=deviations(documented))


def _identification_contrastive(
    outputs: Arrays,
    batch: Arrays,
    loss_state: Any,
    *,
    identification_weight: float,
    contrastive_weight: float,
    margin: float,
    axis_name: str | None = None,
) -> tuple[jax.Array, tuple[Any, Arrays]]:
    loss, metrics = _identification(outputs, batch, identification_weight, axis_name)
    a, b = unit_rows(outputs["embedding_a"]), unit_rows(outputs["embedding_b"])
    contrastive = parallel.mean(
        contrastive_loss(a, b, batch["same"], margin=margin), axis_name=axis_name
    )
    return loss + contrastive_weight * contrastive, (
        loss_state,
        metrics | {"contrastive_loss": contrastive},
    )


def _identification(
    outputs: Arrays, batch: Arrays, weight: float, axis_name: str | None
) -> tuple[jax.Array, Arrays]:
    """Both streams' weighted term, and what every run on pairs logs."""
    same = batch["same"]
    positives = parallel.total(same.astype(outputs["embedding_a"].dtype), axis_name=axis_name)
    negatives = parallel.total((~same).astype(positives.dtype), axis_name=axis_name)
    metrics = {"negatives_per_positive": negatives / jnp.maximum(positives, 1)}
    if not weight:
        return jnp.zeros((), positives.dtype), metrics
    identification, of_images = terms.pair_identification(outputs, batch, axis_name=axis_name)
    return 2 * weight * identification, metrics | of_images
