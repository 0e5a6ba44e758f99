"""Positions of the gallery images of each query's identity, without sorting the gallery.

The definition is `positions_by_sorting`. Every other function here gives the same numbers faster:
the position of an image is the number of gallery images that come before it, so for each query only
the images of its own identity are looked at, and what comes before them is counted, block of
distances by block of distances.

Counts add up over parts of the gallery, so a large gallery is taken part by part, and one that is
too large to be held is given part by part.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from reid_jax.distances import DISTANCES
from reid_jax.evaluation.gallery import Labels, OwnGalleries, as_real, precision, refuse_nan

__all__ = [
    "BLOCK_ENTRIES",
    "Positions",
    "count_below",
    "feature_blocks",
    "positions_by_parts",
    "positions_by_sorting",
    "positions_of_distances",
    "positions_of_features",
    "query_blocks",
]


def positions_by_sorting(distances: np.ndarray, removed: np.ndarray | None = None) -> np.ndarray:
    """The place of every gallery image in the list of each query, nearest first: the definition.

    Equal distances go to the lower gallery row. Takes the whole matrix and sorts all of it, which
    is right for small galleries and for tests.

    Args:
        distances: [Q, G] real, without nan but where removed.
        removed: [G] bool, images that take no place; None for none.

    Returns:
        [Q, G] int64 from 0; -1 where removed.
    """
    kept = np.arange(distances.shape[1])
    if removed is not None:
        kept = np.flatnonzero(~removed)
    order = kept[np.argsort(distances[:, kept], axis=1, kind="stable")]
    positions = np.full(distances.shape, -1)
    np.put_along_axis(positions, order, np.arange(len(kept))[None], axis=1)
    return positions


# A block of distances has at most this many entries (128 MiB in float32), whatever the gallery's
# size.
BLOCK_ENTRIES = 2**25
# Whole rows of a block while it has at least this many of them. A distance moves and squares the
# gallery's features once a block, which with fewer rows costs more than the product itself.
_FEWEST_QUERIES = 1024
# The rows of a block that is a part of the gallery wide: enough for the same reason, and few enough
# for the images of their identities to be a small share of the gallery. Its 16 MiB are memory that
# the C library keeps for the next block, where larger pieces come from the system each time.
_PART_QUERIES, _PART_ENTRIES = 2048, 2**22
# Counting keeps [rows, matches, lanes] int32 partial sums in a CPU's second-level cache and adds
# `_COUNT_UNROLL` comparisons to each before storing it: over ten times the speed of the one-line
# reduction, which XLA's CPU backend does not vectorise.
_COUNT_ROWS, _COUNT_MATCHES, _COUNT_LANES, _COUNT_UNROLL = 64, 64, 128, 8


Positions = tuple[np.ndarray, np.ndarray]
"""([Q, M] int64 places of the gallery images of each query's identity among all that are not junk,
-1 for padding; [Q, M] their gallery rows)."""


def positions_of_distances(labels: Labels | OwnGalleries, distances: np.ndarray) -> Positions:
    """Positions in a matrix of distances.

    Args:
        labels: who is on the images.
        distances: [Q, G] real; compared in their own precision, float64 included.

    Returns:
        Positions.

    Raises:
        ValueError: on nan distances.
    """
    distances = as_real(distances)
    counted = _OwnPositions(labels)
    with precision(distances.dtype):
        removed = jnp.asarray(labels.removed)
        for rows in query_blocks(labels.order, labels.num_gallery, None):
            counted.add_whole(rows, *_mask(jnp.asarray(distances[rows]), removed))
    return counted.positions_and_rows()


def positions_of_features(
    labels: Labels,
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    distance: str,
    dtype: np.dtype,
    queries_per_block: int | None = None,
) -> Positions:
    """Positions by the distances of features, of which a block at a time is computed.

    Args:
        labels: who is on the images.
        query_features: [Q, D], as `checked_features` gives them.
        gallery_features: [G, D].
        distance: a name in `reid_jax.distances.DISTANCES`.
        dtype: float32 or float64, to compute in.
        queries_per_block: rows of the block; None takes as many as keep it at 128 MiB.

    Returns:
        Positions.

    Raises:
        ValueError: on features that give nan distances, or on less than one row a block.
    """
    if queries_per_block is None and labels.num_gallery * _FEWEST_QUERIES > BLOCK_ENTRIES:
        (positions,) = positions_by_parts(
            labels, query_features, gallery_features, (), (0,), distance, dtype
        )
        return positions
    counted = _OwnPositions(labels)
    with precision(dtype):
        block = feature_blocks(query_features, gallery_features, distance, dtype)
        removed = jnp.asarray(labels.removed)
        for rows in query_blocks(labels.order, labels.num_gallery, queries_per_block):
            counted.add_whole(rows, *block(rows, removed))
    return counted.positions_and_rows()


def positions_by_parts(
    labels: Labels,
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    distractor_batches: Iterable[np.ndarray],
    numbers: Sequence[int],
    distance: str,
    dtype: np.dtype,
) -> list[Positions]:
    """Positions with the first n distractors behind the gallery, for several n from one pass.

    The gallery, its distractors, and before them the images whose positions are counted, pass
    through blocks of one shape: a product of matrices may round otherwise in another shape.

    Args:
        labels: who is on the images.
        query_features: [Q, D], as `checked_features` gives them.
        gallery_features: [G, D].
        distractor_batches: [b, D] each; read no further than the last of `numbers`.
        numbers: of distractors, increasing, the first of them 0.
        distance: a name in `reid_jax.distances.DISTANCES`.
        dtype: float32 or float64, to compute in.

    Returns:
        Positions with each of `numbers`.

    Raises:
        ValueError: on features that give nan distances, on a batch of another shape, or if the
            batches end before the last number.
    """
    counted = _OwnPositions(labels)
    blocks = query_blocks(labels.order, 1, _PART_QUERIES)
    most = max(labels.num_gallery, *np.diff(numbers)) if len(numbers) > 1 else labels.num_gallery
    # Neither a block of distances nor the features of a part take more than a block may.
    size = _PART_ENTRIES // max(len(blocks[0]), gallery_features.shape[1])
    size = max(1, min(size, int(most)))
    found = []
    with precision(dtype):
        queries = [jnp.asarray(query_features[rows], dtype) for rows in blocks]

        def block(number: int, part: Any, removed: np.ndarray) -> tuple[jax.Array, jax.Array]:
            part = jnp.asarray(part, dtype)
            if missing := size - len(part):
                part = jnp.pad(part, ((0, missing), (0, 0)))
                removed = np.pad(removed, (0, missing), constant_values=True)
            return _distance_block(queries[number], part, removed, distance)

        def own_values(number: int, own_rows: np.ndarray) -> jax.Array:
            wanted, column = np.unique(own_rows, return_inverse=True)
            column = column.reshape(own_rows.shape)
            values = np.empty(own_rows.shape, dtype)
            for start in range(0, len(wanted), size):
                rows = wanted[start : start + size]
                part, _ = block(number, gallery_features[rows], labels.removed[rows])
                inside = (column >= start) & (column < start + size)
                within = np.where(inside, column - start, 0)
                picked = np.asarray(jnp.take_along_axis(part, within, axis=1))
                values = np.where(inside, picked, values)
            return jnp.asarray(values)

        own_rows = [labels.own_rows(rows)[0] for rows in blocks]
        own = [(own_values(number, rows), rows) for number, rows in enumerate(own_rows)]

        def add(part: np.ndarray, removed: np.ndarray, first_row: int) -> None:
            for number, rows in enumerate(blocks):
                values, has_nan = block(number, part, removed)
                counted.add_part(rows, values, has_nan, *own[number], first_row)

        for start in range(0, labels.num_gallery, size):
            rows = slice(start, start + size)
            add(gallery_features[rows], labels.removed[rows], start)
        found.append(counted.positions_and_rows())
        num_columns = gallery_features.shape[1]
        num_done = 0
        for part in _regrouped(distractor_batches, numbers[1:], size, num_columns):
            add(part, np.zeros(len(part), bool), labels.num_gallery + num_done)
            num_done += len(part)
            if num_done in numbers:
                found.append(counted.positions_and_rows())
    return found


def _regrouped(
    batches: Iterable[np.ndarray], numbers: Sequence[int], size: int, num_columns: int
) -> Iterator[np.ndarray]:
    """The first numbers[-1] rows of `batches`, in parts of up to `size` that end at each number."""
    ends = iter(numbers)
    end = next(ends, None)
    held: list[np.ndarray] = []
    num_done = 0
    if end is None:
        return
    for batch in batches:
        batch = np.asarray(batch)
        if batch.ndim != 2 or batch.shape[1] != num_columns:
            raise ValueError(
                f"distractor batches must be [b, {num_columns}] as the gallery's features, got "
                f"shape {batch.shape}"
            )
        while len(batch):
            num_held = sum(len(part) for part in held)
            room = min(size, end - num_done) - num_held
            held.append(batch[:room])
            if len(batch) < room:
                break
            batch = batch[room:]
            yield held[0] if len(held) == 1 else np.concatenate(held)
            num_done += num_held + room
            held = []
            if num_done == end:
                end = next(ends, None)
                if end is None:
                    return
    if end is not None:
        raise ValueError(
            f"the distractor batches ended after {num_done + sum(map(len, held))} of the "
            f"{numbers[-1]} distractors asked for; prepare all of them, or ask for fewer"
        )


def feature_blocks(
    query_features: np.ndarray, gallery_features: np.ndarray, distance: str, dtype: np.dtype
) -> Callable[[np.ndarray, jax.Array], tuple[jax.Array, jax.Array]]:
    """Makes the function that computes the distances of some queries to the whole gallery.

    This function and the one that it gives must be called under `precision(dtype)`.

    Args:
        query_features: [Q, D].
        gallery_features: [G, D], moved to the device once.
        distance: a name in `reid_jax.distances.DISTANCES`.
        dtype: float32 or float64, to compute in.

    Returns:
        `block(rows [R], removed [G]) -> (distances [R, G], has_nan [R])`: nan where removed, and
        which rows have another nan.
    """
    gallery = jnp.asarray(gallery_features, dtype)

    def block(rows: np.ndarray, removed: jax.Array) -> tuple[jax.Array, jax.Array]:
        return _distance_block(jnp.asarray(query_features[rows], dtype), gallery, removed, distance)

    return block


def query_blocks(
    queries: np.ndarray, num_gallery: int, queries_per_block: int | None
) -> list[np.ndarray]:
    """Parts of `queries` of at most two sizes, so that at most two shapes are compiled.

    Args:
        queries: [Q] rows, in the order in which they are to be taken.
        num_gallery: columns of a block of distances.
        queries_per_block: the most rows of a part; None takes as many as `BLOCK_ENTRIES` allows.

    Returns:
        The parts, in order.

    Raises:
        ValueError: if queries_per_block is below 1.
    """
    if queries_per_block is None:
        queries_per_block = max(1, BLOCK_ENTRIES // num_gallery)
    if queries_per_block < 1:
        raise ValueError(f"queries_per_block must be at least 1, got {queries_per_block}")
    return np.array_split(queries, -(-len(queries) // queries_per_block))


class _OwnPositions:
    """Positions [Q, M], junk left out, of the gallery images of each query's identity."""

    def __init__(self, labels: Labels | OwnGalleries) -> None:
        self._labels = labels
        self._counts = np.zeros((labels.num_query, max(1, int(labels.num_own.max()))), np.int64)

    def add_whole(self, rows: np.ndarray, values: jax.Array, has_nan: jax.Array) -> None:
        """Counts the gallery for the queries `rows` [R], as `add_part` does."""
        own_rows, _ = self._labels.own_rows(rows)
        own_values = jnp.take_along_axis(values, own_rows, axis=1)
        self.add_part(rows, values, has_nan, own_values, own_rows, 0)

    def add_part(
        self,
        rows: np.ndarray,
        values: jax.Array,
        has_nan: jax.Array,
        own_values: jax.Array,
        own_rows: np.ndarray,
        first_row: int,
    ) -> None:
        """Counts a part of the gallery.

        Args:
            rows: [R] the queries.
            values: [R, C] distances to C gallery images, nan where one does not count.
            has_nan: [R] whether there is another nan.
            own_values: [R, M] distances to the images of each query's identity.
            own_rows: [R, M] gallery rows of these.
            first_row: gallery row of the first of the C images.
        """
        refuse_nan(rows, has_nan)
        num_columns = own_rows.shape[1]
        # Multiples of 8 keep the compiled shapes few.
        width = min(_COUNT_MATCHES, num_columns + -num_columns % 8)
        padding = ((0, 0), (0, -num_columns % width))
        own_rows, own_values = np.pad(own_rows, padding), jnp.pad(own_values, padding)
        parts = [
            _count_before(values, own_values[:, part], own_rows[:, part], np.int32(first_row))
            for part in (slice(i, i + width) for i in range(0, num_columns, width))
        ]
        counts = np.concatenate([np.asarray(part) for part in parts], axis=1)
        self._counts[rows, :num_columns] += counts[:, :num_columns]

    def positions_and_rows(self) -> Positions:
        """What is counted so far."""
        rows, own = self._labels.own_rows(np.arange(self._labels.num_query))
        return np.where(own, self._counts, -1), rows


@partial(jax.jit, static_argnames="distance")
def _distance_block(
    query_features: jax.Array, gallery_features: jax.Array, removed: jax.Array, distance: str
) -> tuple[jax.Array, jax.Array]:
    return _mask(DISTANCES[distance](query_features, gallery_features), removed)


def _mask(values: jax.Array, removed: jax.Array) -> tuple[jax.Array, jax.Array]:
    # nan compares false with everything, so a removed image comes before no match, infinite
    # distances included.
    return jnp.where(removed, jnp.nan, values), jnp.any(jnp.isnan(values) & ~removed, axis=1)


@jax.jit
def _count_before(
    values: jax.Array, own_values: jax.Array, own_rows: jax.Array, first_row: jax.Array
) -> jax.Array:
    """How many of a row of `values` [R, C] come before each of `own_values` [R, M]: [R, M].

    The columns of `values` are the gallery rows from `first_row` on; `own_rows` [R, M] are those of
    `own_values`.
    """

    def count(row: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        values, own_keys, own_rows = row

        def before(lanes: jax.Array, columns: jax.Array) -> jax.Array:
            # Smaller, or equal at a lower row.
            lower = first_row + columns < own_rows[:, None]
            return lanes < own_keys[:, None] + lower

        return _count_in_lanes(_ordered_keys(values), before, len(own_rows))

    rows = values, _ordered_keys(own_values), own_rows
    return lax.map(count, rows, batch_size=_COUNT_ROWS)


@jax.jit
def count_below(values: jax.Array, thresholds: jax.Array) -> jax.Array:
    """How many entries of a row of `values` [R, G] are below each of `thresholds` [E]: [R, E]."""

    def count(values: jax.Array) -> jax.Array:
        return _count_in_lanes(
            values, lambda lanes, _: lanes < thresholds[:, None], len(thresholds)
        )

    return lax.map(count, values, batch_size=8)


def _ordered_keys(values: jax.Array) -> jax.Array:
    """Integers in the order of the floats, equal where these are equal; the largest for nan."""
    integer = np.dtype(f"int{8 * values.dtype.itemsize}")
    # -0 and 0 are equal but differ in their bits.
    bits = lax.bitcast_convert_type(jnp.where(values == 0, 0, values), integer)
    largest = np.iinfo(integer).max
    return jnp.where(jnp.isnan(values), largest, jnp.where(bits < 0, bits ^ largest, bits))


def _count_in_lanes(
    values: jax.Array, predicate: Callable[[jax.Array, jax.Array], jax.Array], num_counts: int
) -> jax.Array:
    """Sum of predicate(values [1, L], their indices [L]) -> [num_counts, L] over `values` [G].

    The predicate must be false for nan, or for the largest integer.
    """
    step = _COUNT_LANES * _COUNT_UNROLL
    padding = jnp.nan if jnp.issubdtype(values.dtype, jnp.floating) else jnp.iinfo(values.dtype).max
    values = jnp.pad(values, (0, -len(values) % step), constant_values=padding)

    def add(index: jax.Array, counts: jax.Array) -> jax.Array:
        start = index * np.int32(step)
        for offset in np.arange(0, step, _COUNT_LANES, dtype=np.int32):
            lanes = lax.dynamic_slice_in_dim(values, start + offset, _COUNT_LANES)
            indices = start + offset + jnp.arange(_COUNT_LANES, dtype=jnp.int32)
            counts = counts + predicate(lanes[None, :], indices).astype(jnp.int32)
        return counts

    zeros = jnp.zeros((num_counts, _COUNT_LANES), jnp.int32)
    counts = lax.fori_loop(np.int32(0), np.int32(len(values) // step), add, zeros)
    return counts.sum(axis=1, dtype=jnp.int32)
