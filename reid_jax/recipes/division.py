"""Which people of an own folder are trained on, which choose the best state, and which test it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from reid_jax import data, schema
from reid_jax.data import Source

__all__ = ["Division", "divided"]

TEST_SHARE, VAL_SHARE = 0.25, 0.1
MOST_VALIDATED = 100
"""Validation people: more of them would choose no better, and take time again and again."""

FEWEST = 2  # of each kind: with one there is nothing to be taken for another


@dataclasses.dataclass(frozen=True)
class Division:
    """The images of a training.

    Attributes:
        train: images of the people that are trained on.
        validation: `query` and `gallery` of the people that choose the best state; empty: the last
            state is taken.
        test: `query` and `gallery` of the people that are tested once.
        notes: what was done, one line each.
    """

    train: Source
    validation: Mapping[str, Source]
    test: Mapping[str, Source]
    notes: tuple[str, ...]


def divided(splits: Mapping[str, Source], *, seed: int) -> Division:
    """Divides an own folder by people; a division that is there already is kept.

    Args:
        splits: of `reid_jax.data.open_splits`.
        seed: of the choice of people.

    Returns:
        Division. Where too few people have images from two cameras, cameras do not count, and a
        note says so.

    Raises:
        ValueError: if there is nothing to train on, or too few people to keep some apart, with the
            numbers and what to do.
    """
    if "train" not in splits:
        raise ValueError(
            f"there are no training images, only {', '.join(splits)}: add a folder train"
        )
    train = splits["train"]
    notes: list[str] = []
    num_val, num_test = _numbers(train)
    if "query" in splits:
        test = {name: splits[name] for name in ("query", "gallery")}
        if "val_query" in splits:
            validation = {name: splits[f"val_{name}"] for name in ("query", "gallery")}
            return Division(train, validation, test, ())
        if _eligible(train, cameras=False) < num_val + FEWEST:
            notes.append("there are too few people to choose the best state on: the last is taken")
            return Division(train, {}, test, tuple(notes))
        train = _with_usable_cameras(train, num_val, notes)
        carved = data.carve(train, num_test_identities=num_val, seed=seed)
        notes.append(f"{num_val} people of train are kept apart, to choose the best state on")
        kept = {name: carved[name] for name in ("query", "gallery")}
        return Division(carved["train"], kept, test, tuple(notes))

    _require_people(train, num_val + num_test)
    train = _with_usable_cameras(train, num_val + num_test, notes)
    carved = data.carve(train, num_test_identities=num_test, num_val_identities=num_val, seed=seed)
    notes.append(
        f"{num_test} people are kept apart for the test, and {num_val} to choose the best state on"
    )
    return Division(
        carved["train"],
        {name: carved[f"val_{name}"] for name in ("query", "gallery")},
        {name: carved[name] for name in ("query", "gallery")},
        tuple(notes),
    )


def _numbers(source: Source) -> tuple[int, int]:
    """How many people validate and test."""
    people = len(np.unique(source.identities[source.identities > schema.DISTRACTOR]))
    validated = min(MOST_VALIDATED, max(FEWEST, round(VAL_SHARE * people)))
    return validated, max(FEWEST, round(TEST_SHARE * people))


def _eligible(source: Source, *, cameras: bool) -> int:
    """People of whom a query and its match can be taken."""
    labelled = source.identities > schema.DISTRACTOR
    seen = np.arange(len(source)) if source.cameras is None or not cameras else source.cameras
    pairs = np.unique(np.stack([source.identities[labelled], seen[labelled]]), axis=1)
    _, counts = np.unique(pairs[0], return_counts=True)
    return int((counts > 1).sum())


def _require_people(source: Source, number: int) -> None:
    labelled = source.identities[source.identities > schema.DISTRACTOR]
    people, eligible = len(np.unique(labelled)), _eligible(source, cameras=False)
    needed = number + FEWEST
    if people < needed or eligible < number:
        raise ValueError(
            f"{source.dataset} has {len(labelled):,} images of {people} people, {eligible} of them "
            f"with two images or more. People are kept apart to validate and to test, so at least "
            f"{needed} are needed, {number} of them with two images: add images, or divide the "
            "folder yourself into train, query and gallery"
        )


def _with_usable_cameras(source: Source, number: int, notes: list[str]) -> Source:
    """The source, without cameras where too few people were seen by two."""
    if source.cameras is None or (seen := _eligible(source, cameras=True)) >= number:
        return source
    notes.append(
        f"only {seen} people have images from two cameras, and {number} are to be kept apart: "
        "cameras do not count"
    )
    return dataclasses.replace(source, cameras=None)
