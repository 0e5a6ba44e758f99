"""The networks: sizes, taps, layouts, streams, dropout, dtypes, errors."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from lowered import executions

from references import models as reference
from reid_jax import models

SIZE = (64, 32)


def images(seed, rows=4, size=SIZE):
    rng = np.random.default_rng(seed)
    return (rng.gamma(2.0, 1.0, (rows, *size, 3)) - 1).astype(np.float32)


def tiny(bottleneck, **options):
    """One block a stage, a few channels: enough for everything but sizes and speed."""
    return models.ResNet((1, 1, 1, 1), bottleneck, width=4, **options)


@functools.partial(jax.jit, static_argnums=0)
def train(model, variables, image, keys=None):
    return model.apply(variables, image, train=True, keys=keys, mutable=["batch_stats"])


@functools.partial(jax.jit, static_argnums=0)
def evaluate(model, variables, image):
    return model.apply(variables, image)


def initialised(model, seed=0):
    return reference.variables(model, images(0, 1), seed=seed)


@pytest.mark.parametrize(
    ("name", "count", "embedding"), [("resnet18", 11_689_512, 512), ("resnet50", 25_557_032, 2048)]
)
@pytest.mark.parametrize("stride", ["torchvision", "caffe"])
def test_parameter_counts_and_tap_shapes(name, count, embedding, stride):
    model = models.build(name, num_identities=1000, stride=stride)
    image = jax.ShapeDtypeStruct((2, 256, 128, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count
    taps = jax.eval_shape(model.apply, variables, image)
    wide = embedding // 8
    assert {name: tap.shape for name, tap in taps.items()} == {
        "conv1": (2, 128, 64, 64),
        "res2": (2, 64, 32, wide),
        "res3": (2, 32, 16, 2 * wide),
        "res4": (2, 16, 8, 4 * wide),
        "res5": (2, 8, 4, 8 * wide),
        "pool5": (2, embedding),
        "embedding": (2, embedding),
        "logits": (2, 1000),
    }


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_width_scales_every_layer_and_the_head_is_optional(name):
    image = jax.ShapeDtypeStruct((1, 64, 32, 3), jnp.float32)
    model = models.build(name, width=32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    taps = jax.eval_shape(model.apply, variables, image)
    assert "logits" not in taps
    assert "identification" not in variables["params"]
    assert taps["embedding"].shape == (1, {"resnet18": 256, "resnet50": 1024}[name])


def test_the_two_layouts_differ_in_results_only():
    """Same variables, another place for the stride and another first pooling."""
    nets = {stride: tiny(True, stride=stride) for stride in ("torchvision", "caffe")}
    variables = initialised(nets["caffe"])
    taps = {stride: evaluate(net, variables, images(1)) for stride, net in nets.items()}
    np.testing.assert_array_equal(taps["caffe"]["conv1"], taps["torchvision"]["conv1"])
    assert np.abs(taps["caffe"]["res2"] - taps["torchvision"]["res2"]).max() > 1e-3

    # Odd sizes: torchvision rounds the pooled size up by padding, Caffe drops nothing either.
    taps = evaluate(nets["caffe"], variables, images(1, size=(34, 66)))
    assert taps["res2"].shape[1:3] == (8, 16)
    taps = evaluate(nets["torchvision"], variables, images(1, size=(34, 66)))
    assert taps["res2"].shape[1:3] == (9, 17)


@pytest.mark.slow
def test_streams_are_separate_calls_with_averaged_statistics(float64):
    model = tiny(True, num_identities=5)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), initialised(model))
    a, b = images(1).astype(np.float64), 2 * images(2).astype(np.float64) + 1
    both, updates = train(model.clone(num_streams=2), variables, np.concatenate([a, b]))
    taps_a, updates_a = train(model, variables, a)
    taps_b, updates_b = train(model, variables, b)
    for tap in both:
        expected = np.concatenate([taps_a[tap], taps_b[tap]])
        np.testing.assert_allclose(both[tap], expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    jax.tree.map(
        lambda got, a, b: np.testing.assert_allclose(got, (a + b) / 2, rtol=1e-10),
        updates,
        updates_a,
        updates_b,
    )


@pytest.mark.slow  # bit for bit, see Makefile
def test_dropout_is_on_the_way_to_the_head_only():
    model = tiny(False, num_identities=5, dropout=0.9)
    variables = initialised(model)
    keys = jax.random.split(jax.random.key(1), 4)

    dropped, _ = train(model, variables, images(1), keys)
    whole, _ = train(model.clone(dropout=0.0), variables, images(1))
    np.testing.assert_array_equal(dropped["embedding"], whole["embedding"])
    assert np.abs(dropped["logits"] - whole["logits"]).max() > 1e-3
    other_order, _ = train(model, variables, images(1)[::-1], keys[::-1])
    np.testing.assert_allclose(other_order["logits"][::-1], dropped["logits"], atol=1e-3)
    # Evaluation drops nothing and needs no keys.
    assert "logits" in evaluate(model, variables, images(1))
    with pytest.raises(ValueError, match="needs keys"):
        train(model, variables, images(1))


def test_initial_kernels():
    model = tiny(False, num_identities=500, head_init_std=0.003)

    @jax.jit
    def kernels(key):
        params = model.init(key, images(0, 1))["params"]
        return params["identification"]["kernel"], params["res5a"]["conv2"]["kernel"]

    head, convolution = kernels(jax.random.key(0))
    assert np.std(head) == pytest.approx(0.003, rel=0.05)
    assert np.std(convolution) == pytest.approx(np.sqrt(2 / (9 * 32)), rel=0.05)


def test_initial_head_of_identif_verif():
    """Uniform within 0.1 * sqrt(3 / fan_in)."""
    model = tiny(False, num_identities=500, head_init_std=None)
    head = jax.jit(lambda key: model.init(key, images(0, 1))["params"]["identification"])(
        jax.random.key(0)
    )
    bound = 0.1 * np.sqrt(3 / 32)
    assert 0.99 * bound < np.abs(head["kernel"]).max() <= bound
    assert np.mean(np.abs(head["kernel"])) == pytest.approx(bound / 2, rel=0.05)
    assert not head["bias"].any()


@pytest.mark.slow  # bit for bit, see Makefile
def test_maximum_over_the_map_on_images_of_different_sizes():
    model = tiny(True, pooling="max", num_identities=5)
    variables = initialised(model)
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(
        jnp.shape, initialised(tiny(True, num_identities=5))
    )
    for size in (SIZE, (96, 70)):
        taps = evaluate(model, variables, images(1, size=size))
        assert taps["res5"].shape[1:3] != (1, 1)
        np.testing.assert_array_equal(taps["embedding"], np.max(taps["res5"], (1, 2)))
        np.testing.assert_array_equal(taps["embedding"], taps["pool5"])


@pytest.mark.slow
def test_bfloat16_layers_float32_results():
    model = tiny(True, num_identities=5, dtype=jnp.bfloat16)
    variables = initialised(model)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}

    def loss(params, batch_stats):
        taps, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            images(1),
            train=True,
            mutable=["batch_stats"],
        )
        return jnp.sum(taps["logits"] ** 2), (taps, updates)

    gradient, (taps, updates) = jax.jit(jax.grad(loss, has_aux=True))(
        variables["params"], variables["batch_stats"]
    )
    assert taps["res5"].dtype == jnp.bfloat16
    assert taps["embedding"].dtype == taps["logits"].dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((gradient, updates))} == {jnp.dtype(jnp.float32)}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    exact, _ = train(model.clone(dtype=None), variables, images(1))
    error = np.linalg.norm(taps["embedding"] - exact["embedding"])
    assert error < 0.1 * np.linalg.norm(exact["embedding"])


def test_float64_throughout(float64):
    model = tiny(True, num_identities=5)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), initialised(model))
    taps, updates = train(model, variables, images(1).astype(np.float64))
    assert {leaf.dtype for leaf in jax.tree.leaves((taps, updates))} == {jnp.dtype(jnp.float64)}


@pytest.mark.parametrize("platform", ["tpu", pytest.param("cuda", marks=pytest.mark.slow)])
def test_step_body_lowers_without_matrix_products_for_convolutions(platform):
    model = models.build("resnet50", width=4)
    image = jax.ShapeDtypeStruct((2, *SIZE, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)

    def step(params, batch_stats, image):
        def loss(params):
            taps, updates = model.apply(
                {"params": params, "batch_stats": batch_stats},
                image,
                train=True,
                mutable=["batch_stats"],
            )
            return jnp.sum(taps["embedding"]), updates

        return jax.grad(loss, has_aux=True)(params)

    text = jax.export.export(jax.jit(step), platforms=[platform])(
        variables["params"], variables["batch_stats"], image
    ).mlir_module()
    # 53 convolutions: forward, kernel gradient, input gradient (but for the image).
    assert executions(text, "stablehlo.convolution") == 3 * 53 - 1
    assert "stablehlo.dot_general" not in text


def test_errors_name_what_is_known():
    with pytest.raises(ValueError, match=r"'resnet19' is not known; known: .*resnet18, resnet50"):
        models.build("resnet19")
    with pytest.raises(ValueError, match=r"no option num_classes; known: .*num_identities"):
        models.build("resnet50", num_classes=3)
    with pytest.raises(ValueError, match="stride='tensorflow' is not known; known: torchvision"):
        models.build("resnet50", stride="tensorflow")
    with pytest.raises(ValueError, match="pooling='fc' is not known; known: average, max"):
        models.build("resnet50", pooling="fc")


@pytest.mark.parametrize("size", [(31, 64), (64, 16)])
def test_images_too_small(size):
    model = models.build("resnet18", width=4)
    with pytest.raises(ValueError, match="smallest size that works is 32 x 32"):
        model.init(jax.random.key(0), images(0, 1, size))


@pytest.mark.parametrize(
    "image", [np.zeros((2, 64, 32, 3), np.uint8), np.zeros((2, 64, 32, 1), np.float32)]
)
def test_images_of_another_kind(image):
    with pytest.raises(ValueError, match=r"must be \[B, H, W, 3\] float"):
        models.build("resnet18", width=4).init(jax.random.key(0), image)
