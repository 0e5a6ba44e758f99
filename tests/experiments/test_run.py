"""Runs from the command line's options to the report, and every wrong input on the way."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny
from matplotlib.figure import Figure

from experiments import evaluate, job, run, search, tables
from reid_jax import training

ROOT = Path(__file__).parents[2]
RESULT_KEYS = {
    *("exp", "method", "dataset", "data_source", "protocol", "fingerprint", "scale", "seed"),
    *("steps", "num_devices", "weights", "num_query", "num_gallery", "num_valid_queries"),
    *("trained_on", "partition", "split"),
    *("metrics", "paper"),
}


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):
    """The work directory of one finished run."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    command = [sys.executable, "experiments/run.py", "--exp=batch_contrastive_market"]
    command += ["--scale=small", f"--data_dir={data_dir}", f"--workdir={workdir}"]
    command += [f"--set={override}" for override in tiny.OVERRIDES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


def test_a_run_leaves_all_that_it_promises(finished):
    workdir, output = finished
    for name in ("config.json", "metrics.jsonl", "results.json", "report.html", "ranking.npz"):
        assert (workdir / name).stat().st_size, name
    assert list((workdir / "tensorboard").glob("events*"))
    results = json.loads((workdir / "results.json").read_text())
    assert set(results) == RESULT_KEYS
    assert results["data_source"] == "stand-in"
    assert results["protocol"] == "single-query"
    assert results["num_devices"] == 8
    assert results["weights"] is None
    assert results["paper"]["rank1"] == 0.8640
    metrics = results["metrics"]
    assert set(metrics) == {
        *("rank1", "rank5", "rank10", "rank20", "map_step", "map_trapezoid", "minp")
    }
    assert all(0 <= value <= 1 for value in metrics.values())
    assert metrics["map_trapezoid"] <= metrics["map_step"]
    records = training.logs.read_metrics(workdir)
    steps = [record["step"] for record in records if "loss" in record]
    assert steps == [0, 1, 2, 3]
    terms = {"identification_loss", "batch_contrastive_loss", "center_loss", "learning_rate"}
    assert terms < set(records[0])
    assert records[-1]["step"] == 3
    assert "report.html" in output.splitlines()[-1]
    assert f"{100 * metrics['rank1']:.2f}" in output
    page = (workdir / "report.html").read_text()
    assert page.count("stand-in") > 3
    assert "autodiff" in page


def test_a_finished_run_is_not_run_again(finished, options, capsys):
    workdir, _ = finished
    before = (workdir / "results.json").stat().st_mtime_ns
    results = run.run_experiment(options(workdir=str(workdir)))
    assert results == json.loads((workdir / "results.json").read_text())
    assert "finished already" in capsys.readouterr().out
    assert (workdir / "results.json").stat().st_mtime_ns == before


def test_another_run_in_the_work_directory_is_refused(finished, options):
    workdir, _ = finished
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    with pytest.raises(ValueError, match="belongs to another run") as error:
        run.run_experiment(
            options(exp="softmax_market", workdir=str(workdir), overrides=["data.flip=false"])
        )
    assert "exp: batch_contrastive_market there, softmax_market here" in str(error.value)
    assert "config.data.flip: True there, False here" in str(error.value)
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_a_wrong_value_does_not_claim_the_work_directory(options, capsys):
    wrong = options(overrides=["model.weights=missing.safetensors"])
    assert run.exit_status(lambda: run.run_experiment(wrong)) == 1
    assert run.exit_status(lambda: run.run_experiment(options())) == 0, capsys.readouterr().err


def test_a_missing_report_is_written_again(finished, options):
    workdir, _ = finished
    (workdir / "report.html").unlink()
    run.run_experiment(options(workdir=str(workdir)))
    assert (workdir / "report.html").stat().st_size > 10_000


def test_a_single_run_and_repeats_leave_each_other_alone(finished, options, tmp_path, monkeypatch):
    workdir, _ = finished
    seen = []

    def done(job):
        seen.append(job.workdir)
        return json.loads((workdir / "results.json").read_text()) | {"seed": job.seed}

    monkeypatch.setattr(job, "run", done)
    monkeypatch.setattr("reid_jax.report.write_summary_page", lambda *args, **kwargs: None)
    before = (workdir / "results.json").read_text()
    run.run_experiment(options(workdir=str(workdir), repeats=2))
    assert seen == [workdir / "repeats" / "seed_0", workdir / "repeats" / "seed_1"]
    assert (workdir / "results.json").read_text() == before
    run.run_experiment(options(workdir=str(tmp_path / "r"), repeats=2))
    run.run_experiment(options(workdir=str(tmp_path / "r"), seed=1))
    assert seen[-1] == tmp_path / "r" / "seed_1"


def test_evaluate_by_another_protocol(finished, capsys):
    import argparse

    workdir, _ = finished
    options = argparse.Namespace(
        workdir=str(workdir),
        dataset=None,
        protocol="multi-query-average",
        data_dir=None,
        partition=None,
        split=None,
        shortlist=None,
    )
    evaluate.evaluate_again(options)
    results = json.loads((workdir / "evaluation,market1501,multi-query-average.json").read_text())
    assert results["protocol"] == "multi-query-average"
    assert results["trained_on"] == "market1501"
    assert "[stand-in" in capsys.readouterr().out
    options.protocol = "single-query"
    evaluate.evaluate_again(options)
    again = json.loads((workdir / "evaluation,market1501,single-query.json").read_text())
    assert again["metrics"] == json.loads((workdir / "results.json").read_text())["metrics"]
    options.shortlist = 5
    with pytest.raises(ValueError, match="compares embeddings, which takes no shortlist"):
        evaluate.evaluate_again(options)
    options.protocol, options.shortlist = "double-query", None
    with pytest.raises(ValueError, match="known: single-query"):
        evaluate.evaluate_again(options)
    with pytest.raises(FileNotFoundError, match=r"no config.json"):
        evaluate.evaluate_again(argparse.Namespace(**{**vars(options), "workdir": "nowhere"}))


def test_repeats_and_tables(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table = options(workdir=None, repeats=2)
    table.table, table.figure = "batch_contrastive/1", None
    table.results_dir, table.rows = str(tmp_path / "results"), ""
    tables.make(table)
    printed = capsys.readouterr().out
    assert "TriNet" in printed
    assert "±" in printed
    summary = json.loads(Path("runs/softmax_market/results.json").read_text())
    assert summary["num_runs"] == 2
    runs = [
        json.loads(Path(f"runs/softmax_market/seed_{n}/results.json").read_text()) for n in (0, 1)
    ]
    ranks = [r["metrics"]["map_step"] for r in runs]
    assert summary["metrics"]["map_step"] == pytest.approx(np.mean(ranks))
    assert summary["metrics_std"]["map_step"] == pytest.approx(np.std(ranks, ddof=1))
    assert Path("runs/softmax_market/report.html").exists()
    assert "Ours minus Baseline, paired over 2 runs: rank1" in printed
    assert (
        "--repeats=2"
        in (tmp_path / "results/batch_contrastive_table_1,small,stand-in.md").read_text()
    )
    table.table, table.figure = None, "batch_contrastive/1"
    tables.make(table)
    assert Path("runs/batch_contrastive_figure_1.png").stat().st_size > 10_000
    # One run where there are repeats is read from where it was put.
    drawn = {}
    monkeypatch.setattr(
        "reid_jax.visual.distance_scatter",
        lambda panels, **kwargs: drawn.update(panels) or Figure(),
    )
    table.repeats = 1
    tables.make(table)
    assert [len(curves[0]) > 0 for curves in drawn.values()] == [True, True]


def test_search_chooses_on_validation_identities(options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = options(workdir=None)
    asked.key, asked.values = "margin", "0.5,1.0"
    scores = search.search(asked)
    assert set(scores) == {"0.5", "1.0"}
    best = max(scores, key=scores.get)
    assert f"best: margin={best}" in capsys.readouterr().out
    assert not list(tmp_path.rglob("results.json")), "the test images were looked at"


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
    assert results == json.loads((finished[0] / "results.json").read_text())


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
        ({"overrides": ["loss.gradient=eq3"]}, "autodiff"),
        ({"overrides": ["data.image_size=(16,16)"]}, "32"),
    ],
)
def test_wrong_input_is_one_message_and_exit_status_one(options, changed, message, capsys):
    status = run.exit_status(lambda: run.run_experiment(options(**changed)))
    error = capsys.readouterr().err
    assert status == 1
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error


def test_a_training_set_of_one_identity_is_refused(options, monkeypatch):
    # prepare.py refuses one too; this is for data sets prepared by other means.
    monkeypatch.setattr(
        job.data, "identity_labels", lambda identities: (identities * 0, np.array([7]))
    )
    with pytest.raises(ValueError, match="nothing to tell apart"):
        run.run_experiment(options())


def test_a_full_disk_is_said_and_leaves_what_was_there(options, monkeypatch, capsys, tmp_path):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(job.training, "fit", full)
    status = run.exit_status(lambda: run.run_experiment(options()))
    assert status == 1
    assert "the disk is full" in capsys.readouterr().err
    assert (tmp_path / "run" / "config.json").exists()


def test_another_error_is_not_hidden(options, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("a defect")

    monkeypatch.setattr(job.training, "fit", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        run.exit_status(lambda: run.run_experiment(options()))


@pytest.mark.parametrize(
    ("data_dir", "backend", "scale"),
    [(None, "cpu", "small"), ("d", "cpu", "small"), (None, "tpu", "small"), ("d", "gpu", "paper")],
)
def test_scale_auto(monkeypatch, data_dir, backend, scale):
    monkeypatch.setattr("jax.default_backend", lambda: backend)
    assert run.chosen_scale("auto", data_dir)[0] == scale
    assert run.chosen_scale("paper", data_dir)[0] == "paper"
