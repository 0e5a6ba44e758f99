"""Protocols on one list of images seen by two cameras: random galleries, and the whole other view.

The draws say which rows are compared. The protocols ask for distances between rows of the list, so
that they serve features and models that score a pair of images alike.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from reid_jax.distances import DISTANCES
from reid_jax.evaluation.gallery import as_real, precision
from reid_jax.evaluation.metrics import RankingResult
from reid_jax.evaluation.protocols import RANKS, Comparison, Images, NamedRanking, fingerprint
from reid_jax.evaluation.ranking import rank_columns
from reid_jax.schema import JUNK

__all__ = [
    "DistanceOf",
    "draw_one_direction",
    "draw_per_query",
    "feature_distances",
    "multi_shot",
    "single_shot_one_direction",
    "single_shot_per_query",
]

DistanceOf = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""`distance_of(query_rows [Q], gallery_rows [G]) -> [Q, G]`, smaller is more alike.

A protocol calls it once for each direction between the cameras, with all rows that any repeat
needs, increasing and without repetition. With all distances at hand it is
`lambda query_rows, gallery_rows: distances[np.ix_(query_rows, gallery_rows)]`.
"""


def feature_distances(features: np.ndarray, *, distance: str = "squared_euclidean") -> DistanceOf:
    """Distances between rows of one array of features.

    Args:
        features: [N, D] finite, in the order of the images. Not normalised here.
        distance: a name in `reid_jax.distances.DISTANCES`.

    Returns:
        DistanceOf.

    Raises:
        ValueError: if the features are not [N, D], or on an unknown distance.
    """
    if np.ndim(features) != 2:
        raise ValueError(f"features must be [N, D], got shape {np.shape(features)}")
    if distance not in DISTANCES:
        raise ValueError(f"unknown distance {distance!r}; known: {', '.join(DISTANCES)}")
    features = as_real(features)
    matrix = jax.jit(DISTANCES[distance])

    def distance_of(query_rows: np.ndarray, gallery_rows: np.ndarray) -> np.ndarray:
        with precision(features.dtype):
            return np.asarray(matrix(features[query_rows], features[gallery_rows]))

    return distance_of


def draw_one_direction(
    identities: np.ndarray,
    cameras: np.ndarray,
    *,
    query_camera: int,
    gallery_camera: int,
    seed: int,
    repeat: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """One random image of each identity in each of two cameras: `single-shot-one-direction`.

    Args:
        identities: [N] int; -1 is left out.
        cameras: [N] int.
        query_camera: camera of the queries.
        gallery_camera: camera of the gallery.
        seed: of the draws.
        repeat: number of the draw.

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
    order = _random_order(len(identities), seed, 0, repeat)
    query_rows, gallery_rows = (
        np.array([rows[k][np.argmin(order[rows[k]])] for k in shared]) for rows in sides
    )
    return query_rows, gallery_rows


def draw_per_query(
    identities: np.ndarray, cameras: np.ndarray, *, seed: int, repeat: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Every image a query with a random gallery of its own: `single-shot-per-query`.

    The gallery of a query is one random image of each identity from the other camera.

    Args:
        identities: [N] int; -1 is left out.
        cameras: [N] int, exactly two different ones.
        seed: of the draws.
        repeat: number of the draw.

    Returns:
        (query_rows [Q], gallery_rows [Q, K]): column j is the identity number j of those that both
        cameras have, in increasing order; queries are all images of these identities, in order.

    Raises:
        ValueError: if there are not exactly two cameras, or they share no identity.
    """
    identities, cameras = np.asarray(identities), np.asarray(cameras)
    known = _two_cameras(cameras)
    sides = [_rows_by_identity(identities, cameras == c) for c in known]
    shared = sorted(sides[0].keys() & sides[1].keys())
    if not shared:
        raise ValueError(f"cameras {known.tolist()} share no identity")
    query_rows = np.flatnonzero(np.isin(identities, shared))
    gallery_rows = np.empty((len(query_rows), len(shared)), np.int64)
    for q, row in enumerate(query_rows):
        other = sides[1 if cameras[row] == known[0] else 0]
        order = _random_order(len(identities), seed, int(row) + 1, repeat)
        gallery_rows[q] = [other[k][np.argmin(order[other[k]])] for k in shared]
    return query_rows, gallery_rows


def single_shot_one_direction(
    distance_of: DistanceOf,
    images: Images,
    *,
    query_camera: int = 1,
    gallery_camera: int = 2,
    num_repeats: int,
    seed: int,
) -> NamedRanking:
    """One image of each person in each camera, drawn anew for each repeat.

    The protocol `single-shot-one-direction` of CUHK03, CUHK01 and VIPeR: K queries of one camera
    against K images of the other.

    Args:
        distance_of: see `DistanceOf`; called once.
        images: all images of the test identities.
        query_camera: camera of the queries.
        gallery_camera: camera of the gallery.
        num_repeats: number of draws.
        seed: of the draws.

    Returns:
        NamedRanking, of `num_repeats` x K queries.

    Raises:
        ValueError: as `draw_one_direction`; without cameras; if `num_repeats` is below 1; or
            if `distance_of` gives another shape or nan.
    """
    name = "single-shot-one-direction"
    identities, cameras = _labels(images, name)
    draws = [
        draw_one_direction(
            identities,
            cameras,
            query_camera=query_camera,
            gallery_camera=gallery_camera,
            seed=seed,
            repeat=repeat,
        )
        for repeat in _repeats(num_repeats)
    ]
    draws = [
        (query_rows, np.broadcast_to(gallery_rows, (len(query_rows), len(gallery_rows))))
        for query_rows, gallery_rows in draws
    ]
    draw = f"{name} {query_camera} {gallery_camera}, {num_repeats} repeats of seed {seed}"
    return _ranked(name, draw, distance_of, images, draws)


def single_shot_per_query(
    distance_of: DistanceOf, images: Images, *, num_repeats: int, seed: int
) -> NamedRanking:
    """Every image a query, with one random image of each person from the other camera as gallery.

    The protocol `single-shot-per-query` of CUHK03 (Zheng, Zheng and Yang's code): the galleries are
    drawn for each query and repeat on their own.

    Args:
        distance_of: see `DistanceOf`; called once for each camera of the queries.
        images: all images of the test identities, from two cameras.
        num_repeats: number of galleries of each query.
        seed: of the draws.

    Returns:
        NamedRanking, of `num_repeats` x Q queries.

    Raises:
        ValueError: as `draw_per_query`; without cameras; if `num_repeats` is below 1; or if
            `distance_of` gives another shape or nan.
    """
    name = "single-shot-per-query"
    identities, cameras = _labels(images, name)
    draws = [
        draw_per_query(identities, cameras, seed=seed, repeat=repeat)
        for repeat in _repeats(num_repeats)
    ]
    draw = f"{name}, {num_repeats} repeats of seed {seed}"
    return _ranked(name, draw, distance_of, images, draws)


def multi_shot(distance_of: DistanceOf, images: Images) -> NamedRanking:
    """Every image a query, all images of the other camera its gallery: protocol `multi-shot`.

    Nothing is drawn. A person whom one camera alone has stays in the gallery as a wrong answer; the
    person's own images are queries without a match, which `num_valid_queries` leaves out.

    Args:
        distance_of: see `DistanceOf`; called once for each camera of the queries.
        images: all images of the test identities, from two cameras; identity -1 is left out.

    Returns:
        NamedRanking, of one query for each image.

    Raises:
        ValueError: without cameras, if there are not exactly two, if they share no identity, or if
            `distance_of` gives another shape or nan.
    """
    name = "multi-shot"
    identities, cameras = _labels(images, name)
    known = _two_cameras(cameras)
    views = [np.flatnonzero((cameras == camera) & (identities != JUNK)) for camera in known]
    if not len(np.intersect1d(identities[views[0]], identities[views[1]])):
        raise ValueError(f"cameras {known.tolist()} share no identity")
    query_rows = np.sort(np.concatenate(views))
    gallery_rows = np.full((len(query_rows), max(map(len, views))), -1)
    for camera, view in zip(known, views[::-1], strict=True):
        gallery_rows[cameras[query_rows] == camera, : len(view)] = view
    return _ranked(name, name, distance_of, images, [(query_rows, gallery_rows)])


def _ranked(
    name: str,
    draw: str,
    distance_of: DistanceOf,
    images: Images,
    draws: Sequence[tuple[np.ndarray, np.ndarray]],
) -> NamedRanking:
    """NamedRanking of [(query_rows [Q], gallery_rows [Q, K]), ...], one for each repeat.

    `draw` says how the rows were drawn.
    """
    identities, cameras = _labels(images, name)
    query_rows = np.concatenate([rows for rows, _ in draws])
    gallery_rows = np.concatenate([rows for _, rows in draws])
    distances = _distances(distance_of, cameras, query_rows, gallery_rows)
    match = (gallery_rows >= 0) & (identities[gallery_rows] == identities[query_rows][:, None])
    result = rank_columns(distances, match)
    first = slice(0, len(draws[0][0]))
    seen = np.isin(cameras, cameras[np.append(query_rows, gallery_rows[gallery_rows >= 0])])
    matched = identities[gallery_rows[match]]
    return NamedRanking(
        name,
        fingerprint([f"{draw}:{file}" for file in images.files], identities, cameras),
        result,
        num_repeats=len(draws),
        metrics_std=_metrics_std(result, len(draws)),
        num_left_out=len(np.setdiff1d(identities[seen & (identities != JUNK)], matched)),
        comparison=Comparison(
            query_rows[first], gallery_rows[first], distances[first], match[first]
        ),
    )


def _distances(
    distance_of: DistanceOf, cameras: np.ndarray, query_rows: np.ndarray, gallery_rows: np.ndarray
) -> np.ndarray:
    """[Q, K], infinite where the gallery row is -1; one call for each camera of the queries."""
    distances: Any = None
    for camera in np.unique(cameras[query_rows]):
        own = cameras[query_rows] == camera
        wanted = gallery_rows[own]
        queries, galleries = np.unique(query_rows[own]), np.unique(wanted[wanted >= 0])
        matrix = np.asarray(distance_of(queries, galleries))
        if matrix.shape != (len(queries), len(galleries)):
            raise ValueError(
                f"distance_of must give one distance for each of {len(queries)} query and "
                f"{len(galleries)} gallery rows, got shape {matrix.shape}"
            )
        matrix = as_real(matrix)
        if distances is None:
            distances = np.full(gallery_rows.shape, np.inf, matrix.dtype)
        # -1 finds column 0, and is set to infinity again.
        columns = np.searchsorted(galleries, wanted)
        found = matrix[np.searchsorted(queries, query_rows[own])[:, None], columns]
        distances[own] = np.where(wanted >= 0, found, np.inf)
    return distances


def _metrics_std(result: RankingResult, num_repeats: int) -> dict[str, float] | None:
    if num_repeats < 2:
        return None
    first = result.first_match_rank
    values = {f"rank{r}": first < r for r in RANKS} | {
        "map_step": result.average_precision_step,
        "map_trapezoid": result.average_precision_trapezoid,
        "minp": result.inverse_negative_penalty,
    }
    # Every drawn query has one match, so the mean of a repeat is that of its rows.
    return {
        name: float(x.reshape(num_repeats, -1).mean(axis=1).std(ddof=1))
        for name, x in values.items()
    }


def _labels(images: Images, name: str) -> tuple[np.ndarray, np.ndarray]:
    if images.cameras is None:
        raise ValueError(f"{name} compares two cameras; this data set has no cameras")
    if (np.asarray(images.cameras) < 0).any():
        raise ValueError(f"{name} compares two cameras; there are images without a camera")
    return np.asarray(images.identities), np.asarray(images.cameras)


def _repeats(num_repeats: int) -> range:
    if num_repeats < 1:
        raise ValueError(f"num_repeats must be at least 1, got {num_repeats}")
    return range(num_repeats)


def _two_cameras(cameras: np.ndarray) -> np.ndarray:
    known = np.unique(cameras)
    if len(known) != 2:
        raise ValueError(f"this protocol needs two cameras, got {known.tolist()}")
    return known


def _rows_by_identity(identities: np.ndarray, kept: np.ndarray) -> dict[int, np.ndarray]:
    return {
        int(k): np.flatnonzero(kept & (identities == k))
        for k in np.unique(identities[kept])
        if k != JUNK
    }


def _random_order(num_rows: int, seed: int, stream: int, repeat: int) -> np.ndarray:
    # Raw bits, because Generator's methods may change their output between NumPy versions.
    return np.random.Philox(key=[seed, stream], counter=repeat << 64).random_raw(num_rows)
