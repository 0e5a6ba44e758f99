"""The project's only definitions of a distance between embeddings.

Every function takes two sets of rows and returns the matrix between them, at the highest
matrix-product precision of the platform: a bfloat16 product, which accelerators take by default,
reorders near neighbours.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["DISTANCES", "cosine", "euclidean", "squared_euclidean", "unit_rows"]

Rows = jax.Array | np.ndarray


def squared_euclidean(a: Rows, b: Rows) -> jax.Array:
    r"""Squared Euclidean distance between every row of one set and every row of another.

    .. math:: d_{ij} = \lVert a_i - b_j \rVert_2^2

    Computed as :math:`\lVert a \rVert^2 + \lVert b \rVert^2 - 2 a b^\top` after both sets are moved
    by an offset near the mean of `a`. That changes no distance and no gradient, but removes what
    the features have in common: with it, float32 loses the digits that tell neighbours apart. The
    offset depends on `a` only, so equal rows of `b` have equal distances in any block they are in.

    Args:
        a: [M, D] rows, any real dtype.
        b: [N, D] rows.

    Returns:
        [M, N], never negative, in squared units of the rows; float32, or float64 where an input is
        float64.

    Raises:
        ValueError: if an input is not [rows, D] or D differs.

    Deviation: none.
    """
    a, b = _row_pairs(a, b)
    offset = _common_offset(lax.stop_gradient(a))
    a = a - offset
    b = b - offset
    product = jnp.matmul(a, b.T, precision=lax.Precision.HIGHEST)
    squared = jnp.sum(a * a, axis=1)[:, None] + jnp.sum(b * b, axis=1)[None, :] - 2 * product
    return jnp.maximum(squared, 0)


def euclidean(a: Rows, b: Rows) -> jax.Array:
    r"""Euclidean distance between every row of one set and every row of another.

    .. math:: d_{ij} = \sqrt{\max(\lVert a_i - b_j \rVert_2^2, 10^{-12})}

    Args:
        a: [M, D] rows, any real dtype.
        b: [N, D] rows.

    Returns:
        [M, N] in units of the rows; float32, or float64 where an input is float64.

    Raises:
        ValueError: if an input is not [rows, D] or D differs.

    Deviation: distances below 1e-6 are returned as 1e-6, so that the gradient at equal rows is 0
        and not infinite.
    """
    return jnp.sqrt(jnp.maximum(squared_euclidean(a, b), 1e-12))


def unit_rows(rows: jax.Array) -> jax.Array:
    """Scales rows to unit Euclidean length, with a finite gradient at zero.

    Args:
        rows: [..., D], any real dtype.

    Returns:
        Like `rows`. A row of zeros stays zero, and one shorter than 1e-6 stays shorter than 1.
    """
    squared = jnp.sum(rows**2, axis=-1, keepdims=True)
    return rows * lax.rsqrt(jnp.maximum(squared, 1e-12))


def cosine(a: Rows, b: Rows) -> jax.Array:
    r"""Cosine distance between every row of one set and every row of another.

    .. math:: d_{ij} = 1 - \frac{a_i^\top b_j}{\lVert a_i \rVert_2 \lVert b_j \rVert_2}

    Args:
        a: [M, D] rows, any real dtype.
        b: [N, D] rows.

    Returns:
        [M, N] in [0, 2] up to rounding; float32, or float64 where an input is float64.

    Raises:
        ValueError: if an input is not [rows, D] or D differs.

    Deviation: a row of zeros has distance 1 to every row, and gradient 0.
    """
    a, b = _row_pairs(a, b)
    return 1 - jnp.matmul(unit_rows(a), unit_rows(b).T, precision=lax.Precision.HIGHEST)


DISTANCES: dict[str, Callable[[Rows, Rows], jax.Array]] = {
    "squared_euclidean": squared_euclidean,
    "euclidean": euclidean,
    "cosine": cosine,
}
"""The distances by name, for callers that take a name."""


def _common_offset(x: jax.Array) -> jax.Array:
    """The mean row, rounded to a power of two below the spread of the rows around it.

    So much of the mean is all that helps, and small integers and their halves stay exact, with them
    the ties between their distances.
    """
    mean = jnp.mean(x, axis=0)
    spread = jnp.max(jnp.abs(x - mean), initial=0)
    grid = jnp.ldexp(jnp.ones_like(spread), jnp.frexp(spread)[1] - 1)
    return jnp.where(spread > 0, jnp.round(mean / grid) * grid, mean)


def _row_pairs(a: Rows, b: Rows) -> tuple[jax.Array, jax.Array]:
    if jnp.ndim(a) != 2 or jnp.ndim(b) != 2 or jnp.shape(a)[1] != jnp.shape(b)[1]:
        raise ValueError(
            f"distances need rows [M, D] and [N, D] with the same D, got {jnp.shape(a)} and "
            f"{jnp.shape(b)}; reshape the features to two dimensions"
        )
    a, b = jnp.asarray(a), jnp.asarray(b)
    dtype = jnp.result_type(a, b, jnp.float32)
    return a.astype(dtype), b.astype(dtype)
