"""Parts of a network of which nothing is kept for the gradient but what goes into them."""

from __future__ import annotations

from typing import Any

import flax.linen as nn

__all__ = ["applied"]


def applied(part: nn.Module, *inputs: Any, train: bool, remat: bool) -> Any:
    """`part(*inputs, train=train)`; with `remat` its inside is computed again for the gradient.

    What layers give in the forward pass is most of the memory of a training step. With
    rematerialisation (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost") the inputs
    of the parts alone are kept, and the step computes forward once more, a part at a time. The
    variables and the results are the same.

    Args:
        part: of a network.
        *inputs: arrays, or trees of them.
        train: as the part takes it.
        remat: whether the inside is computed again, where there is a gradient.
    """
    if not remat:
        return part(*inputs, train=train)
    return nn.remat(lambda part, *inputs: part(*inputs, train=train))(part, *inputs)
