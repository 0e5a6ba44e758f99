"""The page of a run, and the page of several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from reid_jax.files import write_atomically
from reid_jax.report import facts, figures, results
from reid_jax.report.document import render
from reid_jax.report.lists import Pictures, list_groups
from reid_jax.report.run import Run
from reid_jax.report.tables import data_mark

__all__ = ["write_page", "write_summary_page"]


def write_page(
    run: Run,
    path: epath.PathLike,
    *,
    pictures: Pictures | None = None,
    deviations: Sequence[str] = (),
    training_distance: str = "Euclidean distance",
    command: str = "",
) -> epath.Path:
    """Writes the page of a run: one HTML file that needs no other.

    Only one process may call it. What the run lacks is named on the page.

    Args:
        run: the run.
        path: of the page, local or in a bucket.
        pictures: of the run's ranked lists, or None for a page without.
        deviations: where the run departs from the paper, one sentence each.
        training_distance: what the logged distances are, for the axis.
        command: makes the run again; empty: the page shows none.

    Returns:
        The path of the page.

    Raises:
        ValueError: if the data source is unknown or the pictures do not fit the lists.
    """
    found, ranking = run.results, run.ranking
    mark = _figure_mark(found)
    operating = found.get("operating")
    groups = [] if pictures is None else list_groups(ranking, pictures)
    return _write(
        "run.html",
        path,
        found,
        table=results.result_table(found, "this run", run.evaluations),
        other_metrics=results.other_metrics(found),
        ranking_figures=figures.ranking_figures(ranking, mark),
        operating=operating,
        operating_rows=results.operating_rows(operating) if operating else [],
        decision_figures=figures.decision_figures(operating, mark) if operating else [],
        groups=groups,
        cameras=sorted({one["camera"] for group in groups for one in group["lists"]} - {""}),
        rates=_rates(run) if groups else None,
        failure_figures=figures.failure_figures(ranking, mark),
        confused=[] if pictures is None else pictures.confused,
        training=facts.training_facts(run),
        training_figures=figures.training_figures(
            run.training, run.validation, training_distance, mark
        ),
        facts=facts.result_facts(found),
        problems=run.problems,
        files=run.files,
        deviations=deviations,
        command=command,
        resolved=facts.resolved_values(run.config),
    )


def write_summary_page(
    summary: Mapping[str, Any],
    runs: Mapping[str, Run],
    path: epath.PathLike,
    *,
    deviations: Sequence[str] = (),
    command: str = "",
) -> epath.Path:
    """Writes the page of several runs: mean, standard deviation and each run's numbers.

    Args:
        summary: results of all runs: `metrics` are means, `metrics_std` standard deviations; None
            where the runs differ.
        runs: name of each run, which is the directory of its `report.html` beside this page, to
            the run.
        path: of the page, local or in a bucket.
        deviations: where the runs depart from the paper, one sentence each.
        command: makes the runs again; empty: the page shows none.

    Returns:
        The path of the page.

    Raises:
        ValueError: if there are no runs, the summary is that of a single run, or the data source is
            unknown.
    """
    if "runs" not in summary or "metrics_std" not in summary:
        raise ValueError(
            "write_summary_page: these are the results of one run: they have no 'runs' and "
            "'metrics_std'. Use write_page."
        )
    if not runs:
        raise ValueError("write_summary_page: there are no runs.")
    differing = [
        name
        for name, value in summary.items()
        if value is None and any(run.results.get(name) is not None for run in runs.values())
    ]
    num_runs = f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
    return _write(
        "summary.html",
        path,
        summary,
        table=results.result_table(summary, f"mean of {num_runs}", {}),
        run_table=results.run_table(summary, runs),
        other_metrics=results.other_metrics(summary),
        figures=figures.run_figures(
            [run.ranking for run in runs.values()],
            results.run_metrics(runs),
            _figure_mark(summary),
        ),
        runs=list(runs),
        facts=facts.result_facts(summary, differing=differing),
        problems=[f"{name}: {text}" for name, run in runs.items() for text in run.problems],
        deviations=deviations,
        command=command,
        resolved=facts.resolved_values(next(iter(runs.values())).config),
    )


def _figure_mark(found: Mapping[str, Any]) -> str | None:
    """The words within each figure: rendered data must not be taken for the paper's."""
    mark = data_mark(found["data_source"])
    return mark if found["data_source"] == "stand-in" else None


def _rates(run: Run) -> dict[str, Any] | None:
    """False and true accept rate at each threshold, for the slider of the lists."""
    ranking, operating = run.ranking, run.results.get("operating") or {}
    if operating.get("roc") and operating["distance"] == str(ranking.get("distance")):
        measured = f"{operating['measured_on']} people"
        start = operating["equal_error"]["threshold"]
        return {**operating["roc"], "start": start, "measured_on": measured}
    if "pair_distance_edges" not in ranking:
        return None
    counts = ranking["same_pair_counts"], ranking["different_pair_counts"]
    if not all(count.sum() for count in counts):
        return None
    true, false = ((count.cumsum() / count.sum()).round(5).tolist() for count in counts)
    edges = ranking["pair_distance_edges"][1:].astype(float).round(5).tolist()
    equal = min(range(len(edges)), key=lambda place: abs(false[place] - 1 + true[place]))
    return {
        "threshold": edges,
        "false_accept_rate": false,
        "true_accept_rate": true,
        "start": edges[equal],
        "measured_on": "the pairs of this test",
    }


def _write(
    template: str, path: epath.PathLike, found: Mapping[str, Any], **values: Any
) -> epath.Path:
    own_data = found["data_source"] == "custom"
    # Whoever has images of their own knows them by their name, not by that of a paper's experiment.
    title = str(found["dataset" if own_data and found.get("dataset") else "exp"])
    lead = [
        found["exp"] if own_data else found.get("method"),
        f"{facts.words(found.get('dataset'))} ({found['data_source']} data)",
        found.get("scale") and f"{found['scale']} scale",
        found.get("protocol") and f"{found['protocol']} protocol",
    ]
    versions = found.get("versions") or {}
    page = render(
        template,
        title=title,
        lead=" · ".join(str(part) for part in lead if part),
        mark=data_mark(found["data_source"]),
        own_data=own_data,
        warnings=results.warnings(found),
        tiles=results.headlines(found),
        paper_scale=found.get("scale") == "paper",
        footer=" · ".join(["Written by reid_jax", *(f"{k} {v}" for k, v in versions.items())]),
        **values,
    )
    path = epath.Path(path)
    write_atomically(path, page + "\n")
    return path
