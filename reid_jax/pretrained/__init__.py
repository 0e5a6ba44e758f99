"""Weights of other programs, renamed into this library's trees: strict, nothing skipped."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
from etils import epath

from reid_jax.pretrained.matconvnet import load_matconvnet
from reid_jax.pretrained.torchvision import load_torchvision

__all__ = ["load_matconvnet", "load_torchvision", "load_weights"]

LOADERS = {
    ".mat": load_matconvnet,
    ".pt": load_torchvision,
    ".pth": load_torchvision,
    ".safetensors": load_torchvision,
}


def load_weights(
    path: epath.PathLike, model: nn.Module, variables: dict
) -> tuple[dict, dict[str, Any]]:
    """The variables of a network with all values taken from a file, by the file's ending.

    Args:
        path: ``.mat`` (MatConvNet), or ``.safetensors``, ``.pth``, ``.pt`` (torchvision).
        model: the network; of a siamese network the backbone.
        variables: 'params' and 'batch_stats' as ``model.init`` makes them.

    Returns:
        new variables; and a report for the results: ``file``, ``sha256``, ``matched`` (number of
        the network's tensors), ``left_out`` (name in the file -> reason), ``kept`` (names in the
        network that are as they were), and ``image_mean`` and ``image_std``, RGB: the weights
        expect (pixels of 0 .. 255 - mean) / std. The mean is None where the file does not say.

    Raises:
        ValueError: if the ending is not known, or as :func:`load_matconvnet` and
            :func:`load_torchvision` say.
        ImportError: if a ``.pth`` file is given and PyTorch is not installed.
    """
    suffix = epath.Path(path).suffix
    if suffix not in LOADERS:
        raise ValueError(f"{path} is no weights file: known endings are {', '.join(LOADERS)}.")
    return LOADERS[suffix](path, model, variables)
