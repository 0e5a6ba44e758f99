"""What a network sees of an image, in training and at test."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import cv2
import jax
import numpy as np

from reid_jax import augment
from reid_jax.augment import Augmentation
from reid_jax.keys import as_row_keys

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "MEANS_OF_TRAINING", "Preprocess", "mean_image"]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
"""Mean colour of ImageNet, RGB in [0, 255], as torchvision's weights expect it."""

IMAGENET_STD = (58.395, 57.12, 57.375)
"""Standard deviation of ImageNet's colours, in the same units."""

MEANS_OF_TRAINING = ("channel", "image")
"""What `mean` may name in the place of numbers: the mean colour or image of the training set."""

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Preprocess:
    """The one owner of pixels: size, window, mean, deviation and augmentation.

    In training an image of `size` goes through the augmentations of stored pixels, mean and
    deviation, a random window of `crop`, and the augmentations of what the network sees; at test
    the image is resized to the network's input at once. Each augmentation has a stream of random
    keys of its own.

    Attributes:
        size: (height, width) to which images are resized when they are read for training.
        crop: (height, width) of the window that the network sees in training, and of its input at
            test; None sees all of `size`.
        mean: what is subtracted, RGB in [0, 255]: [3], or [*size, 3]; `"channel"` and `"image"`
            stand for the training images' mean colour and mean image until `fitted`.
        std: [3], what the difference is divided by.
        augmentations: objects of `reid_jax.augment`, in the order in which they are applied
            before, and after, the mean is subtracted.
    Raises:
        ValueError: if a size, a mean or a deviation has another form.
    """

    size: Size
    crop: Size | None = None
    mean: Any = IMAGENET_MEAN
    std: Any = IMAGENET_STD
    augmentations: tuple[Augmentation, ...] = ()

    def __post_init__(self) -> None:
        windows = [a.size for a in self.augmentations if isinstance(a, augment.Crop)]
        if len(windows) > 1 or (windows and self.crop not in (None, tuple(windows[0]))):
            raise ValueError(
                f"crop is {self.crop} and the augmentations cut windows of {windows}: give one"
            )
        own = {
            "size": _size("size", self.size),
            "crop": _size("crop", windows[0] if windows else self.crop),
            "augmentations": tuple(self.augmentations),
            "std": np.asarray(self.std, np.float64),
        }
        if own["size"] is None:
            raise ValueError("size is None; expected (height, width)")
        if own["crop"] and any(c > s for c, s in zip(own["crop"], own["size"], strict=True)):
            raise ValueError(f"crop is {own['crop']}, larger than the size {own['size']}")
        std = np.asarray(self.std, np.float64)
        if std.shape != (3,) or not (std > 0).all():
            raise ValueError(f"std is {self.std}; expected three numbers above 0")
        if isinstance(self.mean, str):
            if self.mean not in MEANS_OF_TRAINING:
                known = ", ".join(MEANS_OF_TRAINING)
                raise ValueError(f"mean is {self.mean!r}; expected numbers, or one of {known}")
        else:
            own["mean"] = mean = np.asarray(self.mean, np.float64)
            if mean.shape not in ((3,), (*own["size"], 3)):
                raise ValueError(
                    f"mean has shape {mean.shape}; expected (3,) or {(*own['size'], 3)}"
                )
        for name, value in own.items():
            object.__setattr__(self, name, value)

    @property
    def input_size(self) -> Size:
        """(height, width) of what the network sees."""
        return self.crop or self.size

    @property
    def is_fitted(self) -> bool:
        """Whether the mean is known."""
        return not isinstance(self.mean, str)

    def fitted(self, batches: Callable[[], Iterable[np.ndarray]]) -> Preprocess:
        """The same with the mean of the training images, where one of them was named.

        Args:
            batches: gives the training images, uint8 [b, *size, 3]; called only if needed.
        """
        if self.is_fitted:
            return self
        mean = mean_image(batches())
        if self.mean == "channel":
            mean = mean.mean((0, 1))
        return dataclasses.replace(self, mean=mean)

    def __call__(self, images: jax.Array, keys: jax.Array) -> jax.Array:
        """Prepares training images, with augmentation.

        Args:
            images: [B, *size, 3] uint8, RGB.
            keys: [B], one a row.

        Returns:
            [B, *input_size, 3] float32.
        """
        keys = as_row_keys(keys, len(images))
        keyed = [
            (augmentation, jax.vmap(jax.random.fold_in, (0, None))(keys, stream))
            for stream, augmentation in enumerate(self._applied())
        ]
        for augmentation, own_keys in keyed:
            if augmentation.on_pixels:
                images = augmentation(images, own_keys)
        images = self.test(images)
        for augmentation, own_keys in keyed:
            if not augmentation.on_pixels:
                images = augmentation(images, own_keys)
        return images

    def test(self, images: jax.Array) -> jax.Array:
        """Subtracts the mean and divides by the deviation; a mean image is resized to the images.

        Args:
            images: [B, H, W, 3] uint8 or float, RGB in [0, 255], of any size.

        Returns:
            [B, H, W, 3] float32.
        """
        if not self.is_fitted:
            raise ValueError(f"mean={self.mean!r} is not known yet: call fitted(...) first")
        height, width = images.shape[1:3]
        mean = self.mean
        if mean.ndim == 3 and mean.shape[:2] != (height, width):
            mean = cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR)
        return augment.standardise(images, mean=mean, std=self.std)

    def central(self, images: jax.Array) -> jax.Array:
        """Prepares training images without augmentation: the window is the central one.

        Args:
            images: [B, *size, 3] uint8, RGB.

        Returns:
            [B, *input_size, 3] float32.
        """
        height, width = self.input_size
        top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
        return self.test(images)[:, top : top + height, left : left + width]

    def as_json(self) -> dict[str, Any]:
        """What `from_json` takes: plain containers, numbers and text."""
        mean: Any = self.mean
        if self.is_fitted and mean.ndim == 1:
            mean = mean.tolist()
        elif self.is_fitted:
            data = base64.b64encode(np.ascontiguousarray(mean).tobytes()).decode()
            mean = {"shape": list(mean.shape), "float64": data}
        return {
            "size": list(self.size),
            "crop": None if self.crop is None else list(self.crop),
            "mean": mean,
            "std": self.std.tolist(),
            "augmentations": [
                {"name": type(a).__name__, **_plain(dataclasses.asdict(a))}
                for a in self.augmentations
            ],
        }

    @classmethod
    def from_json(cls, described: Mapping[str, Any]) -> Preprocess:
        """The object of which `as_json` gave the description.

        Raises:
            ValueError: if the description names an augmentation that is not known.
        """
        mean = described["mean"]
        if isinstance(mean, Mapping):
            mean = np.frombuffer(base64.b64decode(mean["float64"])).reshape(mean["shape"])
        augmentations = []
        for entry in described["augmentations"]:
            constants = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
            name = constants.pop("name")
            if name not in augment.AUGMENTATIONS:
                known = ", ".join(augment.AUGMENTATIONS)
                raise ValueError(f"augmentation {name!r} is not known; known: {known}")
            augmentations.append(augment.AUGMENTATIONS[name](**constants))
        return cls(
            size=tuple(described["size"]),
            crop=tuple(described["crop"]) if described["crop"] else None,
            mean=mean,
            std=described["std"],
            augmentations=tuple(augmentations),
        )

    def _applied(self) -> tuple[Augmentation, ...]:
        if self.crop is None or any(isinstance(a, augment.Crop) for a in self.augmentations):
            return self.augmentations
        return (augment.Crop(self.crop), *self.augmentations)


def mean_image(batches: Iterable[np.ndarray]) -> np.ndarray:
    """Mean of batches of images, uint8 [b, H, W, 3]: [H, W, 3] float64, of exact sums."""
    total, count = np.zeros((), np.int64), 0
    for batch in batches:
        total = total + batch.sum(0, dtype=np.int64)
        count += len(batch)
    return total / count


def _size(name: str, given: Any) -> Size | None:
    if given is None:
        return None
    size = tuple(given)
    if len(size) != 2 or not all(isinstance(side, int | np.integer) and side > 0 for side in size):
        raise ValueError(f"{name} is {given}; expected (height, width) in pixels")
    return int(size[0]), int(size[1])


def _plain(constants: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in constants.items()}
