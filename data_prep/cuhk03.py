"""CUHK03: Li et al., "DeepReID: Deep Filter Pairing Neural Network", CVPR 2014.

The images are in one file, `cuhk-03.mat`, of MATLAB's format 7.3, which is HDF5: `labeled` (boxes
drawn by hand) and `detected` are cells of five groups, one for each pair of cameras; a group is a
cell of one row per identity with five images of view A and five of view B, some of them empty;
`testsets` are 20 lists of test identities. HDF5 has all axes in reverse order.
"""

import dataclasses
import itertools
import os
import posixpath
import shutil
import tempfile
import zipfile
import zlib
from io import BytesIO

import cv2
import h5py
import numpy as np
import scipy

from data_prep.builder import ReidBuilder
from data_prep.listing import Listing, Partition, Problem, Record, official_problems
from data_prep.partitions import random_identity_splits
from data_prep.raw import STAND_IN, RawTree

__all__ = ["GROUPS", "MAT", "NEW_PROTOCOL", "OFFICIAL", "Builder", "read"]

MAT = "cuhk-03.mat"
NEW_PROTOCOL_FILE = "cuhk03_new_protocol_config_{pool}.mat"
GROUPS = (843, 440, 77, 58, 49)
OFFICIAL = {
    "detected": {"images": 14097, "identities": 1467},
    "labeled": {"images": 14096, "identities": 1467},
}
NUM_CELLS = {"detected": 5, "labeled": 5, "testsets": 20}
TEST_IDENTITIES = 100
NEW_PROTOCOL = {
    "detected": {"train": 7365, "query": 1400, "gallery": 5332},
    "labeled": {"train": 7368, "query": 1400, "gallery": 5328},
}
FIRST_GROUPS = 3  # 1,360 identities; all test sets are taken from them
IMAGES_PER_VIEW = 5
AGAIN = "download or copy it again"
OFFICIAL_FILE = "use the official file"


class Builder(ReidBuilder):
    """CUHK03 as a TFDS data set: the splits `detected` and `labeled`, and partitions of each."""

    name = "cuhk03"


def read(tree: RawTree) -> tuple[RawTree, Listing]:
    """Records of the official `cuhk-03.mat`.

    Identities are numbered from 1 through the five groups, cameras are 1 (view A) and 2 (view B).
    The partitions `<pool>-1367-100` and `<pool>-1160-100-100` have the official test sets; the
    latter, of the first three groups, also has as many validation identities, drawn at random.
    `<pool>-767-700` comes from the file of Zhong et al., "Re-ranking Person Re-identification with
    k-reciprocal Encoding", CVPR 2017, where that is in the tree.

    Args:
        tree: the raw files, `cuhk-03.mat` anywhere below; or the official zip file, from which it
            is unpacked to a temporary file.

    Returns:
        A tree of the images as PNG files, encoded when read, and what it holds. They are called
        `<pool>/<group>_<number in the group>_<view>_<image>.png`, view B having images 6 to 10.

    Raises:
        ValueError: if there is no such file, or it is not of the official structure.
        OSError: if there is no room to unpack it.
    """
    file = _only(tree, MAT)
    if file is None:
        found = list(tree.sizes)
        zips = [name for name in found if name.lower().endswith(".zip")]
        raise ValueError(
            f"{tree.where} is not this data set: expected {MAT}, found {', '.join(found[:8])}"
            f"{', ...' if len(found) > 8 else ''}{f'; unpack {zips[0]}' if zips else ''}"
        )
    where = f"{tree.where}: {file}"
    mat = _opened(tree, file)
    try:
        pools = {name: _read_pool(mat, name, where) for name in OFFICIAL}
        test_sets = _test_sets(mat, where)
    except (OSError, RuntimeError, KeyError) as error:
        # What HDF5 says of a file that is damaged inside.
        raise ValueError(f"{where} is damaged ({error}); {AGAIN}") from error
    groups = pools["detected"].groups
    if groups != pools["labeled"].groups:
        raise ValueError(
            f"{where}: the groups have {groups} identities in detected and "
            f"{pools['labeled'].groups} in labeled; expected the same ones; {OFFICIAL_FILE}"
        )
    images = _image_tree(tree, posixpath.dirname(file), mat, pools)
    listing = Listing(
        {name: pool.records for name, pool in pools.items()},
        problems=[problem for pool in pools.values() for problem in pool.problems],
        official=not images.is_stand_in,
    )
    whole, part, problems = _of_test_sets(groups, test_sets)
    listing.problems += problems
    if listing.official:
        listing.problems += official_problems(listing.splits, OFFICIAL)
        listing.problems += _structure_problems(groups, test_sets)
    for name, records in listing.splits.items():
        origin = f"test sets of {MAT}"
        listing.partitions[f"{name}-1367-100"] = Partition(name, origin, whole)
        origin += ", val random with the number of the split as seed"
        listing.partitions[f"{name}-1160-100-100"] = Partition(name, origin, part)
        config = _only(tree, NEW_PROTOCOL_FILE.format(pool=name))
        if config is None:
            listing.notes.append(
                f"no {NEW_PROTOCOL_FILE.format(pool=name)}: there is no partition {name}-767-700"
            )
            continue
        partition, problems = _new_protocol(tree, config, name, records)
        listing.partitions[f"{name}-767-700"] = partition
        listing.problems += problems
        if listing.official:
            listing.problems += [
                Problem(
                    "count", f"{config}: {role} {got:,} images, the official set has {expected:,}"
                )
                for role, expected in NEW_PROTOCOL[name].items()
                if (got := len(partition.splits[0][role])) != expected
            ]
    return images, listing


def _only(tree: RawTree, name: str) -> str | None:
    """Path of the one file of this name, wherever it is; None without one."""
    files = [file for file in tree.sizes if posixpath.basename(file) == name]
    if len(files) > 1:
        raise ValueError(f"{tree.where} holds more than one {name}: {', '.join(files)}; keep one")
    return files[0] if files else None


def _opened(tree: RawTree, file: str) -> h5py.File:
    """Opens `cuhk-03.mat` where it is, or unpacks it from the zip file first."""
    where = f"{tree.where}: {file}"
    with tree.stream(file) as stream, tempfile.NamedTemporaryFile(suffix=".mat") as unpacked:
        path = stream.name
        if isinstance(stream, zipfile.ZipExtFile):
            _check_space(os.path.dirname(unpacked.name), tree.sizes[file], where)
            try:
                shutil.copyfileobj(stream, unpacked, 1 << 20)
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise ValueError(f"{where} cannot be unpacked ({error}); {AGAIN}") from error
            unpacked.flush()
            path = unpacked.name
        with open(path, "rb") as content:
            header = content.read(128)
        if not h5py.is_hdf5(path):
            if header.startswith(b"MATLAB 5.0"):
                raise ValueError(
                    f"{where} is of an old MATLAB format (5 to 7); expected 7.3: use the official "
                    "file, or save it again in MATLAB with save(..., '-v7.3')"
                )
            raise ValueError(f"{where} is not a file of MATLAB 7.3 (HDF5); {AGAIN}")
        try:
            # An open file outlives its name. It is only read, and some file systems have no locks.
            return h5py.File(path, "r", locking=False)
        except OSError as error:
            raise ValueError(f"{where} was cut short or is damaged ({error}); {AGAIN}") from error


def _check_space(directory: str, need: int, where: str) -> None:
    free = shutil.disk_usage(directory).free
    if need > free:
        raise OSError(
            f"{where} has to be unpacked, which takes {need / 1e6:,.1f} MB, and {directory} has "
            f"{free / 1e6:,.1f} MB free; set TMPDIR to a directory that has room, or unpack the "
            "zip file and give the folder"
        )


@dataclasses.dataclass
class _Pool:
    """The images of `detected` or `labeled`.

    Attributes:
        groups: number of identities of each group.
        records: sorted.
        pixels: where in the file the pixels of each image are.
        sizes: bytes of the pixels; that of the PNG file is not known before it is encoded.
        problems: identities without any image.
    """

    groups: list[int] = dataclasses.field(default_factory=list)
    records: list[Record] = dataclasses.field(default_factory=list)
    pixels: dict[str, h5py.Reference] = dataclasses.field(default_factory=dict)
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    problems: list[Problem] = dataclasses.field(default_factory=list)


def _read_pool(mat: h5py.File, name: str, where: str) -> _Pool:
    pool = _Pool()
    identity = 0
    for group, reference in enumerate(_cells(mat, name, where), 1):
        what = f"{where}: group {group} of {name}"
        cells = _at(mat, reference, what)
        if not _is_cell(cells) or cells.ndim != 2 or len(cells) != 2 * IMAGES_PER_VIEW:
            raise ValueError(
                f"{what} is {_described(cells)}; expected a cell of one row per identity and "
                f"{2 * IMAGES_PER_VIEW} columns, {IMAGES_PER_VIEW} for each view; {OFFICIAL_FILE}"
            )
        pool.groups.append(cells.shape[1])
        for place, row in enumerate(cells[()].T, 1):
            identity += 1
            before = len(pool.records)
            for column, cell in enumerate(row):
                pixels = _at(mat, cell, f"{what}: identity {place}, column {column + 1}")
                if not pixels.size or (pixels.ndim != 3 and "MATLAB_empty" in pixels.attrs):
                    continue
                view = 1 + column // IMAGES_PER_VIEW
                file = f"{name}/{group}_{place:03d}_{view}_{column + 1:02d}.png"
                pool.records.append(Record(file, identity, view))
                pool.pixels[file] = cell
                pool.sizes[file] = pixels.size * pixels.dtype.itemsize
            if len(pool.records) == before:
                absent = f"{name}: identity {place} of group {group} (number {identity})"
                pool.problems.append(Problem("absent", absent))
    pool.records.sort()
    return pool


def _cells(mat: h5py.File, name: str, where: str) -> list[h5py.Reference]:
    """The cells of a variable, a list in MATLAB."""
    if name not in mat:
        known = ", ".join(sorted(key for key in mat if not key.startswith("#"))) or "nothing"
        raise ValueError(f"{where} has no {name}, it has {known}; {OFFICIAL_FILE}")
    cells, expected = mat[name], NUM_CELLS[name]
    if not _is_cell(cells) or sorted(cells.shape) != [1, expected]:
        raise ValueError(
            f"{where}: {name} is {_described(cells)}; expected a cell of {expected}; "
            f"{OFFICIAL_FILE}"
        )
    return list(cells[()].ravel())


def _at(mat: h5py.File, reference: h5py.Reference, what: str) -> h5py.Dataset:
    node = mat[reference] if reference else None
    if not isinstance(node, h5py.Dataset):
        raise ValueError(f"{what} is not there; {OFFICIAL_FILE}")
    return node


def _is_cell(node: h5py.Dataset | h5py.Group) -> bool:
    return isinstance(node, h5py.Dataset) and h5py.check_ref_dtype(node.dtype) is h5py.Reference


def _described(node: h5py.Dataset | h5py.Group) -> str:
    if not isinstance(node, h5py.Dataset):
        return "a structure"
    kind = "a cell" if _is_cell(node) else f"an array of {node.dtype}"
    return f"{kind} of {' x '.join(map(str, reversed(node.shape or ())))}"


def _image_tree(tree: RawTree, folder: str, mat: h5py.File, pools: dict[str, _Pool]) -> RawTree:
    """The images as files, with the card of a stand-in beside `cuhk-03.mat`."""
    beside = tree.at(folder + "/" if folder else "")
    sizes = {file: size for pool in pools.values() for file, size in pool.sizes.items()}
    places = {file: place for pool in pools.values() for file, place in pool.pixels.items()}
    if beside.is_stand_in:
        sizes[STAND_IN] = beside.sizes[STAND_IN]

    def read_file(file: str) -> bytes:
        if file == STAND_IN:
            return beside.read(file)
        try:
            pixels = mat[places[file]][()]
        except RuntimeError as error:
            raise OSError(str(error)) from error
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or len(pixels) != 3:
            shape = " x ".join(map(str, pixels.shape[::-1]))
            raise ValueError(f"{pixels.dtype} of {shape}; expected uint8 of height x width x 3")
        return cv2.imencode(".png", np.ascontiguousarray(pixels[::-1].T))[1].tobytes()

    return RawTree(sizes, read_file, tree.where)


def _test_sets(mat: h5py.File, where: str) -> list[list[tuple[int, int]]]:
    """The test sets as lists of (group, number in the group), both from 1."""
    test_sets = []
    for number, reference in enumerate(_cells(mat, "testsets", where), 1):
        what = f"{where}: test set {number}"
        content = _at(mat, reference, what)
        members = content[()] if content.dtype.kind in "iuf" and content.ndim == 2 else np.zeros(0)
        if len(members) != 2 or not np.array_equal(members, np.round(members)):
            raise ValueError(
                f"{what} is {_described(content)}; expected rows of two integers, group and "
                f"identity; {OFFICIAL_FILE}"
            )
        test_sets.append([(int(group), int(place)) for group, place in members.T])
    return test_sets


def _of_test_sets(
    groups: list[int], test_sets: list[list[tuple[int, int]]]
) -> tuple[list[dict], list[dict], list[Problem]]:
    """Splits of all groups, splits of the first groups with validation, and problems."""
    before = [0, *itertools.accumulate(groups)]
    everyone, first = range(1, before[-1] + 1), range(1, before[FIRST_GROUPS] + 1)
    whole, part, problems = [], [], []
    for index, members in enumerate(test_sets):
        absent = [
            f"{group}, {place}"
            for group, place in members
            if not (1 <= group <= FIRST_GROUPS and 1 <= place <= groups[group - 1])
        ]
        if absent:
            what = f"test set {index + 1}: no identity {absent[0]} in the first three groups"
            problems.append(Problem("partition", f"{what} ({len(absent)} such)"))
            continue
        test = sorted(before[group - 1] + place for group, place in members)
        taken = set(test)
        whole.append({"train": [one for one in everyone if one not in taken], "test": test})
        rest = [one for one in first if one not in taken]
        sizes = {"train": len(rest) - len(test), "val": len(test)}
        if sizes["train"] < 1:
            what = f"test set {index + 1}: {len(test)} of the {len(first)} identities of the first"
            problems.append(Problem("partition", f"{what} three groups leave none to train on"))
            continue
        (drawn,) = random_identity_splits(rest, sizes, num_splits=1, seed=index)
        part.append({**drawn, "test": test})
    return whole, part, problems


def _structure_problems(groups: list[int], test_sets: list[list[tuple[int, int]]]) -> list[Problem]:
    problems = []
    if tuple(groups) != GROUPS:
        what = f"groups of {groups} identities, the official set has {list(GROUPS)}"
        problems.append(Problem("count", what))
    return problems + [
        Problem("count", f"test set {number}: {len(members)} identities, the official one has 100")
        for number, members in enumerate(test_sets, 1)
        if len(members) != TEST_IDENTITIES
    ]


def _new_protocol(
    tree: RawTree, config: str, pool: str, records: list[Record]
) -> tuple[Partition, list[Problem]]:
    """The partition of a file of the new protocol, and what is wrong with it."""
    where = f"{tree.where}: {config}"
    try:
        content = scipy.io.loadmat(BytesIO(tree.read(config)), squeeze_me=True)
    except Exception as error:
        # SciPy has many exceptions for a damaged file.
        raise ValueError(f"{where} is unreadable ({error}); {AGAIN}") from error
    keys = ("labels", "camId", "filelist", *(f"{role}_idx" for role in NEW_PROTOCOL[pool]))
    missing = [key for key in keys if key not in content]
    if missing:
        raise ValueError(f"{where} has no {', '.join(missing)}; {AGAIN}")
    labels, cameras, names = (np.atleast_1d(content[key]).tolist() for key in keys[:3])
    if not len(labels) == len(cameras) == len(names):
        raise ValueError(
            f"{where} has {len(labels)} labels, {len(cameras)} camId and {len(names)} filelist; "
            f"expected as many of each; {AGAIN}"
        )
    roles = {}
    for role in NEW_PROTOCOL[pool]:
        rows = np.atleast_1d(content[f"{role}_idx"])
        outside = rows[~np.isin(rows, np.arange(1, len(names) + 1))]
        if len(outside):
            raise ValueError(
                f"{where}: {role}_idx has {outside[0]}, expected 1 to {len(names)}; {AGAIN}"
            )
        roles[role] = sorted(f"{pool}/{names[int(row) - 1]}" for row in rows)
    problems = []
    ours = {record.file: (record.identity, record.camera) for record in records}
    theirs = zip(labels, cameras, names, strict=True)
    same = {
        ((label, camera), ours[f"{pool}/{name}"])
        for label, camera, name in theirs
        if f"{pool}/{name}" in ours
    }
    if not len(same) == len({one for one, _ in same}) == len({other for _, other in same}):
        what = f"{config}: labels and camId are not those of the images in filelist"
        problems.append(Problem("partition", what))
    return Partition(pool, f"file {posixpath.basename(config)}", [roles]), problems
