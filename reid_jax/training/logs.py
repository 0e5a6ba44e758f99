"""Training metrics as `metrics.jsonl` and TensorBoard events."""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from etils import epath

from reid_jax.files import write_atomically

__all__ = ["MetricsLog", "curves", "read_metrics", "salvage_metrics"]


def read_metrics(workdir: epath.PathLike) -> list[dict[str, Any]]:
    """Reads `metrics.jsonl`; a last line that was cut off while it was written is left out.

    Args:
        workdir: of a run; without the file there are no records.

    Returns:
        A record for each line, as written.

    Raises:
        ValueError: if any other line holds no record.
    """
    path = _path(workdir)
    lines = _parsed(path)
    for number, (line, record) in enumerate(lines[:-1], start=1):
        if record is None:
            raise ValueError(f"{path}, line {number} is no record of a step: {line[:80]!r}")
    return [record for _, record in lines if record is not None]


def salvage_metrics(workdir: epath.PathLike) -> tuple[list[dict[str, Any]], int]:
    """Reads what can be read of `metrics.jsonl`, for a report.

    Args:
        workdir: of a run.

    Returns:
        A record for each good line, and the number of lines that hold none.
    """
    records = [record for _, record in _parsed(_path(workdir))]
    good = [record for record in records if record is not None]
    return good, len(records) - len(good)


def curves(
    records: Iterable[Mapping[str, Any]],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The numbers of the training steps, and those of the validations, in the order of their steps.

    Args:
        records: of `read_metrics`; of two of one step and kind the last stands.

    Returns:
        For each kind, name to [N] float64, NaN for null; what is not a number is left out.
    """
    of_step: dict[int, Mapping[str, Any]] = {}
    of_validation: dict[int, Mapping[str, Any]] = {}
    for record in records:
        validated = any(name.startswith("val_") for name in record)
        (of_validation if validated else of_step)[record["step"]] = record
    return _columns(of_step), _columns(of_validation)


def _columns(by_step: Mapping[int, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    ordered = [by_step[step] for step in sorted(by_step)]
    found = {}
    for name in dict.fromkeys(name for record in ordered for name in record):
        values = [record.get(name) for record in ordered]
        if all(value is None or isinstance(value, int | float) for value in values):
            numbers = [math.nan if value is None else value for value in values]
            found[name] = np.array(numbers, np.float64)
    return found


def _path(workdir: epath.PathLike) -> epath.Path:
    return epath.Path(workdir) / "metrics.jsonl"


def _parsed(path: epath.Path) -> list[tuple[str, dict[str, Any] | None]]:
    """Each line with its record, an object with a whole `step`, or None where it holds none."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line, _record(line)) for line in lines]


def _record(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and type(record.get("step")) is int else None


class MetricsLog:
    """Appends records to a work directory; on a resumed run those from the first step on are cut.

    The file is written anew at each `flush`, since objects in a bucket cannot be appended to;
    the loop does so with each checkpoint, so what a killed run loses it also does again.
    """

    def __init__(self, workdir: epath.PathLike, *, first_step: int) -> None:
        self._path = _path(workdir)
        summary_writer = _summary_writer()
        kept = [record for record in read_metrics(workdir) if record["step"] < first_step]
        self._lines = [_json_line(record) for record in kept]
        self._unwritten = True
        self._event_dir = epath.Path(workdir) / "tensorboard"
        # The event writer knows local files only; those of a bucket are copied there.
        self._in_bucket = "://" in str(self._event_dir)
        local_dir = tempfile.mkdtemp() if self._in_bucket else str(self._event_dir)
        self._local_event_dir = epath.Path(local_dir)
        self._events = summary_writer(local_dir, flush_secs=30)

    def write(self, record: dict[str, Any], *, to_tensorboard: bool = True) -> None:
        """Adds one record, which has a `step`; a value that is not finite is written as null."""
        self._lines.append(_json_line(record))
        self._unwritten = True
        if to_tensorboard:
            for name, value in record.items():
                if name != "step" and math.isfinite(value):
                    self._events.add_scalar(name, value, record["step"])

    def flush(self) -> None:
        """Brings the file up to date."""
        if self._unwritten:
            write_atomically(self._path, "".join(self._lines))
            self._unwritten = False
        if self._in_bucket:
            self._events.flush()
            self._event_dir.mkdir(parents=True, exist_ok=True)
            for file in self._local_event_dir.iterdir():
                file.copy(self._event_dir / file.name, overwrite=True)

    def close(self) -> None:
        """Writes what is left."""
        self.flush()
        self._events.close()


def _summary_writer() -> type:
    """tensorboardX's writer, which would import PyTorch, for seconds, where that is installed."""
    modules: dict[str, Any] = sys.modules
    hidden = "torch" not in modules
    if hidden:
        modules["torch"] = None
    try:
        from tensorboardX import SummaryWriter
    finally:
        if hidden:
            del modules["torch"]
    return SummaryWriter


def _json_line(record: dict[str, Any]) -> str:
    clean = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(clean) + "\n"
