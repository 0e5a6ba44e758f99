import json
import shutil
import zipfile

import h5py
import numpy as np
import pytest
import scipy.io

from data_prep import cuhk03, stand_in
from data_prep import prepare as command
from data_prep.prepare import main, prepare
from data_prep.raw import open_raw
from data_prep.stand_in.__main__ import main as render
from references import cuhk03_mat
from reid_jax.data import dataset_card, decode, open_partition, open_split

POOLS = ("detected", "labeled")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = cuhk03_mat.write(tmp_path_factory.mktemp("raw") / "cuhk03_release")
    for pool in POOLS:
        cuhk03_mat.write_new_protocol(folder, pool)
    return folder


def run(raw_dir, data_dir, **options):
    return prepare("cuhk03", raw_dir, data_dir, progress=False, **options)


def identity_of(group, place):
    """Identities run on through the groups."""
    return 1 + sum(cuhk03_mat.GROUPS[:group]) + place


@pytest.mark.parametrize("compressed", [False, True])
def test_reader(tmp_path, raw, compressed):
    """Every image and nothing else, its pixels, its identity and its camera."""
    if compressed:
        raw = cuhk03_mat.write(tmp_path, compression="gzip")
    tree, listing = cuhk03.read(open_raw(raw))
    for pool in POOLS:
        contents = cuhk03_mat.images(pool)
        expected = sorted(
            (f"{pool}/{cuhk03_mat.name(*cell)}", identity_of(*cell[:2]), 1 + cell[2] // 5)
            for cell in contents
        )
        records = listing.splits[pool]
        assert [(r.file, r.identity, r.camera) for r in records] == expected
        for cell, pixels in contents.items():
            file = f"{pool}/{cuhk03_mat.name(*cell)}"
            encoded = tree.read(file)
            assert encoded.startswith(b"\x89PNG")
            np.testing.assert_array_equal(decode(encoded, None), pixels)
            assert tree.sizes[file] == pixels.size
    assert {record.camera for record in listing.splits["labeled"] if record.identity == 15} == {1}
    assert "labeled/2_003_2_08.png" not in tree.sizes
    assert listing.problems == []
    assert not listing.official


def test_partitions(raw):
    _, listing = cuhk03.read(open_raw(raw))
    everyone = set(range(1, 16))
    # (2, 1), (1, 5), (3, 2) and (1, 1), (2, 4), (1, 3) in groups of 5, 4, 3.
    tests = [[5, 6, 11], [1, 3, 9]] * 10
    assert list(listing.partitions) == [
        f"{pool}-{sizes}" for pool in POOLS for sizes in ("1367-100", "1160-100-100", "767-700")
    ]
    for pool in POOLS:
        whole = listing.partitions[f"{pool}-1367-100"]
        assert (whole.pool, whole.origin) == (pool, "test sets of cuhk-03.mat")
        assert [split["test"] for split in whole.splits] == tests
        assert [split["train"] for split in whole.splits] == [
            sorted(everyone - set(test)) for test in tests
        ]
        part = listing.partitions[f"{pool}-1160-100-100"]
        assert [split["test"] for split in part.splits] == tests
        for split in part.splits:
            members = split["train"] + split["val"] + split["test"]
            assert sorted(members) == list(range(1, 13))
            assert len(split["val"]) == len(split["test"]) == 3
    # Written down once: Philox bits, the same on every machine.
    vals = [split["val"] for split in part.splits]
    assert vals[:4] == [[1, 2, 3], [4, 5, 7], [1, 7, 12], [5, 10, 11]]
    assert len(set(map(tuple, vals))) > 15


def test_new_protocol(raw):
    _, listing = cuhk03.read(open_raw(raw))
    for pool in POOLS:
        partition = listing.partitions[f"{pool}-767-700"]
        assert partition.origin == f"file cuhk03_new_protocol_config_{pool}.mat"
        (split,) = partition.splits
        files = {f"{pool}/{cuhk03_mat.name(*cell)}": cell for cell in cuhk03_mat.images(pool)}
        assert sorted(file for members in split.values() for file in members) == sorted(files)
        identities = {
            role: {identity_of(*files[file][:2]) for file in found} for role, found in split.items()
        }
        assert identities["train"] == {*range(1, 10), 15}
        assert identities["query"] == identities["gallery"] == set(range(10, 15))
        assert len(split["query"]) == 10


def test_prepare(tmp_path, raw, capsys):
    card = run(raw, tmp_path)
    out = capsys.readouterr().out
    assert card == dataset_card(tmp_path, "cuhk03")
    assert card["data_source"] == "stand-in"
    assert {pool: card["counts"][pool]["images"] for pool in POOLS} == {
        pool: len(cuhk03_mat.images(pool)) for pool in POOLS
    }
    for name, partition in card["partitions"].items():
        (line,) = [line for line in out.splitlines() if line.startswith(f"{name}: ")]
        assert f"fingerprint {partition['fingerprint']}" in line
    assert "20 splits of detected: train 12 identities, test 3 identities (test sets of" in out
    assert len({part["fingerprint"] for part in card["partitions"].values()}) == 6

    source = open_split(tmp_path, "cuhk03", "detected")
    assert source.image(0, None).tolist() == cuhk03_mat.pixels("detected", 0, 0, 0).tolist()
    parts = open_partition(tmp_path, "cuhk03", "detected-1160-100-100", 1)
    assert list(parts) == ["train", "val", "test"]
    assert set(parts["test"].identities.tolist()) == {1, 3, 9}
    assert parts["test"].split == "detected-1160-100-100/1/test"


def test_again(tmp_path, raw, capsys):
    """Nothing happens, unless another file of the new protocol is there."""
    shutil.copytree(raw, tmp_path / "raw")
    card = run(tmp_path / "raw", tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "cuhk03").rglob("*")}
    capsys.readouterr()
    assert run(raw, tmp_path) == card
    assert "already prepared" in capsys.readouterr().out
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "cuhk03").rglob("*")}
    cuhk03_mat.write_new_protocol(
        tmp_path / "raw", "labeled", **cuhk03_mat.new_protocol("labeled", num_train=7)
    )
    with pytest.raises(ValueError, match=r"already prepared in .* from other files"):
        run(tmp_path / "raw", tmp_path)


def test_after_a_killed_preparation(tmp_path, raw, monkeypatch, capsys):
    writing = command._write

    def killed(builder, data_dir, tree, listing, card, progress):
        read, left = tree.read, iter(range(20))

        def some(file):
            next(left)
            return read(file)

        tree.read = some
        writing(builder, data_dir, tree, listing, card, progress)

    monkeypatch.setattr(command, "_write", killed)
    with pytest.raises(Exception, match=r"."):
        run(raw, tmp_path)
    assert not (tmp_path / "cuhk03" / "1.0.0").exists()
    monkeypatch.undo()
    card = run(raw, tmp_path)
    assert card == run(raw, tmp_path / "other")


def test_without_the_new_protocol(tmp_path, capsys):
    cuhk03_mat.write(tmp_path / "raw")
    card = run(tmp_path / "raw", tmp_path)
    assert "detected-767-700" not in card["partitions"]
    out = capsys.readouterr().out
    assert "no cuhk03_new_protocol_config_detected.mat: there is no partition detected-767" in out


def test_carving_is_refused(tmp_path, raw, capsys):
    arguments = ["cuhk03", f"--raw_dir={raw}", f"--data_dir={tmp_path}"]
    for option in ("--num_test_identities=3", "--num_val_identities=2"):
        assert main([*arguments, option]) == 1
        error = capsys.readouterr().err
        assert "divides its identities by partitions (detected-1367-100, " in error
        assert "leave it out" in error


def test_zip(tmp_path, raw, monkeypatch):
    """The official form: one zip file, unpacked to a temporary file that does not stay."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    archive = tmp_path / "cuhk03_release.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(raw / "cuhk-03.mat", "cuhk03_release/cuhk-03.mat")
        packed.write(raw / "STAND_IN.json", "cuhk03_release/STAND_IN.json")
        packed.writestr("cuhk03_release/README.md", "x")
    card = run(archive, tmp_path)
    assert card["counts"] == run(raw, tmp_path / "folder")["counts"]
    assert list((tmp_path / "temporary").rglob("*.mat")) == []
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 1000))
        with pytest.raises(OSError, match=r"takes 0\.\d MB.* 0\.0 MB free; set TMPDIR"):
            cuhk03.read(open_raw(archive))
    (tmp_path / "above").mkdir()
    shutil.move(archive, tmp_path / "above")
    (tmp_path / "above" / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"expected cuhk-03.mat, found .*; unpack cuhk03_release"):
        cuhk03.read(open_raw(tmp_path / "above"))


def old_format(path):
    scipy.io.savemat(path, {"labeled": np.zeros(3), "detected": np.zeros(3)})


def cut_short(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def damaged_inside(path):
    content = bytearray(path.read_bytes())
    places = [
        place for place in range(600, len(content) - 4) if content[place : place + 4] == b"TREE"
    ]
    for place in places:
        content[place : place + 4] = b"XXXX"
    path.write_bytes(content)


def rewritten(**options):
    def change(path):
        cuhk03_mat.write(path.parent, **options)

    return change


def without_pixels(path):
    with h5py.File(path, "r+") as mat:
        del mat["detected"]
        mat["detected"] = np.zeros((2, 3))


def four_groups(path):
    with h5py.File(path, "r+") as mat:
        cells = mat["labeled"][()][:, :4]
        del mat["labeled"]
        mat["labeled"] = cells


def nine_columns(path):
    with h5py.File(path, "r+") as mat:
        reference = mat["labeled"][0, 1]
        del mat["labeled"]
        cells = mat.create_dataset("nine", data=mat[reference][()][:9])
        mat["labeled"] = np.array([[cells.ref] * 5], h5py.ref_dtype)


def other_groups(path):
    with h5py.File(path, "r+") as mat:
        cells = mat["labeled"][()]
        cells[0, 3] = cells[0, 2]
        mat["labeled"][...] = cells


def test_set_of_three_columns(path):
    with h5py.File(path, "r+") as mat:
        cells = mat["testsets"][()]
        cells[0, 6] = mat.create_dataset("three", data=np.ones((3, 5))).ref
        mat["testsets"][...] = cells


def null_reference(path):
    with h5py.File(path, "r+") as mat:
        group = mat[mat["detected"][0, 0]]
        cells = group[()]
        cells[3, 2] = h5py.Reference()
        group[...] = cells


test_set_of_three_columns.__test__ = False


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (old_format, r"cuhk-03.mat is of an old MATLAB format .*save\(\.\.\., '-v7\.3'\)"),
        (lambda path: path.write_text("MATLAB?"), "is not a file of MATLAB 7.3"),
        (lambda path: path.write_bytes(b""), "is not a file of MATLAB 7.3"),
        (cut_short, "was cut short or is damaged"),
        (damaged_inside, "is damaged"),
        (lambda path: path.unlink(), "expected cuhk-03.mat, found STAND_IN.json"),
        (rewritten(leave_out=("labeled",)), "has no labeled, it has detected, testsets; use the"),
        (rewritten(leave_out=("testsets",)), "has no testsets, it has detected, labeled"),
        (without_pixels, "detected is an array of float64 of 3 x 2; expected a cell of 5"),
        (four_groups, "labeled is a cell of 4 x 1; expected a cell of 5"),
        (nine_columns, "group 1 of labeled is a cell of 4 x 9; expected a cell of one row per id"),
        (other_groups, r"\[5, 4, 3, 2, 1\] identities in detected and \[5, 4, 3, 3, 1\] in lab"),
        (test_set_of_three_columns, "test set 7 is an array of float64 of 5 x 3; expected rows"),
        (rewritten(test_sets=([(1, 2.5)],)), "test set 1 is an array .* 1 x 2; expected rows of"),
        (null_reference, "group 1 of detected: identity 3, column 4 is not there"),
    ],
)
def test_bad_file(tmp_path, raw, breakage, message, capsys):
    shutil.copytree(raw, tmp_path / "raw")
    for config in (tmp_path / "raw").glob("cuhk03_new*"):
        config.unlink()
    breakage(tmp_path / "raw" / "cuhk-03.mat")
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "raw", tmp_path / "data")
    assert main(["cuhk03", f"--raw_dir={tmp_path / 'raw'}", f"--data_dir={tmp_path / 'data'}"]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "data" / "cuhk03").exists()


def test_two_files(tmp_path, raw):
    shutil.copytree(raw, tmp_path / "raw" / "a")
    shutil.copytree(raw, tmp_path / "raw" / "b")
    with pytest.raises(ValueError, match=r"more than one cuhk-03.mat: a/cuhk-03.mat, b/cuhk-03"):
        run(tmp_path / "raw", tmp_path / "data")


def test_everything_wrong_is_listed_at_once(tmp_path, capsys):
    def change(pool, contents):
        if pool == "detected":
            for column in range(10):
                contents.pop((1, 3, column), None)
            contents[0, 1, 2] = contents[0, 1, 2][:, :, 0]
            contents[0, 1, 3] = contents[0, 1, 3].astype(np.float64)

    test_sets = ([(4, 1), (1, 9), (1, 1)], [(2, 4), (1, 2), (1, 2)], [(1, 1), (1, 2), (1, 3)])
    raw = cuhk03_mat.write(tmp_path / "raw", change=change, test_sets=test_sets)
    with pytest.raises(ValueError, match="cuhk03: ") as error:
        run(raw, tmp_path)
    for line in (
        "identity without any image (1)",
        "detected: identity 4 of group 2 (number 9)",
        "unreadable image (2)",
        "detected/1_002_1_03.png (uint8 of 10 x 6; expected uint8 of height x width x 3)",
        "detected/1_002_1_04.png (float64 of 10 x 4 x 3; expected uint8",
        "partition that does not fit the images",
        "test set 1: no identity 4, 1 in the first three groups (2 such)",
        "test names 1 identities more than once: 2",
        "detected-1367-100, split 0: test names 1 identities without an image in the pool: 9",
    ):
        assert line in str(error.value)


def test_skipped_images_leave_the_partitions(tmp_path):
    def change(pool, contents):
        if pool == "detected":
            contents[0, 1, 2] = contents[0, 1, 2][:, :, 0]

    raw = cuhk03_mat.write(tmp_path / "raw", change=change)
    cuhk03_mat.write_new_protocol(raw, "detected")
    card = run(raw, tmp_path, skip_bad_images=True)
    assert card["skipped"] == {"unreadable image": ["detected/1_002_1_03.png"]}
    (split,) = card["partitions"]["detected-767-700"]["splits"]
    number = len(cuhk03_mat.images("detected"))
    assert sum(map(len, split.values())) == card["counts"]["detected"]["images"] == number - 1


def swapped_labels(content):
    content["labels"][[0, -1]] = content["labels"][[-1, 0]]


def unknown_file(content):
    content["filelist"][0, 0] = "9_001_1_01.png"


def query_of_train(content):
    content["query_idx"] = np.concatenate([content["query_idx"], [[1.0]]])


def gallery_of_one(content):
    content["gallery_idx"] = content["gallery_idx"][:1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(camId=None, labels=None), "has no labels, camId; downl"),
        (lambda content: content.update(labels=np.ones((7, 1))), r"has 7 labels, \d+ camId and"),
        (
            lambda content: content.update(query_idx=[[0.0], [2.0]]),
            r"query_idx has 0.*, expected 1",
        ),
        (lambda content: content.update(gallery_idx=[[1.0], [2e3]]), "gallery_idx has 2000.*, exp"),
        (swapped_labels, "labels and camId are not those of the images in filelist"),
        (unknown_file, r"train names 1 files without an image in the pool: detected/9_0"),
        (query_of_train, r"1 identities are in train and in query: 1\n"),
        (gallery_of_one, r"the query detected/.* has no match from another camera"),
    ],
)
def test_bad_new_protocol(tmp_path, raw, change, message):
    shutil.copytree(raw, tmp_path / "raw")
    content = cuhk03_mat.new_protocol("detected")
    change(content)
    cuhk03_mat.write_new_protocol(tmp_path / "raw", "detected", **content)
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "raw", tmp_path / "data")


def test_unreadable_new_protocol(tmp_path, raw):
    shutil.copytree(raw, tmp_path / "raw")
    (tmp_path / "raw" / "cuhk03_new_protocol_config_labeled.mat").write_bytes(b"x" * 300)
    with pytest.raises(ValueError, match=r"config_labeled\.mat is unreadable"):
        run(tmp_path / "raw", tmp_path / "data")


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A file of the official counts, with images of one pixel."""
    path = tmp_path_factory.mktemp("official") / "cuhk-03.mat"
    pixel = np.zeros((1, 1, 3), np.uint8)
    mat = cuhk03_mat.Mat(path)
    one = mat.put(pixel.T, kind="uint8")
    none = mat.put(np.zeros(2, np.uint64), MATLAB_empty=np.uint8(1))
    for pool, number in (("detected", 14097), ("labeled", 14096)):
        cells, left = [], 14670 - number
        for members in cuhk03.GROUPS:
            rows = np.full((members, 10), one, h5py.ref_dtype)
            emptied = min(left, members)
            rows[:emptied, 3], left = none, left - emptied
            cells.append(mat.put_cell(rows))
        mat.put_cell([[cell] for cell in cells], pool)
    sets = [[(1, place) for place in range(first, first + 100)] for first in range(1, 21)]
    mat.put_test_sets(sets)
    mat.close()
    return path.parent


@pytest.mark.slow
def test_official_counts(official, tmp_path, monkeypatch):
    """The 28,193 images are listed, and the counts of the papers come out."""
    _, listing = cuhk03.read(open_raw(official))
    assert listing.problems == []
    assert listing.official
    sizes = {
        name: {role: len(members) for role, members in partition.splits[7].items()}
        for name, partition in listing.partitions.items()
    }
    whole = {"train": 1367, "test": 100}
    part = {"train": 1160, "val": 100, "test": 100}
    assert sizes == {
        "detected-1367-100": whole,
        "detected-1160-100-100": part,
        "labeled-1367-100": whole,
        "labeled-1160-100-100": part,
    }
    assert len(listing.notes) == 2


def test_counts_that_are_not_official(tmp_path, raw):
    shutil.copytree(raw, tmp_path / "raw")
    (tmp_path / "raw" / "STAND_IN.json").unlink()
    with pytest.raises(ValueError, match="wrong count") as error:
        run(tmp_path / "raw", tmp_path / "data")
    detected = len(cuhk03_mat.images("detected"))
    for line in (
        f"detected: {detected} images, the official set has 14,097",
        "labeled: 15 identities, the official set has 1,467",
        "groups of [5, 4, 3, 2, 1] identities, the official set has [843, 440, 77, 58, 49]",
        "test set 20: 3 identities, the official one has 100",
        "cuhk03_new_protocol_config_labeled.mat: query 10 images, the official set has 1,400",
    ):
        assert line in str(error.value)
    assert "13,164" not in str(error.value)


# ---- the stand-in

SMALL = {
    "groups": (6, 4, 3, 2, 2),
    "num_test_identities": 3,
    "num_one_view_identities": 1,
    "images_per_view": 3.4,
    "num_workers": 1,
    "progress": False,
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    return stand_in.write_cuhk03(tmp_path_factory.mktemp("rendered"), **SMALL)


def test_stand_in_is_read_as_the_official_file_is(rendered, tmp_path):
    card = run(rendered.parent, tmp_path)
    assert card["data_source"] == "stand-in"
    assert card["stand_in"]["counts"]["groups"] == [6, 4, 3, 2, 2]
    counts = {"images": 112, "identities": 17, "distractors": 0, "junk": 0}
    assert card["counts"] == {"detected": counts, "labeled": counts}
    assert len(card["partitions"]) == 6
    for pool in POOLS:
        train, query, gallery = open_partition(tmp_path, "cuhk03", f"{pool}-767-700", 0).values()
        assert len(set(train.identities.tolist())) == 9  # 767 of 1467, of 17
        assert len(query) == 2 * 8
        assert len(train) + len(query) + len(gallery) == 112
    plan = stand_in.cuhk03_plan(
        stand_in.Cuhk03Counts((6, 4, 3, 2, 2), 3, 1, 112, 112), "labeled", seed=0
    )
    source = open_split(tmp_path, "cuhk03", "labeled")
    assert list(source.files) == [image.file for image in plan]
    # The renderer's people are others than those of other stand-ins.
    assert source.identities.tolist() == [image.identity - 400_000 for image in plan]
    for row in (0, 40, 111):
        image = plan[row]
        expected = stand_in.render(
            0, image.identity, image.camera, image.index, size=image.size, box="drawn"
        )
        np.testing.assert_array_equal(source.image(row, None), expected)


def test_stand_in_again(rendered, monkeypatch):
    stamp = (rendered / "cuhk-03.mat").stat().st_mtime_ns
    assert stand_in.write_cuhk03(rendered.parent, **SMALL) == rendered
    assert (rendered / "cuhk-03.mat").stat().st_mtime_ns == stamp
    with pytest.raises(FileExistsError, match="seed is 0, not 1"):
        stand_in.write_cuhk03(rendered.parent, seed=1, **SMALL)


def test_stand_in_does_not_depend_on_the_number_of_processes(rendered, tmp_path):
    other = stand_in.write_cuhk03(tmp_path, **SMALL | {"num_workers": 2})
    assert (other / "cuhk-03.mat").read_bytes() == (rendered / "cuhk-03.mat").read_bytes()


def test_full_plan():
    for pool, number in (("detected", 14097), ("labeled", 14096)):
        plan = stand_in.cuhk03_plan(stand_in.CUHK03_FULL, pool, seed=0)
        assert len(plan) == number
        assert plan == sorted(plan, key=lambda image: image.file)
        views = {(image.identity, image.camera): 0 for image in plan}
        for image in plan:
            views[image.identity, image.camera] += 1
        assert len(views) == 2 * 1467 - 1
        assert set(views.values()) == {3, 4, 5}
        assert {image.camera for image in plan} == set(range(401, 411))
        heights, widths = zip(*(image.size for image in plan), strict=True)
        assert 155 < np.mean(heights) < 170
        assert 55 < np.mean(widths) < 66


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images_per_view": 5.5}, "images do not fit 33 views of 17 identities: expected 99 to"),
        ({"num_test_identities": 14}, "14 test identities; expected 1 to 13"),
        ({"groups": (6, 4)}, "2 groups; expected 5"),
    ],
)
def test_stand_in_counts_that_do_not_fit(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        stand_in.write_cuhk03(tmp_path, **SMALL | options)
    assert list(tmp_path.iterdir()) == []


def test_stand_in_command(tmp_path, rendered, monkeypatch, capsys):
    given = {}
    monkeypatch.setattr(
        "data_prep.stand_in.__main__._WRITERS",
        {
            "cuhk03": (
                lambda *a, **k: given.update(k) or a[0],
                ("num_test_identities", "groups"),
                10,
            )
        },
    )
    words = ["cuhk03", "--raw_dir", str(tmp_path)]
    assert render([*words, "--num_test_identities", "12"]) == 0
    assert given == {"seed": 0, "num_workers": None, "num_test_identities": 12, "full": False}
    assert render([*words, "--groups", "9,8,7,6,5"]) == 0
    assert given["groups"] == (9, 8, 7, 6, 5)
    with pytest.raises(SystemExit):
        render([*words, "--groups", "9,8,many"])
    assert "--groups: invalid" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        render(["viper", "--raw_dir", str(tmp_path), "--groups", "9"])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        render(["cuhk03", "--raw_dir", str(tmp_path), "--num_train_identities", "12"])
    assert "--num_train_identities is not for cuhk03" in capsys.readouterr().err
    card = json.loads((rendered / "STAND_IN.json").read_text())
    assert card["dataset"] == "cuhk03"
