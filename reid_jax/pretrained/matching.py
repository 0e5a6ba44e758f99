"""Tensors of a file against the variables of a network: each one matched, left out or an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax.numpy as jnp
import numpy as np
from etils import epath

__all__ = ["check_model", "fill", "network_name", "read_content", "weights_path", "without_prefix"]

Leaf = tuple[str, ...]

PLAIN = {5: "AlexNet or CaffeNet", 8: "VGG11", 10: "VGG13", 13: "VGG16", 16: "VGG19"}
RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "ResNet-18",
    ((3, 4, 6, 3), False): "ResNet-34",
    ((3, 4, 6, 3), True): "ResNet-50",
    ((3, 4, 23, 3), True): "ResNet-101",
    ((3, 8, 36, 3), True): "ResNet-152",
}

# What programs that wrap a network put in front of its names.
WRAPPERS = {"module", "model", "backbone", "base", "net", "network", "encoder"}


def network_name(
    blocks: tuple[int, ...], *, bottleneck: bool, convolutions: int, batch_norm: bool = False
) -> str:
    """The network that has so many residual blocks in each stage or, without any, convolutions."""
    if any(blocks):
        return RESNETS.get((blocks, bottleneck), f"a ResNet with {blocks} blocks")
    name = PLAIN.get(convolutions, "a network that is not known here")
    return f"{name} with batch norm" if batch_norm else name


def weights_path(path: epath.PathLike) -> epath.Path:
    """The path of a weights file; ValueError if there is none."""
    path = epath.Path(path)
    if not path.exists():
        raise ValueError(f"there is no weights file at {path}.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the weights file in it.")
    return path


def read_content(path: epath.PathLike) -> tuple[epath.Path, bytes]:
    """A weights file's path and bytes; ValueError if there is none."""
    path = weights_path(path)
    return path, path.read_bytes()


def without_prefix(
    tensors: Mapping[str, np.ndarray], prefix: str, path: epath.Path
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The tensors whose names begin with a prefix, without it; and the names of the others.

    Raises:
        ValueError: if no name begins with it, or a dot is missing at its end.
    """
    inside = {
        name.removeprefix(prefix): array
        for name, array in tensors.items()
        if name.startswith(prefix)
    }
    if not inside:
        first = ", ".join(sorted(tensors)[:5])
        raise ValueError(
            f"{path}: none of the {len(tensors)} names begins with the prefix {prefix!r}; the "
            f"first of them: {first}."
        )
    if all(name.startswith(".") for name in inside):
        raise ValueError(
            f"{path}: the prefix {prefix!r} lacks the dot at its end: {prefix + '.'!r}."
        )
    return inside, sorted(name for name in tensors if not name.startswith(prefix))


def check_model(model: nn.Module, *, program: str, known: Iterable[str], stride: str) -> str:
    """The class name of a network that the program has weights for, or ValueError."""
    kind = type(model).__name__
    if kind == "Siamese":
        raise ValueError(
            "weights are for the network of single images: give siamese.backbone and "
            "backbone_variables(variables)."
        )
    if kind not in known:
        raise ValueError(
            f"{program} has no weights for {kind}, only for {', '.join(sorted(known))}."
        )
    if kind == "ResNet" and model.stride != stride:
        raise ValueError(
            f"{program}'s weights belong to the layout stride={stride!r}, the model has "
            f"stride={model.stride!r}: build it with stride={stride!r}."
        )
    return kind


def fill(
    variables: dict[str, Any],
    tensors: dict[str, np.ndarray],
    wanted: dict[str, Leaf],
    *,
    path: epath.Path,
    sha256: str,
    left_out: dict[str, str],
    head: Leaf,
    networks: tuple[str, str],
    shape_in_file: Callable[[tuple[int, ...]], tuple[int, ...]] = tuple,
    prefix: str = "",
    outside: Iterable[str] = (),
) -> tuple[dict[str, Any], dict[str, Any]]:
    """New variables with all values taken from a file, and the report on what was done.

    Args:
        variables: collections as `model.init` makes them; their dtypes are kept.
        tensors: name in the file -> array with this library's axes.
        wanted: name in the file -> path of a leaf of `variables`, for every leaf.
        path: of the file, for messages and the report.
        sha256: its digest.
        left_out: name -> reason, of tensors that are not for the network.
        head: names of the classifier's kernel and bias. Where the network has no head, or one of
            another shape, they are left out, and a head keeps its values.
        networks: which network the file and the variables look like.
        shape_in_file: turns a shape into the one that the file's program would print.
        prefix: what all names in `tensors` and `left_out` begin with in the file.
        outside: names in the file that do not begin with it: left out.

    Returns:
        the variables, and `file`, `sha256`, `matched`, `left_out`, `kept` of
        `reid_jax.pretrained.load_weights`.

    Raises:
        ValueError: naming every tensor that is missing, unexpected or of another shape; or, in
            place of them all, the prefix that keeps the names from being the network's.
    """
    template = flax.traverse_util.flatten_dict(variables)
    wanted, kept = dict(wanted), []
    if reason := _head_differs(tensors, template, wanted, head):
        left_out = left_out | {name: reason for name in head if name in tensors}
        kept = sorted("/".join(wanted.pop(name)) for name in head if name in wanted)

    # The batch norm of BNNeck: only networks for re-identification have one.
    kept += sorted("/".join(wanted.pop(n)) for n, leaf in list(wanted.items()) if "neck" in leaf)

    names = set(tensors)
    tensors = {name: array for name, array in tensors.items() if name not in left_out}
    loaded, wrong_shape, hint = dict(template), [], ""
    for name in sorted(wanted.keys() & tensors.keys()):
        leaf, array = wanted[name], tensors[name]
        old = template[leaf]
        if array.shape != old.shape:
            got, expected = shape_in_file(array.shape), shape_in_file(old.shape)
            wrong_shape.append(f"{name} {got} instead of {expected}")
            if leaf[-2:] == ("fc6", "kernel"):
                hint = (
                    " fc6 sees a map of one size: give the images the size that the weights were "
                    "made for (227 x 227 for CaffeNet, 224 x 224 for VGG16), or take pooling='max'."
                )
            continue
        loaded[leaf] = jnp.array(array, old.dtype)  # a copy: the array may be a view of the file
    problems = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "unexpected": sorted(tensors.keys() - wanted.keys()),
        "of another shape": wrong_shape,
    }
    if any(problems.values()):
        if found := _prefix_hint(names, wanted.keys() - set(head), prefix):
            raise ValueError(f"{path} does not fit the model: {found}")
        listed = "; ".join(f"{kind}: {', '.join(n)}" for kind, n in problems.items() if n)
        of_file, of_model = networks
        question = hint or " Is it the same network?"
        if of_file != of_model:
            question = f" The file looks like {of_file}, the model like {of_model}."
        if outside := list(outside):
            question += f" {len(outside)} names that do not begin with {prefix!r} are left out."
        raise ValueError(f"{path} does not fit the model ({listed}).{question}")

    reasons = {prefix + name: reason for name, reason in left_out.items()}
    reasons |= dict.fromkeys(outside, f"does not begin with {prefix!r}")
    report = {
        "file": path.name,
        "sha256": sha256,
        "matched": len(wanted),
        "left_out": dict(sorted(reasons.items())),
        "kept": kept,
    }
    return {**variables, **flax.traverse_util.unflatten_dict(loaded)}, report


def _prefix_hint(names: set[str], wanted: set[str], prefix: str) -> str | None:
    """Which prefix stands between the names of a file and those of the network, if one does."""
    anchor = min(wanted)
    begins = {name.removesuffix(anchor) for name in names if name.endswith(f".{anchor}")}
    fitting = sorted(p for p in begins if all(p + name in names for name in wanted))
    if not fitting:
        fitting = _common_prefix(names, wanted)
    if not fitting:
        return None
    counts = [sum(name.startswith(begin) for name in names) for begin in fitting]
    number = f"all {len(names)}" if counts[0] == len(names) else f"{counts[0]} of {len(names)}"
    others = "".join(
        f", {count} with {prefix + begin!r}"
        for begin, count in zip(fitting[1:], counts[1:], strict=True)
    )
    return (
        f"{number} names begin with {prefix + fitting[0]!r}{others}: give --weights_prefix "
        f"{' or '.join(prefix + begin for begin in fitting)} (model.weights_prefix)."
    )


def _common_prefix(names: set[str], wanted: set[str]) -> list[str]:
    """The prefix that all names share and none of the network's has, if it is no layer's name."""
    parts = min(names, default="").split(".")
    begins = [".".join([*parts[:count], ""]) for count in range(1, len(parts))]
    begins = [p for p in begins if all(name.startswith(p) for name in names)]
    begins = [p for p in begins if not any(name.startswith(p) for name in wanted)]
    matched = {p: sum(p + name in names for name in wanted) for p in begins}
    if any(matched.values()):
        return [max(begins, key=matched.__getitem__)]
    return [p for p in begins if WRAPPERS.issuperset(p[:-1].split("."))][-1:]


def _head_differs(
    tensors: dict[str, np.ndarray], template: dict[Leaf, Any], wanted: dict[str, Leaf], head: Leaf
) -> str | None:
    """Why the file's classifier is not loaded, or None if it is the network's own head."""
    kernel, bias = head
    if kernel not in wanted:
        return "the network has no identification head"
    dim, num_identities = template[wanted[kernel]].shape
    if bias not in wanted:
        return "the new head stands behind a neck and has no bias"
    if kernel not in tensors:
        return f"the file has no classifier; the new head has {num_identities} identities"
    if tensors[kernel].shape == (dim, num_identities):
        return None
    inputs, classes = tensors[kernel].shape[0], tensors[kernel].shape[-1]
    return (
        f"classifier of {classes} classes from {inputs} values; the new head has {num_identities} "
        f"identities from {dim}"
    )
