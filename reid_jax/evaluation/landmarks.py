"""Landmark retrieval: a box of one image searches a collection, the protocol of Oxford5k."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from reid_jax.distances import DISTANCES
from reid_jax.evaluation.counting import positions_by_sorting
from reid_jax.evaluation.gallery import as_real, precision
from reid_jax.evaluation.metrics import RankingResult, metrics_of_positions
from reid_jax.evaluation.protocols import NamedRanking, fingerprint

__all__ = ["Query", "oxford5k", "rank_landmarks"]


class Query(Protocol):
    """What the protocol needs to know of a query; `reid_jax.data.LandmarkQuery` has it.

    Attributes:
        name: of the query.
        row: the image that the query is cut from.
        box: (x1, y1, x2, y2) in pixels of that image.
        good: rows of images that show the landmark clearly.
        ok: rows of images that show more than a quarter of it.
        junk: rows of images that show less of it.
    """

    name: str
    row: int
    box: tuple[float, float, float, float]
    good: np.ndarray
    ok: np.ndarray
    junk: np.ndarray


def oxford5k(
    query_features: np.ndarray,
    image_features: np.ndarray,
    queries: Sequence[Query],
    files: Sequence[str],
    *,
    distance: str = "squared_euclidean",
) -> NamedRanking:
    """The protocol of Oxford5k: `oxford5k`.

    The rules are those of `rank_landmarks`; the paper's mAP is `map_trapezoid`.

    Args:
        query_features: [Q, D], of the boxes; normalised by the caller if they are to be.
        image_features: [N, D], of all images, those that the queries are cut from included.
        queries: the queries.
        files: [N] str, relative paths with '/', in the order of image_features.
        distance: a name in `reid_jax.distances.DISTANCES`.

    Returns:
        NamedRanking; the fingerprint is that of the images, and of the boxes and lists of all
        queries.

    Raises:
        ValueError: as `rank_landmarks`; on numbers of features that do not fit, or an unknown
            distance.
    """
    if distance not in DISTANCES:
        raise ValueError(f"unknown distance {distance!r}; known: {', '.join(DISTANCES)}")
    sizes = len(query_features), len(image_features)
    if sizes != (len(queries), len(files)):
        raise ValueError(
            f"{sizes[0]} features for {len(queries)} queries, and {sizes[1]} features for "
            f"{len(files)} images"
        )
    query_features, image_features = as_real(query_features), as_real(image_features)
    with precision(np.result_type(query_features, image_features)):
        distances = np.asarray(DISTANCES[distance](query_features, image_features))
    result = rank_landmarks(distances, queries)
    return NamedRanking("oxford5k", _fingerprint(queries, files), result)


def rank_landmarks(distances: np.ndarray, queries: Sequence[Query]) -> RankingResult:
    """Ranks each query with its own lists of relevant and ignored images.

    Good and ok images are right, all others wrong; junk is removed, and the ranks behind it close
    up. The image that a query is cut from stays in the list, as in the official `compute_ap`,
    which ranks all images and finds it among the good ones: it mostly comes first, and every
    published number has that match in it. Equal distances go to the lower row.

    Args:
        distances: [Q, N] real; compared in their own precision.
        queries: their good, ok and junk rows are in [0, N).

    Returns:
        RankingResult; `map_trapezoid` is the official mAP.

    Raises:
        ValueError: on shapes or rows that do not fit, nan distances, a query without a right image,
            or an image that is on two lists of a query.
    """
    if np.ndim(distances) != 2 or len(distances) != len(queries) or 0 in np.shape(distances):
        raise ValueError(
            f"distances are {list(np.shape(distances))}; expected [Q, N] for {len(queries)} queries"
        )
    distances = as_real(distances)
    has_nan = np.isnan(distances).any(axis=1)
    if has_nan.any():
        raise ValueError(
            f"{int(has_nan.sum())} queries have nan distances, the first is "
            f"{queries[int(has_nan.argmax())].name}; look for a diverged model or a broken image"
        )
    rows, right = _listed(queries, distances.shape[1])
    # Few queries and a small collection: sorting takes no time, and needs no compilation.
    positions = np.take_along_axis(positions_by_sorting(distances), rows, axis=1)
    return metrics_of_positions(np.where(rows >= 0, positions, -1), right, distances.shape[1])


def _listed(queries: Sequence[Query], num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows [Q, M] of the listed images of each query, padded with -1; and which are right."""
    lists = [np.concatenate([query.good, query.ok, query.junk]).astype(int) for query in queries]
    rows = np.full((len(queries), max(map(len, lists))), -1)
    right = np.zeros(rows.shape, bool)
    for q, (query, own) in enumerate(zip(queries, lists, strict=True)):
        num_right = len(own) - len(query.junk)
        if num_right == 0:
            raise ValueError(f"query {query.name} has neither a good nor an ok image: no AP")
        if own.min() < 0 or own.max() >= num_images:
            raise ValueError(
                f"query {query.name} has rows from {own.min()} to {own.max()}, but there are "
                f"{num_images} images; give the features of all images"
            )
        if len(np.unique(own)) < len(own):
            raise ValueError(f"query {query.name} has an image on its lists twice")
        rows[q, : len(own)] = own
        right[q, :num_right] = True
    return rows, right


def _fingerprint(queries: Sequence[Query], files: Sequence[str]) -> str:
    lines = [f"image:{file}" for file in files]
    for query in queries:
        box = " ".join(format(float(side), ".6g") for side in query.box)
        lines.append(f"query:{query.name}:{files[query.row]}:{box}")
        for kind in ("good", "ok", "junk"):
            lines += sorted(f"{kind}:{files[row]}" for row in getattr(query, kind))
    return fingerprint(lines, np.zeros(len(lines), int), None)
