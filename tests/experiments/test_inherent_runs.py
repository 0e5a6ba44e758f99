"""Runs of inherent: mean codes exact and from the bank, and the triplet rows."""

import json
from pathlib import Path

import numpy as np
import pytest
from etils import epath

from data_prep import stand_in
from data_prep.prepare import prepare
from experiments import again, build, figures, launch
from experiments.config import changed
from experiments.papers import EXPERIMENTS, build_config, slug
from reid_jax import data
from reid_jax.training.logs import read_metrics

SET3 = {"rank1": 0.715, "rank5": 0.908, "rank10": 0.956, "rank20": 0.989, "map_step": 0.568}
SMALLER = ("data.image_size=(36,36)", "data.crop_size=(32,32)")


@pytest.fixture(scope="module")
def pku_dir(tmp_path_factory):
    """A PKU-ReID tree of six identities, prepared."""
    raw = tmp_path_factory.mktemp("raw_pku")
    tree = stand_in.write_pku_reid(raw, num_identities=6, num_workers=1, progress=False)
    data_dir = tmp_path_factory.mktemp("prepared_pku")
    prepare("pku_reid", tree, data_dir, progress=False)
    return data_dir


@pytest.fixture
def on_pku(options, pku_dir, tmp_path, monkeypatch):
    """Options of a tiny run."""
    monkeypatch.chdir(tmp_path)

    def make(exp, **changed):
        overrides = [*SMALLER, "train.validate_every=1", *changed.pop("overrides", ())]
        changed = {"workdir": f"runs/{slug(exp)}", "data_dir": str(pku_dir), **changed}
        return options(exp=exp, overrides=overrides, **changed)

    return make


@pytest.mark.parametrize("means", ["exact", "bank"])
@pytest.mark.slow
def test_set3_logs_what_has_no_minimum(on_pku, means):
    results = launch.run_experiment(on_pku(f"inherent_pku:means={means}"))
    assert results.protocol == "single-query"
    assert (results.partition, results.split) == ("57-57", 0)
    assert results.num_query == results.num_gallery == 3 * 8
    # At the small scale the row has its means from the bank.
    assert results.paper == (None if means == "exact" else SET3)
    records = [r for r in read_metrics(f"runs/inherent_pku-means-{means}") if "loss" in r]
    assert {"scatter_loss", "compact_loss", "code_norm", "code_gap"} < set(records[0])
    swapped, _ = again.evaluation_of(
        epath.Path(f"runs/inherent_pku-means-{means}"), protocol="single-query-swapped"
    )
    assert swapped.protocol == "single-query-swapped"
    assert swapped.fingerprint != results.fingerprint
    asked = on_pku(f"inherent_pku:means={means}")
    runs = {"set3": launch.planned_runs(launch.make_job(asked), asked)[""]}
    drawn = figures.FIGURES["easy_to_hard"](runs, "")
    drawn.canvas.draw()
    texts = {text.get_text() for text in drawn.axes[0].texts}
    assert {"easy", "medium", "hard"} <= texts
    # The codes of the mean pass and of the training pass differ: other batch norm, other crop.
    assert all(r["code_gap"] > 0 for r in records)


@pytest.mark.slow
def test_triplets_come_by_identity(on_pku):
    asked = on_pku("inherent_pku:row=resnet18_htri", overrides=("sampler.batch_size=8",))
    results = launch.run_experiment(asked)
    assert (results.method, results.objective) == ("inherent", "triplet")
    record = json.loads(Path("runs/inherent_pku-row-resnet18_htri/config.json").read_text())
    assert record["config"]["model"]["identification"] is False
    # What the experiment says of itself is in the report, beside what the library says.
    page = Path("runs/inherent_pku-row-resnet18_htri/report.html").read_text()
    assert "P and K are not given" in page
    assert "small scale: half of ResNet-18" in page
    with pytest.raises(ValueError, match="is not a multiple of"):
        launch.run_experiment(
            on_pku(
                "inherent_pku:row=resnet18_htri", workdir="w", overrides=["sampler.batch_size=6"]
            )
        )


def test_the_learning_rate_may_decay_from_the_middle_on():
    exp = "inherent_pku:lr_schedule=exponential"
    for scale, (middle, end) in {"paper": (150 * 28.5, 300 * 28.5), "small": (500, 1000)}.items():
        config = build_config(exp, EXPERIMENTS, scale=scale)
        sampler = data.UniformSampler(912, batch_size=32, seed=0)
        length = build.length(config, sampler)
        assert (length.num_steps, length.boundaries) == (end, (middle,))
        rate = config.optimizer.learning_rate
        found = build.schedule(config, length)(np.array([0, middle, end]))
        np.testing.assert_allclose(found, [rate, rate, rate / 1000], rtol=1e-5)
    with pytest.raises(ValueError, match="begins at one boundary"):
        build.schedule(config, build.Length(1000, ()))
    with pytest.raises(ValueError, match=r"decay='linear'.*; known: cosine, exponential, steps"):
        changed(config, optimizer={"decay": "linear"})
    with pytest.raises(ValueError, match="lr_schedule='exp'; known: constant, exponential"):
        build_config("inherent_pku:lr_schedule=exp", EXPERIMENTS, scale="small")


def test_all_rows_are_trained_on_equally_many_images():
    """ "Both models are trained by 300 epochs": 912 images, 300 times, whatever the batches."""
    labels, cameras = np.repeat(np.arange(57), 16), np.tile(np.repeat([1, 2], 8), 57)
    for row in ("set1", "set2", "set3", "resnet18_htri", "resnet50_htri"):
        config = build_config(f"inherent_pku:row={row}", EXPERIMENTS, scale="paper")
        sampler = build.sampler(config, labels, cameras, 0)
        steps = build.length(config, sampler).num_steps
        assert (row, steps * sampler.batch_size) == (row, 300 * 912)


@pytest.mark.parametrize("decayed", ["kernels", "all"])
@pytest.mark.parametrize("exp", ["inherent_pku", "batch_contrastive_market"])
def test_weight_decay_is_of_kernels_or_of_all(exp, decayed):
    config = build_config(exp, EXPERIMENTS, scale="small")
    assert config.optimizer.weight_decay_of == {"inherent_pku": "kernels"}.get(exp, "all")
    config = changed(config, optimizer={"weight_decay_of": decayed})
    params = {"kernel": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}
    optimizer = build.optimizer(config, lambda step: 0.1)
    gradients = {name: np.zeros_like(leaf) for name, leaf in params.items()}
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    assert (np.asarray(updates["kernel"]) < 0).all()
    assert (np.asarray(updates["bias"]) < 0).all() == (decayed == "all")


def test_wrong_rows_say_what_is_known(on_pku):
    with pytest.raises(ValueError, match="row='set4'; known: set1, set2, set3"):
        launch.run_experiment(on_pku("inherent_pku:row=set4"))
    with pytest.raises(ValueError, match=r"means='median'; known: .*exact, bank, batch, ema"):
        launch.run_experiment(on_pku("inherent_pku:means=median"))
