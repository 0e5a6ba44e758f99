"""The sections of a configuration: every key of every experiment, where it is declared."""

from __future__ import annotations

import dataclasses
import functools
import typing
from typing import Annotated, Any, Literal

from msgspec import Meta

from experiments.config.fit import check
from experiments.config.values import checked, known_values

__all__ = [
    "PROTOCOL_NAMES",
    "SECTIONS",
    "Config",
    "Data",
    "Evaluation",
    "Loss",
    "Model",
    "Optimizer",
    "Sampler",
    "Train",
    "annotations",
]

Zero = Annotated[int, Meta(ge=0)]
One = Annotated[int, Meta(ge=1)]
Real = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, lt=1)]


def _is(text: str) -> Meta:
    return Meta(description=text)


class _Section:
    """Checks its fields when it is made."""

    def __post_init__(self) -> None:
        section = type(self).__name__.lower()
        for key, annotation in annotations(type(self)).items():
            value = checked(f"{section}.{key}", getattr(self, key), annotation)
            object.__setattr__(self, key, value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(_Section):
    """What is seen of the images."""

    partition: Annotated[str, _is("division of the data set; empty: it has one fixed split")] = ""
    joined: Annotated[
        tuple[str, ...], _is("data sets that are trained on together, in the place of `dataset`")
    ] = ()
    image_size: Annotated[tuple[One, One], _is("height and width that an image is resized to")]
    crop_size: Annotated[
        tuple[One, ...], _is("height and width of the crop that the network sees; (): all of it")
    ] = ()
    flip: Annotated[bool, _is("mirrors half of the training images")] = False
    shift: Annotated[Zero, _is("largest random shift of a training image, in pixels")] = 0
    flip_or_shift: Annotated[
        tuple[Zero, ...],
        _is("largest shift down and across of images that are mirrored, shifted or kept; (): none"),
    ] = ()
    num_shifted: Annotated[
        Zero, _is("flip_or_shift: shifted copies of an image, beside itself and its mirror image")
    ] = 3
    erase: Annotated[
        Annotated[float, Meta(ge=0, le=1)], _is("probability that part of an image is erased")
    ] = 0.0
    images_per_camera: Annotated[
        Zero, _is("random images of an identity and camera that are trained on; 0: all")
    ] = 0
    mean: Annotated[
        Literal["imagenet", "channel", "image", "start"],
        _is(
            "what is subtracted: ImageNet's mean colour, or the training set's, or its mean image, "
            "or what the run subtracts that model.start_from names"
        ),
    ]
    from_scratch_std: Annotated[
        Annotated[float, Meta(gt=0)], _is("what pixels are divided by where no weights are loaded")
    ] = 64.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("crop_size", "flip_or_shift"):
            if len(value := getattr(self, key)) not in (0, 2):
                raise ValueError(f"data.{key}={value}: expected (height, width), or () for none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model(_Section):
    """The network, its heads, and what it starts from. None: the network's own default."""

    name: Annotated[
        Literal[
            "caffenet", "csn", "efficientnet_lite0", "nine_conv", "resnet18", "resnet50", "vgg16"
        ],
        _is("network"),
    ]
    width: Annotated[One | None, _is("channels of the first layers; all others scale with it")] = (
        None
    )
    dtype: Annotated[
        Literal["float32", "bfloat16"] | None,
        _is(
            "what layers compute in; parameters, statistics and losses are float32. none: bfloat16 "
            "on a GPU or TPU and float32 on a CPU, from where a run begins to its end"
        ),
    ] = None
    remat: Annotated[
        bool | None,
        _is("computes the inside of blocks again for the gradient: less memory, a third more work"),
    ] = None
    identification: Annotated[bool, _is("a head that tells the training identities apart")] = False
    verification: Annotated[
        Literal["", "none", "square", "relu_diff"],
        _is("empty: single images; pairs with this head on them, or none on their embeddings"),
    ] = ""
    dropout: Annotated[Share, _is("share of the embedding that is dropped before the heads")] = 0.0
    verification_dropout: Annotated[
        Literal["after_square", "before_square"], _is("where the head `square` drops its share")
    ] = "after_square"
    weights: Annotated[str, _is("file of weights, or efficientnet_lite0; empty: from scratch")] = ""
    weights_prefix: Annotated[
        str, _is("what all names in that file begin with and the network's do not, such as module.")
    ] = ""
    start_from: Annotated[
        str, _is("work directory of a finished run whose network is taken; empty: none")
    ] = ""
    start_exp: Annotated[
        str,
        _is(
            "experiment that is run in start_from first, if it is not finished; empty: none. "
            "Setting start_from alone empties it"
        ),
    ] = ""
    stride: Annotated[
        Literal["torchvision", "caffe"] | None,
        _is("where a stage of ResNet halves the image: 3x3 or first 1x1 convolution"),
    ] = None
    pooling: Annotated[
        Literal["average", "max", "fc"] | None,
        _is("of the last map: average (ResNet) or fc (VGG16, CaffeNet); max"),
    ] = None
    last_stride: Annotated[
        Annotated[int, Meta(ge=1, le=2)] | None,
        _is("stride of the last stage that halves the map; 1: it does not"),
    ] = None
    neck: Annotated[
        bool | None, _is("BNNeck: batch norm without a shift behind the pooling, head without bias")
    ] = None
    head_init_std: Annotated[
        Real | Literal["uniform"] | None,
        _is(
            "deviation of the head's first weights; uniform: within 0.1 sqrt(3 / D), as the "
            "identif_verif authors' code has it"
        ),
    ] = None
    freeze_batch_norm: Annotated[
        bool | None,
        _is("batch norm keeps, in training too, the running averages of what is loaded"),
    ] = None
    hidden_dropout: Annotated[Share | None, _is("share of fc6 that is dropped")] = None
    feature_reweighting: Annotated[
        bool | None, _is("multiplies the embedding by a learned vector (CNN-FRW-IC)")
    ] = None
    test_statistics: Annotated[
        Literal["running", "batch"] | None,
        _is("batch norm at test: running averages, or the statistics of the tested batch"),
    ] = None
    levels: Annotated[
        Literal["l2", "l3", "l4", "l2l3", "l2l3l4"] | None, _is("maps that are compared")
    ] = None
    trunk: Annotated[
        Literal["prose", "table5"] | None, _is("convolutions of a level: the text's, or Table 5's")
    ] = None
    sim_grid: Annotated[Literal["10x4", "20x8"] | None, _is("where similarity maps meet")] = None
    dividing: Annotated[bool | None, _is("three stripes; false: the whole map as one part")] = None
    attention: Annotated[
        Literal["stn", "center_crop"] | None, _is("spatial transformers, or central crops")
    ] = None
    ranking: Annotated[bool | None, _is("the ranking net, which gives descriptors")] = None
    correlation: Annotated[
        Literal["auto", "grouped_conv", "shift", "fft"] | None, _is("how maps are correlated")
    ] = None
    f4: Annotated[One | None, _is("rows and columns of the parts of level 4")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler(_Section):
    """Which images a batch has."""

    name: Annotated[
        Literal["uniform", "identity", "pair"],
        _is("single images, images_per_identity of each identity, or pairs"),
    ]
    batch_size: Annotated[One, _is("images in a batch; with the sampler pair, pairs")]
    images_per_identity: Annotated[
        One, _is("images of an identity in a batch (sampler identity)")
    ] = 4
    ratio_rule: Annotated[
        Literal["paper", "code", "fixed"],
        _is(
            "negatives per positive in epoch e, from 0 (sampler pair): paper, min(ratio_limit, "
            "ratio_growth^e); code, min(ratio_limit, 2 ratio_growth^(e+1) - 1); fixed, "
            "negatives_per_positive"
        ),
    ] = "fixed"
    negatives_per_positive: Annotated[
        Real, _is("negatives per positive (sampler pair, ratio_rule=fixed)")
    ] = 1.0
    ratio_growth: Annotated[
        Annotated[float, Meta(gt=0)], _is("factor of an epoch in ratio_rule=paper and code")
    ] = 1.01
    ratio_limit: Annotated[Real, _is("largest ratio in ratio_rule=paper and code")] = 4.0
    cross_camera: Annotated[
        bool, _is("a pair is of two cameras, the lower number first (sampler pair)")
    ] = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer(_Section):
    """How the parameters move, and for how long."""

    name: Annotated[Literal["adam", "sgd"], _is("rule of the steps")]
    learning_rate: Annotated[Real, _is("learning rate of the first steps")]
    momentum: Annotated[Share, _is("momentum of sgd")] = 0.9
    weight_decay: Annotated[
        Real, _is("share of a parameter that is added to its gradient; see weight_decay_of")
    ]
    weight_decay_of: Annotated[
        Literal["kernels", "all"],
        _is("what decays: parameters of two or more axes, or also batch norm and biases"),
    ] = "kernels"
    decay: Annotated[
        Literal["cosine", "exponential", "steps"],
        _is(
            "steps: a tenth at each boundary; exponential: to a thousandth from the one boundary "
            "on; cosine: to 0 from the end of the warm-up on"
        ),
    ] = "steps"
    warmup_steps: Annotated[
        Zero, _is("steps in which the rate rises to learning_rate, where num_steps is not 0")
    ] = 0
    warmup_start: Annotated[
        Annotated[float, Meta(ge=0, le=1)], _is("share of learning_rate that a warm-up begins at")
    ] = 0.1
    num_steps: Annotated[Zero, _is("steps of the training; 0: num_epochs counts")] = 0
    boundaries: Annotated[tuple[Zero, ...], _is("steps at which the rate decays")] = ()
    num_epochs: Annotated[Zero, _is("epochs of the training, where num_steps is 0")] = 0
    boundary_epochs: Annotated[
        tuple[Zero, ...], _is("epochs at which the rate decays, where num_steps is 0")
    ] = ()
    warmup_epochs: Annotated[
        Zero, _is("epochs in which the rate rises to learning_rate, where num_steps is 0")
    ] = 0
    epoch: Annotated[
        Literal["images", "positive_pairs"],
        _is("once through the images, or as many positive pairs as there are"),
    ] = "images"
    head_steps: Annotated[
        Zero, _is("steps in which the identification head alone is trained, at the start")
    ] = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss(_Section):
    """Constants of the objective; see its function. None: the objective has no such constant."""

    loss_weight: Annotated[
        Real | None, _is("weight of the batch-contrastive and the center loss together")
    ] = None
    identification_weight: Annotated[Real | None, _is("weight of the identification loss")] = None
    verification_weight: Annotated[Real | None, _is("weight of the verification loss")] = None
    contrastive_weight: Annotated[Real | None, _is("weight of the contrastive loss")] = None
    triplet_weight: Annotated[Real | None, _is("weight of the triplet loss; 0: none")] = None
    label_smoothing: Annotated[
        Share | None, _is("share of a label that is spread evenly over all identities")
    ] = None
    center_weight: Annotated[Real | None, _is("weight of the center loss")] = None
    intra_weight: Annotated[Real | None, _is("weight of the intra-center loss")] = None
    inter_weight: Annotated[Real | None, _is("weight of the inter-center loss")] = None
    compact_weight: Annotated[Real | None, _is("weight of the compact loss")] = None
    scatter_weight: Annotated[
        Real | None, _is("weight of the scatter loss, which is maximised")
    ] = None
    scatter_cap: Annotated[
        Real | None, _is("scatter loss above which a row is pushed no further; 0: none")
    ] = None
    ranking_weight: Annotated[Real | None, _is("weight of the descriptors' contrastive loss")] = (
        None
    )
    prior_weight: Annotated[Real | None, _is("weight of the priors on the transformers")] = None
    min_scale: Annotated[Real | None, _is("scale below which the prior acts")] = None
    limit: Annotated[Real | None, _is("edge of the image, beyond which the prior acts")] = None
    margin: Annotated[Real | None, _is("distance that different identities are to have")] = None
    center_rate: Annotated[
        Real | Literal["learning_rate"] | None,
        _is("how far a step moves the centers; learning_rate: follows it (batch_contrastive)"),
    ] = None
    gradient: Annotated[
        Literal["autodiff", "eq8"] | None, _is("of the batch-contrastive loss: true, or as printed")
    ] = None
    inter_grad: Annotated[
        Literal["centers", "none", "through_update"] | None,
        _is("what the inter-center loss trains: the centers alone, nothing, or the network"),
    ] = None
    neg_updates_centers: Annotated[
        bool | None, _is("the images of negative pairs move centers too")
    ] = None
    reweighting_weight: Annotated[
        Real | None, _is("weight of the penalty on the norm of the feature weights")
    ] = None
    reweighting_level: Annotated[
        Real | None, _is("half the squared norm that the feature weights are drawn to")
    ] = None
    means: Annotated[
        Literal["exact", "bank", "batch", "ema"] | None,
        _is("mean codes: computed anew each step, each epoch, of the batch, or moving averages"),
    ] = None
    mean_rate: Annotated[
        Real | None, _is("how far a step moves the mean codes, with means=ema")
    ] = None
    reduction: Annotated[
        Literal["alike", "mixed"] | None,
        _is(
            "of the three losses over a batch: alike, a mean of each; mixed, a mean of the "
            "classification loss and sums of the two others"
        ),
    ] = None
    scatter_over: Annotated[
        Literal["all", "batch"] | None,
        _is("other identities that the scatter loss sums over: all, or those of the batch"),
    ] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(_Section):
    """How a step is computed, and how often a run writes, in steps."""

    accumulate: Annotated[
        One,
        _is(
            "parts of a batch that go through the network one after another, for less memory; "
            "losses see the whole batch, batch norm each part"
        ),
    ] = 1
    steps_per_dispatch: Annotated[
        One, _is("steps that devices take without the host in between, unless something is due")
    ] = 1
    log_every: Annotated[One, _is("steps from one line of the log to the next")]
    checkpoint_every: Annotated[One, _is("steps from one checkpoint to the next")]
    validate_every: Annotated[
        Zero, _is("steps from one validation to the next; 0: none, the last state is taken")
    ] = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation(_Section):
    """How the trained network is tested."""

    protocol: Annotated[
        Literal[
            "single-query",
            "single-query-swapped",
            "multi-query-average",
            "multi-query-maximum",
            "single-shot-one-direction",
            "single-shot-per-query",
            "multi-shot",
            "distractors",
            "oxford5k",
        ],
        _is("who asks, who answers, and what counts"),
    ]
    dataset: Annotated[str, _is("another data set to test on; empty: that of the run")] = ""
    test_mode: Annotated[
        Literal["single", "dense_flip", "flip"],
        _is(
            "looks at the resized image, at all places of it and its mirror image (ResNet), or at "
            "it and its mirror image"
        ),
    ] = "single"
    normalise: Annotated[bool, _is("embeddings to unit length")] = True
    expand: Annotated[
        Zero, _is("nearest images that a query is averaged with before the ranking; 0: none")
    ] = 0
    rerank: Annotated[bool, _is("re-ranks by k-reciprocal neighbours")] = False
    rerank_k1: Annotated[One, _is("neighbours of the reciprocal sets")] = 20
    rerank_k2: Annotated[One, _is("rows averaged by the re-ranking's own expansion")] = 6
    rerank_lambda: Annotated[
        Annotated[float, Meta(ge=0, le=1)], _is("weight of the original distance in the re-ranked")
    ] = 0.3
    num_repeats: Annotated[One, _is("random galleries, where a protocol draws them")] = 1
    batch_size: Annotated[One, _is("images that are embedded at once")] = 64
    pairs_per_block: Annotated[One, _is("pairs that are scored at once (csn)")] = 256
    shortlist: Annotated[
        Zero, _is("gallery images nearest by descriptor that are scored for a query; 0: all (csn)")
    ] = 0
    distance_weight: Annotated[
        Real, _is("weight of 1 / (distance of descriptors + epsilon) in a pair's score (csn)")
    ] = 0.0
    epsilon: Annotated[Real, _is("see distance_weight")] = 1e-4


PROTOCOL_NAMES = known_values(typing.get_type_hints(Evaluation, include_extras=True)["protocol"])
"""The protocols, known without importing what they do."""

SECTIONS: dict[str, type[_Section]] = {
    section.__name__.lower(): section
    for section in (Data, Model, Sampler, Optimizer, Loss, Train, Evaluation)
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """All that a run's training and its result depend on but the images, the seed and the split.

    Raises:
        ValueError: from here and from each section, for a value of another type, below its minimum
            or not among the known ones, and by `check`.
    """

    objective: Annotated[
        Literal[
            "softmax",
            "batch_contrastive",
            "identification_verification",
            "identification_contrastive",
            "clever",
            "identification_center",
            "inherent",
            "triplet",
            "csn",
            "strong",
        ],
        _is("what is minimised"),
    ]
    dataset: Annotated[str, _is("name of the prepared data set")]
    data: Data
    model: Model
    sampler: Sampler
    optimizer: Optimizer
    loss: Loss
    train: Train
    evaluation: Evaluation

    def __post_init__(self) -> None:
        for key, annotation in annotations(Config).items():
            value = getattr(self, key)
            if key not in SECTIONS:
                checked(key, value, annotation)
            elif not isinstance(value, SECTIONS[key]):
                raise ValueError(f"{key}={value!r}: expected the section {SECTIONS[key].__name__}")
        check(self)


@functools.cache
def annotations(cls: type) -> dict[str, Any]:
    """The annotation of each field of a section, or of `Config`."""
    return typing.get_type_hints(cls, include_extras=True)
