"""How a network's outputs are made into embeddings and scores at test."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from reid_jax import evaluation, models
from reid_jax.distances import unit_rows
from reid_jax.preprocess import Preprocess

__all__ = [
    "STRIDE",
    "TEST_MODES",
    "Embed",
    "Scoring",
    "check_scoring",
    "embed_function",
    "pair_functions",
]

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


def check_scoring(model: nn.Module, preprocess: Preprocess, scoring: Scoring) -> None:
    """Refuses what a network cannot do at test.

    Args:
        model: the network.
        preprocess: what it sees of an image.
        scoring: how images are to be embedded and compared.

    Raises:
        ValueError: if the test mode, or the scoring of pairs, does not fit the network.
    """
    scores_pairs = getattr(model, "scores_pairs", False)
    shortlist = scoring.shortlist
    if shortlist and not scores_pairs:
        raise ValueError(
            f"{type(model).__name__} compares embeddings, which takes no shortlist: leave "
            "the shortlist out"
        )
    has_descriptors = getattr(model, "ranking", False)
    if shortlist and not has_descriptors:
        raise ValueError(
            f"a shortlist of {shortlist} is chosen by descriptors, which the network does not "
            "have without model.ranking: score all pairs with evaluation.shortlist=0"
        )
    if scores_pairs and scoring.distance_weight and not has_descriptors:
        raise ValueError(
            f"evaluation.distance_weight={scoring.distance_weight} needs descriptors, "
            "which the network does not have without model.ranking: set it to 0"
        )
    if scoring.test_mode == "flip" and scores_pairs:
        raise ValueError(
            f"test_mode=flip is of embeddings, and {type(model).__name__} scores pairs of images: "
            "take test_mode=single"
        )
    if scoring.test_mode != "dense_flip":
        return
    if not isinstance(model, models.ResNet):
        raise ValueError(
            "test_mode=dense_flip sums over the places of a ResNet's last map, and the network "
            f"is {type(model).__name__}: take test_mode=single"
        )
    if model.neck or model.last_stride != 2:
        raise ValueError(
            "test_mode=dense_flip sums unit vectors of a last map that is 1 / 32 of the image, "
            f"and the network has neck={model.neck}, last_stride={model.last_stride}:"
            " take test_mode=single"
        )
    if model.pooling != "average":
        raise ValueError(
            "test_mode=dense_flip takes averages of a ResNet's last map, and the network was made "
            f"for model.pooling={model.pooling}: take test_mode=single"
        )
    if any(side < STRIDE for side in preprocess.input_size):
        raise ValueError(
            f"test_mode=dense_flip needs an input of {STRIDE} pixels each way, got "
            f"{preprocess.input_size}"
        )


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
