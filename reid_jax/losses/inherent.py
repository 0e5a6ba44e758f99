"""Compact and scatter loss around the mean code of each identity (Wei et al., inherent)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from reid_jax.distances import squared_euclidean
from reid_jax.losses.shapes import require_shapes

__all__ = ["compact_loss", "scatter_loss"]


def compact_loss(
    codes: jax.Array, labels: jax.Array, means: jax.Array, *, known: jax.Array | None = None
) -> jax.Array:
    r"""Pulls each code into the sphere around its identity's mean code.

    .. math:: \ell_i = \tfrac12 \max\big(0, \lVert I_i - \bar I_{y_i} \rVert_2^2
        - (d^{y_i}_{\min})^2 \big), \qquad
        d^p_{\min} = \tfrac12 \min_{j \ne p} \lVert \bar I_p - \bar I_j \rVert_2

    Wei et al. (inherent), Eq. 2.

    Args:
        codes: [B, D], not L2-normalised.
        labels: [B] int32 in [0, K).
        means: [K, D] mean code of each identity; no gradient flows into them.
        known: [K] bool, which identities have a mean; the others are left out, as if the training
            set did not hold them. None stands for all; a row's own identity must be known.
    Returns:
        [B] in squared code units; the paper sums.
    Raises:
        ValueError: if the shapes do not fit, or there is only one identity (d_min is undefined).
    Deviation: none.
    """
    codes, labels, means = map(jnp.asarray, (codes, labels, means))
    require_shapes(codes=(codes, "BD"), labels=(labels, "B"), means=(means, "KD"))
    num_identities = len(means)
    if num_identities < 2:
        raise ValueError(f"means holds {num_identities} identity: d_min needs at least two.")
    means = lax.stop_gradient(means)
    between = squared_euclidean(means, means)
    excluded = jnp.eye(num_identities, dtype=bool)
    if known is not None:
        excluded |= ~jnp.asarray(known)[None, :]
    to_nearest = jnp.min(jnp.where(excluded, jnp.inf, between), axis=1)
    to_own = jnp.sum((codes - means[labels]) ** 2, axis=1)
    return jnp.maximum(0, to_own - to_nearest[labels] / 4) / 2


def scatter_loss(
    codes: jax.Array, labels: jax.Array, means: jax.Array, *, known: jax.Array | None = None
) -> jax.Array:
    r"""Half the squared distances of each code to the mean codes of all other identities.

    .. math:: \ell_i = \tfrac12 \sum_{j \ne y_i} \lVert I_i - \bar I_j \rVert_2^2

    Wei et al. (inherent), Eq. 3. The objective subtracts it: it is maximised.

    Args:
        codes: [B, D], not L2-normalised.
        labels: [B] int32 in [0, K).
        means: [K, D] mean code of each identity; no gradient flows into them.
        known: [K] bool, which identities have a mean; the others are left out, as if the training
            set did not hold them. None stands for all; a row's own identity must be known.
    Returns:
        [B] in squared code units; the paper sums.
    Raises:
        ValueError: if the shapes do not fit.
    Deviation: none.
    """
    codes, labels, means = map(jnp.asarray, (codes, labels, means))
    require_shapes(codes=(codes, "BD"), labels=(labels, "B"), means=(means, "KD"))
    distances = squared_euclidean(codes, lax.stop_gradient(means))
    other = labels[:, None] != jnp.arange(len(means))[None, :]
    if known is not None:
        other &= jnp.asarray(known)[None, :]
    return jnp.sum(jnp.where(other, distances, 0), axis=1) / 2
