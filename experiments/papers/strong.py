"""strong: Luo et al., "Bag of Tricks and A Strong Baseline for Deep Person Re-identification",
CVPR Workshops 2019 (arXiv 1903.07071).

    python experiments/run.py --exp=strong_market --data_dir=DIR --set model.weights=resnet50.pth

| experiment    | printed, rank-1 / mAP, without re-ranking |
|---------------|-------------------------------------------|
| strong_market | 94.5 / 85.9                               |
| strong_duke   | 86.4 / 76.4                               |

Its tricks are keys: `warmup`, `erase`, `label_smoothing`, `last_stride`, `neck` (BNNeck), and
`center_weight`; `decay=cosine` takes the place of the steps of the learning rate.

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
from experiments.papers.experiment import Experiment, PaperTable, table_of_no_paper


def strong(
    scale: str,
    *,
    dataset: str,
    warmup: bool = True,
    erase: float = 0.5,
    label_smoothing: float = 0.1,
    last_stride: int = 1,
    neck: bool = True,
    margin: float = 0.3,
    triplet_weight: float = 1.0,
    center_weight: float = 5e-4,
    decay: Literal["", "steps", "cosine"] = "",
) -> Config:
    """The baseline with all its tricks, each of which a key changes or leaves out."""
    small = scale == "small"
    config = changed(
        _small() if small else _paper(),
        dataset=dataset,
        data={"erase": erase},
        model={"last_stride": last_stride, "neck": neck},
        loss={
            "margin": margin,
            "triplet_weight": triplet_weight,
            "label_smoothing": label_smoothing,
            "center_weight": center_weight,
        },
    )
    if decay:
        config = changed(config, optimizer={"decay": decay})
    if not warmup:
        config = changed(config, optimizer={"warmup_steps": 0, "warmup_epochs": 0})
    return config


def _paper() -> Config:
    return Config(
        objective="strong",
        dataset="",
        data=Data(
            image_size=(256, 128), flip=True, shift=10, mean="imagenet", from_scratch_std=64.0
        ),
        model=Model(name="resnet50", width=64, stride="torchvision", identification=True),
        sampler=Sampler(name="identity", batch_size=64, images_per_identity=4),
        optimizer=Optimizer(
            name="adam",
            learning_rate=3.5e-4,
            weight_decay=5e-4,
            num_epochs=120,
            boundary_epochs=(40, 70),
            warmup_epochs=10,
            warmup_start=0.1,
        ),
        loss=Loss(
            margin=0.3,
            triplet_weight=1.0,
            label_smoothing=0.1,
            center_weight=5e-4,
            center_rate=0.5,
        ),
        train=Train(log_every=50, checkpoint_every=2_000, validate_every=2_000),
        evaluation=Evaluation(protocol="single-query", normalise=True),
    )


def _small() -> Config:
    return changed(
        _paper(),
        data={"image_size": (128, 64), "shift": 5},
        model={"name": "resnet18", "width": 32},
        sampler={"batch_size": 32},
        optimizer={
            "learning_rate": 2e-3,
            "decay": "cosine",
            "num_steps": 700,
            "num_epochs": 0,
            "boundary_epochs": (),
            "boundaries": (480, 620),
            "warmup_epochs": 0,
            "warmup_steps": 60,
        },
        train={"log_every": 25, "checkpoint_every": 350, "validate_every": 700},
    )


_COLUMNS = ("rank1", "map_step")
_PRINTED = {"strong_market": (0.945, 0.859), "strong_duke": (0.864, 0.764)}


def _experiment(name: str, dataset: str) -> Experiment:
    printed = dict(zip(_COLUMNS, _PRINTED[name], strict=True))
    return Experiment(functools.partial(strong, dataset=dataset), {"": printed})


EXPERIMENTS = {
    "strong_market": _experiment("strong_market", "market1501"),
    "strong_duke": _experiment("strong_duke", "dukemtmc"),
}


def _table(exp: str, title: str) -> PaperTable:
    tricks = {
        "without center loss": "center_weight=0",
        "without BNNeck": "neck=false",
        "with last stride 2": "last_stride=2",
        "without label smoothing": "label_smoothing=0",
        "without random erasing": "erase=0",
        "without warm-up": "warmup=false",
        "without triplet loss": "triplet_weight=0",
    }
    rows = [("Strong baseline", exp, *_PRINTED[exp])]
    rows += [(label, f"{exp}:{key}", *[None] * 2) for label, key in tricks.items()]
    return PaperTable(title=title, columns=_COLUMNS, literature=(), rows=tuple(rows))


TABLES = {
    "strong/1": _table("strong_market", "Market-1501, and what each trick brings (not printed)"),
    "strong/pretrained": table_of_no_paper(
        "The strong baseline from ImageNet features",
        {
            "softmax": "softmax_market",
            "strong baseline": "strong_market",
            "without random erasing": "strong_market:erase=0",
        },
    ),
    "strong/2": _table("strong_duke", "DukeMTMC-reID, and what each trick brings (not printed)"),
}

FIGURES: dict = {}
