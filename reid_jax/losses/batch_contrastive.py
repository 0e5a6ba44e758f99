"""Batch-contrastive loss (Zhang and Xu, ACML 2018): every pair of a batch, hardest negatives."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from reid_jax import parallel
from reid_jax.distances import squared_euclidean
from reid_jax.losses.shapes import require_shapes

__all__ = ["batch_contrastive_loss"]


def batch_contrastive_loss(
    embeddings: jax.Array,
    labels: jax.Array,
    *,
    margin: float,
    gradient: str = "autodiff",
    axis_name: str | None = None,
) -> jax.Array:
    r"""Pulls all positive pairs of the batch together, pushes each row's nearest negative away.

    .. math:: \ell_i = \tfrac12 \Big[ \sum_{j: y_j = y_i} \lVert x_i - x_j \rVert_2^2
        + \max\big(0, \tau - \min_{j: y_j \ne y_i} \lVert x_i - x_j \rVert_2^2 \big) \Big]

    Zhang and Xu (batch_contrastive), Eq. 3; the paper sums over the rows. A row without a negative
    in the batch has no hinge term.

    Args:
        embeddings: [B, D] rows of this device, L2-normalised in the paper.
        labels: [B] int32 identities of the rows.
        margin: tau, in squared distance.
        gradient: `"autodiff"` differentiates Eq. 3. `"eq8"` has the same values and the
            gradient that the paper prints as Eq. 8: half of the positive term's, and the nearest
            negative is a constant.
        axis_name: device axis; all rows of all devices are compared.
    Returns:
        [B] in squared embedding units; the sum over the global batch is L_b.
    Raises:
        ValueError: if the shapes do not fit, or `gradient` is unknown.
    Deviation: by default the exact gradient of Eq. 3, which is not Eq. 8 (the double sum counts a
        positive pair twice, and the nearest negative moves too); `gradient="eq8"` is as printed.
    """
    embeddings, labels = jnp.asarray(embeddings), jnp.asarray(labels)
    require_shapes(embeddings=(embeddings, "BD"), labels=(labels, "B"))
    if gradient not in ("autodiff", "eq8"):
        raise ValueError(f"gradient is {gradient!r}, expected 'autodiff' or 'eq8'.")

    others = parallel.gather(embeddings, axis_name=axis_name)
    other_labels = parallel.gather(labels, axis_name=axis_name)
    index = parallel.global_row_index(len(labels), axis_name=axis_name)
    same = labels[:, None] == other_labels[None, :]
    positive = same & (index[:, None] != jnp.arange(len(other_labels))[None, :])

    distances = squared_euclidean(embeddings, others)
    positive_term = jnp.sum(jnp.where(positive, distances, 0), axis=1)
    to_negatives = jnp.where(same, jnp.inf, distances)
    hinge_term = _hinge(margin, jnp.min(to_negatives, axis=1))
    rows = (positive_term + hinge_term) / 2
    if gradient == "autodiff":
        return rows

    # Eq. 8 is the gradient of this other function; the values stay those of Eq. 3.
    nearest = lax.stop_gradient(others[jnp.argmin(to_negatives, axis=1)])
    to_nearest = jnp.sum((embeddings - nearest) ** 2, axis=1)
    to_nearest = jnp.where(jnp.all(same, axis=1), jnp.inf, to_nearest)
    printed = (positive_term / 2 + _hinge(margin, to_nearest)) / 2
    return lax.stop_gradient(rows) + printed - lax.stop_gradient(printed)


def _hinge(margin: float, distances: jax.Array) -> jax.Array:
    """max(0, margin - distance), 0 with a zero gradient where the distance is infinite."""
    return jnp.maximum(0, margin - jnp.where(jnp.isinf(distances), margin + 1, distances))
