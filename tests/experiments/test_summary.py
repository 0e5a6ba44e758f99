"""Means of runs, which lose nothing that the runs share, and the closing lines of a run."""

import dataclasses

import made_up
import numpy as np
import pytest

from experiments.printed import paired_differences
from experiments.summary import summarize, summary_table, summary_text
from experiments.workdir import Results


def make(**changed):
    return Results(**made_up.results(**changed))


def test_rows_of_two_machines_are_not_paired():
    def row(gain, cpu):
        machine = {"cpu": cpu, "cores": 1, "device": "cpu"}
        runs = [make(metrics={"rank1": 0.5 + gain * n}, machine=machine) for n in (1, 2)]
        return summarize({"seed_0": runs[0], "seed_1": runs[1]})

    rows = {"a": row(0.1, "A CPU"), "b": row(0.15, "A CPU"), "c": row(0.2, "another")}
    paired, not_paired = paired_differences(rows, ["rank1"], [])
    # 5 and 10 points.
    assert paired.startswith("b minus a, paired over 2 runs")
    assert "rank1 +7.50 ± 3.54 (2.50)" in paired
    assert not_paired.startswith("c and a are not paired: the one was run on another (cpu), the")
    assert "A CPU (cpu)" in not_paired


def repeats(num_runs=3):
    return {
        f"seed_{seed}": make(
            seed=seed,
            metrics={"rank1": 0.5 + 0.1 * seed, "map_step": 0.3 - 0.05 * seed, "eer": 0.1},
        )
        for seed in range(num_runs)
    }


def test_summarize_gives_mean_and_sample_deviation():
    summary = summarize(repeats())
    assert summary.metrics["rank1"] == pytest.approx(0.6)
    assert summary.metrics_std["rank1"] == pytest.approx(np.std([0.5, 0.6, 0.7], ddof=1))
    assert summary.runs == ("seed_0", "seed_1", "seed_2")
    assert summary.num_runs == 3
    assert summary.seed is None
    assert summary.fingerprint == "00ff00ff00ff00ff"
    assert summary.run_metrics["seed_1"] == repeats()["seed_1"].metrics


def test_summarize_loses_nothing_that_the_runs_share():
    shared = {"partition": "316-316", "num_repeats": 10, "overlap": {"identities": 2}}
    runs = {f"split_{split}": make(split=split, seed=4, **shared) for split in (0, 2)}
    summary = summarize(runs)
    own = ("split", "metrics", "num_runs", "runs", "metrics_std", "run_metrics")
    for field in dataclasses.fields(Results):
        if field.name not in own:
            kept = getattr(summary, field.name)
            assert kept == getattr(runs["split_0"], field.name), field.name
    assert summary.trained_on == "market1501"
    assert summary.partition == "316-316"
    assert summary.seed == 4
    assert summary.split is None


def test_summarize_keeps_none_of_what_differs():
    runs = repeats(2)
    others = {"weights": {"a": 1}, "trained_on": "b", "steps": 3}
    runs["seed_1"] = dataclasses.replace(runs["seed_1"], **others)
    summary = summarize(runs)
    assert all(getattr(summary, name) is None for name in others)


def test_summarize_names_the_commits_of_all_runs():
    runs = repeats(4)
    for name, commit in zip(runs, ("a", "b-dirty", "a", None), strict=True):
        runs[name] = dataclasses.replace(runs[name], commit=commit)
    assert summarize(runs).commit == "a, b-dirty"
    assert summarize({"seed_3": runs["seed_3"]}).commit is None


def test_summarize_names_the_versions_and_machines_of_all_runs():
    runs = repeats(3)
    machines = {"cpu": "A", "cores": 2}, {"cpu": "A", "cores": 1}, {"cpu": "A", "cores": 2}
    for (name, run), machine, jax in zip(runs.items(), machines, ("1", "1", "2"), strict=True):
        versions = {"python": "3", "jax": jax}
        runs[name] = dataclasses.replace(run, machine=machine, versions=versions)
    summary = summarize(runs)
    assert summary.machine == {"cpu": "A", "cores": "2, 1"}
    assert summary.versions == {"python": "3", "jax": "1, 2"}
    unknown = {name: dataclasses.replace(run, machine=None) for name, run in runs.items()}
    assert summarize(unknown).machine is None


def test_summarize_of_one_run_has_no_deviation():
    summary = summarize(repeats(1))
    assert summary.metrics_std["rank1"] is None


def test_summarize_does_not_average_over_what_is_missing():
    runs = repeats()
    metrics = {"map_step": 0.2, "eer": float("nan")}
    runs["seed_1"] = dataclasses.replace(runs["seed_1"], metrics=metrics)
    runs["seed_2"] = dataclasses.replace(runs["seed_2"], fingerprint="another")
    summary = summarize(runs)
    assert summary.metrics["rank1"] is None
    assert summary.metrics["eer"] is None
    assert summary.fingerprint is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[(key, "another") for key in ("exp", "protocol", "dataset", "method", "objective")],
        ("data_source", "official"),
        ("scale", "paper"),
        ("shortlist", 20),
        ("camera_rule", "off"),
    ],
)
def test_summarize_refuses_runs_of_two_kinds(key, value):
    runs = repeats()
    runs["seed_1"] = dataclasses.replace(runs["seed_1"], **{key: value})
    with pytest.raises(ValueError, match=f"differ in {key}"):
        summarize(runs)
    with pytest.raises(ValueError, match="no runs"):
        summarize({})


@pytest.mark.parametrize(
    ("results", "title"),
    [
        (make(), "batch_contrastive_market on market1501, single-query, small scale, seed 0"),
        (
            make(partition="detected", split=3, shortlist=20),
            "batch_contrastive_market on market1501 (detected, split 3), single-query, "
            "shortlist 20, small scale, seed 0",
        ),
        (
            summarize({f"split_{n}": make(partition="detected", split=n) for n in (0, 1)}),
            "batch_contrastive_market on market1501 (detected, several splits), single-query, "
            "small scale, 2 runs",
        ),
    ],
)
def test_the_closing_lines_say_what_was_measured_and_how(results, title):
    assert summary_table(results).title == title
    text = summary_text(results)
    assert text.startswith(title)
    for expected in ("stand-in data", "55.00", "86.40", "mAP (step)"):
        assert expected in text
