"""Prepared data sets and own folders, samplers and the input pipeline."""

from reid_jax.data.carving import carve
from reid_jax.data.feature_files import (
    FeatureList,
    aligned_features,
    feature_sources,
    read_features,
)
from reid_jax.data.folder import describe, open_folder, open_splits, with_test_side
from reid_jax.data.images import (
    ImageList,
    JoinedLists,
    as_images,
    naming_unreadable,
    unreadable,
)
from reid_jax.data.landmarks import (
    LandmarkQuery,
    batches_by_size,
    image_sizes,
    landmark_queries,
    query_image,
    rounded_sizes,
)
from reid_jax.data.overlap import Overlap, fingerprint_of_training, overlap
from reid_jax.data.partitions import open_partition
from reid_jax.data.pipeline import batch_at, batches, image_batches
from reid_jax.data.samplers import IdentitySampler, PairSampler, Sampler, UniformSampler
from reid_jax.data.source import (
    Source,
    dataset_card,
    dataset_dir,
    decode,
    identity_labels,
    join,
    load_images,
    open_split,
)

__all__ = [
    "FeatureList",
    "IdentitySampler",
    "ImageList",
    "JoinedLists",
    "LandmarkQuery",
    "Overlap",
    "PairSampler",
    "Sampler",
    "Source",
    "UniformSampler",
    "aligned_features",
    "as_images",
    "batch_at",
    "batches",
    "batches_by_size",
    "carve",
    "dataset_card",
    "dataset_dir",
    "decode",
    "describe",
    "feature_sources",
    "fingerprint_of_training",
    "identity_labels",
    "image_batches",
    "image_sizes",
    "join",
    "landmark_queries",
    "load_images",
    "naming_unreadable",
    "open_folder",
    "open_partition",
    "open_split",
    "open_splits",
    "overlap",
    "query_image",
    "read_features",
    "rounded_sizes",
    "unreadable",
    "with_test_side",
]
