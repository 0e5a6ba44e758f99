"""Pictures: ranked galleries and contact sheets."""

from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reid_jax.visual import style

# Taller thumbnails are averaged down: they are shown at about 130 pixels, and 20 lists of 11
# images of 256x128 would make a page of 15 MB.
_MAX_HEIGHT = 160


def _checked_images(name: str, images: np.ndarray, expected: str) -> np.ndarray:
    images = np.asarray(images)
    num_axes = expected.count(",") + 1
    if images.ndim != num_axes or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"{name} is {images.dtype} with shape {images.shape}, expected uint8 {expected}."
        )
    return images


def _draw_image(ax: Axes, image: np.ndarray, left: float, top: float, height: float) -> None:
    if image.shape[0] > _MAX_HEIGHT:
        thumbnail_width = round(image.shape[1] * _MAX_HEIGHT / image.shape[0])
        image = cv2.resize(image, (thumbnail_width, _MAX_HEIGHT), interpolation=cv2.INTER_AREA)
    # 'none' puts the pixels themselves into an SVG instead of a copy sampled at its resolution.
    ax.imshow(
        image, extent=(left, left + 1.0, top + height, top), interpolation="none", aspect="equal"
    )


def _sheet(width: float, height: float, inches_per_unit: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width * inches_per_unit, height * inches_per_unit))
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    return figure, ax


def _finish_sheet(ax: Axes, width: float, height: float) -> None:
    # imshow resets the limits, so they are set last; y runs down the page.
    ax.set_xlim(0.0, width)
    ax.set_ylim(height, 0.0)
    ax.set_axis_off()


@matplotlib.rc_context(style.RC)
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
    query_images = _checked_images("query_images", query_images, "[R, H, W, 3]")
    gallery_images = _checked_images("gallery_images", gallery_images, "[R, N, H, W, 3]")
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
    if len(query_captions) != num_lists or any(
        len(captions) != num_ranks for captions in gallery_captions
    ):
        raise ValueError(
            f"ranked_lists: expected {num_lists} query captions and {num_lists} x {num_ranks} "
            "gallery captions."
        )
    num_lines = 1 + max(
        text.count("\n")
        for text in [*query_captions, *(text for row in gallery_captions for text in row)]
    )

    # One axes holds everything: the unit is the width of a thumbnail.
    height = gallery_images.shape[2] / gallery_images.shape[3]
    query_height = query_images.shape[1] / query_images.shape[2]
    spacing, gap, head, margin = 0.16, 0.5, 0.42, 0.12
    pitch = max(height, query_height) + 0.22 + 0.19 * num_lines
    width = 2 * margin + 1.0 + gap + num_ranks * (1.0 + spacing) - spacing
    total = head + num_lists * pitch
    inches = 10.4 / max(width, 6.0)
    figure, ax = _sheet(width, total, inches)
    font_size = 11.0 * inches
    columns = margin + 1.0 + gap + np.arange(num_ranks) * (1.0 + spacing)
    ax.text(margin + 0.5, head - 0.17, "query", ha="center", va="bottom", fontsize=1.2 * font_size)
    for rank, left in enumerate(columns, start=1):
        ax.text(
            left + 0.5, head - 0.17, str(rank), ha="center", va="bottom", fontsize=1.2 * font_size
        )
    for row in range(num_lists):
        top = head + row * pitch
        _draw_image(ax, query_images[row], margin, top, query_height)
        ax.add_patch(
            Rectangle((margin, top), 1.0, query_height, fill=False, edgecolor=style.INK, lw=1.2)
        )
        ax.text(
            margin + 0.5,
            top + query_height + 0.08,
            query_captions[row],
            ha="center",
            va="top",
            fontsize=font_size,
        )
        for rank, left in enumerate(columns):
            match = matches[row, rank]
            if match < 0:
                ax.text(
                    left + 0.5,
                    top + height / 2,
                    "none",
                    ha="center",
                    va="center",
                    fontsize=font_size,
                    style="italic",
                )
                continue
            colour = style.GREEN if match else style.VERMILION
            _draw_image(ax, gallery_images[row, rank], left, top, height)
            ax.add_patch(
                Rectangle(
                    (left, top),
                    1.0,
                    height,
                    fill=False,
                    edgecolor=colour,
                    linewidth=2.6,
                    linestyle="-" if match else (0, (2.2, 1.1)),
                )
            )
            _draw_mark(ax, left + 0.86, top + 0.13, right=bool(match))
            ax.text(
                left + 0.5,
                top + height + 0.08,
                gallery_captions[row][rank],
                ha="center",
                va="top",
                fontsize=font_size,
            )
    _finish_sheet(ax, width, total)
    return figure


def _draw_mark(ax: Axes, x: float, y: float, *, right: bool) -> None:
    """A tick or a cross in a disc, drawn as lines: a font may lack the characters."""
    ax.plot(
        [x],
        [y],
        marker="o" if right else "s",
        markersize=13,
        color=style.GREEN if right else style.VERMILION,
        markeredgecolor="white",
        markeredgewidth=0.8,
    )
    strokes = (
        [([-0.07, -0.02, 0.075], [0.0, 0.055, -0.06])]
        if right
        else [([-0.055, 0.055], [-0.055, 0.055]), ([-0.055, 0.055], [0.055, -0.055])]
    )
    for across, down in strokes:
        ax.plot(
            [x + step for step in across],
            [y + step for step in down],
            color="white",
            linewidth=1.8,
            solid_capstyle="round",
        )


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
    images = _checked_images("images", images, "[N, H, W, 3]")
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
    figure, ax = _sheet(width, total, inches)
    for number, image in enumerate(images):
        left = spacing + number % num_columns * (1.0 + spacing)
        top = spacing + number // num_columns * pitch
        _draw_image(ax, image, left, top, height)
        if captions is not None:
            ax.text(
                left + 0.5,
                top + height + 0.05,
                captions[number],
                ha="center",
                va="top",
                fontsize=10.2 * inches,
            )
    _finish_sheet(ax, width, total)
    return figure
