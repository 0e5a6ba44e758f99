"""Winograd's form of a convolution against NumPy loops, its gradients against the definition's."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads
from lowered import executions

from references import models as reference
from reid_jax.models import conv, winograd

# (images, height, width, channels, features), padding.
CASES = [
    ((2, 4, 6, 3, 5), ((1, 1), (1, 1))),
    ((3, 5, 7, 4, 2), ((1, 1), (1, 1))),
    ((2, 7, 3, 2, 3), ((0, 0), (0, 0))),
    ((1, 3, 3, 3, 1), ((0, 0), (0, 0))),
    ((4, 6, 5, 2, 4), ((0, 1), (2, 0))),
    ((2, 5, 4, 1, 3), ((2, 2), (2, 1))),
    ((6, 1, 2, 2, 2), ((1, 1), (1, 1))),
]


def random(seed, *shape):
    rng = np.random.default_rng(seed)
    return rng.gamma(2.0, 1.0, shape) - 0.5 * rng.standard_normal(shape)


def arrays(case, dtype):
    (images, height, width, channels, features), padding = case
    x = jnp.asarray(random(0, images, height, width, channels), dtype)
    kernel = jnp.asarray(random(1, 3, 3, channels, features), dtype)
    size = height + sum(padding[0]) - 2, width + sum(padding[1]) - 2
    return x, kernel, jnp.asarray(random(2, images, *size, features), dtype)


def definition(x, kernel, padding):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=numbers)


def relative(got, expected):
    return float(np.abs(np.asarray(got) - np.asarray(expected)).max() / np.abs(expected).max())


@pytest.mark.parametrize("blocks", [False, True], ids=["whole", "blocks"])
@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_is_the_loop_and_its_gradients_are_those_of_lax(case, dtype, blocks, float64, monkeypatch):
    if blocks:
        monkeypatch.setattr(winograd, "BYTES_OF_A_BLOCK", 1)
    x, kernel, dy = arrays(case, dtype)
    padding = case[1]
    tolerance = {"float64": 1e-13, "float32": 3e-6}[dtype]
    y, dx, dkernel = jax.jit(
        lambda x, kernel, dy: (
            winograd.convolved(x, kernel, padding),
            winograd.image_gradient(kernel, dy, padding),
            winograd.kernel_gradient(x, dy, padding),
        )
    )(x, kernel, dy)
    loop = reference.convolution(np.asarray(x, float), np.asarray(kernel, float), (1, 1), padding)
    assert {leaf.dtype for leaf in (y, dx, dkernel)} == {x.dtype}
    assert y.shape == dy.shape == loop.shape
    assert relative(y, loop) < tolerance

    wide = functools.partial(definition, padding=padding)
    expected = jax.vjp(wide, x.astype(float), kernel.astype(float))[1](dy.astype(float))
    assert relative(dx, expected[0]) < tolerance
    assert relative(dkernel, expected[1]) < tolerance


LARGE = (8, 6, 5, 48, 40)
"""Wide enough, and enough tiles, for the form to be taken."""


def test_the_convolution_takes_it_where_it_is_faster(float64):
    x, kernel, dy = arrays((LARGE, ((1, 1), (0, 2))), np.float32)
    function = functools.partial(conv.conv, padding=((1, 1), (0, 2)))
    assert winograd.is_faster(x, kernel, (1, 1), ((1, 1), (0, 2)))
    y, vjp = jax.vjp(function, x, kernel)
    assert {leaf.dtype for leaf in (y, *vjp(dy))} == {jnp.dtype(jnp.float32)}
    exact, exact_vjp = jax.vjp(
        functools.partial(definition, padding=((1, 1), (0, 2))), *map(jnp.float64, (x, kernel))
    )
    for got, expected in zip((y, *vjp(dy)), (exact, *exact_vjp(dy.astype(float))), strict=True):
        # The definition's own errors in float32 are 5e-7, 9e-7 and 3e-7.
        assert relative(got, expected) < 2e-6

    text = jax.jit(function).lower(x, kernel).as_text()
    assert executions(text, "stablehlo.dot_general") == 2
    assert "stablehlo.convolution" not in text


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_other_platforms_get_the_convolution(platform):
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in (LARGE[:4], (3, 3, *LARGE[3:]))]
    step = jax.jit(lambda x, kernel: jax.vjp(conv.conv, x, kernel)[1](conv.conv(x, kernel)))
    text = jax.export.export(step, platforms=[platform])(*shapes).mlir_module()
    assert executions(text, "stablehlo.convolution") == 3
    assert "stablehlo.dot_general" not in text


def test_is_left_where_it_would_not_be_faster():
    def taken(shape=LARGE, size=(3, 3), strides=(1, 1), padding=((1, 1), (1, 1)), dtype="f4"):
        x = jax.ShapeDtypeStruct(shape[:4], jnp.dtype(dtype))
        kernel = jax.ShapeDtypeStruct((*size, *shape[3:]), jnp.dtype(dtype))
        return winograd.is_faster(x, kernel, strides, padding)

    assert taken()
    assert not taken(size=(5, 5))
    assert not taken(strides=(2, 2))
    assert not taken(padding=((3, 1), (1, 1)))
    assert not taken(dtype=jnp.bfloat16)
    assert not taken((8, 80, 44, 96, 16))  # few channels
    assert not taken((3, 6, 5, 48, 40))  # few tiles
    assert not taken((80, 3, 1, 48, 40))  # tiles of which half is beyond the edge
    (images,) = jax.export.symbolic_shape("images")
    assert not taken((images, *LARGE[1:]))


def test_gradients_of_gradients_are_those_of_a_product(float64):
    x, kernel, _ = arrays(((2, 5, 4, 2, 3), ((1, 1), (1, 1))), np.float64)
    function = functools.partial(winograd.convolved, padding=((1, 1), (1, 1)))
    check_grads(function, (x, kernel), order=2, modes=("rev",), atol=1e-6, rtol=1e-6)
