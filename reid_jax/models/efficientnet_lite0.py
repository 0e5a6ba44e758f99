"""EfficientNet-Lite0 (Tan and Le 2019, in the form without squeeze-and-excitation and with ReLU6).

The smallest network here whose ImageNet weights come in a package, see `reid_jax.pretrained`. The
blocks are named `block1a` .. `block7a`: the stage, and the place in it.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from reid_jax.models.activation import relu6
from reid_jax.models.conv import NO_PADDING, Conv, Padding
from reid_jax.models.neck import embedding_and_logits
from reid_jax.models.network import check_image
from reid_jax.models.norm import BatchNorm
from reid_jax.models.remat import applied

__all__ = ["EfficientNetLite0"]

SMALLEST_IMAGE = (32, 32)  # the network's total stride: below it there is nothing left to see

# Of each stage: blocks, kernel size, stride of the first block, expansion, channels at width 32.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
LAST_HALVING = 6  # the stage that `last_stride` is of
WIDTH, HEAD = 32, 1280
WIDTH_UNIT = 4  # all channels are whole numbers for multiples of it
depthwise_init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with named taps and, if asked for, an identification head.

    `apply(variables, image, train=...)` takes images [B, H, W, 3], float, (pixel - 127) / 128, at
    least 32 x 32, and returns a dictionary: `stem`, `block1` to `block7` (each stage's last
    block) and `head` [B, h, w, C], `embedding` [B, D] (the average of `head` over all
    positions, before dropout) and, with an identification head, `logits` [B, K]; with a neck
    the embedding is what comes out of it, and `before_neck` is the average. In training give
    `mutable=["batch_stats"]` and, if `dropout` > 0, one `keys` entry a row. Embedding and logits
    are float32 (or wider) whatever `dtype` is.

    1280-dimensional embedding, 4,652,008 parameters with 1000 identities.

    Attributes:
        num_identities: size of the identification head; None leaves it out.
        dropout: share of the embedding that is dropped on the way to the identification head.
        last_stride: 2, or 1 for maps of twice the size in the last two stages, with the same
            variables (Luo et al. 2019, after Sun et al. 2018, for ResNet).
        neck: batch norm without a shift behind the average, and a head without a bias; see
            `reid_jax.models.neck`.
        width: channels of the stem (32); all other layers scale with it. A multiple of 4.
        head_init_std: standard deviation of the identification head's initial weights.
        axis_name: device axis over which the batch is divided; None if the full batch is here.
        num_streams: equal parts of the batch with batch statistics of their own.
        dtype: dtype of the layers' computation, such as bfloat16 on a TPU; None promotes the
            image's and the parameters' dtypes.
        remat: keeps for the gradient what goes into the blocks alone, and computes the rest of it
            again: less memory, and about a third more work.
    Deviation: no block is dropped at random in training (the weights were made with up to a fifth
        of them dropped). Padding where the map is halved is what TensorFlow's 'SAME' gives for
        even maps, whatever the map, as in the PyTorch code that the weights are for.
    """

    # See `network.Network`.
    num_images = 1
    takes_keys = True
    scores_pairs = False

    num_identities: int | None = None
    dropout: float = 0.0
    last_stride: int = 2
    neck: bool = False
    width: int = WIDTH
    head_init_std: float = 0.001
    axis_name: str | None = None
    num_streams: int = 1
    dtype: Any = None
    remat: bool = False

    def __post_init__(self) -> None:
        if self.last_stride not in (1, 2):
            raise ValueError(f"last_stride={self.last_stride!r} is not known; known: 1, 2.")
        if self.width < 1 or self.width % WIDTH_UNIT:
            raise ValueError(f"width={self.width} must be a multiple of {WIDTH_UNIT}, above 0.")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, image: jax.Array, *, train: bool = False, keys: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        check_image(image, smallest=SMALLEST_IMAGE, network="EfficientNet-Lite0")
        if train and self.dropout and self.num_identities and keys is None:
            raise ValueError("dropout in training needs keys [B], one per row; got keys=None.")

        taps = {}
        x = Conv(self.width, (3, 3), (2, 2), _padding(3, 2), dtype=self.dtype, name="stem_conv")(
            image
        )
        taps["stem"] = x = relu6(_batch_norm(self, "stem_bn")(x, train=train))
        for stage, (blocks, size, stride, expansion, channels) in enumerate(STAGES, start=1):
            if stage == LAST_HALVING:
                stride = self.last_stride
            for block in range(blocks):
                residual = InvertedResidual(
                    features=channels * self.width // WIDTH,
                    expansion=expansion,
                    kernel_size=size,
                    stride=1 if block else stride,
                    axis_name=self.axis_name,
                    num_streams=self.num_streams,
                    dtype=self.dtype,
                    name=f"block{stage}{'abcd'[block]}",
                )
                x = applied(residual, x, train=train, remat=self.remat)
            taps[f"block{stage}"] = x
        x = Conv(HEAD * self.width // WIDTH, (1, 1), dtype=self.dtype, name="head_conv")(x)
        taps["head"] = x = relu6(_batch_norm(self, "head_bn")(x, train=train))
        wide = jnp.promote_types(x.dtype, jnp.float32)
        pooled = jnp.mean(x.astype(wide), (1, 2))
        return taps | embedding_and_logits(
            pooled,
            num_identities=self.num_identities,
            neck=self.neck,
            dropout_rate=self.dropout,
            head_init=nn.initializers.normal(self.head_init_std),
            train=train,
            keys=keys,
            axis_name=self.axis_name,
            num_streams=self.num_streams,
        )


class InvertedResidual(nn.Module):
    """x + project(depthwise(expand(x))), without x where the shape changes.

    Sandler et al. 2018, Sec. 3.3. See `EfficientNetLite0` for the attributes of the same name.
    """

    features: int
    expansion: int
    kernel_size: int
    stride: int
    axis_name: str | None
    num_streams: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        size, stride, y = self.kernel_size, self.stride, x
        if self.expansion > 1:
            y = self._conv(y, self.expansion * y.shape[-1], "expand_conv")
            y = relu6(_batch_norm(self, "expand_bn")(y, train=train))
        y = Conv(
            y.shape[-1],
            (size, size),
            (stride, stride),
            _padding(size, stride),
            groups=y.shape[-1],
            dtype=self.dtype,
            kernel_init=depthwise_init,
            name="depthwise_conv",
        )(y)
        y = relu6(_batch_norm(self, "depthwise_bn")(y, train=train))
        y = self._conv(y, self.features, "project_conv")
        y = _batch_norm(self, "project_bn")(y, train=train)
        return x + y if stride == 1 and x.shape == y.shape else y

    def _conv(self, x: jax.Array, features: int, name: str) -> jax.Array:
        return Conv(features, (1, 1), padding=NO_PADDING, dtype=self.dtype, name=name)(x)


def _batch_norm(layer: EfficientNetLite0 | InvertedResidual, name: str) -> BatchNorm:
    return BatchNorm(
        momentum=0.99,
        epsilon=1e-3,
        axis_name=layer.axis_name,
        num_streams=layer.num_streams,
        dtype=layer.dtype,
        name=name,
    )


def _padding(size: int, stride: int) -> Padding:
    """TensorFlow's 'SAME' for maps that the stride divides: the odd pixel is at the end."""
    total = size - stride
    sides = (total // 2, total - total // 2)
    return (sides, sides)
