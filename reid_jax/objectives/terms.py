"""What the objectives share: terms of a loss as global means, each with what is logged of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from reid_jax import parallel
from reid_jax.losses import identification_loss, verification_loss
from reid_jax.objectives.objective import Arrays

__all__ = ["accuracy", "identification", "pair_identification", "verification"]


def accuracy(logits: jax.Array, labels: jax.Array, *, axis_name: str | None) -> jax.Array:
    """Share of the rows whose largest logit is the label's."""
    right = (jnp.argmax(logits, axis=1) == labels).astype(logits.dtype)
    return parallel.mean(right, axis_name=axis_name)


def identification(
    logits: jax.Array, labels: jax.Array, *, axis_name: str | None, smoothing: float = 0.0
) -> tuple[jax.Array, Arrays]:
    """Mean cross-entropy of identification, with the accuracy.

    Args:
        logits: [B, K] rows of this device.
        labels: [B] int32.
        axis_name: device axis.
        smoothing: of the labels, see `identification_loss`.
    Returns:
        (loss, metrics) of the global batch.
    """
    loss = parallel.mean(
        identification_loss(logits, labels, smoothing=smoothing), axis_name=axis_name
    )
    return loss, {
        "identification_loss": loss,
        "accuracy": accuracy(logits, labels, axis_name=axis_name),
    }


def pair_identification(
    outputs: Arrays, batch: Arrays, *, axis_name: str | None
) -> tuple[jax.Array, Arrays]:
    """`identification` of both images of each pair: half the sum of the two streams' means.

    Args:
        outputs: `logits_a`, `logits_b` [P, K].
        batch: `identity_a`, `identity_b` [P].
        axis_name: device axis.
    """
    logits = jnp.concatenate([outputs["logits_a"], outputs["logits_b"]])
    labels = jnp.concatenate([batch["identity_a"], batch["identity_b"]])
    return identification(logits, labels, axis_name=axis_name)


def verification(
    pair_logits: jax.Array, same: jax.Array, *, axis_name: str | None
) -> tuple[jax.Array, Arrays]:
    """Mean cross-entropy of verification, with its accuracy.

    Args:
        pair_logits: [P, 2], index 1 = same identity.
        same: [P] bool.
        axis_name: device axis.
    Returns:
        (loss, metrics) of the global batch.
    """
    loss = parallel.mean(verification_loss(pair_logits, same), axis_name=axis_name)
    return loss, {
        "verification_loss": loss,
        "verification_accuracy": accuracy(pair_logits, same.astype(jnp.int32), axis_name=axis_name),
    }
