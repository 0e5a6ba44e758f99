"""Embedders of narrow networks with random variables, made without running a network."""

import dataclasses

import jax
import numpy as np

from reid_jax import Embedder, Preprocess, Scoring, models

PROVENANCE = {
    "data": {"dataset": "market1501", "split": "train", "num_images": 12936},
    "versions": {"jax": "0.10.2"},
    "steps": 7,
}


def embedder(
    name, *, size=(64, 32), mean=(110.0, 105.0, 100.0), scoring=None, scale=(0.3, 0.9), **options
):
    """An embedder of the network of a name; the deeper, the larger a batch norm's `scale`."""
    preprocess = Preprocess(size=size, mean=mean, std=(60.0, 58.0, 62.0))
    made = Embedder(
        models.build(name, **options), None, preprocess, scoring or Scoring(), PROVENANCE
    )
    rng = np.random.default_rng(0)

    def leaf(path, shape):
        if len(shape.shape) > 1:
            deviation = np.sqrt(2 / np.prod(shape.shape[:-1]))
            return (deviation * rng.normal(size=shape.shape)).astype(np.float32)
        low, high = {"var": (0.5, 2), "scale": scale}.get(path[-1].key, (-0.3, 0.3))
        return rng.uniform(low, high, shape.shape).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(leaf, made.expected_variables())
    return dataclasses.replace(made, variables=variables)


def images(rows, size=(64, 32), seed=1):
    """Random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (rows, *size, 3), dtype=np.uint8)
