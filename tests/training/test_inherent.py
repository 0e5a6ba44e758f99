"""Inherent: Eq. 4, where the mean codes come from, the triplet baseline, any number of devices."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from references import center_methods as reference
from references import losses as reference_losses
from references.losses import finite_difference
from reid_jax import objectives, parallel, training
from reid_jax.keys import batch_keys
from reid_jax.models.norm import BatchNorm
from reid_jax.objectives import mean_codes
from reid_jax.objectives.mean_codes import MeanCodes
from reid_jax.training import schedules

ROWS, DIM, IMAGES = 8, 3, 13
LABELS = np.array([0, 1, 2, 3, 4, 0, 1, 1, 2, 0, 0, 3, 4], np.int32)
IDENTITIES = 5
WEIGHTS = {"compact_weight": 0.3, "scatter_weight": 0.02}
MEANS = {
    "exact": objectives.exact_means(),
    "bank": objectives.bank_means(),
    "batch": objectives.batch_means(),
    "ema": objectives.moving_means(rate=0.4),
}


def problem(seed):
    """A batch in which an image occurs twice and one identity not at all."""
    rng = np.random.default_rng(seed)
    outputs = {
        "embedding": 2 * rng.normal(size=(ROWS, DIM)) + 0.2,
        "logits": rng.normal(size=(ROWS, IDENTITIES)),
    }
    candidates = np.flatnonzero(LABELS != 2)
    rows = rng.choice(candidates, size=ROWS, replace=False).astype(np.int32)
    rows[3] = rows[6]
    batch = {"identity": LABELS[rows], "row": rows}
    codes = rng.normal(size=(IMAGES, DIM))
    return outputs, batch, codes


def state_of(codes, means):
    if means == "batch":
        return None
    of_identities = jnp.asarray(reference.identity_means(codes, LABELS, IDENTITIES))
    if means == "ema":
        return MeanCodes(of_identities)
    return MeanCodes(of_identities, jnp.asarray(codes), jnp.asarray(LABELS))


def options_of(means):
    return {**WEIGHTS, "means": MEANS[means]}


@functools.cache
def compiled(means, switches):
    def loss(outputs, batch, state, constants):
        objective = objectives.inherent(means=means, **dict(switches), **constants)
        return objective.loss(outputs, batch, state)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def run(outputs, batch, state, *, means, **constants):
    """(loss, state, metrics, gradients of the outputs)."""
    names = ("reduction", "scatter_over")
    switches = tuple((name, constants.pop(name)) for name in names if name in constants)
    of_loss = compiled(means, switches)
    (value, (state, metrics)), gradients = of_loss(outputs, batch, state, constants)
    return value, state, metrics, gradients


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("seed", "means", "switches"),
    [
        *((seed, means, {}) for seed in (0, 1) for means in MEANS),
        (0, "exact", {"reduction": "mixed"}),
        (1, "bank", {"reduction": "alike", "scatter_over": "batch"}),
        (2, "batch", {"reduction": "mixed", "scatter_over": "batch"}),
    ],
)
def test_values_gradients_and_the_next_state(seed, means, switches):
    outputs, batch, codes = problem(seed)
    labels, embedding = batch["identity"], outputs["embedding"]
    value, state, metrics, gradients = run(
        outputs, batch, state_of(codes, means), **options_of(means), **switches
    )

    of_identities = reference.identity_means(codes, LABELS, IDENTITIES)
    known = None
    if means == "batch":
        of_identities = reference.identity_means(embedding, labels, IDENTITIES)
        known = sorted(set(labels))
        assert len(known) < IDENTITIES
    # The means are constants: only the codes of the loss itself vary.
    expected = functools.partial(
        reference.inherent, labels=labels, means=of_identities, known=known, **WEIGHTS, **switches
    )
    loss, compact, scatter = expected(outputs)
    np.testing.assert_allclose(value, loss, rtol=1e-9)
    np.testing.assert_allclose(metrics["compact_loss"], compact, rtol=1e-9)
    np.testing.assert_allclose(metrics["scatter_loss"], scatter, rtol=1e-9)
    for name, array in outputs.items():
        theirs = finite_difference(lambda x, name=name: expected({**outputs, name: x})[0], array)
        np.testing.assert_allclose(gradients[name], theirs, rtol=1e-6, atol=1e-8)
    norms = np.sqrt((embedding**2).sum(1))
    np.testing.assert_allclose(metrics["code_norm"], norms.mean(), rtol=1e-10)

    if means == "batch":
        assert state is None
    elif means == "exact":
        np.testing.assert_array_equal(state.means, state_of(codes, means).means)
    elif means == "ema":
        moved = reference_losses.updated_centers(of_identities, embedding, labels, 0.4)
        np.testing.assert_allclose(state.means, moved, atol=1e-12)
    else:
        bank = reference.remembered(codes, embedding, batch["row"])
        np.testing.assert_allclose(state.codes, bank, atol=1e-12)
        expected_means = reference.identity_means(bank, LABELS, IDENTITIES)
        np.testing.assert_allclose(state.means, expected_means, atol=1e-12)
    if means in ("exact", "bank"):
        gaps = np.sqrt(((embedding - codes[batch["row"]]) ** 2).sum(1))
        np.testing.assert_allclose(metrics["code_gap"], gaps.mean(), rtol=1e-10)
    else:
        assert "code_gap" not in metrics


@pytest.mark.usefixtures("float64")
def test_oracle_closed_form_gradients():
    """beta 1[outside] (I - mean) - gamma ((P - 1) I - sum of the other means), of the sums."""
    outputs, batch, codes = problem(2)
    labels, embedding = batch["identity"], outputs["embedding"]
    state = state_of(codes, "exact")
    _, _, _, gradients = run(outputs, batch, state, **options_of("exact"), reduction="mixed")
    means = np.asarray(state.means)
    expected, outside = np.zeros_like(embedding), 0
    for i, p in enumerate(labels):
        others = [j for j in range(IDENTITIES) if j != p]
        d_min = min(np.sqrt(((means[p] - means[j]) ** 2).sum()) for j in others) / 2
        if ((embedding[i] - means[p]) ** 2).sum() > d_min**2:
            outside += 1
            expected[i] += WEIGHTS["compact_weight"] * (embedding[i] - means[p])
        scatter = (IDENTITIES - 1) * embedding[i] - sum(means[j] for j in others)
        expected[i] -= WEIGHTS["scatter_weight"] * scatter
    assert outside
    np.testing.assert_allclose(gradients["embedding"], expected, atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_alike_reductions_differ_from_sums_by_a_common_factor_that_mixed_ones_do_not_have():
    """All three as sums would be B times all three as means; `mixed` is neither."""
    outputs, batch, codes = problem(2)
    state = state_of(codes, "exact")
    alike, mixed = (
        run(outputs, batch, state, **options_of("exact"), reduction=reduction)
        for reduction in ("alike", "mixed")
    )
    classification = alike[2]["identification_loss"]
    np.testing.assert_allclose(ROWS * (alike[0] - classification), mixed[0] - classification)
    np.testing.assert_allclose(ROWS * alike[3]["embedding"], mixed[3]["embedding"], rtol=1e-9)
    np.testing.assert_array_equal(alike[3]["logits"], mixed[3]["logits"])
    plain = run(outputs, batch, state, **options_of("exact"))
    assert plain[0] == alike[0]


@pytest.mark.usefixtures("float64")
def test_oracle_d_min_of_three_collinear_means():
    """Means at 0, 2 and 6: the spheres have radii 1, 1 and 2."""
    means = jnp.array([[0.0], [2.0], [6.0]])
    outputs = {"embedding": jnp.zeros((6, 1)), "logits": jnp.zeros((6, 3))}
    outputs["embedding"] = jnp.array([[0.9], [1.1], [3.1], [1.5], [4.1], [3.9]])
    batch = {"identity": np.array([0, 0, 1, 1, 2, 2]), "row": np.arange(6)}
    moving = objectives.moving_means(rate=0.1)
    options = {"compact_weight": 1.0, "scatter_weight": 0.0, "means": moving}
    options["reduction"] = "mixed"
    _, _, metrics, gradients = run(outputs, batch, MeanCodes(means), **options)
    expected = (1.1**2 - 1) / 2 + (1.1**2 - 1) / 2 + (2.1**2 - 4) / 2
    np.testing.assert_allclose(metrics["compact_loss"], expected, rtol=1e-12)
    np.testing.assert_allclose(gradients["embedding"][:, 0], [0, 1.1, 1.1, 0, 0, -2.1], atol=1e-12)


@pytest.mark.usefixtures("float64")
def test_oracle_the_loss_decreases_when_scatter_grows():
    outputs, batch, codes = problem(3)
    options = options_of("exact") | {"compact_weight": 0.0}
    near, _, before, _ = run(outputs, batch, state_of(codes, "exact"), **options)
    outputs["embedding"] = 3 * outputs["embedding"]
    far, _, after, _ = run(outputs, batch, state_of(codes, "exact"), **options)
    assert after["scatter_loss"] > before["scatter_loss"]
    assert far < near


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("means", ["exact", "bank", "ema"])
def test_oracle_means_carry_no_gradient(means):
    outputs, batch, codes = problem(4)
    state = state_of(codes, means)

    @jax.jit
    @functools.partial(jax.grad, argnums=0, has_aux=True)
    def of_loss(of_identities):
        replaced = state.replace(means=of_identities)
        return objectives.inherent(**options_of(means)).loss(outputs, batch, replaced)

    assert not np.any(of_loss(state.means)[0])

    @jax.jit
    @jax.grad
    def of_next_means(embedding):
        changed = {**outputs, "embedding": embedding}
        objective = objectives.inherent(**options_of(means))
        _, (after, _) = objective.loss(changed, batch, state)
        return jnp.sum(after.means)

    assert not np.any(of_next_means(outputs["embedding"]))


@pytest.mark.usefixtures("float64")
def test_a_cap_stops_the_push():
    outputs, batch, codes = problem(5)
    state, labels = state_of(codes, "exact"), batch["identity"]
    scatter = reference_losses.scatter(outputs["embedding"], labels, np.asarray(state.means))
    cap = float(np.median(scatter))
    options = options_of("exact") | {"compact_weight": 0.0}
    value, _, _, gradients = run(outputs, batch, state, **options, scatter_cap=cap)
    expected = reference.inherent(outputs, labels, np.asarray(state.means), **WEIGHTS, cap=cap)
    np.testing.assert_allclose(
        value, expected[0] - WEIGHTS["compact_weight"] * expected[1], rtol=1e-9
    )
    pushed = np.any(np.asarray(gradients["embedding"]), axis=1)
    np.testing.assert_array_equal(pushed, scatter < cap)
    assert 0 < pushed.sum() < ROWS


def test_errors():
    with pytest.raises(ValueError, match="one training identity"):
        MEANS["exact"].init(np.zeros(4, np.int32), 3)
    with pytest.raises(ValueError, match=r"identities \[1\] have no training image"):
        MEANS["bank"].init(np.array([0, 2, 2]), 3)
    outputs, batch, _ = problem(0)
    outputs["logits"] = outputs["logits"][:, :1]
    batch["identity"] = np.zeros_like(batch["identity"])
    with pytest.raises(ValueError, match="at least two"):
        run(outputs, batch, None, **options_of("batch"))
    with pytest.raises(ValueError, match="reduction is 'sum', expected one of alike, mixed"):
        objectives.inherent(**options_of("exact"), reduction="sum")
    with pytest.raises(ValueError, match="scatter_over is 'some', expected one of all, batch"):
        objectives.inherent(**options_of("exact"), scatter_over="some")


def test_initial_states():
    for means in ("exact", "bank"):
        state = MEANS[means].init(LABELS, DIM)
        assert state.means.shape == (IDENTITIES, DIM)
        assert state.codes.shape == (IMAGES, DIM)
        np.testing.assert_array_equal(state.labels, LABELS)
    state = MEANS["ema"].init(LABELS, DIM)
    assert (state.means.shape, state.codes, state.labels) == ((IDENTITIES, DIM), None, None)
    assert MEANS["batch"].init(LABELS, DIM) is None


# The triplet baseline --------------------------------------------------------------------------


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("seed", [0, 1])
def test_triplet(seed):
    outputs, batch, _ = problem(seed)
    del outputs["logits"]

    def loss(outputs):
        return objectives.triplet(margin=0.3).loss(outputs, batch, None)

    (value, (state, metrics)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(outputs)
    expected = functools.partial(
        reference_losses.batch_hard_triplet, labels=batch["identity"], margin=0.3
    )
    rows = expected(outputs["embedding"])
    np.testing.assert_allclose(value, rows.mean(), rtol=1e-9)
    assert state is None
    assert metrics["triplet_loss"] == value
    np.testing.assert_allclose(metrics["triplet_active"], (rows > 0).mean())
    theirs = finite_difference(lambda x: expected(x).mean(), outputs["embedding"])
    np.testing.assert_allclose(gradients["embedding"], theirs, rtol=1e-5, atol=1e-7)


# Devices ---------------------------------------------------------------------------------------


def assert_devices_agree(num_devices, objective, outputs, batch):
    """``objective(outputs, batch, axis_name)``; a device's gradient is devices times its share."""
    split = lambda tree: jax.tree.map(lambda x: x.reshape(num_devices, -1, *x.shape[1:]), tree)

    def step(outputs, batch, axis_name):
        loss = lambda outputs: objective(outputs, batch, axis_name)
        return jax.value_and_grad(loss, has_aux=True)(outputs)

    (value, aux), gradients = jax.pmap(
        functools.partial(step, axis_name=parallel.AXIS),
        axis_name=parallel.AXIS,
        devices=jax.devices()[:num_devices],
    )(split(outputs), split(batch))
    expected, expected_gradients = jax.jit(step, static_argnums=2)(outputs, batch, None)
    for device in range(num_devices):
        shared = jax.tree.map(lambda x, device=device: x[device], (value, aux))
        tiny.assert_close(shared, expected, 1e-10)
    joined = {k: v.reshape(outputs[k].shape) / num_devices for k, v in gradients.items()}
    tiny.assert_close(joined, expected_gradients, 1e-10)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("num_devices", "means"),
    [
        *(pytest.param(number, "bank", marks=pytest.mark.slow) for number in (1, 2, 4)),
        *((8, means) for means in ("bank", "batch", "ema")),
    ],
)
def test_devices_agree_on_the_objective(num_devices, means):
    outputs, batch, codes = problem(6)
    state = state_of(codes, means)

    def objective(outputs, batch, axis_name):
        loss = objectives.inherent(**options_of(means)).loss
        return loss(outputs, batch, state, axis_name=axis_name)

    assert_devices_agree(num_devices, objective, outputs, batch)


@pytest.mark.usefixtures("float64")
def test_devices_agree_on_which_identities_the_batch_has():
    outputs, batch, codes = problem(6)
    state = state_of(codes, "bank")
    loss = objectives.inherent(**options_of("bank"), scatter_over="batch", reduction="mixed").loss

    def objective(outputs, batch, axis_name):
        return loss(outputs, batch, state, axis_name=axis_name)

    assert_devices_agree(4, objective, outputs, batch)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "num_devices", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 8)), 4]
)
def test_devices_agree_on_the_triplet_mining(num_devices):
    outputs, batch, _ = problem(7)
    del outputs["logits"]

    def objective(outputs, batch, axis_name):
        return objectives.triplet(margin=0.3).loss(outputs, batch, None, axis_name=axis_name)

    assert_devices_agree(num_devices, objective, outputs, batch)


# Recomputing -----------------------------------------------------------------------------------

PIXELS = np.random.default_rng(0).integers(0, 256, (IMAGES, 4, 3, 3), dtype=np.uint8)


def embed(variables, images):
    """Not a network, but a function of the parameters, the statistics and a row's own pixels."""
    pixels = images.reshape(len(images), -1).astype(variables["params"].dtype) / 64
    return jnp.tanh(pixels @ variables["params"] - variables["batch_stats"])


def train_state(means, step=0, dtype=np.float64):
    rng = np.random.default_rng(1)
    cast = lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
    loss_state = MEANS[means].init(LABELS, DIM)
    return training.TrainState(
        step=np.int32(step),
        params=rng.normal(size=(4 * 3 * 3, DIM)).astype(dtype) / 6,
        batch_stats=rng.normal(size=DIM).astype(dtype),
        opt_state=(),
        loss_state=jax.tree.map(cast, loss_state),
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("num_devices", "block_size", "means"),
    [
        (1, 5, "exact"),
        (2, 100, "exact"),
        (4, 3, "exact"),
        (8, 1, "exact"),
        (4, 2, "bank"),
        (4, 2, "ema"),
    ],
)
def test_recomputed_means_are_those_of_all_images(num_devices, block_size, means):
    """13 images on every number of devices, in blocks that do not divide them either."""
    devices = jax.local_devices()[:num_devices]
    refresh = mean_codes.make_refresh(embed, LABELS, devices=devices, block_size=block_size)
    state = train_state(means)
    codes = embed({"params": state.params, "batch_stats": state.batch_stats}, PIXELS)
    expected = reference.identity_means(np.asarray(codes), LABELS, IDENTITIES)

    images = parallel.replicate(PIXELS, devices)
    on_devices = parallel.replicate(state, devices)
    for _ in range(2):  # What it was given is still there.
        fresh = refresh(on_devices, images)
        np.testing.assert_allclose(fresh.means, expected, atol=1e-10)
        if means == "ema":
            assert fresh.codes is None
        else:
            np.testing.assert_allclose(fresh.codes, codes, atol=1e-10)
            np.testing.assert_array_equal(fresh.labels, LABELS)
    assert jax.tree.structure(fresh) == jax.tree.structure(state.loss_state)
    for leaf in jax.tree.leaves(fresh):
        assert leaf.sharding.device_set == set(devices)
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(np.asarray(shard.data), np.asarray(leaf))


# Whole training --------------------------------------------------------------------------------

BATCH = 8


def batches(first_step):
    for step in itertools.count(first_step):
        rng = np.random.default_rng(step)
        rows = rng.choice(IMAGES, BATCH, replace=False).astype(np.int32)
        yield {"identity": LABELS[rows], "row": rows, "key": batch_keys(5, step, BATCH)}


class Network(nn.Module):
    """The least that has an embedding, logits and running averages."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, image, *, train=False):
        x = image.reshape(len(image), -1)
        x = BatchNorm(axis_name=self.axis_name)(x, train=train)
        embedding = jnp.tanh(nn.Dense(DIM)(x))
        return {"embedding": embedding, "logits": nn.Dense(IDENTITIES)(embedding)}


@functools.cache
def trainer(means, num_devices):
    model = Network()
    optimizer = schedules.adam(lambda step: 1e-2, weight_decay=5e-4)
    state = training.create_state(
        model,
        optimizer,
        jnp.zeros((1, *PIXELS.shape[1:])),
        key=jax.random.key(0),
        loss_state=MEANS[means].init(LABELS, DIM),
    )
    objective = objectives.inherent(**options_of(means))
    step = training.make_train_step(
        model, optimizer, objective, axis_name=parallel.AXIS, preprocess=tiny.preprocess
    )
    devices = jax.local_devices()[:num_devices]

    def embed(variables, images):
        images = images.astype(jnp.float32) / 64
        return model.apply(variables, images, train=False)["embedding"]

    refresh = mean_codes.make_refresh(embed, LABELS, devices=devices, block_size=2)
    step = parallel.pmap_step(training.with_resident_images(step), devices)
    images = parallel.replicate(PIXELS, devices)
    return jax.device_get(state), step, refresh, images, devices, embed


def fit(workdir, means, *, num_devices=2, num_steps=5, refresh_every=1, batches=batches, seen=None):
    state, step, refresh, images, devices, _ = trainer(means, num_devices)

    def refreshed(state):
        loss_state = refresh(state, images)
        if seen is not None:
            seen.append(jax.device_get((state.params, state.batch_stats, loss_state)))
        return loss_state

    checkpoints = training.Checkpoints(workdir)
    try:
        return training.train(
            state,
            step,
            batches,
            constants=(images,),
            devices=devices,
            images_per_step=BATCH,
            num_steps=num_steps,
            intervals=training.Intervals(log_every=2, checkpoint_every=3),
            refresh_every=refresh_every,
            checkpoints=checkpoints,
            workdir=workdir,
            learning_rate=lambda step: 1e-2,
            refresh=refreshed,
        )
    finally:
        checkpoints.close()


def test_exact_means_are_recomputed_before_each_step(tmp_path):
    seen = []
    final = fit(tmp_path, "exact", seen=seen)
    assert len(seen) == 5
    *_, embed = trainer("exact", 2)
    embed = jax.jit(embed)
    for params, batch_stats, loss_state in seen:
        codes = np.asarray(embed({"params": params, "batch_stats": batch_stats}, PIXELS))
        expected = reference.identity_means(codes, LABELS, IDENTITIES)
        np.testing.assert_allclose(loss_state.means, expected, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, final.loss_state, seen[-1][2])
    assert np.abs(seen[0][2].means - seen[-1][2].means).max() > 1e-3
    for record in training.logs.read_metrics(tmp_path):
        assert record["code_gap"] > 0
        assert {"code_norm", "scatter_loss", "compact_loss"} <= set(record)


class Killed(Exception):
    pass


@pytest.mark.parametrize("means", ["bank", "ema"])
def test_refreshed_now_and_then_and_resumed_bit_for_bit(tmp_path, means):
    refresh_every = {"bank": 2, "ema": 5}[means]
    seen = []
    whole = fit(tmp_path / "whole", means, refresh_every=refresh_every, seen=seen)
    assert len(seen) == {"bank": 3, "ema": 1}[means]
    # The last batch has moved what the last refresh had left.
    assert np.abs(whole.loss_state.means - seen[-1][2].means).max() > 1e-4

    def killed(first_step):
        for number, batch in enumerate(batches(first_step), start=first_step):
            if number == 4:
                raise Killed
            yield batch

    with pytest.raises(Killed):
        fit(tmp_path / "parts", means, refresh_every=refresh_every, batches=killed)
    resumed = fit(tmp_path / "parts", means, refresh_every=refresh_every)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
