"""A batch in parts has the loss and the gradient of the whole, for losses that compare rows."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_methods

from experiments import build
from reid_jax import models, parallel, training
from reid_jax.models.dropout import dropout
from reid_jax.models.norm import BatchNorm
from reid_jax.training import schedules
from reid_jax.training.parts import gradients_in_parts

DIM = 6
OPTIMIZER = schedules.sgd(lambda step: 0.05, momentum=0.9, weight_decay=5e-4)


class Plain(nn.Module):
    """A network of two layers, in which no row sees another."""

    num_images = 1
    takes_keys = True
    scores_pairs = False

    num_identities: int | None = None
    dropout: float = 0.0
    reweights: bool = False
    batch_norm: bool = False
    axis_name: str | None = None
    num_streams: int = 1

    @nn.compact
    def __call__(self, image, *, train: bool, keys=None) -> dict[str, Any]:
        maps = nn.tanh(nn.Dense(4, name="colours")(image / 64))
        x = maps.mean((1, 2))
        if self.batch_norm:
            x = BatchNorm(axis_name=self.axis_name, name="bn")(x, train=train)
        taps = {"map": maps, "embedding": nn.Dense(DIM, name="embedding")(x)}
        if self.reweights:
            taps["feature_weights"] = self.param("weights", nn.initializers.normal(1), (DIM,))
            taps["embedding"] *= taps["feature_weights"]
        if self.num_identities:
            dropped = taps["embedding"]
            if train and self.dropout:
                dropped = dropout(dropped, self.dropout, keys)
            taps["logits"] = nn.Dense(self.num_identities, name="identification")(dropped)
        return taps


class PlainPairs(nn.Module):
    """What the objective of csn reads, of two layers."""

    num_images = 2
    takes_keys = False
    scores_pairs = True

    @nn.compact
    def __call__(self, image_a, image_b, *, train: bool) -> dict[str, Any]:
        del train
        embed = Plain(name="embed")
        a, b = (embed(image, train=True)["embedding"] for image in (image_a, image_b))
        theta = nn.Dense(18, name="theta")
        outputs = {"pair_logits": nn.Dense(2, name="match")((a - b) ** 2)}
        for side, x in (("a", a), ("b", b)):
            outputs[f"descriptor_{side}"] = x / jnp.linalg.norm(x, axis=1, keepdims=True)
            outputs[f"theta2_{side}"] = theta(x).reshape(-1, 3, 6)
        return outputs


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


def three_steps(step, state, shard=lambda batch: batch):
    for number in range(3):
        state, metrics = step(state, shard(tiny.batch_at(number)))
    return jax.device_get((state, metrics))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("num_devices", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_devices_agree_on_parts(num_devices):
    made, state = with_batch_norm()
    wide = lambda leaf: leaf.astype("f8") if leaf.dtype == "f4" else leaf
    state = jax.tree.map(wide, state)
    expected = three_steps(jax.jit(made()), state)
    devices = jax.local_devices()[:num_devices]
    ours = three_steps(
        parallel.pmap_step(made(axis_name=parallel.AXIS), devices),
        parallel.replicate(state, devices),
        lambda batch: parallel.shard(batch, devices),
    )
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
