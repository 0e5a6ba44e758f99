"""Notes on runs of `strong`: Luo et al."""

from __future__ import annotations

from experiments.papers.notes.note import (
    DECAY_OF_ALL,
    DECAY_OF_KERNELS,
    SCRATCH,
    Note,
    at_small_scale,
)

__all__ = ["NOTES"]


NOTES = (
    SCRATCH,
    Note(
        "the formula of the warm-up begins at 0 and ends at a tenth of the rate; the text is "
        "taken, from a tenth to the whole.",
        lambda config, scale: bool(config.optimizer.warmup_steps or config.optimizer.warmup_epochs),
    ),
    Note(
        "an image is padded by its border and cropped, where the paper pads with black.",
        lambda config, scale: config.data.shift > 0,
    ),
    DECAY_OF_ALL,
    DECAY_OF_KERNELS,
    Note(
        "the learning rate falls in steps in the paper; here with the cosine.",
        lambda config, scale: scale == "paper" and config.optimizer.decay == "cosine",
    ),
    Note(
        "the rate of the centers is not given; 0.5 here.",
        lambda config, scale: bool(config.loss.center_weight),
    ),
    Note(
        "small scale: half of ResNet-18's channels on half the image, 8 identities with 4 images "
        "each in a batch, a higher learning rate, and the cosine unless decay says otherwise.",
        at_small_scale,
    ),
)
