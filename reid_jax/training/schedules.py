"""Learning rates as functions of the step, and the optimizers of the papers."""

from __future__ import annotations

from collections.abc import Sequence

import optax

__all__ = ["sgd", "step_decay"]


def step_decay(
    learning_rate: float, *, boundaries: Sequence[int], factor: float = 0.1
) -> optax.Schedule:
    """Multiplies the learning rate by ``factor`` from each step in ``boundaries`` on."""
    return optax.piecewise_constant_schedule(
        learning_rate, {int(step): factor for step in boundaries}
    )


def sgd(
    schedule: optax.Schedule, *, momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    """SGD as Caffe and MatConvNet have it: weight decay joins the gradient before the momentum.

    Args:
        schedule: learning rate of each step.
        momentum: of the running sum of gradients.
        weight_decay: times each parameter, batch norm and biases included.
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        optax.trace(decay=momentum),
        optax.scale_by_learning_rate(schedule),
    )
