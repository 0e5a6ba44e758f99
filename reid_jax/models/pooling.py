"""Maximum over windows of a map, in a form that is fast on each platform.

As in `reid_jax.models.conv`, there is one definition (`lax.reduce_window`) and a second
formulation of the same values and gradients for a CPU; the choice is made when a function is
lowered.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from reid_jax.models.conv import NO_PADDING, Padding, Pair

__all__ = ["ceil_padding", "max_pool"]


def max_pool(
    x: jax.Array, *, window: Pair = (3, 3), strides: Pair = (2, 2), padding: Padding = NO_PADDING
) -> jax.Array:
    """Maximum over windows of the image; padding never wins.

    Where several values of a window are the maximum, the gradient goes to the first of them, row by
    row: a subgradient. On a CPU the places of the maxima are kept for it, because XLA's gradient of
    `reduce_window` takes four times as long there.

    Args:
        x: [B, H, W, C].
        window: rows, columns.
        strides: rows, columns.
        padding: ((top, bottom), (left, right)), smaller than the window.

    Returns:
        [B, (H + top + bottom - rows) // stride + 1, ..., C].
    """
    return lax.platform_dependent(
        x,
        cpu=functools.partial(_by_places, window=window, strides=strides, padding=padding),
        default=lambda x: lax.reduce_window(
            x,
            -jnp.inf,
            lax.max,
            (1, *window, 1),
            (1, *strides, 1),
            ((0, 0), *padding, (0, 0)),
        ),
    )


def ceil_padding(size: Sequence[int], *, window: Pair, strides: Pair) -> Padding:
    """Padding at the end with which pooling rounds the number of its windows up, as Caffe does.

    Args:
        size: rows, columns of the map.
        window: rows, columns.
        strides: rows, columns.

    Returns:
        ((0, bottom), (0, right)).
    """
    rows, columns = (
        (0, max(width - length, (width - length) % stride))
        for length, width, stride in zip(size, window, strides, strict=True)
    )
    return rows, columns


def _by_places(x: jax.Array, *, window: Pair, strides: Pair, padding: Padding) -> jax.Array:
    lowest = jnp.asarray(-jnp.inf, x.dtype)
    x = lax.pad(x, lowest, [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)])
    for axis in (2, 1):  # Columns, then rows: the first of equal values is in the first row.
        x = _largest(x, axis, window[axis - 1], strides[axis - 1], x.shape[axis])
    return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _largest(x: jax.Array, axis: int, size: int, stride: int, length: int) -> jax.Array:
    """The maximum of each window along one axis, which is `length` long."""
    return _with_places(x, axis, size, stride, length)[0]


def _with_places(
    x: jax.Array, axis: int, size: int, stride: int, length: int
) -> tuple[jax.Array, jax.Array]:
    """And which value of its window it is, int8."""
    shifted = [
        lax.slice_in_dim(x, first, length - size + first + 1, stride, axis) for first in range(size)
    ]
    largest, place = shifted[0], jnp.zeros(shifted[0].shape, jnp.int8)
    for number, values in enumerate(shifted[1:], start=1):
        place = jnp.where(values > largest, jnp.int8(number), place)
        largest = jnp.maximum(largest, values)
    return largest, place


def _largest_backward(
    axis: int, size: int, stride: int, length: int, place: jax.Array, dy: jax.Array
) -> tuple[jax.Array]:
    # Values that are some strides apart have the same place in their windows, and values of
    # different places stand in turns.
    each = -(-length // stride)
    turns = []
    for first in range(stride):
        shape = (*dy.shape[:axis], each, *dy.shape[axis + 1 :])
        turn = jnp.zeros(shape, dy.dtype)
        for number in range(first, size, stride):
            before = number // stride
            padding = [(0, 0, 0)] * dy.ndim
            padding[axis] = (before, each - before - dy.shape[axis], 0)
            chosen = jnp.where(place == number, dy, 0)
            turn += lax.pad(chosen, jnp.zeros((), dy.dtype), padding)
        turns.append(turn)
    dx = jnp.stack(turns, axis + 1)
    dx = dx.reshape(*dy.shape[:axis], each * stride, *dy.shape[axis + 1 :])
    return (lax.slice_in_dim(dx, 0, length, 1, axis),)


_largest.defvjp(_with_places, _largest_backward)
