"""What was measured: the headlines of a page, and its tables of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reid_jax.report import document
from reid_jax.report.facts import words
from reid_jax.report.run import Run
from reid_jax.report.tables import METRIC_HEADINGS, Table, data_mark, html_table, percent

__all__ = ["headlines", "result_table", "run_table"]

_HEADLINES = ("rank1", "rank5", "map_step", "map_trapezoid", "minp")


def headlines(results: Mapping[str, Any]) -> dict[str, str]:
    """The numbers at the top of a page by their headings, in percent."""
    return {
        METRIC_HEADINGS[name]: percent(_with_deviation(results, name)) + " %"
        for name in _HEADLINES
        if results["metrics"].get(name) is not None
    }


def result_table(results: Mapping[str, Any], label: str) -> str:
    """A row beside the paper's, and what is measured but is no share, as HTML."""
    printed, columns = _printed(results), _columns(results)
    notes = [
        f"The paper's {name}: {words(value)}."
        for name, value in (results.get("paper") or {}).items()
        if name not in printed
    ]
    if results.get("scale") == "small":
        notes.append("Small scale: a reduction of the paper's schedule and size.")
    num_query, num_valid = results.get("num_query"), results.get("num_valid_queries")
    if num_query and num_valid is not None and num_valid < num_query:
        notes.append(
            f"{num_query - num_valid:,} of {num_query:,} queries have no match in the gallery; "
            "the means are over the others."
        )
    if shared := results.get("overlap"):
        notes.append(
            f"Not a fair test: {shared['people']:,} of {shared['test_people']:,} test identities "
            f"and {shared['files']:,} test images were trained on."
        )
    if results.get("camera_rule") == "off":
        notes.append("The camera rule is off: images of the query's own camera count.")
    ours = {name: _with_deviation(results, name) for name in columns}
    table = Table(
        title=results["exp"] + (" beside the paper's row" if printed else ""),
        columns=columns,
        rows=[{"label": label, "paper": printed, "ours": ours}],
        notes=notes,
        data_source=results["data_source"],
    )
    # Thresholds and the like keep their own unit.
    others = {}
    for name in results["metrics"]:
        if name not in columns:
            mean, deviation = _with_deviation(results, name)
            others[name] = words(mean)
            if deviation is not None:
                others[name] += f" ± {words(deviation)}"
    more = ""
    if others:
        mark = document.mark_tag(data_mark(results["data_source"]))
        more = f"<p>Further metrics {mark}</p>{document.facts(others)}"
    return f'<div class="scroll">{html_table(table)}</div>{more}'


def run_table(summary: Mapping[str, Any], runs: Mapping[str, Run]) -> str:
    """A row for each run, as HTML."""
    columns = _columns(summary)
    rows = [
        {
            "label": name,
            "ours": {column: run.results["metrics"].get(column) for column in columns},
        }
        for name, run in runs.items()
    ]
    table = Table("Each run", columns, rows, data_source=summary["data_source"])
    return f'<div class="scroll">{html_table(table)}</div>'


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
