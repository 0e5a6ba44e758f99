"""Makes a paper's tables and figures from runs of its rows."""

from __future__ import annotations

import argparse
import dataclasses
import io
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.PngImagePlugin

from experiments import complexity, figures, provenance, summary, workdir
from experiments.again import evaluation_of
from experiments.launch import make_job, planned_runs, run_experiment, short_name
from experiments.options import RunOptions
from experiments.papers import (
    EXPERIMENTS,
    FIGURES,
    TABLES,
    PaperComplexity,
    PaperFigure,
    PaperTable,
    build_config,
    slug,
)
from experiments.workdir import Results
from reid_jax import parallel, report, visual

__all__ = ["chosen_rows", "make", "make_figure", "make_table", "paired_differences", "ran"]


def make(options: argparse.Namespace) -> None:
    """Makes what `--table` or `--figure` names.

    Args:
        options: of the command line: `table`, `figure`, `rows`, `results_dir`, and those of
            `RunOptions`.
    """
    if (options.table is None) == (options.figure is None):
        raise ValueError("give either --table=METHOD/NUMBER or --figure=METHOD/NUMBER")
    kind = "table" if options.table else "figure"
    name = options.table or options.figure
    known: Mapping[str, Any] = TABLES if options.table else FIGURES
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}; known: {', '.join(sorted(known))}")
    if isinstance(known[name], PaperComplexity):
        make_complexity(name, known[name], Path(options.results_dir))
    elif options.table:
        make_table(name, known[name], options)
    else:
        make_figure(name, known[name], options)


def chosen_rows(table: PaperTable, text: str, name: str) -> list[tuple]:
    """The rows that `--rows` asks for: that of the label, or those whose label holds the text.

    Where no label holds the whole text, its parts between commas are looked for; a label that has
    commas itself is one part.

    Raises:
        ValueError: if no label has one of them, with the labels.
    """
    labels = [label for label, *_ in table.rows]
    texts = [text] if any(text in label for label in labels) else _parts(text, labels)
    for part in texts:
        if not any(part in label for label in labels):
            raise ValueError(
                f"--rows={text}: no row of {name} has {part!r}; the rows are {'; '.join(labels)}"
            )
    # A whole label is that row alone, whatever labels hold it.
    chosen = {
        label
        for part in texts
        for label in labels
        if (label == part if part in labels else part in label)
    }
    return [row for row in table.rows if row[0] in chosen]


def _parts(text: str, labels: Sequence[str]) -> list[str]:
    """The parts between commas, where a whole label is one part."""
    words = text.split(",")
    parts = []
    while words:
        ends = range(len(words), 1, -1)
        end = next((end for end in ends if ",".join(words[:end]) in labels), 1)
        parts.append(",".join(words[:end]))
        words = words[end:]
    return parts


def make_table(name: str, table: PaperTable, options: argparse.Namespace) -> None:
    """Prints a table and writes it with the results of its rows."""
    columns = list(table.columns)
    own = [column for column in columns if "/" not in column]
    if own and "map_step" not in own:
        columns.append("map_step")
    rows: list[dict[str, Any]] = [
        {"label": label, "paper": dict(zip(table.columns, printed, strict=True))}
        for label, *printed in table.literature
    ]
    results_dir = Path(options.results_dir)
    measured: dict[str, Results] = {}
    for label, exp, *printed in chosen_rows(table, options.rows, name):
        row = _row_options(exp, options)
        results = run_experiment(row)
        for protocol in dict.fromkeys(c.partition("/")[0] for c in columns if "/" in c):
            results = with_protocol(results, protocol, row)
        spread = results.metrics_std or {}
        ours = {
            column: (results.metrics[column], spread[column])
            if spread.get(column) is not None
            else results.metrics[column]
            for column in columns
        }
        # A run on other data, or scored in another way, is beside no printed numbers.
        beside = printed if results.paper is not None else [None] * len(printed)
        paper = dict(zip(table.columns, beside, strict=True))
        rows.append({"label": f"{label} ({exp}{ran(row)})", "paper": paper, "ours": ours})
        measured[label] = results
        if parallel.is_main_process():
            place = _file_name(slug(exp), results, options)
            workdir.write_results(results_dir / f"{place}.json", results)
    kinds = {results.data_source for results in measured.values()}
    if len(kinds) > 1:
        raise ValueError(f"the rows were measured on different data: {', '.join(sorted(kinds))}")
    tested = {summary.tested_text(results) for results in measured.values()}
    num_runs = results.num_runs or 1
    made = report.Table(
        f"{table.title}; ours at the {results.scale} scale, {num_runs} run(s)",
        columns,
        rows,
        notes=[
            *(f"Measured: {text}" for text in sorted(tested)),
            *paired_differences(measured, columns, table.compared),
            *_made_by(measured.values()),
        ],
        data_source=results.data_source,
    )
    parallel.say(report.text_table(made))
    if parallel.is_main_process():
        parts = [name.replace("/", "_table_"), slug(re.sub(r"[+ ]+", " ", options.rows))]
        path = results_dir / f"{_file_name('-'.join(filter(None, parts)), results, options)}.md"
        path.write_text(report.markdown_table(made) + "\n")
        parallel.say(f"table: {path}")


def ran(row: RunOptions) -> str:
    """The network of a run in words, where it is not that of the paper; else ''."""
    own = make_job(row).config.model
    of_paper = build_config(row.exp, EXPERIMENTS, scale="paper").model
    if (own.name, own.width) == (of_paper.name, of_paper.width):
        return ""
    return f"; {own.name}" + (f" of width {own.width}" if own.width else "")


def _file_name(name: str, results: Results, options: argparse.Namespace) -> str:
    parts = [short_name([name, options.dataset or "", *sorted(options.overrides)])]
    parts += [f"{results.num_runs}_runs"] if results.num_runs else []
    parts += [results.scale, results.data_source]
    return "-".join(slug(part) for part in parts)


def _made_by(measured: Iterable[Results]) -> list[str]:
    """The commands of all rows, and their commits, versions and machines, each once."""
    rows = list(measured)
    of_rows = (_at(r.commit, r.versions, r.machine) for r in rows)
    return [*(f"Made by: {r.command}" for r in rows), *dict.fromkeys(of_rows)]


def _at(commit: str | None, versions: Any, machine: Any) -> str:
    return f"At commit {commit}, jax {(versions or {}).get('jax')}, on {(machine or {}).get('cpu')}"


def make_complexity(name: str, table: PaperComplexity, results_dir: Path) -> None:
    """Prints what the networks cost and writes it; there is nothing to run."""
    made = complexity.markdown(table)
    at = _at(provenance.commit(), provenance.versions(), provenance.machine())
    made += f"\nMade by: python experiments/tables.py --table={name}\n\n{at}\n"
    parallel.say(made)
    if parallel.is_main_process():
        path = results_dir / f"{name.replace('/', '_table_')}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made)
        parallel.say(f"table: {path}")


def with_protocol(results: Results, protocol: str, row: RunOptions) -> Results:
    """The results of a row with those of its runs by another protocol, as PROTOCOL/METRIC."""
    evaluated = {}
    for name, run in planned_runs(make_job(row), row).items():
        evaluated[name], _ = evaluation_of(
            run.workdir, protocol=protocol, data_dir=str(run.data_dir), reuse=True
        )
    found = summary.summarize(evaluated)

    def added(own: Any, more: Any) -> Any:
        if own is None and more is None:
            return None
        named = {f"{protocol}/{metric}": value for metric, value in (more or {}).items()}
        return {**(own or {}), **named}

    of_runs = results.run_metrics and {
        name: added(results.run_metrics[name], (found.run_metrics or {})[name])
        for name in results.run_metrics
    }
    return dataclasses.replace(
        results,
        metrics=added(results.metrics, found.metrics),
        metrics_std=added(results.metrics_std, found.metrics_std)
        if results.metrics_std
        else results.metrics_std,
        run_metrics=of_runs,
    )


def paired_differences(
    measured: Mapping[str, Results],
    columns: Sequence[str],
    compared: Sequence[tuple[str, str]],
) -> list[str]:
    """Rows minus the rows that they are compared with, run by run, in points of percent.

    Args:
        measured: results of each row.
        columns: metrics.
        compared: labels of a row and of the row it is compared with; where it is empty, each row is
            compared with the first.

    Returns:
        A sentence for each pair of rows that have two runs in common. Runs of another kind of
        processor or device differ as those of another seed do, and are not paired.
    """
    first, *others = measured
    notes = []
    for label, base in compared or [(label, first) for label in others]:
        if not {label, base} <= measured.keys():
            continue
        theirs = measured[base].run_metrics or {}
        ours = measured[label].run_metrics or {}
        names = [name for name in ours if name in theirs]
        if len(names) < 2:
            continue
        places = [_place(measured[of]) for of in (label, base)]
        if places[0] != places[1]:
            notes.append(
                f"{label} and {base} are not paired: the one was run on {places[0]}, the other on "
                f"{places[1]}, and another machine is like another seed"
            )
            continue
        shown = []
        for metric in columns:
            differences = [100 * (ours[name][metric] - theirs[name][metric]) for name in names]
            mean, spread = statistics.fmean(differences), statistics.stdev(differences)
            error = spread / math.sqrt(len(names))
            shown.append(f"{metric} {mean:+.2f} ± {spread:.2f} ({error:.2f})")
        notes.append(
            f"{label} minus {base}, paired over {len(names)} runs, mean ± standard deviation "
            f"(standard error of the mean): {', '.join(shown)}"
        )
    return notes


def _place(results: Results) -> str:
    """The kind of processor and of device that results are of, in words."""
    machine = results.machine or {}
    return f"{machine.get('cpu')} ({machine.get('device')})"


def make_figure(name: str, figure: PaperFigure, options: argparse.Namespace) -> None:
    """Draws a figure from the first run of each of its rows; its text says what made them."""
    if not parallel.is_single_process():
        raise ValueError("a figure is drawn by one process: give the same command on one host")
    runs, measured = {}, []
    for heading, exp in figure.rows.items():
        row = _row_options(exp, options)
        results = run_experiment(row)
        measured.append(results)
        runs[heading] = next(iter(planned_runs(make_job(row), row).values()))
    drawn = figures.FIGURES[figure.draw](runs, figure.protocol)
    if mark := report.data_mark(results.data_source):
        visual.mark(drawn, mark)
    if figure.printed:
        drawn.text(0.5, -0.01, figure.printed, ha="center", va="top", fontsize=9)
    place = _file_name(name.replace("/", "_figure_"), results, options)
    path = Path(options.results_dir) / f"{place}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    image = io.BytesIO()
    drawn.savefig(image, dpi=130, bbox_inches="tight")
    text = PIL.PngImagePlugin.PngInfo()
    command = RunOptions.of(options).command(results.scale, "tables.py", [f"--figure={name}"])
    text.add_text("Made by", "\n".join([f"Made by: {command}", *_made_by(measured)]))
    # 256 colours take a third of the bytes.
    few = PIL.Image.open(image).convert("RGB").quantize(256)
    few.save(path, optimize=True, pnginfo=text)
    parallel.say(f"figure: {path}")


def _row_options(exp: str, options: argparse.Namespace) -> RunOptions:
    """The options of `run.py` that make one row."""
    return dataclasses.replace(RunOptions.of(options), exp=exp, config=None, workdir=None)
