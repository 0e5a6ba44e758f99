"""What a multi-level similarity network compares: attended parts and their similarity maps."""

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon, Rectangle
from matplotlib.patheffects import withStroke

from reid_jax.visual import style
from reid_jax.visual.sheet import (
    PICTURE_HEIGHT,
    checked_images,
    draw_heat,
    draw_image,
    finish_sheet,
    open_sheet,
    short_number,
)

_CASING = (withStroke(linewidth=3.4, foreground="white"),)


@dataclasses.dataclass(frozen=True)
class SimilarityLevel:
    """What one CSN found in R pairs, for S parts of the test image.

    Args:
        maps: [R, S, h, w] float, correlation of the query's features with the attended part of
            the test image, summed over channels, as large as the feature map [h, w].
        theta: [R, S, 6] float, (s_w, r_w, t_w, r_h, s_h, t_h) of each part of the test image.
        stripes: [S, 2] int, the rows [top, bottom) of the feature map that each part is taken
            from.
    """

    maps: np.ndarray
    theta: np.ndarray
    stripes: np.ndarray


def attended_outline(
    theta: np.ndarray,
    *,
    stripe: tuple[float, float],
    image_size: tuple[int, int],
    feature_size: tuple[int, int] | None = None,
) -> np.ndarray:
    r"""Corners of the quadrilateral that a spatial transformer samples, on the image.

    .. math:: x_{in} = s_w w + r_w h + t_w, \quad y_{in} = r_h w + s_h h + t_h
       \quad\text{at } w, h = \pm 1                                   (CSN paper, Sec. 3.1)

    The coordinates are normalised within the stripe with aligned corners: -1 and 1 are the centres
    of its first and last row and column. The centre of a cell of the feature map lies at the
    centre of the pixels it stands for. Where the quadrilateral leaves the stripe, the network
    reads the stripe's border instead; the corners here do not bend there.

    Args:
        theta: [6] float, (s_w, r_w, t_w, r_h, s_h, t_h).
        stripe: rows [top, bottom) of the feature map.
        image_size: (height, width) of the image in pixels.
        feature_size: (height, width) of the feature map, or None for that of the image, so that
            the stripe counts in pixels.

    Returns:
        [4, 2] float64 (x, y) in pixels, whose centres are the whole numbers: top left, top right,
        bottom right and bottom left of the sampled grid.

    Raises:
        ValueError: if theta is not [6] and finite, or the stripe is empty or leaves the map.
    """
    theta = np.asarray(theta, np.float64)
    if theta.shape != (6,) or not np.isfinite(theta).all():
        raise ValueError(
            f"attended_outline: theta is {theta} with shape {theta.shape}, expected 6 finite "
            "values."
        )
    height, width = image_size if feature_size is None else feature_size
    top, bottom = stripe
    if not 0 <= top < bottom <= height:
        raise ValueError(
            f"attended_outline: the stripe is [{top}, {bottom}), expected rows of a map of "
            f"{height} rows, the first above the last."
        )
    scale_w, turn_w, shift_w, turn_h, scale_h, shift_h = theta
    w, h = np.array([-1.0, 1.0, 1.0, -1.0]), np.array([-1.0, -1.0, 1.0, 1.0])
    x = (scale_w * w + turn_w * h + shift_w + 1) / 2 * (width - 1)
    y = top + (turn_h * w + scale_h * h + shift_h + 1) / 2 * (bottom - top - 1)
    # From cells of the feature map to pixels, centre on centre.
    cell = np.array([image_size[1] / width, image_size[0] / height])
    return (np.stack([x, y], axis=1) + 0.5) * cell - 0.5


@matplotlib.rc_context(style.RC)
def similarity_maps(
    query_images: np.ndarray,
    test_images: np.ndarray,
    levels: Mapping[str, SimilarityLevel],
    *,
    parts: Sequence[str],
    headings: Sequence[str],
) -> Figure:
    """Pairs of images with the attended parts and the similarity map of each level and part.

    Figure 4 of the CSN paper: a positive and a negative pair, CSN-2 and CSN-3, upper and middle
    part. A part is outlined on the test image, once for each level, inside its dotted stripe; its
    similarity maps lie over the query, on which they are computed, each on its own scale, whose
    ends stand below it.

    Args:
        query_images: [R, H, W, 3] uint8 RGB.
        test_images: [R, H, W, 3] uint8 RGB.
        levels: name, such as 'CSN-2', to its maps and parts.
        parts: S names, such as 'upper' and 'middle'.
        headings: R texts, such as '(a) same person, score 1.13'.

    Returns:
        The figure, two pairs to a row.

    Raises:
        ValueError: if there is no pair or level, shapes do not fit, or a value is not finite.

    Deviation: the paper's figure neither outlines the parts nor gives scales.
    """
    query_images = checked_images("query_images", query_images, "[R, H, W, 3]")
    test_images = checked_images("test_images", test_images, "[R, H, W, 3]")
    num_pairs, num_parts = len(query_images), len(parts)
    if not num_pairs or query_images.shape != test_images.shape or len(headings) != num_pairs:
        raise ValueError(
            f"similarity_maps: queries {query_images.shape}, test images {test_images.shape} and "
            f"{len(headings)} headings; expected the same shape and a heading for each pair."
        )
    if not levels or not num_parts:
        raise ValueError(
            f"similarity_maps: {len(levels)} levels and {num_parts} parts; expected 1 or more."
        )
    checked = {
        name: _checked_level(name, level, num_pairs, num_parts) for name, level in levels.items()
    }

    # One axes holds everything: the unit is the width of an image.
    height = query_images.shape[1] / query_images.shape[2]
    spacing, side, head, caption_height, foot = 0.1, 0.24, 0.6, 0.24, 0.34
    num_columns = min(2, num_pairs)
    num_rows = -(-num_pairs // num_columns)
    block_width = side + (2 + len(checked)) * (1.0 + spacing)
    block_height = head + num_parts * (height + caption_height)
    block_gap = 0.3
    width = spacing + num_columns * (block_width + block_gap) - block_gap
    total = num_rows * block_height + foot
    figure, ax = open_sheet(width, total, 1.05)
    for pair in range(num_pairs):
        left = spacing + pair % num_columns * (block_width + block_gap)
        top = pair // num_columns * block_height
        ax.text(left, top + 0.08, headings[pair], va="top", weight="bold", fontsize=10.0)
        columns = left + side + np.arange(2 + len(checked)) * (1.0 + spacing)
        for x, text in zip(columns, ["query", "test image", *checked], strict=True):
            ax.text(x + 0.5, top + head - 0.07, text, ha="center", va="bottom", fontsize=9.5)
        for part, name in enumerate(parts):
            row = top + head + part * (height + caption_height)
            ax.text(
                left + side / 2 - 0.04,
                row + height / 2,
                name,
                rotation=90,
                ha="center",
                va="center",
                fontsize=9.5,
            )
            for x, images in zip(columns, (query_images, test_images), strict=False):
                draw_image(ax, images[pair], x, row, height=height, max_height=PICTURE_HEIGHT)
            _draw_parts(ax, test_images[pair], checked, pair, part, columns[1], row)
            for x, level in zip(columns[2:], checked.values(), strict=True):
                values = level.maps[pair, part]
                low, high = float(values.min()), float(values.max())
                norm = Normalize(low, high if high > low else low + 1.0)
                draw_heat(ax, query_images[pair], values, x, row, height=height, norm=norm)
                ax.text(
                    x + 0.5,
                    row + height + 0.04,
                    f"{short_number(low, high - low)} to {short_number(high, high - low)}",
                    ha="center",
                    va="top",
                    fontsize=8.0,
                )
    handles = [
        Line2D([], [], path_effects=_CASING, label=f"sampled by {name}", **_look(number))
        for number, name in enumerate(checked)
    ]
    handles.append(Line2D([], [], color=style.INK, linestyle=":", linewidth=1.2, label="stripe"))
    # Anchored to a point: a tight box moves what hangs on the figure's own.
    figure.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=len(handles),
        borderpad=0.1,
    )
    finish_sheet(ax, width, total)
    return figure


def _checked_level(
    name: str, level: SimilarityLevel, num_pairs: int, num_parts: int
) -> SimilarityLevel:
    maps, theta = np.asarray(level.maps, np.float64), np.asarray(level.theta, np.float64)
    stripes = np.asarray(level.stripes)
    fits = (
        maps.ndim == 4
        and maps.size
        and maps.shape[:2] == (num_pairs, num_parts)
        and theta.shape == (num_pairs, num_parts, 6)
        and stripes.shape == (num_parts, 2)
    )
    if not fits:
        raise ValueError(
            f"similarity_maps: {name!r} has maps {maps.shape}, theta {theta.shape} and stripes "
            f"{stripes.shape}; expected [R, S, h, w], [R, S, 6] and [S, 2] with R of {num_pairs} "
            f"pairs and S of {num_parts} parts."
        )
    if not np.isfinite(maps).all():
        raise ValueError(f"similarity_maps: the maps of {name!r} are not finite.")
    return SimilarityLevel(maps, theta, stripes)


def _look(number: int) -> dict:
    return {
        "color": (style.BLUE, style.VERMILION, style.GREEN)[number % 3],
        "linestyle": ("-", (0, (3.0, 1.2)), "-.")[number % 3],
        "linewidth": 1.8,
    }


def _draw_parts(
    ax: Axes,
    image: np.ndarray,
    levels: Mapping[str, SimilarityLevel],
    pair: int,
    part: int,
    left: float,
    top: float,
) -> None:
    """Draws the stripe of a part and what each level samples of it."""
    num_rows, num_columns = image.shape[:2]
    frame = Rectangle((left, top), 1.0, num_rows / num_columns, transform=ax.transData)
    stripes = dict.fromkeys(
        tuple(level.stripes[part] / level.maps.shape[2]) for level in levels.values()
    )
    for first, last in stripes:
        ax.add_patch(
            Rectangle(
                (left, top + first * num_rows / num_columns),
                1.0,
                (last - first) * num_rows / num_columns,
                fill=False,
                edgecolor="black",
                linestyle=":",
                linewidth=1.2,
                path_effects=[withStroke(linewidth=2.4, foreground="white")],
            )
        )
    for number, level in enumerate(levels.values()):
        corners = attended_outline(
            level.theta[pair, part],
            stripe=tuple(level.stripes[part]),
            image_size=(num_rows, num_columns),
            feature_size=level.maps.shape[2:],
        )
        outline = Polygon(
            (corners + 0.5) / num_columns + [left, top],
            fill=False,
            path_effects=_CASING,
            **_look(number),
        )
        ax.add_patch(outline)
        # What lies outside the image would be drawn over its neighbours.
        outline.set_clip_path(frame)
