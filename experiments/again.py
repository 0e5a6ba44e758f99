"""Another evaluation of a finished run: other images, another protocol, other options."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence

from etils import epath

from experiments import build, datasets, job, sources, workdir
from experiments.config import Config, changed, from_dict, parse_overrides
from experiments.papers import slug
from experiments.workdir import Results
from reid_jax import parallel
from reid_jax.embedder import Embedder

__all__ = ["evaluation_of"]


def evaluation_of(
    run_dir: epath.PathLike,
    *,
    dataset: str | None = None,
    protocol: str | None = None,
    data_dir: str | None = None,
    partition: str | None = None,
    split: int | None = None,
    shortlist: int | None = None,
    overrides: Sequence[str] = (),
    allow_overlap: bool = False,
    reuse: bool = False,
) -> tuple[Results, epath.Path]:
    """Evaluates a run again, or takes what an earlier evaluation of the same kind found.

    Args:
        run_dir: work directory of the run.
        dataset: to test on; what is None is the run's own, but another data set has no partition.
        protocol: name of the protocol.
        data_dir: where data sets are prepared.
        partition: of the data set.
        split: of the partition.
        shortlist: see `evaluation.shortlist`.
        overrides: `evaluation.key=value`.
        allow_overlap: tests on people that were trained on too.
        reuse: takes results that are newer than the run's own as they are.

    Returns:
        The results, and their file.

    Raises:
        FileNotFoundError: if the directory holds no run, or no checkpoint.
        ValueError: if data, protocol and network do not fit each other.
    """
    run_dir = epath.Path(run_dir)
    record = workdir.read_record(run_dir)
    own = from_dict(record["config"])
    config = _tested(own, dataset, partition, protocol, shortlist, overrides)
    split_index = _split(record["split"], config, split)
    path = run_dir / _name(own, config, split_index, overrides, shortlist)
    if reuse and path.exists() and path.stat().mtime >= (run_dir / "results.json").stat().mtime:
        return workdir.read_results(path), path
    chosen = build.protocol(config)
    place = epath.Path(data_dir or record["data_dir"]).expanduser()
    datasets.provide(place, sources.needed_datasets(config, chosen))
    subsets = sources.subsets(place, config, chosen, split=split_index)
    embedder = Embedder.from_run(run_dir)
    embedder = dataclasses.replace(embedder, scoring=build.scoring(config))
    found = chosen.evaluate(embedder, subsets, allow_overlap=allow_overlap)
    words = [
        "python",
        "experiments/evaluate.py",
        f"--workdir={run_dir}",
        f"--protocol={chosen.name}",
    ]
    words += [f"--dataset={dataset}"] if dataset else []
    words += [f"--partition={config.data.partition}"] if partition is not None else []
    words += [f"--split={split}"] if split is not None else []
    words += [f"--shortlist={shortlist}"] if shortlist is not None else []
    words += [f"--set={override}" for override in overrides]
    words += ["--allow_overlap"] if allow_overlap else []
    again = job.Job(
        exp=record["exp"],
        config=config,
        paper=None,
        scale=record["scale"],
        seed=record["seed"],
        split=split_index,
        data_dir=place,
        workdir=run_dir,
        command=shlex.join(words),
    )
    finished = (run_dir / "results.json").exists()
    trained = workdir.read_results(run_dir) if finished else None
    of_data = sources.described(place, config, chosen)
    results = job.results_of(
        again,
        found,
        dataclasses.replace(of_data, trained_on="+".join(sources.training_datasets(own))),
        steps=embedder.provenance["steps"] if trained is None else trained.steps,
        num_devices=None if trained is None else trained.num_devices,
        weights=None if trained is None else trained.weights,
    )
    if parallel.is_main_process():
        workdir.write_results(path, results)
    return results, path


def _tested(
    own: Config,
    dataset: str | None,
    partition: str | None,
    protocol: str | None,
    shortlist: int | None,
    overrides: Sequence[str],
) -> Config:
    """The run's config with what is tested in the place of its own."""
    others = [override for override in overrides if not override.startswith("evaluation.")]
    if others:
        raise ValueError(
            f"--set {others[0]}: a finished run is evaluated with other values of the section "
            "evaluation alone; train another run for the rest"
        )
    evaluation: dict[str, object] = {}
    if protocol is not None:
        evaluation["protocol"] = build.protocol(own, protocol).name
    if shortlist is not None:
        if shortlist < 0:
            raise ValueError(f"--shortlist={shortlist}: expected a number of images, or 0 for all")
        evaluation["shortlist"] = shortlist
    images: dict[str, object] = {}
    if dataset:
        evaluation["dataset"] = ""
        images["joined"] = ()
    if partition is not None or (dataset and dataset != own.dataset):
        images["partition"] = partition or ""
    config = changed(own, dataset=dataset or own.dataset, evaluation=evaluation, data=images)
    return parse_overrides(config, overrides)


def _split(of_run: int, config: Config, asked: int | None) -> int:
    if asked is None:
        return of_run if config.data.partition else 0
    if not config.data.partition:
        raise ValueError(
            f"--split={asked}: {config.dataset} is evaluated without a partition, and has one "
            "fixed split: leave --split out, or name a --partition"
        )
    return asked


def _name(
    own: Config,
    config: Config,
    split: int,
    overrides: Sequence[str],
    shortlist: int | None,
) -> str:
    parts = ["evaluation", sources.tested_dataset(config)]
    if config.data.partition:
        parts += [config.data.partition, f"split_{split}"]
    parts.append(config.evaluation.protocol)
    if shortlist is not None or config.evaluation.shortlist != own.evaluation.shortlist:
        parts.append(f"shortlist-{config.evaluation.shortlist}")
    parts += sorted(overrides)
    return "-".join(slug(part) for part in parts) + ".json"
