"""What CaffeNet and VGG16 share: everything behind the last convolution."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from reid_jax.keys import as_row_keys
from reid_jax.models.activation import relu
from reid_jax.models.conv import Conv, Pair
from reid_jax.models.dropout import dropout
from reid_jax.models.initialisers import before_loss
from reid_jax.models.network import IDENTIFICATION_HEAD
from reid_jax.models.pooling import ceil_padding, max_pool

__all__ = ["PlainNet"]

POOLINGS = ("fc", "max")
FC6 = 2  # folded into a row's key; the heads use the key as it is, Siamese's square layer folds 1

he = nn.initializers.he_normal()


class PlainNet(nn.Module):
    """Convolutions without batch norm or shortcuts, then two dense layers or a global maximum.

    Attributes:
        num_identities: size of the identification head; None leaves it out.
        dropout: share of the embedding that is dropped on the way to the identification head.
        hidden_dropout: share of fc6 that is dropped on the way to fc7.
        pooling: 'fc': the embedding is fc7. 'max': it is the maximum of conv5 over all positions
            (MAC, Tolias et al. 2016), there is no fc6 and fc7, and one set of variables takes
            images of any size.
        width: channels of the first convolution; all other layers scale with it.
        axis_name: unused, since no layer mixes rows; every network here has it.
        num_streams: unused, for the same reason.
        dtype: dtype of the layers' computation, such as bfloat16 on a TPU; None promotes the
            image's and the parameters' dtypes.
    """

    # See `network.Network`.
    num_images = 1
    takes_keys = True
    scores_pairs = False

    num_identities: int | None = None
    dropout: float = 0.0
    hidden_dropout: float = 0.0
    pooling: str = "fc"
    width: int = 64
    axis_name: str | None = None
    num_streams: int = 1
    dtype: Any = None

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(
                f"pooling={self.pooling!r} is not known; known: {', '.join(POOLINGS)}."
            )
        super().__post_init__()

    def _convolved(self, x: jax.Array, features: int, size: int, name: str, **how: Any) -> Any:
        """relu(convolution + bias)."""
        conv = Conv(
            features,
            (size, size),
            use_bias=True,
            dtype=self.dtype,
            kernel_init=he,
            name=name,
            **how,
        )
        return relu(conv(x))

    def _described(
        self, x: jax.Array, *, window: Pair, features: int, train: bool, keys: jax.Array | None
    ) -> dict[str, jax.Array]:
        """The taps behind the last convolution `x`, which a `window` pools for fc6."""
        has_fc = self.pooling == "fc"
        drops_fc6 = train and has_fc and self.hidden_dropout > 0
        drops_embedding = train and self.num_identities and self.dropout > 0
        if (drops_fc6 or drops_embedding) and keys is None:
            raise ValueError("dropout in training needs keys [B], one per row; got keys=None.")

        taps = {}
        wide = jnp.promote_types(x.dtype, jnp.float32)
        if has_fc:
            taps["pool5"] = x = pool(x, window)
            self._check_map(x)
            # A convolution with one position: its kernel [h, w, C, features] is tied to the map.
            x = Conv(
                features,
                (x.shape[1], x.shape[2]),
                use_bias=True,
                dtype=self.dtype,
                kernel_init=he,
                name="fc6",
            )(x)
            taps["fc6"] = x = relu(jnp.squeeze(x, (1, 2)))
            if drops_fc6:
                own_keys = jax.vmap(jax.random.fold_in, (0, None))(as_row_keys(keys, len(x)), FC6)
                x = dropout(x, self.hidden_dropout, own_keys)
            x = relu(nn.Dense(features, dtype=self.dtype, kernel_init=he, name="fc7")(x))
            taps["fc7"] = embedding = x.astype(wide)
        else:
            taps["pool5"] = embedding = x.astype(wide).max((1, 2))
        taps["embedding"] = embedding
        if self.num_identities:
            if drops_embedding:
                embedding = dropout(embedding, self.dropout, keys)
            taps["logits"] = nn.Dense(
                self.num_identities, kernel_init=before_loss, name=IDENTIFICATION_HEAD
            )(embedding)
        return taps

    def _check_map(self, x: jax.Array) -> None:
        if not self.has_variable("params", "fc6"):
            return
        made_for: tuple[int, ...] = self.get_variable("params", "fc6")["kernel"].shape[:2]
        if made_for != x.shape[1:3]:
            raise ValueError(
                f"fc6 was made for maps of {made_for[0]} x {made_for[1]} and these images give "
                f"{x.shape[1]} x {x.shape[2]}: give images of the size that the variables were "
                "made with, or build the network with pooling='max' for images of any size."
            )


def pool(x: jax.Array, window: Pair) -> jax.Array:
    """Maximum over windows two pixels apart, of which Caffe rounds the number up."""
    strides = (2, 2)
    padding = ceil_padding(x.shape[1:3], window=window, strides=strides)
    return max_pool(x, window=window, strides=strides, padding=padding)
