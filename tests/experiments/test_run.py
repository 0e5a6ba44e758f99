"""Runs from the command line's options to the report, and every wrong input on the way."""

import argparse
import dataclasses
import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import PIL.Image
import pytest
import tiny
from matplotlib.figure import Figure

from data_prep.prepare import prepare
from experiments import again, job, launch, printed, tuning, workdir
from reid_jax import training
from reid_jax.embedder import Embedder

ROOT = Path(__file__).parents[2]
RESULT_KEYS = {
    *("schema", "exp", "method", "objective", "dataset", "data_source", "protocol", "shortlist"),
    *("fingerprint", "scale", "seed", "command", "commit", "versions", "machine"),
    *("steps", "num_devices", "weights", "num_query", "num_gallery", "num_valid_queries"),
    *("trained_on", "partition", "split"),
    *("metrics", "intervals", "paper", "operating", "num_parameters", "reranked", "dtype"),
}


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
    """The work directory of one finished run."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    command = [sys.executable, "experiments/run.py", "--exp=batch_contrastive_market"]
    command += ["--scale=small", f"--data_dir={data_dir}", f"--workdir={directory}"]
    command += [f"--set={override}" for override in tiny.OVERRIDES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return directory, done.stdout


def test_a_run_leaves_all_that_it_promises(finished):
    directory, output = finished
    for name in ("config.json", "metrics.jsonl", "results.json", "report.html", "ranking.npz"):
        assert (directory / name).stat().st_size, name
    assert list((directory / "tensorboard").glob("events*"))
    results = json.loads((directory / "results.json").read_text())
    assert set(results) == RESULT_KEYS
    assert results["data_source"] == "stand-in"
    assert results["protocol"] == "single-query"
    assert results["num_devices"] == 8
    assert results["weights"] is None
    assert results["dtype"] == "float32"  # on a CPU
    assert results["paper"]["rank1"] == 0.8640
    metrics = results["metrics"]
    assert set(metrics) == {
        *("rank1", "rank5", "rank10", "rank20", "map_step", "map_trapezoid", "minp")
    }
    assert all(0 <= value <= 1 for value in metrics.values())
    assert metrics["map_trapezoid"] <= metrics["map_step"]
    # The two validation identities have nine images, by two cameras.
    operating = results["operating"]
    assert (operating["measured_on"], operating["dataset"]) == ("validation", "market1501")
    assert (operating["num_people"], operating["calibration"]) == (2, None)
    assert operating["points"][0]["threshold"] is None
    assert json.loads((directory / "decision.json").read_text()) == operating
    assert Embedder.from_run(directory).decision.as_json() == operating
    assert "measured on 2 validation people of market1501, rendered" in output
    assert "true accept at 10 % false     too few pairs (18 different)" in output
    records = training.logs.read_metrics(directory)
    steps = [record["step"] for record in records if "loss" in record]
    assert steps == [0, 1, 2, 3]
    terms = {"identification_loss", "batch_contrastive_loss", "center_loss", "learning_rate"}
    assert terms < set(records[0])
    assert records[-1]["step"] == 3
    assert "report.html" in output.splitlines()[-1]
    assert f"{100 * metrics['rank1']:.2f}" in output
    page = (directory / "report.html").read_text()
    assert page.count("stand-in") > 3
    assert "autodiff" in page


def test_a_finished_run_is_not_run_again(finished, options, capsys):
    directory, _ = finished
    before = (directory / "results.json").stat().st_mtime_ns
    results = launch.run_experiment(options(workdir=str(directory)))
    assert workdir.to_dict(results) == json.loads((directory / "results.json").read_text())
    assert "finished already" in capsys.readouterr().out
    assert (directory / "results.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_config_is_shown_and_taken_from_a_run(finished, tmp_path, monkeypatch):
    directory, _ = finished
    command = [sys.executable, "experiments/run.py", "--show_config"]
    options = ["--exp=batch_contrastive_market", "--set=loss.margin=0.25"]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (margin,) = (line for line in done.stdout.splitlines() if line.startswith("loss.margin"))
    assert margin.split()[1] == "0.25"
    assert len(margin.split()) > 4, "no meaning"
    # The config of a run, on another seed.
    file = directory / "config.json"
    options = [f"--config={file}", "--set=optimizer.num_steps=3"]
    done = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    shown = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}
    assert (shown["model.width"], shown["optimizer.num_steps"]) == ("4", "3")
    monkeypatch.chdir(tmp_path)
    record = workdir.read_record(directory)
    asked = launch.RunOptions(config=str(file), data_dir=record["data_dir"])
    made = launch.make_job(asked)
    assert made.exp == "batch_contrastive_market"
    assert workdir.read_record(directory)["config"] == launch.job.as_dict(made.config)
    both = dataclasses.replace(asked, exp="softmax_market")
    with pytest.raises(ValueError, match="give either --exp"):
        launch.make_job(both)


def test_another_run_in_the_work_directory_is_refused(finished, options):
    directory, _ = finished
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    with pytest.raises(ValueError, match="belongs to another run") as error:
        launch.run_experiment(
            options(exp="softmax_market", workdir=str(directory), overrides=["data.flip=false"])
        )
    assert "exp: batch_contrastive_market there, softmax_market here" in str(error.value)
    assert "config.data.flip: True there, False here" in str(error.value)
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


def test_a_finished_run_on_other_images_is_not_taken_for_this_one(
    finished, options, raw_dir, tmp_path
):
    """The same data set prepared elsewhere, with a person more in training."""
    directory, _ = finished
    elsewhere = str(tmp_path / "elsewhere")
    prepare("market1501", raw_dir, elsewhere, num_val_identities=1, progress=False)
    with pytest.raises(ValueError, match="belongs to another run") as error:
        launch.run_experiment(options(workdir=str(directory), data_dir=elsewhere))
    assert "images of train, val_gallery, val_query: those of" in str(error.value)
    assert f"and others here, in {elsewhere}" in str(error.value)


@pytest.mark.slow
def test_a_wrong_value_does_not_claim_the_work_directory(options, capsys):
    wrong = options(overrides=["model.weights=missing.safetensors"])
    assert launch.exit_status(lambda: launch.run_experiment(wrong)) == 1
    assert launch.exit_status(lambda: launch.run_experiment(options())) == 0, (
        capsys.readouterr().err
    )


def test_a_missing_report_is_written_again(finished, options):
    directory, _ = finished
    (directory / "report.html").unlink()
    launch.run_experiment(options(workdir=str(directory)))
    assert (directory / "report.html").stat().st_size > 10_000


def test_a_report_takes_up_later_evaluations(finished, options):
    directory, _ = finished
    results = workdir.read_results(directory)
    later = directory / "evaluation-later.json"
    workdir.write_results(later, dataclasses.replace(results, protocol="multi-query-maximum"))
    launch.run_experiment(options(workdir=str(directory)))
    later.unlink()
    page = (directory / "report.html").read_text()
    assert "multi-query-maximum, market1501</th>" in page
    trained = jax.tree.leaves(Embedder.from_run(directory).variables["params"])
    assert results.reranked.keys() == results.metrics.keys()
    assert "this run, re-ranked</th>" in page
    assert results.num_parameters == sum(values.size for values in trained)


def test_a_single_run_and_repeats_leave_each_other_alone(finished, options, tmp_path, monkeypatch):
    directory, _ = finished
    seen = []

    def done(job):
        seen.append(job.workdir)
        return dataclasses.replace(workdir.read_results(directory), seed=job.seed)

    monkeypatch.setattr(job, "run", done)
    monkeypatch.setattr("reid_jax.report.write_summary_page", lambda *args, **kwargs: None)
    monkeypatch.setattr(workdir, "read_run", lambda directory: None)
    before = (directory / "results.json").read_text()
    launch.run_experiment(options(workdir=str(directory), repeats=2))
    assert seen == [directory / "repeats" / "seed_0", directory / "repeats" / "seed_1"]
    assert (directory / "results.json").read_text() == before
    launch.run_experiment(options(workdir=str(tmp_path / "r"), repeats=2))
    launch.run_experiment(options(workdir=str(tmp_path / "r"), seed=1))
    assert seen[-1] == tmp_path / "r" / "seed_1"


@pytest.mark.slow  # test_evaluations.py evaluates in this process
def test_evaluate_by_another_protocol(finished, capsys):
    directory, _ = finished
    command = [sys.executable, "experiments/evaluate.py", f"--workdir={directory}"]
    command.append("--protocol=multi-query-average")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    file = directory / "evaluation-market1501-multi-query-average.json"
    results = json.loads(file.read_text())
    assert results["protocol"] == "multi-query-average"
    assert results["trained_on"] == "market1501"
    assert "[stand-in" in done.stdout
    found, path = again.evaluation_of(directory, protocol="single-query")
    assert path == directory / "evaluation-market1501-single-query.json"
    assert found == workdir.read_results(path)
    assert found.metrics == json.loads((directory / "results.json").read_text())["metrics"]
    other, path = again.evaluation_of(directory, overrides=["evaluation.normalise=false"])
    assert path.name == "evaluation-market1501-single-query-normalise-false.json"
    assert other.fingerprint == found.fingerprint


def test_an_evaluation_that_cannot_be_is_refused(finished):
    directory, _ = finished
    with pytest.raises(ValueError, match="compares embeddings, which takes no shortlist"):
        again.evaluation_of(directory, overrides=["evaluation.shortlist=5"])
    with pytest.raises(ValueError, match="known: single-query"):
        again.evaluation_of(directory, protocol="double-query")
    with pytest.raises(ValueError, match="--split=3: market1501 is evaluated without a partition"):
        again.evaluation_of(directory, split=3)
    with pytest.raises(ValueError, match="section evaluation alone"):
        again.evaluation_of(directory, overrides=["data.flip=false"])
    with pytest.raises(FileNotFoundError, match=r"no config.json"):
        again.evaluation_of("nowhere")


def as_table(options, **changed):
    """Options of tables.py."""
    values = {"table": None, "figure": None, "rows": "", "results_dir": "results"}
    return argparse.Namespace(**vars(options), **{**values, **changed})


def place_of(options, **changed):
    """Where a run goes without --workdir."""
    asked = options(workdir=None, **changed)
    return launch.default_workdir(asked.exp, "market1501", asked)


@pytest.mark.slow
def test_repeats_and_tables(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = as_table(options(workdir=None, repeats=2), results_dir=str(tmp_path / "results"))
    table.table, softmax = "batch_contrastive/1", Path(place_of(options, exp="softmax_market"))
    printed.make(table)
    shown = capsys.readouterr().out
    assert "TriNet" in shown
    assert "±" in shown
    summary = json.loads((softmax / "results.json").read_text())
    assert summary["num_runs"] == 2
    runs = [json.loads((softmax / f"seed_{n}/results.json").read_text()) for n in (0, 1)]
    ranks = [r["metrics"]["map_step"] for r in runs]
    assert summary["metrics"]["map_step"] == pytest.approx(np.mean(ranks))
    assert summary["metrics_std"]["map_step"] == pytest.approx(np.std(ranks, ddof=1))
    assert (softmax / "report.html").exists()
    assert "Ours minus Baseline, paired over 2 runs, mean ± standard deviation" in shown
    assert "(standard error of the mean): rank1" in shown
    assert "single-query, market1501" in shown
    (page,) = (tmp_path / "results").glob("batch_contrastive_table_1-*-small-stand-in.md")
    assert "--repeats=2" in page.read_text()
    assert page.name.startswith("batch_contrastive_table_1-data.image_size-32-32")
    # The baseline's printed 83.34, and not beside a number that is re-ranked.
    ours = "(softmax_market; resnet18"
    assert any(ours in line and "83.34" in line for line in page.read_text().splitlines())
    expanded = as_table(options(workdir=None, overrides=("evaluation.expand=1",)), rows="Baseline")
    expanded.table = "batch_contrastive/1"
    printed.make(expanded)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if ours in line)
    assert "83.34" not in line
    table.table, table.figure = None, "batch_contrastive/1"
    printed.make(table)
    (picture,) = (tmp_path / "results").glob("batch_contrastive_figure_1-*.png")
    assert picture.stat().st_size > 10_000
    text = PIL.Image.open(picture).text["Made by"]
    assert "experiments/tables.py --figure=batch_contrastive/1 --scale=small" in text
    assert "experiments/run.py --exp=softmax_market --scale=small" in text
    assert "At commit" in text
    # One run where there are repeats is read from where it was put.
    drawn = {}
    monkeypatch.setattr(
        "reid_jax.visual.distance_scatter",
        lambda panels, **kwargs: drawn.update(panels) or Figure(),
    )
    table.repeats = 1
    printed.make(table)
    assert [len(curves[0]) > 0 for curves in drawn.values()] == [True, True]


@pytest.mark.slow
def test_tune_chooses_on_validation_identities(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = argparse.Namespace(**vars(options(workdir="chosen")), key="margin", values="0.5,1.0")
    scores = tuning.tune(asked)
    assert set(scores) == {"0.5", "1.0"}
    best = max(scores, key=scores.get)
    assert f"best: margin={best}" in capsys.readouterr().out
    written = json.loads((tmp_path / "chosen/batch_contrastive_market-margin.json").read_text())
    assert (written["key"], written["validation_map_step"]) == ("margin", scores)
    assert written["command"].startswith(
        "python experiments/tune.py --exp=batch_contrastive_market"
    )
    assert "--key=margin --values=0.5,1.0" in written["command"]
    assert "--workdir=chosen" in written["command"]
    assert not list(tmp_path.rglob("results.json")), "the test images were looked at"
    place = tmp_path / "chosen" / "batch_contrastive_market-margin-0.5" / "seed_0"
    assert (place / "checkpoints").is_dir()
    asked.splits = "1"
    with pytest.raises(ValueError, match="has one split, 0"):
        tuning.tune(asked)


@pytest.mark.slow
def test_a_run_killed_by_the_system_goes_on_to_the_same_result(finished, data_dir, tmp_path):
    command = [sys.executable, "experiments/run.py", "--exp=batch_contrastive_market"]
    command += ["--scale=small", f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}"]
    command += [f"--set={override}" for override in tiny.OVERRIDES]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (tmp_path / "run/checkpoints/last/2").exists():
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not (tmp_path / "run" / "results.json").exists()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    own = json.loads((finished[0] / "results.json").read_text())
    assert results["metrics"] == own["metrics"]
    assert {**results, "command": ""} == {**own, "command": ""}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"exp": "batch_contrastive_markt"}, "did you mean 'batch_contrastive_market'"),
        ({"data_dir": "/nowhere"}, "prepare.py market1501"),
        ({"dataset": "viper"}, "prepare.py viper"),
        ({"splits": "3"}, "one split"),
        ({"repeats": 0}, "at least 1"),
        ({"seed": -1}, "0 or more"),
        ({"overrides": ["model.name=resnet19"]}, "resnet18"),
        ({"overrides": ["model.weights=missing.safetensors"]}, "missing.safetensors"),
        ({"overrides": ["sampler.name=random"]}, "uniform"),
        ({"overrides": ["evaluation.protocol=none"]}, "known: single-query"),
        ({"overrides": ["evaluation.test_mode=denseflip"]}, "known: single, dense_flip"),
        ({"exp": "batch_contrastive_market:"}, "nothing after its colon"),
        ({"overrides": ["loss.gradient=eq3"]}, "autodiff"),
        ({"overrides": ["data.image_size=(16,16)"]}, "32"),
    ],
)
def test_wrong_input_is_one_message_and_exit_status_one(options, changed, message, capsys):
    status = launch.exit_status(lambda: launch.run_experiment(options(**changed)))
    error = capsys.readouterr().err
    assert status == 1
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error


def test_a_training_set_of_one_identity_is_refused(options, monkeypatch):
    # prepare.py refuses one too; this is for data sets prepared by other means.
    monkeypatch.setattr(
        "reid_jax.data.identity_labels", lambda identities: (identities * 0, np.array([7]))
    )
    with pytest.raises(ValueError, match="nothing to tell apart"):
        launch.run_experiment(options())


def test_a_full_disk_is_said_and_leaves_what_was_there(options, monkeypatch, capsys, tmp_path):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("reid_jax.training.trainer.train", full)
    status = launch.exit_status(lambda: launch.run_experiment(options()))
    assert status == 1
    assert "the disk is full" in capsys.readouterr().err
    assert (tmp_path / "run" / "config.json").exists()


def test_another_error_is_not_hidden(options, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("a defect")

    monkeypatch.setattr("reid_jax.training.trainer.train", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        launch.exit_status(lambda: launch.run_experiment(options()))


@pytest.mark.parametrize(
    ("data_dir", "backend", "scale"),
    [(None, "cpu", "small"), ("d", "cpu", "small"), (None, "tpu", "small"), ("d", "gpu", "paper")],
)
def test_scale_auto(monkeypatch, data_dir, backend, scale):
    monkeypatch.setattr("jax.default_backend", lambda: backend)
    assert launch.chosen_scale("auto", data_dir)[0] == scale
    assert launch.chosen_scale("paper", data_dir)[0] == "paper"
