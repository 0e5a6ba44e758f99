"""The recipes for own images: the named arguments of `reid_jax.fit`, with their values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from reid_jax import augment, data, models, objectives, pretrained
from reid_jax.objectives import Objective
from reid_jax.preprocess import IMAGENET_MEAN, Preprocess
from reid_jax.scoring import Scoring
from reid_jax.training import schedules

__all__ = [
    "RECIPES",
    "Recipe",
    "StartingNetwork",
    "default_steps",
    "image_size",
    "initial",
    "optimizer",
    "preprocess",
    "sampler",
    "starting_network",
    "with_dtype",
]

Size = tuple[int, int]
PACKAGED = "efficientnet_lite0"
"""Name of the network, and of its weights, that come in a package."""

WEIGHT_DECAY = 5e-4
WARM_UP = 0.08  # share of the steps
IMAGES_PER_IDENTITY = 4


@dataclasses.dataclass(frozen=True)
class StartingNetwork:
    """What a training begins with.

    Attributes:
        name: of the network, for `reid_jax.models.build`.
        options: of the network.
        mean, std: of the pixels that its weights expect.
        weights: name of its pre-trained weights; '': from scratch.
        note: says which and why.
    """

    name: str
    options: dict[str, Any]
    mean: Any
    std: tuple[float, ...]
    weights: str
    note: str

    def build(self, **options: Any) -> nn.Module:
        """The network with further options."""
        return models.build(self.name, **self.options, **options)


def starting_network() -> StartingNetwork:
    """The network that most recipes train.

    Returns:
        EfficientNet-Lite0 from its ImageNet weights where their package is installed, else half
        of ResNet-18's channels from scratch; the note says which, and what installs the package.
    """
    try:
        pretrained.packaged_weights(PACKAGED)
    except ModuleNotFoundError as error:
        return StartingNetwork(
            name="resnet18",
            options={"width": 32},
            mean=IMAGENET_MEAN,
            std=(64.0, 64.0, 64.0),
            weights="",
            note="network: ResNet-18 of half width, from scratch; ImageNet features would learn "
            f"more in less time, but {error}",
        )
    mean, std = pretrained.expected_pixels(PACKAGED, models.build(PACKAGED))
    return StartingNetwork(
        name=PACKAGED,
        options={},
        mean=mean,
        std=std,
        weights=PACKAGED,
        note="network: EfficientNet-Lite0 from ImageNet features",
    )


def initial(start: StartingNetwork, model: nn.Module) -> Callable[[Any], Any] | None:
    """What changes the fresh variables of a model to pre-trained ones, for `reid_jax.fit`."""
    if not start.weights:
        return None

    def begun(variables: Any) -> Any:
        if not isinstance(model, models.Siamese):
            return pretrained.load_weights(start.weights, model, variables)[0]
        own = models.backbone_variables(variables)
        loaded, _ = pretrained.load_weights(start.weights, model.backbone, own)
        changed = {name: {**variables[name], "backbone": tree} for name, tree in loaded.items()}
        return {**variables, **changed}

    return begun


def with_dtype(model: nn.Module, dtype: str) -> nn.Module:
    """The network with layers that compute in another type; float32 leaves it as it is."""
    if dtype == "float32":
        return model
    if isinstance(model, models.Siamese):
        return model.clone(backbone=with_dtype(model.backbone, dtype))
    return model.clone(dtype=jnp.dtype(dtype))


# Recipes ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A method with its values for own images.

    Attributes:
        summary: one line for a list of recipes.
        objective: `objective(start)`: what is minimised.
        model: `model(start, num_identities)`.
        batch: what a batch is made of: single `images`, `identities` with some images each, or
            `pairs`.
        batch_size: images, or pairs.
        rule: of the steps.
        learning_rate: from scratch; of pre-trained weights `fine_tuning_rate`.
        fine_tuning_rate: see there.
        erase: probability that a part of an image is erased.
        negatives_per_positive: in a batch of pairs.
        cross_camera: positive pairs are of two cameras, which must be known.
        size: (height, width) of the images; None: what suits them.
        own_network: name of the network where it is the method's own, which starts from scratch.
        scoring: how images are compared.
    """

    summary: str
    objective: Callable[[StartingNetwork], Objective]
    model: Callable[[StartingNetwork, int], nn.Module]
    batch: Literal["images", "identities", "pairs"] = "images"
    batch_size: int = 32
    rule: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 2e-3
    fine_tuning_rate: float = 3.5e-4
    erase: float = 0.0
    negatives_per_positive: float = 1.0
    cross_camera: bool = False
    size: Size | None = None
    own_network: str = ""
    scoring: Scoring = dataclasses.field(default_factory=Scoring)


def _identified(start: StartingNetwork, num_identities: int) -> nn.Module:
    return start.build(num_identities=num_identities)


def _with_neck(start: StartingNetwork, num_identities: int) -> nn.Module:
    return start.build(num_identities=num_identities, neck=True, last_stride=1)


def _embedded(start: StartingNetwork, num_identities: int) -> nn.Module:
    return start.build()


def _square(start: StartingNetwork, num_identities: int) -> nn.Module:
    return models.Siamese(start.build(), verification="square", num_identities=num_identities)


def _identified_and_verified(start: StartingNetwork) -> Objective:
    # With the paper's 1, the gradient through the squared differences of pre-trained features is
    # some twenty times that of identification, and the features are lost in the first steps.
    weight = 0.1 if start.weights else 1.0
    return objectives.identification_verification(
        identification_weight=0.5, verification_weight=weight
    )


def _nine_conv(start: StartingNetwork, num_identities: int) -> nn.Module:
    backbone = models.build("nine_conv", width=16)
    return models.Siamese(backbone, verification="relu_diff", num_identities=num_identities)


def _csn(start: StartingNetwork, num_identities: int) -> nn.Module:
    return models.build("csn", width=24)


RECIPES: dict[str, Recipe] = {
    "strong": Recipe(
        summary="the strong baseline: identification behind BNNeck and batch-hard triplets",
        objective=lambda start: objectives.strong(margin=0.3, label_smoothing=0.1),
        model=_with_neck,
        batch="identities",
        erase=0.5,
    ),
    "softmax": Recipe(
        summary="identification alone",
        objective=lambda start: objectives.softmax(),
        model=_identified,
        rule="sgd",
        learning_rate=0.05,
        fine_tuning_rate=0.03,
    ),
    "batch_contrastive": Recipe(
        summary="identification, batch-contrastive and center loss (Zhang and Xu)",
        objective=lambda start: objectives.batch_contrastive(
            margin=1.0, center_rate=0.5, loss_weight=0.3
        ),
        model=_identified,
        rule="sgd",
        learning_rate=0.05,
        fine_tuning_rate=0.03,
    ),
    "identif_verif": Recipe(
        summary="identification and verification of pairs (Zheng, Zheng and Yang)",
        objective=_identified_and_verified,
        model=_square,
        batch="pairs",
        batch_size=24,
        rule="sgd",
        learning_rate=0.05,
        fine_tuning_rate=0.03,
    ),
    "triplet": Recipe(
        summary="batch-hard triplets alone",
        objective=lambda start: objectives.triplet(margin=0.3),
        model=_embedded,
        batch="identities",
        learning_rate=1e-3,
        scoring=Scoring(normalise=False),
    ),
    "inherent": Recipe(
        summary="classification, compact and scatter loss around mean codes (Wei et al.)",
        objective=lambda start: objectives.inherent(
            compact_weight=5e-5, scatter_weight=1e-6, means=objectives.bank_means()
        ),
        model=_identified,
        learning_rate=1e-3,
        scoring=Scoring(normalise=False),
    ),
    "clever": Recipe(
        summary="center losses of pairs across cameras (Zheng et al.); needs cameras",
        objective=lambda start: objectives.clever(
            identification_weight=1.0,
            verification_weight=1.0,
            intra_weight=0.01,
            inter_weight=0.008,
            margin=125.0,
            center_rate=0.5,
        ),
        model=_nine_conv,
        batch="pairs",
        learning_rate=1e-3,
        cross_camera=True,
        own_network="nine_conv",
    ),
    "csn": Recipe(
        summary="similarity of pairs at several levels (Guo and Cheung); needs cameras",
        objective=lambda start: objectives.csn(
            ranking_weight=1.0, margin=1.0, prior_weight=0.1, min_scale=0.1, limit=1.0
        ),
        model=_csn,
        batch="pairs",
        batch_size=64,
        learning_rate=1e-3,
        negatives_per_positive=2.0,
        cross_camera=True,
        size=(96, 40),
        own_network="csn",
        scoring=Scoring(distance_weight=0.2),
    ),
}
"""The recipes by name."""


# Parts -----------------------------------------------------------------------------------------


def image_size(source: data.Source) -> Size:
    """A size with the shape of the images, of about 8,000 pixels: (128, 64) for people."""
    rows = np.linspace(0, len(source) - 1, min(len(source), 48)).astype(int)
    shapes = [source.image(row, None).shape for row in rows]
    ratio = float(np.median([height / width for height, width, _ in shapes]))
    known = {2.0: (128, 64), 1.0: (96, 96), 0.5: (64, 128)}
    return known[min(known, key=lambda of: abs(np.log(ratio / of)))]


def sampler(
    recipe: Recipe, labels: np.ndarray, cameras: np.ndarray | None, *, seed: int
) -> data.UniformSampler | data.IdentitySampler | data.PairSampler:
    """What makes up a batch of a recipe.

    Args:
        recipe: of `RECIPES`.
        labels: [N] of the training images.
        cameras: [N], or None.
        seed: of the draws.

    Raises:
        ValueError: if the recipe needs cameras that are not known, or the images allow no batch.
    """
    if recipe.batch == "images":
        return data.UniformSampler(len(labels), batch_size=recipe.batch_size, seed=seed)
    if recipe.batch == "identities":
        num_identities = int(labels.max()) + 1
        return data.IdentitySampler(
            labels,
            identities_per_batch=min(recipe.batch_size // IMAGES_PER_IDENTITY, num_identities),
            images_per_identity=IMAGES_PER_IDENTITY,
            seed=seed,
        )
    if recipe.cross_camera and cameras is None:
        without = [name for name, other in RECIPES.items() if not other.cross_camera]
        raise ValueError(
            "this recipe pairs images of two cameras, and the images have no cameras that count: "
            f"take one of {', '.join(without)}"
        )
    return data.PairSampler(
        labels,
        cameras,
        num_pairs=recipe.batch_size,
        negatives_per_positive=recipe.negatives_per_positive,
        cross_camera=recipe.cross_camera,
        seed=seed,
    )


def preprocess(recipe: Recipe, start: StartingNetwork, size: Size) -> Preprocess:
    """What the network sees: images that are shifted by a few pixels and mirrored, some erased."""
    augmentations: list[Any] = [augment.Shift(max(size) // 25), augment.Flip()]
    if recipe.erase:
        augmentations.append(augment.Erase(recipe.erase))
    own = bool(recipe.own_network)
    return Preprocess(
        size=size,
        mean=IMAGENET_MEAN if own else start.mean,
        std=(64.0,) * 3 if own else start.std,
        augmentations=tuple(augmentations),
    )


def default_steps(num_images: int, batch_images: int, *, fine_tuning: bool) -> int:
    """The length of a training from the number of its images."""
    epochs, fewest = (8, 500) if fine_tuning else (16, 1_000)
    return int(np.clip(round(epochs * num_images / batch_images), fewest, 40_000))


def optimizer(
    recipe: Recipe, *, fine_tuning: bool, num_steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimizer of a recipe, and its learning rate: a warm-up and half a cosine.

    The number of steps is a part of the optimizer's state and no constant of the program, so that
    trainings of any length share what is compiled.
    """
    peak = recipe.fine_tuning_rate if fine_tuning else recipe.learning_rate

    def rate(step: Any, num_steps: Any) -> Any:
        done = step / num_steps
        cosine = (1 + jnp.cos(jnp.pi * jnp.clip((done - WARM_UP) / (1 - WARM_UP), 0, 1))) / 2
        return peak * cosine * jnp.minimum(0.1 + 0.9 * done / WARM_UP, 1)

    if recipe.rule == "sgd":
        inner = schedules.sgd(lambda step: 1.0, momentum=0.9, weight_decay=WEIGHT_DECAY)
    else:
        inner = schedules.adam(lambda step: 1.0, weight_decay=WEIGHT_DECAY)

    def init(params: Any) -> Any:
        return jnp.zeros((), jnp.int32), jnp.asarray(num_steps, jnp.int32), inner.init(params)

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        step, length, own = state
        updates, own = inner.update(gradients, own, params)
        factor = rate(step, length)
        return jax.tree.map(lambda leaf: factor * leaf, updates), (step + 1, length, own)

    return optax.GradientTransformation(init, update), lambda step: rate(step, num_steps)
