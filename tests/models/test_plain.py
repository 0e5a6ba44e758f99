"""CaffeNet and VGG16: sizes, taps, parity, pooling, dropout, training from scratch, errors."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from lowered import executions

from references import models as reference
from reid_jax import losses, models
from reid_jax.models.dropout import dropout

SIZE = (64, 48)
WIDTH = {"caffenet": 6, "vgg16": 4}
NAMES = tuple(WIDTH)


def images(seed, rows=3, size=SIZE):
    rng = np.random.default_rng(seed)
    return (rng.gamma(2.0, 1.0, (rows, *size, 3)) - 1).astype(np.float32)


def tiny(name, **options):
    return models.build(name, width=WIDTH[name], **options)


@functools.partial(jax.jit, static_argnums=0)
def train(model, variables, image, keys=None):
    taps, updates = model.apply(variables, image, train=True, keys=keys, mutable=["batch_stats"])
    assert not updates
    return taps


@functools.partial(jax.jit, static_argnums=0)
def evaluate(model, variables, image):
    return model.apply(variables, image)


def initialised(model, size=SIZE):
    return reference.variables(model, images(0, 1, size))


CAFFENET = {
    "conv1": (55, 55, 96),
    "conv2": (27, 27, 256),
    "conv3": (13, 13, 384),
    "conv4": (13, 13, 384),
    "conv5": (13, 13, 256),
    "pool5": (6, 6, 256),
}
VGG = {
    "conv1": (224, 224, 64),
    "conv2": (112, 112, 128),
    "conv3": (56, 56, 256),
    "conv4": (28, 28, 512),
    "conv5": (14, 14, 512),
    "pool5": (7, 7, 512),
}
DENSE = {"fc6": (4096,), "fc7": (4096,), "embedding": (4096,), "logits": (1000,)}


@pytest.mark.parametrize(
    ("name", "count", "side", "maps"),
    [("caffenet", 60_965_224, 227, CAFFENET), ("vgg16", 138_357_544, 224, VGG)],
)
def test_parameter_counts_and_tap_shapes(name, count, side, maps):
    image = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    model = models.build(name, num_identities=1000)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    assert set(variables) == {"params"}
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == count
    taps = jax.eval_shape(model.apply, variables, image)
    assert {tap: array.shape[1:] for tap, array in taps.items()} == maps | DENSE

    model = models.build(name, num_identities=1000, pooling="max")
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    assert not {"fc6", "fc7"} & set(variables["params"])
    taps = jax.eval_shape(model.apply, variables, image)
    dim = maps["conv5"][-1:]
    changed = {"pool5": dim, "embedding": dim, "logits": (1000,)}
    assert {tap: array.shape[1:] for tap, array in taps.items()} == maps | changed


@pytest.mark.parametrize("name", NAMES)
def test_width_scales_every_layer_and_the_head_is_optional(name):
    model = tiny(name)
    variables = initialised(model)
    assert "identification" not in variables["params"]
    taps = evaluate(model, variables, images(1))
    full = models.build(name).width / WIDTH[name]
    assert taps["embedding"].shape == (3, 4096 / full)
    assert taps["conv5"].shape[-1] == {"caffenet": 256, "vgg16": 512}[name] / full


@pytest.mark.torch
@pytest.mark.parametrize(("size", "side"), [((227, 227), 6), ((99, 97), 2)])
def test_caffenet_is_that_of_pytorch(size, side):
    torch = pytest.importorskip("torch")
    from references import torch_plain

    net = torch_plain.CaffeNet(6, 5, side)
    model = tiny("caffenet", num_identities=5)
    variables = initialised(model, size)
    tensors = {}
    for layer, leaves in variables["params"].items():
        kernel = leaves["kernel"]
        if kernel.ndim == 4:
            kernel = kernel.transpose(3, 2, 0, 1)
            # PyTorch flattens the map channel by channel.
            kernel = kernel.reshape(len(kernel), -1) if layer == "fc6" else kernel
        else:
            kernel = kernel.T
        name = "fc8" if layer == "identification" else layer
        tensors[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel))
        tensors[f"{name}.bias"] = torch.from_numpy(leaves["bias"])
    net.load_state_dict(tensors)
    # Inputs of the size that real ones have, so that the local response norm counts.
    image = 60 * images(1, 2, size)
    with torch.no_grad():
        expected = net(torch.from_numpy(image.transpose(0, 3, 1, 2)))
    taps = evaluate(model, variables, image)
    for name, tap in expected.items():
        tap = tap.numpy().transpose(0, 2, 3, 1) if tap.ndim == 4 else tap.numpy()
        scale = np.abs(tap).max()
        np.testing.assert_allclose(taps[name] / scale, tap / scale, rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_maximum_over_the_map_on_images_of_different_sizes(name):
    model = tiny(name, pooling="max", num_identities=5)
    variables = initialised(model)
    embeddings = []
    for size in (SIZE, (90, 71)):
        taps = evaluate(model, variables, images(1, size=size))
        assert taps["conv5"].shape[1:3] != (1, 1)
        np.testing.assert_array_equal(taps["embedding"], np.max(taps["conv5"], (1, 2)))
        embeddings.append(taps["embedding"])
    assert embeddings[0].shape == embeddings[1].shape
    assert np.abs(embeddings[0] - embeddings[1]).max() > 1e-3


@pytest.mark.parametrize("name", ["caffenet", pytest.param("vgg16", marks=pytest.mark.slow)])
def test_dropout_at_fc6_and_before_the_head(name):
    model = tiny(name, num_identities=5, dropout=0.5, hidden_dropout=0.4)
    variables = initialised(model)
    keys = jax.random.split(jax.random.key(1), 3)
    taps = train(model, variables, images(1), keys)
    whole = evaluate(model, variables, images(1))
    np.testing.assert_allclose(taps["fc6"], whole["fc6"], rtol=1e-5)

    fc7, head = (variables["params"][layer] for layer in ("fc7", "identification"))
    own_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 2)
    dropped = dropout(taps["fc6"], 0.4, own_keys)
    expected = np.maximum(dropped @ fc7["kernel"] + fc7["bias"], 0)
    np.testing.assert_allclose(taps["fc7"], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(taps["fc7"], taps["embedding"])
    dropped = dropout(taps["fc7"], 0.5, keys)
    expected = dropped @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(taps["logits"], expected, rtol=1e-4, atol=1e-4)

    data = train(model, variables, images(1)[::-1], jax.random.key_data(keys)[::-1])
    np.testing.assert_allclose(data["logits"][::-1], taps["logits"], rtol=1e-4, atol=1e-4)
    for field in ("dropout", "hidden_dropout"):
        with pytest.raises(ValueError, match="needs keys"):
            train(model.clone(**{field: 0.0}), variables, images(1))


@pytest.mark.parametrize(("name", "layer"), [("caffenet", "conv4"), ("vgg16", "conv5_3")])
def test_initial_kernels(name, layer):
    """He's for ReLU, its fan-in that of a group; the head uniform within 0.1 * sqrt(3 / fan_in)."""
    model = tiny(name, num_identities=300)

    @jax.jit
    def kernels(key):
        params = model.init(key, images(0, 1))["params"]
        return [params[name]["kernel"] for name in (layer, "fc6", "identification")]

    *hidden, head = kernels(jax.random.key(0))
    for kernel in hidden:
        fan_in = np.prod(kernel.shape[:-1])
        assert np.std(kernel) == pytest.approx(np.sqrt(2 / fan_in), rel=0.05)
    bound = 0.1 * np.sqrt(3 / len(head))
    assert 0.99 * bound < np.abs(head).max() <= bound


@pytest.mark.parametrize(("name", "width"), [("caffenet", 6), ("vgg16", 8)])
@pytest.mark.slow
def test_trains_from_scratch(name, width):
    """Without batch norm, whether it does hangs on the initialisation, which is repeated here."""
    model = models.build(name, width=width, num_identities=4)
    labels = np.arange(8) % 4
    image = images(1, 8, (48, 40)) + labels[:, None, None, None] * images(2, 1, (48, 40))
    image = (image - image.mean()).astype(np.float32)
    rng = np.random.default_rng(0)

    def initial(path, leaf):
        variance = 0.01 if path[1].key == "identification" else 2
        scale = np.sqrt(variance / np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 0
        return (scale * rng.standard_normal(leaf.shape)).astype(np.float32)

    shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    params = jax.tree_util.tree_map_with_path(initial, shapes)
    optimizer = optax.sgd(0.003, momentum=0.9)

    @jax.jit
    def step(params, state):
        def loss(params):
            logits = model.apply(params, image, train=True)["logits"]
            return losses.identification_loss(logits, labels).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state, values = optimizer.init(params), []
    for _ in range(40):
        params, state, value = step(params, state)
        values.append(float(value))
    assert values[0] == pytest.approx(np.log(4), abs=0.3)
    assert values[-1] < 0.5 * values[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_dtypes(name):
    model = tiny(name, num_identities=5, dtype=jnp.bfloat16)
    variables = initialised(model)
    taps = train(model, variables, images(1))
    assert taps["conv5"].dtype == taps["fc6"].dtype == jnp.bfloat16
    assert taps["embedding"].dtype == taps["logits"].dtype == jnp.float32
    exact = train(model.clone(dtype=None), variables, images(1))
    error = np.linalg.norm(taps["embedding"] - exact["embedding"])
    assert error < 0.1 * np.linalg.norm(exact["embedding"])
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)
        taps = train(model.clone(dtype=None), wide, images(1).astype(np.float64))
        assert {leaf.dtype for leaf in jax.tree.leaves(taps)} == {jnp.dtype(jnp.float64)}


@pytest.mark.parametrize(("name", "convolutions"), [("caffenet", 5 + 1), ("vgg16", 13 + 1)])
def test_lowering_for_a_tpu_has_whole_convolutions(name, convolutions):
    model = tiny(name)
    image = jax.ShapeDtypeStruct((2, *SIZE, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)

    def gradient(variables, image):
        return jax.grad(lambda v: jnp.sum(model.apply(v, image, train=True)["embedding"]))(
            variables
        )

    text = jax.export.export(jax.jit(gradient), platforms=["tpu"])(variables, image).mlir_module()
    # fc6 is a convolution with one position; the image needs no gradient.
    assert executions(text, "stablehlo.convolution") == 3 * convolutions - 1


@pytest.mark.parametrize(("name", "smallest"), [("caffenet", 39), ("vgg16", 32)])
def test_smallest_images(name, smallest):
    model = tiny(name)
    taps = jax.eval_shape(
        lambda image: model.init_with_output(jax.random.key(0), image)[0],
        jax.ShapeDtypeStruct((1, smallest, smallest, 3), jnp.float32),
    )
    assert taps["pool5"].shape[1:3] == (1, 1)
    network = {"caffenet": "CaffeNet", "vgg16": "VGG16"}[name]
    with pytest.raises(ValueError, match=f"{network}: the smallest size that works is {smallest}"):
        model.init(jax.random.key(0), images(0, 1, (smallest, smallest - 1)))


def test_errors():
    with pytest.raises(ValueError, match=r"width=64 does not divide .* multiple of 6"):
        models.build("caffenet", width=64)
    with pytest.raises(ValueError, match="pooling='average' is not known; known: fc, max"):
        models.build("vgg16", pooling="average")
    with pytest.raises(ValueError, match=r"no option stride; known: .*hidden_dropout.*pooling"):
        models.build("vgg16", stride="caffe")
    model = tiny("vgg16")
    with pytest.raises(ValueError, match=r"must be \[B, H, W, 3\] float"):
        model.init(jax.random.key(0), np.zeros((1, 64, 64, 3), np.uint8))
    variables = initialised(model)
    with pytest.raises(ValueError, match=r"maps of 2 x 2 and these images give 2 x 1: .*'max'"):
        model.apply(variables, images(1, size=(64, 32)))
