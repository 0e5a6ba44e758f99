"""An experiment by name, its rows by ``key=value``, and single values by ``section.key=value``."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

__all__ = [
    "Experiment",
    "PaperComplexity",
    "PaperFigure",
    "PaperTable",
    "apply_overrides",
    "build_config",
    "paper_row",
]


_MAY_BE_ZERO = (
    "data.num_shifted",
    "data.shift",
    "evaluation.shortlist",
    "optimizer.head_steps",
    "optimizer.num_epochs",
    "optimizer.num_steps",
    "train.validate_every",
)
_OF_A_SCORE = ("distance_weight", "epsilon", "shortlist")
_OF_NO_ROW = ("width", "weights", "stride", "correlation", "test_statistics")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The rows of a paper that one function describes.

    Attributes:
        config: ``config(scale, **row)`` gives every value of the run.
        paper: the printed numbers, fractions by metric, of each printed row: ``key=value,...`` as
            after the colon of ``--exp``, '' for the row of the defaults.
    """

    config: Callable[..., ConfigDict]
    paper: Mapping[str, Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class PaperTable:
    """A table of a paper: which experiments stand in it beside which printed rows.

    Attributes:
        title: as printed, with its number.
        columns: metrics, by their names in ``results.json``; ``PROTOCOL/METRIC`` where it is not
            the protocol of the run.
        literature: the rows of other methods, a label and a fraction (or None) for each column.
        rows: the paper's own rows: a label, its experiment, and a fraction (or None) for each
            column.
        compared: labels of a row and of the row it is compared with; empty: all with the first.
    """

    title: str
    columns: Sequence[str]
    literature: Sequence[tuple]
    rows: Sequence[tuple]
    compared: Sequence[tuple[str, str]] = ()


@dataclasses.dataclass(frozen=True)
class PaperComplexity:
    """A table of what networks cost, which no run measures; see :mod:`experiments.complexity`.

    Attributes:
        title: as printed, with its number.
        literature: label, millions of parameters, GFLOPs and depth of other methods' networks.
        printed: the same three of the paper's own, by the networks' names in
            :mod:`experiments.complexity`.
    """

    title: str
    literature: Sequence[tuple]
    printed: Mapping[str, tuple]


@dataclasses.dataclass(frozen=True)
class PaperFigure:
    """A figure of a paper.

    Attributes:
        draw: name of the function in :mod:`experiments.figures` that draws it.
        rows: heading to experiment.
        protocol: that it shows, where it is not the experiments' own.
    """

    draw: str
    rows: Mapping[str, str]
    protocol: str = ""


def paper_row(
    exp: str, config: ConfigDict, experiments: Mapping[str, Experiment], *, scale: str
) -> dict[str, float] | None:
    """The paper's numbers of a config, if it is one of its experiment's printed rows, or None.

    A row is its method, loss, data and network; a schedule or a size makes no other row of it.
    """
    name = exp.partition(":")[0]
    for row, numbers in experiments[name].paper.items():
        printed = build_config(f"{name}:{row}", experiments, scale=scale)
        if _identity(config) == _identity(printed):
            return dict(numbers)
    return None


def with_keys_of(base: Callable[..., ConfigDict]) -> Callable[[Callable], Callable]:
    """Decorates ``function(scale, *, own keys, **row)``, which hands ``row`` on to ``base``.

    The keys of ``base`` are then keys of the function's experiments too.
    """

    def decorate(function: Callable[..., ConfigDict]) -> Callable[..., ConfigDict]:
        own, inherited = (inspect.signature(f).parameters for f in (function, base))
        kept = [p for p in own.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        kept += [p for name, p in inherited.items() if name not in own]
        function.__signature__ = inspect.Signature(kept)
        return function

    return decorate


def _identity(config: ConfigDict) -> list:
    network = {k: v for k, v in config.model.items() if k not in _OF_NO_ROW}
    network["start_from"] = bool(network.get("start_from"))
    scored = {k: config.evaluation.get(k) for k in ("protocol", *_OF_A_SCORE)}
    return [config.method, config.dataset, config.data.partition, config.loss, network, scored]


def build_config(exp: str, experiments: Mapping[str, Experiment], *, scale: str) -> ConfigDict:
    """The config of ``NAME[:key=value,...]``.

    Raises:
        ValueError: for an unknown name, key or value, with the known ones.
    """
    name, _, arguments = exp.partition(":")
    if name not in experiments:
        raise ValueError(f"unknown experiment {name!r}{_known(name, experiments)}")
    experiment = experiments[name]
    parameters = {
        key: parameter
        for key, parameter in inspect.signature(experiment.config).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and key != "dataset"
    }
    row = {}
    for argument in filter(None, arguments.split(",")):
        key, equals, text = argument.partition("=")
        if not equals:
            raise ValueError(f"{argument!r} in --exp={exp} is not of the form key=value")
        if key not in parameters:
            raise ValueError(f"{name} has no key {key!r}{_known(key, parameters)}")
        row[key] = _parsed(f"{name}:{key}", text, parameters[key].default)
    return experiment.config(scale, **row)


def apply_overrides(config: ConfigDict, overrides: Iterable[str]) -> None:
    """Sets each ``section.key=value`` in the config, typed as the value that is there.

    Raises:
        ValueError: for an unknown section or key, or a value of another type.
    """
    for override in overrides:
        path, equals, text = override.partition("=")
        section, dot, key = path.partition(".")
        sections = [k for k, v in config.items() if isinstance(v, ConfigDict)]
        if not (equals and dot):
            raise ValueError(f"--set {override} is not of the form section.key=value")
        if section not in sections:
            raise ValueError(f"--set {override}: no section {section!r}{_known(section, sections)}")
        if key not in config[section]:
            raise ValueError(
                f"--set {override}: {section} has no key {key!r}{_known(key, config[section])}"
            )
        value = _parsed(path, text, config[section][key])
        lowest = 0 if path in _MAY_BE_ZERO else 1
        if isinstance(value, int) and not isinstance(value, bool) and value < lowest:
            raise ValueError(f"--set {override}: expected at least {lowest}")
        config[section][key] = value


def _parsed(name: str, text: str, current: Any) -> Any:
    """Text as a value of the current value's type; without one, as the number it looks like."""
    if isinstance(current, str):
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = {"true": True, "false": False}.get(text.lower(), text)
    if current is None and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(current, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(current, tuple) and isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(value)
    if isinstance(current, tuple) and isinstance(value, int):
        return (value,)
    if current is None or type(value) is not type(current):
        expected = "float" if current is None else type(current).__name__
        raise ValueError(f"{name}={text}: expected a value of type {expected}, such as {current!r}")
    return value


def _known(name: str, names: Iterable[str]) -> str:
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{hint}; known: {', '.join(names) or 'none'}"
