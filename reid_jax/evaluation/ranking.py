"""Every ranking metric from one pass over the distances: the functions to call.

`counting` finds the positions of the gallery images of each query's identity, and `metrics` makes
the numbers of them.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from reid_jax.evaluation.counting import (
    Positions,
    positions_by_parts,
    positions_of_distances,
    positions_of_features,
)
from reid_jax.evaluation.gallery import Labels, OwnGalleries, checked_features
from reid_jax.evaluation.metrics import RankingResult, metrics_of_positions

__all__ = ["rank", "rank_columns", "rank_features", "rank_with_distractors"]


def rank(
    distances: np.ndarray,
    query_ids: np.ndarray,
    query_cameras: np.ndarray | None,
    gallery_ids: np.ndarray,
    gallery_cameras: np.ndarray | None,
) -> RankingResult:
    """Ranking metrics of a matrix of distances.

    Removed before ranking: gallery images of identity -1 (junk) and, where cameras are given,
    gallery images of the query's identity and camera. Equal distances go to the lower gallery
    index. A query of identity -1 has no match; any other number, 0 included, is an ordinary
    identity (Market-1501's 0 has no query, so its images are plain negatives).

    Args:
        distances: [Q, G] real; may be negative or infinite. Compared in their own precision,
            float64 included.
        query_ids: [Q] int.
        query_cameras: [Q] int, or None for no camera rule (then both are None).
        gallery_ids: [G] int.
        gallery_cameras: [G] int or None.

    Returns:
        RankingResult.

    Raises:
        ValueError: on shapes that do not fit, an empty side, one camera array without the other, or
            nan distances.
    """
    if np.ndim(distances) != 2:
        raise ValueError(f"distances must be [Q, G], got shape {np.shape(distances)}")
    labels = Labels(query_ids, query_cameras, gallery_ids, gallery_cameras)
    labels.check("distances", np.shape(distances))
    return _result(labels, positions_of_distances(labels, distances))


def rank_columns(distances: np.ndarray, match: np.ndarray) -> RankingResult:
    """Ranking metrics of queries that have a gallery of their own each.

    Nothing is removed. Equal distances go to the lower column. Galleries of different sizes are
    padded on the right with infinite distances that do not match, which moves no rank.

    Args:
        distances: [Q, K] real, from each query to the images of its gallery; may be negative or
            infinite. Compared in their own precision.
        match: [Q, K] bool, True where the image shows the query's identity.

    Returns:
        RankingResult, with K as G.

    Raises:
        ValueError: on shapes that do not fit, an empty side, or nan distances.
    """
    match = np.asarray(match)
    if np.ndim(distances) != 2 or match.shape != np.shape(distances) or match.dtype != bool:
        raise ValueError(
            "distances and match must be [Q, K] and match bool, got shapes "
            f"{np.shape(distances)} and {match.shape} and dtype {match.dtype}"
        )
    if 0 in match.shape:
        raise ValueError(f"there is nothing to rank: distances has shape {match.shape}")
    columns = OwnGalleries(match)
    return _result(columns, positions_of_distances(columns, distances))


def rank_features(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    query_ids: np.ndarray,
    query_cameras: np.ndarray | None,
    gallery_ids: np.ndarray,
    gallery_cameras: np.ndarray | None,
    *,
    distance: str = "squared_euclidean",
    queries_per_block: int | None = None,
) -> RankingResult:
    """Ranking metrics of features, without ever holding the whole matrix of distances.

    The same rules as `rank`. Distances are computed for a block of queries at a time and, where the
    gallery is large, for a part of it at a time. A match's own value comes from the block that it
    is compared with, or one of the same shape, so ties are exact.

    The devices share the blocks, and so do the processes of a job, each of which must call it with
    the same features. The result does not depend on how many there are.

    Args:
        query_features: [Q, D] finite. Not normalised here.
        gallery_features: [G, D].
        query_ids: [Q] int.
        query_cameras: [Q] int, or None for no camera rule (then both are None).
        gallery_ids: [G] int.
        gallery_cameras: [G] int or None.
        distance: a name in `reid_jax.distances.DISTANCES`.
        queries_per_block: rows of the block; None takes as many as keep it at 128 MiB.

    Returns:
        RankingResult.

    Raises:
        ValueError: as `rank`, on an unknown distance, or on features that give nan distances.
    """
    labels = Labels(query_ids, query_cameras, gallery_ids, gallery_cameras)
    query_features, gallery_features, dtype = checked_features(
        query_features, gallery_features, labels, distance
    )
    return _result(
        labels,
        positions_of_features(
            labels,
            query_features,
            gallery_features,
            distance,
            dtype,
            queries_per_block,
            over_processes=True,
        ),
    )


def rank_with_distractors(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    query_ids: np.ndarray,
    query_cameras: np.ndarray | None,
    gallery_ids: np.ndarray,
    gallery_cameras: np.ndarray | None,
    distractor_batches: Iterable[np.ndarray],
    *,
    at: Sequence[int],
    distance: str = "squared_euclidean",
) -> dict[int, RankingResult]:
    """Ranking metrics as images that match no query are appended to the gallery.

    What `rank_features` gives for the gallery with the first n distractors after it, for several n
    from one pass. Distractors only push matches back, so each batch is counted and let go: memory
    does not grow with their number. Devices and processes share the work as in `rank_features`.

    Args:
        query_features: [Q, D] finite.
        gallery_features: [G, D].
        query_ids: [Q] int.
        query_cameras: [Q] int, or None for no camera rule (then both are None).
        gallery_ids: [G] int.
        gallery_cameras: [G] int or None.
        distractor_batches: [b, D] each, of any sizes; read no further than the largest of `at`.
        at: numbers of distractors, in any order.
        distance: a name in `reid_jax.distances.DISTANCES`.

    Returns:
        RankingResult for 0 and each number of `at`, in increasing order; `cmc` has G + n entries.

    Raises:
        ValueError: as `rank_features`, on a negative number, a batch of another shape, or batches
            that end before the largest number.
    """
    labels = Labels(query_ids, query_cameras, gallery_ids, gallery_cameras)
    query_features, gallery_features, dtype = checked_features(
        query_features, gallery_features, labels, distance
    )
    numbers = sorted({0, *(int(n) for n in at)})
    if numbers[0] < 0:
        raise ValueError(f"numbers of distractors must be at least 0, got {numbers[0]}")
    positions = positions_by_parts(
        labels,
        query_features,
        gallery_features,
        distractor_batches,
        numbers,
        distance,
        dtype,
        over_processes=True,
    )
    return {n: _result(labels, own, n) for n, own in zip(numbers, positions, strict=True)}


def _result(
    labels: Labels | OwnGalleries, own_positions: Positions, num_distractors: int = 0
) -> RankingResult:
    positions, gallery_rows = own_positions
    own = positions >= 0
    match = own & ~labels.same_camera(np.arange(labels.num_query), gallery_rows)
    return metrics_of_positions(positions, match, labels.num_gallery + num_distractors)
