"""Named evaluation protocols: which images are compared, and under which fingerprint."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from reid_jax.evaluation.ranking import RankingResult, rank_features

__all__ = [
    "Evaluation",
    "Images",
    "fingerprint",
    "metrics",
    "multi_query",
    "pool_queries",
    "single_query",
    "single_shot_one_direction",
    "single_shot_per_query",
]


class Images(Protocol):
    """What a protocol needs to know of a list of images; `reid_jax.data.Source` has it.

    Attributes:
        files: [N] str, paths relative to the data set's root.
        identities: [N] int; -1 junk.
        cameras: [N] int, or None where the data set has none.
    """

    files: Sequence[str]
    identities: np.ndarray
    cameras: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A ranking with what it needs to be compared with another.

    Attributes:
        protocol: name of the protocol; ends in `-no-cameras` where the camera rule is off.
        fingerprint: of the query and gallery lists, in this order.
        result: RankingResult.
    """

    protocol: str
    fingerprint: str
    result: RankingResult


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
    ranks = {f"rank{r}": float(result.cmc[min(r, len(result.cmc)) - 1]) for r in (1, 5, 10, 20)}
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
) -> Evaluation:
    """The Market-1501 protocol, one image a query: protocol `single-query`.

    Args:
        query_features: [Q, D], in the order of `query`; normalised by the caller if they are to be.
        gallery_features: [G, D], in the order of `gallery`.
        query: the query images.
        gallery: the gallery images, distractors (identity 0) and junk (-1) included.
        distance: a name in `ranking.DISTANCES`.

    Returns:
        Evaluation.

    Raises:
        ValueError: as `rank_features`; on a negative camera; or, naming the cause, if no query has
            a match.
    """
    return _evaluation("single-query", query_features, gallery_features, query, gallery, distance)


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
) -> Evaluation:
    """The Market-1501 protocol, all images of a person in a camera a query: `multi-query-POOLING`.

    Args:
        query_features: [Q, D].
        multi_query_features: [N, D], of the gt_bbox images.
        gallery_features: [G, D].
        query: the query images.
        multi: the gt_bbox images.
        gallery: the gallery images.
        pooling: 'average' or 'maximum', see `pool_queries`.
        distance: a name in `ranking.DISTANCES`.

    Returns:
        Evaluation; the fingerprint is that of query and gallery, and of `multi` after them.

    Raises:
        ValueError: as `single_query` and `pool_queries`.
    """
    if len(query_features) != len(query.identities):
        raise ValueError(
            f"{len(query_features)} query features for {len(query.identities)} query images"
        )
    pooled = pool_queries(multi_query_features, query, multi, pooling=pooling)
    name = f"multi-query-{pooling}"
    return _evaluation(name, pooled, gallery_features, query, gallery, distance, multi)


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
    rows_of = {}
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


def single_shot_one_direction(
    identities: np.ndarray,
    cameras: np.ndarray,
    *,
    query_camera: int,
    gallery_camera: int,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """One random image of each identity in each of two cameras: `single-shot-one-direction`.

    Args:
        identities: [N] int; -1 is left out.
        cameras: [N] int.
        query_camera: camera of the queries.
        gallery_camera: camera of the gallery.
        seed: of the draw.

    Returns:
        (query_rows [K], gallery_rows [K]) of the K identities that both cameras have, in the order
        of the identities.

    Raises:
        ValueError: if the cameras are the same or share no identity.
    """
    if query_camera == gallery_camera:
        raise ValueError(f"query and gallery camera must differ, got {query_camera} twice")
    identities, cameras = np.asarray(identities), np.asarray(cameras)
    sides = [_rows_by_identity(identities, cameras == c) for c in (query_camera, gallery_camera)]
    shared = sorted(sides[0].keys() & sides[1].keys())
    if not shared:
        raise ValueError(f"cameras {query_camera} and {gallery_camera} share no identity")
    order = _random_order(len(identities), seed, 0)
    query_rows, gallery_rows = (
        np.array([rows[k][np.argmin(order[rows[k]])] for k in shared]) for rows in sides
    )
    return query_rows, gallery_rows


def single_shot_per_query(
    identities: np.ndarray, cameras: np.ndarray, *, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Every image a query with a random gallery of its own: `single-shot-per-query`.

    The gallery of a query is one random image of each identity from the other camera.

    Args:
        identities: [N] int; -1 is left out.
        cameras: [N] int, exactly two different ones.
        seed: of the draws.

    Returns:
        (query_rows [Q], gallery_rows [Q, K]): column j is the identity number j of those that both
        cameras have, in increasing order; queries are all images of these identities, in order.

    Raises:
        ValueError: if there are not exactly two cameras, or they share no identity.
    """
    identities, cameras = np.asarray(identities), np.asarray(cameras)
    known = np.unique(cameras)
    if len(known) != 2:
        raise ValueError(f"single-shot-per-query needs two cameras, got {known.tolist()}")
    sides = [_rows_by_identity(identities, cameras == c) for c in known]
    shared = sorted(sides[0].keys() & sides[1].keys())
    if not shared:
        raise ValueError(f"cameras {known.tolist()} share no identity")
    query_rows = np.flatnonzero(np.isin(identities, shared))
    gallery_rows = np.empty((len(query_rows), len(shared)), np.int64)
    for q, row in enumerate(query_rows):
        other = sides[1 if cameras[row] == known[0] else 0]
        order = _random_order(len(identities), seed, int(row) + 1)
        gallery_rows[q] = [other[k][np.argmin(order[other[k]])] for k in shared]
    return query_rows, gallery_rows


def _evaluation(name, query_features, gallery_features, query, gallery, distance, multi=None):
    for side, images in (("query", query), ("gallery", gallery)):
        if images.cameras is not None and (np.asarray(images.cameras) < 0).any():
            raise ValueError(
                f"the {side} has images without a camera; give every image one, or none any"
            )
    result = rank_features(
        query_features,
        gallery_features,
        query.identities,
        query.cameras,
        gallery.identities,
        gallery.cameras,
        distance=distance,
    )
    if result.num_valid_queries == 0:
        raise ValueError(_no_match_reason(query, gallery))
    parts = [("query", query), ("gallery", gallery)]
    parts += [] if multi is None else [("multi_query", multi)]
    cameras = None
    if query.cameras is not None:
        cameras = np.concatenate([np.asarray(images.cameras) for _, images in parts])
    return Evaluation(
        name if cameras is not None else f"{name}-no-cameras",
        fingerprint(
            [f"{side}:{file}" for side, images in parts for file in images.files],
            np.concatenate([np.asarray(images.identities) for _, images in parts]),
            cameras,
        ),
        result,
    )


def _no_match_reason(query, gallery):
    shared = np.intersect1d(query.identities, gallery.identities)
    shared = shared[shared >= 0]
    if len(shared) == 0:
        return (
            f"no query has a match: none of the {len(np.unique(query.identities))} query "
            "identities is in the gallery; check that both lists come from the same split"
        )
    return (
        f"no query has a match: all gallery images of the {len(shared)} shared identities are from "
        "the query's own camera; prepare the data set without cameras to turn the camera rule off"
    )


def _rows_by_identity(identities, kept):
    return {
        int(k): np.flatnonzero(kept & (identities == k))
        for k in np.unique(identities[kept])
        if k != -1
    }


def _random_order(num_rows, seed, stream):
    # Raw bits, because Generator's methods may change their output between NumPy versions.
    return np.random.Philox(key=[seed, stream]).random_raw(num_rows)
