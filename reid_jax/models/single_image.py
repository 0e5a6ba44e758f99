"""The network for single images that a trained network holds."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn

from reid_jax.models.network import IDENTIFICATION_HEAD
from reid_jax.models.siamese import Siamese, backbone_variables

__all__ = ["single_image", "single_image_network"]

# As they are where a network only embeds, on one device.
UNSET: dict[str, Any] = {
    "num_identities": None,
    "dropout": 0.0,
    "num_streams": 1,
    "axis_name": None,
    "remat": False,
}


def single_image_network(model: nn.Module) -> nn.Module:
    """The network that embeds single images, without the identification head.

    Args:
        model: the network that was trained; of a `Siamese` network it is the backbone.

    Returns:
        The network. One that scores pairs has no embedding of a single image, and comes back as it
        is.
    """
    if model.scores_pairs:
        return model
    if isinstance(model, Siamese):
        model = model.backbone
    fields = {field.name for field in dataclasses.fields(model)}
    return model.clone(**{name: value for name, value in UNSET.items() if name in fields})


def single_image(model: nn.Module, variables: Any) -> tuple[nn.Module, Any]:
    """The network that embeds single images, and its share of trained variables.

    Args:
        model: as of `single_image_network`.
        variables: 'params' and, if it has them, 'batch_stats' of `model`.

    Returns:
        (network, variables), both without the identification head.
    """
    single = single_image_network(model)
    if model.scores_pairs:
        return single, variables
    if isinstance(model, Siamese):
        variables = backbone_variables(variables)
    params = {k: v for k, v in variables["params"].items() if k != IDENTIFICATION_HEAD}
    return single, {**variables, "params": params}
