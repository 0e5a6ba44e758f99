"""What a report shows of an evaluation beside its metrics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reid_jax import evaluation
from reid_jax.data import Source

__all__ = ["between_cameras", "nearest", "nearest_of_comparison", "of_listed"]


def of_listed(
    result: evaluation.RankingResult,
    places: np.ndarray,
    lists: evaluation.RankedLists,
    *,
    length: int,
) -> tuple[evaluation.RankedLists, dict[str, np.ndarray]]:
    """The lists cut to their length, and how good each is.

    Args:
        result: of all queries.
        places: [R] of the listed queries among them.
        lists: theirs, long enough for the first match of each.
        length: of the lists.

    Returns:
        The cut lists, and arrays [R]: `ranked_average_precision` (the step), `ranked_num_matches`,
        `ranked_first_rank` (from 0; -1 without a match), and `ranked_first_gallery` and
        `ranked_first_distance` of a first match that the cut list lacks (-1 and NaN for others).
    """
    first_rank = result.first_match_rank[places]
    beyond = first_rank >= length
    column = np.where(beyond, first_rank, 0)
    rows = np.arange(len(places))
    arrays = {
        "ranked_average_precision": result.average_precision_step[places],
        "ranked_num_matches": result.num_matches[places],
        "ranked_first_rank": first_rank,
        "ranked_first_gallery": np.where(beyond, lists.gallery_rows[rows, column], -1),
        "ranked_first_distance": np.where(beyond, lists.distances[rows, column], np.nan),
    }
    cut = (lists.gallery_rows, lists.distances, lists.match)
    return evaluation.RankedLists(*(values[:, :length] for values in cut)), arrays


def nearest(
    features: Sequence[np.ndarray], query: Source, gallery: Source
) -> dict[str, np.ndarray]:
    """`nearest_query` and `nearest_gallery`: the first image of each query's list.

    Args:
        features: of query and gallery.
        query: the queries.
        gallery: the gallery.
    """
    first = evaluation.top_k(
        features[0],
        features[1],
        query.identities,
        query.cameras,
        gallery.identities,
        gallery.cameras,
        k=1,
    )
    return {
        "nearest_query": np.arange(len(query)),
        "nearest_gallery": first.gallery_rows[:, 0],
    }


def nearest_of_comparison(comparison: evaluation.Comparison) -> dict[str, np.ndarray]:
    """As `nearest`, of what was compared."""
    place = comparison.distances.argmin(axis=1)[:, None]
    return {
        "nearest_query": comparison.query_rows,
        "nearest_gallery": np.take_along_axis(comparison.gallery_rows, place, axis=1)[:, 0],
    }


def between_cameras(
    features: Sequence[np.ndarray], query: Source, gallery: Source
) -> dict[str, np.ndarray]:
    """`camera_pair_rank1` [C, C] and `camera_pair_names` [C]; empty without two cameras.

    Args:
        features: of query and gallery.
        query: the queries.
        gallery: the gallery.
    """
    if query.cameras is None or gallery.cameras is None:
        return {}
    known = np.concatenate([query.cameras, gallery.cameras])
    if len(np.unique(known)) < 2 or (known < 0).any():
        return {}
    matrix = evaluation.camera_pair_matrix(features[0], features[1], query, gallery)
    names = query.camera_names or gallery.camera_names or {}
    return {
        "camera_pair_rank1": matrix.rank1,
        "camera_pair_names": np.array([names.get(int(c), str(c)) for c in matrix.cameras]),
    }
