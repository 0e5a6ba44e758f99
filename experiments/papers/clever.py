"""clever: Zheng et al., "Center-Level Verification Model for Person Re-identification" (CLEVER);
Tables 1 and 2.

    python experiments/run.py --exp=clever_cuhk03 --splits=all --data_dir=DIR
    python experiments/run.py --exp=clever_cuhk03:row=intra_iv --splits=0,1,2 ...
    python experiments/run.py --exp=clever_pretrain ...
    python experiments/run.py --exp=clever_viper --splits=all ...

| row (CUHK03 detected, Table 1) | rank-1 | rank-5 | rank-10 |
|--------------------------------|--------|--------|---------|
| row=ic                         | 80.20  | 96.10  | 97.90   |
| row=intra_i                    | 81.45  | 96.25  | 98.00   |
| row=iv                         | 81.90  | 95.30  | 97.75   |
| row=intra_iv                   | 83.10  | 96.35  | 98.40   |
| row=inter_iv                   | 81.45  | 95.30  | 97.80   |
| row=clever_i                   | 82.00  | 96.45  | 98.45   |
| clever_cuhk03 (row=clever_iv)  | 84.85  | 97.15  | 98.25   |
| clever_cuhk01 (Table 2)        | 70.90  | 90.86  | 94.92   |
| clever_viper (Table 2)         | 52.33  | 79.41  | 88.53   |

`clever_pretrain` trains on CUHK03 and Market-1501 together and says how well that does on VIPeR,
of which it has seen nothing. `clever_cuhk01` and `clever_viper` go on from `start_from`, its
place by default, where that run is made if it is missing: first the new identification head alone,
then everything. With `start_from=` they train on their own data set, from scratch.
`mean`, `augmentation` and `images_per_camera` of the fine-tuning are by default those of the code
that the paper builds on: the mean of the pre-training, no augmentation, and one random image of an
identity and camera.
`row=frw_ic` is CNN-FRW-IC of Jin et al., with which Table 2 compares. At test batch norm takes the
statistics of the query images, and those of the gallery, as their code does and as the rows with
pairs do in training, where each camera is a stream of its own. With `bn_eval=running`, averages
over both cameras, an image has an embedding by itself, and a row with pairs loses some 20 points of
rank-1.
`row=iv` weighs the verification loss by a half, as that code does, and the rows with a center-level
loss by 1, as Eq. 8 prints; `row=iv_weight_1` is the baseline with the same weight as those.
`verification_weight` gives a row with that loss another, and `center_factor` multiplies the weights
of a row's losses with centers.

`inter_grad` is what the inter-center loss trains, which the paper leaves open: `centers` (the
centers alone), `none`, or `through_update` (the network, through the centers' step).

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
    PaperTable,
    slug,
    table_of_no_paper,
    with_keys_of,
)
from experiments.papers.pretrained import CHOSEN_CENTERS, CHOSEN_CENTERS_IC, CHOSEN_WEIGHT

Row = Literal[
    "ic", "frw_ic", "intra_i", "iv", "iv_weight_1", "intra_iv", "inter_iv", "clever_i", "clever_iv"
]
# Weights of verification, intra-center and inter-center loss.
_WEIGHTS = {
    "intra_i": (0.0, 0.01, 0.0),
    "iv": (0.5, 0.0, 0.0),
    "iv_weight_1": (1.0, 0.0, 0.0),
    "intra_iv": (1.0, 0.01, 0.0),
    "inter_iv": (1.0, 0.0, 0.008),
    "clever_i": (0.0, 0.01, 0.008),
    "clever_iv": (1.0, 0.01, 0.008),
}
PRETRAINING = "clever_pretrain"
PRETRAINED = f"runs/{slug(PRETRAINING)}"
PARTITIONS = {"cuhk01": "485-486", "viper": "316-316"}


def clever(
    scale: str,
    *,
    dataset: str,
    row: Row = "clever_iv",
    inter_grad: str = "centers",
    neg_updates_centers: bool = True,
    margin: float | None = None,
    verification_weight: float | None = None,
    center_factor: float = 1.0,
    center_rate: float = 0.5,
    bn_eval: str = "batch",
) -> Config:
    """A row on a data set: identification with center-level and verification losses on pairs.

    Without a margin it is the paper's 250 of 512 features, in proportion to those that there are,
    without a verification weight that of the row.
    """
    config = _paper()
    if scale == "small":
        config = _reduced(config)
    config = changed(config, dataset=dataset, model={"test_statistics": bn_eval})
    if row in ("ic", "frw_ic"):
        _refuse(row, margin=margin, verification_weight=verification_weight)
        return _on_single_images(config, row, center_rate, center_factor)
    verification, intra, inter = _WEIGHTS[row]
    intra, inter = center_factor * intra, center_factor * inter
    # What a loss of weight 0 would take stays at its default, so that a row that gives it is that
    # without it, which `build_config` refuses.
    if not inter:
        _refuse(row, margin=margin)
        inter_grad = "centers"
    if not intra and not inter:
        center_rate, neg_updates_centers = 0.5, True
    if not verification:
        _refuse(row, verification_weight=verification_weight)
    elif verification_weight is not None:
        verification = verification_weight
    return changed(
        config,
        objective="clever",
        loss=Loss(
            identification_weight=1.0,
            verification_weight=verification,
            intra_weight=intra,
            inter_weight=inter,
            margin=250.0 * _share(config) if margin is None else margin,
            center_rate=center_rate,
            inter_grad=inter_grad,
            neg_updates_centers=neg_updates_centers,
        ),
    )


def _refuse(row: str, **given: float | None) -> None:
    """Raises for a key that is given to a row without the loss that it is of."""
    for key, value in given.items():
        if value is not None:
            raise ValueError(f"{key}={value} has no meaning in row={row}: leave it out")


def _on_single_images(config: Config, row: str, center_rate: float, center_factor: float) -> Config:
    """The rows without pairs: identification and center loss, with or without reweighting."""
    reweighting, network = {}, {}
    if row == "frw_ic":
        network = {"feature_reweighting": True}
        # The mean square of the weights is the same whatever the width.
        level = 200.0 * _share(config)
        reweighting = {"reweighting_weight": 1e-3, "reweighting_level": level}
    return changed(
        config,
        objective="identification_center",
        loss=Loss(center_weight=center_factor * 0.01, center_rate=center_rate, **reweighting),
        sampler=Sampler(name="uniform", batch_size=config.sampler.batch_size),
        model={"verification": "", **network},
    )


def _share(config: Config) -> float:
    """Features that there are, of the paper's 512; a squared norm is a sum over them."""
    return config.model.width / 32


@with_keys_of(clever)
def cuhk03(
    scale: str, *, images: Literal["detected", "labeled"] = "detected", **keys: object
) -> Config:
    """A row of Table 1."""
    config = clever(scale, dataset="cuhk03", **keys)
    return changed(config, data={"partition": f"{images}-1160-100-100"})


@with_keys_of(clever)
def pretrain(scale: str, **keys: object) -> Config:
    """CUHK03 and Market-1501 together, for what is fine-tuned; tested on VIPeR as it is."""
    config = changed(
        clever(scale, dataset="viper", **keys),
        data={"partition": PARTITIONS["viper"], "joined": ("cuhk03", "market1501")},
    )
    if scale == "small":
        config = changed(
            config,
            optimizer={"boundaries": (350,), "num_steps": 400},
            train={"checkpoint_every": 200},
        )
    return config


@with_keys_of(clever)
def finetune(
    scale: str,
    *,
    dataset: str,
    row: Row = "clever_iv",
    start_from: str = PRETRAINED,
    mean: Literal["start", "image"] | None = None,
    augmentation: bool | None = None,
    images_per_camera: int | None = None,
    **keys: object,
) -> Config:
    """A row of Table 2 on a small data set, after a run of `pretrain` with the same row.

    What is None is, after that run, as in the code that the paper builds on, and from scratch as
    on CUHK03: the mean image of the training images, five forms of each, all images.
    """
    start_exp = ""
    if start_from == PRETRAINED:
        start_exp = PRETRAINING if row == "clever_iv" else f"{PRETRAINING}:row={row}"
        start_from = f"runs/{slug(start_exp)}"
    config = changed(
        clever(scale, dataset=dataset, row=row, **keys),
        data={"partition": PARTITIONS[dataset]},
        model={"start_from": start_from, "start_exp": start_exp},
    )
    tuned = bool(start_from)
    if augmentation is False or (augmentation is None and tuned):
        config = changed(config, data={"flip_or_shift": ()})
    config = changed(
        config,
        data={
            "mean": mean or ("start" if tuned else "image"),
            "images_per_camera": int(tuned) if images_per_camera is None else images_per_camera,
        },
    )
    if not tuned:
        return config
    head_steps, all_steps = (7_001, 101) if scale == "paper" else (150, 30)
    return changed(
        config,
        optimizer={
            "learning_rate": 1e-4,
            "boundaries": (),
            "num_steps": head_steps + all_steps,
            "head_steps": head_steps,
        },
    )


def _paper() -> Config:
    """Of the rows with pairs, but for their losses."""
    return Config(
        objective="softmax",
        dataset="",
        data=Data(
            image_size=(128, 48),
            flip_or_shift=(6, 2),
            num_shifted=3,
            mean="image",
            from_scratch_std=255.0,
        ),
        model=Model(
            name="nine_conv",
            width=32,
            dropout=0.0,
            identification=True,
            verification="relu_diff",
            test_statistics="batch",
        ),
        # Pairs, half of them positive; single images in the row IC.
        sampler=Sampler(
            name="pair",
            batch_size=100,
            ratio_rule="fixed",
            negatives_per_positive=1.0,
            cross_camera=True,
        ),
        optimizer=Optimizer(
            name="adam",
            learning_rate=0.001,
            weight_decay=1e-3,
            boundaries=(22_000,),
            num_steps=25_000,
        ),
        loss=Loss(),
        train=Train(log_every=50, checkpoint_every=2_500),
        evaluation=Evaluation(protocol="single-shot-one-direction", normalise=True, batch_size=100),
    )


def _reduced(config: Config) -> Config:
    return changed(
        config,
        data={"image_size": (64, 24), "flip_or_shift": (3, 1)},
        model={"width": 16},
        sampler={"batch_size": 32},
        optimizer={"boundaries": (340,), "num_steps": 400},
        train={"log_every": 25, "checkpoint_every": 200},
        evaluation={"num_repeats": 10},  # 40 queries a split are few.
    )


_COLUMNS = ("rank1", "rank5", "rank10")
_TABLE_1 = {
    "ic": (0.8020, 0.9610, 0.9790),
    "intra_i": (0.8145, 0.9625, 0.9800),
    "iv": (0.8190, 0.9530, 0.9775),
    "intra_iv": (0.8310, 0.9635, 0.9840),
    "inter_iv": (0.8145, 0.9530, 0.9780),
    "clever_i": (0.8200, 0.9645, 0.9845),
    "clever_iv": (0.8485, 0.9715, 0.9825),
}
_LABELS = {
    "ic": "baseline IC [9]",
    "intra_i": "CLEVER (intra only) + I",
    "iv": "baseline IV*",
    "iv_weight_1": "IV with the weight 1 of L_V (not in the paper)",
    "intra_iv": "CLEVER (intra only) + IV",
    "inter_iv": "CLEVER (inter only) + IV",
    "clever_i": "CLEVER + I",
    "clever_iv": "CLEVER + IV",
}
_OF_IV = ("intra_iv", "inter_iv", "clever_iv")
_COMPARED = tuple(
    (_LABELS[row], _LABELS[base])
    for row, base in (
        ("intra_i", "ic"),
        ("clever_i", "intra_i"),
        ("iv_weight_1", "iv"),
        *((row, base) for base in ("iv", "iv_weight_1") for row in _OF_IV),
        ("clever_iv", "intra_iv"),
        ("clever_iv", "clever_i"),
    )
)


_TABLE_2 = {
    ("cuhk03", "frw_ic"): (0.8210, 0.9620, 0.9820),
    ("cuhk03", "clever_iv"): (0.8485, 0.9715, 0.9825),
    ("cuhk01", "frw_ic"): (0.7050, 0.9000, 0.9480),
    ("cuhk01", "clever_iv"): (0.7090, 0.9086, 0.9492),
    ("viper", "frw_ic"): (0.5040, 0.7760, 0.8580),
    ("viper", "clever_iv"): (0.5233, 0.7941, 0.8853),
}
_LABELS_2 = {"frw_ic": "CNN-FRW-IC [9]", "clever_iv": "CLEVER+iv"}
_DATASETS = {"cuhk03": "CUHK03", "cuhk01": "CUHK01", "viper": "VIPeR"}
_LITERATURE_2 = {
    "cuhk03": (
        ("Siamese LSTM [17]", 0.5730, 0.8010, 0.8830),
        ("CNN Embedding [23]", 0.8340, 0.9710, 0.9870),
        ("GOG [14]", 0.6730, 0.9100, 0.9600),
        ("Ensembles [16]", 0.6210, 0.8910, 0.9430),
        ("IDLA [1]", 0.5474, 0.8650, 0.9400),
        ("Deep Transfer [6]", 0.8410, None, None),
        ("DGD [19]", 0.8050, 0.9490, 0.9710),
        ("Quadruplet+MargOHNM [2]", 0.7553, 0.9515, 0.9916),
    ),
    "cuhk01": (
        ("GOG [14]", 0.5780, 0.7910, 0.8620),
        ("MCP-CNN [4]", 0.5370, 0.8430, 0.9100),
        ("Ensembles [16]", 0.5340, 0.7630, 0.8440),
        ("IDLA [1]", 0.4753, 0.7150, 0.8000),
        ("Deep Transfer [6]", 0.7700, None, None),
        ("DGD [19]", 0.7170, 0.8860, 0.9260),
        ("Quadruplet+MargOHNM [2]", 0.6255, 0.8344, 0.8971),
    ),
    "viper": (
        ("Siamese LSTM [17]", 0.4240, 0.6870, 0.7940),
        ("GOG [14]", 0.4970, 0.7970, 0.8870),
        ("MCP-CNN [4]", 0.4780, 0.7470, 0.8480),
        ("Ensembles [16]", 0.4590, 0.7750, 0.8890),
        ("IDLA [1]", 0.3481, 0.6332, 0.7479),
        ("Deep Transfer [6]", 0.5630, None, None),
        ("DGD [19]", 0.3540, 0.6230, 0.6930),
        ("Quadruplet+MargOHNM [2]", 0.4905, 0.7310, 0.8196),
    ),
}


def _key(row: str) -> str:
    return "" if row == "clever_iv" else f"row={row}"


def _exp(dataset: str, row: str) -> str:
    return f"clever_{dataset}:{_key(row)}".removesuffix(":")


def _paper_rows(dataset: str, **others: tuple[float, ...]) -> dict[str, dict[str, float]]:
    printed = {row: numbers for (where, row), numbers in _TABLE_2.items() if where == dataset}
    return {
        _key(row): dict(zip(_COLUMNS, numbers, strict=True))
        for row, numbers in {**printed, **others}.items()
    }


def _label_2(dataset: str, label: str) -> str:
    return f"{_DATASETS[dataset]}: {label}"


EXPERIMENTS = {
    "clever_cuhk03": Experiment(cuhk03, _paper_rows("cuhk03", **_TABLE_1)),
    "clever_pretrain": Experiment(pretrain, {}),
    "clever_cuhk01": Experiment(
        functools.partial(finetune, dataset="cuhk01"), _paper_rows("cuhk01")
    ),
    "clever_viper": Experiment(functools.partial(finetune, dataset="viper"), _paper_rows("viper")),
}

_NOTHING, _CENTERS, _THROUGH = (
    f"inter_grad={kind}" for kind in ("none", "centers", "through_update")
)

TABLES = {
    "clever/1": PaperTable(
        title="Table 1: CUHK03 (detected), single-shot",
        columns=_COLUMNS,
        literature=(),
        rows=tuple(
            (label, _exp("cuhk03", row), *_TABLE_1.get(row, (None,) * len(_COLUMNS)))
            for row, label in _LABELS.items()
        ),
        compared=_COMPARED,
    ),
    "clever/inter_grad": PaperTable(
        title="CLEVER + IV by what the inter-center loss trains (not in the paper)",
        columns=_COLUMNS,
        literature=(),
        rows=(
            # The same parameters, bit for bit, as with inter_grad=none.
            (_NOTHING, _exp("cuhk03", "intra_iv"), None, None, None),
            (_CENTERS, _exp("cuhk03", "clever_iv"), *_TABLE_1["clever_iv"]),
            (_THROUGH, f"clever_cuhk03:{_THROUGH}", None, None, None),
        ),
        compared=((_CENTERS, _NOTHING), (_THROUGH, _NOTHING), (_THROUGH, _CENTERS)),
    ),
    "clever/pretrained": table_of_no_paper(
        "CLEVER's rows from ImageNet features, with weights that validation identities chose",
        {
            _LABELS["ic"]: f"clever_cuhk03:row=ic,{CHOSEN_CENTERS_IC}",
            _LABELS["intra_i"]: f"clever_cuhk03:row=intra_i,{CHOSEN_CENTERS}",
            _LABELS["iv"]: f"clever_cuhk03:row=iv,{CHOSEN_WEIGHT}",
            _LABELS["intra_iv"]: f"clever_cuhk03:row=intra_iv,{CHOSEN_WEIGHT},{CHOSEN_CENTERS}",
            _LABELS["inter_iv"]: f"clever_cuhk03:row=inter_iv,{CHOSEN_WEIGHT},{CHOSEN_CENTERS}",
            _LABELS["clever_i"]: f"clever_cuhk03:row=clever_i,{CHOSEN_CENTERS}",
            _LABELS["clever_iv"]: f"clever_cuhk03:{CHOSEN_WEIGHT},{CHOSEN_CENTERS}",
        },
        *(
            (label, base)
            for label, base in _COMPARED
            if _LABELS["iv_weight_1"] not in (label, base)
        ),
    ),
    "clever/2": PaperTable(
        title="Table 2: CUHK03 (detected), CUHK01 and VIPeR, single-shot",
        columns=_COLUMNS,
        literature=tuple(
            (_label_2(dataset, method), *numbers)
            for dataset, printed in _LITERATURE_2.items()
            for method, *numbers in printed
        ),
        rows=tuple(
            (_label_2(dataset, _LABELS_2[row]), _exp(dataset, row), *numbers)
            for (dataset, row), numbers in _TABLE_2.items()
        ),
        compared=tuple(
            tuple(_label_2(dataset, _LABELS_2[row]) for row in ("clever_iv", "frw_ic"))
            for dataset in _DATASETS
        ),
    ),
}

FIGURES = {}
