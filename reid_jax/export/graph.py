"""An ONNX graph in the making: nodes, constants, and tensors whose axes stand in any order.

The package `onnx` is an extra, so it is imported where it is used and nowhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["INPUT", "OPSET", "OUTPUT", "Graph", "Tensor", "Value", "onnx_dtype"]

INPUT, OUTPUT = "images", "embeddings"

OPSET = 18
"""Of the operators; ONNX Runtime has it since version 1.14 (2023)."""

IR_VERSION = 9
ROWS = "batch"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An array that the graph computes.

    Axis `k` of what ONNX computes is axis `perm[k]` of the array: ONNX convolves [B, C, H, W],
    the networks are written in [B, H, W, C], and what lies between two convolutions need not be
    transposed to and fro.

    Attributes:
        name: in the graph.
        shape: of the array; a size that depends on the number of rows is no int. An axis may be 1
            where the array's is longer: it is repeated where that is needed, not before.
        dtype: of its elements.
        perm: a permutation of the axes.
    """

    name: str
    shape: tuple[Any, ...]
    dtype: np.dtype
    perm: tuple[int, ...]


Value = Tensor | np.ndarray
"""What stands for an array: of the graph, or known beforehand."""


class Graph:
    """Collects the nodes and constants of a graph with one input and one output.

    Args:
        shape: of the input, in which the first size is any number of rows.
        dtype: of the input.
    """

    def __init__(self, shape: Sequence[Any], dtype: np.dtype) -> None:
        self.input = Tensor(INPUT, tuple(shape), np.dtype(dtype), tuple(range(len(shape))))
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = {}
        self._constant_names: dict[Any, str] = {}
        self._kept: list[np.ndarray] = []  # Their ids are keys, and must stay theirs.
        self._titles: dict[int, str] = {}
        self._rows: str | None = None

    def entitle(self, array: np.ndarray, title: str) -> None:
        """Gives a constant a name that a person knows."""
        self._kept.append(array)
        self._titles[id(array)] = title

    def node(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Adds a node; its output's name comes back."""
        from onnx import helper

        output = f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(
            helper.make_node(operator, list(inputs), [output], name=output, **attributes)
        )
        return output

    def constant(self, array: np.ndarray, perm: Sequence[int] | None = None) -> str:
        """The name of a constant, transposed by `perm`; equal ones are one."""
        array = np.asarray(array)
        order = tuple(perm) if perm is not None else tuple(range(array.ndim))
        key: Any = (id(array), order)
        if array.size <= 8:
            key = (array.dtype.str, array.shape, order, array.tobytes())
        if key not in self._constant_names:
            self._kept.append(array)
            name = self._titles.get(id(array), f"constant_{len(self._constants)}")
            if name in self._constants:
                name += "_" + "".join(map(str, order))
            self._constants[name] = np.ascontiguousarray(array.transpose(order)).reshape(
                [array.shape[axis] for axis in order]
            )
            self._constant_names[key] = name
        return self._constant_names[key]

    def integers(self, values: Sequence[int]) -> str:
        """The name of a constant [n] int64, as shapes and axes are given."""
        return self.constant(np.asarray(values, np.int64))

    def shape_vector(self, shape: Sequence[Any]) -> str:
        """The name of a shape [n] int64 in which the first size that is no int is that of rows."""
        if all(isinstance(size, int) for size in shape):
            return self.integers(shape)
        if self._rows is None:
            self._rows = self.node("Shape", [INPUT], start=0, end=1)
        parts = [
            self._rows if not isinstance(size, int) else self.integers([size]) for size in shape
        ]
        return self.node("Concat", parts, axis=0)

    def physical(self, value: Value, perm: Sequence[int]) -> str:
        """The name of an array whose axes stand in the order `perm`."""
        perm = tuple(perm)
        if isinstance(value, np.ndarray):
            return self.constant(value, perm)
        if value.perm == perm:
            return value.name
        return self.node("Transpose", [value.name], perm=[value.perm.index(axis) for axis in perm])

    def in_order(self, value: Value) -> str:
        """The name of an array whose axes stand in their own order."""
        ndim = value.ndim if isinstance(value, np.ndarray) else len(value.shape)
        return self.physical(value, range(ndim))

    def repeated(self, value: Value, shape: Sequence[Any]) -> Value:
        """The array in its full shape: axes of 1 are repeated."""
        shape = tuple(shape)
        if tuple(value.shape) == shape:
            return value
        if isinstance(value, np.ndarray) and all(isinstance(size, int) for size in shape):
            return np.broadcast_to(value, shape)
        name = self.node("Expand", [self.in_order(value), self.shape_vector(shape)])
        return Tensor(name, shape, np.dtype(value.dtype), tuple(range(len(shape))))

    def model(self, output: Tensor, *, dtype: np.dtype, description: str) -> Any:
        """The checked model, without nodes that its output does not need.

        Args:
            output: [B, D].
            dtype: of the output.
            description: of the model, a sentence.

        Returns:
            an `onnx.ModelProto`.
        """
        from onnx import checker, helper, numpy_helper

        named = self.node("Identity", [self.in_order(output)])
        self._nodes[-1].output[0] = OUTPUT
        needed, nodes = {OUTPUT, named}, []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                nodes.append(node)
        sizes = [[ROWS, *array.shape[1:]] for array in (self.input, output)]
        graph = helper.make_graph(
            nodes[::-1],
            "embedder",
            [helper.make_tensor_value_info(INPUT, onnx_dtype(self.input.dtype), sizes[0])],
            [helper.make_tensor_value_info(OUTPUT, onnx_dtype(dtype), sizes[1])],
            [
                numpy_helper.from_array(array, name)
                for name, array in self._constants.items()
                if name in needed
            ],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            producer_name="reid_jax",
            doc_string=description,
        )
        model.ir_version = IR_VERSION
        checker.check_model(model)
        return model


def onnx_dtype(dtype: Any) -> int:
    """ONNX's number of a NumPy dtype."""
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
