import collections
import json

import cv2
import numpy as np
import pytest

from data_prep import cuhk01, pku_reid, stand_in, viper
from data_prep.listing import official_problems
from data_prep.partitions import fingerprint
from data_prep.prepare import prepare
from data_prep.raw import RawTree
from data_prep.stand_in.__main__ import main as render_main
from references import raw_trees
from reid_jax.data import dataset_card, open_partition, open_split

MODULES = {"cuhk01": cuhk01, "viper": viper, "pku_reid": pku_reid}


def cuhk01_files(num_identities):
    return [f"campus/{i:04d}{n:03d}.png" for i in range(1, num_identities + 1) for n in range(1, 5)]


def viper_files(num_identities, *, gap=1):
    angles = {"cam_a": (0, 45, 90), "cam_b": (90, 135, 180)}
    return [
        f"{folder}/{gap * i:03d}_{angles[folder][i % 3]}.bmp"
        for folder in angles
        for i in range(num_identities)
    ]


def pku_reid_files(num_identities, *, form="{}_{}_{}"):
    return [
        f"PKUv1a_128x48/{form.format(identity, camera, orientation)}.png"
        for identity in range(1, num_identities + 1)
        for camera in (1, 2)
        for orientation in range(1, 9)
    ]


FILES = {"cuhk01": cuhk01_files, "viper": viper_files, "pku_reid": pku_reid_files}
OFFICIAL_SIZES = {"cuhk01": 971, "viper": 632, "pku_reid": 114}


def names_only(files):
    """A tree of which only the names are ever looked at."""
    return RawTree(dict.fromkeys(files, 1), lambda path: b"", "raw")


def problems(dataset, files):
    _, listing = MODULES[dataset].read(names_only(files))
    return {(problem.kind, problem.what) for problem in listing.problems}


# ---- layouts and counts


@pytest.mark.parametrize("top", ["", "CUHK01/", "downloads/data/"])
@pytest.mark.parametrize("dataset", MODULES)
def test_the_official_layout_has_no_problems(dataset, top):
    files = FILES[dataset](OFFICIAL_SIZES[dataset])
    others = ["Readme.txt", "other/picture.png"]
    tree, listing = MODULES[dataset].read(names_only([top + file for file in files] + others))
    assert listing.problems == []
    assert listing.official
    assert [record.file for record in listing.splits["images"]] == sorted(files)
    assert set(files) <= set(tree.sizes)
    cameras = collections.Counter(
        (record.identity, record.camera) for record in listing.splits["images"]
    )
    each = len(files) // OFFICIAL_SIZES[dataset] // 2
    assert cameras == {
        (identity, camera): each
        for identity in range(1, OFFICIAL_SIZES[dataset] + 1)
        for camera in (1, 2)
    }
    assert official_problems(listing.splits, MODULES[dataset].OFFICIAL) == []


def test_the_cameras_of_cuhk01_are_two_images_each():
    _, listing = cuhk01.read(names_only([*cuhk01_files(2), "STAND_IN.json"]))
    assert [record.camera for record in listing.splits["images"]] == [1, 1, 2, 2] * 2
    assert not listing.official


def test_numbers_of_viper_with_gaps_become_places():
    _, listing = viper.read(names_only([*viper_files(4, gap=30), "STAND_IN.json"]))
    assert listing.identity_names == ["000", "030", "060", "090"]
    found = {record.file: (record.identity, record.camera) for record in listing.splits["images"]}
    assert found["cam_a/060_90.bmp"] == (3, 1)
    assert found["cam_b/060_180.bmp"] == (3, 2)
    assert found["cam_b/000_90.bmp"] == (1, 2)


@pytest.mark.parametrize("form", ["{:03d}_{:02d}_{}", "{:04d}_{}_{:02d}", "{}_{}_{}"])
def test_names_of_pku_reid_may_have_zeros(form):
    _, listing = pku_reid.read(names_only(pku_reid_files(114, form=form)))
    assert listing.problems == []
    assert {record.identity for record in listing.splits["images"]} == set(range(1, 115))


@pytest.mark.parametrize(
    ("dataset", "lost", "expected"),
    [
        (
            "cuhk01",
            ["campus/0007003.png"],
            {("incomplete", "identity 7: image 3"), ("count", "3,883 images")},
        ),
        (
            "cuhk01",
            [f"campus/0971{n:03d}.png" for n in range(1, 5)],
            {("absent", "identity 971"), ("count", "3,880 images"), ("count", "970 identities")},
        ),
        (
            "viper",
            ["cam_b/005_180.bmp"],
            {
                ("incomplete", "cam_a/005_90.bmp: identity 005 has no image in cam_b"),
                ("count", "1,262 images"),
                ("count", "631 identities"),
            },
        ),
        (
            "pku_reid",
            ["PKUv1a_128x48/9_2_8.png"],
            {("incomplete", "identity 9: image 2_8"), ("count", "1,823 images")},
        ),
    ],
)
def test_a_missing_image_is_named(dataset, lost, expected):
    files = FILES[dataset](OFFICIAL_SIZES[dataset])
    assert set(lost) < set(files)
    found = problems(dataset, [file for file in files if file not in lost])
    found = {(kind, what.removeprefix("images: ").split(", the")[0]) for kind, what in found}
    assert found == expected


@pytest.mark.parametrize(
    ("dataset", "file", "reason"),
    [
        ("cuhk01", "campus/0001005.png", "expected 0001001.png"),
        ("cuhk01", "campus/0000001.png", "expected 0001001.png"),
        ("cuhk01", "campus/001001.png", "expected 0001001.png"),
        ("cuhk01", "campus/0001001.jpg", "expected 0001001.png"),
        ("viper", "cam_a/000.bmp", "expected 000_45.bmp"),
        ("viper", "cam_b/0_45_a.bmp", "expected 000_45.bmp"),
        ("viper", "cam_a/000_180.bmp", "same identity and camera as cam_a/000_0.bmp"),
        ("pku_reid", "PKUv1a_128x48/1_3_1.png", "expected 1_2_3.png"),
        ("pku_reid", "PKUv1a_128x48/1_1_9.png", "expected 1_2_3.png"),
        ("pku_reid", "PKUv1a_128x48/0_1_1.png", "expected 1_2_3.png"),
        ("pku_reid", "PKUv1a_128x48/1_1.png", "expected 1_2_3.png"),
        ("pku_reid", "PKUv1a_128x48/2_1_03.png", "the same image as PKUv1a_128x48/2_1_03.png"),
    ],
)
def test_an_odd_name_is_named(dataset, file, reason):
    ((kind, what),) = problems(dataset, [*FILES[dataset](OFFICIAL_SIZES[dataset]), file])
    assert kind == "layout"
    assert what.endswith(")")
    assert reason in what
    assert file.rsplit("/", 1)[0] in what


@pytest.mark.parametrize("dataset", MODULES)
def test_another_tree_is_refused(dataset):
    with pytest.raises(ValueError, match="is not this data set"):
        MODULES[dataset].read(names_only(["images/0001001.png"]))


def test_too_few_identities_have_no_partition(tmp_path):
    raw = raw_trees.write_tree(tmp_path / "raw", cuhk01_files(2))
    with pytest.raises(ValueError, match="485-486 has no split"):
        prepare("cuhk01", raw, tmp_path, progress=False)


# ---- partitions

# Written down once: the whole content of the partitions that everyone gets from seed 0.
FINGERPRINTS = {
    ("cuhk01", "485-486"): "8108d96cbaa8dd80",
    ("cuhk01", "871-100"): "3c81ceb6528f3cb8",
    ("viper", "316-316"): "4daf0022027646e5",
    ("pku_reid", "57-57"): "ae9f2575938fb099",
}
SIZES = {
    ("cuhk01", "485-486"): (10, 485, 486),
    ("cuhk01", "871-100"): (20, 871, 100),
    ("viper", "316-316"): (10, 316, 316),
    ("pku_reid", "57-57"): (10, 57, 57),
}


@pytest.mark.parametrize("dataset", MODULES)
def test_official_partitions(dataset):
    count = OFFICIAL_SIZES[dataset]
    _, listing = MODULES[dataset].read(names_only(FILES[dataset](count)))
    assert {(dataset, name) for name in listing.partitions} == {
        key for key in SIZES if key[0] == dataset
    }
    for name, partition in listing.partitions.items():
        num_splits, num_train, num_test = SIZES[dataset, name]
        assert (partition.pool, partition.origin) == ("images", "random, seed 0")
        assert len(partition.splits) == num_splits
        for split in partition.splits:
            assert list(split) == ["train", "test"]
            assert (len(split["train"]), len(split["test"])) == (num_train, num_test)
            assert sorted(split["train"] + split["test"]) == list(range(1, count + 1))
        assert len({tuple(split["test"]) for split in partition.splits}) == num_splits
        assert fingerprint(partition) == FINGERPRINTS[dataset, name]


def test_the_first_identities_of_a_partition():
    _, listing = viper.read(names_only(viper_files(632)))
    splits = listing.partitions["316-316"].splits
    assert splits[0]["train"][:8] == [5, 6, 7, 13, 14, 17, 18, 20]
    assert splits[9]["test"][:8] == [5, 8, 13, 15, 16, 17, 21, 23]


@pytest.mark.parametrize(
    ("dataset", "count", "expected"),
    [
        ("cuhk01", 240, {"485-486": (120, 120), "871-100": (215, 25)}),
        ("cuhk01", 4, {"485-486": (2, 2), "871-100": (3, 1)}),
        ("viper", 160, {"316-316": (80, 80)}),
        ("pku_reid", 5, {"57-57": (3, 2)}),
        ("pku_reid", 3, {"57-57": (2, 1)}),
    ],
)
def test_partitions_of_a_stand_in_are_in_proportion(dataset, count, expected):
    files = [*FILES[dataset](count), "STAND_IN.json"]
    _, listing = MODULES[dataset].read(names_only(files))
    found = {
        name: {(len(split["train"]), len(split["test"])) for split in partition.splits}
        for name, partition in listing.partitions.items()
    }
    assert found == {name: {sizes} for name, sizes in expected.items()}


# ---- stand-ins

WRITERS = {
    "cuhk01": (stand_in.write_cuhk01, "CUHK01", (160, 60)),
    "viper": (stand_in.write_viper, "VIPeR", (128, 48)),
    "pku_reid": (stand_in.write_pku_reid, "PKU-Reid", (128, 48)),
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    raw_dir = tmp_path_factory.mktemp("small_sets")
    return {
        dataset: write(raw_dir, num_identities=6, num_workers=1, progress=False)
        for dataset, (write, _, _) in WRITERS.items()
    }


@pytest.mark.parametrize("dataset", MODULES)
def test_a_stand_in_is_prepared(dataset, trees, tmp_path):
    _, folder, size = WRITERS[dataset]
    assert trees[dataset].name == folder
    card = prepare(dataset, trees[dataset].parent / folder, tmp_path, progress=False)
    assert card["data_source"] == "stand-in"
    assert card["stand_in"]["counts"] == {"identities": 6}
    assert card["counts"]["images"]["identities"] == 6
    source = open_split(tmp_path, dataset, "images")
    assert len(source) == card["stand_in"]["num_images"]
    for row, file in enumerate(source.files):
        assert source[row] == (trees[dataset] / file).read_bytes()
        assert source.image(row, None).shape == (*size, 3)
    for name in MODULES[dataset].PARTITIONS:
        roles = open_partition(tmp_path, dataset, name, 1)
        assert set(roles) == {"train", "test"}
        trained, tested = (set(roles[role].identities.tolist()) for role in ("train", "test"))
        assert trained | tested == set(range(1, 7))
        assert not trained & tested
        assert set(roles["test"].cameras.tolist()) == {1, 2}
        assert len(roles["train"]) + len(roles["test"]) == len(source)


@pytest.mark.parametrize("dataset", MODULES)
def test_a_stand_in_is_reused(dataset, trees):
    write, _, _ = WRITERS[dataset]
    before = {path: path.stat().st_mtime_ns for path in trees[dataset].rglob("*")}
    options = {"num_workers": 1, "progress": False}
    assert write(trees[dataset].parent, num_identities=6, **options) == trees[dataset]
    with pytest.raises(FileExistsError, match="counts is"):
        write(trees[dataset].parent, num_identities=7, **options)
    assert before == {path: path.stat().st_mtime_ns for path in trees[dataset].rglob("*")}


@pytest.mark.parametrize(
    ("dataset", "plan"),
    [
        ("cuhk01", stand_in.cuhk01_plan(971)),
        ("viper", stand_in.viper_plan(632, seed=0)),
        ("pku_reid", stand_in.pku_reid_plan(114)),
    ],
)
def test_the_full_stand_in_has_the_official_counts(dataset, plan):
    _, listing = MODULES[dataset].read(names_only([image.file for image in plan]))
    assert listing.problems == []
    assert listing.official
    assert len({image.identity for image in plan}) == OFFICIAL_SIZES[dataset]


def test_full_is_passed_on(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(stand_in.small_sets, "write_plan", lambda *given: written.append(given))
    for write, _, _ in WRITERS.values():
        write(tmp_path, num_identities=3, full=True, progress=False)
    assert [len(plan) for _, plan, *_ in written] == [3884, 1264, 1824]
    assert all(card["full"] for _, _, card, *_ in written)


def test_plans_name_what_they_show():
    for image in stand_in.viper_plan(40, seed=3):
        folder, number, angle = image.file.replace(".bmp", "").replace("/", "_").rsplit("_", 2)
        assert image.camera % 100 == {"cam_a": 1, "cam_b": 2}[folder]
        assert image.orientation == int(angle) // 45
        assert 0 <= int(number) < 874
    pairs = collections.defaultdict(list)
    for image in stand_in.viper_plan(40, seed=3):
        pairs[image.identity].append(image)
    for one, other in pairs.values():
        assert one.orientation != other.orientation
        assert one.file.split("/")[1].split("_")[0] == other.file.split("/")[1].split("_")[0]
    for image in stand_in.pku_reid_plan(3):
        identity, camera, turn = map(int, image.file.split("/")[1][:-4].split("_"))
        assert (image.identity % 1000, image.camera % 100) == (identity, camera)
        assert image.orientation == turn - 1
    assert stand_in.viper_plan(40, seed=3) != stand_in.viper_plan(40, seed=4)


def test_data_sets_have_pedestrians_and_cameras_of_their_own():
    plans = [
        stand_in.cuhk01_plan(971),
        stand_in.viper_plan(632, seed=0),
        stand_in.pku_reid_plan(114),
        stand_in.market1501_plan(stand_in.MARKET1501_FULL, seed=0),
    ]
    for attribute in ("identity", "camera"):
        sets = [{getattr(image, attribute) for image in plan} for plan in plans]
        assert len(set.union(*sets)) == sum(map(len, sets))


def test_the_cameras_of_a_stand_in_differ_in_colour(trees):
    for dataset, tree in trees.items():
        colours = {1: [], 2: []}
        files = [path.relative_to(tree).as_posix() for path in tree.rglob("*.*")]
        _, listing = MODULES[dataset].read(names_only(files))
        for record in listing.splits["images"]:
            colours[record.camera].append(cv2.imread(str(tree / record.file)).mean((0, 1)))
        one, two = (np.mean(colours[camera], axis=0) for camera in (1, 2))
        assert np.abs(one - two).max() > 5


@pytest.mark.parametrize(
    ("write", "number"), [(stand_in.write_cuhk01, 10_000), (stand_in.write_pku_reid, 0)]
)
def test_impossible_numbers_are_refused(write, number, tmp_path):
    with pytest.raises(ValueError, match=f"num_identities is {number}; expected 1 to"):
        write(tmp_path, num_identities=number, progress=False)


def test_command_line_of_the_renderer(tmp_path, capsys):
    arguments = [f"--raw_dir={tmp_path}", "--num_workers=1"]
    assert render_main(["viper", "--num_identities=3", *arguments]) == 0
    assert len(list((tmp_path / "VIPeR").rglob("*.bmp"))) == 6
    assert json.loads((tmp_path / "VIPeR" / stand_in.CARD).read_text())["dataset"] == "viper"
    with pytest.raises(SystemExit):
        render_main(["market1501", "--num_identities=3", *arguments])
    assert "--num_identities is not for market1501" in capsys.readouterr().err


# ---- through the command


def test_skipping_a_bad_image(tmp_path):
    files = pku_reid_files(4)
    raw = raw_trees.write_tree(tmp_path / "raw", files)
    (raw / files[5]).write_bytes(b"")
    (raw / "PKUv1a_128x48" / "notes_1_1.png").write_bytes(raw_trees.noise("x"))
    with pytest.raises(ValueError, match="2 problems") as raised:
        prepare("pku_reid", raw, tmp_path, progress=False)
    assert "name that this data set does not have (1)" in str(raised.value)
    assert "empty image file (1); to fix it: copy these files again, or leave" in str(raised.value)
    card = prepare("pku_reid", raw, tmp_path, skip_bad_images=True, progress=False)
    assert card["counts"]["images"]["images"] == 63
    assert card == dataset_card(tmp_path, "pku_reid")
