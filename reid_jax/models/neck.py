"""From pooled features to an embedding and the logits of identification."""

from __future__ import annotations

from collections.abc import Callable

import flax.linen as nn
import jax

from reid_jax.models.dropout import dropout
from reid_jax.models.network import IDENTIFICATION_HEAD, NECK
from reid_jax.models.norm import BatchNorm

__all__ = ["embedding_and_logits"]


def embedding_and_logits(
    pooled: jax.Array,
    *,
    num_identities: int | None,
    neck: bool,
    dropout_rate: float,
    head_init: Callable[..., jax.Array],
    train: bool,
    keys: jax.Array | None,
    axis_name: str | None,
    num_streams: int,
) -> dict[str, jax.Array]:
    """The last layers of a network of single images; called in its compact method.

    The neck is a batch norm without a shift, behind which a head without a bias tells identities
    apart by angle, while losses on distances see what is before it (BNNeck, Luo et al. 2019,
    "Bag of Tricks and A Strong Baseline for Deep Person Re-identification", Sec. 3.5).

    Args:
        pooled: [B, D] float.
        num_identities: K, size of the identification head; None leaves it out.
        neck: puts the neck behind `pooled`, and its result is the embedding.
        dropout_rate: share of the embedding that is dropped on the way to the head.
        head_init: initialiser of the head's kernel.
        train: whether the network is trained.
        keys: [B] random keys, needed for dropout in training.
        axis_name: device axis over which the batch is divided; None if all of it is here.
        num_streams: equal parts of the batch with batch statistics of their own.

    Returns:
        `embedding` [B, D]; with a neck `before_neck` [B, D], which is `pooled`; with a head
        `logits` [B, K].
    """
    taps = {}
    if neck:
        taps["before_neck"] = pooled
        batch_norm = BatchNorm(
            axis_name=axis_name, num_streams=num_streams, use_bias=False, name=NECK
        )
        pooled = batch_norm(pooled, train=train)
    taps["embedding"] = pooled
    if num_identities:
        if train and dropout_rate:
            pooled = dropout(pooled, dropout_rate, keys)
        head = nn.Dense(
            num_identities, use_bias=not neck, kernel_init=head_init, name=IDENTIFICATION_HEAD
        )
        taps["logits"] = head(pooled)
    return taps
