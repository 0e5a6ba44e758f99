"""The nearest rows of many, exactly, in memory that does not grow with their number."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from reid_jax.distances import squared_euclidean

__all__ = ["Nearest", "Removed", "Rows", "checked_finite", "checked_sides", "nearest"]

QUERIES_PER_BLOCK = 4096
BLOCK_BYTES = 2**26
"""Of a block of gallery features, and of a block of distances."""

Removed = Callable[[slice, slice], np.ndarray | None]
"""`removed(queries, gallery) -> [q, g] bool` or None: the images that take no place in a list."""


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The nearest gallery rows of each query, nearest first.

    Attributes:
        rows: [Q, k] int64; -1 where no more are left for this query.
        distances: [Q, k] float32; nan where the row is -1.
        farthest: [Q] float32, the largest distance to any gallery row, removed ones included.
    """

    rows: np.ndarray
    distances: np.ndarray
    farthest: np.ndarray


class Rows:
    """Rows of several arrays as one, without a copy of them.

    Args:
        parts: [n_i, D] each, memory-mapped or not.

    Raises:
        ValueError: if they are not matrices with one D.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self._parts = list(parts)
        if any(part.ndim != 2 for part in parts) or len({part.shape[1:] for part in parts}) != 1:
            raise ValueError(
                f"features must be [rows, D] with one D, got {[part.shape for part in parts]}"
            )
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape = (int(self._starts[-1]), int(parts[0].shape[1]))

    def __len__(self) -> int:
        return self.shape[0]

    def block(self, rows: slice) -> np.ndarray:
        """[n, D] float32, a copy of some rows behind each other."""
        start, stop, _ = rows.indices(len(self))
        pieces = [
            part[max(0, start - first) : max(0, stop - first)]
            for part, first in zip(self._parts, self._starts[:-1], strict=True)
        ]
        return np.concatenate(pieces).astype(np.float32, copy=False)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """[n, D] float32, a copy of the named rows."""
        owners = np.searchsorted(self._starts, rows, side="right") - 1
        first = int(owners[0]) if len(rows) else 0
        if (owners == first).all():
            taken = self._parts[first][rows - self._starts[first]]
            return np.asarray(taken).astype(np.float32, copy=False)
        taken = np.empty((len(rows), self.shape[1]), np.float32)
        for number in np.unique(owners):
            here = owners == number
            taken[here] = self._parts[number][rows[here] - self._starts[number]]
        return taken


def checked_sides(
    queries: np.ndarray | Rows, gallery: np.ndarray | Rows, top: int
) -> tuple[Rows, Rows]:
    """Both sides, if they can be compared.

    Args:
        queries: [Q, D].
        gallery: [G, D].
        top: length of the lists.

    Returns:
        (queries, gallery).

    Raises:
        ValueError: on features of other dimensions, an empty side, or `top` below 1.
    """
    sides = [x if isinstance(x, Rows) else Rows([np.asanyarray(x)]) for x in (queries, gallery)]
    if sides[0].shape[1] != sides[1].shape[1]:
        raise ValueError(
            f"the queries' features have {sides[0].shape[1]} columns and the gallery's "
            f"{sides[1].shape[1]}: both must come from the same model"
        )
    for side, name in zip(sides, ("query", "gallery"), strict=True):
        if not len(side):
            raise ValueError(f"the {name} is empty: there is nothing to search")
    if top < 1:
        raise ValueError(f"the length of a list is {top}, expected at least 1")
    return sides[0], sides[1]


def nearest(
    queries: np.ndarray | Rows,
    gallery: np.ndarray | Rows,
    *,
    top: int,
    removed: Removed | None = None,
    rows_per_block: int | None = None,
) -> Nearest:
    """Finds the nearest gallery rows of each query by squared Euclidean distance.

    Block by block of both sides, so what is held does not grow with the gallery, which may be
    memory-mapped. The list is exact: that of a sort of all distances, equal ones in the order of
    the gallery.

    Args:
        queries: [Q, D] finite.
        gallery: [G, D] finite.
        top: length of the lists; may exceed the gallery.
        removed: gallery rows that are left out, for each query.
        rows_per_block: of the gallery; None keeps blocks at 64 MiB.

    Returns:
        Lists of k = min(top, G) rows.

    Raises:
        ValueError: on features of other dimensions or with nan or infinite numbers, an empty side,
            or `top` below 1.
    """
    queries, gallery = checked_sides(queries, gallery, top)
    num_query, num_gallery = len(queries), len(gallery)
    kept = min(top, num_gallery)
    # Blocks of queries are equally large, but for rounding.
    width = -(-num_query // -(-num_query // QUERIES_PER_BLOCK))
    size = rows_per_block or BLOCK_BYTES // (4 * max(gallery.shape[1], width))
    # All blocks have one shape: a product of matrices may round otherwise in another one.
    size = max(1, min(size, num_gallery))
    rows = np.full((num_query, kept), -1, np.int64)
    distances = np.full((num_query, kept), np.nan, np.float32)
    farthest = np.empty(num_query, np.float32)
    for first in range(0, num_query, width):
        asked = slice(first, min(first + width, num_query))
        block = checked_finite(queries.block(asked), "query", first)
        number = len(block)
        asked_block = jnp.asarray(np.pad(block, ((0, width - number), (0, 0)), mode="edge"))
        best = (
            jnp.full((width, kept), jnp.inf, jnp.float32),
            jnp.full((width, kept), -1, jnp.int32),
            jnp.zeros(width, jnp.float32),
        )
        for start in range(0, num_gallery, size):
            found = slice(start, min(start + size, num_gallery))
            part = checked_finite(gallery.block(found), "gallery", start)
            hidden = None
            if removed is not None:
                hidden = np.zeros((width, size), bool)
                left = removed(asked, found)
                hidden[:number, : len(part)] = False if left is None else left
            num_rows = len(part)
            part = np.pad(part, ((0, size - num_rows), (0, 0)))
            # One block is compared while the next is read; without this all would wait in memory.
            jax.block_until_ready(best)
            best = _merged(best, asked_block, part, hidden, np.int32(start), np.int32(num_rows))
        values, found_rows, largest = (np.asarray(x)[:number] for x in best)
        present = np.isfinite(values)
        rows[asked] = np.where(present, found_rows, -1)
        distances[asked] = np.where(present, values, np.nan)
        farthest[asked] = largest
    return Nearest(rows, distances, farthest)


@jax.jit
def _merged(
    best: tuple[jax.Array, jax.Array, jax.Array],
    queries: jax.Array,
    part: jax.Array,
    hidden: jax.Array | None,
    start: jax.Array,
    num_rows: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The lists so far with a part of the gallery, whose rows are higher than all in them."""
    values, rows, farthest = best
    kept = values.shape[1]
    found = squared_euclidean(queries, part)
    column = jnp.arange(part.shape[0], dtype=jnp.int32)
    padding = column >= num_rows
    farthest = jnp.maximum(farthest, jnp.max(jnp.where(padding, 0, found), axis=1))
    left_out = padding if hidden is None else padding | hidden
    # top_k tells -0 from 0, and of equal values it takes the first.
    found = jnp.where(left_out, jnp.inf, jnp.where(found == 0, 0, found))
    negative, places = lax.top_k(-found, min(kept, part.shape[0]))
    values = jnp.concatenate([values, -negative], axis=1)
    rows = jnp.concatenate([rows, start + places.astype(jnp.int32)], axis=1)
    negative, places = lax.top_k(-values, kept)
    return -negative, jnp.take_along_axis(rows, places, axis=1), farthest


def checked_finite(block: np.ndarray, side: str, first: int) -> np.ndarray:
    """The same rows, if all are finite.

    Args:
        block: [n, D].
        side: what they are, for the message.
        first: number of the first row.

    Raises:
        ValueError: naming the first that is not.
    """
    finite = np.isfinite(block).all(axis=1)
    if not finite.all():
        row = first + int(np.argmin(finite))
        raise ValueError(
            f"the features of {side} row {row} hold nan or infinite numbers: look for a diverged "
            "model or a broken image"
        )
    return block
