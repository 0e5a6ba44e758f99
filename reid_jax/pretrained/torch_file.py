"""PyTorch's ``.pth`` and ``.pt`` files, without PyTorch and without running anything in them.

``torch.save`` writes a pickle, which is a program, and beside it the numbers. Here the program is
run by a machine of its own: it builds tensors, numbers, text and plain containers, knows the few
names in ``CALLS``, and refuses every other one before anything is imported or called.

Two formats are read: a zip archive (PyTorch 1.6 and later), and a row of pickles with the numbers
after them (before 1.6, or ``_use_new_zipfile_serialization=False``). Written from
``torch/serialization.py``, ``torch/_utils.py`` and ``torch/_tensor.py`` of PyTorch 2.13, and from
files of both formats.
"""

from __future__ import annotations

import collections
import hashlib
import io
import mmap
import os
import pickletools
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import ml_dtypes
import numpy as np
from etils import epath

from reid_jax.pretrained import matching

__all__ = ["TorchFile", "read_torch"]

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older format
PROTOCOL = 1001  # the second one
EXPECTED = "tensors, numbers, text and plain containers of them"
REMEDY = "in the program that made it, save torch.save(model.state_dict(), 'weights.pth')"
AGAIN = "download or copy it again"
STATE_DICTS = ("state_dict", "model_state_dict", "model", "net", "network")

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


class TorchFile:
    """A ``.pth`` or ``.pt`` file: its digest, and what it holds.

    The file is mapped into memory, and a tensor is a view of its place there, so that reading one
    of 100 MB takes next to nothing until the numbers are used.

    Attributes:
        path: of the file.
        value: what was saved. Tensors, parameters and storages are NumPy arrays that cannot be
            written to (bfloat16 and the floats of 8 bits by ``ml_dtypes``); an ``OrderedDict`` is a
            ``dict``, a ``torch.Size`` a tuple, a ``torch.dtype`` a ``numpy.dtype``.

    Raises:
        ValueError: if there is no such file, it is damaged or of another kind, or holds or calls
            anything else. The message names the file, what it would call and what to do.
    """

    def __init__(self, path: epath.PathLike) -> None:
        self.path = matching.weights_path(path)
        self._content = _content(self.path)
        try:
            self.value = _read(self._content)
        except _Fault as fault:
            raise ValueError(f"{self.path} {fault}") from None
        except Exception as error:  # The file's bytes decide what is raised.
            reason = str(error) or type(error).__name__
            raise ValueError(
                f"{self.path} is cut short or damaged ({reason[:200]}): expected a file that "
                f"torch.save wrote; {AGAIN}."
            ) from error

    def sha256(self) -> str:
        """The SHA-256 of the whole file, in hexadecimal digits."""
        return hashlib.sha256(self._content).hexdigest()

    def state_dict(self) -> tuple[dict[str, np.ndarray], str | None]:
        """The state dictionary (name -> array), and the entry of the file that holds it.

        The entry is None where the file is the state dictionary itself. Where it lies one level
        down, as in ``{"state_dict": ..., "epoch": 3}``, it is taken if it is the only one, or the
        only one of a name in use for the network (``STATE_DICTS``).

        Raises:
            ValueError: if there is none or several, saying what is there instead.
        """
        needed = "expected a state dictionary (name -> tensor)"
        if not isinstance(self.value, dict):
            raise ValueError(f"{self.path} holds: {_kind(self.value)}; {needed}: {REMEDY}.")
        if _is_state_dict(self.value):
            return self.value, None
        found = [key for key, value in self.value.items() if _is_state_dict(value)]
        named = [key for key in found if key in STATE_DICTS]
        chosen = found if len(found) == 1 else named
        if len(chosen) == 1:
            return self.value[chosen[0]], chosen[0]
        if found:
            raise ValueError(
                f"{self.path} holds {len(found)} state dictionaries ({_listed(found)}), expected "
                f"one: save the one of the network alone, as torch.save(checkpoint[{found[0]!r}], "
                "'weights.pth')."
            )
        others = [f"{k}: {_kind(v)}" for k, v in self.value.items() if not _is_array(v)]
        reason = f"these are no tensors: {_listed(others)}" if others else "no tensor has a name"
        raise ValueError(
            f"{self.path} holds a dictionary of {len(self.value)}, and {reason}; {needed}: "
            f"{REMEDY}."
        )


def read_torch(path: epath.PathLike) -> Any:
    """What a ``.pth`` or ``.pt`` file holds, see :class:`TorchFile`."""
    return TorchFile(path).value


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(name, str) and _is_array(array) for name, array in value.items())
    )


def _kind(value: Any) -> str:
    if _is_array(value):
        return "tensor"
    if isinstance(value, dict | list | tuple | set):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _listed(names: Iterable[Any], most: int = 5) -> str:
    names = [str(name)[:100] for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# Files -----------------------------------------------------------------------------------------


class _Fault(Exception):
    """The second half of a message that begins with the file."""


def _content(path: epath.Path) -> bytes | mmap.mmap:
    local = os.fspath(path)
    if not os.path.isfile(local) or not os.path.getsize(local):
        return path.read_bytes()  # in a bucket; and nothing can be mapped of an empty file
    with open(local, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _read(content: bytes | mmap.mmap) -> Any:
    start = bytes(content[:512])
    if start.startswith(b"PK\x03\x04"):
        return _read_zip(content)
    if start.startswith(b"\x80"):
        return _read_pickles(content)
    if not start:
        reason = f"is empty, expected a file that torch.save wrote: {AGAIN}."
    elif start.startswith(b"version https://git-lfs"):
        reason = "is the pointer that Git LFS keeps in a file's place: run git lfs pull there."
    elif start.lstrip()[:5].lower() in (b"<!doc", b"<html"):
        reason = f"is a web page, expected a file that torch.save wrote: {AGAIN}."
    elif start[257:262] == b"ustar":
        reason = (
            "is a tar archive, as PyTorch wrote it before 2017, or another program: load it with "
            "PyTorch and save it again."
        )
    else:
        reason = (
            f"is no PyTorch file: it begins with {start[:8]!r}, expected what torch.save writes "
            f"(a zip archive, or a row of pickles); {AGAIN}."
        )
    raise _Fault(reason)


def _stream(content: bytes | mmap.mmap) -> Any:
    if isinstance(content, bytes):
        return io.BytesIO(content)
    content.seek(0)
    return content  # which reads like a file, without a copy


def _read_zip(content: bytes | mmap.mmap) -> Any:
    with zipfile.ZipFile(_stream(content)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise _Fault(
            f"is a zip archive without the data.pkl that torch.save writes; it holds "
            f"{_listed(entries) or 'nothing'}."
        )
    root = roots[0]
    if f"{root}constants.pkl" in entries:
        raise _Fault(
            "is a TorchScript program (torch.jit.save), expected a state dictionary: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')."
        )

    def record(name: str) -> tuple[int, int]:
        """Where an entry's bytes begin, and how many they are."""
        entry = entries.get(root + name)
        if entry is None:
            raise _Fault(f"is damaged: its archive has no {root}{name}; {AGAIN}.")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise _Fault(
                f"was packed again: {entry.filename} is compressed or encrypted, which torch.save "
                "never does; take the file as PyTorch wrote it."
            )
        header = bytes(content[entry.header_offset : entry.header_offset + 30])
        signature, name_length, extra_length = struct.unpack("<4s22xHH", header)
        begin = entry.header_offset + 30 + name_length + extra_length
        if signature != b"PK\x03\x04" or begin + entry.file_size > len(content):
            raise _Fault(f"is damaged: {entry.filename} is not where it should be; {AGAIN}.")
        view = memoryview(content)[begin : begin + entry.file_size]
        # PyTorch can be told to leave the sum out, and writes 0.
        if entry.CRC and zlib.crc32(view) != entry.CRC:
            raise _Fault(f"is damaged: the check sum of {entry.filename} is wrong; {AGAIN}.")
        return begin, entry.file_size

    if f"{root}byteorder" in entries:
        begin, size = record("byteorder")
        if (order := bytes(content[begin : begin + size]).strip()) != b"little":
            raise _big_endian(order.decode("latin-1"))

    storages: dict[str, tuple[int, int]] = {}

    def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        if key not in storages:
            storages[key] = record(f"data/{key}")
        begin, size = storages[key]
        if count * dtype.itemsize > size:
            raise _Fault(
                f"is damaged: data/{key} has {size} bytes, expected {count} values of {dtype}; "
                f"{AGAIN}."
            )
        return _values(content, dtype, count, begin)

    begin, size = record("data.pkl")
    return _Machine(storage).run(io.BytesIO(content[begin : begin + size]))


def _read_pickles(content: bytes | mmap.mmap) -> Any:
    stream = _stream(content)
    if _Machine().run(stream) != MAGIC:
        raise _Fault(
            "is a pickle that torch.save did not write, expected a state dictionary saved by "
            "torch.save."
        )
    if (protocol := _Machine().run(stream)) != PROTOCOL:
        raise _Fault(f"has PyTorch's file version {protocol}, expected {PROTOCOL}.")
    system = _Machine().run(stream)
    if not system.get("little_endian", True):
        raise _big_endian("big")

    # The numbers come after the pickle that uses them: it is run once to learn their types.
    start = stream.tell()
    dtypes: dict[str, np.dtype] = {}

    def note(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        if dtypes.setdefault(key, dtype) != dtype:
            raise _Fault(f"is damaged: storage {key} is of {dtypes[key]} and of {dtype}; {AGAIN}.")
        if count * dtype.itemsize > len(content):
            raise _Fault(f"is cut short: {count} values of {dtype} are not all there; {AGAIN}.")
        return _values(content, dtype, count, 0)  # in place of those that are not yet found

    _Machine(note).run(stream)
    keys = _Machine().run(stream)
    begin = stream.tell()
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        if key not in dtypes:
            raise _Fault(f"is damaged: no tensor has storage {key}; {AGAIN}.")
        (count,) = struct.unpack("<q", content[begin : begin + 8])
        size = count * dtypes[key].itemsize
        if count < 0 or begin + 8 + size > len(content):
            missing = begin + 8 + size - len(content)
            raise _Fault(f"is cut short: {missing} bytes are missing; {AGAIN}.")
        places[key] = begin + 8, count
        begin += 8 + size

    def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        if key not in places or places[key][1] < count:
            raise _Fault(f"is damaged: storage {key} has not the {count} values it needs; {AGAIN}.")
        return _values(content, dtype, count, places[key][0])

    stream.seek(start)
    return _Machine(storage).run(stream)


def _values(content: bytes | mmap.mmap, dtype: np.dtype, count: int, begin: int) -> np.ndarray:
    if not count:
        return np.zeros(0, dtype)
    return np.frombuffer(content, dtype, count, begin)


def _big_endian(order: str) -> _Fault:
    return _Fault(
        f"has the byte order {order[:20]!r}, expected 'little': load it with PyTorch and save its "
        "tensors on a machine of that order."
    )


# Pickles ---------------------------------------------------------------------------------------


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
    raise _Fault(f"is damaged: it names storage {key} where there is none.")


class _Machine:
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
                    raise _Fault(
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
            raise TypeError(f"a call of a {_kind(name)}")
        self._stack.append(CALLS[name](*arguments))

    _newobj = _reduce

    def _build(self, _: Any) -> None:
        """Attributes of the object below: of an OrderedDict (``_metadata``), not needed."""
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, np.dtype):
            if state[1] not in ("<", "|", "="):
                raise _big_endian("big")
        elif not isinstance(target, dict):
            raise TypeError(f"attributes of a {_kind(target)}")

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
            raise TypeError(f"an entry for a {_kind(self._stack[-1])}, expected a {kind.__name__}")
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


def _refusal(name: str, program: Iterable[tuple]) -> _Fault:
    texts = (str(argument).replace(" ", ".", 1) for _, argument, _ in _readable(program))
    if any(MODULES.match(text) for text in (name, *texts)):
        return _Fault(
            f"holds a whole model and would call {name} when it is read: refused. Expected "
            f"{EXPECTED}: {REMEDY}."
        )
    return _Fault(f"would call {name} when it is read: refused. Expected {EXPECTED}: {REMEDY}.")


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
        raise TypeError(f"a {_kind(key)} as a key")
    return key


def _pairs(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


def _dictionary(items: Iterable[tuple[Any, Any]] = ()) -> dict[Any, Any]:
    items = items.items() if isinstance(items, dict) else items
    return {_key(key): value for key, value in items}


def _index(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(f"{_kind(number)} where a count is needed")
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
    if not _is_array(storage) or storage.ndim != 1:
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
    if not _is_array(tensor):
        raise TypeError(f"a parameter made of a {_kind(tensor)}")
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
        raise TypeError(f"bytes made of a {_kind(content)}")
    return content
