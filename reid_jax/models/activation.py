"""ReLU and ReLU6 with gradients that need their results alone."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["relu", "relu6"]


@jax.custom_vjp
def relu(x: jax.Array) -> jax.Array:
    """max(x, 0), with derivative 0 at 0.

    The gradient needs the result and not the input: the result is kept for the next layer anyway,
    so that the input need not be kept.

    Args:
        x: any shape.

    Returns:
        like `x`.
    """
    return jnp.maximum(x, 0)


def _relu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = jnp.maximum(x, 0)
    return y, y


def _relu_backward(y: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    return (jnp.where(y > 0, dy, 0),)


relu.defvjp(_relu_forward, _relu_backward)


@jax.custom_vjp
def relu6(x: jax.Array) -> jax.Array:
    """min(max(x, 0), 6), with derivative 0 at 0 and at 6; its gradient needs the result alone.

    Args:
        x: any shape.

    Returns:
        like `x`.
    """
    return jnp.minimum(jnp.maximum(x, 0), 6)


def _relu6_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    y = relu6(x)
    return y, y


def _relu6_backward(y: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    return (jnp.where((y > 0) & (y < 6), dy, 0),)


relu6.defvjp(_relu6_forward, _relu6_backward)
