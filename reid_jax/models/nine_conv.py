"""The nine-convolution network of Jin et al. (arXiv 1705.03332), on which CLEVER is built.

The layers are numbered as in Zheng et al. (clever): `conv1` .. `conv9`, then `fc1`.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from reid_jax.models.conv import Conv
from reid_jax.models.dropout import dropout
from reid_jax.models.network import IDENTIFICATION_HEAD, check_image
from reid_jax.models.norm import BatchNorm
from reid_jax.models.pooling import max_pool

__all__ = ["NineConv"]

# Channels of each convolution in multiples of the width; a pooling follows every group.
GROUPS = ((1, 1, 1), (2, 3), (4, 6), (8, 12))
TEST_STATISTICS = ("running", "batch")
he = nn.initializers.he_normal()  # truncated normal, fan-in


class NineConv(nn.Module):
    """Nine 3x3 convolutions and one dense layer, each with batch norm and leaky ReLU 0.2.

    `apply(variables, image, train=...)` takes images [B, H, W, 3], float, mean subtracted (128 x
    48 in the paper; one size for a set of variables, since `fc1` sees every position), and
    returns a dictionary: `conv1` to `conv9` [B, h, w, C] (after their leaky ReLU), `fc1` and
    `embedding` [B, D] (the same array unless features are reweighted) and, with a head,
    `logits` [B, K]. In training give `mutable=["batch_stats"]` and, if `dropout` > 0, one
    `keys` entry a row. Embedding and logits are float32 (or wider) whatever `dtype` is.

    Attributes:
        num_identities: size of the identification head, which has no bias; None leaves it out.
        dropout: share of the embedding that is dropped on the way to the identification head; the
            paper has none.
        width: channels of conv1; all other layers scale with it. 32 in the paper, with D = 512.
        feature_reweighting: multiplies fc1 by a learned vector, which is the tap
            `feature_weights` [D], to give the embedding (row CNN-FRW-IC of Table 2). What keeps
            its norm in place is a term of the objective.
        test_statistics: of batch norm outside training: 'running' averages, or those of the 'batch'
            that is tested, as in the code that the paper builds on. The variables are the same for
            both.
        axis_name: device axis over which the batch is divided; None if the full batch is here.
        num_streams: equal parts of the batch with batch statistics of their own.
        dtype: dtype of the layers' computation, such as bfloat16 on a TPU; None promotes the
            image's and the parameters' dtypes.
    Deviation: one bias after each normalisation, where that code adds two; the functions are the
        same, and under Adam the sum of two would move at twice the rate. Running averages, which
        the code never updates, have momentum 0.99.
    """

    # See `network.Network`.
    num_images = 1
    takes_keys = True
    scores_pairs = False

    num_identities: int | None = None
    dropout: float = 0.0
    width: int = 32
    feature_reweighting: bool = False
    test_statistics: str = "running"
    axis_name: str | None = None
    num_streams: int = 1
    dtype: Any = None

    def __post_init__(self) -> None:
        if (given := self.test_statistics) not in TEST_STATISTICS:
            raise ValueError(
                f"test_statistics={given!r} is not known; known: {', '.join(TEST_STATISTICS)}."
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self, image: jax.Array, *, train: bool = False, keys: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        check_image(image, smallest=(1, 1), network="nine-convolution network")
        if train and self.dropout and self.num_identities and keys is None:
            raise ValueError("dropout in training needs keys [B], one per row; got keys=None.")

        taps = {}
        x, number = image, 0
        for group in GROUPS:
            for multiple in group:
                number += 1
                x = Conv(
                    multiple * self.width,
                    (3, 3),
                    padding=((1, 1), (1, 1)),
                    dtype=self.dtype,
                    kernel_init=he,
                    name=f"conv{number}",
                )(x)
                x = self._activated(x, f"bn{number}", train=train)
                taps[f"conv{number}"] = x
            # 'SAME': an odd size gets one more pixel at the end.
            rows, columns = ((0, size % 2) for size in x.shape[1:3])
            x = max_pool(x, window=(2, 2), padding=(rows, columns))

        x = nn.Dense(16 * self.width, use_bias=False, dtype=self.dtype, kernel_init=he, name="fc1")(
            x.reshape(x.shape[0], -1)
        )
        x = self._activated(x, "bn_fc1", train=train)
        embedding = taps["fc1"] = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.feature_reweighting:
            shape = embedding.shape[-1:]
            weights = self.param("feature_weights", _he_of_vector, shape, jnp.float32)
            taps["feature_weights"] = weights
            embedding = embedding * weights
        taps["embedding"] = embedding
        if self.num_identities:
            if train and self.dropout:
                embedding = dropout(embedding, self.dropout, keys)
            taps["logits"] = nn.Dense(
                self.num_identities, use_bias=False, kernel_init=he, name=IDENTIFICATION_HEAD
            )(embedding)
        return taps

    def _activated(self, x: jax.Array, name: str, *, train: bool) -> jax.Array:
        x = BatchNorm(
            momentum=0.99,
            epsilon=1e-3,
            axis_name=self.axis_name,
            num_streams=self.num_streams,
            dtype=self.dtype,
            use_scale=False,
            bias_init=nn.initializers.constant(0.01),
            test_statistics=self.test_statistics,
            name=name,
        )(x, train=train)
        return nn.leaky_relu(x, 0.2)


def _he_of_vector(key: jax.Array, shape: tuple[int], dtype: Any) -> jax.Array:
    """He initialisation of a vector, whose fan-in TensorFlow takes to be its length."""
    return he(key, (*shape, 1), dtype)[:, 0]
