"""From a function of JAX to an ONNX model, primitive by primitive.

The networks choose between their definition and a form that is fast on a CPU with
`lax.platform_dependent`, and some layers have gradients of their own. In the traced function
both are plain to see: the choice is the primitive `platform_index` with a `cond` on it, of
which the default branch, the definition, is translated; and of a function with its own gradient
the function itself. So the layers need no switch for export, and what is exported is the one
definition that the tests hold the fast forms against.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from reid_jax.export.graph import Graph, Tensor, Value
from reid_jax.export.operations import OPERATIONS, Untranslatable, broadcast

__all__ = ["model_of"]

ELEMENTWISE = {
    *(
        "abs",
        "add",
        "add_any",
        "and",
        "convert_element_type",
        "copy",
        "div",
        "eq",
        "exp",
        "ge",
        "gt",
        "integer_pow",
        "le",
        "log",
    ),
    *("logistic", "lt", "max", "min", "mul", "neg", "not", "or", "pow", "rsqrt", "select_n"),
    *("sqrt", "square", "sub", "tanh"),
}


def model_of(
    function: Callable[[Any, jax.Array], jax.Array],
    variables: Any,
    image_size: tuple[int, int],
    *,
    description: str,
) -> Any:
    """Translates an embedder's function.

    Args:
        function: `function(variables, images [B, H, W, 3] uint8) -> [B, D]`.
        variables: trees of arrays, which become constants.
        image_size: (H, W).
        description: of the model, a sentence.

    Returns:
        the model, an `onnx.ModelProto`: input `images` with any number of rows, output
        `embeddings`.

    Raises:
        ValueError: if the function has a primitive that has no translation; the message names it.
    """
    (rows,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((rows, *image_size, 3), np.uint8)
    traced = jax.make_jaxpr(function)(variables, images)
    graph = Graph(images.shape, images.dtype)
    known = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        known.append(np.asarray(leaf))
        names = [str(getattr(key, "key", key)) for key in path]
        graph.entitle(known[-1], "/".join(names[1:]))
    (output,) = _run(graph, traced, [*known, graph.input])
    (shaped,) = traced.out_avals
    output = graph.repeated(output, shaped.shape)
    if not isinstance(output, Tensor):
        raise ValueError("the embedding does not depend on the image")
    return graph.model(output, dtype=shaped.dtype, description=description)


def _run(graph: Graph, closed: Any, operands: list[Value]) -> list[Value]:
    """Adds the nodes of a traced function; its results come back."""
    jaxpr = closed.jaxpr
    consts = [np.asarray(const) for const in closed.consts]
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *operands], strict=True))

    def value(atom: Any) -> Value:
        return np.asarray(atom.val, atom.aval.dtype) if hasattr(atom, "val") else values[atom]

    for equation in jaxpr.eqns:
        results = _translated(graph, equation, [value(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _translated(graph: Graph, equation: Any, operands: list[Value]) -> list[Value]:
    name, params = equation.primitive.name, dict(equation.params)
    if name == "platform_index":
        return [np.asarray(_default(params["platforms"]))]
    if name == "cond":
        index, *operands = operands
        if not isinstance(index, np.ndarray):
            raise _refusal(name, "a branch that depends on the image")
        return _run(graph, params["branches"][int(index)], operands)
    inner = params.get("call_jaxpr", params.get("jaxpr"))
    if hasattr(inner, "consts"):  # jit, and functions with their own gradient
        return _run(graph, inner, operands)

    constants = [operand for operand in operands if isinstance(operand, np.ndarray)]
    if len(constants) == len(operands):
        folded = _folded(equation, constants)
        if folded is not None:
            return folded
    if name not in OPERATIONS:
        raise _refusal(name, "which is not known here")
    params["in_shapes"] = [atom.aval.shape for atom in equation.invars]
    if operands:
        params["in_shape"] = params["in_shapes"][0]
    (out,) = (variable.aval for variable in equation.outvars)
    try:
        return [OPERATIONS[name](graph, out, *operands, **params)]
    except Untranslatable as error:
        raise _refusal(name, str(error)) from error


def _default(platforms: tuple[Any, ...]) -> int:
    """Which branch is the definition: the one for no platform in particular."""
    if None not in platforms:
        raise _refusal("platform_index", f"forms for {platforms} and none for other platforms")
    return platforms.index(None)


def _folded(equation: Any, operands: list[np.ndarray]) -> list[Value] | None:
    """The results where all operands are known, or None where they have a row an image."""
    name = equation.primitive.name
    if name == "broadcast_in_dim":
        return None  # Stays as small as it is.
    if name in ELEMENTWISE:
        shape = broadcast([operand.shape for operand in operands])
        operands = [np.broadcast_to(operand, shape) for operand in operands]
    else:
        shapes = [atom.aval.shape for atom in (*equation.invars, *equation.outvars)]
        if not all(isinstance(size, int) for shape in shapes for size in shape):
            return None
        operands = [
            np.broadcast_to(operand, atom.aval.shape)
            for operand, atom in zip(operands, equation.invars, strict=True)
        ]
    found = equation.primitive.bind(*map(jnp.asarray, operands), **equation.params)
    many = equation.primitive.multiple_results
    return [np.asarray(result) for result in (found if many else [found])]


def _refusal(name: str, reason: str) -> ValueError:
    return ValueError(
        f"the network cannot be written as ONNX: primitive {name!r}, {reason}. Export it as "
        ".stablehlo, which holds every network."
    )
