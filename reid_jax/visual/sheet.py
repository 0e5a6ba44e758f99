"""A page of pictures in one axes: the unit is the width of a picture and y runs down the page."""

import math

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.path import Path

from reid_jax.visual import style

# Taller thumbnails are averaged down: they are shown at about 130 pixels, and 20 lists of 11
# images of 256x128 would make a page of 15 MB.
THUMBNAIL_HEIGHT = 160
# Of the few pictures of a figure for print.
PICTURE_HEIGHT = 400

# Its lightness rises evenly, so that it reads without colour and on paper.
_HEAT_COLOURS = matplotlib.colormaps["inferno"]
_HEAT_OPACITY = 0.6

_TICK = Path([(-1.0, 0.0), (-0.3, -0.75), (1.0, 0.8)])
_CROSS = Path(
    [(-0.8, -0.8), (0.8, 0.8), (-0.8, 0.8), (0.8, -0.8)],
    [Path.MOVETO, Path.LINETO, Path.MOVETO, Path.LINETO],
)


def checked_images(name: str, images: np.ndarray, expected: str) -> np.ndarray:
    """`images` as an array, if it is uint8 and has the axes and the 3 colours of `expected`."""
    images = np.asarray(images)
    num_axes = expected.count(",") + 1
    if images.ndim != num_axes or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"{name} is {images.dtype} with shape {images.shape}, expected uint8 {expected}."
        )
    return images


def open_sheet(width: float, height: float, inches_per_unit: float) -> tuple[Figure, Axes]:
    """An empty figure and the axes that covers it."""
    figure = Figure(figsize=(width * inches_per_unit, height * inches_per_unit))
    ax = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    return figure, ax


def finish_sheet(ax: Axes, width: float, height: float) -> None:
    """Limits of the page; last, because drawing an image resets them."""
    ax.set_xlim(0.0, width)
    ax.set_ylim(height, 0.0)
    ax.set_axis_off()


def draw_image(
    ax: Axes,
    image: np.ndarray,
    left: float,
    top: float,
    *,
    width: float = 1.0,
    height: float,
    max_height: int = THUMBNAIL_HEIGHT,
) -> None:
    """Draws [h, w, 3] uint8 into a box, averaged down where it has more than `max_height` rows."""
    if image.shape[0] > max_height:
        thumbnail_width = max(1, round(image.shape[1] * max_height / image.shape[0]))
        image = cv2.resize(image, (thumbnail_width, max_height), interpolation=cv2.INTER_AREA)
    # 'none' puts the pixels themselves into an SVG instead of a copy sampled at its resolution.
    ax.imshow(
        image, extent=(left, left + width, top + height, top), interpolation="none", aspect="equal"
    )


def draw_heat(
    ax: Axes,
    image: np.ndarray,
    values: np.ndarray,
    left: float,
    top: float,
    *,
    height: float,
    norm: Normalize,
) -> None:
    """Draws a heat map [h, w] over a grey image [H, W, 3] uint8 into a box of width 1."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    # Lifted: the dark end of the colours would hide a dark picture.
    grey = np.repeat(grey // 4 * 3 + 64, 3, axis=-1)
    draw_image(ax, grey, left, top, height=height, max_height=PICTURE_HEIGHT)
    # Enlarged here, cell by cell about its centre: an SVG keeps what it is given.
    num_rows = min(PICTURE_HEIGHT, image.shape[0])
    num_columns = max(1, round(image.shape[1] * num_rows / image.shape[0]))
    ax.imshow(
        cv2.resize(values, (num_columns, num_rows), interpolation=cv2.INTER_LINEAR),
        extent=(left, left + 1.0, top + height, top),
        cmap=_HEAT_COLOURS,
        norm=norm,
        alpha=_HEAT_OPACITY,
        interpolation="none",
        aspect="equal",
    )


def heat_scale() -> Colormap:
    """The colours of `draw_heat` as they look over middle grey, for a colour bar."""
    colours = _HEAT_COLOURS(np.linspace(0.0, 1.0, 256))[:, :3]
    return ListedColormap(_HEAT_OPACITY * colours + (1.0 - _HEAT_OPACITY) * 0.5)


def short_number(value: float, span: float | None = None) -> str:
    """A value in words, with three digits of it or of the span it belongs to."""
    digits = 2 - math.floor(math.log10(span or abs(value) or 1.0))
    return f"{value:,.{max(0, digits)}f}" if digits < 6 else f"{value:.3g}"


def draw_mark(ax: Axes, x: float, y: float, *, right: bool, size: float) -> None:
    """A tick or a cross in a disc of `size` points, as outlines: a font may lack the characters."""
    ax.plot(
        [x],
        [y],
        marker="o" if right else "s",
        markersize=size,
        color=style.GREEN if right else style.VERMILION,
        markeredgecolor="white",
        markeredgewidth=0.06 * size,
    )
    ax.plot(
        [x],
        [y],
        marker=_TICK if right else _CROSS,
        markersize=0.55 * size,
        markerfacecolor="none",
        markeredgecolor="white",
        markeredgewidth=0.14 * size,
    )
