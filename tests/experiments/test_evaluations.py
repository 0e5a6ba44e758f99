"""Other evaluations of one finished run: options, several protocols, features made elsewhere."""

import argparse
import dataclasses
import itertools
import json
import shlex

import numpy as np
import pytest
import tiny
import untrained

from experiments import again, build, launch, sources, summary, workdir
from experiments.config import from_dict
from experiments.options import EvaluateOptions, RunOptions, add_evaluate_options
from reid_jax import evaluation
from reid_jax.embedder import Embedder
from reid_jax.files import read_json


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    add_evaluate_options(parser)
    return EvaluateOptions.of(parser.parse_args(["--workdir=run", *map(str, arguments)]))


def test_short_options_stand_for_keys_of_the_section(monkeypatch):
    monkeypatch.delenv("REID_DATA_DIR", raising=False)
    found = parsed("--flip", "--rerank", "--expand", 5, "--shortlist=3")
    assert set(found.overrides) == {
        *("evaluation.test_mode=flip", "evaluation.rerank=true"),
        *("evaluation.expand=5", "evaluation.shortlist=3"),
    }
    found = parsed("--protocol=a,b", "--protocol", "c", "--set", "evaluation.rerank_k1=4")
    assert found.protocols == ("a", "b", "c")
    assert found.overrides == ("evaluation.rerank_k1=4",)
    assert parsed() == EvaluateOptions(workdir="run")
    assert parsed() == parsed(), "no call leaves its options to the next"


@pytest.mark.parametrize(
    "options",
    [
        EvaluateOptions(workdir="a b"),
        EvaluateOptions(
            workdir="r",
            dataset="viper",
            protocols=("single-query", "multi-shot"),
            data_dir="/d",
            partition="",
            split=0,
            features="x.npz",
            overrides=("evaluation.rerank=true", "evaluation.expand=2"),
            allow_overlap=True,
        ),
    ],
)
def test_the_command_does_the_same_again(options, monkeypatch):
    monkeypatch.delenv("REID_DATA_DIR", raising=False)
    program, script, *arguments = shlex.split(options.command())
    assert (program, script) == ("python", "experiments/evaluate.py")
    parser = argparse.ArgumentParser()
    add_evaluate_options(parser)
    assert EvaluateOptions.of(parser.parse_args(arguments)) == options


@pytest.fixture(scope="module")
def run_dir(data_dir, tmp_path_factory):
    """The work directory of a finished run."""
    directory = tmp_path_factory.mktemp("evaluated") / "run"
    options = RunOptions(
        exp="batch_contrastive_market",
        data_dir=str(data_dir),
        workdir=str(directory),
        scale="small",
        overrides=tiny.OVERRIDES,
    )
    with untrained.runs():
        launch.run_experiment(options)
    return directory


@pytest.fixture(scope="module")
def opened(run_dir, data_dir):
    """The run's embedder and subsets."""
    config = from_dict(read_json(run_dir / "config.json")["config"])
    protocol = build.protocol(config, "multi-query-average")
    return Embedder.from_run(run_dir), sources.subsets(data_dir, config, protocol, split=0)


def evaluated(run_dir, *arguments):
    options = dataclasses.replace(parsed(*arguments), workdir=str(run_dir))
    return list(again.evaluations_of(options))


def test_options_are_the_functions_that_they_name(run_dir, opened):
    embedder, subsets = opened
    query, gallery = subsets["query"], subsets["gallery"]
    kept = gallery.take(np.flatnonzero(gallery.identities >= 0), "kept")
    mirrored = dataclasses.replace(
        embedder, scoring=dataclasses.replace(embedder.scoring, test_mode="flip")
    )
    of_query, of_gallery = mirrored(query), mirrored(kept)
    of_query = evaluation.expanded_queries(of_query, of_gallery, number=3, normalise=True)
    distances = evaluation.k_reciprocal_rerank(of_query, of_gallery, k1=5, k2=2)
    expected = evaluation.single_query_of_distances(distances, query, kept)
    constants = ("--set=evaluation.rerank_k1=5", "--set=evaluation.rerank_k2=2")
    ((found, path),) = evaluated(run_dir, "--flip", "--expand=3", "--rerank", *constants)
    # The network sees other batches here, and rounds otherwise.
    ours, theirs = found.metrics, evaluation.metrics(expected.result)
    assert ours == pytest.approx(theirs, abs=0.02)
    assert found.protocol == "single-query+flip+expand3+rerank(5,2,0.3)"
    assert path.name == (
        "evaluation-market1501-single-query+flip+expand3+rerank-rerank_k1-5-rerank_k2-2.json"
    )
    assert found.fingerprint == workdir.read_results(run_dir).fingerprint
    assert found.intervals.keys() == {"rank1", "map_step", "map_trapezoid"}
    told = summary.summary_text(found)
    assert "+flip+expand3+rerank" in told.splitlines()[4]
    low, high = (f"{100 * end:.2f}" for end in found.intervals["rank1"])
    assert f"95 % of resampled queries: rank-1 {low} to {high}, mAP (step)" in told
    for arguments in (["--set=data.flip=false"], ["--expand=-1"], ["--protocol=double"]):
        with pytest.raises(ValueError, match=r"evaluation alone|at least 0|unknown protocol"):
            evaluated(run_dir, *arguments)


def test_several_protocols_embed_each_image_once(run_dir, monkeypatch, capsys):
    names = ["single-query", "multi-query-average", "single-query-swapped"]
    both = evaluated(run_dir, f"--protocol={','.join(names)}", "--rerank", "--protocol", names[0])
    assert [results.protocol for results, _ in both] == [f"{name}+rerank" for name in names]
    shown = capsys.readouterr().err
    for split in ("query", "gallery", "multi_query"):
        assert shown.count(f"embedding {split}: 100%") == 1
    for (results, path), name in zip(both, names, strict=True):
        assert path.name == f"evaluation-market1501-{name}+rerank.json"
        assert results == workdir.read_results(path)
        assert f"--protocol={name} --set=evaluation.rerank=true" in results.command
        alone, _ = again.evaluation_of(
            run_dir, protocol=name, overrides=("evaluation.rerank=true",), reuse=True
        )
        assert alone == results
    # What is refused is refused before anything is embedded.
    with pytest.raises(ValueError, match="single-shot-one-direction needs test"):
        evaluated(run_dir, "--protocol=single-query,single-shot-one-direction")
    assert "embedding" not in capsys.readouterr().err


def test_features_rank_as_the_run_bit_for_bit(run_dir, opened, tmp_path):
    embedder, subsets = opened
    own = workdir.read_results(run_dir)
    sides = {"query": "query", "gallery": "gallery", "mquery": "multi_query"}
    arrays = {}
    for side, split in sides.items():
        arrays[f"{side}_f"] = embedder(subsets[split])
        arrays[f"{side}_label"] = subsets[split].identities
        arrays[f"{side}_cam"] = subsets[split].cameras
    file = tmp_path / "given.npz"
    np.savez(file, **arrays)
    protocols = "--protocol=single-query,multi-query-average"
    (found, path), (multi, _) = evaluated(run_dir, f"--features={file}", protocols)
    assert found.metrics == own.metrics
    assert found.intervals == own.intervals
    assert found.fingerprint == own.fingerprint
    assert (found.trained_on, found.steps, found.weights) == (None, None, None)
    # They are of no paper's network.
    assert own.paper is not None
    assert found.paper is None
    assert found.features.startswith("given.npz-")
    assert path.name == f"evaluation-market1501-single-query-features-{found.features}.json"
    ((expected, _),) = evaluated(run_dir, "--protocol=multi-query-average")
    assert multi.metrics == expected.metrics
    assert f"features of {found.features}" in summary.summary_text(found)
    # By name, in any order.
    order = np.random.default_rng(0).permutation(len(subsets["query"]) + len(subsets["gallery"]))
    files = np.array([*subsets["query"].files, *subsets["gallery"].files])
    rows = np.concatenate([arrays["query_f"], arrays["gallery_f"]])
    np.savez(file, features=rows[order], files=files[order])
    ((named, other),) = evaluated(run_dir, f"--features={file}", "--rerank")
    ((reranked, _),) = evaluated(run_dir, "--rerank")
    assert named.metrics == reranked.metrics
    assert other.name != path.name
    np.savez(file, features=rows[1:], files=files[1:])
    with pytest.raises(ValueError, match="has no features of 1 of"):
        evaluated(run_dir, f"--features={file}")
    for option, key in (("--flip", "test_mode"), ("--shortlist=2", "shortlist")):
        with pytest.raises(ValueError, match=f"evaluation.{key} is of the network"):
            evaluated(run_dir, f"--features={file}", option)


def test_files_of_different_options_never_collide(run_dir):
    own = from_dict(read_json(run_dir / "config.json")["config"])
    values = {
        "expand": (0, 1, 10),
        "rerank": ("false", "true"),
        "rerank_k1": (20, 2),
        "rerank_lambda": (0.3, 0.0, 1.0),
        "test_mode": ("single", "flip", "dense_flip"),
        "normalise": ("true", "false"),
    }
    made = {}
    for chosen in itertools.product(*values.values()):
        overrides = tuple(
            f"evaluation.{key}={value}" for key, value in zip(values, chosen, strict=True)
        )
        for protocol in ("single-query", "multi-query-average"):
            options = EvaluateOptions(workdir="run", overrides=overrides)
            config = again.tested_config(own, options, protocol)
            name = again.file_name(own, config, 0, None)
            assert made.setdefault(name, (protocol, chosen)) == (protocol, chosen), name
    assert len(made) == 2 * 3 * 2 * 2 * 3 * 3 * 2


def test_a_record_of_an_older_run_is_evaluated(run_dir, tmp_path):
    record = json.loads((run_dir / "config.json").read_text())
    for key in ("expand", "rerank", "rerank_k1", "rerank_k2", "rerank_lambda"):
        del record["config"]["evaluation"][key]
    assert from_dict(record["config"]).evaluation.rerank is False
    del record["config"]["evaluation"]["protocol"]
    with pytest.raises(ValueError, match=r"missing: evaluation\.protocol"):
        from_dict(record["config"])
