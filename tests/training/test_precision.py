"""Layers that compute in bfloat16: what stays float32, and where the choice is made."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
import tiny_methods
from etils import epath

from experiments import build, job
from experiments.config import as_dict
from experiments.workdir import write_json
from reid_jax import models, objectives, training
from reid_jax.training import schedules


def floating(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def assert_a_step_is_float32_and_finite(step, state, batch):
    """A step whose layers compute in bfloat16; twice, so that its own state is taken too."""
    step = jax.jit(step)
    for _ in range(2):
        state, metrics = step(state, batch)
    dtypes = {leaf.dtype.name for leaf in floating((state, metrics))}
    assert dtypes == {"float32"}
    assert np.isfinite(metrics["loss"])
    assert np.isfinite(metrics["gradient_norm"])
    assert all(np.isfinite(leaf).all() for leaf in floating(state))


def test_every_objective_has_an_experiment_here():
    assert tiny_methods.EXPERIMENTS.keys() == build.OBJECTIVES.keys()
    for objective, exp in tiny_methods.EXPERIMENTS.items():
        assert tiny_methods.config_of(exp).objective == objective


def test_losses_are_finite_in_bfloat16():
    model = models.ResNet(
        blocks=(1,), bottleneck=False, width=2, num_identities=tiny.IDENTITIES, dtype=jnp.bfloat16
    )
    objective = build.objective(tiny_methods.config_of("strong_market"))
    optimizer = schedules.sgd(tiny.LEARNING_RATE, momentum=0.9, weight_decay=5e-4)
    step = training.make_train_step(model, optimizer, objective, preprocess=tiny.preprocess)
    state = tiny_methods.state_for(model, optimizer, objective)
    assert_a_step_is_float32_and_finite(step, state, tiny.batch_at(0))


@pytest.mark.slow
@pytest.mark.parametrize("exp", tiny_methods.EXPERIMENTS.values())
def test_losses_of_every_objective_are_finite_in_bfloat16(exp):
    config = tiny_methods.config_of(exp, "model.dtype=bfloat16")
    step, state = tiny_methods.make(config)
    assert_a_step_is_float32_and_finite(step, state, tiny_methods.batch_for(config))


@pytest.mark.parametrize("name", ["resnet18", "nine_conv", "csn"])
def test_layers_are_bfloat16_and_what_losses_see_is_not(name):
    model = models.build(name, width=6, dtype=jnp.bfloat16)
    images = [jax.ShapeDtypeStruct((2, 64, 64, 3), np.float32)] * model.num_images

    def outputs(key, *images):
        variables = model.init(key, *images, train=False)
        return variables, model.apply(variables, *images, train=True, mutable=["batch_stats"])

    variables, (taps, changed) = jax.eval_shape(outputs, jax.random.key(0), *images)
    assert {leaf.dtype.name for leaf in jax.tree.leaves((variables, changed))} == {"float32"}
    wide = ("embedding", "before_neck", "logits", "pair_logits", "descriptor", "theta", "fc1")
    pooled = ("pool5",)
    for tap, value in taps.items():
        expected = "float32" if tap.startswith((*wide, *pooled)) else "bfloat16"
        assert value.dtype == expected, tap


def test_batch_norm_has_its_moments_in_float32():
    rng = np.random.default_rng(0)
    # In bfloat16 the mean of these would be 300 or 302, and the variance 0.
    x = jnp.asarray(300 + rng.normal(size=(16, 4, 4, 3)), jnp.bfloat16)
    layer = models.norm.BatchNorm(dtype=jnp.bfloat16)
    variables = tiny.init(layer, x, train=False)
    y, changed = tiny.apply(layer, variables, x, train=True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    wide = np.asarray(x, np.float64).reshape(-1, 3)
    np.testing.assert_allclose(changed["batch_stats"]["mean"], 0.1 * wide.mean(0), rtol=1e-5)
    np.testing.assert_allclose(
        changed["batch_stats"]["var"], 0.9 + 0.1 * wide.var(0, ddof=1), rtol=1e-4
    )


@pytest.mark.parametrize(("platform", "dtype"), [("cpu", "float32"), ("gpu", "bfloat16")])
def test_the_usual_type_is_the_platforms(monkeypatch, platform, dtype):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    assert models.usual_dtype() == dtype


def job_at(workdir, *overrides):
    config = tiny_methods.config_of("softmax_market", *overrides)
    fields = dict.fromkeys(("paper", "data_dir", "command"))
    ids = {"exp": "softmax_market", "scale": "small", "seed": 0, "split": 0}
    return job.Job(config=config, workdir=epath.Path(workdir), **ids, **fields)


def dtype_of(made):
    return job.with_dtype(made).config.model.dtype


def test_a_run_keeps_its_type_on_another_platform(tmp_path, monkeypatch, capsys):
    platform = ["gpu"]
    monkeypatch.setattr(jax, "default_backend", lambda: platform[0])
    assert dtype_of(job_at(tmp_path)) == "bfloat16"
    assert "bfloat16" in capsys.readouterr().out
    assert dtype_of(job_at(tmp_path, "model.dtype=float32")) == "float32"
    begun = job.with_dtype(job_at(tmp_path))
    write_json(tmp_path / "config.json", {"config": as_dict(begun.config)})
    platform[0] = "cpu"
    assert dtype_of(job_at(tmp_path)) == "float32"  # Not begun before there is a checkpoint.
    (tmp_path / "results.json").touch()
    assert dtype_of(job_at(tmp_path)) == "bfloat16"
    # A run of before there was a choice.
    write_json(tmp_path / "config.json", {"config": as_dict(job_at(tmp_path).config)})
    platform[0] = "gpu"
    assert dtype_of(job_at(tmp_path)) is None


def last_losses(dtype, seeds, steps):
    """Mean loss of the last third of short trainings on images that carry their label."""
    model = models.ResNet(
        blocks=(1,), bottleneck=False, width=4, num_identities=tiny.IDENTITIES, dtype=dtype
    )
    objective = objectives.softmax()
    optimizer = schedules.sgd(lambda step: 0.02, momentum=0.9, weight_decay=5e-4)
    step = jax.jit(training.make_train_step(model, optimizer, objective))
    colours = np.random.default_rng(99).normal(size=(tiny.IDENTITIES, 1, 1, 3))
    found = []
    for seed in seeds:
        state = tiny_methods.state_for(model, optimizer, objective, seed)
        rng = np.random.default_rng(seed)
        losses = []
        for _ in range(steps):
            labels = rng.integers(0, tiny.IDENTITIES, tiny.BATCH).astype(np.int32)
            images = rng.normal(size=(tiny.BATCH, 32, 32, 3)) + colours[labels]
            batch = {"image": images.astype(np.float32), "identity": labels}
            state, metrics = step(state, batch)
            losses.append(float(metrics["loss"]))
        found.append(np.mean(losses[-steps // 3 :]))
    return np.array(found)


@pytest.mark.slow
def test_a_short_training_agrees_with_float32_within_the_spread_of_seeds():
    wide, narrow = (last_losses(dtype, range(4), 60) for dtype in (None, jnp.bfloat16))
    assert max(wide.max(), narrow.max()) < 0.9 * np.log(tiny.IDENTITIES), (wide, narrow)
    assert abs(narrow.mean() - wide.mean()) < wide.std(ddof=1), (wide, narrow)
