"""What `reid-jax evaluate` does, once JAX is there."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from reid_jax import data, decide, evaluation
from reid_jax.cli.shared import open_model
from reid_jax.data import Source
from reid_jax.embedder import TRAINING_FILE
from reid_jax.protocols import (
    PROTOCOLS,
    Embeds,
    EmbedsOnce,
    Evaluation,
    GivenFeatures,
    Protocol,
    Refinement,
)

__all__ = ["as_json", "as_text", "evaluations", "saved_decision"]

COLUMNS = ("rank1", "rank5", "rank10", "rank20", "map_step", "map_trapezoid", "minp")


def evaluations(
    model: str | None,
    path: str | None,
    *,
    features: str | None,
    protocols: Sequence[str],
    flip: bool,
    expand: int,
    rerank: bool,
    normalise: bool | None,
    allow_overlap: bool,
) -> list[Evaluation]:
    """Evaluates a model, or features made elsewhere, by each protocol.

    Args:
        model: saved model or work directory of a training; None with features.
        path: of the images, or of a table of them; may be None with features.
        features: file of features.
        protocols: names; none is `single-query`.
        flip: embeds mirror images too.
        expand: nearest images that a query is averaged with.
        rerank: by k-reciprocal neighbours.
        normalise: compares unit vectors; None is what the model does, and True for features.
        allow_overlap: tests on people that were trained on too.

    Raises:
        FileNotFoundError: if there is no model, file or folder.
        ValueError: if model, data, protocols and options do not fit each other.
    """
    refinement = Refinement(expand=expand, rerank=rerank)
    chosen = []
    for name in dict.fromkeys(protocols or ["single-query"]):
        if name not in PROTOCOLS:
            raise ValueError(f"there is no protocol {name!r}; known: {', '.join(PROTOCOLS)}")
        chosen.append(dataclasses.replace(PROTOCOLS[name], refinement=refinement))
    if features is None:
        assert model is not None
        assert path is not None
        embedder: Embeds = _opened(model, flip=flip, normalise=normalise)
        subsets = data.with_test_side(data.open_splits(path))
    else:
        if flip:
            raise ValueError("--flip embeds images, and --features gives what is embedded already")
        embedder, subsets = _given(features, path, chosen, normalise=normalise is not False)
    for protocol in chosen:
        protocol.check(embedder)
    return [
        protocol.evaluate(embedder, subsets, allow_overlap=allow_overlap) for protocol in chosen
    ]


def _opened(model: str, *, flip: bool, normalise: bool | None) -> Embeds:
    embedder = open_model(model)
    scoring = embedder.scoring
    if flip and scoring.test_mode == "dense_flip":
        raise ValueError(f"{model} sees mirror images already (test_mode=dense_flip): no --flip")
    if flip:
        scoring = dataclasses.replace(scoring, test_mode="flip")
    if normalise is not None:
        scoring = dataclasses.replace(scoring, normalise=normalise)
    return EmbedsOnce.of(dataclasses.replace(embedder, scoring=scoring))


def _given(
    file: str, path: str | None, protocols: Sequence[Protocol], *, normalise: bool
) -> tuple[Embeds, dict[str, Source]]:
    """The features of a file in the place of an embedder, and their images."""
    lists = data.read_features(file)
    if path is not None and pathlib.Path(path).suffix.lower() not in (".csv", ".tsv"):
        sources = data.open_splits(path)
    else:
        sources = data.feature_sources(lists, file, labels=path)
    subsets = data.with_test_side(sources)
    needed = {name for protocol in protocols for name in protocol.needs} & subsets.keys()
    rows = {
        name: data.aligned_features(lists, subsets[name], name, where=file)
        for name in {*needed, "query", "gallery"} - {"test"}
    }
    rows["test"] = np.concatenate([rows["query"], rows["gallery"]])
    known = [(subsets[name], found) for name, found in rows.items()]
    return GivenFeatures(known, where=file, normalise=normalise), subsets


def saved_decision(model: str | None, path: str | None) -> str:
    """Measures where the distances tell one person from two, and keeps it in the model.

    Args:
        model: saved model or work directory of a training.
        path: of images of people that were kept apart.

    Returns:
        A line about it.

    Raises:
        ValueError: if nothing can be measured on these images.
    """
    assert model is not None
    assert path is not None
    embedder = open_model(model)
    decision = decide.measure(embedder, data.with_test_side(data.open_splits(path)))
    directory = pathlib.Path(model).expanduser()
    if (directory / TRAINING_FILE).exists():
        decide.write(directory, decision)
    else:
        embedder.with_decision(decision).save(directory)
    return (
        f"{model} keeps the threshold {decision.threshold(None):.4f}, where both errors are "
        f"{100 * decision.equal_error.rate:.1f} %; measured on {decision.origin}\n"
    )


# Output ----------------------------------------------------------------------------------------


def as_json(found: Sequence[Evaluation]) -> dict[str, Any]:
    """What was found, as JSON has it; fractions in [0, 1], null where not defined."""
    return {
        "evaluations": [
            {
                "protocol": one.protocol,
                "fingerprint": one.fingerprint,
                "num_query": one.num_query,
                "num_gallery": one.num_gallery,
                "num_valid_queries": one.num_valid_queries,
                "distance": one.distance,
                "metrics": {name: _number(value) for name, value in one.metrics.items()},
                "intervals": {
                    name: [_number(end) for end in ends] for name, ends in one.intervals.items()
                },
                **one.details,
            }
            for one in found
        ]
    }


def as_text(found: Sequence[Evaluation]) -> str:
    """A table in percent: a row a protocol, and below it the intervals."""
    rows = [["", *(evaluation.METRIC_HEADINGS[name] for name in COLUMNS)]]
    notes = []
    for one in found:
        rows.append([one.protocol, *(f"{100 * one.metrics[name]:.2f}" for name in COLUMNS)])
        intervals = one.intervals
        ends = {name: [f"{100 * end:.1f}" for end in both] for name, both in intervals.items()}
        between = [" to ".join(ends[name]) if name in ends else "" for name in COLUMNS]
        rows.append(["  95 % of resampled queries", *between])
        notes.append(
            f"{one.protocol}: {one.num_query:,} queries, {one.num_valid_queries:,} of them with a "
            f"match, {one.num_gallery:,} gallery images; {one.distance}"
        )
        if shared := one.details.get("overlap"):
            notes.append(
                f"not a fair test: {shared['people']:,} of {shared['test_people']:,} people and "
                f"{shared['files']:,} images were trained on"
            )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(["in percent", *lines, *notes]) + "\n"


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
