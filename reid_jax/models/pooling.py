"""Maximum over windows of a map, in a form that is fast on each platform.

As in `reid_jax.models.conv`, there is one definition (`lax.reduce_window`) and a second
formulation for a CPU, and the choice is made when a function is lowered.
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

    On a CPU it is the maximum of shifted slices, because XLA's gradient of `reduce_window` is
    slow there. Where several values of a window are the maximum, the gradient goes to the first of
    them from `reduce_window` and is divided among them on a CPU; both are subgradients. (After a
    ReLU the usual tie is at 0, where no gradient passes either way.)

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
        cpu=lambda x: _shifted_maximum(x, window, strides, padding),
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


def _shifted_maximum(x: jax.Array, window: Pair, strides: Pair, padding: Padding) -> jax.Array:
    lowest = jnp.asarray(-jnp.inf, x.dtype)
    x = lax.pad(x, lowest, [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)])
    for axis, (size, stride) in enumerate(zip(window, strides, strict=True), start=1):
        last = x.shape[axis] - size
        shifted = [
            lax.slice_in_dim(x, shift, last + shift + 1, stride, axis) for shift in range(size)
        ]
        x = functools.reduce(jnp.maximum, shifted)
    return x
