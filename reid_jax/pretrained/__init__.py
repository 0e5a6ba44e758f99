"""Weights of other programs, renamed into this library's trees: strict, nothing skipped."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
from etils import epath

from reid_jax.pretrained.matconvnet import load_matconvnet
from reid_jax.pretrained.torchvision import load_torchvision, torchvision_state

__all__ = ["load_matconvnet", "load_torchvision", "load_weights", "torchvision_state"]

LOADERS = {
    ".mat": load_matconvnet,
    ".pt": load_torchvision,
    ".pth": load_torchvision,
    ".pth.tar": load_torchvision,
    ".safetensors": load_torchvision,
}


def load_weights(
    path: epath.PathLike, model: nn.Module, variables: dict, prefix: str = ""
) -> tuple[dict, dict[str, Any]]:
    """The variables of a network with all values taken from a file, by the file's ending.

    Args:
        path: `.mat` (MatConvNet), or `.safetensors`, `.pth`, `.pth.tar`, `.pt`
            (torchvision). PyTorch is not needed.
        model: the network; of a siamese network the backbone.
        variables: 'params' and 'batch_stats' as `model.init` makes them.
        prefix: taken off the names in the file, as `"module."`; what does not begin with it is
            left out. MatConvNet's names have none.

    Returns:
        new variables; and a report for the results: `file`, `sha256`, `matched` (number of
        the network's tensors), `left_out` (name in the file -> reason), `kept` (names in the
        network that are as they were), and `image_mean` and `image_std`, RGB: the weights
        expect (pixels of 0 .. 255 - mean) / std. The mean is None where the file does not say.
        `entry` (of the file, that holds the weights) and `prefix`, where there is one.

    Raises:
        ValueError: if the ending is not known, a prefix is given for a `.mat` file, or as
            `load_matconvnet` and `load_torchvision` say.
    """
    name = epath.Path(path).name
    load = next((load for suffix, load in LOADERS.items() if name.endswith(suffix)), None)
    if load is None:
        raise ValueError(f"{path} is no weights file: known endings are {', '.join(LOADERS)}.")
    if load is load_torchvision:
        return load_torchvision(path, model, variables, prefix=prefix)
    if prefix:
        raise ValueError(f"{path}: names of MatConvNet have no prefix; leave {prefix!r} out.")
    return load_matconvnet(path, model, variables)
