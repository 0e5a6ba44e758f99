"""Softmax cross-entropy of identities and of same/different pairs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from reid_jax.losses.shapes import require_shapes

__all__ = ["identification_loss", "verification_loss"]


def identification_loss(
    logits: jax.Array, labels: jax.Array, *, smoothing: float = 0.0
) -> jax.Array:
    r"""Softmax cross-entropy of each row's identity.

    .. math:: \ell_i = -(1 - \epsilon) \log \sigma_{y_i}(z_i)
        - \frac{\epsilon}{K} \sum_k \log \sigma_k(z_i)

    Zhang and Xu (batch_contrastive), Eq. 1-2, and Zheng et al. (identif_verif), Eq. 1-2, with
    epsilon = 0; Szegedy et al. (CVPR 2016), Sec. 7, with label smoothing.

    Args:
        logits: [B, K] scores before the softmax.
        labels: [B] int32 in [0, K); not checked under jit.
        smoothing: epsilon, the share of the target that is spread evenly over all identities.
    Returns:
        [B] in nats; the papers take the mean.
    Raises:
        ValueError: if the shapes do not fit.
    Deviation: none.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    require_shapes(logits=(logits, "BK"), labels=(labels, "B"))
    rows = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    if not smoothing:
        return rows
    evenly = -jnp.mean(jax.nn.log_softmax(logits), axis=1)
    return (1 - smoothing) * rows + smoothing * evenly


def verification_loss(pair_logits: jax.Array, same: jax.Array) -> jax.Array:
    r"""Softmax cross-entropy of whether a pair shows the same identity.

    Zheng et al. (identif_verif), Eq. 3-4.

    Args:
        pair_logits: [P, 2] scores; index 1 stands for the same identity.
        same: [P] bool or 0/1.
    Returns:
        [P] in nats; the papers take the mean.
    Raises:
        ValueError: if the shapes do not fit, or there are not two logits.
    Deviation: the papers' code puts the same identity at index 0; index 1 here, everywhere.
    """
    pair_logits, same = jnp.asarray(pair_logits), jnp.asarray(same)
    require_shapes(pair_logits=(pair_logits, "PC"), same=(same, "P"))
    if pair_logits.shape[1] != 2:
        raise ValueError(f"pair_logits has shape {pair_logits.shape}, expected [P, 2].")
    return identification_loss(pair_logits, same.astype(jnp.int32))
