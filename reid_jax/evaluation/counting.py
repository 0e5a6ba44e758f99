"""Positions of the gallery images of each query's identity, without sorting the gallery.

The definition is `positions_by_sorting`. Every other function here gives the same numbers faster:
the position of an image is the number of gallery images that come before it, so for each query only
the images of its own identity are looked at, and what comes before them is counted, block of
distances by block of distances.

Counts add up over parts of the gallery, so a large gallery is taken part by part, and one that is
too large to be held is given part by part.

Devices take whole blocks, or whole parts, at a time, and so may the processes of a job: what a
block is does not depend on how many there are, and neither does the result.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reid_jax import parallel
from reid_jax.distances import DISTANCES
from reid_jax.evaluation.gallery import Labels, OwnGalleries, as_real, precision, refuse_nan
from reid_jax.evaluation.lanes import MOST_COUNTED, count_before

__all__ = [
    "BLOCK_ENTRIES",
    "Positions",
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
    blocks = _equal_blocks(query_blocks(labels.order, labels.num_gallery, None))
    devices = parallel.devices_taking(len(blocks), over_processes=False)
    with precision(distances.dtype):
        mask = parallel.map_devices(_mask, (True, False), devices)
        for group in parallel.in_turns(blocks, len(devices), over_processes=False):
            rows = _one_for_each(group, devices).ravel()
            counted.add_blocks(devices, rows, *mask(distances[rows], labels.removed))
    return counted.positions_and_rows(over_processes=False)


def positions_of_features(
    labels: Labels,
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    distance: str,
    dtype: np.dtype,
    queries_per_block: int | None = None,
    *,
    over_processes: bool = False,
) -> Positions:
    """Positions by the distances of features, of which a block at a time is computed.

    Args:
        labels: who is on the images.
        query_features: [Q, D], as `checked_features` gives them.
        gallery_features: [G, D].
        distance: a name in `reid_jax.distances.DISTANCES`.
        dtype: float32 or float64, to compute in.
        queries_per_block: rows of the block; None takes as many as keep it at 128 MiB.
        over_processes: whether the processes of a job share the blocks; each must call it then.

    Returns:
        Positions.

    Raises:
        ValueError: on features that give nan distances, or on less than one row a block.
    """
    if queries_per_block is None and labels.num_gallery * _FEWEST_QUERIES > BLOCK_ENTRIES:
        (positions,) = positions_by_parts(
            labels,
            query_features,
            gallery_features,
            (),
            (0,),
            distance,
            dtype,
            over_processes=over_processes,
        )
        return positions
    counted = _OwnPositions(labels)
    blocks = _equal_blocks(query_blocks(labels.order, labels.num_gallery, queries_per_block))
    devices = parallel.devices_taking(len(blocks), over_processes=over_processes)
    with precision(dtype):
        queries, images = (
            features.astype(dtype, copy=False) for features in (query_features, gallery_features)
        )
        block = parallel.map_devices(_masked_distances(distance), (True, False, False), devices)
        images, removed = parallel.replicate((images, labels.removed), devices)
        for group in parallel.in_turns(blocks, len(devices), over_processes=over_processes):
            rows = _one_for_each(group, devices).ravel()
            counted.add_blocks(devices, rows, *block(queries[rows], images, removed))
    return counted.positions_and_rows(over_processes=over_processes)


def positions_by_parts(
    labels: Labels,
    query_features: np.ndarray,
    gallery_features: np.ndarray,
    distractor_batches: Iterable[np.ndarray],
    numbers: Sequence[int],
    distance: str,
    dtype: np.dtype,
    *,
    over_processes: bool = False,
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
        over_processes: whether the processes of a job share the parts; each must call it then, with
            the same distractors.

    Returns:
        Positions with each of `numbers`.

    Raises:
        ValueError: on features that give nan distances, on a batch of another shape, or if the
            batches end before the last number.
    """
    counted = _OwnPositions(labels)
    blocks = query_blocks(labels.order, 1, _PART_QUERIES)
    num_columns = gallery_features.shape[1]
    sections = [labels.num_gallery, *(int(added) for added in np.diff(numbers))]
    # Neither a block of distances nor the features of a part take more than a block may.
    size = _PART_ENTRIES // max(len(blocks[0]), num_columns)
    size = max(1, min(size, max(sections)))
    num_parts = sum(-(-section // size) for section in sections)
    devices = parallel.devices_taking(num_parts, over_processes=over_processes)

    def of_gallery(rows: np.ndarray | slice, first_row: int = 0) -> _Part:
        return gallery_features[rows], labels.removed[rows], first_row

    def on_devices(parts: Sequence[_Part]) -> tuple[jax.Array, jax.Array, np.ndarray]:
        images = np.zeros((len(devices) * size, num_columns), dtype)
        removed = np.ones(len(devices) * size, bool)
        first_rows = np.zeros(len(devices), np.int32)
        for number, (features, left_out, first_row) in enumerate(parts):
            rows = slice(number * size, number * size + len(features))
            images[rows], removed[rows], first_rows[number] = features, left_out, first_row
        return *parallel.spread((images, removed), devices), first_rows

    with precision(dtype):
        block = parallel.map_devices(_masked_distances(distance), (False, True, True), devices)
        take = parallel.map_devices(_take, (True, True), devices)

        def own_values(queries: jax.Array, own_rows: np.ndarray) -> np.ndarray:
            wanted, column = np.unique(own_rows, return_inverse=True)
            column = column.reshape(own_rows.shape)
            values = np.zeros(own_rows.shape, dtype)
            starts = range(0, len(wanted), size)
            for group in parallel.in_turns(starts, len(devices), over_processes=over_processes):
                parts = [of_gallery(wanted[start : start + size]) for start in group]
                images, removed, _ = on_devices(parts)
                places = np.stack([column - start for start in _one_for_each(group, devices)])
                inside = (places >= 0) & (places < size)
                inside[len(group) :] = False  # On devices without a part.
                within = (places * inside).reshape(-1, places.shape[-1])
                picked = np.asarray(take(block(queries, images, removed)[0], within))
                # Each image is in one part.
                values += np.where(inside, picked.reshape(places.shape), 0).sum(axis=0)
            return parallel.sum_hosts(values) if over_processes else values

        queries = [
            parallel.replicate(np.asarray(query_features[rows], dtype), devices) for rows in blocks
        ]
        own_rows = [labels.own_rows(rows)[0] for rows in blocks]
        own = [
            parallel.replicate(_in_columns(own_values(features, rows), rows), devices)
            for features, rows in zip(queries, own_rows, strict=True)
        ]

        def positions_after(parts: Iterable[_Part]) -> Positions:
            for group in parallel.in_turns(parts, len(devices), over_processes=over_processes):
                images, removed, first_rows = on_devices(group)
                for rows, features, columns in zip(blocks, queries, own, strict=True):
                    values, has_nan = block(features, images, removed)
                    counted.add_parts(devices, rows, values, has_nan, columns, first_rows)
            return counted.positions_and_rows(over_processes=over_processes)

        starts = range(0, labels.num_gallery, size)
        found = [positions_after(of_gallery(slice(at, at + size), at) for at in starts)]
        distractors = _regrouped(distractor_batches, numbers[1:], size, num_columns)
        for start, end in itertools.pairwise(numbers):
            first_row = labels.num_gallery + start
            found.append(positions_after(_up_to(end - start, distractors, first_row)))
    return found


# Features [b, D], which of them are removed [b], and the gallery row of the first.
_Part = tuple[Any, np.ndarray, int]


def _up_to(number: int, parts: Iterator[np.ndarray], first_row: int) -> Iterator[_Part]:
    """The next parts, of `number` images together, that stand in the gallery from a row on."""
    done = 0
    while done < number:
        part = next(parts)
        yield part, np.zeros(len(part), bool), first_row + done
        done += len(part)


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


def _equal_blocks(blocks: list[np.ndarray]) -> list[np.ndarray]:
    """Blocks of one shape: the last query of a shorter one stands there twice."""
    size = max(map(len, blocks))
    return [np.pad(block, (0, size - len(block)), mode="edge") for block in blocks]


def _one_for_each(group: Sequence[Any], devices: Sequence[jax.Device]) -> np.ndarray:
    """[devices, ...] a block for each device: the last one again where there are fewer."""
    return np.stack([*group, *[group[-1]] * (len(devices) - len(group))])


Columns = list[tuple[np.ndarray, np.ndarray]]


def _in_columns(own_values: np.ndarray, own_rows: np.ndarray) -> Columns:
    """Both [R, M] in parts of up to `MOST_COUNTED` columns, padded on the right."""
    num_columns = own_rows.shape[1]
    # Multiples of 8 keep the compiled shapes few.
    width = min(MOST_COUNTED, num_columns + -num_columns % 8)
    padding = (0, 0), (0, -num_columns % width)
    own_values, own_rows = np.pad(own_values, padding), np.pad(own_rows, padding)
    parts = [slice(start, start + width) for start in range(0, num_columns, width)]
    return [(own_values[:, part], own_rows[:, part]) for part in parts]


class _OwnPositions:
    """Positions [Q, M], junk left out, of the gallery images of each query's identity."""

    def __init__(self, labels: Labels | OwnGalleries) -> None:
        self._labels = labels
        self._counts = np.zeros((labels.num_query, max(1, int(labels.num_own.max()))), np.int32)
        self._has_nan = np.zeros(labels.num_query, np.int32)

    def add_blocks(
        self,
        devices: tuple[jax.Device, ...],
        rows: np.ndarray,
        values: jax.Array,
        has_nan: jax.Array,
    ) -> None:
        """Counts the whole gallery for a block of queries on each device.

        Args:
            devices: that hold the rows of what follows.
            rows: [devices * R] the queries, a block after another.
            values: [devices * R, G] distances to the gallery, nan where an image does not count.
            has_nan: [devices * R] whether there is another nan.
        """
        own_rows, _ = self._labels.own_rows(rows)
        own_values = np.asarray(
            parallel.map_devices(_take, (True, True), devices)(values, own_rows)
        )
        before = parallel.map_devices(count_before, (True, True, True, False), devices)
        first_row = np.zeros(1, np.int32)
        parts = [before(values, *part, first_row) for part in _in_columns(own_values, own_rows)]
        num_columns = own_rows.shape[1]
        self._counts[rows, :num_columns] = np.concatenate(parts, axis=1)[:, :num_columns]
        self._has_nan[rows] = has_nan

    def add_parts(
        self,
        devices: tuple[jax.Device, ...],
        rows: np.ndarray,
        values: jax.Array,
        has_nan: jax.Array,
        own: Columns,
        first_rows: np.ndarray,
    ) -> None:
        """Counts a part of the gallery on each device for a block of queries.

        Args:
            devices: that hold what follows.
            rows: [R] the queries.
            values: [devices * R, C] their distances to the C gallery images of each part, nan
                where one does not count.
            has_nan: [devices * R] whether there is another nan.
            own: distances to the images of each query's identity, and their gallery rows.
            first_rows: [devices] gallery row of the first image of each part.
        """
        before = parallel.map_devices(count_before, (True, False, False, True), devices)
        counts = np.concatenate([before(values, *part, first_rows) for part in own], axis=1)
        counts = counts.reshape(len(devices), len(rows), -1).sum(axis=0)
        counts = counts[:, : self._counts.shape[1]]
        self._counts[rows, : counts.shape[1]] += counts
        self._has_nan[rows] |= np.asarray(has_nan).reshape(len(devices), -1).any(axis=0)

    def positions_and_rows(self, *, over_processes: bool) -> Positions:
        """What is counted so far, by this process or by all.

        Raises:
            ValueError: on nan distances.
        """
        counts, has_nan = self._counts, self._has_nan
        if over_processes:
            counts, has_nan = parallel.sum_hosts(counts), parallel.sum_hosts(has_nan)
        refuse_nan(np.arange(len(has_nan)), has_nan > 0)
        rows, own = self._labels.own_rows(np.arange(self._labels.num_query))
        return np.where(own, counts.astype(np.int64), -1), rows


@cache
def _masked_distances(distance: str) -> Callable[..., tuple[jax.Array, jax.Array]]:
    return partial(_distance_block, distance=distance)


def _take(values: jax.Array, columns: jax.Array) -> jax.Array:
    return jnp.take_along_axis(values, columns, axis=1)


@partial(jax.jit, static_argnames="distance")
def _distance_block(
    query_features: jax.Array, gallery_features: jax.Array, removed: jax.Array, distance: str
) -> tuple[jax.Array, jax.Array]:
    return _mask(DISTANCES[distance](query_features, gallery_features), removed)


def _mask(values: jax.Array, removed: jax.Array) -> tuple[jax.Array, jax.Array]:
    # nan compares false with everything, so a removed image comes before no match, infinite
    # distances included.
    return jnp.where(removed, jnp.nan, values), jnp.any(jnp.isnan(values) & ~removed, axis=1)
