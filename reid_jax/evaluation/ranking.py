"""Ranks of the true matches, and every ranking metric from one pass over the distances.

No row of the gallery is ever sorted. The rank of a true match is the number of gallery images that
come before it, so for each query only the positions of the gallery images of its own identity are
counted, block of queries by block of queries; the removal of junk, of same-camera images and all
conventions of CMC and AP are then arithmetic on these few positions, in float64 on the host.
"""

import contextlib
import dataclasses
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
    "rank_features",
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
    distances = _real(distances)

    def block(rows, removed):
        return _mask(jnp.asarray(distances[rows]), removed)

    with _precision(distances.dtype):
        return _result(labels, _own_positions(labels, block, None))


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

    The same rules as `rank`. Distances are computed once, for a block of queries at a time, and a
    match's own value is read from the block that it is compared with, so ties are exact.

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
    with _precision(dtype):
        block = _feature_blocks(query_features, gallery_features, distance, dtype)
        return _result(labels, _own_positions(labels, block, queries_per_block))


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
        removed = jnp.asarray(labels.gallery_ids == JUNK)
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
        removed = jnp.asarray(labels.gallery_ids == JUNK)
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
        self._by_identity = np.argsort(self.gallery_ids, kind="stable")
        sorted_ids = self.gallery_ids[self._by_identity]
        self._start = np.searchsorted(sorted_ids, self.query_ids, side="left")
        end = np.searchsorted(sorted_ids, self.query_ids, side="right")
        self.num_own = np.where(self.query_ids == JUNK, 0, end - self._start)

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


def _own_positions(labels, block, queries_per_block):
    """Positions [Q, M], junk left out, of the gallery images of each query's identity, and their
    gallery rows [Q, M]; the position of padding is -1."""
    width = max(1, int(labels.num_own.max()))
    positions = np.full((labels.num_query, width), -1, np.int64)
    gallery_rows = np.zeros((labels.num_query, width), np.int64)
    removed = jnp.asarray(labels.gallery_ids == JUNK)
    # Queries with equally many images of their identity share a block, so little of the counting is
    # spent on padding.
    order = np.argsort(labels.num_own, kind="stable")
    for rows in _blocks(order, labels.num_gallery, queries_per_block):
        values, has_nan = block(rows, removed)
        _refuse_nan(rows, has_nan)
        own_rows, own = labels.own_rows(rows)
        num_columns = own_rows.shape[1]
        # Multiples of 8 keep the compiled shapes few.
        width = min(_COUNT_MATCHES, num_columns + -num_columns % 8)
        padded = np.pad(own_rows, ((0, 0), (0, -num_columns % width)))
        counts = [
            _count_before(values, padded[:, start : start + width])
            for start in range(0, num_columns, width)
        ]
        counts = np.concatenate([np.asarray(c) for c in counts], axis=1)[:, :num_columns]
        positions[rows, :num_columns] = np.where(own, counts, -1)
        gallery_rows[rows, :num_columns] = own_rows
    return positions, gallery_rows


def _result(labels, own_positions):
    positions, gallery_rows = own_positions
    own = positions >= 0
    match = own & ~labels.same_camera(np.arange(labels.num_query), gallery_rows)
    # By position, padding last.
    order = np.argsort(np.where(own, positions, labels.num_gallery), axis=1, kind="stable")
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
    first = np.where(match, ranks, labels.num_gallery).min(axis=1)
    last = np.where(match, ranks, -1).max(axis=1)
    penalty = np.where(valid, num_matches / np.maximum(last + 1.0, 1.0), np.nan)

    num_valid = int(valid.sum())
    query_weight = np.broadcast_to(1 / np.maximum(num_matches, 1)[:, None], match.shape)
    wrong_before = (ranks - (number - 1))[match]
    return RankingResult(
        cmc=_cumulative(np.bincount(first[valid], minlength=labels.num_gallery)),
        cmc_all_shots=_cumulative(
            np.bincount(wrong_before, weights=query_weight[match], minlength=labels.num_gallery),
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
def _count_before(values, own_rows):
    """How many entries of a row of `values` [R, G] come before each of `own_rows`: [R, M]."""

    def count(row):
        values, own_rows = row
        keys = _ordered_keys(values)
        own_keys = keys[own_rows][:, None]

        def before(lanes, gallery_rows):
            # Smaller, or equal at a lower row.
            return lanes < own_keys + (gallery_rows < own_rows[:, None])

        return _count_in_lanes(keys, before, len(own_rows))

    return lax.map(count, (values, own_rows), batch_size=_COUNT_ROWS)


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
