"""What a run leaves: written and read back as it was, and refused where it is not whole."""

import dataclasses
import json

import made_up
import numpy as np
import pytest

from experiments import provenance, workdir
from experiments.config import sections
from experiments.summary import summarize
from experiments.workdir import Results, read_results, read_run, to_dict, write_results
from reid_jax import report


def make(**changed):
    return Results(**made_up.results(**changed))


def edit(path, **changed):
    """Changes a file's keys, or drops those that are ``...``."""
    content = json.loads(path.read_text()) | changed
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))


def write_run(path, *, seed=0, **results):
    """The files of a run; keywords replace entries of its results."""
    path.mkdir(parents=True, exist_ok=True)
    training, validation = made_up.curves(seed=seed)
    lines = [
        {k: None if np.isnan(v[n]) else int(v[n]) if k == "step" else v[n] for k, v in log.items()}
        for log in (training, validation)
        for n in range(len(log["step"]))
    ]
    lines = "".join(json.dumps(line) + "\n" for line in sorted(lines, key=lambda e: e["step"]))
    (path / "metrics.jsonl").write_text(lines)
    workdir.write_json(path / "config.json", made_up.CONFIG)
    workdir.write_ranking(path, made_up.ranking(seed=seed))
    write_results(path, make(seed=seed, **results))
    return path


# Results ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"partition": "316-316", "split": 3, "shortlist": 20, "weights": {"file": "a", "n": [1]}},
        {
            "num_repeats": 10,
            "num_left_out": 0,
            "overlap": {"identities": 3},
            "camera_rule": "off",
            "distractors": {"fifth/": 20, "": 100},
            "num_runs": 2,
            "runs": ("seed_0", "seed_1"),
            "metrics_std": {"rank1": None},
            "run_metrics": {"seed_0": {"rank1": 0.5}, "seed_1": {}},
            "seed": None,
        },
    ],
)
def test_results_come_back_as_they_were(tmp_path, changed):
    results = make(**changed)
    write_results(tmp_path, results)
    assert read_results(tmp_path) == results
    write_results(tmp_path / "evaluation-a.json", results)
    assert read_results(str(tmp_path / "evaluation-a.json")) == results
    content = json.loads((tmp_path / "results.json").read_text())
    assert next(iter(content)) == "schema"
    assert set(content) == set(made_up.results(**changed))
    assert content == to_dict(results)


def test_numbers_of_numpy_become_those_of_json(tmp_path):
    metrics = {"rank1": np.float32(0.5), "minp": np.float64("nan"), "eer": float("inf")}
    results = make(metrics=metrics, num_query=np.int64(7))
    assert results.metrics == {"rank1": 0.5, "minp": None, "eer": None}
    assert type(results.num_query) is int
    write_results(tmp_path, results)
    assert "NaN" not in (tmp_path / "results.json").read_text()
    assert read_results(tmp_path) == results


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": "0"}, "seed=0: expected a value of type int or none"),
        ({"seed": -1}, "seed=-1: .* at least 0"),
        ({"metrics": {"rank1": "high"}}, "metrics="),
        ({"scale": "large"}, "scale='large'; known: paper, small"),
        ({"exp": None}, "exp=None: expected a value of type str"),
        ({"data_source": "rendered"}, "data_source is 'rendered'"),
        ({"camera_rule": "on"}, "camera_rule='on'; known: off"),
    ],
)
def test_values_of_another_type_are_refused(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        make(**changed)
    write_results(tmp_path, make())
    edit(tmp_path / "results.json", **changed)
    with pytest.raises(ValueError, match=rf"results\.json: {message}"):
        read_results(tmp_path)


def test_missing_and_unknown_keys_are_named_at_once(tmp_path):
    write_results(tmp_path, make())
    edit(tmp_path / "results.json", fingerprint=..., metrics=..., rank1=0.5, colour="red")
    with pytest.raises(
        ValueError, match="lacks fingerprint, metrics and has the unknown rank1, colour"
    ):
        read_results(tmp_path)


def test_results_of_other_versions_are_refused(tmp_path):
    write_results(tmp_path, make())
    edit(tmp_path / "results.json", schema=...)
    with pytest.raises(ValueError, match=r"older version of this program.*another --workdir"):
        read_results(tmp_path)
    edit(tmp_path / "results.json", schema=3)
    with pytest.raises(ValueError, match="has schema 3, and this version of reid_jax reads 2"):
        read_results(tmp_path)


def test_results_that_are_not_there_or_broken_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"results\.json does not exist"):
        read_run(tmp_path)
    (tmp_path / "results.json").write_text('{"exp": ')
    with pytest.raises(ValueError, match="is not JSON"):
        read_run(tmp_path)
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(ValueError, match="holds a list, expected a JSON object"):
        read_run(tmp_path)
    (tmp_path / "results.json").write_text('{"schema": 2, "exp": "x"}')
    with pytest.raises(ValueError, match=r"lacks method, .*, data_source, .*, metrics"):
        read_run(tmp_path)


@pytest.mark.parametrize("write", [write_results, workdir.write_ranking])
def test_a_failing_write_leaves_what_was_there(tmp_path, monkeypatch, write):
    write_run(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(self, target):
        raise OSError("no space left")

    monkeypatch.setattr("etils.epath.gpath.PosixGPath.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        write(tmp_path, make(seed=5) if write is write_results else {"cmc": np.ones(3)})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_every_field_says_what_it_is():
    for name, annotation in sections.annotations(Results).items():
        assert any(meta.description for meta in annotation.__metadata__), name


# Runs ------------------------------------------------------------------------------------------


def test_a_run_is_read_as_it_was_written(tmp_path):
    run = read_run(write_run(tmp_path))
    assert run.problems == ()
    assert run.results == made_up.results()
    assert run.config == made_up.CONFIG
    for read, written in zip((run.training, run.validation), made_up.curves(), strict=True):
        assert list(read) == list(written)
        for name, values in written.items():
            np.testing.assert_array_equal(read[name], values, err_msg=name)
    for name, values in made_up.ranking().items():
        np.testing.assert_array_equal(run.ranking[name], values, err_msg=name)
    assert workdir.read_ranking(tmp_path).keys() == run.ranking.keys()


def test_what_was_trained_on_and_later_evaluations_are_read_too(tmp_path):
    write_run(tmp_path)
    assert read_run(tmp_path).files == ("results.json", "config.json", "metrics.jsonl")
    (tmp_path / "training.json").write_text('{"num_identities": 7, "data": {"num_images": 40}}')
    for name, protocol in (
        ("b", "multi-query-average"),
        ("a", "single-query"),
        ("c", "multi-shot"),
    ):
        write_results(tmp_path / f"evaluation-{name}.json", make(protocol=protocol))
    write_results(tmp_path / "evaluation-d.json", make(protocol="multi-shot"))
    run = read_run(tmp_path)
    assert run.training_set == {"num_images": 40, "num_identities": 7}
    # What the protocol does not tell apart has the name of its file.
    assert list(run.evaluations) == [
        "single-query, market1501",
        "multi-query-average, market1501",
        "multi-shot, market1501",
        "d",
    ]


def test_what_a_run_lacks_is_among_its_problems(tmp_path):
    write_run(tmp_path)
    names = ("config.json", "metrics.jsonl", "ranking.npz")
    for name in names:
        (tmp_path / name).unlink()
    run = read_run(tmp_path)
    assert [problem.partition(":")[0] for problem in run.problems] == [
        f"{name} is missing" for name in names
    ]
    assert run.config == run.training == run.validation == run.ranking == {}
    with pytest.raises(FileNotFoundError, match=r"ranking\.npz does not exist"):
        workdir.read_ranking(tmp_path)


def test_a_step_written_twice_counts_as_written_last_and_a_cut_line_is_told(tmp_path):
    write_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 0, "loss": 9.0}\n{"step": 1, "loss": 8.0}\n{"step": 1, "lo\n'
        '{"step": 1, "loss": 7.0}\n{"step": 2, "loss": 6.0, "name": "a"}\n'
    )
    run = read_run(tmp_path)
    assert any("1 line(s) cut short" in problem for problem in run.problems)
    assert {name: list(values) for name, values in run.training.items()} == {
        "step": [0, 1, 2],
        "loss": [9, 7, 6],
    }


def test_a_broken_ranking_is_refused(tmp_path):
    write_run(tmp_path)
    cut = (tmp_path / "ranking.npz").read_bytes()[:200]
    (tmp_path / "ranking.npz").write_bytes(cut)
    with pytest.raises(ValueError, match=r"ranking\.npz cannot be read"):
        read_run(tmp_path)


def test_pages_are_made_of_what_is_read(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"seed_{seed}", seed=seed)
    (tmp_path / "seed_1" / "metrics.jsonl").unlink()
    runs = {name: read_run(tmp_path / name) for name in ("seed_0", "seed_1")}
    page = report.write_page(runs["seed_1"], tmp_path / "seed_1" / "report.html").read_text()
    assert "Not on this page" in page
    assert "metrics.jsonl is missing" in page
    assert page.count("<figure") == 4
    write_results(
        tmp_path, summarize({name: read_results(tmp_path / name) for name in ("seed_0", "seed_1")})
    )
    summary = to_dict(read_results(tmp_path))
    page = report.write_summary_page(
        summary, runs, tmp_path / "report.html", command=summary["command"]
    ).read_text()
    for expected in ("mean of 2 runs", "seed_1/report.html", "seed_1: metrics.jsonl is missing"):
        assert expected in page, expected
    assert "--exp=batch_contrastive_market" in page


# Claims ----------------------------------------------------------------------------------------


def record(**changed):
    values = {
        "exp": "softmax_market",
        "scale": "small",
        "seed": 0,
        "split": 0,
        "config": {"dataset": "market1501", "data": {"image_size": (64, 32), "flip": True}},
        "command": "python experiments/run.py",
        "data_dir": "data",
    }
    return values | changed


def test_a_claim_leaves_the_record(tmp_path):
    workdir.claim(tmp_path / "run", record(), started=False)
    read = workdir.read_record(tmp_path / "run")
    assert list(read) == [*record(), "devices", "versions", "git_commit"]
    assert read["config"]["data"] == {"image_size": [64, 32], "flip": True}
    assert read["versions"]["jax"] == provenance.versions()["jax"]
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        workdir.read_record(tmp_path)


def test_a_run_that_has_started_keeps_its_directory(tmp_path):
    workdir.claim(tmp_path, record(), started=False)
    before = (tmp_path / "config.json").stat().st_mtime_ns
    workdir.claim(tmp_path, record(command="another", data_dir="/moved"), started=True)
    other = record(exp="inherent_pku", seed=1)
    other["config"] = {"dataset": "market1501", "data": {"image_size": (64, 32), "flip": False}}
    with pytest.raises(ValueError, match="belongs to another run") as error:
        workdir.claim(tmp_path, other, started=True)
    assert str(error.value).splitlines()[1:] == [
        "  exp: softmax_market there, inherent_pku here",
        "  seed: 0 there, 1 here",
        "  config.data.flip: True there, False here",
        "Give another --workdir, or delete that directory.",
    ]
    assert (tmp_path / "config.json").stat().st_mtime_ns == before
    workdir.claim(tmp_path, other, started=False)
    assert workdir.read_record(tmp_path)["exp"] == "inherent_pku"


def test_a_run_on_other_images_is_refused(tmp_path):
    """The data set has the same name, and stands in another place, or was prepared anew."""
    workdir.claim(tmp_path, record(images={"train": "a1", "test": "b1"}), started=False)
    workdir.claim(
        tmp_path, record(data_dir="moved", images={"test": "b1", "train": "a1"}), started=True
    )
    other = record(data_dir="larger", images={"train": "a1", "test": "b2"})
    with pytest.raises(ValueError, match="belongs to another run") as error:
        workdir.claim(tmp_path, other, started=True)
    line = "  images of test: those of data there, and others here, in larger"
    assert str(error.value).splitlines()[1] == line
    fewer = record(images={"train": "a1"})
    with pytest.raises(ValueError, match="images of test: those of data there"):
        workdir.claim(tmp_path, fewer, started=True)


def test_a_record_of_before_there_were_digests_is_taken(tmp_path):
    workdir.claim(tmp_path, record(), started=False)
    workdir.claim(tmp_path, record(images={"train": "a1"}), started=True)


def test_a_record_with_other_keys_is_of_another_version(tmp_path):
    workdir.claim(tmp_path, record(config={"method": "softmax"}), started=False)
    with pytest.raises(ValueError, match="was made by another version of this program"):
        workdir.claim(tmp_path, record(), started=True)


def test_a_record_of_before_a_key_was_there_counts_as_with_its_default(tmp_path):
    config = {"train": {"log_every": 5, "checkpoint_every": 9}}
    workdir.claim(tmp_path, record(config=config), started=False)
    grown = {"train": {**config["train"], "validate_every": 0}}
    workdir.claim(tmp_path, record(config=grown), started=True)
    grown["train"]["validate_every"] = 3
    with pytest.raises(ValueError, match=r"config\.train\.validate_every: 0 there, 3 here"):
        workdir.claim(tmp_path, record(config=grown), started=True)


def test_provenance_names_commit_versions_and_machine():
    assert provenance.commit()
    assert {"python", "jax", "numpy", "reid_jax"} <= provenance.versions().keys()
    machine = provenance.machine()
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert machine["device"] == "cpu"
    assert dataclasses.replace(make(), machine=machine).machine == machine
