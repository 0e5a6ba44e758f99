"""torchvision's ResNet-18, ResNet-50 and VGG16 weights, from `.pth` or `.safetensors`."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from etils import epath

from reid_jax import parallel
from reid_jax.pretrained import matching, torch_file

__all__ = ["load_torchvision", "torchvision_state"]

HEADS = {"ResNet": ("fc.weight", "fc.bias"), "VGG16": ("classifier.6.weight", "classifier.6.bias")}
COUNTER = "num_batches_tracked"  # of use only to a batch norm without a momentum
TORCH_LEAF = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
# Of each stage of VGG16: place of its first convolution in `features`.
VGG_STAGES = {1: 0, 2: 5, 3: 10, 4: 17, 5: 24}
VGG_DENSE = {"fc6": "classifier.0", "fc7": "classifier.3", "identification": "classifier.6"}
# What torchvision's weights were trained with, for pixels of 0 .. 255.
IMAGE_MEAN = (123.675, 116.28, 103.53)
IMAGE_STD = (58.395, 57.12, 57.375)


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
    path = matching.weights_path(path)
    tensors, sha256, entry = _read(path)
    tensors, outside = matching.without_prefix(tensors, prefix, path) if prefix else (tensors, [])
    whole = [
        f"{name} ({array.dtype})"
        for name, array in tensors.items()
        if not jnp.issubdtype(array.dtype, jnp.floating) and not name.endswith(COUNTER)
    ]
    if whole:
        raise ValueError(
            f"{path} has {len(whole)} tensors that are not of floating-point numbers: "
            f"{', '.join(whole[:5])}{', ...' if len(whole) > 5 else ''}. Is the network quantized?"
        )
    left_out = {
        name: "counter that this library does not keep"
        for name in tensors
        if name.endswith(f".{COUNTER}")
    }
    if kind == "VGG16" and model.pooling == "max":
        left_out |= {
            name: "pooling='max' has no fc6 and fc7"
            for name in tensors
            if name.startswith((f"{VGG_DENSE['fc6']}.", f"{VGG_DENSE['fc7']}."))
        }
    name_of = _resnet_name if kind == "ResNet" else _vgg_name
    wanted = {name_of(leaf): leaf for leaf in flax.traverse_util.flatten_dict(variables)}
    loaded, report = matching.fill(
        variables,
        {name: _with_our_axes(name, array, tensors) for name, array in tensors.items()},
        wanted,
        path=path,
        sha256=sha256,
        left_out=left_out,
        head=HEADS[kind],
        networks=(_network(tensors), _network(wanted)),
        shape_in_file=lambda shape: tuple(shape[axis] for axis in np.argsort(_axes(len(shape)))),
        prefix=prefix,
        outside=outside,
    )
    report |= {name: value for name, value in (("entry", entry), ("prefix", prefix)) if value}
    return loaded, report | {"image_mean": list(IMAGE_MEAN), "image_std": list(IMAGE_STD)}


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
            np.asarray(array).transpose(np.argsort(_axes(array.ndim)))
        )
        for leaf, array in leaves.items()
    }


def _read(path: epath.Path) -> tuple[dict[str, np.ndarray], str, str | None]:
    """Tensors by their names, the file's SHA-256, and the entry of the file that holds them."""
    if path.suffix == ".safetensors":
        content = path.read_bytes()
        try:
            tensors = safetensors.numpy.load(content)
        except Exception as error:
            raise ValueError(f"{path} is not a readable .safetensors file: {error}") from error
        return tensors, hashlib.sha256(content).hexdigest(), None
    if not path.name.endswith((".pth", ".pt", ".pth.tar")):
        raise ValueError(f"{path} must be a .safetensors, .pth, .pt or .pth.tar file.")
    file = torch_file.TorchFile(path)
    tensors, entry = file.state_dict()
    if entry is not None:
        others = ", ".join(str(key)[:100] for key in file.value if key != entry)
        parallel.say(f"{path}: the weights are its entry {entry!r}; not read: {others or 'none'}.")
    return tensors, file.sha256(), entry


def _axes(ndim: int) -> tuple[int, ...]:
    """Axes of a PyTorch tensor in the order of Flax: kernels [O, C, h, w] -> [h, w, C, O]."""
    return {4: (2, 3, 1, 0), 2: (1, 0)}.get(ndim, tuple(range(ndim)))


def _with_our_axes(name: str, array: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
    last = tensors.get("features.28.weight")
    if name == f"{VGG_DENSE['fc6']}.weight" and array.ndim == 2 and last is not None:
        # Its columns are a square map, flattened as [C, h, w].
        side = math.isqrt(array.shape[1] // last.shape[0])
        if last.shape[0] * side**2 == array.shape[1]:
            array = array.reshape(-1, last.shape[0], side, side)
    return array.transpose(_axes(array.ndim))


def _network(names: Iterable[str]) -> str:
    """Which network has tensors of these names."""
    names = set(names)
    found = [re.match(r"layer([1-4])\.(\d+)\.", name) for name in names]
    pairs = {(int(match[1]), match[2]) for match in found if match}
    normalised = {name.removesuffix(".running_mean") for name in names if "running_mean" in name}
    convolutions = {
        name
        for name in names
        if re.fullmatch(r"features\.\d+\.weight", name)
        and name.removesuffix(".weight") not in normalised
    }
    return matching.network_name(
        tuple(sum(stage == number for number, _ in pairs) for stage in (1, 2, 3, 4)),
        bottleneck="layer1.0.conv3.weight" in names,
        convolutions=len(convolutions),
        batch_norm=bool(normalised),
    )


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
    return ".".join([*names, TORCH_LEAF[leaf]])


def _vgg_name(path: tuple[str, ...]) -> str:
    """('params', 'conv3_2', 'kernel') -> 'features.12.weight'."""
    _, layer, leaf = path
    if place := re.fullmatch(r"conv(\d)_(\d)", layer):
        # A ReLU follows each convolution.
        layer = f"features.{VGG_STAGES[int(place[1])] + 2 * (int(place[2]) - 1)}"
    return f"{VGG_DENSE.get(layer, layer)}.{TORCH_LEAF[leaf]}"
