"""An experiment by name, its rows by `key=value`, and the printed numbers beside them."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence

from experiments.config import Config
from experiments.config.values import among, parsed
from experiments.papers.pretrained import pretrained

__all__ = [
    "Experiment",
    "PaperComplexity",
    "PaperFigure",
    "PaperTable",
    "build_config",
    "paper_row",
    "row_keys",
    "slug",
    "table_of_no_paper",
    "with_keys_of",
]

_OF_A_SCORE = (
    *("protocol", "test_mode", "normalise", "expand", "rerank"),
    *("distance_weight", "epsilon", "shortlist"),
)
_OF_NO_ROW = (
    *("width", "dtype", "weights", "stride", "correlation", "test_statistics"),
    *("start_from", "start_exp", "remat"),
)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The rows of a paper that one function describes.

    Attributes:
        config: `config(scale, **row)` gives every value of the run at the scale 'paper' or 'small'.
        paper: the printed numbers, fractions by metric, of each printed row: `key=value,...` as
            after the colon of `--exp`, '' for the row of the defaults.
    """

    config: Callable[..., Config]
    paper: Mapping[str, Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class PaperTable:
    """A table of a paper: which experiments stand in it beside which printed rows.

    Attributes:
        title: as printed, with its number.
        columns: metrics, by their names in `results.json`; `PROTOCOL/METRIC` where it is not
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


def table_of_no_paper(
    title: str, rows: Mapping[str, str], *compared: tuple[str, str]
) -> PaperTable:
    """A table that no paper has, rank-1 and mAP: `rows` are label to experiment."""
    return PaperTable(
        title=f"{title} (not in the paper)",
        columns=("rank1", "map_step"),
        literature=(),
        rows=tuple((label, exp, None, None) for label, exp in rows.items()),
        compared=compared,
    )


@dataclasses.dataclass(frozen=True)
class PaperComplexity:
    """A table of what networks cost, which no run measures; see `experiments.complexity`.

    Attributes:
        title: as printed, with its number.
        literature: label, millions of parameters, GFLOPs and depth of other methods' networks.
        printed: the same three of the paper's own, by the networks' names in
            `experiments.complexity`.
    """

    title: str
    literature: Sequence[tuple]
    printed: Mapping[str, tuple]


@dataclasses.dataclass(frozen=True)
class PaperFigure:
    """A figure of a paper.

    Attributes:
        draw: name of the function in `experiments.figures` that draws it.
        rows: heading to experiment.
        protocol: that it shows, where it is not the experiments' own.
        printed: what the paper says of it in numbers, under the figure.
    """

    draw: str
    rows: Mapping[str, str]
    protocol: str = ""
    printed: str = ""


def paper_row(
    exp: str, config: Config, experiments: Mapping[str, Experiment], *, scale: str
) -> dict[str, float] | None:
    """The paper's numbers of a config, if it is one of its experiment's printed rows, or None.

    Objective, data, loss and network make a row; runs that differ in schedule, width or number
    format only still count as the same one. At the scale `pretrained`, whose network is in no
    paper, there is none.
    """
    if scale == "pretrained":
        return None
    name = exp.partition(":")[0]
    for row, numbers in experiments[name].paper.items():
        printed = build_config(f"{name}:{row}" if row else name, experiments, scale=scale)
        if _identity(config) == _identity(printed):
            return dict(numbers)
    return None


def _identity(config: Config) -> list:
    network = dataclasses.asdict(config.model)
    network = {key: value for key, value in network.items() if key not in _OF_NO_ROW}
    return [
        *(config.objective, config.dataset, config.data.partition, config.data.joined),
        *(config.data.mean, config.sampler.ratio_rule),
        *(config.loss, network, bool(config.model.start_from)),
        *(getattr(config.evaluation, key) for key in _OF_A_SCORE),
    ]


def with_keys_of(base: Callable[..., Config]) -> Callable[[Callable], Callable]:
    """Decorates `function(scale, *, own keys, **row)`, which hands `row` on to `base`.

    The keys of `base` are then keys of the function's experiments too.
    """

    def decorate(function: Callable[..., Config]) -> Callable[..., Config]:
        own, inherited = (inspect.signature(f, eval_str=True).parameters for f in (function, base))
        kept = [p for p in own.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        kept += [p for name, p in inherited.items() if name not in own]
        function.__signature__ = inspect.Signature(kept)
        return function

    return decorate


def row_keys(experiment: Experiment) -> dict[str, inspect.Parameter]:
    """The keys of an experiment's rows, each with its annotation and its default."""
    return {
        key: parameter
        for key, parameter in inspect.signature(experiment.config, eval_str=True).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and key != "dataset"
    }


def build_config(exp: str, experiments: Mapping[str, Experiment], *, scale: str) -> Config:
    """The config of `NAME[:key=value,...]`.

    Raises:
        ValueError: for an unknown name, key or value, with the known ones, a key given twice, or
            one that has no meaning beside the others.
    """
    name, colon, arguments = exp.partition(":")
    if name not in experiments:
        raise ValueError(f"unknown experiment {name!r}{among(name, experiments)}")
    if colon and not arguments:
        raise ValueError(
            f"--exp={exp} has nothing after its colon: give key=value,... or leave the colon out"
        )
    keys = row_keys(experiments[name])
    row = {}
    for argument in arguments.split(",") if arguments else ():
        key, equals, text = argument.partition("=")
        if not equals:
            raise ValueError(f"{argument!r} in --exp={exp} is not of the form key=value")
        if key not in keys:
            raise ValueError(f"{name} has no key {key!r}{among(key, keys)}")
        if key in row:
            raise ValueError(f"--exp={exp} gives {key} twice")
        row[key] = parsed(f"{name}:{key}", text, keys[key].annotation)
    config = _at_scale(experiments[name], scale, row)
    for key, value in row.items():
        if keys[key].default == value:
            continue
        # Of a default of none the value depends on the scale, and may be the one that is given;
        # the scale pretrained leaves some values out.
        if keys[key].default in (None, "") and (scale != "pretrained" or _has(config, key, value)):
            continue
        others = {other: given for other, given in row.items() if other != key}
        if _at_scale(experiments[name], scale, others) == config:
            raise ValueError(f"{key}={value} has no meaning in --exp={exp}: leave it out")
    return config


def _has(config: Config, key: str, value: object) -> bool:
    """Whether a section of a config has the value under the key."""
    sections = [part for part in dataclasses.asdict(config).values() if isinstance(part, dict)]
    return any(key in section and section[key] == value for section in sections)


def _at_scale(experiment: Experiment, scale: str, row: Mapping[str, object]) -> Config:
    if scale == "pretrained":
        return pretrained(experiment.config("paper", **row))
    return experiment.config(scale, **row)


def slug(exp: str) -> str:
    """An experiment as the name of a directory that every shell and file system takes.

    `clever_pretrain:row=ic` is `clever_pretrain-row-ic`.
    """
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", exp).strip("-")
