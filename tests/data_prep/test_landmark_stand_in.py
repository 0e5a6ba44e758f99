import collections
import json

import cv2
import numpy as np
import pytest

from data_prep import stand_in
from data_prep.prepare import prepare
from data_prep.stand_in.landmark_photos import KINDS, landmark_box, visible_share
from reid_jax.data import dataset_card, landmark_queries, open_split

SIZE = (48, 64)
SMALL = {
    "num_landmarks": 2,
    "num_good": 6,
    "num_ok": 3,
    "num_junk": 2,
    "num_streets": 7,
    "long_side": 48,
    "progress": False,
}


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (31, 77)])
@pytest.mark.parametrize("kind", KINDS)
def test_photographs_have_the_size_asked_for(size, kind):
    image = stand_in.render_landmark(0, 3, 1, kind=kind, size=size)
    assert image.shape == (*size, 3)
    assert image.dtype == np.uint8
    assert image.std() > 5


def test_photographs_are_pure_functions():
    def photographs(order):
        pictures = {n: stand_in.render_landmark(5, 1 + n % 2, n, size=SIZE) for n in order}
        return [pictures[n] for n in range(4)]

    np.testing.assert_array_equal(photographs(range(4)), photographs(reversed(range(4))))
    street = stand_in.render_street(5, 0, size=SIZE)
    np.testing.assert_array_equal(street, stand_in.render_street(5, 0, size=SIZE))


@pytest.mark.parametrize("change", [{"seed": 8}, {"landmark": 6}, {"index": 1}, {"kind": "ok"}])
def test_every_argument_counts(change):
    arguments = {"seed": 7, "landmark": 5, "index": 0, "kind": "good", "size": SIZE}
    base = stand_in.render_landmark(**arguments)
    assert not np.array_equal(base, stand_in.render_landmark(**{**arguments, **change}))
    street = stand_in.render_street(7, 0, size=SIZE)
    assert not np.array_equal(street, stand_in.render_street(7, 1, size=SIZE))


def test_kinds_show_as_much_as_they_promise():
    for kind, (low, high) in KINDS.items():
        for landmark in range(1, 7):
            assert low <= visible_share(0, landmark, 0, kind=kind, size=SIZE) <= high
    # As Oxford5k words it: ok is more than a quarter, junk less.
    assert KINDS["junk"][1] < 0.25 < KINDS["ok"][0]
    with pytest.raises(ValueError, match="kind is 'bad'; expected good, ok, junk"):
        stand_in.render_landmark(0, 1, 0, kind="bad", size=SIZE)


def test_boxes_lie_in_their_photographs():
    for landmark in range(1, 7):
        for kind in KINDS:
            x1, y1, x2, y2 = landmark_box(0, landmark, 2, kind=kind, size=SIZE)
            assert 0 <= x1 < x2 <= SIZE[1]
            assert 0 <= y1 < y2 <= SIZE[0]


def test_a_landmark_resembles_itself():
    """Colours of the middle, without any camera between: same landmarks are nearer than others."""

    def colours(index):
        pictures = []
        for landmark in range(1, 13):
            image = stand_in.render_landmark(0, landmark, index, size=SIZE)
            x1, y1, x2, y2 = map(int, landmark_box(0, landmark, index, size=SIZE))
            crop = cv2.resize(image[y1:y2, x1:x2], (4, 4), interpolation=cv2.INTER_AREA)
            crop = crop.astype(float)
            pictures.append((crop / crop.mean()).ravel())
        return np.array(pictures)

    first, second = colours(0), colours(1)
    distance = np.linalg.norm(first[:, None] - second[None], axis=-1)
    others = ~np.eye(len(distance), dtype=bool)
    assert np.diag(distance).mean() < 0.8 * distance[others].mean()


# ---- plans


def test_full_oxford5k_has_the_official_counts():
    plan = stand_in.oxford5k_plan(seed=0, long_side=256, **stand_in.OXFORD5K_FULL)
    files = [photo.file for photo in plan]
    assert len(files) == len(set(files)) == 5062
    assert files == sorted(files)
    queries = [photo for photo in plan if photo.kind == "good" and photo.index < 5]
    assert len(queries) == 55
    assert len({photo.size for photo in plan}) == 4


def test_plans_follow_the_seed():
    counts = {"num_landmarks": 3, "num_good": 5, "num_ok": 1, "num_junk": 0, "num_streets": 9}

    def plan(seed):
        return stand_in.oxford5k_plan(seed=seed, long_side=64, **counts)

    assert plan(1) == plan(1)
    assert plan(1) != plan(2)
    test = {photo.landmark for photo in plan(1)}
    train = stand_in.landmarks_plan(seed=1, num_landmarks=70, images_per_landmark=2, long_side=64)
    assert not test & {photo.landmark for photo in train}
    assert len({photo.landmark for photo in train}) == 70


def test_impossible_counts_are_refused(tmp_path):
    with pytest.raises(ValueError, match="num_landmarks is 12; expected 1 to 11"):
        stand_in.write_oxford5k(tmp_path, num_landmarks=12)
    with pytest.raises(ValueError, match="num_good is 4; each of the 5 queries"):
        stand_in.write_oxford5k(tmp_path, num_good=4)


# ---- trees


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return stand_in.write_oxford5k(tmp_path_factory.mktemp("oxford"), num_workers=1, **SMALL)


def test_oxford5k_tree_is_prepared_like_the_official_one(tree, tmp_path):
    card = json.loads((tree / stand_in.CARD).read_text())
    assert (card["dataset"], card["seed"], card["num_images"]) == ("oxford5k", 0, 29)
    prepared = prepare("oxford5k", tree, tmp_path, progress=False)
    assert prepared == dataset_card(tmp_path, "oxford5k")
    assert prepared["data_source"] == "stand-in"
    source = open_split(tmp_path, "oxford5k", "images")
    assert len(source) == 29
    queries = landmark_queries(tmp_path, source)
    assert [query.name for query in queries] == [
        f"{name}_{number}" for name in ("all_souls", "ashmolean") for number in range(1, 6)
    ]
    for query in queries:
        assert [len(rows) for rows in (query.good, query.ok, query.junk)] == [6, 3, 2]
        assert query.row in query.good
        assert min(query.size) > 4
    assert len({query.row for query in queries}) == 10


def test_two_processes_write_what_one_writes(tree, tmp_path):
    again = stand_in.write_oxford5k(tmp_path, num_workers=2, **SMALL)

    def contents(root):
        files = [path for path in root.rglob("*") if path.is_file()]
        return {path.relative_to(root): path.read_bytes() for path in files}

    assert contents(again) == contents(tree)


def test_a_complete_tree_is_reused_and_never_overwritten(tree):
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    assert stand_in.write_oxford5k(tree.parent, num_workers=1, **SMALL) == tree
    with pytest.raises(FileExistsError, match="seed is 0, not 1"):
        stand_in.write_oxford5k(tree.parent, seed=1, num_workers=1, **SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in tree.rglob("*")}


def test_landmarks_tree(tmp_path):
    counts = {"num_landmarks": 3, "images_per_landmark": 4, "long_side": 40}
    tree = stand_in.write_landmarks(tmp_path, num_workers=1, progress=False, **counts)
    folders = collections.Counter(path.parent.name for path in tree.rglob("*.jpg"))
    assert folders == dict.fromkeys(("landmark_0001", "landmark_0002", "landmark_0003"), 4)
    card = prepare("landmarks", tree, tmp_path / "data", progress=False)
    assert card["data_source"] == "stand-in"
    assert card["counts"]["train"]["identities"] == 3
