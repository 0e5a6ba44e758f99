"""Sets and codes of k-reciprocal neighbours, as sparse matrices."""

from __future__ import annotations

import numpy as np
import scipy

__all__ = ["expanded_sets", "neighbour_codes", "overlap"]

_SPARSE_ROWS = 4096


def expanded_sets(neighbours: np.ndarray, k1: int) -> scipy.sparse.csr_array:
    """Sets of reciprocal neighbours, with those of a neighbour that shares over 2/3 of them.

    Args:
        neighbours: [N, at least k1 + 1] rows, nearest first, each row's own among them.
        k1: neighbours of the sets; the smaller sets have k1/2, a half rounded to even.

    Returns:
        [N, N] with an entry at each member of a row's set.
    """
    sets = _reciprocal_sets(neighbours[:, : k1 + 1])
    half_sets = _reciprocal_sets(neighbours[:, : int(np.around(k1 / 2)) + 1])
    half_sizes = half_sets.sum(axis=1)
    parts = []
    for start in range(0, len(neighbours), _SPARSE_ROWS):
        own = sets[start : start + _SPARSE_ROWS]
        shared = (own @ half_sets.T).multiply(own).tocsr()
        accepted = shared.copy()
        accepted.data = (3 * shared.data > 2 * half_sizes[shared.indices]).astype(np.int32)
        accepted.eliminate_zeros()
        parts.append(own + accepted @ half_sets)
    expanded = scipy.sparse.vstack(parts, format="csr")
    expanded.sort_indices()
    return expanded


def neighbour_codes(
    pattern: scipy.sparse.csr_array, weights: np.ndarray, neighbours: np.ndarray, k2: int
) -> scipy.sparse.csr_array:
    """Weighted sets of neighbours that sum to 1, after the local query expansion.

    Args:
        pattern: [N, N] of `expanded_sets`.
        weights: of its entries, in their order.
        neighbours: [N, at least k2] rows, nearest first.
        k2: rows that are averaged; 1 leaves the codes as they are.

    Returns:
        [N, N] float64. A row that is in no list, as behind more than k1 copies of its image, has
        the code 0 and shares nothing.
    """
    codes = scipy.sparse.csr_array((weights, pattern.indices, pattern.indptr), shape=pattern.shape)
    total = codes.sum(axis=1)
    codes = scipy.sparse.diags_array(1 / np.where(total > 0, total, 1)) @ codes
    if k2 != 1:
        k2 = min(k2, len(neighbours))
        codes = _memberships(neighbours[:, :k2]) @ codes / k2
    return codes.tocsr()


def _reciprocal_sets(neighbours: np.ndarray) -> scipy.sparse.csr_array:
    """CSR [N, N] with 1 where two rows are in each other's lists."""
    listed = _memberships(neighbours)
    return listed.multiply(listed.T).tocsr()


def _memberships(neighbours: np.ndarray) -> scipy.sparse.csr_array:
    num_rows, width = neighbours.shape
    ones = np.ones(neighbours.size, np.int32)
    starts = np.arange(num_rows + 1) * width
    return scipy.sparse.csr_array(
        (ones, neighbours.reshape(-1), starts), shape=(num_rows, num_rows)
    )


def overlap(indices: np.ndarray, values: np.ndarray, columns: scipy.sparse.csc_array) -> np.ndarray:
    """Sum of the entrywise minima of one code and each of several.

    Args:
        indices: [M] columns in which the code is not 0.
        values: [M] its values there.
        columns: [G, N] the other codes.

    Returns:
        [G] float64, from 0 to 1.
    """
    starts, stops = columns.indptr[indices], columns.indptr[indices + 1]
    lengths = stops - starts
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    entries = np.repeat(starts, lengths) + within
    minima = np.minimum(np.repeat(values, lengths), columns.data[entries])
    return np.bincount(columns.indices[entries], weights=minima, minlength=columns.shape[0])
