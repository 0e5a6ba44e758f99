"""Distributions of the distances of same and different pairs."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from reid_jax import evaluation
from reid_jax.visual import style


def equal_error(
    edges: np.ndarray, same_counts: np.ndarray, different_counts: np.ndarray
) -> tuple[float, float]:
    """The point of equal error of a histogram, as `reid_jax.evaluation.equal_error` defines it.

    Args:
        edges: [E + 1] ascending bin edges, in units of the distance.
        same_counts: [E] pairs of one identity in each bin.
        different_counts: [E] pairs of two identities in each bin.

    Returns:
        (threshold, error rate): in units of the distance and as a fraction in [0, 1]; both NaN
        where there is no pair of a kind.

    Raises:
        ValueError: if the lengths do not fit, edges do not ascend or a count is negative.
    """
    edges, same, different = _checked(edges, same_counts, different_counts)
    if not same.sum() or not different.sum():
        return float("nan"), float("nan")
    histogram = evaluation.PairDistanceHistogram(edges, same, different)
    return evaluation.equal_error(evaluation.roc_from_histogram(histogram))


def _checked(
    edges: np.ndarray, same_counts: np.ndarray, different_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    edges = np.asarray(edges, np.float64)
    same = np.asarray(same_counts, np.float64)
    different = np.asarray(different_counts, np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not same.shape == different.shape == edges[1:].shape:
        raise ValueError(
            f"pair histogram: edges {edges.shape}, same {same.shape}, different "
            f"{different.shape}; expected [E + 1], [E] and [E] with E of 1 or more."
        )
    if not (np.diff(edges) > 0).all():
        raise ValueError("pair histogram: edges do not ascend.")
    if (same < 0).any() or (different < 0).any():
        raise ValueError("pair histogram: a count is negative.")
    return edges, same, different


@matplotlib.rc_context(style.RC)
def pair_distance_histogram(
    edges: np.ndarray,
    same_counts: np.ndarray,
    different_counts: np.ndarray,
    *,
    distance: str = "distance",
) -> Figure:
    """Distances of same and of different pairs, with the equal-error threshold.

    Each kind is scaled to 100 % by itself: different pairs outnumber same pairs a hundredfold.

    Args:
        edges: [E + 1] ascending bin edges, in units of the distance.
        same_counts: [E] pairs of one identity in each bin.
        different_counts: [E] pairs of two identities in each bin.
        distance: what the distance is, for the axis.

    Returns:
        The figure.

    Raises:
        ValueError: as `equal_error`.
    """
    edges, same, different = _checked(edges, same_counts, different_counts)
    threshold, rate = equal_error(edges, same, different)
    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
    ax = figure.subplots()
    kinds = [
        ("different identities", different, style.VERMILION, "////", "--"),
        ("same identity", same, style.BLUE, None, "-"),
    ]
    handles, highest = [], 0.0
    for name, counts, colour, hatch, line_style in kinds:
        percent = 100.0 * counts / max(counts.sum(), 1.0)
        highest = max(highest, percent.max())
        outline: dict[str, Any] = {
            "edgecolor": colour,
            "linewidth": 1.6,
            "linestyle": line_style,
            "hatch": hatch,
        }
        ax.stairs(percent, edges, fill=True, facecolor=colour, alpha=0.22)
        ax.stairs(percent, edges, fill=False, **outline)
        label = f"{name}, {int(counts.sum()):,} pairs"
        handles.append(Patch(facecolor=(colour, 0.22), label=label, **outline))
    if np.isfinite(threshold):
        ax.axvline(threshold, color=style.INK, linewidth=1.4, linestyle=":")
        left_half = threshold < 0.5 * (edges[0] + edges[-1])
        ax.annotate(
            f"equal error {100.0 * rate:.1f} %\nat {threshold:.3g}",
            (threshold, 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(6 if left_half else -6, 0),
            textcoords="offset points",
            ha="left" if left_half else "right",
            va="top",
        )
    filled = np.flatnonzero(same + different)
    if len(filled):
        ax.set_xlim(edges[filled[0]], edges[filled[-1] + 1])
    ax.set_xlabel(distance)
    ax.set_ylabel("pairs of the kind (% a bin)")
    # Room above the bars for the words beside the threshold.
    ax.set_ylim(0.0, 1.3 * highest or 1.0)
    figure.legend(handles=handles, loc="outside upper center")
    return figure


@matplotlib.rc_context(style.RC)
def precision_histogram(average_precision: np.ndarray) -> Figure:
    """How many queries have which average precision.

    Args:
        average_precision: [Q] fractions in [0, 1]; NaN, for a query without a match, is left out.

    Returns:
        The figure: 20 bars of 5 % each, and a line at the mean.

    Raises:
        ValueError: if no query has a value, or one is outside [0, 1].
    """
    values = np.asarray(average_precision, np.float64)
    values = values[np.isfinite(values)]
    if not len(values) or values.min() < 0 or values.max() > 1 + 1e-9:
        raise ValueError(
            f"precision_histogram: {len(values)} values"
            + (f" from {values.min():.4g} to {values.max():.4g}" if len(values) else "")
            + ", expected fractions in [0, 1], 1 or more."
        )
    figure = Figure(figsize=(5.2, 2.9), layout="constrained")
    ax = figure.subplots()
    counts, edges = np.histogram(100.0 * values, np.linspace(0.0, 100.0, 21))
    ax.stairs(counts, edges, fill=True, facecolor=style.BLUE, alpha=0.35)
    ax.stairs(counts, edges, color=style.BLUE, linewidth=1.4)
    mean = 100.0 * values.mean()
    ax.axvline(mean, color=style.INK, linewidth=1.4, linestyle=":")
    left_half = mean < 50.0
    ax.annotate(
        f"mean {mean:.1f} %",
        (mean, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(6 if left_half else -6, 0),
        textcoords="offset points",
        ha="left" if left_half else "right",
        va="top",
    )
    ax.set_xlim(0.0, 100.0)
    ax.set_ylim(0.0, 1.18 * counts.max())
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlabel("average precision (%)")
    ax.set_ylabel("queries")
    return figure
