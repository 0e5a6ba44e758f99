"""Depthwise cross-correlation with a kernel of its own for every example."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["depthwise_cross_correlation"]

METHODS = ("auto", "grouped_conv", "shift", "fft")

Padding = tuple[tuple[int, int], tuple[int, int]]
"""Zeros before and after the rows and the columns of a signal."""

Form = Callable[[jax.Array, jax.Array, Padding], jax.Array]
"""`form(signal, kernel, padding)`: the correlation where the kernel lies in the padded signal."""

# Products that one fused loop of `shift` adds up: XLA stops fusing well at about 150 of them, and
# one row of a kernel alone takes 8 times as long as two (jaxlib 0.10.2, CPU).
PRODUCTS_PER_LOOP = 64

# On a CPU the FFT is faster from about this many kernel positions on.
FFT_POSITIONS = 1000


def depthwise_cross_correlation(
    signal: jax.Array, kernel: jax.Array, *, method: str = "auto"
) -> jax.Array:
    r"""Correlates each channel of each example with that example's own kernel.

    .. math:: s_{b,y,x,c} = \sum_{i,j} \mathrm{signal}_{b,\,y+i-p,\,x+j-q,\,c}
        \, \mathrm{kernel}_{b,i,j,c}

    (Guo and Cheung (csn), Eq. 2) with zeros outside the signal and TensorFlow's SAME padding,
    :math:`p = \lfloor (h-1)/2 \rfloor`, :math:`q = \lfloor (w-1)/2 \rfloor`: a kernel of even size
    has one more zero after the signal than before it. The kernel is not flipped.

    The definition is `lax.conv_general_dilated` with the examples folded into the channels, one
    group a channel; the other methods give the same values and gradients:

    * `'grouped_conv'`: the definition; its gradients are two more such convolutions.
    * `'shift'`: a sum of shifted products. On a CPU the gradient of the grouped convolution takes
      hundreds of times as long.
    * `'fft'`: a product of spectra, for very large kernels.
    * `'auto'`: on a CPU `'shift'` or `'fft'` by the size of the kernel, as measured by
      `experiments/benchmarks/correlation.py`; on a GPU `'shift'`, with which a training step of
      csn took 34 ms and with `'grouped_conv'` 61 (256 pairs, bfloat16, one H200); elsewhere
      `'grouped_conv'`, which nobody has measured on a TPU. A TPU's compiler
      (`experiments/benchmarks/tpu_compile.py`) estimates for
      128 images of csn in bfloat16, forward and with both gradients: 0.37 and 1.0 ms at level 2,
      0.08 and 0.2 ms at level 3, where `'shift'` has 0.33 and 0.9. In float32 `'shift'` is ahead at
      level 3 forward alone, 0.03 ms to 0.11, and not with its gradients, 0.4 to 0.3. Chosen when
      the function is lowered, for the platform that it is lowered for.

    For several kernels on one signal, `jax.vmap` with `in_axes=(None, 0)` shares the signal.

    Args:
        signal: [B, H, W, C], floating.
        kernel: [B, h, w, C], of the same dtype; may be larger than the signal.
        method: one of the names above.

    Returns:
        [B, H, W, C] of the same dtype. Sums are taken in float32 or wider.

    Raises:
        ValueError: if shapes or dtypes do not fit or the method is not known.
    Deviation: none.
    """
    if (
        signal.ndim != 4
        or kernel.ndim != 4
        or (signal.shape[0], signal.shape[3]) != (kernel.shape[0], kernel.shape[3])
        or 0 in kernel.shape
    ):
        raise ValueError(
            "depthwise_cross_correlation needs signal [B, H, W, C] and kernel [B, h, w, C] with "
            f"the same B and C, got {signal.shape} and {kernel.shape}."
        )
    if signal.dtype != kernel.dtype or not jnp.issubdtype(signal.dtype, jnp.floating):
        raise ValueError(
            "signal and kernel must have the same floating dtype, got "
            f"{signal.dtype} and {kernel.dtype}."
        )
    if method not in METHODS:
        raise ValueError(f"method={method!r} is not known; known: {', '.join(METHODS)}.")
    return _correlation(signal, kernel, method)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _correlation(signal: jax.Array, kernel: jax.Array, method: str) -> jax.Array:
    def by(form: Form) -> Callable[..., jax.Array]:
        return lambda signal, kernel: form(signal, kernel, _padding(kernel))

    if method == "auto":
        return _for_platform(by, kernel)(signal, kernel)
    return by(FORMS[method])(signal, kernel)


def _forward(
    signal: jax.Array, kernel: jax.Array, method: str
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _correlation(signal, kernel, method), (signal, kernel)


def _backward(
    method: str, residuals: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    # Both gradients are correlations again: of dy with the flipped kernel, and of signal with dy.
    # The convolution's own derivative by its kernel groups the batch in place of the channels, for
    # which a TPU's compiler takes minutes.
    def by(form: Form) -> Callable[..., tuple[jax.Array, jax.Array]]:
        def gradient(
            signal: jax.Array, kernel: jax.Array, dy: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            rows, columns = _padding(kernel)
            dsignal = form(dy, kernel[:, ::-1, ::-1], (rows[::-1], columns[::-1]))
            return dsignal, form(signal, dy, (rows, columns))

        return gradient

    signal, kernel = residuals
    if method == "auto":
        return _for_platform(by, kernel)(signal, kernel, dy)
    return by(FORMS[method])(signal, kernel, dy)


_correlation.defvjp(_forward, _backward)


def _for_platform(by: Callable[[Form], Callable[..., Any]], kernel: jax.Array) -> Any:
    """What is made from the form that is fast where a function is lowered for."""
    on_cpu = _fft if kernel.shape[1] * kernel.shape[2] >= FFT_POSITIONS else _shift
    return functools.partial(
        lax.platform_dependent, cpu=by(on_cpu), cuda=by(_shift), default=by(_grouped_conv)
    )


def _padding(kernel: jax.Array) -> Padding:
    """Zeros around a signal with which the kernel gives a result of the signal's size."""
    rows, columns = kernel.shape[1:3]
    return ((rows - 1) // 2, rows // 2), ((columns - 1) // 2, columns // 2)


def _padded(signal: jax.Array, padding: Padding) -> jax.Array:
    return jnp.pad(signal, ((0, 0), *padding, (0, 0)))


def _grouped_conv(signal: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    """The definition."""
    examples, height, width, channels = signal.shape
    rows, columns = kernel.shape[1:3]
    groups = examples * channels
    y = lax.conv_general_dilated(
        signal.transpose(1, 2, 0, 3).reshape(1, height, width, groups),
        kernel.transpose(1, 2, 0, 3).reshape(rows, columns, 1, groups),
        (1, 1),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )
    return y.reshape(*y.shape[1:3], examples, channels).transpose(2, 0, 1, 3)


def _shift(signal: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    signal = _padded(signal, padding)
    rows, columns = kernel.shape[1:3]
    height, width = signal.shape[1] - rows + 1, signal.shape[2] - columns + 1
    num_loops = -(-rows * columns // PRODUCTS_PER_LOOP)
    rows_per_loop = min(rows, max(2, -(-rows // num_loops)))
    num_loops = -(-rows // rows_per_loop)
    below = [(0, 0), (0, num_loops * rows_per_loop - rows), (0, 0), (0, 0)]
    dtype = signal.dtype
    wide = jnp.promote_types(dtype, jnp.float32)
    signal, kernel = (jnp.pad(x, below).astype(wide) for x in (signal, kernel))

    def add(loop: int | jax.Array, y: jax.Array) -> jax.Array:
        first = loop * rows_per_loop
        met = lax.dynamic_slice_in_dim(signal, first, height + rows_per_loop - 1, 1)
        factors = lax.dynamic_slice_in_dim(kernel, first, rows_per_loop, 1)
        for i in range(rows_per_loop):
            for j in range(columns):
                factor = factors[:, i, j][:, None, None]
                y = y + met[:, i : i + height, j : j + width] * factor
        return y

    y = jnp.zeros((signal.shape[0], height, width, signal.shape[3]), wide)
    y = add(0, y) if num_loops == 1 else lax.fori_loop(0, num_loops, add, y)
    return y.astype(dtype)


def _fft(signal: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    signal = _padded(signal, padding)
    rows, columns = kernel.shape[1:3]
    height, width = signal.shape[1] - rows + 1, signal.shape[2] - columns + 1
    dtype = signal.dtype
    wide = jnp.promote_types(dtype, jnp.float32)
    # The circular correlation of this size wraps around only beyond the part that is kept.
    size = [_fft_size(length) for length in signal.shape[1:3]]
    signal, kernel = (
        jnp.fft.rfft2(x.astype(wide).transpose(0, 3, 1, 2), size) for x in (signal, kernel)
    )
    y = jnp.fft.irfft2(signal * kernel.conj(), size)[..., :height, :width]
    return y.transpose(0, 2, 3, 1).astype(dtype)


def _fft_size(length: int) -> int:
    """The next number without a prime factor above 5, whose transform is fast."""
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


FORMS: dict[str, Form] = {"grouped_conv": _grouped_conv, "shift": _shift, "fft": _fft}
