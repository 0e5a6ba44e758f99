"""Every layer against NumPy loops, and each CPU formulation against the definition."""

import functools
import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads
from lowered import executions

from references import models as reference
from reid_jax.models import activation, conv, dropout, norm, pooling
from reid_jax.models.norm import BatchNorm, batch_normalise, local_response_norm

SEEDS = (0, pytest.param(1, marks=pytest.mark.slow))


def random(seed, *shape):
    """Asymmetric values with a mean that is not zero."""
    rng = np.random.default_rng(seed)
    return rng.gamma(2.0, 1.0, shape) - 0.5 * rng.standard_normal(shape)


def assert_close(got, expected, tolerance):
    jax.tree.map(
        lambda g, e: np.testing.assert_allclose(
            g, e, rtol=0, atol=tolerance * max(1, np.abs(e).max())
        ),
        got,
        expected,
    )


def value_and_gradients(function, cotangent, *arguments):
    value, vjp = jax.vjp(function, *arguments)
    return value, vjp(jnp.asarray(cotangent, value.dtype))


# Convolution -----------------------------------------------------------------------------------

CONVOLUTIONS = [
    # height, width, C, O, kernel size, stride, padding
    (5, 4, 3, 6, (1, 1), (1, 1), ((0, 0), (0, 0))),
    (6, 4, 3, 6, (1, 1), (2, 2), ((0, 0), (0, 0))),
    (7, 5, 3, 6, (1, 1), (2, 2), ((0, 0), (0, 0))),
    (6, 5, 3, 2, (1, 1), (2, 1), ((0, 0), (0, 0))),
    (5, 4, 3, 6, (1, 1), (1, 1), ((1, 0), (0, 2))),
    (7, 5, 3, 6, (3, 3), (1, 1), ((1, 1), (1, 1))),
    (7, 5, 4, 6, (3, 3), (1, 1), ((1, 1), (1, 1))),
    (7, 6, 4, 6, (3, 3), (2, 2), ((1, 1), (1, 1))),
    (8, 4, 4, 6, (3, 3), (2, 2), ((1, 1), (1, 1))),
    (4, 1, 5, 4, (3, 3), (1, 1), ((1, 1), (1, 1))),
    (7, 6, 3, 6, (3, 3), (2, 2), ((1, 1), (1, 1))),
    (8, 6, 3, 6, (3, 3), (2, 2), ((1, 1), (1, 1))),
    (6, 5, 3, 4, (3, 3), (1, 1), ((0, 0), (0, 0))),
    (9, 8, 3, 4, (7, 7), (2, 2), ((3, 3), (3, 3))),
    (6, 7, 2, 3, (3, 2), (2, 1), ((0, 1), (1, 0))),
]


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv_is_the_loop_and_its_gradients_are_those_of_lax(case, float64):
    height, width, inputs, outputs, size, strides, padding = case
    x = jnp.asarray(random(0, 2, height, width, inputs))
    kernel = jnp.asarray(random(1, *size, inputs, outputs))
    function = functools.partial(conv.conv, strides=strides, padding=padding)
    expected = reference.convolution(x, kernel, strides, padding)
    dy = random(2, *expected.shape)
    got = jax.jit(functools.partial(value_and_gradients, function))(dy, x, kernel)
    assert_close(got[0], expected, 1e-12)

    def definition(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    defined = jax.jit(functools.partial(value_and_gradients, definition))(dy, x, kernel)
    assert_close(got, defined, 1e-10)


@pytest.mark.parametrize("images", [3, 6, 7])
@pytest.mark.parametrize(
    ("height", "size", "strides", "padding"),
    [
        (21, (3, 3), (1, 1), ((1, 1), (1, 1))),
        (40, (5, 3), (2, 1), ((2, 2), (0, 1))),
    ],
)
def test_the_gradient_of_a_kernel_is_the_sum_over_blocks_of_images(
    images, height, size, strides, padding, float64
):
    x = jnp.asarray(random(0, images, height, 20, 6))
    kernel = jnp.asarray(random(1, *size, 6, 3))
    function = functools.partial(conv.conv, strides=strides, padding=padding)

    def definition(x, kernel):
        return conv._convolution(x, kernel, strides, padding)

    dy = random(2, *definition(x, kernel).shape)
    assert dy.shape[1] * dy.shape[2] * images > conv.ROWS_OF_A_PRODUCT
    got = jax.jit(functools.partial(value_and_gradients, function))(dy, x, kernel)
    defined = jax.jit(functools.partial(value_and_gradients, definition))(dy, x, kernel)
    assert_close(got, defined, 1e-10)


@pytest.mark.parametrize(
    "case",
    [
        # height, width, C, O, kernel size, stride, padding, groups
        (6, 5, 4, 6, (3, 3), (1, 1), ((1, 1), (1, 1)), 2),
        (7, 6, 6, 6, (5, 3), (2, 1), ((2, 2), (0, 1)), 3),
        (5, 2, 4, 2, (3, 3), (1, 1), ((1, 1), (1, 1)), 2),
        (5, 4, 4, 8, (1, 1), (1, 1), ((0, 0), (0, 0)), 4),
        (3, 2, 4, 6, (3, 2), (1, 1), ((0, 0), (0, 0)), 2),
    ],
)
def test_groups_do_not_see_each_other(case, float64):
    height, width, inputs, outputs, size, strides, padding, groups = case
    x = jnp.asarray(random(0, 2, height, width, inputs))
    kernel = jnp.asarray(random(1, *size, inputs // groups, outputs))
    function = functools.partial(conv.conv, strides=strides, padding=padding, groups=groups)
    expected = reference.convolution(x, kernel, strides, padding, groups)
    dy = random(2, *expected.shape)
    got = jax.jit(functools.partial(value_and_gradients, function))(dy, x, kernel)
    assert_close(got[0], expected, 1e-12)

    def definition(x, kernel):
        return conv._convolution(x, kernel, strides, padding, groups)

    defined = jax.jit(functools.partial(value_and_gradients, definition))(dy, x, kernel)
    assert_close(got, defined, 1e-10)


@pytest.mark.parametrize(
    "case",
    [
        # height, width, C, kernel size, stride, padding
        (7, 6, 5, (3, 3), (1, 1), ((1, 1), (1, 1))),
        (8, 6, 5, (3, 3), (2, 2), ((0, 1), (0, 1))),
        (7, 9, 3, (3, 3), (2, 2), ((0, 1), (0, 1))),
        (5, 4, 2, (5, 5), (1, 1), ((2, 2), (2, 2))),
        (8, 7, 3, (5, 5), (2, 2), ((1, 2), (1, 2))),
        (1, 2, 4, (5, 5), (1, 1), ((2, 2), (2, 2))),
        (9, 7, 2, (3, 5), (2, 1), ((0, 0), (3, 1))),
        (9, 10, 2, (2, 3), (3, 2), ((0, 0), (0, 0))),
        (4, 4, 2, (1, 2), (1, 1), ((2, 0), (3, 1))),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_depthwise_is_the_loop_and_its_gradients_are_those_of_lax(case, dtype, float64):
    height, width, channels, size, strides, padding = case
    x = jnp.asarray(random(0, 3, height, width, channels), dtype)
    kernel = jnp.asarray(random(1, *size, 1, channels), dtype)
    expected = reference.convolution(
        np.asarray(x, np.float64), np.asarray(kernel, np.float64), strides, padding, channels
    )
    dy = jnp.asarray(random(2, *expected.shape), dtype)
    function = functools.partial(conv.conv, strides=strides, padding=padding, groups=channels)
    got = jax.jit(functools.partial(value_and_gradients, function))(dy, x, kernel)
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype(dtype)}
    assert_close(got[0], expected, 1e-12 if dtype == "float64" else 1e-5)

    def definition(x, kernel):
        return conv._convolution(x, kernel, strides, padding, channels)

    defined = jax.jit(functools.partial(value_and_gradients, definition))(dy, x, kernel)
    assert_close(got, defined, 1e-10 if dtype == "float64" else 1e-5)


def test_depthwise_sums_in_float32_whatever_the_dtype():
    x = jnp.asarray(random(0, 4, 16, 16, 2), jnp.bfloat16)
    kernel = jnp.asarray(random(1, 3, 3, 1, 2), jnp.bfloat16)
    function = functools.partial(conv.conv, padding=((1, 1), (1, 1)), groups=2)
    dy = random(2, *x.shape)
    got = jax.jit(functools.partial(value_and_gradients, function))(dy, x, kernel)
    dy = np.asarray(jnp.asarray(dy, jnp.bfloat16), np.float32)
    exact = value_and_gradients(function, dy, x.astype("float32"), kernel.astype("float32"))
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype(jnp.bfloat16)}
    jax.tree.map(
        lambda g, e: np.testing.assert_allclose(
            np.asarray(g, np.float32), e, rtol=2**-8, atol=2**-8 * np.abs(e).max()
        ),
        got,
        exact,
    )


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_depthwise_stays_a_grouped_convolution_elsewhere(platform):
    function = functools.partial(conv.conv, padding=((1, 1), (1, 1)), groups=4)
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((2, 6, 5, 4), (3, 3, 1, 4))]
    step = jax.jit(lambda x, kernel: jax.vjp(function, x, kernel)[1](x))
    text = jax.export.export(step, platforms=[platform])(*shapes).mlir_module()
    assert executions(text, "stablehlo.convolution") == 2
    assert "stablehlo.while" not in text


def test_a_kernel_that_covers_the_map_is_a_matrix_product(float64):
    x, kernel = jnp.asarray(random(0, 3, 4, 5, 2)), jnp.asarray(random(1, 4, 5, 2, 6))
    dy = random(2, 3, 1, 1, 6)
    got = value_and_gradients(conv.conv, dy, x, kernel)
    expected = value_and_gradients(
        lambda x, kernel: (x.reshape(3, -1) @ kernel.reshape(-1, 6))[:, None, None], dy, x, kernel
    )
    assert_close(got, expected, 1e-12)


@pytest.mark.parametrize("size", [(1, 1), (3, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv_in_float32_at_the_width_of_a_network(size, stride):
    seed, pad = 0, size[0] // 2
    arguments = {"strides": (stride, stride), "padding": ((pad, pad), (pad, pad))}
    x = jnp.asarray(random(seed, 2, 16, 8, 64), jnp.float32)
    kernel = jnp.asarray(random(seed + 1, *size, 64, 96), jnp.float32) / 30
    function = functools.partial(conv.conv, **arguments)

    def definition(x, kernel):
        return conv._convolution(x, kernel, arguments["strides"], arguments["padding"])

    dy = random(seed + 2, *definition(x, kernel).shape)
    assert_close(
        jax.jit(functools.partial(value_and_gradients, function))(dy, x, kernel),
        jax.jit(functools.partial(value_and_gradients, definition))(dy, x, kernel),
        1e-5,
    )


def test_conv_names_the_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"same C, got \(1, 4, 4, 3\) and \(1, 1, 4, 8\)"):
        conv.conv(jnp.ones((1, 4, 4, 3)), jnp.ones((1, 1, 4, 8)))
    with pytest.raises(ValueError, match=r"groups=2, which must divide C and O"):
        conv.conv(jnp.ones((1, 4, 4, 4)), jnp.ones((1, 1, 2, 3)), groups=2)


def step_body(x, kernel):
    """Forward and backward through the layers that have two formulations."""

    def loss(x, kernel):
        y = conv.conv(x, kernel)
        y = conv.conv(y, kernel, strides=(2, 2))
        return jnp.sum(pooling.max_pool(jnp.sin(y), padding=((1, 1), (1, 1))))

    return jax.grad(loss, (0, 1))(x, kernel)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_lowering_for_another_platform_has_convolutions(platform):
    arguments = (
        jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32),
        jax.ShapeDtypeStruct((1, 1, 4, 4), jnp.float32),
    )
    text = jax.export.export(jax.jit(step_body), platforms=[platform])(*arguments).mlir_module()
    # Forward, gradient of the input, gradient of the kernel, twice.
    assert executions(text, "stablehlo.convolution") == 6
    assert "stablehlo.dot_general" not in text
    assert "stablehlo.select_and_scatter" in text

    text = jax.export.export(jax.jit(step_body), platforms=["cpu"])(*arguments).mlir_module()
    assert executions(text, "stablehlo.dot_general") == 6
    assert "stablehlo.convolution" not in text


@pytest.mark.parametrize(("platform", "convolutions"), [("tpu", 3), ("cuda", 3), ("cpu", 6)])
def test_only_a_cpu_gets_one_convolution_a_group(platform, convolutions):
    def gradients(x, kernel):
        def loss(x, kernel):
            y = conv.conv(x, kernel, padding=((1, 1), (1, 1)), groups=2)
            return jnp.sum(jnp.sin(y))

        return jax.grad(loss, (0, 1))(x, kernel)

    arguments = (
        jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32),
        jax.ShapeDtypeStruct((3, 3, 2, 8), jnp.float32),
    )
    text = jax.export.export(jax.jit(gradients), platforms=[platform])(*arguments).mlir_module()
    assert executions(text, "stablehlo.convolution") == convolutions
    assert ("group_count = 2" in text) == (platform != "cpu")


@pytest.mark.parametrize("groups", [1, 3])
def test_conv_module_has_the_parameters_and_results_of_flax(groups, float64):
    import flax.linen as nn

    padding = ((1, 1), (2, 0))
    x = jnp.asarray(random(0, 2, 6, 7, 3))
    ours = conv.Conv(6, (3, 3), (2, 1), padding, groups, use_bias=True)
    theirs = nn.Conv(6, (3, 3), (2, 1), padding, feature_group_count=groups)
    variables = theirs.init(jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)
    own = ours.init(jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, variables)
    assert_close(ours.apply(variables, x), theirs.apply(variables, x), 1e-12)
    assert ours.apply(own, x).dtype == jnp.float64
    half = ours.clone(dtype=jnp.bfloat16)
    assert half.apply(own, x.astype(jnp.float32)).dtype == jnp.bfloat16


# Batch norm ------------------------------------------------------------------------------------


def plain_normalise(x, scale, bias, epsilon, num_streams, axis_name):
    """The formula with nothing but automatic differentiation."""
    rows = x.reshape(num_streams, -1, x.shape[-1])
    mean = rows.mean(1)
    mean = mean if axis_name is None else lax.pmean(mean, axis_name)
    variance = ((rows - mean[:, None]) ** 2).mean(1)
    variance = variance if axis_name is None else lax.pmean(variance, axis_name)
    y = (rows - mean[:, None]) / jnp.sqrt(variance + epsilon)[:, None] * scale + bias
    return y.reshape(x.shape)


@pytest.mark.parametrize("num_streams", [1, 2])
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [(4, 3, 2, 5), (6, 5)])
def test_normalise_is_the_loop(num_streams, seed, shape, float64):
    x, scale, bias = random(seed, *shape), random(seed + 1, 5), random(seed + 2, 5)
    got = batch_normalise(
        jnp.asarray(x), jnp.asarray(scale), jnp.asarray(bias), epsilon=1e-5, num_streams=num_streams
    )
    assert_close(got, reference.normalise(x, scale, bias, 1e-5, num_streams), 1e-12)


@pytest.mark.parametrize("num_streams", [1, 2])
def test_normalise_gradient_by_finite_differences(num_streams, float64):
    arguments = [jnp.asarray(random(i, *s)) for i, s in enumerate([(4, 2, 2, 3), (3,), (3,)])]

    def function(*arguments):
        y = batch_normalise(*arguments, epsilon=1e-2, num_streams=num_streams)[0]
        return jnp.sin(y)

    check_grads(function, arguments, order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.slow), 2, 4])
@pytest.mark.parametrize("num_streams", [1, 2])
def test_normalise_on_devices_is_autodiff_of_pmean_and_the_full_batch(
    devices, num_streams, float64
):
    x, scale, bias = random(0, 8, 3, 2, 5), random(1, 5), random(2, 5)
    target = random(3, 8, 3, 2, 5)

    def shards(rows):
        """[devices, B/devices, ...]; every device holds its rows of each stream."""
        streams = rows.reshape(num_streams, devices, -1, *rows.shape[1:])
        return np.moveaxis(streams, 0, 1).reshape(devices, -1, *rows.shape[1:])

    def unshard(rows):
        streams = np.reshape(rows, (devices, num_streams, -1, *rows.shape[2:]))
        return np.moveaxis(streams, 0, 1).reshape(-1, *rows.shape[2:])

    def gradients(function, axis_name, x, target):
        def loss(x, scale, bias):
            total = jnp.sum(jnp.sin(function(x, scale, bias, axis_name)) * target)
            return total if axis_name is None else lax.psum(total, axis_name)

        value, (dx, dscale, dbias) = jax.value_and_grad(loss, (0, 1, 2))(
            x, jnp.asarray(scale), jnp.asarray(bias)
        )
        if axis_name is not None:
            dscale, dbias = lax.pmean((dscale, dbias), axis_name)
        return value, dx, dscale, dbias

    def ours(x, scale, bias, axis_name):
        return batch_normalise(
            x, scale, bias, epsilon=1e-5, num_streams=num_streams, axis_name=axis_name
        )[0]

    def plain(x, scale, bias, axis_name):
        return plain_normalise(x, scale, bias, 1e-5, num_streams, axis_name)

    results = {
        name: jax.pmap(
            functools.partial(gradients, function, "rows"),
            axis_name="rows",
            devices=jax.devices()[:devices],
        )(shards(x), shards(target))
        for name, function in {"ours": ours, "plain": plain}.items()
    }
    assert_close(results["ours"], results["plain"], 1e-10)
    value, dx, dscale, dbias = results["ours"]
    full = gradients(plain, None, jnp.asarray(x), jnp.asarray(target))
    for replica in range(devices):
        assert_close((value[replica], dscale[replica], dbias[replica]), (full[0], *full[2:]), 1e-10)
    # Before the average over the devices a device's gradient is `devices` times its share.
    assert_close(unshard(dx) / devices, full[1], 1e-10)


def test_normalise_has_no_gradient_through_its_statistics(float64):
    x = jnp.asarray(random(0, 4, 2, 2, 3))

    def statistics(x):
        _, mean, variance = batch_normalise(x, jnp.ones(3), jnp.zeros(3), epsilon=1e-5)
        return jnp.sum(mean) + jnp.sum(variance)

    np.testing.assert_array_equal(jax.grad(statistics)(x), 0)


def test_normalise_in_bfloat16_has_float32_statistics():
    x = jnp.asarray(random(0, 64, 4, 4, 3) + 30, jnp.bfloat16)
    scale, bias = jnp.ones(3), jnp.zeros(3)
    y, mean, variance = batch_normalise(x, scale, bias, epsilon=1e-5)
    assert (y.dtype, mean.dtype, variance.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    expected = reference.normalise(np.asarray(x, np.float64), scale, bias, 1e-5, 1)
    assert_close((mean, variance), expected[1:], 1e-5)
    gradient = jax.grad(lambda x: jnp.sum(batch_normalise(x, scale, bias, epsilon=1e-5)[0] ** 2))
    assert gradient(x).dtype == jnp.bfloat16


def test_normalise_keeps_its_digits_far_from_zero():
    x = jnp.asarray(random(0, 16, 4, 4, 3) + 3000, jnp.float32)
    _, _, variance = batch_normalise(x, jnp.ones(3), jnp.zeros(3), epsilon=1e-5)
    expected = reference.normalise(np.asarray(x, np.float64), np.ones(3), np.zeros(3), 1e-5, 1)[2]
    np.testing.assert_allclose(variance, expected, rtol=1e-4)


MOMENTS = [norm._in_one_pass, norm._in_two_passes]


@pytest.mark.parametrize("moments", MOMENTS)
def test_moments_of_each_platform_are_the_formula(moments, float64):
    rows = random(0, 40, 5) * np.array([1, 2, 3, 0, 1e-3]) + np.array([0, -7, 5, 2, 1e3])
    expected = rows.mean(0), ((rows - rows.mean(0)) ** 2).mean(0)
    assert_close(moments(jnp.asarray(rows)), expected, 1e-9)


@pytest.mark.parametrize("moments", MOMENTS)
def test_moments_of_each_platform_keep_their_digits_far_from_zero(moments):
    rows = random(0, 300, 3) + 3000
    rows[:, 2] = 3000.3
    _, variance = moments(jnp.asarray(rows, jnp.float32))
    exact = np.asarray(rows, np.float32).astype(np.float64).var(0)
    np.testing.assert_allclose(variance[:2], exact[:2], rtol=1e-4)
    assert 0 <= variance[2] < 1e-6


def test_a_gpu_reads_the_rows_of_a_batch_once():
    """Sums of the rows' differences from the first, and of their squares: no mean before them."""
    x, factors = jax.ShapeDtypeStruct((8, 4), jnp.float32), jax.ShapeDtypeStruct((4,), jnp.float32)
    function = jax.jit(functools.partial(batch_normalise, epsilon=1e-5))
    first_row = re.compile(r"stablehlo.slice %\w+ \[0:1, 0:4\]")
    for platform, once in (("cuda", True), ("tpu", False), ("cpu", False)):
        text = jax.export.export(function, platforms=[platform])(x, factors, factors).mlir_module()
        assert bool(first_row.search(text)) == once


def test_normalise_needs_streams_of_equal_size():
    with pytest.raises(ValueError, match="5 rows has not 2 streams"):
        batch_normalise(jnp.ones((5, 2)), jnp.ones(2), jnp.ones(2), epsilon=1e-5, num_streams=2)


@pytest.mark.parametrize("num_streams", [1, 2])
@pytest.mark.parametrize("devices", [1, 2])
def test_running_averages(num_streams, devices, float64):
    norm = BatchNorm(axis_name="rows", num_streams=num_streams)
    x = random(0, 8, 3, 2, 5)
    variables = {
        "params": {"scale": jnp.ones(5), "bias": jnp.zeros(5)},
        "batch_stats": {"mean": jnp.asarray(random(1, 5)), "var": jnp.asarray(random(2, 5)) + 2},
    }
    shards = np.moveaxis(x.reshape(num_streams, devices, -1, 3, 2, 5), 0, 1)
    _, updates = jax.pmap(
        lambda variables, x: norm.apply(variables, x, train=True, mutable=["batch_stats"]),
        axis_name="rows",
        in_axes=(None, 0),
        devices=jax.devices()[:devices],
    )(variables, shards.reshape(devices, -1, 3, 2, 5))

    _, mean, variance = reference.normalise(x, np.ones(5), np.zeros(5), 1e-5, num_streams)
    count = x.size // 5 // num_streams
    old = variables["batch_stats"]
    for replica in range(devices):
        got = jax.tree.map(lambda leaf: leaf[replica], updates["batch_stats"])  # noqa: B023
        expected = {
            "mean": 0.9 * old["mean"] + 0.1 * mean.mean(0),
            "var": 0.9 * old["var"] + 0.1 * variance.mean(0) * count / (count - 1),
        }
        assert_close(got, expected, 1e-12)


def test_batch_norm_in_evaluation_uses_the_running_averages(float64):
    x, scale, bias = random(0, 4, 3, 2, 5), random(1, 5), random(2, 5)
    mean, variance = random(3, 5), random(4, 5) + 2
    variables = {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": mean, "var": variance},
    }
    y = BatchNorm().apply(jax.tree.map(jnp.asarray, variables), jnp.asarray(x), train=False)
    assert_close(y, (x - mean) / np.sqrt(variance + 1e-5) * scale + bias, 1e-12)


# Local response normalisation ------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("channels", [2, 7])
def test_local_response_norm_is_the_loop_and_its_gradient(seed, channels, float64):
    x = jnp.asarray(random(seed, 2, 3, 2, channels))
    # Weights far above Caffe's, so that the second term counts.
    function = functools.partial(local_response_norm, size=5, alpha=0.7, beta=0.75)
    expected = reference.local_response_norm(np.asarray(x), 5, 0.7, 0.75)
    assert_close(jax.jit(function)(x), expected, 1e-12)
    check_grads(function, (x,), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


def test_local_response_norm_needs_a_centre():
    with pytest.raises(ValueError, match="size=4 channels have no centre"):
        local_response_norm(jnp.ones((1, 1, 1, 8)), size=4, alpha=1e-4, beta=0.75)


@pytest.mark.torch
def test_layer_rules_of_pytorch():
    """Grouped convolution, padding, pooling with its size rounded up, local response norm."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional

    def nchw(x):
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))

    def assert_equal(ours, theirs):
        assert_close(ours, np.moveaxis(theirs.numpy(), 1, -1), 1e-5)

    x = random(0, 2, 11, 9, 6).astype(np.float32)
    kernel = random(1, 5, 3, 3, 8).astype(np.float32)
    assert_equal(
        conv.conv(x, kernel, strides=(2, 1), padding=((2, 2), (1, 1)), groups=2),
        functional.conv2d(
            nchw(x), torch.from_numpy(kernel.transpose(3, 2, 0, 1)), None, (2, 1), (2, 1), 1, 2
        ),
    )
    assert_equal(
        local_response_norm(20 * x, size=5, alpha=1e-4, beta=0.75),
        functional.local_response_norm(nchw(20 * x), 5, 1e-4, 0.75, 1.0),
    )
    for window in (2, 3):
        for length in range(window, 10):
            narrow = x[:, :length]
            padding = pooling.ceil_padding(
                narrow.shape[1:3], window=(window, window), strides=(2, 2)
            )
            assert_equal(
                pooling.max_pool(narrow, window=(window, window), padding=padding),
                functional.max_pool2d(nchw(narrow), window, 2, ceil_mode=True),
            )


def test_a_map_smaller_than_the_window_is_one_window():
    assert pooling.ceil_padding((1, 2), window=(3, 3), strides=(2, 2)) == ((0, 2), (0, 1))


# Activation, pooling, dropout ------------------------------------------------------------------


def test_relu():
    x = jnp.asarray([-2.0, 0.0, 3.0])
    np.testing.assert_array_equal(activation.relu(x), [0, 0, 3])
    np.testing.assert_array_equal(jax.grad(lambda x: jnp.sum(activation.relu(x) * 5))(x), [0, 0, 5])


POOLINGS = [
    (8, 6, (3, 3), (2, 2), ((1, 1), (1, 1))),
    (7, 5, (3, 3), (2, 2), ((1, 1), (1, 1))),
    (8, 6, (3, 3), (2, 2), ((0, 1), (0, 1))),
    (7, 5, (3, 3), (2, 2), ((0, 0), (0, 0))),
    (6, 4, (2, 2), (2, 2), ((0, 0), (0, 0))),
    (7, 6, (2, 3), (1, 2), ((1, 0), (2, 1))),
]


@pytest.mark.parametrize("case", POOLINGS)
@pytest.mark.parametrize("seed", SEEDS)
def test_max_pool_is_the_loop_and_its_gradient_that_of_reduce_window(case, seed, float64):
    height, width, window, strides, padding = case
    x = jnp.asarray(-random(seed, 2, height, width, 3))
    function = functools.partial(pooling.max_pool, window=window, strides=strides, padding=padding)
    expected = reference.max_pool(np.asarray(x), window, strides, padding)
    np.testing.assert_array_equal(function(x), expected)

    def definition(x):
        return lax.reduce_window(
            x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0))
        )

    dy = random(seed + 1, *expected.shape)
    assert_close(
        value_and_gradients(function, dy, x), value_and_gradients(definition, dy, x), 1e-12
    )


@pytest.mark.parametrize("case", POOLINGS)
def test_max_pool_gradient_goes_to_the_first_of_equal_values(case, float64):
    """As in `reduce_window`, on every platform: in bfloat16 many values are equal."""
    height, width, window, strides, padding = case
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, (4, height, width, 3)), float)

    def definition(x):
        return lax.reduce_window(
            x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), ((0, 0), *padding, (0, 0))
        )

    function = functools.partial(pooling.max_pool, window=window, strides=strides, padding=padding)
    dy = random(1, *definition(x).shape)
    assert_close(
        value_and_gradients(function, dy, x), value_and_gradients(definition, dy, x), 1e-12
    )


def test_max_pool_with_strides_that_leave_values_out(float64):
    x, dy = jnp.asarray(random(0, 2, 8, 9, 3)), random(1, 2, 2, 3, 3)
    function = functools.partial(pooling.max_pool, window=(2, 2), strides=(4, 3))
    definition = functools.partial(
        lax.reduce_window,
        init_value=-jnp.inf,
        computation=lax.max,
        window_dimensions=(1, 2, 2, 1),
        window_strides=(1, 4, 3, 1),
        padding="VALID",
    )
    assert_close(
        value_and_gradients(function, dy, x), value_and_gradients(definition, dy, x), 1e-12
    )


def test_max_pool_gradient_at_ties_is_a_subgradient():
    x = jnp.zeros((1, 9, 7, 1))
    dy = np.abs(random(0, 1, 5, 4, 1))
    (dx,) = jax.vjp(lambda x: pooling.max_pool(x, padding=((1, 1), (1, 1))), x)[1](
        jnp.asarray(dy, jnp.float32)
    )
    assert (dx >= 0).all()
    np.testing.assert_allclose(dx.sum(), dy.sum(), rtol=1e-6)
    # One window alone: its gradient stays inside it and adds up to what came in.
    only = np.zeros_like(dy)
    only[0, 2, 1] = 1
    (dx,) = jax.vjp(lambda x: pooling.max_pool(x, padding=((1, 1), (1, 1))), x)[1](
        jnp.asarray(only, jnp.float32)
    )
    np.testing.assert_allclose(dx[0, 3:6, 1:4].sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(dx.sum(), 1, rtol=1e-6)


def test_dropout_of_a_row_depends_on_its_key_alone():
    keys = jax.random.split(jax.random.key(3), 6)
    x = jnp.asarray(random(0, 6, 40), jnp.float32)
    y = dropout.dropout(x, 0.5, keys)
    for rows in ([4, 1], [5], [0, 1, 2, 3, 4, 5]):
        np.testing.assert_array_equal(dropout.dropout(x[rows,], 0.5, keys[rows,]), y[rows,])
    np.testing.assert_array_equal(dropout.dropout(x, 0.5, jax.random.key_data(keys)), y)
    with jax.enable_x64(True):
        wide = dropout.dropout(jnp.asarray(x, jnp.float64), 0.5, keys)
    np.testing.assert_array_equal(np.asarray(wide) == 0, np.asarray(y) == 0)
    assert len({tuple(row) for row in np.asarray(y == 0)}) == 6


@pytest.mark.parametrize("rate", [0.1, 0.9])
def test_dropout_rate_and_scale(rate):
    keys = jax.random.split(jax.random.key(0), 100)
    y = np.asarray(dropout.dropout(jnp.ones((100, 500)), rate, keys))
    assert np.mean(y == 0) == pytest.approx(rate, abs=0.01)
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)


def test_dropout_errors():
    x, keys = jnp.ones((4, 3)), jax.random.split(jax.random.key(0), 4)
    with pytest.raises(ValueError, match=r"in \[0, 1\); got 1.0"):
        dropout.dropout(x, 1.0, keys)
    with pytest.raises(ValueError, match=r"4 rows need 4 keys, one per row; got \(3,\)"):
        dropout.dropout(x, 0.5, keys[:3])
    with pytest.raises(ValueError, match="key data"):
        dropout.dropout(x, 0.5, jnp.ones((4, 3)))
    assert dropout.dropout(x, 0.0, None) is x
