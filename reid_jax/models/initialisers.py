"""How the networks' parameters start."""

import flax.linen as nn

__all__ = ["before_loss", "he_fan_out"]

he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""torchvision's: normal with variance 2 / (height * width * output channels)."""

before_loss = nn.initializers.variance_scaling(0.01, "fan_in", "uniform")
"""For layers that feed a loss (Zheng, Zheng and Yang's code): uniform to 0.1 * sqrt(3 / fan_in)."""
