"""Runs of csn: trained on pairs, scored pair by pair, looked at level by level."""

import argparse
import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import untrained
from etils import epath

from data_prep import stand_in
from data_prep.prepare import prepare
from experiments import again, build, figures, launch, printed, provenance, sources, workdir
from experiments.config import changed
from experiments.papers import EXPERIMENTS, build_config, slug
from reid_jax import data, evaluation, ops
from reid_jax.embedder import Embedder
from reid_jax.protocols import PROTOCOLS
from reid_jax.training import create_state
from reid_jax.training.logs import read_metrics

# The smallest images of which a central crop can be taken at level 2.
SMALLER = (
    *("data.image_size=(80,40)", "data.flip_or_shift=(2,1)", "model.width=3"),
    # A batch that one device holds alone: a program for eight takes longer to compile.
    *("sampler.batch_size=11", "evaluation.num_repeats=1", "evaluation.pairs_per_block=4"),
)


@pytest.fixture(scope="module")
def viper_dir(tmp_path_factory):
    """A VIPeR tree of eight identities, prepared."""
    raw = tmp_path_factory.mktemp("raw_viper")
    tree = stand_in.write_viper(raw, num_identities=8, num_workers=1, progress=False)
    data_dir = tmp_path_factory.mktemp("prepared_viper")
    prepare("viper", tree, data_dir, progress=False)
    return data_dir


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    return tmp_path_factory.mktemp("places")


@pytest.fixture
def on_viper(options, viper_dir, places, monkeypatch):
    """Options of a tiny run in the module's places."""
    monkeypatch.chdir(places)

    def make(exp, *overrides, **changed):
        changed = {"workdir": f"runs/{slug(exp)}", "data_dir": str(viper_dir), **changed}
        return options(exp=exp, overrides=[*SMALLER, *overrides], **changed)

    return make


@pytest.fixture
def finished(on_viper):
    """Options of a run of (L2, L3) that takes no step, done once, with their results."""
    asked = on_viper("csn_viper", "train.validate_every=0")
    with untrained.runs(create_state):
        return asked, launch.run_experiment(asked)


def test_pairs_are_scored(finished):
    _, results = finished
    assert results.protocol == "single-shot-one-direction"
    assert (results.num_query, results.num_gallery) == (4, 4)
    assert results.paper == {"rank1": 0.4803, "rank5": 0.7290, "rank10": 0.8215}
    with np.load("runs/csn_viper/ranking.npz") as arrays:
        assert str(arrays["distance"]) == "minus the similarity score"
    assert "similarity score" in Path("runs/csn_viper/report.html").read_text()


@pytest.mark.slow  # test_csn_training.py has a step of the network, and its terms
def test_pairs_are_trained(on_viper):
    launch.run_experiment(on_viper("csn_viper", "train.validate_every=0", workdir="runs/trained"))
    records = [r for r in read_metrics("runs/trained") if "loss" in r]
    record = records[0]
    assert record["loss"] == pytest.approx(
        record["verification_loss"] + record["contrastive_loss"] + 0.1 * record["stn_prior"],
        rel=1e-5,
    )


def test_scores_of_the_protocol_are_those_of_the_whole_network(finished, viper_dir):
    embedder = Embedder.from_run("runs/csn_viper")
    config = launch.make_job(finished[0]).config
    subsets = sources.subsets(viper_dir, config, PROTOCOLS["single-query"], split=0)
    query, gallery = subsets["query"], subsets["gallery"]
    both = data.join([query, gallery], "both")
    rows = np.arange(len(both))
    found = embedder.distances(query, gallery)
    model = embedder.model
    std = config.data.from_scratch_std
    images = np.stack([both.image(row, (80, 40)) for row in rows]).astype(np.float32)
    images = (images - embedder.preprocess.mean.astype(np.float32)) / std
    a, b = np.divmod(np.arange(len(query) * len(gallery)), len(gallery))
    taps = jax.jit(lambda v, x, y: model.apply(v, x, y, train=False))(
        embedder.variables, images[a], images[b + len(query)]
    )
    probability = jax.nn.softmax(taps["pair_logits"])[:, 1]
    far = np.linalg.norm(taps["descriptor_a"] - taps["descriptor_b"], axis=1)
    expected = -(probability + 0.2 / (far + 1e-4)).reshape(found.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

    # The same through the protocol of query and gallery.
    evaluated, _ = again.evaluation_of(epath.Path("runs/csn_viper"), protocol="single-query")
    direct = evaluation.single_query_of_distances(expected, query, gallery)
    assert evaluated.fingerprint == direct.fingerprint
    assert evaluated.metrics == evaluation.metrics(direct.result)
    # Images of the one camera ask, then those of the other.
    swapped = PROTOCOLS["single-query-swapped"]
    asking, answering = swapped.shown(subsets)
    assert (asking.files, answering.files) == (gallery.files, query.files)
    other = swapped.evaluate(embedder, subsets)
    assert other.protocol == "single-query-swapped"
    assert other.fingerprint != direct.fingerprint
    with pytest.raises(ValueError, match="scores pairs of images and has no embedding"):
        embedder(query)


@pytest.mark.slow
def test_a_shortlist_is_in_the_name_where_it_is_one(finished):
    directory = epath.Path("runs/csn_viper")
    name = "single-shot-one-direction"
    for shortlist, ending in {2: ", shortlist-2", 4: "", 0: ""}.items():
        overrides = [f"evaluation.shortlist={shortlist}"]
        found, path = again.evaluation_of(directory, overrides=overrides)
        assert found.protocol == "single-shot-one-direction" + ending
        differing = f"-shortlist-{shortlist}" if shortlist else ""
        assert path.name == f"evaluation-viper-316-316-split_0-{name}{differing}.json"
    assert found.metrics == workdir.read_results(directory).metrics
    two = ["evaluation.shortlist=2"]
    with pytest.raises(ValueError, match="expected a value of type int, at least 0"):
        again.evaluation_of(directory, overrides=["evaluation.shortlist=-1"])
    with pytest.raises(ValueError, match="is taken from one gallery"):
        again.evaluation_of(directory, overrides=two, protocol="single-shot-per-query")
    with pytest.raises(ValueError, match="rerank needs an embedding of each image, and CSN scores"):
        again.evaluation_of(directory, overrides=["evaluation.rerank=true"])
    with pytest.raises(ValueError, match="test_mode=flip is of embeddings, and CSN scores pairs"):
        again.evaluation_of(directory, overrides=["evaluation.test_mode=flip"])
    np.savez("given.npz", features=np.ones((2, 3), np.float32), files=["a", "b"])
    with pytest.raises(ValueError, match="the run's network, csn, scores pairs of images"):
        again.evaluation_of(directory, features="given.npz")


@pytest.mark.parametrize(
    ("row", "overrides", "message"),
    [
        (
            "",
            ("evaluation.shortlist=2", "evaluation.num_repeats=2"),
            "with 2 repeats draws several",
        ),
        (":row=cls", ("evaluation.shortlist=2",), "chosen by descriptors"),
        ("", ("evaluation.protocol=multi-query-average",), "scores pairs of images: take single-q"),
        ("", ("evaluation.protocol=oxford5k",), "scores pairs of images: take single-query"),
        (":row=cls", ("evaluation.distance_weight=0.2",), "distance_weight=0.2 needs descriptors"),
        ("", ("model.levels=l5",), "levels='l5'; known: l2, l3"),
        ("", ("data.image_size=(12,8)",), "the smallest size that works is 17 x 9"),
        ("", ("optimizer.num_steps=0",), "give a number of steps"),
    ],
)
def test_what_cannot_be_evaluated_is_not_trained(on_viper, monkeypatch, row, overrides, message):
    monkeypatch.setattr("reid_jax.training.trainer.train", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(ValueError, match=message):
        launch.run_experiment(on_viper(f"csn_viper{row}", *overrides, workdir="refused"))


@pytest.mark.slow
def test_similarity_maps_are_those_of_the_query_with_parts_of_the_test_image(
    finished, viper_dir, monkeypatch
):
    asked, _ = finished
    runs = {"(L2, L3)": launch.planned_runs(launch.make_job(asked), asked)[""]}
    drawn, draw = [], figures.visual.similarity_maps
    monkeypatch.setattr(
        figures.visual, "similarity_maps", lambda *a, **k: drawn.append((a, k)) or draw(*a, **k)
    )
    figures.FIGURES["similarity_maps"](runs, "").canvas.draw()
    ((queries, tests, levels), given) = drawn[0]
    assert given["headings"][0].startswith("same person, score ")
    assert given["headings"][1].startswith("another person, score ")
    # One query, its match and the wrong image that is nearest.
    np.testing.assert_array_equal(queries[0], queries[1])
    embedder = Embedder.from_run("runs/csn_viper")
    model = embedder.model
    mean, std = (
        embedder.preprocess.mean.astype(np.float32),
        runs["(L2, L3)"].config.data.from_scratch_std,
    )
    taps = jax.jit(lambda v, x, y: model.apply(v, x, y, train=False))(
        embedder.variables,
        *((images.astype(np.float32) - mean) / std for images in (queries, tests)),
    )
    for level in (2, 3):
        shown = levels[f"CSN-{level}"]
        np.testing.assert_array_equal(shown.theta, taps[f"theta{level}_b"][:, :2])
        for part in range(2):
            maps = ops.depthwise_cross_correlation(
                taps[f"x{level}_a"], taps[f"part{level}_b"][:, part], method="grouped_conv"
            )
            np.testing.assert_allclose(
                shown.maps[:, part], maps.sum(-1), rtol=1e-4, atol=1e-4 * np.abs(maps).max()
            )
    scores = [float(heading.rpartition(" ")[2]) for heading in given["headings"]]
    probability = jax.nn.softmax(taps["pair_logits"])[:, 1]
    far = np.linalg.norm(taps["descriptor_a"] - taps["descriptor_b"], axis=1)
    np.testing.assert_allclose(scores, probability + 0.2 / (far + 1e-4), atol=0.006, rtol=1e-3)


def test_a_figure_without_transformers_is_refused(finished, monkeypatch):
    asked, _ = finished
    runs = {"C2": launch.planned_runs(launch.make_job(asked), asked)[""]}
    embedder = Embedder.from_run("runs/csn_viper")
    other = dataclasses.replace(embedder, model=embedder.model.clone(attention="center_crop"))
    monkeypatch.setattr(Embedder, "from_run", lambda workdir: other)
    with pytest.raises(ValueError, match="has attention=center_crop"):
        figures.FIGURES["similarity_maps"](runs, "")


@pytest.mark.slow
def test_rows_without_ranking_net_or_transformer(on_viper):
    launch.run_experiment(on_viper("csn_viper:row=cls", "train.validate_every=0"))
    record = json.loads(Path("runs/csn_viper-row-cls/config.json").read_text())["config"]
    assert not record["model"]["ranking"]
    assert (record["loss"]["ranking_weight"], record["evaluation"]["distance_weight"]) == (0, 0)
    # The largest network, without a localisation net.
    launch.run_experiment(on_viper("csn_viper:row=c2", "train.validate_every=0"))
    crops = json.loads(Path("runs/csn_viper-row-c2/config.json").read_text())["config"]
    assert (crops["model"]["levels"], crops["model"]["attention"]) == ("l2l3l4", "center_crop")
    assert crops["loss"]["prior_weight"] == 0


def test_an_epoch_has_as_many_positive_pairs_as_there_are():
    identities, cameras = np.repeat(np.arange(10), 4), np.tile([1, 1, 1, 2], 10)
    config = build_config("csn_cuhk03", EXPERIMENTS, scale="paper")
    sampler = data.PairSampler(
        identities,
        cameras,
        num_pairs=256,
        negatives_per_positive=2.0,
        cross_camera=True,
        seed=0,
    )
    assert sampler.num_positive_pairs == 10 * 3 * 1
    # Four copies of an image, two negatives for a positive, five epochs. Of CUHK03's 1,160 people
    # with 4.8 images in each camera that makes 25,000 steps.
    assert build.length(config, sampler).num_steps == -(-5 * 30 * 16 * 3 // 256)
    config = changed(config, data={"num_shifted": 5})
    assert build.length(config, sampler).num_steps == -(-5 * 30 * 49 * 3 // 256)
    config = changed(config, data={"flip_or_shift": ()})
    assert build.length(config, sampler).num_steps == -(-5 * 30 * 3 // 256)
    images = data.UniformSampler(40, batch_size=8, seed=0)
    with pytest.raises(ValueError, match="it takes pair"):
        build.length(config, images)
    with pytest.raises(ValueError, match="known: images, positive_pairs"):
        changed(config, optimizer={"epoch": "pairs"})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("row=l5", "row='l5'; known: cls, l2, l3, l4, l2l3, l2l3l4, l2l3l4_table5, c1"),
        ("levels=l2", "no key 'levels'"),
    ],
)
def test_wrong_rows_say_what_is_known(on_viper, row, message):
    with pytest.raises(ValueError, match=message):
        launch.run_experiment(on_viper(f"csn_viper:{row}"))


def test_table_of_complexity_needs_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = argparse.Namespace(table="csn/5", figure=None, results_dir="results")
    monkeypatch.setattr("experiments.complexity.markdown", lambda table: table.title)
    printed.make(asked)
    text = Path("results/csn_table_5.md").read_text()
    assert text.startswith("Table 5: model size and complexity\n")
    assert "Made by: python experiments/tables.py --table=csn/5" in text
    assert f"At commit {provenance.commit()}, jax {jax.__version__}" in text
