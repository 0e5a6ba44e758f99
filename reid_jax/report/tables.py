"""Tables of a paper's numbers beside ours, as plain text, Markdown or HTML."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from reid_jax.evaluation import METRIC_HEADINGS
from reid_jax.report.document import render

_DATA_MARKS = {
    "official": None,
    "stand-in": "stand-in data: rendered, not comparable with the paper",
    "custom": "own data: another data set than the paper's, not comparable with the paper",
}
_ROW_KEYS = ("label", "paper", "ours", "note")
_SOURCES = ("paper", "ours")
_ABSENT = "-"


def data_mark(data_source: str) -> str | None:
    """Words that go with every number measured on data that is not the paper's.

    Args:
        data_source: 'official', 'custom' or 'stand-in', as in `results.json`.

    Returns:
        The words, or None for official data.

    Raises:
        ValueError: for another data source.
    """
    if data_source not in _DATA_MARKS:
        raise ValueError(
            f"data_source is {data_source!r}, expected one of {', '.join(_DATA_MARKS)}."
        )
    return _DATA_MARKS[data_source]


def percent(value: float | Sequence[float | None] | None) -> str:
    """A fraction in percent with two decimals, with its standard deviation if it has one.

    Args:
        value: a fraction, a pair (mean, standard deviation) of fractions, or None. What is
            not finite reads as None; a standard deviation that is None is left out.

    Returns:
        '86.40', '86.40 ± 0.31' or '-'.

    Raises:
        ValueError: if a sequence does not have two entries.
    """
    deviation = None
    if isinstance(value, Sequence):
        if len(value) != 2:
            raise ValueError(f"got {value!r}, expected a fraction or (mean, standard deviation).")
        value, deviation = value
    if value is None or not math.isfinite(value):
        return _ABSENT
    text = f"{100.0 * value:.2f}"
    if deviation is not None and math.isfinite(deviation):
        text += f" ± {100.0 * deviation:.2f}"
    return text


@dataclasses.dataclass(frozen=True)
class Table:
    """A paper's table with our numbers beside the printed ones.

    Under a metric's heading there is a column for each of 'paper' and 'ours' in which any row has
    a value; a metric without any value keeps one empty column. A table without any number of the
    paper does not name the source of its columns.

    Args:
        title: what the table is, such as 'Table 1: Market-1501, single query'.
        columns: metrics, as keys of the rows' numbers, left to right.
        rows: plain mappings with 'label' and any of 'paper' and 'ours' (metric to a fraction, a
            pair (mean, standard deviation) or None) and 'note'. A row of the literature has only
            'paper'.
        notes: sentences below the table.
        data_source: 'official', 'custom' or 'stand-in': what ours was measured on. Anything but
            official is marked above the table in every format.

    Raises:
        ValueError: if a row lacks its label, has an unknown key or a metric that is no column, or
            the data source is unknown.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Mapping]
    notes: Sequence[str] = ()
    data_source: str = "official"

    def __post_init__(self) -> None:
        data_mark(self.data_source)
        for row in self.rows:
            unknown = [key for key in row if key not in _ROW_KEYS]
            if unknown or "label" not in row:
                raise ValueError(
                    f"table {self.title!r}: a row has the keys {list(row)}, expected 'label' and "
                    f"any of {', '.join(_ROW_KEYS[1:])}."
                )
            for source in _SOURCES:
                stray = [key for key in row.get(source) or {} if key not in self.columns]
                if stray:
                    raise ValueError(
                        f"table {self.title!r}, row {row['label']!r}: {source} has {stray}, "
                        f"which is not among the columns {list(self.columns)}; add the column or "
                        "leave the number out."
                    )


@dataclasses.dataclass(frozen=True)
class _Layout:
    """A table's cells as words, which the formats only dress."""

    groups: list[tuple[str, list[str]]]  # a metric's heading and its sources
    body: list[list[str]]  # label, one cell a column, and the note where any row has one
    has_notes: bool
    beside: bool  # whether any column is the paper's, so that columns must say whose they are


def _layout(table: Table) -> _Layout:
    groups, keys = [], []
    for metric in table.columns:
        sources = [
            source
            for source in _SOURCES
            if any(percent((row.get(source) or {}).get(metric)) != _ABSENT for row in table.rows)
        ] or ["ours"]
        groups.append((_heading(metric), sources))
        keys += [(source, metric) for source in sources]
    has_notes = any(row.get("note") for row in table.rows)
    body = [
        [row["label"]]
        + [percent((row.get(source) or {}).get(metric)) for source, metric in keys]
        + [row.get("note") or ""] * has_notes
        for row in table.rows
    ]
    return _Layout(groups, body, has_notes, any("paper" in group for _, group in groups))


def _heading(metric: str) -> str:
    """'multi-query-average/rank1' -> 'multi-query-average rank-1'."""
    *where, name = metric.split("/")
    words = [part.replace("_", " ") for part in where]
    return " ".join([*words, METRIC_HEADINGS.get(name, name)])


def text_table(table: Table) -> str:
    """A table for a terminal, numbers in percent, columns aligned.

    Args:
        table: the table.

    Returns:
        Lines of text without a line end after the last.
    """
    layout = _layout(table)
    num_numbers = sum(len(sources) for _, sources in layout.groups)
    sources = [source if layout.beside else "" for _, group in layout.groups for source in group]
    sources = ["", *sources] + [""] * layout.has_notes
    widths = [max(map(len, column)) for column in zip(sources, *layout.body, strict=True)]
    # A metric's heading stands over all its columns, the last of which takes what it needs more.
    index, heading = 1, [" " * widths[0]]
    for name, group in layout.groups:
        joined = sum(widths[index : index + len(group)]) + 2 * (len(group) - 1)
        widths[index + len(group) - 1] += max(0, len(name) - joined)
        heading.append(name.rjust(max(joined, len(name))))
        index += len(group)

    def line(cells: Sequence[str]) -> str:
        aligned = [cells[0].ljust(widths[0])]
        aligned += [
            cell.rjust(width)
            for cell, width in zip(cells[1 : 1 + num_numbers], widths[1:], strict=False)
        ]
        return "  ".join([*aligned, *cells[1 + num_numbers :]]).rstrip()

    mark = data_mark(table.data_source)
    rule = "-" * max(len("  ".join(heading)), *(len(line(cells)) for cells in layout.body), 0)
    lines = [f"{table.title} (%)"]
    lines += [f"[{mark}]"] if mark else []
    lines += ["  ".join(heading).rstrip()] + [line(sources)] * layout.beside
    lines += [rule, *map(line, layout.body), rule]
    return "\n".join([*lines, *table.notes])


def markdown_table(table: Table) -> str:
    """A table in GitHub's Markdown, numbers in percent.

    Args:
        table: the table.

    Returns:
        Lines of Markdown without a line end after the last.
    """
    layout = _layout(table)
    headings = [
        f"{name}, {source}" if layout.beside else name
        for name, group in layout.groups
        for source in group
    ]
    head = ["", *headings] + ["note"] * layout.has_notes

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_markdown_escaped(cell) for cell in cells) + " |"

    mark = data_mark(table.data_source)
    rule = ["---"] + ["---:"] * len(headings) + ["---"] * layout.has_notes
    parts = [f"**{_markdown_escaped(table.title)} (%)**"]
    parts += [f"**{mark}**"] if mark else []
    parts.append("\n".join([line(head), "|" + "|".join(rule) + "|", *map(line, layout.body)]))
    parts += [_markdown_escaped(note) for note in table.notes]
    return "\n\n".join(parts)


def _markdown_escaped(text: str) -> str:
    for character in "\\|*`<[":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


def html_table(table: Table, *, marked: bool = True) -> str:
    """A table as a `<table>` element, numbers in percent, every text escaped.

    Args:
        table: the table.
        marked: says in the caption what data was measured on, if it is not official.

    Returns:
        HTML of one element, without styles; the mark of data that is not official has the class
        'mark', and each number the heading of its column in `data-label`.
    """
    layout = _layout(table)
    columns = [
        {
            "source": source,
            "label": f"{name}, {source}" if layout.beside else name,
        }
        for name, group in layout.groups
        for source in group
    ]
    return render(
        "table.html",
        title=table.title,
        mark=data_mark(table.data_source) if marked else None,
        groups=layout.groups,
        beside=layout.beside,
        has_notes=layout.has_notes,
        columns=columns,
        rows=[
            {
                "label": cells[0],
                "cells": [cell.partition(" ± ") for cell in cells[1 : 1 + len(columns)]],
                "note": cells[-1] if layout.has_notes else "",
            }
            for cells in layout.body
        ],
        notes=list(table.notes),
    ).strip()
