"""Which keys an objective and a network take, and what of a configuration does not fit together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["LOSS_KEYS", "MODEL_KEYS", "check"]

_OF_CENTERS = ("center_weight", "center_rate", "reweighting_weight", "reweighting_level")
LOSS_KEYS: dict[str, tuple[str, ...]] = {
    "softmax": (),
    "batch_contrastive": ("margin", "center_rate", "loss_weight", "gradient"),
    "identification_verification": ("identification_weight", "verification_weight"),
    "identification_contrastive": ("identification_weight", "contrastive_weight", "margin"),
    "clever": (
        *("identification_weight", "verification_weight", "intra_weight", "inter_weight"),
        *("margin", "center_rate", "inter_grad", "neg_updates_centers"),
    ),
    "identification_center": _OF_CENTERS,
    "inherent": (
        *("compact_weight", "scatter_weight", "means", "mean_rate", "scatter_cap"),
        *("reduction", "scatter_over"),
    ),
    "triplet": ("margin",),
    "csn": ("ranking_weight", "margin", "prior_weight", "min_scale", "limit"),
    "strong": ("margin", "triplet_weight", "label_smoothing", "center_weight", "center_rate"),
}
"""The keys of the section loss that each objective takes; those of others are None."""

_MAY_BE_NONE = ("reweighting_weight", "reweighting_level", "mean_rate", "scatter_cap")

_OF_ALL = ("width", "dtype")
_OF_RESNET = (
    *(*_OF_ALL, "stride", "pooling", "last_stride", "neck", "head_init_std"),
    *("freeze_batch_norm", "remat"),
)
_OF_PLAIN = (*_OF_ALL, "pooling", "hidden_dropout")
MODEL_KEYS: dict[str, tuple[str, ...]] = {
    "caffenet": _OF_PLAIN,
    "csn": (
        *(*_OF_ALL, "levels", "trunk", "sim_grid", "dividing", "attention", "ranking"),
        *("correlation", "f4", "remat"),
    ),
    "efficientnet_lite0": (*_OF_ALL, "last_stride", "neck", "head_init_std", "remat"),
    "nine_conv": (*_OF_ALL, "feature_reweighting", "test_statistics"),
    "resnet18": _OF_RESNET,
    "resnet50": _OF_RESNET,
    "vgg16": _OF_PLAIN,
}
"""The options of the section model that each network takes; those of others are None."""


def check(config: Any) -> None:
    """Refuses sections of a `Config` that do not fit each other.

    Raises:
        ValueError: for a constant of another objective, one that the objective lacks, an option of
            another network, or an experiment to start from without a place for it.
    """
    objective, network = config.objective, config.model.name
    _refuse_others("loss", config.loss, LOSS_KEYS, objective, "the objective")
    _refuse_others("model", config.model, MODEL_KEYS, network, "the network")
    needed = [key for key in LOSS_KEYS[objective] if key not in _MAY_BE_NONE]
    needed += ["mean_rate"] * (config.loss.means == "ema")
    lacking = [f"loss.{key}" for key in needed if getattr(config.loss, key) is None]
    if lacking:
        raise ValueError(f"the objective {objective} needs a value of {', '.join(lacking)}")
    if config.loss.center_rate == "learning_rate" and objective != "batch_contrastive":
        raise ValueError(
            f"loss.center_rate=learning_rate belongs to batch_contrastive, and the objective is "
            f"{objective}: give a number"
        )
    if config.sampler.batch_size % config.train.accumulate:
        raise ValueError(
            f"sampler.batch_size={config.sampler.batch_size} has not "
            f"train.accumulate={config.train.accumulate} equal parts: give a divisor of it"
        )
    if config.model.freeze_batch_norm and not (config.model.weights or config.model.start_from):
        raise ValueError(
            "model.freeze_batch_norm keeps the running averages of a trained network, and there is "
            "none: give model.weights or model.start_from, or model.freeze_batch_norm=false"
        )
    if config.data.mean == "start" and not config.model.start_from:
        raise ValueError(
            "data.mean=start needs model.start_from, the run whose mean is taken: give that, or "
            "data.mean=image"
        )
    if config.model.start_exp and not config.model.start_from:
        raise ValueError(
            f"model.start_exp={config.model.start_exp} needs model.start_from, the directory that "
            "it is run in"
        )


def _refuse_others(
    section: str, values: Any, keys: Mapping[str, tuple[str, ...]], owner: str, what: str
) -> None:
    for key in dict.fromkeys(key for own in keys.values() for key in own):
        if getattr(values, key) is not None and key not in keys[owner]:
            owners = ", ".join(name for name, own in keys.items() if key in own)
            raise ValueError(
                f"{section}.{key} belongs to {owners}, and {what} is {owner}: set {section}.{key} "
                "to none"
            )
