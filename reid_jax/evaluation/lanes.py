"""Counting how many values of a row come before each of some others, at the speed of the memory."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["MOST_COUNTED", "count_before", "count_below"]

# Counting keeps [rows, matches, lanes] int32 partial sums in a CPU's second-level cache and adds
# `_COUNT_UNROLL` comparisons to each before storing it: over ten times the speed of the one-line
# reduction, which XLA's CPU backend does not vectorise.
_COUNT_ROWS, MOST_COUNTED, _COUNT_LANES, _COUNT_UNROLL = 64, 64, 128, 8


@jax.jit
def count_before(
    values: jax.Array, own_values: jax.Array, own_rows: jax.Array, first_row: jax.Array
) -> jax.Array:
    """How many of a row of `values` [R, C] come before each of `own_values` [R, M]: [R, M].

    The columns of `values` are the gallery rows from `first_row` [1] on; `own_rows` [R, M] are
    those of `own_values`.
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
