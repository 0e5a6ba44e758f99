"""One run of an experiment: train or resume, evaluate, leave results and a report."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import io
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

import reid_jax
from experiments.methods import DEVIATIONS, METHODS, SAMPLERS
from reid_jax import augment, data, evaluation, models, parallel, pretrained, report, training
from reid_jax.training import objectives, schedules

__all__ = [
    "PROTOCOLS",
    "Job",
    "Split",
    "deviations",
    "evaluate",
    "load_run",
    "open_splits",
    "run",
    "summary_text",
    "train",
    "write_json",
    "write_report",
]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
FROM_SCRATCH_STD = (64.0, 64.0, 64.0)

PROTOCOLS = ("single-query", "multi-query-average", "multi-query-maximum")
LISTS_PER_KIND = 4

RESIDENT_BYTES = 4 * 2**30
"""Decoded training images up to this size stay on each device."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What a run is: everything that its results depend on, and where they go.

    Attributes:
        exp: the experiment with its row, as given on the command line.
        config: all values of the run.
        paper: the printed numbers of the row, or None.
        scale: 'paper' or 'small'.
        seed: of everything random.
        data_dir: where the data set is prepared.
        workdir: where everything goes.
        command: that does the same again.
    """

    exp: str
    config: ConfigDict
    paper: Mapping[str, float] | None
    scale: str
    seed: int
    data_dir: epath.Path
    workdir: epath.Path
    command: str


@dataclasses.dataclass(frozen=True)
class Split:
    """A query and a gallery source and, for multi-query protocols, the further query images."""

    query: data.Source
    gallery: data.Source
    multi_query: data.Source | None = None


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training gives: the state that is evaluated, and how it came about."""

    variables: Any
    weights: dict[str, Any] | None
    steps: int
    num_devices: int


def run(job: Job) -> dict[str, Any]:
    """Does what is left to do of a run and returns its results.

    Raises:
        ValueError: if the work directory belongs to another run, or data, weights or batch size do
            not fit.
    """
    # Opened before the training, so that what is missing is known now.
    protocol = job.config.evaluation.protocol
    split = open_splits(job.data_dir, job.config.dataset, protocol)
    results_path = job.workdir / "results.json"
    if results_path.exists():
        _claimed(job)
        parallel.say(f"{job.workdir} is finished already: its results are kept.")
        if parallel.is_main_process() and not (job.workdir / "report.html").exists():
            write_report(job.workdir, job.config, split)
        return json.loads(results_path.read_text())

    trained = train(job)
    facts, result, compared = evaluate(job.config, trained.variables, split, protocol)
    results = {
        "exp": job.exp,
        "method": job.config.method,
        "dataset": job.config.dataset,
        "data_source": data.dataset_card(job.data_dir, job.config.dataset)["data_source"],
        "scale": job.scale,
        "seed": job.seed,
        "steps": trained.steps,
        "num_devices": trained.num_devices,
        "weights": trained.weights,
        **facts,
        "paper": job.paper,
    }
    if parallel.is_main_process():
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **_ranking_arrays(result, compared))
        (job.workdir / "ranking.npz").write_bytes(buffer.getvalue())
        write_json(results_path, results)
        write_report(job.workdir, job.config, split)
    parallel.barrier("results written")
    return results


# Training --------------------------------------------------------------------------------------


def train(job: Job) -> Trained:
    """Trains from where the work directory stands to the last step.

    With validation identities it is the best state on those that is returned.
    """
    source, labels = _claimed(job)
    checkpoints = training.Checkpoints(job.workdir)
    try:
        return _train(job, source, labels, checkpoints)
    finally:
        checkpoints.close()


def _train(
    job: Job, source: data.Source, labels: np.ndarray, checkpoints: training.Checkpoints
) -> Trained:
    config = job.config
    num_identities = int(labels.max()) + 1
    model = build_model(config, num_identities)
    image = np.zeros((1, *config.data.image_size, 3), np.float32)
    schedule = schedules.step_decay(
        config.optimizer.learning_rate, boundaries=config.optimizer.boundaries
    )
    optimizer = schedules.sgd(
        schedule,
        momentum=config.optimizer.momentum,
        weight_decay=config.optimizer.weight_decay,
    )
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)
    embedding = jax.eval_shape(functools.partial(model.apply, train=False), shapes, image)
    method = METHODS[config.method](config, num_identities, embedding["embedding"].shape[-1])
    state = training.create_state(
        model, optimizer, image, key=jax.random.key(job.seed), loss_state=method.loss_state
    )
    weights = None
    if config.model.weights:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        variables, weights = pretrained.load_torchvision(config.model.weights, model, variables)
        state = state.replace(**variables)
    elif job.scale == "paper":
        parallel.say(
            "No model.weights given: training from scratch, where the paper fine-tunes ImageNet."
        )

    batch_size = config.sampler.batch_size
    devices = parallel.usable_devices(batch_size)
    if len(devices) < jax.local_device_count():
        parallel.say(
            f"A batch of {batch_size} rows is divided over {len(devices)} of this host's "
            f"{jax.local_device_count()} devices, the largest number that divides it."
        )
    num_devices = len(devices) * jax.process_count()
    if config.sampler.name not in SAMPLERS:
        raise ValueError(
            f"unknown sampler {config.sampler.name!r}; known: {', '.join(sorted(SAMPLERS))}"
        )
    sampler = SAMPLERS[config.sampler.name](config, labels, source.cameras, job.seed)
    resident = len(source) * int(np.prod(image.shape)) <= RESIDENT_BYTES
    step = training.make_train_step(
        model,
        optimizer,
        method.objective,
        axis_name=parallel.AXIS,
        preprocess=functools.partial(_augmented, config=config),
    )
    constants: tuple[Any, ...] = ()
    if resident:
        step = training.with_resident_images(step)
        images = data.load_images(
            source, config.data.image_size, progress=parallel.is_main_process()
        )
        constants = (parallel.replicate(images, devices),)

    def batches(first_step: int) -> Any:
        return data.batches(
            source,
            sampler,
            labels=labels,
            seed=job.seed,
            first_step=first_step,
            num_steps=config.optimizer.num_steps - first_step,
            image_size=config.data.image_size,
            host_rows=parallel.host_rows(batch_size),
            resident=resident,
        )

    card = data.dataset_card(job.data_dir, config.dataset)
    validate = None
    if "val_query" in card["counts"]:
        val = open_splits(job.data_dir, config.dataset, "single-query", prefix="val_")

        def validate(state: training.TrainState) -> dict[str, float]:
            facts, _, _ = evaluate(config, _variables(state), val, "single-query")
            return {name: facts["metrics"][name] for name in ("map_step", "rank1")}

    final = training.fit(
        state,
        parallel.pmap_step(step, devices),
        batches,
        constants=constants,
        devices=devices,
        batch_size=batch_size,
        schedule=training.Schedule(num_steps=config.optimizer.num_steps, **config.train),
        checkpoints=checkpoints,
        workdir=job.workdir,
        learning_rate=schedule,
        validate=validate,
        refresh=method.refresh,
    )
    steps = int(final.step)
    if validate is not None and (best := checkpoints.restore_best(state)) is not None:
        final, steps = best
        parallel.say(f"Taking the state of step {steps}, the best on the validation identities.")
    return Trained(_variables(final), weights, steps, num_devices)


def build_model(config: ConfigDict, num_identities: int | None) -> nn.Module:
    """The network of a config, with its identification head."""
    options = {k: v for k, v in config.model.items() if k not in ("name", "weights")}
    return models.build(config.model.name, num_identities=num_identities, **options)


def _variables(state: training.TrainState) -> dict[str, Any]:
    return {"params": state.params, "batch_stats": state.batch_stats}


def _normalised(images: jax.Array, config: ConfigDict) -> jax.Array:
    std = IMAGENET_STD if config.model.weights else FROM_SCRATCH_STD
    return augment.normalise(images, mean=np.array(IMAGENET_MEAN), std=np.array(std))


def _augmented(images: jax.Array, keys: jax.Array, *, config: ConfigDict) -> jax.Array:
    shift_keys, flip_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    if config.data.shift:
        images = augment.random_shift(images, shift_keys, padding=config.data.shift)
    if config.data.flip:
        images = augment.random_flip(images, flip_keys)
    return _normalised(images, config)


# Evaluation ------------------------------------------------------------------------------------


def open_splits(
    data_dir: epath.PathLike, dataset: str, protocol: str, *, prefix: str = ""
) -> Split:
    """The splits that a protocol needs; ``prefix`` is ``"val_"`` for the validation identities.

    Raises:
        ValueError: for an unknown protocol, or a data set without what it needs.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol {protocol!r}; known: {', '.join(PROTOCOLS)}")
    names = ["query", "gallery"] + ["multi_query"] * protocol.startswith("multi-query")
    return Split(*(data.open_split(data_dir, dataset, prefix + name) for name in names))


def _embed(config: ConfigDict, variables: Any, source: data.Source) -> np.ndarray:
    """[N, D] L2-normalised embeddings of a source's images."""
    model = build_model(config, num_identities=None)

    def embed(variables: Any, images: jax.Array) -> jax.Array:
        taps = model.apply(variables, _normalised(images, config), train=False)
        return objectives.l2_normalise(taps["embedding"])

    def batches(rows: slice) -> Any:
        return data.image_batches(
            source, config.data.image_size, batch_size=config.evaluation.batch_size, rows=rows
        )

    params = {k: v for k, v in variables["params"].items() if k != "identification"}
    return evaluation.extract_features(
        embed,
        {**variables, "params": params},
        batches,
        num_images=len(source),
        batch_size=config.evaluation.batch_size,
        description=f"embedding {source.split}",
    )


def evaluate(
    config: ConfigDict, variables: Any, split: Split, protocol: str
) -> tuple[dict[str, Any], evaluation.RankingResult, tuple]:
    """The part of ``results.json`` that a protocol gives, the ranking, and what was ranked.

    Args:
        config: of the run that made the variables.
        variables: of the model.
        split: from :func:`open_splits`.
        protocol: a name in ``PROTOCOLS``.
    """
    query, gallery = split.query, split.gallery
    query_features = _embed(config, variables, query)
    gallery_features = _embed(config, variables, gallery)
    if split.multi_query is None:
        evaluated = evaluation.single_query(query_features, gallery_features, query, gallery)
    else:
        evaluated = evaluation.multi_query(
            query_features,
            _embed(config, variables, split.multi_query),
            gallery_features,
            query,
            split.multi_query,
            gallery,
            pooling=protocol.removeprefix("multi-query-"),
        )
    result = evaluated.result
    facts = {
        "protocol": evaluated.protocol,
        "fingerprint": evaluated.fingerprint,
        "num_query": len(query),
        "num_gallery": len(gallery),
        "num_valid_queries": result.num_valid_queries,
        "metrics": evaluation.metrics(result),
    }
    compared = (
        query_features,
        gallery_features,
        query.identities,
        query.cameras,
        gallery.identities,
        gallery.cameras,
    )
    return facts, result, compared


def _ranking_arrays(result: evaluation.RankingResult, compared: tuple) -> dict[str, np.ndarray]:
    """What ``ranking.npz`` holds for the report."""
    names = ("average_precision_step", "average_precision_trapezoid", "first_match_rank", "cmc")
    arrays = {name: getattr(result, name) for name in names}
    return {**arrays, **_pair_arrays(compared), **_listed(result, compared)}


def _pair_arrays(compared: tuple) -> dict[str, np.ndarray]:
    histogram = evaluation.pair_distance_histogram(*compared)
    return {
        "pair_distance_edges": histogram.edges,
        "same_pair_counts": histogram.same_pair_counts,
        "different_pair_counts": histogram.different_pair_counts,
        "distance": np.array("squared Euclidean distance of unit vectors"),
    }


def _listed(result: evaluation.RankingResult, compared: tuple) -> dict[str, np.ndarray]:
    """Ranked lists of the best, the worst and random queries, each query once."""
    precision = result.average_precision_step
    order = np.argsort(precision, kind="stable")[: result.num_valid_queries]  # NaN is last.
    shuffled = np.random.default_rng(0).permutation(order)
    wanted = {"best": order[::-1], "worst": order, "random": shuffled}
    rows, kinds = [], []
    for kind, candidates in wanted.items():
        fresh = [row for row in candidates if row not in rows][:LISTS_PER_KIND]
        rows += fresh
        kinds += [kind] * len(fresh)
    rows = np.array(rows, np.int64)
    query_features, gallery_features, identities, cameras, *gallery = compared
    lists = evaluation.top_k(
        query_features[rows],
        gallery_features,
        identities[rows],
        None if cameras is None else cameras[rows],
        *gallery,
        k=10,
    )
    return {
        "ranked_queries": rows,
        "ranked_kind": np.array(kinds),
        "ranked_gallery": lists.gallery_rows,
        "ranked_match": lists.match,
        "ranked_distance": lists.distances,
    }


def load_run(workdir: epath.PathLike) -> tuple[ConfigDict, dict[str, Any], Any]:
    """Config, results and variables of a run, for another evaluation of it.

    Raises:
        FileNotFoundError: if the directory holds no run or no checkpoint.
    """
    workdir = epath.Path(workdir)
    if not (workdir / "config.json").exists():
        raise FileNotFoundError(
            f"{workdir} holds no config.json: it is not the work directory of a run"
        )
    record = json.loads((workdir / "config.json").read_text())
    config = ConfigDict(record["config"])
    model = build_model(config, record["num_identities"])
    image = np.zeros((1, *config.data.image_size, 3), np.float32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)
    checkpoints = training.Checkpoints(workdir)
    try:
        restored = checkpoints.restore_variables(variables)
    finally:
        checkpoints.close()
    if restored is None:
        raise FileNotFoundError(f"{workdir} holds no checkpoint yet: run its command first")
    return config, record, restored


# What a run leaves -----------------------------------------------------------------------------


def _claimed(job: Job) -> tuple[data.Source, np.ndarray]:
    """Training images and labels, once it is sure that the work directory is this run's.

    Writes ``config.json``, or compares with the one that is there.

    Raises:
        ValueError: if the directory belongs to another run, with what differs.
    """
    source = data.open_split(job.data_dir, job.config.dataset, "train")
    labels, identity_of_label = data.identity_labels(source.identities)
    if len(identity_of_label) < 2:
        raise ValueError(
            f"the training split of {job.config.dataset} has {len(identity_of_label)} identity: "
            "there is nothing to tell apart; prepare a data set with at least two."
        )
    record = {
        "exp": job.exp,
        "scale": job.scale,
        "seed": job.seed,
        "config": json.loads(job.config.to_json()),
        "num_identities": len(identity_of_label),
        "training_fingerprint": evaluation.fingerprint(
            source.files, source.identities, source.cameras
        ),
    }
    path = job.workdir / "config.json"
    started = (job.workdir / "results.json").exists() or any(
        step.name.isdigit() for step in _entries(job.workdir / "checkpoints" / "last")
    )
    if started and path.exists():
        known = _flat(json.loads(path.read_text()))
        differing = [
            f"{name}: {known.get(name)} there, {value} here"
            for name, value in _flat(record).items()
            if known.get(name) != value
        ]
        if differing:
            raise ValueError(
                f"{job.workdir} belongs to another run:\n  "
                + "\n  ".join(differing)
                + "\nGive another --workdir, or delete that directory."
            )
    elif parallel.is_main_process():
        record |= {
            "command": job.command,
            "data_dir": str(job.data_dir),
            "devices": jax.devices()[0].device_kind,
            "versions": {
                name: importlib.metadata.version(name)
                for name in ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
            }
            | {"python": platform.python_version(), "reid_jax": reid_jax.__version__},
            "git_commit": _git_commit(),
        }
        write_json(path, record)
    parallel.barrier("work directory claimed")
    return source, labels


def _entries(directory: epath.Path) -> list[epath.Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def write_report(workdir: epath.Path, config: ConfigDict, split: Split) -> None:
    """``report.html`` of a run that has its results."""
    with np.load(io.BytesIO((workdir / "ranking.npz").read_bytes())) as arrays:
        query_rows, gallery_rows = arrays["ranked_queries"], arrays["ranked_gallery"]
    size = (128, 64)

    def caption(source: data.Source, row: int) -> str:
        camera = "" if source.cameras is None else f", c{source.cameras[row]}"
        return f"id {source.identities[row]}{camera}" if row >= 0 else ""

    def thumbnail(row: int) -> np.ndarray:
        if row < 0:
            return np.zeros((*size, 3), np.uint8)
        return split.gallery.image(row, size)

    report.write_page(
        workdir,
        query_images=np.stack([split.query.image(row, size) for row in query_rows]),
        gallery_images=np.stack([[thumbnail(row) for row in rows] for rows in gallery_rows]),
        query_captions=[caption(split.query, row) for row in query_rows],
        gallery_captions=[[caption(split.gallery, row) for row in rows] for rows in gallery_rows],
        deviations=deviations(config),
        training_distance="Euclidean distance of unit vectors",
    )


def deviations(config: ConfigDict) -> list[str]:
    """The ``Deviation:`` notes of everything that a method uses."""
    return report.deviations(DEVIATIONS[config.method])


def summary_text(results: Mapping[str, Any]) -> str:
    """The closing lines of a run: its numbers beside the paper's."""
    spread = results.get("metrics_std")
    ours = {
        name: value if spread is None else (value, spread[name])
        for name, value in results["metrics"].items()
    }
    columns = [name for name in report.METRIC_HEADINGS if name in ours]
    seed = f"{results['num_runs']} runs" if "num_runs" in results else f"seed {results['seed']}"
    title = f"{results['exp']} on {results['dataset']}, {results['scale']} scale, {seed}"
    row = {"label": results["exp"], "ours": ours}
    if results["paper"]:
        row["paper"] = results["paper"]
    return report.text_table(
        report.Table(title, columns, [row], data_source=results["data_source"])
    )


def write_json(path: epath.Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / (path.name + ".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)
