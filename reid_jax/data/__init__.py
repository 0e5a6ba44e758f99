"""Prepared data sets, samplers and the input pipeline."""

from reid_jax.data.pipeline import batch_at, batches, image_batches, row_keys
from reid_jax.data.samplers import IdentitySampler, PairSampler, UniformSampler
from reid_jax.data.source import (
    Source,
    dataset_card,
    dataset_dir,
    decode,
    identity_labels,
    load_images,
    open_split,
)

__all__ = [
    "IdentitySampler",
    "PairSampler",
    "Source",
    "UniformSampler",
    "batch_at",
    "batches",
    "dataset_card",
    "dataset_dir",
    "decode",
    "identity_labels",
    "image_batches",
    "load_images",
    "open_split",
    "row_keys",
]
