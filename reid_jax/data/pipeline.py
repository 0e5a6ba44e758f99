"""Batches as pure functions of the step, read and decoded ahead on threads."""

from collections.abc import Callable, Iterator

import numpy as np

from reid_jax import schema
from reid_jax.data.images import ImageList
from reid_jax.data.prefetch import prefetch
from reid_jax.data.source import Source
from reid_jax.keys import batch_keys

__all__ = ["batch_at", "batches", "image_batches"]


def batch_at(
    step: int,
    *,
    sampler: Callable[[int], np.ndarray | tuple[np.ndarray, np.ndarray, np.ndarray]],
    labels: np.ndarray,
    cameras: np.ndarray | None,
    seed: int,
    rows: slice = slice(None),
    images: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """The batch of a step, or one host's rows of it.

    Args:
        step: from 0.
        sampler: gives the rows of the global batch: [B], or (rows_a [P], rows_b [P], same [P]).
        labels: [N] int32 in [0, K), of all training images.
        cameras: [N] integers, or None without cameras.
        seed: of the row keys.
        rows: which rows of the global batch.
        images: gives the pixels of source rows, uint8 [B, H, W, 3]; None leaves them out.

    Returns:
        `image` uint8 [B, H, W, 3], `identity` int32 [B] label, `camera` int32 [B], `row` int32 [B]
        of the source, `key` uint32 [B, 2]; for pairs each of them with `_a` and `_b`, and `same`
        bool [P].
    """

    def half(source_rows: np.ndarray, stream: int, suffix: str) -> dict[str, np.ndarray]:
        keys = batch_keys(seed, step, len(source_rows), stream=stream)[rows]
        here = source_rows[rows]
        camera = np.full(len(here), schema.NO_CAMERA) if cameras is None else cameras[here]
        batch = {
            "identity" + suffix: labels[here].astype(np.int32),
            "camera" + suffix: camera.astype(np.int32),
            "row" + suffix: here.astype(np.int32),
            "key" + suffix: keys,
        }
        if images is not None:
            batch["image" + suffix] = images(here)
        return batch

    sampled = sampler(step)
    if isinstance(sampled, tuple):
        rows_a, rows_b, same = sampled
        return {**half(rows_a, 0, "_a"), **half(rows_b, 1, "_b"), "same": same[rows]}
    return half(sampled, 0, "")


def batches(
    source: Source,
    sampler: Callable[[int], np.ndarray | tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    labels: np.ndarray,
    seed: int,
    first_step: int,
    num_steps: int,
    image_size: tuple[int, int],
    host_rows: slice = slice(None),
    resident: bool = False,
) -> Iterator[dict[str, np.ndarray]]:
    """The batches of steps `first_step` to `first_step + num_steps - 1`, made ahead on threads.

    Each is a pure function of its step (`batch_at`), so that starting at step k gives what an
    uninterrupted run has from there on.

    Args:
        source: the training images.
        sampler: a sampler over the source's rows.
        labels: [N] int32 in [0, K), of the source's rows.
        seed: of the row keys.
        first_step: from 0.
        num_steps: how many batches.
        image_size: (height, width).
        host_rows: this host's rows of the global batch; only these are read.
        resident: leave the pixels out: they are on the device already, which needs `row` only.

    Returns:
        Iterator of batches.

    Raises:
        ValueError: if the labels do not fit the source; while iterating, if an image is unreadable.
    """
    if len(labels) != len(source):
        raise ValueError(f"got {len(labels)} labels for the {len(source)} rows of {source.split!r}")
    labels = np.asarray(labels, np.int32)

    def images(rows: np.ndarray) -> np.ndarray:
        return _decoded(source, rows, image_size)

    def make(step: int) -> dict[str, np.ndarray]:
        return batch_at(
            step,
            sampler=sampler,
            labels=labels,
            cameras=source.cameras,
            seed=seed,
            rows=host_rows,
            images=None if resident else images,
        )

    return prefetch(first_step, first_step + num_steps, make, threads=not resident)


def image_batches(
    source: ImageList, image_size: tuple[int, int], *, batch_size: int, rows: slice = slice(None)
) -> Iterator[np.ndarray]:
    """The images of a list in order, decoded ahead on threads; none is left out.

    Args:
        source: any split, or another list of images.
        image_size: (height, width).
        batch_size: images of all batches but the last, which has what is left.
        rows: which rows of the source.

    Returns:
        Iterator of uint8 [b, H, W, 3].

    Raises:
        ValueError: while iterating, if an image is unreadable, naming its file.
    """
    wanted = np.arange(len(source))[rows]

    def make(index: int) -> np.ndarray:
        first = index * batch_size
        return _decoded(source, wanted[first : first + batch_size], image_size)

    return prefetch(0, -(-len(wanted) // batch_size), make, threads=True)


def _decoded(source: ImageList, rows: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    pixels = np.empty((len(rows), *image_size, 3), np.uint8)
    for place, row in enumerate(rows):
        pixels[place] = source.image(row, image_size)
    return pixels
