"""A state dictionary in PyTorch's names and layouts, as the variables of a network."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.traverse_util
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from etils import epath

from reid_jax import parallel
from reid_jax.pretrained import matching, torch_file

__all__ = ["LEAVES", "axes_in_file", "load_state"]

COUNTER = "num_batches_tracked"  # of use only to a batch norm without a momentum
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
"""The name of each kind of leaf in PyTorch."""

Colour = tuple[float, float, float]


def load_state(
    path: epath.PathLike,
    variables: dict,
    *,
    prefix: str,
    name_of: Callable[[matching.Leaf], str],
    head: tuple[str, str],
    pixels: tuple[Colour, Colour],
    left_out: Mapping[str, str] | None = None,
    prepared: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = dict,
) -> tuple[dict, dict[str, Any]]:
    """The variables of a network with all values taken from a file of PyTorch's.

    Args:
        path: `.safetensors`, `.pth`, `.pt` or `.pth.tar`.
        variables: 'params' and 'batch_stats' as `model.init` makes them; their dtypes are kept.
        prefix: taken off the names in the file; what does not begin with it is left out.
        name_of: path of a leaf of `variables` -> name in the file.
        head: names of the classifier's weight and bias.
        pixels: mean and deviation, RGB, that the weights expect of pixels of 0 .. 255.
        left_out: layer -> reason, of layers that are not for this network.
        prepared: changes the tensors that were read, still in PyTorch's layouts.

    Returns:
        new variables; and a report, as `reid_jax.pretrained.load_weights` describes it.

    Raises:
        ValueError: as `reid_jax.pretrained.load_torchvision` says of files.
    """
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
    reasons = {
        name: "counter that this library does not keep"
        for name in tensors
        if name.endswith(f".{COUNTER}")
    }
    for layer, reason in (left_out or {}).items():
        reasons |= {name: reason for name in tensors if name.startswith(f"{layer}.")}
    wanted = {name_of(leaf): leaf for leaf in flax.traverse_util.flatten_dict(variables)}
    loaded, report = matching.fill(
        variables,
        {name: array.transpose(_axes(array.ndim)) for name, array in prepared(tensors).items()},
        wanted,
        path=path,
        sha256=sha256,
        left_out=reasons,
        head=head,
        networks=(_network(tensors), _network(wanted)),
        shape_in_file=lambda shape: tuple(shape[axis] for axis in axes_in_file(len(shape))),
        prefix=prefix,
        outside=outside,
    )
    mean, std = pixels
    report |= {name: value for name, value in (("entry", entry), ("prefix", prefix)) if value}
    return loaded, report | {"image_mean": list(mean), "image_std": list(std)}


def axes_in_file(ndim: int) -> tuple[int, ...]:
    """Axes of an array of Flax in the order of PyTorch: kernels [h, w, C, O] -> [O, C, h, w]."""
    return tuple(int(axis) for axis in np.argsort(_axes(ndim)))


def _axes(ndim: int) -> tuple[int, ...]:
    """Axes of a PyTorch tensor in the order of Flax: kernels [O, C, h, w] -> [h, w, C, O]."""
    return {4: (2, 3, 1, 0), 2: (1, 0)}.get(ndim, tuple(range(ndim)))


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


def _network(names: Iterable[str]) -> str:
    """Which network has tensors of these names."""
    names = set(names)
    if "_conv_stem.weight" in names:
        excited = any("._se_reduce." in name for name in names)
        return "EfficientNet" if excited else "EfficientNet-Lite"
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
