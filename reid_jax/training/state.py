"""Everything that a training step changes, in one tree of arrays."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

__all__ = ["TrainState", "create_state"]


@flax.struct.dataclass
class TrainState:
    """What one step takes and gives back; arrays only, so it can be donated and saved whole.

    Attributes:
        step: int32 scalar, the number of steps taken.
        params: parameters of the model.
        batch_stats: running statistics of batch norm, or an empty dict.
        opt_state: state of the optimizer.
        loss_state: centers, mean codes, or whatever the objective carries; `None` for nothing.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    loss_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What the model is applied to: `params` and `batch_stats`."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    *images: jax.Array | np.ndarray,
    key: jax.Array,
    loss_state: Any = None,
) -> TrainState:
    """A fresh state for a model.

    Args:
        model: takes `images` and `train`.
        optimizer: its state is made for the model's parameters.
        *images: one example input (two for a siamese model), [1, H, W, 3] float.
        key: for the initial parameters.
        loss_state: the objective's initial state.
    """

    def fresh(key: jax.Array, *images: jax.Array) -> TrainState:
        variables = model.init(key, *images, train=False)
        params = variables["params"]
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=variables.get("batch_stats", {}),
            opt_state=optimizer.init(params),
            loss_state=None,
        )

    # Random numbers of many shapes take XLA's CPU compiler ten seconds to optimise, and are drawn
    # once. A function that is being traced takes no options.
    plain = jax.default_backend() != "cpu" or isinstance(key, jax.core.Tracer)
    options = None if plain else {"xla_backend_optimization_level": 0}
    state = jax.jit(fresh, compiler_options=options)(key, *images)
    return dataclasses.replace(state, loss_state=loss_state)
