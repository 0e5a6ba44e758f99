"""Crops of ranked lists, and what stands below them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reid_jax.data import Source, query_image
from reid_jax.report.lists import Pictures
from reid_jax.schema import DISTRACTOR

__all__ = ["camera_caption", "caption", "confused", "pictures_of"]

MOST_CONFUSED = 8
THUMBNAIL_WIDTH = 64


def pictures_of(
    query: Source,
    gallery: Source,
    ranking: Mapping[str, np.ndarray],
    *,
    queries: Sequence[Any] | None = None,
) -> Pictures:
    """Reads the crops of ranked lists and names who is in them.

    Args:
        query: the images that ask, see `Protocol.shown`.
        gallery: the images that are found.
        ranking: arrays of the evaluation, see `Evaluation.arrays`.
        queries: of Oxford5k, windows of images; they take the place of `query`, and what is found
            has no caption, for an image of that gallery has no identity.
    """
    query_rows, gallery_rows = ranking["ranked_queries"], ranking["ranked_gallery"]
    # A run that was evaluated by an earlier version has none.
    first_rows = ranking.get("ranked_first_gallery", np.full(len(query_rows), -1))
    cameras = None
    if queries is not None:
        size = (96, 96)
        query_images = [query_image(gallery, queries[row], size) for row in query_rows]
        query_captions = [queries[row].name for row in query_rows]
    else:
        size = _thumbnail_size(query, query_rows)
        query_images = [query.image(row, size) for row in query_rows]
        query_captions = [caption(query, row) for row in query_rows]
        if query.cameras is not None:
            cameras = [camera_caption(query, row) for row in query_rows]

    def found(row: int) -> str:
        return caption(gallery, row) if queries is None else ""

    def thumbnail(row: int) -> np.ndarray:
        return gallery.image(row, size) if row >= 0 else np.zeros((*size, 3), np.uint8)

    return Pictures(
        query_images=np.stack(query_images),
        gallery_images=np.stack([[thumbnail(row) for row in rows] for rows in gallery_rows]),
        query_captions=query_captions,
        gallery_captions=[[found(row) for row in rows] for rows in gallery_rows],
        query_cameras=cameras,
        confused=confused(query, gallery, ranking) if "nearest_query" in ranking else (),
        first_images=np.stack([thumbnail(row) for row in first_rows]),
        first_captions=[found(row) for row in first_rows],
    )


def _thumbnail_size(source: Source, rows: np.ndarray) -> tuple[int, int]:
    """Height and width of all crops: the listed queries' usual proportions, one width."""
    heights, widths = np.array([source.image(row, None).shape[:2] for row in rows]).T
    proportion = float(np.clip(np.median(heights / widths), 0.5, 2.5))
    return round(THUMBNAIL_WIDTH * proportion), THUMBNAIL_WIDTH


def confused(
    query: Source, gallery: Source, ranking: Mapping[str, np.ndarray]
) -> list[tuple[str, str, int, int]]:
    """People taken for another more than once: (of the query, found, how often, of how many)."""
    asked = query.identities[ranking["nearest_query"]]
    # A list may be empty, and what it begins with a distractor, who is nobody.
    found = np.where(
        ranking["nearest_gallery"] < 0, DISTRACTOR, gallery.identities[ranking["nearest_gallery"]]
    )
    wrong = (asked != found) & (asked > DISTRACTOR) & (found > DISTRACTOR)
    times = Counter(zip(asked[wrong].tolist(), found[wrong].tolist(), strict=True))
    return [
        (
            named(query, asked_for),
            named(gallery, answer),
            count,
            int((asked == asked_for).sum()),
        )
        for (asked_for, answer), count in times.most_common(MOST_CONFUSED)
        if count > 1
    ]


def named(source: Source, identity: int) -> str:
    """The name of an identity, or 'id' and its number."""
    return (source.identity_names or {}).get(identity, f"id {identity}")


def caption(source: Source, row: int) -> str:
    """The identity and the camera of an image, by name."""
    if row < 0:
        return ""
    if source.identities[row] == DISTRACTOR:
        return "distractor"
    shown = named(source, int(source.identities[row]))
    camera = camera_caption(source, row)
    return f"{shown}, {camera}" if camera else shown


def camera_caption(source: Source, row: int) -> str:
    """The camera of an image by name, '' where it has none."""
    if (camera := source.camera_name(row)) is None:
        return ""
    return str(camera) if source.camera_names else f"c{camera}"
