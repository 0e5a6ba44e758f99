"""Images, identities, cameras and names of own folders, by what is prepared and printed."""

import json
import os
import zipfile

import cv2
import numpy as np
import pytest

from data_prep import doctor, folder
from data_prep.prepare import DATASETS, main
from data_prep.prepare import prepare as run_prepare
from references.own_trees import IMAGE, encoded, folders, market, table, write
from reid_jax.data import dataset_card, open_split
from reid_jax.data.raw import IMAGE_SUFFIXES, open_raw


def names_in(split):
    return sorted({identity for _, identity, _ in split})


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_encoding_is_read_and_cut_ones_are_found(tmp_path, suffix):
    content = (tmp_path / "x").read_bytes() if (tmp_path / "x").exists() else encoded(suffix)
    write(
        tmp_path,
        (f"a/whole{suffix.upper()}", content),
        (f"a/cut{suffix}", content[:-40]),
        (f"a/more{suffix}", content + b"trailer\xff\xdatrailer" * 9),
    )
    tree = open_raw(tmp_path)
    assert len(tree.all_images()) == 3
    found = doctor.image_problems(tree, tree.all_images(), progress=False)
    assert [problem.file for problem in found] == [f"a/cut{suffix}"]


def test_images_of_all_suffixes_and_what_is_no_image(tmp_path, prepare, own):
    raw = write(
        tmp_path / "raw",
        *folders("", "ab"),
        ("c/1.webp", encoded(".webp")),
        ("c/2.tif", encoded(".tif")),
        ("c/3.heic", "x"),
    )
    status, text = prepare(raw, "--num_test_identities=0")
    assert status == 0
    assert names_in(own()["train"]) == ["a", "b", "c"]
    assert "not read: 1 file of other kinds (.heic 1)" in text


def test_bytes_after_a_jpeg(tmp_path, prepare):
    whole = encoded(".jpg")
    progressive = cv2.imencode(
        ".jpg",
        np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8),
        [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2],
    )[1].tobytes()
    trailers = (b"trailer\xff\xdatrailer", bytes(range(256)) * 200, whole[:300])
    files = [
        (f"a/{n}.jpg", image + end)
        for image in (whole, progressive)
        for n, end in enumerate(trailers)
    ]
    assert (
        prepare(write(tmp_path / "raw", *files, *folders("", "bc")), "--num_test_identities=1")[0]
        == 0
    )
    half = len(progressive) // 2
    for name, content in {
        "cut": progressive[:-2],
        "half": whole[:400] + bytes(400),
        "zeros": progressive[:half] + bytes(half),
    }.items():
        raw = write(tmp_path / name, (f"a/{name}.jpg", content), *folders("", "bcd"))
        status, text = prepare(raw, "--num_test_identities=1", "--name=cut")
        assert status == 1
        assert "unreadable image (1)" in text


def test_one_message_a_cause(tmp_path, prepare):
    files = [f"{name}/deep/{k}.jpg" for name in "ab" for k in range(40)]
    status, text = prepare(write(tmp_path / "raw", *files))
    assert status == 1
    assert "not directly in an identity sub-folder (80)" in text
    assert text.count(".jpg\n") == 5
    assert "... and 75 more" in text


def test_one_camera(tmp_path, prepare, own):
    files = [
        "train/0001_c1_0.jpg",
        "train/0002_c1_0.jpg",
        "query/0003_c1_0.jpg",
        "gallery/0003_c1_1.jpg",
    ]
    raw = write(tmp_path / "raw", *files)
    status, text = prepare(raw)
    assert status == 1
    assert "1 problem in" in text
    assert "query and gallery: the 2 images of 1 identity are all of camera 1" in text
    assert "--no_cameras keeps the images and turns the camera rule off" in text
    status, text = prepare(raw, "--no_cameras")
    assert status == 0
    assert "the camera rule is off" in text
    sizes = {split: len(rows) for split, rows in own().items()}
    assert sizes == {"train": 2, "query": 1, "gallery": 1}
    card = dataset_card(tmp_path / "data", "own")
    assert (card["has_cameras"], card["no_cameras"]) == (False, True)


@pytest.mark.parametrize("form", ["pool", "table", "test"])
def test_one_camera_where_splits_are_carved(tmp_path, prepare, form):
    options = ["--num_test_identities=1"]
    if form == "table":
        files = folders("", "abc")
        text = table([(f, f[0], "door") for f in files], header="file,identity,camera")
        raw = write(tmp_path / "raw", *files, ("t.csv", text))
    elif form == "pool":
        raw = write(
            tmp_path / "raw",
            *market("", range(1, 9), cameras=(1,)),
            *(f"{i:04d}_c1_9.jpg" for i in range(1, 9)),
        )
    else:
        options = []
        raw = write(
            tmp_path / "raw",
            *folders("train/", "ab", form="1_c1_{k}.jpg"),
            *folders("test/", "cd", form="1_c1_{k}.jpg"),
        )
    status, text = prepare(raw, *options)
    assert status == 1
    assert f"are all of camera {'door' if form == 'table' else 1}" in text
    assert "ask for fewer" not in text or "--no_cameras" in text
    assert prepare(raw, *options, "--no_cameras")[0] == 0


def test_identity_0_and_junk_are_counted(tmp_path, prepare):
    files = [*market("", range(4)), "-1_c1_0.jpg"]
    status, text = prepare(write(tmp_path / "raw", *files), "--num_test_identities=1")
    assert status == 0
    assert "2 images have identity 0 and count as distractors" in text
    assert "number people from 1 if 0 is one" in text
    assert "gallery: 4 images of 1 identity, 2 distractors, 1 junk" in text


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("-1.0", "1.0", "2.0"), {"1": 2, "2": 2, "-1": 2}),
        (("-1", "1", "2"), {"1": 2, "2": 2, "-1": 2}),
        (("12", "12.0", "3"), {"12": 4, "3": 2}),
        (("007", "7", "x"), {"007": 2, "7": 2, "x": 2}),
        (("e\u0301va", "\u00e9va", "x"), {"\u00e9va": 4, "x": 2}),
        (("20240131123456789011", "2", "3"), {"20240131123456789011": 2, "2": 2, "3": 2}),
    ],
)
def test_identities_as_a_person_means_them(tmp_path, prepare, own, cells, expected):
    files = [f"{n}_{k}.jpg" for n in range(3) for k in range(2)]
    text = table([(file, cells[int(file[0])]) for file in files])
    raw = write(tmp_path / "raw", *files, "spare.jpg", ("t.csv", text + "spare.jpg,other\n"))
    status, printed = prepare(raw, "--num_test_identities=1")
    assert status == 0
    found = [row[1] for rows in own().values() for row in rows if row[0] != "spare.jpg"]
    assert {name: found.count(name) for name in set(found)} == expected
    if "12.0" in cells:
        assert "1 identities of t.csv are written like 12.0 and read as whole numbers" in printed
    if "007" in cells:
        assert "have the same number and are read as different: 007 and 7" in printed
    if "x" in cells and "007" not in cells:
        assert "are written in two Unicode forms and read as one each" in printed


@pytest.mark.parametrize("cell", ["nan", "NaN", "<NA>", "None", "-2", "-2.0"])
def test_identities_that_say_nothing_are_refused_with_the_line(tmp_path, prepare, cell):
    files = folders("", "abc")
    text = table([(f, f[0]) for f in files] + [("d.jpg", cell)])
    status, printed = prepare(
        write(tmp_path / "raw", *files, "d.jpg", ("t.csv", text)), "--num_test_identities=1"
    )
    assert status == 1
    assert f"t.csv line 8: the identity is {cell} (" in printed
    status, printed = prepare(
        write(tmp_path / "folders", *files, *folders("", [cell])), "--num_test_identities=1"
    )
    assert status == 1
    assert "identity that says nothing (2)" in printed


def test_an_identity_that_is_called_unknown_is_asked_about(tmp_path, prepare):
    raw = write(tmp_path / "raw", *folders("", ["anna", "bob", "unknown"]))
    status, text = prepare(raw, "--num_test_identities=1")
    assert status == 0
    assert "the identity unknown (2 images) is read as one identity like any other" in text


@pytest.mark.parametrize("form", ["names", "folders", "table"])
def test_cameras_from_0(tmp_path, prepare, own, form):
    if form == "names":
        files = market("", (1, 2, 3), cameras=(0, 5))
    else:
        files = [f"{i}/000{i}_c{c}_0.jpg" for i in "123" for c in (0, 5)]
    extra = []
    if form == "table":
        rows = [(file, file[0], f"{file[8]}.0") for file in files]
        extra = [("t.csv", table(rows, header="file,identity,camera"))]
    status, text = prepare(write(tmp_path / "raw", *files, *extra), "--num_test_identities=1")
    assert status == 0
    assert "2 cameras: 0 (3), 5 (3)" in text
    for file, _, camera in [row for rows in own().values() for row in rows]:
        assert f"_c{camera}_" in file
    assert dataset_card(tmp_path / "data", "own")["camera_names"] == ["0", "5"]


def test_names_that_are_not_utf8(tmp_path, prepare):
    raw = write(tmp_path / "raw", *folders("", "ab"))
    with open(os.fsencode(raw) + b"/a/\xd5\xc5.jpg", "wb") as file:
        file.write(IMAGE)
    status, text = prepare(raw, "--num_test_identities=0")
    assert status == 1
    assert r"1 images whose names are not UTF-8: a/\xd5\xc5.jpg; rename them" in text
    assert "convmv -f gbk" in text
    os.rename(os.fsencode(raw) + b"/a/\xd5\xc5.jpg", os.fsencode(raw) + b"/a/\xd5\xc5.txt")
    status, text = prepare(raw, "--num_test_identities=0")
    assert status == 0
    assert "not read: 1 other files whose names are not UTF-8 (.txt 1)" in text


@pytest.mark.parametrize("form", ["{}_c1_0.jpg", "0001_c{}_0.jpg"])
def test_numbers_beyond_64_bits(tmp_path, prepare, form):
    name = form.format("20240131123456789011")
    raw = write(tmp_path / "raw", *market("", (1, 2, 3)), name)
    status, text = prepare(raw, "--num_test_identities=1")
    assert status == 1
    assert "number that does not fit in 64 bits (1)" in text
    assert name in text
    assert prepare(raw, "--num_test_identities=1", "--skip_bad_images")[0] == 0


def test_link_loops(tmp_path, prepare, own):
    raw = write(tmp_path / "raw", *folders("", "abc"))
    (raw / "a" / "up").symlink_to("..")
    (raw / "b" / "itself").symlink_to(".")
    (raw / "parent").symlink_to(tmp_path)
    status, text = prepare(raw, "--num_test_identities=1")
    assert status == 0
    for link in ("a/up", "b/itself", "parent"):
        assert f"not read: the link {link}, which leads back to a folder that it is in" in text
    assert sum(map(len, own().values())) == 6


def test_two_links_that_lead_to_each_other(tmp_path):
    raw = write(tmp_path / "raw", *folders("", "ab"))
    (raw / "a" / "b").symlink_to(raw / "b")
    (raw / "b" / "a").symlink_to(raw / "a")
    tree = open_raw(raw)
    assert len(tree.notes) == 2
    assert len(tree.all_images()) == 8


def test_files_and_tables_in_two_unicode_forms(tmp_path, prepare, own):
    files = [f"{name}e\u0301/{k}.jpg" for name in "abc" for k in "01"]
    rows = [(file.replace("e\u0301", "\u00e9"), file[0]) for file in files]
    raw = write(tmp_path / "raw", *files, ("t.csv", table(rows)))
    assert prepare(raw, "--num_test_identities=1")[0] == 0
    assert sorted(row[0] for rows in own().values() for row in rows) == sorted(files)


@pytest.mark.parametrize("packed", [True, False])
def test_backslashes_of_windows(tmp_path, prepare, own, packed):
    names = [f"crops\\{i}\\{k}.jpg" for i in "123" for k in "01"]
    if packed:
        raw = tmp_path / "windows.zip"
        with zipfile.ZipFile(raw, "w") as archive:
            for name in names:
                info = zipfile.ZipInfo("x")
                info.filename = name
                archive.writestr(info, IMAGE)
            info = zipfile.ZipInfo("x")
            info.filename = "crops\\empty\\"
            archive.writestr(info, b"")
    else:
        raw = write(tmp_path / "raw", *names)
    assert prepare(raw, "--num_test_identities=1")[0] == 0
    assert names_in([row for rows in own().values() for row in rows]) == ["1", "2", "3"]


def test_overlap_is_told_and_refused(tmp_path, prepare):
    raw = write(tmp_path / "raw", *folders("train/", "abc"), *folders("test/", "bcd"))
    status, text = prepare(raw)
    assert status == 1
    assert "overlap: 2 identities are in train and in test, query or gallery: b, c" in text
    assert "identity that is in train and in query or gallery (2)" in text


def test_names_of_data_sets(tmp_path, prepare):
    files = folders("", "abc")
    raw = write(tmp_path / "Shop A (2)", *files)
    assert (
        main(["folder", f"--raw_dir={raw}", f"--data_dir={tmp_path}", "--num_test_identities=1"])
        == 0
    )
    assert dataset_card(tmp_path, "shop_a_2")["dataset"] == "shop_a_2"
    info = json.loads((tmp_path / "shop_a_2" / "1.0.0" / "dataset_info.json").read_text())
    assert info["name"] == "shop_a_2"
    source = open_split(tmp_path, "shop_a_2", "train")
    assert source.dataset == "shop_a_2"

    one = ["--num_test_identities=1"]
    assert prepare(raw, *one, "--name=shop_b")[0] == 0
    assert prepare(raw, *one, "--name=shop_c")[0] == 0
    status, text = prepare(raw, *one, "--name=shop_b")
    assert status == 0
    assert "shop_b is already prepared" in text
    assert "--dataset shop_b --data_dir" in text
    for name in DATASETS:
        if name != "folder":
            status, text = prepare(raw, *one, f"--name={name}")
            assert (status, "the name of an official data set" in text) == (1, True)
    for name in ("Shop A", "2nd", "", "a-b", "../x"):
        status, text = prepare(raw, *one, f"--name={name}")
        assert (status, "expected a small letter" in text) == (1, True)
    for name, message in (("Viper", "official data set"), ("店", "give --name NAME")):
        raw = write(tmp_path / "more" / name, *files)
        with pytest.raises(ValueError, match=message):
            run_prepare("folder", raw, tmp_path, num_test_identities=1)


@pytest.mark.parametrize(
    ("text", "name"),
    [("Shop A", "shop_a"), ("Müller", "muller"), ("2024", "set_2024"), ("__x--", "x"), ("店", "")],
)
def test_names_made_valid(text, name):
    assert folder.data_set_name(text) == name


def test_other_names_are_another_preparation(tmp_path, prepare):
    files = folders("", "abc")
    raw = write(tmp_path / "raw", *files, ("t.csv", table([(f, f[0]) for f in files])))
    assert prepare(raw, "--num_test_identities=1")[0] == 0
    write(raw, ("t.csv", table([(f, f"cow {f[0]}") for f in files])))
    status, text = prepare(raw, "--num_test_identities=1")
    assert (status, "own is already prepared in" in text) == (1, True)


def test_options_that_are_for_own_data_only(tmp_path, capsys):
    for option, message in (
        ("--no_cameras", "--no_cameras is for own data sets"),
        ("--name=x", "--name is for own data sets"),
    ):
        arguments = ["market1501", f"--raw_dir={tmp_path}", f"--data_dir={tmp_path}", option]
        assert main(arguments) == 1
        assert message in capsys.readouterr().err


def test_a_zip_file_in_a_method_that_python_does_not_read(tmp_path, prepare):
    raw = tmp_path / "large.zip"
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr("a/1.jpg", IMAGE)
    content = bytearray(raw.read_bytes())
    place = content.rindex(b"PK\x01\x02") + 10
    content[place : place + 2] = (9).to_bytes(2, "little")  # Deflate64
    raw.write_bytes(content)
    status, text = prepare(raw)
    assert status == 1
    assert "packs 1 files by a method that is not read here" in text
