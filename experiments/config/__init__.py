"""The configuration of a run: every key of every experiment, with its type, minimum and meaning.

A `Config` is checked when it is made, by `dataclasses.replace` too, and never changes.
`python -m experiments.config` prints `docs/config.md`.
"""

from experiments.config.changes import changed
from experiments.config.fit import LOSS_KEYS, MODEL_KEYS, check
from experiments.config.sections import (
    PROTOCOL_NAMES,
    SECTIONS,
    Config,
    Data,
    Evaluation,
    Loss,
    Model,
    Optimizer,
    Sampler,
    Train,
)
from experiments.config.text import (
    as_dict,
    from_dict,
    from_json,
    load_config,
    page,
    parse_overrides,
    table,
    to_json,
)

__all__ = [
    "LOSS_KEYS",
    "MODEL_KEYS",
    "PROTOCOL_NAMES",
    "SECTIONS",
    "Config",
    "Data",
    "Evaluation",
    "Loss",
    "Model",
    "Optimizer",
    "Sampler",
    "Train",
    "as_dict",
    "changed",
    "check",
    "from_dict",
    "from_json",
    "load_config",
    "page",
    "parse_overrides",
    "table",
    "to_json",
]
