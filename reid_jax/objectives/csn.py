"""Guo and Cheung (csn): classification and ranking of pairs, with priors on the transformers."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from reid_jax import losses, parallel
from reid_jax.deviations import deviations
from reid_jax.objectives import terms
from reid_jax.objectives.objective import Arrays, Objective, stateless

__all__ = ["csn"]


def csn(
    *,
    ranking_weight: float,
    margin: float,
    prior_weight: float,
    min_scale: float,
    limit: float,
) -> Objective:
    r"""Cross-entropy, contrastive loss of the descriptors, and priors of the transformers (Eq. 6).

    .. math:: L = L_{cls} + L_{ctr} + 0.1 \sum_j L_{stn,j}

    Each term is a mean: over the pairs, and for the priors over the images and stripes of a level.
    A weight of 0 leaves its term out, and the outputs that it needs may then be missing: the
    descriptors in the row "cls" of Table 3 and the parameters `thetaj` in the row C2 of Table 4.

    Args:
        ranking_weight: of the contrastive loss; 1 in the paper.
        margin: alpha of Eq. 4, in Euclidean distance of unit vectors.
        prior_weight: of the priors.
        min_scale: see `stn_prior`.
        limit: see `stn_prior`.
    Returns:
        The objective. It reads `pair_logits` [P, 2], `descriptor_a`, `descriptor_b` [P, D]
        and for each level j `thetaj_a`, `thetaj_b` [P, S, 6] of the model and `same` [P] of
        the batch, and carries nothing. The mean distances of positive and negative pairs are NaN
        in a batch that has none. It raises ValueError if the model does not give what a term with
        a weight needs.
    Deviation: Eq. 3 has neither logarithm nor minus sign and would make the right class unlikely;
        here it is the cross-entropy that the text names.
    """
    loss = functools.partial(
        _csn,
        ranking_weight=ranking_weight,
        margin=margin,
        prior_weight=prior_weight,
        min_scale=min_scale,
        limit=limit,
    )
    documented: list[Any] = [csn]
    documented += [losses.contrastive_loss] if ranking_weight else []
    documented += [losses.stn_prior] if prior_weight else []
    return Objective(stateless, loss, notes=deviations(documented))


def _csn(
    outputs: Arrays,
    batch: Arrays,
    loss_state: Any,
    *,
    ranking_weight: float,
    margin: float,
    prior_weight: float,
    min_scale: float,
    limit: float,
    axis_name: str | None = None,
) -> tuple[jax.Array, tuple[Any, Arrays]]:
    same = batch["same"].astype(bool)
    loss, metrics = terms.verification(outputs["pair_logits"], same, axis_name=axis_name)
    if ranking_weight:
        if "descriptor_a" not in outputs:
            raise ValueError(
                f"ranking_weight={ranking_weight} needs descriptors, which the model does not "
                "give: build it with ranking=True, or take ranking_weight=0."
            )
        a, b = outputs["descriptor_a"], outputs["descriptor_b"]
        contrastive = parallel.mean(
            losses.contrastive_loss(a, b, same, margin=margin), axis_name=axis_name
        )
        loss += ranking_weight * contrastive
        metrics |= {"contrastive_loss": contrastive, **_distances(a, b, same, axis_name)}
    if prior_weight:
        thetas = [value for name, value in sorted(outputs.items()) if name.startswith("theta")]
        if not thetas:
            raise ValueError(
                f"prior_weight={prior_weight} needs a spatial transformer, which the model does "
                "not have: build it with attention='stn', or take prior_weight=0."
            )
        # Two means over one image of each pair a level: half of their sum is that over both.
        means = [
            parallel.mean(
                losses.stn_prior(theta, min_scale=min_scale, limit=limit), axis_name=axis_name
            )
            for theta in thetas
        ]
        prior = sum(means[1:], start=means[0]) / 2
        loss += prior_weight * prior
        metrics |= {"stn_prior": prior}
    return loss, (loss_state, metrics)


def _distances(a: jax.Array, b: jax.Array, same: jax.Array, axis_name: str | None) -> Arrays:
    distance = jnp.linalg.norm(jax.lax.stop_gradient(a - b), axis=1)
    options: dict[str, Any] = {"axis_name": axis_name, "empty": jnp.nan}
    return {
        "positive_distance": parallel.mean(distance, same, **options),
        "negative_distance": parallel.mean(distance, ~same, **options),
    }
