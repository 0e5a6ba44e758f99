"""Results against the size of the gallery."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reid_jax.visual import style


@matplotlib.rc_context(style.RC)
def distractor_curve(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> Figure:
    """Rank-1 and mAP as distractors make the gallery larger.

    Figure 8 of Zheng, Zheng and Yang: the Market-1501 gallery of 19,732 images, and that with
    100,000, 200,000 and 500,000 more.

    Args:
        curves: label to (gallery sizes [S] int, ascending, rank-1 [S], mAP [S]), fractions in
            [0, 1].

    Returns:
        The figure in percent: rank-1 on the left, mAP on the right. With one or two curves each
        point has its number.

    Raises:
        ValueError: if there is no curve, lengths differ, sizes do not ascend or a value is outside
            [0, 1].
    """
    if not curves:
        raise ValueError("distractor_curve: curves is empty, expected at least one.")
    checked = {label: _checked(label, *curve) for label, curve in curves.items()}
    ticks = np.unique(np.concatenate([sizes for sizes, *_ in checked.values()]))
    figure = Figure(figsize=(8.4, 3.5), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True)
    for ax, heading, measure in zip(axes, ("rank-1", "mAP"), (1, 2), strict=True):
        ax.set_title(heading)
        for number, (label, curve) in enumerate(checked.items()):
            percent = 100.0 * curve[measure]
            ax.plot(
                curve[0],
                percent,
                color=style.CYCLE[number % len(style.CYCLE)],
                linestyle=style.LINE_STYLES[number % len(style.LINE_STYLES)],
                marker="o^sDvP"[number % 6],
                markersize=6,
                label=label,
            )
            if len(checked) > 2:
                continue
            others = [other[measure] for name, other in checked.items() if name != label]
            above = not others or curve[measure].mean() >= others[0].mean()
            for size, value in zip(curve[0], percent, strict=True):
                ax.annotate(
                    f"{value:.1f}",
                    (size, value),
                    # A falling curve leaves room above on the right and below on the left.
                    xytext=(3, 3) if above else (-3, -4),
                    textcoords="offset points",
                    ha="left" if above else "right",
                    va="bottom" if above else "top",
                    fontsize=9.0,
                )
        ax.set_xlabel("gallery images")
        ax.set_xticks(_apart(ticks))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda size, _: _short(size)))
        ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        ax.margins(x=0.16, y=0.2)
    axes[0].set_ylabel("%")
    if len(checked) > 1:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=min(3, len(checked)))
    return figure


def _checked(
    label: str, sizes: np.ndarray, rank1: np.ndarray, mean_ap: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sizes = np.asarray(sizes)
    rank1, mean_ap = np.asarray(rank1, np.float64), np.asarray(mean_ap, np.float64)
    if sizes.ndim != 1 or not len(sizes) or not rank1.shape == mean_ap.shape == sizes.shape:
        raise ValueError(
            f"distractor_curve: {label!r} has sizes {sizes.shape}, rank-1 {rank1.shape} and mAP "
            f"{mean_ap.shape}; expected [S] each with S of 1 or more."
        )
    if not (np.diff(sizes) > 0).all():
        raise ValueError(f"distractor_curve: the sizes of {label!r} do not ascend: {list(sizes)}.")
    values = np.concatenate([rank1, mean_ap])
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"distractor_curve: {label!r} has values from {values.min():.4g} to "
            f"{values.max():.4g}, expected fractions in [0, 1]."
        )
    return sizes, rank1, mean_ap


def _apart(ticks: np.ndarray) -> list[int]:
    """The ticks that leave room for their words, from the left."""
    chosen = [int(ticks[0])]
    for tick in ticks[1:]:
        if tick - chosen[-1] >= 0.12 * (ticks[-1] - ticks[0]):
            chosen.append(int(tick))
    return chosen


def _short(size: float) -> str:
    """19,732 as '19.7k'."""
    return f"{size:,.0f}" if size < 10_000 else f"{size / 1000:,.1f}k"
