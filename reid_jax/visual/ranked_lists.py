"""Pictures: ranked galleries and contact sheets."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from reid_jax.visual import style
from reid_jax.visual.sheet import checked_images, draw_image, draw_mark, finish_sheet, open_sheet


@dataclasses.dataclass(frozen=True)
class RankedList:
    """A query and the first N images of its ranked gallery, of any size each.

    Args:
        query: [H, W, 3] uint8 RGB.
        gallery: N images [h, w, 3] uint8 RGB, first rank first.
        matches: N ints, 1 right, 0 wrong, -1 no image at this rank: what `gallery` holds there is
            not looked at.
        query_caption: text under the query.
        gallery_captions: N texts under the gallery images, or None.
        query_box: (left, top, right, bottom) of the part of the query that was searched for, in
            its pixels, or None for the whole image.
    """

    query: np.ndarray
    gallery: Sequence[np.ndarray | None]
    matches: Sequence[int]
    query_caption: str = ""
    gallery_captions: Sequence[str] | None = None
    query_box: tuple[float, float, float, float] | None = None


def ranked_lists(
    query_images: np.ndarray,
    gallery_images: np.ndarray,
    matches: np.ndarray,
    *,
    query_captions: Sequence[str] | None = None,
    gallery_captions: Sequence[Sequence[str]] | None = None,
) -> Figure:
    """Queries, each beside the first images of its ranked gallery, right and wrong marked.

    A right image has a solid green border and a tick, a wrong one a dashed red border and a
    cross, so the marks do not rest on colour alone.

    Args:
        query_images: [R, H, W, 3] uint8 RGB.
        gallery_images: [R, N, H, W, 3] uint8 RGB, first rank first.
        matches: [R, N] int, 1 right, 0 wrong, -1 no image at this rank.
        query_captions: R texts under the queries, such as identity and camera, or None.
        gallery_captions: R by N texts under the gallery images, or None.

    Returns:
        The figure, a list to a row.

    Raises:
        ValueError: if a shape or type does not fit, or `matches` has another value.
    """
    query_images = checked_images("query_images", query_images, "[R, H, W, 3]")
    gallery_images = checked_images("gallery_images", gallery_images, "[R, N, H, W, 3]")
    matches = np.asarray(matches)
    num_lists, num_ranks = gallery_images.shape[:2]
    if not num_lists or not num_ranks or len(query_images) != num_lists:
        raise ValueError(
            f"ranked_lists: {len(query_images)} queries and gallery images {gallery_images.shape}; "
            "expected [R, ...] and [R, N, ...] with the same R of 1 or more."
        )
    if matches.shape != (num_lists, num_ranks) or not np.isin(matches, (-1, 0, 1)).all():
        raise ValueError(
            f"ranked_lists: matches has shape {matches.shape} and values {np.unique(matches)}, "
            f"expected ({num_lists}, {num_ranks}) of 1, 0 and -1."
        )
    if query_captions is None:
        query_captions = [""] * num_lists
    if gallery_captions is None:
        gallery_captions = [[""] * num_ranks] * num_lists
    if len(query_captions) != num_lists or [len(row) for row in gallery_captions] != (
        [num_ranks] * num_lists
    ):
        raise ValueError(
            f"ranked_lists: expected {num_lists} query captions and {num_lists} x {num_ranks} "
            "gallery captions."
        )
    columns = (query_images, gallery_images, matches, query_captions, gallery_captions)
    return ranked_list_groups({"": [RankedList(*row) for row in zip(*columns, strict=True)]})


@matplotlib.rc_context(style.RC)
def ranked_list_groups(groups: Mapping[str, Sequence[RankedList]]) -> Figure:
    """Ranked lists under headings, such as easy, medium and hard queries; marks as `ranked_lists`.

    Figure 3 of the paper on inherent codes, and Figures 7 and 9 of Zheng, Zheng and Yang, whose
    buildings need images of several proportions and queries that are a part of an image.

    Args:
        groups: heading of a group, or "" for none, to its lists; all lists have the same N.

    Returns:
        The figure, a list to a row. Each picture keeps its proportions and is fitted into a cell,
        whose proportions are the median of the queries' and of the gallery images'.

    Raises:
        ValueError: if there is no list, lists differ in N, an image is not [h, w, 3] uint8, a
            match is not 1, 0 or -1, captions do not fit, or a box is empty or leaves its query.
    """
    lists = list(itertools.chain.from_iterable(groups.values()))
    if not lists or not all(groups.values()):
        raise ValueError(
            f"ranked_list_groups: the groups hold {[len(group) for group in groups.values()]} "
            "lists, expected one or more groups of one or more lists each."
        )
    num_ranks = len(lists[0].gallery)
    for ranked in lists:
        _check_list(ranked, num_ranks)
    shown = [
        image
        for ranked in lists
        for image, match in zip(ranked.gallery, ranked.matches, strict=True)
        if match >= 0 and image is not None
    ]
    query_height = _cell_height([ranked.query for ranked in lists])
    height = _cell_height(shown) if shown else query_height
    num_lines = 1 + max(
        text.count("\n")
        for ranked in lists
        for text in (ranked.query_caption, *(ranked.gallery_captions or ()))
    )

    # One axes holds everything: the unit is the width of a cell.
    spacing, gap, head, margin, heading_height = 0.16, 0.5, 0.42, 0.12, 0.4
    pitch = max(height, query_height) + 0.22 + 0.19 * num_lines
    width = 2 * margin + 1.0 + gap + num_ranks * (1.0 + spacing) - spacing
    total = head + len(lists) * pitch + heading_height * sum(map(bool, groups))
    inches = 10.4 / max(width, 6.0)
    figure, ax = open_sheet(width, total, inches)
    font_size = min(11.0, 11.0 * inches)
    columns = margin + 1.0 + gap + np.arange(num_ranks) * (1.0 + spacing)

    def words(x: float, y: float, text: str, **how: Any) -> None:
        ax.text(x, y, text, **{"ha": "center", "va": "top", "fontsize": font_size, **how})

    headings = [(margin, "query"), *zip(columns, map(str, range(1, num_ranks + 1)), strict=True)]
    for left, text in headings:
        words(left + 0.5, head - 0.17, text, va="bottom", fontsize=1.2 * font_size)
    top = head
    for heading, group in groups.items():
        if heading:
            words(margin, top, heading, ha="left", fontsize=1.2 * font_size, weight="bold")
            top += heading_height
        for ranked in group:
            _draw_query(ax, ranked, margin, top, query_height)
            words(margin + 0.5, top + query_height + 0.08, ranked.query_caption)
            captions = ranked.gallery_captions or [""] * num_ranks
            for left, image, match, caption in zip(
                columns, ranked.gallery, ranked.matches, captions, strict=True
            ):
                if match < 0 or image is None:
                    words(left + 0.5, top + height / 2, "none", va="center", style="italic")
                    continue
                _draw_ranked(ax, image, left, top, height, match=bool(match), inches=inches)
                words(left + 0.5, top + height + 0.08, caption)
            top += pitch
    finish_sheet(ax, width, total)
    return figure


def _check_list(ranked: RankedList, num_ranks: int) -> None:
    counts = {len(ranked.gallery), len(ranked.matches)}
    if ranked.gallery_captions is not None:
        counts.add(len(ranked.gallery_captions))
    if counts != {num_ranks} or not num_ranks:
        raise ValueError(
            f"ranked_list_groups: a list has {len(ranked.gallery)} gallery images, "
            f"{len(ranked.matches)} matches and "
            f"{'no' if ranked.gallery_captions is None else len(ranked.gallery_captions)} "
            f"captions; expected {num_ranks} of each, as in the first list, and 1 or more."
        )
    if not np.isin(ranked.matches, (-1, 0, 1)).all():
        raise ValueError(
            f"ranked_list_groups: matches are {list(ranked.matches)}, expected 1, 0 and -1."
        )
    query = checked_images("query", ranked.query, "[H, W, 3]")
    for image, match in zip(ranked.gallery, ranked.matches, strict=True):
        if match >= 0:
            checked_images("a gallery image", np.asarray(image), "[h, w, 3]")
    if ranked.query_box is not None:
        left, top, right, bottom = ranked.query_box
        if not (0 <= left < right <= query.shape[1] and 0 <= top < bottom <= query.shape[0]):
            raise ValueError(
                f"ranked_list_groups: query_box is {ranked.query_box}, expected (left, top, "
                f"right, bottom) within a query of {query.shape[1]} x {query.shape[0]} pixels."
            )


def _cell_height(images: Sequence[np.ndarray]) -> float:
    return float(np.median([image.shape[0] / image.shape[1] for image in images]))


def _draw_fitted(
    ax: Axes, image: np.ndarray, left: float, top: float, height: float
) -> tuple[float, float, float, float]:
    """Draws an image in the middle of its cell; its left, top, width and height there."""
    drawn_width = min(1.0, height * image.shape[1] / image.shape[0])
    drawn_height = drawn_width * image.shape[0] / image.shape[1]
    left, top = left + (1.0 - drawn_width) / 2, top + (height - drawn_height) / 2
    draw_image(ax, image, left, top, width=drawn_width, height=drawn_height)
    return left, top, drawn_width, drawn_height


def _draw_query(ax: Axes, ranked: RankedList, left: float, top: float, height: float) -> None:
    left, top, drawn_width, drawn_height = _draw_fitted(ax, ranked.query, left, top, height)
    ax.add_patch(
        Rectangle((left, top), drawn_width, drawn_height, fill=False, edgecolor=style.INK, lw=1.2)
    )
    if ranked.query_box is not None:
        scale = drawn_width / ranked.query.shape[1]
        x1, y1, x2, y2 = (scale * value for value in ranked.query_box)
        ax.add_patch(
            Rectangle(
                (left + x1, top + y1),
                x2 - x1,
                y2 - y1,
                fill=False,
                edgecolor=style.ORANGE,
                linewidth=1.6,
                # A casing keeps the box apart from a picture of its own colour.
                path_effects=[withStroke(linewidth=3.2, foreground="black")],
            )
        )


def _draw_ranked(
    ax: Axes,
    image: np.ndarray,
    left: float,
    top: float,
    height: float,
    *,
    match: bool,
    inches: float,
) -> None:
    left, top, drawn_width, drawn_height = _draw_fitted(ax, image, left, top, height)
    ax.add_patch(
        Rectangle(
            (left, top),
            drawn_width,
            drawn_height,
            fill=False,
            edgecolor=style.GREEN if match else style.VERMILION,
            linewidth=2.6,
            linestyle="-" if match else (0, (2.2, 1.1)),
        )
    )
    # 13 points with ten ranks; with more, smaller, not to hide the smaller pictures.
    size = min(13.0, 16.5 * inches)
    draw_mark(ax, left + drawn_width - 0.14, top + 0.13, right=match, size=size)


@matplotlib.rc_context(style.RC)
def contact_sheet(
    images: np.ndarray, *, captions: Sequence[str] | None = None, num_columns: int = 16
) -> Figure:
    """Images side by side, as of a training batch.

    Args:
        images: [N, H, W, 3] uint8 RGB.
        captions: N texts under the images, or None.
        num_columns: images to a row.

    Returns:
        The figure.

    Raises:
        ValueError: if images are not uint8 [N, H, W, 3] with N of 1 or more, or there are
            captions for some of them only.
    """
    images = checked_images("images", images, "[N, H, W, 3]")
    if not len(images) or (captions is not None and len(captions) != len(images)):
        raise ValueError(
            f"contact_sheet: {len(images)} images and "
            f"{'no' if captions is None else len(captions)} captions; expected 1 or more images, "
            "and captions for all or none."
        )
    num_columns = min(num_columns, len(images))
    height = images.shape[1] / images.shape[2]
    num_lines = 0 if captions is None else 1 + max(text.count("\n") for text in captions)
    spacing = 0.08
    pitch = height + spacing + 0.2 * num_lines
    width = num_columns * (1.0 + spacing) + spacing
    total = spacing + -(-len(images) // num_columns) * pitch
    inches = 10.4 / max(width, 6.0)
    figure, ax = open_sheet(width, total, inches)
    for number, image in enumerate(images):
        left = spacing + number % num_columns * (1.0 + spacing)
        top = spacing + number // num_columns * pitch
        draw_image(ax, image, left, top, height=height)
        if captions is not None:
            ax.text(
                left + 0.5,
                top + height + 0.05,
                captions[number],
                ha="center",
                va="top",
                fontsize=10.2 * inches,
            )
    finish_sheet(ax, width, total)
    return figure
