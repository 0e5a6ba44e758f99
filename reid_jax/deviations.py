"""Where the code differs from a paper: the `Deviation:` notes of docstrings, for reports."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

__all__ = ["deviations"]


def deviations(documented: Iterable[Any]) -> tuple[str, ...]:
    """Collects the `Deviation:` notes in the docstrings of what a run used.

    Args:
        documented: functions or classes.

    Returns:
        `"name: note"` for each note that tells of a deviation, in the order given, without
        repeats.
    """
    notes = []
    for thing in documented:
        lines = (inspect.getdoc(thing) or "").splitlines()
        for number, line in enumerate(lines):
            if not line.startswith("Deviation:"):
                continue
            words = [line.removeprefix("Deviation:")]
            for following in lines[number + 1 :]:
                # A note ends at an empty line or where the next part of the docstring starts.
                if not following.strip() or re.match(r"[A-Z]\w*:", following):
                    break
                words.append(following)
            note = " ".join(" ".join(words).replace("`", "").split())
            if not note.lower().startswith("none"):
                notes.append(f"{thing.__name__}: {note}")
    return tuple(dict.fromkeys(notes))
