"""Runs on pairs, on partitions with several splits, and every protocol on a trained network."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from data_prep import stand_in
from data_prep.prepare import prepare
from experiments import again, build, figures, job, launch, printed, sources
from experiments.config import changed, parse_overrides
from experiments.papers import EXPERIMENTS, TABLES, build_config, slug
from reid_jax import data
from reid_jax.embedder import Embedder
from reid_jax.files import read_json
from reid_jax.preprocess import Preprocess, mean_image
from reid_jax.training.logs import read_metrics

PAIRS = (
    *("data.image_size=(32,32)", "data.crop_size=()"),
    *("sampler.batch_size=8", "train.validate_every=2"),
)
CUHK03 = {
    "groups": (9, 4, 1, 1, 1),
    "num_test_identities": 4,
    "num_one_view_identities": 1,
    "images_per_view": 3.0,
    "num_workers": 1,
    "progress": False,
}


@pytest.fixture(scope="module")
def pair_dir(data_dir, tmp_path_factory):
    """CUHK03, distractors and Oxford5k beside the tiny Market-1501."""
    raw = tmp_path_factory.mktemp("raw_pairs")
    silent = {"num_workers": 1, "progress": False}
    trees = {
        "cuhk03": stand_in.write_cuhk03(raw, **CUHK03),
        "distractors_500k": stand_in.write_distractors_500k(raw, num_images=10, **silent),
        "landmarks": stand_in.write_landmarks(
            raw, num_landmarks=3, images_per_landmark=4, long_side=64, **silent
        ),
        "oxford5k": stand_in.write_oxford5k(
            raw,
            num_landmarks=2,
            num_good=5,
            num_ok=1,
            num_junk=1,
            num_streets=2,
            long_side=96,
            **silent,
        ),
    }
    for dataset, tree in trees.items():
        prepare(dataset, tree, data_dir, progress=False)
    return data_dir


@pytest.fixture
def on_pairs(options, pair_dir, tmp_path, monkeypatch):
    """Options of a tiny run on pairs."""
    monkeypatch.chdir(tmp_path)

    def make(**changed):
        overrides = [*PAIRS, *changed.pop("overrides", ())]
        return options(workdir=f"runs/{slug(changed['exp'])}", overrides=overrides, **changed)

    return make


@pytest.mark.slow
def test_pairs_are_trained_and_log_their_ratio(on_pairs):
    results = launch.run_experiment(on_pairs(exp="identif_verif_market"))
    assert results.protocol == "single-query"
    assert results.paper == {"rank1": 0.7951, "map_trapezoid": 0.5987}
    records = [r for r in read_metrics("runs/identif_verif_market") if "loss" in r]
    assert [r["negatives_per_positive"] for r in records] == [1.0] * 4
    terms = {"identification_loss", "verification_loss", "verification_accuracy", "accuracy"}
    assert terms < set(records[0])
    record = records[0]
    assert record["loss"] == pytest.approx(
        record["verification_loss"] + record["identification_loss"], rel=1e-5
    )
    record = read_json(Path("runs/identif_verif_market/training.json"))
    assert Preprocess.from_json(record["embedder"]["preprocess"]).mean.shape == (32, 32, 3)

    # Every protocol of the same network.
    by_protocol = {
        protocol: again.evaluation_of(Path("runs/identif_verif_market"), protocol=protocol)[0]
        for protocol in ("multi-query-maximum", "distractors")
    }
    # And both ways of looking at an image, of one training, each beside its own printed numbers.
    place = Path("runs/identif_verif_market")
    looked = {
        mode: again.evaluation_of(place, overrides=[f"evaluation.test_mode={mode}"])
        for mode in ("single", "dense_flip")
    }
    assert looked["single"][0].metrics == results.metrics
    assert looked["single"][0].paper == results.paper
    assert looked["dense_flip"][0].metrics != results.metrics
    assert looked["dense_flip"][0].paper == {"rank1": 0.8082, "map_trapezoid": 0.6230}
    assert looked["single"][1] != looked["dense_flip"][1]
    assert by_protocol["distractors"].paper is None
    found = by_protocol["distractors"].metrics
    assert found["rank1"] <= found["two_fifths/rank1"] <= found["fifth/rank1"]
    assert found["fifth/rank1"] <= results.metrics["rank1"]
    assert by_protocol["distractors"].num_gallery == results.num_gallery + 10
    asked = on_pairs(exp="identif_verif_market")
    runs = {"I+V": launch.planned_runs(job_of(on_pairs), asked)[""]}
    for name in ("embedding_map", "activation_maps", "camera_pairs", "distractor_curve"):
        figures.FIGURES[name](runs, "").canvas.draw()


def job_of(on_pairs):
    return launch.make_job(on_pairs(exp="identif_verif_market"))


@pytest.mark.slow
def test_splits_have_their_own_identities_and_a_mean(on_pairs, pair_dir, capsys):
    asked = on_pairs(exp="identif_verif_cuhk03:loss=v", splits="0,2")
    results = launch.run_experiment(asked)
    top = Path("runs/identif_verif_cuhk03-loss-v")
    assert results.runs == ("split_0", "split_2")
    assert "have no positive partner" not in capsys.readouterr().out
    each = [json.loads((top / name / "results.json").read_text()) for name in results.runs]
    assert [r["split"] for r in each] == [0, 2]
    assert each[0]["fingerprint"] != each[1]["fingerprint"]
    assert each[0]["num_repeats"] == 10
    assert results.metrics["rank1"] == pytest.approx(np.mean([r["metrics"]["rank1"] for r in each]))
    config = json.loads((top / "split_2/config.json").read_text())
    assert config["split"] == 2
    opened = data.open_partition(pair_dir, "cuhk03", "detected-1367-100", 2)
    record = read_json(top / "split_2/training.json")
    assert record["num_identities"] == len(np.unique(opened["train"].identities))
    assert (top / "report.html").exists()
    assert (top / "split_0/report.html").exists()
    with pytest.raises(ValueError, match="has the splits 0 to 19"):
        launch.run_experiment(on_pairs(exp="identif_verif_cuhk03", splits="20"))
    with pytest.raises(ValueError, match="expected all, or numbers"):
        launch.run_experiment(on_pairs(exp="identif_verif_cuhk03", splits="first"))
    with pytest.raises(ValueError, match="has one split, 0"):
        launch.run_experiment(on_pairs(exp="identif_verif_market", splits="1"))

    with pytest.raises(ValueError, match="the rows are CaffeNet"):
        printed.chosen_rows(TABLES["identif_verif/5"], "ResNet-50 (V)", "identif_verif/5")
    results = printed.with_protocol(launch.run_experiment(asked), "multi-shot", asked)
    assert 0 <= results.metrics["multi-shot/rank1"] <= 1
    assert set(results.run_metrics["split_2"]) > {"rank1", "multi-shot/rank1"}
    runs = {"V": next(iter(launch.planned_runs(launch.make_job(asked), asked).values()))}
    figures.FIGURES["ranked_lists"](runs, "multi-shot").canvas.draw()


@pytest.mark.slow
def test_buildings_are_searched_at_their_own_size(on_pairs):
    overrides = ("data.image_size=(48,48)", "data.crop_size=(40,40)", "model.width=6")
    asked = on_pairs(exp="identif_verif_oxford:backbone=caffenet", overrides=overrides)
    results = launch.run_experiment(asked)
    assert (results.dataset, results.trained_on) == ("oxford5k", "landmarks")
    assert results.num_query == 10
    assert results.data_source == "stand-in"
    runs = {"I+V": launch.planned_runs(launch.make_job(asked), asked)[""]}
    figures.FIGURES["ranked_lists"](runs, "").canvas.draw()


@pytest.mark.parametrize(
    ("exp", "message"),
    [
        ("identif_verif_market:backbone=vgg16", "the network is VGG16: take test_mode=single"),
        ("identif_verif_market:backbone=caffenet", "the network is CaffeNet: take test_mode"),
        ("identif_verif_oxford:backbone=vgg16", "the network is VGG16: take test_mode=single"),
        ("identif_verif_oxford", "made for model.pooling=max: take test_mode=single"),
    ],
)
def test_a_test_mode_that_cannot_work_is_refused_before_the_training(
    on_pairs, monkeypatch, exp, message
):
    monkeypatch.setattr(job, "train", lambda *args: 1 / 0)
    overrides = ["evaluation.test_mode=dense_flip", "data.image_size=(64,64)", "model.width=6"]
    with pytest.raises(ValueError, match=message):
        launch.run_experiment(on_pairs(exp=exp, overrides=overrides))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("loss=both", "loss='both'; known: i, v, iv, contrastive"),
        ("backbone=alexnet", "backbone='alexnet'; known: caffenet, vgg16, resnet50"),
        ("ratio_rule=none", "ratio_rule='none'; known: paper, code, fixed"),
        ("mean=median", "mean='median'; known: imagenet, channel, image"),
        ("test_mode=twice", "test_mode='twice'; known: single, dense_flip"),
    ],
)
def test_wrong_rows_say_what_is_known(on_pairs, row, message):
    with pytest.raises(ValueError, match=message):
        launch.run_experiment(on_pairs(exp=f"identif_verif_market:{row}"))


def test_mean_image_is_that_of_the_training_images():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (7, 4, 3, 3), dtype=np.uint8)
    mean = mean_image([images[:3], images[3:]])
    np.testing.assert_allclose(mean, images.astype(np.float64).mean(0), rtol=1e-12)


def test_a_two_camera_test_set_is_query_and_gallery(pair_dir):
    opened = data.open_partition(pair_dir, "cuhk03", "detected-1367-100", 0)
    split = sources.by_camera(opened["test"], "")
    assert set(split["query"].cameras) == {1}
    assert set(split["gallery"].cameras) == {2}
    assert len(split["query"]) + len(split["gallery"]) == len(opened["test"])


def test_a_row_is_chosen_by_its_label_whatever_its_commas():
    table = TABLES["csn/2"]
    for label in ("VIPeR: Ours-(L2, L3)", "VIPeR: Ours-(L2, L3, L4)"):
        chosen = printed.chosen_rows(table, label, "csn/2")
        assert [row[0] for row in chosen] == [label]
    chosen = printed.chosen_rows(
        TABLES["identif_verif/2"], "VGG16 (V),VGG16 (I)", "identif_verif/2"
    )
    assert [row[0] for row in chosen] == ["VGG16 (V)", "VGG16 (I)"]
    # Two whole labels with commas, and one beside a part of others.
    both = "VIPeR: Ours-(L2, L3),VIPeR: Ours-(L2, L3, L4)"
    chosen = printed.chosen_rows(table, both, "csn/2")
    assert [row[0] for row in chosen] == ["VIPeR: Ours-(L2, L3)", "VIPeR: Ours-(L2, L3, L4)"]
    chosen = printed.chosen_rows(table, "CUHK01: Ours-(L2, L3),VIPeR", "csn/2")
    assert [row[0].partition(":")[0] for row in chosen] == ["CUHK01", "VIPeR", "VIPeR", "VIPeR"]
    with pytest.raises(ValueError, match=r"no row of identif_verif/2 has 'VGG19 \(I\)'; the rows"):
        printed.chosen_rows(TABLES["identif_verif/2"], "VGG16 (V),VGG19 (I)", "identif_verif/2")


@pytest.mark.parametrize(
    ("exp", "scale", "text"),
    [
        ("identif_verif_market:loss=v", "small", "; resnet18 of width 32"),
        ("identif_verif_market:loss=v", "paper", ""),
        ("csn_viper", "small", "; csn of width 24"),
    ],
)
def test_rows_name_the_network_that_ran(on_pairs, exp, scale, text):
    row = dataclasses.replace(on_pairs(exp=exp), scale=scale, overrides=())
    assert printed.ran(row) == text


def test_csn_takes_the_best_state_on_the_validation_identities(pair_dir):
    config = build_config("csn_cuhk03", EXPERIMENTS, scale="small")
    assert config.train.validate_every == 350
    protocol, subsets = sources.validation(pair_dir, config, split=1)
    assert protocol.name == "single-shot-one-direction"
    opened = data.open_partition(pair_dir, "cuhk03", config.data.partition, 1)
    chosen_on = set(subsets["test"].identities)
    assert chosen_on
    assert not chosen_on & {*opened["train"].identities, *opened["test"].identities}
    # The other sets have none, and the last state is taken.
    assert build_config("csn_viper", EXPERIMENTS, scale="small").train.validate_every == 0


def test_figure_4_shows_as_many_people_as_the_papers():
    identities = np.repeat(np.arange(-1, 501), 2)
    chosen = figures.mapped_identities(identities, seed=0)
    assert len(set(chosen)) == 354
    assert chosen.min() > 0
    assert set(figures.mapped_identities(identities, seed=1)) != set(chosen)
    np.testing.assert_array_equal(figures.mapped_identities(np.arange(-1, 9), seed=0), range(1, 9))


def test_unknown_protocols_and_partitions_are_refused(pair_dir, on_pairs):
    config = job_of(on_pairs).config
    with pytest.raises(ValueError, match="known: single-query"):
        build.protocol(config, "double-query")
    config = changed(config, dataset="cuhk03", data={"partition": "100-100"})
    with pytest.raises(ValueError, match="its partitions are"):
        job.run(dataclasses.replace(job_of(on_pairs), config=config))


@pytest.mark.slow
def test_dense_flip_sums_unit_vectors_of_all_places_and_the_mirror_image():
    config = build_config("identif_verif_market:test_mode=dense_flip", EXPERIMENTS, scale="small")
    config = parse_overrides(
        config, ["data.image_size=(96,64)", "data.crop_size=(64,32)", "model.width=4"]
    )
    untrained = build.embedder(config)
    single = untrained.model
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 96, 64, 3)).astype(np.uint8)
    variables = tiny.init(single, images.astype(np.float32), train=False)
    seen = dataclasses.replace(untrained.preprocess, mean=np.full(3, 120.0))
    embedder = Embedder(single, variables, seen, untrained.scoring)
    assert embedder.input_size == (96, 64)
    found = embedder(images)
    apply = jax.jit(functools.partial(single.apply, train=False))
    for row, image in enumerate(images):
        total = 0
        for seen in (image, image[:, ::-1]):
            inputs_of = (seen[None].astype(np.float32) - 120) / 64
            last = np.asarray(apply(variables, inputs_of)["res5"])[0]
            for top in range(2):  # The last map is 3 x 2, the window of training 2 x 1.
                for left in range(2):
                    mean = last[top : top + 2, left].mean(0)
                    total = total + mean / np.linalg.norm(mean)
        np.testing.assert_allclose(found[row], total / np.linalg.norm(total), atol=1e-5)
