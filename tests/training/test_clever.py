"""Clever: each term and gradient under each reading, centers, and any number of devices."""

import functools

import jax
import numpy as np
import pytest
import tiny

from experiments import build
from experiments.papers import EXPERIMENTS, build_config
from references import center_methods as reference
from references.losses import finite_difference
from references.losses import identification as reference_identification
from references.models import variables as variables_of
from reid_jax import losses, models, objectives, parallel, training
from reid_jax.training import schedules

PAIRS, DIM, IDENTITIES = 8, 3, 6
INTER_GRADS = ("centers", "none", "through_update")
CENTER_RATE = 0.5
WEIGHTS = {"identification": 1.0, "verification": 0.7, "intra": 0.3, "inter": 0.4}

pytestmark = pytest.mark.usefixtures("float64")


def problem(seed, positives=3):
    """Asymmetric outputs; an identity occurs in both kinds of pairs, and one not at all."""
    rng = np.random.default_rng(seed)
    outputs = {
        "embedding_a": rng.normal(size=(PAIRS, DIM)) + 0.3,
        "embedding_b": 1.5 * rng.normal(size=(PAIRS, DIM)),
        "logits_a": rng.normal(size=(PAIRS, IDENTITIES)),
        "logits_b": rng.normal(size=(PAIRS, IDENTITIES)),
        "pair_logits": rng.normal(size=(PAIRS, 2)),
    }
    same = np.arange(PAIRS) < positives
    identity_a = rng.integers(0, IDENTITIES - 1, PAIRS).astype(np.int32)
    other = (identity_a + rng.integers(1, IDENTITIES - 1, PAIRS)) % (IDENTITIES - 1)
    batch = {
        "identity_a": identity_a,
        "identity_b": np.where(same, identity_a, other).astype(np.int32),
        "same": same,
    }
    return outputs, batch, rng.normal(size=(IDENTITIES, DIM))


def objective(**changes):
    weights = {f"{name}_weight": weight for name, weight in WEIGHTS.items()}
    options = {"margin": 6.0, "center_rate": CENTER_RATE}
    return objectives.clever(**{**weights, **options, **changes})


@functools.cache
def compiled(**switches):
    def loss(outputs, centers, batch, constants):
        loss = objective(**switches, **constants).loss
        return loss(outputs, batch, losses.CenterState(centers))

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


def run(outputs, batch, centers, **changes):
    """(loss, centers, metrics, gradients of the outputs and of the centers)."""
    names = ("inter_grad", "neg_updates_centers", "verification_weight", "inter_weight")
    switches = {name: changes.pop(name) for name in names if name in changes}
    (value, (state, metrics)), gradients = compiled(**switches)(outputs, centers, batch, changes)
    return value, state.centers, metrics, *gradients


@pytest.mark.parametrize("neg_updates_centers", [True, False])
@pytest.mark.parametrize("inter_grad", INTER_GRADS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_values_gradients_and_centers(seed, inter_grad, neg_updates_centers):
    outputs, batch, centers = problem(seed)
    changes = {"inter_grad": inter_grad, "neg_updates_centers": neg_updates_centers}
    options = {"center_rate": CENTER_RATE, **changes}
    _, moved = reference.clever_terms(outputs, batch, centers, margin=0.0, **options)
    compared = moved if inter_grad == "through_update" else centers
    distances = [
        ((compared[i] - compared[j]) ** 2).sum()
        for i, j, s in zip(*(batch[k] for k in ("identity_a", "identity_b", "same")), strict=True)
        if not s
    ]
    changes["margin"] = options["margin"] = margin = (min(distances) + max(distances)) / 2

    loss, moved, metrics, gradients, to_centers = run(outputs, batch, centers, **changes)
    expected = functools.partial(
        reference.clever, batch=batch, centers=centers, weights=WEIGHTS, **options
    )
    expected_loss, expected_centers = expected(outputs)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-10)
    np.testing.assert_allclose(moved, expected_centers, atol=1e-10)
    assert not np.any(to_centers)
    for name, array in outputs.items():
        theirs = finite_difference(lambda x, name=name: expected({**outputs, name: x})[0], array)
        np.testing.assert_allclose(gradients[name], theirs, rtol=1e-6, atol=1e-8, err_msg=name)

    terms, _ = reference.clever_terms(outputs, batch, centers, **options)
    for name, term in (("intra_center", "intra"), ("inter_center", "inter")):
        np.testing.assert_allclose(metrics[f"{name}_loss"], terms[term], rtol=1e-10)
    for name in ("identification", "verification"):
        np.testing.assert_allclose(metrics[f"{name}_loss"], terms[name], rtol=1e-10)
    norms = [np.sqrt((center**2).sum()) for center in expected_centers]
    np.testing.assert_allclose(metrics["center_norm"], np.mean(norms), rtol=1e-7)
    active = np.mean(np.array(distances) < margin)
    np.testing.assert_allclose(metrics["inter_active"], active)
    assert 0 < active < 1


def test_the_readings_differ_where_they_should():
    outputs, batch, before = problem(2)
    runs = {kind: run(outputs, batch, before, inter_grad=kind) for kind in INTER_GRADS}
    # Only "through_update" trains the network, only "centers" moves centers otherwise.
    differs = lambda a, b: np.abs(np.asarray(a) - np.asarray(b)).max() > 1e-3
    gradient = {kind: result[3]["embedding_a"] for kind, result in runs.items()}
    assert differs(gradient["through_update"], gradient["none"])
    np.testing.assert_array_equal(gradient["centers"], gradient["none"])
    centers = {kind: result[1] for kind, result in runs.items()}
    assert differs(centers["centers"], centers["none"])
    np.testing.assert_array_equal(centers["through_update"], centers["none"])
    # "none" is the row without the loss, to the bit, but for the value.
    without = run(outputs, batch, before, inter_weight=0.0)
    for ours, theirs in zip(runs["none"][1:], without[1:], strict=True):
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    assert runs["none"][0] != without[0]


def only(**weights):
    return {f"{name}_weight": weights.get(name, 0.0) for name in WEIGHTS}


def test_oracle_gradient_through_the_update():
    """-(2/m) (alpha / (1 + N)) (c_1' - c_2') on the first image of each active pair."""
    outputs, batch, centers = problem(3, positives=0)
    batch["identity_a"] = np.array([0, 0, 1, 1, 2, 2, 3, 3], np.int32)
    batch["identity_b"] = np.array([1, 1, 2, 2, 3, 3, 4, 4], np.int32)
    changes = {**only(inter=1.0), "margin": 1e3, "inter_grad": "through_update"}
    _, moved, _, gradients, _ = run(outputs, batch, centers, **changes)
    pairs_of = np.array([2, 4, 4, 4, 2, 0])
    force = np.zeros_like(centers)
    for i, j in zip(batch["identity_a"], batch["identity_b"], strict=True):
        force[i] += 2 / PAIRS * (moved[i] - moved[j])
        force[j] -= 2 / PAIRS * (moved[i] - moved[j])
    share = CENTER_RATE / (1 + pairs_of)
    for stream in "ab":
        labels = batch[f"identity_{stream}"]
        expected = -share[labels][:, None] * force[labels]
        np.testing.assert_allclose(gradients[f"embedding_{stream}"], expected, atol=1e-12)

    # A lone pair, as the oracle is printed.
    outputs = {name: array[:1] for name, array in outputs.items()}
    batch = {name: array[:1] for name, array in batch.items()}
    _, moved, _, gradients, _ = run(outputs, batch, centers, **changes)
    expected = 2 * CENTER_RATE / (1 + 1) * (moved[0] - moved[1])
    np.testing.assert_allclose(gradients["embedding_a"][0], -expected, atol=1e-12)
    np.testing.assert_allclose(gradients["embedding_b"][0], expected, atol=1e-12)


@pytest.mark.parametrize("inter_grad", ["centers", "none"])
def test_oracle_no_gradient_of_constant_centers(inter_grad):
    outputs, batch, centers = problem(4)
    changes = {**only(inter=1.0), "inter_grad": inter_grad}
    loss, _, _, gradients, to_centers = run(outputs, batch, centers, **changes)
    assert loss > 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves((gradients, to_centers)))


@pytest.mark.parametrize("inter_weight", [0.008, 7.0])
def test_oracle_the_centers_follow_their_own_gradient(inter_weight):
    """One pair: c_1 moves away from c_2 by alpha 2 (c_1 - c_2) / (1 + 1), whatever the weight."""
    outputs, batch, centers = problem(5, positives=0)
    outputs = {name: array[:1] for name, array in outputs.items()}
    batch = {name: array[:1] for name, array in batch.items()}
    changes = {**only(inter=inter_weight), "margin": 1e3}
    _, plain, *_ = run(outputs, batch, centers, inter_grad="none", **changes)
    _, moved, *_ = run(outputs, batch, centers, **changes)
    i, j = batch["identity_a"][0], batch["identity_b"][0]
    step = CENTER_RATE * 2 * (centers[i] - centers[j]) / 2
    np.testing.assert_allclose(moved[i] - plain[i], step, atol=1e-12)
    np.testing.assert_allclose(moved[j] - plain[j], -step, atol=1e-12)
    # Beyond the margin nothing moves, and without a weight there is no such loss.
    between = ((centers[i] - centers[j]) ** 2).sum()
    for other in ({"margin": between - 1e-9}, {"inter_weight": 0.0}):
        _, moved, *_ = run(outputs, batch, centers, **{**changes, **other})
        np.testing.assert_array_equal(moved, plain)


def test_oracle_intra_gradient():
    outputs, batch, centers = problem(6)
    _, _, _, gradients, _ = run(outputs, batch, centers, **only(intra=1.0))
    positive = batch["same"][:, None]
    own = centers[batch["identity_a"]]
    for stream in "ab":
        expected = positive * (outputs[f"embedding_{stream}"] - own) / positive.sum()
        np.testing.assert_allclose(gradients[f"embedding_{stream}"], expected, atol=1e-12)


@pytest.mark.parametrize(("distance", "loss"), [(249.0, 1.0), (250.0, 0.0), (251.0, 0.0)])
def test_oracle_hinge_is_off_from_250(distance, loss):
    outputs, batch, centers = problem(7, positives=0)
    centers[1], centers[0] = 0.0, 0.0
    centers[0, 0] = np.sqrt(distance)
    batch["identity_a"], batch["identity_b"] = (np.full(PAIRS, k, np.int32) for k in (0, 1))
    changes = {**only(inter=1.0), "margin": 250.0, "inter_grad": "none"}
    value, _, metrics, _, _ = run(outputs, batch, centers, **changes)
    np.testing.assert_allclose(value, loss, atol=1e-9)
    assert metrics["inter_active"] == (metrics["inter_center_loss"] > 0)


def test_oracle_negative_pairs_can_leave_the_centers_alone():
    outputs, batch, centers = problem(8, positives=0)
    still = {"inter_grad": "none"}
    _, moved, *_ = run(outputs, batch, centers, neg_updates_centers=False, **still)
    np.testing.assert_array_equal(moved, centers)
    _, moved, *_ = run(outputs, batch, centers, neg_updates_centers=True, **still)
    assert np.abs(moved - centers).max() > 0.1


@pytest.mark.parametrize("inter_grad", INTER_GRADS)
@pytest.mark.parametrize(("positives", "kind"), [(0, "intra"), (PAIRS, "inter")])
def test_no_pair_of_a_kind_adds_nothing_and_logs_nothing(positives, kind, inter_grad):
    outputs, batch, centers = problem(9, positives=positives)
    weights = {f"{kind}_weight": 1e6, "inter_grad": inter_grad}
    loss, moved, metrics, gradients, _ = run(outputs, batch, centers, **weights)
    without, *_, plain, _ = run(outputs, batch, centers, **{**weights, f"{kind}_weight": 0.0})
    assert loss == without
    jax.tree.map(np.testing.assert_array_equal, gradients, plain)
    assert np.isnan(metrics[f"{kind}_center_loss"])
    assert np.isnan(metrics["inter_active"]) == (kind == "inter")
    assert np.isfinite(moved).all()


def test_a_row_without_verification_needs_no_pair_logits():
    outputs, batch, centers = problem(10)
    del outputs["pair_logits"]
    *_, metrics, _, _ = run(outputs, batch, centers, verification_weight=0.0)
    assert "verification_loss" not in metrics


def test_an_unknown_reading_lists_the_known_ones():
    outputs, batch, centers = problem(0)
    with pytest.raises(ValueError, match="'both', expected one of centers, none, through_update"):
        run(outputs, batch, centers, inter_grad="both")


# The single-stream baseline --------------------------------------------------------------------


def center_problem(seed, rows=8):
    rng = np.random.default_rng(seed)
    outputs = {
        "embedding": rng.normal(size=(rows, DIM)) + 0.2,
        "logits": rng.normal(size=(rows, IDENTITIES)),
        "feature_weights": rng.normal(size=DIM) + 0.5,
    }
    labels = rng.integers(0, IDENTITIES - 1, rows).astype(np.int32)
    return outputs, {"identity": labels}, rng.normal(size=(IDENTITIES, DIM))


@pytest.mark.parametrize("seed", [0, 1])
def test_identification_center(seed):
    outputs, batch, centers = center_problem(seed)
    labels = batch["identity"]

    def expected(outputs):
        center = [
            ((x - centers[y]) ** 2).sum() / 2
            for x, y in zip(outputs["embedding"], labels, strict=True)
        ]
        norm = (outputs["feature_weights"] ** 2).sum() / 2
        classification = reference_identification(outputs["logits"], labels)
        return np.mean(classification) + 0.3 * np.mean(center) + 0.2 * (norm - 1.5) ** 2

    def loss(outputs):
        objective = objectives.identification_center(
            center_weight=0.3, center_rate=0.4, reweighting_weight=0.2, reweighting_level=1.5
        )
        return objective.loss(outputs, batch, losses.CenterState(centers))

    (value, (state, metrics)), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(outputs)
    np.testing.assert_allclose(value, expected(outputs), rtol=1e-10)
    for name, array in outputs.items():
        theirs = finite_difference(lambda x, name=name: expected({**outputs, name: x}), array)
        np.testing.assert_allclose(gradients[name], theirs, rtol=1e-6, atol=1e-8)
    moved = reference.moved_to_means(centers, outputs["embedding"], labels, 0.4)
    np.testing.assert_allclose(state.centers, moved, atol=1e-12)
    assert {"identification_loss", "center_loss", "reweighting_loss"} <= set(metrics)


def test_reweighting_needs_both_the_layer_and_its_term():
    outputs, batch, centers = center_problem(0)

    def call(outputs, **reweighting):
        objective = objectives.identification_center(
            center_weight=0.01, center_rate=0.5, **reweighting
        )
        return objective.loss(outputs, batch, losses.CenterState(centers))

    with pytest.raises(ValueError, match=r"is 0.0, and the model has feature_weights"):
        call(outputs)
    del outputs["feature_weights"]
    with pytest.raises(ValueError, match=r"is 0.001, and the model has no feature_weights"):
        call(outputs, reweighting_weight=1e-3, reweighting_level=200.0)
    call(outputs)


# Devices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_devices", "inter_grad"),
    [
        *(pytest.param(number, "centers", marks=pytest.mark.slow) for number in (1, 2, 8)),
        *((4, "centers"), (8, "through_update"), (8, "none")),
    ],
)
def test_devices_agree(num_devices, inter_grad):
    """The first devices hold all positive pairs."""
    outputs, batch, centers = problem(11)
    expected = run(outputs, batch, centers, inter_grad=inter_grad)
    split = lambda tree: jax.tree.map(lambda x: x.reshape(num_devices, -1, *x.shape[1:]), tree)

    def step(outputs, batch):
        def loss(outputs):
            return objective(inter_grad=inter_grad).loss(
                outputs, batch, losses.CenterState(centers), axis_name=parallel.AXIS
            )

        (value, (state, metrics)), gradients = jax.value_and_grad(loss, has_aux=True)(outputs)
        return value, state.centers, metrics, gradients

    value, moved, metrics, gradients = jax.pmap(
        step, axis_name=parallel.AXIS, devices=jax.devices()[:num_devices]
    )(split(outputs), split(batch))
    for device in range(num_devices):
        shared = (value[device], moved[device], {k: v[device] for k, v in metrics.items()})
        tiny.assert_close(shared, expected[:3], 1e-10)
    # A device's gradient is the number of devices times its share: the step takes the mean.
    joined = {k: v.reshape(outputs[k].shape) / num_devices for k, v in gradients.items()}
    tiny.assert_close(joined, expected[3], 1e-10)


# The network -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_loss_that_moves_nothing_is_a_row_without_it_to_the_bit():
    """`inter_grad=none` beside `row=intra_iv`, over steps of the network."""
    ends = []
    for row in ("inter_grad=none", "row=intra_iv"):
        config = build_config(f"clever_cuhk03:{row}", EXPERIMENTS, scale="small")
        step, state = network_and_step(build.objective(config))
        for seed in range(3):
            _, batch, _ = problem(seed)
            rng = np.random.default_rng(seed)
            images = {f"image_{s}": rng.normal(size=(PAIRS, 12, 8, 3)) for s in "ab"}
            state, metrics = step(state, batch | images)
        assert metrics["inter_center_loss"] > 0
        ends.append(jax.device_get((state.params, state.batch_stats, state.loss_state)))
    jax.tree.map(np.testing.assert_array_equal, *ends)


def network_and_step(objective):
    """A step and the state before it, of the smallest network with every part."""
    model = models.Siamese(
        models.NineConv(width=1), verification="relu_diff", num_identities=IDENTITIES
    )
    optimizer = schedules.adam(lambda step: 1e-3, weight_decay=1e-3)
    image = np.zeros((1, 12, 8, 3))
    variables = variables_of(model, image, image)
    state = training.TrainState(
        step=np.zeros((), np.int32),
        **variables,
        opt_state=jax.tree.map(np.asarray, optimizer.init(variables["params"])),
        loss_state=losses.init_centers(IDENTITIES, 16),
    )
    return jax.jit(training.make_train_step(model, optimizer, objective)), state


@pytest.mark.slow
def test_the_network_takes_two_steps():
    """Every parameter, statistic and center of the batch moves."""
    rng = np.random.default_rng(0)
    step, state = network_and_step(objective(margin=250.0))
    first = state
    for seed in range(2):
        _, batch, _ = problem(seed)
        batch |= {f"image_{s}": rng.normal(size=(PAIRS, 12, 8, 3)) for s in "ab"}
        state, metrics = step(state, batch)
    assert all(np.isfinite(value) for value in metrics.values())
    for part in ("params", "batch_stats"):
        before, after = getattr(first, part), getattr(state, part)
        moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, after)
        assert all(jax.tree.leaves(moved))
    assert np.any(np.asarray(state.loss_state.centers))
