"""identif_verif: Zheng, Zheng and Yang, "A Discriminatively Learned CNN Embedding for Person
Re-identification", ACM TOMM 2017; Tables II to VII, Figures 4 to 9.

    python experiments/run.py --exp=identif_verif_market --data_dir=DIR \
        --set model.weights=imagenet-resnet-50-dag.mat
    python experiments/run.py --exp=identif_verif_market:backbone=vgg16,loss=i ...
    python experiments/run.py --exp=identif_verif_cuhk03 --splits=all ...
    python experiments/run.py --exp=identif_verif_oxford:backbone=vgg16 ...

| row (Market-1501, single query, Table II) | rank-1 | mAP   |
|-------------------------------------------|--------|-------|
| backbone=resnet50,loss=v                  | 64.58  | 44.94 |
| backbone=resnet50,loss=i                  | 73.69  | 51.48 |
| identif_verif_market (loss=iv)            | 79.51  | 59.87 |
| loss=contrastive (Sec. IV-B)              | 75.12  | 53.32 |
| test_mode=dense_flip (authors' README)    | 80.82  | 62.30 |

Losses: `i` identification alone, on single images; `v` verification alone; `iv` both;
`contrastive` identification and the contrastive loss in the place of verification;
`verification_weight` is that of the loss of pairs, 1 in the paper. The paper fine-tunes from
ImageNet; mAP is the trapezoid's. `ratio_rule=code`, `mean=channel` and
`test_mode=dense_flip` are what the authors' code has in the place of the paper's words. A finished
run is tested the other way without another training:
`experiments/evaluate.py --workdir DIR --set evaluation.test_mode=dense_flip`.

Where a run differs from the paper is in `experiments.papers.notes`; its report lists it.
"""

from __future__ import annotations

import functools
from typing import Literal

from experiments.config import (
    Config,
    Data,
    Evaluation,
    Loss,
    Model,
    Optimizer,
    Sampler,
    Train,
    changed,
)
from experiments.papers.experiment import (
    Experiment,
    PaperFigure,
    PaperTable,
    table_of_no_paper,
    with_keys_of,
)
from experiments.papers.pretrained import CHOSEN_WEIGHT

Losses = Literal["i", "v", "iv", "contrastive"]
Backbone = Literal["caffenet", "vgg16", "resnet50"]

# Pairs of a batch, epochs, and the sides of a training crop.
_SCHEDULE = {"caffenet": (128, 155, 227), "vgg16": (48, 65, 224), "resnet50": (48, 75, 224)}
_EPOCHS_ALONE = {("resnet50", "i"): 50, ("resnet50", "v"): 95}
_LAST_EPOCHS = 5


def identif_verif(
    scale: str,
    *,
    dataset: str,
    loss: Losses = "iv",
    backbone: Backbone = "resnet50",
    verification_weight: float = 1.0,
    margin: float = 1.0,
    ratio_rule: str = "paper",
    mean: str = "image",
    verification_dropout: str = "after_square",
    test_mode: str = "single",
) -> Config:
    """One network and loss on a data set with one split."""
    config = _paper(backbone, loss)
    if scale == "small":
        config = _reduced(config, backbone, loss)
    objective, constants = {
        "i": ("softmax", {}),
        "v": (
            "identification_verification",
            {"identification_weight": 0.0, "verification_weight": verification_weight},
        ),
        "iv": (
            "identification_verification",
            {"identification_weight": 0.5, "verification_weight": verification_weight},
        ),
        "contrastive": (
            "identification_contrastive",
            {"identification_weight": 0.5, "contrastive_weight": 1.0, "margin": margin},
        ),
    }[loss]
    pairs = {
        "name": "pair",
        "ratio_rule": ratio_rule,
        "negatives_per_positive": 1.0,
        "cross_camera": False,
    }
    return changed(
        config,
        objective=objective,
        dataset=dataset,
        data={"mean": mean},
        model={
            "identification": loss != "v",
            "verification": {"i": "", "contrastive": "none"}.get(loss, "square"),
            # Without the square layer it has no meaning, and a row that gives it is refused.
            **({"verification_dropout": verification_dropout} if loss in ("v", "iv") else {}),
        },
        sampler={} if loss == "i" else pairs,
        loss=constants,
        evaluation={"test_mode": test_mode},
    )


@with_keys_of(identif_verif)
def cuhk03(
    scale: str,
    *,
    images: Literal["detected", "labeled"] = "detected",
    partition: str = "1367-100",
    **row: object,
) -> Config:
    """The same on CUHK03: 20 splits scored single-shot, or the 767/700 protocol."""
    config = identif_verif(scale, dataset="cuhk03", **row)
    protocol = "single-query" if partition == "767-700" else "single-shot-per-query"
    return changed(
        config, data={"partition": f"{images}-{partition}"}, evaluation={"protocol": protocol}
    )


@with_keys_of(identif_verif)
def oxford(scale: str, **row: object) -> Config:
    """Buildings: trained on labelled photographs of landmarks, tested on Oxford5k with MAC."""
    small = scale == "small"
    return changed(
        identif_verif(scale, dataset="landmarks", **row),
        data={
            "image_size": (108, 108) if small else (362, 362),
            "crop_size": (96, 96) if small else (320, 320),
        },
        model={"pooling": "max"},
        evaluation={"protocol": "oxford5k", "dataset": "oxford5k"},
    )


def _paper(backbone: str, loss: str) -> Config:
    batch_size, epochs, side = _SCHEDULE[backbone]
    epochs = _EPOCHS_ALONE.get((backbone, loss), epochs)
    if backbone == "resnet50":
        own = {"width": 64, "stride": "caffe", "pooling": "average", "head_init_std": "uniform"}
    else:
        own = {"width": 64 if backbone == "vgg16" else 96, "pooling": "fc", "hidden_dropout": 0.5}
    return Config(
        objective="softmax",
        dataset="",
        data=Data(
            image_size=(256, 256),
            crop_size=(side, side),
            flip=True,
            mean="image",
            from_scratch_std=64.0,
        ),
        model=Model(
            name=backbone,
            dropout=0.9 if backbone == "resnet50" else 0.5,
            identification=True,
            **own,
        ),
        sampler=Sampler(name="uniform", batch_size=batch_size),
        optimizer=Optimizer(
            name="sgd",
            learning_rate=0.001,
            momentum=0.9,
            weight_decay=5e-4,
            weight_decay_of="all",
            num_epochs=epochs,
            boundary_epochs=(epochs - _LAST_EPOCHS,),
        ),
        loss=Loss(),
        train=Train(log_every=50, checkpoint_every=2_500, validate_every=2_500),
        evaluation=Evaluation(protocol="single-query", normalise=True, num_repeats=10),
    )


def _reduced(config: Config, backbone: str, loss: str) -> Config:
    """From scratch in minutes on a laptop: half of ResNet-18's channels, a small image."""
    if backbone == "resnet50":
        model = {"name": "resnet18", "width": 32, "stride": "torchvision"}
        learning_rate = 0.05
    else:
        model = {"width": config.model.width // 4, "hidden_dropout": 0.0}
        learning_rate = 0.003  # Without batch norm a larger one stalls or diverges.
    size, crop = (108, 54), (96, 48)
    if backbone == "vgg16":
        size, crop = (72, 36), (64, 32)  # It takes three times as long as the others.
    alone = loss == "i"
    num_steps = 700 if alone else 1_400
    return changed(
        config,
        data={"image_size": size, "crop_size": crop},
        model={"dropout": 0.0, **model},
        sampler={"batch_size": 48 if alone else 24},
        optimizer={
            "learning_rate": learning_rate,
            "num_steps": num_steps,
            "boundaries": (num_steps * 9 // 10,),
            "num_epochs": 0,
        },
        train={"log_every": 25, "checkpoint_every": 700, "validate_every": 700},
    )


# Printed numbers -------------------------------------------------------------------------------

_SINGLE = ("rank1", "map_trapezoid")
_MARKET = {
    ("caffenet", "v"): (0.4124, 0.2247),
    ("caffenet", "i"): (0.5089, 0.2679),
    ("caffenet", "iv"): (0.6214, 0.3961),
    ("vgg16", "v"): (0.4299, 0.2429),
    ("vgg16", "i"): (0.6502, 0.3827),
    ("vgg16", "iv"): (0.7016, 0.4745),
    ("resnet50", "v"): (0.6458, 0.4494),
    ("resnet50", "i"): (0.7369, 0.5148),
    ("resnet50", "iv"): (0.7951, 0.5987),
    ("resnet50", "contrastive"): (0.7512, 0.5332),
}
# Of the authors' README (github.com/layumi/2016_person_re-ID), which tests in the other mode.
_DENSE_FLIP = (0.8082, 0.6230)
_DENSE_FLIP_ROWS = ("test_mode=dense_flip", "ratio_rule=code,mean=channel,test_mode=dense_flip")
_MULTI_QUERY = {
    ("caffenet", "i"): (0.5980, 0.3650),
    ("caffenet", "iv"): (0.7221, 0.4962),
    ("vgg16", "i"): (0.7414, 0.5225),
    ("vgg16", "iv"): (0.7794, 0.5766),
    ("resnet50", "i"): (0.8147, 0.6395),
    ("resnet50", "iv"): (0.8584, 0.7033),
}
_CUHK03_COLUMNS = ("rank1", "rank5", "rank10", "map_trapezoid")
_SINGLE_SHOT = {
    ("caffenet", "i"): (0.358, 0.653, 0.7796, 0.426),
    ("caffenet", "iv"): (0.598, 0.883, 0.942, 0.658),
    ("vgg16", "i"): (0.491, 0.784, 0.872, 0.557),
    ("vgg16", "iv"): (0.718, 0.930, 0.971, 0.765),
    ("resnet50", "i"): (0.715, 0.915, 0.959, 0.758),
    ("resnet50", "iv"): (0.834, 0.971, 0.987, 0.864),
}
_MULTI_SHOT = {
    ("caffenet", "i"): (0.433, 0.635, 0.768, 0.372),
    ("caffenet", "iv"): (0.672, 0.862, 0.923, 0.615),
    ("vgg16", "i"): (0.588, 0.802, 0.873, 0.510),
    ("vgg16", "iv"): (0.788, 0.918, 0.954, 0.739),
    ("resnet50", "i"): (0.771, 0.896, 0.939, 0.731),
    ("resnet50", "iv"): (0.883, 0.957, 0.978, 0.850),
}
_DISTRACTORS = {  # rank-1 and mAP at 19,732, 119,732, 219,732 and 519,732 gallery images
    ("resnet50", "i"): (0.7369, 0.5148, 0.7215, 0.4872, 0.7155, 0.4757, 0.7067, 0.4605),
    ("resnet50", "iv"): (0.7951, 0.5987, 0.7378, 0.5228, 0.7150, 0.4911, 0.6826, 0.4524),
}
_OXFORD = {
    ("caffenet", "i"): (0.602,),
    ("caffenet", "iv"): (0.662,),
    ("vgg16", "i"): (0.698,),
    ("vgg16", "iv"): (0.764,),
}


def _row(backbone: str, loss: str) -> str:
    """`key=value,...` of a row, with what differs from the defaults."""
    parts = [f"backbone={backbone}"] * (backbone != "resnet50") + [f"loss={loss}"] * (loss != "iv")
    return ",".join(parts)


def _named(name: str, row: str) -> str:
    return f"{name}:{row}" if row else name


def _paper_rows(columns: tuple[str, ...], printed: dict) -> dict[str, dict[str, float]]:
    return {
        _row(*key): dict(zip(columns, numbers, strict=True)) for key, numbers in printed.items()
    }


EXPERIMENTS = {
    "identif_verif_market": Experiment(
        functools.partial(identif_verif, dataset="market1501"),
        _paper_rows(_SINGLE, _MARKET)
        | {row: dict(zip(_SINGLE, _DENSE_FLIP, strict=True)) for row in _DENSE_FLIP_ROWS},
    ),
    "identif_verif_duke": Experiment(functools.partial(identif_verif, dataset="dukemtmc"), {}),
    "identif_verif_cuhk03": Experiment(cuhk03, _paper_rows(_CUHK03_COLUMNS, _SINGLE_SHOT)),
    "identif_verif_oxford": Experiment(oxford, _paper_rows(("map_trapezoid",), _OXFORD)),
}


# Tables and figures ----------------------------------------------------------------------------

_NETWORKS = {"caffenet": "CaffeNet", "vgg16": "VGG16", "resnet50": "ResNet-50"}
_LOSSES = {"i": "I", "v": "V", "iv": "I+V", "contrastive": "I + contrastive"}


def _table(
    title: str, name: str, columns: tuple[str, ...], printed: dict, literature: tuple = ()
) -> PaperTable:
    """A table with the joint loss compared with the others, network by network."""
    labels = {(b, loss): f"{_NETWORKS[b]} ({_LOSSES[loss]})" for b, loss in printed}
    return PaperTable(
        title=title,
        columns=columns,
        literature=literature,
        rows=tuple(
            (label, _named(name, _row(*key)), *printed[key]) for key, label in labels.items()
        ),
        compared=tuple(
            (labels[backbone, "iv"], label)
            for (backbone, loss), label in labels.items()
            if loss != "iv"
        ),
    )


def _also(protocol: str, columns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{protocol}/{column}" for column in columns)


_LITERATURE_3 = (
    ("BoW + KISSME [3]", 0.4442, 0.2076, None, None),
    ("SL [31]", 0.5190, 0.2635, None, None),
    ("Multiregion CNN [32]", 0.4558, 0.2611, 0.5659, 0.3226),
    ("DADM [33]", 0.394, 0.196, 0.490, 0.258),
    ("CAN [34]", 0.4824, 0.2443, None, None),
    ("DNS [35]", 0.5543, 0.2987, 0.7156, 0.4603),
    ("Fisher Network [36]", 0.4815, 0.2994, None, None),
    ("S-LSTM [37]", None, None, 0.616, 0.353),
    ("Gate Reid [6]", 0.6588, 0.3955, 0.7604, 0.4845),
)
_LITERATURE_4 = (
    ("KISSME [38]", 0.117, 0.333, 0.480, None),
    ("DeepReID [2]", 0.199, 0.493, 0.647, None),
    ("BoW+HS [3]", 0.243, None, None, None),
    ("LOMO+XQDA [39]", 0.463, 0.789, 0.886, None),
    ("SI-CI [40]", 0.522, 0.843, 0.948, None),
    ("DNS [35]", 0.547, 0.801, 0.883, None),
)
_LITERATURE_5 = (
    ("S-LSTM [37]", 0.573, 0.801, 0.883, 0.463),
    ("Gate-SCNN [6]", 0.681, 0.881, 0.946, 0.588),
)
_LITERATURE_7 = (
    ("mVoc/BoW [43]", 0.488),
    ("CroW [44] (VGG16)", 0.682),
    ("Neural codes [45]", 0.557),
    ("R-MAC [42] (CaffeNet)", 0.561),
    ("R-MAC [42] (VGG16)", 0.669),
    ("R-MAC-Hard [41] (CaffeNet)", 0.625),
    ("R-MAC-Hard [41] (VGG16)", 0.770),
    ("MAC-Hard(V) [41] (CaffeNet)", 0.622),
    ("MAC-Hard(V) [41] (VGG16)", 0.797),
)

TABLES = {
    "identif_verif/2": _table(
        "Table II: Market-1501, identification and verification loss alone and together, and "
        "Sec. IV-B's contrastive loss",
        "identif_verif_market",
        _SINGLE,
        _MARKET,
    ),
    "identif_verif/pretrained": table_of_no_paper(
        "Identification and verification loss alone and together from ImageNet features, with the "
        "weight of V that validation identities chose",
        {
            # The same run as loss=i, at this scale: cross-entropy on single images.
            "I alone": "softmax_market",
            "V alone": f"identif_verif_market:loss=v,{CHOSEN_WEIGHT}",
            "I+V": f"identif_verif_market:{CHOSEN_WEIGHT}",
            "both, with the paper's weight of V": "identif_verif_market",
            "I + contrastive": "identif_verif_market:loss=contrastive",
        },
        ("I+V", "I alone"),
        ("I+V", "V alone"),
        ("both, with the paper's weight of V", "I alone"),
        ("I + contrastive", "I alone"),
    ),
    "identif_verif/3": _table(
        "Table III: Market-1501, single and multiple queries",
        "identif_verif_market",
        _SINGLE + _also("multi-query-average", _SINGLE) + _also("multi-query-maximum", _SINGLE),
        {key: (*_MARKET[key], *numbers, None, None) for key, numbers in _MULTI_QUERY.items()},
        tuple((*row, None, None) for row in _LITERATURE_3),
    ),
    "identif_verif/4": _table(
        "Table IV: CUHK03, single-shot",
        "identif_verif_cuhk03",
        _CUHK03_COLUMNS,
        _SINGLE_SHOT,
        _LITERATURE_4,
    ),
    "identif_verif/5": _table(
        "Table V: CUHK03, multi-shot",
        "identif_verif_cuhk03",
        _also("multi-shot", _CUHK03_COLUMNS),
        _MULTI_SHOT,
        _LITERATURE_5,
    ),
    "identif_verif/6": _table(
        "Table VI: Market-1501 and 0, 100k, 200k and 500k distractors (of a stand-in: none, a "
        "fifth, two fifths and all of its distractors)",
        "identif_verif_market",
        (
            *_SINGLE,
            *_also("distractors", ("fifth/rank1", "fifth/map_trapezoid")),
            *_also("distractors", ("two_fifths/rank1", "two_fifths/map_trapezoid")),
            *_also("distractors", _SINGLE),
        ),
        _DISTRACTORS,
    ),
    "identif_verif/7": _table(
        "Table VII: Oxford5k",
        "identif_verif_oxford",
        ("map_trapezoid",),
        _OXFORD,
        _LITERATURE_7,
    ),
}

_ALL_LOSSES = {
    "I": "identif_verif_market:loss=i",
    "V": "identif_verif_market:loss=v",
    "I+V": "identif_verif_market",
}
_BASELINE_AND_OURS = {"baseline (I)": _ALL_LOSSES["I"], "ours (I+V)": _ALL_LOSSES["I+V"]}

FIGURES = {
    "identif_verif/4": PaperFigure("embedding_map", {"I+V": "identif_verif_market"}),
    "identif_verif/5": PaperFigure("activation_maps", _ALL_LOSSES),
    "identif_verif/6": PaperFigure(
        "camera_pairs",
        {"I+V": "identif_verif_market"},
        printed="the paper's averages over two cameras: mAP 48.42 %, rank-1 54.42 %",
    ),
    "identif_verif/7": PaperFigure("ranked_lists", {"I+V": "identif_verif_cuhk03"}, "multi-shot"),
    "identif_verif/8": PaperFigure("distractor_curve", _BASELINE_AND_OURS),
    "identif_verif/9": PaperFigure(
        "ranked_lists", {"I+V": "identif_verif_oxford:backbone=caffenet"}
    ),
}
