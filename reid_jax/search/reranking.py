"""Re-ranked lists without the matrix of all distances."""

from __future__ import annotations

import numpy as np

from reid_jax.evaluation.reciprocal import expanded_sets, neighbour_codes, overlap
from reid_jax.search.nearest import Nearest, Removed, Rows, checked_sides, nearest

__all__ = ["rerank_nearest"]


def rerank_nearest(
    queries: np.ndarray,
    gallery: np.ndarray,
    *,
    top: int,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    removed: Removed | None = None,
) -> Nearest:
    """Finds the nearest gallery rows of each query by the distance of k-reciprocal re-ranking.

    The lists are those of a sort of `reid_jax.evaluation.k_reciprocal_rerank`, whose
    definition holds. Only the neighbours of each row, the sparse codes, and distances between rows
    that share neighbours are held: the Jaccard distance of all other pairs is 1, so of those only
    the nearest can be in a list.

    Args:
        queries: [Q, D] finite.
        gallery: [G, D] finite, memory-mapped or not.
        top: length of the lists; may exceed the gallery.
        k1: neighbours of the reciprocal sets, at least 1.
        k2: rows averaged by the local query expansion; 1 turns it off.
        lambda_value: weight of the original distance, in [0, 1].
        removed: gallery rows that are left out of the lists; they are neighbours all the same.

    Returns:
        Lists of k = min(top, G) rows; the distances are re-ranked ones, in [0, 1].

    Raises:
        ValueError: as `nearest` and `reid_jax.evaluation.k_reciprocal_rerank`.

    Deviation: as `reid_jax.evaluation.k_reciprocal_rerank`.
    """
    if k1 < 1 or k2 < 1:
        raise ValueError(f"k1 and k2 must be at least 1, got k1={k1}, k2={k2}")
    if not 0 <= lambda_value <= 1:
        raise ValueError(f"lambda_value must be in [0, 1], got {lambda_value}")
    checked_sides(queries, gallery, top)
    features = Rows([np.asanyarray(queries), np.asanyarray(gallery)])
    num_query = len(queries)
    around = nearest(features, features, top=max(k1 + 1, k2))
    neighbours = around.rows.astype(np.int32)
    # All rows are equal where the largest distance is 0.
    largest = np.where(around.farthest == 0, 1, around.farthest)

    pattern = expanded_sets(neighbours, k1)
    weights = np.empty(pattern.nnz)
    for row in range(len(features)):
        own = slice(pattern.indptr[row], pattern.indptr[row + 1])
        distances = _distances(features, row, pattern.indices[own])
        weights[own] = np.exp(-distances / largest[row])
    codes = neighbour_codes(pattern, weights, neighbours, k2)
    columns = codes[num_query:].tocsc()

    plain = nearest(queries, gallery, top=top, removed=removed)
    rows = np.full_like(plain.rows, -1)
    values = np.full_like(plain.distances, np.nan)
    for q in range(num_query):
        own = slice(codes.indptr[q], codes.indptr[q + 1])
        shared = overlap(codes.indices[own], codes.data[own], columns)
        near = plain.rows[q][plain.rows[q] >= 0]
        close = np.flatnonzero(shared)
        if removed is not None and (hidden := removed(slice(q, q + 1), slice(None))) is not None:
            close = close[~hidden[0, close]]
        close = np.setdiff1d(close, near, assume_unique=True)
        candidates = np.concatenate([near, close])
        distances = np.concatenate(
            [plain.distances[q][: len(near)], _distances(features, q, num_query + close)]
        )
        jaccard = 1 - shared[candidates] / (2 - shared[candidates])
        mixed = (1 - lambda_value) * jaccard + lambda_value * distances / largest[q]
        order = np.lexsort((candidates, mixed.astype(np.float32)))[: rows.shape[1]]
        rows[q, : len(order)] = candidates[order]
        values[q, : len(order)] = mixed[order]
    return Nearest(rows, values, largest[:num_query])


def _distances(features: Rows, row: int, others: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of one row to others, [n] float32."""
    difference = features.take(others)
    difference -= features.block(slice(row, row + 1))
    return np.einsum("nd,nd->n", difference, difference)
