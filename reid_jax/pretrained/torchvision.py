"""torchvision's ResNet-18, ResNet-50 and VGG16 weights, from `.pth` or `.safetensors`."""

from __future__ import annotations

import math
import re
from typing import Any

import flax.linen as nn
import flax.traverse_util
import numpy as np
from etils import epath

from reid_jax.pretrained import matching, torch_state

__all__ = ["IMAGE_MEAN", "IMAGE_STD", "load_torchvision", "torchvision_state"]

HEADS = {"ResNet": ("fc.weight", "fc.bias"), "VGG16": ("classifier.6.weight", "classifier.6.bias")}
# Of each stage of VGG16: place of its first convolution in `features`.
VGG_STAGES = {1: 0, 2: 5, 3: 10, 4: 17, 5: 24}
VGG_DENSE = {"fc6": "classifier.0", "fc7": "classifier.3", "identification": "classifier.6"}
DENSE_BEFORE_HEAD = (VGG_DENSE["fc6"], VGG_DENSE["fc7"])
IMAGE_MEAN = (123.675, 116.28, 103.53)
"""What the weights were trained with, RGB, for pixels of 0 .. 255."""
IMAGE_STD = (58.395, 57.12, 57.375)
"""What the pixels are divided by after the mean is subtracted."""


def load_torchvision(
    path: epath.PathLike, model: nn.Module, variables: dict, *, prefix: str = ""
) -> tuple[dict, dict[str, Any]]:
    """The variables of a ResNet or VGG16 with all values taken from a torchvision weights file.

    Every tensor of the file and of the network is matched, or named in the error. What is left out
    is left out by name, and reported: the counters `num_batches_tracked`; the classifier where
    the network has no identification head or one of another size (the head then keeps the values
    it has in `variables`); fc6 and fc7 of VGG16 where the network has `pooling='max'`.

    Args:
        path: `.safetensors`, or `.pth` / `.pt` / `.pth.tar` holding a state dictionary,
            also one level down (`{"state_dict": ..., "epoch": 3}`), which is said. PyTorch is not
            needed, and nothing in the file is run: see `reid_jax.pretrained.torch_file`.
        model: VGG16, or a ResNet with `stride='torchvision'`. Of a siamese network give the
            backbone and `backbone_variables(variables)`.
        variables: 'params' and 'batch_stats' as `model.init` makes them; their dtypes are kept.
        prefix: taken off the names in the file, as `"module."`; a tensor whose name does not
            begin with it is left out.

    Returns:
        new variables; and a report, as `reid_jax.pretrained.load_weights` describes it.

    Raises:
        ValueError: if torchvision has no weights for the model or its layout is not torchvision's,
            the file is of another format, cannot be read or would call something, or tensors are
            missing, unexpected, of whole numbers or of another shape (all are named, and which
            networks the two look like; or the prefix that all names have).
    """
    kind = matching.check_model(model, program="torchvision", known=HEADS, stride="torchvision")
    no_dense = kind == "VGG16" and model.pooling == "max"
    return torch_state.load_state(
        path,
        variables,
        prefix=prefix,
        name_of=_resnet_name if kind == "ResNet" else _vgg_name,
        head=HEADS[kind],
        pixels=(IMAGE_MEAN, IMAGE_STD),
        left_out=dict.fromkeys(DENSE_BEFORE_HEAD, "pooling='max' has no fc6 and fc7")
        if no_dense
        else {},
        prepared=_with_map,
    )


def torchvision_state(model: nn.Module, variables: dict) -> dict[str, np.ndarray]:
    """The variables of a ResNet with torchvision's names and layouts: what the loader takes.

    Args:
        model: a ResNet with `stride='torchvision'`.
        variables: 'params' and 'batch_stats'.

    Returns:
        name -> array, kernels [O, C, h, w]; without the counters `num_batches_tracked`, which
        PyTorch sets to 0 by itself.

    Raises:
        ValueError: if torchvision builds no such network.
    """
    matching.check_model(model, program="torchvision", known=("ResNet",), stride="torchvision")
    if model.neck or model.last_stride != 2:
        raise ValueError(
            f"torchvision's ResNet has no neck and the last stride 2, and the model has neck="
            f"{model.neck} and last_stride={model.last_stride}: take another form"
        )
    leaves = flax.traverse_util.flatten_dict(variables)
    return {
        _resnet_name(leaf): np.ascontiguousarray(
            np.asarray(array).transpose(torch_state.axes_in_file(array.ndim))
        )
        for leaf, array in leaves.items()
    }


def _with_map(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns of VGG16's fc6 are a square map, flattened as [C, h, w]: a kernel here."""
    name, last = f"{VGG_DENSE['fc6']}.weight", tensors.get("features.28.weight")
    dense = tensors.get(name)
    if dense is None or dense.ndim != 2 or last is None:
        return tensors
    side = math.isqrt(dense.shape[1] // last.shape[0])
    if last.shape[0] * side**2 != dense.shape[1]:
        return tensors
    return tensors | {name: dense.reshape(-1, last.shape[0], side, side)}


def _resnet_name(path: tuple[str, ...]) -> str:
    """('params', 'res3a', 'bn2', 'scale') -> 'layer2.0.bn2.weight'."""
    *layers, leaf = path[1:]
    names = []
    for layer in layers:
        if block := re.fullmatch(r"res(\d)([a-z])", layer):
            names += [f"layer{int(block[1]) - 1}", str(ord(block[2]) - ord("a"))]
        else:
            renamed = {
                "shortcut_conv": "downsample.0",
                "shortcut_bn": "downsample.1",
                "identification": "fc",
            }
            names.append(renamed.get(layer, layer))
    return ".".join([*names, torch_state.LEAVES[leaf]])


def _vgg_name(path: tuple[str, ...]) -> str:
    """('params', 'conv3_2', 'kernel') -> 'features.12.weight'."""
    _, layer, leaf = path
    if place := re.fullmatch(r"conv(\d)_(\d)", layer):
        # A ReLU follows each convolution.
        layer = f"features.{VGG_STAGES[int(place[1])] + 2 * (int(place[2]) - 1)}"
    return f"{VGG_DENSE.get(layer, layer)}.{torch_state.LEAVES[leaf]}"
