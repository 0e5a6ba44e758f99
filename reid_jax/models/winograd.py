r"""3x3 convolution by Winograd's minimal filtering: fewer multiplications, for a CPU.

F(2x2, 3x3) of Lavin and Gray 2016 (Sec. 4.1): 2 x 2 results come from a tile of 4 x 4 values, in 16
multiplications where the definition has 36,

.. math:: Y = A^T \, [(G \, k \, G^T) \odot (B^T d \, B)] \, A

for a tile d and a kernel k, summed over the channels of the input: with all tiles side by side, 16
products of matrices. It is the convolution itself, written otherwise: in exact arithmetic all is
equal, and in float32 the difference is that of another order of summation. Gradients are those of
the formula. `experiments/benchmarks/winograd.py` measures it beside the direct forms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["convolved", "image_gradient", "is_faster", "kernel_gradient"]

Padding = tuple[tuple[int, int], tuple[int, int]]

FEWEST_TILES = 32
"""Of all images; with fewer, transforming the kernel takes longer than the products save."""
BYTES_OF_A_BLOCK = 2**24
"""Of the transformed tiles and their products; images are taken in blocks of no more."""

OF_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
"""G."""
TURNED = [3, 1, 2, 0]
"""G of a kernel that is turned by half a turn: the order of its rows."""


def is_faster(x: jax.Array, kernel: jax.Array, strides: tuple[int, int], padding: Padding) -> bool:
    """Whether it is the form to take, of x [B, H, W, C] and kernel [h, w, C, O].

    On a core, forward and gradients of 16 images of 16x8 with 256 channels take half as long as in
    the direct form, and of 64x32 with 64 channels a quarter less.
    """
    if kernel.shape[:2] != (3, 3) or strides != (1, 1) or max(map(max, padding)) > 2:
        return False
    if not all(isinstance(size, int) for size in x.shape) or x.dtype.itemsize < 4:
        return False  # A symbol in jax.export; bfloat16, whose sums of tiles lose digits.
    height, width = _size_of_result(x, padding)
    rows, columns = _tiles_over((height, width))
    channels, features = kernel.shape[2:]
    # Few channels spend more on the tiles than the products save, and odd sizes fill them badly.
    is_wide = channels * features >= 20 * (channels + features)
    is_filled = 16 * rows * columns <= 0.6 * 9 * height * width
    return is_wide and is_filled and x.shape[0] * rows * columns >= FEWEST_TILES


def convolved(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """The convolution of x [B, H, W, C] and kernel [3, 3, C, O], with zeros around x."""
    return _filtered(x, kernel, OF_KERNEL, padding, over=1)


def image_gradient(kernel: jax.Array, dy: jax.Array, padding: Padding) -> jax.Array:
    """Its gradient with respect to x, of the kernel and the gradient dy [B, h, w, O] of the result.

    It is the convolution of dy with the turned kernel, summed over the features.
    """
    (top, bottom), (left, right) = padding
    around = (2 - top, 2 - bottom), (2 - left, 2 - right)
    return _filtered(dy, kernel, OF_KERNEL[TURNED], around, over=2)


def kernel_gradient(x: jax.Array, dy: jax.Array, padding: Padding) -> jax.Array:
    """Its gradient with respect to the kernel, [3, 3, C, O], of x and the gradient dy."""
    tiles = _tiles_over(dy.shape[1:3])
    x = _padded(x, padding, tiles, size=4)
    dy = _padded(dy, ((0, 0), (0, 0)), tiles, size=2)

    def add(total: jax.Array, images: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        of_x = _tiles(images[0], 4, _of_tile, tiles)
        of_dy = _tiles(images[1], 2, _of_result_transposed, tiles)
        return total + lax.dot_general(of_x, of_dy, (((1,), (1,)), ((0,), (0,)))), None

    total = jnp.zeros((16, x.shape[3], dy.shape[3]), x.dtype)
    blocks = _in_blocks(tiles, x.shape[3] + dy.shape[3], x, dy)
    total, _ = add(total, (x, dy)) if len(blocks[0]) == 1 else lax.scan(add, total, blocks)
    transform = jnp.asarray(np.kron(OF_KERNEL, OF_KERNEL).T, x.dtype)
    return (transform @ total.reshape(16, -1)).reshape(3, 3, *total.shape[1:])


def _filtered(
    x: jax.Array, kernel: jax.Array, transform: np.ndarray, padding: Padding, *, over: int
) -> jax.Array:
    """The tiles of x times the transformed kernel, summed over an axis of it, as an image."""
    factors = _factors(kernel, transform)
    height, width = _size_of_result(x, padding)
    tiles = _tiles_over((height, width))
    x = _padded(x, padding, tiles, size=4)
    features = factors.shape[3 - over]

    def of_block(x: jax.Array) -> jax.Array:
        own = _tiles(x, 4, _of_tile, tiles)
        products = lax.dot_general(own, factors, (((2,), (over,)), ((0,), (0,))))
        grid = products.reshape(4, 4, len(x), *tiles, features)
        rows = _of_result(grid)
        values = [jnp.stack(_of_result(row), axis=3) for row in rows]
        return jnp.stack(values, axis=2).reshape(len(x), 2 * tiles[0], 2 * tiles[1], features)

    (blocks,) = _in_blocks(tiles, x.shape[3] + features, x)
    y = of_block(x) if len(blocks) == 1 else lax.map(of_block, blocks)
    return y.reshape(len(x), *y.shape[-3:])[:, :height, :width]


# The transforms -----------------------------------------------------------------------------------


def _factors(kernel: jax.Array, transform: np.ndarray) -> jax.Array:
    """G k G^T, [16, C, O]: as one product, which compiles at once."""
    both_ways = jnp.asarray(np.kron(transform, transform), kernel.dtype)
    return (both_ways @ kernel.reshape(9, -1)).reshape(16, *kernel.shape[2:])


def _of_tile(d: Sequence[jax.Array]) -> list[jax.Array]:
    """B^T d."""
    return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]


def _of_result(m: Sequence[jax.Array] | jax.Array) -> list[jax.Array]:
    """A^T m."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def _of_result_transposed(y: Sequence[jax.Array]) -> list[jax.Array]:
    """A y."""
    return [y[0], y[0] + y[1], y[0] - y[1], -y[1]]


def _tiles(
    x: jax.Array,
    size: int,
    transform: Callable[[Sequence[jax.Array]], list[jax.Array]],
    tiles: tuple[int, int],
) -> jax.Array:
    """The transform of tiles of size x size, 2 apart: [16, images * tiles, C].

    Axis 2 has the columns of the images, and then, for all is stacked in front, their rows.
    """
    for count in (tiles[1], tiles[0]):
        parts = [lax.slice_in_dim(x, n, n + 2 * count - 1, 2, axis=2) for n in range(size)]
        # One pass for the columns and one for the rows: as one, it is compiled for longer.
        x = lax.optimization_barrier(jnp.stack(transform(parts)))
    return x.reshape(16, -1, x.shape[-1])


def _tiles_over(size: Sequence[int]) -> tuple[int, int]:
    return -(-size[0] // 2), -(-size[1] // 2)


def _size_of_result(x: jax.Array, padding: Padding) -> tuple[int, int]:
    return x.shape[1] + sum(padding[0]) - 2, x.shape[2] + sum(padding[1]) - 2


def _padded(x: jax.Array, padding: Padding, tiles: tuple[int, int], *, size: int) -> jax.Array:
    """With zeros before as the padding has them, and after the end as far as whole tiles go."""
    sides = [
        (before, 2 * (count - 1) + size - before - length, 0)
        for (before, _), count, length in zip(padding, tiles, x.shape[1:3], strict=True)
    ]
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *sides, (0, 0, 0)])


def _in_blocks(tiles: tuple[int, int], channels: int, *arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Arrays [B, ...] as [blocks, images, ...], for tiles with channels in all."""
    images = len(arrays[0])
    of_image = 16 * tiles[0] * tiles[1] * channels * arrays[0].dtype.itemsize
    fitting = max(1, BYTES_OF_A_BLOCK // of_image)
    block = max(n for n in range(1, min(fitting, images) + 1) if images % n == 0)
    return tuple(array.reshape(-1, block, *array.shape[1:]) for array in arrays)
