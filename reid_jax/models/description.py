"""Networks as data: by name and options, which JSON can hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from reid_jax.models.caffenet import CaffeNet
from reid_jax.models.csn import CSN
from reid_jax.models.efficientnet_lite0 import EfficientNetLite0
from reid_jax.models.nine_conv import NineConv
from reid_jax.models.resnet import ResNet, resnet18, resnet50
from reid_jax.models.siamese import Siamese
from reid_jax.models.vgg16 import VGG16

__all__ = ["MODELS", "build", "describe", "from_description"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "caffenet": CaffeNet,
    "csn": CSN,
    "efficientnet_lite0": EfficientNetLite0,
    "nine_conv": NineConv,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "vgg16": VGG16,
}
"""The networks that `build` knows, each a function of the network's fields."""

# What a description may hold besides: these need an option, so they have no network by name alone.
DESCRIBED: dict[str, Callable[..., nn.Module]] = {**MODELS, "resnet": ResNet, "siamese": Siamese}
# Fields that belong to the place where a network runs.
OF_THE_PLACE = {"parent", "name", "axis_name"}
RESNET_LAYOUT = {"blocks", "bottleneck"}


def build(name: str, **options: Any) -> nn.Module:
    """The network of a name.

    Args:
        name: a key of `MODELS`.
        **options: fields of the network; `num_identities=K` adds the identification head.

    Returns:
        the network, without variables.

    Raises:
        ValueError: if the name or an option is not known; the message lists the known ones.
    """
    if name not in MODELS:
        raise ValueError(f"model {name!r} is not known; known: {', '.join(sorted(MODELS))}.")
    known = set(_fields(type(MODELS[name]()))) - {"parent", "name"} - RESNET_LAYOUT
    return _made(name, options, known)


def describe(model: nn.Module) -> dict[str, Any]:
    """What a network is, so that `from_description` makes it again.

    Args:
        model: a network of this package.

    Returns:
        `{"name": ..., "options": {...}}` of plain values, which JSON can hold: `name` is a key
        of `MODELS`, "resnet" for a ResNet of other blocks, or "siamese"; `options` are the
        fields that are not at their defaults. A dtype is given by its name, and the `backbone` of
        a siamese network by a description of its own, without what the siamese network sets.
        `axis_name` belongs to the place where a network runs and is left out.

    Raises:
        ValueError: if the network, or a siamese network's backbone, is not of this package.
    """
    name = _name_of(model)
    fields = _fields(type(model))
    left_out = OF_THE_PLACE | (RESNET_LAYOUT if name in MODELS else set())
    options = {}
    for field in fields.values():
        value = getattr(model, field.name)
        if field.name not in left_out and (
            field.default is dataclasses.MISSING or value != field.default
        ):
            options[field.name] = _plain(field.name, value)
    return {"name": name, "options": options}


def from_description(description: dict[str, Any]) -> nn.Module:
    """The network of a description.

    Args:
        description: of `describe`, also after a way through JSON.

    Returns:
        the network, without variables.

    Raises:
        ValueError: if the description has no name and options, or one that is not known.
    """
    if not isinstance(description, dict) or set(description) != {"name", "options"}:
        raise ValueError(
            f'a network is described as {{"name": ..., "options": {{...}}}}, got {description!r}.'
        )
    name, options = description["name"], dict(description["options"])
    if name not in DESCRIBED:
        raise ValueError(
            f"a network named {name!r} is not known; known: {', '.join(sorted(DESCRIBED))}."
        )
    if name in MODELS:
        return build(name, **_values(options))
    kind = DESCRIBED[name]
    fields = {k: v for k, v in _fields(kind).items() if k not in ("parent", "name")}
    missing = sorted(
        k for k, v in fields.items() if v.default is dataclasses.MISSING and k not in options
    )
    if missing:
        raise ValueError(f"the description of a {name} network lacks {', '.join(missing)}.")
    return _made(name, _values(options), set(fields))


def _made(name: str, options: dict[str, Any], known: set[str]) -> nn.Module:
    if unknown := sorted(set(options) - known):
        raise ValueError(
            f"model {name!r} has no option {', '.join(unknown)}; known: {', '.join(sorted(known))}."
        )
    return DESCRIBED[name](**options)


def _fields(kind: Any) -> dict[str, dataclasses.Field]:
    return {field.name: field for field in dataclasses.fields(kind)}


def _name_of(model: nn.Module) -> str:
    for name, make in DESCRIBED.items():
        if type(model) is make:
            return name
        if type(model) is ResNet and make in (resnet18, resnet50):
            known = make()
            if (tuple(model.blocks), model.bottleneck) == (known.blocks, known.bottleneck):
                return name
    names = ", ".join(sorted(DESCRIBED))
    raise ValueError(
        f"{type(model).__name__} is not a network of reid_jax.models ({names}): it cannot be "
        "described by name and options."
    )


def _plain(field: str, value: Any) -> Any:
    """A field's value as JSON has it."""
    if field == "backbone":
        # A siamese network sets the fields that concern both streams.
        unset = value.clone(num_identities=None, dropout=0.0, num_streams=1)
        return describe(unset)
    if field == "dtype":
        return jnp.dtype(value).name
    return list(value) if isinstance(value, tuple) else value


def _values(options: dict[str, Any]) -> dict[str, Any]:
    """The values of fields from those of `_plain`."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    if "backbone" in values:
        values["backbone"] = from_description(values["backbone"])
    if values.get("dtype") is not None:
        values["dtype"] = jnp.dtype(values["dtype"])
    return values
