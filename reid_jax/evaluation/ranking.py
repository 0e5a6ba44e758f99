"""Ranks of the true matches, and every ranking metric from one pass over the distances.

No row of the gallery is ever sorted. The rank of a true match is the number of gallery images that
come before it, so for each query only the positions of the gallery images of its own identity are
counted, block of distances by block of distances; the removal of junk, of same-camera images and
all conventions of CMC and AP are then arithmetic on these few positions, in float64 on the host.

Counts add up over parts of the gallery, so a large gallery is taken part by part, and one that is
too large to be held is given part by part.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from reid_jax import distances as _distances

__all__ = [
    "PairDistanceHistogram",
    "RankedLists",
    "RankingResult",
    "pair_distance_histogram",
    "rank",
    "rank_columns",
    "rank_features",
    "rank_with_distractors",
    "single_gallery_shot_cmc",
    "top_k",
]

DISTANCES = {
    "squared_euclidean": _distances.squared_euclidean,
    "euclidean": _distances.euclidean,
    "cosine": _distances.cosine,
}

JUNK = -1

# A block of distances has at most this many entries (128 MiB in float32), whatever the gallery's
# size.
_BLOCK_ENTRIES = 2**25
# Whole rows of a block while it has at least this many of them. A distance moves and squares the
# gallery's features once a block, which with fewer rows costs more than the product itself.
_FEWEST_QUERIES = 1024
# The rows of a block that is a part of the gallery wide: enough for the same reason, and few enough
# for the images of their identities to be a small share of the gallery. Its 16 MiB are memory that
# the C library keeps for the next block, where larger pieces come from the system each time.
_PART_QUERIES, _PART_ENTRIES = 2048, 2**22
# Counting keeps [rows, matches, lanes] int32 partial sums in a CPU's second-level cache and adds
# `_COUNT_UNROLL` comparisons to each before storing it: over ten times the speed of the one-line
# reduction, which XLA's CPU backend does not vectorise.
_COUNT_ROWS, _COUNT_MATCHES, _COUNT_LANES, _COUNT_UNROLL = 64, 64, 128, 8


@dataclasses.dataclass(frozen=True)
class RankingResult:
    """Metrics of one ranking; means are over the queries that have a match left after removal.

    With no such query every mean and both CMC curves are nan and `num_valid_queries` is 0.

    Attributes:
        cmc: [G] float64, rank 1 first: share of queries whose first match is at that rank or
            before.
        cmc_all_shots: [G] float64: share of matches, weighted to 1 a query, with fewer than that
            many wrong images before them (other matches do not count).
        map_step: mean of `average_precision_step`.
        map_trapezoid: mean of `average_precision_trapezoid`.
        minp: mean of `inverse_negative_penalty`.
        num_valid_queries: number of queries with a match.
        average_precision_step: [Q] float64, (1/n) sum_i i/(g_i+1) over the 0-based ranks g_1 < ...
            < g_n of the matches; nan without a match. The form of PyTorch code bases.
        average_precision_trapezoid: [Q] float64, (1/n) sum_i 1/2 [i/(g_i+1) + (i-1)/g_i], the
            second term 1 where g_i = 0; nan without a match. The form of the official Market-1501
            and Oxford kits; never above the step.
        first_match_rank: [Q] int64, 0-based; -1 without a match.
        inverse_negative_penalty: [Q] float64, n/(g_n+1); nan without a match.
        num_matches: [Q] int64, n.
    """

    cmc: np.ndarray
    cmc_all_shots: np.ndarray
    map_step: float
    map_trapezoid: float
    minp: float
    num_valid_queries: int
    average_precision_step: np.ndarray
    average_precision_trapezoid: np.ndarray
    first_match_rank: np.ndarray
    inverse_negative_penalty: np.ndarray
    num_matches: np.ndarray


@dataclasses.dataclass(frozen=True)
class RankedLists:
    """The nearest gallery images of each query, nearest first, removed images left out.

    Attributes:
        gallery_rows: [Q, k] int64; -1 where the gallery has no more images for this query.
        distances: [Q, k] in the unit of the distance; nan where the row is -1.
        match: [Q, k] int8: 1 same identity, 0 another (or no image).
    """

    gallery_rows: np.ndarray
    distances: np.ndarray
    match: np.ndarray


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
    labels = _Labels(query_ids, query_cameras, gallery_ids, gallery_cameras)
    labels.check("distances", np.shape(distances))
    return _result(labels, _matrix_positions(labels, distances))


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
    columns = _Columns(match)
    return _result(columns, _matrix_positions(columns, distances))


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

    Args:
        query_features: [Q, D] finite. Not normalised here.
        gallery_features: [G, D].
        query_ids: [Q] int.
        query_cameras: [Q] int, or None for no camera rule (then both are None).
        gallery_ids: [G] int.
        gallery_cameras: [G] int or None.
        distance: a name in `DISTANCES`.
        queries_per_block: rows of the block; None takes as many as keep it at 128 MiB.

    Returns:
        RankingResult.

    Raises:
        ValueError: as `rank`, on an unknown distance, or on features that give nan distances.
    """
    labels = _Labels(query_ids, query_cameras, gallery_ids, gallery_cameras)
    query_features, gallery_features, dtype = _checked_features(
        query_features, gallery_features, labels, distance
    )
    return _result(
        labels,
        _feature_positions(
            labels, query_features, gallery_features, distance, dtype, queries_per_block
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
    does not grow with their number.

    Args:
        query_features: [Q, D] finite.
        gallery_features: [G, D].
        query_ids: [Q] int.
        query_cameras: [Q] int, or None for no camera rule (then both are None).
        gallery_ids: [G] int.
        gallery_cameras: [G] int or None.
        distractor_batches: [b, D] each, of any sizes; read no further than the largest of `at`.
        at: numbers of distractors, in any order.
        distance: a name in `DISTANCES`.

    Returns:
        RankingResult for 0 and each number of `at`, in increasing order; `cmc` has G + n entries.

    Raises:
        ValueError: as `rank_features`, on a negative number, a batch of another shape, or batches
            that end before the largest number.
    """
    labels = _Labels(query_ids, query_cameras, gallery_ids, gallery_cameras)
    query_features, gallery_features, dtype = _checked_features(
        query_features, gallery_features, labels, distance
    )
    numbers = sorted({0, *(int(n) for n in at)})
    if numbers[0] < 0:
        raise ValueError(f"numbers of distractors must be at least 0, got {numbers[0]}")
    positions = _positions_by_parts(
        labels, query_features, gallery_features, distractor_batches, numbers, distance, dtype
    )
    return {n: _result(labels, own, n) for n, own in zip(numbers, positions, strict=True)}


def top_k(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    query_ids: np.ndarray,
    query_cameras: np.ndarray | None,
    gallery_ids: np.ndarray,
    gallery_cameras: np.ndarray | None,
    *,
    k: int,
    distance: str = "squared_euclidean",
    queries_per_block: int | None = None,
) -> RankedLists:
    """The k nearest gallery images of each query, by the removal and tie rules of `rank`.

    Args:
        query_features: [Q, D] finite.
        gallery_features: [G, D].
        query_ids: [Q] int.
        query_cameras: [Q] int, or None for no camera rule (then both are None).
        gallery_ids: [G] int.
        gallery_cameras: [G] int or None.
        k: length of the lists, at least 1; may exceed the gallery.
        distance: a name in `DISTANCES`.
        queries_per_block: rows of the block; None takes as many as keep it at 128 MiB.

    Returns:
        RankedLists.

    Raises:
        ValueError: as `rank_features`, or if k is below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    labels = _Labels(query_ids, query_cameras, gallery_ids, gallery_cameras)
    query_features, gallery_features, dtype = _checked_features(
        query_features, gallery_features, labels, distance
    )
    num_kept = min(k, labels.num_gallery)
    gallery_rows = np.full((labels.num_query, k), -1, np.int64)
    nearest = np.full((labels.num_query, k), np.nan, dtype)
    with _precision(dtype):
        block = _feature_blocks(query_features, gallery_features, distance, dtype)
        removed = jnp.asarray(labels.removed)
        for rows in _blocks(np.arange(labels.num_query), labels.num_gallery, queries_per_block):
            values, has_nan = block(rows, removed)
            _refuse_nan(rows, has_nan)
            own_rows, own = labels.own_rows(rows)
            same_camera = own & labels.same_camera(rows, own_rows)
            hidden = np.where(same_camera, own_rows, labels.num_gallery).astype(np.int32)
            found, values = _nearest(values, hidden, num_kept)
            found, values = np.asarray(found), np.asarray(values)
            present = values < np.inf
            gallery_rows[rows, :num_kept] = np.where(present, found, -1)
            nearest[rows, :num_kept] = np.where(present, values, np.nan)
    match = (gallery_rows >= 0) & (labels.gallery_ids[gallery_rows] == labels.query_ids[:, None])
    return RankedLists(gallery_rows, nearest, match.astype(np.int8))


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
        distance: a name in `DISTANCES`.
        queries_per_block: rows of the block; None takes as many as keep it at 128 MiB.

    Returns:
        PairDistanceHistogram.

    Raises:
        ValueError: as `rank_features`, on edges that do not increase, or if every query and gallery
            image is junk.
    """
    labels = _Labels(query_ids, query_cameras, gallery_ids, gallery_cameras)
    query_features, gallery_features, dtype = _checked_features(
        query_features, gallery_features, labels, distance
    )
    queries = np.flatnonzero(labels.query_ids != JUNK)
    if not len(queries) or (labels.gallery_ids == JUNK).all():
        raise ValueError(
            "there is no pair to count: every query, or every gallery image, has identity -1 (junk)"
        )
    with _precision(dtype):
        block = _feature_blocks(query_features, gallery_features, distance, dtype)
        removed = jnp.asarray(labels.removed)
        blocks = _blocks(queries, labels.num_gallery, queries_per_block)
        if edges is None:
            ranges = []
            for rows in blocks:
                values, has_nan = block(rows, removed)
                _refuse_nan(rows, has_nan)
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
            _refuse_nan(rows, has_nan)
            own_rows, own = labels.own_rows(rows)
            own_values = np.asarray(jnp.take_along_axis(values, own_rows, axis=1))
            same = own & ~labels.same_camera(rows, own_rows)
            total_below += np.asarray(_count_below(values, inner)).sum(axis=0, dtype=np.int64)
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


def single_gallery_shot_cmc(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    query_ids: np.ndarray,
    query_cameras: np.ndarray | None,
    gallery_ids: np.ndarray,
    gallery_cameras: np.ndarray | None,
    *,
    seed: int,
    repeats: int = 10,
    other_cameras_only: bool = True,
    distance: str = "squared_euclidean",
) -> np.ndarray:
    """Mean CMC over random galleries of one image per identity (the CUHK03 form).

    For each camera and each repeat one gallery image per identity is drawn; the queries of that
    camera are ranked against it. The match is always drawn from another camera than the query's, if
    cameras are given.

    Args:
        query_features: [Q, D] finite.
        gallery_features: [G, D].
        query_ids: [Q] int.
        query_cameras: [Q] int, or None for no camera rule (then both are None).
        gallery_ids: [G] int; -1 is left out.
        gallery_cameras: [G] int or None.
        seed: of the draws.
        repeats: number of galleries for each camera.
        other_cameras_only: True draws the wrong identities from the other cameras too (the DeepReID
            protocol); False from all cameras, the query's own included (torchreid's rule), which
            makes the task harder.
        distance: a name in `DISTANCES`.

    Returns:
        [K] float64 for K gallery identities, rank 1 first; mean over valid queries and repeats, nan
        without any.

    Raises:
        ValueError: as `rank_features`, or if repeats is below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    labels = _Labels(query_ids, query_cameras, gallery_ids, gallery_cameras)
    query_features, gallery_features, dtype = _checked_features(
        query_features, gallery_features, labels, distance
    )
    rows = np.flatnonzero(labels.gallery_ids != JUNK)
    identities, codes = np.unique(labels.gallery_ids[rows], return_inverse=True)
    cameras = labels.gallery_cameras
    first_match = np.zeros(len(identities), np.int64)
    query_cameras = [None] if cameras is None else np.unique(labels.query_cameras)
    for camera_number, camera in enumerate(query_cameras):
        queries = (
            np.arange(labels.num_query)
            if cameras is None
            else np.flatnonzero(labels.query_cameras == camera)
        )
        queries = queries[np.isin(labels.query_ids[queries], identities)]
        elsewhere = np.ones(len(rows), bool) if cameras is None else cameras[rows] != camera
        for repeat in range(repeats):
            random = np.random.Philox(key=[seed, camera_number], counter=repeat << 64)
            order = np.argsort(random.random_raw(len(rows)), kind="stable")
            match_rows = _first_of_each(codes, order[elsewhere[order]], rows, len(identities))
            wrong_rows = (
                match_rows
                if other_cameras_only
                else _first_of_each(codes, order, rows, len(identities))
            )
            own = np.searchsorted(identities, labels.query_ids[queries])
            valid = queries[match_rows[own] >= 0]
            if not len(valid):
                continue
            own = np.searchsorted(identities, labels.query_ids[valid])
            # One block holds the wrong images and the matches, so that equal images have equal
            # distances.
            gallery = np.unique(np.concatenate([wrong_rows, match_rows]))
            gallery = gallery[gallery >= 0]
            shown = np.isin(gallery, wrong_rows)
            with _precision(dtype):
                values = np.asarray(
                    DISTANCES[distance](query_features[valid], gallery_features[gallery])
                )
            if np.isnan(values).any():
                _refuse_nan(valid, np.isnan(values).any(axis=1))
            match = match_rows[own][:, None]
            at_match = np.take_along_axis(values, np.searchsorted(gallery, match), axis=1)
            counted = shown & (labels.gallery_ids[gallery] != labels.query_ids[valid][:, None])
            before = (values < at_match) | ((values == at_match) & (gallery < match))
            first_match += np.bincount((before & counted).sum(axis=1), minlength=len(identities))
    return _cumulative(first_match)


class _Labels:
    """Identities and cameras of both sides, and for each query the gallery rows of its identity."""

    def __init__(self, query_ids, query_cameras, gallery_ids, gallery_cameras):
        self.query_ids = _label_array("query_ids", query_ids)
        self.gallery_ids = _label_array("gallery_ids", gallery_ids)
        if (query_cameras is None) != (gallery_cameras is None):
            given, missing = ("gallery", "query") if query_cameras is None else ("query", "gallery")
            raise ValueError(
                f"{given}_cameras is given and {missing}_cameras is None; give both, or None for "
                "both to rank without the camera rule"
            )
        self.query_cameras = query_cameras
        self.gallery_cameras = gallery_cameras
        if query_cameras is not None:
            self.query_cameras = _label_array("query_cameras", query_cameras)
            self.gallery_cameras = _label_array("gallery_cameras", gallery_cameras)
        for side in ("query", "gallery"):
            ids, cameras = getattr(self, f"{side}_ids"), getattr(self, f"{side}_cameras")
            if len(ids) == 0:
                raise ValueError(f"the {side} is empty; there is nothing to rank")
            if cameras is not None and len(cameras) != len(ids):
                raise ValueError(
                    f"{side}_cameras has {len(cameras)} entries and {side}_ids {len(ids)}; give "
                    "one of each per image"
                )
        self.num_query, self.num_gallery = len(self.query_ids), len(self.gallery_ids)
        self.removed = self.gallery_ids == JUNK
        self._by_identity = np.argsort(self.gallery_ids, kind="stable")
        sorted_ids = self.gallery_ids[self._by_identity]
        self._start = np.searchsorted(sorted_ids, self.query_ids, side="left")
        end = np.searchsorted(sorted_ids, self.query_ids, side="right")
        self.num_own = np.where(self.query_ids == JUNK, 0, end - self._start)
        # Queries with equally many images of their identity share a block, so little of the
        # counting is spent on padding; those of one identity do, so they share its images.
        self.order = np.lexsort((self.query_ids, self.num_own))

    def check(self, name, shape):
        if tuple(shape) != (self.num_query, self.num_gallery):
            raise ValueError(
                f"{name} is for {shape[0]} queries and {shape[1]} gallery images, but query_ids "
                f"has {self.num_query} and gallery_ids {self.num_gallery} entries"
            )

    def own_rows(self, queries):
        """Gallery rows [R, M] of each query's identity, in order, and which are not padding."""
        counts = self.num_own[queries]
        column = np.arange(max(1, counts.max()))
        own = column < counts[:, None]
        rows = self._by_identity[np.where(own, self._start[queries][:, None] + column, 0)]
        return np.where(own, rows, 0).astype(np.int32), own

    def same_camera(self, queries, rows):
        if self.query_cameras is None:
            return np.zeros(rows.shape, bool)
        return self.gallery_cameras[rows] == self.query_cameras[queries][:, None]


class _Columns:
    """What `_Labels` says, for queries with a gallery of their own each: rows are columns."""

    def __init__(self, match):
        self.num_query, self.num_gallery = match.shape
        self.removed = np.zeros(self.num_gallery, bool)
        self.num_own = match.sum(axis=1)
        self.order = np.argsort(self.num_own, kind="stable")
        self._match = match

    def own_rows(self, queries):
        counts = self.num_own[queries]
        own = np.arange(max(1, counts.max())) < counts[:, None]
        rows = np.zeros(own.shape, np.int32)
        # Both sides run through the queries in order, and through a query's columns in order.
        rows[own] = np.nonzero(self._match[queries])[1]
        return rows, own

    def same_camera(self, queries, rows):
        return np.zeros(rows.shape, bool)


def _label_array(name, values):
    values = np.asarray(values)
    if values.ndim != 1 or not (np.issubdtype(values.dtype, np.integer) or values.size == 0):
        raise ValueError(
            f"{name} must be one integer per image, got shape {values.shape} and dtype "
            f"{values.dtype}"
        )
    return values.astype(np.int64)


def _real(values):
    """float32 or float64, whatever JAX's default; smaller floats and integers are widened."""
    values = np.asarray(values)
    return values.astype(np.result_type(values.dtype, np.float32), copy=False)


def _precision(dtype):
    return jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()


def _checked_features(query_features, gallery_features, labels, distance):
    """Both sides as arrays, and the dtype to compute in: float64 where given, else float32."""
    if distance not in DISTANCES:
        raise ValueError(f"unknown distance {distance!r}; known: {', '.join(DISTANCES)}")
    sides = []
    for name, features in (
        ("query_features", query_features),
        ("gallery_features", gallery_features),
    ):
        features = features if isinstance(features, jax.Array) else np.asarray(features)
        if features.ndim != 2:
            raise ValueError(f"{name} must be [rows, D], got shape {features.shape}")
        sides.append(features)
    query_features, gallery_features = sides
    if query_features.shape[1] != gallery_features.shape[1]:
        raise ValueError(
            f"query_features has {query_features.shape[1]} columns and gallery_features "
            f"{gallery_features.shape[1]}; both must come from the same model"
        )
    labels.check("the pair of feature arrays", (len(query_features), len(gallery_features)))
    dtype = (
        np.float64 if np.float64 in (query_features.dtype, gallery_features.dtype) else np.float32
    )
    return query_features, gallery_features, np.dtype(dtype)


def _feature_blocks(query_features, gallery_features, distance, dtype):
    """block(rows, removed) -> distances [R, G], nan where removed, and which rows have another nan.

    To be called under `_precision(dtype)`, as is this function.
    """
    gallery = jnp.asarray(gallery_features, dtype)

    def block(rows, removed):
        return _distance_block(jnp.asarray(query_features[rows], dtype), gallery, removed, distance)

    return block


def _blocks(queries, num_gallery, queries_per_block):
    """Parts of `queries` of at most two sizes, so that at most two shapes are compiled."""
    if queries_per_block is None:
        queries_per_block = max(1, _BLOCK_ENTRIES // num_gallery)
    if queries_per_block < 1:
        raise ValueError(f"queries_per_block must be at least 1, got {queries_per_block}")
    return np.array_split(queries, -(-len(queries) // queries_per_block))


class _OwnPositions:
    """Positions [Q, M], junk left out, of the gallery images of each query's identity."""

    def __init__(self, labels):
        self._labels = labels
        self._counts = np.zeros((labels.num_query, max(1, int(labels.num_own.max()))), np.int64)

    def add_whole(self, rows, values, has_nan):
        """Counts the gallery for the queries `rows` [R], as `add_part` does."""
        own_rows, _ = self._labels.own_rows(rows)
        own_values = jnp.take_along_axis(values, own_rows, axis=1)
        self.add_part(rows, values, has_nan, own_values, own_rows, 0)

    def add_part(self, rows, values, has_nan, own_values, own_rows, first_row):
        """Counts a part of the gallery.

        Args:
            rows: [R] the queries.
            values: [R, C] distances to C gallery images, nan where one does not count.
            has_nan: [R] whether there is another nan.
            own_values: [R, M] distances to the images of each query's identity.
            own_rows: [R, M] gallery rows of these.
            first_row: gallery row of the first of the C images.
        """
        _refuse_nan(rows, has_nan)
        num_columns = own_rows.shape[1]
        # Multiples of 8 keep the compiled shapes few.
        width = min(_COUNT_MATCHES, num_columns + -num_columns % 8)
        padding = ((0, 0), (0, -num_columns % width))
        own_rows, own_values = np.pad(own_rows, padding), jnp.pad(own_values, padding)
        counts = [
            _count_before(values, own_values[:, part], own_rows[:, part], np.int32(first_row))
            for part in (slice(i, i + width) for i in range(0, num_columns, width))
        ]
        counts = np.concatenate([np.asarray(c) for c in counts], axis=1)
        self._counts[rows, :num_columns] += counts[:, :num_columns]

    def positions_and_rows(self):
        """The positions counted so far, -1 for padding, and the gallery rows, [Q, M] each."""
        rows, own = self._labels.own_rows(np.arange(self._labels.num_query))
        return np.where(own, self._counts, -1), rows


def _matrix_positions(labels, distances):
    distances = _real(distances)
    counted = _OwnPositions(labels)
    with _precision(distances.dtype):
        removed = jnp.asarray(labels.removed)
        for rows in _blocks(labels.order, labels.num_gallery, None):
            counted.add_whole(rows, *_mask(jnp.asarray(distances[rows]), removed))
    return counted.positions_and_rows()


def _feature_positions(
    labels, query_features, gallery_features, distance, dtype, queries_per_block=None
):
    if queries_per_block is None and labels.num_gallery * _FEWEST_QUERIES > _BLOCK_ENTRIES:
        (positions,) = _positions_by_parts(
            labels, query_features, gallery_features, (), (0,), distance, dtype
        )
        return positions
    counted = _OwnPositions(labels)
    with _precision(dtype):
        block = _feature_blocks(query_features, gallery_features, distance, dtype)
        removed = jnp.asarray(labels.removed)
        for rows in _blocks(labels.order, labels.num_gallery, queries_per_block):
            counted.add_whole(rows, *block(rows, removed))
    return counted.positions_and_rows()


def _positions_by_parts(
    labels, query_features, gallery_features, distractor_batches, numbers, distance, dtype
):
    """Own positions with each of the increasing `numbers` of distractors, the first of them 0.

    The gallery, its distractors, and before them the images whose positions are counted, pass
    through blocks of one shape: a product of matrices may round otherwise in another shape.
    """
    counted = _OwnPositions(labels)
    blocks = _blocks(labels.order, 1, _PART_QUERIES)
    most = max(labels.num_gallery, *np.diff(numbers)) if len(numbers) > 1 else labels.num_gallery
    # Neither a block of distances nor the features of a part take more than a block may.
    size = _PART_ENTRIES // max(len(blocks[0]), gallery_features.shape[1])
    size = max(1, min(size, int(most)))
    found = []
    with _precision(dtype):
        queries = [jnp.asarray(query_features[rows], dtype) for rows in blocks]

        def block(number, part, removed):
            part = jnp.asarray(part, dtype)
            if missing := size - len(part):
                part = jnp.pad(part, ((0, missing), (0, 0)))
                removed = np.pad(removed, (0, missing), constant_values=True)
            return _distance_block(queries[number], part, removed, distance)

        def own_values(number, own_rows):
            wanted, column = np.unique(own_rows, return_inverse=True)
            column = column.reshape(own_rows.shape)
            values = np.empty(own_rows.shape, dtype)
            for start in range(0, len(wanted), size):
                rows = wanted[start : start + size]
                part, _ = block(number, gallery_features[rows], labels.removed[rows])
                inside = (column >= start) & (column < start + size)
                within = np.where(inside, column - start, 0)
                picked = np.asarray(jnp.take_along_axis(part, within, axis=1))
                values = np.where(inside, picked, values)
            return jnp.asarray(values)

        own_rows = [labels.own_rows(rows)[0] for rows in blocks]
        own = [(own_values(number, rows), rows) for number, rows in enumerate(own_rows)]

        def add(part, removed, first_row):
            for number, rows in enumerate(blocks):
                values, has_nan = block(number, part, removed)
                counted.add_part(rows, values, has_nan, *own[number], first_row)

        for start in range(0, labels.num_gallery, size):
            rows = slice(start, start + size)
            add(gallery_features[rows], labels.removed[rows], start)
        found.append(counted.positions_and_rows())
        num_columns = gallery_features.shape[1]
        num_done = 0
        for part in _regrouped(distractor_batches, numbers[1:], size, num_columns):
            add(part, np.zeros(len(part), bool), labels.num_gallery + num_done)
            num_done += len(part)
            if num_done in numbers:
                found.append(counted.positions_and_rows())
    return found


def _regrouped(
    batches: Iterable[np.ndarray], numbers: Sequence[int], size: int, num_columns: int
) -> Iterator[np.ndarray]:
    """The first numbers[-1] rows of `batches`, in parts of up to `size` that end at each number."""
    ends = iter(numbers)
    end = next(ends, None)
    held, num_done = [], 0
    for batch in batches if end is not None else ():
        batch = np.asarray(batch)
        if batch.ndim != 2 or batch.shape[1] != num_columns:
            raise ValueError(
                f"distractor batches must be [b, {num_columns}] as the gallery's features, got "
                f"shape {batch.shape}"
            )
        while len(batch):
            num_held = sum(map(len, held))
            room = min(size, end - num_done) - num_held
            held.append(batch[:room])
            if len(batch) < room:
                break
            batch = batch[room:]
            yield held[0] if len(held) == 1 else np.concatenate(held)
            num_done += num_held + room
            held = []
            if num_done == end:
                end = next(ends, None)
                if end is None:
                    return
    if end is not None:
        raise ValueError(
            f"the distractor batches ended after {num_done + sum(map(len, held))} of the "
            f"{numbers[-1]} distractors asked for; prepare all of them, or ask for fewer"
        )


def _result(labels, own_positions, num_distractors=0):
    positions, gallery_rows = own_positions
    own = positions >= 0
    match = own & ~labels.same_camera(np.arange(labels.num_query), gallery_rows)
    return _metrics(positions, match, labels.num_gallery + num_distractors)


def _metrics(positions, match, num_gallery):
    """RankingResult of positions [Q, M], -1 padding; those that do not `match` are removed."""
    own = positions >= 0
    # By position, padding last.
    order = np.argsort(np.where(own, positions, num_gallery), axis=1, kind="stable")
    positions, own, match = (np.take_along_axis(x, order, axis=1) for x in (positions, own, match))
    removed_before = np.cumsum(own & ~match, axis=1)
    ranks = np.where(match, positions - removed_before, 0)
    number = np.cumsum(match, axis=1)
    num_matches = match.sum(axis=1)
    valid = num_matches > 0

    def mean_over_matches(values):
        total = np.where(match, values, 0.0).sum(axis=1)
        return np.where(valid, total / np.maximum(num_matches, 1), np.nan)

    precision = number / (ranks + 1.0)
    previous = np.where(ranks > 0, (number - 1) / np.maximum(ranks, 1), 1.0)
    step = mean_over_matches(precision)
    trapezoid = mean_over_matches((precision + previous) / 2)
    first = np.where(match, ranks, num_gallery).min(axis=1)
    last = np.where(match, ranks, -1).max(axis=1)
    penalty = np.where(valid, num_matches / np.maximum(last + 1.0, 1.0), np.nan)

    num_valid = int(valid.sum())
    query_weight = np.broadcast_to(1 / np.maximum(num_matches, 1)[:, None], match.shape)
    wrong_before = (ranks - (number - 1))[match]
    return RankingResult(
        cmc=_cumulative(np.bincount(first[valid], minlength=num_gallery)),
        cmc_all_shots=_cumulative(
            np.bincount(wrong_before, weights=query_weight[match], minlength=num_gallery),
            num_valid,
        ),
        map_step=_mean(step[valid]),
        map_trapezoid=_mean(trapezoid[valid]),
        minp=_mean(penalty[valid]),
        num_valid_queries=num_valid,
        average_precision_step=step,
        average_precision_trapezoid=trapezoid,
        first_match_rank=np.where(valid, first, -1),
        inverse_negative_penalty=penalty,
        num_matches=num_matches,
    )


def _cumulative(counts, total=None):
    total = counts.sum() if total is None else total
    return np.cumsum(counts) / total if total else np.full(len(counts), np.nan)


def _mean(values):
    return float(values.mean()) if len(values) else float("nan")


def _first_of_each(codes, order, rows, num_codes):
    """The gallery row that comes first in `order` for each code; -1 where a code does not come."""
    chosen = np.full(num_codes, -1, np.int64)
    reverse = order[::-1]
    chosen[codes[reverse]] = rows[reverse]
    return chosen


def _refuse_nan(rows, has_nan):
    has_nan = np.asarray(has_nan)
    if has_nan.any():
        raise ValueError(
            f"{int(has_nan.sum())} of {len(rows)} queries in a block have nan distances, the first "
            f"is query row {int(rows[np.argmax(has_nan)])}; the features must be finite and the "
            "distances not nan: look for a diverged model or a broken image"
        )


@partial(jax.jit, static_argnames="distance")
def _distance_block(query_features, gallery_features, removed, distance):
    return _mask(DISTANCES[distance](query_features, gallery_features), removed)


def _mask(values, removed):
    # nan compares false with everything, so a removed image comes before no match, infinite
    # distances included.
    return jnp.where(removed, jnp.nan, values), jnp.any(jnp.isnan(values) & ~removed, axis=1)


@jax.jit
def _count_before(values, own_values, own_rows, first_row):
    """How many of a row of `values` [R, C] come before each of `own_values` [R, M]: [R, M].

    The columns of `values` are the gallery rows from `first_row` on; `own_rows` [R, M] are those of
    `own_values`.
    """

    def count(row):
        values, own_keys, own_rows = row

        def before(lanes, columns):
            # Smaller, or equal at a lower row.
            lower = first_row + columns < own_rows[:, None]
            return lanes < own_keys[:, None] + lower

        return _count_in_lanes(_ordered_keys(values), before, len(own_rows))

    rows = values, _ordered_keys(own_values), own_rows
    return lax.map(count, rows, batch_size=_COUNT_ROWS)


@jax.jit
def _count_below(values, thresholds):
    """How many entries of a row of `values` [R, G] are below each of `thresholds` [E]: [R, E]."""

    def count(values):
        return _count_in_lanes(
            values, lambda lanes, _: lanes < thresholds[:, None], len(thresholds)
        )

    return lax.map(count, values, batch_size=8)


def _ordered_keys(values):
    """Integers in the order of the floats, equal where these are equal; the largest for nan."""
    integer = np.dtype(f"int{8 * values.dtype.itemsize}")
    # -0 and 0 are equal but differ in their bits.
    bits = lax.bitcast_convert_type(jnp.where(values == 0, 0, values), integer)
    largest = np.iinfo(integer).max
    return jnp.where(jnp.isnan(values), largest, jnp.where(bits < 0, bits ^ largest, bits))


def _count_in_lanes(values, predicate, num_counts):
    """Sum of predicate(values [1, L], their indices [L]) -> [num_counts, L] over `values` [G].

    The predicate must be false for nan, or for the largest integer.
    """
    step = _COUNT_LANES * _COUNT_UNROLL
    padding = jnp.nan if jnp.issubdtype(values.dtype, jnp.floating) else jnp.iinfo(values.dtype).max
    values = jnp.pad(values, (0, -len(values) % step), constant_values=padding)

    def add(index, counts):
        start = index * np.int32(step)
        for offset in np.arange(0, step, _COUNT_LANES, dtype=np.int32):
            lanes = lax.dynamic_slice_in_dim(values, start + offset, _COUNT_LANES)
            indices = start + offset + jnp.arange(_COUNT_LANES, dtype=jnp.int32)
            counts = counts + predicate(lanes[None, :], indices).astype(jnp.int32)
        return counts

    zeros = jnp.zeros((num_counts, _COUNT_LANES), jnp.int32)
    counts = lax.fori_loop(np.int32(0), np.int32(len(values) // step), add, zeros)
    return counts.sum(axis=1, dtype=jnp.int32)


@partial(jax.jit, static_argnames="k")
def _nearest(values, hidden_rows, k):
    """Gallery rows and values of the k nearest; nan values and `hidden_rows` come as infinite."""
    query_row = jnp.arange(len(values))[:, None]
    values = (
        jnp.where(jnp.isnan(values), jnp.inf, values)
        .at[query_row, hidden_rows]
        .set(jnp.inf, mode="drop")
    )
    negative, rows = lax.top_k(-values, k)
    return rows, -negative
