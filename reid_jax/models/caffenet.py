"""CaffeNet (Jia et al. 2014, after Krizhevsky et al. 2012): grouped convolutions and LRN.

The layers are named as in Caffe and in the papers' tables: `conv1` .. `conv5`, pool5, `fc6`,
`fc7`.
"""

from __future__ import annotations

import flax.linen as nn
import jax

from reid_jax.models.network import check_image
from reid_jax.models.norm import local_response_norm
from reid_jax.models.plain import PlainNet, pool

__all__ = ["CaffeNet"]

SMALLEST_IMAGE = (39, 39)  # below it a pooling has no window that begins and ends inside its map
WINDOW = (3, 3)


class CaffeNet(PlainNet):
    """CaffeNet with named taps and, if asked for, an identification head.

    `apply(variables, image, train=...)` takes images [B, H, W, 3], float, mean subtracted, at
    least 39 x 39 (227 x 227 in the paper; one size for a set of variables, unless
    `pooling='max'`), and returns a dictionary: `conv1` to `conv5` [B, h, w, C] (after their
    ReLU), `pool5` [B, h, w, C], `fc6` and `fc7` [B, D] (after their ReLU, before dropout),
    `embedding` (the same array as `fc7`) and, with a head, `logits` [B, K]. With
    `pooling='max'` there is no `fc6` and `fc7`, and `pool5` and `embedding` are the
    maximum of `conv5` over all positions. In training give one `keys` entry a row if
    `dropout` or `hidden_dropout` > 0. Embedding and logits are float32 (or wider) whatever
    `dtype` is.

    60,965,224 parameters with 1000 identities; 4096-dimensional embedding (256 with 'max').
    Kernels start with He's initialisation for ReLU, biases at 0, the head uniform within
    0.1 * sqrt(3 / D).

    Attributes:
        width: channels of conv1, a multiple of 6; 96 in the paper.
    Other attributes: see `PlainNet`.
    """

    width: int = 96

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % 6:
            raise ValueError(
                f"width={self.width} does not divide into CaffeNet's groups: give a multiple of 6 "
                "(96 in the paper)."
            )
        super().__post_init__()

    @nn.compact
    def __call__(
        self, image: jax.Array, *, train: bool = False, keys: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        check_image(image, smallest=SMALLEST_IMAGE, network="CaffeNet")
        unit = self.width // 3
        two, one = ((2, 2), (2, 2)), ((1, 1), (1, 1))
        taps = {}
        x = taps["conv1"] = self._convolved(image, 3 * unit, 11, "conv1", strides=(4, 4))
        x = _normalised(pool(x, WINDOW))
        x = taps["conv2"] = self._convolved(x, 8 * unit, 5, "conv2", padding=two, groups=2)
        x = _normalised(pool(x, WINDOW))
        x = taps["conv3"] = self._convolved(x, 12 * unit, 3, "conv3", padding=one)
        x = taps["conv4"] = self._convolved(x, 12 * unit, 3, "conv4", padding=one, groups=2)
        x = taps["conv5"] = self._convolved(x, 8 * unit, 3, "conv5", padding=one, groups=2)
        return taps | self._described(x, window=WINDOW, features=128 * unit, train=train, keys=keys)


def _normalised(x: jax.Array) -> jax.Array:
    return local_response_norm(x, size=5, alpha=1e-4, beta=0.75)
