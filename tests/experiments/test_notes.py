"""Where runs differ from their papers: what their reports list, and of which runs it is true."""

import json
import zlib
from pathlib import Path

import pytest

from experiments import build, papers
from experiments.config import parse_overrides
from experiments.papers.notes import NOTES, Note

LISTED = json.loads((Path(__file__).parent / "listed_notes.json").read_text())
SCALES = ("paper", "small")
ROWS = [
    (f"{name}:{row}".removesuffix(":"), scale)
    for name, experiment in papers.EXPERIMENTS.items()
    for row in dict.fromkeys(("", *experiment.paper))
    for scale in SCALES
]
OF_PRETRAINED = [
    exp
    for name, table in papers.TABLES.items()
    if name.endswith("/pretrained")
    for _, exp, *_ in table.rows
]
# csn is a network of its own.
ANY_NETWORK = [name for name in papers.EXPERIMENTS if papers.method_of(name) != "csn"]
PRETRAINED = [(exp, "pretrained") for exp in dict.fromkeys(OF_PRETRAINED + ANY_NETWORK)]
# Readings that no printed row has.
MORE = [
    ("batch_contrastive_market:center_rate=learning_rate", "paper"),
    ("clever_cuhk01:start_from=", "paper"),
    ("clever_cuhk01:mean=image", "paper"),
    ("clever_cuhk03:inter_grad=through_update", "small"),
    ("clever_cuhk03:inter_grad=none", "paper"),
    ("clever_cuhk03:bn_eval=running", "small"),
    ("csn_viper:cross_camera=false", "paper"),
    ("clever_cuhk03:verification_weight=0.1", "paper"),
    ("clever_cuhk03:row=ic,center_factor=0.1", "paper"),
    ("clever_cuhk03:row=intra_i,center_factor=0.1", "small"),
    ("identif_verif_market:verification_weight=0.1", "paper"),
    ("identif_verif_duke:ratio_rule=fixed", "small"),
    ("identif_verif_market:verification_dropout=before_square", "paper"),
    ("identif_verif_market:loss=v,verification_weight=0", "paper"),
    ("clever_cuhk03:verification_weight=0.5", "paper"),
    ("clever_cuhk03:row=ic,center_factor=0", "paper"),
    ("batch_contrastive_market:loss_weight=0.3", "paper"),
    ("inherent_pku:scatter_weight=1e-7", "small"),
    ("strong_market:decay=cosine", "paper"),
    ("csn_cuhk03:row=l4", "small"),
    ("csn_cuhk03:cross_camera=false", "small"),
    ("inherent_pku:reduction=mixed,scatter_over=batch,scatter_cap=3", "paper"),
    ("inherent_pku:means=batch,lr_schedule=exponential", "small"),
    ("inherent_pku:means=ema", "paper"),
]
ALWAYS = Note("of all runs").when
# What of the library a method may speak of: the rest would be of another paper.
OF_LIBRARY = {
    "batch_contrastive": {"batch_contrastive_loss", "update_centers"},
    "identif_verif": {
        *("verification_loss", "identification_contrastive"),
        *("local_response_norm", "rounded_sizes"),
    },
    "clever": {"clever", "update_pair_centers", "inter_center_step", "NineConv", "flip_or_shift"},
    "inherent": {"inherent", "exact_means", "bank_means", "batch_means", "moving_means"},
    "csn": {"csn", "stn_prior", "spatial_transform", "CSN", "stripes", "flip_or_shift"},
    "strong": {"strong"},
}


def notes(exp, scale, *overrides):
    config = papers.build_config(exp, papers.EXPERIMENTS, scale=scale)
    config = parse_overrides(config, overrides)
    return (*papers.notes_of(exp, config, scale=scale), *build.notes(config))


def short(note):
    """Of a note its name and its first words, and a number that is another if any word is."""
    return f"{' '.join(note.split()[:7])} {zlib.crc32(note.encode()):08x}"


@pytest.mark.parametrize(("exp", "scale"), ROWS + PRETRAINED + MORE)
def test_the_report_of_a_run_lists(exp, scale):
    assert [short(note) for note in notes(exp, scale)] == LISTED[f"{scale} {exp}"]
    method = papers.method_of(exp)
    names = {note.partition(":")[0] for note in notes(exp, scale)}
    network = {"EfficientNetLite0"} if scale == "pretrained" else set()
    assert names <= OF_LIBRARY[method] | {method} | network


def test_every_note_is_true_of_some_run_and_what_is_not_of_all_has_a_condition():
    overridden = [
        ("inherent_pku", "paper", "optimizer.weight_decay_of=all"),
        ("strong_market", "paper", "optimizer.weight_decay_of=all"),
        ("batch_contrastive_market", "paper", "model.freeze_batch_norm=true", "model.weights=a"),
    ]
    every = ROWS + PRETRAINED + MORE + overridden
    for method, own in NOTES.items():
        runs = [row for row in every if papers.method_of(row[0]) == method]
        listed = [set(notes(*run)) for run in runs]
        for note in own:
            text = f"{method}: {note.text}"
            assert any(text in found for found in listed), text
            if note.when is ALWAYS:
                assert all(text in found for found in listed), text


def test_there_is_no_other_place_for_them():
    """A `Deviation:` line of an experiment would reach no report."""
    for path in Path(papers.__file__).parent.rglob("*.py"):
        assert "\nDeviation:" not in path.read_text(), path


def test_each_stands_where_it_is_true():
    def text(exp, scale="paper"):
        return " ".join(notes(exp, scale))

    # Of the row without any note, and of the classification row with one on another paper's figure.
    assert "P and K are not given" in text("inherent_pku:row=resnet18_htri")
    assert "5e-4 of the kernels" in text("inherent_pku:row=set1")
    assert "Fig. 1" not in text("inherent_pku:row=set1") + text("identif_verif_market:loss=i")
    # CLEVER's Eq. 5 has its minus, and its Eq. 6 is another.
    assert "prints a plus sign" not in text("clever_cuhk03:row=ic") + text("clever_cuhk03")
    assert "Adam and 1e-3 of the kernels" in text("clever_cuhk03:row=ic")
    assert "names no augmentation" in text("clever_cuhk03")
    assert "names no augmentation" not in text("clever_viper")
    assert "zero" not in text("clever_cuhk03")  # The paper prints how the centers begin.
    frozen = ("model.weights=resnet50.pth", "model.freeze_batch_norm=true")
    assert "it takes the statistics of the batch" in text("batch_contrastive_market")
    assert "here it is (freeze" in " ".join(notes("batch_contrastive_market", "paper", *frozen))
    for exp in ("batch_contrastive_market", "softmax_duke"):
        assert "momentum and mirroring are not given; 0.9" in text(exp)
        assert "5e-4 of all parameters" in text(exp)
        assert "3x3 convolution" in text(exp)
    for part in ("embeddings that it is of are whole", "momentum", "divided by 64"):
        assert part in text("identif_verif_market")
    assert "0.1 sqrt(3 / D)" in text("identif_verif_market")
    # Each share is dropped where the row has the layer: I has no square, V no head of its own, and
    # the contrastive loss takes whole embeddings.
    dropping = {
        "": ("before identification", "0.9 of the squared difference is dropped"),
        ":loss=i": ("before identification",),
        ":loss=v": ("0.9 of the squared difference is dropped",),
        ":loss=contrastive": ("before identification",),
        ":verification_dropout=before_square": ("before identification", "dropped embeddings"),
        ":backbone=vgg16": (
            "before identification",
            "half of the squared difference is dropped",
            "half of fc6",
        ),
    }
    for row, parts in dropping.items():
        for part in {part for parts in dropping.values() for part in parts}:
            assert (part in text(f"identif_verif_market{row}")) == (part in parts), (row, part)
    assert "half of fc6" not in text("identif_verif_oxford:backbone=vgg16")
    # At the scale pretrained optimizer and heads are others.
    for exp in ("batch_contrastive_market", "identif_verif_market", "clever_cuhk03"):
        assert "5e-4 of all" not in text(exp, "pretrained")
        assert "5e-4 of the kernels" in text(exp, "pretrained")
    assert "1e-3 of the kernels are" not in text("clever_cuhk03", "pretrained")
    for loss, heads in (("iv", (True, True)), ("i", (True, False)), ("v", (False, True))):
        told = text(f"identif_verif_market:loss={loss}", "pretrained")
        found = tuple(f"the {head} head" in told for head in ("identification", "verification"))
        assert found == heads
    assert "that of conv5" not in text("identif_verif_oxford", "pretrained")
    assert "takes running averages" in text("clever_cuhk03", "pretrained")
    assert "CUHK03 and Market-1501 first; this run does not" in text("clever_viper", "pretrained")
    # A weight that is none of the paper's rows.
    other = "gives losses other weights than the paper"
    assert other in text("clever_cuhk03:verification_weight=0.5")
    assert other not in text("clever_cuhk03:row=iv")
    assert other in text("clever_cuhk03:row=ic,center_factor=0")
    assert other in text("identif_verif_market:loss=v,verification_weight=0")
    assert "a lambda of 1" in text("batch_contrastive_market:loss_weight=0.3")
    assert "a lambda of 1" not in text("batch_contrastive_market", "small")
    assert "a gamma of 1e-6" in text("inherent_pku:scatter_weight=1e-7")
    # One level is not joined with another.
    assert "averages the maps" not in text("csn_cuhk03:row=l3")
    assert "prints 10x4" not in text("csn_cuhk03:row=l4")
    # Rows without a loss with centers.
    assert "center" not in text("clever_cuhk03:row=iv_weight_1")
    assert "loss.inter_grad" not in text("clever_cuhk03:row=intra_iv")
    assert "as many as are tested on" in text("clever_cuhk03:row=iv")
    assert "72x36" in text("identif_verif_market:backbone=vgg16", "small")
    assert "convention of coordinates" in text("csn_cuhk03")
    assert "row=l2l3l4_table5" in text("csn_cuhk03:row=l4")
    assert "until convergence" not in text("identif_verif_market")
    assert "95 (V)" in text("identif_verif_market:loss=v")
    assert "offset is Caffe's" in text("identif_verif_market:backbone=caffenet")
    for part in ("original size", "that of conv5", "no schedule for landmarks"):
        assert part in text("identif_verif_oxford:backbone=vgg16")
    for part in ("pooled twice", "averages the maps", "divided by 64", "an epoch has"):
        assert part in text("csn_cuhk03")
    assert "10." in text("csn_viper")
    assert "10." not in text("csn_cuhk01")
    assert "row=l2l3l4_table5" in text("csn_cuhk03:row=l2l3l4")
    assert "transformers" not in text("csn_cuhk03:row=c2")
    assert "convention of coordinates" not in text("csn_cuhk03:row=c2")
    assert "priors" not in text("csn_cuhk03:row=c2")
    assert "stripes" not in text("csn_cuhk03:row=c1")
    for name in papers.EXPERIMENTS:
        assert "small scale" in text(name, "small")
        assert "small scale" not in text(name)
