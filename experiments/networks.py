"""The networks of a config: the one that is trained, and what it gives for a single image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from experiments import inputs
from reid_jax import evaluation, models
from reid_jax.models.network import IDENTIFICATION_HEAD
from reid_jax.training.objectives import l2_normalise

__all__ = [
    "build_backbone",
    "build_model",
    "compares_pairs",
    "embedder",
    "example_images",
    "is_identification_head",
    "is_of_pairs",
    "pair_functions",
    "single_image_network",
    "with_variables_of",
]

NOT_FIELDS = (
    *("name", "weights", "start_from"),
    *("identification", "verification", "verification_dropout"),
)
SHOWN_DIFFERENCES = 8
TEST_MODES = ("single", "dense_flip")

Parts = dict[str, jax.Array]


def build_backbone(config: ConfigDict, **fields: Any) -> nn.Module:
    """The network for single images, without a head unless ``fields`` ask for one."""
    options = {k: v for k, v in config.model.items() if k not in (*NOT_FIELDS, "dropout")}
    return models.build(config.model.name, **options, **fields)


def build_model(config: ConfigDict, num_identities: int) -> nn.Module:
    """The network that is trained: single images, or pairs of them with ``model.verification``."""
    if compares_pairs(config):
        return build_backbone(config)
    fields = {
        "num_identities": num_identities if config.model.identification else None,
        "dropout": config.model.dropout,
    }
    if not config.model.verification:
        return build_backbone(config, **fields)
    return models.Siamese(
        build_backbone(config),
        verification=config.model.verification,
        verification_dropout=config.model.verification_dropout,
        **fields,
    )


def compares_pairs(config: ConfigDict) -> bool:
    """Whether the network compares pairs as wholes: there is no embedding of a single image."""
    return build_backbone(config).scores_pairs


def is_of_pairs(model: nn.Module) -> bool:
    """Whether a network takes two images."""
    return model.num_images == 2


def example_images(config: ConfigDict, model: nn.Module) -> list[np.ndarray]:
    """One example input of a network: an image, or two."""
    image = np.zeros((1, *inputs.input_size(config), 3), np.float32)
    return [image] * (2 if is_of_pairs(model) else 1)


def single_image_network(config: ConfigDict, variables: Any) -> tuple[nn.Module, Any]:
    """The network for single images without its head, and its share of trained variables."""
    return models.single_image(build_model(config, num_identities=1), variables)


def is_identification_head(params: Any) -> Any:
    """A tree like ``params`` that is True at the parameters of the identification head."""
    return traverse_util.path_aware_map(lambda path, _: IDENTIFICATION_HEAD in path, params)


def with_variables_of(variables: Any, others: Any) -> tuple[Any, dict[str, Any]]:
    """The variables of a network with all but its identification head from another training of it.

    Args:
        variables: the network's own, fresh.
        others: of the other training, whose identities may be others.
    Returns:
        The variables; and a report: ``matched``, the number of tensors that were taken, and
        ``kept``, the names of those that are as they were.
    Raises:
        ValueError: if the two are not of the same network, with what differs.
    """
    own, theirs = (traverse_util.flatten_dict(tree, sep="/") for tree in (variables, others))
    kept = [name for name in own if IDENTIFICATION_HEAD in name.split("/")]
    taken = {k: v for k, v in theirs.items() if IDENTIFICATION_HEAD not in k.split("/")}
    here = {name: list(leaf.shape) for name, leaf in own.items() if name not in kept}
    there = {name: list(leaf.shape) for name, leaf in taken.items()}
    differing = [
        f"{name}: {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
        for name in {**here, **there}
        if there.get(name) != here.get(name)
    ]
    if differing:
        more = len(differing) - SHOWN_DIFFERENCES
        listed = differing[:SHOWN_DIFFERENCES] + [f"and {more} more"] * (more > 0)
        raise ValueError("it is of another network:\n  " + "\n  ".join(listed))
    report = {"matched": len(taken), "kept": kept}
    return traverse_util.unflatten_dict({**own, **taken}, sep="/"), report


def embedder(
    config: ConfigDict, variables: Any, mean: np.ndarray
) -> tuple[Callable[[Any, jax.Array], jax.Array], Any, tuple[int, int]]:
    """What turns single images into what is compared.

    Args:
        config: of the run that made the variables; ``evaluation.test_mode`` 'single' looks at the
            image resized to the network's input; 'dense_flip' at all of ``data.image_size`` and its
            mirror image, by the sum of unit vectors from each place (ResNet; the identif_verif
            authors' code on Market-1501).
        variables: of the network that was trained.
        mean: from :func:`experiments.inputs.input_mean`.
    Returns:
        ``embed(variables, images) -> [B, D]``, its variables, and the (height, width) of its
        images. The rows are of unit length if ``evaluation.normalise``.
    """
    mode = config.evaluation.test_mode
    if mode not in TEST_MODES:
        raise ValueError(f"evaluation.test_mode={mode!r}; known: {', '.join(TEST_MODES)}")
    single, variables = single_image_network(config, variables)
    finish = l2_normalise if config.evaluation.normalise else lambda embeddings: embeddings
    size = inputs.input_size(config) if mode == "single" else tuple(config.data.image_size)
    normalise = inputs.normalisation(config, mean)

    def once(variables: Any, images: jax.Array) -> jax.Array:
        taps = single.apply(variables, normalise(images), train=False)
        return finish(taps["embedding"])

    def dense_flip(variables: Any, images: jax.Array) -> jax.Array:
        # The last map is a 32nd of the image; the window is that of the training's input.
        window = tuple(side // 32 for side in inputs.input_size(config))
        total = 0
        for seen in (images, images[:, :, ::-1]):
            last = single.apply(variables, normalise(seen), train=False)["res5"]
            pooled = nn.avg_pool(last, window)
            unit = l2_normalise(pooled.reshape(-1, pooled.shape[-1])).reshape(pooled.shape)
            total += unit.sum((1, 2))
        return l2_normalise(total)

    return once if mode == "single" else dense_flip, variables, size


def pair_functions(
    config: ConfigDict, mean: np.ndarray
) -> tuple[Callable[[Any, jax.Array], Parts], Callable[[Any, Parts, Parts], jax.Array]]:
    """What a network that compares pairs makes of one image, and of two.

    Args:
        config: of the run that made the variables; a match's probability is its score, plus
            ``evaluation.distance_weight`` over the distance of the descriptors, if there are any.
        mean: from :func:`experiments.inputs.input_mean`.
    Returns:
        ``embed(variables, images [B, H, W, 3]) -> parts``, all that scoring needs of each image;
        ``score(variables, parts_a, parts_b) -> [P]``, larger is more alike.
    """
    model = build_backbone(config)
    normalise = inputs.normalisation(config, mean)
    constants = {k: config.evaluation[k] for k in ("distance_weight", "epsilon")}

    def embed(variables: Any, images: jax.Array) -> Parts:
        parts = model.apply(variables, normalise(images), method="embed")
        return {name: part for name, part in parts.items() if not name.startswith("theta")}

    def score(variables: Any, parts_a: Parts, parts_b: Parts) -> jax.Array:
        logits = model.apply(variables, parts_a, parts_b, method="score")["pair_logits"]
        if not constants["distance_weight"]:
            return jax.nn.softmax(logits)[:, 1]
        descriptors = parts_a["descriptor"], parts_b["descriptor"]
        return evaluation.similarity_score(logits, *descriptors, **constants)

    return embed, score


def training_embedder(
    config: ConfigDict, mean: np.ndarray
) -> Callable[[Any, jax.Array], jax.Array]:
    """``embed(variables, images) -> [B, D]`` for training images of ``data.image_size``.

    As in training, but without augmentation (the crop is the central one) and with the running
    averages of batch norm; nothing is normalised.
    """
    single = build_backbone(config)
    normalise = inputs.normalisation(config, mean)
    height, width = inputs.input_size(config)

    def embed(variables: Any, images: jax.Array) -> jax.Array:
        _, variables = single_image_network(config, variables)
        top, left = (images.shape[1] - height) // 2, (images.shape[2] - width) // 2
        seen = normalise(images)[:, top : top + height, left : left + width]
        return single.apply(variables, seen, train=False)["embedding"]

    return embed
