"""The variables that a network has, and how those of a file differ from them."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

__all__ = ["expected_variables", "misfits"]

SHOWN_MISFITS = 8


@functools.lru_cache(maxsize=16)
def expected_variables(model: nn.Module, input_size: tuple[int, int]) -> Any:
    """Shapes of a network's variables, without running it.

    Args:
        model: a network of one image, or of two.
        input_size: (height, width) of its images.

    Returns:
        `params` and `batch_stats` of `jax.ShapeDtypeStruct`. Shared: not to be changed.
    """
    image = jax.ShapeDtypeStruct((1, *input_size, 3), np.float32)
    images = [image] * getattr(model, "num_images", 1)
    init = functools.partial(model.init, train=False)
    return {"batch_stats": {}, **jax.eval_shape(init, jax.random.key(0), *images)}


def misfits(variables: Any, expected: Any) -> list[str]:
    """Names the variables that are missing, left over or of another shape.

    Args:
        variables: of a file.
        expected: of `expected_variables`.

    Returns:
        A line each, at most eight and how many more; none if all fit.
    """
    own, theirs = (traverse_util.flatten_dict(tree, sep="/") for tree in (expected, variables))
    here = {name: tuple(leaf.shape) for name, leaf in own.items()}
    there = {name: tuple(leaf.shape) for name, leaf in theirs.items()}
    found = [
        f"{name}: {there.get(name, 'absent')} in the file, {here.get(name, 'absent')} expected"
        for name in {**here, **there}
        if here.get(name) != there.get(name)
    ]
    more = len(found) - SHOWN_MISFITS
    return found[:SHOWN_MISFITS] + ([f"and {more} more"] if more > 0 else [])
