"""Rank-1 and mAP from each camera to each other, from one pass over the distances."""

import dataclasses

import numpy as np

from reid_jax.evaluation.counting import positions_of_features
from reid_jax.evaluation.gallery import Labels, checked_features
from reid_jax.evaluation.metrics import RankingResult, metrics_of_positions
from reid_jax.evaluation.protocols import Images

__all__ = ["CameraPairMatrix", "camera_pair_matrix"]


@dataclasses.dataclass(frozen=True)
class CameraPairMatrix:
    """Metrics of the queries of one camera (row) for the matches of one camera (column).

    Attributes:
        cameras: [C] int, increasing.
        rank1: [C, C] share of queries whose first match is at rank 1; nan without a query.
        map_step: [C, C] mean of the step average precision.
        map_trapezoid: [C, C] mean of the trapezoid average precision, which the paper uses.
        num_queries: [C, C] int64, queries that have a match in the camera of the column.
    """

    cameras: np.ndarray
    rank1: np.ndarray
    map_step: np.ndarray
    map_trapezoid: np.ndarray
    num_queries: np.ndarray


def camera_pair_matrix(
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    query: Images,
    gallery: Images,
    *,
    distance: str = "squared_euclidean",
) -> CameraPairMatrix:
    """Metrics for each camera of the queries and each camera of their matches (Fig. 6).

    Zheng, Zheng, Yang, "A Discriminatively Learned CNN Embedding for Person Re-identification",
    TOMM 2017. In the cell of cameras a and b, the queries of a are ranked against the whole
    gallery, with the images of their own identity in other cameras than b removed: wrong answers of
    every camera stay. In the diagonal cell the matches are the images of the query's own camera;
    the query itself, a gallery image of the same file, is removed everywhere.

    Args:
        query_features: [Q, D] finite, in the order of `query`.
        gallery_features: [G, D], in the order of `gallery`.
        query: the query images.
        gallery: the gallery images, distractors (identity 0) and junk (-1) included.
        distance: a name in `reid_jax.distances.DISTANCES`.

    Returns:
        CameraPairMatrix of the cameras of both sides.

    Raises:
        ValueError: as `rank_features`, or where an image has no camera.

    Deviation: each mean is over the queries that have a match in the cell. The authors' code leaves
        queries with an average precision of 0 out of the mAP, and takes the nearest image for the
        query itself in the diagonal cells.
    """
    for side, images in (("query", query), ("gallery", gallery)):
        if images.cameras is None or (np.asarray(images.cameras) < 0).any():
            raise ValueError(
                f"the {side} has images without a camera; a matrix of camera pairs needs the "
                "camera of every image"
            )
    labels = Labels(query.identities, query.cameras, gallery.identities, gallery.cameras)
    query_features, gallery_features, dtype = checked_features(
        query_features, gallery_features, labels, distance
    )
    positions, rows = positions_of_features(
        labels, query_features, gallery_features, distance, dtype
    )
    number_of = {file: number for number, file in enumerate(query.files)}
    gallery_files = np.array([number_of.get(file, -1) for file in gallery.files])
    itself = gallery_files[rows] == np.arange(labels.num_query)[:, None]
    own = (positions >= 0) & ~itself

    query_cameras, gallery_cameras = np.asarray(query.cameras), np.asarray(gallery.cameras)
    cameras = np.unique(np.concatenate([query_cameras, gallery_cameras]))
    shape = (len(cameras), len(cameras))
    cells = {name: np.full(shape, np.nan) for name in ("rank1", "map_step", "map_trapezoid")}
    num_queries = np.zeros(shape, np.int64)
    for column, match_camera in enumerate(cameras):
        match = own & (gallery_cameras[rows] == match_camera)
        result = metrics_of_positions(positions, match, labels.num_gallery)
        for row, query_camera in enumerate(cameras):
            valid = (query_cameras == query_camera) & (result.num_matches > 0)
            num_queries[row, column] = valid.sum()
            if valid.any():
                for name, values in _per_query(result).items():
                    cells[name][row, column] = values[valid].mean()
    return CameraPairMatrix(cameras, num_queries=num_queries, **cells)


def _per_query(result: RankingResult) -> dict[str, np.ndarray]:
    return {
        "rank1": result.first_match_rank == 0,
        "map_step": result.average_precision_step,
        "map_trapezoid": result.average_precision_trapezoid,
    }
