import shutil

import cv2
import numpy as np
import pytest

from data_prep import oxford5k
from data_prep.prepare import prepare
from data_prep.raw import open_raw
from references import raw_trees
from reid_jax.data import (
    batches_by_size,
    dataset_card,
    image_sizes,
    landmark_queries,
    open_split,
    query_image,
    rounded_sizes,
)

IMAGES = [f"keble_{number:06d}" for number in range(6)] + ["oxford_000001", "oxford_000009"]
TRUTH = {
    "keble_1": ("oxc1_keble_000002 2.5 1.2 11.3 9", [2, 0], [4], [3]),
    "keble_2": ("oxc1_keble_000000 0 0 20 16", [0, 2], [4], [3]),
    "new_1": ("oxc1_oxford_000001 4.0 3.0 9.0 15.5", [6], [], [0, 5]),
}


def size_of(number):
    return [(16, 20), (20, 16), (12, 20)][number % 3]


def write_tree(root, *, images="oxbuild_images", truth="gt_files_170407", stand_in=True):
    for number, name in enumerate(IMAGES):
        path = root / images / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw_trees.noise(name, size=size_of(number)))
    (root / truth).mkdir(parents=True, exist_ok=True)
    for query, (region, *lists) in TRUTH.items():
        (root / truth / f"{query}_query.txt").write_text(f"{region}\n")
        for kind, rows in zip(("good", "ok", "junk"), lists, strict=True):
            text = "".join(f"{IMAGES[row]}\n" for row in rows)
            (root / truth / f"{query}_{kind}.txt").write_text(text)
    if stand_in:
        (root / "STAND_IN.json").write_text('{"seed": 3}')
    return root


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "raw")


def run(raw_dir, data_dir, **options):
    return prepare("oxford5k", raw_dir, data_dir, progress=False, **options)


def test_oxford5k(tmp_path, tree):
    card = run(tree, tmp_path / "data")
    assert card == dataset_card(tmp_path / "data", "oxford5k")
    assert card["has_cameras"] is False
    assert list(card["counts"]) == ["images"]
    source = open_split(tmp_path / "data", "oxford5k", "images")
    assert list(source.files) == [f"oxbuild_images/{name}.jpg" for name in IMAGES]
    assert set(source.identities.tolist()) == {0}
    assert source.cameras is None
    assert card["queries"][0] == {
        "name": "keble_1",
        "file": "oxbuild_images/keble_000002.jpg",
        "box": [2.5, 1.2, 11.3, 9.0],
        "good": ["oxbuild_images/keble_000002.jpg", "oxbuild_images/keble_000000.jpg"],
        "ok": ["oxbuild_images/keble_000004.jpg"],
        "junk": ["oxbuild_images/keble_000003.jpg"],
    }
    queries = landmark_queries(tmp_path / "data", source)
    assert [query.name for query in queries] == ["keble_1", "keble_2", "new_1"]
    for query, (_, *lists) in zip(queries, TRUTH.values(), strict=True):
        assert [query.good.tolist(), query.ok.tolist(), query.junk.tolist()] == lists
    assert [query.row for query in queries] == [2, 0, 6]


@pytest.mark.parametrize(
    ("images", "truth"),
    [
        ("oxbuild_images", "gt_files_170407"),
        ("jpg", "lab"),
        (".", "."),
        (".", "gt"),
        ("images", "."),
    ],
)
def test_names_of_the_folders_are_free(tmp_path, images, truth):
    write_tree(tmp_path / "above" / "raw", images=images, truth=truth)
    card = run(tmp_path / "above", tmp_path / "data")
    files = open_split(tmp_path / "data", "oxford5k", "images").files
    assert [file.rsplit("/", 1)[-1] for file in files] == [f"{name}.jpg" for name in IMAGES]
    assert [query["name"] for query in card["queries"]] == list(TRUTH)


def test_zip_equals_folder(tmp_path, tree):
    archive = raw_trees.zip_tree(tree, tmp_path / "packed.zip", top="Oxford")
    assert run(archive, tmp_path / "a")["queries"] == run(tree, tmp_path / "b")["queries"]


def test_edited_ground_truth_is_another_data_set(tmp_path, tree):
    first = run(tree, tmp_path / "data")
    assert run(tree, tmp_path / "data") == first
    (tree / "gt_files_170407" / "new_1_junk.txt").write_text("keble_000005\n")
    with pytest.raises(ValueError, match="already prepared"):
        run(tree, tmp_path / "data")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "keble_1_good.txt",
            "keble_000099\n",
            "keble_1_good.txt line 1: there is no image keble_0",
        ),
        (
            "keble_1_ok.txt",
            "\nkeble_000000\n",
            "keble_1_ok.txt line 2: keble_000000 is listed twice",
        ),
        ("keble_1_query.txt", "oxc1_keble_000099 1 2 3 4", "there is no image keble_000099"),
        ("keble_1_query.txt", "", "expected an image and its box, x1 y1 x2 y2, got ''"),
        ("keble_1_query.txt", "oxc1_keble_000002 1 2 3", "expected an image and its box"),
        ("keble_1_query.txt", "oxc1_keble_000002 1 2 3 x", "expected an image and its box"),
        ("keble_1_query.txt", "oxc1_keble_000002 5 2 5 9", "the box 5 2 5 9 .* is empty"),
        ("keble_1_query.txt", "oxc1_keble_000002 5 9 7 2", "the box 5 9 7 2 .* is empty"),
        ("keble_1_query.txt", "oxc1_keble_000002 1 2 nan 9", "the box 1 2 nan 9 .* is empty"),
        ("keble_1_query.txt", "oxc1_keble_000002 1 2 23 9", "leaves its image, 20 x 12 pixels"),
        ("keble_1_query.txt", "oxc1_keble_000002 -2 2 9 9", "leaves its image"),
        ("keble_1_query.txt", "oxc1_keble_000002 20 2 20.5 9", "leaves its image"),
        ("keble_1_ok.txt", None, "gt_files_170407/keble_1_ok.txt is missing"),
        ("keble_1_query.txt", None, "gt_files_170407/keble_1_query.txt is missing"),
        ("new_1_good.txt", "", "new_1: no image in .*new_1_good.txt or .*new_1_ok.txt"),
    ],
)
def test_ground_truth_that_is_wrong(tmp_path, tree, file, text, message):
    path = tree / "gt_files_170407" / file
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        run(tree, tmp_path / "data", skip_bad_images=True)
    assert "ground truth of the queries that cannot be used (1)" in str(error.value)


def test_a_box_may_leave_the_image_by_a_fraction(tmp_path, tree):
    path = tree / "gt_files_170407" / "keble_1_query.txt"
    path.write_text("oxc1_keble_000002 -0.4 2 20.7 12.3\r\n")
    assert run(tree, tmp_path / "data")["queries"][0]["box"] == [0, 2, 20, 12]


def test_all_problems_at_once(tmp_path, tree):
    (tree / "oxbuild_images" / "keble_000002.jpg").unlink()
    (tree / "oxbuild_images" / "oxford_000009.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="oxford5k: 4 problems") as error:
        run(tree, tmp_path / "data")
    assert "no image keble_000002" in str(error.value)
    assert "empty image file (1)" in str(error.value)


def test_two_images_of_one_name(tmp_path, tree):
    shutil.copy(tree / "oxbuild_images/keble_000005.jpg", tree / "oxbuild_images/keble_000005.JPEG")
    with pytest.raises(ValueError, match="have the same name in the ground truth"):
        run(tree, tmp_path / "data")


def test_bad_images_are_left_out_of_the_queries(tmp_path, tree, capsys):
    for name in ("keble_000002", "oxford_000001"):
        (tree / "oxbuild_images" / f"{name}.jpg").write_bytes(b"no image")
    card = run(tree, tmp_path / "data", skip_bad_images=True)
    assert [query["name"] for query in card["queries"]] == ["keble_2"]
    assert card["queries"][0]["good"] == ["oxbuild_images/keble_000000.jpg"]
    assert card["counts"]["images"]["images"] == 6
    assert "left out 2 queries" in capsys.readouterr().out


def test_official_counts(tmp_path, monkeypatch):
    raw = write_tree(tmp_path / "raw", stand_in=False)
    with pytest.raises(ValueError, match="wrong count") as error:
        run(raw, tmp_path / "data")
    assert "images: 8 images, the official set has 5,062" in str(error.value)
    assert "3 queries, the official set has 55" in str(error.value)
    # The archive holds one image more than the page of the data set counts.
    monkeypatch.setattr(oxford5k, "OFFICIAL", {"images": {"images": 8}})
    monkeypatch.setattr(oxford5k, "NUM_QUERIES", 3)
    assert oxford5k.read(open_raw(raw))[1].notes == []
    extra = raw / "oxbuild_images" / "ashmolean_000214.jpg"
    extra.write_bytes(raw_trees.noise("extra"))
    card = run(raw, tmp_path / "data")
    assert card["data_source"] == "official"
    assert card["counts"]["images"]["images"] == 9


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("oxbuild_images", "found images in no folder, and ground truth in gt_files_170407"),
        ("gt_files_170407", "found images in oxbuild_images, and ground truth in no folder"),
    ],
)
def test_half_of_the_data_set(tmp_path, tree, missing, message):
    shutil.rmtree(tree / missing)
    with pytest.raises(ValueError, match=message):
        run(tree, tmp_path / "data")


def test_two_folders_of_images(tmp_path, tree):
    raw_trees.write_tree(tree, ["thumbnails/a.jpg"])
    with pytest.raises(ValueError, match="found images in oxbuild_images, thumbnails"):
        run(tree, tmp_path / "data")


def test_nothing_can_be_carved(tmp_path, tree):
    with pytest.raises(ValueError, match="no train split"):
        run(tree, tmp_path / "data", num_test_identities=1)


# ---- reading it


@pytest.fixture
def opened(tmp_path, tree):
    run(tree, tmp_path / "data")
    source = open_split(tmp_path / "data", "oxford5k", "images")
    return source, landmark_queries(tmp_path / "data", source)


def test_crops_hold_every_pixel_that_the_box_touches(opened):
    source, queries = opened
    assert [query.size for query in queries] == [(8, 10), (16, 20), (13, 5)]
    for query in queries:
        whole = source.image(query.row, None)
        x1, y1, x2, y2 = query.box
        expected = [
            [whole[y, x] for x in range(whole.shape[1]) if x + 1 > x1 and x < x2]
            for y in range(whole.shape[0])
            if y + 1 > y1 and y < y2
        ]
        np.testing.assert_array_equal(query_image(source, query, None), expected)
    resized = query_image(source, queries[0], (16, 12))
    expected = cv2.resize(query_image(source, queries[0], None), (12, 16))
    np.testing.assert_array_equal(resized, expected)


def test_sizes_and_batches(opened):
    source, queries = opened
    sizes = image_sizes(source, progress=False)
    assert sizes.tolist() == [list(size_of(number)) for number in range(len(IMAGES))]
    groups = [np.array([0, 3, 6]), np.array([1]), np.array([5, 2])]
    found = list(batches_by_size(groups, read=source.image, sizes=sizes))
    assert [batch.shape for batch in found] == [(3, 16, 20, 3), (1, 20, 16, 3), (2, 12, 20, 3)]
    for group, batch in zip(groups, found, strict=True):
        for row, image in zip(group, batch, strict=True):
            np.testing.assert_array_equal(image, source.image(row, None))

    def crop(row, size):
        return query_image(source, queries[row], size)

    rounded = rounded_sizes(np.array([query.size for query in queries]), 8)
    assert rounded.tolist() == [[8, 8], [16, 24], [16, 8]]
    found = list(batches_by_size([np.array([1]), np.array([2])], read=crop, sizes=rounded))
    assert [batch.shape for batch in found] == [(1, 16, 24, 3), (1, 16, 8, 3)]


def test_rounded_sizes():
    sizes = np.array([(1, 15), (16, 47), (48, 49), (1024, 681)])
    assert rounded_sizes(sizes, 32).tolist() == [[32, 32], [32, 32], [64, 64], [1024, 672]]
    np.testing.assert_array_equal(rounded_sizes(sizes, 1), sizes)
    found = rounded_sizes(sizes, 32, smallest=39)
    assert found.tolist() == [[64, 64], [64, 64], [64, 64], [1024, 672]]
    with pytest.raises(ValueError, match="multiple is 0"):
        rounded_sizes(sizes, 0)


def test_data_sets_without_queries(tmp_path):
    raw = raw_trees.write_tree(tmp_path / "raw", [f"{i}/{n}.png" for i in "ab" for n in "12"])
    prepare("landmarks", raw, tmp_path / "data", progress=False)
    source = open_split(tmp_path / "data", "landmarks", "train")
    with pytest.raises(ValueError, match=r"landmarks in .* has no queries with boxes"):
        landmark_queries(tmp_path / "data", source)


# ---- landmarks to train on


def test_landmarks(tmp_path):
    names = ("Big Ben", "arc", "0042")
    files = [f"{name}/{number}.jpg" for name in names for number in range(3)]
    raw = raw_trees.write_tree(tmp_path / "raw", files, stand_in=False)
    card = prepare("landmarks", raw, tmp_path / "data", progress=False)
    assert list(card["counts"]) == ["train"]
    assert card["data_source"] == "custom"
    assert card["identity_names"] == ["0042", "Big Ben", "arc"]
    source = open_split(tmp_path / "data", "landmarks", "train")
    assert source.cameras is None
    assert source.identities.tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    card = prepare("landmarks", raw, tmp_path / "v", num_val_identities=1, progress=False)
    assert sorted(card["counts"]) == ["train", "val_gallery", "val_query"]


def test_landmarks_have_no_cameras(tmp_path, capsys):
    files = [f"{name}/0001_c{number}_.jpg" for name in "ab" for number in (1, 2)]
    raw = raw_trees.write_tree(tmp_path / "raw", files, stand_in=False)
    card = prepare("landmarks", raw, tmp_path / "data", progress=False)
    assert card["has_cameras"] is False
    assert "cameras were found in the data set, and are not used" in capsys.readouterr().out


@pytest.mark.parametrize(
    "files",
    [
        ["0001_c1_a.jpg", "0002_c1_b.jpg"],
        [f"{split}/000{n}_c{n}_1.jpg" for split in ("train", "query", "gallery") for n in (1, 2)],
    ],
)
def test_unsorted_landmarks(tmp_path, files):
    raw = raw_trees.write_tree(tmp_path / "raw", files, stand_in=False)
    with pytest.raises(ValueError, match="expected one sub-folder of photographs per landmark"):
        prepare("landmarks", raw, tmp_path / "data", progress=False)
