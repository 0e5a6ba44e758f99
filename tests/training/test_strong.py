"""The strong baseline: its sum term by term, BNNeck, weights that fit it, any number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import tiny
import tiny_embedders

from references import losses as reference
from reid_jax import Scoring, export, models, objectives, parallel, training
from reid_jax.pretrained import load_weights, torchvision_state
from reid_jax.training import schedules

ROWS, DIM, IDENTITIES = 9, 4, 5
WHOLE = {
    "margin": 0.3,
    "triplet_weight": 0.7,
    "label_smoothing": 0.1,
    "center_weight": 0.02,
    "center_rate": 0.4,
}
VARIANTS = {
    "whole": WHOLE,
    "without centers": WHOLE | {"center_weight": 0.0},
    "without triplets": WHOLE | {"triplet_weight": 0.0},
    "plain labels": WHOLE | {"label_smoothing": 0.0},
}


def example(seed):
    """Rows of which one identity is alone and one is absent."""
    rng = np.random.default_rng(seed)
    outputs = {
        "before_neck": 0.6 * rng.normal(size=(ROWS, DIM)) + 0.2,
        "embedding": rng.normal(size=(ROWS, DIM)),
        "logits": rng.normal(size=(ROWS, IDENTITIES)),
    }
    labels = rng.permutation([0, 0, 0, 1, 1, 2, 2, 2, 4]).astype(np.int32)
    return outputs, {"identity": labels}, rng.normal(size=(IDENTITIES, DIM))


def by_hand(outputs, labels, centers, constants):
    features = outputs["before_neck"]
    smoothing = constants["label_smoothing"]
    total = 0.0
    for logits, label in zip(outputs["logits"], labels, strict=True):
        for k in range(IDENTITIES):
            target = smoothing / IDENTITIES + (1 - smoothing if k == label else 0.0)
            total -= target * (logits[k] - np.log(np.exp(logits).sum())) / ROWS
    triplets = reference.batch_hard_triplet(features, labels, constants["margin"])
    total += constants["triplet_weight"] * sum(triplets) / ROWS
    return total + constants["center_weight"] * sum(reference.center(features, labels, centers))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_sum_its_gradient_and_the_centers(variant, seed):
    constants = VARIANTS[variant]
    outputs, batch, centers = example(seed)
    objective = objectives.strong(**constants)
    state = objective.init(np.arange(IDENTITIES), DIM)
    assert (state is None) == (constants["center_weight"] == 0)
    if state is not None:
        state = state.replace(centers=jnp.asarray(centers))
    run = jax.jit(jax.value_and_grad(lambda o: objective.loss(o, batch, state), has_aux=True))
    (value, (after, metrics)), gradients = run(outputs)

    labels = batch["identity"]
    np.testing.assert_allclose(value, by_hand(outputs, labels, centers, constants), rtol=1e-10)
    for name, array in outputs.items():
        changed = lambda x, name=name: by_hand({**outputs, name: x}, labels, centers, constants)
        expected = reference.finite_difference(changed, array)
        np.testing.assert_allclose(gradients[name], expected, rtol=1e-5, atol=1e-7, err_msg=name)
    assert not gradients["embedding"].any()
    if after is not None:
        features = outputs["before_neck"]
        moved = reference.updated_centers(centers, features, labels, constants["center_rate"])
        np.testing.assert_allclose(after.centers, moved, rtol=1e-10)
    assert ("triplet_loss" in metrics) == (constants["triplet_weight"] > 0)


@pytest.mark.usefixtures("float64")
def test_without_a_neck_all_losses_see_the_embedding():
    outputs, batch, centers = example(0)
    plain = {"embedding": outputs["before_neck"], "logits": outputs["logits"]}
    objective = objectives.strong(**VARIANTS["without centers"])
    expected = by_hand(outputs, batch["identity"], centers, VARIANTS["without centers"])
    np.testing.assert_allclose(objective.loss(plain, batch, None)[0], expected, rtol=1e-10)


def test_notes_are_of_what_is_used():
    assert objectives.strong(margin=0.3).notes == ()
    assert any("zero" in note for note in objectives.strong(**WHOLE).notes)


# Network ---------------------------------------------------------------------------------------


def network(**options):
    return models.ResNet((1, 1), False, width=4, num_identities=IDENTITIES, neck=True, **options)


@functools.cache
def variables_of_neck():
    model = network()
    image = jnp.zeros((2, 32, 32, 3))
    variables = jax.device_get(tiny.init(model, image))
    rng = np.random.default_rng(0)
    variables["params"]["neck"]["scale"] = rng.uniform(0.5, 2, 8).astype(np.float32)
    variables["batch_stats"]["neck"] = {
        "mean": rng.normal(size=8).astype(np.float32),
        "var": rng.uniform(0.5, 2, 8).astype(np.float32),
    }
    return model, variables


def test_the_neck_is_a_batch_norm_without_shift_before_a_head_without_bias():
    model, variables = variables_of_neck()
    assert set(variables["params"]["neck"]) == {"scale"}
    assert set(variables["params"]["identification"]) == {"kernel"}
    image = np.random.default_rng(1).normal(size=(6, 32, 32, 3)).astype(np.float32)
    taps = jax.device_get(tiny.apply(model, variables, image))
    np.testing.assert_array_equal(taps["before_neck"], taps["pool5"])
    scale, stats = variables["params"]["neck"]["scale"], variables["batch_stats"]["neck"]
    expected = scale * (taps["pool5"] - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    np.testing.assert_allclose(taps["embedding"], expected, rtol=1e-5, atol=1e-5)
    logits = taps["embedding"] @ variables["params"]["identification"]["kernel"]
    np.testing.assert_allclose(taps["logits"], logits, rtol=1e-5, atol=1e-5)
    taps, _ = tiny.apply(model, variables, image, train=True, mutable=["batch_stats"])
    x = np.asarray(taps["pool5"], np.float64)
    expected = scale * (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    np.testing.assert_allclose(taps["embedding"], expected, rtol=1e-4, atol=1e-4)


def test_the_neck_stays_where_images_are_embedded():
    model, variables = variables_of_neck()
    single, own = models.single_image(model, variables)
    assert set(own["params"]) == set(variables["params"]) - {"identification"}
    image = np.random.default_rng(2).normal(size=(3, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        tiny.apply(single, own, image)["embedding"],
        tiny.apply(model, variables, image)["embedding"],
    )


@pytest.mark.parametrize(("last_stride", "shape"), [(1, (4, 2)), (2, (2, 1))])
def test_the_last_stride_is_the_size_of_the_last_map(last_stride, shape):
    model = models.build("resnet50", width=4, last_stride=last_stride)
    image = jax.ShapeDtypeStruct((1, 64, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    taps = jax.eval_shape(model.apply, variables, image)
    assert taps["res4"].shape[1:3] == (4, 2)
    assert taps["res5"].shape[1:3] == shape
    with pytest.raises(ValueError, match=r"last_stride=3 is not known; known: 1, 2"):
        models.build("resnet50", last_stride=3)


@pytest.mark.parametrize("options", [{"neck": True}, {"last_stride": 1}])
def test_what_stands_on_the_plain_network_refuses_the_other(tmp_path, options):
    embedder = tiny_embedders.embedder("resnet18", width=4, **options)
    with pytest.raises(ValueError, match="has no neck and the last stride 2"):
        export.torchvision_safetensors(embedder, tmp_path / "model.safetensors")
    dense = tiny_embedders.embedder(
        "resnet18", width=4, scoring=Scoring(test_mode="dense_flip"), **options
    )
    with pytest.raises(ValueError, match="take test_mode=single"):
        dense.check()


@pytest.mark.parametrize("num_identities", [None, 7, 5])
@pytest.mark.slow
def test_weights_of_the_plain_network_fit_and_the_neck_is_kept(tmp_path, num_identities):
    plain = models.build("resnet18", width=4, num_identities=7)
    image = jnp.zeros((1, 32, 32, 3))
    path = tmp_path / "weights.safetensors"
    tensors = torchvision_state(plain, jax.device_get(tiny.init(plain, image, seed=1)))
    safetensors.numpy.save_file(tensors, path)
    model = plain.clone(neck=True, last_stride=1, num_identities=num_identities)
    variables = jax.device_get(tiny.init(model, image))
    loaded, report = load_weights(path, model, variables)
    kept = [f"batch_stats/neck/{name}" for name in ("mean", "var")] + ["params/neck/scale"]
    if num_identities:
        kept.append("params/identification/kernel")
    assert sorted(report["kept"]) == sorted(kept)
    assert set(report["left_out"]) == {"fc.weight", "fc.bias"}
    np.testing.assert_array_equal(
        loaded["params"]["conv1"]["kernel"], tensors["conv1.weight"].transpose(2, 3, 1, 0)
    )


# Devices ---------------------------------------------------------------------------------------


def make(axis_name=None):
    model = models.ResNet(
        (1, 1), False, width=4, num_identities=tiny.IDENTITIES, dropout=0.5, neck=True
    )
    objective = objectives.strong(**WHOLE)
    schedule = schedules.warm_up(
        schedules.cosine_decay(0.01, num_steps=9, first_step=2), num_steps=2, start=0.1
    )
    optimizer = schedules.adam(schedule, weight_decay=5e-4)
    state = training.create_state(
        model,
        optimizer,
        jnp.zeros((1, *tiny.IMAGE)),
        key=jax.random.key(0),
        loss_state=objective.init(np.arange(tiny.IDENTITIES), 8),
    )
    state = jax.tree.map(
        lambda x: np.asarray(x, np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, state
    )
    step = training.make_train_step(
        model, optimizer, objective, axis_name=axis_name, preprocess=tiny.preprocess
    )
    return step, state


@functools.cache
def on_one():
    step, state = make()
    step, before = jax.jit(step), state.params
    for number in range(2):
        state, metrics = step(state, tiny.batch_at(number))
    moved = jax.tree.map(lambda a, b: bool(np.any(np.asarray(a) != b)), before, state.params)
    assert all(jax.tree.leaves(moved))
    return jax.device_get((state, metrics))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "num_devices", [8, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 4))]
)
def test_any_number_of_devices_gives_the_same_step(num_devices):
    step, state = make(parallel.AXIS)
    devices = jax.local_devices()[:num_devices]
    step, state = parallel.pmap_step(step, devices), parallel.replicate(state, devices)
    for number in range(2):
        state, metrics = step(state, parallel.shard(tiny.batch_at(number), devices))
    for leaf in jax.tree.leaves((state, metrics)):
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(np.asarray(shard.data), np.asarray(leaf))
    tiny.assert_close(jax.device_get((state, metrics)), on_one(), 1e-10)
