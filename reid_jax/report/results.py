"""What was measured: the headlines of a page, its tables of numbers, and notes on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from reid_jax.report.facts import words
from reid_jax.report.run import Run
from reid_jax.report.tables import METRIC_HEADINGS, Table, html_table, percent

__all__ = [
    "headlines",
    "operating_rows",
    "other_metrics",
    "result_table",
    "run_metrics",
    "run_table",
    "warnings",
]

_HEADLINES = ("rank1", "rank5", "map_step", "minp")


def headlines(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The numbers at the top of a page, in percent, with small words below each."""
    metrics, printed = results["metrics"], _printed(results)
    shown = [name for name in _HEADLINES if metrics.get(name) is not None]
    if metrics.get("map_step") is None and metrics.get("map_trapezoid") is not None:
        shown.insert(1, "map_trapezoid")
    tiles = []
    for name in shown:
        value, _, deviation = percent(_with_deviation(results, name)).partition(" ± ")
        small = [f"± {deviation}"] if deviation else []
        if interval := _interval(results, name):
            small.append(f"95 %: {interval}")
        if name == "map_step" and metrics.get("map_trapezoid") is not None:
            small.append(f"trapezoid {percent(metrics['map_trapezoid'])}")
        if results["data_source"] == "official":
            small += [
                f"paper {percent(printed[of])}" + (" (trapezoid)" if of != name else "")
                for of in ([name, "map_trapezoid"] if name == "map_step" else [name])
                if printed.get(of) is not None
            ]
        tiles.append({"name": METRIC_HEADINGS[name], "value": f"{value} %", "small": small})
    if operating := results.get("operating"):
        equal = operating["equal_error"]
        small = [f"at distance {equal['threshold']:.3g}", f"{operating['measured_on']} people"]
        tiles.append(
            {"name": "equal error rate", "value": f"{percent(equal['rate'])} %", "small": small}
        )
    return tiles


def warnings(results: Mapping[str, Any]) -> list[str]:
    """What must be known before a number is read."""
    said = []
    if shared := results.get("overlap"):
        said.append(
            f"Not a fair test: {shared['people']:,} of {shared['test_people']:,} test identities "
            f"and {shared['files']:,} test images were trained on."
        )
    if results.get("camera_rule") == "off":
        said.append("The camera rule is off: images of the query's own camera count.")
    return said


def result_table(
    results: Mapping[str, Any], label: str, evaluations: Mapping[str, Mapping[str, Any]]
) -> Markup:
    """The paper's row, ours, and those of later evaluations of the run."""
    printed, columns = _printed(results), _columns(results)
    notes = [
        f"The paper's {name}: {words(value)}."
        for name, value in (results.get("paper") or {}).items()
        if name not in printed
    ]
    if printed and results.get("scale") == "small":
        notes.append("Small scale: a reduction of the paper's schedule and size.")
    num_query, num_valid = results.get("num_query"), results.get("num_valid_queries")
    if num_query and num_valid is not None and num_valid < num_query:
        notes.append(
            f"{num_query - num_valid:,} of {num_query:,} queries have no match in the gallery; "
            "the means are over the others."
        )
    intervals = [
        f"{METRIC_HEADINGS[name]} {interval}"
        for name in columns
        if name in METRIC_HEADINGS and (interval := _interval(results, name))
    ]
    if intervals:
        notes.append(f"95 % intervals over queries: {', '.join(intervals)}.")
    rows: list[dict[str, Any]] = []
    if printed:
        rows.append({"label": "the paper", "ours": printed})
    rows.append({"label": label, "ours": {c: _with_deviation(results, c) for c in columns}})
    if reranked := results.get("reranked"):
        row = {c: reranked.get(c) for c in columns}
        rows.append({"label": f"{label}, re-ranked", "ours": row})
    rows += [
        {"label": name, "ours": {c: other["metrics"].get(c) for c in columns}}
        for name, other in evaluations.items()
    ]
    title = results["exp"] + (" beside the paper's row" if printed else "")
    table = Table(title, columns, rows, notes, data_source=results["data_source"])
    return Markup(html_table(table, marked=False))


def other_metrics(results: Mapping[str, Any]) -> dict[str, str]:
    """What is measured but no share: thresholds and the like keep their own unit."""
    others = {}
    for name in results["metrics"]:
        if name not in _columns(results):
            mean, deviation = _with_deviation(results, name)
            others[name] = words(mean)
            if deviation is not None:
                others[name] += f" ± {words(deviation)}"
    return others


def operating_rows(operating: Mapping[str, Any]) -> list[dict[str, str]]:
    """The operating points as words: the rate that is kept, threshold and true accepts."""
    equal = operating["equal_error"]
    rows = [
        {
            "name": "equal error",
            "false": percent(equal["rate"]),
            "threshold": _number(equal["threshold"]),
            "threshold_interval": _range(equal["threshold_interval"], 1.0),
            "true": percent(None if equal["rate"] is None else 1.0 - equal["rate"]),
            "true_interval": _range([1 - v for v in (equal["rate_interval"] or [])[::-1]], 100.0),
        }
    ]
    for point in operating["points"]:
        rate = 100 * point["false_accept_rate"]
        rows.append(
            {
                "name": f"{rate:g} % false accepts",
                "false": f"{rate:g}",
                "threshold": _number(point["threshold"]),
                "threshold_interval": _range(point["threshold_interval"], 1.0),
                "true": percent(point["true_accept_rate"]),
                "true_interval": _range(point["true_accept_interval"], 100.0),
            }
        )
    return rows


def run_metrics(runs: Mapping[str, Run]) -> dict[str, list[float | None]]:
    """The shares that are shown of each run, by heading."""
    columns = [
        name
        for name in ("rank1", "rank5", "map_step", "map_trapezoid", "minp")
        if any(run.results["metrics"].get(name) is not None for run in runs.values())
    ]
    return {
        METRIC_HEADINGS[name]: [run.results["metrics"].get(name) for run in runs.values()]
        for name in columns
    }


def run_table(summary: Mapping[str, Any], runs: Mapping[str, Run]) -> Markup:
    """A row for each run."""
    columns = _columns(summary)
    rows = [
        {"label": name, "ours": {c: run.results["metrics"].get(c) for c in columns}}
        for name, run in runs.items()
    ]
    table = Table("Each run", columns, rows, data_source=summary["data_source"])
    return Markup(html_table(table, marked=False))


def _columns(results: Mapping[str, Any]) -> list[str]:
    """The metrics of the table: shares in percent, measured or printed in the paper."""
    printed = _printed(results)
    columns = [name for name in METRIC_HEADINGS if name in results["metrics"] or name in printed]
    return columns + [name for name in printed if name not in METRIC_HEADINGS]


def _printed(results: Mapping[str, Any]) -> dict[str, float | None]:
    return {n: value for n, value in (results.get("paper") or {}).items() if _is_number(value)}


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _with_deviation(results: Mapping[str, Any], name: str) -> tuple[float | None, float | None]:
    return results["metrics"].get(name), (results.get("metrics_std") or {}).get(name)


def _interval(results: Mapping[str, Any], name: str) -> str:
    return _range((results.get("intervals") or {}).get(name), 100.0)


def _range(ends: Sequence[float] | None, factor: float) -> str:
    """'50.1 to 60.2'; empty for None."""
    if not ends or any(end is None for end in ends):
        return ""
    digits = 1 if factor == 100.0 else 3
    low, high = (f"{factor * end:.{digits}f}" for end in ends)
    return f"{low} to {high}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
