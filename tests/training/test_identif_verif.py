"""Zheng, Zheng and Yang: loss weights, square layer, ratio of pairs, any number of devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from experiments.build import ratio_rule
from experiments.config import Sampler
from references import losses as reference
from reid_jax import models, objectives, parallel, training

PAIRS, IDENTITIES, DIM = 7, 4, 5
OBJECTIVES = {
    "iv": objectives.identification_verification(
        identification_weight=0.5, verification_weight=1.0
    ),
    "v": objectives.identification_verification(identification_weight=0.0, verification_weight=1.0),
    "contrastive": objectives.identification_contrastive(
        identification_weight=0.5, contrastive_weight=1.0, margin=1.0
    ),
}

PAPER_RULE, CODE_RULE = (
    ratio_rule(Sampler(name="pair", batch_size=48, ratio_rule=rule)) for rule in ("paper", "code")
)


def example(seed):
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.normal(size=shape)
    outputs = {
        "embedding_a": normal(PAIRS, DIM),
        "embedding_b": normal(PAIRS, DIM),
        "logits_a": normal(PAIRS, IDENTITIES),
        "logits_b": normal(PAIRS, IDENTITIES),
        "pair_logits": normal(PAIRS, 2),
    }
    same = rng.random(PAIRS) < 0.4
    identity_a = rng.integers(0, IDENTITIES, PAIRS)
    other = (identity_a + rng.integers(1, IDENTITIES, PAIRS)) % IDENTITIES
    identity_b = np.where(same, identity_a, other)
    return outputs, {"same": same, "identity_a": identity_a, "identity_b": identity_b}


def by_hand(name, outputs, batch):
    """Sec. III-D, term by term."""
    total = 0.0
    if name != "v":
        for stream in "ab":
            rows = reference.identification(
                outputs[f"logits_{stream}"], batch[f"identity_{stream}"]
            )
            total += 0.5 * sum(rows) / PAIRS
    if name == "contrastive":
        unit = [
            np.array([row / np.sqrt((row**2).sum()) for row in outputs[f"embedding_{s}"]])
            for s in "ab"
        ]
        total += sum(reference.contrastive(*unit, batch["same"], 1.0)) / PAIRS
    else:
        for logits, same in zip(outputs["pair_logits"], batch["same"], strict=True):
            total -= (logits[int(same)] - np.log(np.exp(logits).sum())) / PAIRS
    return total


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_weighted_sum_and_gradient(name, seed):
    outputs, batch = example(seed)

    def loss(outputs):
        return OBJECTIVES[name].loss(outputs, batch, None)[0]

    value, gradient = jax.jit(jax.value_and_grad(loss))(outputs)
    np.testing.assert_allclose(value, by_hand(name, outputs, batch), rtol=1e-10)
    for key, values in outputs.items():
        expected = reference.finite_difference(
            lambda x, key=key: by_hand(name, {**outputs, key: x}, batch), values
        )
        np.testing.assert_allclose(gradient[key], expected, rtol=1e-5, atol=1e-7, err_msg=key)


@pytest.mark.usefixtures("float64")
def test_weights_are_one_and_two_halves():
    outputs, batch = example(0)
    _, (_, metrics) = OBJECTIVES["iv"].loss(outputs, batch, None)
    loss = OBJECTIVES["iv"].loss(outputs, batch, None)[0]
    parts = [
        np.mean(reference.identification(outputs[f"logits_{s}"], batch[f"identity_{s}"]))
        for s in "ab"
    ]
    verification = float(metrics["verification_loss"])
    np.testing.assert_allclose(loss, verification + 0.5 * parts[0] + 0.5 * parts[1], rtol=1e-5)
    ratio = (~batch["same"]).sum() / batch["same"].sum()
    np.testing.assert_allclose(metrics["negatives_per_positive"], ratio, rtol=1e-6)


def test_negatives_per_positive_grow_with_the_epoch():
    printed = [round(PAPER_RULE(epoch), 2) for epoch in (0, 1, 75, 140, 200)]
    assert printed == [1.0, 1.01, 2.11, 4.0, 4.0]
    assert PAPER_RULE(139) < 4 <= PAPER_RULE(140)

    # The authors' loop over epochs runs from 1 and draws a pair of the same class with probability
    # 1 / min(5, 2 * 1.01^epoch).
    for epoch in range(200):
        share = 1 / min(5, 2 * 1.01 ** (1 + epoch))
        assert CODE_RULE(epoch) == pytest.approx((1 - share) / share, rel=1e-12)
    coded = [round(CODE_RULE(epoch), 2) for epoch in (0, 74, 92, 139)]
    assert coded == [1.02, 3.22, 4.0, 4.0]
    assert CODE_RULE(91) < 4 <= CODE_RULE(92)


def make(name, axis_name=None):
    backbone = models.ResNet(blocks=(1, 1), bottleneck=False, width=4)
    model = models.Siamese(
        backbone,
        verification="none" if name == "contrastive" else "square",
        num_identities=None if name == "v" else tiny.IDENTITIES,
        dropout=0.0 if name == "contrastive" else 0.5,
    )
    optimizer = optax.sgd(0.02)
    image = jnp.zeros((1, *tiny.IMAGE))
    state = training.create_state(model, optimizer, image, image, key=jax.random.key(0))
    state = jax.tree.map(
        lambda x: np.asarray(x, np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, state
    )
    step = training.make_train_step(
        model, optimizer, OBJECTIVES[name], axis_name=axis_name, preprocess=tiny.preprocess
    )
    return step, state


@functools.cache
def on_one(name):
    step, state = make(name)
    step, before = jax.jit(step), state.params
    for number in range(2):
        state, metrics = step(state, tiny.pair_batch(number))
    moved = jax.tree.map(lambda a, b: bool(np.any(np.asarray(a) != b)), before, state.params)
    assert all(jax.tree.leaves(moved))
    return jax.device_get((state, metrics))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "num_devices"),
    [
        ("iv", 8),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("iv", 1), ("iv", 2), ("iv", 4), ("v", 4), ("contrastive", 8))
        ),
    ],
)
def test_pairs_spread_unevenly_over_devices_give_the_same_step(name, num_devices):
    step, state = make(name, parallel.AXIS)
    devices = jax.local_devices()[:num_devices]
    step, state = parallel.pmap_step(step, devices), parallel.replicate(state, devices)
    for number in range(2):
        state, metrics = step(state, parallel.shard(tiny.pair_batch(number), devices))
    tiny.assert_close(jax.device_get((state, metrics)), on_one(name), 1e-10)
