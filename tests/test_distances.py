import jax
import jax.numpy as jnp
import numpy as np
import pytest

from references import ranking as reference
from reid_jax import distances

NAMES = ["squared_euclidean", "euclidean", "cosine"]


def rows(seed, num_a=5, num_b=7, dim=11):
    random = np.random.default_rng(seed)
    return random.normal(size=(num_a, dim)) + 0.3, 2 * random.normal(size=(num_b, dim)) - 0.1


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_distances_equal_loops(name, seed, jit):
    a, b = rows(seed)
    function = getattr(distances, name)
    function = jax.jit(function) if jit else function
    expected = reference.distance(a, b, name)
    single = function(a.astype(np.float32), b.astype(np.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, expected, rtol=1e-5, atol=1e-5)
    with jax.enable_x64(True):
        double = function(a, b)
        assert double.dtype == jnp.float64
        np.testing.assert_allclose(double, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_small_floats_are_widened(name):
    a, b = (jnp.asarray(x, jnp.bfloat16) for x in rows(2))
    result = getattr(distances, name)(a, b)
    assert result.dtype == jnp.float32
    expected = reference.distance(np.asarray(a, np.float64), np.asarray(b, np.float64), name)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_a_common_offset_costs_no_digits():
    a, b = (x + 300 for x in rows(3, dim=64))
    a, b = a.astype(np.float32), b.astype(np.float32)
    expected = reference.distance(a, b, "squared_euclidean")
    np.testing.assert_allclose(distances.squared_euclidean(a, b), expected, rtol=1e-5)
    textbook = (a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T
    assert np.abs(textbook / expected - 1).max() > 1e-3


@pytest.mark.parametrize("num_a", [1, 3, 7])
def test_small_integers_are_exact(num_a):
    random = np.random.default_rng(8)
    a, b = random.integers(-9, 10, (num_a, 6)), random.integers(-9, 10, (40, 6))
    for offset in (0, 5, 1000):
        result = distances.squared_euclidean(a + np.float32(offset), b + np.float32(offset))
        assert (np.asarray(result) == reference.distance(a, b, "squared_euclidean")).all()


def test_squared_euclidean_is_never_negative():
    a = np.random.default_rng(4).normal(size=(200, 33)).astype(np.float32)
    result = np.asarray(distances.squared_euclidean(a, a))
    assert result.min() == 0 or (result > 0).all()
    assert np.diag(result).max() < 1e-4
    assert np.diag(distances.euclidean(a, a)).min() >= 0.99e-6


@pytest.mark.parametrize("argument", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_equal_differences(name, argument):
    a, b = rows(5)
    weights = np.random.default_rng(6).normal(size=(len(a), len(b)))

    def value(x):
        pair = (x, b) if argument == 0 else (a, x)
        return (weights * reference.distance(*pair, name)).sum()

    x = (a, b)[argument]
    expected = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[index] = 1e-5
        expected[index] = (value(x + step) - value(x - step)) / 2e-5
    with jax.enable_x64(True):
        gradient = jax.grad(
            lambda *pair: (weights * getattr(distances, name)(*pair)).sum(), argnums=argument
        )(a, b)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_at_equal_rows_and_at_zero(name):
    a = np.random.default_rng(7).normal(size=(4, 3)).astype(np.float32)
    a[0] = 0

    def total(x, y):
        return getattr(distances, name)(x, y).sum()

    for gradient in jax.grad(total, argnums=(0, 1))(a, a):
        assert np.isfinite(gradient).all()
    one = a[1:2]
    np.testing.assert_allclose(jax.grad(total)(one, one), np.zeros((1, 3)), atol=1e-3)


def test_cosine_of_zero_rows_is_one():
    np.testing.assert_array_equal(distances.cosine(np.zeros((1, 3)), np.eye(3)), np.ones((1, 3)))


def test_distances_use_the_highest_precision():
    for name in NAMES:
        text = str(jax.make_jaxpr(getattr(distances, name))(np.ones((2, 3)), np.ones((4, 3))))
        assert "Precision.HIGHEST" in text


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shapes", [((3,), (2, 3)), ((2, 3), (2, 4)), ((1, 2, 3), (2, 3))])
def test_shapes_that_do_not_fit(name, shapes):
    with pytest.raises(ValueError, match="same D"):
        getattr(distances, name)(*(np.ones(s, np.float32) for s in shapes))
