"""Person re-identification in JAX: five papers as pure functions and carried state."""

__version__ = "0.1.0"
