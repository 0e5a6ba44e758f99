"""The smallest whole training: a two-block network, random images, every moving part on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from reid_jax import augment, models, objectives, parallel, training
from reid_jax.keys import batch_keys
from reid_jax.training import schedules

BATCH, IDENTITIES, IMAGE = 16, 5, (36, 32, 3)


OVERRIDES = (
    "data.image_size=(32,32)",
    "model.width=4",
    "sampler.batch_size=8",
    "optimizer.num_steps=4",
    "optimizer.boundaries=(3,)",
    "train.log_every=2",
    "train.checkpoint_every=2",
    "train.validate_every=2",
    "evaluation.batch_size=8",
)
"""The values with which ``run.py`` takes four tiny steps."""


def batch_at(step, rows=slice(None)):
    """The batch of a step: positive pairs fall unevenly on devices, and some identity is alone."""
    rng = np.random.default_rng(step)
    batch = {
        "image": rng.integers(0, 256, (BATCH, *IMAGE), dtype=np.uint8),
        "identity": np.sort(rng.integers(0, IDENTITIES - 1, BATCH)).astype(np.int32),
        "camera": np.ones(BATCH, np.int32),
        "row": np.arange(BATCH, dtype=np.int32),
        "key": batch_keys(7, step, BATCH),
    }
    return {name: value[rows] for name, value in batch.items()}


def pair_batch(step, positives=3):
    """A batch of pairs, with the positive ones on the first devices."""
    batch = {}
    for number, suffix in enumerate("ab"):
        single = batch_at(10 * step + number)
        single["key"] = batch_keys(3, step, BATCH, stream=number)
        batch |= {f"{name}_{suffix}": value for name, value in single.items()}
    batch["same"] = np.arange(BATCH) < positives
    batch["identity_b"] = np.where(batch["same"], batch["identity_a"], batch["identity_b"])
    return batch


def batches(first_step):
    """Batches from a step on, for ever."""
    step = first_step
    while True:
        yield batch_at(step)
        step += 1


def preprocess(images, keys):
    """Random shift and flip, then normalisation."""
    shift, flip = jax.vmap(jax.random.split, out_axes=1)(keys)
    images = augment.random_flip(augment.random_shift(images, shift, padding=2), flip)
    return augment.standardise(images, mean=np.full(3, 120.0), std=np.full(3, 64.0))


def init(model, *images, seed=0, **options):
    """Fresh variables, as one program: op by op, each operation is compiled for each shape."""
    # As in create_state: random numbers of many shapes take XLA long to optimise.
    quick = {"xla_backend_optimization_level": 0}
    compiled = jax.jit(functools.partial(model.init, **options), compiler_options=quick)
    return compiled(jax.random.key(seed), *images)


def apply(model, variables, *images, **options):
    """A network's outputs, as one program."""
    return jax.jit(functools.partial(model.apply, **options))(variables, *images)


LEARNING_RATE = schedules.step_decay(0.05, boundaries=[2])


def make(objective_name, gradient="autodiff", axis_name=None, learning_rate=LEARNING_RATE):
    """(step, state) of a method."""
    model = models.ResNet(
        blocks=(1, 1), bottleneck=False, width=4, num_identities=IDENTITIES, dropout=0.5
    )
    objective = objectives.softmax()
    if objective_name == "batch_contrastive":
        objective = objectives.batch_contrastive(
            margin=1.0, center_rate=0.5, loss_weight=0.3, gradient=gradient
        )
    loss_state = objective.init(np.arange(IDENTITIES), 8)
    optimizer = schedules.sgd(learning_rate, momentum=0.9, weight_decay=5e-4)
    step = training.make_train_step(
        model, optimizer, objective, axis_name=axis_name, preprocess=preprocess
    )
    state = training.create_state(
        model, optimizer, jnp.zeros((1, *IMAGE)), key=jax.random.key(1), loss_state=loss_state
    )
    return step, jax.device_get(state)


@functools.cache
def pmapped(num_devices):
    """(step, state, devices), compiled once for all tests of a process."""
    step, state = make("batch_contrastive", axis_name=parallel.AXIS)
    devices = jax.local_devices()[:num_devices]
    return parallel.pmap_step(step, devices), state, devices


def fit(workdir, *, num_devices=1, num_steps=8, checkpoint_every=2, batches=batches, **kwargs):
    """Trains in a work directory as a run does, or goes on there."""
    step, state, devices = pmapped(num_devices)
    checkpoints = training.Checkpoints(workdir)
    try:
        return training.train(
            state,
            step,
            batches,
            devices=devices,
            images_per_step=BATCH,
            num_steps=num_steps,
            intervals=training.Intervals(
                log_every=3,
                checkpoint_every=checkpoint_every,
                validate_every=kwargs.pop("validate_every", 0),
            ),
            checkpoints=checkpoints,
            workdir=workdir,
            learning_rate=LEARNING_RATE,
            **kwargs,
        )
    finally:
        checkpoints.close()


def assert_close(ours, theirs, tolerance):
    """Two trees are equal to a tolerance, leaf by leaf; 0 means bit for bit."""

    def leaf(path, a, b):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)

    jax.tree_util.tree_map_with_path(leaf, ours, theirs)
