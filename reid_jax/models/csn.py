"""The multi-level similarity network of Guo and Cheung (csn).

A siamese trunk; at each chosen level a Convolution Similarity Network (CSN), which attends to parts
of each image with a spatial transformer and correlates them with the other image's whole map; a
head on the similarity maps of all levels; a ranking net on the attended parts.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from reid_jax.models.activation import relu
from reid_jax.models.conv import NO_PADDING, Conv
from reid_jax.models.network import check_image
from reid_jax.models.norm import BatchNorm
from reid_jax.models.pooling import ceil_padding, max_pool
from reid_jax.models.remat import applied
from reid_jax.ops import depthwise_cross_correlation, spatial_transform

__all__ = ["CSN", "stripes"]

LEVELS = {"l2": (2,), "l3": (3,), "l4": (4,), "l2l3": (2, 3), "l2l3l4": (2, 3, 4)}
TRUNKS = ("prose", "table5")
# How often the similarity maps of each level are pooled, to be on one grid.
POOLINGS = {"10x4": {2: 2, 3: 1, 4: 0}, "20x8": {2: 1, 3: 0}}
ATTENTIONS = ("stn", "center_crop")
Parts = dict[str, jax.Array]


def stripes(height: int, *, dividing: bool = True) -> list[tuple[int, int]]:
    """Rows of a feature map from which the attended parts are taken.

    Guo and Cheung (csn), Sec. 4.2: 0-20, 10-30 and 20-40 of 40 rows.

    Args:
        height: rows of the map.
        dividing: the upper, middle and bottom half; otherwise the whole map.

    Returns:
        [(top, bottom), ...], bottom excluded; all of the same length.
    Deviation: "row 10 to 30" is read as the 20 rows from the eleventh on, so that the three stripes
        are of one size.
    """
    if not dividing:
        return [(0, height)]
    length = -(-height // 2)
    return [(top, top + length) for top in (0, (height - length) // 2, height - length)]


class CSN(nn.Module):
    """Whether two images show one person, from the similarity of their maps at several levels.

    `apply(variables, image_a, image_b, train=...)` takes images [P, H, W, 3], float, mean
    subtracted (160 x 60 in the paper) and returns a dictionary:

    * `pair_logits` [P, 2], index 1 = same identity;
    * `descriptor_a`, `descriptor_b` [P, 256], L2-normalised (with `ranking`);
    * for each level j: the trunk's `xj_a`, `xj_b` [P, h, w, C], the attended `partj_a`,
      `partj_b` [P, S, f, f, C], their `thetaj_a`, `thetaj_b` [P, S, 6] (with `'stn'`), and
      `simj` [P, h, w, 2 * S * C]: a's map with each part of b, then b's map with each part of a;
    * `sim`: the maps of all levels on one grid, 10 x 4 x 1152 for (L2, L3).

    In training give `mutable=["batch_stats"]`. Batch norm takes both images of all pairs, and all
    their parts, together. Logits and descriptors are float32 (or wider) whatever `dtype` is.

    What belongs to one image can be computed once and compared many times::

        parts = model.apply(variables, image, method="embed")
        outputs = model.apply(variables, parts_a, parts_b, method="score")

    Attributes:
        levels: 'l2', 'l3', 'l4', 'l2l3' or 'l2l3l4'; the trunk ends at the last one.
        trunk: 'prose': a convolution and a pooling for each level. 'table5': two convolutions for
            levels 3 and 4, with which all three columns of the last row of Table 5 are met; its
            (L2, L3) row has the trunk of the prose.
        sim_grid: '10x4' or '20x8' (not with level 4): where the similarity maps meet, named by its
            size for images of 160 x 60. The text pools only level 2, which gives 20 x 8, and states
            a tensor of 10 x 4.
        dividing: three stripes, or the whole map as one part (row C1 of Table 4).
        attention: 'stn', or 'center_crop' of the same size (row C2).
        ranking: adds the ranking net; without it there are no descriptors (row "cls" of Table 3).
        correlation: method of `reid_jax.ops.depthwise_cross_correlation`.
        f4: rows and columns of the parts of level 4; 10 and 5 at levels 2 and 3.
        width: channels of the compared maps, a multiple of 3; conv1 has a third of it.
        axis_name: device axis over which the pairs are divided; None if all are here.
        dtype: dtype of the layers' computation, such as bfloat16 on a TPU; None promotes the
            image's and the parameters' dtypes.
        remat: keeps for the gradient what goes into the nets alone, and computes the rest of it
            again: less memory, and about a third more work.
    Deviation: the paper does not say where batch norm is; here after every convolution.
    """

    # See `network.Network`.
    num_images = 2
    takes_keys = False
    scores_pairs = True

    levels: str = "l2l3"
    trunk: str = "prose"
    sim_grid: str = "10x4"
    dividing: bool = True
    attention: str = "stn"
    ranking: bool = True
    correlation: str = "auto"
    f4: int = 3
    width: int = 96
    axis_name: str | None = None
    dtype: Any = None
    remat: bool = False

    def __post_init__(self) -> None:
        for field, known in (
            ("levels", LEVELS),
            ("trunk", TRUNKS),
            ("sim_grid", POOLINGS),
            ("attention", ATTENTIONS),
        ):
            value = getattr(self, field)
            if value not in known:
                raise ValueError(f"{field}={value!r} is not known; known: {', '.join(known)}.")
        if self.trunk == "table5" and 4 not in LEVELS[self.levels]:
            raise ValueError(
                f"trunk='table5' needs level 4, got levels={self.levels!r}: the (L2, L3) row of "
                "Table 5 is that of trunk='prose'."
            )
        if self.sim_grid == "20x8" and 4 in LEVELS[self.levels]:
            raise ValueError(
                f"sim_grid='20x8' is larger than the maps of level 4, got levels={self.levels!r}: "
                "use sim_grid='10x4'."
            )
        if self.width % 3:
            raise ValueError(f"width must be a multiple of 3, got {self.width}.")
        super().__post_init__()

    @property
    def part_sizes(self) -> dict[int, int]:
        """Rows and columns of the attended parts of each level."""
        return {level: {2: 10, 3: 5, 4: self.f4}[level] for level in LEVELS[self.levels]}

    @property
    def smallest_image(self) -> tuple[int, int]:
        """(height, width) below which a part would be looked for in a single row or column."""
        rows, columns = [], []
        for level, part in self.part_sizes.items():
            needed = part if self.attention == "center_crop" else 2
            stride = 2**level
            rows.append((2 * needed - 2 if self.dividing else needed - 1) * stride + 1)
            columns.append((needed - 1) * stride + 1)
        return max(rows), max(columns)

    def setup(self) -> None:
        layers = {"axis_name": self.axis_name, "dtype": self.dtype}
        self.features = Trunk(
            last_level=max(self.part_sizes), deep=self.trunk == "table5", width=self.width, **layers
        )
        if self.attention == "stn":
            self.localisation = {f"l{level}": Localisation(**layers) for level in self.part_sizes}
        if self.ranking:
            self.ranking_net = RankingNet(width=self.width, **layers)
        self.head = Head(**layers)

    def __call__(
        self, image_a: jax.Array, image_b: jax.Array, *, train: bool = False
    ) -> dict[str, jax.Array]:
        if image_a.shape != image_b.shape:
            raise ValueError(
                f"image_a and image_b must have one shape, got {image_a.shape} and {image_b.shape}."
            )
        both = self.embed(jnp.concatenate([image_a, image_b]), train=train)
        split = {name: jnp.split(value, 2) for name, value in both.items()}
        parts_a, parts_b = ({name: pair[i] for name, pair in split.items()} for i in (0, 1))
        outputs = self.score(parts_a, parts_b, train=train)
        for suffix, parts in (("_a", parts_a), ("_b", parts_b)):
            outputs |= {name + suffix: value for name, value in parts.items()}
        return outputs

    def embed(self, image: jax.Array, *, train: bool = False) -> Parts:
        """All that one image brings to a comparison.

        Args:
            image: [B, H, W, 3], float, mean subtracted.
            train: with the statistics of the batch.

        Returns:
            for each level j `xj`, `partj` and, with a transformer, `thetaj`; `descriptor`
            [B, 256] with the ranking net. All have the images on the first axis.

        Raises:
            ValueError: if the images are too small; the message names the smallest size that works.
        """
        check_image(image, smallest=self.smallest_image, network="CSN")
        maps = self._applied(self.features, image, train=train)
        taps = {}
        for level, size in self.part_sizes.items():
            x = maps[level]
            bands = stripes(x.shape[1], dividing=self.dividing)
            divided = jnp.stack([x[:, top:bottom] for top, bottom in bands], axis=1)
            rows = divided.reshape(-1, *divided.shape[2:])
            if self.attention == "stn":
                theta = self._applied(self.localisation[f"l{level}"], rows, train=train)
                part = spatial_transform(rows, theta, out_size=(size, size))
                taps[f"theta{level}"] = theta.reshape(-1, len(bands), 6)
            else:
                top, left = ((length - size) // 2 for length in rows.shape[1:3])
                part = rows[:, top : top + size, left : left + size]
            taps[f"x{level}"] = x
            taps[f"part{level}"] = part.reshape(-1, len(bands), *part.shape[1:])
        if self.ranking:
            parts = {level: taps[f"part{level}"] for level in self.part_sizes}
            taps["descriptor"] = self._applied(self.ranking_net, parts, train=train)
        return taps

    def score(self, parts_a: Parts, parts_b: Parts, *, train: bool = False) -> dict[str, jax.Array]:
        """Compares images of which `embed` has given the parts.

        Args:
            parts_a: [P, ...] of the first images.
            parts_b: [P, ...] of the second images.
            train: with the statistics of the batch.

        Returns:
            `pair_logits`, `sim` and, for each level j, `simj`.
        """
        outputs, on_grid = {}, []
        for level in self.part_sizes:
            x, part = (
                [parts[f"{name}{level}"] for parts in (parts_a, parts_b)] for name in ("x", "part")
            )
            # Each image's map with the parts of the other one.
            signal, kernels = jnp.concatenate(x), jnp.concatenate(part[::-1])
            # One call for each part: stacking the parts takes several times as long on a CPU.
            sim = jnp.concatenate(
                [
                    depthwise_cross_correlation(signal, kernels[:, i], method=self.correlation)
                    for i in range(kernels.shape[1])
                ],
                axis=-1,
            )
            sim = jnp.concatenate(jnp.split(sim, 2), axis=-1)
            outputs[f"sim{level}"] = sim
            for _ in range(POOLINGS[self.sim_grid][level]):
                sim = halve(sim)
            on_grid.append(sim)
        outputs["sim"] = jnp.concatenate(on_grid, axis=-1)
        outputs["pair_logits"] = self._applied(self.head, outputs["sim"], train=train)
        return outputs

    def _applied(self, net: nn.Module, x: Any, *, train: bool) -> Any:
        return applied(net, x, train=train, remat=self.remat)


class Layers(nn.Module):
    """What the nets below share; see `CSN` for the attributes."""

    axis_name: str | None
    dtype: Any

    def convolved(
        self, x: jax.Array, features: int, size: int, name: str, *, train: bool
    ) -> jax.Array:
        """Convolution of unchanged size, batch norm and ReLU."""
        return self.activated(self.conv(features, size, name)(x), name, train=train)

    def conv(self, features: int, size: int, name: str) -> Conv:
        padding = ((size // 2, size // 2),) * 2 if size > 1 else NO_PADDING
        return Conv(features, (size, size), padding=padding, dtype=self.dtype, name=name)

    def activated(self, x: jax.Array, name: str, *, train: bool) -> jax.Array:
        name = name.replace("conv", "bn")
        return relu(
            BatchNorm(axis_name=self.axis_name, dtype=self.dtype, name=name)(x, train=train)
        )


def halve(x: jax.Array) -> jax.Array:
    """2x2 max-pooling; an odd size is rounded up."""
    window = (2, 2)
    padding = ceil_padding(x.shape[1:3], window=window, strides=window)
    return max_pool(x, window=window, strides=window, padding=padding)


def averaged(x: jax.Array) -> jax.Array:
    """[B, C] in float32 or wider: the mean over all positions."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32)).mean((1, 2))


class Trunk(Layers):
    """The maps after the pooling of each level: {1: [B, H/2, W/2, C/3], 2: [B, H/4, ...], ...}."""

    last_level: int
    deep: bool
    width: int

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> dict[int, jax.Array]:
        layers = {
            1: [("conv1", self.width // 3, 5)],
            2: [("conv2", self.width, 3)],
            3: [("conv3", self.width, 3), ("conv3_2", self.width, 3)],
            4: [("conv3b", self.width, 3), ("conv3b_2", self.width, 3)],
        }
        maps, x = {}, image
        for level in range(1, self.last_level + 1):
            for name, features, size in layers[level][: 2 if self.deep else 1]:
                x = self.convolved(x, features, size, name, train=train)
            maps[level] = x = halve(x)
        return maps


def _near_identity(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    # tanh cannot reach a scale of 1.
    del key
    theta = np.array([0.9, 0, 0, 0, 0.9, 0])
    return jnp.asarray(np.arctanh(theta), dtype).reshape(shape)


class Localisation(Layers):
    """theta [B, 6] in (-1, 1), at the start (0.9, 0, 0, 0, 0.9, 0) for any input."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        for name in ("loc_conv1", "loc_conv2"):
            x = halve(self.convolved(x, 32, 3, name, train=train))
        x = averaged(self.convolved(x, 128, 1, "loc_conv3", train=train))
        theta = nn.Dense(
            6, kernel_init=nn.initializers.zeros, bias_init=_near_identity, name="theta"
        )
        return jnp.tanh(theta(x))


class RankingNet(Layers):
    """L2-normalised descriptor [B, 256] of the attended parts {level: [B, S, f, f, C]}.

    The convolutions are shared by levels, stripes and images; batch norm is each level's own.
    """

    width: int

    @nn.compact
    def __call__(self, parts: dict[int, jax.Array], *, train: bool) -> jax.Array:
        conv_a, conv_b = (self.conv(self.width, 3, name) for name in ("conv_a", "conv_b"))
        pooled = []
        for level, part in parts.items():
            x = conv_a(part.reshape(-1, *part.shape[2:]))
            x = halve(self.activated(x, f"bn_a{level}", train=train))
            # The stripes of an image below each other.
            x = x.reshape(part.shape[0], -1, *x.shape[2:])
            x = self.activated(conv_b(x), f"bn_b{level}", train=train)
            pooled.append(averaged(x))
        r = nn.Dense(256, name="embedding")(jnp.concatenate(pooled, axis=-1))
        squared = jnp.sum(r**2, axis=-1, keepdims=True)
        return r * lax.rsqrt(jnp.maximum(squared, 1e-12))


class Head(Layers):
    """Two logits of each pair from its similarity maps."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.convolved(x, 32, 1, "conv4", train=train)
        x = halve(self.convolved(x, 32, 3, "conv5", train=train))
        x = averaged(self.convolved(x, 500, 1, "conv6", train=train))
        return nn.Dense(2, name="match")(x)
