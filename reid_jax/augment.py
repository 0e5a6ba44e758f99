"""Augmentation on the device, keyed per row, so that the batch's layout does not matter.

Images are [B, H, W, 3], `keys` are [B] keys of which each function uses its own row's. A row's
result depends on its pixels and its key alone. The functions do the work; the objects
(`Flip`, `Shift`, ...) hold a function's constants for
`Preprocess`, which gives each of them a stream of keys of its own.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from reid_jax.keys import as_row_keys

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "Crop",
    "Erase",
    "Flip",
    "FlipOrShift",
    "Shift",
    "flip_or_shift",
    "random_crop",
    "random_erase",
    "random_flip",
    "random_shift",
    "standardise",
]


def standardise(images: jax.Array, *, mean: jax.Array, std: jax.Array) -> jax.Array:
    """(image - mean) / std in float32.

    Args:
        images: [B, H, W, 3] uint8 or float, RGB in [0, 255].
        mean: [3] per channel, or [H, W, 3] a mean image.
        std: [3] per channel.
    Returns:
        [B, H, W, 3] float32 (float64 if `mean` is).
    """
    mean = jnp.asarray(mean, jnp.result_type(float))
    return (images.astype(mean.dtype) - mean) / jnp.asarray(std, mean.dtype)


def random_flip(images: jax.Array, keys: jax.Array) -> jax.Array:
    """Mirrors each image left to right with probability one half."""
    mirror = jax.vmap(jax.random.bernoulli)(as_row_keys(keys, len(images)))
    return jnp.where(mirror[:, None, None, None], images[:, :, ::-1], images)


def random_crop(images: jax.Array, keys: jax.Array, *, size: tuple[int, int]) -> jax.Array:
    """A window of `size` (height, width) at a uniform place in each image.

    Raises:
        ValueError: if the window is larger than the images.
    """
    height, width = images.shape[1:3]
    if size[0] > height or size[1] > width:
        raise ValueError(f"a crop of {size} does not fit in images of {(height, width)}.")

    def crop(image: jax.Array, key: jax.Array) -> jax.Array:
        highest = jnp.asarray([height - size[0] + 1, width - size[1] + 1])
        top, left = jax.random.randint(key, (2,), 0, highest)
        return lax.dynamic_slice(image, (top, left, 0), (*size, image.shape[2]))

    return jax.vmap(crop)(images, as_row_keys(keys, len(images)))


def random_shift(
    images: jax.Array,
    keys: jax.Array,
    *,
    padding: int | tuple[int, int],
    fill: float | None = None,
) -> jax.Array:
    """Moves each image by up to `padding` pixels each way.

    Args:
        images: [B, H, W, 3].
        keys: [B].
        padding: pixels, or (vertical, horizontal) pixels.
        fill: value of the pixels that come in, in the units of `images`; None repeats the border
            outward.
    Returns:
        [B, H, W, 3] of the input's type.
    """
    images = jnp.asarray(images)
    height, width = images.shape[1:3]
    vertical, horizontal = (padding, padding) if isinstance(padding, int) else padding
    border = ((0, 0), (vertical, vertical), (horizontal, horizontal), (0, 0))
    if fill is None:
        padded = jnp.pad(images, border, mode="edge")
    else:
        padded = jnp.pad(images, border, constant_values=jnp.asarray(fill, images.dtype))
    return random_crop(padded, keys, size=(height, width))


def flip_or_shift(
    images: jax.Array,
    keys: jax.Array,
    *,
    padding: int | tuple[int, int],
    fill: float | None,
    num_shifted: int = 3,
) -> jax.Array:
    """Draws each image from its copies: one as it is, one mirrored, and some that are shifted.

    Three are shifted in what Jin et al. (arXiv 1705.03332) train on, in whose code an image stands
    five times in the training set; two or five in that of Subramaniam et al. (NIPS 2016), whom Guo
    and Cheung (csn) follow.

    Args:
        images: [B, H, W, 3].
        keys: [B].
        padding: of `random_shift`; (6, 2) on images of 128 x 48 in the code of Jin et al., a
            twentieth of each side in that of Subramaniam et al.
        fill: of `random_shift`; black, before the mean is subtracted, in the former.
        num_shifted: shifted copies beside the two others, which are equally likely.
    Returns:
        [B, H, W, 3] of the input's type.
    Deviation: drawn anew each time an image is used, where the codes draw the shifts of an image
        once.
    """
    choice_keys, shift_keys = jax.vmap(jax.random.split, out_axes=1)(as_row_keys(keys, len(images)))
    choice = jax.vmap(lambda key: jax.random.randint(key, (), 0, num_shifted + 2))(choice_keys)
    choice = choice[:, None, None, None]
    shifted = random_shift(images, shift_keys, padding=padding, fill=fill)
    changed = jnp.where(choice == 0, images[:, :, ::-1], shifted)
    return jnp.where(choice == 1, images, changed)


def random_erase(
    images: jax.Array, keys: jax.Array, *, probability: float, fill: jax.Array
) -> jax.Array:
    """Replaces one random rectangle of an image by `fill` (Zhong et al., arXiv 1708.04896).

    Args:
        images: [B, H, W, 3].
        keys: [B].
        probability: of an image being erased at all.
        fill: [3] in the units of `images`.
    Returns:
        [B, H, W, 3] of the input's type. The rectangle covers 2 to 40 % of the image with an aspect
        ratio between 0.3 and 3.3, cut at the border.
    """
    height, width = images.shape[1:3]
    rows = jnp.arange(height)[:, None]
    columns = jnp.arange(width)[None, :]

    def inside(key: jax.Array) -> jax.Array:
        chance, area, ratio, top, left = jax.random.uniform(key, (5,))
        area = height * width * (0.02 + 0.38 * area)
        ratio = jnp.exp(jnp.log(0.3) + (jnp.log(3.3) - jnp.log(0.3)) * ratio)
        tall = jnp.minimum(jnp.sqrt(area * ratio), height)
        wide = jnp.minimum(jnp.sqrt(area / ratio), width)
        top, left = jnp.floor(top * (height - tall + 1)), jnp.floor(left * (width - wide + 1))
        in_rows = (rows >= top) & (rows < top + tall)
        in_columns = (columns >= left) & (columns < left + wide)
        return in_rows & in_columns & (chance < probability)

    mask = jax.vmap(inside)(as_row_keys(keys, len(images)))
    return jnp.where(mask[..., None], jnp.asarray(fill, images.dtype), images)


# Objects ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """One random change of training images, with its constants.

    Attributes:
        on_pixels: whether it changes stored pixels, before the mean is subtracted and the window is
            cut, or what the network sees.
    """

    on_pixels: ClassVar[bool]

    def __call__(self, images: jax.Array, keys: jax.Array) -> jax.Array:
        """Changes each image [B, H, W, 3] by its row's key [B]."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors each image left to right with probability one half."""

    on_pixels: ClassVar[bool] = False

    def __call__(self, images: jax.Array, keys: jax.Array) -> jax.Array:
        """Changes each image [B, H, W, 3] by its row's key [B]."""
        return random_flip(images, keys)


@dataclasses.dataclass(frozen=True)
class Shift(Augmentation):
    """Moves each image by up to some pixels each way; see `random_shift`.

    Attributes:
        pixels: both ways, or (vertical, horizontal).
        fill: value of the pixels that come in, in [0, 255]; None repeats the border outward.
    """

    pixels: int | tuple[int, int]
    fill: float | None = None
    on_pixels: ClassVar[bool] = True

    def __call__(self, images: jax.Array, keys: jax.Array) -> jax.Array:
        """Changes each image [B, H, W, 3] by its row's key [B]."""
        return random_shift(images, keys, padding=self.pixels, fill=self.fill)


@dataclasses.dataclass(frozen=True)
class FlipOrShift(Augmentation):
    """Draws each image from its copies: as it is, mirrored, or shifted; see `flip_or_shift`.

    Attributes:
        pixels: of the shifted copies, both ways, or (vertical, horizontal).
        num_shifted: shifted copies beside the two others, all equally likely.
        fill: value of the pixels that come in, in [0, 255]; None repeats the border outward.
    """

    pixels: int | tuple[int, int]
    num_shifted: int
    fill: float | None = 0
    on_pixels: ClassVar[bool] = True

    def __call__(self, images: jax.Array, keys: jax.Array) -> jax.Array:
        """Changes each image [B, H, W, 3] by its row's key [B]."""
        return flip_or_shift(
            images, keys, padding=self.pixels, fill=self.fill, num_shifted=self.num_shifted
        )


@dataclasses.dataclass(frozen=True)
class Crop(Augmentation):
    """Cuts a window at a uniform place of each image; see `random_crop`.

    Attributes:
        size: (height, width) of the window.
    """

    size: tuple[int, int]
    on_pixels: ClassVar[bool] = False

    def __call__(self, images: jax.Array, keys: jax.Array) -> jax.Array:
        """Cuts each image [B, H, W, 3] by its row's key [B]."""
        return random_crop(images, keys, size=self.size)


@dataclasses.dataclass(frozen=True)
class Erase(Augmentation):
    """Replaces one random rectangle of an image by the mean colour; see `random_erase`.

    Attributes:
        probability: of an image being erased at all.
    """

    probability: float = 0.5
    on_pixels: ClassVar[bool] = False

    def __call__(self, images: jax.Array, keys: jax.Array) -> jax.Array:
        """Changes each image [B, H, W, 3], mean subtracted, by its row's key [B]."""
        return random_erase(images, keys, probability=self.probability, fill=jnp.zeros(3))


AUGMENTATIONS: dict[str, Any] = {
    kind.__name__: kind for kind in (Flip, Shift, FlipOrShift, Crop, Erase)
}
"""The augmentations by the name that a saved model has for them."""
