"""A paper's table or figure with ours beside it: runs what is missing, reuses what is done.

    python experiments/tables.py --table=batch_contrastive/1 --repeats=5
    python experiments/tables.py --figure=batch_contrastive/1

Runs are those of ``experiments/run.py`` with the same options, in the same work directories. A
table is printed and written to ``experiments/results/`` (``--results_dir``) as Markdown, with the
``results.json`` of its rows and the commands that made them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiments.run import (
    add_run_options,
    command,
    exit_status,
    make_job,
    planned_runs,
    prepare_jax,
    run_experiment,
)


def make(options: argparse.Namespace) -> None:
    """Does what the command line says."""
    from experiments import configs

    if (options.table is None) == (options.figure is None):
        raise ValueError("give either --table=METHOD/NUMBER or --figure=METHOD/NUMBER")
    kind = "table" if options.table else "figure"
    name = options.table or options.figure
    known = configs.TABLES if options.table else configs.FIGURES
    if name not in known:
        raise ValueError(f"unknown {kind} {name!r}; known: {', '.join(sorted(known))}")
    if isinstance(known[name], configs.PaperComplexity):
        make_complexity(name, known[name], options)
    elif options.table:
        make_table(name, known[name], options)
    else:
        make_figure(name, known[name], options)


def make_table(name: str, table: Any, options: argparse.Namespace) -> None:
    """Prints a table and writes it with the results of its rows."""
    from experiments import job
    from reid_jax import parallel, report

    columns = list(table.columns)
    own = [column for column in columns if "/" not in column]
    if own and "map_step" not in own:
        columns.append("map_step")
    rows = [
        {"label": label, "paper": dict(zip(table.columns, printed, strict=True))}
        for label, *printed in table.literature
    ]
    results_dir = Path(options.results_dir)
    sources, commands, measured = set(), [], {}
    wanted = [row for row in table.rows if any(t in row[0] for t in options.rows.split(","))]
    if not wanted:
        labels = ", ".join(label for label, *_ in table.rows)
        raise ValueError(f"--rows={options.rows}: no row of {name} has it; the rows are {labels}")
    for label, exp, *printed in wanted:
        row = row_options(exp, options)
        results = run_experiment(row)
        for protocol in dict.fromkeys(c.partition("/")[0] for c in columns if "/" in c):
            add_protocol(results, protocol, row)
        spread = results.get("metrics_std") or {}
        ours = {
            column: (results["metrics"][column], spread[column])
            if spread.get(column) is not None
            else results["metrics"][column]
            for column in columns
        }
        paper = dict(zip(table.columns, printed, strict=True))
        rows.append({"label": f"{label} ({exp})", "paper": paper, "ours": ours})
        sources.add(results["data_source"])
        measured[label] = results
        commands.append(command(row, results["scale"]))
        if parallel.is_main_process():
            place = f"{exp.replace(':', ',')},{results['scale']},{results['data_source']}.json"
            results_dir.mkdir(parents=True, exist_ok=True)
            job.write_json(results_dir / place, {"command": commands[-1], **results})
    if len(sources) > 1:
        raise ValueError(f"the rows were measured on different data: {', '.join(sorted(sources))}")
    scale, source = results["scale"], results["data_source"]
    differences = paired_differences(measured, columns, table.compared)
    made = report.Table(
        f"{table.title}; ours at the {scale} scale, {results.get('num_runs', 1)} run(s)",
        columns,
        rows,
        notes=differences + [f"Made by: {c}" for c in commands],
        data_source=source,
    )
    parallel.say(report.text_table(made))
    if parallel.is_main_process():
        rows_text = f",{options.rows}" if options.rows else ""
        path = results_dir / f"{name.replace('/', '_table_')}{rows_text},{scale},{source}.md"
        path.write_text(report.markdown_table(made) + "\n")
        parallel.say(f"table: {path}")


def make_complexity(name: str, table: Any, options: argparse.Namespace) -> None:
    """Prints what the networks cost and writes it; there is nothing to run."""
    from experiments import complexity
    from reid_jax import parallel

    made = complexity.markdown(table)
    parallel.say(made)
    if parallel.is_main_process():
        path = Path(options.results_dir) / f"{name.replace('/', '_table_')}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made)
        parallel.say(f"table: {path}")


def add_protocol(results: dict[str, Any], protocol: str, row: argparse.Namespace) -> None:
    """Adds to the results of a row those of its runs by another protocol, as PROTOCOL/METRIC."""
    from experiments.evaluate import evaluation_of
    from reid_jax import report

    evaluated = {}
    for name, run in planned_runs(make_job(row), row).items():
        evaluated[name], _ = evaluation_of(
            run.workdir, protocol=protocol, data_dir=str(run.data_dir), reuse=True
        )
    summary = report.summarize(evaluated)
    for kind in ("metrics", "metrics_std"):
        own = results.setdefault(kind, {})
        if own is not None:
            own |= {f"{protocol}/{metric}": value for metric, value in summary[kind].items()}
    for name, metrics in summary["run_metrics"].items():
        if "run_metrics" in results:
            results["run_metrics"][name] |= {f"{protocol}/{m}": v for m, v in metrics.items()}


def paired_differences(
    measured: dict[str, Any], columns: list[str], compared: Sequence[tuple[str, str]]
) -> list[str]:
    """Rows minus the rows that they are compared with, run by run, in points of percent.

    Args:
        measured: results of each row.
        columns: metrics.
        compared: labels of a row and of the row it is compared with; where it is empty, each row is
            compared with the first.
    """
    first, *others = measured
    notes = []
    for label, base in compared or [(label, first) for label in others]:
        if not {label, base} <= measured.keys():
            continue
        theirs = measured[base].get("run_metrics", {})
        ours = measured[label].get("run_metrics", {})
        names = [name for name in ours if name in theirs]
        if len(names) < 2:
            continue
        shown = []
        for metric in columns:
            differences = [100 * (ours[name][metric] - theirs[name][metric]) for name in names]
            mean, spread = statistics.fmean(differences), statistics.stdev(differences)
            shown.append(f"{metric} {mean:+.2f} ± {spread:.2f}")
        notes.append(f"{label} minus {base}, paired over {len(names)} runs: {', '.join(shown)}")
    return notes


def make_figure(name: str, figure: Any, options: argparse.Namespace) -> None:
    """Draws a figure from the first run of each of its rows."""
    from experiments import figures
    from reid_jax import parallel, report

    runs = {}
    for heading, exp in figure.rows.items():
        row = row_options(exp, options)
        results = run_experiment(row)
        runs[heading] = next(iter(planned_runs(make_job(row), row).values()))
    if parallel.is_single_process():
        drawn = figures.FIGURES[figure.draw](runs, figure.protocol)
        if mark := report.data_mark(results["data_source"]):
            drawn.text(0.5, -0.01, mark, ha="center", va="top", fontsize=9)
        path = Path("runs") / f"{name.replace('/', '_figure_')}.png"
        drawn.savefig(path, dpi=150, bbox_inches="tight")
        parallel.say(f"figure: {path}")
    else:
        raise ValueError("a figure is drawn by one process: give the same command on one host")


def row_options(exp: str, options: argparse.Namespace) -> argparse.Namespace:
    """The options of ``run.py`` that make one row."""
    return argparse.Namespace(**{**vars(options), "exp": exp, "workdir": None})


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="experiments/tables.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--table", metavar="METHOD/NUMBER")
    parser.add_argument("--figure", metavar="METHOD/NUMBER")
    parser.add_argument(
        "--rows", default="", metavar="TEXT", help="only rows with it in their label"
    )
    parser.add_argument("--results_dir", default=str(Path(__file__).parent / "results"))
    add_run_options(parser)
    options = parser.parse_args()
    prepare_jax()
    return exit_status(lambda: make(options))


if __name__ == "__main__":
    sys.exit(main())
