"""Convolution, normalisation, pooling and dropout as every network here uses them.

Convolution and pooling have one definition (``lax.conv_general_dilated``, ``lax.reduce_window``)
and, on a CPU, a second formulation of the same result that XLA runs faster there.
``lax.platform_dependent`` chooses when a function is lowered, so lowering for a TPU or a GPU on a
machine that has neither still gives the definition.

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
from reid_jax.keys import as_row_keys

__all__ = [
    "BatchNorm",
    "Conv",
    "ceil_padding",
    "check_image",
    "conv",
    "dropout",
    "local_response_norm",
    "max_pool",
    "normalise",
    "relu",
]

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]
NO_PADDING: Padding = ((0, 0), (0, 0))

# torchvision's initialisation: variance 2 / (height * width * output channels).
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

# Zheng, Zheng and Yang's code: uniform within 0.1 * sqrt(3 / fan_in) for layers that feed a loss.
before_loss = nn.initializers.variance_scaling(0.01, "fan_in", "uniform")


def check_image(image: jax.Array, *, smallest: Pair, network: str) -> None:
    """Raises ValueError unless ``image`` is [B, H, W, 3] float and at least ``smallest`` (H, W)."""
    if image.ndim != 4 or image.shape[-1] != 3 or not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(
            f"image must be [B, H, W, 3] float, mean subtracted; got {image.shape} {image.dtype}."
        )
    if image.shape[1] < smallest[0] or image.shape[2] < smallest[1]:
        raise ValueError(
            f"images of {image.shape[1]} x {image.shape[2]} (height x width) are too small for a "
            f"{network}: the smallest size that works is {smallest[0]} x {smallest[1]}."
        )


# Convolution -----------------------------------------------------------------------------------


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
        ValueError: if the channels of ``x``, ``kernel`` and ``groups`` do not fit.
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(
    x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, groups: int
) -> jax.Array:
    def on_cpu(x: jax.Array, kernel: jax.Array) -> jax.Array:
        # One convolution a group: XLA's grouped one takes 4 times as long, 6 with its gradient.
        parts = zip(jnp.split(x, groups, 3), jnp.split(kernel, groups, 3), strict=True)
        return jnp.concatenate([_conv_on_cpu(*part, strides, padding) for part in parts], 3)

    def definition(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return _convolution(x, kernel, strides, padding, groups)

    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=definition)


def _conv_on_cpu(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> jax.Array:
    if _is_product_on_cpu(x, kernel, strides, padding):
        patches = _patches(x, kernel.shape[:2], strides, padding)
        return _product(patches, kernel.reshape(-1, kernel.shape[3]))
    missing = 64 - kernel.shape[3]
    if x.shape[3] <= 3 and missing > 0:
        # 20 ms for 7x7x3x32 on 32 images of 128 x 64, and 7 ms for 64 output channels.
        kernel = jnp.pad(kernel, ((0, 0), (0, 0), (0, 0), (0, missing)))
        return _convolution(x, kernel, strides, padding)[..., :-missing]
    return _convolution(x, kernel, strides, padding)


def _conv_forward(
    x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding, groups: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _conv(x, kernel, strides, padding, groups), (x, kernel)


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
        patches, to_image = jax.vjp(lambda x: _patches(x, kernel.shape[:2], strides, padding), x)
        dkernel = _transposed_product(patches, dy).reshape(kernel.shape)
        (dx,) = to_image(_product(dy, kernel.reshape(-1, kernel.shape[3]).T))
        return dx, dkernel

    def on_cpu(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array, jax.Array]:
        parts = zip(*(jnp.split(array, groups, 3) for array in (x, kernel, dy)), strict=True)
        gradients = [
            product(*part)
            if _is_product_on_cpu(*part[:2], strides, padding)
            else definition(*part, groups=1)
            for part in parts
        ]
        dx, dkernel = zip(*gradients, strict=True)
        return jnp.concatenate(dx, 3), jnp.concatenate(dkernel, 3)

    return lax.platform_dependent(*residuals, dy, cpu=on_cpu, default=definition)


_conv.defvjp(_conv_forward, _conv_backward)


def _is_product_on_cpu(x: jax.Array, kernel: jax.Array, strides: Pair, padding: Padding) -> bool:
    """Whether the product of patches and kernel is the fast form on a CPU.

    XLA's convolution takes 2 to 8 times as long for 1x1 kernels, and up to 100 times as long where
    the result has one or two columns (jaxlib 0.10.2).
    """
    columns = (x.shape[2] + sum(padding[1]) - kernel.shape[1]) // strides[1] + 1
    return kernel.shape[:2] == (1, 1) or columns <= 2


def _patches(x: jax.Array, size: Pair, strides: Pair, padding: Padding) -> jax.Array:
    """[B, h, w, rows * columns * C]: under each position of the kernel, the values it meets."""
    if size == x.shape[1:3] and padding == NO_PADDING:
        return x.reshape(len(x), 1, 1, -1)
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((*pad, 0) for pad in padding), (0, 0, 0)])
    last = [length - n for length, n in zip(x.shape[1:3], size, strict=True)]
    shifted = [
        x[:, i : i + last[0] + 1 : strides[0], j : j + last[1] + 1 : strides[1]]
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
    """Convolution without bias by default; its parameters are those of ``flax.linen.Conv``.

    Attributes:
        features: output channels.
        kernel_size: rows, columns.
        strides: rows, columns.
        padding: ((top, bottom), (left, right)) zeros; no names, no automatic padding.
        groups: equal parts of the channels that do not see each other.
        use_bias: adds a parameter ``bias`` [features], zeros at the start.
        dtype: dtype of the computation and of the result; None promotes the input's and the
            parameters' dtypes. Parameters are created in float32.
        kernel_init: initialiser of ``kernel`` [h, w, C / groups, features].
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

    (Ioffe and Szegedy 2015, Alg. 1) with mean and biased variance over all rows and positions of a
    stream, on all devices. The gradient is written out, because XLA's derivative of the forward
    pass takes three times as long on a CPU. It goes through the statistics of every device: what
    differentiating the formula with ``lax.pmean`` gives.

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


def _streams(x: jax.Array, num_streams: int) -> list[jax.Array]:
    """Rows and positions of each stream as [N, C], float32 or wider.

    Always two axes: on a CPU, XLA sums a product over [1, N, C] fifty times slower than over [N, C]
    (jaxlib 0.10.2).
    """
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32)).reshape(-1, x.shape[-1])
    return jnp.split(wide, num_streams)


def _affine(x: jax.Array, num_streams: int, *terms: Any) -> jax.Array:
    """The sum over ``terms`` (rows of each stream or None, factors [S, C]) of rows * factor.

    One multiplication and addition a value, with all that depends on the channel alone folded into
    the factors: one pass over memory.
    """
    out = []
    for stream in range(num_streams):
        parts = [f[stream] if rows is None else rows[stream] * f[stream] for rows, f in terms]
        out.append(functools.reduce(jnp.add, parts))
    return jnp.concatenate(out).reshape(x.shape).astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def _normalise(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    epsilon: float,
    num_streams: int,
    axis_name: str | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    rows = _streams(x, num_streams)
    mean = jnp.stack([r.mean(0) for r in rows])
    mean = parallel.cross_mean(mean, axis_name=axis_name)
    # In two passes: the difference of E[x^2] and E[x]^2 loses digits where the mean is large.
    variance = jnp.stack([jnp.square(r - m).mean(0) for r, m in zip(rows, mean, strict=True)])
    variance = parallel.cross_mean(variance, axis_name=axis_name)
    factor = scale * lax.rsqrt(variance + epsilon)
    y = _affine(x, num_streams, (_streams(x, num_streams), factor), (None, bias - mean * factor))
    return y, mean, variance


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
    rows = _streams(x, num_streams)
    dy = _streams(cotangents[0], num_streams)
    inverse = lax.rsqrt(variance + epsilon)
    # Means of dy and of dy * (x - mean) / deviation.
    level = jnp.stack([d.mean(0) for d in dy])
    slope = jnp.stack([(d * r).mean(0) for d, r in zip(dy, rows, strict=True)])
    slope = (slope - mean * level) * inverse
    # Parameter gradients are this device's share; the step averages gradients over the devices.
    dscale = rows[0].shape[0] * slope.sum(0)
    dbias = rows[0].shape[0] * level.sum(0)
    level, slope = parallel.cross_mean((level, slope), axis_name=axis_name)
    # dx = factor * (dy - level - slope * (x - mean) * inverse)
    factor = scale * inverse
    pull = factor * slope * inverse
    dx = _affine(x, num_streams, (dy, factor), (rows, -pull), (None, mean * pull - level * factor))
    return dx, dscale.astype(scale.dtype), dbias.astype(bias.dtype)


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
        use_scale: has a parameter ``scale``; without it the scale is 1.
        scale_init: initialiser of ``scale`` [C].
        bias_init: initialiser of ``bias`` [C].
        evaluation: what is used outside training: the 'running' averages, or the statistics of the
            'batch' that is evaluated, so that its rows depend on each other.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    axis_name: str | None = None
    num_streams: int = 1
    dtype: Any = None
    use_scale: bool = True
    scale_init: Callable[..., jax.Array] = nn.initializers.ones
    bias_init: Callable[..., jax.Array] = nn.initializers.zeros
    evaluation: str = "running"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        channels = (x.shape[-1],)
        scale = jnp.ones(channels, jnp.float32)
        if self.use_scale:
            scale = self.param("scale", self.scale_init, channels, jnp.float32)
        bias = self.param("bias", self.bias_init, channels, jnp.float32)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        running_variance = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        (x,) = nn.dtypes.promote_dtype(x, dtype=self.dtype)
        if not train and self.evaluation == "running":
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
        if train and not self.is_initializing():
            count = x.size // (x.shape[-1] * self.num_streams)
            count = parallel.cross_sum(count, axis_name=self.axis_name)
            unbiased = variance * (count / max(count - 1, 1))
            for running, batch in ((running_mean, mean), (running_variance, unbiased)):
                moved = self.momentum * running.value + (1 - self.momentum) * batch.mean(0)
                running.value = moved.astype(running.value.dtype)
        return y


# Local response normalisation ------------------------------------------------------------------


def local_response_norm(x: jax.Array, *, size: int, alpha: float, beta: float) -> jax.Array:
    r"""Divides each value by a power of the mean square of its neighbours in the channel axis.

    .. math:: y_c = x_c \, (1 + \frac{\alpha}{n} \sum_{|c' - c| \le n / 2} x_{c'}^2)^{-\beta}

    (Krizhevsky et al. 2012, Sec. 3.3, as in Caffe: the sum is divided by ``size`` also at the ends
    of the channel axis, where fewer channels are summed.)

    Args:
        x: [B, H, W, C].
        size: n, odd number of channels that are summed, centred on c.
        alpha: weight of the mean square.
        beta: exponent.

    Returns:
        like ``x``.

    Raises:
        ValueError: if ``size`` is even.
    Deviation: the offset is Caffe's 1, where Krizhevsky et al. print 2 and do not divide by n.
    """
    if size % 2 == 0:
        raise ValueError(f"size={size} channels have no centre: give an odd number.")
    ends = (size // 2, size // 2)
    # In bfloat16 all but the largest sums would vanish beside the 1.
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    squares = lax.reduce_window(
        wide * wide, 0.0, lax.add, (1, 1, 1, size), (1, 1, 1, 1), ((0, 0), (0, 0), (0, 0), ends)
    )
    return (wide * (1 + alpha / size * squares) ** -beta).astype(x.dtype)


# Activation, pooling, dropout ------------------------------------------------------------------


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), with derivative 0 at 0.

    The gradient needs the result and not the input: the result is kept for the next layer anyway,
    so that the input need not be kept.

    Args:
        x: any shape.

    Returns:
        like ``x``.
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
    slow there. Where several values of a window are the maximum, the gradient goes to the first of
    them from ``reduce_window`` and is divided among them on a CPU; both are subgradients. (After a
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


def ceil_padding(size: Pair, *, window: Pair, strides: Pair) -> Padding:
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
    keys = as_row_keys(keys, x.shape[0])
    # Compared as integers: a uniform float would differ between float32 and float64.
    bits = jax.vmap(lambda key: jax.random.bits(key, x.shape[1:], jnp.uint32))(keys)
    kept = bits >= jnp.uint32(round(rate * 2**32))
    return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)
