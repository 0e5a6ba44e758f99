"""Person re-identification in JAX: models, losses, data, training and evaluation as pure functions."""

__version__ = "0.1.0"
