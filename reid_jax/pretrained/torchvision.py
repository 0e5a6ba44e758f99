"""torchvision's ResNet-18 and ResNet-50 weights, from ``.pth`` or ``.safetensors``."""

from __future__ import annotations

import hashlib
import io
import re
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax.numpy as jnp
import numpy as np
from etils import epath

__all__ = ["load_torchvision"]

HEAD = {"fc.weight", "fc.bias"}
COUNTER = "num_batches_tracked"  # of use only to a batch norm without a momentum
TORCH_LEAF = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def load_torchvision(
    path: epath.PathLike, model: nn.Module, variables: dict
) -> tuple[dict, dict[str, Any]]:
    """The variables of a ResNet with all values taken from a torchvision weights file.

    Every tensor of the file and of the network is matched, or named in the error. Two things are
    left out, by name, and reported: the counters ``num_batches_tracked``, and the classifier
    ``fc.weight`` and ``fc.bias`` where the network has no identification head or one of another
    size (the head then keeps the values it has in ``variables``).

    Args:
        path: ``.safetensors``, or ``.pth`` / ``.pt`` holding a state dictionary (needs PyTorch, in
            the extra ``convert``; loaded with ``weights_only=True``).
        model: the ResNet, with ``stride='torchvision'``. Of a siamese network give the backbone and
            ``backbone_variables(variables)``.
        variables: 'params' and 'batch_stats' as ``model.init`` makes them; their dtypes are kept.

    Returns:
        new variables; and a report for the results: ``file``, ``sha256``, ``matched`` (number of
        tensors), ``left_out`` (name in the file -> reason) and ``kept`` (names in the network that
        are as they were).

    Raises:
        ValueError: if the model's layout is not torchvision's, the file is of another format or
            cannot be read, or tensors are missing, unexpected or of another shape (all are named).
        ImportError: if a ``.pth`` file is given and PyTorch is not installed.
    """
    if getattr(model, "stride", None) != "torchvision":
        raise ValueError(
            "torchvision's weights belong to the layout stride='torchvision', the model has "
            f"stride={getattr(model, 'stride', None)!r}: build it with stride='torchvision'."
        )
    path = epath.Path(path)
    if not path.exists():
        raise ValueError(f"there is no weights file at {path}.")
    content = path.read_bytes()
    tensors = _read(path, content)

    template = flax.traverse_util.flatten_dict(variables)
    wanted = {_torch_name(leaf_path): leaf_path for leaf_path in template}
    left_out = {
        name: "counter that this library does not keep"
        for name in tensors
        if name.endswith(f".{COUNTER}")
    }
    kept = []
    if replaces_head := _head_differs(tensors, template, wanted):
        left_out |= {name: replaces_head for name in HEAD if name in tensors}
        kept = sorted("/".join(wanted.pop(name)) for name in HEAD & wanted.keys())

    values = {name: value for name, value in tensors.items() if name not in left_out}
    loaded, wrong_shape = dict(template), []
    for name in sorted(wanted.keys() & values.keys()):
        old, new = template[wanted[name]], values[name].transpose(_torch_axes(values[name].ndim))
        expected = tuple(np.argsort(_torch_axes(old.ndim)))
        expected = tuple(old.shape[axis] for axis in expected)
        if values[name].shape != expected:
            wrong_shape.append(f"{name} {values[name].shape} instead of {expected}")
        loaded[wanted[name]] = jnp.asarray(new, old.dtype)
    problems = {
        "missing": sorted(wanted.keys() - values.keys()),
        "unexpected": sorted(values.keys() - wanted.keys()),
        "of another shape": wrong_shape,
    }
    if any(problems.values()):
        listed = "; ".join(f"{kind}: {', '.join(n)}" for kind, n in problems.items() if n)
        raise ValueError(f"{path} does not fit the model ({listed}). Is it the same network?")

    report = {
        "file": path.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "matched": len(wanted),
        "left_out": dict(sorted(left_out.items())),
        "kept": kept,
    }
    return flax.traverse_util.unflatten_dict(loaded), report


def _read(path: epath.Path, content: bytes) -> dict[str, np.ndarray]:
    if path.suffix == ".safetensors":
        import safetensors.numpy

        try:
            return safetensors.numpy.load(content)
        except Exception as error:
            raise ValueError(f"{path} is not a readable .safetensors file: {error}") from error
    if path.suffix not in (".pth", ".pt"):
        raise ValueError(f"{path} must be a .safetensors, .pth or .pt file.")
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"reading {path} needs PyTorch: pip install 'reid-jax[convert]', or give the weights "
            "as .safetensors."
        ) from error
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is not a readable weights-only PyTorch file: {error}") from error
    if not isinstance(state, dict) or not all(torch.is_tensor(v) for v in state.values()):
        raise ValueError(
            f"{path} does not hold a state dictionary (name -> tensor): save `model.state_dict()`."
        )
    return {name: tensor.numpy() for name, tensor in state.items()}


def _head_differs(
    tensors: dict[str, np.ndarray],
    template: dict[tuple[str, ...], Any],
    wanted: dict[str, tuple[str, ...]],
) -> str | None:
    """Why the file's classifier is not loaded, or None if it is the network's own head."""
    if "fc.weight" not in wanted:
        return "the network has no identification head"
    num_identities = template[wanted["fc.weight"]].shape[1]
    in_file = tensors["fc.weight"].shape[0] if "fc.weight" in tensors else None
    if in_file == num_identities:
        return None
    return f"classifier of {in_file} classes; the new head has {num_identities} identities"


def _torch_axes(ndim: int) -> tuple[int, ...]:
    """Axes of a PyTorch tensor in the order of Flax: kernels [O, C, h, w] -> [h, w, C, O]."""
    return {4: (2, 3, 1, 0), 2: (1, 0)}.get(ndim, tuple(range(ndim)))


def _torch_name(path: tuple[str, ...]) -> str:
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
