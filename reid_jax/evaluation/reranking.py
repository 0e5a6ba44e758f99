"""k-reciprocal re-ranking with sparse neighbour codes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from reid_jax import distances as _distances
from reid_jax.evaluation.counting import BLOCK_ENTRIES
from reid_jax.evaluation.gallery import precision
from reid_jax.evaluation.reciprocal import expanded_sets, neighbour_codes, overlap

__all__ = ["k_reciprocal_rerank"]


def k_reciprocal_rerank(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
) -> np.ndarray:
    r"""Distances that mix the original ones with those between sets of reciprocal neighbours.

    .. math:: d^* = (1 - \lambda) \, d_J + \lambda \, d

    (Zhong, Zheng, Cao, Li, "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR
    2017, Eq. 12), with the Jaccard distance :math:`d_J` of the expanded neighbour codes (Eqs. 5-11)
    and :math:`d` the squared Euclidean distance divided by the largest of its row. It is not
    squared again, as some ports do. Normalise the features first, as the paper does, and leave junk
    images out: neighbours are taken among all rows given. The smaller sets have k1/2 neighbours, a
    half rounded to even.

    Memory grows with (Q+G)(k1+1) and Q x G (the result); the square matrix of all distances is
    computed by blocks, twice.

    Args:
        query_features: [Q, D] finite.
        gallery_features: [G, D].
        k1: neighbours of the reciprocal sets, at least 1.
        k2: rows averaged by the local query expansion, the row itself included; 1 turns it off.
        lambda_value: weight of the original distance, in [0, 1].

    Returns:
        [Q, G] distances; float32, or float64 where an input is float64.

    Raises:
        ValueError: on shapes that do not fit, features that are not finite, k1 or k2 below 1, or
            lambda_value outside [0, 1].

    Deviation: for odd k1 the authors' MATLAB and Python codes round k1/2 differently; this is the
    Python one.
    """
    if k1 < 1 or k2 < 1:
        raise ValueError(f"k1 and k2 must be at least 1, got k1={k1}, k2={k2}")
    if not 0 <= lambda_value <= 1:
        raise ValueError(f"lambda_value must be in [0, 1], got {lambda_value}")
    shapes = np.shape(query_features), np.shape(gallery_features)
    if len(shapes[0]) != 2 or len(shapes[1]) != 2 or shapes[0][1] != shapes[1][1]:
        raise ValueError(f"features must be [Q, D] and [G, D] with the same D, got {shapes}")
    if 0 in (shapes[0][0], shapes[1][0]):
        raise ValueError(f"features must have at least one row on both sides, got {shapes}")
    features = np.concatenate([np.asarray(query_features), np.asarray(gallery_features)])
    features = features.astype(np.result_type(features.dtype, np.float32), copy=False)
    if not np.isfinite(features).all():
        raise ValueError("the features hold nan or infinite numbers; look for a diverged model")
    num_query, num_all = len(query_features), len(features)
    num_neighbours = min(max(k1 + 1, k2), num_all)

    neighbours = np.empty((num_all, num_neighbours), np.int32)
    largest = np.empty(num_all, features.dtype)
    reranked = np.empty((num_query, num_all - num_query), features.dtype)
    rows_per_block = max(1, BLOCK_ENTRIES // num_all)
    blocks = [slice(i, min(i + rows_per_block, num_all)) for i in range(0, num_all, rows_per_block)]
    with precision(features.dtype):
        on_device = jnp.asarray(features)
        for rows in blocks:
            found = _neighbours(on_device[rows], on_device, num_neighbours)
            neighbours[rows], largest[rows] = (np.asarray(x) for x in found)
        # All rows are equal where the largest distance is 0.
        largest[largest == 0] = 1
        pattern = expanded_sets(neighbours, k1)
        weights = np.empty(pattern.nnz)
        for rows in blocks:
            values = np.asarray(_squared_euclidean(on_device[rows], on_device))
            values = values / largest[rows, None]
            start, stop = pattern.indptr[rows.start], pattern.indptr[rows.stop]
            entries = np.diff(pattern.indptr[rows.start : rows.stop + 1])
            weights[start:stop] = np.exp(
                -values[np.repeat(np.arange(len(values)), entries), pattern.indices[start:stop]]
            )
            queries = slice(rows.start, min(rows.stop, num_query))
            if queries.start < queries.stop:
                reranked[queries] = values[: queries.stop - queries.start, num_query:]

    codes = neighbour_codes(pattern, weights, neighbours, k2)
    columns = codes[num_query:].tocsc()
    for q in range(num_query):
        own = slice(codes.indptr[q], codes.indptr[q + 1])
        shared = overlap(codes.indices[own], codes.data[own], columns)
        jaccard = 1 - shared / (2 - shared)
        reranked[q] = (1 - lambda_value) * jaccard + lambda_value * reranked[q]
    return reranked


_squared_euclidean = jax.jit(_distances.squared_euclidean)


@partial(jax.jit, static_argnames="k")
def _neighbours(rows: jax.Array, features: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The k nearest of all rows, the lower row first where equal; and the largest value."""
    values = _distances.squared_euclidean(rows, features)
    return lax.top_k(-values, k)[1], jnp.max(values, axis=1)
