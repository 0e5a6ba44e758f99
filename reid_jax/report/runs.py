"""What a run left in its work directory, read back for a report."""

import io
import json
import math
import statistics
import zipfile
from collections.abc import Mapping

import numpy as np
from etils import epath

from reid_jax.report.run import Run
from reid_jax.report.tables import data_mark

_REQUIRED = ("exp", "data_source", "metrics")
_SHARED = (
    "exp",
    "method",
    "dataset",
    "data_source",
    "protocol",
    "fingerprint",
    "scale",
    "steps",
    "num_devices",
    "weights",
    "num_query",
    "num_gallery",
    "num_valid_queries",
    "paper",
)


def read_results(workdir: epath.PathLike) -> dict:
    """`results.json` of a work directory.

    Args:
        workdir: a run's directory, or the one above its repeats.

    Returns:
        The results.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not JSON, or lacks what a report cannot do without.
    """
    path = epath.Path(workdir) / "results.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: the run has not finished, or this is not its work directory. "
            "Run the same experiments/run.py command again to finish it."
        )
    results = _json(path)
    missing = [key for key in _REQUIRED if key not in results]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; run the experiment again.")
    data_mark(results["data_source"])
    return results


def read_run(workdir: epath.PathLike) -> Run:
    """Everything that a finished run left behind.

    Args:
        workdir: the run's directory, local or in a bucket.

    Returns:
        The run. Only `results.json` must be there; the absence of another file is among its
        problems.

    Raises:
        FileNotFoundError: if there is no `results.json`.
        ValueError: if a file is there and cannot be read.
    """
    workdir = epath.Path(workdir)
    results = read_results(workdir)
    problems = []
    config, training, validation, ranking = {}, {}, {}, {}
    if (path := workdir / "config.json").exists():
        config = _json(path)
    else:
        problems.append("config.json is missing: the configuration is not shown.")
    if (path := workdir / "metrics.jsonl").exists():
        training, validation, num_bad = _read_metrics(path)
        if num_bad:
            problems.append(
                f"metrics.jsonl: {num_bad} line(s) cut short, as by a killed run, left out."
            )
    else:
        problems.append("metrics.jsonl is missing: there are no training curves.")
    if (path := workdir / "ranking.npz").exists():
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
                ranking = dict(arrays)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} cannot be read ({error}); evaluate the run again.") from error
    else:
        problems.append("ranking.npz is missing: there are no curves of ranks and no lists.")
    return Run(results, config, training, validation, ranking, tuple(problems))


def _json(path: epath.Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); run the experiment again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a JSON object.")
    return content


def _read_metrics(
    path: epath.Path,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], int]:
    training: dict[int, dict] = {}
    validation: dict[int, dict] = {}
    num_bad = 0
    for line in path.read_text().splitlines():
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            step = int(entry["step"])
        except (ValueError, TypeError, KeyError):
            num_bad += 1
            continue
        is_validation = any(name.startswith("val_") for name in entry)
        (validation if is_validation else training)[step] = entry
    return _columns(training), _columns(validation), num_bad


def _columns(entries: Mapping[int, Mapping]) -> dict[str, np.ndarray]:
    if not entries:
        return {}
    ordered = [entries[step] for step in sorted(entries)]
    names = list(dict.fromkeys(name for entry in ordered for name in entry))
    columns = {}
    for name in names:
        values = [entry.get(name) for entry in ordered]
        if all(value is None or isinstance(value, int | float) for value in values):
            columns[name] = np.array(
                [math.nan if value is None else value for value in values], np.float64
            )
    return columns


def summarize(runs: Mapping[str, Mapping]) -> dict:
    """Mean and standard deviation of repeats: the `results.json` above them.

    Args:
        runs: name of each run's directory below the common one, such as 'seed_0', to its results.

    Returns:
        What the runs share (None where they differ, as the seed), 'num_runs', 'runs' (the names),
        'metrics' (means), 'metrics_std' (sample standard deviations, None for a single run) and
        'run_metrics' (each run's).
        A metric that any run lacks is None.

    Raises:
        ValueError: if there is no run, or runs differ in experiment, data or protocol.
    """
    if not runs:
        raise ValueError("summarize: there are no runs.")
    all_results = list(runs.values())
    for key in ("exp", "dataset", "data_source", "protocol", "scale"):
        values = {str(results.get(key)) for results in all_results}
        if len(values) > 1:
            raise ValueError(
                f"summarize: {', '.join(runs)} differ in {key} ({', '.join(sorted(values))}); "
                "a mean needs runs of one kind. Give each kind its own work directory."
            )
    first = all_results[0]
    summary = {
        key: first[key] if all(results.get(key) == first[key] for results in all_results) else None
        for key in _SHARED
        if key in first
    }
    means, deviations = {}, {}
    names = dict.fromkeys(name for results in all_results for name in results["metrics"])
    for name in names:
        values = [results["metrics"].get(name) for results in all_results]
        known = all(value is not None and math.isfinite(value) for value in values)
        means[name] = statistics.fmean(values) if known else None
        deviations[name] = statistics.stdev(values) if known and len(values) > 1 else None
    return {
        **summary,
        "seed": None,
        "num_runs": len(runs),
        "runs": list(runs),
        "metrics": means,
        "metrics_std": deviations,
        "run_metrics": {name: results["metrics"] for name, results in runs.items()},
    }
