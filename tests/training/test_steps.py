"""Every model takes steps with its objective, pairs go through the same step, images stay put."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from references import losses as reference
from reid_jax import models, objectives, parallel, training
from reid_jax.training import schedules


def changed_leaves(before, after):
    different = jax.tree.map(
        lambda a, b: bool(np.any(np.asarray(a) != np.asarray(b))), before, after
    )
    return jax.tree.leaves(different)


@pytest.mark.slow  # test_loop.py trains a ResNet of two blocks, test_run.py resnet18
@pytest.mark.parametrize(
    ("model", "method"), [("resnet50", "batch_contrastive"), ("resnet18", "softmax")]
)
def test_every_model_takes_two_steps(model, method):
    model = models.build(model, width=2, num_identities=tiny.IDENTITIES, dropout=0.5)
    optimizer = schedules.sgd(lambda step: 0.01, momentum=0.9, weight_decay=5e-4)
    objective = objectives.softmax()
    if method == "batch_contrastive":
        objective = objectives.batch_contrastive(margin=1.0, center_rate=0.5, loss_weight=1.0)
    state = training.create_state(
        model,
        optimizer,
        jnp.zeros((1, *tiny.IMAGE)),
        key=jax.random.key(0),
        loss_state=objective.init(np.arange(tiny.IDENTITIES), 64),
    )
    step = jax.jit(
        training.make_train_step(model, optimizer, objective, preprocess=tiny.preprocess)
    )
    first = state
    for number in range(2):
        state, metrics = step(state, tiny.batch_at(number))
    assert int(state.step) == 2
    assert np.isfinite(metrics["loss"])
    assert all(changed_leaves(first.params, state.params))
    assert all(changed_leaves(first.batch_stats, state.batch_stats))


@pytest.mark.slow
def test_frozen_batch_norm_keeps_its_averages():
    model = models.build(
        "resnet18", width=2, num_identities=tiny.IDENTITIES, freeze_batch_norm=True
    )
    optimizer = schedules.sgd(lambda step: 0.01, momentum=0.9, weight_decay=5e-4)
    state = training.create_state(
        model, optimizer, jnp.zeros((1, *tiny.IMAGE)), key=jax.random.key(0)
    )
    rng = np.random.default_rng(0)
    averages = jax.tree.map(
        lambda leaf: rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32), state.batch_stats
    )
    state = state.replace(batch_stats=averages)
    step = training.make_train_step(
        model, optimizer, objectives.softmax(), preprocess=tiny.preprocess
    )
    after, _ = jax.jit(step)(state, tiny.batch_at(0))
    jax.tree.map(np.testing.assert_array_equal, after.batch_stats, averages)
    for part in (("conv1", "kernel"), ("bn1", "scale")):
        before, now = (tree[part[0]][part[1]] for tree in (state.params, after.params))
        assert np.abs(now - before).max() > 0
    # The training pass is the test pass, and without the switch it is not.
    image = rng.normal(size=(4, *tiny.IMAGE)).astype(np.float32)
    logits = {
        (frozen, train): model.clone(freeze_batch_norm=frozen).apply(
            state.variables, image, train=train, mutable=["batch_stats"]
        )[0]["logits"]
        for frozen, train in ((True, True), (True, False), (False, True))
    }
    np.testing.assert_array_equal(logits[True, True], logits[True, False])
    assert np.abs(logits[False, True] - logits[True, True]).max() > 1e-3


@pytest.mark.usefixtures("float64")
def test_centers_may_follow_the_learning_rate():
    rng = np.random.default_rng(4)
    rates = [0.3, 0.3, 0.03]
    objective = objectives.batch_contrastive(
        margin=1.0, center_rate=lambda step: jnp.array(rates)[step], loss_weight=1.0
    )
    labels = np.array([0, 2, 2, 1, 0, 2])
    state, expected = objective.init(labels, 3), np.zeros((3, 3))
    for rate in rates:
        outputs = {"embedding": rng.normal(size=(6, 3)), "logits": rng.normal(size=(6, 3))}
        _, (state, _) = jax.jit(objective.loss)(outputs, {"identity": labels}, state)
        unit = outputs["embedding"] / np.linalg.norm(outputs["embedding"], axis=1)[:, None]
        expected = reference.updated_centers(expected, unit, labels, rate)
    np.testing.assert_allclose(state.state.centers, expected, atol=1e-12)
    assert state.step == 3


def test_a_batch_without_positive_pairs_logs_nothing_for_them():
    same = jnp.zeros(4, bool)
    mean = parallel.mean(jnp.ones(4), same, axis_name=None, empty=jnp.nan)
    assert np.isnan(mean)
    assert parallel.mean(jnp.ones(4), same, axis_name=None) == 0


@pytest.mark.slow  # bit for bit, see Makefile
def test_resident_images_give_the_same_step():
    step, state = tiny.make("batch_contrastive")
    batch = tiny.batch_at(0)
    rows = np.random.default_rng(0).permutation(tiny.BATCH).astype(np.int32)
    images = np.empty_like(batch["image"])
    images[rows] = batch["image"]
    expected = jax.jit(step)(state, batch)
    without = {name: value for name, value in batch.items() if name != "image"} | {"row": rows}
    resident = jax.jit(training.with_resident_images(step))(state, without, images)
    jax.tree.map(np.testing.assert_array_equal, resident, expected)


def test_preprocessing_without_keys_is_refused():
    step, state = tiny.make("softmax")
    batch = tiny.batch_at(0)
    del batch["key"]
    with pytest.raises(ValueError, match="no 'key'"):
        step(state, batch)


def test_fig1_distances_against_loops():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(7, 3)).astype(np.float32), np.array([0, 1, 1, 2, 0, 3, 1])
    pairs = [
        (labels[i] == labels[j], np.linalg.norm(x[i] - x[j]))
        for i in range(7)
        for j in range(7)
        if i != j
    ]
    ours = objectives.batch_distances(jnp.asarray(x), jnp.asarray(labels))
    intra = [d for same, d in pairs if same]
    inter = [d for same, d in pairs if not same]
    np.testing.assert_allclose(ours["intra_distance"], np.mean(intra), rtol=1e-5)
    np.testing.assert_allclose(ours["inter_distance_mean"], np.mean(inter), rtol=1e-5)
    np.testing.assert_allclose(ours["inter_distance_min"], np.min(inter), rtol=1e-5)
    alone = objectives.batch_distances(jnp.asarray(x), jnp.arange(7))
    assert np.isnan(alone["intra_distance"])
    assert np.isnan(alone["inter_distance_min"])
    assert np.isfinite(alone["inter_distance_mean"])
