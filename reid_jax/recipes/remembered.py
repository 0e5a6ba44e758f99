"""Images that are decoded once: photographs of many megapixels take long to read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from reid_jax.data import Source

__all__ = ["Remembered", "remembered"]

MOST_BYTES = 2**30


@dataclasses.dataclass(frozen=True, eq=False)
class Remembered(Source):
    """A source whose images of one size are kept once they were asked for.

    Attributes:
        size: (height, width) of what is kept.
        kept: row to image.
    """

    size: tuple[int, int] = (0, 0)
    kept: dict[int, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)

    def image(self, row: int, size: tuple[int, int] | None) -> np.ndarray:
        """Decoded image of a row; see `Source.image`."""
        if size is None or tuple(size) != self.size:
            return super().image(row, size)
        if row not in self.kept:
            self.kept[row] = super().image(row, size)
        return self.kept[row]

    def take(self, rows: Sequence[int] | np.ndarray, split: str) -> Source:
        """Some of the rows; see `Source.take`. Nothing is kept of them."""
        return _plain(self).take(rows, split)


def remembered(source: Source, size: tuple[int, int]) -> Source:
    """The same source with its images kept, if they take less than a GiB."""
    if len(source) * 3 * size[0] * size[1] > MOST_BYTES:
        return source
    fields = {field.name: getattr(source, field.name) for field in dataclasses.fields(Source)}
    return Remembered(**fields, size=(size[0], size[1]))


def _plain(source: Source) -> Source:
    return Source(**{f.name: getattr(source, f.name) for f in dataclasses.fields(Source)})
