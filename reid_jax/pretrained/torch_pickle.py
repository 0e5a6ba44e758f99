"""The pickles in PyTorch's files: a machine that runs them, and knows the few names of tensors.

It builds tensors, numbers, text and plain containers, knows what stands in `CALLS`, and refuses
every other name before anything is imported or called.
"""

from __future__ import annotations

import collections
import pickletools
import re
from collections.abc import Callable, Iterable
from typing import Any

import ml_dtypes
import numpy as np

__all__ = ["AGAIN", "REMEDY", "Fault", "Machine", "big_endian", "is_array", "kind_of"]

EXPECTED = "tensors, numbers, text and plain containers of them"
REMEDY = "in the program that made it, save torch.save(model.state_dict(), 'weights.pth')"
AGAIN = "download or copy it again"

STORAGES = {
    "Bool": np.bool_,
    "Byte": np.uint8,
    "Char": np.int8,
    "Short": np.int16,
    "Int": np.int32,
    "Long": np.int64,
    "Half": np.float16,
    "BFloat16": ml_dtypes.bfloat16,
    "Float": np.float32,
    "Double": np.float64,
    "ComplexFloat": np.complex64,
    "ComplexDouble": np.complex128,
}
STORAGE_DTYPES = {
    **{
        f"torch.{place}{name}Storage": np.dtype(dtype)
        for name, dtype in STORAGES.items()
        for place in ("", "cuda.")
    },
    "torch.storage.UntypedStorage": np.dtype(np.uint8),
    "torch.storage._UntypedStorage": np.dtype(np.uint8),
}
DTYPES = {
    f"torch.{name}": np.dtype(name)
    for name in (
        *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
} | {
    f"torch.{name}": np.dtype(getattr(ml_dtypes, name))
    for name in (
        *("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
        "float8_e8m0fnu",
    )
}


class Fault(Exception):
    """The second half of a message that begins with the file."""


def big_endian(order: str) -> Fault:
    """Of a file in another byte order than that of all machines in use."""
    return Fault(
        f"has the byte order {order[:20]!r}, expected 'little': load it with PyTorch and save its "
        "tensors on a machine of that order."
    )


def is_array(value: Any) -> bool:
    """Whether a value of a file is a tensor, a parameter or a storage."""
    return isinstance(value, np.ndarray)


def kind_of(value: Any) -> str:
    """What a value is, in a word or three, for messages."""
    if is_array(value):
        return "tensor"
    if isinstance(value, dict | list | tuple | set):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


# The machine ----------------------------------------------------------------------------------


class _Name(str):
    """A global that the pickle may name: text, never the thing itself."""


LITERALS = {
    *("NONE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
CONSTANTS = {"NEWTRUE": True, "NEWFALSE": False}
EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
PASSED = {"PROTO", "FRAME"}
# Of a pickled network.
MODULES = re.compile(r"torch\.nn\.(modules|parallel)\.|torchvision\.models\.")

Storages = Callable[[str, np.dtype, int], np.ndarray]


def _no_storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
    raise Fault(f"is damaged: it names storage {key} where there is none.")


class Machine:
    """Runs the program of one pickle; what the program names is looked up here and nowhere else."""

    def __init__(self, storages: Storages = _no_storage) -> None:
        self._storages = storages
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self, stream: Any) -> Any:
        """The value of the pickle that begins where the stream is, and ends where it is left."""
        program = pickletools.genops(stream)
        for opcode, argument, _ in program:
            name = opcode.name
            if name == "STOP":
                return self._stack.pop()
            if name in LITERALS:
                self._stack.append(argument)
            elif name in CONSTANTS:
                self._stack.append(CONSTANTS[name])
            elif name in EMPTY:
                self._stack.append(EMPTY[name]())
            elif name in TUPLES:
                self._stack[-TUPLES[name] :] = [tuple(self._stack[-TUPLES[name] :])]
            elif name in ("GLOBAL", "STACK_GLOBAL", "INST"):
                self._global(name, argument, program)
            elif name not in PASSED:
                method = getattr(self, f"_{name.lower()}", None)
                if method is None:
                    raise Fault(
                        f"uses the pickle instruction {name}, which no file of tensors needs: "
                        f"refused. Expected {EXPECTED}: {REMEDY}."
                    )
                method(argument)
        raise EOFError("the pickle has no end")

    # Names and calls.

    def _global(self, opcode: str, argument: str | None, program: Iterable[tuple]) -> None:
        if opcode == "STACK_GLOBAL":
            module, name = self._stack[-2:]
            del self._stack[-2:]
            if not (type(module) is str and type(name) is str):
                raise TypeError("a global without a name")
        else:
            module, _, name = (argument or "").partition(" ")
        module = {"__builtin__": "builtins"}.get(module, module)
        full = f"{module}.{name}"
        known = full in DTYPES or full in CALLS or full in STORAGE_DTYPES
        if not known or opcode == "INST":
            raise _refusal(full, program)
        self._stack.append(DTYPES[full] if full in DTYPES else _Name(full))

    def _reduce(self, _: Any) -> None:
        arguments, name = self._stack.pop(), self._stack.pop()
        if type(name) is not _Name or name not in CALLS or type(arguments) is not tuple:
            raise TypeError(f"a call of a {kind_of(name)}")
        self._stack.append(CALLS[name](*arguments))

    _newobj = _reduce

    def _build(self, _: Any) -> None:
        """Attributes of the object below: of an OrderedDict (`_metadata`), not needed."""
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, np.dtype):
            if state[1] not in ("<", "|", "="):
                raise big_endian("big")
        elif not isinstance(target, dict):
            raise TypeError(f"attributes of a {kind_of(target)}")

    def _binpersid(self, _: Any) -> None:
        pid = self._stack.pop()
        kind, storage_type, key, _location, count, *view = pid
        if kind != "storage" or type(key) is not str or storage_type not in STORAGE_DTYPES:
            raise TypeError("a storage of another kind")
        values = self._storages(key, STORAGE_DTYPES[storage_type], _index(count))
        if view and view[0] is not None:  # in the older format, a part of a storage
            _, begin, size = view[0]
            if _index(begin) + _index(size) > count:
                raise ValueError(f"a view beyond storage {key}")
            values = values[begin : begin + size]
        self._stack.append(values)

    # Containers.

    def _mark(self, _: Any) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marked.pop()
        return items

    def _pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._since_mark()

    def _pop_mark(self, _: Any) -> None:
        self._since_mark()

    def _dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _tuple(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(tuple(items))

    def _list(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(items)

    def _dict(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(_dictionary(_pairs(items)))

    def _frozenset(self, _: Any) -> None:
        items = self._since_mark()
        self._stack.append(frozenset(map(_key, items)))

    def _append(self, _: Any) -> None:
        item = self._stack.pop()
        self._top(list).append(item)

    def _appends(self, _: Any) -> None:
        items = self._since_mark()
        self._top(list).extend(items)

    def _setitem(self, _: Any) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._top(dict)[_key(key)] = value

    def _setitems(self, _: Any) -> None:
        items = self._since_mark()
        self._top(dict).update(_dictionary(_pairs(items)))

    def _additems(self, _: Any) -> None:
        items = self._since_mark()
        self._top(set).update(map(_key, items))

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise TypeError(
                f"an entry for a {kind_of(self._stack[-1])}, expected a {kind.__name__}"
            )
        return self._stack[-1]

    # Values met again.

    def _binput(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    _put = _long_binput = _binput

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _binget(self, place: int) -> None:
        self._stack.append(self._memo[place])

    _get = _long_binget = _binget


def _refusal(name: str, program: Iterable[tuple]) -> Fault:
    texts = (str(argument).replace(" ", ".", 1) for _, argument, _ in _readable(program))
    if any(MODULES.match(text) for text in (name, *texts)):
        return Fault(
            f"holds a whole model and would call {name} when it is read: refused. Expected "
            f"{EXPECTED}: {REMEDY}."
        )
    return Fault(f"would call {name} when it is read: refused. Expected {EXPECTED}: {REMEDY}.")


def _readable(program: Iterable[tuple]) -> Iterable[tuple]:
    """The rest of a program, as far as it can be read."""
    try:
        yield from program
    except Exception:
        return


def _key(key: Any) -> Any:
    # Plain ones: the hash of tuples in tuples in tuples ... ends Python.
    if not isinstance(key, str | int | float | bytes | None) and not (
        type(key) is tuple and all(isinstance(part, str | int | float | None) for part in key)
    ):
        raise TypeError(f"a {kind_of(key)} as a key")
    return key


def _pairs(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


def _dictionary(items: Iterable[tuple[Any, Any]] = ()) -> dict[Any, Any]:
    items = items.items() if isinstance(items, dict) else items
    return {_key(key): value for key, value in items}


def _index(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{kind_of(number)} where a count is needed")
    return number


# What a pickle may call -------------------------------------------------------------------------


def _tensor(
    storage: np.ndarray,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    _requires_grad: Any = None,
    _hooks: Any = None,
    metadata: dict[str, bool] | None = None,
    *,
    dtype: np.dtype | None = None,
) -> np.ndarray:
    if not is_array(storage) or storage.ndim != 1:
        raise TypeError("a tensor without a storage")
    dtype, data = dtype or storage.dtype, storage.view(np.uint8)
    size, stride = tuple(map(_index, size)), tuple(map(_index, stride))
    last = _index(offset) + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    count = len(data) // dtype.itemsize
    if 0 in size:
        array = np.zeros(size, dtype)
    elif last >= count:
        raise ValueError(f"a tensor that ends at {last} of {count} values")
    else:
        steps = tuple(step * dtype.itemsize for step in stride)
        array = np.ndarray(size, dtype, data, offset * dtype.itemsize, steps)
    for flag, on in (metadata or {}).items():
        if flag not in ("conj", "neg"):
            raise ValueError(f"a tensor with the property {flag!r}")
        if on:
            array = np.conj(array) if flag == "conj" else np.negative(array)
    return array


def _tensor_of_dtype(
    storage: np.ndarray,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: Any,
    hooks: Any,
    dtype: np.dtype,
    metadata: dict[str, bool] | None = None,
) -> np.ndarray:
    if not isinstance(dtype, np.dtype):
        raise TypeError("a tensor without a type")
    return _tensor(storage, offset, size, stride, requires_grad, hooks, metadata, dtype=dtype)


def _parameter(tensor: np.ndarray, *_: Any) -> np.ndarray:
    if not is_array(tensor):
        raise TypeError(f"a parameter made of a {kind_of(tensor)}")
    return tensor


def _encoded(text: str, encoding: str) -> bytes:
    """Bytes, as pickles of Python 2 hold them."""
    if encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes in an unknown encoding")
    return text.encode("latin-1")


def _numpy_dtype(text: str, *_: Any) -> np.dtype:
    if not re.fullmatch(r"[biufc]\d{1,2}", text):
        raise ValueError("a NumPy type that is no number")
    return np.dtype(text)


def _numpy_scalar(dtype: np.dtype, content: bytes) -> np.generic:
    if not isinstance(dtype, np.dtype) or len(content) != dtype.itemsize:
        raise ValueError("a NumPy number of another size")
    return np.frombuffer(content, dtype)[0]


CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _dictionary,
    "collections.Counter": lambda counts=(): collections.Counter(_dictionary(counts)),
    "builtins.set": lambda items=(): set(map(_key, items)),
    "builtins.frozenset": lambda items=(): frozenset(map(_key, items)),
    "builtins.complex": lambda real, imag: complex(float(real), float(imag)),
    "builtins.bytearray": lambda content=b"": bytearray(_plain_bytes(content)),
    "_codecs.encode": _encoded,
    "numpy.dtype": _numpy_dtype,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    "torch.Size": lambda sizes=(): tuple(map(_index, sizes)),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}


def _plain_bytes(content: Any) -> bytes:
    if type(content) is not bytes:
        raise TypeError(f"bytes made of a {kind_of(content)}")
    return content
