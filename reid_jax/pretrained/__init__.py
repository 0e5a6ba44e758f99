"""Weights of other programs, renamed into this library's trees: strict, nothing skipped."""

from reid_jax.pretrained.torchvision import load_torchvision

__all__ = ["load_torchvision"]
