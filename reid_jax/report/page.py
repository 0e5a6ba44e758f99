"""The page of a run, and the page of its repeats."""

import inspect
import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

import numpy as np
from etils import epath

from reid_jax import visual
from reid_jax.files import flattened, write_atomically
from reid_jax.report import document
from reid_jax.report.run import Run
from reid_jax.report.runs import read_results, read_run
from reid_jax.report.tables import METRIC_HEADINGS, Table, data_mark, html_table, percent

_HEADLINES = ("rank1", "rank5", "map_step", "map_trapezoid", "minp")
_TERM_HEADINGS = {
    "loss": "total loss",
    "identification_loss": "identification loss (nats)",
    "verification_loss": "verification loss (nats)",
    "batch_contrastive_loss": "batch-contrastive loss",
    "center_loss": "center loss",
}
_DISTANCES = ("intra_distance", "inter_distance_mean", "inter_distance_min")
_DISTANCE_NAMES = {
    "squared_euclidean": "squared Euclidean distance",
    "euclidean": "Euclidean distance",
    "cosine": "cosine distance",
}
_LIST_KINDS = {
    "best": ("Best queries.", "The highest average precision."),
    "median": ("Median queries.", "Average precision in the middle: what is usual."),
    "worst": ("Worst queries.", "The lowest average precision: where the model fails."),
    "random": ("Random queries.", "Drawn without looking at the result."),
}
_LIST_LEGEND = (
    "A tick and a solid green border mark the query's identity, a cross and a dashed red border "
    "another one. Junk and images of the same identity and camera are removed, as for the numbers."
)


def deviations(functions: Iterable[Callable]) -> list[str]:
    """The `Deviation:` notes in the docstrings of the functions that a run used.

    Args:
        functions: functions or classes.

    Returns:
        'name: note' for each that deviates from its paper, in the order given, without repeats.
    """
    notes = []
    for function in functions:
        lines = (inspect.getdoc(function) or "").splitlines()
        for number, line in enumerate(lines):
            if not line.startswith("Deviation:"):
                continue
            words = [line.removeprefix("Deviation:")]
            for following in lines[number + 1 :]:
                # A note ends at an empty line or where the next part of the docstring starts.
                if not following.strip() or re.match(r"[A-Z]\w*:", following):
                    break
                words.append(following)
            note = " ".join(" ".join(words).replace("``", "").split())
            if not note.lower().startswith("none"):
                notes.append(f"{function.__name__}: {note}")
    return list(dict.fromkeys(notes))


def write_page(
    workdir: epath.PathLike,
    *,
    query_images: np.ndarray | None = None,
    gallery_images: np.ndarray | None = None,
    query_captions: Sequence[str] | None = None,
    gallery_captions: Sequence[Sequence[str]] | None = None,
    deviations: Sequence[str] = (),
    training_distance: str = "Euclidean distance",
) -> epath.Path:
    """Writes `report.html` of a finished run: one file that needs no other.

    Only one process may call it. What the run lacks besides `results.json` is named on the page.

    Args:
        workdir: the run's directory, local or in a bucket.
        query_images: [R, H, W, 3] uint8, the images of `ranked_queries` in `ranking.npz`, or
            None for a page without ranked lists.
        gallery_images: [R, N, H, W, 3] uint8, the images of `ranked_gallery`; what stands where
            that is -1 is not drawn.
        query_captions: R texts, such as 'id 12, c1', or None.
        gallery_captions: R by N texts, or None; the distance is added below each.
        deviations: where the run departs from the paper, one sentence each.
        training_distance: what the distances of `metrics.jsonl` are, for the axis.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: if there is no `results.json`.
        ValueError: if a file is there and cannot be read, or the images do not fit the lists.
    """
    run = read_run(workdir)
    results = run.results
    mark = data_mark(results["data_source"])
    lists = ""
    if query_images is not None or gallery_images is not None:
        lists = _ranked_lists(
            run, query_images, gallery_images, query_captions, gallery_captions, mark
        )
    sections = {
        "Result": _result_table(results, results["exp"]),
        "What was run": document.facts(_run_facts(run)) + _problems(run.problems),
        "Training": _training_figures(run, training_distance, mark),
        "Evaluation": _evaluation_figures(run.ranking, mark),
        "Ranked lists": lists,
        "Where this departs from the paper": document.items(deviations),
        "How to reproduce": _reproduction(results, run.config),
    }
    return _write(workdir, results, sections, run.config)


def write_summary_page(workdir: epath.PathLike, *, deviations: Sequence[str] = ()) -> epath.Path:
    """Writes `report.html` of repeated runs: mean, standard deviation and each run's numbers.

    Args:
        workdir: the directory above the runs' own, with the `results.json` that `summarize`
            gives.
        deviations: where the runs depart from the paper, one sentence each.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: if there is no `results.json`, here or in a run's directory.
        ValueError: if `results.json` is that of a single run, or a file cannot be read.
    """
    workdir = epath.Path(workdir)
    summary = read_results(workdir)
    if "runs" not in summary or "metrics_std" not in summary:
        raise ValueError(
            f"{workdir / 'results.json'} is that of one run: it has no 'runs' and 'metrics_std'. "
            "Use write_page."
        )
    runs = {name: read_run(workdir / name) for name in summary["runs"]}
    mark = data_mark(summary["data_source"])
    num_runs = f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
    config = next(iter(runs.values())).config
    links = "".join(
        f'<li><a href="{escape(name)}/report.html">{escape(name)}</a></li>' for name in runs
    )
    sections = {
        "Result": _result_table(summary, f"mean of {num_runs}") + _run_table(summary, runs),
        "What was run": document.facts(_facts(summary, config))
        + _problems([f"{name}: {text}" for name, run in runs.items() for text in run.problems]),
        "Evaluation": _mean_cmc_figure([run.ranking for run in runs.values()], mark),
        "Reports of the runs": f'<ul class="plain">{links}</ul>',
        "Where this departs from the paper": document.items(deviations),
        "How to reproduce": _reproduction({**summary, "seed": None}, config, len(runs)),
    }
    return _write(workdir, summary, sections, config)


def _write(
    workdir: epath.PathLike, results: Mapping, sections: Mapping[str, str], config: Mapping
) -> epath.Path:
    mark = data_mark(results["data_source"])
    headlines = {
        METRIC_HEADINGS[name]: percent(_with_deviation(results, name)) + " %"
        for name in _HEADLINES
        if results["metrics"].get(name) is not None
    }
    parts = [
        results.get("method"),
        f"{_words(results.get('dataset'))} ({results['data_source']} data)",
        results.get("scale") and f"{results['scale']} scale",
        results.get("protocol") and f"{results['protocol']} protocol",
    ]
    versions = config.get("versions") or {}
    page = document.document(
        title=str(results["exp"]),
        lead=" · ".join(str(part) for part in parts if part),
        mark=mark,
        top=document.tiles(headlines, mark) if headlines else "",
        sections=sections,
        footer=" · ".join(["Written by reid_jax", *(f"{k} {v}" for k, v in versions.items())]),
    )
    path = epath.Path(workdir) / "report.html"
    write_atomically(path, page)
    return path


def _columns(results: Mapping) -> list[str]:
    """The metrics of the table: shares in percent, measured or printed in the paper."""
    printed = _printed(results)
    columns = [name for name in METRIC_HEADINGS if name in results["metrics"] or name in printed]
    return columns + [name for name in printed if name not in METRIC_HEADINGS]


def _printed(results: Mapping) -> dict[str, float | None]:
    return {n: value for n, value in (results.get("paper") or {}).items() if _is_number(value)}


def _with_deviation(results: Mapping, name: str) -> tuple[float | None, float | None]:
    return results["metrics"].get(name), (results.get("metrics_std") or {}).get(name)


def _result_table(results: Mapping, label: str) -> str:
    """A row beside the paper's, and what is measured but is no share."""
    printed, columns = _printed(results), _columns(results)
    notes = [
        f"The paper's {name}: {_words(value)}."
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
            others[name] = _words(mean) + (
                f" ± {_words(deviation)}" if deviation is not None else ""
            )
    more = ""
    if others:
        mark = document.mark_tag(data_mark(results["data_source"]))
        more = f"<p>Further metrics {mark}</p>{document.facts(others)}"
    return f'<div class="scroll">{html_table(table)}</div>{more}'


def _run_table(summary: Mapping, runs: Mapping[str, Run]) -> str:
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


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _words(value: object) -> str:
    if value is None:
        return "not recorded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(entry)}" for name, entry in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_words(entry) for entry in value)
    return str(value)


def _facts(results: Mapping, config: Mapping) -> dict[str, str]:
    num_query = _words(results.get("num_query"))
    weights = "none: trained from scratch" if results.get("weights") is None else results["weights"]
    shown = {
        "Experiment": results["exp"],
        "Method": results.get("method"),
        "Data set": f"{_words(results.get('dataset'))} ({results['data_source']} data)",
        "Protocol": results.get("protocol"),
        "Queries": f"{num_query}, {_words(results.get('num_valid_queries'))} of them with a match",
        "Gallery": f"{_words(results.get('num_gallery'))} images",
        "Fingerprint of the test set": results.get("fingerprint"),
        "Scale": results.get("scale"),
        "Seed": results.get("seed"),
        "Steps": results.get("steps"),
        "Initial weights": weights,
        "Devices": f"{_words(results.get('num_devices'))} x {_words(config['devices'])}"
        if config.get("devices")
        else results.get("num_devices"),
        "Versions": config.get("versions"),
        "Git commit": config.get("git_commit"),
    }
    known = {
        *("exp", "method", "dataset", "data_source", "protocol", "fingerprint", "scale", "seed"),
        *("steps", "num_devices", "weights", "num_query", "num_gallery", "num_valid_queries"),
        *("metrics", "metrics_std", "run_metrics", "paper", "runs", "num_runs"),
    }
    shown |= {
        name.replace("_", " ").capitalize(): value
        for name, value in results.items()
        if name not in known and value is not None
    }
    if "num_runs" in results:
        del shown["Seed"]
    return {name: _words(value) for name, value in shown.items()}


def _run_facts(run: Run) -> dict[str, str]:
    shown = _facts(run.results, run.config)
    speed = run.training.get("images_per_second")
    if speed is not None and np.isfinite(speed).any():
        shown["Training speed"] = f"{np.nanmedian(speed):,.1f} images/s (median)"
    return shown


def _problems(texts: Sequence[str]) -> str:
    return f"<p>Not on this page:</p>{document.items(texts)}" if texts else ""


def _change(name: str, values: np.ndarray) -> str:
    """A curve in words, for those who do not see it."""
    values = values[np.isfinite(values)]
    if not len(values):
        return f"{name} has no values"
    window = max(1, len(values) // 25)
    first, last = values[:window].mean(), values[-window:].mean()
    return f"{name} goes from {first:.3g} to {last:.3g}"


def _training_figures(run: Run, training_distance: str, mark: str | None) -> str:
    training, validation = run.training, run.validation
    terms = {
        _TERM_HEADINGS.get(name, name.replace("_", " ")): values
        for name, values in training.items()
        if name == "loss" or name.endswith("_loss")
    }
    for name in ("accuracy", "verification_accuracy"):
        if name in training:
            terms[f"{name.replace('_', ' ')} in the batch (%)"] = 100.0 * training[name]
    figures = []
    if terms:
        steps = training["step"]
        figures.append(
            document.figure_tag(
                visual.training_curves(steps, terms),
                name="training-curves",
                title="Loss terms and accuracy.",
                caption="Each of the "
                f"{len(steps):,} logged training steps, and their moving average.",
                alt="Training curves. "
                + "; ".join(_change(name, values) for name, values in terms.items())
                + ".",
                mark=mark,
            )
        )
    if all(name in training for name in _DISTANCES):
        intra, inter_mean, inter_min = (training[name] for name in _DISTANCES)
        num_positive = int(np.isfinite(intra).sum())
        figures.append(
            document.figure_tag(
                visual.distance_scatter(
                    {"": (training["step"], intra, inter_mean, inter_min)},
                    distance=training_distance,
                ),
                name="batch-distances",
                title="Distances within the training batches.",
                caption="A dot for each batch that has a positive pair "
                f"({num_positive:,} of {len(intra):,}), lines are moving averages; "
                "Fig. 1 of the batch-contrastive paper.",
                alt="Distances within training batches. "
                + "; ".join(
                    _change(name, values)
                    for name, values in (
                        ("Intra-class distance", intra),
                        ("mean inter-class distance", inter_mean),
                        ("minimum inter-class distance", inter_min),
                    )
                )
                + ".",
                mark=mark,
            )
        )
    validated = {
        f"validation {METRIC_HEADINGS.get(name[4:], name[4:])} (%)": 100.0 * values
        for name, values in validation.items()
        if name.startswith("val_")
    }
    if validated:
        figures.append(
            document.figure_tag(
                visual.training_curves(validation["step"], validated, smooth=False),
                name="validation-curves",
                title="Validation.",
                caption="Measured during training on identities kept apart.",
                alt="Validation curves. "
                + "; ".join(_change(name, values) for name, values in validated.items())
                + ".",
                mark=mark,
            )
        )
    return "\n".join(figures)


def _evaluation_figures(ranking: Mapping[str, np.ndarray], mark: str | None) -> str:
    figures = []
    if "cmc" in ranking:
        figures.append(_cmc_figure(ranking["cmc"], "", mark))
    if "pair_distance_edges" in ranking:
        histogram = (
            ranking["pair_distance_edges"],
            ranking["same_pair_counts"],
            ranking["different_pair_counts"],
        )
        distance = str(ranking.get("distance", "distance"))
        distance = _DISTANCE_NAMES.get(distance, distance)
        threshold, rate = visual.equal_error(*histogram)
        if math.isfinite(threshold):
            words = (
                f"At the threshold {threshold:.3g} as many same pairs are missed as different "
                f"pairs are accepted, {100.0 * rate:.1f} % of each."
            )
        else:
            words = "There are no pairs of one of the kinds, so there is no threshold."
        figures.append(
            document.figure_tag(
                visual.pair_distance_histogram(*histogram, distance=distance),
                name="pair-distances",
                title="Distances of same and different pairs.",
                caption=f"Each kind adds up to 100 %. {words}",
                alt=f"Histograms of the {distance} of same and of different pairs. {words}",
                mark=mark,
            )
        )
    return f'<div class="pair">{"".join(figures)}</div>' if figures else ""


def _cmc_figure(cmc: np.ndarray, which: str, mark: str | None) -> str:
    words = ", ".join(
        f"{100.0 * cmc[rank - 1]:.1f} % at rank {rank}"
        for rank in (1, 5, 10, 20)
        if rank <= len(cmc)
    )
    return document.figure_tag(
        visual.cmc_curve({"CMC": cmc}),
        name="cmc",
        title="Cumulative matching characteristic.",
        caption=f"Share of the queries with a match within the first ranks{which}.",
        alt=f"Curve of the share of queries with a match{which}: {words}.",
        mark=mark,
    )


def _mean_cmc_figure(rankings: Sequence[Mapping[str, np.ndarray]], mark: str | None) -> str:
    curves = [ranking["cmc"] for ranking in rankings if "cmc" in ranking]
    if len(curves) < len(rankings):
        return ""
    # Galleries of several splits may differ in size: the mean ends with the shortest.
    shortest = min(map(len, curves))
    mean = np.mean([cmc[:shortest] for cmc in curves], axis=0)
    return _cmc_figure(mean, f", mean of {len(curves)} runs", mark)


def _ranked_lists(
    run: Run,
    query_images: np.ndarray | None,
    gallery_images: np.ndarray | None,
    query_captions: Sequence[str] | None,
    gallery_captions: Sequence[Sequence[str]] | None,
    mark: str | None,
) -> str:
    if query_images is None or gallery_images is None:
        raise ValueError("write_page: expected both query_images and gallery_images, or neither.")
    if "ranked_gallery" not in run.ranking:
        raise ValueError(
            "write_page: there are images for ranked lists but ranking.npz has no ranked_gallery; "
            "evaluate the run again."
        )
    gallery = run.ranking["ranked_gallery"]
    if len(query_images) != len(gallery) or gallery_images.shape[:2] != gallery.shape:
        raise ValueError(
            f"write_page: {len(query_images)} query images and gallery images of shape "
            f"{gallery_images.shape}; ranking.npz has lists of shape {gallery.shape}."
        )
    matches = np.where(gallery < 0, -1, run.ranking["ranked_match"])
    distances = run.ranking["ranked_distance"]
    captions = [
        [
            (f"{gallery_captions[row][rank]}\n" if gallery_captions is not None else "")
            + f"{distances[row, rank]:.3f}"
            for rank in range(gallery.shape[1])
        ]
        for row in range(gallery.shape[0])
    ]
    kinds = np.asarray(run.ranking["ranked_kind"]).astype(str)
    figures = []
    for kind in dict.fromkeys([*(k for k in _LIST_KINDS if k in kinds), *kinds]):
        rows = np.flatnonzero(kinds == kind)
        title, caption = _LIST_KINDS.get(kind, (f"{kind}.", ""))
        described = "; ".join(
            f"list {number}: right at "
            + (
                ", ".join(f"rank {rank}" for rank in np.flatnonzero(matches[row] == 1) + 1)
                or "none"
            )
            for number, row in enumerate(rows, start=1)
        )
        figures.append(
            document.figure_tag(
                visual.ranked_lists(
                    query_images[rows],
                    gallery_images[rows],
                    matches[rows],
                    query_captions=query_captions and [query_captions[row] for row in rows],
                    gallery_captions=[captions[row] for row in rows],
                ),
                name=f"ranked-{len(figures)}",
                title=title,
                caption=caption,
                alt=f"{len(rows)} queries with the first {gallery.shape[1]} gallery images of "
                f"each; {described}.",
                mark=mark,
            )
        )
    legend = "<p>" + escape(_LIST_LEGEND) + "</p>"
    return legend + "\n".join(figures)


def _reproduction(results: Mapping, config: Mapping, num_runs: int | None = None) -> str:
    command = config.get("command")
    if command is None:
        words = ["python", "experiments/run.py", f"--exp={results['exp']}"]
        if results["data_source"] != "stand-in":
            words += [f"--dataset={results.get('dataset')}", "--data_dir=DATA_DIR"]
        if results.get("scale"):
            words.append(f"--scale={results['scale']}")
        if results.get("seed") is not None:
            words.append(f"--seed={results['seed']}")
        if num_runs is not None:
            words.append(f"--repeats={num_runs}")
        command = shlex.join(words)
    elif not isinstance(command, str):
        command = shlex.join(command)
    shown = f"<pre><code>{escape(command)}</code></pre>"
    resolved = {
        name: "null" if value is None else str(value) for name, value in flattened(config).items()
    }
    if resolved:
        shown += document.folded("All resolved values", document.facts(resolved))
    return shown
