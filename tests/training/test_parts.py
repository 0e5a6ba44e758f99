"""A batch in parts has the loss and the gradient of the whole, for losses that compare rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_methods
from plain_network import Plain, PlainPairs

from experiments import build
from reid_jax import models, parallel, training
from reid_jax.training import schedules
from reid_jax.training.parts import gradients_in_parts
from reid_jax.training.step import several_steps

OPTIMIZER = schedules.sgd(lambda step: 0.05, momentum=0.9, weight_decay=5e-4)


def network(config):
    if config.model.name == "csn":
        return PlainPairs()
    options = {
        "num_identities": tiny.IDENTITIES if config.model.identification else None,
        "dropout": 0.5 if config.model.identification else 0.0,
    }
    if config.model.verification:
        return models.Siamese(Plain(), verification=config.model.verification, **options)
    return Plain(**options, reweights=bool(config.model.feature_reweighting))


def step_of(model, objective, **options):
    return training.make_train_step(model, OPTIMIZER, objective, **options)


def batch_for(config):
    batch = tiny_methods.batch_for(config)
    return {k: v.astype(np.float32) if "image" in k else v for k, v in batch.items()}


QUICK = ("batch_contrastive", "csn")


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in tiny_methods.EXPERIMENTS
    ],
)
def test_parts_are_the_whole_batch_for_every_objective(name):
    config = tiny_methods.config_of(tiny_methods.EXPERIMENTS[name])
    model, objective, batch = network(config), build.objective(config), batch_for(config)
    state = tiny_methods.state_for(model, OPTIMIZER, objective)
    whole, metrics = jax.jit(step_of(model, objective))(state, batch)
    in_parts, of_parts = jax.jit(step_of(model, objective, num_parts=4))(state, batch)
    assert float(metrics["gradient_norm"]) > 1e-3
    tiny.assert_close(in_parts, whole, 1e-5)
    tiny.assert_close(of_parts, metrics, 1e-5)


def test_parts_that_lose_sight_of_each_other_would_be_seen():
    config = tiny_methods.config_of(tiny_methods.EXPERIMENTS["triplet"])
    batch, objective = batch_for(config), build.objective(config)
    rows = lambda part: {name: value[part::4] for name, value in batch.items()}
    loss = lambda of: objective.loss(
        {"embedding": of["image"].mean((1, 2))}, of, None, axis_name=None
    )[0]
    assert abs(np.mean([loss(rows(part)) for part in range(4)]) - loss(batch)) > 1e-3


@functools.cache
def with_batch_norm():
    config = tiny_methods.config_of(tiny_methods.EXPERIMENTS["batch_contrastive"])
    model = Plain(num_identities=tiny.IDENTITIES, dropout=0.5, batch_norm=True)
    objective = build.objective(config)
    state = tiny_methods.state_for(model, OPTIMIZER, objective)
    return functools.partial(step_of, model, objective, num_parts=4), state


def three_steps(step, state):
    for number in range(3):
        state, metrics = step(state, tiny.batch_at(number))
    return jax.device_get((state, metrics))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("num_devices", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_devices_agree_on_several_steps_in_parts(num_devices):
    made, state = with_batch_norm()
    wide = lambda leaf: leaf.astype("f8") if leaf.dtype == "f4" else leaf
    state = jax.tree.map(wide, state)
    expected = three_steps(jax.jit(made()), state)
    devices = jax.local_devices()[:num_devices]
    steps = several_steps(made(axis_name=parallel.AXIS))
    batches = parallel.shard_several([tiny.batch_at(number) for number in range(3)], devices)
    state, metrics = parallel.pmap_step(steps, devices)(parallel.replicate(state, devices), batches)
    for leaf in jax.tree.leaves((state, metrics)):
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(np.asarray(shard.data), np.asarray(leaf))
    ours = jax.device_get((state, {name: value[-1] for name, value in metrics.items()}))
    tiny.assert_close(ours, expected, 1e-10)


def test_running_averages_move_once_by_the_mean_of_the_parts():
    made, state = with_batch_norm()
    batch = tiny.batch_at(0)
    after, _ = jax.jit(made())(state, batch)
    kernel, bias = (np.float64(state.params["colours"][name]) for name in ("kernel", "bias"))
    maps = np.tanh(batch["image"] / 64.0 @ kernel + bias)
    parts = [maps.mean((1, 2))[part::4] for part in range(4)]
    mean = np.mean([x.mean(0) for x in parts], 0)
    variance = np.mean([x.var(0, ddof=1) for x in parts], 0)
    np.testing.assert_allclose(after.batch_stats["bn"]["mean"], 0.1 * mean, atol=1e-6)
    np.testing.assert_allclose(after.batch_stats["bn"]["var"], 0.9 + 0.1 * variance, atol=1e-6)


# The function itself ---------------------------------------------------------------------------


def test_what_the_loss_does_not_read_is_not_kept():

    def outputs_of(params, rows):
        return {"read": rows * params, "map": jnp.outer(rows, rows) * params}, ()

    def scanned(params, rows):
        return gradients_in_parts(
            outputs_of, lambda of: (jnp.sum(of["read"] ** 2), ()), params, rows, num_parts=2
        )

    rows = jnp.arange(6.0)
    (value, _), _, gradient = scanned(2.0, rows)
    assert value == 4 * np.sum(np.arange(6.0) ** 2)
    np.testing.assert_allclose(gradient, value)  # d/dp sum (p r)^2 = 2 p sum r^2, with p = 2
    text = str(jax.make_jaxpr(scanned)(2.0, rows))
    kept = [line for line in text.splitlines() if "f32[2,3,3]" in line]
    assert not kept, kept


def test_parts_that_do_not_divide_the_rows_are_refused():
    outputs_of = lambda params, rows: ({"x": rows * params}, ())
    with pytest.raises(ValueError, match="6 rows on a device has not 4 equal parts"):
        gradients_in_parts(outputs_of, None, 1.0, jnp.arange(6.0), num_parts=4)


def test_an_output_with_other_rows_is_refused():
    outputs_of = lambda params, rows: ({"both": jnp.tile(rows, 2) * params}, ())
    loss = lambda outputs: (jnp.sum(outputs["both"]), ())
    with pytest.raises(ValueError, match=r"reads 'both' \(12,\), whose rows are not the 6 rows"):
        gradients_in_parts(outputs_of, loss, 1.0, jnp.arange(6.0), num_parts=2)
