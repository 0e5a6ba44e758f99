"""The gradient of a batch that goes through the network part by part, for a loss of all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["gradients_in_parts"]

Outputs = dict[str, jax.Array]
OutputsOf = Callable[[Any, Any], tuple[Outputs, Any]]
Loss = Callable[[Outputs], tuple[jax.Array, Any]]


def gradients_in_parts(
    outputs_of: OutputsOf, loss: Loss, params: Any, batch: Any, *, num_parts: int
) -> tuple[tuple[jax.Array, Any], Any, Any]:
    """Value and gradient of `loss(outputs_of(params, batch)[0])`, in the memory of a part.

    A loss may compare all rows of the batch, so the parts first go forward one after another and
    nothing of them is kept but the outputs that the loss reads. Of these the loss has its value and
    its gradient on the whole batch. The parts then go forward again, and back from their share of
    that gradient (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory
    Limited Setup", Sec. 3). The price is the second pass forward.

    A part has every `num_parts`-th row, so on any number of devices it is the same rows, and what a
    sampler puts side by side (images of a person, positive pairs) is spread over the parts.

    Args:
        outputs_of: `outputs_of(params, rows) -> (outputs, other)` of some rows of the batch; a row
            of the outputs may depend on its own row of the batch alone, or else (batch norm) on
            those of its part.
        loss: `loss(outputs) -> (value, other)`.
        params: to which the gradient is taken.
        batch: tree of arrays with the rows on their first axis.
        num_parts: 1 takes the batch as a whole.
    Returns:
        `(value, other)` of the loss; `other` of the network, the mean over the parts; the gradient.
    Raises:
        ValueError: if `num_parts` does not divide the rows, or the loss reads an output that has
            neither a row for each of the batch nor one shape for any number of rows.
    """
    if num_parts == 1:
        return _as_a_whole(outputs_of, loss, params, batch)
    num_rows = len(jax.tree.leaves(batch)[0])
    if num_rows % num_parts:
        raise ValueError(
            f"a batch of {num_rows} rows on a device has not {num_parts} equal parts: take a "
            "number of parts that divides the rows"
        )
    parts = jax.tree.map(lambda leaf: _divided(leaf, num_parts), batch)
    whole, _ = jax.eval_shape(outputs_of, params, batch)
    of_part, _ = jax.eval_shape(outputs_of, params, jax.tree.map(lambda leaf: leaf[0], parts))
    has_rows = {name: whole[name].shape != of_part[name].shape for name in _read(loss, whole)}
    for name, given in has_rows.items():
        if given and whole[name].shape[0] != num_rows:
            raise ValueError(
                f"the loss reads {name!r} {whole[name].shape}, whose rows are not the {num_rows} "
                "rows of the batch, which therefore cannot go through the network in parts"
            )

    def read_outputs(params: Any, part: Any) -> tuple[Outputs, Any]:
        outputs, other = outputs_of(params, part)
        return {name: outputs[name] for name in has_rows}, other

    def loss_of_read(read: Outputs) -> tuple[jax.Array, Any]:
        unread = {n: jnp.zeros(leaf.shape, leaf.dtype) for n, leaf in whole.items()}
        return loss(unread | read)

    _, (outputs, others) = lax.scan(lambda _, part: (None, read_outputs(params, part)), None, parts)
    outputs = {n: _together(x) if has_rows[n] else x[0] for n, x in outputs.items()}
    value, cotangents = jax.value_and_grad(loss_of_read, has_aux=True)(outputs)
    of_parts = {
        # What is the same for all parts has its gradient once, with the first.
        n: _divided(x, num_parts) if has_rows[n] else _first_of(x, num_parts)
        for n, x in cotangents.items()
    }

    def back(total: Any, part: tuple[Any, Outputs]) -> tuple[Any, None]:
        rows, cotangent = part
        _, vjp = jax.vjp(lambda params: read_outputs(params, rows)[0], params)
        return jax.tree.map(jnp.add, total, vjp(cotangent)[0]), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    gradients, _ = lax.scan(back, zeros, (parts, of_parts))
    return value, jax.tree.map(_mean, others), gradients


def _as_a_whole(
    outputs_of: OutputsOf, loss: Loss, params: Any, batch: Any
) -> tuple[tuple[jax.Array, Any], Any, Any]:
    def of_params(params: Any) -> tuple[jax.Array, Any]:
        outputs, other = outputs_of(params, batch)
        value, of_loss = loss(outputs)
        return value, (of_loss, other)

    (value, (of_loss, other)), gradients = jax.value_and_grad(of_params, has_aux=True)(params)
    return (value, of_loss), other, gradients


def _read(loss: Loss, outputs: Outputs) -> list[str]:
    """Names of the outputs that a loss depends on: a feature map that it does not is not kept."""
    names = sorted(outputs)
    traced = jax.make_jaxpr(lambda *leaves: loss(dict(zip(names, leaves, strict=True))))(
        *(outputs[name] for name in names)
    ).jaxpr
    read = {id(variable) for equation in traced.eqns for variable in equation.invars}
    read |= {id(variable) for variable in traced.outvars}
    return [name for name, leaf in zip(names, traced.invars, strict=True) if id(leaf) in read]


def _divided(leaf: jax.Array, num_parts: int) -> jax.Array:
    """[num_parts, rows / num_parts, ...]: of row i the part i % num_parts."""
    return jnp.moveaxis(leaf.reshape(-1, num_parts, *leaf.shape[1:]), 1, 0)


def _together(leaf: jax.Array) -> jax.Array:
    """The reverse of `_divided`."""
    return jnp.moveaxis(leaf, 0, 1).reshape(-1, *leaf.shape[2:])


def _first_of(leaf: jax.Array, num_parts: int) -> jax.Array:
    return jnp.zeros((num_parts, *leaf.shape), leaf.dtype).at[0].set(leaf)


def _mean(leaf: jax.Array) -> jax.Array:
    """Over the first axis; what is the same throughout stays the same to the last bit."""
    return leaf[0] + (leaf - leaf[0]).mean(0)
