"""Maps of embeddings in two dimensions."""

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from reid_jax import extras
from reid_jax.visual import style
from reid_jax.visual.sheet import THUMBNAIL_HEIGHT, checked_images

_MARKERS = "osD^vP"
_INCHES = 10.4


def tsne(features: np.ndarray, *, seed: int, perplexity: float = 30.0) -> np.ndarray:
    """Barnes-Hut t-SNE of features, started from their principal components.

    van der Maaten, Accelerating t-SNE using tree-based algorithms, JMLR 15, 2014; Figure 4 of
    Zheng, Zheng and Yang shows one of a test split. The map is a function of the features and the
    seed alone: it runs on one thread, since the order in which threads add up changes it.

    Args:
        features: [N, D] float, N of 4 or more; Euclidean distance between them is what the map
            keeps, so L2-normalise what is ranked by cosine.
        seed: of the random projection that finds the principal components.
        perplexity: effective number of neighbours, lowered to (N - 1) / 3 for few features.

    Returns:
        [N, 2] float32 coordinates; only their distances have a meaning.

    Raises:
        ValueError: if features are not [N, D] and finite, N below 4 or D below 2, or all are the
            same.
    """
    features = np.asarray(features, np.float32)
    if features.ndim != 2 or len(features) < 4 or features.shape[1] < 2:
        raise ValueError(
            f"tsne: features have shape {features.shape}, expected [N, D] with N of 4 or more and "
            "D of 2 or more."
        )
    if not np.isfinite(features).all():
        raise ValueError("tsne: features are not finite; the network that made them diverged.")
    if (features == features[0]).all():
        raise ValueError(f"tsne: all {len(features)} features are the same: there is no map.")
    # They take a second to load, and nothing else needs them.
    manifold, threadpoolctl = map(extras.require, ("sklearn.manifold", "threadpoolctl"))
    projection = manifold.TSNE(
        n_components=2,
        method="barnes_hut",
        init="pca",
        perplexity=min(perplexity, (len(features) - 1) / 3),
        random_state=seed,
    )
    with threadpoolctl.threadpool_limits(limits=1):
        return projection.fit_transform(features)


@matplotlib.rc_context(style.RC)
def embedding_map(
    coordinates: np.ndarray,
    images: np.ndarray,
    identities: np.ndarray,
    *,
    num_columns: int = 32,
    num_highlighted: int = 6,
) -> Figure:
    """Thumbnails at the places of their embeddings, thinned so that none covers another.

    Figure 4 of Zheng, Zheng and Yang. The map is cut into cells of one thumbnail, and a cell shows
    the image nearest to its centre, an image of a highlighted identity before any other, moved to
    the centre. How many of the images that leaves is written below the map.

    Args:
        coordinates: [N, 2] float, such as of `tsne`; the second runs up the page.
        images: [N, h, w, 3] uint8 RGB.
        identities: [N] int; below 1 stands for no identity (distractors and junk).
        num_columns: cells side by side: more show more images, each smaller.
        num_highlighted: how many identities get a border and a mark in their own colour, 0 to 6:
            those with the most images, of equals the one with the lowest number.

    Returns:
        The figure.

    Raises:
        ValueError: if shapes or types do not fit, coordinates are not finite, or a number is out
            of range.

    Deviation: the paper's thumbnails cover one another and no identity is marked.
    """
    images = checked_images("images", images, "[N, h, w, 3]")
    coordinates = np.asarray(coordinates, np.float64)
    identities = np.asarray(identities)
    if not len(images) or coordinates.shape != (len(images), 2) or identities.ndim != 1:
        raise ValueError(
            f"embedding_map: coordinates {coordinates.shape}, images {images.shape}, identities "
            f"{identities.shape}; expected [N, 2], [N, h, w, 3] and [N] with N of 1 or more."
        )
    if len(identities) != len(images):
        raise ValueError(
            f"embedding_map: {len(images)} images and {len(identities)} identities; expected one "
            "for each."
        )
    if not np.isfinite(coordinates).all():
        raise ValueError("embedding_map: coordinates are not finite.")
    if num_columns < 1 or not 0 <= num_highlighted <= len(style.CYCLE):
        raise ValueError(
            f"embedding_map: num_columns is {num_columns} and num_highlighted {num_highlighted}; "
            f"expected 1 or more, and 0 to {len(style.CYCLE)}."
        )
    highlighted = _most_frequent(identities, num_highlighted)
    ratio = images.shape[1] / images.shape[2]
    cells, chosen, num_rows = _thinned(
        coordinates, np.isin(identities, highlighted), ratio, num_columns
    )

    # One picture of all thumbnails: hundreds of small ones take long to draw and to load.
    cell_width = max(8, min(round(THUMBNAIL_HEIGHT / ratio), round(1600 / num_columns)))
    cell_height = round(cell_width * ratio)
    canvas = np.zeros((num_rows * cell_height, num_columns * cell_width, 4), np.uint8)
    for (row, column), index in zip(cells, chosen, strict=True):
        top, left = row * cell_height, column * cell_width
        # A margin of a pixel, so that neighbours do not run into one another.
        size = (cell_width - 2, cell_height - 2)
        shrinks = images.shape[1] > size[1]
        thumbnail = cv2.resize(
            images[index],
            size,
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )
        inside = np.s_[top + 1 : top + cell_height - 1, left + 1 : left + cell_width - 1]
        canvas[inside] = np.dstack([thumbnail, np.full(size[::-1], 255, np.uint8)])

    foot = 0.62 if highlighted else 0.32
    map_height = _INCHES * canvas.shape[0] / canvas.shape[1]
    figure = Figure(figsize=(_INCHES, map_height + foot))
    ax = figure.add_axes((0.0, foot / (map_height + foot), 1.0, map_height / (map_height + foot)))
    ax.imshow(canvas, extent=(0.0, num_columns, num_rows, 0.0), interpolation="none", aspect="auto")
    for (row, column), index in zip(cells, chosen, strict=True):
        if identities[index] in highlighted:
            number = highlighted.index(identities[index])
            ax.add_patch(
                Rectangle(
                    (column + 0.04, row + 0.02),
                    0.92,
                    0.96,
                    fill=False,
                    edgecolor=style.CYCLE[number],
                    linewidth=2.2,
                    # A casing keeps the border apart from pictures of its own colour.
                    path_effects=[withStroke(linewidth=3.6, foreground="white")],
                )
            )
            ax.plot([column + 0.21], [row + 0.21 / ratio], **_look(number))
    ax.set_xlim(0.0, num_columns)
    ax.set_ylim(num_rows, 0.0)
    ax.set_axis_off()
    figure.text(
        0.005,
        0.08 / (map_height + foot),
        f"{len(chosen):,} of {len(images):,} images: one to a cell, the nearest to its centre"
        + (", marked identities first" if highlighted else ""),
        va="bottom",
        fontsize=9.5,
    )
    if highlighted:
        counts = [int((identities == identity).sum()) for identity in highlighted]
        figure.legend(
            handles=[
                Line2D([], [], label=f"id {identity}, {count} images", **_look(number))
                for number, (identity, count) in enumerate(zip(highlighted, counts, strict=True))
            ],
            loc="lower left",
            bbox_to_anchor=(0.0, 0.28 / (map_height + foot)),
            ncols=len(highlighted),
            borderpad=0.2,
            handletextpad=0.2,
            columnspacing=1.4,
        )
    return figure


def _look(number: int) -> dict:
    return {
        "color": style.CYCLE[number],
        "marker": _MARKERS[number],
        "linestyle": "none",
        "markersize": 8,
        "markeredgecolor": "white",
        "markeredgewidth": 0.8,
    }


def _most_frequent(identities: np.ndarray, number: int) -> list[int]:
    values, counts = np.unique(identities[identities >= 1], return_counts=True)
    return values[np.argsort(-counts, kind="stable")[:number]].tolist()


def _thinned(
    coordinates: np.ndarray, first: np.ndarray, ratio: float, num_columns: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Which image each cell shows.

    Args:
        coordinates: [N, 2].
        first: [N] bool, which images go before the others.
        ratio: height of a cell by its width.
        num_columns: number of cells side by side.

    Returns:
        (cells [M, 2] int, row from the top and column; chosen [M] int; number of rows).
    """
    low, high = coordinates.min(0), coordinates.max(0)
    # The longer side fills the columns; a map without extent is one cell.
    width = (high - low).max() / num_columns or 1.0
    height = width * ratio
    num_rows = max(1, int(np.ceil((high[1] - low[1]) / height)))
    left = (low[0] + high[0] - num_columns * width) / 2
    places = np.stack(
        [(high[1] - coordinates[:, 1]) / height, (coordinates[:, 0] - left) / width], axis=1
    )
    cells = np.minimum(places.astype(np.int64), [num_rows - 1, num_columns - 1])
    # Rows and columns have different units: distances are taken in widths.
    offset = np.linalg.norm((places - cells - 0.5) * [ratio, 1.0], axis=1)
    order = np.lexsort((offset, ~first))
    _, nearest = np.unique(cells[order] @ [num_columns, 1], return_index=True)
    chosen = order[nearest]
    return cells[chosen], chosen, num_rows
