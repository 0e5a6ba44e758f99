"""How far repeated runs lie apart."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from reid_jax.visual import style


@matplotlib.rc_context(style.RC)
def run_dots(metrics: Mapping[str, Sequence[float | None]]) -> Figure:
    """A dot for each run beside the mean and one standard deviation to each side.

    Args:
        metrics: heading, such as 'rank-1', to a fraction in [0, 1] of each run; None or NaN, where
            a run lacks it, is left out.

    Returns:
        The figure in percent, a row for each metric, the first one at the top.

    Raises:
        ValueError: if there is no metric.
    """
    if not metrics:
        raise ValueError("run_dots: metrics is empty, expected at least one.")
    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
    ax = figure.subplots()
    for row, values in enumerate(metrics.values()):
        percent = 100.0 * np.array([np.nan if v is None else v for v in values], np.float64)
        percent = percent[np.isfinite(percent)]
        if not len(percent):
            ax.text(0.5, row, "no values", transform=ax.get_yaxis_transform(), ha="center")
            continue
        # Runs of one value lie beside each other, not on each other.
        offsets = 0.16 * np.where(np.arange(len(percent)) % 2, 1.0, -1.0)
        mean = percent.mean()
        deviation = percent.std(ddof=1) if len(percent) > 1 else 0.0
        ax.plot([mean - deviation, mean + deviation], [row, row], color=style.INK, linewidth=1.4)
        ax.plot([mean], [row], marker="|", markersize=16, color=style.INK, markeredgewidth=1.8)
        ax.plot(percent, row + offsets, linestyle="none", marker="o", markersize=5.5,
                color=style.BLUE, alpha=0.75)  # fmt: skip
        ax.annotate(
            f"{mean:.1f}",
            (mean, row),
            xytext=(0, 10),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=9.0,
        )
    ax.set_yticks(range(len(metrics)), labels=list(metrics))
    ax.set_ylim(len(metrics) - 0.4, -0.75)
    ax.margins(x=0.08)
    ax.set_xlabel("each run, mean and standard deviation (%)")
    ax.grid(axis="y", visible=False)
    return figure
