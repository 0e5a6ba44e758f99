"""Networks of two layers, which compile in no time, with what every objective reads."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from reid_jax.models.dropout import dropout
from reid_jax.models.norm import BatchNorm

DIM = 6


class Plain(nn.Module):
    """A network of two layers, in which no row sees another."""

    num_images = 1
    takes_keys = True
    scores_pairs = False

    num_identities: int | None = None
    dropout: float = 0.0
    reweights: bool = False
    batch_norm: bool = False
    axis_name: str | None = None
    num_streams: int = 1

    @nn.compact
    def __call__(self, image, *, train: bool, keys=None) -> dict[str, Any]:
        maps = nn.tanh(nn.Dense(4, name="colours")(image / 64))
        x = maps.mean((1, 2))
        if self.batch_norm:
            x = BatchNorm(axis_name=self.axis_name, name="bn")(x, train=train)
        taps = {"map": maps, "embedding": nn.Dense(DIM, name="embedding")(x)}
        if self.reweights:
            taps["feature_weights"] = self.param("weights", nn.initializers.normal(1), (DIM,))
            taps["embedding"] *= taps["feature_weights"]
        if self.num_identities:
            dropped = taps["embedding"]
            if train and self.dropout:
                dropped = dropout(dropped, self.dropout, keys)
            taps["logits"] = nn.Dense(self.num_identities, name="identification")(dropped)
        return taps


class PlainPairs(nn.Module):
    """What the objective of csn reads, of two layers."""

    num_images = 2
    takes_keys = False
    scores_pairs = True

    @nn.compact
    def __call__(self, image_a, image_b, *, train: bool) -> dict[str, Any]:
        del train
        embed = Plain(name="embed")
        a, b = (embed(image, train=True)["embedding"] for image in (image_a, image_b))
        theta = nn.Dense(18, name="theta")
        outputs = {"pair_logits": nn.Dense(2, name="match")((a - b) ** 2)}
        for side, x in (("a", a), ("b", b)):
            outputs[f"descriptor_{side}"] = x / jnp.linalg.norm(x, axis=1, keepdims=True)
            outputs[f"theta2_{side}"] = theta(x).reshape(-1, 3, 6)
        return outputs
