"""Training and test people across splits, pools and preparations; own data sets with any paper."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import untrained

from data_prep import stand_in
from data_prep.prepare import prepare
from experiments import again, launch, summary
from experiments.options import RunOptions
from reid_jax import data
from reid_jax.embedder import Embedder
from reid_jax.protocols import PROTOCOLS

TINY = (
    *("data.image_size=(32,16)", "data.crop_size=()", "sampler.batch_size=8", "model.width=4"),
    *("optimizer.num_steps=2", "optimizer.boundaries=()", "train.validate_every=0"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """CUHK03 prepared twice, and an own data set without cameras."""
    raw, place = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("place")
    tree = stand_in.write_cuhk03(
        raw,
        groups=(9, 4, 1, 1, 1),
        num_test_identities=4,
        num_one_view_identities=1,
        images_per_view=3.0,
        num_workers=1,
        progress=False,
    )
    for name in ("data", "again"):
        prepare("cuhk03", tree, place / name, progress=False)
    folder = place / "crops"
    opened = data.open_split(place / "data", "cuhk03", "detected")
    for identity in np.unique(opened.identities):
        (folder / f"person {identity}").mkdir(parents=True)
    for row, file in enumerate(opened.files):
        name = Path(file).name
        (folder / f"person {opened.identities[row]}" / name).write_bytes(opened[row])
    prepare("folder", folder, place / "data", name="shop", num_test_identities=4, progress=False)
    return place


@pytest.fixture(scope="module")
def trained(place):
    """A run on split 0 of CUHK03."""
    options = RunOptions(
        exp="clever_cuhk03",
        data_dir=str(place / "data"),
        workdir=str(place / "run"),
        scale="small",
        overrides=(*TINY, "data.partition=detected-1367-100", "data.flip_or_shift=()"),
    )
    with untrained.runs():
        launch.run_experiment(options)
    return place / "run"


@pytest.mark.parametrize(
    "asked",
    [
        {"split": 1},
        {"partition": "labeled-1367-100", "split": 1},
        {"split": 1, "data_dir": "again"},
    ],
)
def test_people_that_were_trained_on_are_refused_or_counted(place, trained, asked):
    asked = dict(asked)
    if "data_dir" in asked:
        asked["data_dir"] = str(place / asked["data_dir"])
    with pytest.raises(ValueError, match=r"\d of 4 test identities .*such as cuhk03/\d+.*allow"):
        again.evaluation_of(trained, **asked)
    found, path = again.evaluation_of(trained, **asked, allow_overlap=True)
    assert found.overlap["test_people"] == 4
    assert 1 <= found.overlap["people"] <= 4
    assert (found.overlap["files"] > 0) == ("partition" not in asked)
    assert json.loads(path.read_text())["overlap"] == found.overlap
    told = f"{found.overlap['people']} of 4 test identities"
    assert told in summary.summary_text(found)


def test_a_run_that_would_test_on_its_training_people_is_not_trained(place, tmp_path, monkeypatch):
    monkeypatch.setattr(launch.job, "train", lambda *args: pytest.fail("trained"))
    opened = launch.job.sources.training_source
    both = lambda *args, split: opened(*args, split=split + 1)  # Another split's people.
    monkeypatch.setattr(launch.job.sources, "training_source", both)
    options = RunOptions(
        exp="clever_cuhk03",
        data_dir=str(place / "data"),
        workdir=str(tmp_path / "run"),
        scale="small",
        overrides=(*TINY, "data.partition=detected-1367-100", "data.flip_or_shift=()"),
    )
    with pytest.raises(ValueError, match=r"test identities .* were trained on"):
        launch.run_experiment(options)


def test_other_people_of_one_division_are_tested_as_before(trained):
    found, _ = again.evaluation_of(trained, partition="labeled-1367-100", split=0)
    assert found.overlap is None


def test_the_same_files_under_another_name_are_noticed(place, trained):
    embedder = Embedder.from_run(trained)
    model = embedder.model.clone(test_statistics="running")
    embedder = dataclasses.replace(embedder, model=model)
    subsets = {name: data.open_split(place / "data", "shop", name) for name in ("query", "gallery")}
    protocol = PROTOCOLS["single-query"]
    with pytest.raises(ValueError, match=r"0 of 4 test identities and \d+ test images"):
        protocol.evaluate(embedder, subsets)
    found = protocol.evaluate(embedder, subsets, allow_overlap=True)
    assert found.details["overlap"]["files"] > 0


@pytest.mark.parametrize(
    ("exp", "said"),
    [
        ("inherent_pku:row=set1", ["data.partition= in the place of 57-57"]),
        (
            "clever_cuhk03:row=iv",
            [
                "evaluation.protocol=single-query in the place of single-shot-one-direction",
                "model.test_statistics=running in the place of batch",
                "sampler.cross_camera=False in the place of True",
            ],
        ),
    ],
)
def test_an_own_data_set_without_partition_or_cameras(place, exp, said, capsys, tmp_path):
    options = RunOptions(
        exp=exp,
        dataset="shop",
        data_dir=str(place / "data"),
        workdir=str(tmp_path / "run"),
        scale="small",
        overrides=(*TINY, "data.image_size=(36,32)"),
    )
    with untrained.runs():
        results = launch.run_experiment(options)
    printed = capsys.readouterr().out
    for line in said:
        assert line in printed
    assert (results.dataset, results.protocol) == ("shop", "single-query-no-cameras")
    assert "person " in (tmp_path / "run" / "report.html").read_text()


def test_a_protocol_that_does_not_fit_says_which_would(place, trained):
    with pytest.raises(ValueError, match=r"multi-shot needs test.*take --protocol single-query"):
        again.evaluation_of(trained, dataset="shop", protocol="multi-shot")
    with pytest.raises(ValueError, match=r"pool that partitions divide: name one of detected-"):
        again.evaluation_of(trained, partition="", protocol="single-query")


def test_distractors_have_a_row_for_each_size_of_the_gallery(place, trained):
    found, _ = again.evaluation_of(trained, partition="labeled-1367-100", split=0)
    numbers = {"fifth/": 20, "two_fifths/": 40, "": 100}
    metrics = {prefix + "rank1": 0.5 + n / 1000 for prefix, n in numbers.items()}
    shown = summary.summary_text(
        dataclasses.replace(found, metrics=metrics, distractors=numbers, num_gallery=150)
    )
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "70 gallery images 52.00" in lines
    assert "90 gallery images 54.00" in lines
    assert "150 gallery images 60.00" in lines
