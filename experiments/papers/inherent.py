"""inherent: Wei et al., "What Makes You Look Like You: Learning an Inherent Feature Representation
for Person Re-Identification", AVSS 2019; Table 1, Figure 3.

    python experiments/run.py --exp=inherent_pku --data_dir=DIR --set model.weights=resnet18.pth
    python experiments/run.py --exp=inherent_pku:row=set1 --splits=0,1,2 ...

| row (PKU-ReID, Table 1)   | rank-1 | rank-5 | rank-10 | rank-20 | mAP  |
|---------------------------|--------|--------|---------|---------|------|
| row=resnet50_htri         | 55.3   | 78.3   | 86.0    | 93.2    | 47.7 |
| row=resnet18_htri         | 66.9   | 85.5   | 93.6    | 97.8    | 55.6 |
| row=set1, classification  | 67.3   | 87.1   | 94.1    | 97.4    | 51.5 |
| row=set2, + compact loss  | 70.2   | 88.2   | 92.8    | 96.7    | 53.5 |
| inherent_pku (row=set3), + scatter loss | 71.5 | 90.8 | 95.6 | 98.9 | 56.8 |

`means`: `exact` computes the mean codes of all identities anew before each step, as the paper
says; `bank` keeps the last code of each image and computes all anew once an epoch.
`reduction`: `alike` takes the mean over a batch of each of the three losses; `mixed` the mean of
the classification loss and the sums of the other two, which then weigh 32 times as much.
`scatter_over`: Eq. 3 over `all` other identities, or over those of the `batch`.
`lr_schedule`: `constant`, as printed, or `exponential` to a thousandth from the middle of the
training on. `--set optimizer.weight_decay_of=all` decays batch norm and biases too. The protocol
`single-query-swapped` asks with the second camera.

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
)

Row = Literal["set1", "set2", "set3", "resnet18_htri", "resnet50_htri"]


def inherent(
    scale: str,
    *,
    dataset: str,
    row: Row = "set3",
    means: Literal["", "exact", "bank", "batch", "ema"] = "",
    scatter_weight: float = 1e-6,
    scatter_cap: float = 0.0,
    reduction: Literal["alike", "mixed"] = "alike",
    scatter_over: Literal["all", "batch"] = "all",
    lr_schedule: Literal["constant", "exponential"] = "constant",
) -> Config:
    """A row of Table 1; without `means`, those of the scale."""
    if means and row not in ("set2", "set3"):
        raise ValueError(f"means={means} has no meaning in row={row}: leave it out")
    small = scale == "small"
    config = changed(_reduced(_paper()) if small else _paper(), dataset=dataset)
    if lr_schedule == "exponential":
        half = config.optimizer.num_steps // 2
        config = changed(
            config,
            optimizer={
                "decay": "exponential",
                "boundary_epochs": (150,),
                "boundaries": (half,) * (half > 0),
            },
        )
    if row.endswith("_htri"):
        name = row.removesuffix("_htri")
        width = 16 if small and name == "resnet50" else config.model.width
        return changed(
            config,
            objective="triplet",
            model={"name": name, "width": width, "identification": False},
            loss={"margin": 0.3},
            sampler={"name": "identity", "images_per_identity": 4},
        )
    if row == "set1":
        return config
    if row == "set2":
        scatter_weight = 0.0
    return changed(
        config,
        objective="inherent",
        loss={
            "compact_weight": 5e-5,
            "scatter_weight": scatter_weight,
            "means": means or ("bank" if small else "exact"),
            "mean_rate": 0.5,
            "reduction": reduction,
            # A row that gives a key of the scatter loss without having it is refused.
            "scatter_cap": scatter_cap if scatter_weight else 0.0,
            "scatter_over": scatter_over if scatter_weight else "all",
        },
    )


def _paper() -> Config:
    """Of the row set1: classification alone."""
    return Config(
        objective="softmax",
        dataset="",
        data=Data(
            partition="57-57",
            image_size=(288, 144),
            crop_size=(256, 128),
            flip=True,
            mean="imagenet",
            from_scratch_std=64.0,
        ),
        model=Model(
            name="resnet18", width=64, stride="torchvision", dropout=0.0, identification=True
        ),
        sampler=Sampler(name="uniform", batch_size=32),
        optimizer=Optimizer(name="adam", learning_rate=2e-4, weight_decay=5e-4, num_epochs=300),
        loss=Loss(),
        train=Train(log_every=50, checkpoint_every=2_000),
        evaluation=Evaluation(protocol="single-query", normalise=False),
    )


def _reduced(config: Config) -> Config:
    return changed(
        config,
        data={"image_size": (108, 54), "crop_size": (96, 48)},
        model={"width": 32},
        optimizer={"learning_rate": 1e-3, "num_steps": 1_000, "num_epochs": 0},
        train={"log_every": 25, "checkpoint_every": 500},
    )


_COLUMNS = ("rank1", "rank5", "rank10", "rank20", "map_step")
_TABLE_1 = {
    "resnet50_htri": (0.553, 0.783, 0.860, 0.932, 0.477),
    "resnet18_htri": (0.669, 0.855, 0.936, 0.978, 0.556),
    "set1": (0.673, 0.871, 0.941, 0.974, 0.515),
    "set2": (0.702, 0.882, 0.928, 0.967, 0.535),
    "set3": (0.715, 0.908, 0.956, 0.989, 0.568),
}
_LABELS = {
    "resnet50_htri": "ResNet50 htri",
    "resnet18_htri": "ResNet18 htri",
    "set1": "Ours set1",
    "set2": "Ours set2",
    "set3": "Ours set3",
}

EXPERIMENTS = {
    "inherent_pku": Experiment(
        functools.partial(inherent, dataset="pku_reid"),
        {
            "" if row == "set3" else f"row={row}": dict(zip(_COLUMNS, numbers, strict=True))
            for row, numbers in _TABLE_1.items()
        },
    ),
}

TABLES = {
    "inherent/1": PaperTable(
        title="Table 1: PKU-ReID",
        columns=_COLUMNS,
        literature=(),
        rows=tuple(
            (_LABELS[row], "inherent_pku" if row == "set3" else f"inherent_pku:row={row}", *numbers)
            for row, numbers in _TABLE_1.items()
        ),
        compared=tuple(
            (_LABELS[row], _LABELS[base])
            for row, base in (
                ("resnet18_htri", "resnet50_htri"),
                ("set2", "set1"),
                ("set3", "set2"),
                ("set3", "set1"),
                ("set3", "resnet18_htri"),
            )
        ),
    ),
    "inherent/reduction": PaperTable(
        title="Table 1: PKU-ReID, by how the compact and the scatter loss are reduced over a batch",
        columns=_COLUMNS,
        literature=(),
        rows=(
            (_LABELS["set1"], "inherent_pku:row=set1", *_TABLE_1["set1"]),
            *(
                (
                    f"{_LABELS[row]}, {reduction}",
                    f"inherent_pku:row={row},reduction={reduction}",
                    *of,
                )
                for reduction in ("alike", "mixed")
                for row in ("set2", "set3")
                for of in [_TABLE_1[row] if reduction == "alike" else (None,) * len(_COLUMNS)]
            ),
        ),
        compared=(
            *((f"{_LABELS[row]}, alike", f"{_LABELS[row]}, mixed") for row in ("set2", "set3")),
            *(
                (f"{_LABELS[row]}, {reduction}", _LABELS["set1"])
                for reduction in ("alike", "mixed")
                for row in ("set2", "set3")
            ),
        ),
    ),
    "inherent/pretrained": table_of_no_paper(
        "The three losses and batch-hard triplets from ImageNet features",
        {
            # As on PKU-ReID, but for its data set: classification alone.
            "set1": "softmax_market",
            "set2": "inherent_pku:row=set2",
            "set3": "inherent_pku",
            "compact loss, mixed": "inherent_pku:row=set2,reduction=mixed",
            "compact and scatter loss, mixed": "inherent_pku:reduction=mixed",
            "batch-hard triplets": "inherent_pku:row=resnet18_htri",
        },
        ("set2", "set1"),
        ("set3", "set2"),
        ("set3", "set1"),
        ("compact loss, mixed", "set1"),
        ("compact and scatter loss, mixed", "set1"),
        ("batch-hard triplets", "set1"),
    ),
    "inherent/scatter_weight": PaperTable(
        title="PKU-ReID by the weight of the scatter loss (not in the paper but for 0 and 1e-6)",
        columns=_COLUMNS,
        literature=(),
        rows=(
            ("scatter_weight=0 (set2)", "inherent_pku:row=set2", *_TABLE_1["set2"]),
            ("scatter_weight=1e-7", "inherent_pku:scatter_weight=1e-7", *[None] * 5),
            ("scatter_weight=1e-6 (set3)", "inherent_pku", *_TABLE_1["set3"]),
        ),
    ),
}

FIGURES = {"inherent/3": PaperFigure("easy_to_hard", {"Ours set3": "inherent_pku"})}
