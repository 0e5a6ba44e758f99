"""Landmark retrieval: a box of one image searches a collection, the protocol of Oxford5k."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from reid_jax.evaluation.protocols import Evaluation, fingerprint
from reid_jax.evaluation.ranking import DISTANCES, RankingResult, _precision, _real, _result

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
) -> Evaluation:
    """The protocol of Oxford5k: `oxford5k`.

    The rules are those of `rank_landmarks`; the paper's mAP is `map_trapezoid`.

    Args:
        query_features: [Q, D], of the boxes; normalised by the caller if they are to be.
        image_features: [N, D], of all images, those that the queries are cut from included.
        queries: the queries.
        files: [N] str, relative paths with '/', in the order of image_features.
        distance: a name in `ranking.DISTANCES`.

    Returns:
        Evaluation; the fingerprint is that of the images, and of the boxes and lists of all
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
    query_features, image_features = _real(query_features), _real(image_features)
    with _precision(np.result_type(query_features, image_features)):
        distances = np.asarray(DISTANCES[distance](query_features, image_features))
    return Evaluation("oxford5k", _fingerprint(queries, files), rank_landmarks(distances, queries))


def rank_landmarks(distances: np.ndarray, queries: Sequence[Query]) -> RankingResult:
    """Ranking metrics of searches that each have their own right and junk images.

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
    distances = _real(distances)
    has_nan = np.isnan(distances).any(axis=1)
    if has_nan.any():
        raise ValueError(
            f"{int(has_nan.sum())} queries have nan distances, the first is "
            f"{queries[int(has_nan.argmax())].name}; look for a diverged model or a broken image"
        )
    listed = _listed(queries, distances.shape[1])
    # Few queries and a small collection: sorting takes no time, and needs no compilation.
    order = np.argsort(distances, axis=1, kind="stable")
    positions = np.empty_like(order)
    np.put_along_axis(positions, order, np.arange(listed.num_gallery)[None], axis=1)
    own_positions = np.where(
        listed.rows >= 0, np.take_along_axis(positions, listed.rows, axis=1), -1
    )
    return _result(listed, (own_positions, listed.rows))


@dataclasses.dataclass(frozen=True)
class _Listed:
    """The listed images of each query, as the labels that `_result` takes: right and junk images
    are of the query's identity, and junk is of its camera too.

    Attributes:
        num_query, num_gallery: Q and N.
        rows: [Q, M], padded with -1.
        junk: [Q, M] bool.
    """

    num_query: int
    num_gallery: int
    rows: np.ndarray
    junk: np.ndarray

    def same_camera(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        del rows
        return self.junk[queries]


def _listed(queries: Sequence[Query], num_images: int) -> _Listed:
    lists = [np.concatenate([query.good, query.ok, query.junk]).astype(int) for query in queries]
    rows = np.full((len(queries), max(map(len, lists))), -1)
    junk = np.zeros(rows.shape, bool)
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
        junk[q, num_right : len(own)] = True
    return _Listed(len(queries), num_images, rows, junk)


def _fingerprint(queries: Sequence[Query], files: Sequence[str]) -> str:
    lines = [f"image:{file}" for file in files]
    for query in queries:
        box = " ".join(format(float(side), ".6g") for side in query.box)
        lines.append(f"query:{query.name}:{files[query.row]}:{box}")
        for kind in ("good", "ok", "junk"):
            lines += sorted(f"{kind}:{files[row]}" for row in getattr(query, kind))
    return fingerprint(lines, np.zeros(len(lines), int), None)
