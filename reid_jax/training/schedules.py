"""Learning rates as functions of the step, and the optimizers of the papers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import optax

__all__ = ["adam", "kernels", "sgd", "step_decay"]


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


def adam(schedule: optax.Schedule, *, weight_decay: float) -> optax.GradientTransformation:
    """Adam (Kingma and Ba 2015) with weight decay as a term of the loss, 1/2 w |kernel|^2.

    The decay joins the gradient before the moments ("coupled"), as in TensorFlow 1 and PyTorch's
    Adam; it is not that of AdamW.

    Args:
        schedule: learning rate of each step.
        weight_decay: w, of kernels only (see :func:`kernels`).
    """
    return optax.chain(
        optax.add_decayed_weights(weight_decay, mask=kernels),
        optax.scale_by_adam(),
        optax.scale_by_learning_rate(schedule),
    )


def kernels(params: Any) -> Any:
    """A tree like ``params`` that is True at kernels: parameters of two or more axes."""
    return jax.tree.map(lambda leaf: leaf.ndim >= 2, params)
