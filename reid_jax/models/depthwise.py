"""Depthwise convolution as sums of shifted products: what XLA runs fast on a CPU.

XLA's own grouped convolution takes some 20 times as long forward there, and 40 times as long with
its gradient (jaxlib 0.10.2). Image by image, what is read again for each position of the kernel is
still in the cache. `experiments/benchmarks/depthwise.py` measures both, and PyTorch.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["depthwise", "depthwise_gradients"]

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]


def depthwise(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    """Each channel convolved with a kernel of its own; sums are taken in float32 or wider.

    Args:
        x: [B, H, W, C].
        kernel: [h, w, 1, C].
        strides: rows, columns.
        padding: ((top, bottom), (left, right)) zeros; fewer than none takes edges off.

    Returns:
        [B, (H + top + bottom - h) // stride + 1, ..., C], like `x`.
    """
    size, kernel = (kernel.shape[0], kernel.shape[1]), _wide(kernel[:, :, 0])
    rows, columns = (
        (length + sum(pad) - n) // stride + 1
        for length, pad, n, stride in zip(x.shape[1:3], padding, size, strides, strict=True)
    )

    def of_image(image: jax.Array) -> jax.Array:
        image = _padded(image, padding)
        products = [
            _wide(_strided(image, (i, j), (rows, columns), strides)) * kernel[i, j]
            for i, j in itertools.product(*map(range, size))
        ]
        return functools.reduce(jnp.add, products).astype(x.dtype)

    return _of_each_image(of_image, x)


def depthwise_gradients(
    x: jax.Array, kernel: jax.Array, dy: jax.Array, strides: Pair, padding: Padding
) -> tuple[jax.Array, jax.Array]:
    """The cotangents of `x` and `kernel` for that of the result of `depthwise`."""
    # dx is a convolution of dy, with zeros for the strides, with the kernel turned around.
    rows, columns = (
        (n - 1 - before, length + before - (steps - 1) * stride - 1, stride - 1)
        for n, (before, _), length, steps, stride in zip(
            kernel.shape[:2], padding, x.shape[1:3], dy.shape[1:3], strides, strict=True
        )
    )
    turned = _wide(kernel[::-1, ::-1, 0])

    def of_image(dy: jax.Array) -> jax.Array:
        dy = lax.pad(dy, jnp.zeros((), dy.dtype), (rows, columns, (0, 0, 0)))
        products = [
            _wide(_strided(dy, (i, j), x.shape[1:3], (1, 1))) * turned[i, j]
            for i, j in itertools.product(*map(range, kernel.shape[:2]))
        ]
        return functools.reduce(jnp.add, products).astype(x.dtype)

    dkernel = _kernel_gradient(x, (kernel.shape[0], kernel.shape[1]), dy, strides, padding)
    return _of_each_image(of_image, dy), dkernel.reshape(kernel.shape).astype(kernel.dtype)


def _kernel_gradient(
    x: jax.Array, size: Pair, dy: jax.Array, strides: Pair, padding: Padding
) -> jax.Array:
    """[h, w, C] sums over images and places of dy times the values under the kernel.

    Row by row of `dy`, added to one row of sums for each position of the kernel, so that no loop
    adds up along another axis than the channels'; columns are added up at the end.
    """
    _, height, width, channels = dy.shape
    span = (width - 1) * strides[1] + 1

    def add_image(sums: list[jax.Array], arrays: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        image, dy = _padded(arrays[0], padding), arrays[1]

        def add_row(sums: list[jax.Array], row: jax.Array) -> tuple[list[jax.Array], None]:
            seen = _wide(lax.dynamic_slice_in_dim(image, row * strides[0], size[0]))
            of_row = _wide(lax.dynamic_slice_in_dim(dy, row, 1))
            return [
                total + lax.slice_in_dim(seen, j, j + span, strides[1], axis=1) * of_row
                for j, total in enumerate(sums)
            ], None

        return lax.scan(add_row, sums, jnp.arange(height))

    dtype = jnp.promote_types(x.dtype, jnp.float32)
    none = [jnp.zeros((size[0], width, channels), dtype)] * size[1]
    sums, _ = lax.scan(add_image, none, (x, dy))
    return jnp.stack([total.sum(1) for total in sums], axis=1)


def _of_each_image(function: Callable[[jax.Array], jax.Array], images: jax.Array) -> jax.Array:
    if isinstance(images.shape[0], int):
        return lax.map(function, images)
    return jax.vmap(function)(images)  # any number of rows (jax.export): no loop is that long


def _padded(image: jax.Array, padding: Padding) -> jax.Array:
    return lax.pad(image, jnp.zeros((), image.dtype), [*((*pad, 0) for pad in padding), (0, 0, 0)])


def _strided(image: jax.Array, first: Pair, size: Any, strides: Pair) -> jax.Array:
    """Of [H, W, C], `size` rows and columns from `first` on, `strides` apart."""
    last = [start + (n - 1) * step + 1 for start, n, step in zip(first, size, strides, strict=True)]
    return lax.slice(image, (*first, 0), (*last, image.shape[2]), (*strides, 1))


def _wide(array: jax.Array) -> jax.Array:
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))
