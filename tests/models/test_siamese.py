"""Siamese: shared parameters, separate statistics, both verification heads."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from references import models as reference
from reid_jax import models
from reid_jax.models.dropout import dropout


def images(seed, rows=4):
    rng = np.random.default_rng(seed)
    return (rng.gamma(2.0, 1.0, (rows, 64, 32, 3)) - 1).astype(np.float32)


def siamese(verification, **options):
    backbone = models.ResNet((1, 1, 1, 1), False, width=4)
    return models.Siamese(backbone, verification, **options)


def initialised(model):
    return reference.variables(model, images(0, 1), images(1, 1))


@functools.partial(jax.jit, static_argnums=0)
def train(model, variables, a, b, **keys):
    return model.apply(variables, a, b, train=True, mutable=["batch_stats"], **keys)


@functools.partial(jax.jit, static_argnums=0)
def evaluate(model, variables, *images):
    return model.apply(variables, *images, train=False)


def test_square_head_by_hand_and_shared_parameters():
    model = siamese("square", num_identities=5)
    variables = initialised(model)
    outputs = evaluate(model, variables, images(1), images(2))
    assert {name: array.shape for name, array in outputs.items()} == {
        "embedding_a": (4, 32),
        "embedding_b": (4, 32),
        "logits_a": (4, 5),
        "logits_b": (4, 5),
        "pair_logits": (4, 2),
    }
    alone = models.backbone_variables(variables)
    for stream, image in (("a", images(1)), ("b", images(2))):
        taps = evaluate(model.backbone, alone, image)
        np.testing.assert_allclose(outputs[f"embedding_{stream}"], taps["embedding"], atol=1e-5)
        np.testing.assert_allclose(outputs[f"logits_{stream}"], taps["logits"], atol=1e-5)
    head = variables["params"]["verification_head"]
    squared = (outputs["embedding_a"] - outputs["embedding_b"]) ** 2
    np.testing.assert_allclose(
        outputs["pair_logits"], squared @ head["kernel"] + head["bias"], atol=1e-5
    )
    swapped = evaluate(model, variables, images(2), images(1))
    np.testing.assert_allclose(swapped["pair_logits"], outputs["pair_logits"], atol=1e-5)


def test_relu_difference_head_by_hand():
    model = siamese("relu_diff")
    variables = initialised(model)
    outputs = evaluate(model, variables, images(1), images(2))
    assert set(outputs) == {"embedding_a", "embedding_b", "pair_logits"}
    hidden, head = (
        variables["params"][name] for name in ("verification_hidden", "verification_head")
    )
    assert hidden["kernel"].shape == (32, 512)
    x = np.maximum(outputs["embedding_a"] - outputs["embedding_b"], 0)
    x = x @ hidden["kernel"] + hidden["bias"]
    x = np.where(x > 0, x, 0.2 * x)
    np.testing.assert_allclose(outputs["pair_logits"], x @ head["kernel"] + head["bias"], atol=1e-5)


def test_training_is_two_calls_from_the_same_statistics(float64):
    model = siamese("square", num_identities=5)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), initialised(model))
    a, b = images(1).astype(np.float64), 3 * images(2).astype(np.float64)
    outputs, updates = train(model, variables, a, b)
    one = model.backbone.clone(num_streams=1)
    alone = models.backbone_variables(variables)
    moved = []
    for stream, image in (("a", a), ("b", b)):
        taps, update = jax.jit(
            lambda image: one.apply(alone, image, train=True, mutable=["batch_stats"])
        )(image)
        np.testing.assert_allclose(outputs[f"embedding_{stream}"], taps["embedding"], rtol=1e-9)
        moved.append(update["batch_stats"])
    jax.tree.map(
        lambda got, a, b: np.testing.assert_allclose(got, (a + b) / 2, rtol=1e-9, atol=1e-12),
        updates["batch_stats"]["backbone"],
        *moved,
    )


@pytest.mark.slow
def test_dropout_of_each_branch():
    model = siamese("square", num_identities=5, dropout=0.5)
    variables = initialised(model)
    keys_a, keys_b = (jax.random.split(jax.random.key(i), 4) for i in (1, 2))
    outputs, _ = train(model, variables, images(1), images(2), keys_a=keys_a, keys_b=keys_b)
    identification, verification = (
        lambda x, head=head: x @ head["kernel"] + head["bias"]
        for head in (
            variables["params"]["backbone"]["identification"],
            variables["params"]["verification_head"],
        )
    )
    for stream, keys in (("a", keys_a), ("b", keys_b)):
        dropped = dropout(outputs[f"embedding_{stream}"], 0.5, keys)
        np.testing.assert_allclose(outputs[f"logits_{stream}"], identification(dropped), atol=1e-4)
    squared = (outputs["embedding_a"] - outputs["embedding_b"]) ** 2
    own_keys = jax.vmap(jax.random.fold_in, (0, None))(keys_a, 1)
    dropped = dropout(squared, 0.5, own_keys)
    np.testing.assert_allclose(outputs["pair_logits"], verification(dropped), atol=1e-4)
    data, _ = train(
        model,
        variables,
        images(1),
        images(2),
        keys_a=jax.random.key_data(keys_a),
        keys_b=jax.random.key_data(keys_b),
    )
    np.testing.assert_array_equal(data["pair_logits"], outputs["pair_logits"])
    with pytest.raises(ValueError, match="keys_a and keys_b"):
        train(model, variables, images(1), images(2), keys_a=keys_a)


def test_devices_share_the_pairs(float64):
    devices = 4
    model = siamese("square", num_identities=5, dropout=0.5)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), initialised(model))
    a, b = images(1, 8).astype(np.float64), 2 * images(2, 8).astype(np.float64)
    keys = [jax.random.key_data(jax.random.split(jax.random.key(i), 8)) for i in (1, 2)]
    full, updates = train(model, variables, a, b, keys_a=keys[0], keys_b=keys[1])
    shared = model.clone(axis_name="rows")
    assert shared.backbone.axis_name == "rows"

    def split(rows):
        return np.reshape(rows, (devices, -1, *rows.shape[1:]))

    outputs, shared_updates = jax.pmap(
        lambda a, b, ka, kb: train(shared, variables, a, b, keys_a=ka, keys_b=kb),
        axis_name="rows",
        devices=jax.devices()[:devices],
    )(split(a), split(b), split(keys[0]), split(keys[1]))
    for name, array in full.items():
        joined = outputs[name].reshape(array.shape)
        np.testing.assert_allclose(joined, array, rtol=0, atol=1e-10 * np.abs(array).max())
    for replica in range(devices):
        jax.tree.map(
            lambda got, expected: np.testing.assert_allclose(
                got[replica],  # noqa: B023
                expected,
                rtol=1e-10,
                atol=1e-12,
            ),
            shared_updates,
            updates,
        )


class Pixels(nn.Module):
    """A backbone whose embedding is the image."""

    num_identities: int | None = None
    dropout: float = 0.0
    axis_name: str | None = None
    num_streams: int = 1

    def __call__(self, image, *, train=False, keys=None):
        return {"embedding": image.reshape(len(image), -1)}


def test_square_layer_and_its_gradients_through_the_module(float64):
    """f_s = (a - b)^2, not summed; +-2 (a - b) delta to the streams."""
    model = models.Siamese(Pixels(), "square")
    rng = np.random.default_rng(0)
    a, b = rng.gamma(2.0, 1.0, (2, 3, 2, 2, 3))
    kernel, bias = rng.standard_normal((12, 2)), rng.standard_normal(2)
    variables = {"params": {"verification_head": {"kernel": kernel, "bias": bias}}}
    delta_logits = rng.standard_normal((3, 2))

    def pair_logits(a, b):
        return model.apply(variables, a, b, train=True)["pair_logits"]

    got, vjp = jax.vjp(pair_logits, a, b)
    difference = (a - b).reshape(3, 12)
    np.testing.assert_allclose(got, difference**2 @ kernel + bias, rtol=1e-12)
    da, db = vjp(jnp.asarray(delta_logits))
    delta = delta_logits @ kernel.T
    np.testing.assert_allclose(da.reshape(3, 12), 2 * difference * delta, rtol=1e-12)
    np.testing.assert_allclose(db.reshape(3, 12), -2 * difference * delta, rtol=1e-12)


def test_the_order_of_the_streams_does_not_matter(float64):
    model = siamese("square", num_identities=5)
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), initialised(model))
    a, b = images(1).astype(np.float64), 3 * images(2).astype(np.float64) + 1
    (one, moved), (other, moved_other) = (
        train(model, variables, a, b),
        train(model, variables, b, a),
    )
    for name, swapped in {
        "embedding_a": "embedding_b",
        "embedding_b": "embedding_a",
        "logits_a": "logits_b",
        "logits_b": "logits_a",
        "pair_logits": "pair_logits",
    }.items():
        np.testing.assert_allclose(one[name], other[swapped], rtol=1e-10, atol=1e-12)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12), moved, moved_other
    )
    # The statistics of one stream do not reach the other.
    (alone, _), scale = train(model, variables, a, 7 * b), np.abs(one["embedding_a"]).max()
    np.testing.assert_allclose(alone["embedding_a"], one["embedding_a"], atol=1e-10 * scale)


@pytest.mark.slow
def test_without_a_verification_head_nothing_else_changes():
    model = siamese("none", num_identities=5, dropout=0.5)
    variables = initialised(model)
    assert set(variables["params"]) == {"backbone"}
    keys = {f"keys_{s}": jax.random.split(jax.random.key(i), 4) for i, s in enumerate("ab")}
    outputs, _ = train(model, variables, images(1), images(2), **keys)
    assert set(outputs) == {"embedding_a", "embedding_b", "logits_a", "logits_b"}
    whole, _ = train(siamese("none", num_identities=5), variables, images(1), images(2))
    for stream in "ab":
        np.testing.assert_array_equal(outputs[f"embedding_{stream}"], whole[f"embedding_{stream}"])
        assert np.abs(outputs[f"logits_{stream}"] - whole[f"logits_{stream}"]).max() > 1e-3


def test_dropout_before_the_square_layer():
    """Both heads see the same dropped embeddings."""
    model = siamese("square", num_identities=5, dropout=0.5, verification_dropout="before_square")
    variables = initialised(model)
    keys_a, keys_b = (jax.random.split(jax.random.key(i), 4) for i in (1, 2))
    outputs, _ = train(model, variables, images(1), images(2), keys_a=keys_a, keys_b=keys_b)
    a = dropout(outputs["embedding_a"], 0.5, keys_a)
    b = dropout(outputs["embedding_b"], 0.5, keys_b)
    head = variables["params"]["verification_head"]
    expected = (a - b) ** 2 @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(outputs["pair_logits"], expected, atol=1e-4)
    head = variables["params"]["backbone"]["identification"]
    np.testing.assert_allclose(outputs["logits_b"], b @ head["kernel"] + head["bias"], atol=1e-4)


def test_hidden_dropout_of_the_backbone_gets_the_keys():
    backbone = models.build("vgg16", width=4, hidden_dropout=0.5)
    model = models.Siamese(backbone, "square", num_identities=5)
    variables = reference.variables(model, images(0, 1), images(1, 1))
    with pytest.raises(ValueError, match="keys_a and keys_b"):
        train(model, variables, images(1), images(2))
    keys_a, keys_b = (jax.random.split(jax.random.key(i), 4) for i in (1, 2))
    outputs, updates = train(model, variables, images(1), images(2), keys_a=keys_a, keys_b=keys_b)
    assert not updates
    alone = models.backbone_variables(variables)
    for stream, image, keys in (("a", images(1), keys_a), ("b", images(2), keys_b)):
        taps, _ = jax.jit(
            lambda image, keys: model.backbone.clone(num_streams=1).apply(
                alone, image, train=True, keys=keys, mutable=["batch_stats"]
            )
        )(image, keys)
        np.testing.assert_allclose(outputs[f"embedding_{stream}"], taps["embedding"], atol=1e-5)
        np.testing.assert_allclose(outputs[f"logits_{stream}"], taps["logits"], atol=1e-5)


def test_errors():
    with pytest.raises(
        ValueError, match="'after' is not known; known: after_square, before_square"
    ):
        siamese("square", verification_dropout="after")
    with pytest.raises(ValueError, match="'cosine' is not known; known: square, relu_diff, none"):
        siamese("cosine")
    backbone = models.build("resnet18", num_identities=7)
    with pytest.raises(ValueError, match="num_identities=7 and the siamese network 5"):
        models.Siamese(backbone, "square", num_identities=5)
    model = siamese("square")
    with pytest.raises(ValueError, match="must have one shape"):
        model.init(jax.random.key(0), images(0, 1), images(0, 2))
    assert isinstance(siamese("square"), nn.Module)
