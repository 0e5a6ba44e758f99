"""Same person or not: error rates over thresholds, and how far a probability can be trusted."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from reid_jax.visual import style


@matplotlib.rc_context(style.RC)
def roc_curve(
    false_accept_rate: np.ndarray,
    true_accept_rate: np.ndarray,
    *,
    points: Mapping[float, float] | None = None,
) -> Figure:
    """Receiver operating characteristic, false accepts on a logarithmic axis.

    Args:
        false_accept_rate: [T] fractions in [0, 1], increasing; what is 0 has no place on the axis.
        true_accept_rate: [T] fractions in [0, 1].
        points: false accept rate to true accept rate of the points that get a marker and a number.

    Returns:
        The figure, in percent; the dotted line is where a false accept is as frequent as a missed
        match.

    Raises:
        ValueError: if lengths differ, no rate is above 0, or a value is outside [0, 1].
    """
    false_accept = np.asarray(false_accept_rate, np.float64)
    true_accept = np.asarray(true_accept_rate, np.float64)
    both = np.concatenate([false_accept.ravel(), true_accept.ravel()])
    if false_accept.ndim != 1 or false_accept.shape != true_accept.shape:
        raise ValueError(
            f"roc_curve: false_accept_rate has shape {false_accept.shape} and true_accept_rate "
            f"{true_accept.shape}; expected [T] both."
        )
    if not (false_accept > 0).any() or not ((both >= 0) & (both <= 1)).all():
        raise ValueError("roc_curve: expected fractions in [0, 1], a false accept rate above 0.")
    shown = false_accept > 0
    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
    ax = figure.subplots()
    equal = np.geomspace(0.6 * false_accept[shown].min(), 1.0, 100)
    ax.plot(100 * equal, 100 * (1 - equal), color=style.INK, linestyle=":", linewidth=1.2)
    ax.plot(100 * false_accept[shown], 100 * true_accept[shown], color=style.BLUE)
    for rate, accepted in (points or {}).items():
        ax.plot([100 * rate], [100 * accepted], marker="o", markersize=6, color=style.BLUE)
        ax.annotate(
            f"{100 * accepted:.1f}",
            (100 * rate, 100 * accepted),
            xytext=(-4, 4),
            textcoords="offset points",
            ha="right",
            va="bottom",
        )
    ax.set_xscale("log")
    # Room for the number of a point at the left end.
    ax.set_xlim(60 * false_accept[shown].min(), 100.0)
    ax.set_ylim(0.0, 108.0)
    ax.set_yticks(range(0, 101, 20))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.minorticks_off()
    ax.set_xlabel("false accepts (%)")
    ax.set_ylabel("true accepts (%)")
    return figure


@matplotlib.rc_context(style.RC)
def reliability_curve(predicted: np.ndarray, observed: np.ndarray, share: np.ndarray) -> Figure:
    """Probability that was said beside the share that came true, bin by bin.

    Args:
        predicted: [E] mean probability of the pairs in a bin, in [0, 1].
        observed: [E] share of them that are of one person.
        share: [E] share of all pairs that lie in the bin; the area of its marker.

    Returns:
        The figure, in percent; on the dotted line what is said comes true.

    Raises:
        ValueError: if there is no bin, lengths differ or a value is outside [0, 1].
    """
    columns = [np.asarray(values, np.float64) for values in (predicted, observed, share)]
    if columns[0].ndim != 1 or not len(columns[0]) or len({c.shape for c in columns}) > 1:
        raise ValueError(
            f"reliability_curve: shapes {[column.shape for column in columns]}, expected [E] each "
            "with E of 1 or more."
        )
    if not all(((column >= 0) & (column <= 1)).all() for column in columns):
        raise ValueError("reliability_curve: expected fractions in [0, 1].")
    said, true, weight = columns
    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
    ax = figure.subplots()
    ax.plot([0, 100], [0, 100], color=style.INK, linestyle=":", linewidth=1.2)
    ax.plot(100 * said, 100 * true, color=style.BLUE, linewidth=1.4)
    sizes = 16 + 260 * weight / max(weight.max(), 1e-9)
    ax.scatter(100 * said, 100 * true, s=sizes, color=style.BLUE, alpha=0.7, linewidths=0)
    ax.set_xlim(-3.0, 103.0)
    ax.set_ylim(-6.0, 106.0)
    ax.set_xlabel("probability of one person (%)")
    ax.set_ylabel("of one person (%)")
    return figure
