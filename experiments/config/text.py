"""A configuration as text: `section.key=value`, JSON, a table, and the page of all keys."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

from experiments.config.changes import changed
from experiments.config.fit import LOSS_KEYS, MODEL_KEYS
from experiments.config.sections import (
    SECTIONS,
    Config,
    annotations,
)
from experiments.config.values import among, checked, limits_text, parsed, type_text

__all__ = [
    "as_dict",
    "from_dict",
    "from_json",
    "load_config",
    "page",
    "parse_overrides",
    "table",
    "to_json",
]


def parse_overrides(config: Config, overrides: Iterable[str]) -> Config:
    """The config with each `section.key=value`, read by the key's annotation.

    The values may need each other: the config is checked when all are set. Where
    `model.start_from` is set and `model.start_exp` is not, the latter becomes empty: the
    directory then holds a run of its own.

    Raises:
        ValueError: for an unknown section or key, a value that does not fit, or values that do not
            fit each other.
    """
    changes: dict[str, dict[str, Any]] = {}
    for override in overrides:
        path, equals, text = override.partition("=")
        section, dot, key = path.partition(".")
        if not (equals and dot):
            raise ValueError(f"--set {override} is not of the form section.key=value")
        if section not in SECTIONS:
            raise ValueError(f"--set {override}: no section {section!r}{among(section, SECTIONS)}")
        known = annotations(SECTIONS[section])
        if key not in known:
            raise ValueError(f"--set {override}: {section} has no key {key!r}{among(key, known)}")
        changes.setdefault(section, {})[key] = parsed(path, text, known[key])
    if "start_from" in (model := changes.get("model", {})):
        model.setdefault("start_exp", "")
    return changed(config, **changes)


def as_dict(config: Config) -> dict[str, Any]:
    """The config as the tree of sections that JSON gives back, from which `from_dict` is."""
    return json.loads(to_json(config))


def to_json(config: Config) -> str:
    """The config as JSON, from which `from_json` makes an equal one."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str) -> Config:
    """The config of `to_json`.

    Raises:
        ValueError: as `from_dict`.
    """
    return from_dict(json.loads(text))


def from_dict(tree: Mapping[str, Any]) -> Config:
    """The config of a tree of sections, as JSON holds it.

    Raises:
        ValueError: for an unknown or a missing key, by name, or a value that does not fit. A key
            that has a default may be missing, as in the record of an older run.
    """
    if not isinstance(tree, Mapping):
        raise ValueError(f"a configuration has sections; got {tree!r}")
    _compare_keys("", tree, Config)
    values = {}
    for name, annotation in annotations(Config).items():
        if name not in SECTIONS:
            values[name] = checked(name, tree[name], annotation)
            continue
        if not isinstance(tree[name], Mapping):
            raise ValueError(f"{name}={tree[name]!r}: expected a section")
        _compare_keys(f"{name}.", tree[name], SECTIONS[name])
        values[name] = SECTIONS[name](**tree[name])
    return Config(**values)


def _compare_keys(prefix: str, given: Iterable[str], section: type) -> None:
    """Refuses keys that the section does not have, and lacking ones that it has no default for."""
    known = {field.name: field for field in dataclasses.fields(section)}
    parts = [
        f"{words} {', '.join(prefix + name for name in names)}"
        for words, names in (
            ("unknown:", [name for name in given if name not in known]),
            (
                "missing:",
                [n for n in known if n not in given and known[n].default is dataclasses.MISSING],
            ),
        )
        if names
    ]
    if parts:
        raise ValueError(f"this is no configuration of today's keys; {'; '.join(parts)}")


def load_config(path: epath.PathLike) -> Config:
    """The config in a file: the `config.json` of a run, or one that `to_json` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds no config, with the file's name.
    """
    path = epath.Path(path).expanduser()
    try:
        tree = json.loads(path.read_text())
        return from_dict(tree.get("config", tree) if isinstance(tree, Mapping) else tree)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def table(config: Config) -> list[tuple[str, Any, str]]:
    """(key, value, meaning) of every key."""
    rows = []
    for name, annotation in annotations(Config).items():
        value = getattr(config, name)
        if name not in SECTIONS:
            rows.append((name, value, _meaning(annotation)))
            continue
        for key, of_key in annotations(SECTIONS[name]).items():
            rows.append((f"{name}.{key}", getattr(value, key), _meaning(of_key)))
    return rows


def page() -> str:
    """Markdown of every key: its type or known values, minimum, default and meaning."""
    lines = [
        "# Configuration",
        "",
        "Written by `python -m experiments.config`; do not edit.",
        "",
        "Every experiment has every key. `--set section.key=value` gives one another value;",
        "`run.py --show_config` prints those of an experiment. A default of none (`null` in JSON)",
        "stands for what the network does by itself, or for a constant that the objective does not",
        "have; without a default, the experiment gives the value.",
        "",
        *_keys_table({k: v for k, v in annotations(Config).items() if k not in SECTIONS}, Config),
    ]
    for name, section in SECTIONS.items():
        lines += ["", f"## {name}", "", section.__doc__.strip(), ""]
        lines += _keys_table(annotations(section), section)
    return "\n".join(lines) + "\n"


def _keys_table(keys: Mapping[str, Any], owner: type) -> list[str]:
    defaults = {field.name: field.default for field in dataclasses.fields(owner)}
    takers = {"Loss": LOSS_KEYS, "Model": MODEL_KEYS}.get(owner.__name__, {})
    lines = ["| key | values | limits | default | meaning |", "|---|---|---|---|---|"]
    for key, annotation in keys.items():
        default = defaults[key]
        shown = "" if default is dataclasses.MISSING else f"`{_shown(default)}`"
        meaning = _meaning(annotation)
        names = [name for name, taken in takers.items() if key in taken]
        if 0 < len(names) < len(takers):
            meaning += f" ({', '.join(names)})"
        cells = (f"`{key}`", type_text(annotation), limits_text(annotation), shown, meaning)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _shown(value: Any) -> str:
    """A value as --set takes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value) or "''"


def _meaning(annotation: Any) -> str:
    metadata = getattr(annotation, "__metadata__", ())
    return next((meta.description for meta in metadata if meta.description), "")
