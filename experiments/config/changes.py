"""Another configuration of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.config.sections import Config

__all__ = ["changed"]


def changed(config: Config, **changes: Any) -> Config:
    """The config with other values; only the result has to be right, no step on the way to it.

    Args:
        config: is left as it is.
        **changes: `objective=` and `dataset=` by value; of a section a mapping of its changed
            keys, or the whole section anew.
    """
    return dataclasses.replace(
        config,
        **{
            name: dataclasses.replace(getattr(config, name), **change)
            if isinstance(change, Mapping)
            else change
            for name, change in changes.items()
        },
    )
