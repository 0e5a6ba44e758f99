"""How the networks' parameters start: initialisers that more than one network uses."""

import flax.linen as nn

# torchvision's: normal with variance 2 / (height * width * output channels).
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")

# Zheng, Zheng and Yang's code: uniform within 0.1 * sqrt(3 / fan_in) for layers that feed a loss.
before_loss = nn.initializers.variance_scaling(0.01, "fan_in", "uniform")
