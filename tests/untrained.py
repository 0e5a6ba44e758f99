"""Runs without a training: of all that a run leaves, only the place and the variables matter.

Neither the initial numbers nor a step is compiled, which is most of what a tiny run takes.
"""

import contextlib

import jax
import numpy as np
import pytest

from reid_jax.training import TrainState, create_state


def drawn_state(model, optimizer, *images, key, loss_state=None):
    """As ``create_state``, with numbers of NumPy's: those of JAX take a while to compile."""
    shapes = jax.eval_shape(lambda k: create_state(model, optimizer, *images, key=k), key)
    rng = np.random.default_rng(0)
    fill = lambda leaf: rng.uniform(0.1, 0.2, leaf.shape).astype(leaf.dtype)
    params, batch_stats = jax.tree.map(fill, (shapes.params, shapes.batch_stats))
    opt_state, step = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype), (shapes.opt_state, shapes.step)
    )
    return TrainState(step, params, batch_stats, opt_state, loss_state)


def without_steps(state, *args, checkpoints, num_steps, **kwargs):
    """As ``train``, for a run of which only the place and the variables matter."""
    state = state.replace(step=np.int32(num_steps))
    checkpoints.save(state, num_steps)
    checkpoints.wait()
    return state


@contextlib.contextmanager
def runs(state=drawn_state):
    """A context in which every run of an experiment takes no step, and leaves drawn variables.

    With ``state=create_state`` they are the network's own initial ones.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("reid_jax.training.trainer.create_state", state)
        patched.setattr("reid_jax.training.trainer.train", without_steps)
        yield
