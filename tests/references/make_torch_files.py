"""Writes tests/pretrained/torch_files.json: files that PyTorch saved, and the values in them.

``python tests/references/make_torch_files.py FILE``, where PyTorch 2.13.0 is installed. The bytes
are compressed by zlib, for PyTorch's archives are padding for the most part.
"""

import base64
import io
import json
import sys
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32")
DTYPES += ("float64", "complex64", "complex128")
RARE = ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 2, 1)
        self.bn = torch.nn.BatchNorm2d(2)


def values(tensor):
    dtype = str(tensor.dtype).removeprefix("torch.")
    tensor = tensor.resolve_conj().resolve_neg().detach()
    array = (tensor.float() if dtype.startswith(("bfloat", "float8")) else tensor).numpy()
    if array.dtype.kind == "c":
        array = np.stack([array.real, array.imag], -1)
    return {"dtype": dtype, "shape": list(tensor.shape), "values": array.ravel().tolist()}


def packed(content):
    return base64.b64encode(zlib.compress(content, 9)).decode()


def saved(value, zipped, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped, **options)
    return packed(buffer.getvalue())


def case(value, tensors=None, **options):
    files = {"zip": saved(value, True, **options), "older": saved(value, False, **options)}
    return {"files": files, "values": {name: values(t) for name, t in (tensors or {}).items()}}


def all_tensors():
    tensors, base = OrderedDict(), torch.arange(24.0).reshape(4, 6)
    for name in DTYPES:
        numbers = torch.arange(6).reshape(2, 3) % 4 - int(name not in ("bool", "uint8"))
        numbers = numbers + 1 / 3 if "float" in name or "complex" in name else numbers
        tensors[name] = numbers.to(getattr(torch, name))
    tensors["transposed"] = base.T
    tensors["part"] = base[1:3, 1::2]
    tensors["flat_part"] = base.flatten()[5:9]
    tensors["expanded"] = torch.tensor([[1.0], [2.0]]).expand(2, 3)
    tensors["scalar"] = torch.tensor(3.5)
    tensors["empty"] = torch.zeros(0, 3)
    tensors["parameter"] = torch.nn.Parameter(torch.tensor([1.5, -2]))
    tensors["conjugate"] = torch.tensor([1 + 2j, 3 - 1j]).conj()
    tensors["negative"] = torch.tensor([1 + 2j, 3 - 1j]).conj().imag
    return tensors


def main():
    torch.manual_seed(0)
    net = Net()
    checkpoint = {
        "epoch": 3,
        "rank1": np.float64(0.5),
        "best": np.float32(0.25),
        "name": "x",
        "none": None,
        "flags": [True, False],
        "pair": (1, 2.5),
        "set": {1, 2},
        "size": torch.Size([2, 3]),
        "big": 2**70,
        "complex": 1 + 2j,
        "bytes": b"ab",
        "dtype": torch.float16,
        "optimizer": torch.optim.SGD(net.parameters(), 0.1, momentum=0.9).state_dict(),
        "state_dict": net.state_dict(),
    }
    tensors, rows = all_tensors(), torch.arange(12.0).reshape(4, 3)
    shared = OrderedDict(a=rows, b=rows[1])
    rare = OrderedDict((name, torch.arange(4).to(getattr(torch, name))) for name in RARE)
    cases = {
        "made_with": f"PyTorch {torch.__version__}, NumPy {np.__version__}",
        "tensors": case(tensors, tensors),
        "rare": case(rare, rare),
        "checkpoint": case(checkpoint, net.state_dict()),
        "protocol_4": case(shared, shared, pickle_protocol=4),
        "model": case(net),
        "list": case([torch.ones(2), {"a": torch.Size([1])}]),
    }
    torch.serialization.set_crc32_options(False)
    cases["no_check_sums"] = case(shared, shared)
    torch.serialization.set_crc32_options(True)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), buffer)
    cases["torchscript"] = {"files": {"zip": packed(buffer.getvalue())}}
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in cases.items()]
    Path(sys.argv[1]).write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
