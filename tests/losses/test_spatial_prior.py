"""Priors on the parameters of a spatial transformer, and where they are exactly zero."""

import jax
import numpy as np
import pytest
from jax.test_util import check_grads

from references import csn as reference
from reid_jax import losses


def random_thetas(seed):
    return np.random.default_rng(seed).normal(0, 1.0, (5, 3, 6))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equal_the_formulas(seed, float64):
    theta = random_thetas(seed)
    ours = losses.stn_prior(theta, min_scale=0.1, limit=1.2)
    assert ours.shape == (5, 3)
    expected = [[reference.stn_prior(row, 0.1, 1.2) for row in rows] for rows in theta]
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


@pytest.mark.parametrize("seed", [3, 4])
def test_gradients_by_finite_differences(seed, float64):
    check_grads(
        lambda theta: losses.stn_prior(theta, min_scale=0.1, limit=1.0),
        (random_thetas(seed),),
        order=1,
        modes=["rev"],
    )


def theta(s_w=0.5, r_w=0.0, t_w=0.0, r_h=0.0, s_h=0.5, t_h=0.0):
    return np.array([s_w, r_w, t_w, r_h, s_h, t_h])


def test_zero_exactly_where_they_should_be(float64):
    def positive(**values):
        return float(losses.positive_scale_prior(theta(**values), min_scale=0.25))

    assert positive() == 0 == positive(s_w=0.25, s_h=0.25)
    assert positive(s_w=0.125) == positive(s_h=0.125) == 0.125
    assert positive(s_w=-0.25) == 0.5

    def inside(**values):
        return float(losses.inside_image_prior(theta(**values), limit=1.0))

    assert inside() == inside(s_w=1.0, s_h=1.0) == inside(t_w=0.5, t_h=-0.5) == 0
    for name in ("t_w", "t_h"):
        assert inside(**{name: 0.75}) == inside(**{name: -0.75}) == (1.25**2 - 1) / 2
    assert inside(s_w=1.25) == 1.25**2 - 1  # both edges
    assert inside(r_w=3.0) == 0

    def rotation(**values):
        return float(losses.rotation_prior(theta(**values)))

    assert rotation() == rotation(t_w=2.0, s_h=-1.0) == 0
    assert rotation(r_w=-0.25, r_h=0.5) == 0.75

    gradient = jax.grad(lambda t: losses.stn_prior(t, min_scale=0.1, limit=1.0))(theta())
    np.testing.assert_array_equal(gradient, 0)


def test_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"expected \[\.\.\., 6\]"):
        losses.stn_prior(np.zeros((3, 5)), min_scale=0.1, limit=1.0)
