"""Notes on runs of `identif_verif`: Zheng, Zheng and Yang."""

from __future__ import annotations

from experiments.config import Config
from experiments.papers.notes.note import SCRATCH, Note, at_small_scale, decays, from_scratch

__all__ = ["NOTES"]


def _resnet(config: Config, scale: str) -> bool:
    return config.model.name.startswith("resnet")


def _on_pairs(config: Config, scale: str) -> bool:
    return config.sampler.name == "pair"


def _drops(config: Config, scale: str) -> bool:
    return config.model.dropout > 0


def _drops_in_verification(config: Config, scale: str) -> bool:
    return _drops(config, scale) and config.model.verification == "square"


def _drops_the_difference(config: Config, scale: str) -> bool:
    dropped = config.model.verification_dropout
    return _drops_in_verification(config, scale) and dropped == "after_square"


def _of_landmarks(config: Config, scale: str) -> bool:
    return config.evaluation.protocol == "oxford5k"


NOTES = (
    SCRATCH,
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
        decays("all"),
    ),
    Note(
        "no weight decay is printed; 5e-4 of the kernels here, of all parameters in its code.",
        decays("kernels"),
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
        "before verification 0.9 of the squared difference is dropped, and the embeddings that it "
        "is of are whole, as in its code.",
        lambda config, scale: _drops_the_difference(config, scale) and _resnet(config, scale),
    ),
    Note(
        "before verification half of the squared difference is dropped, and the embeddings that it "
        "is of are whole.",
        lambda config, scale: _drops_the_difference(config, scale) and not _resnet(config, scale),
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
        "the first weights of the identification head are not given; of deviation 0.001 here.",
        lambda config, scale: scale == "pretrained" and config.model.identification,
    ),
    Note(
        "the first weights of the verification head are not given; uniform within 0.1 sqrt(3 / D), "
        "as in its code.",
        lambda config, scale: scale == "pretrained" and config.model.verification == "square",
    ),
    Note(
        "the pixels are divided by 64, which the paper, with weights of ImageNet, does not need.",
        from_scratch,
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
        lambda config, scale: (
            _of_landmarks(config, scale) and config.model.name in ("caffenet", "vgg16")
        ),
    ),
    Note(
        "Fig. 4 shows 354 identities and does not say which; here they are random.",
        lambda config, scale: config.dataset == "market1501",
    ),
    Note(
        "small scale: ResNet-18 of half width in the place of ResNet-50, and a quarter of the "
        "others' channels, 108x54 cropped to 96x48 (VGG16 72x36 to 64x32, landmarks 108x108 to "
        "96x96), no dropout, a learning rate of 0.05 (CaffeNet and VGG16 0.003) and a tenth of it "
        "for the last tenth; every row sees 33,600 images, or pairs: 700 steps of 48 images or "
        "1,400 of 24 pairs.",
        at_small_scale,
    ),
)
