"""Libraries that only some work needs: imported on use, with one message where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["EXTRAS", "require"]

EXTRAS = {
    "h5py": ("h5py", "experiments"),
    "matplotlib": ("matplotlib", "report"),
    "sklearn": ("scikit-learn", "figures"),
    "tensorflow_datasets": ("tensorflow-datasets", "datasets"),
    "threadpoolctl": ("threadpoolctl", "figures"),
}
"""The package of each such library, and the extra of ours that installs it."""


def require(module: str) -> ModuleType:
    """Imports a library of an extra, or a module of one.

    Args:
        module: such as `"sklearn.manifold"`.

    Returns:
        The module.

    Raises:
        ModuleNotFoundError: if it is not installed; the message says what installs it.
    """
    library = module.partition(".")[0]
    package, extra = EXTRAS[library]
    try:
        importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise  # it is installed, and lacks something itself
        raise ModuleNotFoundError(
            f"{package} is not installed: pip install 'reid-jax[{extra}]'", name=library
        ) from error
    return importlib.import_module(module)
