"""The scale `pretrained`: the papers' losses on ImageNet features, in minutes on a CPU.

Three of the papers fine-tune networks of ImageNet, whose weights nobody can install as a package.
This scale keeps an experiment's objective, constants and sampling as at the paper's scale, and
trains them all on efficientnet_lite0, whose weights the extra `pretrained` brings, with one
schedule and equally many images for every objective, so that two rows differ in their losses and
in what makes a batch: single images, pairs, or P identities with K images each. The strong baseline
has its tricks besides.
"""

from __future__ import annotations

from experiments.config import Config, Data, Model, Optimizer, Train, changed

__all__ = [
    "CHOSEN_CENTERS",
    "CHOSEN_CENTERS_IC",
    "CHOSEN_WEIGHT",
    "IMAGES",
    "NETWORK",
    "pretrained",
]

NETWORK = "efficientnet_lite0"
IMAGES = 32
"""Images of a step: single ones, 4 of each of 8 identities, or 16 pairs."""
CHOSEN_WEIGHT = "verification_weight=0.1"
"""Of 1, 0.3, 0.1 and 0.03, by `experiments/tune.py`: the paper's 1 does not train."""
CHOSEN_CENTERS, CHOSEN_CENTERS_IC = "center_factor=0.0001", "center_factor=0.001"
"""Of 0.1 to 0.00001 for CLEVER + IV, of 0.1 to 0.0001 for IC: the paper's 1 does not train."""

_STEPS, _WARMUP = 240, 24
_FEATURES = {NETWORK: 1280, "nine_conv": 512}


def pretrained(config: Config) -> Config:
    """An experiment's config at the paper's scale, on ImageNet features.

    Args:
        config: at the paper's scale.

    Raises:
        ValueError: for a network that is an objective's own.
    """
    if config.model.name == "csn" or config.model.feature_reweighting:
        network = "csn" if config.model.name == "csn" else "CNN-FRW-IC"
        raise ValueError(
            f"--scale=pretrained: {network} is a network of its own, which has no weights of "
            "ImageNet: give --scale=small or --scale=paper"
        )
    made = changed(
        config,
        data=Data(
            partition=config.data.partition,
            joined=config.data.joined,
            image_size=(96, 48),
            flip=True,
            shift=4 if config.data.shift else 0,
            erase=config.data.erase,
            mean="imagenet",
        ),
        model=Model(
            name=NETWORK,
            weights=NETWORK,
            identification=config.model.identification,
            verification=config.model.verification,
            last_stride=config.model.last_stride,
            neck=config.model.neck,
        ),
        sampler={"batch_size": IMAGES // 2 if config.sampler.name == "pair" else IMAGES},
        optimizer=Optimizer(
            name="sgd",
            learning_rate=0.03,
            weight_decay=5e-4,
            decay="cosine",
            warmup_steps=_WARMUP,
            num_steps=_STEPS,
        ),
        train=Train(log_every=20, checkpoint_every=_STEPS, validate_every=_STEPS),
        evaluation={"normalise": True, "batch_size": 64},
    )
    loss = {}
    if config.objective == "clever":
        # A squared distance is a sum over the features.
        loss["margin"] = config.loss.margin * _FEATURES[NETWORK] / _FEATURES[config.model.name]
    if config.loss.means == "exact":
        loss["means"] = "bank"
    return changed(made, loss=loss)
