"""One run of an experiment: train or resume, evaluate, leave results and a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from experiments import build, provenance, sources, workdir
from experiments.config import Config, as_dict, changed
from experiments.papers import method_of, notes_of
from experiments.start import Start, earlier_trainings
from experiments.workdir import Numbers, Results
from reid_jax import data, decide, models, parallel, report
from reid_jax.checkpoint import has_checkpoint
from reid_jax.embedder import Embedder
from reid_jax.evaluation import Decision
from reid_jax.protocols import EmbedsOnce, Evaluation, Protocol, Refinement
from reid_jax.training import fit

MOST_RERANKED = 5000

PRETRAINED = ("caffenet", "resnet18", "resnet50", "vgg16")
"""The networks whose papers begin with ImageNet's weights."""

__all__ = [
    "Job",
    "measured",
    "notes",
    "pictures",
    "results_of",
    "run",
    "train",
    "with_dtype",
    "write_report",
]


@dataclasses.dataclass(frozen=True)
class Job:
    """What a run is: everything that its results depend on, and where they go.

    Attributes:
        exp: the experiment with its row, as given on the command line.
        config: all values of the run.
        paper: the printed numbers of the row, or None.
        scale: 'paper', 'small' or 'pretrained'.
        seed: of everything random.
        split: number of the split of `config.data.partition`.
        data_dir: where the data set is prepared.
        workdir: where everything goes.
        command: that does the same again.
        allow_overlap: tests on people that were trained on too.
    """

    exp: str
    config: Config
    paper: Mapping[str, float] | None
    scale: str
    seed: int
    split: int
    data_dir: epath.Path
    workdir: epath.Path
    command: str
    allow_overlap: bool = False


def run(job: Job) -> Results:
    """Does what is left to do of a run and returns its results.

    Raises:
        ValueError: if the work directory belongs to another run, or data, weights, protocol or
            batch size do not fit.
    """
    job = with_dtype(job)
    # All that can be refused is refused before the training.
    protocol = build.protocol(job.config)
    protocol.check(build.embedder(job.config))
    images = sources.open_all(job.data_dir, job.config, protocol, split=job.split)
    results_path = job.workdir / "results.json"
    if results_path.exists():
        _claim(job, images)
        parallel.say(f"{job.workdir} is finished already: its results are kept.")
        results = workdir.read_results(job.workdir)
    else:
        trained_on = [data.fingerprint_of_training(images.train), *earlier_trainings(job.config)]
        protocol.shared(trained_on, images.subsets, allow_overlap=job.allow_overlap)
        trained, weights = train(job, images)
        embedder = EmbedsOnce.of(trained)
        found = protocol.evaluate(embedder, images.subsets, allow_overlap=job.allow_overlap)
        decision = measured(embedder, found, images)
        rows_of_a_part = job.config.sampler.batch_size // job.config.train.accumulate
        devices = parallel.usable_devices(rows_of_a_part)
        results = results_of(
            job,
            found,
            images,
            steps=embedder.provenance["steps"],
            num_devices=parallel.num_devices(devices),
            weights=weights,
            operating=decision and decision.as_json(),
            dtype=job.config.model.dtype,
            num_parameters=sum(x.size for x in jax.tree.leaves(embedder.variables["params"])),
            reranked=_reranked(embedder, protocol, images.subsets, found),
        )
        if parallel.is_main_process():
            if decision:
                decide.write(job.workdir, decision)
            workdir.write_ranking(job.workdir, found.arrays())
            workdir.write_results(results_path, results)
    if parallel.is_main_process() and not _report_is_newest(job.workdir):
        write_report(job, protocol, images.subsets)
    parallel.barrier("results written")
    return results


def with_dtype(job: Job) -> Job:
    """The job with `model.dtype` settled: on whatever platform a run goes on, it keeps its own.

    A run that begins takes what is usual on its platform, and its `config.json` has it from then
    on. One of before there was a choice has none there, and is float32.
    """
    if job.config.model.dtype:
        return job
    if _is_started(job):
        known = workdir.read_record(job.workdir)["config"]["model"].get("dtype")
        return dataclasses.replace(job, config=changed(job.config, model={"dtype": known}))
    dtype = models.usual_dtype()
    if dtype != "float32":
        parallel.say(f"Layers compute in {dtype}; --set model.dtype=float32 for all in float32.")
    return dataclasses.replace(job, config=changed(job.config, model={"dtype": dtype}))


def _reranked(
    embedder: EmbedsOnce, protocol: Protocol, subsets: Mapping[str, Any], found: Evaluation
) -> Numbers | None:
    """The metrics re-ranked, where that is done in a second and fits network and protocol."""
    if found.num_query + found.num_gallery > MOST_RERANKED or protocol.refinement:
        return None
    refined = dataclasses.replace(protocol, refinement=Refinement(rerank=True))
    try:
        refined.check(embedder)
    except ValueError:
        return None
    return dict(refined.evaluate(embedder, subsets, allow_overlap=True).metrics)


def train(job: Job, images: sources.Images) -> tuple[Embedder, dict[str, Any] | None]:
    """Trains from where the work directory stands to the last step.

    Args:
        job: the run.
        images: that it trains and validates on.

    Returns:
        The embedder, of the best state if there are validation identities; and where its first
        variables came from, None from scratch.
    """
    parts = build.parts(job.config, images.train, seed=job.seed)
    start = Start(job.config, parts.model, data_source=images.data_source)
    if job.scale == "paper" and start.is_scratch and job.config.model.name in PRETRAINED:
        parallel.say(
            "No model.weights given: training from scratch, where the paper fine-tunes ImageNet."
        )
    _claim(job, images)
    embedder = fit(
        parts.model,
        parts.objective,
        images.train,
        sampler=parts.sampler,
        optimizer=parts.optimizer,
        preprocess=start.preprocess(parts.preprocess),
        num_steps=parts.num_steps,
        seed=job.seed,
        workdir=job.workdir,
        validation=images.validation,
        intervals=parts.intervals,
        scoring=parts.scoring,
        learning_rate=parts.learning_rate,
        initial=start,
        earlier=start.trainings,
        num_parts=job.config.train.accumulate,
        steps_per_dispatch=job.config.train.steps_per_dispatch,
    )
    return embedder, start.facts


def measured(embedder: Embedder, found: Evaluation, images: sources.Images) -> Decision | None:
    """Thresholds and a probability of a trained embedder; None, and why, where there are none.

    Args:
        embedder: that was trained.
        found: what the test found.
        images: whose validation people are taken, or else the test's.
    """
    if found.details.get("overlap"):
        parallel.say("No thresholds: people of the test were trained on.")
        return None
    return decide.decided(embedder, images.people, data_source=images.data_source).decision


def _claim(job: Job, images: sources.Images) -> None:
    """Makes sure that the work directory is this run's, and records what the run is."""
    workdir.claim(
        job.workdir,
        {
            "exp": job.exp,
            "scale": job.scale,
            "seed": job.seed,
            "split": job.split,
            "config": as_dict(job.config),
            "command": job.command,
            "data_dir": str(job.data_dir),
            "images": sources.digests(images),
        },
        started=_is_started(job),
    )


def _is_started(job: Job) -> bool:
    return (job.workdir / "results.json").exists() or has_checkpoint(job.workdir)


# Results ---------------------------------------------------------------------------------------


def results_of(
    job: Job, found: Evaluation, images: sources.Images | sources.Described, **facts: Any
) -> Results:
    """The results of a run: what it is, and what was found.

    Args:
        job: whose config says what was trained on and tested.
        found: by its protocol.
        images: what is said of the data.
        **facts: further fields.
    """
    partition = job.config.data.partition or None
    return Results(
        exp=job.exp,
        method=method_of(job.exp),
        objective=job.config.objective,
        dataset=images.tested,
        trained_on=images.trained_on,
        data_source=images.data_source,
        partition=partition,
        split=job.split if partition else None,
        protocol=found.protocol,
        shortlist=job.config.evaluation.shortlist,
        fingerprint=found.fingerprint,
        scale=job.scale,
        seed=job.seed,
        num_query=found.num_query,
        num_gallery=found.num_gallery,
        num_valid_queries=found.num_valid_queries,
        metrics=found.metrics,
        intervals=found.intervals,
        paper=None if job.paper is None else dict(job.paper),
        camera_rule=images.camera_rule,
        command=job.command,
        commit=provenance.commit(),
        versions=provenance.versions(),
        machine=provenance.machine(),
        **found.details,
        **facts,
    )


# Report ----------------------------------------------------------------------------------------


def _report_is_newest(directory: epath.Path) -> bool:
    """Whether the report is there and no evaluation of the run has been made after it."""
    page = directory / "report.html"
    if not page.exists():
        return False
    # Of the same second: times of files in a bucket are no finer.
    evaluations = directory.glob("evaluation-*.json")
    return all(path.stat().mtime < page.stat().mtime for path in evaluations)


def write_report(job: Job, protocol: Protocol, subsets: Mapping[str, Any]) -> None:
    """Writes `report.html` of a run that has its results."""
    report.write_page(
        workdir.read_run(job.workdir),
        job.workdir / "report.html",
        pictures=pictures(protocol, subsets, workdir.read_ranking(job.workdir)),
        deviations=notes(job),
        training_distance="Euclidean distance of unit vectors",
        command=job.command,
    )


def notes(job: Job) -> tuple[str, ...]:
    """Where a run differs from its paper: what its experiment says, and all that it uses."""
    return (*notes_of(job.exp, job.config, scale=job.scale), *build.notes(job.config))


def pictures(
    protocol: Protocol, subsets: Mapping[str, Any], ranking: Mapping[str, np.ndarray]
) -> report.Pictures:
    """Pictures and captions of the ranked lists of an evaluation."""
    query, gallery = protocol.shown(subsets)
    return report.pictures_of(query, gallery, ranking, queries=subsets.get("queries"))
