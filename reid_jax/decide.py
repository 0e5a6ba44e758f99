"""Measures where a model's distances tell one person from two."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from etils import epath

from reid_jax import data, evaluation, parallel, schema
from reid_jax.data import Source
from reid_jax.embedder import DECISION_FILE, Embedder
from reid_jax.evaluation import Decision, PersonPairs, Verdict
from reid_jax.files import write_atomically

__all__ = ["NotMeasurableError", "decided", "measure", "people_to_measure", "same_pairs", "write"]

MOST_IMAGES = 1000
"""Of the people that a decision is measured on: half a million pairs."""

MOST_SCORED = 160
"""The same for a network that scores pairs, each of which passes through it: 12,720 pairs."""

Whom = Literal["validation", "test"]
_PEOPLE: tuple[tuple[Whom, tuple[str, ...]], ...] = (
    ("validation", ("val_query", "val_gallery")),
    ("validation", ("val",)),
    ("test", ("query", "gallery")),
    ("test", ("test",)),
)


class NotMeasurableError(ValueError):
    """The model or the images allow no operating point."""


def people_to_measure(subsets: Mapping[str, Any]) -> tuple[Whom, list[Source]]:
    """Chooses images of people that were kept apart: validation, or else test.

    Args:
        subsets: sources by name, as `data.carve` and `data.open_split` name them.

    Returns:
        Whom, and their images.

    Raises:
        NotMeasurableError: if there are none.
    """
    for whom, names in _PEOPLE:
        if all(isinstance(subsets.get(name), Source) for name in names):
            return whom, [subsets[name] for name in names]
    known = " or ".join(" with ".join(names) for _, names in _PEOPLE)
    raise NotMeasurableError(
        f"operating points need people that were kept apart: {known}; got "
        f"{', '.join(subsets) or 'nothing'}"
    )


def measure(
    embedder: Embedder,
    subsets: Mapping[str, Any],
    *,
    data_source: Literal["official", "custom", "stand-in"] = "custom",
    max_images: int | None = None,
    seed: int = 0,
) -> Decision:
    """Measures operating points and a probability, for `embedder.with_decision`.

        decision = rj.decide.measure(embedder, rj.data.carve(source, ...))
        embedder.with_decision(decision).save('model')

    Each pair of two images counts once, in the order of the sources; a pair of one person in one
    camera is left out where cameras are known, as it is in a ranking, and so are distractors and
    junk, who are no people. A training that chose its best state on the validation people has seen
    their numbers, though never their images; test people it knows nothing of.

    Args:
        embedder: the model.
        subsets: sources by name: those of validation people are taken (`val_query` and
            `val_gallery`, or `val`), else those of test people (`query` and `gallery`, or `test`).
        data_source: of the images.
        max_images: of them; None takes 1,000, or 160 for a network that scores pairs. Of more, as
            many people as leave each two images, and as many images of each as there is room for.
        seed: of the choice of images, and of all resampling.

    Returns:
        Decision.

    Raises:
        NotMeasurableError: if there are no such people, no pairs of one of the kinds, or an
            embedding depends on the images it is computed with.
    """
    if getattr(embedder.model, "test_statistics", "running") == "batch":
        raise NotMeasurableError(
            "batch norm of this network sees all images of a side at once "
            "(test_statistics='batch'), so two images alone have another distance"
        )
    whom, sources = people_to_measure(subsets)
    limit = max_images or (MOST_SCORED if embedder.scores_pairs else MOST_IMAGES)
    joined = data.join(sources, f"{whom} people")
    rows = _chosen(joined, limit, seed)
    if len(rows) < 2:
        raise NotMeasurableError(f"{joined.dataset} has no two images of {whom} people")
    images = joined.take(rows, joined.split)
    embedder = _without_shortlist(embedder)
    every = np.arange(len(images))
    distances = embedder.distance_of(images)(every, every)
    first, second = np.triu_indices(len(images), 1)
    people, cameras = images.identities, images.cameras
    if cameras is not None:
        kept = (people[first] != people[second]) | (cameras[first] != cameras[second])
        first, second = first[kept], second[kept]
    try:
        pairs = PersonPairs(distances[first, second], people[first], people[second])
    except ValueError as error:
        raise NotMeasurableError(f"{len(images):,} images of {whom} people: {error}") from error
    return Decision(
        **vars(evaluation.operating_points(pairs, seed=seed)),
        measured_on=whom,
        dataset=joined.dataset,
        data_source=data_source,
        distance=embedder.distance_name,
        num_images=len(images),
        calibration=evaluation.calibrate(pairs, seed=seed),
    )


def decided(
    embedder: Embedder,
    subsets: Mapping[str, Any],
    *,
    data_source: Literal["official", "custom", "stand-in"] = "custom",
    seed: int = 0,
) -> Embedder:
    """The embedder with what `measure` finds; where that cannot be, as it is, and why is said.

    Args:
        embedder: the model.
        subsets: see `measure`.
        data_source: of the images.
        seed: see `measure`.
    """
    try:
        found = measure(embedder, subsets, data_source=data_source, seed=seed)
        return embedder.with_decision(found)
    except NotMeasurableError as error:
        parallel.say(f"No thresholds: {error}.")
        return embedder


def write(workdir: epath.PathLike, decision: Decision) -> None:
    """Keeps a decision in the work directory of a training, where `Embedder.from_run` finds it.

    Args:
        workdir: of the training.
        decision: of its embedder.
    """
    content = json.dumps(decision.as_json(), indent=2) + "\n"
    write_atomically(epath.Path(workdir).expanduser() / DECISION_FILE, content)


def same_pairs(
    embedder: Embedder,
    pairs: Sequence[tuple[Any, Any]],
    *,
    false_accept_rate: float | None = None,
) -> list[Verdict]:
    """Decides of pairs of image files whether each shows one person.

    Args:
        embedder: a model with a decision.
        pairs: of paths; an image that is in several is embedded once.
        false_accept_rate: see `Decision.threshold`.

    Returns:
        One verdict a pair.

    Raises:
        ValueError: if the model has no decision, or none at the rate; if there is no pair, or some
            images cannot be read (all are named).
    """
    decision = embedder.known_decision()
    decision.threshold(false_accept_rate)  # Before any image is embedded.
    files = list(dict.fromkeys(file for pair in pairs for file in pair))
    place = {file: row for row, file in enumerate(files)}
    distance_of = _without_shortlist(embedder).distance_of(files)
    verdicts = []
    for a, b in pairs:
        (distance,) = distance_of(np.array([place[a]]), np.array([place[b]]))[0]
        verdicts.append(decision.verdict(distance, false_accept_rate))
    return verdicts


def _without_shortlist(embedder: Embedder) -> Embedder:
    """Two images alone are always scored, so that all pairs here are."""
    scoring = dataclasses.replace(embedder.scoring, shortlist=0)
    return dataclasses.replace(embedder, scoring=scoring)


def _chosen(images: Source, limit: int, seed: int) -> np.ndarray:
    """Rows of people: two images of each, from two cameras where there are, then more in turn."""
    of_person: dict[int, dict[int, list[int]]] = {}
    for row in np.random.default_rng(seed).permutation(len(images)).tolist():
        person = int(images.identities[row])
        if person > schema.DISTRACTOR:
            camera = 0 if images.cameras is None else int(images.cameras[row])
            of_person.setdefault(person, {}).setdefault(camera, []).append(row)
    people = [_in_turn(of_camera.values()) for of_camera in of_person.values()]
    first = [row for rows in people for row in rows[:2]]
    return np.sort([*first, *_in_turn(rows[2:] for rows in people)][:limit])


def _in_turn(lists: Iterable[list[int]]) -> list[int]:
    """The first of each list, then the second of each, ..."""
    turns = itertools.zip_longest(*lists)
    return [row for turn in turns for row in turn if row is not None]
