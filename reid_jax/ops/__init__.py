"""Array operations that are worth a formulation of their own for each platform."""

from reid_jax.ops.correlation import depthwise_cross_correlation
from reid_jax.ops.spatial_transform import spatial_transform

__all__ = ["depthwise_cross_correlation", "spatial_transform"]
