"""Lists of images of any kind, read one at a time: what an embedder takes."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from reid_jax.data.source import Source, decode

__all__ = ["ImageList", "JoinedLists", "as_images", "naming_unreadable", "unreadable"]

SHOWN = 5


class ImageList(Protocol):
    """Images by row; `Source` is one."""

    @property
    def files(self) -> Sequence[str]:
        """[N] names, for messages."""

    def __len__(self) -> int:
        """N."""

    def image(self, row: int, size: tuple[int, int] | None) -> np.ndarray:
        """[H, W, 3] uint8, RGB, resized to (height, width) unless that is None."""


@dataclasses.dataclass(frozen=True)
class _Paths:
    files: Sequence[str]

    def __len__(self) -> int:
        return len(self.files)

    def image(self, row: int, size: tuple[int, int] | None) -> np.ndarray:
        path = Path(self.files[row])
        try:
            return decode(path.read_bytes(), size)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise ValueError(f"{path}: {reason}") from error


@dataclasses.dataclass(frozen=True)
class _Arrays:
    arrays: Sequence[np.ndarray] | np.ndarray

    @property
    def files(self) -> Sequence[str]:
        return [f"image {row}" for row in range(len(self.arrays))]

    def __len__(self) -> int:
        return len(self.arrays)

    def image(self, row: int, size: tuple[int, int] | None) -> np.ndarray:
        image = np.asarray(self.arrays[row])
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(
                f"image {row} is {image.dtype} {image.shape}; expected uint8 [H, W, 3], RGB"
            )
        if size is not None and image.shape[:2] != tuple(size):
            image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        return image


class JoinedLists:
    """Two lists of images as one, the second behind the first.

    Attributes:
        split: what they are, for messages.

    Args:
        first: a list.
        second: another.
    """

    def __init__(self, first: ImageList, second: ImageList) -> None:
        self._sides = first, second
        self.split = "queries and gallery"

    @property
    def files(self) -> Sequence[str]:
        """[N] names, for messages."""
        return [file for side in self._sides for file in side.files]

    def __len__(self) -> int:
        return sum(map(len, self._sides))

    def image(self, row: int, size: tuple[int, int] | None) -> np.ndarray:
        """Image of a row, as `ImageList` has it."""
        first = len(self._sides[0])
        side, row = (self._sides[0], row) if row < first else (self._sides[1], row - first)
        return side.image(row, size)


def as_images(images: Any) -> ImageList:
    """Makes one kind of list of what a caller has.

    Args:
        images: a `Source` or `JoinedLists`; paths (str or `os.PathLike`); or uint8 RGB arrays
            [H, W, 3] of any sizes, or one array [N, H, W, 3].

    Returns:
        The images, read when indexed.

    Raises:
        ValueError: if there is no image.
        TypeError: for anything else; a single path or image is to be put into a list.
    """
    if isinstance(images, Source | JoinedLists):
        found: ImageList = images
    elif isinstance(images, str | os.PathLike) or not hasattr(images, "__len__"):
        raise TypeError(
            f"expected a list of paths, a list of uint8 RGB arrays, or a Source, got "
            f"{type(images).__name__}; put a single image into a list"
        )
    else:
        elements = list(images) if not isinstance(images, np.ndarray) else images
        if len(elements) and isinstance(elements[0], str | os.PathLike):
            found = _Paths([os.fspath(path) for path in elements])
        else:
            found = _Arrays(elements)
    if not len(found):
        raise ValueError("there is no image: expected at least one")
    return found


def unreadable(images: ImageList) -> str:
    """Reads all images of a list once, and names those that cannot be read.

    Args:
        images: of which reading one has failed.

    Returns:
        A message with their number and the first five, or '' if all can be read.
    """
    problems = []
    for row in range(len(images)):
        try:
            images.image(row, None)
        except ValueError as error:
            problems.append(str(error))
    if not problems:
        return ""
    more = len(problems) - SHOWN
    listed = problems[:SHOWN] + ([f"and {more:,} more"] if more > 0 else [])
    return f"{len(problems):,} of {len(images):,} images cannot be read:\n  " + "\n  ".join(listed)


@contextlib.contextmanager
def naming_unreadable(images: ImageList) -> Iterator[None]:
    """Replaces an image's error by one that names all images that cannot be read.

    Args:
        images: that are read meanwhile.

    Raises:
        ValueError: in the place of another ValueError.
    """
    try:
        yield
    except ValueError as error:
        if message := unreadable(images):
            raise ValueError(message) from error
        raise
