"""Queries of landmark retrieval: a box in one image, and the images that show what is in it."""

import concurrent.futures
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import tqdm
from etils import epath

from reid_jax.data.prefetch import prefetch
from reid_jax.data.source import Source, dataset_card

__all__ = [
    "LandmarkQuery",
    "batches_by_size",
    "image_sizes",
    "landmark_queries",
    "query_image",
    "rounded_sizes",
]


@dataclasses.dataclass(frozen=True, eq=False)
class LandmarkQuery:
    """A landmark to search for, as rows of the split `images`.

    Attributes:
        name: of the query: the landmark and a number.
        row: the image that it is cut from.
        box: (x1, y1, x2, y2) in pixels of that image, inside of it.
        good: [n] int64 rows that show the landmark clearly; the query's own image may be one.
        ok: [n] int64 rows that show more than a quarter of it.
        junk: [n] int64 rows that show less of it: neither right nor wrong.
    """

    name: str
    row: int
    box: tuple[float, float, float, float]
    good: np.ndarray
    ok: np.ndarray
    junk: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the smallest whole pixels that hold the box."""
        top, bottom, left, right = _edges(self.box)
        return bottom - top, right - left


def landmark_queries(data_dir: epath.PathLike, source: Source) -> list[LandmarkQuery]:
    """The queries of a prepared data set of landmarks.

    Args:
        data_dir: where data sets are prepared; may be a bucket.
        source: its split `images`.

    Returns:
        The queries, in the order of their names.

    Raises:
        FileNotFoundError: if the data set is not prepared there.
        ValueError: if it has no queries, or is damaged.
    """
    queries = dataset_card(data_dir, source.dataset).get("queries")
    if not queries:
        raise ValueError(
            f"{source.dataset} in {data_dir} has no queries with boxes; oxford5k has them"
        )
    row_of = {file: row for row, file in enumerate(source.files)}

    def rows(files: list[str]) -> np.ndarray:
        return np.array([row_of[file] for file in files], np.int64)

    try:
        return [
            LandmarkQuery(
                name=query["name"],
                row=row_of[query["file"]],
                box=tuple(query["box"]),
                good=rows(query["good"]),
                ok=rows(query["ok"]),
                junk=rows(query["junk"]),
            )
            for query in queries
        ]
    except KeyError as error:
        raise ValueError(
            f"the queries of {source.dataset} name {error}, which split {source.split!r} does not "
            "have; delete the prepared data set and prepare it again"
        ) from error


def query_image(source: Source, query: LandmarkQuery, size: tuple[int, int] | None) -> np.ndarray:
    """The part of an image that a query searches for.

    Args:
        source: the split `images`.
        query: the query.
        size: (height, width) to resize it to bilinearly, or None for the pixels as they are.

    Returns:
        [H, W, 3] uint8, RGB: all pixels that the box touches.

    Raises:
        ValueError: if the image is unreadable, naming its file.
    """
    top, bottom, left, right = _edges(query.box)
    image = source.image(query.row, None)[top:bottom, left:right]
    if size is not None and image.shape[:2] != tuple(size):
        image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(image)


def image_sizes(source: Source, *, progress: bool) -> np.ndarray:
    """Heights and widths of the images as they are stored.

    Every image is decoded for it, on all cores: turned photographs and all formats are then
    measured as they will be seen, in a small part of the time that a network takes for them.

    Args:
        source: any split.
        progress: show a progress bar.

    Returns:
        [N, 2] int64, (height, width).

    Raises:
        ValueError: if an image is unreadable, naming its file.
    """
    cv2.setNumThreads(1)
    sizes = np.empty((len(source), 2), np.int64)
    bar = tqdm.tqdm(total=len(source), desc="measuring", unit="image", disable=not progress)
    with bar, concurrent.futures.ThreadPoolExecutor() as pool:
        shapes = pool.map(lambda row: source.image(row, None).shape[:2], range(len(source)))
        for row, shape in enumerate(shapes):
            sizes[row] = shape
            bar.update()
    return sizes


def rounded_sizes(sizes: np.ndarray, multiple: int, *, smallest: int = 1) -> np.ndarray:
    """The nearest sizes whose sides are multiples of a number, to have fewer different ones.

    A network is compiled once for each size of its input, and the sizes of photographs and of boxes
    hardly repeat.

    Args:
        sizes: [N, 2] integers, (height, width).
        multiple: 1 leaves them as they are.
        smallest: a side has at least the first multiple from here on, for networks that need it.

    Returns:
        [N, 2] int64; a side is at least one multiple.

    Raises:
        ValueError: if multiple or smallest is below 1.

    Deviation: identif_verif tests at the original size; resizing to a rounded one changes a side by
        up to half the multiple, and more where a box is smaller than the network takes.
    """
    if multiple < 1 or smallest < 1:
        raise ValueError(f"multiple is {multiple} and smallest {smallest}; expected at least 1")
    number = (np.asarray(sizes, np.int64) + multiple // 2) // multiple
    return np.maximum(number, -(-smallest // multiple)) * multiple


def batches_by_size(
    groups: Sequence[np.ndarray],
    *,
    read: Callable[[int, tuple[int, int]], np.ndarray],
    sizes: np.ndarray,
) -> Iterator[np.ndarray]:
    """The images of groups of rows, read ahead on threads.

    Args:
        groups: rows of equally large images.
        read: gives the image of a row at a size: `source.image`, or `query_image` of a query.
        sizes: [N, 2] integers, (height, width) of every row.

    Returns:
        Iterator of uint8 [b, H, W, 3], one for each group.

    Raises:
        ValueError: while iterating, if an image is unreadable, naming its file.
    """

    def make(index: int) -> np.ndarray:
        return np.stack([read(int(row), tuple(sizes[row].tolist())) for row in groups[index]])

    return prefetch(0, len(groups), make, threads=True)


def _edges(box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of the pixels that a box touches."""
    x1, y1, x2, y2 = box
    return math.floor(y1), math.ceil(y2), math.floor(x1), math.ceil(x2)
