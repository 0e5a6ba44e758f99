"""Convolution as every network here uses it.

It has one definition (`lax.conv_general_dilated`) and, on a CPU, other formulations of the same
result that XLA runs faster there: products of patches, Winograd's (`winograd.py`), shifted products
of each channel (`depthwise.py`). `lax.platform_dependent` chooses when a function is lowered, so
lowering for a TPU or a GPU on a machine that has neither still gives the definition.

Layouts are NHWC for activations and HWIO for kernels, padding is always explicit: `'SAME'` at
stride 2 is not what PyTorch and Caffe do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from reid_jax.models import winograd
from reid_jax.models.depthwise import depthwise, depthwise_gradients
from reid_jax.models.initialisers import he_fan_out

__all__ = ["NO_PADDING", "Conv", "Padding", "Pair", "conv"]

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
NO_PADDING: Padding = ((0, 0), (0, 0))

ROWS_OF_A_PRODUCT = 1024
"""Positions of the images of one block of the kernel's gradient, at most."""


def conv(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Pair = (1, 1),
    padding: Padding = NO_PADDING,
    groups: int = 1,
) -> jax.Array:
    """Two-dimensional convolution (cross-correlation, as in every deep-learning library).

    Args:
        x: [B, H, W, C].
        kernel: [h, w, C / groups, O], of the same dtype.
        strides: rows, columns.
        padding: ((top, bottom), (left, right)) zeros.
        groups: equal parts of the C and of the O channels; each part of the result sees its own
            part of the input alone.

    Returns:
        [B, (H + top + bottom - h) // stride + 1, ..., O].

    Raises:
        ValueError: if the channels of `x`, `kernel` and `groups` do not fit.
    """
    channels = x.shape[3] if x.ndim == 4 else None
    if kernel.ndim != 4 or channels != groups * kernel.shape[2] or kernel.shape[3] % groups:
        raise ValueError(
            f"conv needs x [B, H, W, C] and kernel [h, w, C / groups, O] with the same C, got "
            f"{x.shape} and {kernel.shape} with groups={groups}, which must divide C and O."
        )
    return _conv(x, kernel, strides, padding, groups)


def _convolution(
    x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, groups: int = 1
) -> jax.Array:
    """The definition."""
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


# The two functions that are jitted here are traced and lowered once for all layers of a shape.


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _conv(
    x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, groups: int
) -> jax.Array:
    def on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
        if _is_depthwise(kernel, groups):
            return depthwise(x, kernel, strides, padding)
        # One convolution a group: XLA's grouped one takes 4 times as long, 6 with its gradient.
        parts = zip(jnp.split(x, groups, 3), jnp.split(kernel, groups, 3), strict=True)
        return jnp.concatenate([_conv_on_cpu(*part, strides, padding) for part in parts], 3)

    def definition(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _convolution(x, kernel, strides, padding, groups)

    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=definition)


def _conv_on_cpu(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    if winograd.is_faster(x, kernel, strides, padding):
        return winograd.convolved(x, kernel, padding)
    if _is_product_on_cpu(x, kernel, strides, padding):
        patches = _patches(x, (kernel.shape[0], kernel.shape[1]), strides, padding)
        return _product(patches, kernel.reshape(-1, kernel.shape[3]))
    missing = 32 - kernel.shape[3]
    if x.shape[3] <= 3 and missing > 8:
        # 12 ms for 3x3x3x16 on 32 images of 96 x 48, and 6 ms for 32 output channels; 24 take 5 ms.
        kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, 0), (0, missing)))
        y = _convolution(x, kernel, strides, padding)
        return lax.slice_in_dim(y, 0, y.shape[3] - missing, axis=3)
    return _convolution(x, kernel, strides, padding)


def _conv_forward(
    x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, groups: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _conv(x, kernel, strides, padding, groups), (x, kernel)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _conv_backward(
    strides: Pair,
    padding: Padding,
    groups: int,
    residuals: tuple[jax.Array, jax.Array],
    dy: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    def definition(
        x: jax.Array, kernel: jax.Array, dy: jax.Array, groups: int = groups
    ) -> tuple[jax.Array, jax.Array]:
        _, vjp = jax.vjp(
            lambda x, kernel: _convolution(x, kernel, strides, padding, groups), x, kernel
        )
        return vjp(dy)

    def product(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        window = kernel.shape[0], kernel.shape[1]
        patches, to_image = jax.vjp(lambda x: _patches(x, window, strides, padding), x)
        dkernel = _transposed_product(patches, dy).reshape(kernel.shape)
        (dx,) = to_image(_product(dy, kernel.reshape(-1, kernel.shape[3]).T))
        return dx, dkernel

    def convolution(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        if kernel.shape[1] * kernel.shape[2] < 16:  # a colour image under a 3x3 kernel
            return definition(x, kernel, dy, groups=1)
        to_image = jax.linear_transpose(lambda x: _convolution(x, kernel, strides, padding), x)
        (dx,) = to_image(dy)
        window = kernel.shape[0], kernel.shape[1]
        return dx, _kernel_gradient(x, window, dy, strides, padding)

    def of_group(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        if winograd.is_faster(x, kernel, strides, padding):
            dx = winograd.image_gradient(kernel, dy, padding)
            return dx, winograd.kernel_gradient(x, dy, padding)
        if _is_product_on_cpu(x, kernel, strides, padding):
            return product(x, kernel, dy)
        return convolution(x, kernel, dy)

    def on_cpu(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        if _is_depthwise(kernel, groups):
            return depthwise_gradients(x, kernel, dy, strides, padding)
        parts = zip(*(jnp.split(array, groups, 3) for array in (x, kernel, dy)), strict=True)
        gradients = [of_group(*part) for part in parts]
        dx, dkernel = zip(*gradients, strict=True)
        return jnp.concatenate(dx, 3), jnp.concatenate(dkernel, 3)

    return lax.platform_dependent(*residuals, dy, cpu=on_cpu, default=definition)


_conv.defvjp(_conv_forward, _conv_backward)


def _kernel_gradient(
    x: jax.Array, window: Pair, dy: jax.Array, strides: Pair, padding: Padding
) -> jax.Array:
    """[h, w, C, O] gradient of the kernel, summed over blocks of images that stay in the cache.

    Of each block, copies of the image shifted by 0 .. w - 1 columns stand side by side in the
    channels; a shift by rows is then a slice of them, and each row of the kernel is one product.
    XLA's own takes 9 times as long on 16 maps of 64 x 32 with 64 channels, twice on 32 x 16, and
    as long on 8 x 4 (jaxlib 0.10.2).
    """
    images, height, width, features = dy.shape
    channels = x.shape[3]
    fitting = max(1, ROWS_OF_A_PRODUCT // (height * width))
    block = max(n for n in range(1, min(fitting, images) + 1) if images % n == 0)
    x = _padded(x, padding)

    def add(gradient: jax.Array, images: tuple[jax.Array, ...]) -> tuple[jax.Array, None]:
        # Rows of the image first: a slice of them is then one piece of memory.
        x, dy = (array.transpose(1, 0, 2, 3) for array in images)
        columns = (width - 1) * strides[1] + 1
        side_by_side = jnp.concatenate(
            [lax.slice_in_dim(x, j, j + columns, strides[1], axis=2) for j in range(window[1])],
            axis=3,
        )
        rows = (height - 1) * strides[0] + 1
        products = [
            _transposed_product(dy, lax.slice_in_dim(side_by_side, i, i + rows, strides[0], axis=0))
            for i in range(window[0])
        ]
        return gradient + jnp.stack(products), None

    blocks = [array.reshape(-1, block, *array.shape[1:]) for array in (x, dy)]
    # A sum of many blocks has more digits than bfloat16.
    shape, dtype = (window[0], features, window[1] * channels), jnp.promote_types(x.dtype, "f4")
    gradient, _ = lax.scan(add, jnp.zeros(shape, dtype), tuple(blocks))
    gradient = gradient.reshape(window[0], features, window[1], channels)
    return gradient.transpose(0, 2, 3, 1).astype(x.dtype)


def _is_depthwise(kernel: jax.Array, groups: int) -> bool:
    """Whether each channel has a kernel of its own."""
    return groups > 1 and kernel.shape[2:] == (1, groups)


def _is_product_on_cpu(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> bool:
    """Whether the product of patches and kernel is the fast form on a CPU.

    XLA's convolution takes 2 to 8 times as long for 1x1 kernels, up to 100 times as long where the
    result has one or two columns, and a quarter longer, gradients included, where it has three or
    four (16 maps of 8x4 with 512 channels; jaxlib 0.10.2).
    """
    columns = (x.shape[2] + sum(padding[1]) - kernel.shape[1]) // strides[1] + 1
    return kernel.shape[:2] == (1, 1) or columns <= 4


def _padded(x: jax.Array, padding: Padding) -> jax.Array:
    return lax.pad(
        x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in padding), (0, 0, 0)]
    )


def _patches(x: jax.Array, size: Pair, strides: Pair, padding: Padding) -> jax.Array:
    """[B, h, w, rows * columns * C]: under each position of the kernel, the values it meets."""
    if size == x.shape[1:3] and padding == NO_PADDING:
        return x.reshape(x.shape[0], 1, 1, -1)
    x = _padded(x, padding)
    last = [length - n for length, n in zip(x.shape[1:3], size, strict=True)]
    # As lax.slice: indexing is a gather where the number of rows is a symbol (jax.export).
    shifted = [
        lax.slice(
            x,
            (0, i, j, 0),
            (x.shape[0], i + last[0] + 1, j + last[1] + 1, x.shape[3]),
            (1, *strides, 1),
        )
        for i in range(size[0])
        for j in range(size[1])
    ]
    return shifted[0] if size == (1, 1) else jnp.concatenate(shifted, -1)


def _product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    return lax.dot_general(x, matrix, (((3,), (0,)), ((), ())))


def _transposed_product(x: jax.Array, y: jax.Array) -> jax.Array:
    """[C, O] sum over rows and positions of x [B, H, W, C] times y [B, H, W, O].

    On matrices of two axes and with the narrower one first: XLA then transposes no large array.
    """
    x, y = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    rows_with_rows = (((0,), (0,)), ((), ()))
    if x.shape[1] <= y.shape[1]:
        return lax.dot_general(x, y, rows_with_rows)
    return lax.dot_general(y, x, rows_with_rows).T


class Conv(nn.Module):
    """Convolution without bias by default; its parameters are those of `flax.linen.Conv`.

    Attributes:
        features: output channels.
        kernel_size: rows, columns.
        strides: rows, columns.
        padding: ((top, bottom), (left, right)) zeros; no names, no automatic padding.
        groups: equal parts of the channels that do not see each other.
        use_bias: adds a parameter `bias` [features], zeros at the start.
        dtype: dtype of the computation and of the result; None promotes the input's and the
            parameters' dtypes. Parameters are created in float32.
        kernel_init: initialiser of `kernel` [h, w, C / groups, features].
    """

    features: int
    kernel_size: Pair
    strides: Pair = (1, 1)
    padding: Padding = NO_PADDING
    groups: int = 1
    use_bias: bool = False
    dtype: Any = None
    kernel_init: Callable[..., jax.Array] = he_fan_out

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv(x, kernel, strides=self.strides, padding=self.padding, groups=self.groups)
        return y if bias is None else y + bias
