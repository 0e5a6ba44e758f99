"""Training: state, step, schedules, the loop, and `fit`, which puts them together."""

from reid_jax.checkpoint import Checkpoints
from reid_jax.training.loop import Intervals, NonFiniteLossError, StoppedError, train
from reid_jax.training.state import TrainState, create_state
from reid_jax.training.step import make_train_step, with_resident_images
from reid_jax.training.trainer import fit

__all__ = [
    "Checkpoints",
    "Intervals",
    "NonFiniteLossError",
    "StoppedError",
    "TrainState",
    "create_state",
    "fit",
    "make_train_step",
    "train",
    "with_resident_images",
]
