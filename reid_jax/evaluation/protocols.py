"""Named evaluation protocols: which images are compared, and under which fingerprint."""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from reid_jax.evaluation.metrics import RankingResult
from reid_jax.evaluation.ranking import rank, rank_features, rank_with_distractors
from reid_jax.schema import JUNK

__all__ = [
    "Comparison",
    "Images",
    "NamedRanking",
    "fingerprint",
    "metrics",
    "multi_query",
    "pool_queries",
    "single_query",
    "single_query_of_distances",
    "single_query_with_distractors",
]

RANKS = (1, 5, 10, 20)
"""Ranks of the CMC curve that `metrics` gives."""


class Images(Protocol):
    """What a protocol needs to know of a list of images; `reid_jax.data.Source` has it.

    Attributes:
        files: [N] str, paths relative to the data set's root.
        identities: [N] int; -1 junk.
        cameras: [N] int, or None where the data set has none.
    """

    @property
    def files(self) -> Sequence[str]: ...

    @property
    def identities(self) -> np.ndarray: ...

    @property
    def cameras(self) -> np.ndarray | None: ...


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What was compared where each query has a gallery of its own.

    Attributes:
        query_rows: [Q] int64, rows of the list of images, or of that of the queries.
        gallery_rows: [Q, K] int64, rows of the list, or of that of the gallery; -1 where nothing
            was compared: it pads a smaller gallery, or stands for an image that was removed.
        distances: [Q, K] in the unit of the distance; infinite where the row is -1.
        match: [Q, K] bool, True where the identity is the query's.
    """

    query_rows: np.ndarray
    gallery_rows: np.ndarray
    distances: np.ndarray
    match: np.ndarray


@dataclasses.dataclass(frozen=True)
class NamedRanking:
    """A ranking with what it needs to be compared with another.

    Attributes:
        protocol: name of the protocol; ends in `-no-cameras` where the camera rule is off.
        fingerprint: of the query and gallery lists, in this order; of the list and the seed where
            both are drawn from one list.
        result: RankingResult. With repeats its queries are those of all repeats, one repeat after
            another, so that its means are the means over the repeats.
        num_repeats: number of random draws.
        metrics_std: sample standard deviation over the repeats of each of `metrics`; None for fewer
            than two.
        num_left_out: identities without a match, because one of two cameras alone has them.
        comparison: what the first repeat compared, for ranked lists and histograms; None where
            features of query and gallery were ranked without all distances at hand.
    """

    protocol: str
    fingerprint: str
    result: RankingResult
    num_repeats: int = 1
    metrics_std: dict[str, float] | None = None
    num_left_out: int = 0
    comparison: Comparison | None = None


def fingerprint(files: Sequence[str], identities: np.ndarray, cameras: np.ndarray | None) -> str:
    """Hash of a list of images: equal exactly where files, identities, cameras and order are.

    The order counts because ties go to the lower gallery row.

    Args:
        files: [N] str, relative paths with '/' separators.
        identities: [N] int.
        cameras: [N] int or None.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.

    Raises:
        ValueError: if the lengths differ.
    """
    if len(files) != len(identities) or (cameras is not None and len(cameras) != len(files)):
        raise ValueError(
            f"one identity and camera per file, got {len(files)} files, {len(identities)} "
            f"identities and {'no' if cameras is None else len(cameras)} cameras"
        )
    digest = hashlib.sha256()
    for row, file in enumerate(files):
        camera = "none" if cameras is None else int(cameras[row])
        # A path cannot hold NUL, so no two lists give the same bytes.
        digest.update(f"{file}\0{int(identities[row])}\0{camera}\0".encode())
    return digest.hexdigest()[:16]


def metrics(result: RankingResult) -> dict[str, float]:
    """The metrics of `results.json`.

    Args:
        result: of `rank` or `rank_features`.

    Returns:
        `rank1`, `rank5`, `rank10`, `rank20`, `map_step`, `map_trapezoid`, `minp`, fractions. A rank
        beyond the gallery is the gallery's last.
    """
    ranks = {f"rank{r}": float(result.cmc[min(r, len(result.cmc)) - 1]) for r in RANKS}
    return {
        **ranks,
        "map_step": result.map_step,
        "map_trapezoid": result.map_trapezoid,
        "minp": result.minp,
    }


def single_query(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    query: Images,
    gallery: Images,
    *,
    distance: str = "squared_euclidean",
    protocol: str = "single-query",
    others: Sequence[tuple[str, Images]] = (),
) -> NamedRanking:
    """The Market-1501 protocol, one image a query: protocol `single-query`.

    Args:
        query_features: [Q, D], in the order of `query`; normalised by the caller if they are to be.
        gallery_features: [G, D], in the order of `gallery`.
        query: the query images.
        gallery: the gallery images, distractors (identity 0) and junk (-1) included.
        distance: a name in `reid_jax.distances.DISTANCES`.
        protocol: the name of the result.
        others: further images by name, which the features depend on; they are in the fingerprint.

    Returns:
        NamedRanking.

    Raises:
        ValueError: as `rank_features`; on a negative camera; or, naming the cause, if no query has
            a match.
    """
    return _ranked(protocol, query_features, gallery_features, query, gallery, distance, others)


def single_query_of_distances(
    distances: np.ndarray,
    query: Images,
    gallery: Images,
    *,
    protocol: str = "single-query",
    others: Sequence[tuple[str, Images]] = (),
) -> NamedRanking:
    """`single-query` where all distances are at hand, as of a model that scores pairs.

    Args:
        distances: [Q, G] real, in the order of `query` and `gallery`; may be negative.
        query: the query images.
        gallery: the gallery images.
        protocol: the name of the result.
        others: as of `single_query`.

    Returns:
        NamedRanking, as of `single_query`; its `comparison` has rows of `query` and of `gallery`,
        and -1 for what was removed from a query's ranking.

    Raises:
        ValueError: as `rank`; on a negative camera; or, naming the cause, if no query has a match.
    """
    _refuse_missing_cameras(query, gallery)
    lists = (query.identities, query.cameras, gallery.identities, gallery.cameras)
    parts = [("query", query), ("gallery", gallery), *others]
    ranking = _named(protocol, rank(distances, *lists), parts)
    match = np.asarray(query.identities)[:, None] == gallery.identities
    removed = np.broadcast_to(np.asarray(gallery.identities) == JUNK, match.shape)
    if query.cameras is not None:
        removed = removed | (match & (np.asarray(query.cameras)[:, None] == gallery.cameras))
    comparison = Comparison(
        np.arange(len(match)),
        np.where(removed, -1, np.arange(match.shape[1])),
        np.where(removed, np.inf, distances),
        match & ~removed,
    )
    return dataclasses.replace(ranking, comparison=comparison)


def multi_query(
    query_features: np.ndarray,
    multi_query_features: np.ndarray,
    gallery_features: np.ndarray,
    query: Images,
    multi: Images,
    gallery: Images,
    *,
    pooling: str,
    distance: str = "squared_euclidean",
) -> NamedRanking:
    """The Market-1501 protocol, all images of a person in a camera a query: `multi-query-POOLING`.

    Args:
        query_features: [Q, D].
        multi_query_features: [N, D], of the gt_bbox images.
        gallery_features: [G, D].
        query: the query images.
        multi: the gt_bbox images.
        gallery: the gallery images.
        pooling: 'average' or 'maximum', see `pool_queries`.
        distance: a name in `reid_jax.distances.DISTANCES`.

    Returns:
        NamedRanking; the fingerprint is that of query and gallery, and of `multi` after them.

    Raises:
        ValueError: as `single_query` and `pool_queries`.
    """
    if len(query_features) != len(query.identities):
        raise ValueError(
            f"{len(query_features)} query features for {len(query.identities)} query images"
        )
    pooled = pool_queries(multi_query_features, query, multi, pooling=pooling)
    name = f"multi-query-{pooling}"
    others = [("multi_query", multi)]
    return _ranked(name, pooled, gallery_features, query, gallery, distance, others)


def single_query_with_distractors(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    distractor_batches: Iterable[np.ndarray],
    query: Images,
    gallery: Images,
    distractors: Images,
    *,
    at: Sequence[int],
    distance: str = "squared_euclidean",
) -> dict[int, NamedRanking]:
    """`single-query` as distractors are appended to the gallery: `single-query+N-distractors`.

    Args:
        query_features: [Q, D], in the order of `query`.
        gallery_features: [G, D], in the order of `gallery`.
        distractor_batches: [b, D] each, in the order of `distractors`; read once, batch by batch.
        query: the query images.
        gallery: the gallery images.
        distractors: the images that match no query, whatever their identity; their cameras play no
            part.
        at: numbers of distractors.
        distance: a name in `reid_jax.distances.DISTANCES`.

    Returns:
        NamedRanking for 0, which is that of `single_query`, and each number of `at`, in increasing
        order.

    Raises:
        ValueError: as `single_query` and `rank_with_distractors`, or if there are fewer distractors
            than the largest number.
    """
    _refuse_missing_cameras(query, gallery)
    if max(at, default=0) > len(distractors.files):
        raise ValueError(
            f"{max(at)} distractors were asked for, and the data set has {len(distractors.files)}"
        )
    results = rank_with_distractors(
        query_features,
        gallery_features,
        query.identities,
        query.cameras,
        gallery.identities,
        gallery.cameras,
        distractor_batches,
        at=at,
        distance=distance,
    )
    rankings = {}
    for number, result in results.items():
        parts = [("query", query), ("gallery", gallery)]
        name = "single-query"
        if number:
            parts.append(("distractors", _First(distractors, number, query.cameras is not None)))
            name = f"single-query+{number}-distractors"
        rankings[number] = _named(name, result, parts)
    return rankings


class _First:
    """The first images of a list, as a fingerprint takes them."""

    def __init__(self, images: Images, number: int, with_cameras: bool) -> None:
        self.files = images.files[:number]
        self.identities = np.zeros(number, np.int64)
        self.cameras = np.zeros(number, np.int64) if with_cameras else None


def pool_queries(
    multi_query_features: np.ndarray, query: Images, multi: Images, *, pooling: str
) -> np.ndarray:
    """Per query, the pooled feature of the images of its identity and camera, normalised.

    Args:
        multi_query_features: [N, D], normalised by the caller if they are to be.
        query: the query images.
        multi: the images of `multi_query_features`.
        pooling: 'average' or 'maximum' (of each feature).

    Returns:
        [Q, D] unit rows, in the features' dtype.

    Raises:
        ValueError: on another pooling, without cameras, or where a query has no such image.
    """
    if pooling not in ("average", "maximum"):
        raise ValueError(f"unknown pooling {pooling!r}; known: average, maximum")
    if query.cameras is None or multi.cameras is None:
        raise ValueError("multi-query pools by identity and camera; this data set has no cameras")
    if len(multi_query_features) != len(multi.identities):
        raise ValueError(
            f"{len(multi_query_features)} multi-query features for {len(multi.identities)} images"
        )
    features = np.asarray(multi_query_features)
    rows_of: dict[tuple[int, int], list[int]] = {}
    for row, key in enumerate(zip(multi.identities, multi.cameras, strict=True)):
        rows_of.setdefault(key, []).append(row)
    keys = list(zip(query.identities, query.cameras, strict=True))
    missing = [file for file, key in zip(query.files, keys, strict=True) if key not in rows_of]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(keys)} queries have no multi-query image of their identity "
            f"and camera, the first is {missing[0]}; prepare the whole gt_bbox folder"
        )
    pool = np.mean if pooling == "average" else np.max
    pooled = np.stack([pool(features[rows_of[key]], axis=0) for key in keys])
    norms = np.linalg.norm(pooled, axis=1, keepdims=True)
    return pooled / np.where(norms > 0, norms, 1)


def _ranked(
    name: str,
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    query: Images,
    gallery: Images,
    distance: str,
    others: Sequence[tuple[str, Images]],
) -> NamedRanking:
    _refuse_missing_cameras(query, gallery)
    result = rank_features(
        query_features,
        gallery_features,
        query.identities,
        query.cameras,
        gallery.identities,
        gallery.cameras,
        distance=distance,
    )
    return _named(name, result, [("query", query), ("gallery", gallery), *others])


def _refuse_missing_cameras(query: Images, gallery: Images) -> None:
    for side, images in (("query", query), ("gallery", gallery)):
        if images.cameras is not None and (np.asarray(images.cameras) < 0).any():
            raise ValueError(
                f"the {side} has images without a camera; give every image one, or none any"
            )


def _named(name: str, result: RankingResult, parts: Sequence[tuple[str, Images]]) -> NamedRanking:
    """NamedRanking of a result; `parts` are (side, images), query and gallery first."""
    (_, query), (_, gallery), *_ = parts
    if result.num_valid_queries == 0:
        raise ValueError(_no_match_reason(query, gallery))
    cameras = None
    if query.cameras is not None:
        cameras = np.concatenate([np.asarray(images.cameras) for _, images in parts])
    return NamedRanking(
        name if cameras is not None else f"{name}-no-cameras",
        fingerprint(
            [f"{side}:{file}" for side, images in parts for file in images.files],
            np.concatenate([np.asarray(images.identities) for _, images in parts]),
            cameras,
        ),
        result,
    )


def _no_match_reason(query: Images, gallery: Images) -> str:
    shared = np.intersect1d(query.identities, gallery.identities)
    shared = shared[shared != JUNK]
    if len(shared) == 0:
        return (
            f"no query has a match: none of the {len(np.unique(query.identities))} query "
            "identities is in the gallery; check that both lists come from the same split"
        )
    return (
        f"no query has a match: all gallery images of the {len(shared)} shared identities are from "
        "the query's own camera; prepare the data set without cameras to turn the camera rule off"
    )
