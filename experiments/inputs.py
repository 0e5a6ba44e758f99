"""What a network sees: the data of a run, the mean that is subtracted, and augmentation."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterable

import cv2
import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from reid_jax import augment, data, parallel

__all__ = [
    "augmentation",
    "input_mean",
    "input_size",
    "mean_image",
    "normalisation",
    "open_images",
    "read_mean",
    "training_datasets",
    "training_mean",
    "training_source",
]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
MEAN_MODES = ("imagenet", "channel", "image")


# Images ----------------------------------------------------------------------------------------


def open_images(
    data_dir: epath.PathLike, config: ConfigDict, roles: Iterable[str], *, split: int = 0
) -> dict[str, data.Source]:
    """The images of each role of a run: ``train``, ``query``, ``gallery``, ``test`` and so on.

    A data set with a partition has ``test`` identities; as ``query`` and ``gallery`` they are
    divided by camera: the first asks, the second answers.

    Args:
        data_dir: where the data set is prepared.
        config: with ``dataset`` and ``data.partition`` ('' for a data set with one fixed split).
        roles: which are wanted.
        split: number of the split of the partition.
    Raises:
        ValueError: if the data set lacks a role, with those that it has.
    """
    if not config.data.partition:
        return {role: data.open_split(data_dir, config.dataset, role) for role in roles}
    card = data.dataset_card(data_dir, config.dataset)
    if not card.get("partitions"):
        raise ValueError(
            f"{config.dataset} in {data_dir} has no partitions, and the experiment has "
            f"data.partition={config.data.partition}: add --set data.partition= --set "
            "evaluation.protocol=single-query (for pairs of a data set without cameras also --set "
            "sampler.cross_camera=false)"
        )
    known = data.open_partition(data_dir, config.dataset, config.data.partition, split)
    for prefix, pool in (("", "test"), ("val_", "val")):
        if pool in known and not {prefix + "query", prefix + "gallery"} & known.keys():
            known |= by_camera(known[pool], prefix)
    missing = [role for role in roles if role not in known]
    if missing:
        raise ValueError(
            f"the partition {config.data.partition} of {config.dataset} has no "
            f"{' and no '.join(missing)}; it has {', '.join(sorted(known))}"
        )
    return {role: known[role] for role in roles}


def by_camera(pool: data.Source, prefix: str) -> dict[str, data.Source]:
    """Query and gallery of a pool that two cameras saw; nothing of another one."""
    cameras = np.unique(pool.cameras) if pool.cameras is not None else ()
    if len(cameras) != 2:
        return {}
    return {
        prefix + role: pool.take(np.flatnonzero(pool.cameras == camera), f"{pool.split}/{role}")
        for role, camera in zip(("query", "gallery"), cameras, strict=True)
    }


def training_datasets(config: ConfigDict) -> tuple[str, ...]:
    """Names of the data sets that a run trains on: ``data.joined``, or its own."""
    return tuple(config.data.get("joined", ())) or (config.dataset,)


def training_source(data_dir: epath.PathLike, config: ConfigDict, *, split: int) -> data.Source:
    """The images that a run trains on: its data set's, or those of ``data.joined``.

    Of joined data sets these are all images of the identities that both views saw, whatever is
    tested on them elsewhere; the run is evaluated on its own data set, which is not trained on.

    Args:
        data_dir: where the data sets are prepared.
        config: with ``dataset``, ``data.partition`` and, for several data sets, ``data.joined``.
        split: number of the split of the partition.
    Raises:
        ValueError: if a data set has no such images, or cannot be joined.
    """
    joined = config.data.get("joined", ())
    if not joined:
        return open_images(data_dir, config, ("train",), split=split)["train"]
    unknown = [name for name in joined if name not in JOINED]
    if unknown or config.dataset in joined:
        raise ValueError(
            f"data.joined={tuple(joined)}; known: {', '.join(JOINED)}, without the data set "
            f"{config.dataset} that is tested on"
        )
    source = data.join([part for name in joined for part in JOINED[name](data_dir)], "joined")
    sides = [np.unique(source.identities[source.cameras == view]) for view in (1, 2)]
    people = np.intersect1d(*sides)
    kept = np.isin(source.identities, people[people > 0])
    return source.take(np.flatnonzero(kept), "joined")


def _cuhk03(data_dir: epath.PathLike) -> list[data.Source]:
    """The detector's boxes of all identities of the first three groups."""
    return list(data.open_partition(data_dir, "cuhk03", "detected-1160-100-100", 0).values())


def _market1501(data_dir: epath.PathLike) -> list[data.Source]:
    """Training and gallery images; cameras 1 to 3 are the first view, 4 to 6 the second."""
    parts = [data.open_split(data_dir, "market1501", split) for split in ("train", "gallery")]
    return [dataclasses.replace(p, cameras=np.where(p.cameras <= 3, 1, 2)) for p in parts]


JOINED = {"cuhk03": _cuhk03, "market1501": _market1501}
"""``JOINED[dataset](data_dir) -> sources`` of two views"""


# Normalisation ---------------------------------------------------------------------------------


def input_size(config: ConfigDict) -> tuple[int, int]:
    """Height and width of what the network sees."""
    return tuple(config.data.crop_size or config.data.image_size)


def mean_image(images: Iterable[np.ndarray]) -> np.ndarray:
    """Mean of batches of images, uint8 [b, H, W, 3]: [H, W, 3] float64, of exact sums."""
    total, count = 0, 0
    for batch in images:
        total = total + batch.sum(0, dtype=np.int64)
        count += len(batch)
    return total / count


def input_mean(config: ConfigDict, images: Callable[[], Iterable[np.ndarray]]) -> np.ndarray:
    """What is subtracted from an image of ``data.image_size``: [3], or [H, W, 3].

    Args:
        config: ``data.mean``: 'imagenet', the constants of ImageNet; 'channel', the mean colour of
            the training images; 'image', their mean image.
        images: gives batches of all training images; called where they are needed.
    """
    mode = config.data.mean
    if mode not in MEAN_MODES:
        raise ValueError(f"data.mean={mode!r}; known: {', '.join(MEAN_MODES)}")
    if mode == "imagenet":
        return np.array(IMAGENET_MEAN)
    mean = mean_image(images())
    return mean if mode == "image" else mean.mean((0, 1))


def read_mean(path: epath.PathLike) -> np.ndarray:
    """The mean that a run wrote."""
    return np.load(io.BytesIO(epath.Path(path).read_bytes()))


def normalisation(config: ConfigDict, mean: np.ndarray) -> Callable[[jax.Array], jax.Array]:
    """``normalise(images [B, H, W, 3]) -> images`` with the mean, resized to them if need be.

    The scale is that of the weights: torchvision's were trained on inputs of unit deviation,
    MatConvNet's on 0 to 255, and a network from scratch divides by ``data.from_scratch_std``.
    """
    weights = config.model.get("weights", "")
    if weights.endswith(".mat"):
        std = np.ones(3)
    else:
        std = np.array(IMAGENET_STD if weights else (config.data.from_scratch_std,) * 3)

    def normalise(images: jax.Array) -> jax.Array:
        height, width = images.shape[1:3]
        of_size = mean
        if mean.ndim == 3 and mean.shape[:2] != (height, width):
            of_size = cv2.resize(mean, (width, height), interpolation=cv2.INTER_LINEAR)
        return augment.normalise(images, mean=of_size, std=std)

    return normalise


def augmentation(
    config: ConfigDict, mean: np.ndarray
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """``preprocess(images, keys) -> images``: random shift, mean, random crop, random flip."""
    normalise = normalisation(config, mean)

    def preprocess(images: jax.Array, keys: jax.Array) -> jax.Array:
        place_keys, flip_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        if config.data.shift:
            images = augment.random_shift(images, place_keys, padding=config.data.shift)
        if padding := config.data.get("flip_or_shift"):
            images = augment.flip_or_shift(
                images,
                place_keys,
                padding=tuple(padding),
                fill=0,
                num_shifted=config.data.num_shifted,
            )
        images = normalise(images)
        if config.data.crop_size:
            crop_keys = jax.vmap(jax.random.fold_in, (0, None))(place_keys, 1)
            images = augment.random_crop(images, crop_keys, size=tuple(config.data.crop_size))
        if config.data.flip:
            images = augment.random_flip(images, flip_keys)
        return images

    return preprocess


def training_mean(
    config: ConfigDict, source: data.Source, resident: np.ndarray | None
) -> np.ndarray:
    """:func:`input_mean` of a training set, from its decoded images if they are in memory."""

    def images() -> Iterable[np.ndarray]:
        if resident is not None:
            return [resident]
        return data.image_batches(source, tuple(config.data.image_size), batch_size=256)

    if config.data.mean != "imagenet":
        parallel.say(f"Mean of {len(source):,} training images (data.mean={config.data.mean}).")
    return input_mean(config, images)
