"""Curves over training steps and ranks."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reid_jax.visual import style


def moving_average(values: np.ndarray, window: int) -> np.ndarray:
    """Centred mean of the finite values in a window, which shrinks at both ends.

    Args:
        values: [N] float; values that are not finite are left out of every mean.
        window: odd number of neighbouring values in a mean.

    Returns:
        [N] float64; NaN where a window holds no finite value.

    Raises:
        ValueError: if `values` is not one-dimensional or `window` is not odd and positive.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1:
        raise ValueError(f"moving_average: values has shape {values.shape}, expected [N].")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"moving_average: window is {window}, expected an odd positive number.")
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    position = np.arange(len(values))
    first = np.maximum(position - window // 2, 0)
    last = np.minimum(position + window // 2 + 1, len(values))
    count = counts[last] - counts[first]
    total = sums[last] - sums[first]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _smoothing_window(num_values: int) -> int:
    return 2 * (num_values // 50) + 1


def _series(name: str, steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.shape != steps.shape:
        raise ValueError(
            f"{name!r} has shape {values.shape} and steps has shape {steps.shape}; "
            "expected one value a step, NaN where there is none."
        )
    return values


def _steps(steps: np.ndarray) -> np.ndarray:
    steps = np.asarray(steps)
    if steps.ndim != 1 or not len(steps):
        raise ValueError(f"steps has shape {steps.shape}, expected [N] with N of 1 or more.")
    return steps


def _step_axis(ax: Axes) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))


def _say_empty(ax: Axes) -> None:
    ax.text(0.5, 0.5, "no values", transform=ax.transAxes, ha="center", va="center")


@matplotlib.rc_context(style.RC)
def training_curves(
    steps: np.ndarray, terms: Mapping[str, np.ndarray], *, smooth: bool = True
) -> Figure:
    """One panel for each quantity against the training step, raw and smoothed.

    Args:
        steps: [N] int, the step of each value.
        terms: heading of a panel, with its unit, to values [N]; NaN where a step has no value.
        smooth: True draws the values pale and their moving average over 1/25 of the steps on
            top; False draws each value as a marker on a line, for the few values of a validation.

    Returns:
        The figure, two or three panels to a row.

    Raises:
        ValueError: if there are no steps or no terms, or lengths differ.
    """
    steps = _steps(steps)
    if not terms:
        raise ValueError("training_curves: terms is empty, expected at least one.")
    num_columns = 3 if len(terms) == 3 or len(terms) > 4 else min(2, len(terms))
    num_rows = -(-len(terms) // num_columns)
    figure = Figure(
        figsize=(min(5.2 * num_columns, 10.4), 0.3 + 2.25 * num_rows), layout="constrained"
    )
    axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
    figure.supxlabel("training step", fontsize=style.RC["axes.labelsize"])
    window = _smoothing_window(len(steps))
    for ax, (heading, values) in zip(axes, terms.items(), strict=False):
        values = _series(heading, steps, values)
        ax.set_title(heading)
        finite = np.isfinite(values)
        if not finite.any():
            _say_empty(ax)
        elif smooth:
            # As many raw points as steps: kept as pixels, so that 50,000 steps do not make
            # megabytes of SVG.
            ax.plot(
                steps[finite],
                values[finite],
                color=style.SKY,
                linewidth=0.8,
                alpha=0.75,
                label="each step",
                rasterized=True,
            )
            ax.plot(
                steps,
                moving_average(values, window),
                color=style.BLUE,
                label=f"mean of {window:,} steps",
            )
        else:
            ax.plot(steps[finite], values[finite], color=style.BLUE, marker="o", markersize=4)
        _step_axis(ax)
        ax.yaxis.set_major_locator(MaxNLocator(5))
    for ax in axes[len(terms) :]:
        ax.remove()
    legends = [ax.get_legend_handles_labels() for ax in axes[: len(terms)]]
    handles, labels = max(legends, key=lambda legend: len(legend[0]))
    if handles:
        figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return figure


@matplotlib.rc_context(style.RC)
def distance_scatter(
    panels: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]],
    *,
    distance: str = "distance",
) -> Figure:
    """Intra-class, mean and minimum inter-class distance of each training batch.

    Figure 1 of Zhang and Xu, batch-contrastive loss: blue is the mean distance of the positive
    pairs of a batch, green the mean and orange the minimum over its negative pairs. Only batches
    with a positive pair are drawn, as there.

    Args:
        panels: heading to (steps [N] int, intra [N], inter_mean [N], inter_min [N]), one panel
            each, left to right; a batch without a positive pair has NaN for intra.
        distance: what the distance is, for the axis.

    Returns:
        The figure; the panels share both axes.

    Raises:
        ValueError: if there is no panel, a panel has no steps or lengths differ.

    Deviation: a moving average is drawn over each cloud of dots, which the paper's figure lacks.
    """
    if not panels:
        raise ValueError("distance_scatter: panels is empty, expected at least one.")
    figure = Figure(figsize=(5.2 * max(2, len(panels)), 3.7), layout="constrained")
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    handles: list[Any] = []
    for ax, (heading, (steps, intra, inter_mean, inter_min)) in zip(
        axes, panels.items(), strict=True
    ):
        steps = _steps(steps)
        intra = _series("intra", steps, intra)
        with_positive = np.isfinite(intra)
        if heading:
            ax.set_title(heading)
        ax.set_xlabel("training step")
        _step_axis(ax)
        if not with_positive.any():
            _say_empty(ax)
            continue
        steps, window = steps[with_positive], _smoothing_window(int(with_positive.sum()))
        # Dots of 50,000 steps would hide one another at the size that suits 300.
        size = float(np.clip(3000.0 / len(steps), 1.5, 12.0))
        clouds = [
            ("mean inter-class", inter_mean, style.GREEN, "^", "-."),
            ("minimum inter-class", inter_min, style.ORANGE, "s", "--"),
            ("intra-class", intra, style.BLUE, "o", "-"),
        ]
        handles = []
        for name, values, colour, marker, line_style in clouds:
            values = _series(name, np.asarray(with_positive), values)[with_positive]
            ax.scatter(
                steps,
                values,
                s=size,
                color=colour,
                marker=marker,
                alpha=0.45,
                linewidths=0,
                rasterized=True,
            )
            (line,) = ax.plot(
                steps,
                moving_average(values, window),
                color=colour,
                linestyle=line_style,
                marker=marker,
                markevery=max(1, len(steps) // 6),
                markersize=6,
                markeredgecolor="white",
                markeredgewidth=0.6,
                # A casing keeps the line apart from a dense cloud of its own colour.
                path_effects=[withStroke(linewidth=3.6, foreground="white")],
                label=name,
            )
            handles.append(line)
    # After all panels: a limit that is set ends the scaling of the axis they share.
    axes[0].set_ylim(bottom=0.0)
    axes[0].set_ylabel(distance)
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


@matplotlib.rc_context(style.RC)
def cmc_curve(
    curves: Mapping[str, np.ndarray],
    *,
    max_rank: int = 50,
    marked_ranks: Sequence[int] = (1, 5, 10, 20),
) -> Figure:
    """Cumulative matching characteristic: share of queries with a match within the first k ranks.

    Args:
        curves: name to cmc [G] fractions in [0, 1], rank 1 first.
        max_rank: the last rank drawn.
        marked_ranks: ranks whose values get a marker, and with a single curve a number.

    Returns:
        The figure, in percent.

    Raises:
        ValueError: if there is no curve, or one is empty or not one-dimensional.
    """
    if not curves:
        raise ValueError("cmc_curve: curves is empty, expected at least one.")
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    ax = figure.subplots()
    lowest, last_rank = 100.0, 1
    for number, (name, cmc) in enumerate(curves.items()):
        cmc = np.asarray(cmc, np.float64)
        if cmc.ndim != 1 or not len(cmc):
            raise ValueError(f"cmc_curve: {name!r} has shape {cmc.shape}, expected [G].")
        percent = 100.0 * cmc[:max_rank]
        marked = [rank - 1 for rank in marked_ranks if rank <= len(percent)]
        ax.plot(
            np.arange(1, len(percent) + 1),
            percent,
            color=style.CYCLE[number % len(style.CYCLE)],
            linestyle=style.LINE_STYLES[number % len(style.LINE_STYLES)],
            marker="o^sDvP"[number % 6],
            markevery=marked,
            markersize=6,
            label=name,
        )
        if len(curves) == 1:
            for index in marked:
                ax.annotate(
                    f"{percent[index]:.1f}",
                    (index + 1, percent[index]),
                    xytext=(3, -6),
                    textcoords="offset points",
                    ha="left",
                    va="top",
                )
        lowest = min(lowest, float(np.nanmin(percent, initial=100.0)))
        last_rank = max(last_rank, len(percent))
    ax.set_xlabel("rank")
    ax.set_ylabel("queries with a match (%)")
    ax.set_xlim(0.0 if last_rank > 1 else 0.5, last_rank + 0.5)
    ax.set_xticks([rank for rank in (1, 5, 10, 20, 30, 40, 50) if rank <= last_rank])
    ax.set_ylim(max(0.0, 10.0 * np.floor((lowest - 6.0) / 10.0)), 101.0)
    if len(curves) > 1:
        ax.legend(loc="lower right")
    return figure
