"""Versions of what a result depends on."""

from __future__ import annotations

import importlib.metadata
import platform

import reid_jax

__all__ = ["versions"]


def versions() -> dict[str, str]:
    """Finds the versions of Python and of the packages that the numbers depend on."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    found = {name: importlib.metadata.version(name) for name in packages}
    return found | {"python": platform.python_version(), "reid_jax": reid_jax.__version__}
