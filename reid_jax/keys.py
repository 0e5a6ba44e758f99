"""Random words and row keys: every draw is a pure function of seed, stream, step and row."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["as_row_keys", "batch_keys", "random_bits"]

# Each use of random bits has a stream of its own, so that no two draws are the same numbers.
EPOCH_ORDER, IDENTITY_IMAGES, PARTNERS, ROW_KEYS = range(4)
SPLIT, PARTITION, FEW_IMAGES, SHOWN_PEOPLE = range(4, 8)


def random_bits(seed: int, *, stream: int, index: int, count: int) -> np.ndarray:
    """Independent random words for one use of randomness.

    Args:
        seed: in [0, 2**64).
        stream: which use of randomness, in [0, 2**16).
        index: step or epoch, in [0, 2**48).
        count: number of words.

    Returns:
        [count] uint64, the start of the raw Philox 4x64 stream keyed by (seed, stream, index); a
        longer draw starts with the shorter one.

    Raises:
        ValueError: if seed or index is out of range.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"the seed is {seed}; expected an integer from 0 to 2**64 - 1")
    if not 0 <= index < 2**48:
        raise ValueError(f"the step or epoch is {index}; expected an integer from 0 to 2**48 - 1")
    key = np.array([seed, (stream << 48) | index], np.uint64)
    return np.random.Philox(key=key).random_raw(count)


def batch_keys(seed: int, step: int, num_rows: int, *, stream: int = 0) -> np.ndarray:
    """Makes the random keys of the rows of a batch.

    Args:
        seed: in [0, 2**64).
        step: from 0.
        num_rows: B, rows of the global batch.
        stream: 0, or 0 and 1 for the two images of a pair.

    Returns:
        [B, 2] uint32, raw threefry key data; row i has the same key whatever B is.

    Raises:
        ValueError: if seed, step or stream is out of range.
    """
    if not 0 <= stream < 4:
        raise ValueError(f"the stream is {stream}; expected 0 to 3")
    words = random_bits(seed, stream=ROW_KEYS, index=step, count=4 * num_rows)
    words = words.reshape(num_rows, 4)[:, stream]
    return np.stack([words >> np.uint64(32), words & np.uint64(0xFFFFFFFF)], 1).astype(np.uint32)


def as_row_keys(keys: jax.Array | np.ndarray | None, num_rows: int) -> jax.Array:
    """Reads the keys of a batch's rows.

    Args:
        keys: `jax.random` keys [num_rows], or threefry key data [num_rows, 2] uint32.
        num_rows: rows of the batch.

    Returns:
        [num_rows] typed keys.

    Raises:
        ValueError: if there are no keys, or not one per row, or the data are of another form.
    """
    if keys is None:
        raise ValueError(f"{num_rows} rows need {num_rows} keys, one per row; got None.")
    given = jnp.asarray(keys)
    if not jnp.issubdtype(given.dtype, jax.dtypes.prng_key):
        if given.dtype != jnp.uint32 or given.shape[1:] != (2,):
            raise ValueError(
                f"keys must be jax.random keys [B] or threefry key data [B, 2] uint32, got "
                f"{given.shape} {given.dtype}."
            )
        given = jax.random.wrap_key_data(given, impl="threefry2x32")
    if given.shape != (num_rows,):
        raise ValueError(f"{num_rows} rows need {num_rows} keys, one per row; got {given.shape}.")
    return given
