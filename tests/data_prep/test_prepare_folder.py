import shutil

import pytest

from data_prep.prepare import main, prepare
from references import raw_trees
from reid_jax.data import open_split

CARD = ("train", "query", "gallery")


def run(raw_dir, data_dir, **options):
    return prepare("folder", raw_dir, data_dir, **{"name": "folder", "progress": False, **options})


def opened(data_dir, splits=CARD):
    return {split: open_split(data_dir, "folder", split) for split in splits}


def rows(source):
    cameras = [None] * len(source) if source.cameras is None else source.cameras.tolist()
    return list(zip(source.files, source.identities.tolist(), cameras, strict=True))


def test_market_style_names(tmp_path):
    names = [raw_trees.market_name(i, c, n) for i in (3, 12, 7, 9) for c in (1, 14) for n in (0, 1)]
    names += [raw_trees.market_name(0, 2, 5), raw_trees.market_name(-1, 2, 5)]
    raw = raw_trees.write_tree(tmp_path / "raw", names, stand_in=False)
    card = run(raw, tmp_path, num_test_identities=2)
    assert card["data_source"] == "custom"
    assert card["has_cameras"] is True
    sources = opened(tmp_path)
    seen = []
    for source in sources.values():
        for file, identity, camera in rows(source):
            assert file.startswith(f"{identity:04d}_c{camera}s" if identity >= 0 else "-1_c")
            seen.append(file)
    assert sorted(seen) == sorted(names)
    assert {-1, 0} <= set(sources["gallery"].identities.tolist())
    assert len(sources["query"]) == 4
    assert set(sources["query"].cameras.tolist()) == {1, 14}


def identity_folders(root, *, names=("anna", "Bea", "carl", "dora"), form="img{n}.png"):
    files = [f"{name}/{form.format(n=n, c=1 + n % 2)}" for name in names for n in range(4)]
    return raw_trees.write_tree(root, files, stand_in=False)


def test_identity_folders_without_cameras(tmp_path, capsys):
    raw = identity_folders(tmp_path / "raw")
    card = run(raw, tmp_path, num_test_identities=1, num_val_identities=1, seed=3)
    assert card["has_cameras"] is False
    assert card["identity_names"] == ["Bea", "anna", "carl", "dora"]
    assert "the camera rule is off" in capsys.readouterr().out
    sources = opened(tmp_path, (*CARD, "val_query", "val_gallery"))
    sizes = {split: len(source) for split, source in sources.items()}
    assert sizes == {"train": 8, "query": 1, "gallery": 3, "val_query": 1, "val_gallery": 3}
    identities = {split: set(source.identities.tolist()) for split, source in sources.items()}
    assert identities["query"] == identities["gallery"]
    assert identities["train"] | identities["query"] | identities["val_query"] == {1, 2, 3, 4}
    for source in sources.values():
        assert source.cameras is None
        for file, identity, _ in rows(source):
            assert file.split("/")[0] == card["identity_names"][identity - 1]


def test_identity_folders_with_cameras_in_the_names(tmp_path):
    raw = identity_folders(tmp_path / "raw", names=("0010", "9", "0100"), form="0001_c{c}_{n}.jpg")
    card = run(raw, tmp_path, num_test_identities=1)
    assert card["has_cameras"] is True
    assert card["identity_names"] == ["9", "0010", "0100"]
    assert set(opened(tmp_path)["train"].cameras.tolist()) == {1, 2}


def write_csv(root, text, *, files=(), name="list.csv"):
    raw_trees.write_tree(root, files, stand_in=False)
    (root / name).write_text(text, encoding="utf-8-sig")
    return root


def csv_text(names=("x", "y", "z"), cameras=("1", "3"), header="file,identity,camera"):
    lines = [header]
    for name in names:
        for camera in cameras:
            lines += [f"pics/{name}{camera}{n}.jpg, {name} ,{camera}" for n in (0, 1)]
    return "\n".join(lines) + "\n"


def csv_files(names=("x", "y", "z"), cameras=("1", "3")):
    return [f"pics/{name}{camera}{n}.jpg" for name in names for camera in cameras for n in (0, 1)]


@pytest.mark.parametrize("as_file", [True, False])
def test_csv(tmp_path, as_file, capsys):
    raw = write_csv(tmp_path / "raw", csv_text(), files=[*csv_files(), "pics/unused.jpg"])
    card = run(raw / "list.csv" if as_file else raw, tmp_path, num_test_identities=1)
    assert card["identity_names"] == ["x", "y", "z"]
    assert card["camera_names"] is None
    assert "1 images are not in list.csv" in capsys.readouterr().out
    seen = [row for source in opened(tmp_path).values() for row in rows(source)]
    assert len(seen) == 12
    for file, identity, camera in seen:
        assert file[5:7] == f"{'xyz'[identity - 1]}{camera}"


def test_data_dir_below_raw_dir_and_an_edited_csv(tmp_path):
    raw = write_csv(tmp_path / "raw", csv_text(), files=csv_files())
    first = run(raw, raw / "prepared", num_test_identities=1)
    assert run(raw, raw / "prepared", num_test_identities=1) == first
    (raw / "list.csv").write_text(csv_text().replace("x10.jpg, x", "x10.jpg, y"))
    with pytest.raises(ValueError, match="already prepared"):
        run(raw, raw / "prepared", num_test_identities=1)


def test_csv_zipped_below_a_top_folder(tmp_path):
    raw = write_csv(tmp_path / "raw", csv_text(), files=csv_files())
    archive = raw_trees.zip_tree(raw, tmp_path / "own.zip", top="a/b")
    run(raw, tmp_path / "1", num_test_identities=1)
    run(archive, tmp_path / "2", num_test_identities=1)
    first, second = opened(tmp_path / "1"), opened(tmp_path / "2")
    assert {s: rows(first[s]) for s in CARD} == {s: rows(second[s]) for s in CARD}


def test_csv_without_cameras_and_with_junk(tmp_path):
    names = ("0", "1", "10", "9", "-1")
    files = csv_files(names, cameras=("",))
    text = "identity,file\n" + "".join(f"{file[5:-5]},.\\{file}\n" for file in files)
    text = text.replace("/", "\\")
    card = run(write_csv(tmp_path / "raw", text, files=files), tmp_path, num_test_identities=2)
    assert card["has_cameras"] is False
    assert card["identity_names"] == ["0", "1", "9", "10"]
    gallery = rows(opened(tmp_path)["gallery"])
    assert [file for file, identity, _ in gallery if identity == -1] == [
        "pics/-10.jpg",
        "pics/-11.jpg",
    ]


def test_csv_camera_names(tmp_path):
    cameras = ("door", "hall")
    raw = write_csv(tmp_path / "raw", csv_text(cameras=cameras), files=csv_files(cameras=cameras))
    card = run(raw, tmp_path, num_test_identities=1)
    assert card["camera_names"] == ["door", "hall"]
    for file, _, camera in rows(opened(tmp_path)["train"]):
        assert cameras[camera - 1] in file


def test_csv_problems_all_at_once(tmp_path):
    text = csv_text() + (
        "pics/gone.jpg,x,1\npics/x10.jpg,x,1\n,x,1\npics/e1.jpg,,1\npics/e2.jpg,x\n"
        "pics/e3.jpg,x,\n../../etc/passwd,x,1\n"
    )
    files = [*csv_files(), "pics/e1.jpg", "pics/e2.jpg", "pics/e3.jpg"]
    raw = write_csv(tmp_path / "raw", text, files=files)
    with pytest.raises(ValueError, match="folder: 7 problems") as error:
        run(raw, tmp_path, num_test_identities=1, skip_bad_images=True)
    for what in (
        "row of the CSV file that cannot be used (5)",
        "file of the CSV that is not there (2)",
        "list.csv line 14: pics/gone.jpg",
        "list.csv line 15: pics/x10.jpg is there twice",
        "list.csv line 16: the file or the identity is empty",
        "list.csv line 17: the file or the identity is empty",
        "list.csv line 18: expected 3 fields",
        "list.csv line 19: the camera is empty",
        "list.csv line 20: ../../etc/passwd",
    ):
        assert what in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,identity,sex\na,b,c\n", "has the columns file,identity,sex"),
        ("pics/x10.jpg,x,1\n", "expected file,identity or file,identity,camera"),
        ("", r"has the columns \(none\)"),
        ("file,identity\n", "no rows"),
    ],
)
def test_csv_that_is_none(tmp_path, text, message):
    raw = write_csv(tmp_path / "raw", text, files=csv_files())
    with pytest.raises(ValueError, match=message):
        run(raw, tmp_path, num_test_identities=1)


def test_forms_that_are_unclear(tmp_path):
    raw = write_csv(tmp_path / "raw", csv_text(), files=csv_files())
    write_csv(raw, csv_text(), name="other.csv")
    with pytest.raises(ValueError, match="holds 2 CSV files"):
        run(raw, tmp_path, num_test_identities=1)
    run(raw / "other.csv", tmp_path, num_test_identities=1)

    mixed = identity_folders(tmp_path / "mixed")
    raw_trees.write_tree(mixed, ["0001_c1_1.jpg"], stand_in=False)
    with pytest.raises(ValueError, match="both directly and in sub-folders"):
        run(mixed, tmp_path / "m", num_test_identities=1)

    (tmp_path / "none" / "a").mkdir(parents=True)
    (tmp_path / "none" / "a" / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="holds no images; expected identity sub-folders"):
        run(tmp_path / "none", tmp_path / "n", num_test_identities=1)


@pytest.mark.parametrize("names", ["official", "plain"])
def test_own_splits(tmp_path, names):
    files = raw_trees.market_files()
    if names == "plain":
        for old, new in (("bounding_box_train", "train"), ("bounding_box_test", "gallery")):
            files = [file.replace(old, new) for file in files]
        files = [file.replace("gt_bbox", "multi_query") for file in files]
    raw = raw_trees.write_tree(tmp_path / "raw", [*files, "more/a.jpg"], stand_in=False)
    card = run(raw, tmp_path)
    images = {split: number["images"] for split, number in card["counts"].items()}
    assert images == {"train": 27, "query": 9, "gallery": 14, "multi_query": 18}
    assert card["data_source"] == "custom"


def test_folder_of_a_stand_in_is_a_stand_in(tmp_path):
    tree = raw_trees.write_tree(tmp_path / "raw", raw_trees.market_files())
    card = run(tree / "bounding_box_train", tmp_path, num_test_identities=2)
    assert card["data_source"] == "stand-in"


def test_test_identities_must_be_said(tmp_path, capsys):
    raw = identity_folders(tmp_path / "raw")
    arguments = ["folder", f"--raw_dir={raw}", f"--data_dir={tmp_path}"]
    assert main(arguments) == 1
    assert "has 4 identities and no query or gallery: give --num" in capsys.readouterr().err
    card = run(raw, tmp_path, num_test_identities=0)
    assert list(card["counts"]) == ["train"]


@pytest.mark.parametrize(
    ("names", "form", "message"),
    [
        (("one",), "{n}.jpg", "1 identities were asked for, which is all of them"),
        (("0001", "0002"), "0001_c1_{n}.jpg", "only 0 of 2 have images from two cameras"),
        (("a", "b"), "deeper/{n}.jpg", r"not directly in an identity sub-folder \(8\)"),
    ],
)
def test_data_that_cannot_be_used(tmp_path, names, form, message):
    raw = identity_folders(tmp_path / "raw", names=names, form=form)
    with pytest.raises(ValueError, match=message):
        run(raw, tmp_path, num_test_identities=1)


def test_one_identity_left(tmp_path):
    raw = identity_folders(tmp_path / "raw", names=("a", "b"))
    with pytest.raises(ValueError, match="train has 1 identity; at least 2 are needed"):
        run(raw, tmp_path, num_test_identities=1)


def test_some_names_have_cameras(tmp_path):
    raw = identity_folders(tmp_path / "raw", names=("1", "2", "3"), form="0001_c{c}_{n}.jpg")
    shutil.copy(raw / "1" / "0001_c1_0.jpg", raw / "1" / "plain.jpg")
    with pytest.raises(ValueError, match=r"name that does not parse \(1\)"):
        run(raw, tmp_path, num_test_identities=1)
    card = run(raw, tmp_path, num_test_identities=1, skip_bad_images=True)
    assert card["skipped"] == {"name that does not parse": ["1/plain.jpg"]}
