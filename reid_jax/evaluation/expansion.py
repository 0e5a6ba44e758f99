"""Query expansion: a query is replaced by the mean of itself and its nearest gallery images."""

from collections.abc import Iterable

import numpy as np

from reid_jax.evaluation.gallery import as_real
from reid_jax.evaluation.lists import top_k

__all__ = ["expanded_queries", "mean_with_nearest"]


def expanded_queries(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    *,
    number: int,
    normalise: bool,
    distance: str = "squared_euclidean",
) -> np.ndarray:
    """Queries averaged with their nearest gallery images (average query expansion).

    Chum, Philbin, Sivic, Isard, Zisserman, "Total Recall", ICCV 2007, Sec. 4, without the spatial
    verification. Neighbours are taken among all rows given, those of the query's own camera
    included, because a search does not know who is on an image; leave junk images out.

    Args:
        query_features: [Q, D] finite.
        gallery_features: [G, D].
        number: nearest images of a query; may exceed the gallery.
        normalise: scales the means to unit length.
        distance: a name in `reid_jax.distances.DISTANCES`.

    Returns:
        [Q, D]; float32, or float64 where an input is float64.

    Raises:
        ValueError: as `top_k`.
    """
    nobody = np.zeros(len(query_features), np.int64), np.zeros(len(gallery_features), np.int64)
    rows = top_k(
        query_features,
        gallery_features,
        nobody[0],
        None,
        nobody[1],
        None,
        k=min(number, max(1, len(gallery_features))),
        distance=distance,
    ).gallery_rows
    gallery = as_real(gallery_features)
    nearest = (gallery[own[own >= 0]] for own in rows)
    return mean_with_nearest(as_real(query_features), nearest, normalise=normalise)


def mean_with_nearest(
    query_features: np.ndarray, nearest: Iterable[np.ndarray], *, normalise: bool
) -> np.ndarray:
    """The mean of each query and its nearest images.

    Args:
        query_features: [Q, D].
        nearest: for each query in turn [n, D], n of any size.
        normalise: scales the means to unit length.

    Returns:
        [Q, D] in the queries' dtype.
    """
    mean = np.array(query_features)
    for q, near in enumerate(nearest):
        mean[q] = (mean[q] + near.sum(axis=0)) / (1 + len(near))
    if normalise:
        mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-12)
    return mean
