"""csn: Guo and Cheung, "Efficient and Deep Person Re-Identification using Multi-Level Similarity",
CVPR 2018; Tables 2 to 5, Figure 4.

    python experiments/run.py --exp=csn_cuhk03 --splits=all --data_dir=DIR
    python experiments/run.py --exp=csn_cuhk03:row=l2l3l4,images=labeled --splits=0,1,2 ...
    python experiments/run.py --exp=csn_viper:row=l2l3l4 --splits=all ...

| row (CUHK03 detected, Tables 2 to 4)                     | rank-1 | rank-5 | rank-10 |
|----------------------------------------------------------|--------|--------|---------|
| row=cls, (L2, L3) without the ranking net                | 75.90  | 94.55  | 97.85   |
| row=l2                                                   | 74.70  | 93.52  | 96.45   |
| row=l3                                                   | 76.55  | 93.70  | 96.85   |
| row=l4                                                   | 79.15  | 94.45  | 97.80   |
| csn_cuhk03 (row=l2l3)                                    | 79.45  | 94.70  | 97.90   |
| row=c1, (L2, L3, L4) without dividing                    | 79.40  | 94.95  | 98.40   |
| row=c2, (L2, L3, L4) with central crops                  | 82.00  | 96.40  | 98.55   |
| row=l2l3l4, or row=l2l3l4_table5                         | 86.45  | 97.50  | 99.10   |

The text describes (L2, L3, L4) with one convolution more than (L2, L3): `row=l2l3l4`. Parameters,
FLOPs and depth that Table 5 prints for it are those of a trunk with two convolutions for each of
levels 3 and 4: `row=l2l3l4_table5`.
`cross_camera=false` pairs all images of an identity, whatever their cameras, as the code of the
paper's reference [31] does; the paper does not say. The other switches of the network are
`--set model.sim_grid=20x8` and `--set model.f4=5`. `experiments/evaluate.py --shortlist 100` scores
only the 100 gallery images of each query that are nearest by descriptor, which the protocol's name
then says.

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
    PaperComplexity,
    PaperFigure,
    PaperTable,
    table_of_no_paper,
    with_keys_of,
)

Row = Literal["cls", "l2", "l3", "l4", "l2l3", "l2l3l4", "l2l3l4_table5", "c1", "c2"]

# What a row changes of the network (L2, L3).
_NETWORKS = {
    "cls": {"ranking": False},
    "l2": {"levels": "l2"},
    "l3": {"levels": "l3"},
    "l4": {"levels": "l4"},
    "l2l3": {},
    "l2l3l4": {"levels": "l2l3l4"},
    "l2l3l4_table5": {"levels": "l2l3l4", "trunk": "table5"},
    "c1": {"levels": "l2l3l4", "dividing": False},
    "c2": {"levels": "l2l3l4", "attention": "center_crop"},
}


def csn(scale: str, *, dataset: str, row: Row = "l2l3", cross_camera: bool = True) -> Config:
    """A row on a data set."""
    config = changed(
        _paper(), dataset=dataset, model=_NETWORKS[row], sampler={"cross_camera": cross_camera}
    )
    if dataset != "cuhk03":
        config = changed(config, data={"num_shifted": 5}, sampler={"batch_size": 128})
    if scale == "small":
        config = _reduced(config)
    if not config.model.ranking:
        config = changed(config, loss={"ranking_weight": 0.0}, evaluation={"distance_weight": 0.0})
    if config.model.attention != "stn":
        config = changed(config, loss={"prior_weight": 0.0})
    return config


@with_keys_of(csn)
def cuhk03(
    scale: str, *, images: Literal["detected", "labeled"] = "detected", **keys: object
) -> Config:
    """A row of Table 2, 3 or 4 on CUHK03, with the best state on its validation identities."""
    config = csn(scale, dataset="cuhk03", **keys)
    return changed(
        config,
        data={"partition": f"{images}-1160-100-100"},
        train={"validate_every": config.train.checkpoint_every},
    )


@with_keys_of(csn)
def halves(scale: str, *, dataset: str, partition: str, **keys: object) -> Config:
    """A row of Table 2 on CUHK01 or VIPeR."""
    return changed(csn(scale, dataset=dataset, **keys), data={"partition": partition})


def _paper() -> Config:
    return Config(
        objective="csn",
        dataset="",
        data=Data(
            image_size=(160, 60),
            flip_or_shift=(8, 3),
            num_shifted=2,
            mean="channel",
            from_scratch_std=64.0,
        ),
        model=Model(
            name="csn",
            levels="l2l3",
            trunk="prose",
            sim_grid="10x4",
            dividing=True,
            attention="stn",
            ranking=True,
            correlation="auto",
            f4=3,
            width=96,
        ),
        sampler=Sampler(
            name="pair",
            batch_size=256,
            ratio_rule="fixed",
            negatives_per_positive=2.0,
            cross_camera=True,
        ),
        optimizer=Optimizer(
            name="adam",
            learning_rate=5e-4,
            weight_decay=5e-4,
            num_epochs=5,
            epoch="positive_pairs",
        ),
        loss=Loss(ranking_weight=1.0, margin=1.0, prior_weight=0.1, min_scale=0.1, limit=1.0),
        train=Train(log_every=50, checkpoint_every=1_000),
        evaluation=Evaluation(
            protocol="single-shot-one-direction",
            batch_size=100,
            pairs_per_block=256,
            distance_weight=0.2,
            epsilon=1e-4,
        ),
    )


def _reduced(config: Config) -> Config:
    return changed(
        config,
        data={"image_size": (96, 40), "flip_or_shift": (5, 2)},
        model={"width": 24},
        sampler={"batch_size": 64},
        optimizer={"learning_rate": 1e-3, "num_steps": 700, "num_epochs": 0},
        train={"log_every": 25, "checkpoint_every": 350},
        evaluation={"num_repeats": 10},  # The queries of a split are few.
    )


_COLUMNS = ("rank1", "rank5", "rank10")
_CUHK03 = {
    "cls": (0.7590, 0.9455, 0.9785),
    "l2": (0.7470, 0.9352, 0.9645),
    "l3": (0.7655, 0.9370, 0.9685),
    "l4": (0.7915, 0.9445, 0.9780),
    "l2l3": (0.7945, 0.9470, 0.9790),
    "c1": (0.7940, 0.9495, 0.9840),
    "c2": (0.8200, 0.9640, 0.9855),
    "l2l3l4": (0.8645, 0.9750, 0.9910),
    "l2l3l4_table5": (0.8645, 0.9750, 0.9910),
}
_TABLE_2 = {
    "CUHK03 detected": {"l2l3": _CUHK03["l2l3"], "l2l3l4": _CUHK03["l2l3l4"]},
    "CUHK03 labeled": {"l2l3": (0.8030, 0.9710, 0.9835), "l2l3l4": (0.8750, 0.9785, 0.9945)},
    "CUHK01": {"l2l3": (0.8655, 0.9770, 0.9870), "l2l3l4": (0.8820, 0.9820, 0.9935)},
    "VIPeR": {"l2l3": (0.4803, 0.7290, 0.8215), "l2l3l4": (0.5010, 0.7310, 0.8435)},
}
for _rows in _TABLE_2.values():
    _rows["l2l3l4_table5"] = _rows["l2l3l4"]  # Both networks are the paper's: see above.
_EXPERIMENT_OF = {
    "CUHK03 detected": "csn_cuhk03",
    "CUHK03 labeled": "csn_cuhk03:images=labeled",
    "CUHK01": "csn_cuhk01",
    "VIPeR": "csn_viper",
}
_LABELS = {
    "cls": "Ours-cls",
    "l2": "Ours-L2",
    "l3": "Ours-L3",
    "l4": "Ours-L4",
    "l2l3": "Ours-(L2, L3)",
    "l2l3l4": "Ours-(L2, L3, L4)",
    "l2l3l4_table5": "Ours-(L2, L3, L4), trunk of Table 5",
    "c1": "C1: STN, ML, no dividing",
    "c2": "C2: dividing, ML, no STN",
}
_LABELS_4 = {
    "c1": _LABELS["c1"],
    "c2": _LABELS["c2"],
    "l4": "C3: dividing, STN, no ML",
    "l2l3l4": "C4: all",
    "l2l3l4_table5": "C4: all, trunk of Table 5",
}
_LITERATURE_2 = {
    "CUHK03 detected": (
        ("FPNN", 0.1989, 0.4870, 0.6479),
        ("ImpCNN", 0.4496, 0.7650, 0.8347),
        ("Joint", 0.5217, 0.8530, 0.9120),
        ("SiameseLSTM", 0.5730, 0.8010, 0.8830),
        ("S-CNN", 0.6810, 0.8810, 0.9460),
        ("BDLatPart", 0.6799, 0.9104, 0.9536),
        ("X-Corr", 0.7204, 0.9210, 0.9600),
        ("Quadruplet", 0.7553, 0.9515, 0.9916),
        ("MTDNet", 0.7468, 0.9599, 0.9747),
        ("MuDeep", 0.7564, 0.9436, 0.9746),
        ("DPFL", 0.8200, None, None),
        ("DeepAlign", 0.8160, 0.9730, 0.9840),
        ("PDC", 0.7829, 0.9483, 0.9715),
        ("JLML", 0.8060, 0.9690, 0.9870),
    ),
    "CUHK03 labeled": (
        ("FPNN", 0.2065, 0.5150, 0.6850),
        ("ImpCNN", 0.5474, 0.8780, 0.9388),
        ("BDLatPart", 0.7421, 0.9433, 0.9754),
        ("X-Corr", 0.7243, 0.9250, 0.9551),
        ("DGD", 0.7258, 0.9159, 0.9521),
        ("MuDeep", 0.7687, 0.9612, 0.9841),
        ("DPFL", 0.8670, None, None),
        ("DeepAlign", 0.8540, 0.9760, 0.9940),
        ("PDC", 0.8870, 0.9861, 0.9924),
        ("Spindle", 0.8850, 0.9780, 0.9860),
        ("JLML", 0.8320, 0.9800, 0.9940),
    ),
    "CUHK01": (
        ("FPNN", 0.2787, 0.6450, 0.7346),
        ("ImpCNN", 0.6500, 0.8900, 0.9312),
        ("Joint", 0.7180, 0.9000, 0.9350),
        ("X-Corr", 0.8123, 0.9500, 0.9739),
        ("Quadruplet", 0.8100, 0.9650, 0.9800),
        ("DGD", 0.6660, None, None),
        ("MTDNet", 0.7850, 0.9650, 0.9750),
        ("MuDeep", 0.7901, 0.9700, 0.9896),
        ("DeepAlign", 0.8850, 0.9840, 0.9960),
        ("Spindle", 0.7990, 0.9440, 0.9710),
    ),
    "VIPeR": (
        ("Joint", 0.3576, 0.6670, 0.8450),
        ("SiameseLSTM", 0.4240, 0.6870, 0.7940),
        ("S-CNN", 0.3780, 0.6690, 0.7740),
        ("ImpTriplet", 0.4780, 0.7470, 0.8480),
        ("Quadruplet", 0.4905, 0.7310, 0.8196),
        ("DGD", 0.3860, None, None),
        ("MTDNet", 0.4747, 0.7310, 0.8259),
        ("MuDeep", 0.4303, 0.7436, 0.8576),
        ("DeepAlign", 0.4870, 0.7470, 0.8510),
        ("PDC", 0.5127, 0.7405, 0.8418),
        ("Spindle", 0.5380, 0.7410, 0.8320),
        ("JLML", 0.5020, 0.7420, 0.8430),
    ),
}


def _exp(base: str, row: str) -> str:
    """The experiment of a row: its keys after those of the data set."""
    if row == "l2l3":
        return base
    return f"{base}{',' if ':' in base else ':'}row={row}"


def _printed(base: str, rows: dict[str, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    return {
        _exp(base, row).partition(":")[2]: dict(zip(_COLUMNS, numbers, strict=True))
        for row, numbers in rows.items()
    }


def _ablation(title: str, labels: dict[str, str], compared: tuple) -> PaperTable:
    return PaperTable(
        title=title,
        columns=_COLUMNS,
        literature=(),
        rows=tuple(
            (label, _exp("csn_cuhk03", row), *_CUHK03[row]) for row, label in labels.items()
        ),
        compared=tuple((labels[row], labels[base]) for row, base in compared),
    )


EXPERIMENTS = {
    "csn_cuhk03": Experiment(
        cuhk03,
        _printed("csn_cuhk03", _CUHK03)
        | _printed("csn_cuhk03:images=labeled", _TABLE_2["CUHK03 labeled"]),
    ),
    "csn_cuhk01": Experiment(
        functools.partial(halves, dataset="cuhk01", partition="871-100"),
        _printed("csn_cuhk01", _TABLE_2["CUHK01"]),
    ),
    "csn_viper": Experiment(
        functools.partial(halves, dataset="viper", partition="316-316"),
        _printed("csn_viper", _TABLE_2["VIPeR"]),
    ),
}

TABLES = {
    "csn/2": PaperTable(
        title="Table 2: CUHK03, CUHK01 and VIPeR, single-shot",
        columns=_COLUMNS,
        literature=tuple(
            (f"{where}: {method}", *numbers)
            for where, printed in _LITERATURE_2.items()
            for method, *numbers in printed
        ),
        rows=tuple(
            (f"{where}: {_LABELS[row]}", _exp(_EXPERIMENT_OF[where], row), *numbers)
            for where, rows in _TABLE_2.items()
            for row, numbers in rows.items()
        ),
        compared=tuple(
            (f"{where}: {_LABELS[row]}", f"{where}: {_LABELS['l2l3']}")
            for where in _TABLE_2
            for row in ("l2l3l4", "l2l3l4_table5")
        ),
    ),
    "csn/3": _ablation(
        "Table 3: parts of the network, CUHK03 (detected), single-shot",
        {row: _LABELS[row] for row in ("cls", "l2", "l3", "l4", "l2l3", "l2l3l4", "l2l3l4_table5")},
        (
            ("l2l3", "cls"),
            ("l3", "l2"),
            ("l4", "l3"),
            ("l2l3", "l2"),
            ("l2l3", "l3"),
            ("l2l3l4", "l4"),
            ("l2l3l4", "l2l3"),
            ("l2l3l4_table5", "l2l3l4"),
        ),
    ),
    "csn/4": _ablation(
        "Table 4: configurations, CUHK03 (detected), single-shot",
        _LABELS_4,
        (("l2l3l4", "c1"), ("l2l3l4", "c2"), ("l2l3l4", "l4"), ("c2", "c1")),
    ),
    "csn/cross_camera": table_of_no_paper(
        "Pairs of two cameras, or of any two images",
        {
            f"{where}: {pairs}": exp + key
            for where, exp in (("CUHK03 detected", "csn_cuhk03"), ("VIPeR", "csn_viper"))
            for pairs, key in (("two cameras", ""), ("any two", ":cross_camera=false"))
        },
        ("CUHK03 detected: any two", "CUHK03 detected: two cameras"),
        ("VIPeR: any two", "VIPeR: two cameras"),
    ),
    "csn/5": PaperComplexity(
        title="Table 5: model size and complexity",
        literature=(
            ("X-Corr", 2.2, 1.58, 10),
            ("BDLatPart", 1.4, 1.80, 25),
            ("DPFL", 35, 6.00, 40),
            ("JLML", 7.2, 1.54, 39),
            ("DeepAlign", 6, 1.57, 22),
        ),
        printed={
            "csn (L2, L3)": (0.5, 0.96, 12),
            "csn (L2, L3, L4)": (0.8, 1.31, 18),
            "csn (L2, L3, L4), trunk=table5": (0.8, 1.31, 18),
        },
    ),
}

FIGURES = {"csn/4": PaperFigure("similarity_maps", {"Ours-(L2, L3)": "csn_cuhk03"})}
