"""Own folders opened as they lie, and divided."""

import dataclasses
import logging
import subprocess
import sys

import numpy as np
import pytest

from data_prep.prepare import prepare
from references.own_trees import IMAGE, folders, market, table, write
from reid_jax import data


def test_identity_folders_as_they_lie(tmp_path, caplog):
    root = write(tmp_path / "shop", *folders("", ["bob", "anna"]), ("notes.txt", "x"))
    with caplog.at_level(logging.INFO, "reid_jax"):
        source = data.open_folder(root)
    assert (source.dataset, source.split, len(source)) == ("shop", "train", 4)
    assert source.files == ["anna/0.jpg", "anna/1.jpg", "bob/0.jpg", "bob/1.jpg"]
    assert source.identities.tolist() == [1, 1, 2, 2]
    assert source.cameras is None
    assert source.num_identities == 2
    assert [source.identity_name(row) for row in range(4)] == ["anna", "anna", "bob", "bob"]
    assert source.camera_name(0) is None
    assert source[0] == IMAGE
    assert source.image(0, (16, 8)).shape == (16, 8, 3)
    left_out = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert left_out == [f"{root}: not read: 1 file of other kinds (.txt 1)"]
    assert "form: one sub-folder an identity" in caplog.text
    assert data.describe(root).splitlines()[0] == "form: one sub-folder an identity"


def test_images_are_read_when_indexed(tmp_path):
    source = data.open_folder(write(tmp_path / "shop", *folders("", "ab")))
    (tmp_path / "shop" / "a" / "0.jpg").write_bytes(b"other")
    assert source[0] == b"other"
    with pytest.raises(ValueError, match=r"shop/train: a/0\.jpg: 5 bytes"):
        source.image(0, None)


def test_names_are_carried_through_take_and_join(tmp_path):
    rows = [
        (f"{n}.jpg", name, camera)
        for n, (name, camera) in enumerate([("eva", "door"), ("ada", "hall"), ("eva", "hall")])
    ]
    files = [row[0] for row in rows]
    text = table(rows, header="file,identity,camera")
    source = data.open_folder(write(tmp_path / "one", *files, ("t.csv", text)) / "t.csv")
    assert source.dataset == "one"
    part = source.take([2, 1], "part")
    assert [part.identity_name(row) for row in (0, 1)] == ["eva", "ada"]
    assert [part.camera_name(row) for row in (0, 1)] == ["hall", "hall"]
    other = data.open_folder(write(tmp_path / "two", *market("", (7, 8))))
    assert other.identity_name(0) == "7"
    joined = data.join([part, dataclasses.replace(part, split="again"), other], "train")
    assert joined.num_identities == 4
    assert [joined.identity_name(row) for row in (0, 1, 2, 4)] == [
        "one/eva",
        "one/ada",
        "one/eva",
        "two/7",
    ]
    assert joined.camera_names is None
    both = data.join([part, source], "train")
    assert both.identity_name(0) == "eva"
    assert both.camera_name(0) == "hall"


def test_a_folder_with_splits(tmp_path):
    root = write(tmp_path / "shop", *folders("train/", "ab"), *folders("test/", "cde"))
    assert data.open_folder(root).split == "train"
    assert data.open_folder(root).num_identities == 2
    splits = data.open_splits(root)
    assert {split: len(source) for split, source in splits.items()} == {
        "train": 4,
        "query": 3,
        "gallery": 3,
    }
    query = data.open_folder(root, "query")
    assert query.files == splits["query"].files
    assert not set(query.files) & set(splits["gallery"].files)
    assert [query.identity_name(row) for row in range(3)] == ["c", "d", "e"]
    with pytest.raises(ValueError, match="no split 'test'; its splits are train, query, gallery"):
        data.open_folder(root, "test")


def test_evaluation_only_names_the_splits(tmp_path):
    root = write(tmp_path / "shop", *folders("query/", "ab"), *folders("gallery/", "ab"))
    with pytest.raises(ValueError, match="no training images; its splits are query, gallery"):
        data.open_folder(root)
    assert len(data.open_folder(root, "gallery")) == 4


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ([], FileNotFoundError, "does not exist"),
        ([("a/x.txt", "x")], ValueError, "holds no images"),
        (["a.jpg"], ValueError, "say no identity"),
        (folders("", ["nan"]), ValueError, r"2 problems\n  identity that says nothing"),
        ([("t.csv", "file,identity\nx.jpg,1\n")], ValueError, "file of the CSV that is not there"),
        (folders("", ["cam1", "cam2"]), ValueError, "named like cameras"),
    ],
)
def test_folders_that_open_to_nothing(tmp_path, files, error, message):
    root = tmp_path / "shop"
    write(root, *files)
    with pytest.raises(error, match=message):
        data.open_folder(root)
    assert "--skip_bad_images" not in str(message)


@pytest.mark.parametrize("cameras", [True, False])
def test_carving_is_that_of_the_command(tmp_path, cameras):
    """The same files go to the same splits as prepare.py puts them in."""
    if cameras:
        files = [*market("", range(7)), *market("", [-1]), "0003_c1_9.jpg", "0003_c2_9.jpg"]
        files = [file.replace("-001", "-1") for file in files]
    else:
        files = folders("", ["-1", *"abcdef"], number=3)
    root = write(tmp_path / "shop", *files)
    options = {"num_test_identities": 3, "num_val_identities": 1, "seed": 5}
    splits = data.carve(data.open_folder(root), **options)
    prepare("folder", root, tmp_path / "data", progress=False, **options)
    assert set(splits) == {"train", "query", "gallery", "val_query", "val_gallery"}
    for split, source in splits.items():
        expected = data.open_split(tmp_path / "data", "shop", split)
        assert list(source.files) == list(expected.files)
        assert source.split == split
        np.testing.assert_array_equal(source.identities, expected.identities)
        assert (source.cameras is None) == (expected.cameras is None) == (not cameras)
        assert [source.identity_name(r) for r in range(len(source))] == [
            expected.identity_name(r) for r in range(len(source))
        ]
    assert -1 in splits["gallery"].identities


def test_carving_says_what_is_missing(tmp_path):
    source = data.open_folder(write(tmp_path / "shop", *market("", (1, 2, 3), cameras=(4,))))
    with pytest.raises(ValueError, match=r"only 0 of 3 have .* two cameras.*All images are of cam"):
        data.carve(source, num_test_identities=1, seed=0)
    source = data.open_folder(write(tmp_path / "more", *folders("", "abc")))
    for number, message in ((4, "only 3 of 3"), (3, "none is left"), (0, "expected 1 or more")):
        with pytest.raises(ValueError, match=message):
            data.carve(source, num_test_identities=number, seed=0)
    with pytest.raises(ValueError, match="more, num_val_identities: 2 identities"):
        data.carve(source, num_test_identities=1, num_val_identities=2, seed=0)


def test_opening_a_folder_imports_no_tensorflow_datasets(tmp_path):
    root = write(tmp_path / "shop", *folders("", "ab"))
    program = (
        f"import sys, reid_jax.data as d; d.open_folder({str(root)!r}); "
        "print({'tensorflow', 'tensorflow_datasets', 'torch'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
