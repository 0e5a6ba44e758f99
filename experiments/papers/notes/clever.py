"""Notes on runs of `clever`: Zheng et al. (CLEVER)."""

from __future__ import annotations

from experiments.config import Config
from experiments.papers.notes.note import Note, at_small_scale

__all__ = ["NOTES"]


def _fine_tuned(config: Config, scale: str) -> bool:
    return bool(config.model.start_from)


def _verifies(config: Config, scale: str) -> bool:
    return bool(config.loss.verification_weight)


NOTES = (
    Note(
        "the paper names neither optimizer nor weight decay; Adam and 1e-3 of the kernels are "
        "those of the code that it builds on (Jin et al. [9]).",
        lambda config, scale: config.optimizer.name == "adam",
    ),
    Note(
        "the paper names neither optimizer nor weight decay; that code (Jin et al. [9]) has Adam "
        "and 1e-3 of the kernels, this run SGD and 5e-4 of the kernels.",
        lambda config, scale: config.optimizer.name != "adam",
    ),
    Note(
        "the paper names no augmentation; that code's five forms of an image, itself, mirrored and "
        "three times shifted, are drawn here.",
        lambda config, scale: bool(config.data.flip_or_shift),
    ),
    Note(
        "that code draws the identity of a positive pair uniformly; here an epoch is one shuffled "
        "pass over the images, each with a partner from the other camera.",
        lambda config, scale: config.objective == "clever",
    ),
    Note(
        "that code's batch has equally many images of each camera, their identities drawn "
        "uniformly; here an epoch is one shuffled pass over all images.",
        lambda config, scale: config.objective == "identification_center",
    ),
    Note(
        "that code starts the layers of verification with He's deviation and biases of 0.01; here "
        "the biases are 0 and the last layer is uniform within 0.1 sqrt(3 / 512).",
        _verifies,
    ),
    Note(
        "L_V weighs a half, as in that code; in the rows with a center-level loss it weighs 1, as "
        "Eq. 8 prints (row=iv_weight_1 is the same baseline with 1).",
        lambda config, scale: (
            config.loss.verification_weight == 0.5
            and not config.loss.intra_weight
            and not config.loss.inter_weight
        ),
    ),
    Note(
        "batch norm takes the statistics of the tested images, as in that code.",
        lambda config, scale: config.model.test_statistics == "batch",
    ),
    Note(
        "batch norm takes running averages; in that code the statistics of the tested images.",
        lambda config, scale: config.model.test_statistics != "batch",
    ),
    Note(
        "of CUHK03's identities as many as are tested on are neither trained nor tested on, as in "
        "that code.",
        lambda config, scale: config.dataset == "cuhk03",
    ),
    Note(
        "of the pre-training the paper names the data sets alone; all identities of CUHK03 "
        "(detected) that both sides saw, and of Market-1501's training and gallery images with "
        "cameras 1 to 3 as the one side and 4 to 6 as the other, as in that code.",
        lambda config, scale: bool(config.data.joined),
    ),
    Note(
        "of the fine-tuning the paper says only that there is one; its stages, steps and learning "
        "rate are those of that code. It keeps rows of the pre-trained identification head; here "
        "the head and the centers are new.",
        _fine_tuned,
    ),
    Note(
        "while the head alone is trained, the running averages of batch norm move to the new data "
        "already; a batch is normalised by its own statistics, so no training step depends on "
        "them.",
        _fine_tuned,
    ),
    Note(
        "that code fine-tunes with the mean of the pre-training, without augmentation, on one "
        "random image of an identity and camera; this run differs in at least one of these.",
        lambda config, scale: (
            _fine_tuned(config, scale)
            and (
                config.data.mean != "start"
                or bool(config.data.flip_or_shift)
                or config.data.images_per_camera != 1
            )
        ),
    ),
    Note(
        "the paper trains on CUHK03 and Market-1501 first; this run does not.",
        lambda config, scale: (
            config.dataset in ("cuhk01", "viper")
            and not config.data.joined
            and not config.model.start_from
        ),
    ),
    Note(
        "small scale: half the channels, half the height and width of the image, 32 pairs or "
        "images in a batch, for 400 steps (of fine-tuning 150 and 30), and constants that are sums "
        "over the features in proportion to their number.",
        at_small_scale,
    ),
)
