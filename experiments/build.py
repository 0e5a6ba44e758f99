"""From a config to objects: the only place where a name becomes an object."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from experiments.config import LOSS_KEYS, MODEL_KEYS, Config, Sampler
from reid_jax import augment, data, models, objectives, ops, pretrained, protocols
from reid_jax.deviations import deviations
from reid_jax.embedder import Embedder, Scoring
from reid_jax.models.norm import local_response_norm
from reid_jax.preprocess import IMAGENET_MEAN, Preprocess
from reid_jax.training import Intervals, schedules
from reid_jax.training.trainer import training_labels

__all__ = [
    "Length",
    "Parts",
    "embedder",
    "is_identification_head",
    "length",
    "network",
    "notes",
    "objective",
    "optimizer",
    "parts",
    "preprocess",
    "protocol",
    "ratio_rule",
    "sampler",
    "schedule",
    "scoring",
]

IDENTIFICATION_HEAD = "identification"


@dataclasses.dataclass(frozen=True)
class Parts:
    """What `reid_jax.fit` takes, made of a config."""

    model: nn.Module
    objective: objectives.Objective
    sampler: data.Sampler
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule
    preprocess: Preprocess
    num_steps: int
    intervals: Intervals
    scoring: Scoring


def parts(config: Config, source: data.Source, *, seed: int) -> Parts:
    """Makes all that a training needs.

    Args:
        config: of the run.
        source: the training images.
        seed: of the run.

    Raises:
        ValueError: if values do not fit each other, or the images.
    """
    labels, num_identities = training_labels(source)
    drawn = sampler(config, labels, source.cameras, seed)
    of = length(config, drawn)
    rate = schedule(config, of)
    return Parts(
        model=network(config, num_identities),
        objective=objective(config, rate),
        sampler=drawn,
        optimizer=optimizer(config, rate),
        learning_rate=rate,
        preprocess=preprocess(config),
        num_steps=of.num_steps,
        intervals=Intervals(
            log_every=config.train.log_every,
            checkpoint_every=config.train.checkpoint_every,
            validate_every=config.train.validate_every,
        ),
        scoring=scoring(config),
    )


# Network ---------------------------------------------------------------------------------------


def network(config: Config, num_identities: int) -> nn.Module:
    """The network that is trained: single images, or pairs of them with `model.verification`."""
    own = config.model
    options = {key: getattr(own, key) for key in MODEL_KEYS[own.name]}
    options = {key: value for key, value in options.items() if value is not None}
    if own.head_init_std == "uniform":
        options["head_init_std"] = None
    if own.dtype:
        options["dtype"] = jnp.dtype(own.dtype)
    if models.MODELS[own.name]().scores_pairs:
        return models.build(own.name, **options)
    head = {
        "num_identities": num_identities if own.identification else None,
        "dropout": own.dropout,
    }
    if not own.verification:
        return models.build(own.name, **options, **head)
    return models.Siamese(
        models.build(own.name, **options),
        verification=own.verification,
        verification_dropout=own.verification_dropout,
        **head,
    )


def is_identification_head(params: Any) -> Any:
    """A tree like `params` that is True at the parameters of the identification head."""
    return traverse_util.path_aware_map(lambda path, _: IDENTIFICATION_HEAD in path, params)


# Objective -------------------------------------------------------------------------------------


MEANS: dict[str, Callable[[float], Any]] = {
    "exact": lambda rate: objectives.exact_means(),
    "bank": lambda rate: objectives.bank_means(),
    "batch": lambda rate: objectives.batch_means(),
    "ema": lambda rate: objectives.moving_means(rate=rate),
}


def _inherent(*, means: str, mean_rate: float = 0.0, **constants: Any) -> objectives.Objective:
    constants["scatter_cap"] = constants.get("scatter_cap") or None
    return objectives.inherent(means=MEANS[means](mean_rate), **constants)


OBJECTIVES: dict[str, Callable[..., objectives.Objective]] = {
    "softmax": objectives.softmax,
    "batch_contrastive": objectives.batch_contrastive,
    "identification_verification": objectives.identification_verification,
    "identification_contrastive": objectives.identification_contrastive,
    "clever": objectives.clever,
    "identification_center": objectives.identification_center,
    "inherent": _inherent,
    "triplet": objectives.triplet,
    "csn": objectives.csn,
    "strong": objectives.strong,
}


def objective(config: Config, rate: optax.Schedule | None = None) -> objectives.Objective:
    """What is minimised, with the constants of the section `loss`.

    Args:
        config: of the run.
        rate: its learning rate, which `loss.center_rate=learning_rate` follows; without it the
            objective is for checks, and takes the rate of the first steps throughout.
    """
    constants = {key: getattr(config.loss, key) for key in LOSS_KEYS[config.objective]}
    constants = {key: value for key, value in constants.items() if value is not None}
    if constants.get("center_rate") == "learning_rate":
        first = optax.constant_schedule(config.optimizer.learning_rate)
        constants["center_rate"] = first if rate is None else rate
    return OBJECTIVES[config.objective](**constants)


# Sampler ---------------------------------------------------------------------------------------


def ratio_rule(own: Sampler) -> float | Callable[[int], float]:
    """Negatives per positive: a number, or by epoch as Zheng, Zheng and Yang print or code it.

    Epochs count from 0 here; their code's from 1, so that its first epoch has 2 * 1.01 - 1.
    """
    growth, limit = own.ratio_growth, own.ratio_limit
    if own.ratio_rule == "paper":
        return lambda epoch: min(limit, growth**epoch)
    if own.ratio_rule == "code":
        return lambda epoch: min(limit, 2 * growth ** (epoch + 1) - 1)
    return own.negatives_per_positive


def sampler(
    config: Config, labels: np.ndarray, cameras: np.ndarray | None, seed: int
) -> data.Sampler:
    """Which images make up the batch of a step.

    Args:
        config: with the section `sampler`.
        labels: [N] of the training images.
        cameras: [N], or None.
        seed: of the run.
    """
    own = config.sampler
    if own.name == "uniform":
        return data.UniformSampler(len(labels), batch_size=own.batch_size, seed=seed)
    if own.name == "identity":
        identities, rest = divmod(own.batch_size, own.images_per_identity)
        if rest:
            raise ValueError(
                f"sampler.batch_size={own.batch_size} is not a multiple of "
                f"sampler.images_per_identity={own.images_per_identity}"
            )
        num_identities = int(labels.max()) + 1
        if identities > num_identities:
            raise ValueError(
                f"sampler.batch_size={own.batch_size} with sampler.images_per_identity="
                f"{own.images_per_identity} needs {identities} identities, and {num_identities} "
                "are trained on: give a smaller sampler.batch_size or more images of each"
            )
        return data.IdentitySampler(
            labels,
            identities_per_batch=identities,
            images_per_identity=own.images_per_identity,
            seed=seed,
        )
    return data.PairSampler(
        labels,
        cameras,
        num_pairs=own.batch_size,
        negatives_per_positive=ratio_rule(own),
        cross_camera=own.cross_camera,
        seed=seed,
    )


# Optimizer -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Length:
    """Steps of a training, and those from which the learning rate is another."""

    num_steps: int
    boundaries: tuple[int, ...]
    warmup_steps: int = 0


def length(config: Config, made: data.Sampler) -> Length:
    """The length that `optimizer.num_steps` gives, or `optimizer.num_epochs`."""
    own = config.optimizer
    if own.num_steps:
        return Length(own.num_steps, own.boundaries, own.warmup_steps)
    if not own.num_epochs:
        raise ValueError("optimizer.num_steps is 0: give a number of steps")
    num_steps = _steps_of_epochs(config, made)
    boundaries = tuple(num_steps(epochs) for epochs in own.boundary_epochs)
    warmup_steps = num_steps(own.warmup_epochs) if own.warmup_epochs else 0
    return Length(num_steps(own.num_epochs), boundaries, warmup_steps)


def _steps_of_epochs(config: Config, made: data.Sampler) -> Callable[[float], int]:
    """Steps of epochs: once through the images, or as many positive pairs as there are."""
    if config.optimizer.epoch == "images":
        return made.num_steps
    if not isinstance(made, data.PairSampler):
        raise ValueError(
            f"optimizer.epoch=positive_pairs with sampler.name={config.sampler.name}: it takes pair"
        )
    # Each image counts as often as augmentation makes copies of it.
    copies = config.data.num_shifted + 2 if config.data.flip_or_shift else 1
    pairs = made.num_positive_pairs * copies**2 * (1 + config.sampler.negatives_per_positive)
    return lambda epochs: math.ceil(epochs * pairs / config.sampler.batch_size)


def schedule(config: Config, of: Length) -> optax.Schedule:
    """The learning rate of each step, by `optimizer.decay` and the warm-up."""
    own = config.optimizer
    if of.warmup_steps >= of.num_steps:
        raise ValueError(
            f"the warm-up of {of.warmup_steps} steps does not end in {of.num_steps} steps: shorten "
            "optimizer.warmup_steps or optimizer.warmup_epochs"
        )
    decayed = _decayed(config, of)
    return schedules.warm_up(decayed, num_steps=of.warmup_steps, start=own.warmup_start)


def _decayed(config: Config, of: Length) -> optax.Schedule:
    own = config.optimizer
    if own.decay == "steps":
        return schedules.step_decay(own.learning_rate, boundaries=of.boundaries)
    if own.decay == "cosine":
        return schedules.cosine_decay(
            own.learning_rate, num_steps=of.num_steps, first_step=of.warmup_steps
        )
    if len(of.boundaries) != 1:
        raise ValueError(f"optimizer.decay=exponential begins at one boundary; got {of.boundaries}")
    return schedules.exponential_decay(
        own.learning_rate, first_step=of.boundaries[0], num_steps=of.num_steps
    )


def optimizer(config: Config, rate: optax.Schedule) -> optax.GradientTransformation:
    """The optimizer of all parameters; the identification head moves alone for `head_steps`."""
    own = config.optimizer
    decay: dict[str, Any] = {
        "weight_decay": own.weight_decay,
        "decayed": schedules.kernels if own.weight_decay_of == "kernels" else None,
    }
    if own.name == "sgd":
        made = schedules.sgd(rate, momentum=own.momentum, **decay)
    else:
        made = schedules.adam(rate, **decay)
    if own.head_steps:
        made = schedules.freeze_until(made, is_identification_head, num_steps=own.head_steps)
    return made


# Preprocessing, test ---------------------------------------------------------------------------


def preprocess(config: Config) -> Preprocess:
    """What the network sees, with the mean and the deviation that its weights expect.

    A network from scratch divides by `data.from_scratch_std`. Of `data.mean=start` the numbers are
    those of `Start.preprocess`.
    """
    own = config.data
    augmentations: list[augment.Augmentation] = []
    if own.shift:
        augmentations.append(augment.Shift(own.shift))
    if own.flip_or_shift:
        augmentations.append(
            augment.FlipOrShift(tuple(own.flip_or_shift), num_shifted=own.num_shifted)
        )
    if own.crop_size:
        augmentations.append(augment.Crop(own.crop_size))
    if own.flip:
        augmentations.append(augment.Flip())
    if own.erase:
        augmentations.append(augment.Erase(own.erase))
    mean, std = None, (own.from_scratch_std,) * 3
    if config.model.weights:
        backbone = models.build(config.model.name)
        mean, std = pretrained.expected_pixels(config.model.weights, backbone)
    return Preprocess(
        size=own.image_size,
        mean={"imagenet": mean or IMAGENET_MEAN, "start": "image"}.get(own.mean, own.mean),
        std=std,
        augmentations=tuple(augmentations),
    )


def scoring(config: Config) -> Scoring:
    """How images are embedded and compared at test."""
    own = {field.name for field in dataclasses.fields(Scoring)}
    return Scoring(**{k: v for k, v in dataclasses.asdict(config.evaluation).items() if k in own})


def protocol(config: Config, name: str = "") -> protocols.Protocol:
    """The protocol of a name, by default the config's.

    Raises:
        ValueError: if there is none of that name, with those that there are.
    """
    name = name or config.evaluation.protocol
    if name not in protocols.PROTOCOLS:
        known = ", ".join(protocols.PROTOCOLS)
        raise ValueError(f"unknown protocol {name!r}; known: {known}")
    names = [field.name for field in dataclasses.fields(protocols.Refinement)]
    refinement = protocols.Refinement(**{key: getattr(config.evaluation, key) for key in names})
    found = dataclasses.replace(protocols.PROTOCOLS[name], refinement=refinement)
    if hasattr(found, "num_repeats"):
        found = dataclasses.replace(found, num_repeats=config.evaluation.num_repeats)
    return found


def embedder(config: Config) -> Embedder:
    """The embedder of a run before its training, without variables: for checks."""
    return Embedder(
        model=models.single_image_network(network(config, 2)),
        variables={},
        preprocess=preprocess(config),
        scoring=scoring(config),
    )


def notes(config: Config) -> tuple[str, ...]:
    """The `Deviation:` notes of the library's parts that a run is made of."""
    model = network(config, 2)
    backbone = getattr(model, "backbone", model)
    used: list[Any] = [type(model), type(backbone)]
    if config.data.flip_or_shift:
        used.append(augment.flip_or_shift)
    if config.model.dividing:
        used.append(models.stripes)
    if config.model.attention == "stn":
        used.append(ops.spatial_transform)
    if config.model.name == "caffenet":
        used.append(local_response_norm)
    if config.evaluation.protocol == "oxford5k":
        used.append(data.rounded_sizes)
    return (*objective(config).notes, *deviations(used))
