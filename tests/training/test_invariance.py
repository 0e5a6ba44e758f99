"""1, 2, 4 and 8 devices give the same parameters, centers and batch statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reid_jax import augment, losses, models, parallel, training
from reid_jax.data import row_keys
from reid_jax.training import objectives, schedules

BATCH, IDENTITIES, STEPS = 16, 5, 3


def batch_at(step):
    rng = np.random.default_rng(step)
    return {
        "image": rng.integers(0, 256, (BATCH, 36, 32, 3), dtype=np.uint8),
        # Positive pairs fall unevenly on the devices, and one identity is alone.
        "identity": np.sort(rng.integers(0, IDENTITIES - 1, BATCH)).astype(np.int32),
        "camera": np.ones(BATCH, np.int32),
        "row": np.arange(BATCH, dtype=np.int32),
        "key": row_keys(7, step, BATCH),
    }


def preprocess(images, keys):
    crop, flip = jax.vmap(jax.random.split, out_axes=1)(keys)
    images = augment.random_flip(augment.random_shift(images, crop, padding=2), flip)
    return augment.normalise(images, mean=np.full(3, 120.0), std=np.full(3, 64.0))


def make(objective_name, gradient="autodiff", axis_name=None):
    model = models.ResNet(
        blocks=(1, 1), bottleneck=False, width=4, num_identities=IDENTITIES, dropout=0.5
    )
    objective, loss_state = objectives.softmax, None
    if objective_name == "batch_contrastive":
        objective = functools.partial(
            objectives.batch_contrastive,
            margin=1.0,
            center_rate=0.5,
            loss_weight=0.3,
            gradient=gradient,
        )
        loss_state = losses.init_centers(IDENTITIES, 8)
    optimizer = schedules.sgd(
        schedules.step_decay(0.05, boundaries=[2]), momentum=0.9, weight_decay=5e-4
    )
    step = training.make_train_step(
        model, optimizer, objective, axis_name=axis_name, preprocess=preprocess
    )
    state = training.create_state(
        model,
        optimizer,
        jnp.zeros((1, 36, 32, 3)),
        key=jax.random.key(1),
        loss_state=loss_state,
    )
    return step, state


def as_dtype(state, dtype):
    cast = lambda x: np.asarray(x).astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
    return jax.tree.map(cast, state)


def run_pmapped(num_devices, dtype, *args):
    step, state = make(*args, axis_name=parallel.AXIS)
    devices = jax.local_devices()[:num_devices]
    step = parallel.pmap_step(step, devices)
    state = parallel.replicate(as_dtype(state, dtype), devices)
    for number in range(STEPS):
        state, metrics = step(state, parallel.shard(batch_at(number), devices))
    for leaf in jax.tree.leaves((state, metrics)):
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(np.asarray(shard.data), np.asarray(leaf))
    return jax.device_get((state, metrics))


@functools.cache
def run_jitted(dtype, *args):
    step, state = make(*args)
    step, state = jax.jit(step), as_dtype(state, dtype)
    for number in range(STEPS):
        state, metrics = step(state, batch_at(number))
    return jax.device_get((state, metrics))


def assert_close(ours, theirs, tolerance):
    def leaf(path, a, b):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)

    jax.tree_util.tree_map_with_path(leaf, ours, theirs)


@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
@pytest.mark.usefixtures("float64")
def test_devices_agree_in_float64(num_devices):
    args = (np.float64, "batch_contrastive")
    assert_close(run_pmapped(num_devices, *args), run_jitted(*args), 1e-10)


@pytest.mark.usefixtures("float64")
def test_devices_agree_with_the_printed_gradient():
    args = (np.float64, "batch_contrastive", "eq8")
    assert_close(run_pmapped(4, *args), run_jitted(*args), 1e-10)
    autodiff = run_jitted(np.float64, "batch_contrastive")
    changed = [
        np.abs(a - b).max()
        for a, b in zip(
            jax.tree.leaves(autodiff[0].params),
            jax.tree.leaves(run_jitted(*args)[0].params),
            strict=True,
        )
    ]
    assert max(changed) > 1e-6


def test_devices_agree_in_float32():
    args = (np.float32, "batch_contrastive")
    assert_close(run_pmapped(8, *args), run_jitted(*args), 1e-5)
