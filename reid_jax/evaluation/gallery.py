"""Who is on the images of both sides, and the checks of what is to be ranked."""

import contextlib

import jax
import numpy as np

from reid_jax.distances import DISTANCES
from reid_jax.schema import JUNK

__all__ = ["Labels", "OwnGalleries", "as_real", "checked_features", "precision", "refuse_nan"]


class Labels:
    """Identities and cameras of both sides, and for each query the gallery rows of its identity.

    Attributes:
        query_ids: [Q] int64.
        query_cameras: [Q] int64, or None without the camera rule.
        gallery_ids: [G] int64.
        gallery_cameras: [G] int64 or None.
        num_query, num_gallery: Q and G.
        removed: [G] bool, True where the image is junk.
        num_own: [Q] gallery images of each query's identity.
        order: [Q] the queries in the order in which they are best counted.

    Raises:
        ValueError: on labels that are not one integer an image, an empty side, or one camera array
            without the other.
    """

    def __init__(
        self,
        query_ids: np.ndarray,
        query_cameras: np.ndarray | None,
        gallery_ids: np.ndarray,
        gallery_cameras: np.ndarray | None,
    ) -> None:
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
        if query_cameras is not None and gallery_cameras is not None:
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
        self.removed = self.gallery_ids == JUNK
        self._by_identity = np.argsort(self.gallery_ids, kind="stable")
        sorted_ids = self.gallery_ids[self._by_identity]
        self._start = np.searchsorted(sorted_ids, self.query_ids, side="left")
        end = np.searchsorted(sorted_ids, self.query_ids, side="right")
        self.num_own = np.where(self.query_ids == JUNK, 0, end - self._start)
        # Queries with equally many images of their identity share a block, so little of the
        # counting is spent on padding; those of one identity do, so they share its images.
        self.order = np.lexsort((self.query_ids, self.num_own))

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raises ValueError unless a shape is [Q, G]; `name` says what has it."""
        if tuple(shape) != (self.num_query, self.num_gallery):
            raise ValueError(
                f"{name} is for {shape[0]} queries and {shape[1]} gallery images, but query_ids "
                f"has {self.num_query} and gallery_ids {self.num_gallery} entries"
            )

    def own_rows(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gallery rows [R, M] of the identity of each of R queries, increasing, padded with 0; and
        which of them are not padding."""
        counts = self.num_own[queries]
        column = np.arange(max(1, counts.max()))
        own = column < counts[:, None]
        rows = self._by_identity[np.where(own, self._start[queries][:, None] + column, 0)]
        return np.where(own, rows, 0).astype(np.int32), own

    def same_camera(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Whether gallery rows [R, M] are of the camera of the query: never without cameras."""
        if self.query_cameras is None or self.gallery_cameras is None:
            return np.zeros(rows.shape, bool)
        return self.gallery_cameras[rows] == self.query_cameras[queries][:, None]


class OwnGalleries:
    """What `Labels` says, for queries with a gallery of their own each: rows are columns.

    Args:
        match: [Q, K] bool, True where the image shows the query's identity.
    """

    def __init__(self, match: np.ndarray) -> None:
        self.num_query, self.num_gallery = match.shape
        self.removed = np.zeros(self.num_gallery, bool)
        self.num_own = match.sum(axis=1)
        self.order = np.argsort(self.num_own, kind="stable")
        self._match = match

    def own_rows(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Labels.own_rows`."""
        counts = self.num_own[queries]
        own = np.arange(max(1, counts.max())) < counts[:, None]
        rows = np.zeros(own.shape, np.int32)
        # Both sides run through the queries in order, and through a query's columns in order.
        rows[own] = np.nonzero(self._match[queries])[1]
        return rows, own

    def same_camera(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Nowhere: nothing is removed."""
        del queries
        return np.zeros(rows.shape, bool)


def _label_array(name: str, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or not (np.issubdtype(values.dtype, np.integer) or values.size == 0):
        raise ValueError(
            f"{name} must be one integer per image, got shape {values.shape} and dtype "
            f"{values.dtype}"
        )
    return values.astype(np.int64)


def as_real(values: np.ndarray) -> np.ndarray:
    """float32 or float64, whatever JAX's default; smaller floats and integers are widened."""
    values = np.asarray(values)
    return values.astype(np.result_type(values.dtype, np.float32), copy=False)


def precision(dtype: np.dtype) -> contextlib.AbstractContextManager:
    """The context in which JAX computes in a dtype: float64 is off by default."""
    return jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()


def checked_features(
    query_features: np.ndarray, gallery_features: np.ndarray, labels: Labels, distance: str
) -> tuple[np.ndarray, np.ndarray, np.dtype]:
    """Both sides as arrays, and the dtype to compute in: float64 where given, else float32.

    Args:
        query_features: [Q, D].
        gallery_features: [G, D].
        labels: who is on the images.
        distance: a name in `reid_jax.distances.DISTANCES`.

    Returns:
        (query_features, gallery_features, dtype).

    Raises:
        ValueError: on shapes that do not fit each other or the labels, or on an unknown distance.
    """
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


def refuse_nan(rows: np.ndarray, has_nan: np.ndarray | jax.Array) -> None:
    """Raises ValueError if a query has a nan distance.

    Args:
        rows: [R] the queries.
        has_nan: [R] bool, whether the distances of each have a nan.
    """
    has_nan = np.asarray(has_nan)
    if has_nan.any():
        raise ValueError(
            f"{int(has_nan.sum())} of {len(rows)} queries that were taken together have nan "
            f"distances, the first is query row {int(rows[np.argmax(has_nan)])}; the features must "
            "be finite and the distances not nan: look for a diverged model or a broken image"
        )
