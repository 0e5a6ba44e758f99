"""Other evaluations of a finished run: other images, other protocols, other options."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from typing import Any

from etils import epath

from experiments import build, datasets, job, sources, workdir
from experiments.config import Config, changed, from_dict, parse_overrides
from experiments.options import EvaluateOptions
from experiments.papers import EXPERIMENTS, method_of, paper_row, slug
from experiments.workdir import Results
from reid_jax import data, parallel
from reid_jax.embedder import Embedder
from reid_jax.protocols import Embeds, EmbedsOnce, GivenFeatures, Refinement

__all__ = ["evaluation_of", "evaluations_of", "file_name", "tested_config"]

OF_FEATURES = {"normalise", "num_repeats"} | {f.name for f in dataclasses.fields(Refinement)}
"""Keys of the section evaluation that have a meaning without a network."""


def evaluation_of(
    run_dir: epath.PathLike, *, protocol: str | None = None, reuse: bool = False, **asked: Any
) -> tuple[Results, epath.Path]:
    """Evaluates a run again by one protocol; see `evaluations_of`.

    Args:
        run_dir: work directory of the run.
        protocol: name of the protocol; None is the run's own.
        reuse: takes results that are newer than the run's own as they are.
        **asked: fields of `EvaluateOptions`.

    Returns:
        The results, and their file.
    """
    named = () if protocol is None else (protocol,)
    options = EvaluateOptions(workdir=str(run_dir), protocols=named, **asked)
    (found,) = evaluations_of(options, reuse=reuse)
    return found


def evaluations_of(
    options: EvaluateOptions, *, reuse: bool = False
) -> Iterator[tuple[Results, epath.Path]]:
    """Evaluates a run again, or takes what an earlier evaluation of the same kind found.

    Each image is embedded once, however many protocols there are (a network that scores pairs
    compares anew), and all that can be refused is refused before.

    Args:
        options: what is evaluated.
        reuse: takes results that are newer than the run's own as they are.

    Yields:
        The results by each protocol, and their file.

    Raises:
        FileNotFoundError: if the directory holds no run, or no checkpoint.
        ValueError: if data, features, protocols and network do not fit each other.
    """
    run_dir = epath.Path(options.workdir).expanduser()
    record = workdir.read_record(run_dir)
    own = from_dict(record["config"])
    given = None if options.features is None else Given(options.features)
    tests = []
    for name in dict.fromkeys(options.protocols) or (None,):
        config = tested_config(own, options, name)
        split = _split(record["split"], config, options.split)
        path = run_dir / file_name(own, config, split, given)
        tests.append((config, split, path))
    if reuse and all(_is_newer(path, run_dir / "results.json") for _, _, path in tests):
        yield from ((workdir.read_results(path), path) for _, _, path in tests)
        return

    place = epath.Path(options.data_dir or record["data_dir"]).expanduser()
    opened: dict[str, Any] = {}
    chosen = []
    for config, split, path in tests:
        protocol = build.protocol(config)
        datasets.provide(place, sources.needed_datasets(config, protocol))
        opened |= sources.subsets(place, config, protocol, split=split, opened=opened)
        chosen.append((config, split, path, protocol))
    embedder = _embedder(run_dir, own, tests[0][0], opened, given)
    for *_, protocol in chosen:
        protocol.check(embedder)
        protocol.shared(embedder.trainings, opened, allow_overlap=options.allow_overlap)

    exp, scale = record["exp"], record["scale"]
    finished = (run_dir / "results.json").exists()
    trained = workdir.read_results(run_dir) if finished else None
    # Features that were made elsewhere are of no paper's network.
    has_paper = bool(method_of(exp)) and given is None
    for config, split, path, protocol in chosen:
        found = protocol.evaluate(embedder, opened, allow_overlap=options.allow_overlap)
        again = job.Job(
            exp=exp,
            config=config,
            paper=paper_row(exp, config, EXPERIMENTS, scale=scale) if has_paper else None,
            scale=scale,
            seed=record["seed"],
            split=split,
            data_dir=place,
            workdir=run_dir,
            command=dataclasses.replace(options, protocols=(protocol.name,)).command(),
        )
        results = job.results_of(
            again,
            found,
            dataclasses.replace(
                sources.described(place, config, protocol),
                trained_on="+".join(sources.training_datasets(own)) if given is None else None,
            ),
            **_of_training(embedder, trained, given),
        )
        if parallel.is_main_process():
            workdir.write_results(path, results)
        yield results, path


class Given:
    """A file of features made elsewhere, and a name for it that changes with its content."""

    def __init__(self, file: str) -> None:
        self.path = epath.Path(file).expanduser()
        self.parts = data.read_features(self.path)
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        self.name = f"{self.path.name}-{digest[:8]}"


def _embedder(
    run_dir: epath.Path, own: Config, config: Config, opened: dict[str, Any], given: Given | None
) -> Embeds:
    """What is evaluated, with the scoring of the config."""
    if given is None:
        embedder = Embedder.from_run(run_dir)
        return EmbedsOnce.of(dataclasses.replace(embedder, scoring=build.scoring(config)))
    if build.embedder(own).scores_pairs:
        raise ValueError(
            f"--features: the run's network, {own.model.name}, scores pairs of images, which "
            "features are not made for: evaluate them with the run of another network"
        )
    of_sources = [
        (source, data.aligned_features(given.parts, source, name, where=str(given.path)))
        for name, source in opened.items()
        if isinstance(source, data.Source)
    ]
    return GivenFeatures(of_sources, where=str(given.path), normalise=config.evaluation.normalise)


def _of_training(embedder: Embeds, trained: Results | None, given: Given | None) -> dict[str, Any]:
    """What results say of the training of the network that was tested."""
    if given is not None:
        return {"steps": None, "num_devices": None, "weights": None, "features": given.name}
    if trained is None:
        assert isinstance(embedder, Embedder)
        return {"steps": embedder.provenance["steps"], "num_devices": None, "weights": None}
    return {name: getattr(trained, name) for name in ("steps", "num_devices", "weights")}


def _is_newer(path: epath.Path, results: epath.Path) -> bool:
    return path.exists() and path.stat().mtime >= results.stat().mtime


def tested_config(own: Config, options: EvaluateOptions, protocol: str | None) -> Config:
    """The run's config with what is tested in the place of its own.

    Args:
        own: the run's.
        options: of the evaluation.
        protocol: one of its protocols; None is the run's own.

    Raises:
        ValueError: for what an evaluation cannot change, or not with features.
    """
    others = [override for override in options.overrides if not override.startswith("evaluation.")]
    if others:
        raise ValueError(
            f"--set {others[0]}: a finished run is evaluated with other values of the section "
            "evaluation alone; train another run for the rest"
        )
    evaluation: dict[str, object] = {}
    if protocol is not None:
        evaluation["protocol"] = build.protocol(own, protocol).name
    images: dict[str, object] = {}
    if options.dataset:
        evaluation["dataset"] = ""
        images["joined"] = ()
    if options.partition is not None or (options.dataset and options.dataset != own.dataset):
        images["partition"] = options.partition or ""
    dataset = options.dataset or own.dataset
    config = changed(own, dataset=dataset, evaluation=evaluation, data=images)
    config = parse_overrides(config, options.overrides)
    networks = sorted(_differing(own, config).keys() - OF_FEATURES)
    if options.features is not None and networks:
        raise ValueError(
            f"evaluation.{networks[0]} is of the network, and --features gives what another one "
            "made: leave it out"
        )
    return config


def _differing(own: Config, config: Config) -> dict[str, Any]:
    """The options of the evaluation that are not the run's own."""
    values = dataclasses.asdict(config.evaluation)
    return {
        key: value
        for key, value in values.items()
        if value != getattr(own.evaluation, key) and key not in ("protocol", "dataset")
    }


def _split(of_run: int, config: Config, asked: int | None) -> int:
    if asked is None:
        return of_run if config.data.partition else 0
    if not config.data.partition:
        raise ValueError(
            f"--split={asked}: {config.dataset} is evaluated without a partition, and has one "
            "fixed split: leave --split out, or name a --partition"
        )
    return asked


def file_name(own: Config, config: Config, split: int, given: Given | None) -> str:
    """The name of the file of results, one of its own for whatever they depend on.

    Args:
        own: the run's config.
        config: of the evaluation.
        split: number of the partition's split.
        given: features in the place of the run's network.
    """
    parts = ["evaluation", sources.tested_dataset(config)]
    if config.data.partition:
        parts += [config.data.partition, f"split_{split}"]
    differing = _differing(own, config)
    name = config.evaluation.protocol
    if differing.get("test_mode") == "flip":
        name += "+flip"
        del differing["test_mode"]
    if differing.get("expand"):
        name += f"+expand{differing.pop('expand')}"
    if differing.get("rerank"):
        name += "+rerank"
        del differing["rerank"]
    parts.append(name)
    parts += [f"{key}-{str(differing[key]).lower()}" for key in sorted(differing)]
    parts += [] if given is None else ["features", given.name]
    return "-".join(slug(part) for part in parts) + ".json"
