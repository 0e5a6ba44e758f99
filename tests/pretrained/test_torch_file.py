"""The reader of .pth: files that PyTorch wrote, files that call something, damaged ones."""

import base64
import hashlib
import json
import sys
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest

from references import models as layer_references
from references import torch_writer
from references.torch_writer import Call, Tensor, tensor
from reid_jax import models
from reid_jax.pretrained import load_weights, torch_pickle, torchvision
from reid_jax.pretrained.torch_file import TorchFile, read_torch

FILES = json.loads(Path(__file__).with_name("torch_files.json").read_text())
FILES.pop("made_with")
FORMATS = ("zip", "older")


@pytest.fixture(autouse=True)
def without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)


def content(case, kind):
    return zlib.decompress(base64.b64decode(FILES[case]["files"][kind]))


def saved(tmp_path, content, name="weights.pth"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def assert_values(arrays, expected):
    assert list(arrays) == list(expected)
    for name, value in expected.items():
        dtype = np.dtype(getattr(ml_dtypes, value["dtype"], value["dtype"]))
        numbers = np.asarray(value["values"], None if dtype.kind in "iub" else np.float64)
        if dtype.kind == "c":
            numbers = numbers.reshape(-1, 2) @ [1, 1j]
        assert arrays[name].dtype == dtype, name
        np.testing.assert_array_equal(
            arrays[name], numbers.astype(dtype).reshape(value["shape"]), err_msg=name
        )


# What PyTorch wrote -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("case", ["tensors", "rare", "protocol_4", "no_check_sums"])
def test_files_of_pytorch(case, kind, tmp_path):
    path = saved(tmp_path, content(case, kind))
    file = TorchFile(path)
    arrays, entry = file.state_dict()
    assert entry is None
    assert_values(arrays, FILES[case]["values"])
    assert file.sha256() == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", FORMATS)
def test_a_checkpoint_of_pytorch(kind, tmp_path):
    file = TorchFile(saved(tmp_path, content("checkpoint", kind)))
    arrays, entry = file.state_dict()
    assert entry == "state_dict"
    assert_values(arrays, FILES["checkpoint"]["values"])
    value = {k: v for k, v in file.value.items() if k not in ("state_dict", "optimizer")}
    assert value == {
        "epoch": 3,
        "rank1": 0.5,
        "best": 0.25,
        "name": "x",
        "none": None,
        "flags": [True, False],
        "pair": (1, 2.5),
        "set": {1, 2},
        "size": (2, 3),
        "big": 2**70,
        "complex": 1 + 2j,
        "bytes": b"ab",
        "dtype": np.float16,
    }
    assert file.value["optimizer"]["param_groups"][0]["momentum"] == 0.9


@pytest.mark.parametrize("kind", FORMATS)
def test_tensors_of_one_storage_share_it_and_are_views_of_the_file(kind, tmp_path):
    arrays = read_torch(saved(tmp_path, content("tensors", kind)))
    assert np.shares_memory(arrays["transposed"], arrays["part"])
    assert arrays["expanded"].strides == (4, 0)
    with pytest.raises(ValueError, match="read-only"):
        arrays["part"][0] = 1


@pytest.mark.parametrize("kind", FORMATS)
def test_a_whole_model_is_refused(kind, tmp_path):
    path = saved(tmp_path, content("model", kind))
    with pytest.raises(
        ValueError, match=r"holds a whole model and would call __main__\.Net"
    ) as error:
        read_torch(path)
    assert str(path) in str(error.value)
    assert "torch.save(model.state_dict(), 'weights.pth')" in str(error.value)
    with pytest.raises(ValueError, match="is a TorchScript program"):
        read_torch(saved(tmp_path, content("torchscript", "zip")))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_list_is_read_and_is_no_state_dictionary(kind, tmp_path):
    file = TorchFile(saved(tmp_path, content("list", kind)))
    np.testing.assert_array_equal(file.value[0], np.ones(2, np.float32))
    assert file.value[1] == {"a": (1,)}
    with pytest.raises(ValueError, match=r"holds: list of 2; expected a state dictionary"):
        file.state_dict()


# Random arrays ------------------------------------------------------------------------------------


def random_storage(rng):
    dtype = np.dtype(rng.choice([*torch_writer.STORAGES, "bfloat16"]).replace("bfloat16", "uint16"))
    dtype = np.dtype(ml_dtypes.bfloat16) if dtype == np.uint16 else dtype
    count = int(rng.integers(0, 200))
    if dtype.kind == "b":
        return rng.integers(0, 2, count).astype(bool)
    return np.frombuffer(rng.bytes(count * dtype.itemsize), dtype)


def random_part(rng, storage):
    """Some axes of a storage, in any order, with gaps, and repeated."""
    size, stride, room = [], [], len(storage)
    offset = int(rng.integers(0, room)) if room else 0
    room -= offset + 1
    for _ in range(rng.integers(0, 5)):
        step = int(rng.integers(0, 8))
        most = 6 if step == 0 else max(room, 0) // step + 1
        length = int(rng.integers(0 if rng.random() < 0.1 or room < 0 else 1, min(most, 6) + 1))
        room -= max(length - 1, 0) * step
        size.append(length)
        stride.append(step)
    if not len(storage):
        size, stride = [0, *size], [1, *stride]
    return Tensor(storage, offset, tuple(size), tuple(stride))


def elements(part):
    """The tensor's values, one by one."""
    out = np.zeros(part.size, part.storage.dtype)
    for place in np.ndindex(*part.size):
        steps = zip(place, part.stride, strict=True)
        out[place] = part.storage[part.offset + sum(i * step for i, step in steps)]
    return out


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("seed", range(20))
def test_random_arrays_of_all_dtypes_and_strides(kind, seed, tmp_path):
    rng = np.random.default_rng(seed)
    storages = [random_storage(rng) for _ in range(6)]
    parts = {f"{i}.{j}": random_part(rng, s) for i, s in enumerate(storages) for j in range(3)}
    value = {
        "epoch": -seed,
        "net": parts,
        "history": [(0.5, None, "x\u00e4")] * 2,
        "ok": seed % 2 == 0,
    }
    got = read_torch(saved(tmp_path, torch_writer.FORMATS[kind](value)))
    assert {k: v for k, v in got.items() if k != "net"} == {
        k: v for k, v in value.items() if k != "net"
    }
    for name, part in parts.items():
        expected = elements(part)
        assert got["net"][name].dtype == expected.dtype
        assert got["net"][name].shape == expected.shape
        assert got["net"][name].tobytes() == expected.tobytes()  # nan too


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(4, (1,), (1,)), (0, (5,), (1,)), (0, (2, 2), (3, 1)), (-1, (2,), (1,)), (3, (2,), (-1,))],
)
def test_a_tensor_beyond_its_storage_is_refused(kind, offset, size, stride, tmp_path):
    part = Tensor(np.arange(4.0), offset, size, stride)
    other = tensor(np.arange(50.0))
    path = saved(tmp_path, torch_writer.FORMATS[kind]({"a": part, "b": other}))
    with pytest.raises(ValueError, match=r"weights.pth is cut short or damaged \("):
        read_torch(path)


# Files that call something ------------------------------------------------------------------------

CALLS = [
    Call("os", "system", ("touch {mark}",)),
    Call("posix", "system", ("touch {mark}",)),
    Call("subprocess", "Popen", (["touch", "{mark}"],)),
    Call("builtins", "eval", ("open('{mark}', 'w')",)),
    Call("__builtin__", "exec", ("open('{mark}', 'w')",)),
    Call("builtins", "getattr", ({}, "keys")),
    Call("builtins", "open", ("{mark}", "w")),
    Call("functools", "partial", (Call("os", "system", None), "touch {mark}")),
    Call("operator", "attrgetter", ("keys",)),
    Call("torch", "load", ("{mark}",)),
    Call("torch.hub", "load", ("a", "b")),
    Call("torch._utils", "_rebuild_qtensor", ()),
    Call("torch", "QInt8Storage", None),
    Call("numpy", "load", ("{mark}",)),
    Call("numpy.core.multiarray", "_reconstruct", ()),
    Call("collections", "defaultdict", (Call("os", "system", None),)),
    Call("argparse", "Namespace", ()),
    Call("torch_file", "CALLS", None),
]


def with_mark(value, mark):
    if isinstance(value, str):
        return value.replace("{mark}", str(mark))
    if isinstance(value, Call):
        return Call(value.module, value.name, with_mark(value.arguments, mark))
    return (
        type(value)(with_mark(v, mark) for v in value) if isinstance(value, tuple | list) else value
    )


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.module}.{call.name}")
def test_a_call_of_anything_else_is_refused_by_name_and_not_made(call, kind, tmp_path):
    call = with_mark(call, tmp_path / "called")
    value = {"state_dict": {"a": tensor(np.ones(3))}, "args": [call]}
    path = saved(tmp_path, torch_writer.FORMATS[kind](value))
    name = f"{call.module.replace('__builtin__', 'builtins')}.{call.name}"
    with pytest.raises(ValueError, match="when it is read: refused") as error:
        read_torch(path)
    assert str(error.value).startswith(f"{path} would call {name} when it is read: refused.")
    assert "Expected tensors, numbers, text and plain containers" in str(error.value)
    assert not (tmp_path / "called").exists()


PROGRAMS = {
    "in the place of the magic number": b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00x\x85R.",
    "protocol 4": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",
    "protocol 0": b"\x80\x02(ios\nsystem\n.",
    "an object": b"\x80\x02(cos\nsystem\nX\x01\x00\x00\x00xo.",
    "new object": b"\x80\x02cos\nsystem\n)\x81.",
}


@pytest.mark.parametrize("kind", ["first", *FORMATS])
@pytest.mark.parametrize("name", PROGRAMS)
def test_other_ways_to_call(name, kind, tmp_path):
    program = PROGRAMS[name]
    if kind != "first":
        program = torch_writer.FORMATS[kind](None, pickled=program)
    with pytest.raises(ValueError, match=r"weights\.pth would call os\.system when it is read"):
        read_torch(saved(tmp_path, program))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "a call of a _Name"),  # a known name, no function
        (b"\x80\x02X\x02\x00\x00\x00os)R.", "a call of a str"),
        (b"\x80\x02ctorch\nfloat32\n(I3\nX\x01\x00\x00\x00|tb.", None),  # its attributes: not set
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b.", "attributes of a _Name"),
        (b"\x80\x02]}b.", "attributes of a list"),
        (b"\x80\x02\x82\x01.", "the pickle instruction EXT1"),
        (b"\x80\x02P1\n.", "the pickle instruction PERSID"),
        (b"\x80\x02(ccollections\nOrderedDict\no.", "the pickle instruction OBJ"),
        (b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.", "a tuple of 1 as a key"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", "encoding"),
        (b"\x80\x02cnumpy\ndtype\nX\x01\x00\x00\x00O\x85R.", "no number"),
        (b"\x80\x02ctorch\nSize\n]J\xff\xff\xff\xffa\x85R.", "where a count is needed"),
        (b"\x80\x02R.", "cut short or damaged"),
        (b"\x80\x02K\x01", "cut short or damaged"),
        (b"\x80\x02\x8b\xff\xff\xff\x7f.", "cut short or damaged"),
    ],
)
def test_programs_that_no_file_of_tensors_has(program, message, tmp_path):
    path = saved(tmp_path, torch_writer.zipped(None, pickled=program))
    if message is None:
        assert read_torch(path) == np.float32
        return
    with pytest.raises(ValueError, match=message) as error:
        read_torch(path)
    assert str(error.value).startswith(str(path))


# Damaged and other files --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_a_cut_file_is_refused_wherever_it_is_cut(kind, tmp_path):
    whole = content("tensors", kind)
    for size in [*range(0, 300, 7), *range(300, len(whole), 97), len(whole) - 1]:
        path = saved(tmp_path, whole[:size])
        with pytest.raises(ValueError, match=r"weights\.pth (is|has) ") as error:
            read_torch(path)
        assert str(error.value).startswith(str(path))
        assert "torch.save" in str(error.value) or "again" in str(error.value)


def test_changed_bytes_never_end_otherwise_than_in_a_message(tmp_path):
    rng = np.random.default_rng(0)
    for kind in FORMATS:
        whole = content("checkpoint", kind)
        for _ in range(300):
            changed = bytearray(whole)
            for place in rng.integers(0, min(len(whole), 3000), 3):
                changed[place] = rng.integers(256)
            path = saved(tmp_path, bytes(changed))
            try:
                read_torch(path)
            except ValueError as error:
                assert str(error).startswith(str(path))  # noqa: PT017


def test_changed_numbers_are_found_by_the_check_sum(tmp_path):
    whole = bytearray(content("protocol_4", "zip"))
    place = bytes(whole).index(np.arange(12, dtype=np.float32).tobytes())
    whole[place + 6] ^= 1
    with pytest.raises(ValueError, match="the check sum of archive/data/0 is wrong; download"):
        read_torch(saved(tmp_path, whole))


@pytest.mark.parametrize("kind", FORMATS)
def test_big_endian_is_refused(kind, tmp_path):
    option = {"byteorder": "big"} if kind == "zip" else {"little_endian": False}
    path = saved(tmp_path, torch_writer.FORMATS[kind]({"a": tensor(np.ones(2))}, **option))
    with pytest.raises(ValueError, match=r"has the byte order 'big', expected 'little': load it"):
        read_torch(path)


def zip_of(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr(name, "x")
    return (tmp_path / "other.zip").read_bytes()


def test_files_that_are_something_else(tmp_path):
    def refused(content, message):
        path = saved(tmp_path, content)
        with pytest.raises(ValueError, match=message) as error:
            read_torch(path)
        assert str(error.value).startswith(str(path))

    refused(b"", "is empty, expected a file that torch.save wrote: download or copy it again")
    refused(b"<!DOCTYPE html><html>", "is a web page")
    refused(b"version https://git-lfs.github.com/spec/v1\noid", "is the pointer that Git LFS keeps")
    refused(b"\x89HDF\r\n\x1a\n" + bytes(1000), r"is no PyTorch file: it begins with b'\\x89HDF")
    refused(b"data".ljust(257, b"\0") + b"ustar" + bytes(300), "is a tar archive")
    refused(b"\x80\x02}.", "is a pickle that torch.save did not write")
    refused(
        zip_of("a.txt", tmp_path), "without the data.pkl that torch.save writes; it holds a.txt"
    )
    again = torch_writer.zipped({"a": tensor(np.ones(9))}, compression=zipfile.ZIP_DEFLATED)
    refused(again, "was packed again: archive/byteorder is compressed")
    with pytest.raises(ValueError, match="there is no weights file at"):
        read_torch(tmp_path / "none.pth")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(ValueError, match=r"folder.pth is a folder: give the weights file in it"):
        read_torch(tmp_path / "folder.pth")


def test_entries_that_are_not_in_the_archive(tmp_path):
    path = saved(
        tmp_path, torch_writer.zipped({"a": tensor(np.ones(9))}).replace(b"data/0", b"data/7")
    )
    with pytest.raises(ValueError, match="is damaged: its archive has no archive/data/0; download"):
        read_torch(path)


# State dictionaries -------------------------------------------------------------------------------


def test_a_state_dictionary_one_level_down(tmp_path):
    ours, other = {"a": tensor(np.ones(3))}, {"a": tensor(np.zeros(3))}

    def entry(value):
        return TorchFile(saved(tmp_path, torch_writer.zipped(value))).state_dict()

    for name in ("state_dict", "model", "net", "anything"):
        arrays, found = entry({"epoch": 3, name: ours, "optimizer": {"state": {}, "lr": 0.1}})
        assert found == name
        np.testing.assert_array_equal(arrays["a"], np.ones(3))
    arrays, found = entry({"ema": other, "model": ours})
    assert found == "model"
    np.testing.assert_array_equal(arrays["a"], np.ones(3))
    with pytest.raises(ValueError, match=r"holds 2 state dictionaries \(student, teacher\)"):
        entry({"student": ours, "teacher": other})
    with pytest.raises(ValueError, match=r"holds 2 state dictionaries \(model, net\)"):
        entry({"model": ours, "net": other})
    with pytest.raises(
        ValueError, match="holds a dictionary of 2, and these are no tensors: n: int"
    ):
        entry({"a": tensor(np.ones(1)), "n": 3})
    with pytest.raises(ValueError, match=r"these are no tensors: a: dict of 1; expected a state"):
        entry({"a": {"model": {"net": ours}}})
    with pytest.raises(ValueError, match=r"holds a dictionary of 0, and no tensor has a name"):
        entry({})
    with pytest.raises(ValueError, match=r"holds: tensor; expected a state dictionary \(name"):
        entry(tensor(np.ones(3)))


# Into a network -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    model = models.build("resnet18", num_identities=5)
    variables = layer_references.variables(model, np.zeros((1, 64, 32, 3), np.float32))
    return model, jax.tree.map(np.asarray, variables)


@pytest.fixture(scope="module")
def state(network):
    """Names as torchvision has them, with values from a generator; and what is loaded of them."""
    rng, template = np.random.default_rng(0), jax.tree_util.tree_flatten_with_path(network[1])[0]
    state = {}
    for keys, leaf in template:
        name = torchvision._resnet_name(tuple(key.key for key in keys))
        axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(leaf.ndim, tuple(range(leaf.ndim)))
        state[name] = rng.normal(size=leaf.shape).astype(np.float32).transpose(axes)
    state |= {
        name.replace("running_mean", "num_batches_tracked"): np.asarray(3)
        for name in state
        if name.endswith("running_mean")
    }
    return {name: tensor(array) for name, array in state.items()}


def prefixed(state, prefix):
    return {prefix + name: array for name, array in state.items()}


def load(tmp_path, network, value, name="weights.pth", kind="zip", **options):
    path = saved(tmp_path, torch_writer.FORMATS[kind](value), name)
    return load_weights(path, *network, **options)


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "model.pth.tar"])
@pytest.mark.parametrize("kind", FORMATS)
def test_a_network_is_filled_without_pytorch(name, kind, network, state, tmp_path, capsys):
    loaded, report = load(tmp_path, network, {"state_dict": state, "epoch": 3}, name, kind)
    kernel = state["layer2.0.conv1.weight"]
    np.testing.assert_array_equal(
        loaded["params"]["res3a"]["conv1"]["kernel"],
        kernel.storage.reshape(kernel.size).transpose(2, 3, 1, 0),
    )
    assert report["matched"] == len(jax.tree.leaves(network[1]))
    assert report["entry"] == "state_dict"
    assert report["sha256"] == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    said = capsys.readouterr().out
    assert f"{name}: the weights are its entry 'state_dict'; not read: epoch." in said
    # The values are copies: the file may change afterwards.
    (tmp_path / name).write_bytes(b"")
    np.testing.assert_array_equal(loaded["params"]["bn1"]["scale"], state["bn1.weight"].storage)


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "model.", "module.base.", "cnn.trunk."])
def test_a_prefix_of_all_names_is_said_in_one_line_and_taken_off(prefix, network, state, tmp_path):
    value = prefixed(state, prefix)
    with pytest.raises(ValueError, match="all 122 names begin with") as error:
        load(tmp_path, network, value)
    assert str(error.value) == (
        f"{tmp_path / 'weights.pth'} does not fit the model: all 122 names begin with {prefix!r}: "
        f"give --weights_prefix {prefix} (model.weights_prefix)."
    )
    loaded, report = load(tmp_path, network, value, prefix=prefix)
    plain, plain_report = load(tmp_path, network, state)
    jax.tree.map(np.testing.assert_array_equal, loaded, plain)
    assert report["prefix"] == prefix
    assert "prefix" not in plain_report
    assert report["matched"] == plain_report["matched"]
    assert report["left_out"] == prefixed(plain_report["left_out"], prefix)


def test_names_without_the_prefix_are_left_out(network, state, tmp_path):
    value = prefixed(state, "backbone.") | {"heads.weight": tensor(np.ones(3, np.float32))}
    value["bn1.weight"] = tensor(np.ones(64, np.float32))  # of another network, and of that name
    with pytest.raises(
        ValueError, match=r"122 of 124 names begin with 'backbone\.': give --weights"
    ):
        load(tmp_path, network, value)
    loaded, report = load(tmp_path, network, value, prefix="backbone.")
    assert report["left_out"]["heads.weight"] == "does not begin with 'backbone.'"
    assert report["left_out"]["bn1.weight"] == "does not begin with 'backbone.'"
    np.testing.assert_array_equal(loaded["params"]["bn1"]["scale"], state["bn1.weight"].storage)
    del value["backbone.bn1.bias"]
    with pytest.raises(
        ValueError, match=r"missing: bn1.bias\).* 2 names that do not begin with 'b"
    ):
        load(tmp_path, network, value, prefix="backbone.")


def test_two_networks_in_a_file(network, state, tmp_path):
    value = prefixed(state, "student.") | prefixed(state, "teacher.")
    with pytest.raises(
        ValueError,
        match=r"122 of 244 names begin with 'student\.', 122 with 'teacher\.': give "
        r"--weights_prefix student\. or teacher\. \(model",
    ):
        load(tmp_path, network, value)


def test_prefixes_that_do_not_help(network, state, tmp_path):
    with pytest.raises(
        ValueError,
        match=r"none of the 122 names begins with the prefix 'model\.'; the first .* bn1",
    ):
        load(tmp_path, network, state, prefix="model.")
    value = prefixed(state, "module.base.")
    with pytest.raises(
        ValueError, match=r"the prefix 'module' lacks the dot at its end: 'module\."
    ):
        load(tmp_path, network, value, prefix="module")
    with pytest.raises(ValueError, match=r"all 122 names begin with 'module\.base\.': give"):
        load(tmp_path, network, value, prefix="module.")
    # The layers of another network are no prefix, though all names begin alike.
    features = {f"features.{i}.weight": tensor(np.ones((4, 3, 3, 3), np.float32)) for i in (0, 2)}
    with pytest.raises(ValueError, match=r"missing: .*unexpected: features.0.weight"):
        load(tmp_path, network, features)
    with pytest.raises(ValueError, match=r"all 2 names begin with 'module\.': give"):
        load(tmp_path, network, prefixed(features, "module."))
    with pytest.raises(ValueError, match=r"names of MatConvNet have no prefix; leave 'a\.' out"):
        load_weights(tmp_path / "weights.mat", *network, prefix="a.")


def test_whole_numbers_are_no_weights(network, state, tmp_path):
    value = state | {"bn1.bias": tensor(np.ones(64, np.int8))}
    with pytest.raises(
        ValueError, match=r"has 1 tensors that are not of .*: bn1.bias \(int8\). Is"
    ):
        load(tmp_path, network, value)


def test_half_precision_is_loaded_into_the_networks_own(network, state, tmp_path):
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float64):
        half = {
            name: Tensor(t.storage.astype(dtype), t.offset, t.size, t.stride)
            for name, t in state.items()
        }
        loaded, _ = load(tmp_path, network, half)
        scale = loaded["params"]["bn1"]["scale"]
        assert scale.dtype == np.float32
        np.testing.assert_array_equal(scale, half["bn1.weight"].storage.astype(np.float32))


def test_a_large_file_is_not_copied(tmp_path):
    """Reading takes views of the file, whatever else it holds."""
    numbers = np.arange(1_000_000, dtype=np.float32)
    path = saved(
        tmp_path, torch_writer.older({"a": tensor(numbers), "optimizer": tensor(numbers + 1)})
    )
    tracemalloc.start()
    arrays, _ = TorchFile(path).state_dict()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000
    np.testing.assert_array_equal(arrays["a"], numbers)


def test_nothing_that_can_be_called_does_more_than_build_values():
    assert set(torch_pickle.CALLS) == {
        "_codecs.encode",
        "builtins.bytearray",
        "builtins.complex",
        "builtins.frozenset",
        "builtins.set",
        "collections.Counter",
        "collections.OrderedDict",
        "numpy._core.multiarray.scalar",
        "numpy.core.multiarray.scalar",
        "numpy.dtype",
        "torch.Size",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
    }
