"""PyTorch's `.pth` and `.pt` files, without PyTorch and without running anything in them.

`torch.save` writes a pickle, which is a program, and beside it the numbers. Here the program is
run by a machine of its own, `reid_jax.pretrained.torch_pickle`, which refuses every name that
no file of tensors needs.

Two formats are read: a zip archive (PyTorch 1.6 and later), and a row of pickles with the numbers
after them (before 1.6, or `_use_new_zipfile_serialization=False`). Written from
`torch/serialization.py`, `torch/_utils.py` and `torch/_tensor.py` of PyTorch 2.13, and from
files of both formats.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from etils import epath

from reid_jax.pretrained import matching
from reid_jax.pretrained.torch_pickle import (
    AGAIN,
    REMEDY,
    Fault,
    Machine,
    big_endian,
    is_array,
    kind_of,
)

__all__ = ["TorchFile", "read_torch"]

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older format
PROTOCOL = 1001  # the second one
STATE_DICTS = ("state_dict", "model_state_dict", "model", "net", "network")


class TorchFile:
    """A `.pth` or `.pt` file: its digest, and what it holds.

    The file is mapped into memory, and a tensor is a view of its place there, so that reading one
    of 100 MB takes next to nothing until the numbers are used.

    Attributes:
        path: of the file.
        value: what was saved. Tensors, parameters and storages are NumPy arrays that cannot be
            written to (bfloat16 and the floats of 8 bits by `ml_dtypes`); an `OrderedDict` is a
            `dict`, a `torch.Size` a tuple, a `torch.dtype` a `numpy.dtype`.

    Raises:
        ValueError: if there is no such file, it is damaged or of another kind, or holds or calls
            anything else. The message names the file, what it would call and what to do.
    """

    def __init__(self, path: epath.PathLike) -> None:
        self.path = matching.weights_path(path)
        self._content = _content(self.path)
        try:
            self.value = _read(self._content)
        except Fault as fault:
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
        down, as in `{"state_dict": ..., "epoch": 3}`, it is taken if it is the only one, or the
        only one of a name in use for the network (`STATE_DICTS`).

        Raises:
            ValueError: if there is none or several, saying what is there instead.
        """
        needed = "expected a state dictionary (name -> tensor)"
        if not isinstance(self.value, dict):
            raise ValueError(f"{self.path} holds: {kind_of(self.value)}; {needed}: {REMEDY}.")
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
        others = [f"{k}: {kind_of(v)}" for k, v in self.value.items() if not is_array(v)]
        reason = f"these are no tensors: {_listed(others)}" if others else "no tensor has a name"
        raise ValueError(
            f"{self.path} holds a dictionary of {len(self.value)}, and {reason}; {needed}: "
            f"{REMEDY}."
        )


def read_torch(path: epath.PathLike) -> Any:
    """What a `.pth` or `.pt` file holds, see `TorchFile`."""
    return TorchFile(path).value


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and bool(value)
        and all(isinstance(name, str) and is_array(array) for name, array in value.items())
    )


def _listed(names: Iterable[Any], most: int = 5) -> str:
    names = [str(name)[:100] for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# Files -----------------------------------------------------------------------------------------


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
    raise Fault(reason)


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
        raise Fault(
            f"is a zip archive without the data.pkl that torch.save writes; it holds "
            f"{_listed(entries) or 'nothing'}."
        )
    root = roots[0]
    if f"{root}constants.pkl" in entries:
        raise Fault(
            "is a TorchScript program (torch.jit.save), expected a state dictionary: "
            "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')."
        )

    def record(name: str) -> tuple[int, int]:
        """Where an entry's bytes begin, and how many they are."""
        entry = entries.get(root + name)
        if entry is None:
            raise Fault(f"is damaged: its archive has no {root}{name}; {AGAIN}.")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
            raise Fault(
                f"was packed again: {entry.filename} is compressed or encrypted, which torch.save "
                "never does; take the file as PyTorch wrote it."
            )
        header = bytes(content[entry.header_offset : entry.header_offset + 30])
        signature, name_length, extra_length = struct.unpack("<4s22xHH", header)
        begin = entry.header_offset + 30 + name_length + extra_length
        if signature != b"PK\x03\x04" or begin + entry.file_size > len(content):
            raise Fault(f"is damaged: {entry.filename} is not where it should be; {AGAIN}.")
        view = memoryview(content)[begin : begin + entry.file_size]
        # PyTorch can be told to leave the sum out, and writes 0.
        if entry.CRC and zlib.crc32(view) != entry.CRC:
            raise Fault(f"is damaged: the check sum of {entry.filename} is wrong; {AGAIN}.")
        return begin, entry.file_size

    if f"{root}byteorder" in entries:
        begin, size = record("byteorder")
        if (order := bytes(content[begin : begin + size]).strip()) != b"little":
            raise big_endian(order.decode("latin-1"))

    storages: dict[str, tuple[int, int]] = {}

    def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        if key not in storages:
            storages[key] = record(f"data/{key}")
        begin, size = storages[key]
        if count * dtype.itemsize > size:
            raise Fault(
                f"is damaged: data/{key} has {size} bytes, expected {count} values of {dtype}; "
                f"{AGAIN}."
            )
        return _values(content, dtype, count, begin)

    begin, size = record("data.pkl")
    return Machine(storage).run(io.BytesIO(content[begin : begin + size]))


def _read_pickles(content: bytes | mmap.mmap) -> Any:
    stream = _stream(content)
    if Machine().run(stream) != MAGIC:
        raise Fault(
            "is a pickle that torch.save did not write, expected a state dictionary saved by "
            "torch.save."
        )
    if (protocol := Machine().run(stream)) != PROTOCOL:
        raise Fault(f"has PyTorch's file version {protocol}, expected {PROTOCOL}.")
    system = Machine().run(stream)
    if not system.get("little_endian", True):
        raise big_endian("big")

    # The numbers come after the pickle that uses them: it is run once to learn their types.
    start = stream.tell()
    dtypes: dict[str, np.dtype] = {}

    def note(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        if dtypes.setdefault(key, dtype) != dtype:
            raise Fault(f"is damaged: storage {key} is of {dtypes[key]} and of {dtype}; {AGAIN}.")
        if count * dtype.itemsize > len(content):
            raise Fault(f"is cut short: {count} values of {dtype} are not all there; {AGAIN}.")
        return _values(content, dtype, count, 0)  # in place of those that are not yet found

    Machine(note).run(stream)
    keys = Machine().run(stream)
    begin = stream.tell()
    places: dict[str, tuple[int, int]] = {}
    for key in keys:
        if key not in dtypes:
            raise Fault(f"is damaged: no tensor has storage {key}; {AGAIN}.")
        (count,) = struct.unpack("<q", content[begin : begin + 8])
        size = count * dtypes[key].itemsize
        if count < 0 or begin + 8 + size > len(content):
            missing = begin + 8 + size - len(content)
            raise Fault(f"is cut short: {missing} bytes are missing; {AGAIN}.")
        places[key] = begin + 8, count
        begin += 8 + size

    def storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
        if key not in places or places[key][1] < count:
            raise Fault(f"is damaged: storage {key} has not the {count} values it needs; {AGAIN}.")
        return _values(content, dtype, count, places[key][0])

    stream.seek(start)
    return Machine(storage).run(stream)


def _values(content: bytes | mmap.mmap, dtype: np.dtype, count: int, begin: int) -> np.ndarray:
    if not count:
        return np.zeros(0, dtype)
    return np.frombuffer(content, dtype, count, begin)
