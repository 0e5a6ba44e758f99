"""One training on an own folder: divide, measure, train or go on, test, save."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import json
import math
import pathlib
import shlex
import tempfile
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from reid_jax import data, decide, models, parallel
from reid_jax.data import Source
from reid_jax.embedder import Embedder
from reid_jax.files import differences, read_json, write_atomically
from reid_jax.protocols import PROTOCOLS, Evaluation
from reid_jax.recipes import methods
from reid_jax.recipes.division import Division, divided
from reid_jax.recipes.methods import RECIPES, Recipe
from reid_jax.recipes.plan import FEWEST_STEPS, Measured, Plan, duration, planned
from reid_jax.recipes.remembered import remembered
from reid_jax.training import Intervals, fit
from reid_jax.training.logs import curves, read_metrics
from reid_jax.training.trainer import trained_on, training_labels
from reid_jax.versions import versions

__all__ = [
    "PLAN_FILE",
    "RESULTS_FILE",
    "TRAINING_DIR",
    "Trained",
    "train",
]

PLAN_FILE, RESULTS_FILE, PAGE_FILE = "plan.json", "results.json", "report.html"
TRAINING_DIR = "training"
"""The work directory of `reid_jax.fit`, within the model's."""

PROBE_STEPS = 9
SECONDS_TO_TRACE = 10
METRICS = {"rank1": "rank-1", "rank5": "rank-5", "rank10": "rank-10", "map_step": "mAP"}


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        embedder: the model.
        results: what the test found, as in `results.json`.
        directory: where all is.
    """

    embedder: Embedder
    results: Mapping[str, Any]
    directory: pathlib.Path


def train(
    path: str | pathlib.Path,
    out: str | pathlib.Path,
    *,
    recipe: str = "batch_contrastive",
    minutes: float | None = None,
    num_steps: int | None = None,
    size: tuple[int, int] | None = None,
    seed: int = 0,
) -> Trained:
    """Trains a model on a person's own folder, tests it, and saves it. The same call goes on.

    People are kept apart: some choose the best state, others test it, once. The time of a step is
    measured before the training, so that its schedule ends in the time that there is.

    Args:
        path: folder, zip file or table, see `reid_jax.data.open_folder`.
        out: new or empty directory, or that of the same training. It becomes a saved model, with
            `results.json`, `report.html` and, in `training/`, logs and checkpoints.
        recipe: a name of `RECIPES`.
        minutes: that all may take, from this call on; None takes the length that suits the number
            of images.
        num_steps: the length of the training, in the place of both.
        size: (height, width) of the images; None takes what suits them.
        seed: of the division, the first parameters and all draws.

    Returns:
        Trained.

    Raises:
        FileExistsError: if `out` holds something else.
        ValueError: if `out` belongs to another training, there are too few people or images, the
            recipe is not known or does not fit, or the minutes are too few.
        StoppedError: after an interrupt or a termination signal, with the state saved.
    """
    began = time.monotonic()
    if recipe not in RECIPES:
        raise ValueError(f"there is no recipe {recipe!r}; known: {', '.join(RECIPES)}")
    method = RECIPES[recipe]
    directory = pathlib.Path(out).expanduser()
    splits = _opened(path)
    request = {
        "data": str(pathlib.Path(path).expanduser().resolve()),
        "recipe": recipe,
        "minutes": minutes,
        "steps": num_steps,
        "size": None if size is None else list(size),
        "seed": seed,
        "images": "; ".join(_digest(images) for images in splits.values()),
    }
    plan = _claimed(directory, request)
    if (directory / RESULTS_FILE).exists():
        parallel.say(f"{directory} is finished already:")
        results = read_json(directory / RESULTS_FILE)
        parallel.say(_told(results))
        return Trained(Embedder.load(directory), results, directory)

    division = divided(splits, seed=seed)
    for note in division.notes:
        parallel.say(note)
    start = methods.starting_network()
    dtype = plan.dtype if plan else models.usual_dtype()
    arguments = _arguments(method, start, division.train, size=size, dtype=dtype, seed=seed)
    division = _remembering(division, arguments["preprocess"].size)
    arguments["source"] = division.train
    protocol = PROTOCOLS["single-query"]
    # All that can be refused is refused before the training.
    protocol.shared([data.fingerprint_of_training(division.train)], division.test)
    fine_tuning = bool(start.weights) and not method.own_network
    if plan is None:
        length = num_steps or methods.default_steps(
            len(division.train),
            arguments["sampler"].batch_size * arguments["sampler"].images_per_row,
            fine_tuning=fine_tuning,
        )
        plan = _planned(
            method, arguments, division, length, fine_tuning, began, None if num_steps else minutes
        )
        plan = dataclasses.replace(plan, dtype=dtype)
        write_atomically(
            directory / PLAN_FILE,
            json.dumps({"request": request, "plan": dataclasses.asdict(plan)}, indent=2) + "\n",
        )
    optimizer, rate = methods.optimizer(method, fine_tuning=fine_tuning, num_steps=plan.num_steps)
    embedder = fit(
        **arguments,
        optimizer=optimizer,
        learning_rate=rate,
        num_steps=plan.num_steps,
        workdir=directory / TRAINING_DIR,
        validation=protocol.validation(division.validation) if division.validation else None,
        intervals=Intervals(
            log_every=max(1, min(50, plan.num_steps // 20)),
            checkpoint_every=plan.validate_every,
            validate_every=plan.validate_every if division.validation else 0,
        ),
    )
    validation = {f"val_{name}": source for name, source in division.validation.items()}
    embedder = decide.decided(embedder, validation or division.test, seed=seed)
    decision = embedder.decision
    found = protocol.evaluate(embedder, division.test)
    results = {
        "exp": f"own images, recipe {recipe}",
        "method": recipe,
        "dataset": division.train.dataset,
        "trained_on": division.train.dataset,
        "data_source": "custom",
        "protocol": found.protocol,
        "fingerprint": found.fingerprint,
        "seed": seed,
        "steps": embedder.provenance["steps"],
        "network": start.note if not method.own_network else f"network: {method.own_network}",
        "num_train_images": len(division.train),
        "num_train_identities": division.train.num_identities,
        "num_query": found.num_query,
        "num_gallery": found.num_gallery,
        "num_valid_queries": found.num_valid_queries,
        "metrics": found.metrics,
        "versions": versions(),
        **({"operating": decision.as_json()} if decision else {}),
    }
    _save(directory, embedder)
    shown = protocol.shown(division.test)
    _write_page(directory, results, found, shown, arguments["objective"].notes, request)
    write_atomically(directory / RESULTS_FILE, json.dumps(results, indent=2) + "\n")
    parallel.say(_told(results))
    parallel.say(f"model and report: {directory}, after {duration(time.monotonic() - began)}")
    return Trained(embedder, results, directory)


# Before the training ---------------------------------------------------------------------------


def _claimed(directory: pathlib.Path, request: Mapping[str, Any]) -> Plan | None:
    """The plan of a training that was begun in a directory, once it is sure that it is this one."""
    if not directory.exists():
        return None
    if not directory.is_dir():
        raise FileExistsError(f"{directory} is a file: give the name of a directory")
    if not (directory / PLAN_FILE).exists():
        if any(directory.iterdir()):
            raise FileExistsError(
                f"{directory} holds something that is no training of this command: give another "
                "directory"
            )
        return None
    record = read_json(directory / PLAN_FILE)
    # Plans of before there were digests do not have them.
    known = {"images": request["images"]} | record["request"]
    differing = differences(known, request)
    if differing:
        raise ValueError(
            f"{directory} belongs to another training:\n  "
            + "\n  ".join(differing)
            + "\nGive another directory, or delete that one."
        )
    return Plan(**record["plan"])


def _digest(images: Source) -> str:
    """In words, what tells a list of images from another."""
    known = trained_on(images)
    return f"{images.split}, {len(images):,} images ({known['fingerprint']})"


def _opened(path: str | pathlib.Path) -> dict[str, Source]:
    splits = data.open_splits(path)
    parallel.say(data.describe(path))
    return splits


def _remembering(division: Division, size: tuple[int, int]) -> Division:
    """The same division; images that are looked at again and again are decoded once."""
    return dataclasses.replace(
        division,
        train=remembered(division.train, size),
        validation={name: remembered(of, size) for name, of in division.validation.items()},
    )


def _arguments(
    method: Recipe,
    start: methods.StartingNetwork,
    train: Source,
    *,
    size: tuple[int, int] | None,
    dtype: str,
    seed: int,
) -> dict[str, Any]:
    """The arguments of `fit` but for its length."""
    labels, num_identities = training_labels(train)
    drawn = methods.sampler(method, labels, train.cameras, seed=seed)
    chosen = size or method.size or methods.image_size(train)
    network = f"network: {method.own_network}, the recipe's own, from scratch"
    parallel.say(
        f"training on {len(train):,} images of {num_identities:,} people, at "
        f"{chosen[0]}x{chosen[1]}"
        f"\n{network if method.own_network else start.note}"
    )
    model = methods.with_dtype(method.model(start, num_identities), dtype)
    return {
        "model": model,
        "initial": None if method.own_network else methods.initial(start, model),
        "objective": method.objective(start),
        "source": train,
        "sampler": drawn,
        "preprocess": methods.preprocess(method, start, chosen),
        "seed": seed,
        "scoring": method.scoring,
    }


# How long --------------------------------------------------------------------------------------


def _planned(
    method: Recipe,
    arguments: Mapping[str, Any],
    division: Division,
    length: int,
    fine_tuning: bool,
    began: float,
    minutes: float | None,
) -> Plan:
    """The plan, by the measured time of a step and of a validation."""
    drawn = arguments["sampler"]
    per_step = drawn.batch_size * drawn.images_per_row
    parallel.say(
        f"{length:,} steps of {per_step} images suit {len(division.train):,} images; measuring how "
        "fast this machine is"
    )
    optimizer, _ = methods.optimizer(method, fine_tuning=fine_tuning, num_steps=PROBE_STEPS)
    clock = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="reid_jax_") as place:
        embedder = fit(
            **arguments,
            optimizer=optimizer,
            num_steps=PROBE_STEPS,
            workdir=place,
            intervals=Intervals(log_every=PROBE_STEPS // 3),
        )
        rates = [record.get("images_per_second") for record in read_metrics(place)]
    step = per_step / next(rate for rate in reversed(rates) if rate)
    starting = max(time.monotonic() - clock - PROBE_STEPS * step, 0)
    if getattr(jax.config, "jax_compilation_cache_dir", None):
        # The training finds the compiled step there; tracing it, a fifth or so, is done again.
        starting = min(starting, max(SECONDS_TO_TRACE, starting / 3))
    validation, test = _test_seconds(embedder, division)
    spent = time.monotonic() - began
    measured = Measured(step, starting, validation, test)
    plan, total = planned(
        length, measured, seconds_left=None if minutes is None else minutes * 60 - spent
    )
    if plan.num_steps < min(FEWEST_STEPS, length):
        needed = measured.needed(min(FEWEST_STEPS, length))
        raise ValueError(
            f"{minutes:g} minutes are too few: {duration(spent)} went into measuring, and "
            f"{min(FEWEST_STEPS, length)} steps with their validation and test take "
            f"{duration(needed)}: give --minutes {math.ceil((spent + needed) / 60)} or more, or "
            "smaller images (--size)"
        )
    if plan.num_steps < length:
        parallel.say(
            f"{minutes:g} minutes are enough for {plan.num_steps:,} steps: the schedule is "
            "shortened to them"
        )
    end = datetime.datetime.now() + datetime.timedelta(seconds=total)
    parallel.say(
        f"{plan.num_steps:,} steps, {step:.2f} s each; with validations and the test about "
        f"{duration(total)}, until {end:%H:%M}"
    )
    return plan


def _test_seconds(embedder: Embedder, division: Division) -> tuple[float, float]:
    """Seconds of a validation, and of the test, whose images nobody looks at here."""
    asked = division.validation
    if not asked:
        rows = np.arange(min(len(division.train), 64))
        taken = division.train.take(rows, "some training images")
        asked = {"query": taken, "gallery": taken}
    compare = functools.partial(embedder.distances, asked["query"], asked["gallery"])
    compare()  # Compiles, and decodes what is then remembered.
    clock = time.monotonic()
    compare()
    seconds = time.monotonic() - clock
    test = division.test
    rows = np.arange(min(16, len(division.train)))
    clock = time.monotonic()
    for row in rows.tolist():
        division.train.image(row, None)
    decoding = (time.monotonic() - clock) / len(rows) * (len(test["query"]) + len(test["gallery"]))
    own = seconds if division.validation else 0.0
    return own, decoding + seconds * _work(embedder, test) / _work(embedder, asked)


def _work(embedder: Embedder, subsets: Mapping[str, Source]) -> float:
    """What the time of an evaluation goes with: images, or pairs where pairs are scored."""
    query, gallery = len(subsets["query"]), len(subsets["gallery"])
    return query * gallery if embedder.scores_pairs else query + gallery


# After it --------------------------------------------------------------------------------------


def _save(directory: pathlib.Path, embedder: Embedder) -> None:
    """Saves the model beside the training; its record goes last."""
    with tempfile.TemporaryDirectory(dir=directory, prefix="saving_") as place:
        embedder.save(place)
        files = sorted(pathlib.Path(place).iterdir(), key=lambda file: file.suffix == ".json")
        for file in files:
            file.replace(directory / file.name)


def _told(results: Mapping[str, Any]) -> str:
    numbers = ", ".join(
        f"{heading} {100 * results['metrics'][name]:.1f} %" for name, heading in METRICS.items()
    )
    return (
        f"{results['num_query']:,} queries in {results['num_gallery']:,} images of people that the "
        f"training never saw ({results['protocol']}): {numbers}"
    )


def _write_page(
    directory: pathlib.Path,
    results: Mapping[str, Any],
    found: Evaluation,
    shown: tuple[Source, Source],
    notes: Any,
    request: Mapping[str, Any],
) -> None:
    # Imported here: the page needs an extra, and the model does not.
    try:
        from reid_jax import report
    except ModuleNotFoundError as error:
        parallel.say(f"no page is written: {error}")
        return
    training, validation = curves(read_metrics(directory / TRAINING_DIR))
    ranking = found.arrays()
    run = report.Run(
        results,
        {"config": dict(request)},
        training=training,
        validation=validation,
        ranking=ranking,
        training_set={
            "num_images": results["num_train_images"],
            "num_identities": results["num_train_identities"],
        },
        files=(RESULTS_FILE,),
    )
    words = ["reid-jax", "train", request["data"], "--out", str(directory)]
    asked = {**request, "size": request["size"] and "x".join(map(str, request["size"]))}
    for name in ("recipe", "minutes", "steps", "size", "seed"):
        words += [] if asked[name] is None else [f"--{name}", str(asked[name])]
    report.write_page(
        run,
        directory / PAGE_FILE,
        pictures=report.pictures_of(*shown, ranking),
        deviations=notes,
        command=shlex.join(words),
    )
