"""Notes on runs of `batch_contrastive`: Zhang and Xu."""

from __future__ import annotations

from experiments.config import Config
from experiments.papers.notes.note import (
    DECAY_OF_ALL,
    DECAY_OF_KERNELS,
    SCRATCH,
    Note,
    at_small_scale,
)

__all__ = ["NOTES"]


def _joint(config: Config, scale: str) -> bool:
    return config.objective == "batch_contrastive"


NOTES = (
    SCRATCH,
    Note(
        "the paper's ResNet-50 is Caffe's, with the stride in a stage's first 1x1 convolution; "
        "here it is in the 3x3 convolution, as torchvision's weights need it.",
        lambda config, scale: config.model.stride == "torchvision",
    ),
    Note("momentum and mirroring are not given; 0.9 and a half here."),
    DECAY_OF_ALL,
    DECAY_OF_KERNELS,
    Note(
        "the paper does not say whether batch norm was frozen in the fine-tuning; here it takes "
        "the statistics of the batch.",
        lambda config, scale: not config.model.freeze_batch_norm,
    ),
    Note(
        "the paper does not say whether batch norm was frozen in the fine-tuning; here it is "
        "(freeze_batch_norm).",
        lambda config, scale: config.model.freeze_batch_norm,
    ),
    Note("the first weights of the classification layer are not given; of deviation 0.001 here."),
    Note(
        "tau is not given; 1.0 here, unless margin says otherwise, with which the conditions of "
        "Eqs. 3 and 8 are the same.",
        _joint,
    ),
    Note(
        "Algorithm 1 has one eta, 0.01 at first, for the network and the centers; here the centers "
        "have a rate of their own.",
        lambda config, scale: _joint(config, scale) and config.loss.center_rate != "learning_rate",
    ),
    Note(
        "the paper has a lambda of 1; here it is another (loss_weight).",
        lambda config, scale: (
            _joint(config, scale) and scale != "small" and config.loss.loss_weight != 1.0
        ),
    ),
    Note("the first centers are not given; zero here, as in Wen et al.", _joint),
    Note(
        "the paper does not say what the distances of Fig. 1 are taken on; here on the "
        "L2-normalised pool5 of the training pass, before dropout."
    ),
    Note(
        "small scale: half of ResNet-18's channels, 128x64, batches of 32, no dropout unless the "
        "key says otherwise, 700 steps at a learning rate of 0.05, and lambda 0.3 unless "
        "loss_weight says otherwise.",
        at_small_scale,
    ),
)
