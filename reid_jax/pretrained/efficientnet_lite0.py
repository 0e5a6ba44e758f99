"""EfficientNet-Lite0's ImageNet weights, in the names of the PyTorch code that they are for."""

from __future__ import annotations

import re
from typing import Any

import flax.linen as nn
from etils import epath

from reid_jax.pretrained import matching, torch_state

__all__ = ["IMAGE_MEAN", "IMAGE_STD", "KIND", "load_efficientnet_lite0", "torch_name"]

KIND = "EfficientNetLite0"
"""The class of the network."""
# Blocks of the stages 1 to 7: the file numbers them in one row.
BLOCKS = (1, 2, 2, 3, 3, 4, 1)
PLACES = [f"{stage}{'abcd'[i]}" for stage, n in enumerate(BLOCKS, start=1) for i in range(n)]
LAYERS = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "depthwise_conv": "_depthwise_conv",
    "depthwise_bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
    "head_conv": "_conv_head",
    "head_bn": "_bn1",
    "identification": "_fc",
}
IMAGE_MEAN = (127.0, 127.0, 127.0)
"""What the weights were trained with, RGB, for pixels of 0 .. 255."""
IMAGE_STD = (128.0, 128.0, 128.0)
"""What the pixels are divided by after the mean is subtracted."""


def load_efficientnet_lite0(
    path: epath.PathLike, model: nn.Module, variables: dict, *, prefix: str = ""
) -> tuple[dict, dict[str, Any]]:
    """The variables of an EfficientNet-Lite0 with all values taken from a file of PyTorch's.

    The names are those of PyPI's package `efficientnet_lite_pytorch` 0.1.0 (and of
    `efficientnet_pytorch`, which it was made from). As for torchvision's files, every tensor is
    matched, left out by name, or named in the error.

    Args:
        path: `.pth`, `.pt`, `.pth.tar` or `.safetensors`. PyTorch is not needed, and nothing in
            the file is run.
        model: EfficientNetLite0. Of a siamese network give the backbone and
            `backbone_variables(variables)`.
        variables: 'params' and 'batch_stats' as `model.init` makes them; their dtypes are kept.
        prefix: taken off the names in the file; a tensor whose name does not begin with it is left
            out.

    Returns:
        new variables; and a report, as `reid_jax.pretrained.load_weights` describes it.

    Raises:
        ValueError: if the model is another network, or the file does not fit it, as
            `load_torchvision` says.
    """
    matching.check_model(model, program="efficientnet_lite_pytorch", known=(KIND,), stride="")
    return torch_state.load_state(
        path,
        variables,
        prefix=prefix,
        name_of=torch_name,
        head=("_fc.weight", "_fc.bias"),
        pixels=(IMAGE_MEAN, IMAGE_STD),
    )


def torch_name(path: tuple[str, ...]) -> str:
    """A leaf's name in the file: ('params', 'stem_bn', 'bias') -> '_bn0.bias'."""
    *layers, leaf = path[1:]
    names = []
    for layer in layers:
        if block := re.fullmatch(r"block(\d[a-d])", layer):
            names.append(f"_blocks.{PLACES.index(block[1])}")
        else:
            names.append(LAYERS.get(layer, layer))
    return ".".join([*names, torch_state.LEAVES[leaf]])
