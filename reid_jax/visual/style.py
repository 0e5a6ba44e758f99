"""Colours and matplotlib settings that every figure shares.

Figures are built with `matplotlib.figure.Figure`, never with pyplot, so drawing one leaves no
global state behind and needs no display. The data colours are those of Okabe and Ito (2008), which
stay apart under the common forms of colour blindness; every figure also tells its series apart by
line style, marker, hatch or text.
"""

from typing import Any

from matplotlib.figure import Figure

BLUE = "#0072B2"
GREEN = "#009E73"
ORANGE = "#E69F00"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
SKY = "#56B4E9"
CYCLE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
LINE_STYLES = ("-", "--", "-.", ":")

# Text, axes and grid have exactly this colour and nothing else has: a page replaces it by its own
# text colour, so that the same figure reads on a light and on a dark ground.
INK = "#24292f"

RC: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.14,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 2.0,
    "hatch.linewidth": 0.8,
    "figure.dpi": 100.0,
    "savefig.dpi": 200.0,
}


def mark(figure: Figure, words: str) -> None:
    """Writes small words at the lower right of a figure, so that they stay with a copy of it.

    Args:
        figure: as this package draws it; one without a layout of its own gets the words below its
            lower edge, for `savefig(bbox_inches="tight")`.
        words: such as what data the figure shows.
    """
    share = 0.21 / figure.get_figheight()
    layout: Any = figure.get_layout_engine()
    if layout is not None:
        layout.set(rect=(0.0, share, 1.0, 1.0 - share))
    low = 0.15 * share if layout is not None else -share
    figure.text(0.995, low, words, ha="right", va="bottom", fontsize=7.5, color=INK, alpha=0.75)
