"""Learning rates as functions of the step, and the optimizers of the papers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

__all__ = [
    "adam",
    "cosine_decay",
    "exponential_decay",
    "freeze_until",
    "kernels",
    "sgd",
    "step_decay",
    "warm_up",
]


def kernels(params: Any) -> Any:
    """A tree like `params` that is True at kernels: parameters of two or more axes."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)


def step_decay(
    learning_rate: float, *, boundaries: Sequence[int], factor: float = 0.1
) -> optax.Schedule:
    """Multiplies the learning rate by `factor` from each step in `boundaries` on."""
    return optax.piecewise_constant_schedule(
        learning_rate, {int(step): factor for step in boundaries}
    )


def _progress(first_step: int, num_steps: int) -> optax.Schedule:
    """From 0 up to `first_step` along a line to 1 at the end."""
    if not 0 <= first_step < num_steps:
        raise ValueError(f"a decay from step {first_step} on does not fit in {num_steps} steps.")
    return lambda step: jnp.clip((step - first_step) / (num_steps - first_step), 0, 1)


def exponential_decay(
    learning_rate: float, *, first_step: int, num_steps: int, final: float = 1e-3
) -> optax.Schedule:
    """Constant up to `first_step`, then a constant factor a step, to `final` of it at the end.

    Args:
        learning_rate: of the constant part.
        first_step: from which it decays.
        num_steps: of the training.
        final: what is left of it after the last step, as a fraction.
    Raises:
        ValueError: if the decay does not begin before the end.
    """
    progress = _progress(first_step, num_steps)
    return lambda step: learning_rate * final ** progress(step)


def cosine_decay(learning_rate: float, *, num_steps: int, first_step: int = 0) -> optax.Schedule:
    """Half a cosine from `learning_rate` to 0 (Loshchilov and Hutter, arXiv 1608.03983).

    Args:
        learning_rate: of the first step.
        num_steps: of the training, after which it is 0.
        first_step: up to which it is constant, such as the end of a warm-up.
    Raises:
        ValueError: if the decay does not begin before the end.
    """
    progress = _progress(first_step, num_steps)
    return lambda step: learning_rate * (1 + jnp.cos(jnp.pi * progress(step))) / 2


def warm_up(schedule: optax.Schedule, *, num_steps: int, start: float) -> optax.Schedule:
    """Rises along a line from a share of a schedule to all of it (Luo et al. 2019, Sec. 3.1).

    Args:
        schedule: learning rate of each step.
        num_steps: for how many steps it is below the schedule; 0 leaves the schedule as it is.
        start: share of the first step.
    """
    if not num_steps:
        return schedule

    def warmed(step: jax.Array) -> jax.Array:
        return schedule(step) * (start + (1 - start) * jnp.minimum(step / num_steps, 1))

    return warmed


def sgd(
    schedule: optax.Schedule,
    *,
    momentum: float,
    weight_decay: float,
    decayed: Callable[[Any], Any] | None = None,
) -> optax.GradientTransformation:
    """SGD as Caffe and MatConvNet have it: weight decay joins the gradient before the momentum.

    Args:
        schedule: learning rate of each step.
        momentum: of the running sum of gradients.
        weight_decay: times each parameter that decays.
        decayed: `decayed(params)` is a tree like them, True where a parameter decays; None: all
            do, batch norm and biases included.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=decayed),
        optax.trace(decay=momentum),
        optax.scale_by_learning_rate(schedule),
    )


def adam(
    schedule: optax.Schedule,
    *,
    weight_decay: float,
    decayed: Callable[[Any], Any] | None = kernels,
) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015) with weight decay as a term of the loss, 1/2 w |parameter|^2.

    The decay joins the gradient before the moments ("coupled"), as in TensorFlow 1 and PyTorch's
    Adam; it is not that of AdamW.

    Args:
        schedule: learning rate of each step.
        weight_decay: w, of each parameter that decays.
        decayed: as of `sgd`; by default kernels alone, as TensorFlow 1's layers have it.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=decayed),
        optax.scale_by_adam(),
        optax.scale_by_learning_rate(schedule),
    )


def freeze_until(
    optimizer: optax.GradientTransformation,
    is_trained: Callable[[Any], Any],
    *,
    num_steps: int,
) -> optax.GradientTransformation:
    """An optimizer that trains a part of the parameters alone for its first steps, then all.

    It sees all gradients from the start, so that its moments are warm and its schedule is the same
    for all parameters when the rest begins to move.

    Args:
        optimizer: of all parameters.
        is_trained: `is_trained(params)` is a tree like them, True where they move from the start.
        num_steps: for how many steps the rest is as it was.
    """

    def init(params: Any) -> tuple[jax.Array, Any]:
        return jnp.zeros((), jnp.int32), optimizer.init(params)

    def update(
        gradients: Any, state: tuple[jax.Array, Any], params: Any
    ) -> tuple[Any, tuple[jax.Array, Any]]:
        step, inner = state
        updates, inner = optimizer.update(gradients, inner, params)
        moves = step >= num_steps
        updates = jax.tree.map(
            lambda trained, leaf: leaf if trained else jnp.where(moves, leaf, 0),
            is_trained(updates),
            updates,
        )
        return updates, (step + 1, inner)

    return optax.GradientTransformation(init, update)
