"""Notes on runs of `inherent`: Wei et al."""

from __future__ import annotations

from experiments.config import Config
from experiments.papers.notes.note import (
    DECAY_OF_ALL,
    SCRATCH,
    Note,
    at_small_scale,
    decays,
)

__all__ = ["NOTES"]


def _of_triplets(config: Config, scale: str) -> bool:
    return config.objective == "triplet"


def _of_means(config: Config, scale: str) -> bool:
    return config.objective == "inherent"


def _scatters(config: Config, scale: str) -> bool:
    return bool(config.loss.scatter_weight)


NOTES = (
    SCRATCH,
    Note(
        "the size of the input is not given (images have 128x48); here they are resized to 288x144 "
        "and cropped to 256x128, and at test resized to 256x128, in which a person is a ninth "
        "smaller.",
        lambda config, scale: scale == "paper",
    ),
    Note(
        "images are cropped in training and whole at test, in which a person is a ninth smaller.",
        at_small_scale,
    ),
    Note(
        "the weight decay is not given, nor what it is of; 5e-4 of the kernels here, which batch "
        "norm's scale does not feel (optimizer.weight_decay_of=all).",
        decays("kernels"),
    ),
    DECAY_OF_ALL,
    Note("the number of random splits is not given; one, unless --splits says otherwise."),
    Note("P and K are not given; 8 identities with 4 images each here.", _of_triplets),
    Note(
        "300 epochs are read as 300 times as many images as there are to train on, whatever the "
        "order of the images.",
        lambda config, scale: scale == "paper",
    ),
    Note(
        "the paper does not say how Eq. 1, of one sample, and Eqs. 2 and 3, sums over samples, are "
        "reduced over a batch; here each is a mean (reduction=alike).",
        lambda config, scale: _of_means(config, scale) and config.loss.reduction == "alike",
    ),
    Note(
        "Eq. 1 is reduced to a mean and Eqs. 2 and 3 to sums over the batch, which the equations "
        "do not say: they weigh 32 times as much as with reduction=alike.",
        lambda config, scale: _of_means(config, scale) and config.loss.reduction == "mixed",
    ),
    Note(
        "Eq. 3 sums over all other identities; here over those of the batch.",
        lambda config, scale: _scatters(config, scale) and config.loss.scatter_over == "batch",
    ),
    Note(
        "a code is pushed no further once its scatter loss is above a cap; the paper has none.",
        lambda config, scale: _scatters(config, scale) and bool(config.loss.scatter_cap),
    ),
    Note(
        "the paper has a gamma of 1e-6; here it is another (scatter_weight).",
        lambda config, scale: _scatters(config, scale) and config.loss.scatter_weight != 1e-6,
    ),
    Note(
        "the paper prints one learning rate; here it falls from the middle of the training on.",
        lambda config, scale: config.optimizer.decay == "exponential",
    ),
    Note(
        "small scale: half of ResNet-18's channels (a quarter of ResNet-50's), 108x54 cropped to "
        "96x48, 1,000 steps at a learning rate of 1e-3, and means from the bank unless means says "
        "otherwise.",
        at_small_scale,
    ),
)
