"""Files of features made elsewhere, or by `reid-jax embed`: read, and brought to images.

A file has one of two forms. With sides, as baselines of Market-1501 write them: `query_f` [Q, D],
`query_label`, `query_cam` [Q], `gallery_f`, `gallery_label`, `gallery_cam`, and `mquery_f`,
`mquery_label`, `mquery_cam` where there are multi-query images; `query_files` and the like may name
the images. With names, as `reid-jax embed` writes them: `features` [N, D], `files` [N], and
`identities` and `cameras` [N], names, empty where they are not known.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import pathlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy

from reid_jax import extras
from reid_jax.data.folder import refuse_problems, sources_of
from reid_jax.data.forms import read_folder
from reid_jax.data.raw import RawTree
from reid_jax.data.roles import role_of
from reid_jax.data.source import Source

__all__ = ["FeatureList", "aligned_features", "feature_sources", "read_features"]

SIDES = {"query": "query", "gallery": "gallery", "multi_query": "mquery"}
"""What each split is called in a file with sides."""

DAMAGED = (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile)

EXPECTED = (
    "query_f and gallery_f (with query_label, query_cam, gallery_label, gallery_cam), or features "
    "and files (with identities and cameras, as reid-jax embed writes them)"
)


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureList:
    """Features of some images.

    Attributes:
        features: [N, D] float32 or float64, finite.
        files: [N] paths with '/'; None where the file does not name the images.
        identities: [N] integers or names; None where the file does not say them.
        cameras: likewise.
    """

    features: np.ndarray
    files: list[str] | None = None
    identities: np.ndarray | None = None
    cameras: np.ndarray | None = None


def read_features(path: str | os.PathLike) -> dict[str, FeatureList]:
    """Reads a file of features.

    Args:
        path: ends in .npz, .h5 or .mat (of MATLAB before 7.3, as SciPy writes it).

    Returns:
        Lists by split, `query`, `gallery` and perhaps `multi_query`; or the one list, by the name
        `''`, of a file that does not say who asks.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read, lacks arrays or holds other ones than expected.
    """
    path = pathlib.Path(path).expanduser()
    readers = {".npz": _npz, ".h5": _h5, ".mat": _mat}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path} ends in {path.suffix!r}; known: {', '.join(readers)}")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of features {path}")
    try:
        arrays = readers[path.suffix.lower()](path)
    except NotImplementedError as error:
        raise ValueError(f"{path} is of MATLAB 7.3: save it with -v7, or as .npz") from error
    except (*DAMAGED, scipy.io.matlab.MatReadError) as error:
        raise ValueError(f"{path} cannot be read ({error}): make it again") from error
    sided = any(f"{name}_f" in arrays for name in SIDES.values())
    needed = ("query_f", "gallery_f") if sided else ("features", "files")
    lacking = [name for name in needed if name not in arrays]
    if lacking:
        held = ", ".join(sorted(arrays)) or "none"
        raise ValueError(
            f"{path} lacks {' and '.join(lacking)}; its arrays are {held}; expected {EXPECTED}"
        )
    if not sided:
        return {"": _list_of(arrays, ("features", "files", "identities", "cameras"), path)}
    lists = {
        split: _list_of(arrays, [f"{name}_{part}" for part in ("f", "files", "label", "cam")], path)
        for split, name in SIDES.items()
        if f"{name}_f" in arrays
    }
    columns = {split: found.features.shape[1] for split, found in lists.items()}
    if len(set(columns.values())) > 1:
        told = ", ".join(f"{split} {number}" for split, number in columns.items())
        raise ValueError(
            f"{path}: the features have different numbers of columns ({told}): all must come from "
            "one model"
        )
    return lists


def aligned_features(
    lists: Mapping[str, FeatureList], source: Source, split: str, *, where: str
) -> np.ndarray:
    """The features of the images of a source.

    By their names, where the file names them (a folder before all of them, on either side, does
    not count); else in the order of the source, which is that of its file names, and identities and
    cameras have to be the same.

    Args:
        lists: of `read_features`.
        source: N images.
        split: name of the list that is theirs, where the file has sides.
        where: the file, for messages.

    Returns:
        [N, D].

    Raises:
        ValueError: if there is no such list, images have no features, or numbers or labels differ.
    """
    found = lists.get("", lists.get(split))
    if found is None:
        raise ValueError(f"{where} has features of {', '.join(lists)}, and none of {split}")
    if found.files is not None:
        return found.features[_rows_by_name(found.files, source, where)]
    if len(found.features) != len(source):
        raise ValueError(
            f"{where} has {len(found.features):,} features of {split}, and {source.dataset} has "
            f"{len(source):,} such images"
        )
    for what, here, there in (
        ("identity", found.identities, source.identities),
        ("camera", found.cameras, source.cameras),
    ):
        if here is not None and there is not None and (wrong := here != there).any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"{where}: row {row} of {split} has {what} {here[row]}, and image {row} of "
                f"{source.dataset} ({source.files[row]}) has {there[row]}; {int(wrong.sum()):,} "
                "rows differ: the features must be in the order of the file names"
            )
    return found.features


def feature_sources(
    lists: Mapping[str, FeatureList],
    path: str | os.PathLike,
    labels: str | os.PathLike | None = None,
) -> dict[str, Source]:
    """The images of a file of features as sources, without their pixels.

    Args:
        lists: of `read_features`.
        path: of the file.
        labels: CSV file `file,identity[,camera][,split]` for a file with names. Without it the file
            says who is on the images, or the names of the images do, as in
            `reid_jax.data.open_folder`.

    Returns:
        Sources by split, as of `reid_jax.data.open_splits`.

    Raises:
        ValueError: if it is not said who is on the images.
    """
    path = pathlib.Path(path)
    if "" not in lists:
        if labels is not None:
            raise ValueError(f"{path} says who is on its images: leave {labels} out")
        return {split: _side(found, split, path) for split, found in lists.items()}
    named = lists[""]
    files = named.files or []
    if len(set(files)) < len(files):
        raise ValueError(f"{path} names {len(files) - len(set(files)):,} of its images twice")
    table, content = None, b""
    if labels is not None:
        table, content = pathlib.Path(labels).name, pathlib.Path(labels).expanduser().read_bytes()
    elif _all_said(named.identities):
        table, content = "labels.csv", _table(named)
    tree = RawTree(
        dict.fromkeys([*files, *([table] if table else [])], 1),
        _reader(table, content, path),
        f"{path}" if labels is None else f"{labels}",
    )
    try:
        contents = read_folder(tree, table=table)
    except ValueError as error:
        if table is not None:
            raise
        raise ValueError(
            f"{path} does not say who is on its images, and their names do not either: give a CSV "
            f"file file,identity[,camera][,split]; {error}"
        ) from error
    refuse_problems(contents, str(path))
    return sources_of(contents, path.stem)


# Reading ---------------------------------------------------------------------------------------


def _npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _h5(path: pathlib.Path) -> dict[str, np.ndarray]:
    h5py = extras.require("h5py")
    with h5py.File(path) as file:
        return {
            name: held.asstr()[()] if h5py.check_string_dtype(held.dtype) else held[()]
            for name, held in file.items()
            if isinstance(held, h5py.Dataset)
        }


def _mat(path: pathlib.Path) -> dict[str, np.ndarray]:
    with open(path, "rb") as file:
        arrays = scipy.io.loadmat(file)
    return {name: array for name, array in arrays.items() if not name.startswith("__")}


def _list_of(
    arrays: Mapping[str, np.ndarray], names: Sequence[str], path: pathlib.Path
) -> FeatureList:
    key, *labels = names
    features = np.asarray(arrays[key])
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating) or not features.size:
        raise ValueError(
            f"{path}: {key} has the shape {features.shape} and type {features.dtype}; expected "
            "floating-point numbers [images, D]"
        )
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"{path}: {int((~finite).sum()):,} rows of {key} hold nan or infinite numbers, the "
            f"first is row {int(np.argmin(finite))}: make the features again"
        )
    columns: list[np.ndarray | None] = []
    for name in labels:
        # MATLAB has no vectors, [1, N] or [N, 1], and nothing for texts that are all empty.
        column = np.asarray(arrays[name]).reshape(-1) if name in arrays else None
        column = None if column is None or not len(column) else column
        if column is not None and len(column) != len(features):
            raise ValueError(
                f"{path}: {name} has {len(column):,} entries, and {key} {len(features):,} rows: "
                "expected one for each"
            )
        if column is not None and column.dtype == object:  # Cells of MATLAB.
            column = np.array([str(np.squeeze(entry)) for entry in column])
        columns.append(column)
    files, identities, cameras = columns
    return FeatureList(
        features.astype(np.result_type(features.dtype, np.float32), copy=False),
        None if files is None else [str(file).strip() for file in files],
        identities,
        cameras,
    )


# Labels ----------------------------------------------------------------------------------------


def _side(found: FeatureList, split: str, path: pathlib.Path) -> Source:
    if found.identities is None:
        raise ValueError(
            f"{path} lacks {SIDES[split]}_label, which says who is on the images: add it, or give "
            "the images' data set"
        )
    cameras = found.cameras
    name = SIDES[split]
    return Source(
        dataset=path.stem,
        split=split,
        files=found.files or [f"{split}/{row}" for row in range(len(found.features))],
        identities=_whole(found.identities, f"{path}: {name}_label"),
        cameras=None if cameras is None else _whole(cameras, f"{path}: {name}_cam"),
        images=_NoImages(len(found.features), path),
    )


def _whole(column: np.ndarray, what: str) -> np.ndarray:
    if not np.issubdtype(column.dtype, np.number) or not (column == column.astype(np.int64)).all():
        raise ValueError(f"{what} holds {column.dtype}, expected whole numbers")
    return column.astype(np.int64)


def _all_said(names: np.ndarray | None) -> bool:
    return names is not None and all(str(name) for name in names)


def _table(named: FeatureList) -> bytes:
    """What a file says of its images, as a table of them."""
    files = named.files or []
    columns: dict[str, Any] = {"file": files, "identity": named.identities}
    if _all_said(named.cameras):
        columns["camera"] = named.cameras
    roles = [role_of(_top(file, files)) for file in files]
    if all(roles) and len(set(roles)) > 1:
        columns["split"] = roles
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue().encode()


def _top(file: str, files: list[str]) -> str:
    common = os.path.commonpath([os.path.dirname(name) for name in files])
    return file.removeprefix(common).lstrip("/").split("/")[0]


def _reader(table: str | None, content: bytes, path: pathlib.Path) -> Callable[[str], bytes]:
    def read(file: str) -> bytes:
        if file == table:
            return content
        raise ValueError(f"{path} has features of {file}, and not the image")

    return read


class _NoImages:
    """The images of features: their number, and no pixels."""

    def __init__(self, number: int, path: pathlib.Path) -> None:
        self._number, self._path = number, path

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, row: int) -> bytes:
        raise ValueError(f"{self._path} has features, and no images")


def _rows_by_name(files: list[str], source: Source, where: str) -> list[int]:
    rows = {file: row for row, file in enumerate(files)}
    if len(rows) < len(files):
        raise ValueError(f"{where} names {len(files) - len(rows):,} of its images twice")
    renamed = _renamed(files, source.files[0])
    wanted = [renamed(file) for file in source.files]
    missing = [own for own, file in zip(source.files, wanted, strict=True) if file not in rows]
    if missing:
        raise ValueError(
            f"{where} has no features of {len(missing):,} of {len(source):,} images of "
            f"{source.split}, the first is {missing[0]}; its names are like {files[0]}"
        )
    return [rows[file] for file in wanted]


def _renamed(files: list[str], first: str) -> Callable[[str], str]:
    """What the file calls an image: with or without a folder before it."""
    if first not in files:
        for file in files:
            if file.endswith(f"/{first}"):
                folder = file.removesuffix(first)
                return lambda own: folder + own
            if first.endswith(f"/{file}"):
                folder = first.removesuffix(file)
                return lambda own: own.removeprefix(folder)
    return lambda own: own
