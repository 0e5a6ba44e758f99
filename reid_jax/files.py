"""Files that are there whole or not at all, their cache, and trees as names with dots."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any

from etils import epath

__all__ = ["cache_dir", "differences", "flattened", "read_json", "write_atomically"]


def cache_dir() -> epath.Path:
    """The user's directory for what this library can make again: `$XDG_CACHE_HOME` or `~/.cache`.

    Returns:
        the directory, which may not be there yet.
    """
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return epath.Path(root) / "reid_jax"


def write_atomically(path: epath.PathLike, content: bytes | str) -> None:
    """Writes a file under another name and then renames it.

    Whoever stops or fails here leaves the file that was there before. Only one process may write a
    path at a time.

    Args:
        path: local or in a bucket; directories above it are made.
        content: text is written as UTF-8.
    """
    path = epath.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f"{path.name}.partial"
    try:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Gives each value of nested mappings the names on the way to it, joined by dots.

    Args:
        tree: mappings within mappings; an empty one counts as a value.
        prefix: goes before each name.

    Returns:
        Name to value, in the order of the tree.
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flattened(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What two trees do not have in common, for a message.

    Args:
        there: a record; what it has more is not looked at.
        here: what is compared with it.

    Returns:
        A line for each value, by its name with dots.
    """
    known = flattened(there)
    return [
        f"{name}: {known.get(name)} there, {value} here"
        for name, value in flattened(here).items()
        if known.get(name) != value
    ]


def read_json(path: epath.Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ValueError: if it holds none, naming the file.
    """
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): make it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, expected a JSON object")
    return content
