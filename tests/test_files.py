"""A file is written whole or not at all; a tree is flattened without loss."""

import pytest
from etils import epath

from reid_jax.files import differences, flattened, write_atomically


@pytest.mark.parametrize("content", ["é ± 1\n", b"\x00\xff"])
def test_a_file_is_written_with_the_directories_above_it(tmp_path, content):
    path = tmp_path / "a" / "b" / "file"
    write_atomically(str(path), content)
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("failing", ["write_bytes", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, failing):
    path = epath.Path(tmp_path / "file")
    write_atomically(path, "old")
    original = getattr(type(path), failing)

    def fail(self, *args, **kwargs):
        if failing == "write_bytes":  # Half of it is on the disk.
            original(self, args[0][:2])
        raise OSError("no space left")

    monkeypatch.setattr(type(path), failing, fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, "new and longer")
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_flattened_names_every_value():
    tree = {"a": {"b": {"c": 1, "d": None}, "e": {}}, "f": [1, 2]}
    assert flattened(tree) == {"a.b.c": 1, "a.b.d": None, "a.e": {}, "f": [1, 2]}
    assert flattened({}) == {}


def test_differences_are_named_from_here():
    there = {"a": 1, "b": {"c": 2, "d": {}}, "more": 3}
    here = {"a": 1, "b": {"c": 4, "d": {}, "e": 5}}
    assert differences(there, here) == ["b.c: 2 there, 4 here", "b.e: None there, 5 here"]
    assert differences(there, there) == []
