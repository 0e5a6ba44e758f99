"""The nine-convolution network: the paper's table, batch norm without scale, reweighting."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from lowered import executions

from references import models as reference
from reid_jax import models
from reid_jax.models.dropout import dropout

# Odd sizes, so that every pooling has to round up.
SIZE = (9, 5)


def images(seed, rows=4, size=SIZE):
    rng = np.random.default_rng(seed)
    return (rng.gamma(2.0, 1.0, (rows, *size, 3)) - 1).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def train(model, variables, image, keys=None):
    return model.apply(variables, image, train=True, keys=keys, mutable=["batch_stats"])


@functools.partial(jax.jit, static_argnums=0)
def evaluate(model, variables, image):
    return model.apply(variables, image, train=False)


def initialised(model, **kwargs):
    return reference.variables(model, images(0, 1), **kwargs)


def size_of(params, *, axes):
    return sum(leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim == axes)


def test_shapes_and_kernel_counts_of_the_table():
    model = models.build("nine_conv", num_identities=1160)
    image = jax.ShapeDtypeStruct((2, 128, 48, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    params = variables["params"]
    assert size_of(params, axes=4) == 1_751_904
    assert params["fc1"]["kernel"].shape == (9216, 512)
    assert params["fc1"]["kernel"].size == 4_718_592
    assert {name: leaf.shape for name, leaf in params["identification"].items()} == {
        "kernel": (512, 1160)
    }
    assert size_of(params, axes=2) == 4_718_592 + 512 * 1160
    # One bias a layer and no scale.
    assert size_of(params, axes=1) == 3 * 32 + 64 + 96 + 128 + 192 + 256 + 384 + 512
    taps = jax.eval_shape(model.apply, variables, image)
    assert {name: tap.shape[1:] for name, tap in taps.items()} == {
        "conv1": (128, 48, 32),
        "conv2": (128, 48, 32),
        "conv3": (128, 48, 32),
        "conv4": (64, 24, 64),
        "conv5": (64, 24, 96),
        "conv6": (32, 12, 128),
        "conv7": (32, 12, 192),
        "conv8": (16, 6, 256),
        "conv9": (16, 6, 384),
        "fc1": (512,),
        "embedding": (512,),
        "logits": (1160,),
    }


def test_siamese_counts_with_one_head_for_both_streams():
    siamese = models.Siamese(models.build("nine_conv"), "relu_diff", num_identities=7)
    image = jax.ShapeDtypeStruct((2, 128, 48, 3), jnp.float32)
    params = jax.eval_shape(siamese.init, jax.random.key(0), image, image)["params"]
    verification = {name: tree for name, tree in params.items() if name != "backbone"}
    assert size_of(verification, axes=2) == 263_168
    assert size_of(params["backbone"], axes=4) == 1_751_904
    assert params["backbone"]["identification"]["kernel"].shape == (512, 7)


def test_width_scales_every_layer():
    model = models.build("nine_conv", width=4, num_identities=3)
    image = jax.ShapeDtypeStruct((2, 64, 32, 3), jnp.float32)
    taps, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
    channels = [taps[f"conv{i}"].shape[-1] for i in range(1, 10)]
    assert channels == [4, 4, 4, 8, 12, 16, 24, 32, 48]
    assert taps["embedding"].shape == (2, 64)
    assert variables["params"]["fc1"]["kernel"].shape == (4 * 2 * 48, 64)


def by_loops(variables, image, statistics=None):
    """The network in NumPy; statistics of the batch where none are given."""
    params = variables["params"]

    def activated(x, name):
        bias, ones = params[name]["bias"], np.ones(x.shape[-1])
        if statistics is None:
            x, _, _ = reference.normalise(x, ones, bias, 1e-3, 1)
        else:
            mean, variance = statistics[name]["mean"], statistics[name]["var"]
            x = (x - mean) / np.sqrt(variance + 1e-3) + bias
        return np.where(x > 0, x, 0.2 * x)

    x = image
    for number in range(1, 10):
        kernel = params[f"conv{number}"]["kernel"]
        x = reference.convolution(x, kernel, (1, 1), ((1, 1), (1, 1)))
        x = activated(x, f"bn{number}")
        if number in (3, 5, 7, 9):
            odd = tuple((0, size % 2) for size in x.shape[1:3])
            x = reference.max_pool(x, (2, 2), (2, 2), odd)
    return activated(x.reshape(len(x), -1) @ params["fc1"]["kernel"], "bn_fc1")


def test_the_whole_network_by_loops(float64):
    model = models.NineConv(width=1, num_identities=3)
    variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), initialised(model))
    image = images(1).astype(np.float64)
    taps, updates = train(model, variables, image)
    expected = by_loops(variables, image)
    np.testing.assert_allclose(taps["embedding"], expected, atol=1e-10)
    head = variables["params"]["identification"]["kernel"]
    np.testing.assert_allclose(taps["logits"], expected @ head, atol=1e-10)
    # The running averages keep 0.99 of themselves in a step.
    _, mean, _ = reference.normalise(
        reference.convolution(
            image, variables["params"]["conv1"]["kernel"], (1, 1), ((1, 1), (1, 1))
        ),
        np.ones(1),
        np.zeros(1),
        1e-3,
        1,
    )
    before = variables["batch_stats"]["bn1"]["mean"]
    np.testing.assert_allclose(
        updates["batch_stats"]["bn1"]["mean"], 0.99 * before + 0.01 * mean[0], rtol=1e-10
    )

    evaluated = evaluate(model, variables, image)
    expected = by_loops(variables, image, variables["batch_stats"])
    np.testing.assert_allclose(evaluated["embedding"], expected, atol=1e-10)


@pytest.mark.slow  # bit for bit, see Makefile
def test_evaluation_with_the_statistics_of_the_batch():
    """Same variables; a row depends on its batch, and only then."""
    model = models.build("nine_conv", width=2, test_statistics="batch")
    variables = initialised(model)
    taps = evaluate(model, variables, images(1))
    trained, _ = train(model, variables, images(1))
    np.testing.assert_array_equal(taps["embedding"], trained["embedding"])
    # Nothing may be moved: outside training, moving an immutable collection would be an error.
    alone = evaluate(model, variables, images(1)[:2])["embedding"]
    assert np.abs(alone - taps["embedding"][:2]).max() > 1e-2

    running = model.clone(test_statistics="running")
    taps = evaluate(running, variables, images(1))
    alone = evaluate(running, variables, images(1)[:2])["embedding"]
    np.testing.assert_allclose(alone, taps["embedding"][:2], atol=1e-5)


def test_streams_are_separate_calls(float64):
    model = models.NineConv(width=2)
    variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), initialised(model))
    a, b = images(1).astype(np.float64), 2 * images(2).astype(np.float64) + 1
    both, _ = train(model.clone(num_streams=2), variables, np.concatenate([a, b]))
    taps_a, _ = train(model, variables, a)
    taps_b, _ = train(model, variables, b)
    expected = np.concatenate([taps_a["embedding"], taps_b["embedding"]])
    np.testing.assert_allclose(both["embedding"], expected, atol=1e-10)


def test_reweighted_features_are_the_embedding():
    model = models.build("nine_conv", width=2, num_identities=3, feature_reweighting=True)
    variables = initialised(model)
    taps = evaluate(model, variables, images(1))
    weights = variables["params"]["feature_weights"]
    assert weights.shape == (32,)
    np.testing.assert_array_equal(taps["feature_weights"], weights)
    np.testing.assert_allclose(taps["embedding"], taps["fc1"] * weights, rtol=1e-6)
    head = variables["params"]["identification"]["kernel"]
    np.testing.assert_allclose(taps["logits"], taps["embedding"] @ head, rtol=1e-4, atol=1e-5)
    plain = evaluate(model.clone(feature_reweighting=False), variables, images(1))
    assert "feature_weights" not in plain
    np.testing.assert_array_equal(plain["embedding"], taps["fc1"])


def test_dropout_is_on_the_way_to_the_head_only():
    model = models.build("nine_conv", width=2, num_identities=3, dropout=0.5)
    variables = initialised(model)
    keys = jax.random.split(jax.random.key(1), 4)
    taps, _ = train(model, variables, images(1), keys)
    dropped = dropout(taps["embedding"], 0.5, keys)
    head = variables["params"]["identification"]["kernel"]
    np.testing.assert_allclose(taps["logits"], dropped @ head, atol=1e-5)
    with pytest.raises(ValueError, match="needs keys"):
        train(model, variables, images(1))


def test_initial_values():
    model = models.build("nine_conv", width=8, num_identities=200, feature_reweighting=True)

    @jax.jit
    def initial(key):
        params = model.init(key, images(0, 1, (32, 16)))["params"]
        kernels = [params[name]["kernel"] for name in ("conv7", "identification")]
        return kernels, params["feature_weights"], params["bn5"]["bias"]

    kernels, weights, bias = initial(jax.random.key(0))
    for kernel, fan_in in zip(kernels, (9 * 32, 128), strict=True):
        deviation = np.sqrt(2 / fan_in)
        assert np.std(kernel) == pytest.approx(deviation, rel=0.05)
        # A normal distribution cut at two of its deviations, which are 1 / 0.88 of the result's.
        assert np.abs(kernel).max() < 2.28 * deviation
    assert np.std(weights) == pytest.approx(np.sqrt(2 / 128), rel=0.2)
    assert (bias == np.float32(0.01)).all()


def test_bfloat16_layers_float32_results():
    model = models.NineConv(width=2, num_identities=3, dtype=jnp.bfloat16)
    variables = initialised(model)
    taps, updates = jax.eval_shape(functools.partial(train, model), variables, images(1))
    assert taps["conv9"].dtype == jnp.bfloat16
    assert taps["embedding"].dtype == taps["logits"].dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_lowers_to_nine_convolutions(platform):
    model = models.NineConv(width=2)
    image = jax.ShapeDtypeStruct((2, 32, 16, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)

    def step(params, batch_stats, image):
        def loss(params):
            variables = {"params": params, "batch_stats": batch_stats}
            taps, _ = model.apply(variables, image, train=True, mutable=["batch_stats"])
            return jnp.sum(taps["embedding"])

        return jax.grad(loss)(params)

    text = jax.export.export(jax.jit(step), platforms=[platform])(
        variables["params"], variables["batch_stats"], image
    ).mlir_module()
    assert executions(text, "stablehlo.convolution") == 3 * 9 - 1


def test_errors():
    with pytest.raises(
        ValueError, match="test_statistics='train' is not known; known: running, batch"
    ):
        models.build("nine_conv", test_statistics="train")
    model = models.build("nine_conv", width=2)
    with pytest.raises(ValueError, match=r"must be \[B, H, W, 3\] float"):
        model.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.uint8))
