"""What a run leaves in its work directory: its one schema, and its only reader and writer.

`config.json` is written when the run claims the directory, `results.json` and `ranking.npz`
when it is evaluated. `metrics.jsonl` and the checkpoints are written by the training loop.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import jax
import numpy as np
from etils import epath
from msgspec import Meta

from experiments.config import sections
from experiments.config.values import checked
from experiments.provenance import commit, versions
from reid_jax import parallel, report
from reid_jax.embedder import TRAINING_FILE
from reid_jax.evaluation import Decision
from reid_jax.files import differences, flattened, write_atomically
from reid_jax.training.logs import curves, salvage_metrics

__all__ = [
    "SCHEMA",
    "Numbers",
    "Results",
    "claim",
    "read_ranking",
    "read_record",
    "read_results",
    "read_run",
    "to_dict",
    "write_json",
    "write_ranking",
    "write_results",
]

SCHEMA: Final = 2
"""Version of the layout of `results.json`; files of version 1 do not say theirs."""

_IDENTITY = ("exp", "scale", "seed", "split", "config")
_FILES = ("results.json", "config.json", "metrics.jsonl")
_AGAIN = "run the command again in another --workdir, or delete that one"

Count = Annotated[int, Meta(ge=0)]

Numbers = dict[str, float | None]
"""Metrics by name; None: not defined, or not known of all runs."""


def _is(text: str) -> Meta:
    return Meta(description=text)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """What a run, an evaluation of it or the mean of several runs found.

    NumPy's scalars become Python's, and a number that is not finite becomes None. In the results of
    several runs, None stands for what differs between them.

    Raises:
        ValueError: for a value of another type, with the field's name.
    """

    schema: Annotated[Literal[2], _is("version of this layout")] = SCHEMA
    exp: Annotated[str, _is("experiment with its row, as given on the command line")]
    method: Annotated[str, _is("the paper: batch_contrastive, identif_verif, clever, ...")]
    objective: Annotated[str, _is("what was minimised: softmax, batch_contrastive, ...")]
    dataset: Annotated[str, _is("data set that was tested on")]
    trained_on: Annotated[str | None, _is("data sets that were trained on, joined by +")]
    data_source: Annotated[str, _is("of the images: official, custom or stand-in")]
    partition: Annotated[str | None, _is("division of the data set; null: it has none")]
    split: Annotated[Count | None, _is("number of the partition's split; null without one")]
    protocol: Annotated[str, _is("who asked, who answered, and what counted")]
    shortlist: Annotated[Count, _is("gallery images that were scored for a query; 0: all")]
    fingerprint: Annotated[str | None, _is("of the files, people and cameras that were compared")]
    scale: Annotated[
        Literal["paper", "small", "pretrained"],
        _is("size, schedule, first weights"),
    ]
    seed: Annotated[Count | None, _is("of everything random")]
    steps: Annotated[Count | None, _is("steps that the tested network was trained for")]
    num_devices: Annotated[Count | None, _is("devices that shared a batch of the training")]
    weights: Annotated[dict[str, Any] | None, _is("what training began with; null: scratch")]
    num_query: Annotated[Count | None, _is("queries")]
    num_gallery: Annotated[Count | None, _is("images of the gallery")]
    num_valid_queries: Annotated[Count | None, _is("queries with a match: means are over these")]
    metrics: Annotated[Numbers, _is("fractions in [0, 1] by name; null: not defined")]
    paper: Annotated[Numbers | None, _is("printed numbers of that row; null: none")]
    command: Annotated[str | None, _is("does the same again")]
    commit: Annotated[str | None, _is("git describe --always --dirty; null: no repository")]
    versions: Annotated[dict[str, str] | None, _is("Python and the packages")]
    machine: Annotated[dict[str, Any] | None, _is("cpu, its cores in use, and the device")]

    features: Annotated[
        str | None, _is("file of features made elsewhere that was tested; null: the run's network")
    ] = None
    intervals: Annotated[
        dict[str, tuple[float | None, float | None]] | None,
        _is("95 % intervals of metrics over resampled queries"),
    ] = None
    reranked: Annotated[
        Numbers | None, _is("metrics re-ranked by k-reciprocal neighbours; null: not measured")
    ] = None
    dtype: Annotated[str | None, _is("what the layers computed in, from training to test")] = None
    num_parameters: Annotated[Count | None, _is("trainable values of the network")] = None
    num_repeats: Annotated[Count | None, _is("random galleries that were drawn")] = None
    num_left_out: Annotated[Count | None, _is("images that the protocol has no use for")] = None
    distractors: Annotated[
        dict[str, int] | None, _is("distractors of the metrics whose names begin so")
    ] = None
    overlap: Annotated[
        dict[str, Any] | None, _is("people and files of the test that were trained on")
    ] = None
    operating: Annotated[
        dict[str, Any] | None, _is("thresholds and probability, as evaluation.Decision has them")
    ] = None
    camera_rule: Annotated[
        Literal["off"] | None, _is("off: images of the query's own camera count")
    ] = None
    num_runs: Annotated[Count | None, _is("runs that `metrics` are the mean of")] = None
    runs: Annotated[tuple[str, ...] | None, _is("their directories below this one")] = None
    metrics_std: Annotated[
        Numbers | None, _is("sample standard deviations; null for a single run")
    ] = None
    run_metrics: Annotated[dict[str, Numbers] | None, _is("metrics of each run")] = None

    def __post_init__(self) -> None:
        for name, annotation in sections.annotations(Results).items():
            value = checked(name, _plain(getattr(self, name)), annotation)
            object.__setattr__(self, name, value)
        report.data_mark(self.data_source)
        if self.operating is not None:
            Decision.from_json(self.operating, where="operating")


_LEFT_OUT = [field.name for field in dataclasses.fields(Results) if field.default is None]


def _plain(value: Any) -> Any:
    """The value as JSON has it: Python's numbers, None for one that is not finite."""
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_dict(results: Results) -> dict[str, Any]:
    """The results as `results.json` holds them: an optional field that is None is left out."""
    values = _plain(dataclasses.asdict(results))
    return {k: v for k, v in values.items() if v is not None or k not in _LEFT_OUT}


def write_results(path: epath.PathLike, results: Results) -> None:
    """Writes results to a work directory, or to the file that `path` names (`*.json`)."""
    write_json(_results_path(path), to_dict(results))


def read_results(path: epath.PathLike) -> Results:
    """Reads the results in a work directory, or in the file that `path` names (`*.json`).

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if the file is not JSON, is of another version, lacks a key, has an unknown one
            or holds a value of another type.
    """
    path = _results_path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: the run has not finished, or this is not its work directory. "
            "Run the same experiments/run.py command again to finish it."
        )
    content = _read_json(path)
    if "schema" not in content:
        raise ValueError(f"{path} was made by an older version of this program: {_AGAIN}.")
    if content["schema"] != SCHEMA:
        raise ValueError(
            f"{path} has schema {content['schema']!r}, and this version of reid_jax reads {SCHEMA}:"
            f" read it with the version that made it, or {_AGAIN}."
        )
    known = sections.annotations(Results)
    wrong = [
        f"{words} {', '.join(names)}"
        for words, names in (
            ("lacks", [name for name in known if name not in {*content, *_LEFT_OUT}]),
            ("has the unknown", [name for name in content if name not in known]),
        )
        if names
    ]
    if wrong:
        raise ValueError(f"{path} {' and '.join(wrong)}; run the experiment again.")
    try:
        return Results(**content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _results_path(path: epath.PathLike) -> epath.Path:
    path = epath.Path(path)
    return path if path.suffix == ".json" else path / "results.json"


# The record of a run ---------------------------------------------------------------------------


def claim(workdir: epath.PathLike, record: Mapping[str, Any], *, started: bool) -> None:
    """Writes `config.json`, or compares with the one there that a run has built on.

    Every process of a run calls it; the main one writes.

    Args:
        workdir: of the run.
        record: `exp`, `scale`, `seed`, `split`, `config` and `images` (`sources.digests`), which
            make a run what it is, and `command` and `data_dir`. The device, the versions and the
            commit are added.
        started: whether the directory holds a checkpoint or results; without these, a record that
            is there is replaced.

    Raises:
        ValueError: if the directory belongs to another run, with what differs, or to an older
            version.
    """
    path = epath.Path(workdir) / "config.json"
    if started and path.exists():
        _compare(workdir, read_record(workdir), json.loads(json.dumps(_plain(record))))
    elif parallel.is_main_process():
        provenance = {
            "devices": jax.devices()[0].device_kind,
            "versions": versions(),
            "git_commit": commit(),
        }
        write_json(path, {**record, **provenance})
    parallel.barrier("work directory claimed")


def _compare(workdir: epath.PathLike, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    known, asked = (
        {name: record.get(name) for name in _IDENTITY} | {"config": _of_today(record["config"])}
        for record in (there, here)
    )
    if flattened(known).keys() != flattened(asked).keys():
        raise ValueError(f"{workdir} was made by another version of this program: {_AGAIN}.")
    differing = differences(known, asked)
    # Records of before there were digests do not have them.
    asked_images = here.get("images", {})
    known_images = there.get("images", asked_images)
    names = sorted(asked_images.keys() | known_images.keys())
    others = [name for name in names if known_images.get(name) != asked_images.get(name)]
    if others:
        differing.append(
            f"images of {', '.join(others)}: those of {there['data_dir']} there, and others here, "
            f"in {here['data_dir']}"
        )
    if differing:
        raise ValueError(
            f"{workdir} belongs to another run:\n  "
            + "\n  ".join(differing)
            + "\nGive another --workdir, or delete that directory."
        )


def _of_today(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a record, with the keys that were not there yet at their defaults."""
    return dict(config) | {
        name: {
            **{
                field.name: json.loads(json.dumps(field.default))
                for field in dataclasses.fields(section)
                if field.default is not dataclasses.MISSING
            },
            **config[name],
        }
        for name, section in sections.SECTIONS.items()
        if isinstance(config.get(name), Mapping)
    }


def read_record(workdir: epath.PathLike) -> dict[str, Any]:
    """Reads `config.json`, the record of a run.

    Raises:
        FileNotFoundError: if the directory holds no run.
        ValueError: if the file is not JSON.
    """
    path = epath.Path(workdir) / "config.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{workdir} holds no config.json: it is not the work directory of a run"
        )
    return _read_json(path)


# Files of a run --------------------------------------------------------------------------------


def read_run(workdir: epath.PathLike) -> report.Run:
    """Reads everything that a finished run left behind.

    Args:
        workdir: the run's directory, local or in a bucket.

    Returns:
        The run. Only `results.json` must be there; the absence of another file is among its
        problems. A step that was logged twice, as after a resumed run, counts as written last.

    Raises:
        FileNotFoundError: if there is no `results.json`.
        ValueError: if a file is there and cannot be read.
    """
    workdir = epath.Path(workdir)
    results = to_dict(read_results(workdir))
    problems = []
    config: dict[str, Any] = {}
    ranking: dict[str, np.ndarray] = {}
    if (workdir / "config.json").exists():
        config = read_record(workdir)
    else:
        problems.append("config.json is missing: the configuration is not shown.")
    records, num_bad = salvage_metrics(workdir)
    if num_bad:
        problems.append(
            f"metrics.jsonl: {num_bad} line(s) cut short, as by a killed run, left out."
        )
    if not (workdir / "metrics.jsonl").exists():
        problems.append("metrics.jsonl is missing: there are no training curves.")
    if (workdir / "ranking.npz").exists():
        ranking = read_ranking(workdir)
    else:
        problems.append("ranking.npz is missing: there are no curves of ranks and no lists.")
    training = _read_json(workdir / TRAINING_FILE) if (workdir / TRAINING_FILE).exists() else {}
    of_training, of_validation = curves(records)
    return report.Run(
        results,
        config,
        training=of_training,
        validation=of_validation,
        ranking=ranking,
        training_set={
            "num_images": training.get("data", {}).get("num_images"),
            "num_identities": training.get("num_identities"),
        },
        evaluations=_evaluations(workdir),
        files=tuple(name for name in _FILES if (workdir / name).exists()),
        problems=tuple(problems),
    )


def _evaluations(workdir: epath.Path) -> dict[str, dict[str, Any]]:
    """The later evaluations of a run, by data set and protocol."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(workdir.glob("evaluation-*.json")):
        results = to_dict(read_results(path))
        name = f"{results['protocol']}, {results['dataset']}"
        # Others, such as with an option that the protocol does not name, by their file.
        found[path.stem.removeprefix("evaluation-") if name in found else name] = results
    return found


def write_ranking(workdir: epath.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes `ranking.npz`: the arrays of an evaluation that a report shows."""
    buffer = io.BytesIO()
    named: dict[str, Any] = dict(arrays)
    np.savez_compressed(buffer, **named)
    write_atomically(epath.Path(workdir) / "ranking.npz", buffer.getvalue())


def read_ranking(workdir: epath.PathLike) -> dict[str, np.ndarray]:
    """Reads `ranking.npz`.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it cannot be read.
    """
    path = epath.Path(workdir) / "ranking.npz"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; evaluate the run again.")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read ({error}); evaluate the run again.") from error


def write_json(path: epath.PathLike, content: Mapping[str, Any]) -> None:
    """Writes a mapping as JSON, whole or not at all."""
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _read_json(path: epath.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); run the experiment again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a JSON object.")
    return content
