"""Trained models for other programs: StableHLO, ONNX, torchvision's weights, each with a card."""

from reid_jax.export.card import loader, make_card
from reid_jax.export.writers import FORMS, PLATFORMS, onnx, stablehlo, torchvision_safetensors

__all__ = [
    "FORMS",
    "PLATFORMS",
    "loader",
    "make_card",
    "onnx",
    "stablehlo",
    "torchvision_safetensors",
]
