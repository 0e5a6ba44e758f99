"""Curves over training steps and ranks."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
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


def _panels(figure: Figure, num_panels: int) -> list[Axes]:
    """Axes in rows of up to three that fill the width: five panels are three above two."""
    num_rows = -(-num_panels // 3)
    widths = [len(row) for row in np.array_split(np.arange(num_panels), num_rows)]
    columns = math.lcm(*widths)
    grid = figure.add_gridspec(num_rows, columns)
    axes = []
    for row, width in enumerate(widths):
        span = columns // width
        for place in range(width):
            axes.append(figure.add_subplot(grid[row, place * span : (place + 1) * span]))
            if row == num_rows - 1:
                axes[-1].set_xlabel("training step")
    return axes


@matplotlib.rc_context(style.RC)
def training_curves(
    steps: np.ndarray,
    terms: Mapping[str, np.ndarray],
    *,
    smooth: bool = True,
    drops: Sequence[float] = (),
) -> Figure:
    """One panel for each quantity against the training step.

    Args:
        steps: [N] int, the step of each value.
        terms: heading of a panel, with its unit, to values [N]; NaN where a step has no value.
        smooth: True draws the moving average over 1/25 of the steps, in a band of one standard
            deviation to each side (with fewer than 50 steps the values themselves); False draws
            each value as a marker on a line, for the few values of a validation.
        drops: steps at which the learning rate falls, marked in every panel.

    Returns:
        The figure, up to three panels to a row, which fill it.

    Raises:
        ValueError: if there are no steps or no terms, or lengths differ.
    """
    steps = _steps(steps)
    if not terms:
        raise ValueError("training_curves: terms is empty, expected at least one.")
    num_rows = -(-len(terms) // 3)
    widest = -(-len(terms) // num_rows)
    figure = Figure(figsize=(min(5.2 * widest, 10.4), 0.4 + 2.1 * num_rows), layout="constrained")
    window = _smoothing_window(len(steps))
    # A thousand places are more than a panel has pixels: 50,000 steps make no megabytes of SVG.
    shown = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), 1000)).astype(int))
    for ax, (heading, values) in zip(_panels(figure, len(terms)), terms.items(), strict=True):
        values = _series(heading, steps, values)
        ax.set_title(heading)
        finite = np.isfinite(values)
        if not finite.any():
            _say_empty(ax)
        elif smooth and window > 1:
            mean = moving_average(values, window)
            variance = moving_average((values - mean) ** 2, window)
            at, mean, deviation = steps[shown], mean[shown], np.sqrt(variance[shown])
            ax.fill_between(
                at,
                # A loss or a rate that is never below 0 is not drawn there.
                np.maximum(mean - deviation, min(0.0, float(values[finite].min()))),
                mean + deviation,
                color=style.SKY,
                alpha=0.3,
                linewidth=0,
                label="one standard deviation",
            )
            ax.plot(at, mean, color=style.BLUE, label=f"mean of {window:,} steps")
        else:
            marker = None if smooth else "o"
            ax.plot(steps[finite], values[finite], color=style.BLUE, marker=marker, markersize=4)
        for drop in drops:
            ax.axvline(
                drop, color=style.INK, linewidth=1.0, linestyle=":", label="learning rate falls"
            )
        _step_axis(ax)
        ax.yaxis.set_major_locator(MaxNLocator(5))
    legends = [ax.get_legend_handles_labels() for ax in figure.axes]
    named = {
        label: handle
        for handles, labels in legends
        for handle, label in zip(handles, labels, strict=True)
    }
    if named:
        figure.legend(list(named.values()), list(named), loc="outside upper left", ncols=3)
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
        size = float(np.clip(2000.0 / len(steps), 1.0, 8.0))
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
                alpha=0.3,
                linewidths=0,
                rasterized=True,
            )
            (line,) = ax.plot(
                steps,
                moving_average(values, window),
                color=colour,
                linestyle=line_style,
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
    spread: tuple[np.ndarray, np.ndarray] | None = None,
) -> Figure:
    """Cumulative matching characteristic: share of queries with a match within the first k ranks.

    An axis that does not begin at 0 has a break mark.

    Args:
        curves: name to cmc [G] fractions in [0, 1], rank 1 first.
        max_rank: the last rank drawn.
        marked_ranks: ranks whose values get a marker, and with a single curve a number.
        spread: lowest and highest of several runs, [G] each, drawn as a band, or None.

    Returns:
        The figure, in percent.

    Raises:
        ValueError: if there is no curve, or one is empty or not one-dimensional.
    """
    if not curves:
        raise ValueError("cmc_curve: curves is empty, expected at least one.")
    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
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
                # Below the curve, where that is not below the axis.
                low = percent[index] < 12
                ax.annotate(
                    f"{percent[index]:.1f}",
                    (index + 1, percent[index]),
                    xytext=(-3, 6) if low else (3, -6),
                    textcoords="offset points",
                    ha="left",
                    va="bottom" if low else "top",
                )
        lowest = min(lowest, float(np.nanmin(percent, initial=100.0)))
        last_rank = max(last_rank, len(percent))
    if spread is not None:
        low, high = (100.0 * np.asarray(values, np.float64)[:max_rank] for values in spread)
        ranks = np.arange(1, len(low) + 1)
        ax.fill_between(ranks, low, high, color=style.BLUE, alpha=0.18, linewidth=0)
        lowest = min(lowest, float(np.nanmin(low, initial=100.0)))
    ax.set_xlabel("rank")
    ax.set_ylabel("queries with a match (%)")
    ax.set_xlim(0.0 if last_rank > 1 else 0.5, last_rank + 0.5)
    ax.set_xticks([rank for rank in (1, 5, 10, 20, 30, 40, 50) if rank <= last_rank])
    bottom = max(0.0, 10.0 * np.floor((lowest - 6.0) / 10.0))
    ax.set_ylim(bottom, 101.0)
    if bottom > 0:
        _mark_break(ax)
    if len(curves) > 1:
        ax.legend(loc="lower right")
    return figure


def _mark_break(ax: Axes) -> None:
    """Two strokes across the foot of the vertical axis: it does not begin at 0."""
    strokes = [[(-0.012, low - 0.014), (0.012, low + 0.014)] for low in (0.035, 0.07)]
    ax.add_collection(
        LineCollection(
            strokes,
            colors=style.INK,
            linewidths=1.2,
            transform=ax.transAxes,
            clip_on=False,
            label="_break",
        ),
        autolim=False,
    )
