"""Ranked lists of a page: queries and the gallery images that were found for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reid_jax.report.document import crop
from reid_jax.visual.sheet import checked_images

__all__ = ["Pictures", "list_groups"]

_KINDS = {
    "best": ("Best queries", "the highest average precision"),
    "median": ("Median queries", "average precision in the middle: what is usual"),
    "worst": ("Worst queries", "the lowest average precision: where the model fails"),
    "random": ("Random queries", "drawn without looking at the result"),
}
_CLASSES = {1: "right", 0: "wrong", -1: "none"}


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Crops of a run's ranked lists, and the names of who is in them.

    Attributes:
        query_images: [R, H, W, 3] uint8, of the run's `ranked_queries`.
        gallery_images: [R, N, H, W, 3] uint8, of `ranked_gallery`; what stands where that is -1 is
            not drawn.
        query_captions: R texts, such as 'Anna, entrance', or None.
        gallery_captions: R by N texts, or None; the distance is added below each.
        query_cameras: R names to filter by, or None.
        first_images: [R, H, W, 3] uint8, of `ranked_first_gallery`, the first match of a list that
            ends before it; what stands where that is -1 is not drawn. Or None.
        first_captions: R texts, or None.
        confused: people that are taken for another most: (of the query, found, how often, of how
            many queries), by name.
    """

    query_images: np.ndarray
    gallery_images: np.ndarray
    query_captions: Sequence[str] | None = None
    gallery_captions: Sequence[Sequence[str]] | None = None
    query_cameras: Sequence[str] | None = None
    first_images: np.ndarray | None = None
    first_captions: Sequence[str] | None = None
    confused: Sequence[tuple[str, str, int, int]] = ()


def list_groups(ranking: Mapping[str, np.ndarray], pictures: Pictures) -> list[dict[str, Any]]:
    """The lists as the template takes them, the best queries first.

    Args:
        ranking: of a run.
        pictures: of its lists.

    Raises:
        ValueError: if there are no lists, or the images do not fit them.
    """
    if "ranked_gallery" not in ranking:
        raise ValueError(
            "write_page: there are images for ranked lists but the run has no ranked_gallery; "
            "evaluate it again."
        )
    gallery = ranking["ranked_gallery"]
    queries = checked_images("query_images", pictures.query_images, "[R, H, W, 3]")
    images = checked_images("gallery_images", pictures.gallery_images, "[R, N, H, W, 3]")
    if len(queries) != len(gallery) or images.shape[:2] != gallery.shape:
        raise ValueError(
            f"write_page: {len(queries)} query images and gallery images of shape {images.shape}; "
            f"the run has lists of shape {gallery.shape}."
        )
    kinds = np.asarray(ranking["ranked_kind"]).astype(str)
    groups = []
    for kind in dict.fromkeys([*(k for k in _KINDS if k in kinds), *kinds]):
        title, meaning = _KINDS.get(kind, (kind, ""))
        lists = [
            _list(ranking, pictures, int(row), f"{title}, list {number}")
            for number, row in enumerate(np.flatnonzero(kinds == kind), start=1)
        ]
        groups.append({"title": title, "meaning": meaning, "lists": lists})
    return groups


def _list(
    ranking: Mapping[str, np.ndarray], pictures: Pictures, row: int, name: str
) -> dict[str, Any]:
    matches = np.where(ranking["ranked_gallery"][row] < 0, -1, ranking["ranked_match"][row])
    distances = ranking["ranked_distance"][row]
    num_matches = _value(ranking, "ranked_num_matches", row)
    precision = _value(ranking, "ranked_average_precision", row)
    # After the last match there is nothing left to find.
    found = np.cumsum(matches == 1)
    end = len(matches)
    if num_matches is not None and found[-1:] == num_matches:
        end = int(np.argmax(found == num_matches)) + 1
    cells = []
    for rank, match in enumerate(matches, start=1):
        cell: dict[str, Any] = {"rank": str(rank), "kind": _CLASSES[int(match)], "image": None}
        if match >= 0:
            text = pictures.gallery_captions[row][rank - 1] if pictures.gallery_captions else ""
            cell |= {
                "image": crop(pictures.gallery_images[row, rank - 1]),
                "caption": text,
                "distance": float(distances[rank - 1]),
                "after": rank > end,
                "first": False,
            }
        cells.append(cell)
    first_rank = _value(ranking, "ranked_first_rank", row)
    if (first := _first(ranking, pictures, row)) and first_rank is not None:
        cells.append({**first, "rank": f"rank {int(first_rank) + 1:,}"})
    right = [str(rank) for rank in np.flatnonzero(matches == 1) + 1]
    return {
        "name": f"{name}: right at rank {', '.join(right)}" if right else f"{name}: none is right",
        "image": crop(pictures.query_images[row]),
        "caption": pictures.query_captions[row] if pictures.query_captions else "",
        "camera": pictures.query_cameras[row] if pictures.query_cameras else "",
        "precision": precision,
        "num_matches": num_matches,
        "first_rank": None if first_rank is None else int(first_rank) + 1,
        "cells": cells,
    }


def _first(
    ranking: Mapping[str, np.ndarray], pictures: Pictures, row: int
) -> dict[str, Any] | None:
    """The first match of a list that ends before it."""
    gallery_row = _value(ranking, "ranked_first_gallery", row)
    if gallery_row is None or gallery_row < 0 or pictures.first_images is None:
        return None
    return {
        "kind": "right",
        "image": crop(pictures.first_images[row]),
        "caption": pictures.first_captions[row] if pictures.first_captions else "",
        "distance": float(ranking["ranked_first_distance"][row]),
        "after": False,
        "first": True,
    }


def _value(ranking: Mapping[str, np.ndarray], name: str, row: int) -> float | None:
    """The value of a list, None where the run does not have it."""
    if name not in ranking or not np.isfinite(ranking[name][row]):
        return None
    return float(ranking[name][row])
