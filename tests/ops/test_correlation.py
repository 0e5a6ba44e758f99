"""Every method gives the correlation of the definition, its gradients included."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from references import csn as reference
from reid_jax.ops import correlation, depthwise_cross_correlation

correlate = jax.jit(depthwise_cross_correlation, static_argnames="method")

METHODS = ("grouped_conv", "shift", "fft", "auto")
# Odd, even, mixed; larger than the signal in one direction and in both.
KERNELS = [(1, 1), (3, 5), (4, 2), (2, 7), (9, 3), (11, 12)]


def arrays(seed, kernel, signal=(5, 6), batch=2, channels=3, dtype=np.float32):
    rng = np.random.default_rng(seed)
    shapes = (batch, *signal, channels), (batch, *kernel, channels), (batch, *signal, channels)
    return [(rng.gamma(1.0, 1.0, shape) - 0.7).astype(dtype) for shape in shapes]


def value_and_gradients(method, signal, kernel, dy):
    @jax.jit
    def both(signal, kernel, dy):
        y, vjp = jax.vjp(
            lambda s, k: depthwise_cross_correlation(s, k, method=method), signal, kernel
        )
        return y, *vjp(dy)

    return [np.asarray(x) for x in both(signal, kernel, dy)]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("method", METHODS)
def test_equals_the_loops(method, kernel, float64):
    for seed in (0, 1):
        signal, kernels, _ = arrays(seed, kernel, dtype=np.float64)
        ours = correlate(signal, kernels, method=method)
        assert ours.dtype == np.float64
        expected = reference.correlation(signal, kernels)
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-10)


def golden_cases():
    text = Path(reference.__file__).with_name("correlation_torch.json").read_text()
    return json.loads(text)["cases"]


@pytest.mark.parametrize("case", golden_cases(), ids=lambda case: str(case["kernel"]))
@pytest.mark.parametrize("method", METHODS)
def test_equals_stored_values_of_pytorch(method, case, float64):
    """The file says how the values were made."""

    def values(shape, phase):
        return np.sin(np.arange(np.prod(shape)) * 1.7 + phase).reshape(shape)

    shape = (2, 5, 4, 2)
    inputs = values(shape, 0.3), values((2, *case["kernel"], 2), 1.1), values(shape, 2.9)
    names = "output", "dsignal", "dkernel"
    for name, ours in zip(names, value_and_gradients(method, *inputs), strict=True):
        expected = np.reshape(case[name], ours.shape)
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("kernel", [(4, 3), (7, 6)])
@pytest.mark.parametrize("method", METHODS)
def test_gradients_by_finite_differences(method, kernel, float64):
    signal, kernels, _ = arrays(3, kernel, dtype=np.float64)
    check_grads(
        jax.jit(lambda s, k: depthwise_cross_correlation(s, k, method=method) ** 2),
        (signal, kernels),
        order=1,
        modes=["rev"],
    )


@pytest.mark.parametrize("kernel", [(3, 5), (4, 2), (11, 12)])
@pytest.mark.parametrize("method", METHODS)
def test_gradients_are_those_of_the_convolution(method, kernel, float64):
    """Its own derivatives, as JAX takes them: every method writes both as correlations."""
    signal, kernels, dy = arrays(12, kernel, dtype=np.float64)
    groups = 6
    padding = [((size - 1) // 2, size // 2) for size in kernel]

    def convolved(signal, kernels):
        folded = (
            signal.transpose(1, 2, 0, 3).reshape(1, 5, 6, groups),
            kernels.transpose(1, 2, 0, 3).reshape(*kernel, 1, groups),
        )
        y = jax.lax.conv_general_dilated(
            *folded,
            (1, 1),
            padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
        return y.reshape(5, 6, 2, 3).transpose(2, 0, 1, 3)

    @jax.jit
    def expected(signal, kernels, dy):
        y, vjp = jax.vjp(convolved, signal, kernels)
        return y, *vjp(dy)

    for ours, theirs in zip(
        value_and_gradients(method, signal, kernels, dy),
        expected(signal, kernels, dy),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kernel", [(10, 10), (5, 5), (3, 3), (13, 9)])
@pytest.mark.parametrize("method", METHODS[1:])
def test_methods_agree_in_float32(method, kernel):
    inputs = arrays(4, kernel, signal=(12, 7), channels=4)
    expected = value_and_gradients("grouped_conv", *inputs)
    for ours, definition in zip(value_and_gradients(method, *inputs), expected, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, definition, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_is_the_float32_result_rounded(method):
    """Sums are wide whatever the dtype: one rounding, of the result."""
    inputs = [jnp.asarray(x, jnp.bfloat16) for x in arrays(5, (10, 10), signal=(12, 7))]
    wide = value_and_gradients("grouped_conv", *(x.astype(jnp.float32) for x in inputs))
    for ours, expected in zip(value_and_gradients(method, *inputs), wide, strict=True):
        assert ours.dtype == jnp.bfloat16
        # 2^-8 is one rounding to eight significant bits, wherever the two sums differ a little.
        np.testing.assert_allclose(ours.astype(np.float32), expected, rtol=2**-8, atol=1e-4)


def test_a_long_kernel_is_added_up_in_several_loops(monkeypatch, float64):
    monkeypatch.setattr(correlation, "PRODUCTS_PER_LOOP", 7)
    for kernel in [(5, 3), (7, 2), (3, 8), (1, 9)]:
        signal, kernels, dy = arrays(6, kernel, dtype=np.float64)
        ours = value_and_gradients("shift", signal, kernels, dy)
        for a, b in zip(ours, value_and_gradients("fft", signal, kernels, dy), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_auto_takes_the_fft_for_very_large_kernels(monkeypatch, float64):
    signal, kernels, dy = arrays(7, (4, 3), dtype=np.float64)
    expected = value_and_gradients("shift", signal, kernels, dy)

    def lowered():
        # A new function each time, because jit remembers what it has traced.
        new = lambda s, k: depthwise_cross_correlation(s, k)
        return jax.jit(new).lower(signal, kernels).as_text()

    assert "stablehlo.fft" not in lowered()
    monkeypatch.setattr(correlation, "FFT_POSITIONS", 12)
    assert "stablehlo.fft" in lowered()
    for ours, other in zip(value_and_gradients("auto", signal, kernels, dy), expected, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("method", ["auto", "shift", "grouped_conv"])
def test_several_kernels_on_one_signal_by_vmap(method):
    signal, _, dy = arrays(8, (1, 1))
    kernels = np.stack([arrays(seed, (4, 3))[1] for seed in (1, 2, 3)])

    def correlate(signal, kernels):
        return jax.vmap(lambda kernel: depthwise_cross_correlation(signal, kernel, method=method))(
            kernels
        )

    y, vjp = jax.vjp(correlate, signal, kernels)
    dsignal, dkernels = vjp(jnp.stack([dy] * 3))
    separate = [value_and_gradients(method, signal, kernel, dy) for kernel in kernels]
    np.testing.assert_allclose(y, [one[0] for one in separate], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(dsignal, sum(one[1] for one in separate), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(dkernels, [one[2] for one in separate], rtol=1e-5, atol=1e-4)


def test_under_pmap():
    signal, kernels, dy = arrays(9, (4, 3), batch=8)
    expected = value_and_gradients("auto", signal, kernels, dy)

    def shard(signal, kernel, dy):
        y, vjp = jax.vjp(depthwise_cross_correlation, signal, kernel)
        return y, *vjp(dy)

    ours = jax.pmap(shard)(*(x.reshape(4, 2, *x.shape[1:]) for x in (signal, kernels, dy)))
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a.reshape(b.shape), b, rtol=1e-5, atol=1e-5)


def test_each_platform_gets_its_form():
    """Chosen for the platform that is lowered for, whatever the machine has."""

    def both(signal, kernel, dy):
        y, vjp = jax.vjp(depthwise_cross_correlation, signal, kernel)
        return y, *vjp(dy)

    inputs = arrays(10, (10, 10), signal=(12, 7), batch=2, channels=3)
    traced = jax.jit(both).trace(*inputs)
    lowered = traced.lower(lowering_platforms=("tpu",)).as_text()
    # Forward and both gradients; a convolution over groups of the batch takes a TPU's compiler
    # minutes.
    assert lowered.count("feature_group_count = 6") == 3
    assert lowered.count("batch_group_count = 1") == 3
    assert lowered.count("stablehlo.convolution") == 3
    for platform in ("cpu", "cuda"):
        lowered = traced.lower(lowering_platforms=(platform,)).as_text()
        assert "stablehlo.convolution" not in lowered


def test_refuses_what_does_not_fit():
    signal, kernel, _ = arrays(11, (3, 3))
    with pytest.raises(ValueError, match="same B and C"):
        depthwise_cross_correlation(signal, kernel[:1])
    with pytest.raises(ValueError, match="same B and C"):
        depthwise_cross_correlation(signal, kernel[..., :2])
    with pytest.raises(ValueError, match="same floating dtype"):
        depthwise_cross_correlation(signal, kernel.astype(jnp.bfloat16))
    with pytest.raises(ValueError, match="known: auto, grouped_conv, shift, fft"):
        depthwise_cross_correlation(signal, kernel, method="winograd")
