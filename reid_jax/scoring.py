"""How a network's outputs are made into embeddings and scores at test."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from reid_jax import evaluation
from reid_jax.distances import unit_rows
from reid_jax.preprocess import Preprocess

__all__ = ["STRIDE", "TEST_MODES", "Embed", "Scoring", "embed_function", "pair_functions"]

TEST_MODES = ("single", "dense_flip", "flip")
STRIDE = 32
"""Pixels of the image for each position of a ResNet's last map."""

Embed = Callable[[Any, jax.Array], jax.Array]
"""`embed(variables, images [B, H, W, 3]) -> [B, D]`."""

Parts = dict[str, jax.Array]
"""What one image brings to a comparison with another."""


@dataclasses.dataclass(frozen=True)
class Scoring:
    """How images are embedded and compared at test.

    Attributes:
        normalise: scales embeddings to unit length.
        test_mode: 'single' looks at the image resized to the network's input; 'flip' takes the mean
            of its embedding and of its mirror image's, before `normalise`; 'dense_flip' looks at
            all of the stored size and its mirror image, by the sum of unit vectors from each place
            (ResNet; the identif_verif authors' code on Market-1501).
        batch_size: images of one call.
        distance_weight: of the inverse distance of descriptors in the score of a pair, beside its
            probability (csn, Eq. 7).
        epsilon: added to that distance.
        pairs_per_block: pairs of one call.
        shortlist: score only the N gallery images of each query that are nearest by descriptor; 0
            scores all.
    Raises:
        ValueError: for a `test_mode` that is not known.
    """

    normalise: bool = True
    test_mode: str = "single"
    batch_size: int = 64
    distance_weight: float = 0.0
    epsilon: float = 1e-4
    pairs_per_block: int = 256
    shortlist: int = 0

    def __post_init__(self) -> None:
        if self.test_mode not in TEST_MODES:
            raise ValueError(f"test_mode is {self.test_mode!r}; known: {', '.join(TEST_MODES)}")


@functools.lru_cache(maxsize=64)
def embed_function(model: nn.Module, preprocess: Preprocess, scoring: Scoring) -> Embed:
    """The network as a function of one size of images, see `Scoring`."""
    # Cached, so that embedders of one network with other variables share what is compiled.
    finish = unit_rows if scoring.normalise else lambda embeddings: embeddings

    def raw(variables: Any, images: jax.Array) -> jax.Array:
        taps: Any = model.apply(variables, preprocess.test(images), train=False)
        return taps["embedding"]

    def once(variables: Any, images: jax.Array) -> jax.Array:
        return finish(raw(variables, images))

    def flip(variables: Any, images: jax.Array) -> jax.Array:
        return finish((raw(variables, images) + raw(variables, jnp.flip(images, 2))) / 2)

    def dense_flip(variables: Any, images: jax.Array) -> jax.Array:
        # The window on the last map is that of the training's input.
        window = tuple(side // STRIDE for side in preprocess.input_size)
        total = jnp.zeros(())
        for seen in (images, jnp.flip(images, 2)):
            taps: Any = model.apply(variables, preprocess.test(seen), train=False)
            pooled = nn.avg_pool(taps["res5"], window)
            unit = unit_rows(pooled.reshape(-1, pooled.shape[-1])).reshape(pooled.shape)
            total = total + unit.sum((1, 2))
        return unit_rows(total)

    return {"single": once, "flip": flip, "dense_flip": dense_flip}[scoring.test_mode]


@functools.lru_cache(maxsize=64)
def pair_functions(
    model: nn.Module, preprocess: Preprocess, scoring: Scoring
) -> tuple[Callable[[Any, jax.Array], Parts], Callable[[Any, Parts, Parts], jax.Array]]:
    """`embed(variables, images) -> parts`, and `score(variables, parts_a, parts_b) -> [P]`."""

    def embed(variables: Any, images: jax.Array) -> Parts:
        parts: Any = model.apply(variables, preprocess.test(images), method="embed")
        return {name: part for name, part in parts.items() if not name.startswith("theta")}

    def score(variables: Any, parts_a: Parts, parts_b: Parts) -> jax.Array:
        scored: Any = model.apply(variables, parts_a, parts_b, method="score")
        logits = scored["pair_logits"]
        if not scoring.distance_weight:
            return jax.nn.softmax(logits)[:, 1]
        return evaluation.similarity_score(
            logits,
            parts_a["descriptor"],
            parts_b["descriptor"],
            distance_weight=scoring.distance_weight,
            epsilon=scoring.epsilon,
        )

    return embed, score
