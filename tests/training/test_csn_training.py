"""Csn: its terms, their switches, and the same parameters on any number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from references import csn as reference
from reid_jax import augment, models, objectives, parallel, training
from reid_jax.keys import batch_keys
from reid_jax.training import schedules

PAIRS, IMAGE = 8, (20, 12, 3)
CONSTANTS = {
    "ranking_weight": 1.0,
    "margin": 1.0,
    "prior_weight": 0.1,
    "min_scale": 0.1,
    "limit": 1.0,
}


def objective(**changes):
    return objectives.csn(**{**CONSTANTS, **changes})


def problem(seed):
    rng = np.random.default_rng(seed)
    outputs = {"pair_logits": rng.normal(size=(PAIRS, 2))}
    for name in ("descriptor_a", "descriptor_b"):
        vectors = rng.normal(size=(PAIRS, 5)) + 1
        outputs[name] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for level in (2, 3):
        for side in "ab":
            outputs[f"theta{level}_{side}"] = rng.normal(0.2 * level, 0.7, (PAIRS, 3, 6))
    return outputs, {"same": rng.random(PAIRS) < 0.4}


def terms_by_loops(outputs, same):
    """(cross-entropy, contrastive, prior) as the papers' sums."""
    classification = contrastive = prior = 0.0
    for pair in range(PAIRS):
        logits = outputs["pair_logits"][pair]
        classification -= logits[int(same[pair])] - np.log(np.exp(logits).sum())
        d = np.sqrt(((outputs["descriptor_a"] - outputs["descriptor_b"])[pair] ** 2).sum())
        contrastive += 0.5 * (d**2 if same[pair] else max(0.0, 1.0 - d) ** 2)
    for level in (2, 3):
        rows = np.concatenate([outputs[f"theta{level}_{side}"].reshape(-1, 6) for side in "ab"])
        prior += sum(reference.stn_prior(row, 0.1, 1.0) for row in rows) / len(rows)
    return classification / PAIRS, contrastive / PAIRS, prior


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_terms_are_the_means_of_the_paper(seed, float64):
    outputs, batch = problem(seed)
    classification, contrastive, prior = terms_by_loops(outputs, batch["same"])
    loss, (state, metrics) = objective().loss(outputs, batch, None)
    assert state is None
    np.testing.assert_allclose(loss, classification + contrastive + 0.1 * prior, rtol=1e-10)
    np.testing.assert_allclose(metrics["verification_loss"], classification, rtol=1e-10)
    np.testing.assert_allclose(metrics["contrastive_loss"], contrastive, rtol=1e-10)
    np.testing.assert_allclose(metrics["stn_prior"], prior, rtol=1e-10)


def test_terms_on_devices_are_those_of_the_whole_batch(float64):
    """Positive pairs fall unevenly on the devices, and one has none."""
    outputs, _ = problem(5)
    batch = {"same": np.arange(PAIRS) < 3}
    loss = lambda outputs, batch, axis: objective().loss(outputs, batch, None, axis_name=axis)
    whole = jax.value_and_grad(loss, has_aux=True)
    (expected, (_, metrics)), slopes = jax.jit(whole, static_argnums=2)(outputs, batch, None)
    devices = jax.local_devices()[:4]

    def on_device(outputs, batch):
        (value, (_, metrics)), slopes = whole(outputs, batch, parallel.AXIS)
        return value, metrics, slopes

    mapped = jax.pmap(on_device, parallel.AXIS, devices=devices)
    split = lambda leaf: leaf.reshape(4, -1, *leaf.shape[1:])
    value, found, parts = jax.device_get(mapped(*jax.tree.map(split, (outputs, batch))))
    tiny.assert_close(value, np.full(4, expected), 1e-10)
    tiny.assert_close(found, jax.tree.map(lambda x: np.full(4, x), metrics), 1e-10)
    # Each device's loss is the whole batch's, so a row's slope is that of all four together.
    joined = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]) / 4, parts)
    tiny.assert_close(joined, jax.device_get(slopes), 1e-10)


def test_rows_without_ranking_and_without_transformers(float64):
    outputs, batch = problem(3)
    classification, contrastive, prior = terms_by_loops(outputs, batch["same"])
    bare = {"pair_logits": outputs["pair_logits"]}
    loss, (_, metrics) = objective(ranking_weight=0, prior_weight=0).loss(bare, batch, None)
    np.testing.assert_allclose(loss, classification, rtol=1e-10)
    assert set(metrics) == {"verification_loss", "verification_accuracy"}
    no_ranking = {name: value for name, value in outputs.items() if "descriptor" not in name}
    loss, _ = objective(ranking_weight=0).loss(no_ranking, batch, None)
    np.testing.assert_allclose(loss, classification + 0.1 * prior, rtol=1e-10)
    with pytest.raises(ValueError, match="ranking=True, or take ranking_weight=0"):
        objective().loss(no_ranking, batch, None)
    no_transformer = {name: value for name, value in outputs.items() if "theta" not in name}
    loss, _ = objective(prior_weight=0).loss(no_transformer, batch, None)
    np.testing.assert_allclose(loss, classification + contrastive, rtol=1e-10)
    with pytest.raises(ValueError, match="attention='stn', or take prior_weight=0"):
        objective().loss(no_transformer, batch, None)


@pytest.mark.parametrize("same", [True, False])
def test_equal_descriptors_have_a_finite_gradient(same):
    outputs, _ = problem(4)
    outputs["descriptor_b"] = outputs["descriptor_a"]
    batch = {"same": np.full(PAIRS, same)}
    gradient, (_, metrics) = jax.grad(
        lambda outputs: objective().loss(outputs, batch, None), has_aux=True
    )(outputs)
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()
    # A kind of pair that the batch has not is null in the log.
    assert np.isnan(metrics["negative_distance" if same else "positive_distance"])
    assert metrics["positive_distance" if same else "negative_distance"] == 0


def batch_at(step):
    """Positive pairs fall unevenly on the devices."""
    rng = np.random.default_rng(step)
    return {
        "image_a": rng.integers(0, 256, (PAIRS, *IMAGE), dtype=np.uint8),
        "image_b": rng.integers(0, 256, (PAIRS, *IMAGE), dtype=np.uint8),
        "same": np.arange(PAIRS) < 3,
        "key_a": batch_keys(1, step, PAIRS),
        "key_b": batch_keys(2, step, PAIRS),
    }


def preprocess(images, keys):
    images = augment.random_shift(images, keys, padding=1)
    return augment.standardise(images, mean=np.full(3, 120.0), std=np.full(3, 64.0))


def network(levels):
    model = models.build("csn", levels=levels, width=6)
    return model, schedules.adam(lambda step: 5e-4, weight_decay=5e-4)


@functools.cache
def initial(levels):
    model, optimizer = network(levels)
    image = np.zeros((1, *IMAGE), np.float32)
    with jax.enable_x64(False):
        state = training.create_state(model, optimizer, image, image, key=jax.random.key(1))
    return model, optimizer, jax.device_get(state)


def trained(num_devices, levels):
    """The state after two steps in float64; None devices is jit."""
    model, optimizer, state = initial(levels)
    cast = lambda x: x.astype(np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x
    state = jax.tree.map(cast, state)
    axis_name = None if num_devices is None else parallel.AXIS
    step = training.make_train_step(
        model, optimizer, objective(), axis_name=axis_name, preprocess=preprocess
    )
    if num_devices is None:
        run = jax.jit(step)
        for number in range(2):
            state, metrics = run(state, batch_at(number))
    else:
        devices = jax.local_devices()[:num_devices]
        run, state = parallel.pmap_step(step, devices), parallel.replicate(state, devices)
        for number in range(2):
            state, metrics = run(state, parallel.shard(batch_at(number), devices))
        for leaf in jax.tree.leaves((state, metrics)):
            for shard in leaf.addressable_shards:
                np.testing.assert_array_equal(np.asarray(shard.data), np.asarray(leaf))
    return jax.device_get((state, metrics))


@functools.cache
def on_one(levels):
    return trained(None, levels)


@pytest.mark.slow  # test_terms_on_devices_are_those_of_the_whole_batch has the terms alone
@pytest.mark.parametrize(
    ("num_devices", "levels"), [(4, "l3"), *((n, "l2l3") for n in (1, 2, 4, 8))]
)
def test_devices_agree_in_float64(num_devices, levels, float64):
    tiny.assert_close(trained(num_devices, levels), on_one(levels), 1e-10)


def test_the_step_trains_every_parameter(float64):
    (state, metrics), (_, _, first) = on_one("l3"), initial("l3")
    assert np.isfinite(metrics["loss"])
    moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), state.params, first.params)
    still = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(moved)
        if not leaf
    ]
    assert not still


def test_the_step_lowers_for_a_tpu_with_the_grouped_convolution():
    model, optimizer = network("l3")
    image = np.zeros((1, *IMAGE), np.float32)
    fresh = lambda key: training.create_state(model, optimizer, image, image, key=key)
    state = jax.eval_shape(fresh, jax.random.key(1))
    step = training.make_train_step(model, optimizer, objective(), preprocess=preprocess)
    exported = jax.export.export(jax.jit(step), platforms=["tpu"])(state, batch_at(0))
    # Both images' maps with three parts: forward, and both gradients.
    groups = f"feature_group_count = {2 * PAIRS * 6}"
    assert exported.mlir_module().count(groups) == 3 * 3
