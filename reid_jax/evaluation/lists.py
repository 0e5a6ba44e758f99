"""The nearest gallery images of each query."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from reid_jax.evaluation.counting import feature_blocks, query_blocks
from reid_jax.evaluation.gallery import Labels, checked_features, precision, refuse_nan
from reid_jax.evaluation.protocols import Comparison

__all__ = ["RankedLists", "comparison_lists", "top_k"]


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
        distance: a name in `reid_jax.distances.DISTANCES`.
        queries_per_block: rows of the block; None takes as many as keep it at 128 MiB.

    Returns:
        RankedLists.

    Raises:
        ValueError: as `rank_features`, or if k is below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    labels = Labels(query_ids, query_cameras, gallery_ids, gallery_cameras)
    query_features, gallery_features, dtype = checked_features(
        query_features, gallery_features, labels, distance
    )
    num_kept = min(k, labels.num_gallery)
    gallery_rows = np.full((labels.num_query, k), -1, np.int64)
    nearest = np.full((labels.num_query, k), np.nan, dtype)
    with precision(dtype):
        block = feature_blocks(query_features, gallery_features, distance, dtype)
        removed = jnp.asarray(labels.removed)
        for rows in query_blocks(
            np.arange(labels.num_query), labels.num_gallery, queries_per_block
        ):
            values, has_nan = block(rows, removed)
            refuse_nan(rows, has_nan)
            own_rows, own = labels.own_rows(rows)
            same_camera = own & labels.same_camera(rows, own_rows)
            hidden = np.where(same_camera, own_rows, labels.num_gallery).astype(np.int32)
            found, kept = (np.asarray(x) for x in _nearest(values, hidden, num_kept))
            present = kept < np.inf
            gallery_rows[rows, :num_kept] = np.where(present, found, -1)
            nearest[rows, :num_kept] = np.where(present, kept, np.nan)
    match = (gallery_rows >= 0) & (labels.gallery_ids[gallery_rows] == labels.query_ids[:, None])
    return RankedLists(gallery_rows, nearest, match.astype(np.int8))


def comparison_lists(comparison: Comparison, *, k: int) -> RankedLists:
    """The k nearest images of each query's own gallery; equal distances in the gallery's order.

    Args:
        comparison: of a `NamedRanking`.
        k: length of the lists, at least 1; may exceed the gallery.

    Returns:
        RankedLists, whose gallery rows are rows of the list of images.

    Raises:
        ValueError: if k is below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    order = np.argsort(comparison.distances, axis=1, kind="stable")[:, :k]
    rows, distances, match = (
        np.take_along_axis(x, order, axis=1)
        for x in (comparison.gallery_rows, comparison.distances, comparison.match)
    )
    missing = ((0, 0), (0, k - order.shape[1]))
    distances = np.where(rows >= 0, distances, np.nan)
    return RankedLists(
        np.pad(rows, missing, constant_values=-1),
        np.pad(distances, missing, constant_values=np.nan),
        np.pad(match.astype(np.int8), missing),
    )


@partial(jax.jit, static_argnames="k")
def _nearest(values: jax.Array, hidden_rows: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Gallery rows and values of the k nearest; nan values and `hidden_rows` come as infinite."""
    query_row = jnp.arange(len(values))[:, None]
    values = (
        jnp.where(jnp.isnan(values), jnp.inf, values)
        .at[query_row, hidden_rows]
        .set(jnp.inf, mode="drop")
    )
    negative, rows = lax.top_k(-values, k)
    return rows, -negative
