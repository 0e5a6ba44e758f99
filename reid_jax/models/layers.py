"""Convolution, batch norm, pooling and dropout as every network here uses them.

Convolution, pooling and batch norm have one definition (``lax.conv_general_dilated``,
``lax.reduce_window``, the formulas below) and, on a CPU, a second formulation of the same result
that XLA runs faster there. ``lax.platform_dependent`` chooses when a function is lowered, so
lowering for a TPU or a GPU on a machine that has neither still gives the definition.

Layouts are NHWC for activations and HWIO for kernels, padding is always explicit: ``'SAME'`` at
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

from reid_jax import parallel

__all__ = ["BatchNorm", "Conv", "conv", "dropout", "max_pool", "normalise", "relu"]

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
NO_PADDING: Padding = ((0, 0), (0, 0))

# torchvision's initialisation: variance 2 / (height * width * output channels).
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


# Convolution -----------------------------------------------------------------------------------


def conv(
    x: jax.Array, kernel: jax.Array, *, strides: Pair = (1, 1), padding: Padding = NO_PADDING
) -> jax.Array:
    """Two-dimensional convolution (cross-correlation, as in every deep-learning library).

    Args:
        x: [B, H, W, C].
        kernel: [h, w, C, O], of the same dtype.
        strides: rows, columns.
        padding: ((top, bottom), (left, right)) zeros.

    Returns:
        [B, (H + top + bottom - h) // stride + 1, ..., O].

    Raises:
        ValueError: if the channels of ``x`` and ``kernel`` differ.
    """
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise ValueError(
            f"conv needs x [B, H, W, C] and kernel [h, w, C, O] with the same C, got "
            f"{x.shape} and {kernel.shape}."
        )
    if kernel.shape[:2] == (1, 1) and padding == NO_PADDING:
        return _pointwise(x, kernel, strides)
    return _convolution(x, kernel, strides, padding)


def _convolution(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _pointwise(x: jax.Array, kernel: jax.Array, strides: Pair) -> jax.Array:
    """1x1 convolution; on a CPU a matrix product, 2 to 8 times as fast as the convolution there."""
    return lax.platform_dependent(
        x,
        kernel,
        cpu=lambda x, kernel: _product(_every(x, strides), kernel[0, 0]),
        default=lambda x, kernel: _convolution(x, kernel, strides, NO_PADDING),
    )


def _pointwise_forward(
    x: jax.Array, kernel: jax.Array, strides: Pair
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _pointwise(x, kernel, strides), (x, kernel)


def _pointwise_backward(
    strides: Pair, residuals: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def with_products(
        x: jax.Array, kernel: jax.Array, dy: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        rows = tuple(range(3))
        dkernel = lax.dot_general(_every(x, strides), dy, ((rows, rows), ((), ())))
        dx = _spread(_product(dy, kernel[0, 0].T), x.shape[1:3], strides)
        return dx, dkernel[None, None]

    def with_convolutions(
        x: jax.Array, kernel: jax.Array, dy: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        _, vjp = jax.vjp(lambda x, kernel: _convolution(x, kernel, strides, NO_PADDING), x, kernel)
        return vjp(dy)

    return lax.platform_dependent(*residuals, dy, cpu=with_products, default=with_convolutions)


_pointwise.defvjp(_pointwise_forward, _pointwise_backward)


def _product(x: jax.Array, matrix: jax.Array) -> jax.Array:
    return lax.dot_general(x, matrix, (((3,), (0,)), ((), ())))


def _every(x: jax.Array, strides: Pair) -> jax.Array:
    return x[:, :: strides[0], :: strides[1]]


def _spread(x: jax.Array, size: Pair, strides: Pair) -> jax.Array:
    """The transpose of :func:`_every`: zeros between the rows and columns, up to ``size``."""
    tail = [(n - 1) % stride for n, stride in zip(size, strides, strict=True)]
    config = [(0, 0, 0), *((0, t, s - 1) for t, s in zip(tail, strides, strict=True)), (0, 0, 0)]
    return lax.pad(x, jnp.zeros((), x.dtype), config)


class Conv(nn.Module):
    """Convolution without bias by default; its parameters are those of ``flax.linen.Conv``.

    Attributes:
        features: output channels.
        kernel_size: rows, columns.
        strides: rows, columns.
        padding: ((top, bottom), (left, right)) zeros; no names, no automatic padding.
        use_bias: adds a parameter ``bias`` [features], zeros at the start.
        dtype: dtype of the computation and of the result; None promotes the input's and the
            parameters' dtypes. Parameters are created in float32.
        kernel_init: initialiser of ``kernel`` [h, w, C, features].
    """

    features: int
    kernel_size: Pair
    strides: Pair = (1, 1)
    padding: Padding = NO_PADDING
    use_bias: bool = False
    dtype: Any = None
    kernel_init: Callable[..., jax.Array] = he_fan_out

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        y = conv(x, kernel, strides=self.strides, padding=self.padding)
        return y if bias is None else y + bias


# Batch norm ------------------------------------------------------------------------------------


def normalise(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    *,
    epsilon: float,
    num_streams: int = 1,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    r"""Batch normalisation with the statistics of the batch.

    .. math:: y = \gamma \, (x - \mu) / \sqrt{\sigma^2 + \epsilon} + \beta

    (Ioffe and Szegedy 2015, Alg. 1) with mean and biased variance over all rows and positions of a stream, on all devices. The
    gradient is written out: XLA's derivative of the forward pass takes three times as long on a
    CPU. It is the derivative of the loss through the statistics of every device, that is, what
    differentiating the same formula with ``lax.pmean`` gives.

    Args:
        x: [B, ..., C]; the ``num_streams`` equal parts of its first axis have separate statistics.
        scale: [C] gamma.
        bias: [C] beta.
        epsilon: added to the variance.
        num_streams: number of streams in the batch.
        axis_name: device axis over which the batch is divided, or None.

    Returns:
        y like ``x``; mean and biased variance [num_streams, C] of the whole batch, in float32 or
        wider, through which no gradient flows.

    Raises:
        ValueError: if ``num_streams`` does not divide B.
    Deviation: none.
    """
    if x.shape[0] % num_streams:
        raise ValueError(
            f"a batch of {x.shape[0]} rows has not {num_streams} streams of equal size: give every "
            "stream the same number of rows."
        )
    y, mean, variance = _normalise(x, scale, bias, epsilon, num_streams, axis_name)
    return y, lax.stop_gradient(mean), lax.stop_gradient(variance)


def _in_streams(x: jax.Array, num_streams: int) -> jax.Array:
    """[S, N, C] with the rows and positions of a stream on one axis, float32 or wider."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    return x.reshape(num_streams, -1, x.shape[-1]).astype(wide)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _normalise(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    num_streams: int,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    rows = _in_streams(x, num_streams)
    mean = parallel.cross_mean(rows.mean(1), axis_name=axis_name)
    # In two passes: the difference of E[x^2] and E[x]^2 loses digits where the mean is large.
    variance = jnp.square(rows - mean[:, None]).mean(1)
    variance = parallel.cross_mean(variance, axis_name=axis_name)
    factor = scale * lax.rsqrt(variance + epsilon)
    y = (rows - mean[:, None]) * factor[:, None] + bias
    return y.reshape(x.shape).astype(x.dtype), mean, variance


def _normalise_forward(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    num_streams: int,
    axis_name: str | None,
) -> tuple[Any, Any]:
    y, mean, variance = _normalise(x, scale, bias, epsilon, num_streams, axis_name)
    return (y, mean, variance), (x, scale, bias, mean, variance)


def _normalise_backward(
    epsilon: float, num_streams: int, axis_name: str | None, residuals: Any, cotangents: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, bias, mean, variance = residuals
    rows = _in_streams(x, num_streams) - mean[:, None]
    dy = _in_streams(cotangents[0], num_streams)
    inverse = lax.rsqrt(variance + epsilon)
    dy_mean = dy.mean(1)
    slope = (dy * rows).mean(1) * inverse
    # Parameter gradients are this device's share; the step averages gradients over the devices.
    num_rows = rows.shape[1]
    dscale = num_rows * slope.sum(0)
    dbias = num_rows * dy_mean.sum(0)
    dy_mean, slope = parallel.cross_mean((dy_mean, slope), axis_name=axis_name)
    centred = dy - dy_mean[:, None] - rows * (slope * inverse)[:, None]
    dx = centred * (scale * inverse)[:, None]
    return (
        dx.reshape(x.shape).astype(x.dtype),
        dscale.astype(scale.dtype),
        dbias.astype(bias.dtype),
    )


_normalise.defvjp(_normalise_forward, _normalise_backward)


class BatchNorm(nn.Module):
    """Batch normalisation with running averages; variables as in ``flax.linen.BatchNorm``.

    The running variance is moved by the unbiased variance of the batch, as in PyTorch and Caffe
    (``flax.linen`` takes the biased one), and starts at 1, the running mean at 0. With several
    streams both are moved by the mean over the streams.

    Attributes:
        momentum: share of the old value that a running average keeps in a step.
        epsilon: added to the variance.
        axis_name: device axis over which the batch is divided; None if the full batch is here.
        num_streams: equal parts of the batch axis that are normalised separately.
        dtype: dtype of the result; None keeps what input and parameters promote to. Statistics are
            in float32 or wider.
        scale_init: initialiser of ``scale`` [C].
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    num_streams: int = 1
    dtype: Any = None
    scale_init: Callable[..., jax.Array] = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        channels = (x.shape[-1],)
        scale = self.param("scale", self.scale_init, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_variance = self.variable("batch_stats", "var", jnp.ones, channels)
        (x,) = nn.dtypes.promote_dtype(x, dtype=self.dtype)
        if not train:
            factor = scale * lax.rsqrt(running_variance.value + self.epsilon)
            y = (x - running_mean.value) * factor + bias
            return y.astype(x.dtype)
        y, mean, variance = normalise(
            x,
            scale,
            bias,
            epsilon=self.epsilon,
            num_streams=self.num_streams,
            axis_name=self.axis_name,
        )
        if not self.is_initializing():
            count = x.size // (x.shape[-1] * self.num_streams)
            count = parallel.cross_sum(count, axis_name=self.axis_name)
            unbiased = variance * (count / max(count - 1, 1))
            for running, batch in ((running_mean, mean), (running_variance, unbiased)):
                moved = self.momentum * running.value + (1 - self.momentum) * batch.mean(0)
                running.value = moved.astype(running.value.dtype)
        return y


# Activation, pooling, dropout ------------------------------------------------------------------


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), with derivative 0 at 0.

    The gradient needs the result and not the input: the result is kept for the next layer anyway,
    so that the input need not be kept.
    """
    return jnp.maximum(x, 0)


def _relu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = jnp.maximum(x, 0)
    return y, y


def _relu_backward(y: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(y > 0, dy, 0),)


relu.defvjp(_relu_forward, _relu_backward)


def max_pool(
    x: jax.Array, *, window: Pair = (3, 3), strides: Pair = (2, 2), padding: Padding = NO_PADDING
) -> jax.Array:
    """Maximum over windows of the image; padding never wins.

    On a CPU it is the maximum of shifted slices, because XLA's gradient of ``reduce_window`` is
    slow there. Where several values of a window are the maximum the gradient goes to the first of them
    from ``reduce_window`` and is divided among them on a CPU; both are subgradients. (After a ReLU
    the usual tie is at 0, where no gradient passes either way.)

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


def dropout(x: jax.Array, rate: float, keys: jax.Array) -> jax.Array:
    """Sets each value to 0 with probability ``rate`` and divides the others by ``1 - rate``.

    The values of a row depend on that row's key alone, not on its place in the batch or on the size
    of the batch, so that any number of devices drops the same values.

    Args:
        x: [B, ...].
        rate: probability in [0, 1).
        keys: [B] ``jax.random`` keys, or their data [B, 2] uint32 (threefry).

    Returns:
        like ``x``.

    Raises:
        ValueError: if ``rate`` is out of range or there is not one key per row.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"the dropout rate is the share that is dropped, in [0, 1); got {rate}.")
    if rate == 0:
        return x
    keys = row_keys(keys, x.shape[0])
    # Compared as integers: a uniform float would differ between float32 and float64.
    bits = jax.vmap(lambda key: jax.random.bits(key, x.shape[1:], jnp.uint32))(keys)
    kept = bits >= jnp.uint32(round(rate * 2**32))
    return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)


def row_keys(keys: jax.Array, num_rows: int) -> jax.Array:
    """[num_rows] typed keys from typed keys or from their data [num_rows, 2] uint32."""
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        if keys.dtype != jnp.uint32 or keys.shape[1:] != (2,):
            raise ValueError(
                f"keys must be jax.random keys [B] or threefry key data [B, 2] uint32, got "
                f"{keys.shape} {keys.dtype}."
            )
        keys = jax.random.wrap_key_data(keys, impl="threefry2x32")
    if keys.shape != (num_rows,):
        raise ValueError(f"{num_rows} rows need {num_rows} keys, one per row; got {keys.shape}.")
    return keys
