"""Dropout keyed per row, so that the same values are dropped on any number of devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from reid_jax.keys import as_row_keys

__all__ = ["dropout"]


def dropout(x: jax.Array, rate: float, keys: jax.Array | None) -> jax.Array:
    """Sets each value to 0 with probability `rate` and divides the others by `1 - rate`.

    The values of a row depend on that row's key alone, not on its place in the batch or on the size
    of the batch, so that any number of devices drops the same values.

    Args:
        x: [B, ...].
        rate: probability in [0, 1).
        keys: [B] `jax.random` keys, or their data [B, 2] uint32 (threefry).

    Returns:
        like `x`.

    Raises:
        ValueError: if `rate` is out of range or there is not one key per row.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"the dropout rate is the share that is dropped, in [0, 1); got {rate}.")
    if rate == 0:
        return x
    row_keys = as_row_keys(keys, x.shape[0])
    # Compared as integers: a uniform float would differ between float32 and float64.
    bits = jax.vmap(lambda key: jax.random.bits(key, x.shape[1:], jnp.uint32))(row_keys)
    kept = bits >= jnp.uint32(round(rate * 2**32))
    return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)
