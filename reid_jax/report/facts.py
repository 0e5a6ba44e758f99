"""What was run, in words: names and values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from reid_jax.files import flattened
from reid_jax.report.run import Run

__all__ = ["resolved_values", "result_facts", "training_facts", "words"]

_HEADINGS = {
    "exp": "Experiment",
    "method": "Method",
    "objective": "Objective",
    "dataset": "Data set",
    "partition": "Partition",
    "split": "Split",
    "trained_on": "Trained on",
    "protocol": "Protocol",
    "num_query": "Queries",
    "num_gallery": "Gallery",
    "fingerprint": "Fingerprint of the test set",
    "scale": "Scale",
    "seed": "Seed",
    "steps": "Steps",
    "weights": "Initial weights",
    "num_devices": "Devices",
    "dtype": "Layers compute in",
    "machine": "Machine",
    "versions": "Versions",
    "commit": "Git commit",
    "num_repeats": "Random draws",
    "num_left_out": "Images without a use in the protocol",
}
_SHOWN_ELSEWHERE = {
    "schema",
    "data_source",
    "num_valid_queries",
    "metrics",
    "metrics_std",
    "run_metrics",
    "paper",
    "runs",
    "num_runs",
    "command",
    "operating",
    "intervals",
    "num_parameters",
    "reranked",
}
_MAY_BE_ABSENT = {"partition", "split", "dtype", "num_repeats", "num_left_out"}


def words(value: object) -> str:
    """A value in words: None is 'not recorded', a mapping or a list is one line."""
    if value is None:
        return "not recorded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {words(entry)}" for name, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(words(entry) for entry in value)
    return str(value)


def result_facts(results: Mapping[str, Any], *, differing: Collection[str] = ()) -> dict[str, str]:
    """Everything in the results but the numbers, by heading.

    What has a heading of its own is 'not recorded' where it is None; what else is None, or a
    shortlist of 0, is left out.

    Args:
        results: of a run, or of several.
        differing: keys that are not the same in all of several runs.
    """
    shown = {}
    for name in dict.fromkeys([*_HEADINGS, *results]):
        if name not in results or name in _SHOWN_ELSEWHERE:
            continue
        heading = _HEADINGS.get(name, name.replace("_", " ").capitalize())
        needed = name in _HEADINGS and name not in _MAY_BE_ABSENT
        if name in differing:
            shown[heading] = "differs between the runs"
        elif needed or (results[name] is not None and (name, results[name]) != ("shortlist", 0)):
            shown[heading] = _fact(name, results)
    return shown


def _fact(name: str, results: Mapping[str, Any]) -> str:
    text = words(results[name])
    if name == "dataset":
        return f"{text} ({results['data_source']} data)"
    if name == "num_query" and (results.get("num_repeats") or 1) > 1:
        return f"{text}, in {results['num_repeats']} draws"
    if name == "num_query":
        return f"{text}, {words(results.get('num_valid_queries'))} of them with a match"
    if name == "num_gallery":
        return f"{text} images"
    if name == "weights" and results[name] is None:
        return "from scratch"
    if name == "num_devices" and (device := (results.get("machine") or {}).get("device")):
        return f"{text} x {device}"
    return text


def training_facts(run: Run) -> dict[str, str]:
    """What was trained on what, how large and how long."""
    trained = run.training_set
    known: dict[str, Any] = {
        "Training images": trained.get("num_images"),
        "identities": trained.get("num_identities"),
        "Steps": run.results.get("steps"),
        "Batch": _section(run, "sampler").get("batch_size"),
        "Input": _size(_section(run, "data")),
        "Network": _section(run, "model").get("name"),
        "Parameters": _millions(run.results.get("num_parameters")),
    }
    shown = {name: words(value) for name, value in known.items() if value is not None}
    speed = run.training.get("images_per_second")
    if speed is not None and np.isfinite(speed).any():
        shown["Training speed"] = f"{np.nanmedian(speed):,.1f} images/s (median)"
        if (seconds := _seconds(run.training, known["Batch"])) is not None:
            shown["Training time"] = f"about {_duration(seconds)}"
    return shown


def _section(run: Run, name: str) -> Mapping[str, Any]:
    """A section of the run's config; empty where it has none."""
    section = run.config.get("config", {}).get(name)
    return section if isinstance(section, Mapping) else {}


def _size(images: Mapping[str, Any]) -> str | None:
    size = images.get("crop_size") or images.get("image_size")
    return f"{size[0]} x {size[1]}" if size else None


def _millions(count: int | None) -> str | None:
    return None if count is None else f"{count / 1e6:.2f} million"


def _seconds(training: Mapping[str, np.ndarray], batch: int | None) -> float | None:
    """What the training took, from the speed logged now and then; None where that is not known."""
    speed, steps = training["images_per_second"], training["step"]
    known = np.isfinite(speed) & (speed > 0)
    if batch is None or not known.any():
        return None
    covered = np.diff(np.concatenate([[-1.0], steps[known]]))
    # The steps after the last value are as fast as those before it.
    covered[-1] += steps[-1] - steps[known][-1]
    return float((covered * batch / speed[known]).sum())


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def resolved_values(config: Mapping[str, Any]) -> dict[str, str]:
    """All values of a config by name, as text."""
    return {
        name: "null" if value is None else str(value) for name, value in flattened(config).items()
    }
