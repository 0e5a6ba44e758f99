"""The page of a run, and the page of several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from etils import epath

from reid_jax.files import write_atomically
from reid_jax.report import document, facts, figures
from reid_jax.report.lists import ranked_lists
from reid_jax.report.results import headlines, result_table, run_table
from reid_jax.report.run import Run
from reid_jax.report.tables import data_mark

__all__ = ["write_page", "write_summary_page"]


def write_page(
    run: Run,
    path: epath.PathLike,
    *,
    query_images: np.ndarray | None = None,
    gallery_images: np.ndarray | None = None,
    query_captions: Sequence[str] | None = None,
    gallery_captions: Sequence[Sequence[str]] | None = None,
    deviations: Sequence[str] = (),
    training_distance: str = "Euclidean distance",
    command: str = "",
) -> epath.Path:
    """Writes the page of a run: one HTML file that needs no other.

    Only one process may call it. What the run lacks is named on the page.

    Args:
        run: the run.
        path: of the page, local or in a bucket.
        query_images: [R, H, W, 3] uint8, the images of the run's `ranked_queries`, or None for a
            page without ranked lists.
        gallery_images: [R, N, H, W, 3] uint8, the images of `ranked_gallery`; what stands where
            that is -1 is not drawn.
        query_captions: R texts, such as 'id 12, c1', or None.
        gallery_captions: R by N texts, or None; the distance is added below each.
        deviations: where the run departs from the paper, one sentence each.
        training_distance: what the logged distances are, for the axis.
        command: makes the run again; empty: the page shows none.

    Returns:
        The path of the page.

    Raises:
        ValueError: if the data source is unknown or the images do not fit the lists.
    """
    results = run.results
    mark = data_mark(results["data_source"])
    lists = ""
    if query_images is not None or gallery_images is not None:
        lists = ranked_lists(
            run.ranking, query_images, gallery_images, query_captions, gallery_captions, mark
        )
    sections = {
        "Result": result_table(results, results["exp"]),
        "What was run": document.facts(facts.run_facts(run)) + facts.problem_list(run.problems),
        "Training": figures.training_figures(run.training, run.validation, training_distance, mark),
        "Evaluation": figures.evaluation_figures(run.ranking, mark),
        "Ranked lists": lists,
        "Where this departs from the paper": document.items(deviations),
        "How to reproduce": facts.reproduction(command, run.config),
    }
    return _write(path, results, sections)


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
    mark = data_mark(summary["data_source"])
    num_runs = f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
    links = "".join(
        f'<li><a href="{escape(name)}/report.html">{escape(name)}</a></li>' for name in runs
    )
    problems = [f"{name}: {text}" for name, run in runs.items() for text in run.problems]
    differing = [
        name
        for name, value in summary.items()
        if value is None and any(run.results.get(name) is not None for run in runs.values())
    ]
    sections = {
        "Result": result_table(summary, f"mean of {num_runs}") + run_table(summary, runs),
        "What was run": document.facts(facts.result_facts(summary, differing=differing))
        + facts.problem_list(problems),
        "Evaluation": figures.mean_cmc_figure([run.ranking for run in runs.values()], mark),
        "Reports of the runs": f'<ul class="plain">{links}</ul>',
        "Where this departs from the paper": document.items(deviations),
        "How to reproduce": facts.reproduction(command, next(iter(runs.values())).config),
    }
    return _write(path, summary, sections)


def _write(
    path: epath.PathLike, results: Mapping[str, Any], sections: Mapping[str, str]
) -> epath.Path:
    mark = data_mark(results["data_source"])
    numbers = headlines(results)
    parts = [
        results.get("method"),
        f"{facts.words(results.get('dataset'))} ({results['data_source']} data)",
        results.get("scale") and f"{results['scale']} scale",
        results.get("protocol") and f"{results['protocol']} protocol",
    ]
    versions = results.get("versions") or {}
    page = document.document(
        title=str(results["exp"]),
        lead=" · ".join(str(part) for part in parts if part),
        mark=mark,
        top=document.tiles(numbers, mark) if numbers else "",
        sections=sections,
        footer=" · ".join(["Written by reid_jax", *(f"{k} {v}" for k, v in versions.items())]),
    )
    path = epath.Path(path)
    write_atomically(path, page)
    return path
