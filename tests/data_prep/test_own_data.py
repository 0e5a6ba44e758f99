"""What people's own folders are prepared to, and what is printed: one test for each fault found."""

import shutil

import pytest

from references.own_trees import folders, market, table, write
from reid_jax.data import dataset_card


def names_in(split):
    return sorted({identity for _, identity, _ in split})


def test_market_splits_without_a_query(tmp_path, prepare, own):
    files = market("bounding_box_train/", (1, 2)) + market("bounding_box_test/", (3, 4))
    status, text = prepare(write(tmp_path / "raw", *files))
    assert status == 0
    for line in (
        "form: folders of splits, bounding_box_train (train), bounding_box_test (test)",
        "train: 4 images of 2 identities: 1 (2), 2 (2)",
        "query and gallery are carved from the test side",
        "query: 2 images of 2 identities",
        "--exp=batch_contrastive_market --dataset own --data_dir",
    ):
        assert line in text
    splits = own()
    assert names_in(splits["train"]) == ["1", "2"]
    assert names_in(splits["query"]) == names_in(splits["gallery"]) == ["3", "4"]
    assert all(file.startswith("bounding_box_test/") for file, _, _ in splits["query"])


def test_own_sides_and_an_option_to_carve(tmp_path, prepare):
    raw = write(tmp_path / "raw", *folders("train/", "ab"), *folders("test/", "cd"))
    status, text = prepare(raw, "--num_test_identities=1")
    assert status == 1
    assert "a test side of its own, from which query and gallery are carved; leave it out" in text
    raw = write(tmp_path / "val", *folders("train/", "ab"), *folders("val/", "cd"))
    status, text = prepare(raw, "--num_test_identities=1", "--num_val_identities=1")
    assert status == 1
    assert "validation images of its own (val); leave it out" in text


def test_veri_names(tmp_path, prepare, own):
    files = [
        *market("image_train/", (1, 2)),
        *market("image_query/", (3,)),
        *(name.replace("_0.jpg", "_5.jpg") for name in market("image_test/", (3,))),
    ]
    status, text = prepare(write(tmp_path / "raw", *files))
    assert status == 0
    assert {split: len(rows) for split, rows in own().items()} == {
        "train": 4,
        "query": 2,
        "gallery": 2,
    }
    assert "image_test (test), image_query (query)" in text


@pytest.mark.parametrize("names", [("query", "gallery"), ("probe", "test")])
def test_evaluation_only(tmp_path, prepare, own, names):
    query, gallery = names
    files = market(f"{query}/", (1, 2), cameras=(1,)) + market(f"{gallery}/", (1, 2), cameras=(2,))
    status, text = prepare(write(tmp_path / "raw", *files))
    assert status == 0
    assert list(own()) == ["query", "gallery"]
    assert "a data set for evaluation only" in text
    assert "next: python experiments/evaluate.py --workdir RUN --dataset own" in text


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("train", "query"), "has the splits train, query: gallery is missing"),
        (("query",), "has the splits query: gallery is missing"),
        (("query", "test", "gallery"), "test and gallery are both something to search in"),
        (("val", "query", "gallery"), "train is missing; validation needs it"),
        (("train", "training"), "train and training are both the split train"),
    ],
)
def test_splits_that_are_not_all_there(tmp_path, prepare, splits, message):
    files = [file for split in splits for file in market(f"{split}/", (1, 2))]
    status, text = prepare(write(tmp_path / "raw", *files))
    assert status == 1
    assert message in text
    assert not (tmp_path / "data" / "own").exists()


def test_empty_folders_beside_splits_and_identities(tmp_path, prepare, own):
    raw = write(tmp_path / "raw", *folders("imgs/", "abc"), ("meta/train.txt", "x"))
    (raw / "empty" / "query").mkdir(parents=True)
    status, text = prepare(raw, "--num_test_identities=1")
    assert status == 0
    assert "form: one sub-folder an identity (in imgs)" in text
    assert "not read: 1 file of other kinds (.txt 1)" in text
    assert sum(map(len, own().values())) == 6
    raw = write(tmp_path / "splits", *folders("train/", "ab"), *folders("test/", "cd"))
    (raw / "gallery").mkdir()
    assert prepare(raw, "--name=other")[0] == 0


def test_splits_of_identity_sub_folders(tmp_path, prepare, own):
    raw = write(tmp_path / "raw", *folders("train/", "12"), *folders("test/", "34"))
    status, _ = prepare(raw)
    assert status == 0
    splits = own()
    assert sorted(splits["train"]) == [(f"train/{i}/{k}.jpg", i, None) for i in "12" for k in "01"]
    assert names_in(splits["query"]) == names_in(splits["gallery"]) == ["3", "4"]
    card = dataset_card(tmp_path / "data", "own")
    assert card["split"]["seed"] == 0
    assert set(card["identity_digests"]) == {"train", "query", "gallery"}


def test_validation_of_its_own_and_of_training_identities(tmp_path, prepare, own):
    raw = write(
        tmp_path / "new",
        *folders("train/", "ab"),
        *folders("valid/", "cd"),
        *folders("test/", "ef"),
    )
    assert prepare(raw)[0] == 0
    splits = own()
    assert names_in(splits["val_query"]) == names_in(splits["val_gallery"]) == ["c", "d"]
    assert names_in(splits["query"]) == ["e", "f"]
    shutil.rmtree(tmp_path / "data")
    # layumi's layout: train_all is train and val again.
    known = folders("val/", "ab", form="{k}_val.jpg", number=1)
    raw = write(
        tmp_path / "known",
        *folders("train/", "ab"),
        *known,
        *folders("train_all/", "ab", number=3),
        *folders("query/", "c"),
        *folders("gallery/", "c", form="g{k}.jpg"),
    )
    status, text = prepare(raw)
    assert status == 0
    assert "the 2 images of val are of 2 identities of train" in text
    assert "not read: the images in train_all (6), which repeats train" in text
    assert len(own()["train"]) == 6


def test_folders_beside_splits_are_counted(tmp_path, prepare):
    raw = write(
        tmp_path / "raw",
        *folders("train/", "ab"),
        *folders("test/", "cd"),
        *folders("more/", "x"),
        *folders("mask_train/", "ab"),
        "cover.jpg",
        "train/.hidden.jpg",
    )
    status, text = prepare(raw)
    assert status == 0
    for line in (
        "not read: the images in more (2), which is not the name of a split",
        "not read: the images in mask_train (4), which are masks",
        "not read: 1 image beside the splits",
        "not read: 1 hidden file (.jpg 1)",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (folders("", ["cam1", "cam2"]), "cam1, cam2 are named like cameras, not like identities"),
        (folders("", ["cam_a", "cam_b"]), "cam_a, cam_b are named like cameras"),
        (folders("train/", ["Camera 1", "Camera 2"]), "Camera 1, Camera 2 are named like cameras"),
        (folders("cam01/", "ab") + folders("cam02/", "ab"), "cam01, cam02 are named like cameras"),
        (market("x/", (1, 2)) + market("y/", (3,)), "x (1, 2) hold Market-style names of several"),
        (folders("", ["anna", "bob", "val"]), "val has the name of a split"),
        (["a.jpg", "b.jpg"], "the names of its 2 images say no identity (a.jpg, b.jpg)"),
        (
            folders("A/train/", "a") + folders("A/test/", "b") + folders("B/train/", "a"),
            "folders of splits in A",
        ),
        (folders("train/", "ab") + market("test/", (1,)), "train has sub-folders, and test has im"),
        (
            [*folders("train/", "ab"), "train/x.jpg", *folders("test/", "ab")],
            "train holds images both directly and in sub-folders",
        ),
    ],
)
def test_folders_that_are_no_identities(tmp_path, prepare, files, message):
    status, text = prepare(write(tmp_path / "raw", *files), "--num_test_identities=1")
    assert status == 1
    assert message in text
    assert not (tmp_path / "data" / "own").exists()


@pytest.mark.parametrize("name", ["LABELS.CSV", "annotations/labels.csv", "labels.tsv"])
def test_tables_by_any_name(tmp_path, prepare, own, name):
    delimiter = "\t" if name.endswith("tsv") else ";"
    files = [f"cam{c}/{i}.jpg" for c in (1, 2) for i in (1, 2, 3)]
    rows = [(file, file[5], file[:4]) for file in files]
    text = table(rows, header="file,identity,camera", delimiter=delimiter)
    status, printed = prepare(
        write(tmp_path / "raw", *files, (name, text)), "--num_test_identities=1"
    )
    assert status == 0
    assert f"form: the table {name} with the columns file,identity,camera" in printed
    assert "2 cameras: cam1 (3), cam2 (3)" in printed
    seen = sorted(row for rows in own().values() for row in rows)
    assert seen == sorted((file, file[5], file[:4]) for file in files)


def test_a_table_with_splits_and_an_index(tmp_path, prepare, own):
    splits = {"a": "train", "b": "Train", "c": "probe", "d": "test"}
    files = [f"{name}/{k}.jpg" for name in "abc" for k in "01"]
    rows = [(str(n), f, f[0], splits[f[0]]) for n, f in enumerate(files)]
    rows[-1] = ("5", "c/1.jpg", "c", "test")
    text = table(rows, header=",file,identity,split", delimiter="\t")
    status, _ = prepare(write(tmp_path / "raw", *files, ("t.csv", text)))
    assert status == 0
    assert {split: [row[0] for row in rows] for split, rows in own().items()} == {
        "train": files[:4],
        "query": ["c/0.jpg"],
        "gallery": ["c/1.jpg"],
    }


def test_tables_that_are_not_used(tmp_path, prepare):
    raw = write(tmp_path / "stray", *folders("", "abc"), ("animals.csv", "name,sex\na,f\n"))
    status, text = prepare(raw, "--num_test_identities=1")
    assert status == 0
    assert "not read: animals.csv, which is not a table of these images" in text
    cases = {
        "a/0.jpg,1\n": "has the columns a/0.jpg,1 in its first line; expected file,identity",
        "image_id,identity,path\n1,a,a/0.jpg\n": "has the columns image_id,identity,path",
        "file,identity,sex\na/0.jpg,1,f\n": "take out sex",
        "file,identity,split\na/0.jpg,a,tset\n": "line 2: the split is tset; expected train, val",
        "file,identity,file\na/0.jpg,a,x\n": "has the column file twice",
        'file,identity\na/0.jpg,"a\nb/0.jpg,b\n': "line 3 is no row of a table: unexpected end",
    }
    for number, (content, message) in enumerate(cases.items()):
        raw = write(tmp_path / str(number), *folders("", "abc"), ("t.csv", content))
        status, text = prepare(raw, "--num_test_identities=1", "--name=case")
        assert status == 1, content
        assert message in text


def test_utf16_tables_and_sep_lines(tmp_path, prepare, own):
    text = "sep=;\n" + table([(f, f[0]) for f in folders("", "abc")], delimiter=";")
    raw = write(tmp_path / "raw", *folders("", "abc"), ("t.csv", text.encode("utf-16")))
    assert prepare(raw, "--num_test_identities=1")[0] == 0
    assert names_in(own()["train"] + own()["query"]) == ["a", "b", "c"]
