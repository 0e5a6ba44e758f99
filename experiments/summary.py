"""The mean of several runs, and the lines that close a run."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.workdir import Numbers, Results
from reid_jax import report
from reid_jax.evaluation import Decision

__all__ = ["summarize", "summary_table", "summary_text", "tested_text"]

_SAME_KIND = (
    "exp",
    "method",
    "objective",
    "dataset",
    "data_source",
    "protocol",
    "shortlist",
    "camera_rule",
    "features",
    "scale",
)


def summarize(runs: Mapping[str, Results]) -> Results:
    """Mean and standard deviation of runs: the results above them.

    Args:
        runs: name of each run's directory below the common one, such as 'seed_0', to its results.

    Returns:
        What the runs share, None where they differ; the commits, versions and machines of all of
        them; means, sample standard deviations (None for a single run) and the metrics of each
        run. A metric that any run lacks is None.

    Raises:
        ValueError: if there is no run, or runs differ in experiment, data or protocol.
    """
    if not runs:
        raise ValueError("summarize: there are no runs.")
    first, *others = runs.values()
    for key in _SAME_KIND:
        kinds = {str(getattr(results, key)) for results in runs.values()}
        if len(kinds) > 1:
            raise ValueError(
                f"summarize: {', '.join(runs)} differ in {key} ({', '.join(sorted(kinds))}); "
                "a mean needs runs of one kind. Give each kind its own work directory."
            )
    shared: dict[str, Any] = {
        name: getattr(first, name)
        if all(getattr(results, name) == getattr(first, name) for results in others)
        else None
        for name in (field.name for field in dataclasses.fields(Results))
    }
    means: Numbers = {}
    deviations: Numbers = {}
    for name in dict.fromkeys(name for results in runs.values() for name in results.metrics):
        values = [results.metrics.get(name) for results in runs.values()]
        known = [value for value in values if value is not None]
        complete = len(known) == len(values)
        means[name] = statistics.fmean(known) if complete else None
        deviations[name] = statistics.stdev(known) if complete and len(known) > 1 else None
    own: dict[str, Any] = {
        "num_runs": len(runs),
        "runs": tuple(runs),
        "metrics": means,
        "metrics_std": deviations,
        "run_metrics": {name: results.metrics for name, results in runs.items()},
        # A run that was added later is often of another commit, and the mean is of both.
        "commit": ", ".join(dict.fromkeys(r.commit for r in runs.values() if r.commit)) or None,
        "versions": _of_all(r.versions for r in runs.values()),
        "machine": _of_all(r.machine for r in runs.values()),
    }
    return Results(**(shared | own))


def _of_all(found: Iterable[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Each entry as all runs have it, or what they have, each once, in a text."""
    entries: dict[str, list[Any]] = {}
    for of_run in found:
        for name, value in (of_run or {}).items():
            entries.setdefault(name, []).append(value)
    return {
        name: values[0] if len(set(values)) == 1 else ", ".join(map(str, dict.fromkeys(values)))
        for name, values in entries.items()
    } or None


def summary_table(results: Results) -> report.Table:
    """The numbers of a run beside the paper's, under what they were measured on and how.

    With distractors there is a row for each size of the gallery.
    """
    parts = [f"{results.exp} on {_where(results)}", results.protocol]
    if results.shortlist and "shortlist" not in results.protocol:
        parts.append(f"shortlist {results.shortlist}")
    parts.append(f"{results.scale} scale")
    if results.features:
        parts[-1] = f"features of {results.features}"
    if results.overlap:
        parts.append(
            f"{results.overlap['people']} of {results.overlap['test_people']} test identities and "
            f"{results.overlap['files']} test images were trained on"
        )
    parts.append(f"seed {results.seed}" if results.num_runs is None else f"{results.num_runs} runs")
    sizes = results.distractors or {"": 0}
    own = sorted(results.metrics, key=lambda name: "/" in name)
    shares = [prefix for prefix in sizes if prefix]
    of_all = [n for n in own if not any(n.startswith(prefix) for prefix in shares)]
    columns = [name for name in report.METRIC_HEADINGS if name in of_all]
    columns += [name for name in of_all if name not in columns]
    rows = []
    for prefix, number in sizes.items():
        _, plus, options = results.protocol.partition("+")
        label = results.exp + plus + options
        if results.distractors and results.num_gallery is not None:
            label = f"{results.num_gallery - max(sizes.values()) + number:,} gallery images"
        row: dict[str, Any] = {
            "label": label,
            "ours": {name: _with_spread(results, prefix + name) for name in columns},
        }
        if results.paper and not prefix:
            row["paper"] = results.paper
        rows.append(row)
    notes = interval_notes(results.intervals or {})
    return report.Table(", ".join(parts), columns, rows, notes, data_source=results.data_source)


def interval_notes(intervals: Mapping[str, tuple[float | None, float | None]]) -> list[str]:
    """A line that says the intervals of metrics; none where there are none."""
    told = [
        f"{report.METRIC_HEADINGS[name]} {report.percent(low)} to {report.percent(high)}"
        for name, (low, high) in intervals.items()
    ]
    return [f"95 % of resampled queries: {', '.join(told)}"] if told else []


def _with_spread(results: Results, name: str) -> Any:
    value = results.metrics.get(name)
    return value if results.metrics_std is None else (value, results.metrics_std.get(name))


def tested_text(results: Results) -> str:
    """What was measured: protocol (with its shortlist), data set, partition and split."""
    return f"{results.protocol}, {_where(results)}"


def _where(results: Results) -> str:
    if results.partition is None:
        return results.dataset
    split = "several splits" if results.split is None else f"split {results.split}"
    return f"{results.dataset} ({results.partition}, {split})"


def summary_text(results: Results) -> str:
    """The closing lines of a run."""
    lines = [report.text_table(summary_table(results))]
    if results.operating is not None:
        lines += Decision.from_json(results.operating, where="operating").lines()
    return "\n".join(lines)
