import json

import numpy as np
import pytest

from data_prep import prepare as command
from data_prep.doctor import partition_problems
from data_prep.listing import Listing, Partition, Record
from data_prep.partitions import fingerprint, random_identity_splits, summary
from data_prep.prepare import prepare
from references import raw_trees
from reid_jax import data

# Two views; identity 9 has one image.
RECORDS = [
    Record(f"images/{identity}_{camera}_{number}.png", identity, camera)
    for identity in (2, 3, 5, 7, 8, 9)
    for camera in (1, 2)
    for number in range(1 + identity % 3)
    if identity != 9 or camera == 1
]
HALVES = [
    {"train": [2, 9], "val": [5], "test": [3, 7, 8]},
    {"train": [3, 8], "val": [7], "test": [2, 5]},
]
FILES = {
    "train": [record.file for record in RECORDS if record.identity < 4],
    "query": ["images/7_1_0.png", "images/8_2_1.png"],
    "gallery": ["images/7_2_1.png", "images/8_1_0.png", "images/8_1_2.png"],
}


def partitions():
    return {
        "halves": Partition("images", "random, seed 4", json.loads(json.dumps(HALVES))),
        "files": Partition("images", "file f.mat", [json.loads(json.dumps(FILES))]),
    }


class Divided:
    """A data set in one pool, as a module of `data_prep`."""

    class Builder(command.folder.Builder):
        name = "divided"

    @staticmethod
    def read(tree):
        return tree, Listing({"images": RECORDS, "more": RECORDS[:3]}, partitions=partitions())


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    raw = raw_trees.write_tree(directory / "raw", [record.file for record in RECORDS])
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(command.DATASETS, "divided", Divided)
        prepare("divided", raw, directory, progress=False)
    market = raw_trees.write_tree(directory / "market", raw_trees.market_files())
    prepare("market1501", market, directory, progress=False)
    return directory


@pytest.mark.parametrize("index", [0, 1])
def test_identities_of_each_role(data_dir, index):
    pool = data.open_split(data_dir, "divided", "images")
    parts = data.open_partition(data_dir, "divided", "halves", index)
    assert list(parts) == list(HALVES[index])
    for role, identities in HALVES[index].items():
        source = parts[role]
        rows = [row for row in range(len(pool)) if pool.identities[row] in identities]
        assert source.split == f"halves/{index}/{role}"
        assert source.dataset == "divided"
        assert list(source.files) == [pool.files[row] for row in rows]
        assert source.identities.tolist() == pool.identities[rows].tolist()
        assert source.cameras.tolist() == pool.cameras[rows].tolist()
        assert [source[row] for row in range(len(source))] == [pool[row] for row in rows]
        assert len(source) == len(source.images) == len(rows)


def test_files_of_each_role(data_dir):
    parts = data.open_partition(data_dir, "divided", "files", 0)
    assert {role: list(source.files) for role, source in parts.items()} == {
        role: sorted(files) for role, files in FILES.items()
    }
    images = data.load_images(parts["gallery"], (16, 8), progress=False)
    content = raw_trees.noise("images/8_1_0.png", suffix=".png")
    np.testing.assert_array_equal(images[1], data.decode(content, (16, 8)))


@pytest.mark.parametrize(
    ("dataset", "name", "index", "message"),
    [
        ("divided", "half", 0, "no partition 'half'; its partitions are halves, files"),
        ("divided", "halves", 2, "split 2 of partition 'halves', which has 2: expected 0 to 1"),
        ("divided", "halves", -1, "split -1 of partition 'halves'"),
        ("market1501", "halves", 0, "market1501 in .* has no partitions; its splits are gallery, "),
    ],
)
def test_what_is_not_there(data_dir, dataset, name, index, message):
    with pytest.raises(ValueError, match=message):
        data.open_partition(data_dir, dataset, name, index)
    with pytest.raises(FileNotFoundError, match="is not prepared in"):
        data.open_partition(data_dir / "raw", dataset, name, index)


def test_card_of_before_partitions(data_dir, monkeypatch):
    """A data set that an earlier version prepared has none."""
    card = data.dataset_card(data_dir, "divided")
    del card["partitions"]
    monkeypatch.setattr(data.partitions, "dataset_card", lambda *_: card)
    with pytest.raises(ValueError, match=r"divided in .* has no partitions"):
        data.open_partition(data_dir, "divided", "halves", 0)


def test_take():
    source = data.Source(
        dataset="d",
        split="all",
        files=["a", "b", "c", "d"],
        identities=np.array([4, 2, 4, 3]),
        cameras=np.array([1, 2, 2, 1]),
        images=[b"A", b"B", b"C", b"D"],
    )
    part = source.take([3, 0, 3], "some")
    assert (part.dataset, part.split, list(part.files)) == ("d", "some", ["d", "a", "d"])
    assert part.identities.tolist() == [3, 4, 3]
    assert part.cameras.tolist() == [1, 1, 1]
    assert [part[row] for row in range(3)] == [b"D", b"A", b"D"]
    again = part.take(np.array([1]), "one")
    assert (again[0], again.identities.tolist(), again.split) == (b"A", [4], "one")
    assert len(source.take([], "none")) == 0
    for rows in ([0, 4], [-1]):
        with pytest.raises(IndexError, match=f"row {rows[-1]} of split 'all' of d, which has 4"):
            source.take(rows, "x")
    with pytest.raises(IndexError, match="row 3 of split 'some'"):
        part[3]


# ---- drawing


def test_random_splits_are_the_same_everywhere():
    # Philox bits; written down once. A change here changes every random partition.
    sizes = {"train": 4, "val": 1, "test": 2}
    splits = random_identity_splits([9, 3, 12, 4, 20, 1, 7], sizes, num_splits=3, seed=6)
    assert splits == [
        {"train": [3, 4, 7, 20], "val": [9], "test": [1, 12]},
        {"train": [1, 7, 9, 12], "val": [4], "test": [3, 20]},
        {"train": [4, 9, 12, 20], "val": [1], "test": [3, 7]},
    ]


@pytest.mark.parametrize("seed", [0, 3, 2**64 - 1])
def test_random_splits_divide(seed):
    identities = list(range(5, 105, 2))
    sizes = {"train": 30, "test": 20}
    splits = random_identity_splits(identities, sizes, num_splits=12, seed=seed)
    for split in splits:
        assert {role: len(members) for role, members in split.items()} == sizes
        assert sorted(split["train"] + split["test"]) == identities
        assert split["train"] == sorted(split["train"])
    assert len({tuple(split["test"]) for split in splits}) == 12
    assert splits[:5] == random_identity_splits(
        identities[::-1] + identities, sizes, num_splits=5, seed=seed
    )
    # Each identity is in the test about 12 * 20 / 50 times.
    times = np.bincount(np.concatenate([split["test"] for split in splits]), minlength=105)
    assert times[identities].max() < 12
    assert times[identities].min() >= 1


@pytest.mark.parametrize(
    "sizes", [{"train": 3, "test": 3}, {"train": 2, "test": 2}, {"train": 5, "test": 0}]
)
def test_random_splits_that_do_not_fit(sizes):
    with pytest.raises(ValueError, match=r"the roles take \d train, \d test, .* are 5 identities"):
        random_identity_splits(range(1, 6), sizes, num_splits=2, seed=0)


# ---- examining


def test_good_partitions():
    assert partition_problems(partitions(), {"images": RECORDS}) == []


def problems_of(*splits, pool="images", records=RECORDS):
    found = partition_problems({"p": Partition(pool, "x", list(splits))}, {"images": records})
    assert {problem.kind for problem in found} <= {"partition"}
    assert all(problem.file is None for problem in found)
    return [problem.what for problem in found]


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ([], "p has no split"),
        ([{"train": [2, 3]}], "the roles are train; expected train and test, or train, query"),
        ([{"train": [2, 3], "test": [5], "query": [7]}], "the roles are train, test, query; exp"),
        ([HALVES[0], {"train": [2, 3], "test": [5]}], "split 1: the roles are train, test, unlike"),
        ([{"train": [2, 3, 5], "test": [5, 7]}], "1 identities are in train and in test: 5"),
        ([{"train": [2, 3], "val": [5], "test": [5]}], "1 identities are in val and in test: 5"),
        ([{"train": [2, 3], "val": [3], "test": [5]}], "1 identities are in train and in val: 3"),
        ([{"train": [2, 3], "test": [4, 5, 6]}], "test names 2 identities without an image in"),
        ([{"train": [2, 3, 2], "test": [5]}], "train names 1 identities more than once: 2"),
        ([{"train": [2, 3], "test": []}], "test is empty"),
        ([{"train": [2], "test": [3]}], "train has 1 identities; at least 2 are needed"),
        ([FILES | {"query": ["images/7_1_5.png"]}], "query names 1 files without an image"),
        ([FILES | {"query": ["images/3_1_0.png"]}], "1 identities are in train and in query: 3"),
        (
            [FILES | {"gallery": ["images/7_1_0.png", "images/8_1_0.png"]}],
            "the query images/7_1_0.png has no match from another camera in the gallery",
        ),
    ],
)
def test_bad_partitions(splits, expected):
    assert any(expected in problem for problem in problems_of(*splits))


def test_unknown_pool_and_long_lists():
    (what,) = problems_of(HALVES[0], pool="labeled")
    assert what == "p: the pool is labeled, not one of images"
    (what,) = problems_of({"train": [2, 3], "test": [5, *range(100, 120)]})
    assert what == (
        "p, split 0: test names 20 identities without an image in the pool: "
        "100, 101, 102, 103, 104, 105, 106, 107, ..."
    )
    # Junk is nobody, and belongs to no role.
    records = [*RECORDS, Record("images/j.png", -1, 1)]
    (what,) = problems_of({"train": [2, 3], "test": [-1, 5]}, records=records)
    assert what == "p, split 0: test names 1 identities without an image in the pool: -1"


def test_bad_partition_prepares_nothing(tmp_path, monkeypatch):
    raw = raw_trees.write_tree(tmp_path / "raw", [record.file for record in RECORDS])
    wrong = {"p": Partition("images", "x", [{"train": [2, 3], "test": [3, 5]}])}
    listing = Listing({"images": RECORDS}, partitions=wrong)
    monkeypatch.setattr(Divided, "read", lambda tree: (tree, listing))
    monkeypatch.setitem(command.DATASETS, "divided", Divided)
    with pytest.raises(ValueError, match=r"partition that does not fit the images \(1\)"):
        prepare("divided", raw, tmp_path / "data", progress=False)
    assert not (tmp_path / "data" / "divided").exists()


# ---- describing


def test_fingerprint():
    one = partitions()["halves"]
    same = Partition("images", "elsewhere", [{k: v[::-1] for k, v in s.items()} for s in HALVES])
    assert fingerprint(one) == fingerprint(same)
    assert len(fingerprint(one)) == 16
    others = [
        Partition("other", one.origin, HALVES),
        Partition("images", one.origin, HALVES[::-1]),
        Partition("images", one.origin, [{**HALVES[0], "test": [3, 7]}, HALVES[1]]),
        partitions()["files"],
    ]
    assert len({fingerprint(other) for other in [one, *others]}) == 5


def test_summary(data_dir):
    one = partitions()["halves"]
    assert summary(one) == (
        "2 splits of images: train 2 identities, val 1 identities, test 2 to 3 identities "
        f"(random, seed 4; fingerprint {fingerprint(one)})"
    )
    assert "1 split of images: train" in summary(partitions()["files"])
    card = data.dataset_card(data_dir, "divided")["partitions"]
    assert card["halves"] == {
        "fingerprint": fingerprint(one),
        "pool": "images",
        "origin": "random, seed 4",
        "splits": HALVES,
    }
