"""VGG16 (Simonyan and Zisserman 2015, configuration D).

The layers are named as in Caffe: `conv1_1` .. `conv5_3`, pool5, `fc6`, `fc7`.
"""

from __future__ import annotations

import flax.linen as nn
import jax

from reid_jax.models.network import check_image
from reid_jax.models.plain import PlainNet, pool

__all__ = ["VGG16"]

SMALLEST_IMAGE = (32, 32)  # the network's total stride
WINDOW = (2, 2)
# Of each stage: channels in multiples of the width, and the number of convolutions.
STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))


class VGG16(PlainNet):
    """VGG16 with named taps and, if asked for, an identification head.

    `apply(variables, image, train=...)` takes images [B, H, W, 3], float, mean subtracted, at
    least 32 x 32 (224 x 224 in the paper; one size for a set of variables, unless
    `pooling='max'`), and returns a dictionary: `conv1` to `conv5` [B, h, w, C] (the last
    convolution of each stage, after its ReLU), `pool5` [B, h, w, C], `fc6` and `fc7` [B, D]
    (after their ReLU, before dropout), `embedding` (the same array as `fc7`) and, with a head,
    `logits` [B, K]. With `pooling='max'` there is no `fc6` and `fc7`, and `pool5` and
    `embedding` are the maximum of `conv5` over all positions. In training give one `keys`
    entry a row if `dropout` or `hidden_dropout` > 0. Embedding and logits are float32 (or
    wider) whatever `dtype` is. Odd maps are pooled as in Caffe: the last row and column count.

    138,357,544 parameters with 1000 identities; 4096-dimensional embedding (512 with 'max').
    Kernels start with He's initialisation for ReLU, biases at 0, the head uniform within
    0.1 * sqrt(3 / D).

    Attributes: see `PlainNet`; `width` is 64 in the paper.
    """

    @nn.compact
    def __call__(
        self, image: jax.Array, *, train: bool = False, keys: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        check_image(image, smallest=SMALLEST_IMAGE, network="VGG16")
        taps = {}
        x = image
        for stage, (multiple, num_layers) in enumerate(STAGES, start=1):
            if stage > 1:
                x = pool(x, WINDOW)
            for layer in range(1, num_layers + 1):
                name = f"conv{stage}_{layer}"
                padding = ((1, 1), (1, 1))
                x = self._convolved(x, multiple * self.width, 3, name, padding=padding)
            taps[f"conv{stage}"] = x
        return taps | self._described(
            x, window=WINDOW, features=64 * self.width, train=train, keys=keys
        )
