import errno
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import textwrap
import types

import pytest

from data_prep import distractors_500k, dukemtmc, market1501
from data_prep import prepare as command
from data_prep.listing import Listing, Problem, Record, market_records, official_problems
from data_prep.prepare import main, prepare
from references import raw_trees
from reid_jax.data import dataset_card, open_split

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path):
    return raw_trees.write_tree(tmp_path / "raw" / raw_trees.MARKET, raw_trees.market_files())


def run(dataset, raw_dir, data_dir, **options):
    return prepare(dataset, raw_dir, data_dir, progress=False, **options)


def contents(data_dir, dataset):
    """Everything a prepared data set holds."""
    card = dataset_card(data_dir, dataset)
    result = {}
    for split in card["counts"]:
        source = open_split(data_dir, dataset, split)
        cameras = None if source.cameras is None else source.cameras.tolist()
        images = [source[row] for row in range(len(source))]
        result[split] = (list(source.files), source.identities.tolist(), cameras, images)
    return result


def nothing_prepared(data_dir, dataset):
    directory = data_dir / dataset
    return not directory.exists() or not list(directory.iterdir())


def test_market(tmp_path, tree):
    card = run("market1501", tree, tmp_path / "data")
    images = {split: number["images"] for split, number in card["counts"].items()}
    assert images == {"train": 27, "query": 9, "gallery": 14, "multi_query": 18}
    assert card == dataset_card(tmp_path / "data", "market1501")
    parts = contents(tmp_path / "data", "market1501")
    for split, folder in {**raw_trees.FOLDERS, "multi_query": "gt_bbox"}.items():
        files = [f for f in sorted(raw_trees.market_files()) if f.startswith(folder + "/")]
        if split == "multi_query":
            files.remove("gt_bbox/0002_c1s1_000003_01.jpg")
        assert parts[split][0] == files
        assert parts[split][3] == [(tree / file).read_bytes() for file in files]
    assert parts["gallery"][1][:5] == [-1, -1, -1, 0, 0]


@pytest.mark.parametrize("top", [raw_trees.MARKET, f"downloads/{raw_trees.MARKET}"])
def test_zip_equals_folder(tmp_path, tree, top):
    run("market1501", tree, tmp_path / "folder")
    (tmp_path / "packed").mkdir()
    archive = raw_trees.zip_tree(tree, tmp_path / "packed" / "m.zip", top=top)
    run("market1501", archive, tmp_path / "zip")
    run("market1501", tmp_path / "packed", tmp_path / "in_folder")
    run("market1501", tree.parent.parent, tmp_path / "above")
    expected = contents(tmp_path / "folder", "market1501")
    for name in ("zip", "in_folder", "above"):
        assert contents(tmp_path / name, "market1501") == expected


def test_order_does_not_depend_on_the_file_system(tmp_path, tree):
    shuffled = raw_trees.write_tree(
        tmp_path / "other", raw_trees.market_files(), order=lambda files: sorted(files)[::-1]
    )
    for raw, name in ((tree, "a"), (shuffled, "b")):
        run("market1501", raw, tmp_path / name, num_val_identities=2, seed=4)
    assert contents(tmp_path / "a", "market1501") == contents(tmp_path / "b", "market1501")


def test_validation_split(tmp_path, tree):
    card = run("market1501", tree, tmp_path, num_val_identities=2, seed=1)
    assert card["split"] == {"num_test_identities": None, "num_val_identities": 2, "seed": 1}
    parts = contents(tmp_path, "market1501")
    identities = {split: set(part[1]) for split, part in parts.items()}
    assert identities["val_query"] == identities["val_gallery"]
    assert len(identities["val_query"]) == len(identities["train"]) == 2
    assert not identities["train"] & identities["val_query"]
    carved = [file for split in ("train", "val_query", "val_gallery") for file in parts[split][0]]
    assert sorted(carved) == sorted(
        f for f in raw_trees.market_files() if f.startswith("bounding_box_train")
    )


def test_without_hand_drawn_boxes(tmp_path, tree, capsys):
    shutil.rmtree(tree / "gt_bbox")
    assert "multi_query" not in run("market1501", tree, tmp_path)["counts"]
    assert "no gt_bbox" in capsys.readouterr().out


def test_duke(tmp_path):
    files = [f for f in raw_trees.market_files() if "/0000" not in f and "/-1" not in f]
    files = [re.sub(r"_c(\d)s1_(\d+)_01", r"_c\1_f0\2", f) for f in files if "gt_bbox" not in f]
    files += ["bounding_box_test/0777_c8_f0000001.jpg"]
    raw = raw_trees.write_tree(tmp_path / "DukeMTMC-reID", files)
    card = run("dukemtmc", raw, tmp_path)
    assert card["counts"]["gallery"] == {
        "images": 10,
        "identities": 4,
        "distractors": 0,
        "junk": 0,
    }
    assert contents(tmp_path, "dukemtmc")["gallery"][2][-1] == 8


@pytest.mark.parametrize("folder", ["images/", "top/images/", "top/"])
def test_distractors(tmp_path, folder):
    files = [f"{folder}{raw_trees.market_name(0, 1 + n % 6, n)}" for n in range(9)]
    raw = raw_trees.write_tree(tmp_path / "raw", files, stand_in=False)
    root = raw / folder.replace("images/", "")
    (root / "STAND_IN.json").write_text("{}")
    card = run("distractors_500k", raw, tmp_path)
    assert list(card["counts"]) == ["gallery"]
    files, identities, cameras, _ = contents(tmp_path, "distractors_500k")["gallery"]
    assert set(identities) == {0}
    assert sorted(cameras) == [1, 1, 2, 2, 3, 3, 4, 5, 6]
    assert all(file.startswith("images/") == ("images" in folder) for file in files)


def test_distractor_with_an_identity(tmp_path):
    files = [f"images/{raw_trees.market_name(n % 2, 1, n)}" for n in range(4)]
    raw = raw_trees.write_tree(tmp_path / "raw", files)
    with pytest.raises(ValueError, match=r"distractor with an identity \(2\)"):
        run("distractors_500k", raw, tmp_path)
    card = run("distractors_500k", raw, tmp_path, skip_bad_images=True)
    assert card["counts"]["gallery"]["images"] == 2
    raw_trees.write_tree(raw, ["more/a.jpg"])
    with pytest.raises(ValueError, match="expected one folder of images, found 2"):
        run("distractors_500k", raw, tmp_path)


def break_everything(tree):
    """One problem of each kind; returns what the report must name."""
    train, query = tree / "bounding_box_train", tree / "query"
    (train / "0002_c1s1_000000_01.jpg").write_bytes(b"")
    good = (train / "0003_c1s1_000000_01.jpg").read_bytes()
    (train / "0003_c1s1_000000_01.jpg").write_bytes(good[: len(good) // 2])
    (train / "0003_c2s1_000000_01.jpg").write_bytes(b"not an image")
    (train / "holiday.jpg").write_bytes(good)
    (train / "0004_c7s1_000000_01.jpg").write_bytes(good)
    (train / "-1_c1s1_000000_01.jpg").write_bytes(good)
    (query / "0500_c1s1_000000_01.jpg").write_bytes(good)
    return {
        "empty image file (1)": ["bounding_box_train/0002_c1s1_000000_01.jpg"],
        "unreadable image (2)": ["0003_c1s1_000000_01.jpg", "0003_c2s1_000000_01.jpg"],
        "name that does not parse (1)": ["bounding_box_train/holiday.jpg"],
        "camera that this data set does not have (1)": ["0004_c7s1_000000_01.jpg"],
        "image without an identity where one is needed (1)": ["-1_c1s1_000000_01.jpg"],
        "query with no match from another camera in the gallery (1)": ["query/0500_c1s1"],
    }


def test_doctor_lists_everything_at_once(tmp_path, tree, capsys):
    expected = break_everything(tree)
    arguments = ["market1501", f"--raw_dir={tree}", f"--data_dir={tmp_path / 'data'}"]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "market1501: 7 problems" in error
    for heading, files in expected.items():
        assert f"{heading}; to fix it: " in error
        for file in files:
            assert file in error
    assert error.count("--skip_bad_images") == len(expected)
    assert nothing_prepared(tmp_path / "data", "market1501")

    assert main([*arguments, "--skip_bad_images"]) == 0
    assert "skipped 7 bad images" in capsys.readouterr().out
    card = dataset_card(tmp_path / "data", "market1501")
    assert sum(map(len, card["skipped"].values())) == 7
    assert card["skipped"]["name that does not parse"] == ["bounding_box_train/holiday.jpg"]
    assert card["counts"]["train"]["images"] == 27 - 3
    assert card["counts"]["query"]["images"] == 9


def test_identity_on_both_sides(tmp_path, tree):
    content = raw_trees.noise("x")
    (tree / "bounding_box_train" / "0101_c1s1_000000_01.jpg").write_bytes(content)
    for skip in (False, True):
        with pytest.raises(ValueError, match=r"train and in query or gallery \(1\)[^@]*ty 101"):
            run("market1501", tree, tmp_path, skip_bad_images=skip)
    assert nothing_prepared(tmp_path, "market1501")


def test_wrong_counts(tmp_path, tree):
    (tree / "STAND_IN.json").unlink()
    with pytest.raises(ValueError, match=r"wrong count \(9\)") as error:
        run("market1501", tree, tmp_path, skip_bad_images=True)
    for line in (
        "train: 27 images, the official set has 12,936",
        "query: 3 identities, the official set has 750",
        "gallery: 2 distractors, the official set has 2,798",
        "gallery: 3 junk, the official set has 3,819",
        "multi_query: 19 images, the official set has 25,259",
        "python data_prep/prepare.py folder",
    ):
        assert line in str(error.value)


def test_official_counts():
    """Counts alone decide between official and not; records stand for the 36,036 images."""
    gallery = (
        [Record(f"{n}", 1 + n % 750, 1) for n in range(13115)]
        + [Record(f"d{n}", 0, 1) for n in range(2798)]
        + [Record(f"j{n}", -1, 1) for n in range(3819)]
    )
    splits = {
        "train": [Record(f"{n}", 1 + n % 751, 1) for n in range(12936)],
        "query": [Record(f"{n}", 1 + n % 750, 1) for n in range(3368)],
        "gallery": gallery,
    }
    assert official_problems(splits, market1501.OFFICIAL) == []
    wrong = official_problems(splits | {"gallery": gallery[1:]}, market1501.OFFICIAL)
    assert [problem.what for problem in wrong] == [
        "gallery: 19,731 images, the official set has 19,732"
    ]
    assert dukemtmc.OFFICIAL["query"] == {"images": 2228, "identities": 702}
    assert distractors_500k.OFFICIAL["gallery"]["images"] == 500000


@pytest.mark.parametrize("skip", [False, True])
def test_official_only_when_nothing_is_skipped(tmp_path, tree, monkeypatch, skip):
    (tree / "STAND_IN.json").unlink()
    monkeypatch.setattr(market1501, "OFFICIAL", {"train": {"images": 27, "identities": 4}})
    if skip:
        (tree / "bounding_box_train" / "0002_c1s1_000000_01.jpg").write_bytes(b"")
    card = run("market1501", tree, tmp_path, skip_bad_images=skip)
    assert card["data_source"] == ("custom" if skip else "official")


def test_hint_at_another_data_set():
    records = [Record(f"{n}", 1, 1) for n in range(17661)]
    listing = Listing({"train": records[:16522], "query": records[:2228], "gallery": records})
    hint = command._hint("market1501", listing, [Problem("count", "")])
    assert "dukemtmc" in hint
    assert command._hint("market1501", listing, []) == ""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("0002_c1s1_000451_03.jpg", (2, 1)),
        ("-1_c6s2_1.jpg", (-1, 6)),
        ("0001_c2_f0046182.jpg", (1, 2)),
        ("12345_c15_7.png", (12345, 15)),
        ("0002_c0_1.jpg", None),
        ("--5_c1_1.jpg", None),
        ("-2_c1_1.jpg", None),
        ("0002c1_1.jpg", None),
        ("x_0002_c1.jpg", None),
    ],
)
def test_names(name, expected):
    records, problems = market_records([f"folder_c9/{name}"])
    assert [(record.identity, record.camera) for record in records] == [expected] * (
        expected is not None
    )
    assert len(problems) == (expected is None)


def test_raw_input_that_is_none(tmp_path, tree, capsys):
    archive = raw_trees.zip_tree(tree, tmp_path / "m.zip")
    content = archive.read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    (tmp_path / "zero.zip").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cat.jpg").write_bytes(b"x")
    raw_trees.write_tree(tmp_path / "two" / "a", raw_trees.market_files())
    raw_trees.write_tree(tmp_path / "two" / "b", raw_trees.market_files())
    shutil.copytree(tree, tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "query")
    cases = {
        "nowhere": "does not exist",
        "empty": "is empty",
        "cut.zip": "not a whole zip file",
        "zero.zip": "is empty; download or copy it again",
        "notes.txt": "neither a folder nor a zip file",
        "other": "is not this data set: expected images in bounding_box_train, query",
        "part": "the folders query are missing",
        "two": "more than one data set",
        "gs://bucket/raw": "is a bucket",
    }
    for name, message in cases.items():
        raw_dir = name if "://" in name else str(tmp_path / name)
        assert main(["market1501", "--raw_dir", raw_dir, "--data_dir", str(tmp_path / "d")]) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("error: ")
    assert nothing_prepared(tmp_path / "d", "market1501")


def test_unknown_data_set(tmp_path, capsys):
    assert main(["market", "--raw_dir", str(tmp_path), "--data_dir", str(tmp_path)]) == 1
    assert "known are market1501, distractors_500k, dukemtmc, " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_val_identities": 4}, "none is left to train on"),
        ({"num_val_identities": 3}, "train has 1 identity; at least 2"),
        ({"num_val_identities": 40}, "only 4 of 4 have images from two cameras"),
        ({"num_val_identities": -1}, "expected 0 or more"),
        ({"num_val_identities": 1, "seed": -1}, "--seed is -1"),
        ({"num_test_identities": 2}, "a query and a gallery of its own"),
    ],
)
def test_options_that_do_not_fit(tmp_path, tree, options, message):
    with pytest.raises(ValueError, match=message):
        run("market1501", tree, tmp_path, **options)
    assert nothing_prepared(tmp_path, "market1501")


def test_no_train_to_carve(tmp_path):
    raw = raw_trees.write_tree(tmp_path / "raw", [f"images/{raw_trees.market_name(0, 1, 1)}"])
    with pytest.raises(ValueError, match="no train split to carve"):
        run("distractors_500k", raw, tmp_path, num_val_identities=2)


def test_again(tmp_path, tree, capsys):
    first = run("market1501", tree, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "market1501").rglob("*")}
    capsys.readouterr()
    assert run("market1501", tree, tmp_path) == first
    assert run("market1501", tree, tmp_path, seed=9) == first  # nothing is carved with it
    assert "already prepared" in capsys.readouterr().out
    for options in ({"num_val_identities": 1}, {"skip_bad_images": True}):
        with pytest.raises(ValueError, match=r"already prepared .* from other files or with other"):
            run("market1501", tree, tmp_path, **options)
    (tree / "query" / "0100_c1s1_000007_01.jpg").unlink()
    with pytest.raises(ValueError, match="already prepared"):
        run("market1501", tree, tmp_path)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "market1501").rglob("*")}
    assert after == before


def test_killed(tmp_path, tree):
    script = f"""
        import os
        from data_prep import prepare
        from data_prep.builder import ReidBuilder

        def killed(self, split):
            for number, example in enumerate(generate(self, split)):
                if split == "gallery" and number == 5:
                    os._exit(9)
                yield example

        generate, ReidBuilder._generate_examples = ReidBuilder._generate_examples, killed
        prepare.prepare("market1501", {os.fspath(tree)!r}, {os.fspath(tmp_path)!r})
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=ROOT, capture_output=True, check=False
    )
    assert result.returncode == 9
    leftovers = [path.name for path in (tmp_path / "market1501").iterdir()]
    assert leftovers
    with pytest.raises(FileNotFoundError, match="not prepared"):
        dataset_card(tmp_path, "market1501")
    run("market1501", tree, tmp_path)
    assert [path.name for path in (tmp_path / "market1501").iterdir()] == ["1.0.0"]


@pytest.mark.parametrize("seen_first", [True, False])
def test_full_disk(tmp_path, tree, monkeypatch, capsys, seen_first):
    free = 10 if seen_first else 1e12
    usage = types.SimpleNamespace(disk_usage=lambda path: types.SimpleNamespace(free=free))
    monkeypatch.setattr(command, "shutil", usage)
    arguments = ["market1501", f"--raw_dir={tree}", f"--data_dir={tmp_path / 'data'}"]

    def full(self, split):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(market1501.Builder, "_generate_examples", full)
    assert main(arguments) == 1
    expected = "MB free, and the data set needs" if seen_first else "No space left on device"
    assert expected in capsys.readouterr().err
    assert nothing_prepared(tmp_path / "data", "market1501")


def test_stand_in_card_that_is_unreadable(tmp_path, tree):
    (tree / "STAND_IN.json").write_text("{")
    with pytest.raises(ValueError, match=r"STAND_IN\.json of .* is unreadable"):
        run("market1501", tree, tmp_path)


def test_as_a_script(tmp_path, tree):
    arguments = ["market1501", "--raw_dir", os.fspath(tree), "--data_dir", os.fspath(tmp_path)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "data_prep/prepare.py", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "market1501 (stand-in) is prepared in" in result.stdout
    assert "ownload" not in result.stdout
    assert "image/s" in result.stderr
    metadata = json.loads((tmp_path / "market1501/1.0.0/metadata.json").read_text())
    assert metadata["data_source"] == "stand-in"
