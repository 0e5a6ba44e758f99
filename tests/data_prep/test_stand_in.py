import collections
import json
import re

import cv2
import numpy as np
import pytest

from data_prep import stand_in
from data_prep.stand_in import writers
from data_prep.stand_in.__main__ import main
from data_prep.stand_in.draws import Draws

NAME = re.compile(r"(-?\d+)_c(\d)")
SMALL = {
    "num_train_identities": 5,
    "num_test_identities": 4,
    "train_images_per_identity": 6.0,
    "num_distractors": 7,
    "num_junk": 5,
    "progress": False,
}


def parsed(files):
    found = [NAME.match(file.rsplit("/", 1)[-1]) for file in files]
    assert all(found)
    return [(int(match[1]), int(match[2])) for match in found]


def folder_of(plan, name):
    return [image for image in plan if image.file.startswith(f"{name}/")]


def contents(tree):
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*.*")}


# ---- the numbers behind everything


def test_draws_do_not_depend_on_other_streams():
    first = Draws(3, "body", 5, 2, 1)
    alone = [first.uniform() for _ in range(40)]
    second, other = Draws(3, "body", 5, 2, 1), Draws(3, "body", 5, 2, 2)
    mixed = []
    for _ in range(40):
        other.uniform()
        mixed.append(second.uniform())
    assert alone == mixed
    assert Draws(3, "clothes", 5, 2, 1).uniform() != alone[0]
    assert Draws(4, "body", 5, 2, 1).uniform() != alone[0]


def test_draws_are_the_same_in_every_numpy_version():
    # Raw Philox bits; written down once. A change here changes every picture.
    draws = Draws(1, "golden", 2)
    assert [draws.integer(1000) for _ in range(3)] == [315, 167, 900]
    assert Draws(1, "golden", 2).order(6).tolist() == [0, 3, 2, 5, 4, 1]


def test_draws_have_the_moments_they_promise():
    noise = Draws(0, "noise").noise((200, 200))
    draws = Draws(0, "bell")
    bell = np.array([draws.bell(2.0) for _ in range(4000)])
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    assert abs(bell.mean()) < 0.15
    assert abs(bell.std() - 2) < 0.1
    assert sorted(draws.order(50).tolist()) == list(range(50))
    picks = collections.Counter(draws.pick("ab", [3, 1]) for _ in range(2000))
    assert 0.7 < picks["a"] / 2000 < 0.8


# ---- single images


@pytest.mark.parametrize("size", [(128, 64), (128, 48), (160, 60), (231, 97), (48, 24)])
def test_render_gives_the_size_asked_for(size):
    image = stand_in.render(0, 1, 2, 3, size=size)
    assert image.shape == (*size, 3)
    assert image.dtype == np.uint8
    assert stand_in.render_distractor(0, 2, 3, size=size).shape == (*size, 3)


def test_render_is_a_pure_function():
    first = [stand_in.render(7, identity, 1, 0) for identity in range(4)]
    again = [stand_in.render(7, identity, 1, 0) for identity in reversed(range(4))][::-1]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "change", [{"seed": 8}, {"identity": 6}, {"camera_number": 2}, {"index": 1}, {"box": "drawn"}]
)
def test_every_argument_of_render_counts(change):
    arguments = {"seed": 7, "identity": 5, "camera_number": 1, "index": 0}
    base = stand_in.render(**arguments)
    assert not np.array_equal(base, stand_in.render(**{**arguments, **change}))


def test_render_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="box is 'loose'"):
        stand_in.render(0, 1, 1, 0, box="loose")
    with pytest.raises(ValueError, match="orientation is 8"):
        stand_in.render(0, 1, 1, 0, orientation=8)


def test_orientations_differ_and_repeat():
    images = [stand_in.render(0, 3, 1, 0, orientation=turn) for turn in range(8)]
    for first in range(8):
        for second in range(first):
            assert np.abs(images[first].astype(int) - images[second]).mean() > 1
    np.testing.assert_array_equal(images[2], stand_in.render(0, 3, 1, 0, orientation=2))


def test_neutral_cameras_make_an_identity_resemble_itself():
    """Without cameras' colours and the rest, colour alone tells most identities apart."""
    plain = stand_in.Difficulty(
        camera_colour=0, camera_blur=0, camera_noise=0, light_spread=0, occlusion_rate=0,
        crowd_rate=0, misalignment=0,
    )  # fmt: skip

    def means(index, difficulty):
        images = [
            stand_in.render(0, identity, 1 + identity % 3, index, difficulty=difficulty)
            for identity in range(24)
        ]
        small = [
            cv2.resize(image[:, 20:44], (1, 12), interpolation=cv2.INTER_AREA) for image in images
        ]
        return np.stack(small).reshape(24, -1).astype(float)

    first, second = means(0, plain), means(1, plain)
    distance = np.linalg.norm(first[:, None] - second[None], axis=-1)
    within = np.diag(distance).mean()
    across = distance[~np.eye(24, dtype=bool)].mean()
    assert within < 0.6 * across


def test_cameras_differ_more_than_identities():
    """The default cameras are strong: raw pixels say more about the camera than the identity."""
    images = np.stack(
        [
            [stand_in.render(0, identity, camera, 0) for camera in range(1, 7)]
            for identity in range(1, 13)
        ]
    )
    colour = images.reshape(12, 6, -1, 3).mean(2)
    assert colour.mean(0).var(0).sum() > colour.mean(1).var(0).sum()


# ---- plans: official counts without rendering


def test_full_market1501_has_the_official_counts():
    plan = stand_in.market1501_plan(stand_in.MARKET1501_FULL, seed=0)
    train, query = folder_of(plan, "bounding_box_train"), folder_of(plan, "query")
    test, drawn = folder_of(plan, "bounding_box_test"), folder_of(plan, "gt_bbox")
    assert [len(part) for part in (train, query, test, drawn)] == [12_936, 3_368, 19_732, 25_259]
    identities = [identity for identity, _ in parsed(image.file for image in test)]
    assert identities.count(0) == 2_798
    assert identities.count(-1) == 3_819
    train_ids = {identity for identity, _ in parsed(image.file for image in train)}
    query_ids = {identity for identity, _ in parsed(image.file for image in query)}
    assert (len(train_ids), len(query_ids)) == (751, 750)
    assert train_ids | query_ids == set(range(1, 1502))
    assert set(identities) - {0, -1} == query_ids


def test_full_dukemtmc_has_the_official_counts():
    plan = stand_in.dukemtmc_plan(stand_in.DUKEMTMC_FULL, seed=0)
    train, query = folder_of(plan, "bounding_box_train"), folder_of(plan, "query")
    test = folder_of(plan, "bounding_box_test")
    assert [len(part) for part in (train, query, test)] == [16_522, 2_228, 17_661]
    sets = [{p for p, _ in parsed(image.file for image in part)} for part in (train, query, test)]
    assert [len(part) for part in sets] == [702, 702, 1_110]
    assert not sets[0] & sets[2]
    assert sets[1] < sets[2]
    assert {camera for _, camera in parsed(image.file for image in plan)} == set(range(1, 9))
    assert len({image.size for image in plan}) > 1000


def small_plans(seed):
    market = stand_in.MarketCounts(20, 70, 230, 15, 55, 120, 31, 17, 90, 130)
    duke = stand_in.DukeCounts(20, 70, 230, 15, 55, 9, 160)
    return {
        "market": stand_in.market1501_plan(market, seed=seed),
        "duke": stand_in.dukemtmc_plan(duke, seed=seed),
    }


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["market", "duke"])
def test_plans_keep_the_rules_of_the_data_sets(name, seed):
    plan = small_plans(seed)[name]
    files = [image.file for image in plan]
    assert files == sorted(set(files))
    cameras_of = collections.defaultdict(set)
    for image, (identity, camera) in zip(plan, parsed(files), strict=True):
        assert camera == image.camera
        assert identity in (image.identity, -1)
        if not image.file.startswith(("gt_bbox/", "query/")):
            cameras_of[identity].add(camera)
    query = parsed(image.file for image in folder_of(plan, "query"))
    assert len(query) == len(set(query))  # one per identity and camera
    gallery = set(parsed(image.file for image in folder_of(plan, "bounding_box_test")))
    assert set(query) <= gallery
    for identity in {identity for identity, _ in query}:
        assert len(cameras_of[identity]) >= 2
    for identity in {p for p, _ in parsed(i.file for i in folder_of(plan, "bounding_box_train"))}:
        assert len(cameras_of[identity]) >= 2
    # No two images of an identity are the same picture, but a query is one of the drawn boxes.
    keys = [
        (image.identity, image.camera, image.index)
        for image in plan
        if not image.file.startswith("gt_bbox/")
    ]
    assert len(keys) == len(set(keys))


def test_gt_bbox_holds_the_queries():
    plan = small_plans(0)["market"]
    drawn = {image.file.split("/")[1]: image for image in folder_of(plan, "gt_bbox")}
    for query in folder_of(plan, "query"):
        twin = drawn[query.file.split("/")[1]]
        assert (twin.identity, twin.camera, twin.index, twin.kind) == (
            query.identity, query.camera, query.index, query.kind,
        )  # fmt: skip


def test_plans_follow_the_seed():
    assert small_plans(3) == small_plans(3)
    assert small_plans(3) != small_plans(4)


def test_distractors_500k_parses_to_identity_zero():
    plan = stand_in.distractors_500k_plan(5_000)
    files = [image.file for image in plan]
    assert files == sorted(set(files))
    assert len(files) == 5_000
    assert {identity for identity, _ in parsed(files)} == {0}
    assert {camera for _, camera in parsed(files)} == set(range(1, 7))


def test_impossible_counts_are_refused():
    counts = stand_in.MarketCounts(5, 9, 60, 4, 9, 20, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="expected 10 to 30"):
        stand_in.market1501_plan(counts, seed=0)
    counts = stand_in.MarketCounts(5, 12, 11, 4, 9, 20, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="11 images are too few for 12 pairs"):
        stand_in.market1501_plan(counts, seed=0)


# ---- trees on disk


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    raw_dir = tmp_path_factory.mktemp("market")
    return stand_in.write_market1501(raw_dir, num_workers=1, **SMALL)


def test_market1501_tree(market):
    assert market.name == "Market-1501-v15.09.15"
    assert {path.name for path in market.iterdir()} == {
        "bounding_box_train", "bounding_box_test", "query", "gt_bbox", "STAND_IN.json",
    }  # fmt: skip
    card = json.loads((market / stand_in.CARD).read_text())
    assert card["dataset"] == "market1501"
    assert card["renderer_version"] == stand_in.RENDERER_VERSION
    assert (card["seed"], card["full"], card["size"]) == (0, False, [128, 64])
    images = sorted(market.rglob("*.jpg"))
    assert len(images) == card["num_images"]
    for path in images:
        assert cv2.imread(str(path)).shape == (128, 64, 3)
    for path in (market / "query").iterdir():
        assert (market / "gt_bbox" / path.name).read_bytes() == path.read_bytes()
    assert not market.with_name(market.name + ".partial").exists()


def test_two_processes_write_what_one_writes(market, tmp_path):
    again = stand_in.write_market1501(tmp_path, num_workers=2, **SMALL)
    assert contents(again) == contents(market)


def test_a_complete_tree_is_reused_and_never_overwritten(market):
    before = {path: path.stat().st_mtime_ns for path in market.rglob("*")}
    assert stand_in.write_market1501(market.parent, num_workers=1, **SMALL) == market
    with pytest.raises(FileExistsError, match="seed is 0, not 1"):
        stand_in.write_market1501(market.parent, seed=1, num_workers=1, **SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in market.rglob("*")}


def test_an_official_tree_is_never_touched(tmp_path):
    official = tmp_path / "Market-1501-v15.09.15" / "query"
    official.mkdir(parents=True)
    with pytest.raises(FileExistsError, match="not a stand-in"):
        stand_in.write_market1501(tmp_path, num_workers=1, **SMALL)
    assert official.is_dir()


def test_a_killed_run_leaves_no_tree(tmp_path, monkeypatch):
    original, done = writers.encoded, []

    def fails_later(picture, suffix):
        done.append(1)
        if len(done) > 20:
            raise OSError(28, "No space left on device")
        return original(picture, suffix)

    monkeypatch.setattr(writers, "encoded", fails_later)
    with pytest.raises(OSError, match="No space left"):
        stand_in.write_market1501(tmp_path, num_workers=1, **SMALL)
    assert list(tmp_path.iterdir()) == []
    # What a kill leaves is only the partial folder; the next run clears it.
    monkeypatch.undo()
    (tmp_path / "Market-1501-v15.09.15.partial" / "query").mkdir(parents=True)
    tree = stand_in.write_market1501(tmp_path, num_workers=1, **SMALL)
    assert list(tmp_path.iterdir()) == [tree]


def test_dukemtmc_tree(tmp_path):
    tree = stand_in.write_dukemtmc(
        tmp_path, num_train_identities=4, num_test_identities=4, num_distractor_identities=2,
        num_workers=1, progress=False,
    )  # fmt: skip
    assert tree.name == "DukeMTMC-reID"
    images = sorted(tree.rglob("*.jpg"))
    assert len(images) == json.loads((tree / stand_in.CARD).read_text())["num_images"]
    shapes = {cv2.imread(str(path)).shape[:2] for path in images}
    assert len(shapes) > 10
    assert all(height > width for height, width in shapes)
    assert all(re.fullmatch(r"\d{4}_c\d_f\d{7}\.jpg", path.name) for path in images)


def test_distractors_500k_tree(tmp_path):
    tree = stand_in.write_distractors_500k(tmp_path, num_images=13, num_workers=1, progress=False)
    assert len(list((tree / "images").glob("0000_c?s?_*.jpg"))) == 13


def test_command_line(tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    arguments = ["distractors_500k", "--raw_dir", str(tmp_path), "--num_images", "3"]
    assert main([*arguments, "--num_workers", "1", "--contact_sheet", str(sheet)]) == 0
    assert cv2.imread(str(sheet)).shape == (11 * 130, 12 * 66, 3)
    assert "stand-in distractors_500k" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main(["distractors_500k", "--raw_dir", str(tmp_path), "--num_images", "4"])
    assert stopped.value.code == 1
    assert "other parameters" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["market1501", "--raw_dir", str(tmp_path), "--full", "--num_test_identities", "4"])
    assert "--full fixes the counts" in capsys.readouterr().err
