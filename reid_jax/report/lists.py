"""Ranked lists of a page: queries and the gallery images that were found for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from reid_jax import visual
from reid_jax.report import document

__all__ = ["ranked_lists"]

_LIST_KINDS = {
    "best": ("Best queries.", "The highest average precision."),
    "median": ("Median queries.", "Average precision in the middle: what is usual."),
    "worst": ("Worst queries.", "The lowest average precision: where the model fails."),
    "random": ("Random queries.", "Drawn without looking at the result."),
}
_LIST_LEGEND = (
    "A tick and a solid green border mark the query's identity, a cross and a dashed red border "
    "another one. Junk and images of the same identity and camera are removed, as for the numbers."
)


def ranked_lists(
    ranking: Mapping[str, np.ndarray],
    query_images: np.ndarray | None,
    gallery_images: np.ndarray | None,
    query_captions: Sequence[str] | None,
    gallery_captions: Sequence[Sequence[str]] | None,
    mark: str | None,
) -> str:
    """Pictures of queries and of what was found for them, as HTML; see `write_page`.

    Raises:
        ValueError: if there are no lists, or the images do not fit them.
    """
    if query_images is None or gallery_images is None:
        raise ValueError("write_page: expected both query_images and gallery_images, or neither.")
    if "ranked_gallery" not in ranking:
        raise ValueError(
            "write_page: there are images for ranked lists but the run has no ranked_gallery; "
            "evaluate it again."
        )
    gallery = ranking["ranked_gallery"]
    if len(query_images) != len(gallery) or gallery_images.shape[:2] != gallery.shape:
        raise ValueError(
            f"write_page: {len(query_images)} query images and gallery images of shape "
            f"{gallery_images.shape}; the run has lists of shape {gallery.shape}."
        )
    matches = np.where(gallery < 0, -1, ranking["ranked_match"])
    distances = ranking["ranked_distance"]
    captions = [
        [
            (f"{gallery_captions[row][rank]}\n" if gallery_captions is not None else "")
            + f"{distances[row, rank]:.3f}"
            for rank in range(gallery.shape[1])
        ]
        for row in range(gallery.shape[0])
    ]
    kinds = np.asarray(ranking["ranked_kind"]).astype(str)
    figures: list[str] = []
    for kind in dict.fromkeys([*(k for k in _LIST_KINDS if k in kinds), *kinds]):
        rows = np.flatnonzero(kinds == kind)
        title, caption = _LIST_KINDS.get(kind, (f"{kind}.", ""))
        described = "; ".join(
            f"list {number}: right at "
            + (
                ", ".join(f"rank {rank}" for rank in np.flatnonzero(matches[row] == 1) + 1)
                or "none"
            )
            for number, row in enumerate(rows, start=1)
        )
        figures.append(
            document.figure_tag(
                visual.ranked_lists(
                    query_images[rows],
                    gallery_images[rows],
                    matches[rows],
                    query_captions=query_captions and [query_captions[int(row)] for row in rows],
                    gallery_captions=[captions[row] for row in rows],
                ),
                name=f"ranked-{len(figures)}",
                title=title,
                caption=caption,
                alt=f"{len(rows)} queries with the first {gallery.shape[1]} gallery images of "
                f"each; {described}.",
                mark=mark,
            )
        )
    legend = "<p>" + escape(_LIST_LEGEND) + "</p>"
    return legend + "\n".join(figures)
