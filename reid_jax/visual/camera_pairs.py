"""Results between pairs of cameras."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from reid_jax.visual import style

# Its lightness rises evenly, so that it reads without colour and on paper.
_COLOURS = "viridis"


@matplotlib.rc_context(style.RC)
def camera_pair_heat_map(
    matrices: Mapping[str, np.ndarray], *, cameras: Sequence[int | str] | None = None
) -> Figure:
    """A measure between each camera of the queries and each of the gallery, as numbers and colours.

    Figure 6 of Zheng, Zheng and Yang. The mean over the pairs of two cameras stands in the title;
    cells of one camera with itself have a dotted border and do not count.

    Args:
        matrices: heading, such as 'mAP' or 'rank-1', to [C, C] fractions in [0, 1], a row for each
            camera of the queries, a column for each of the gallery; NaN where a pair of cameras
            has no query with a match.
        cameras: C names of the cameras, or None for 1 to C.

    Returns:
        The figure in percent, a panel for each matrix, left to right, on one scale, whose ends
        are tens.

    Raises:
        ValueError: if there is no matrix, one is not [C, C] with C of 2 or more, a value is
            outside [0, 1], or there are not C names.
    """
    if not matrices:
        raise ValueError("camera_pair_heat_map: matrices is empty, expected at least one.")
    panels = {name: np.asarray(values, np.float64) for name, values in matrices.items()}
    num_cameras = len(next(iter(panels.values())))
    if cameras is None:
        cameras = range(1, num_cameras + 1)
    names = [str(camera) for camera in cameras]
    for name, values in panels.items():
        if num_cameras < 2 or values.shape != (num_cameras, num_cameras):
            raise ValueError(
                f"camera_pair_heat_map: {name!r} has shape {values.shape}, expected [C, C] with C "
                "of 2 or more, the same for all."
            )
        outside = (values < 0) | (values > 1) | np.isinf(values)
        if outside.any():
            raise ValueError(
                f"camera_pair_heat_map: {name!r} has the value {values[outside][0]:.4g}, expected "
                "fractions in [0, 1]."
            )
    if len(names) != num_cameras:
        raise ValueError(
            f"camera_pair_heat_map: {len(names)} cameras and {num_cameras} rows; expected one "
            "name for each."
        )
    every = np.concatenate([values[np.isfinite(values)] for values in panels.values()])
    lowest = 10.0 * np.floor(10.0 * every.min(initial=1.0))
    highest = max(10.0 * np.ceil(10.0 * every.max(initial=0.0)), lowest + 10.0)
    side = max(3.9, 0.62 * num_cameras)
    middle = (lowest + highest) / 2
    figure = Figure(figsize=(side * len(panels) + 1.2, side + 0.55), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for number, (ax, (name, values)) in enumerate(zip(axes, panels.items(), strict=True)):
        percent = 100.0 * values
        ax.imshow(
            np.ma.masked_invalid(percent),
            cmap=_COLOURS,
            vmin=lowest,
            vmax=highest,
            interpolation="none",
        )
        for row, column in np.ndindex(percent.shape):
            value = percent[row, column]
            # Black on the light half of the scale and white on the dark one; where there is no
            # colour, the page shows and the text has that of the page.
            colour = style.INK if np.isnan(value) else "black" if value >= middle else "white"
            ax.text(
                column,
                row,
                "–" if np.isnan(value) else f"{value:.1f}",  # noqa: RUF001
                ha="center",
                va="center",
                color=colour,
                fontsize=10.0,
            )
            if row == column and not np.isnan(value):
                ax.add_patch(
                    Rectangle(
                        (column - 0.44, row - 0.44),
                        0.88,
                        0.88,
                        fill=False,
                        edgecolor=colour,
                        linestyle=":",
                        linewidth=1.2,
                    )
                )
        letter = f"({chr(ord('a') + number)}) " if len(panels) > 1 else ""
        ax.set_title(f"{letter}{name}, {_cross_camera_words(percent)}", fontsize=10.0)
        ax.set_xticks(range(num_cameras), labels=names)
        ax.set_yticks(range(num_cameras), labels=names)
        ax.set_xlabel("camera of the gallery")
        if number == 0:
            ax.set_ylabel("camera of the query")
        ax.grid(False)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    colorbar = figure.colorbar(axes[-1].images[0], ax=axes, label="%", aspect=30, pad=0.02)
    colorbar.outline.set_visible(False)
    return figure


def _cross_camera_words(percent: np.ndarray) -> str:
    across = percent[~np.eye(len(percent), dtype=bool)]
    measured = across[np.isfinite(across)]
    if not len(measured):
        return "no pairs of cameras"
    count = f"{len(measured)}" if len(measured) == len(across) else f"{len(measured)} measured"
    return f"mean of {count} pairs {measured.mean():.2f} %"
