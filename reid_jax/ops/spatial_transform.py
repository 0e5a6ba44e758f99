"""The affine sampler of a spatial transformer network (Jaderberg et al. 2015)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["spatial_transform"]


def spatial_transform(
    features: jax.Array, theta: jax.Array, *, out_size: tuple[int, int]
) -> jax.Array:
    r"""Samples an affine view of each example, bilinearly.

    .. math:: \begin{pmatrix} w^{in} \\ h^{in} \end{pmatrix} =
        \begin{pmatrix} s_w & r_w & t_w \\ r_h & s_h & t_h \end{pmatrix}
        \begin{pmatrix} w^{out} \\ h^{out} \\ 1 \end{pmatrix}

    (Guo and Cheung (csn), Eq. 1). Coordinates are normalised: -1 is the center of the first pixel
    and 1 that of the last ("align corners"), on both sides. What falls outside takes the value at
    the border, and there no gradient reaches `theta`; nor does one from exactly at the border.
    The identity `(1, 0, 0, 0, 1, 0)` resizes.

    Args:
        features: [B, H, W, C], floating.
        theta: [B, 6] = (s_w, r_w, t_w, r_h, s_h, t_h).
        out_size: (h, w) of the view; along a side of length 1 the center is sampled.

    Returns:
        [B, h, w, C] in the dtype of `features`; computed in float32 or wider.

    Raises:
        ValueError: if shapes or dtypes do not fit.
    Deviation: the paper leaves the convention of coordinates and border open; both are those of
        the usual implementations.
    """
    if features.ndim != 4 or theta.shape != (features.shape[0], 6):
        raise ValueError(
            "spatial_transform needs features [B, H, W, C] and theta [B, 6], got "
            f"{features.shape} and {theta.shape}."
        )
    for name, array in (("features", features), ("theta", theta)):
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f"{name} must be floating, got {array.dtype}.")
    if min(out_size) < 1:
        raise ValueError(f"out_size must be (rows, columns), each at least 1; got {out_size}.")
    x, y = _pixels(theta, _map_size(features), out_size)
    return _sample(features, x, y).reshape(-1, *out_size, features.shape[-1])


def _pixels(
    theta: jax.Array, in_size: tuple[int, int], out_size: tuple[int, int]
) -> tuple[jax.Array, jax.Array]:
    """Column and row [B, h * w] in pixels of each sample, within the border."""
    theta = theta.astype(jnp.promote_types(theta.dtype, jnp.float32))
    h, w = (
        jnp.linspace(-1, 1, size, dtype=theta.dtype) if size > 1 else jnp.zeros(1, theta.dtype)
        for size in out_size
    )
    s_w, r_w, t_w, r_h, s_h, t_h = (theta[:, i, None, None] for i in range(6))
    x = s_w * w + r_w * h[:, None] + t_w
    y = r_h * w + s_h * h[:, None] + t_h
    # The derivative of lax.clamp at its limits is 0; that of jnp.clip is a half.
    pixels = (
        lax.clamp(0.0, (v + 1) / 2 * (size - 1), size - 1.0)
        for v, size in ((x, in_size[1]), (y, in_size[0]))
    )
    x, y = (v.reshape(len(theta), -1) for v in pixels)
    return x, y


@jax.custom_vjp
def _sample(features: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """[B, N, C]: features [B, H, W, C] at columns x and rows y [B, N], in pixels."""
    # Gathering takes a tenth of the product's time on a CPU; a TPU gathers slowly.
    return lax.platform_dependent(features, x, y, cpu=_gathered, default=_product)


def _map_size(features: jax.Array) -> tuple[int, int]:
    return features.shape[1], features.shape[2]


def _forward(
    features: jax.Array, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return _sample(features, x, y), (features, x, y)


def _backward(residuals: tuple[jax.Array, ...], dsamples: jax.Array) -> tuple[jax.Array, ...]:
    def on_cpu(
        features: jax.Array, x: jax.Array, y: jax.Array, dsamples: jax.Array
    ) -> tuple[jax.Array, ...]:
        # The gradient of a gather is a scatter, which XLA does one by one: here the product is
        # faster.
        weights = _weights(x, y, _map_size(features))
        dfeatures = _contract("bnp,bnc->bpc", weights, dsamples).reshape(features.shape)
        # The positions need only the inner products of dsamples with the four corners.
        inner = [jnp.sum(dsamples * corner, -1) for corner in _corners(features, x, y)]
        _, to_position = jax.vjp(lambda x, y: _between(inner, x, y, _map_size(features)), x, y)
        return dfeatures.astype(features.dtype), *to_position(jnp.ones_like(x))

    def of_product(
        features: jax.Array, x: jax.Array, y: jax.Array, dsamples: jax.Array
    ) -> tuple[jax.Array, ...]:
        return jax.vjp(_product, features, x, y)[1](dsamples)

    return lax.platform_dependent(*residuals, dsamples, cpu=on_cpu, default=of_product)


_sample.defvjp(_forward, _backward)


def _cell(v: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The pixel before each position, and how far the position lies towards the next one."""
    first = jnp.clip(jnp.floor(lax.stop_gradient(v)), 0, max(size - 2, 0)).astype(jnp.int32)
    return first, v - first


def _corners(features: jax.Array, x: jax.Array, y: jax.Array) -> list[jax.Array]:
    """The four pixels [B, N, C] around each position: top left, top right, and those below."""
    batch, height, width, channels = features.shape
    column, row = _cell(x, width)[0], _cell(y, height)[0]
    pixels = features.reshape(batch, height * width, channels)

    def corner(i: int, j: int) -> jax.Array:
        # Along a side of length 1 there is no second pixel; its weight is 0.
        index = jnp.minimum(row + i, height - 1) * width + jnp.minimum(column + j, width - 1)
        taken = jnp.take_along_axis(pixels, index[..., None], 1, mode="promise_in_bounds")
        return taken.astype(jnp.promote_types(taken.dtype, x.dtype))

    return [corner(i, j) for i in (0, 1) for j in (0, 1)]


def _between(
    corners: list[jax.Array], x: jax.Array, y: jax.Array, size: tuple[int, int]
) -> jax.Array:
    """The bilinear interpolation of four corners, each of the shape of x and y."""
    right, down = _cell(x, size[1])[1], _cell(y, size[0])[1]
    top_left, top_right, low_left, low_right = corners
    above = top_left * (1 - right) + top_right * right
    below = low_left * (1 - right) + low_right * right
    return above * (1 - down) + below * down


def _gathered(features: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    corners = _corners(features, x, y)
    samples = _between(corners, x[..., None], y[..., None], _map_size(features))
    return samples.astype(features.dtype)


def _product(features: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    weights = _weights(x, y, _map_size(features))
    rows = features.reshape(features.shape[0], -1, features.shape[-1])
    return _contract("bnp,bpc->bnc", weights, rows).astype(features.dtype)


def _weights(x: jax.Array, y: jax.Array, size: tuple[int, int]) -> jax.Array:
    """[B, N, H * W]: the four weights of each sample, among zeros."""

    def along(v: jax.Array, size: int) -> jax.Array:
        first, towards_next = (part[..., None] for part in _cell(v, size))
        pixel = jnp.arange(size)
        return jnp.where(pixel == first, 1 - towards_next, 0) + jnp.where(
            pixel == first + 1, towards_next, 0
        )

    both = along(y, size[0])[..., :, None] * along(x, size[1])[..., None, :]
    return both.reshape(*both.shape[:2], -1)


def _contract(axes: str, weights: jax.Array, values: jax.Array) -> jax.Array:
    # Interpolation weights rounded to bfloat16 would move the samples.
    return jnp.einsum(axes, weights, values.astype(weights.dtype), precision="highest")
