"""Losses on distances between images: contrastive pairs and batch-hard triplets."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from reid_jax import parallel
from reid_jax.distances import euclidean
from reid_jax.losses.shapes import require_shapes

__all__ = ["batch_hard_triplet_loss", "contrastive_loss"]


def contrastive_loss(
    embeddings_a: jax.Array, embeddings_b: jax.Array, same: jax.Array, *, margin: float
) -> jax.Array:
    r"""Squared distance of positive pairs, squared hinge on the distance of negative pairs.

    .. math:: \ell_i = \tfrac12 \big[ s_i d_i^2 + (1 - s_i) \max(0, m - d_i)^2 \big],
        \qquad d_i = \lVert a_i - b_i \rVert_2

    Hadsell et al. (CVPR 2006); Guo and Cheung (csn), Eq. 4-5; Zheng et al. (identif_verif),
    Sec. IV-B.

    Args:
        embeddings_a: [P, D].
        embeddings_b: [P, D].
        same: [P] bool or 0/1.
        margin: m, in embedding units.
    Returns:
        [P] in squared embedding units; the papers take the mean. The gradient at distance zero is
        finite.
    Raises:
        ValueError: if the shapes do not fit.
    Deviation: none.
    """
    embeddings_a, embeddings_b, same = map(jnp.asarray, (embeddings_a, embeddings_b, same))
    require_shapes(
        embeddings_a=(embeddings_a, "PD"), embeddings_b=(embeddings_b, "PD"), same=(same, "P")
    )
    squared = jnp.sum((embeddings_a - embeddings_b) ** 2, axis=1)
    distance = jnp.sqrt(jnp.maximum(squared, 1e-12))
    return jnp.where(same.astype(bool), squared, jnp.maximum(0, margin - distance) ** 2) / 2


def batch_hard_triplet_loss(
    embeddings: jax.Array, labels: jax.Array, *, margin: float, axis_name: str | None = None
) -> jax.Array:
    r"""Hinge between the farthest positive and the nearest negative of each anchor.

    .. math:: \ell_a = \max\big(0, m + \max_{p: y_p = y_a} \lVert x_a - x_p \rVert_2
        - \min_{n: y_n \ne y_a} \lVert x_a - x_n \rVert_2 \big)

    Hermans et al. (arXiv 1703.07737), Eq. 5; the baseline rows of Wei et al. (inherent), Table 1.

    Args:
        embeddings: [B, D] rows of this device.
        labels: [B] int32 identities.
        margin: m, in embedding units.
        axis_name: device axis; anchors are compared with the rows of all devices.
    Returns:
        [B] in embedding units; the mean is the loss. An anchor is its own positive at distance 0,
        and one without a negative in the batch has loss 0.
    Raises:
        ValueError: if the shapes do not fit.
    Deviation: none.
    """
    embeddings, labels = jnp.asarray(embeddings), jnp.asarray(labels)
    require_shapes(embeddings=(embeddings, "BD"), labels=(labels, "B"))
    others = parallel.gather(embeddings, axis_name=axis_name)
    same = labels[:, None] == parallel.gather(labels, axis_name=axis_name)[None, :]
    index = parallel.global_row_index(len(labels), axis_name=axis_name)
    positive = same & (index[:, None] != jnp.arange(len(others))[None, :])
    distances = euclidean(embeddings, others)
    farthest = jnp.max(jnp.where(positive, distances, 0), axis=1)
    nearest = jnp.min(jnp.where(same, jnp.inf, distances), axis=1)
    # Infinity minus infinity would be NaN in the gradient, so a row without negatives is cut first.
    has_negative = jnp.any(~same, axis=1)
    hinge = jnp.maximum(0, margin + farthest - jnp.where(has_negative, nearest, 0))
    return jnp.where(has_negative, hinge, 0)
