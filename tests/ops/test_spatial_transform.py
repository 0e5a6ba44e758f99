"""The affine sampler against naive loops, within the image, at its border and beyond."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from references import csn as reference
from reid_jax import ops
from reid_jax.ops.spatial_transform import _gathered, _pixels, _product

spatial_transform = jax.jit(ops.spatial_transform, static_argnames="out_size")

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def features(seed, size, batch=3, channels=2, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return (rng.gamma(1.0, 1.0, (batch, *size, channels)) - 0.5).astype(dtype)


def thetas(seed, spread, batch=3):
    return np.asarray(IDENTITY) + np.random.default_rng(seed).normal(0, spread, (batch, 6))


@pytest.mark.parametrize("out_size", [(10, 10), (3, 4), (1, 5), (1, 1)])
@pytest.mark.parametrize("size", [(6, 5), (1, 4), (7, 1)])
def test_equals_the_loops(size, out_size, float64):
    # The wider spreads reach far beyond the border, turned and upside down.
    for seed, spread in enumerate([0.1, 0.7, 2.0]):
        image, theta = features(seed, size), thetas(seed, spread)
        ours = spatial_transform(image, theta, out_size=out_size)
        expected = reference.spatial_transform(image, theta, out_size)
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-10)


def test_the_identity_resizes(float64):
    image = features(1, (4, 3))
    theta = np.tile(IDENTITY, (3, 1))
    same = spatial_transform(image, theta, out_size=(4, 3))
    np.testing.assert_allclose(same, image, rtol=1e-12, atol=1e-12)
    larger = spatial_transform(image, theta, out_size=(7, 5))
    np.testing.assert_allclose(larger[:, ::2, ::2], image, rtol=1e-12, atol=1e-12)
    between = (image[:, :-1] + image[:, 1:]) / 2
    np.testing.assert_allclose(larger[:, 1::2, ::2], between, rtol=1e-12, atol=1e-12)


def test_order_of_the_parameters(float64):
    """(s_w, r_w, t_w, r_h, s_h, t_h), and beyond the border its value."""
    image = np.arange(12.0).reshape(1, 3, 4, 1)

    def view(*theta):
        samples = spatial_transform(image, np.array([theta], float), out_size=(3, 4))
        return np.asarray(samples)[0, :, :, 0]

    rows = image[0, :, :, 0]
    np.testing.assert_allclose(view(-1, 0, 0, 0, 1, 0), rows[:, ::-1], atol=1e-12)
    np.testing.assert_allclose(view(1, 0, 0, 0, -1, 0), rows[::-1], atol=1e-12)
    # A third of the width of 3 pixels to the right is one pixel; then half the height down.
    np.testing.assert_allclose(view(1, 0, 2 / 3, 0, 1, 0), rows[:, [1, 2, 3, 3]], atol=1e-12)
    np.testing.assert_allclose(view(1, 0, 0, 0, 1, 1), rows[[1, 2, 2]], atol=1e-12)
    # r_w moves columns by the output row, r_h rows by the output column.
    np.testing.assert_allclose(view(0, 1, 0, 0, 0, -1)[:, 0], [0, 1.5, 3], atol=1e-12)
    np.testing.assert_allclose(view(0, 0, -1, 1, 0, 0)[0], [0, 8 / 3, 16 / 3, 8], atol=1e-12)


def test_gradients_by_finite_differences(float64):
    # Away from pixel centers and the border, where the derivative jumps.
    theta = np.array(
        [[0.71, 0.13, 0.047, -0.11, 0.63, -0.07], [0.41, 0.13, 0.29, 0.21, 0.47, -0.33]]
    )
    image = features(2, (5, 6), batch=2)
    check_grads(
        jax.jit(lambda f, t: spatial_transform(f, t, out_size=(4, 3)) ** 2),
        (image, theta),
        order=1,
        modes=["rev"],
        eps=1e-6,
    )


def test_no_gradient_from_beyond_the_border(float64):
    image = features(3, (4, 5), batch=1)
    outside = np.array([[0.1, 0, 3.0, 0, 0.1, -3.0]])
    gradient = jax.jit(jax.grad(lambda t: spatial_transform(image, t, out_size=(2, 2)).sum()))
    np.testing.assert_array_equal(gradient(outside), 0)
    # The four samples are the corners, exactly at the border.
    np.testing.assert_array_equal(gradient(np.array([IDENTITY])), 0)


@pytest.mark.parametrize("spread", [0.3, 2.0])
def test_both_formulations_agree_with_their_gradients(spread, float64):
    """What a CPU runs and what any other platform runs."""
    rng = np.random.default_rng(4)
    image, dsamples = features(4, (6, 5)), rng.normal(size=(3, 8, 2))
    x = np.clip(rng.normal(2, 2 * spread, (3, 8)), 0, 4)
    y = np.clip(rng.normal(2.5, 2 * spread, (3, 8)), 0, 5)
    x[0, :3], y[0, :3] = (0, 4, 2), (5, 0, 3)

    expected, vjp = jax.vjp(jax.jit(_product), image, x, y)
    ours, gathered_vjp = jax.vjp(jax.jit(_gathered), image, x, y)
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)
    for a, b in zip(gathered_vjp(dsamples), vjp(dsamples), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)

    theta = thetas(5, spread)
    _, on_cpu = jax.vjp(lambda f, t: spatial_transform(f, t, out_size=(4, 4)), image, theta)

    def by_product(image, theta):
        x, y = _pixels(theta, image.shape[1:3], (4, 4))
        return _product(image, x, y).reshape(3, 4, 4, 2)

    _, elsewhere = jax.vjp(jax.jit(by_product), image, theta)
    dsamples = rng.normal(size=(3, 4, 4, 2))
    for a, b in zip(on_cpu(dsamples), elsewhere(dsamples), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_float32_bfloat16_and_vmap():
    image, theta = features(6, (6, 5), dtype=np.float32), thetas(6, 0.3).astype(np.float32)
    expected = reference.spatial_transform(image, theta, (5, 5))
    ours = spatial_transform(image, theta, out_size=(5, 5))
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
    narrow = spatial_transform(jnp.asarray(image, jnp.bfloat16), theta, out_size=(5, 5))
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_allclose(narrow.astype(np.float32), expected, rtol=2**-7, atol=2e-2)
    views = jax.vmap(lambda theta: spatial_transform(image, theta, out_size=(5, 5)))(
        jnp.stack([theta, theta])
    )
    np.testing.assert_allclose(views, np.stack([ours, ours]), rtol=1e-6, atol=1e-6)


def test_an_accelerator_gets_products():
    inputs = features(7, (6, 5), dtype=np.float32), thetas(7, 0.3).astype(np.float32)

    def both(image, theta):
        samples, vjp = jax.vjp(lambda f, t: spatial_transform(f, t, out_size=(4, 4)), image, theta)
        return vjp(samples)

    lowered = jax.jit(both).trace(*inputs).lower(lowering_platforms=("tpu",)).as_text()
    assert "stablehlo.dot_general" in lowered
    assert "stablehlo.gather" not in lowered
    assert "stablehlo.scatter" not in lowered


def test_refuses_what_does_not_fit():
    image, theta = features(8, (6, 5)), thetas(8, 0.3)
    with pytest.raises(ValueError, match=r"theta \[B, 6\]"):
        spatial_transform(image, theta[:, :5], out_size=(2, 2))
    with pytest.raises(ValueError, match=r"theta \[B, 6\]"):
        spatial_transform(image, theta[:2], out_size=(2, 2))
    with pytest.raises(ValueError, match="theta must be floating, got int"):
        spatial_transform(image, theta.astype(int), out_size=(2, 2))
    with pytest.raises(ValueError, match="at least 1"):
        spatial_transform(image, theta, out_size=(2, 0))
