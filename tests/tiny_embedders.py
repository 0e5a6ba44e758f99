"""Embedders of narrow networks with random variables, made without running a network."""

import dataclasses

import jax
import numpy as np

from reid_jax import Embedder, Preprocess, Scoring, models, pretrained

PROVENANCE = {
    "data": {"dataset": "market1501", "split": "train", "num_images": 12936},
    "versions": {"jax": "0.10.2"},
    "steps": 7,
}


def embedder(name, *, size=(64, 32), mean=(110.0, 105.0, 100.0), scoring=None, **options):
    """An embedder of the network of a name."""
    preprocess = Preprocess(size=size, mean=mean, std=(60.0, 58.0, 62.0))
    made = Embedder(
        models.build(name, **options), None, preprocess, scoring or Scoring(), PROVENANCE
    )
    rng = np.random.default_rng(0)

    def leaf(path, shape):
        if len(shape.shape) > 1:
            scale = np.sqrt(2 / np.prod(shape.shape[:-1]))
            return (scale * rng.normal(size=shape.shape)).astype(np.float32)
        low, high = {"var": (0.5, 2), "scale": (0.3, 0.9)}.get(path[-1].key, (-0.3, 0.3))
        return rng.uniform(low, high, shape.shape).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(leaf, made.expected_variables())
    return dataclasses.replace(made, variables=variables)


def efficientnet_lite0(size=(64, 32)):
    """An embedder with ImageNet's weights: through so many layers, random ones amplify rounding."""
    model = models.build("efficientnet_lite0")
    mean, std = pretrained.expected_pixels("efficientnet_lite0", model)
    made = Embedder(model, None, Preprocess(size=size, mean=mean, std=std), Scoring(), PROVENANCE)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), made.expected_variables())
    variables, _ = pretrained.load_weights("efficientnet_lite0", model, zeros)
    return dataclasses.replace(made, variables=variables)


def images(rows, size=(64, 32), seed=1):
    """Random pixels."""
    return np.random.default_rng(seed).integers(0, 256, (rows, *size, 3), dtype=np.uint8)
