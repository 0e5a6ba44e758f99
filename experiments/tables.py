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
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiments.run import (
    add_run_options,
    command,
    exit_status,
    make_job,
    placed,
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
    if options.table:
        make_table(name, known[name], options)
    else:
        make_figure(name, known[name], options)


def make_table(name: str, table: Any, options: argparse.Namespace) -> None:
    """Prints a table and writes it with the results of its rows."""
    from experiments import configs, job
    from reid_jax import parallel, report

    columns = [*table.columns, "map_step"]
    rows = [
        {"label": label, "paper": dict(zip(table.columns, printed, strict=True))}
        for label, *printed in table.literature
    ]
    results_dir = Path(options.results_dir)
    sources, commands, measured = set(), [], {}
    for label, exp in table.rows.items():
        row = row_options(exp, options)
        results = run_experiment(row)
        spread = results.get("metrics_std") or {}
        ours = {
            metric: (results["metrics"][metric], spread[metric])
            if metric in spread
            else results["metrics"][metric]
            for metric in columns
        }
        printed = configs.EXPERIMENTS[exp].paper
        rows.append({"label": f"{label} ({exp})", "paper": dict(printed), "ours": ours})
        sources.add(results["data_source"])
        measured[label] = results
        commands.append(command(row, results["scale"]))
        if parallel.is_main_process():
            path = results_dir / f"{exp},{results['scale']},{results['data_source']}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            job.write_json(path, {"command": commands[-1], **results})
    if len(sources) > 1:
        raise ValueError(f"the rows were measured on different data: {', '.join(sorted(sources))}")
    scale, source = results["scale"], results["data_source"]
    made = report.Table(
        f"{table.title}; ours at the {scale} scale, {results.get('num_runs', 1)} run(s)",
        columns,
        rows,
        notes=paired_differences(measured, columns) + [f"Made by: {c}" for c in commands],
        data_source=source,
    )
    parallel.say(report.text_table(made))
    if parallel.is_main_process():
        path = results_dir / f"{name.replace('/', '_table_')},{scale},{source}.md"
        path.write_text(report.markdown_table(made) + "\n")
        parallel.say(f"table: {path}")


def paired_differences(measured: dict[str, Any], columns: list[str]) -> list[str]:
    """Each row minus the first, seed by seed: mean and standard deviation, in points of percent."""
    (first, base), *others = measured.items()
    notes = []
    for label, results in others:
        pairs = [
            (run, base["run_metrics"][name])
            for name, run in results.get("run_metrics", {}).items()
            if name in base.get("run_metrics", {})
        ]
        if len(pairs) > 1:
            shown = []
            for metric in columns:
                differences = [100 * (ours[metric] - theirs[metric]) for ours, theirs in pairs]
                mean, spread = statistics.fmean(differences), statistics.stdev(differences)
                shown.append(f"{metric} {mean:+.2f} ± {spread:.2f}")
            notes.append(f"{label} minus {first}, paired by seed: {', '.join(shown)}")
    return notes


def make_figure(name: str, panels: dict[str, str], options: argparse.Namespace) -> None:
    """Draws Fig. 1: distances within and between identities, over training, in each run."""
    from reid_jax import parallel, visual
    from reid_jax.training.logs import read_metrics

    names = ("step", "intra_distance", "inter_distance_mean", "inter_distance_min")
    curves = {}
    for heading, exp in panels.items():
        row = row_options(exp, options)
        run_experiment(row)
        workdir = placed(make_job(row), row.repeats).workdir
        if row.repeats > 1:
            workdir /= f"seed_{row.seed}"
        records = [r for r in read_metrics(workdir) if r.get("intra_distance") is not None]
        curves[heading] = tuple([record[key] for record in records] for key in names)
    if parallel.is_main_process():
        figure = visual.distance_scatter(curves, distance="Euclidean distance of unit vectors")
        path = Path("runs") / f"{name.replace('/', '_figure_')}.png"
        figure.savefig(path, dpi=150)
        parallel.say(f"figure: {path}")


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
    parser.add_argument("--results_dir", default=str(Path(__file__).parent / "results"))
    add_run_options(parser)
    options = parser.parse_args()
    prepare_jax()
    return exit_status(lambda: make(options))


if __name__ == "__main__":
    sys.exit(main())
