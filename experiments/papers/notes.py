"""Where runs of the papers' experiments differ from the papers, or fill a gap in them.

A note is of a paper and says of which runs it is true. What is so whatever the experiment, of a
loss or a network, is a `Deviation:` line where that is defined; a report has both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from experiments.config import Config

__all__ = ["NOTES", "OF_ALL", "Note"]


@dataclasses.dataclass(frozen=True)
class Note:
    """Where a run differs from its paper, or fills a gap in it.

    Attributes:
        text: a sentence or two.
        when: `when(config, scale)`, whether it is true of a run.
    """

    text: str
    when: Callable[[Config, str], bool] = lambda config, scale: True


def _from_scratch(config: Config, scale: str) -> bool:
    """`Note.when` of runs that begin with random weights."""
    del scale
    return not (config.model.weights or config.model.start_from)


def _at_small_scale(config: Config, scale: str) -> bool:
    """`Note.when` of runs at the small scale."""
    del config
    return scale == "small"


def _decays(parameters: str) -> Callable[[Config, str], bool]:
    """`Note.when` of runs whose weight decay is of `kernels` or of `all` parameters."""
    return lambda config, scale: config.optimizer.weight_decay_of == parameters


OF_ALL = (
    Note(
        "scale pretrained: efficientnet_lite0 from ImageNet's weights in the place of the paper's "
        "network, 96x48, 240 steps of 32 images (16 pairs), SGD at 0.03 with momentum, warm-up and "
        "cosine, 5e-4 of the kernels as weight decay, without dropout, and unit vectors at test; "
        "objective, constants and sampling are the paper's, a margin between centers goes with the "
        "number of features, and mean codes come from the bank.",
        lambda config, scale: scale == "pretrained",
    ),
    Note(
        "verification_weight or center_factor gives losses other weights than the paper, or the "
        "code that it builds on.",
        lambda config, scale: any(
            getattr(config.loss, name) not in (None, 0.0, *usual)
            for name, usual in _USUAL_WEIGHTS.get(config.objective, {}).items()
        ),
    ),
)
"""Notes of every paper's runs."""

_OF_V = {"verification_weight": (1.0,)}
_USUAL_WEIGHTS: dict[str, dict[str, tuple[float, ...]]] = {
    "identification_verification": _OF_V,
    "verification": _OF_V,
    "identification_center": {"center_weight": (0.01,)},
    "clever": {"verification_weight": (0.5, 1.0), "intra_weight": (0.01,), "inter_weight": (8e-3,)},
}

_SCRATCH = Note("the paper fine-tunes a network of ImageNet, this run does not.", _from_scratch)


# batch_contrastive ------------------------------------------------------------------------------


def _joint(config: Config, scale: str) -> bool:
    return config.objective == "batch_contrastive"


_BATCH_CONTRASTIVE = (
    _SCRATCH,
    Note(
        "the paper's ResNet-50 is Caffe's, with the stride in a stage's first 1x1 convolution; "
        "here it is in the 3x3 convolution, as torchvision's weights need it.",
        lambda config, scale: config.model.stride == "torchvision",
    ),
    Note("momentum and mirroring are not given; 0.9 and a half here."),
    Note(
        "the weight decay is not given, nor what it is of; 5e-4 of all parameters, batch norm and "
        "biases too, here.",
        _decays("all"),
    ),
    Note(
        "the weight decay is not given, nor what it is of; 5e-4 of the kernels here.",
        _decays("kernels"),
    ),
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
    Note("the first centers are not given; zero here, as in Wen et al.", _joint),
    Note(
        "the paper does not say what the distances of Fig. 1 are taken on; here on the "
        "L2-normalised pool5 of the training pass, before dropout."
    ),
    Note(
        "small scale: half of ResNet-18's channels, 128x64, batches of 32, no dropout, 700 steps "
        "at a learning rate of 0.05, and lambda 0.3 unless loss_weight says otherwise.",
        _at_small_scale,
    ),
)


# identif_verif ----------------------------------------------------------------------------------


def _resnet(config: Config, scale: str) -> bool:
    return config.model.name.startswith("resnet")


def _on_pairs(config: Config, scale: str) -> bool:
    return config.sampler.name == "pair"


def _drops(config: Config, scale: str) -> bool:
    return config.model.dropout > 0


def _drops_in_verification(config: Config, scale: str) -> bool:
    return _drops(config, scale) and config.model.verification == "square"


def _of_landmarks(config: Config, scale: str) -> bool:
    return config.evaluation.protocol == "oxford5k"


_IDENTIF_VERIF = (
    _SCRATCH,
    Note(
        'the paper trains the single losses "until convergence"; here 50 epochs (I) and 95 (V) '
        "for ResNet-50, as its code names them, and the joint loss's number for the others.",
        lambda config, scale: (
            scale == "paper" and (not _on_pairs(config, scale) or not config.model.identification)
        ),
    ),
    Note("no momentum is printed; 0.9 here, as in its code."),
    Note(
        "no weight decay is printed; 5e-4 of all parameters, batch norm and biases too, here, as "
        "in its code.",
        _decays("all"),
    ),
    Note(
        "no weight decay is printed; 5e-4 of the kernels here, of all parameters in its code.",
        _decays("kernels"),
    ),
    Note(
        'the paper drops "before the final convolutional layer" at no printed rate; here 0.9 of '
        "pool5 before identification, as in its code.",
        lambda config, scale: (
            _drops(config, scale) and _resnet(config, scale) and config.model.identification
        ),
    ),
    Note(
        'the paper drops "before the final convolutional layer" at no printed rate; here half of '
        "the embedding before identification.",
        lambda config, scale: (
            _drops(config, scale) and not _resnet(config, scale) and config.model.identification
        ),
    ),
    Note(
        "half of fc6 is dropped too; the paper does not say so.",
        lambda config, scale: (
            (config.model.hidden_dropout or 0) > 0 and config.model.pooling == "fc"
        ),
    ),
    Note(
        "before verification as large a share of the squared difference is dropped, and the "
        "embeddings that it is of are whole, as in its code.",
        lambda config, scale: (
            _drops_in_verification(config, scale)
            and config.model.verification_dropout == "after_square"
        ),
    ),
    Note(
        "the squared difference is that of the dropped embeddings, and nothing more is dropped "
        "before verification; in its code the embeddings are whole and the difference is dropped.",
        lambda config, scale: (
            _drops_in_verification(config, scale)
            and config.model.verification_dropout == "before_square"
        ),
    ),
    Note(
        "the first weights of the heads are not given; uniform within 0.1 sqrt(3 / D), as in its "
        "code.",
        lambda config, scale: scale != "pretrained",
    ),
    Note(
        "the first weights of the heads are not given; of deviation 0.001 for identification, and "
        "uniform within 0.1 sqrt(3 / D) for verification, the latter as in its code.",
        lambda config, scale: scale == "pretrained",
    ),
    Note(
        "the pixels are divided by 64, which the paper, with weights of ImageNet, does not need.",
        _from_scratch,
    ),
    Note(
        "an image without a second one of its identity is in negative pairs only, and the paper's "
        "random order is rearranged for it.",
        _on_pairs,
    ),
    Note(
        "the ratio of negative to positive pairs is that of its code, min(5, 2 1.01^e) in all for "
        "one positive with e from 1, where the paper prints a factor of 1.01 an epoch.",
        lambda config, scale: _on_pairs(config, scale) and config.sampler.ratio_rule == "code",
    ),
    Note(
        "the ratio of negative to positive pairs stays as it is, where the paper prints a factor "
        "of 1.01 an epoch.",
        lambda config, scale: _on_pairs(config, scale) and config.sampler.ratio_rule == "fixed",
    ),
    Note(
        "the paper subtracts a mean image; here a mean colour.",
        lambda config, scale: config.data.mean != "image",
    ),
    Note(
        "the paper tests on an image resized to the network's input; here, as its code does, at "
        "all places of the resized image and its mirror image.",
        lambda config, scale: config.evaluation.test_mode == "dense_flip",
    ),
    Note(
        "the paper does not say how often galleries are drawn; ten times for each query, and every "
        "image of both cameras asks, as in its code.",
        lambda config, scale: config.evaluation.protocol == "single-shot-per-query",
    ),
    Note(
        "the paper neither crops nor resizes the images of the test; here a query is its box, as "
        "Oxford5k's protocol has it.",
        _of_landmarks,
    ),
    Note(
        "the paper gives no schedule for landmarks; batch, epochs and learning rate are those of "
        "people.",
        _of_landmarks,
    ),
    Note(
        "CaffeNet's and VGG16's fc6 and fc7 do not fit behind the maximum of a whole map: the "
        "embedding is that of conv5.",
        lambda config, scale: _of_landmarks(config, scale) and not _resnet(config, scale),
    ),
    Note(
        "Fig. 4 shows 354 identities and does not say which; here they are random.",
        lambda config, scale: config.dataset == "market1501",
    ),
    Note(
        "small scale: ResNet-18 of half width in the place of ResNet-50, and a quarter of the "
        "others' channels, 108x54 cropped to 96x48 (VGG16 72x36 to 64x32, landmarks 108x108 to "
        "96x96), no dropout, a learning rate of 0.05 (CaffeNet and VGG16 0.003) and a tenth of it "
        "for the last tenth; every row is trained on equally many first images of pairs, 700 steps "
        "of 48 images or 1,400 of 24 pairs.",
        _at_small_scale,
    ),
)


# clever -----------------------------------------------------------------------------------------


def _fine_tuned(config: Config, scale: str) -> bool:
    return bool(config.model.start_from)


def _verifies(config: Config, scale: str) -> bool:
    return bool(config.loss.verification_weight)


_CLEVER = (
    Note(
        "the paper names neither optimizer nor weight decay; Adam and 1e-3 of the kernels are "
        "those of the code that it builds on (Jin et al. [9]).",
        lambda config, scale: config.optimizer.name == "adam",
    ),
    Note(
        "the paper names neither optimizer nor weight decay; that code (Jin et al. [9]) has Adam "
        "and 1e-3 of the kernels.",
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
        lambda config, scale: config.loss.verification_weight == 0.5,
    ),
    Note(
        "batch norm takes the statistics of the tested images, as in that code.",
        lambda config, scale: config.model.test_statistics == "batch",
    ),
    Note(
        "batch norm takes running averages; in that code the statistics of the tested images.",
        lambda config, scale: config.model.test_statistics == "running",
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
        "random image of an identity and camera; this run does not in all of these.",
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
        "the paper trains on CUHK03 and Market-1501 first; this run begins from scratch.",
        lambda config, scale: (
            config.dataset in ("cuhk01", "viper")
            and not config.data.joined
            and _from_scratch(config, scale)
        ),
    ),
    Note(
        "small scale: half the channels, half the height and width of the image, a third of the "
        "pairs, for 400 steps (of fine-tuning 150 and 30), and d in proportion to the number of "
        "features.",
        _at_small_scale,
    ),
)


# inherent ---------------------------------------------------------------------------------------


def _of_triplets(config: Config, scale: str) -> bool:
    return config.objective == "triplet"


def _of_means(config: Config, scale: str) -> bool:
    return config.objective == "inherent"


_INHERENT = (
    _SCRATCH,
    Note(
        "the size of the input is not given (images have 128x48); here they are resized to 288x144 "
        "and cropped to 256x128, and at test resized to 256x128, in which a person is a ninth "
        "smaller.",
        lambda config, scale: scale == "paper",
    ),
    Note(
        "images are cropped in training and whole at test, in which a person is a ninth smaller.",
        _at_small_scale,
    ),
    Note(
        "the weight decay is not given, nor what it is of; 5e-4 of the kernels here, which batch "
        "norm's scale does not feel (optimizer.weight_decay_of=all).",
        lambda config, scale: config.optimizer.weight_decay_of == "kernels",
    ),
    Note(
        "the weight decay is not given, nor what it is of; 5e-4 of all parameters here.",
        lambda config, scale: config.optimizer.weight_decay_of == "all",
    ),
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
        lambda config, scale: _of_means(config, scale) and config.loss.scatter_over == "batch",
    ),
    Note(
        "a code is pushed no further once its scatter loss is above a cap; the paper has none.",
        lambda config, scale: bool(config.loss.scatter_cap),
    ),
    Note(
        "the paper prints one learning rate; here it falls from the middle of the training on.",
        lambda config, scale: config.optimizer.decay == "exponential",
    ),
    Note(
        "small scale: half of ResNet-18's channels (a quarter of ResNet-50's), 108x54 cropped to "
        "96x48, 1,000 steps at a learning rate of 1e-3, and means from the bank unless means says "
        "otherwise.",
        _at_small_scale,
    ),
)


# csn --------------------------------------------------------------------------------------------


def _with_level_4(config: Config, scale: str) -> bool:
    return "4" in (config.model.levels or "")


_CSN = (
    Note(
        "the text pools the similarity maps of level 2 once and those of level 3 not at all, and "
        "prints 10x4 for both; here level 2 is pooled twice and level 3 once, which gives 10x4.",
        lambda config, scale: config.model.sim_grid == "10x4",
    ),
    Note(
        "the ranking net averages the maps of each level before it joins the levels, whose maps "
        "are of different sizes, and its convolutions are shared by the levels, with which Table "
        "5's parameters are met.",
        lambda config, scale: bool(config.model.ranking),
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
    Note("the size of the parts of level 4 is not given; 3 here.", _with_level_4),
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
        "the paper does not say which images make positive pairs; here those of two cameras, as in "
        "the test, and the first camera's image comes first. Its reference [31], whose two "
        "negatives and augmentation it takes over, pairs all images of an identity "
        "(cross_camera=false).",
        lambda config, scale: config.sampler.cross_camera,
    ),
    Note(
        "the paper does not say which images make positive pairs; here any two of an identity, as "
        "in its reference [31], but no image with a shifted or mirrored form of itself.",
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
        "the training images is subtracted and the rest divided by 64, and it is black."
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
        _at_small_scale,
    ),
)


# strong ------------------------------------------------------------------------------------------


_STRONG = (
    _SCRATCH,
    Note(
        "the formula of the warm-up begins at 0 and ends at a tenth of the rate; the text is "
        "taken, from a tenth to the whole.",
        lambda config, scale: bool(config.optimizer.warmup_steps or config.optimizer.warmup_epochs),
    ),
    Note(
        "an image is padded by its border and cropped, where the paper pads with black.",
        lambda config, scale: config.data.shift > 0,
    ),
    Note(
        "what the weight decay is of is not given, nor how large it is; 5e-4 of the kernels here.",
        _decays("kernels"),
    ),
    Note(
        "what the weight decay is of is not given, nor how large it is; 5e-4 of all parameters "
        "here.",
        _decays("all"),
    ),
    Note(
        "the rate of the centers is not given; 0.5 here.",
        lambda config, scale: bool(config.loss.center_weight),
    ),
    Note(
        "small scale: half of ResNet-18's channels on half the image, 8 identities with 4 images "
        "each in a batch, a higher learning rate, and the cosine.",
        _at_small_scale,
    ),
)


NOTES: dict[str, tuple[Note, ...]] = {
    "batch_contrastive": _BATCH_CONTRASTIVE,
    "identif_verif": _IDENTIF_VERIF,
    "clever": _CLEVER,
    "inherent": _INHERENT,
    "csn": _CSN,
    "strong": _STRONG,
}
"""Of each paper."""
