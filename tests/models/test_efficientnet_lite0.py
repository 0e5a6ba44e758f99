"""EfficientNet-Lite0: sizes, taps, the NumPy reference in test and training, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from references import efficientnet_lite0 as reference
from references import models as layers
from reid_jax import models
from reid_jax.models import dropout
from reid_jax.models.efficientnet_lite0 import InvertedResidual
from reid_jax.pretrained.efficientnet_lite0 import torch_name

SIZE = (64, 32)


def images(rows=3, size=SIZE):
    rng = np.random.default_rng(0)
    return (rng.gamma(2.0, 0.3, (rows, *size, 3)) - 0.5).astype(np.float32)


def small(**options):
    return models.build("efficientnet_lite0", width=4, **options)


def initialised(model, size=SIZE):
    return layers.variables(model, images(1, size))


def state_of(variables):
    """The variables by PyTorch's names, kernels [O, C, h, w]."""
    flat, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {
        torch_name(tuple(key.key for key in path)): np.transpose(
            leaf, {4: (3, 2, 0, 1), 2: (1, 0)}.get(leaf.ndim)
        )
        for path, leaf in flat
    }


def test_parameter_count_and_tap_shapes():
    model = models.build("efficientnet_lite0", num_identities=1000)
    image = jax.ShapeDtypeStruct((2, 128, 64, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 4_652_008
    taps = jax.eval_shape(model.apply, variables, image)
    assert {name: tap.shape for name, tap in taps.items()} == {
        "stem": (2, 64, 32, 32),
        "block1": (2, 64, 32, 16),
        "block2": (2, 32, 16, 24),
        "block3": (2, 16, 8, 40),
        "block4": (2, 8, 4, 80),
        "block5": (2, 8, 4, 112),
        "block6": (2, 4, 2, 192),
        "block7": (2, 4, 2, 320),
        "head": (2, 4, 2, 1280),
        "embedding": (2, 1280),
        "logits": (2, 1000),
    }
    taps = jax.eval_shape(model.clone(last_stride=1, num_identities=None).apply, variables, image)
    assert taps["block5"].shape == (2, 8, 4, 112)
    assert taps["head"].shape == (2, 8, 4, 1280)
    assert "logits" not in taps
    neck = model.clone(neck=True)
    shapes = jax.eval_shape(neck.init, jax.random.key(0), image)
    assert set(shapes["params"]["identification"]) == {"kernel"}
    taps = jax.eval_shape(neck.apply, shapes, image)
    assert taps["before_neck"].shape == taps["embedding"].shape == (2, 1280)


def assert_taps_equal(taps, expected, tolerance):
    assert set(taps) == set(expected)
    for name, tap in expected.items():
        scale = np.abs(tap).max()
        assert scale > 0.01, name
        difference = np.asarray(taps[name], np.float64) - tap
        assert np.abs(difference).max() <= tolerance * scale, name


@pytest.mark.parametrize(("size", "last_stride"), [((64, 32), 1), ((90, 52), 2)])
def test_every_tap_is_the_references(size, last_stride, float64):
    model = small(num_identities=5, last_stride=last_stride)
    variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), initialised(model, size))
    taps = tiny.apply(model, variables, images(2, size).astype(np.float64))
    expected, _ = reference.taps(state_of(variables), images(2, size), last_stride=last_stride)
    assert_taps_equal(taps, expected, 1e-10)


def test_training_is_the_references_and_drops_on_the_way_to_the_head_only(float64):
    model = small(num_identities=5, dropout=0.9)
    variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), initialised(model))
    keys = jax.random.split(jax.random.key(1), 3)
    options = {"train": True, "mutable": ["batch_stats"]}
    image = images().astype(np.float64)
    taps, updates = tiny.apply(model, variables, image, keys=keys, **options)
    expected, moved = reference.taps(state_of(variables), image, train=True)
    head = variables["params"]["identification"]
    kept = dropout.dropout(expected["embedding"], 0.9, keys)
    assert_taps_equal(taps, expected | {"logits": kept @ head["kernel"] + head["bias"]}, 1e-9)
    moved_here = state_of(updates)
    assert moved_here.keys() == moved.keys()
    for name, value in moved.items():
        np.testing.assert_allclose(moved_here[name], value, rtol=1e-9, atol=1e-9, err_msg=name)
    with pytest.raises(ValueError, match="needs keys"):
        model.apply(variables, image, **options)


def block(**options):
    fields = {"features": 6, "expansion": 6, "kernel_size": 5, "stride": 1, "axis_name": None}
    return InvertedResidual(**fields | {"num_streams": 1, "dtype": None} | options)


def test_streams_of_a_block_are_separate_calls_with_averaged_statistics():
    rng = np.random.default_rng(0)
    a, b = (rng.gamma(2.0, size * 0.5, (3, 6, 5, 6)).astype(np.float32) for size in (1, 3))
    model = block()
    variables = tiny.init(model, a, train=False)

    def train(model, image):
        return tiny.apply(model, variables, image, train=True, mutable=["batch_stats"])

    both, updates = train(model.clone(num_streams=2), np.concatenate([a, b]))
    (of_a, updates_a), (of_b, updates_b) = train(model, a), train(model, b)
    np.testing.assert_allclose(both, np.concatenate([of_a, of_b]), rtol=0, atol=1e-4)
    jax.tree.map(
        lambda got, a, b: np.testing.assert_allclose(got, (a + b) / 2, rtol=1e-4, atol=1e-5),
        updates,
        updates_a,
        updates_b,
    )


def test_initial_kernels_of_a_block():
    params = tiny.init(block(), np.ones((1, 4, 4, 192), np.float32), train=False)["params"]
    depthwise = params["depthwise_conv"]["kernel"]
    assert depthwise.shape == (5, 5, 1, 1152)
    assert np.std(depthwise) == pytest.approx(np.sqrt(2 / 25), rel=0.05)
    expand = params["expand_conv"]["kernel"]
    assert np.std(expand) == pytest.approx(np.sqrt(2 / 1152), rel=0.05)


def test_bfloat16_layers_float32_results():
    model = small(num_identities=5, dtype=jnp.bfloat16)
    image = jax.ShapeDtypeStruct((2, *SIZE, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    taps = jax.eval_shape(model.apply, variables, image)
    assert taps["block7"].dtype == jnp.bfloat16
    assert taps["embedding"].dtype == taps["logits"].dtype == jnp.float32
    x = np.random.default_rng(0).gamma(2.0, 1.0, (3, 6, 5, 6)).astype(np.float32)
    variables = tiny.init(block(), x, train=False)
    exact = tiny.apply(block(), variables, x, train=False)
    near = tiny.apply(block(dtype=jnp.bfloat16), variables, x, train=False)
    assert np.linalg.norm(near - exact) < 0.02 * np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"last_stride": 3}, "last_stride=3 is not known; known: 1, 2"),
        ({"width": 6}, "width=6 must be a multiple of 4, above 0"),
        ({"width": 0}, "width=0 must be a multiple of 4, above 0"),
        ({"stride": "caffe"}, "no option stride"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        models.build("efficientnet_lite0", **options)


def test_images_too_small():
    with pytest.raises(ValueError, match="smallest size that works is 32 x 32"):
        small().init(jax.random.key(0), images(1, (31, 64)))
