"""What a method adds to the common run: an objective with its state, and a sampler."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from reid_jax import augment, data, losses, models, ops
from reid_jax.training import mean_codes, objectives
from reid_jax.training.objectives.clever import INTER_GRADS

__all__ = ["DEVIATIONS", "METHODS", "SAMPLERS", "Method"]


@dataclasses.dataclass(frozen=True)
class Method:
    """What the training loop needs of a method.

    Attributes:
        objective: see :mod:`reid_jax.training.objectives`.
        loss_state: its initial state.
        make_refresh: ``make_refresh(embed, devices) -> refresh(state, images)``, which gives the
            loss state before a step from all training images; None for a method that needs the
            batch alone. ``embed(variables, images)`` gives codes of training images as they are
            kept on the device.
        refresh_every: steps from one refresh to the next.
    """

    objective: Callable[..., Any]
    loss_state: Any = None
    make_refresh: Callable[..., Callable[..., Any]] | None = None
    refresh_every: int = 1


def _stateless(objective: Callable[..., Any]) -> Callable[..., Method]:
    """A method whose constants are the config's section ``loss``, without a state."""

    def method(config: ConfigDict, labels: np.ndarray, dim: int) -> Method:
        del labels, dim
        return Method(functools.partial(objective, **config.loss))

    return method


def _with_centers(objective: Callable[..., Any]) -> Callable[..., Method]:
    """The same with a center of each identity as the state."""

    def method(config: ConfigDict, labels: np.ndarray, dim: int) -> Method:
        centers = losses.init_centers(int(labels.max()) + 1, dim)
        return Method(functools.partial(objective, **config.loss), centers)

    return method


def _batch_contrastive(config: ConfigDict, labels: np.ndarray, dim: int) -> Method:
    if config.loss.gradient not in ("autodiff", "eq8"):
        raise ValueError(f"loss.gradient={config.loss.gradient!r}; known: autodiff, eq8")
    return _with_centers(objectives.batch_contrastive)(config, labels, dim)


def _clever(config: ConfigDict, labels: np.ndarray, dim: int) -> Method:
    if config.loss.inter_grad not in INTER_GRADS:
        known = ", ".join(INTER_GRADS)
        raise ValueError(f"loss.inter_grad={config.loss.inter_grad!r}; known: {known}")
    return _with_centers(objectives.clever)(config, labels, dim)


def _inherent(config: ConfigDict, labels: np.ndarray, dim: int) -> Method:
    constants = dict(config.loss)
    means = constants["means"]
    constants["scatter_cap"] = constants["scatter_cap"] or None
    if means == "ema":
        constants["mean_rate"] = 0.5
    state = mean_codes.init_mean_codes(labels, dim, means=means)
    make_refresh, refresh_every = None, 1
    if means != "batch":
        make_refresh = functools.partial(_mean_code_refresh, labels)
        if means == "bank":
            refresh_every = max(len(labels) // config.sampler.batch_size, 1)
        elif means == "ema":
            refresh_every = config.optimizer.num_steps or 2**31  # At the start alone.
    objective = functools.partial(objectives.inherent, **constants)
    return Method(objective, state, make_refresh, refresh_every)


def _csn(config: ConfigDict, labels: np.ndarray, dim: int) -> Method:
    if config.evaluation.distance_weight and not config.model.ranking:
        raise ValueError(
            f"evaluation.distance_weight={config.evaluation.distance_weight} needs descriptors, "
            "which the network does not have without model.ranking: set it to 0"
        )
    return _stateless(objectives.csn)(config, labels, dim)


def _mean_code_refresh(labels: np.ndarray, embed: Any, devices: Any) -> Callable[..., Any]:
    return mean_codes.make_refresh(embed, labels, devices=devices, block_size=128)


METHODS = {
    "softmax": _stateless(objectives.softmax),
    "batch_contrastive": _batch_contrastive,
    "identification_verification": _stateless(objectives.identification_verification),
    "identification_contrastive": _stateless(objectives.identification_contrastive),
    "clever": _clever,
    "identification_center": _with_centers(objectives.identification_center),
    "inherent": _inherent,
    "triplet": _stateless(objectives.triplet),
    "csn": _csn,
}
"""``METHODS[method](config, labels of the training images, dim) -> Method``"""


def _uniform(config: ConfigDict, labels: np.ndarray, cameras: np.ndarray | None, seed: int) -> Any:
    del cameras
    return data.UniformSampler(len(labels), batch_size=config.sampler.batch_size, seed=seed)


def _identity(config: ConfigDict, labels: np.ndarray, cameras: np.ndarray | None, seed: int) -> Any:
    del cameras
    images = config.sampler.images_per_identity
    identities, rest = divmod(config.sampler.batch_size, images)
    if rest:
        raise ValueError(
            f"sampler.batch_size={config.sampler.batch_size} is not a multiple of "
            f"sampler.images_per_identity={images}"
        )
    return data.IdentitySampler(
        labels, identities_per_batch=identities, images_per_identity=images, seed=seed
    )


RATIO_RULES = {
    "paper": lambda epoch: min(4.0, 1.01**epoch),
    "code": lambda epoch: min(4.0, 2 * 1.01**epoch - 1),
}
"""Negatives per positive of an epoch, as Zheng, Zheng and Yang print it and as they coded it."""


def _pair(config: ConfigDict, labels: np.ndarray, cameras: np.ndarray | None, seed: int) -> Any:
    rule = config.sampler.ratio_rule
    if rule not in (*RATIO_RULES, "fixed"):
        raise ValueError(f"sampler.ratio_rule={rule!r}; known: {', '.join(RATIO_RULES)}, fixed")
    fixed = config.sampler.negatives_per_positive
    return data.PairSampler(
        labels,
        cameras,
        num_pairs=config.sampler.batch_size,
        negatives_per_positive=RATIO_RULES.get(rule, fixed),
        cross_camera=config.sampler.cross_camera,
        seed=seed,
    )


SAMPLERS = {"uniform": _uniform, "identity": _identity, "pair": _pair}
"""``SAMPLERS[name](config, labels, cameras, seed) -> sampler``"""

DEVIATIONS = {
    "softmax": (objectives.softmax, objectives.batch_distances),
    "batch_contrastive": (
        objectives.batch_contrastive,
        losses.batch_contrastive_loss,
        losses.update_centers,
        losses.init_centers,
        objectives.batch_distances,
    ),
    "identification_verification": (
        objectives.identification_verification,
        losses.identification_loss,
        losses.verification_loss,
        data.PairSampler,
    ),
    "identification_contrastive": (
        objectives.identification_contrastive,
        losses.contrastive_loss,
        data.PairSampler,
    ),
    "clever": (
        objectives.clever,
        losses.intra_center_loss,
        losses.inter_center_loss,
        losses.update_pair_centers,
        models.NineConv,
        data.PairSampler,
        augment.flip_or_shift,
    ),
    "identification_center": (
        objectives.identification_center,
        losses.center_loss,
        losses.update_centers,
        models.NineConv,
    ),
    "inherent": (
        objectives.inherent,
        losses.compact_loss,
        losses.scatter_loss,
        mean_codes.init_mean_codes,
    ),
    "triplet": (objectives.triplet, losses.batch_hard_triplet_loss),
    "csn": (
        objectives.csn,
        losses.contrastive_loss,
        losses.stn_prior,
        models.CSN,
        models.stripes,
        ops.spatial_transform,
        data.PairSampler,
        augment.flip_or_shift,
    ),
}
"""The functions whose ``Deviation:`` notes belong in a method's report."""
