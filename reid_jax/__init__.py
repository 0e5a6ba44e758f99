"""Person re-identification in JAX: five papers, one pure-function code base.

    import reid_jax as rj

Subpackages are imported on first use; `fit`, `Embedder`, `Preprocess` and `Scoring` stand
at the top.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_TOP = {
    "Embedder": "embedder",
    "Preprocess": "preprocess",
    "Scoring": "scoring",
    "fit": "training",
}
_SUBPACKAGES = (
    "augment",
    "checkpoint",
    "data",
    "decide",
    "deviations",
    "distances",
    "embedder",
    "evaluation",
    "export",
    "extras",
    "keys",
    "losses",
    "models",
    "objectives",
    "ops",
    "parallel",
    "preprocess",
    "pretrained",
    "protocols",
    "recipes",
    "report",
    "schema",
    "scoring",
    "search",
    "training",
    "visual",
)

__all__ = [*_TOP, *_SUBPACKAGES]


def __getattr__(name: str) -> Any:
    if name in _TOP:
        return getattr(importlib.import_module(f"reid_jax.{_TOP[name]}"), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f"reid_jax.{name}")
    raise AttributeError(f"module 'reid_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
