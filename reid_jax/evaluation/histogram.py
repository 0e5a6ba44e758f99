"""How many pairs of one identity, and of two, are how far apart."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from reid_jax.evaluation.counting import feature_blocks, query_blocks
from reid_jax.evaluation.gallery import Labels, checked_features, precision, refuse_nan
from reid_jax.evaluation.lanes import count_below
from reid_jax.evaluation.protocols import Comparison
from reid_jax.schema import JUNK

__all__ = ["PairDistanceHistogram", "comparison_histogram", "pair_distance_histogram"]


@dataclasses.dataclass(frozen=True)
class PairDistanceHistogram:
    """Counts of query-gallery pairs by distance, removed pairs left out.

    Attributes:
        edges: [E+1] increasing; bin e is [edges[e], edges[e+1]), the last one closed. Pairs beyond
            the outer edges are counted in the end bins.
        same_pair_counts: [E] int64, pairs of one identity.
        different_pair_counts: [E] int64, pairs of two identities.
    """

    edges: np.ndarray
    same_pair_counts: np.ndarray
    different_pair_counts: np.ndarray


def pair_distance_histogram(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    query_ids: np.ndarray,
    query_cameras: np.ndarray | None,
    gallery_ids: np.ndarray,
    gallery_cameras: np.ndarray | None,
    *,
    edges: np.ndarray | None = None,
    num_bins: int = 100,
    distance: str = "squared_euclidean",
    queries_per_block: int | None = None,
) -> PairDistanceHistogram:
    """Counts of same and of different pairs by distance, by the removal rules of `rank`.

    Args:
        query_features: [Q, D] finite.
        gallery_features: [G, D].
        query_ids: [Q] int; queries of identity -1 are left out.
        query_cameras: [Q] int, or None for no camera rule (then both are None).
        gallery_ids: [G] int.
        gallery_cameras: [G] int or None.
        edges: [E+1] increasing; None takes `num_bins` equal bins from the smallest to the largest
            distance, which costs a first pass over the distances.
        num_bins: E where `edges` is None.
        distance: a name in `reid_jax.distances.DISTANCES`.
        queries_per_block: rows of the block; None takes as many as keep it at 128 MiB.

    Returns:
        PairDistanceHistogram.

    Raises:
        ValueError: as `rank_features`, on edges that do not increase, or if every query and gallery
            image is junk.
    """
    labels = Labels(query_ids, query_cameras, gallery_ids, gallery_cameras)
    query_features, gallery_features, dtype = checked_features(
        query_features, gallery_features, labels, distance
    )
    queries = np.flatnonzero(labels.query_ids != JUNK)
    if not len(queries) or (labels.gallery_ids == JUNK).all():
        raise ValueError(
            "there is no pair to count: every query, or every gallery image, has identity -1 (junk)"
        )
    with precision(dtype):
        block = feature_blocks(query_features, gallery_features, distance, dtype)
        removed = jnp.asarray(labels.removed)
        blocks = query_blocks(queries, labels.num_gallery, queries_per_block)
        if edges is None:
            ranges = []
            for rows in blocks:
                values, has_nan = block(rows, removed)
                refuse_nan(rows, has_nan)
                ranges.append((float(jnp.nanmin(values)), float(jnp.nanmax(values))))
            low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
            edges = np.linspace(low, high if high > low else low + 1, num_bins + 1)
        edges = np.asarray(edges, dtype)
        if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise ValueError(
                f"edges must be at least two increasing numbers in {dtype.name}, got shape "
                f"{edges.shape}, starting {edges.reshape(-1)[:5]}"
            )
        inner = edges[1:-1]
        total_below = np.zeros(len(inner), np.int64)
        own_below = np.zeros(len(inner), np.int64)
        same_below = np.zeros(len(inner), np.int64)
        num_own = num_same = 0
        for rows in blocks:
            values, has_nan = block(rows, removed)
            refuse_nan(rows, has_nan)
            own_rows, own = labels.own_rows(rows)
            own_values = np.asarray(jnp.take_along_axis(values, own_rows, axis=1))
            same = own & ~labels.same_camera(rows, own_rows)
            total_below += np.asarray(count_below(values, inner)).sum(axis=0, dtype=np.int64)
            own_below += np.searchsorted(np.sort(own_values[own]), inner)
            same_below += np.searchsorted(np.sort(own_values[same]), inner)
            num_own += int(own.sum())
            num_same += int(same.sum())
    num_different = len(queries) * int((labels.gallery_ids != JUNK).sum()) - num_own
    return PairDistanceHistogram(
        edges,
        np.diff(same_below, prepend=0, append=num_same),
        np.diff(total_below - own_below, prepend=0, append=num_different),
    )


def comparison_histogram(comparison: Comparison, *, num_bins: int = 100) -> PairDistanceHistogram:
    """Counts of same and of different pairs by distance.

    Args:
        comparison: of a `NamedRanking`.
        num_bins: number of equal bins, from the smallest to the largest distance.

    Returns:
        PairDistanceHistogram.

    Raises:
        ValueError: if a distance of two images is infinite.
    """
    present = comparison.gallery_rows >= 0
    values, match = comparison.distances[present], comparison.match[present]
    if not np.isfinite(values).all():
        raise ValueError(
            f"{int((~np.isfinite(values)).sum())} of {len(values)} distances are infinite, and a "
            "histogram needs them finite; give what was not compared a large distance"
        )
    low, high = values.min(), values.max()
    edges = np.linspace(low, high if high > low else low + 1, num_bins + 1)
    counts = (np.histogram(values[side], edges)[0] for side in (match, ~match))
    return PairDistanceHistogram(edges, *counts)
