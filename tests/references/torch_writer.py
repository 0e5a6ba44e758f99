"""PyTorch's two file formats written by hand, opcode by opcode, so that no PyTorch is needed.

Beside values it writes calls of anything: ``Call("os", "system", ("true",))``.
"""

import io
import struct
import zipfile
from dataclasses import dataclass

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
STORAGES = {
    "bool": "BoolStorage",
    "uint8": "ByteStorage",
    "int8": "CharStorage",
    "int16": "ShortStorage",
    "int32": "IntStorage",
    "int64": "LongStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "complex64": "ComplexFloatStorage",
    "complex128": "ComplexDoubleStorage",
}


@dataclass
class Call:
    """A global of a module, called with arguments when the pickle is read; or only named."""

    module: str
    name: str
    arguments: tuple | None = ()


@dataclass
class Tensor:
    """A part of a storage, which several tensors may share."""

    storage: np.ndarray  # one axis
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def tensor(array):
    """A tensor of its own storage."""
    stride, step = [], 1
    for length in reversed(array.shape):
        stride.insert(0, step)
        step *= length
    return Tensor(np.ascontiguousarray(array).reshape(-1), 0, array.shape, tuple(stride))


class Pickle:
    """A pickle of protocol 2, and the storages that it names."""

    def __init__(self, *, in_zip=True):
        self.storages = {}
        self.in_zip = in_zip

    def write(self, value):
        return b"\x80\x02" + self._value(value) + b"."

    def _value(self, value):
        if isinstance(value, Call):
            text = f"c{value.module}\n{value.name}\n".encode()
            return text if value.arguments is None else text + self._value(value.arguments) + b"R"
        if isinstance(value, Tensor):
            return self._tensor(value)
        if value is None or isinstance(value, bool):
            return {None: b"N", True: b"\x88", False: b"\x89"}[value]
        if isinstance(value, int):
            content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(content)]) + content
        if isinstance(value, float):
            return b"G" + struct.pack(">d", value)
        if isinstance(value, str):
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        if isinstance(value, tuple):
            return b"(" + b"".join(map(self._value, value)) + b"t"
        if isinstance(value, list):
            return b"](" + b"".join(map(self._value, value)) + b"e"
        pairs = b"".join(self._value(k) + self._value(v) for k, v in value.items())
        return b"}(" + pairs + b"u"

    def _tensor(self, value):
        key = next(
            (key for key, known in self.storages.items() if known is value.storage),
            str(len(self.storages)),
        )
        self.storages[key] = value.storage
        kind = Call("torch", STORAGES[value.storage.dtype.name], None)
        view = () if self.in_zip else (None,)
        storage = self._value(("storage", kind, key, "cpu", len(value.storage), *view)) + b"Q"
        numbers = b"".join(map(self._value, (value.offset, value.size, value.stride, False)))
        hooks = self._value(Call("collections", "OrderedDict"))
        return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + numbers + hooks + b"tR"


def zipped(value, byteorder="little", pickled=None, compression=zipfile.ZIP_STORED):
    """The bytes of a file as PyTorch 1.6 and later write it."""
    pickle = Pickle()
    program = pickle.write(value) if pickled is None else pickled
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", byteorder)
        for key, storage in pickle.storages.items():
            archive.writestr(f"archive/data/{key}", storage.tobytes())
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


def older(value, little_endian=True, pickled=None):
    """The bytes of a file as PyTorch wrote it before 1.6."""
    pickle = Pickle(in_zip=False)
    system = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {"int": 4}}
    program = pickle.write(value) if pickled is None else pickled
    head = b"".join(Pickle().write(part) for part in (MAGIC, 1001, system))
    keys = sorted(pickle.storages, reverse=True)  # in an order of their own
    numbers = b"".join(
        struct.pack("<q", len(pickle.storages[key])) + pickle.storages[key].tobytes()
        for key in keys
    )
    return head + program + Pickle().write(keys) + numbers


FORMATS = {"zip": zipped, "older": older}
