"""Training: state, objectives, the step, schedules, checkpoints and the loop."""

from reid_jax.training.checkpoint import Checkpoints
from reid_jax.training.loop import NonFiniteLossError, Schedule, StoppedError, fit
from reid_jax.training.state import TrainState, create_state
from reid_jax.training.step import make_train_step, with_resident_images

__all__ = [
    "Checkpoints",
    "NonFiniteLossError",
    "Schedule",
    "StoppedError",
    "TrainState",
    "create_state",
    "fit",
    "make_train_step",
    "with_resident_images",
]
