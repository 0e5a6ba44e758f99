"""Notes on runs of `csn`: Guo and Cheung."""

from __future__ import annotations

from experiments.config import Config
from experiments.papers.notes.note import Note, at_small_scale

__all__ = ["NOTES"]


def _with_level_4(config: Config, scale: str) -> bool:
    return "4" in (config.model.levels or "")


def _with_levels(config: Config) -> int:
    return (config.model.levels or "").count("l")


NOTES = (
    Note(
        "the text pools the similarity maps of level 2 once and those of level 3 not at all, and "
        "prints 10x4 for both, of images of 160x60; here level 2 is pooled twice and level 3 once, "
        "which gives that.",
        lambda config, scale: config.model.sim_grid == "10x4" and config.model.levels != "l4",
    ),
    Note(
        "the ranking net averages the maps of each level before it joins the levels, whose maps "
        "are of different sizes, and its convolutions are shared by the levels.",
        lambda config, scale: bool(config.model.ranking) and _with_levels(config) > 1,
    ),
    Note(
        '"another convolutional layer after conv3" is the network of the text; Table 5\'s '
        "parameters, FLOPs and depth are those of two such layers at levels 3 and 4 "
        "(row=l2l3l4_table5).",
        lambda config, scale: _with_level_4(config, scale) and config.model.trunk == "prose",
    ),
    Note(
        "two convolutions at levels 3 and 4, with which Table 5's parameters, FLOPs and depth are "
        "met; the text describes one.",
        lambda config, scale: config.model.trunk == "table5",
    ),
    Note(
        "the size of the parts of level 4 is not given; 3 here unless model.f4 says otherwise.",
        _with_level_4,
    ),
    Note(
        "the paper does not say how the transformers start; at scale 0.9 without translation and "
        "rotation here.",
        lambda config, scale: config.model.attention == "stn",
    ),
    Note(
        "the weight of the priors is not given; 0.1 here.",
        lambda config, scale: bool(config.loss.prior_weight),
    ),
    Note(
        "the paper does not say which images make pairs; here those of two cameras, positive and "
        "negative, as in the test, and the first camera's image comes first. Its reference [31], "
        "whose two negatives and augmentation it takes over, pairs all images of an identity, and "
        "any two identities' (cross_camera=false).",
        lambda config, scale: config.sampler.cross_camera,
    ),
    Note(
        "the paper does not say which images make pairs; here any two of an identity, and any of "
        "two identities, as in its reference [31], but no image with a shifted or mirrored form of "
        "itself.",
        lambda config, scale: not config.sampler.cross_camera,
    ),
    Note(
        "an epoch has as many positive pairs as the training set has, its shifted and mirrored "
        "images counted; they are drawn at random, with the augmentation, where the authors' list "
        "may hold each once.",
        lambda config, scale: scale == "paper",
    ),
    Note(
        "how pixels are scaled, and what a shift leaves empty, is not given; the mean colour of "
        "the training images is subtracted and the rest divided by 64, and what is empty is black."
    ),
    Note(
        "the first weights are not given; He's for convolutions and LeCun's for the last layers of "
        "descriptor and logits here."
    ),
    Note(
        "the paper does not say what its 100 validation identities are for; here the state that is "
        "best on them is tested.",
        lambda config, scale: config.dataset == "cuhk03" and config.train.validate_every > 0,
    ),
    Note(
        "the repeats of VIPeR's random halves are not given: 10.",
        lambda config, scale: config.dataset == "viper",
    ),
    Note(
        "small scale: a quarter of the channels, images of 96x40, batches of 64 pairs, 700 steps "
        "at a learning rate of 1e-3.",
        at_small_scale,
    ),
)
