"""Import of partitions from the files that people pass around: which identities or images train."""

import json
import os
import pathlib
import posixpath
from collections.abc import Sequence

import h5py
import numpy as np
import scipy

from data_prep.listing import Partition, Problem, Record

__all__ = ["FORMS", "read_partition"]

FORMS = """accepted are
  *.json  a list of splits as torchreid writes it (splits.json): each has train, query and gallery,
          lists of [path, person, camera]; paths may begin anywhere, num_* is ignored
  *.json  {"pool": ..., "splits": [{"train": [...], "test": [...]}, ...]}: each role (train and
          test, or train, query and gallery, with or without val) has identities or names of files
  *.mat   (MATLAB 5 to 7.3) with one struct array of an element per split that has the fields
          train and test, or idx_train and idx_test, or idxtrain and idxtest, or labelsAtrain and
          labelsAtest (and labelsBtrain, labelsBtest), or trnSp and tstSp (and trnSg, tstSg):
          identities, or logical masks over all identities, over all images, or over the identities
          of each camera
  *.mat   with allimagenames, traininds_set and testinds_set: names of all images, and for each
          split a cell of places among them, from 1
  *.mat   with one matrix that has a permutation of all identities per split, in its rows or in its
          columns: the first half (rounded down) trains
Identities in a .mat are places in the sorted order of the data set's identities, from 1. A mask
goes by identity and then by camera, or by camera and then by identity: whichever of the two makes
all images of an identity train, or all test."""

ROLES = ("train", "val", "test", "query", "gallery")
# Of each side the first name must be there; the second is the other view, with the same content.
STRUCTS = (
    (("train",), ("test",)),
    (("idx_train",), ("idx_test",)),
    (("idxtrain",), ("idxtest",)),
    (("labelsAtrain", "labelsBtrain"), ("labelsAtest", "labelsBtest")),
    (("trnSp", "trnSg"), ("tstSp", "tstSg")),
)
CELLS = ("allimagenames", "traininds_set", "testinds_set")

Members = dict[str, list[int] | list[str]]


def read_partition(
    path: str | os.PathLike, pools: dict[str, list[Record]]
) -> tuple[Partition, list[Problem]]:
    """A partition from a file, in terms of the data set at hand.

    A role becomes its identities, or, where it does not have all their images, its files: those
    that have the name of the file given, in the folder of that name if the data set has such a
    folder.

    Args:
        path: a file of one of the forms of `FORMS`.
        pools: records of each split of the data set.

    Returns:
        The partition, and a problem for each image that the data set does not have; what the roles
        are worth together (overlap, for one) is for `doctor.partition_problems`.

    Raises:
        FileNotFoundError: if there is nothing at the path.
        ValueError: if the file is unreadable or has none of the forms.
    """
    path = pathlib.Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist or is no file; give a partition file")
    if path.suffix.lower() not in (".json", ".mat"):
        raise ValueError(f"{path} is neither a .json nor a .mat file; {FORMS}")
    try:
        content = _mat(path) if path.suffix.lower() == ".mat" else json.loads(path.read_bytes())
    except Exception as error:
        # MATLAB's formats come with exceptions of every kind for a file that is cut short.
        raise ValueError(f"{path} is unreadable ({error}); copy it again") from error

    if not isinstance(content, list | dict):
        raise ValueError(f"{path} holds no list and no object; {FORMS}")
    pool = content.get("pool") if isinstance(content, dict) else None
    if path.suffix.lower() == ".mat" or pool is None:
        if len(pools) > 1:
            raise ValueError(
                f"{path} does not say which images it divides, and the data set has "
                f"{' and '.join(pools)}; say so with "
                '{"pool": ..., "splits": [{"train": [...], "test": [...]}, ...]} in a .json file'
            )
        (pool,) = pools
    if pool not in list(pools):
        raise ValueError(f"{path}: the pool is {pool!r}; expected one of {', '.join(pools)}")

    if path.suffix.lower() == ".mat":
        splits = _mat_splits(path, content, pools[pool])
    elif isinstance(content, list):
        splits = _listed_splits(path, content)
    else:
        splits = _own_splits(path, content)
    problems = []
    splits = [
        _resolved(members, pools[pool], problems, f"{path.name}, split {index}")
        for index, members in enumerate(splits)
    ]
    return Partition(pool, f"file {path.name}", splits), problems


def _resolved(split: Members, pool: list[Record], problems: list[Problem], where: str) -> Members:
    """The split with the data set's own names for its files, or all their identities."""
    by_name: dict[str, list[Record]] = {}
    images: dict[int, set[str]] = {}
    for record in pool:
        by_name.setdefault(posixpath.basename(record.file), []).append(record)
        images.setdefault(record.identity, set()).add(record.file)
    folders = {_folder(record.file) for record in pool}

    resolved: Members = {}
    for role, members in split.items():
        if not members or isinstance(members[0], int):
            resolved[role] = members
            continue
        records = []
        for given in members:
            name = given.replace("\\", "/")
            found = by_name.get(posixpath.basename(name), [])
            if _folder(name) in folders:
                found = [record for record in found if _folder(record.file) == _folder(name)]
            records += found[:1]
            if not found:
                what = f"{where}, {role}: {given} is not in the data set"
                problems.append(Problem("partition", what))
            elif len(found) > 1:
                files = " or ".join(record.file for record in found)
                what = f"{where}, {role}: {given} could be {files}"
                problems.append(Problem("partition", what))
        files = sorted(record.file for record in records)
        identities = sorted({record.identity for record in records})
        whole = sorted(file for identity in identities for file in images[identity])
        resolved[role] = identities if files == whole else files
    return resolved


def _folder(file: str) -> str:
    return posixpath.basename(posixpath.dirname(file))


# ---- JSON


def _listed_splits(path: pathlib.Path, content: list) -> list[Members]:
    splits = []
    for index, split in enumerate(content):
        if not isinstance(split, dict):
            raise ValueError(f"{path}: split {index} is a {type(split).__name__}; {FORMS}")
        members = {}
        for role, entries in split.items():
            if role.startswith("num_"):
                continue
            for entry in _role_list(path, index, role, entries):
                if not (isinstance(entry, list) and len(entry) > 2 and isinstance(entry[0], str)):
                    raise ValueError(
                        f"{path}: split {index}, {role} has {json.dumps(entry)}; expected "
                        f"[path, person, camera]; {FORMS}"
                    )
            members[role] = [entry[0] for entry in entries]
        splits.append(members)
    return splits


def _own_splits(path: pathlib.Path, content: dict) -> list[Members]:
    # What else stands in a card beside these may stay.
    unknown = sorted(set(content) - {"pool", "splits", "origin", "fingerprint"})
    splits = content.get("splits")
    if unknown or not isinstance(splits, list):
        raise ValueError(f"{path} has the keys {', '.join(content) or '(none)'}; {FORMS}")
    for index, split in enumerate(splits):
        if not isinstance(split, dict):
            raise ValueError(f"{path}: split {index} is a {type(split).__name__}; {FORMS}")
        for role, entries in split.items():
            kinds = {type(entry) for entry in _role_list(path, index, role, entries)}
            if kinds not in (set(), {int}, {str}):
                raise ValueError(
                    f"{path}: split {index}, {role} has entries of "
                    f"{', '.join(sorted(kind.__name__ for kind in kinds))}; expected identities "
                    f"(integers) only, or names of files only; {FORMS}"
                )
    return splits


def _role_list(path: pathlib.Path, index: int, role: str, entries: object) -> list:
    if role not in ROLES or not isinstance(entries, list):
        raise ValueError(
            f"{path}: split {index} has {role}, a {type(entries).__name__}; expected lists under "
            f"{', '.join(ROLES)}; {FORMS}"
        )
    return entries


# ---- MATLAB


def _mat(path: pathlib.Path) -> dict:
    """The variables of a .mat file of any version.

    Returns:
        By name: a numeric matrix as an array, text as a list of its rows, a cell array as a list,
        a struct array as a list of dictionaries; lists in MATLAB's order, down the columns.
    """
    if h5py.is_hdf5(path):
        with h5py.File(path) as file:
            return {name: _from_hdf5(file[name]) for name in file if not name.startswith("#")}
    variables = scipy.io.loadmat(path, squeeze_me=False)
    return {name: _from_v5(value) for name, value in variables.items() if name[:2] != "__"}


def _from_v5(value):
    if not isinstance(value, np.ndarray):
        return value  # an object of a class of MATLAB's, which no form has
    if value.dtype.names:
        elements = value.ravel(order="F")
        return [
            {name: _from_v5(element[name]) for name in value.dtype.names} for element in elements
        ]
    if value.dtype == object:
        return [_from_v5(element) for element in value.ravel(order="F")]
    if value.dtype.kind == "U":
        return [row.rstrip() for row in value.ravel(order="F").tolist()]
    return value


def _from_hdf5(value: h5py.Group | h5py.Dataset):
    # HDF5 has the dimensions in reverse: its order is MATLAB's, down the columns.
    if isinstance(value, h5py.Group):
        fields = {name: value[name] for name in value}
        # In an array of several structs each field is an array of references to its values.
        if all(_is_array_of_references(field) for field in fields.values()):
            columns = {name: _dereferenced(field) for name, field in fields.items()}
            return [
                dict(zip(columns, element, strict=True))
                for element in zip(*columns.values(), strict=True)
            ]
        return [{name: _from_hdf5(field) for name, field in fields.items()}]
    if value.attrs.get("MATLAB_empty"):
        return np.zeros((0, 0))
    if h5py.check_ref_dtype(value.dtype):
        return _dereferenced(value)
    if value.attrs.get("MATLAB_class") == b"char":
        return ["".join(map(chr, row)).rstrip() for row in value[()].T]
    return value[()].T


def _is_array_of_references(value: h5py.Group | h5py.Dataset) -> bool:
    is_cell = value.attrs.get("MATLAB_class") == b"cell"
    return (
        not is_cell and isinstance(value, h5py.Dataset) and bool(h5py.check_ref_dtype(value.dtype))
    )


def _dereferenced(value: h5py.Dataset) -> list:
    return [_from_hdf5(value.file[reference]) for reference in value[()].ravel()]


def _mat_splits(path: pathlib.Path, content: dict, pool: list[Record]) -> list[Members]:
    identities = sorted({record.identity for record in pool})
    if set(CELLS) <= set(content):
        return _cell_splits(path, content)
    found = []
    for name, value in content.items():
        if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            found += [
                _mask_splits(f"{path}, {name}", value, train[0], test[0], pool)
                or _struct_splits(f"{path}, {name}", value, train, test, identities)
                for train, test in STRUCTS
                if train[0] in value[0] and test[0] in value[0]
            ]
        elif isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype.kind in "iuf":
            found += _matrix_splits(value, identities)
    if len(found) != 1:
        described = "; ".join(map(_described, sorted(content.items()))) or "nothing"
        raise ValueError(
            f"{path} has {len(found)} variables of an accepted form for {len(identities)} "
            f"identities; it has {described}; expected one; {FORMS}"
        )
    return found[0]


def _described(variable: tuple[str, object]) -> str:
    name, value = variable
    if isinstance(value, np.ndarray):
        return f"{name} ({' x '.join(map(str, value.shape))} {value.dtype})"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"{name} (structs with {', '.join(sorted(value[0]))})"
    return f"{name} ({len(value) if isinstance(value, list) else 'unknown'} cells or rows of text)"


def _cell_splits(path: pathlib.Path, content: dict) -> list[Members]:
    names, *sides = (content[name] for name in CELLS)
    # A cell of text is a list of one row.
    names = [name[0] if isinstance(name, list) and name else name for name in names]
    if not all(isinstance(name, str) for name in names) or not all(
        isinstance(side, list) and len(side) == len(sides[0]) for side in sides
    ):
        described = "; ".join(_described((name, content[name])) for name in CELLS)
        raise ValueError(f"{path} has {described}; {FORMS}")
    return [
        {
            role: [names[place - 1] for place in _places(side, len(names), f"{path}, {key}")]
            for role, key, side in zip(("train", "test"), CELLS[1:], split, strict=True)
        }
        for split in zip(*sides, strict=True)
    ]


def _struct_splits(
    where: str,
    elements: list[dict],
    train: Sequence[str],
    test: Sequence[str],
    identities: list[int],
) -> list[Members]:
    splits = []
    for index, element in enumerate(elements):
        members = {}
        for role, fields in (("train", train), ("test", test)):
            views = [
                _places(element[field], len(identities), f"{where}({index + 1}).{field}")
                for field in fields
                if field in element
            ]
            if any(sorted(view) != sorted(views[0]) for view in views):
                raise ValueError(
                    f"{where}({index + 1}): {' and '.join(fields)} are not the same identities; "
                    "expected every identity in both views"
                )
            members[role] = [identities[place - 1] for place in sorted(views[0])]
        splits.append(members)
    return splits


def _mask_splits(
    where: str, elements: list[dict], train: str, test: str, pool: list[Record]
) -> list[Members] | None:
    """The splits of logical masks; None if these are none."""
    masks = [[element.get(train), element.get(test)] for element in elements]
    # No place is 0, and a mask of one side is 0 where the other side is.
    if not all(
        isinstance(mask, np.ndarray) and np.isin(mask, (0, 1)).all() and (mask == 0).any()
        for pair in masks
        for mask in pair
    ):
        return None
    lengths = {mask.size for pair in masks for mask in pair}
    orders = _orders(pool, lengths.pop()) if len(lengths) == 1 else []
    found = []
    for order in orders:
        splits = [_masked(pair, order) for pair in masks]
        if None not in splits and splits not in found:
            found.append(splits)
    if len(found) != 1:
        identities = len({record.identity for record in pool})
        size = masks[0][0].size
        raise ValueError(
            f"{where}: {train} and {test} are logical masks of {size}, which "
            f"{'could be read in more than one order' if found else 'fit nothing'}; expected one "
            f"entry for each of the {identities} identities or the {len(pool)} images, alike for "
            "all images of an identity"
        )
    return found[0]


def _orders(pool: list[Record], length: int) -> list[list[int]]:
    """The identities that the entries of a mask may stand for."""
    by_identity = [(record.identity, record.camera, record.file) for record in pool]
    by_camera = [(record.camera, record.identity, record.file) for record in pool]
    seen = sorted({entry[:2] for entry in by_identity})
    orders = [
        sorted({record.identity for record in pool}),
        [identity for identity, _, _ in sorted(by_identity)],
        [identity for _, identity, _ in sorted(by_camera)],
        [record.identity for record in sorted(pool)],
        [identity for identity, _ in seen],
        [identity for _, identity in sorted((camera, identity) for identity, camera in seen)],
    ]
    return [order for order in orders if len(order) == length]


def _masked(pair: list[np.ndarray], order: list[int]) -> Members | None:
    """The identities that masks name; None if they take an identity in part."""
    members: Members = {}
    for role, mask in zip(("train", "test"), pair, strict=True):
        flags = np.ravel(mask).astype(bool)
        named = {identity for identity, flag in zip(order, flags, strict=True) if flag}
        if named & {identity for identity, flag in zip(order, flags, strict=True) if not flag}:
            return None
        members[role] = sorted(named)
    return members


def _matrix_splits(matrix: np.ndarray, identities: list[int]) -> list[list[Members]]:
    """The splits of a matrix of permutations, by rows and by columns if both are."""
    count = len(identities)
    found = []
    for rows in (matrix, matrix.T):
        if rows.shape[1] == count and (np.sort(rows, axis=1) == np.arange(1, count + 1)).all():
            orders = [[identities[place - 1] for place in row] for row in rows.astype(int).tolist()]
            half = count // 2
            found.append([{"train": sorted(o[:half]), "test": sorted(o[half:])} for o in orders])
    return found


def _places(values: object, count: int, where: str) -> list[int]:
    """Integers from 1 to count."""
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iuf":
        raise ValueError(f"{where} has no numbers; {FORMS}")
    flat = values.ravel()
    if (flat != np.round(flat)).any() or (flat < 1).any() or (flat > count).any():
        raise ValueError(
            f"{where} has numbers from {flat.min():g} to {flat.max():g}; expected integers from 1 "
            f"to {count}. Places among images, rather than identities, mean something only with "
            "allimagenames beside them"
        )
    return flat.astype(int).tolist()
