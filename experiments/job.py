"""One run of an experiment: train or resume, evaluate, leave results and a report."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import io
import json
import math
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from etils import epath
from ml_collections import ConfigDict

import reid_jax
from experiments import inputs, networks, protocols
from experiments.methods import DEVIATIONS, METHODS, SAMPLERS
from reid_jax import data, evaluation, parallel, pretrained, report, training
from reid_jax.models import backbone_variables
from reid_jax.training import schedules

__all__ = [
    "Job",
    "Trained",
    "deviations",
    "load_run",
    "read_record",
    "run",
    "summary_text",
    "train",
    "write_json",
    "write_report",
]

MEAN_FILE = "mean.npy"

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
        split: number of the split of ``config.data.partition``.
        data_dir: where the data set is prepared.
        workdir: where everything goes.
        command: that does the same again.
    """

    exp: str
    config: ConfigDict
    paper: Mapping[str, float] | None
    scale: str
    seed: int
    split: int
    data_dir: epath.Path
    workdir: epath.Path
    command: str


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training gives: what is evaluated, and how it came about."""

    network: protocols.Network
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
    sources = protocols.open_sources(job.data_dir, job.config, protocol, split=job.split)
    results_path = job.workdir / "results.json"
    if results_path.exists():
        _claimed(job)
        parallel.say(f"{job.workdir} is finished already: its results are kept.")
        if parallel.is_main_process() and not (job.workdir / "report.html").exists():
            write_report(job.workdir, job.config, sources)
        return json.loads(results_path.read_text())

    trained = train(job)
    outcome = protocols.evaluate(trained.network, sources, protocol)
    results = {
        "exp": job.exp,
        "method": job.config.method,
        "dataset": job.config.evaluation.dataset or job.config.dataset,
        "trained_on": "+".join(inputs.training_datasets(job.config)),
        "data_source": protocols.data_source(job.data_dir, job.config, protocol),
        "partition": job.config.data.partition or None,
        "split": job.split if job.config.data.partition else None,
        "scale": job.scale,
        "seed": job.seed,
        "steps": trained.steps,
        "num_devices": trained.num_devices,
        "weights": trained.weights,
        **outcome.facts,
        "paper": job.paper,
    }
    if parallel.is_main_process():
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **outcome.arrays)
        (job.workdir / "ranking.npz").write_bytes(buffer.getvalue())
        write_json(results_path, results)
        write_report(job.workdir, job.config, sources)
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
    model = networks.build_model(config, num_identities)
    examples = networks.example_images(config, model)
    batch_size = config.sampler.batch_size
    devices = parallel.usable_devices(batch_size)
    if len(devices) < jax.local_device_count():
        parallel.say(
            f"A batch of {batch_size} rows is divided over {len(devices)} of this host's "
            f"{jax.local_device_count()} devices, the largest number that divides it."
        )
    if config.sampler.name not in SAMPLERS:
        raise ValueError(
            f"unknown sampler {config.sampler.name!r}; known: {', '.join(sorted(SAMPLERS))}"
        )
    sampler = SAMPLERS[config.sampler.name](config, labels, source.cameras, job.seed)
    if alone := getattr(sampler, "num_negative_only", 0):
        parallel.say(
            f"{alone:,} of {len(source):,} training images have no positive partner: they are in "
            "negative pairs only."
        )
    num_steps, boundaries = training_length(config, sampler)
    schedule = _schedule(config, num_steps, boundaries)
    optimizer = _optimizer(config, schedule)

    init = functools.partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), *examples)
    outputs = jax.eval_shape(functools.partial(model.apply, train=False), shapes, *examples)
    embedding = next((v for k, v in outputs.items() if k in ("embedding", "embedding_a")), None)
    # A network of pairs alone has no embedding, and its method keeps none.
    dim = 0 if embedding is None else embedding.shape[-1]
    method = METHODS[config.method](config, labels, dim)
    state = training.create_state(
        model, optimizer, *examples, key=jax.random.key(job.seed), loss_state=method.loss_state
    )
    weights = None
    if config.model.get("weights"):
        state, weights = _with_weights(config, state)
    elif job.scale == "paper" and "weights" in config.model:
        parallel.say(
            "No model.weights given: training from scratch, where the paper fine-tunes ImageNet."
        )
    if config.model.get("start_from"):
        state, weights = _with_start(job, state)

    resident = len(source) * 3 * int(np.prod(config.data.image_size)) <= RESIDENT_BYTES
    images = None
    if resident:
        images = data.load_images(
            source, tuple(config.data.image_size), progress=parallel.is_main_process()
        )
    mean = _mean(job, source, images)
    step = training.make_train_step(
        model,
        optimizer,
        method.objective,
        axis_name=parallel.AXIS,
        preprocess=inputs.augmentation(config, mean),
    )
    constants: tuple[Any, ...] = ()
    if resident:
        step = training.with_resident_images(step)
        constants = (parallel.replicate(images, devices),)

    refresh = None
    if method.make_refresh is not None:
        if not resident:
            raise ValueError(
                f"{config.method} recomputes the codes of all training images, and these take more "
                f"than {RESIDENT_BYTES / 2**30:.0f} GiB: give smaller images"
            )
        embed = networks.training_embedder(config, mean)
        recompute = method.make_refresh(embed, devices)

        def refresh(state: training.TrainState) -> Any:
            return recompute(state, *constants)

    def batches(first_step: int) -> Any:
        return data.batches(
            source,
            sampler,
            labels=labels,
            seed=job.seed,
            first_step=first_step,
            num_steps=num_steps - first_step,
            image_size=tuple(config.data.image_size),
            host_rows=parallel.host_rows(batch_size),
            resident=resident,
        )

    def network(state: training.TrainState) -> protocols.Network:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        return protocols.Network(config, variables, mean)

    validate = None
    val = protocols.validation_sources(job.data_dir, config, split=job.split)
    if val is not None:

        def validate(state: training.TrainState) -> dict[str, float]:
            metrics = protocols.evaluate(network(state), *val).facts["metrics"]
            return {name: metrics[name] for name in ("map_step", "rank1")}

    final = training.fit(
        state,
        parallel.pmap_step(step, devices),
        batches,
        constants=constants,
        devices=devices,
        images_per_step=batch_size * len(examples),
        schedule=training.Schedule(
            num_steps=num_steps, refresh_every=method.refresh_every, **config.train
        ),
        checkpoints=checkpoints,
        workdir=job.workdir,
        learning_rate=schedule,
        validate=validate,
        refresh=refresh,
    )
    steps = int(final.step)
    if validate is not None and (best := checkpoints.restore_best(state)) is not None:
        final, steps = best
        parallel.say(f"Taking the state of step {steps}, the best on the validation identities.")
    return Trained(network(final), weights, steps, len(devices) * jax.process_count())


def training_length(config: ConfigDict, sampler: Any) -> tuple[int, tuple[int, ...]]:
    """Steps of the training, and those from which the learning rate is a tenth of before."""
    optimizer = config.optimizer
    if optimizer.num_steps:
        return optimizer.num_steps, tuple(optimizer.boundaries)
    epochs = optimizer.get("num_epochs", 0)
    if not epochs:
        raise ValueError("optimizer.num_steps is 0: give a number of steps")
    epoch = optimizer.get("epoch", "images")
    if epoch not in EPOCHS:
        raise ValueError(f"optimizer.epoch={epoch!r}; known: {', '.join(EPOCHS)}")
    num_steps = EPOCHS[epoch]
    boundaries = tuple(num_steps(config, sampler, epoch) for epoch in optimizer.boundary_epochs)
    return num_steps(config, sampler, epochs), boundaries


def _of_images(config: ConfigDict, sampler: Any, epochs: float) -> int:
    del config
    return sampler.num_steps(epochs)


def _of_positive_pairs(config: ConfigDict, sampler: Any, epochs: float) -> int:
    if not hasattr(sampler, "num_positive_pairs"):
        raise ValueError(
            f"optimizer.epoch=positive_pairs with sampler.name={config.sampler.name}: it takes pair"
        )
    copies = config.data.num_shifted + 2 if config.data.flip_or_shift else 1
    positives = sampler.num_positive_pairs * copies**2
    pairs = positives * (1 + config.sampler.negatives_per_positive)
    return math.ceil(epochs * pairs / config.sampler.batch_size)


EPOCHS = {"images": _of_images, "positive_pairs": _of_positive_pairs}
"""``EPOCHS[optimizer.epoch](config, sampler, epochs) -> steps``: once through the images, or as
many positive pairs as there are, each image counted as often as augmentation makes copies of it."""


def _schedule(config: ConfigDict, num_steps: int, boundaries: tuple[int, ...]) -> optax.Schedule:
    """The learning rate of each step, by ``optimizer.decay``: at the boundaries, or from one on."""
    decay, rate = config.optimizer.get("decay", "steps"), config.optimizer.learning_rate
    if decay == "steps":
        return schedules.step_decay(rate, boundaries=boundaries)
    if decay != "exponential":
        raise ValueError(f"optimizer.decay={decay!r}; known: exponential, steps")
    if len(boundaries) != 1:
        raise ValueError(f"optimizer.decay=exponential begins at one boundary; got {boundaries}")
    return schedules.exponential_decay(rate, first_step=boundaries[0], num_steps=num_steps)


def _optimizer(config: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    name, decay = config.optimizer.name, config.optimizer.weight_decay
    if name == "sgd":
        optimizer = schedules.sgd(schedule, momentum=config.optimizer.momentum, weight_decay=decay)
    elif name == "adam":
        optimizer = schedules.adam(schedule, weight_decay=decay)
    else:
        raise ValueError(f"optimizer.name={name!r}; known: adam, sgd")
    if head_steps := config.optimizer.get("head_steps", 0):
        optimizer = schedules.freeze_until(
            optimizer, networks.is_identification_head, num_steps=head_steps
        )
    return optimizer


def _with_weights(
    config: ConfigDict, state: training.TrainState
) -> tuple[training.TrainState, dict[str, Any]]:
    """The state with ``model.weights`` in its network, or in the backbone of its siamese one."""
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    siamese = "backbone" in state.params
    own = backbone_variables(variables) if siamese else variables
    backbone = networks.build_backbone(config)
    loaded, weights = pretrained.load_weights(config.model.weights, backbone, own)
    if siamese:
        loaded = {k: {**variables[k], "backbone": tree} for k, tree in loaded.items()}
    return state.replace(**loaded), weights


def _with_start(job: Job, state: training.TrainState) -> tuple[training.TrainState, dict[str, Any]]:
    """The state with the network of the run ``model.start_from``, but for the head."""
    start = epath.Path(job.config.model.start_from).expanduser()
    if not (start / "results.json").exists():
        raise FileNotFoundError(
            f"model.start_from={start} is not the work directory of a finished run: it holds no "
            "results.json; finish that run first, or give another"
        )
    results = json.loads((start / "results.json").read_text())
    own_source = protocols.data_source(job.data_dir, job.config, job.config.evaluation.protocol)
    if results["data_source"] == "stand-in" != own_source:
        raise ValueError(
            f"model.start_from={start} was trained on stand-in data, and the data here is "
            f"{own_source}: train it on such data too"
        )
    record, other = load_run(start)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    try:
        loaded, taken = networks.with_variables_of(variables, other.variables)
    except ValueError as error:
        raise ValueError(f"model.start_from={start} ({record['exp']}): {error}") from error
    facts = {name: results[name] for name in ("exp", "scale", "seed", "steps", "trained_on")}
    fingerprint = record["training_fingerprint"]
    weights = {"start_from": str(start), **facts, "training_fingerprint": fingerprint, **taken}
    return state.replace(**loaded), weights


def _mean(job: Job, source: data.Source, images: np.ndarray | None) -> np.ndarray:
    """The mean that the network's input is without, kept in the work directory."""
    path = job.workdir / MEAN_FILE
    if path.exists():
        return inputs.read_mean(path)
    mean = inputs.training_mean(job.config, source, images)
    parallel.barrier("mean computed")
    if parallel.is_main_process():
        buffer = io.BytesIO()
        np.save(buffer, mean)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
    return mean


def read_record(workdir: epath.PathLike) -> dict[str, Any]:
    """The record (``config.json``) of a run.

    Raises:
        FileNotFoundError: if the directory holds no run.
    """
    path = epath.Path(workdir) / "config.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{workdir} holds no config.json: it is not the work directory of a run"
        )
    return json.loads(path.read_text())


def load_run(workdir: epath.PathLike) -> tuple[dict[str, Any], protocols.Network]:
    """The record and the network of a run, for another evaluation of it.

    Raises:
        FileNotFoundError: if the directory holds no run or no checkpoint.
    """
    workdir = epath.Path(workdir)
    record = read_record(workdir)
    config = ConfigDict(record["config"])
    model = networks.build_model(config, record["num_identities"])
    variables = jax.eval_shape(
        functools.partial(model.init, train=False),
        jax.random.key(0),
        *networks.example_images(config, model),
    )
    checkpoints = training.Checkpoints(workdir)
    try:
        restored = checkpoints.restore_variables(variables)
    finally:
        checkpoints.close()
    if restored is None:
        raise FileNotFoundError(f"{workdir} holds no checkpoint yet: run its command first")
    return record, protocols.Network(config, restored, inputs.read_mean(workdir / MEAN_FILE))


# What a run leaves -----------------------------------------------------------------------------


def _claimed(job: Job) -> tuple[data.Source, np.ndarray]:
    """Training images and labels, once it is sure that the work directory is this run's.

    Writes ``config.json``, or compares with the one that is there.

    Raises:
        ValueError: if the directory belongs to another run, with what differs.
    """
    source = inputs.training_source(job.data_dir, job.config, split=job.split)
    labels, identity_of_label = data.identity_labels(source.identities)
    if len(identity_of_label) < 2:
        raise ValueError(
            f"the training split of {source.dataset} has {len(identity_of_label)} identity: "
            "there is nothing to tell apart; prepare a data set with at least two."
        )
    record = {
        "exp": job.exp,
        "scale": job.scale,
        "seed": job.seed,
        "split": job.split,
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


def write_report(
    workdir: epath.Path, config: ConfigDict, sources: Mapping[str, data.Source]
) -> None:
    """``report.html`` of a run that has its results."""
    with np.load(io.BytesIO((workdir / "ranking.npz").read_bytes())) as arrays:
        lists = protocols.shown_lists(sources, arrays)
    report.write_page(
        workdir,
        **lists,
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
    columns += [name for name in ours if name not in columns]
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
