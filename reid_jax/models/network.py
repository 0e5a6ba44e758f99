"""What a network says of itself, and the check of the images that it is given."""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp

__all__ = ["IDENTIFICATION_HEAD", "NECK", "Network", "check_image", "usual_dtype"]

IDENTIFICATION_HEAD = "identification"
"""Name of the identification head among the parameters of every network that has one."""

NECK = "neck"
"""Name of the batch norm between pooled features and head, in every network that has one."""


class Network(Protocol):
    """What every network here has besides the methods of `flax.linen.Module`.

    Attributes:
        num_images: images of one call: 1, `apply(variables, image, train=...)`, or 2,
            `apply(variables, image_a, image_b, train=...)`.
        takes_keys: the call takes `keys` (`keys_a` and `keys_b` for two images), a random key
            a row, for dropout in training.
        scores_pairs: there is no embedding of a single image; `method="embed"` gives what one
            image brings to a comparison, and `method="score"` compares.
        axis_name: device axis over which the rows of a batch are divided; None if all are here.
    """

    num_images: int
    takes_keys: bool
    scores_pairs: bool
    axis_name: str | None

    def init(self, rngs: Any, *images: jax.Array, train: bool) -> Any:
        """Fresh variables for images of a size."""

    def apply(self, variables: Any, *images: jax.Array, **options: Any) -> Any:
        """The network's outputs, by name."""

    def clone(self, **fields: Any) -> Network:
        """The same network with other values of some of its fields."""


def usual_dtype() -> str:
    """What the layers of a network compute in where nobody says, by the platform that JAX runs on.

    Returns:
        "bfloat16" on an accelerator, whose matrix units are made for it, "float32" on a CPU. The
        parameters, batch norm's statistics, embeddings, logits and losses are float32 with both.
    """
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def check_image(image: jax.Array, *, smallest: tuple[int, int], network: str) -> None:
    """Raises ValueError unless `image` is [B, H, W, 3] float and at least `smallest` (H, W)."""
    if image.ndim != 4 or image.shape[-1] != 3 or not jnp.issubdtype(image.dtype, jnp.floating):
        raise ValueError(
            f"image must be [B, H, W, 3] float, mean subtracted; got {image.shape} {image.dtype}."
        )
    if image.shape[1] < smallest[0] or image.shape[2] < smallest[1]:
        raise ValueError(
            f"images of {image.shape[1]} x {image.shape[2]} (height x width) are too small for a "
            f"{network}: the smallest size that works is {smallest[0]} x {smallest[1]}."
        )
