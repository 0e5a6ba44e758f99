"""Where a network is active: heat maps over the images."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from reid_jax.visual import style
from reid_jax.visual.sheet import (
    PICTURE_HEIGHT,
    checked_images,
    draw_heat,
    draw_image,
    finish_sheet,
    heat_scale,
    open_sheet,
    short_number,
)


def channel_sum(feature_map: np.ndarray, *, drop_border_channels: bool = False) -> np.ndarray:
    """Sum of a feature map over its channels, as of 'res4f' in Figure 5 of Zheng, Zheng and Yang.

    Args:
        feature_map: [B, h, w, C] float.
        drop_border_channels: leave out each channel of an image whose largest or second largest
            value lies in the first two columns or the first row, as the paper's code does: padding
            makes some channels fire at the border whatever the image. Of equal values the one in
            the lower column, then the lower row, counts as the larger.

    Returns:
        [B, h, w] float64.

    Raises:
        ValueError: if `feature_map` is not [B, h, w, C], or has less than two places while
            channels are to be dropped.
    """
    feature_map = np.asarray(feature_map, np.float64)
    if feature_map.ndim != 4 or not feature_map.size:
        raise ValueError(
            f"channel_sum: feature_map has shape {feature_map.shape}, expected [B, h, w, C]."
        )
    if not drop_border_channels:
        return feature_map.sum(-1)
    num_images, height, width, num_channels = feature_map.shape
    if height * width < 2:
        raise ValueError(
            f"channel_sum: a map of {height} x {width} has no second largest value; use "
            "drop_border_channels=False."
        )
    # Column by column, as MATLAB numbers places: argmax takes the first of equal values.
    values = feature_map.transpose(0, 3, 2, 1).reshape(num_images, num_channels, width * height)
    largest = values.argmax(-1)
    rest = values.copy()
    np.put_along_axis(rest, largest[..., None], -np.inf, axis=-1)
    places = np.stack([largest, rest.argmax(-1)])
    at_border = ((places // height < 2) | (places % height == 0)).any(0)
    return np.where(at_border[:, None, None, :], 0, feature_map).sum(-1)


@matplotlib.rc_context(style.RC)
def activation_maps(
    images: np.ndarray, maps: Mapping[str, np.ndarray], *, common_scale: bool = False
) -> Figure:
    """Images, each beside the heat maps of several networks laid over it.

    Figure 5 of Zheng, Zheng and Yang: identification, verification and both. Below each map stands
    its largest value.

    Args:
        images: [R, H, W, 3] uint8 RGB.
        maps: heading of a column to maps [R, h, w] of values of 0 or more, such as of
            `channel_sum`; they are enlarged to the images by linear interpolation.
        common_scale: False colours each map from 0 to its own largest value, as the paper's code
            does, which shows where each network looks; True colours all from 0 to the largest of
            all, which shows also how much.

    Returns:
        The figure, an image to a row; the scale is written below it.

    Raises:
        ValueError: if there is no image or map, shapes do not fit, or a value is negative or not
            finite.

    Deviation: the paper shows the maps alone and in colours whose lightness rises and falls.
    """
    images = checked_images("images", images, "[R, H, W, 3]")
    if not len(images) or not maps:
        raise ValueError(
            f"activation_maps: {len(images)} images and {len(maps)} maps; expected 1 or more."
        )
    columns = {name: np.asarray(values, np.float64) for name, values in maps.items()}
    for name, values in columns.items():
        if values.ndim != 3 or len(values) != len(images) or not values.size:
            raise ValueError(
                f"activation_maps: {name!r} has shape {values.shape}, expected [R, h, w] with R "
                f"of {len(images)}."
            )
        if not np.isfinite(values).all() or values.min() < 0:
            raise ValueError(
                f"activation_maps: {name!r} has values from {values.min():.3g} to "
                f"{values.max():.3g}; expected finite values of 0 or more, as after a ReLU."
            )
    largest = max(float(values.max()) for values in columns.values())

    height = images.shape[1] / images.shape[2]
    spacing, head, caption_height, bar_height = 0.1, 0.36, 0.28, 0.5
    pitch = height + caption_height
    width = (1 + len(columns)) * (1.0 + spacing) + spacing
    total = head + len(images) * pitch + bar_height
    # A square image is 1.4 inches wide, a pedestrian 1.1: sizes for a page.
    inches = 1.4 if height < 1.5 else 1.1
    figure, ax = open_sheet(width, total, inches)
    centre = spacing + 0.5 + np.arange(1 + len(columns)) * (1.0 + spacing)
    for x, heading in zip(centre, ["image", *columns], strict=True):
        ax.text(x, head - 0.1, heading, ha="center", va="bottom", fontsize=10.0)
    for row, image in enumerate(images):
        top = head + row * pitch
        draw_image(ax, image, spacing, top, height=height, max_height=PICTURE_HEIGHT)
        for x, values in zip(centre[1:], columns.values(), strict=True):
            peak = float(values[row].max())
            norm = Normalize(0.0, (largest if common_scale else peak) or 1.0)
            draw_heat(ax, image, values[row], x - 0.5, top, height=height, norm=norm)
            ax.text(
                x,
                top + height + 0.05,
                f"largest {short_number(peak)}",
                ha="center",
                va="top",
                fontsize=8.5,
            )
    bar = figure.add_axes(
        (
            (centre[1] - 0.5) / width,
            0.34 / total,
            (centre[-1] - centre[1] + 1.0) / width,
            0.09 / total,
        )
    )
    scale = ScalarMappable(Normalize(0.0, (largest or 1.0) if common_scale else 1.0), heat_scale())
    colorbar = figure.colorbar(scale, cax=bar, orientation="horizontal")
    colorbar.outline.set_visible(False)
    if common_scale:
        words = "one scale\nfor all maps"
    else:
        colorbar.set_ticks([0.0, 1.0], labels=["0", "largest"])
        left, right = bar.get_xticklabels()
        left.set_horizontalalignment("left")
        right.set_horizontalalignment("right")
        words = "each map on\nits own scale"
    ax.text(spacing + 0.5, total - 0.3, words, ha="center", va="center", fontsize=9.0)
    bar.tick_params(labelsize=8.5, length=2.0)
    finish_sheet(ax, width, total)
    return figure
