"""What was run, in words: names and values, and how to run it again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from reid_jax.files import flattened
from reid_jax.report import document
from reid_jax.report.run import Run

__all__ = ["problem_list", "reproduction", "result_facts", "run_facts", "words"]

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
    "machine": "Machine",
    "versions": "Versions",
    "commit": "Git commit",
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
}
_MAY_BE_ABSENT = {"partition", "split"}


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
    if name == "num_query":
        return f"{text}, {words(results.get('num_valid_queries'))} of them with a match"
    if name == "num_gallery":
        return f"{text} images"
    if name == "weights" and results[name] is None:
        return "none: trained from scratch"
    if name == "num_devices" and (device := (results.get("machine") or {}).get("device")):
        return f"{text} x {device}"
    return text


def run_facts(run: Run) -> dict[str, str]:
    """The facts of a run, and how fast it trained."""
    shown = result_facts(run.results)
    speed = run.training.get("images_per_second")
    if speed is not None and np.isfinite(speed).any():
        shown["Training speed"] = f"{np.nanmedian(speed):,.1f} images/s (median)"
    return shown


def problem_list(texts: Sequence[str]) -> str:
    """What a page lacks, as HTML; empty where it lacks nothing."""
    return f"<p>Not on this page:</p>{document.items(texts)}" if texts else ""


def reproduction(command: str, config: Mapping[str, Any]) -> str:
    """A command and all resolved values, as HTML."""
    shown = f"<pre><code>{escape(command)}</code></pre>" if command else ""
    resolved = {
        name: "null" if value is None else str(value) for name, value in flattened(config).items()
    }
    if resolved:
        shown += document.folded("All resolved values", document.facts(resolved))
    return shown
