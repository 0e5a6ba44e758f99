"""ResNet-18 and ResNet-50 (He et al. 2016), in the layouts of torchvision and of Caffe.

The layers are named after the papers' figures: `conv1`, the blocks `res2a` .. `res5c`, pool5.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from reid_jax.models.activation import relu
from reid_jax.models.conv import NO_PADDING, Conv
from reid_jax.models.initialisers import before_loss
from reid_jax.models.neck import embedding_and_logits
from reid_jax.models.network import check_image
from reid_jax.models.norm import BatchNorm
from reid_jax.models.pooling import ceil_padding, max_pool
from reid_jax.models.remat import applied

__all__ = ["ResNet", "resnet18", "resnet50"]

SMALLEST_IMAGE = (32, 32)  # the network's total stride: below it res5 would look at padding
STRIDES = ("torchvision", "caffe")
POOLINGS = ("average", "max")


class ResNet(nn.Module):
    """Residual network with named taps and, if asked for, an identification head.

    `apply(variables, image, train=...)` takes images [B, H, W, 3], float, mean subtracted, at
    least 32 x 32, and returns a dictionary: `conv1` (after its batch norm and ReLU), `res2` to
    `res5` [B, h, w, C], `pool5` [B, D] (average over all positions, before dropout),
    `embedding` (the same array as `pool5`) and, with a head, `logits` [B, K]; with a neck the
    embedding is what comes out of it, and `before_neck` is `pool5`. In training give
    `mutable=["batch_stats"]` and, if `dropout` > 0, one `keys` entry a row.
    Pooled features and logits are float32 (or wider) whatever `dtype` is.

    Attributes:
        blocks: residual blocks in each of the four stages.
        bottleneck: three-layer blocks (ResNet-50) or two-layer blocks (ResNet-18).
        num_identities: size of the identification head; None leaves it out.
        dropout: share of pool5 that is dropped on the way to the identification head.
        stride: where a stage halves the image. 'torchvision': in the 3x3 convolution of its first
            bottleneck, and the first pooling pads one pixel on each side. 'caffe': in the first 1x1
            convolution, and the first pooling has no padding and rounds its size up. Parameters are
            the same; weights made for one layout are wrong in the other.
        last_stride: stride of the last stage: 2 as in the paper, or 1, which leaves res5 at the
            size of res4 (Luo et al. 2019, after Sun et al. 2018).
        neck: batch norm without a shift behind pool5, and a head without a bias; see
            `reid_jax.models.neck`.
        pooling: 'average' over all positions, or their 'max' (MAC, Tolias et al. 2016), with which
            identif_verif searches landmarks at their original size.
        freeze_batch_norm: batch norm normalises by its running averages in training too, and leaves
            them as they are ("use_global_stats" of Caffe); its scale and bias are still trained.
        width: channels of conv1 (64 in the paper); all other layers scale with it.
        head_init_std: standard deviation of the head's initial weights; small, so that all
            identities start equally likely whatever the scale of pool5. None: uniform within
            0.1 * sqrt(3 / D), as identif_verif's code starts its heads.
        axis_name: device axis over which the batch is divided; None if the full batch is here.
        num_streams: equal parts of the batch with batch statistics of their own.
        dtype: dtype of the layers' computation, such as bfloat16 on a TPU; None promotes the
            image's and the parameters' dtypes.
        remat: keeps for the gradient what goes into the blocks alone, and computes the rest of it
            again: less memory, and about a third more work.
    """

    # See `network.Network`.
    num_images = 1
    takes_keys = True
    scores_pairs = False

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    num_identities: int | None = None
    dropout: float = 0.0
    stride: str = "torchvision"
    pooling: str = "average"
    last_stride: int = 2
    neck: bool = False
    width: int = 64
    head_init_std: float | None = 0.001
    freeze_batch_norm: bool = False
    axis_name: str | None = None
    num_streams: int = 1
    dtype: Any = None
    remat: bool = False

    def __post_init__(self) -> None:
        for field, known in (("stride", STRIDES), ("pooling", POOLINGS)):
            if (given := getattr(self, field)) not in known:
                raise ValueError(f"{field}={given!r} is not known; known: {', '.join(known)}.")
        if self.last_stride not in (1, 2):
            raise ValueError(f"last_stride={self.last_stride!r} is not known; known: 1, 2.")
        super().__post_init__()

    @nn.compact
    def __call__(
        self, image: jax.Array, *, train: bool = False, keys: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        check_image(image, smallest=SMALLEST_IMAGE, network="ResNet")
        if train and self.dropout and self.num_identities and keys is None:
            raise ValueError("dropout in training needs keys [B], one per row; got keys=None.")

        taps = {}
        x = Conv(self.width, (7, 7), (2, 2), ((3, 3), (3, 3)), dtype=self.dtype, name="conv1")(
            image
        )
        adapts = train and not self.freeze_batch_norm
        x = self._batch_norm("bn1")(x, train=adapts)
        taps["conv1"] = x = relu(x)
        x = max_pool(x, padding=self._pool_padding(x))
        strides = [1, *[2] * (len(self.blocks) - 1)]
        if len(self.blocks) > 1:
            strides[-1] = self.last_stride
        for stage, num_blocks in enumerate(self.blocks):
            for block in range(num_blocks):
                residual = ResidualBlock(
                    features=self.width * 2**stage,
                    bottleneck=self.bottleneck,
                    downsample=strides[stage] if block == 0 else 1,
                    stride_in_first=self.stride == "caffe",
                    axis_name=self.axis_name,
                    num_streams=self.num_streams,
                    dtype=self.dtype,
                    name=f"res{stage + 2}{'abcdefghijklmnopqrstuvwxyz'[block]}",
                )
                x = applied(residual, x, train=adapts, remat=self.remat)
            taps[f"res{stage + 2}"] = x
        wide = jnp.promote_types(x.dtype, jnp.float32)
        over_positions = jnp.mean if self.pooling == "average" else jnp.max
        taps["pool5"] = pooled = over_positions(x.astype(wide), (1, 2))
        head_init = before_loss
        if self.head_init_std is not None:
            head_init = nn.initializers.normal(self.head_init_std)
        return taps | embedding_and_logits(
            pooled,
            num_identities=self.num_identities,
            neck=self.neck,
            dropout_rate=self.dropout,
            head_init=head_init,
            train=train,
            keys=keys,
            axis_name=self.axis_name,
            num_streams=self.num_streams,
        )

    def _batch_norm(self, name: str) -> BatchNorm:
        return BatchNorm(
            axis_name=self.axis_name, num_streams=self.num_streams, dtype=self.dtype, name=name
        )

    def _pool_padding(self, x: jax.Array) -> tuple[tuple[int, int], tuple[int, int]]:
        if self.stride == "torchvision":
            return ((1, 1), (1, 1))
        return ceil_padding(x.shape[1:3], window=(3, 3), strides=(2, 2))


class ResidualBlock(nn.Module):
    """relu(branch(x) + shortcut(x)); see `ResNet` for the attributes of the same name."""

    features: int
    bottleneck: bool
    downsample: int
    stride_in_first: bool
    axis_name: str | None
    num_streams: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        stride = (self.downsample, self.downsample)
        one = (1, 1)
        # (features, kernel size, stride) of the branch's convolutions.
        if self.bottleneck:
            first, second = (stride, one) if self.stride_in_first else (one, stride)
            layers = [(1, 1, first), (1, 3, second), (4, 1, one)]
        else:
            layers = [(1, 3, stride), (1, 3, one)]

        y = x
        for i, (multiple, size, strides) in enumerate(layers, start=1):
            y = self._conv(multiple * self.features, size, strides, f"conv{i}")(y)
            y = self._batch_norm(f"bn{i}")(y, train=train)
            if i < len(layers):
                y = relu(y)
        if x.shape != y.shape:
            x = self._conv(y.shape[-1], 1, stride, "shortcut_conv")(x)
            x = self._batch_norm("shortcut_bn")(x, train=train)
        return relu(x + y)

    def _conv(self, features: int, size: int, strides: tuple[int, int], name: str) -> Conv:
        padding = ((1, 1), (1, 1)) if size == 3 else NO_PADDING
        return Conv(features, (size, size), strides, padding, dtype=self.dtype, name=name)

    def _batch_norm(self, name: str) -> BatchNorm:
        return BatchNorm(
            axis_name=self.axis_name, num_streams=self.num_streams, dtype=self.dtype, name=name
        )


def resnet18(**options: Any) -> ResNet:
    """ResNet-18: 512-dimensional embedding, 11,689,512 parameters with 1000 identities.

    Args:
        **options: attributes of `ResNet`.

    Returns:
        the network.
    """
    return ResNet(blocks=(2, 2, 2, 2), bottleneck=False, **options)


def resnet50(**options: Any) -> ResNet:
    """ResNet-50: 2048-dimensional embedding, 25,557,032 parameters with 1000 identities.

    Args:
        **options: attributes of `ResNet`.

    Returns:
        the network.
    """
    return ResNet(blocks=(3, 4, 6, 3), bottleneck=True, **options)
