import json
import re

import h5py
import numpy as np
import pytest
import scipy.io

from data_prep.doctor import partition_problems
from data_prep.listing import Record
from data_prep.partition_files import read_partition
from data_prep.prepare import main, prepare
from references import raw_trees
from reid_jax.data import dataset_card, open_partition

COUNT = 7
SPLITS = [([1, 4, 6], [2, 3, 5, 7]), ([2, 3, 7], [1, 4, 5, 6]), ([5, 6, 7], [1, 2, 3, 4])]
FILES = {
    (identity, camera): f"cam_{'ab'[camera - 1]}/{3 * identity:03d}_{45 * (identity % 3)}.bmp"
    for identity in range(1, COUNT + 1)
    for camera in (1, 2)
}
POOLS = {"images": sorted(Record(file, *key) for key, file in FILES.items())}
EXPECTED = [{"train": train, "test": test} for train, test in SPLITS]


def write_json(path, content):
    path.write_text(json.dumps(content))
    return path


def entries(identities, cameras, *, root):
    """As torchreid lists images: persons anew from 0, cameras from 0."""
    return [
        [root + FILES[identity, camera], place, camera - 1]
        for place, identity in enumerate(identities)
        for camera in cameras
    ]


def torchreid_splits(root="/home/me/reid-data/viper/VIPeR/"):
    splits = []
    for train, test in SPLITS:
        for query, gallery in ((1, 2), (2, 1)):
            splits.append(
                {
                    "train": entries(train, (1, 2), root=root),
                    "query": entries(test, (query,), root=root),
                    "gallery": entries(test, (gallery,), root=root),
                    "num_train_pids": len(train),
                    "num_query_pids": len(test),
                }
            )
    return splits


# ---- the two MATLAB formats


class Struct(dict):
    """A MATLAB struct; a list of them is a struct array."""


class Cell(list):
    """A MATLAB cell array, one column."""


def save_v5(path, variables):
    def value(content):
        if isinstance(content, Cell):
            column = np.empty((len(content), 1), object)
            column[:, 0] = [value(one) for one in content]
            return column
        if isinstance(content, list):
            array = np.empty((1, len(content)), [(name, object) for name in content[0]])
            for place, struct in enumerate(content):
                for name, field in struct.items():
                    array[0, place][name] = value(field)
            return array
        return content

    scipy.io.savemat(path, {name: value(content) for name, content in variables.items()})
    return path


def save_v73(path, variables):
    """Writes what MATLAB's save -v7.3 does, in HDF5 with reversed dimensions."""
    with h5py.File(path, "w", userblock_size=512) as file:
        shelf = file.create_group("#refs#")

        def put(group, name, content):
            if isinstance(content, Cell):
                references = [reference(one) for one in content]
                data = np.array([references], h5py.ref_dtype)
                group.create_dataset(name, data=data).attrs["MATLAB_class"] = np.bytes_("cell")
            elif isinstance(content, list):
                child = group.create_group(name)
                child.attrs["MATLAB_class"] = np.bytes_("struct")
                for field in content[0]:
                    references = [[reference(struct[field])] for struct in content]
                    child.create_dataset(field, data=np.array(references, h5py.ref_dtype))
            elif isinstance(content, Struct):
                child = group.create_group(name)
                child.attrs["MATLAB_class"] = np.bytes_("struct")
                for field, one in content.items():
                    put(child, field, one)
            elif isinstance(content, str):
                data = np.array([[ord(letter)] for letter in content], np.uint16)
                group.create_dataset(name, data=data).attrs["MATLAB_class"] = np.bytes_("char")
            else:
                data = np.atleast_2d(content).T
                group.create_dataset(name, data=data).attrs["MATLAB_class"] = np.bytes_("double")

        def reference(content):
            name = f"r{len(shelf)}"
            shelf[name + "_"] = 0  # holds the place while what it refers to is written
            put(shelf, name, content)
            return shelf[name].ref

        for name, content in variables.items():
            put(file, name, content)
    with open(path, "r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return path


SAVERS = {"v5": save_v5, "v7.3": save_v73}


def permutations(splits=SPLITS):
    return np.array([train + test[::-1] for train, test in splits], float)


MAT_FORMS = {
    "rows": {"p": permutations()},
    "columns": {"p": permutations().T, "seed": np.array([[5.0]])},
    "train": {
        "split": [Struct(train=np.array([a]), test=np.array([b]), rng=1.0) for a, b in SPLITS]
    },
    "idx": {
        "partition": [
            Struct(idx_train=np.array([a]).T, idx_test=np.array([b]).T) for a, b in SPLITS
        ]
    },
    "labels": {
        "trials": [
            Struct(
                labelsAtrain=np.array([a], float),
                labelsAtest=np.array([b], float),
                labelsBtrain=np.array([a[::-1]], float),
                labelsBtest=np.array([b], float),
                featAtrain=np.zeros((4, len(a))),
            )
            for a, b in SPLITS
        ]
    },
    "views": {
        "partition": [
            Struct(
                trnSp=np.array([a], np.uint16),
                trnSg=np.array([a], np.uint16),
                tstSp=np.array([b], np.uint16),
                tstSg=np.array([b], np.uint16),
            )
            for a, b in SPLITS
        ]
    },
}


def places(identities):
    """From 1, among all names sorted by camera and identity."""
    order = sorted(FILES, key=lambda key: (key[1], key[0]))
    found = [place for place, (identity, _) in enumerate(order, 1) if identity in identities]
    return np.array([found], float).T


def cells():
    names = [FILES[key] for key in sorted(FILES, key=lambda key: (key[1], key[0]))]
    return {
        "allimagenames": Cell(names),
        "traininds_set": Cell(places(train) for train, _ in SPLITS),
        "testinds_set": Cell(places(test) for _, test in SPLITS),
        "trainlabels_set": Cell(places(train) for train, _ in SPLITS),
    }


# ---- what is accepted


@pytest.mark.parametrize("root", ["/home/me/reid-data/viper/VIPeR/", "", "data\\VIPeR\\", "./"])
def test_torchreid(tmp_path, root):
    path = write_json(tmp_path / "splits.json", torchreid_splits(root))
    partition, problems = read_partition(path, POOLS)
    assert problems == []
    assert (partition.pool, partition.origin) == ("images", "file splits.json")
    assert len(partition.splits) == 6
    for index, split in enumerate(partition.splits):
        train, test = SPLITS[index // 2]
        camera = 1 + index % 2
        assert split == {
            "train": train,
            "query": sorted(FILES[identity, camera] for identity in test),
            "gallery": sorted(FILES[identity, 3 - camera] for identity in test),
        }
    assert partition_problems({"imported": partition}, POOLS) == []


@pytest.mark.parametrize("top", [{"pool": "images"}, {}, {"pool": "images", "origin": "mine"}])
def test_own_json(tmp_path, top):
    for name, splits in {
        "identities": EXPECTED,
        "files": [
            {
                role: [FILES[identity, camera] for identity in members for camera in (2, 1)]
                for role, members in split.items()
            }
            for split in EXPECTED
        ],
        "both": [
            {"train": split["train"], "test": [FILES[i, c] for i in split["test"] for c in (1, 2)]}
            for split in EXPECTED
        ],
    }.items():
        path = write_json(tmp_path / f"{name}.json", top | {"splits": splits})
        partition, problems = read_partition(path, POOLS)
        assert problems == []
        assert partition.splits == EXPECTED


def test_own_json_names_one_of_several_pools(tmp_path):
    pools = {"detected": POOLS["images"], "labeled": POOLS["images"][:8]}
    path = write_json(tmp_path / "p.json", {"pool": "labeled", "splits": [EXPECTED[0]]})
    assert read_partition(path, pools)[0].pool == "labeled"
    for name, content in {"own": {"splits": EXPECTED}, "torchreid": torchreid_splits()}.items():
        path = write_json(tmp_path / f"{name}.json", content)
        with pytest.raises(ValueError, match="the data set has detected and labeled; say so"):
            read_partition(path, pools)
    path = write_json(tmp_path / "p.json", {"pool": "drawn", "splits": EXPECTED})
    with pytest.raises(ValueError, match="the pool is 'drawn'; expected one of detected, labeled"):
        read_partition(path, pools)


def test_a_part_of_an_identity_stays_a_file(tmp_path):
    split = {"train": [FILES[1, 1], FILES[2, 2], FILES[2, 1]], "test": [3, 4]}
    path = write_json(tmp_path / "p.json", {"splits": [split]})
    assert read_partition(path, POOLS)[0].splits == [
        {"train": sorted(split["train"]), "test": [3, 4]}
    ]


@pytest.mark.parametrize("form", MAT_FORMS)
@pytest.mark.parametrize("version", SAVERS)
def test_mat(tmp_path, version, form):
    path = SAVERS[version](tmp_path / "VIPeR_split.mat", MAT_FORMS[form])
    partition, problems = read_partition(path, POOLS)
    assert problems == []
    assert partition.splits == EXPECTED
    assert partition.origin == "file VIPeR_split.mat"


@pytest.mark.parametrize("version", SAVERS)
def test_mat_with_names_of_images(tmp_path, version):
    path = SAVERS[version](tmp_path / "VIPeR.mat", cells())
    partition, problems = read_partition(path, POOLS)
    assert problems == []
    assert partition.splits == EXPECTED


def test_mat_of_one_struct(tmp_path):
    one = Struct(train=np.array([[1.0, 4, 6]]), test=np.array([[2.0, 3, 5, 7]]))
    path = save_v73(tmp_path / "one.mat", {"split": one})
    assert read_partition(path, POOLS)[0].splits == EXPECTED[:1]


def test_places_are_in_the_order_of_the_identities(tmp_path):
    """Identities of a data set with gaps: the second place is the second identity."""
    pools = {"images": [Record(f"{i}_{c}.png", i, c) for i in (3, 10, 11, 40) for c in (1, 2)]}
    path = save_v5(tmp_path / "p.mat", {"p": np.array([[2, 4, 1, 3], [1, 2, 3, 4]])})
    assert read_partition(path, pools)[0].splits == [
        {"train": [10, 40], "test": [3, 11]},
        {"train": [3, 10], "test": [11, 40]},
    ]


def test_old_names_of_torchreid_need_their_folder(tmp_path):
    """The same base name is in both folders: the folder decides, and without it nothing does."""
    splits = torchreid_splits()
    for split in splits:
        split["query"] = [[entry[0].split("/")[-1], *entry[1:]] for entry in split["query"]]
    path = write_json(tmp_path / "splits.json", splits[:1])
    _, problems = read_partition(path, POOLS)
    assert [problem.what for problem in problems] == [
        f"splits.json, split 0, query: {name} could be cam_a/{name} or cam_b/{name}"
        for name in ("006_90.bmp", "009_0.bmp", "015_90.bmp", "021_45.bmp")
    ]


# ---- what is not


def test_absent_images_are_all_named(tmp_path):
    splits = torchreid_splits()
    lost = [f"/x/cam_a/{number}_45.bmp" for number in range(800, 812)]
    splits[1]["train"] += [[name, 9, 0] for name in lost]
    # The file is there, but in the folder of the other camera.
    elsewhere = "/x/cam_b/only_in_a.bmp"
    pools = {"images": [*POOLS["images"], Record("cam_a/only_in_a.bmp", 8, 1)]}
    splits[2]["gallery"].append([elsewhere, 10, 1])
    _, problems = read_partition(write_json(tmp_path / "splits.json", splits), pools)
    assert {problem.kind for problem in problems} == {"partition"}
    assert [problem.what for problem in problems] == [
        *(f"splits.json, split 1, train: {name} is not in the data set" for name in lost),
        f"splits.json, split 2, gallery: {elsewhere} is not in the data set",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, r"has the keys \(none\); accepted are"),
        ({"pool": "images", "train": [1]}, "has the keys pool, train; accepted are"),
        ({"splits": EXPECTED, "folds": 3}, "has the keys splits, folds; accepted are"),
        ({"splits": [[1, 2]]}, "split 0 is a list"),
        ({"splits": [{"train": [1], "probe": [2]}]}, "split 0 has probe, a list; expected lists"),
        ({"splits": [{"train": 3, "test": [2]}]}, "split 0 has train, a int"),
        ({"splits": [{"train": [1, "a"], "test": [2]}]}, "train has entries of int, str; expected"),
        ({"splits": [{"train": [True], "test": [2]}]}, "train has entries of bool; expected"),
        ([[1]], "split 0 is a list"),
        ("images", "holds no list and no object"),
        ({"pool": ["images"], "splits": EXPECTED}, r"the pool is \['images'\]; expected one of"),
        ([{"train": [["a.png", 1]]}], r'train has \["a.png", 1\]; expected \[path, person, cam'),
        ([{"train": ["a.png"]}], 'train has "a.png"; expected'),
        ([{"validation": []}], "split 0 has validation, a list"),
    ],
)
def test_json_of_another_form(tmp_path, content, expected):
    with pytest.raises(ValueError, match=expected) as raised:
        read_partition(write_json(tmp_path / "p.json", content), POOLS)
    assert ("as torchreid writes it" in str(raised.value)) != ("the pool is" in str(raised.value))


@pytest.mark.parametrize("version", SAVERS)
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"p": permutations()[:, :5], "note": "five"},
            r"has 0 variables of .* 7 identities; it has note \(1 .*\); p \(3 x 5 float64\);",
        ),
        ({"p": permutations() - 1}, r"it has p \(3 x 7 float64\); expected one"),
        ({"p": permutations(), "q": permutations()}, "has 2 variables of an accepted form"),
        (
            {"trials": [Struct(learn=np.ones((1, 2)), check=np.ones((1, 2))) for _ in range(2)]},
            r"it has trials \(structs with check, learn\); expected one; accepted are",
        ),
        (
            {"p": [Struct(idx_train=np.array([[1, 14]]), idx_test=np.array([[2, 3]]))] * 2},
            r"p\(1\).idx_train has numbers from 1 to 14; expected integers from 1 to 7. Places",
        ),
        (
            {"p": [Struct(train=np.array([[1, 1.5]]), test=np.array([[2, 3]]))] * 2},
            r"p\(1\).train has numbers from 1 to 1.5; expected integers",
        ),
        (
            {"p": [Struct(train=Cell(["a"]), test=np.array([[2, 3]]))] * 2},
            r"p\(1\).train has no numbers; accepted are",
        ),
        (
            {
                "p": [
                    Struct(
                        trnSp=np.array([[1, 2]]), trnSg=np.array([[1, 3]]), tstSp=np.array([[4]])
                    )
                ]
                * 2
            },
            r"p\(1\): trnSp and trnSg are not the same identities",
        ),
        (cells() | {"testinds_set": Cell([places([1])])}, "allimagenames .*; traininds_set .*; te"),
        (
            cells() | {"testinds_set": Cell([places([1]) + 9] * 3)},
            "testinds_set has numbers from 10 to 17; expected integers from 1 to 14",
        ),
    ],
)
def test_mat_of_another_form(tmp_path, version, variables, expected):
    path = SAVERS[version](tmp_path / "p.mat", variables)
    with pytest.raises(ValueError, match=expected):
        read_partition(path, POOLS)


@pytest.mark.parametrize("version", SAVERS)
def test_a_file_cut_short(tmp_path, version):
    path = SAVERS[version](tmp_path / "p.mat", MAT_FORMS["labels"])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"p.mat is unreadable \(.*\); copy it again"):
        read_partition(path, POOLS)


def test_files_that_are_not_what_they_are_called(tmp_path):
    for name, content in {"p.json": b'[{"train": [', "p.mat": b"%PDF-1.4 " * 40}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is unreadable \(.*\); copy it again"):
            read_partition(tmp_path / name, POOLS)
    (tmp_path / "p.txt").write_text("1 2 3")
    with pytest.raises(ValueError, match=r"p.txt is neither a .json nor a .mat file; accepted"):
        read_partition(tmp_path / "p.txt", POOLS)
    for name in ("none.json", "."):
        with pytest.raises(FileNotFoundError, match="does not exist or is no file"):
            read_partition(tmp_path / name, POOLS)


# ---- through the command


@pytest.fixture
def raw(tmp_path):
    return raw_trees.write_tree(tmp_path / "VIPeR", FILES.values())


def test_an_imported_partition_is_opened(tmp_path, raw):
    path = write_json(tmp_path / "splits.json", torchreid_splits())
    card = prepare("viper", raw, tmp_path / "a", partition_file=path, progress=False)
    assert list(card["partitions"]) == ["316-316", "imported"]
    assert card == dataset_card(tmp_path / "a", "viper")
    roles = open_partition(tmp_path / "a", "viper", "imported", 3)
    assert roles["train"].files == [FILES[i, c] for c in (1, 2) for i in (2, 3, 7)]
    assert roles["query"].files == [FILES[i, 2] for i in (1, 4, 5, 6)]
    assert roles["gallery"].cameras.tolist() == [1] * 4
    # Nothing of the machine that the file comes from is kept.
    assert "reid-data" not in json.dumps(card)

    path = save_v5(tmp_path / "split.mat", MAT_FORMS["labels"])
    card = prepare("viper", raw, tmp_path / "b", partition_file=path, progress=False)
    assert card["partitions"]["imported"]["splits"] == EXPECTED
    roles = open_partition(tmp_path / "b", "viper", "imported", 0)
    assert sorted(set(roles["test"].identities.tolist())) == [2, 3, 5, 7]
    # A partition of a card can be handed on.
    handed = write_json(tmp_path / "imported.json", card["partitions"]["imported"])
    assert read_partition(handed, POOLS)[0].splits == EXPECTED


def test_another_file_is_another_preparation(tmp_path, raw):
    first = write_json(tmp_path / "a.json", {"splits": EXPECTED})
    again = write_json(tmp_path / "b.json", {"splits": EXPECTED})
    other = write_json(tmp_path / "c.json", {"splits": EXPECTED[::-1]})
    for path in (first, again):
        prepare("viper", raw, tmp_path, partition_file=path, progress=False)
    for path in (other, None):
        with pytest.raises(ValueError, match="already prepared"):
            prepare("viper", raw, tmp_path, partition_file=path, progress=False)


def test_everything_wrong_with_a_file_is_listed(tmp_path, raw, capsys):
    splits = torchreid_splits()
    splits[0]["query"] += entries([4], (1,), root="")
    splits[0]["gallery"] += entries([6, 4], (2,), root="")
    splits[1]["train"].append(["gone/away.bmp", 1, 0])
    path = write_json(tmp_path / "splits.json", splits)
    arguments = [f"--raw_dir={raw}", f"--data_dir={tmp_path / 'data'}"]
    for skip in ([], ["--skip_bad_images"]):
        assert main(["viper", *arguments, f"--partition_file={path}", *skip]) == 1
        error = capsys.readouterr().err
        assert "partition that does not fit the images" in error
        assert "splits.json, split 1, train: gone/away.bmp is not in the data set" in error
        assert re.search(
            r"imported, split 0: 2 identities are in train and in gallery: 4, 6", error
        )
        assert re.search(r"imported, split 0: 1 identities are in train and in query: 4", error)
    assert not (tmp_path / "data" / "viper").exists()


def test_identities_that_are_not_there(tmp_path, raw):
    path = write_json(tmp_path / "p.json", {"splits": [{"train": [1, 2, 99], "test": [3]}]})
    with pytest.raises(ValueError, match=r"train names 1 identities without an image .*: 99"):
        prepare("viper", raw, tmp_path, partition_file=path, progress=False)


def test_data_sets_without_partitions_refuse_a_file(tmp_path):
    raw = raw_trees.write_tree(tmp_path / raw_trees.MARKET, raw_trees.market_files())
    path = write_json(tmp_path / "p.json", {"splits": EXPECTED})
    with pytest.raises(ValueError, match="but market1501 is not divided by partitions; leave it"):
        prepare("market1501", raw, tmp_path, partition_file=path, progress=False)
