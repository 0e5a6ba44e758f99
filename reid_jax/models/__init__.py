"""Networks: ``build(name, **options)`` makes one by name.

A single-image network is ``apply(variables, image [B, H, W, 3], train=...)`` and returns a
dictionary with at least ``embedding`` [B, D] and, with ``num_identities=K``, ``logits`` [B, K]. It
has the fields ``num_identities``, ``dropout``, ``axis_name`` and ``num_streams`` of
:class:`ResNet`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn

from reid_jax.models.caffenet import CaffeNet
from reid_jax.models.csn import CSN, stripes
from reid_jax.models.nine_conv import NineConv
from reid_jax.models.resnet import ResNet, resnet18, resnet50
from reid_jax.models.siamese import Siamese, backbone_variables
from reid_jax.models.vgg16 import VGG16

__all__ = [
    "CSN",
    "MODELS",
    "VGG16",
    "CaffeNet",
    "NineConv",
    "ResNet",
    "Siamese",
    "backbone_variables",
    "build",
    "resnet18",
    "resnet50",
    "stripes",
]

MODELS = {
    "caffenet": CaffeNet,
    "csn": CSN,
    "nine_conv": NineConv,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "vgg16": VGG16,
}
"""The networks that :func:`build` knows, each a function of the network's fields."""


def build(name: str, **options: Any) -> nn.Module:
    """The network of a name.

    Args:
        name: a key of ``MODELS``.
        **options: fields of the network; ``num_identities=K`` adds the identification head.

    Returns:
        the network, without variables.

    Raises:
        ValueError: if the name or an option is not known; the message lists the known ones.
    """
    if name not in MODELS:
        raise ValueError(f"model {name!r} is not known; known: {', '.join(sorted(MODELS))}.")
    default = MODELS[name]()
    known = {field.name for field in dataclasses.fields(default)} - {"parent", "name"}
    known -= {"blocks", "bottleneck"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ValueError(
            f"model {name!r} has no option {', '.join(unknown)}; known: {', '.join(sorted(known))}."
        )
    return MODELS[name](**options)
