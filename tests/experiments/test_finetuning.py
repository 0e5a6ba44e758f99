"""clever's pre-training on two data sets, what goes on from it, and wrong input to both."""

import dataclasses
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
import untrained

from data_prep import stand_in
from data_prep.prepare import prepare
from experiments import again, build, job, launch, sources
from experiments.config import changed
from experiments.papers import EXPERIMENTS, build_config, paper_row, slug
from reid_jax import data
from reid_jax.embedder import Embedder, read_training
from reid_jax.preprocess import Preprocess
from reid_jax.protocols import PROTOCOLS

# A batch that one device holds alone: a program for eight takes longer to compile.
TINY = (
    *("data.image_size=(32,16)", "data.flip_or_shift=(1,1)"),
    *("sampler.batch_size=11", "train.validate_every=0"),
)
TWO_STEPS = ("optimizer.num_steps=2", "optimizer.head_steps=2", "optimizer.boundaries=()")
START = Path("runs/clever_pretrain")


@pytest.fixture(scope="module")
def places(data_dir, tmp_path_factory):
    """Where the data is, and where runs are: the tiny Market-1501, CUHK03, VIPeR and CUHK01."""
    place, raw = tmp_path_factory.mktemp("places"), tmp_path_factory.mktemp("raw_places")
    (place / "data").mkdir()
    os.symlink(data_dir / "market1501", place / "data" / "market1501")
    silent = {"num_workers": 1, "progress": False}
    trees = {
        "cuhk03": stand_in.write_cuhk03(
            raw,
            groups=(6, 2, 1, 1, 1),
            num_test_identities=2,
            num_one_view_identities=1,
            images_per_view=3.0,
            **silent,
        ),
        "viper": stand_in.write_viper(raw, num_identities=12, **silent),
    }
    for dataset, tree in trees.items():
        prepare(dataset, tree, place / "data", progress=False)
    return place


@pytest.fixture
def asked(options, places, monkeypatch):
    """Options of a tiny run in the module's places."""
    monkeypatch.chdir(places)
    monkeypatch.setattr("reid_jax.training.trainer.create_state", untrained.drawn_state)

    def make(exp, *overrides, **changed):
        changed = {"workdir": f"runs/{slug(exp)}", "data_dir": str(places / "data"), **changed}
        return options(exp=exp, overrides=[*TINY, *overrides], **changed)

    return make


@pytest.fixture
def started(asked):
    """Results of the pre-training, done once."""
    with untrained.runs():
        return launch.run_experiment(asked("clever_pretrain"))


def test_both_data_sets_are_joined_by_views(asked, places):
    config = launch.make_job(asked("clever_pretrain")).config
    source = sources.training_source(places / "data", config, split=0)
    assert source.dataset == "cuhk03+market1501"
    assert set(source.cameras) == {1, 2}
    both_sides = {}
    for file, identity, camera in zip(source.files, source.identities, source.cameras, strict=True):
        dataset, *_, name = file.split("/")
        own = name.split("_c")[0] if dataset == "market1501" else name[:5]
        both_sides.setdefault((dataset, own), set()).add((int(identity), int(camera)))
        if dataset == "market1501":
            assert camera == (1 if int(name.split("_c")[1][0]) <= 3 else 2)
            assert file.split("/")[1] in ("bounding_box_train", "bounding_box_test")
            assert int(own) > 0
        else:
            assert file.split("/")[1] == "detected"
            assert int(name[0]) <= 3
    # One number for each identity, and both views.
    numbers = [{identity for identity, _ in seen} for seen in both_sides.values()]
    assert all(len(seen) == 1 for seen in numbers)
    assert len(set.union(*numbers)) == len(numbers)
    assert all({camera for _, camera in seen} == {1, 2} for seen in both_sides.values())
    # All nine of the first three groups, and those of Market-1501 that both sides saw.
    assert sum(dataset == "cuhk03" for dataset, _ in both_sides) == 9
    seen = {}
    for split in ("train", "gallery"):
        part = data.open_split(places / "data", "market1501", split)
        for identity, camera in zip(part.identities, part.cameras, strict=True):
            seen.setdefault(int(identity), set()).add(camera <= 3)
    expected = [identity for identity, sides in seen.items() if identity > 0 and len(sides) == 2]
    assert sum(dataset == "market1501" for dataset, _ in both_sides) == len(expected) > 2
    assert sources.needed_datasets(config, build.protocol(config)) == [
        *("cuhk03", "market1501", "viper")
    ]


def test_the_head_is_new_and_the_rest_is_that_of_the_start(started, asked, capsys):
    assert started.trained_on == "cuhk03+market1501"
    assert (started.dataset, started.data_source) == ("viper", "stand-in")
    evaluated, _ = again.evaluation_of(START, dataset="viper", partition="316-316", split=3)
    assert evaluated.trained_on == "cuhk03+market1501"
    assert evaluated.fingerprint != started.fingerprint
    launch.run_experiment(asked("clever_viper", *TWO_STEPS, splits="1"))
    assert "comes first" not in capsys.readouterr().out
    top = Path("runs/clever_viper")
    results = json.loads((top / "split_1/results.json").read_text())
    assert results["paper"] == {"rank1": 0.5233, "rank5": 0.7941, "rank10": 0.8853}
    record, _, before = read_training(START)
    weights = results["weights"]
    assert weights["start_from"] == str(START)
    assert (weights["exp"], weights["steps"]) == ("clever_pretrain", 4)
    assert weights["training_fingerprint"] == record["data"]["fingerprint"]
    assert weights["kept"] == ["params/backbone/identification/kernel"]
    own, _, after = read_training(top / "split_1")
    assert own["num_identities"] == 6
    old, new = before["params"], after["params"]
    assert new["backbone"].pop("identification")["kernel"].shape == (64, 6)
    old["backbone"].pop("identification")
    jax.tree.map(np.testing.assert_array_equal, new, old)
    assert weights["matched"] == len(jax.tree.leaves(before))
    # What is subtracted is what the start subtracted, in training and at test.
    means = [Preprocess.from_json(r["embedder"]["preprocess"]).mean for r in (record, own)]
    assert means[0].shape == (32, 16, 3)
    np.testing.assert_array_equal(*means)
    # The running averages are those of the new data.
    averages = (v["batch_stats"]["backbone"]["bn1"]["mean"] for v in (before, after))
    assert not np.array_equal(*averages)


def test_batch_norm_takes_the_statistics_of_each_side(started, places):
    embedder = Embedder.from_run(START)
    model = embedder.model.clone(test_statistics="running")
    running = dataclasses.replace(embedder, model=model)
    config = build_config("clever_pretrain", EXPERIMENTS, scale="small")
    protocol = build.protocol(config)
    subsets = sources.subsets(places / "data", config, protocol, split=0)
    pool = subsets["test"]
    rows = np.flatnonzero(pool.cameras == 1), np.flatnonzero(pool.cameras == 2)
    found = embedder.distance_of(pool)(*rows)
    # The running averages play no part, the other images of a side do.
    others = jax.tree.map(lambda leaf: 2 * leaf + 1, embedder.variables["batch_stats"])
    moved = dataclasses.replace(embedder, variables={**embedder.variables, "batch_stats": others})
    np.testing.assert_array_equal(moved.distance_of(pool)(*rows), found)
    fewer = embedder.distance_of(pool)(rows[0][:-1], rows[1])
    assert np.abs(fewer - found[:-1]).max() > 1e-4
    assert np.abs(running.distance_of(pool)(*rows) - found).max() > 1e-3
    assert protocol.evaluate(embedder, subsets).fingerprint == started.fingerprint
    with pytest.raises(ValueError, match="needs all images of a side in one batch"):
        PROTOCOLS["single-query"].check(embedder)
    with pytest.raises(ValueError, match="running, batch"):
        running.model.clone(test_statistics="train")


@pytest.mark.parametrize(
    ("exp", "overrides", "message"),
    [
        (
            "clever_viper",
            ("model.width=6",),
            r"params/backbone/bn1/bias: \[4\] there, \[6\] here\n(.*\n)*  and \d+ more",
        ),
        (
            "clever_viper:row=ic,start_from=runs/clever_pretrain/",
            (),
            r"\(clever_pretrain\): it is of another network:\n"
            r"  params/bn1/bias: absent there, \[4\] here",
        ),
        (
            "clever_viper:start_from=runs",
            (),
            "start_from=runs is not the work directory of a finished run",
        ),
    ],
)
def test_another_network_is_refused_with_what_differs(started, asked, exp, overrides, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        launch.run_experiment(asked(exp, *overrides, workdir="refused"))
    assert not Path("refused/checkpoints/last").exists() or not os.listdir(
        "refused/checkpoints/last"
    )


def test_what_stand_ins_taught_is_not_called_official(started, asked, monkeypatch):
    monkeypatch.setattr(sources, "data_source", lambda *args: "official")
    with pytest.raises(ValueError, match="was trained on stand-in data"):
        launch.run_experiment(asked("clever_viper", workdir="refused"))


def test_the_run_to_start_from_comes_first_with_its_own_values(asked, tmp_path, monkeypatch):
    options = asked("clever_viper:row=iv", "loss.margin=3", splits="all", seed=4, repeats=2)
    monkeypatch.chdir(tmp_path)
    done = []

    def record(job):
        place = job.workdir.relative_to(tmp_path)
        done.append((job.exp, job.seed, job.split, str(place)))
        job.workdir.mkdir(parents=True)
        (job.workdir / "results.json").write_text("{}")
        raise KeyError("enough")

    monkeypatch.setattr(job, "run", record)
    for _ in range(2):
        with pytest.raises(KeyError, match="enough"):
            launch.run_experiment(options)
    assert done == [
        ("clever_pretrain:row=iv", 0, 0, "runs/clever_pretrain-row-iv"),
        ("clever_viper:row=iv", 4, 0, "runs/clever_viper-row-iv/split_0/seed_4"),
    ]


def test_fine_tuning_is_described_by_its_row():
    def built(exp):
        config = build_config(exp, EXPERIMENTS, scale="paper")
        return config, paper_row(exp, config, EXPERIMENTS, scale="paper")

    config, paper = built("clever_cuhk01")
    assert (config.optimizer.head_steps, config.optimizer.num_steps) == (7_001, 7_102)
    assert config.optimizer.learning_rate == 1e-4
    assert config.model.start_from == "runs/clever_pretrain"
    assert built("clever_cuhk01:start_from=elsewhere")[1] == paper
    scratch, paper = built("clever_cuhk01:start_from=")
    assert (scratch.optimizer.num_steps, paper) == (25_000, None)
    # As in the code that the paper builds on, and each choice a key.
    assert (config.data.mean, config.data.flip_or_shift) == ("start", ())
    assert config.data.images_per_camera == 1
    assert (scratch.data.mean, scratch.data.flip_or_shift) == ("image", (6, 2))
    assert scratch.data.images_per_camera == 0
    for scale, shift in (("paper", (6, 2)), ("small", (3, 1))):
        keys = "mean=image,augmentation=true,images_per_camera=2"
        own = build_config(f"clever_cuhk01:{keys}", EXPERIMENTS, scale=scale)
        assert (own.data.mean, own.data.flip_or_shift) == ("image", shift)
        assert own.data.images_per_camera == 2
    with pytest.raises(ValueError, match=r"data.mean=start needs model.start_from"):
        built("clever_cuhk01:start_from=,mean=start")
    config, paper = built("clever_viper:row=frw_ic")
    assert config.model.start_from == "runs/clever_pretrain-row-frw_ic"
    assert config.loss.reweighting_level == 200.0
    assert paper["rank1"] == 0.5040


@dataclasses.dataclass
class Rows:
    """What is drawn from, without images."""

    identities: np.ndarray
    cameras: np.ndarray | None

    def __len__(self):
        return len(self.identities)


def test_few_images_of_each_identity_and_camera_are_drawn_by_the_split():
    identities, cameras = np.repeat([5, 7, 9], [8, 3, 1]), np.tile([1, 2], 6)
    source = Rows(identities, cameras)
    drawn = [sources.few_of_each(source, 1, seed=split) for split in range(20)]
    for rows in drawn:
        found = list(zip(identities[rows], cameras[rows], strict=True))
        assert sorted(found) == sorted(set(zip(identities, cameras, strict=True)))
        assert (np.diff(rows) > 0).all()
    assert {row for rows in drawn for row in rows} == set(range(12))
    np.testing.assert_array_equal(drawn[3], sources.few_of_each(source, 1, seed=3))
    assert len(sources.few_of_each(source, 2, seed=0)) == 2 + 2 + 2 + 1 + 1
    assert len(sources.few_of_each(Rows(identities, None), 3, seed=0)) == 3 + 3 + 1


def test_the_training_images_of_a_run_are_few(places):
    config = build_config("clever_viper", EXPERIMENTS, scale="small")
    few = sources.training_source(places / "data", config, split=0)
    everything = changed(config, data={"images_per_camera": 0})
    assert len(few) == len(sources.training_source(places / "data", everything, split=0)) == 12
    config = changed(config, dataset="cuhk03", data={"partition": "detected-1160-100-100"})
    few = sources.training_source(places / "data", config, split=0)
    everything = changed(config, data={"images_per_camera": 0})
    assert len(few) < len(sources.training_source(places / "data", everything, split=0))
    assert len(few) == len(set(zip(few.identities, few.cameras, strict=True)))


def test_the_mean_of_another_size_is_refused(started, asked):
    with pytest.raises(ValueError, match=r"sees images of \(32, 16\), and here they are of"):
        launch.run_experiment(asked("clever_viper", "data.image_size=(48,16)", workdir="refused"))


def one_view(source):
    return source.take(np.flatnonzero(source.cameras == 1), "one view")


def one_identity(source):
    return source.take(np.flatnonzero(source.identities == source.identities[0]), "one identity")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (one_view, "no image has a second image from another camera"),
        (one_identity, "nothing to tell apart"),
    ],
)
@pytest.mark.parametrize("exp", ["clever_pretrain", "clever_viper:start_from="])
def test_training_sets_without_pairs_are_refused(asked, monkeypatch, exp, damage, message):
    opened = sources.training_source
    monkeypatch.setattr(
        sources, "training_source", lambda *args, **kwargs: damage(opened(*args, **kwargs))
    )
    with pytest.raises(ValueError, match=message):
        launch.run_experiment(asked(exp, workdir="refused"))


def test_identities_of_one_camera_are_counted(asked, monkeypatch, capsys):
    monkeypatch.setattr("reid_jax.training.trainer.create_state", lambda *args, **kwargs: 1 / 0)
    options = asked("clever_cuhk03", "data.partition=detected-1367-100", workdir="counted")
    with pytest.raises(ZeroDivisionError):
        launch.run_experiment(options)
    # The last identity, which view A alone saw.
    assert "3 of 51 training images have no positive partner" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("exp", "changed", "message"),
    [
        ("clever_viper", {"splits": "10"}, "316-316 has the splits 0 to 9"),
        ("clever_cuhk03", {"splits": "20"}, "has the splits 0 to 19"),
        ("clever_pretrain:row=iii", {}, "known: ic, frw_ic, intra_i"),
        ("clever_viper:images=labeled", {}, "no key 'images'"),
    ],
)
def test_wrong_input_says_what_is_known(asked, exp, changed, message):
    with pytest.raises(ValueError, match=message):
        launch.run_experiment(asked(exp, **changed))


@pytest.mark.parametrize("joined", [("cuhk03", "viper"), ("cuhk03", "dukemtmc")])
def test_what_cannot_be_joined_is_refused(asked, places, joined):
    config = launch.make_job(asked("clever_pretrain", f"data.joined={joined}")).config
    with pytest.raises(ValueError, match="known: cuhk03, market1501, without the data set viper"):
        sources.training_source(places / "data", config, split=0)
