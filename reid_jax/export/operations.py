"""What each primitive of JAX is in ONNX, for the primitives of this library's networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reid_jax.export.graph import Graph, Tensor, Value, onnx_dtype

__all__ = ["OPERATIONS", "Untranslatable", "broadcast", "elementwise"]

Operation = Callable[..., Value]


class Untranslatable(ValueError):
    """What a network does has no translation here."""


def broadcast(shapes: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
    """The shape of arrays of the same rank, or of scalars, together."""
    ndim = max(map(len, shapes))
    full = [shape for shape in shapes if len(shape) == ndim]
    return tuple(
        next((size for size in sizes if not isinstance(size, int) or size != 1), 1)
        for sizes in zip(*full, strict=True)
    )


def elementwise(graph: Graph, operator: str, operands: Sequence[Value], dtype: Any) -> Tensor:
    """A node over arrays of the same rank, or scalars, of which one at least is of the graph."""
    shape = broadcast([operand.shape for operand in operands])
    of_graph = [o for o in operands if isinstance(o, Tensor) and len(o.shape) == len(shape)]
    perm = of_graph[0].perm if of_graph else tuple(range(len(shape)))
    names = [
        graph.physical(operand, perm if len(operand.shape) == len(shape) else ())
        for operand in operands
    ]
    return Tensor(graph.node(operator, names), shape, np.dtype(dtype), perm)


def _simple(operator: str) -> Operation:
    return lambda graph, out, *operands, **_: elementwise(graph, operator, operands, out.dtype)


def _subtract(graph: Graph, out: Any, x: Value, y: Value, **_: Any) -> Value:
    if isinstance(y, np.ndarray):
        # Runtimes fuse an addition with the convolution before it, and no subtraction.
        return elementwise(graph, "Add", (x, -y), out.dtype)
    return elementwise(graph, "Sub", (x, y), out.dtype)


def _maximum(graph: Graph, out: Any, x: Value, y: Value, **_: Any) -> Value:
    for one, other in ((x, y), (y, x)):
        if isinstance(other, np.ndarray) and other.size == 1 and other.item() == 0:
            return elementwise(graph, "Relu", (one,), out.dtype)
    return elementwise(graph, "Max", (x, y), out.dtype)


def _rsqrt(graph: Graph, out: Any, x: Value, **_: Any) -> Value:
    root = elementwise(graph, "Sqrt", (x,), out.dtype)
    return elementwise(graph, "Reciprocal", (root,), out.dtype)


def _power(graph: Graph, out: Any, x: Value, y: Value, **_: Any) -> Value:
    return elementwise(graph, "Pow", (x, y), out.dtype)


def _integer_power(graph: Graph, out: Any, x: Value, *, y: int, **_: Any) -> Value:
    if y == 2:
        return elementwise(graph, "Mul", (x, x), out.dtype)
    return elementwise(graph, "Pow", (x, np.asarray(y, out.dtype)), out.dtype)


def _square(graph: Graph, out: Any, x: Value, **_: Any) -> Value:
    return _integer_power(graph, out, x, y=2)


def _select(graph: Graph, out: Any, which: Value, *cases: Value, **_: Any) -> Value:
    if len(cases) != 2 or which.dtype != np.bool_:
        raise Untranslatable(f"select_n of {len(cases)} cases by {which.dtype}")
    return elementwise(graph, "Where", (which, cases[1], cases[0]), out.dtype)


def _convert(graph: Graph, out: Any, x: Tensor, **_: Any) -> Value:
    if x.dtype == out.dtype:
        return x
    name = graph.node("Cast", [x.name], to=onnx_dtype(out.dtype))
    return Tensor(name, x.shape, np.dtype(out.dtype), x.perm)


def _same(graph: Graph, out: Any, x: Value, **_: Any) -> Value:
    return x


def _reshape(graph: Graph, out: Any, x: Value, **params: Any) -> Value:
    if params.get("dimensions") is not None:
        raise Untranslatable("reshape with an order of axes")
    x = graph.repeated(x, params["in_shape"])
    return _reshaped(graph, x, out.shape, out.dtype)


def _squeeze(graph: Graph, out: Any, x: Value, **params: Any) -> Value:
    return _reshaped(graph, graph.repeated(x, params["in_shape"]), out.shape, out.dtype)


def _reshaped(graph: Graph, x: Value, shape: Sequence[Any], dtype: Any) -> Tensor:
    if sum(not isinstance(size, int) for size in shape) > 1:
        raise Untranslatable(f"reshape to {shape}, which has several sizes that are not known")
    sizes = [size if isinstance(size, int) else -1 for size in shape]
    name = graph.node("Reshape", [graph.in_order(x), graph.integers(sizes)])
    return Tensor(name, tuple(shape), np.dtype(dtype), tuple(range(len(shape))))


def _broadcast_in_dim(graph: Graph, out: Any, x: Value, **params: Any) -> Value:
    """Axes of 1 for what is repeated: whoever needs the full shape repeats it."""
    shape: list[Any] = [1] * len(out.shape)
    for axis, place in enumerate(params["broadcast_dimensions"]):
        shape[place] = x.shape[axis]
    if isinstance(x, np.ndarray):
        return x.reshape(shape)
    return x if tuple(shape) == x.shape else _reshaped(graph, x, shape, out.dtype)


def _transpose(graph: Graph, out: Any, x: Tensor, *, permutation: Sequence[int], **_: Any) -> Value:
    order = tuple(permutation)
    shape = tuple(x.shape[axis] for axis in order)
    return Tensor(x.name, shape, x.dtype, tuple(order.index(axis) for axis in x.perm))


def _reverse(graph: Graph, out: Any, x: Tensor, *, dimensions: Sequence[int], **_: Any) -> Value:
    axes = [x.perm.index(axis) for axis in dimensions]
    lowest = [np.iinfo(np.int64).min] * len(axes)
    bounds = [[-1] * len(axes), lowest, axes, [-1] * len(axes)]
    name = graph.node("Slice", [x.name, *map(graph.integers, bounds)])
    return Tensor(name, x.shape, x.dtype, x.perm)


def _slice(graph: Graph, out: Any, x: Any, **params: Any) -> Value:
    x = graph.repeated(x, params["in_shape"])
    strides = params["strides"] or (1,) * len(x.shape)
    cut = [
        axis
        for axis, limit in enumerate(params["limit_indices"])
        if (params["start_indices"][axis], limit, strides[axis]) != (0, x.shape[axis], 1)
    ]
    bounds = [[params[name][axis] for axis in cut] for name in ("start_indices", "limit_indices")]
    if not all(isinstance(bound, int) for bound in [*bounds[0], *bounds[1]]):
        raise Untranslatable("slice of rows of the batch")
    bounds += [[x.perm.index(axis) for axis in cut], [strides[axis] for axis in cut]]
    name = graph.node("Slice", [x.name, *map(graph.integers, bounds)])
    return Tensor(name, tuple(out.shape), x.dtype, x.perm)


def _pad(graph: Graph, out: Any, x: Any, filling: Value, **params: Any) -> Value:
    x = graph.repeated(x, params["in_shape"])
    config = [params["padding_config"][axis] for axis in x.perm]
    if any(low < 0 or high < 0 or between for low, high, between in config):
        raise Untranslatable(f"pad with {config}: negative, or between elements")
    if not isinstance(filling, np.ndarray):
        raise Untranslatable("pad with a value that is not known beforehand")
    pads = graph.integers([low for low, _, _ in config] + [high for _, high, _ in config])
    name = graph.node("Pad", [x.name, pads, graph.constant(filling)])
    return Tensor(name, tuple(out.shape), x.dtype, x.perm)


def _concatenate(graph: Graph, out: Any, *parts: Value, **params: Any) -> Value:
    parts = tuple(map(graph.repeated, parts, params["in_shapes"]))
    perm = next(part.perm for part in parts if isinstance(part, Tensor))
    names = [graph.physical(part, perm) for part in parts]
    name = graph.node("Concat", names, axis=perm.index(params["dimension"]))
    return Tensor(name, tuple(out.shape), np.dtype(out.dtype), perm)


def _reduce(operator: str) -> Operation:
    def reduce(graph: Graph, out: Any, x: Any, **params: Any) -> Value:
        x = graph.repeated(x, params["in_shape"])
        axes = graph.integers([x.perm.index(axis) for axis in params["axes"]])
        name = graph.node(operator, [x.name, axes], keepdims=0)
        left = [axis for axis in range(len(x.shape)) if axis not in params["axes"]]
        perm = tuple(left.index(axis) for axis in x.perm if axis in left)
        return Tensor(name, tuple(out.shape), np.dtype(out.dtype), perm)

    return reduce


def _dot_general(graph: Graph, out: Any, x: Value, y: Value, **params: Any) -> Value:
    ((x_axes, y_axes), batch) = params["dimension_numbers"]
    x, y = map(graph.repeated, (x, y), params["in_shapes"])
    if any(batch) or len(x_axes) != 1 or len(y.shape) != 2:
        raise Untranslatable(f"dot_general with dimensions {params['dimension_numbers']}")
    rows = [axis for axis in range(len(x.shape)) if axis != x_axes[0]]
    names = [
        graph.physical(x, (*rows, x_axes[0])),
        graph.physical(y, (y_axes[0], 1 - y_axes[0])),
    ]
    name = graph.node("MatMul", names)
    return Tensor(name, tuple(out.shape), np.dtype(out.dtype), tuple(range(len(out.shape))))


def _convolution(graph: Graph, out: Any, x: Value, kernel: Value, **params: Any) -> Value:
    x, kernel = map(graph.repeated, (x, kernel), params["in_shapes"])
    if any(n != 1 for n in params["lhs_dilation"]) or params["batch_group_count"] != 1:
        raise Untranslatable("conv_general_dilated with a dilated input or groups of the batch")
    layout, padding = params["dimension_numbers"], params["padding"]
    name = graph.node(
        "Conv",
        [graph.physical(x, layout.lhs_spec), graph.physical(kernel, layout.rhs_spec)],
        kernel_shape=[kernel.shape[axis] for axis in layout.rhs_spec[2:]],
        strides=list(params["window_strides"]),
        pads=[low for low, _ in padding] + [high for _, high in padding],
        dilations=list(params["rhs_dilation"]),
        group=params["feature_group_count"],
    )
    return Tensor(name, tuple(out.shape), np.dtype(out.dtype), tuple(layout.out_spec))


def _pool(operator: str) -> Operation:
    """Two axes are pooled; ONNX has them behind two others, whichever these are."""

    def pool(graph: Graph, out: Any, x: Value, **params: Any) -> Value:
        x = graph.repeated(x, params["in_shape"])
        window, strides = params["window_dimensions"], params["window_strides"]
        padding = params["padding"]
        dilated = any(n != 1 for n in (*params["base_dilation"], *params["window_dilation"]))
        still = [
            axis
            for axis in range(len(x.shape))
            if (window[axis], strides[axis], tuple(padding[axis])) == (1, 1, (0, 0))
        ]
        if dilated or len(x.shape) != 4 or len(still) < 2:
            raise Untranslatable(f"a window of {window} over {len(x.shape)} axes")
        # The last axis, the channels, goes before those that are pooled if it is not one of them.
        others = (still[0], still[-1] if still[-1] == 3 else still[1])
        pooled = tuple(axis for axis in range(4) if axis not in others)
        attributes = {} if operator == "MaxPool" else {"count_include_pad": 1}
        name = graph.node(
            operator,
            [graph.physical(x, (*others, *pooled))],
            kernel_shape=[window[axis] for axis in pooled],
            strides=[strides[axis] for axis in pooled],
            pads=[padding[axis][end] for end in (0, 1) for axis in pooled],
            **attributes,
        )
        found = Tensor(name, tuple(out.shape), np.dtype(out.dtype), (*others, *pooled))
        if operator == "MaxPool":
            return found
        number = np.asarray(math.prod(window), out.dtype)
        return elementwise(graph, "Mul", (found, number), out.dtype)

    return pool


OPERATIONS: dict[str, Operation] = {
    "abs": _simple("Abs"),
    "add": _simple("Add"),
    "add_any": _simple("Add"),
    "and": _simple("And"),
    "broadcast_in_dim": _broadcast_in_dim,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "convert_element_type": _convert,
    "copy": _same,
    "div": _simple("Div"),
    "dot_general": _dot_general,
    "eq": _simple("Equal"),
    "exp": _simple("Exp"),
    "expand_dims": _squeeze,
    "ge": _simple("GreaterOrEqual"),
    "gt": _simple("Greater"),
    "integer_pow": _integer_power,
    "le": _simple("LessOrEqual"),
    "log": _simple("Log"),
    "logistic": _simple("Sigmoid"),
    "lt": _simple("Less"),
    "max": _maximum,
    "min": _simple("Min"),
    "mul": _simple("Mul"),
    "neg": _simple("Neg"),
    "not": _simple("Not"),
    "or": _simple("Or"),
    "pad": _pad,
    "pow": _power,
    "reduce_max": _reduce("ReduceMax"),
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_window_max": _pool("MaxPool"),
    "reduce_window_sum": _pool("AveragePool"),
    "reshape": _reshape,
    "rev": _reverse,
    "rsqrt": _rsqrt,
    "select_n": _select,
    "slice": _slice,
    "sqrt": _simple("Sqrt"),
    "square": _square,
    "squeeze": _squeeze,
    "stop_gradient": _same,
    "sub": _subtract,
    "tanh": _simple("Tanh"),
    "transpose": _transpose,
}
"""`operation(graph, out, *operands, **params) -> value` for the name of a primitive, where at
least one operand is of the graph, `out` has the result's shape and dtype, and the params are the
primitive's own, with `in_shape` (the first operand's) and `in_shapes`, which the operands have
in JAX."""
