"""A person's own folder as sources of images, as it lies, without preparation."""

import logging
import os
import pathlib
from collections.abc import Mapping

import numpy as np

from reid_jax.data import carving
from reid_jax.data.contents import OVERLAP, Contents
from reid_jax.data.forms import read_folder
from reid_jax.data.raw import RawTree, open_raw
from reid_jax.data.records import Record, listed
from reid_jax.data.source import Source, join
from reid_jax.data.tables import TABLE_SUFFIXES

__all__ = [
    "describe",
    "open_contents",
    "open_folder",
    "open_splits",
    "refuse_problems",
    "sources_of",
    "with_test_side",
]

_logger = logging.getLogger(__name__)


def open_folder(path: str | os.PathLike, split: str | None = None) -> Source:
    """Opens a person's own folder of images; images are read when indexed.

    Identity sub-folders, a CSV or TSV file `file,identity[,camera][,split]`, and names like
    Market-1501's are read, each also divided into train, val, test, query and gallery (see
    `describe`, which says what was found; it is also logged, what is left out as a warning).

    Args:
        path: the folder, a zip file of it, or its table.
        split: which split to open. Without it: all images of a folder that is not divided, with its
            distractors (0) and junk (-1); the training images of a folder that is.

    Returns:
        The source, sorted by file; its data set is named like the folder, and identities and
        cameras keep their names.

    Raises:
        FileNotFoundError: if there is nothing at the path.
        ValueError: if its form is not clear, with what to do; if it holds no such split; or if
            there is no image in it.
    """
    contents, name = _opened(path)
    if split is None and "train" not in contents.splits:
        raise ValueError(
            f"{path} has no training images; its splits are {', '.join(_names_of(contents))}: name "
            "one, open_folder(path, split), or take all of them, open_splits(path)"
        )
    if split is not None and split not in _names_of(contents):
        raise ValueError(
            f"{path} has no split {split!r}; its splits are {', '.join(_names_of(contents))}"
        )
    if split in (None, "train"):
        return _source(contents, name, "train")
    return sources_of(contents, name)[split]


def open_splits(path: str | os.PathLike) -> dict[str, Source]:
    """Opens all splits of a person's own folder.

    Args:
        path: the folder, a zip file of it, or its table.

    Returns:
        Sources by split: `train` alone, with all images, where the folder is not divided (see
        `carve`). A test side without a query is divided into `query` and `gallery`, and validation
        images into `val_query` and `val_gallery`, with seed 0.

    Raises:
        FileNotFoundError: if there is nothing at the path.
        ValueError: if its form is not clear, or a split cannot be divided, with what to do.
    """
    contents, name = _opened(path)
    return sources_of(contents, name)


def with_test_side(sources: Mapping[str, Source]) -> dict[str, Source]:
    """All that a protocol may ask for, of the splits of a person's own folder.

    Args:
        sources: of `open_splits`.

    Returns:
        The sources; `query` and `gallery`, into which the images of a folder that is not divided
        are divided with seed 0; and `test`, which is both of them.

    Raises:
        ValueError: if there are other splits, but no query and gallery, or none can be made.
    """
    found = dict(sources)
    if set(found) == {"train"}:
        found = carving.divide(found["train"], seed=0)
    if not {"query", "gallery"} <= found.keys():
        first = next(iter(found.values()))
        raise ValueError(
            f"{first.dataset} has the splits {', '.join(found)}, and no query and gallery to test "
            "on: add them, or a split test, from which they are made"
        )
    return {**found, "test": join([found["query"], found["gallery"]], "test")}


def describe(path: str | os.PathLike) -> str:
    """Says what a person's own folder holds, as `open_folder` and `prepare.py` read it.

    Args:
        path: the folder, a zip file of it, or its table.

    Returns:
        Lines: the form; each split with its images, identities, distractors and junk, and the
        first identities by name; cameras; what is wrong; and every file that is not read, by kind
        and number.

    Raises:
        FileNotFoundError: if there is nothing at the path.
        ValueError: if its form is not clear, with what to do.
    """
    contents = open_contents(path)
    problems = [listed(contents.problems)] if contents.problems else []
    return "\n".join(contents.lines() + problems)


def open_contents(path: str | os.PathLike, *, use_cameras: bool = True) -> Contents:
    """What a person's own folder, zip file or table holds.

    Args:
        path: the folder, a zip file of it, or its table.
        use_cameras: False leaves cameras out.

    Raises:
        FileNotFoundError: if there is nothing at the path.
        ValueError: if its form is not clear.
    """
    file = pathlib.Path(path).expanduser()
    if file.suffix.lower() in TABLE_SUFFIXES and file.is_file():
        # "list.csv" alone has the parent ".".
        return read_folder(open_raw(file.parent), table=file.name, use_cameras=use_cameras)
    return read_folder(open_raw(path), use_cameras=use_cameras)


def refuse_problems(contents: Contents, where: str) -> None:
    """Refuses names and rows that cannot be used.

    Args:
        contents: what was found.
        where: the folder or file, for messages.

    Raises:
        ValueError: if there are any, with a list of them.
    """
    if contents.problems:
        number = len(contents.problems)
        raise ValueError(
            f"{where}: {number:,} problem{'s' * (number > 1)}\n{listed(contents.problems)}"
        )


def _opened(path: str | os.PathLike) -> tuple[Contents, str]:
    contents = open_contents(path)
    refuse_problems(contents, os.fspath(path))
    for line in contents.lines():
        left = line.startswith(("not read", OVERLAP)) or line.endswith("left out")
        _logger.log(logging.WARNING if left else logging.INFO, "%s: %s", path, line)
    file = pathlib.Path(path).expanduser().resolve()
    if file.suffix.lower() in TABLE_SUFFIXES and file.is_file():
        file = file.parent
    return contents, file.stem if file.suffix.lower() == ".zip" else file.name


def _names_of(contents: Contents) -> list[str]:
    names = []
    for split in contents.splits:
        made = {"test": ["query", "gallery"], "val": ["val_query", "val_gallery"]}
        names += made.get(split, [split])
    return names


def sources_of(contents: Contents, name: str) -> dict[str, Source]:
    """The splits of what a folder holds, as of `open_splits`.

    Args:
        contents: without problems.
        name: of the data set.

    Raises:
        ValueError: if a split has no image, or cannot be divided.
    """
    sources: dict[str, Source] = {}
    for split in contents.splits:
        source = _source(contents, name, split)
        if split == "test":
            sources |= carving.divide(source, seed=0)
        elif split == "val":
            sources |= carving.divide(source, seed=0, names=("val_query", "val_gallery"))
        else:
            sources[split] = source
    return sources


def _source(contents: Contents, name: str, split: str) -> Source:
    records = list(contents.splits[split])
    if split == "train":
        records = sorted(records + contents.unlabelled)
    if not records:
        raise ValueError(f"{contents.tree.where}: {split} has no image")
    cameras = np.array([record.camera for record in records], np.int64)
    return Source(
        dataset=name,
        split=split,
        files=[record.file for record in records],
        identities=np.array([record.identity for record in records], np.int64),
        cameras=cameras if contents.has_cameras else None,
        images=_FileImages(contents.tree, records),
        identity_names=_by_number(contents.identity_names),
        camera_names=_by_number(contents.camera_names),
    )


def _by_number(names: list[str] | None) -> Mapping[int, str] | None:
    return None if names is None else dict(enumerate(names, 1))


class _FileImages:
    """Image bytes of the files of a tree, by row."""

    def __init__(self, tree: RawTree, records: list[Record]):
        self._tree, self._files = tree, [record.file for record in records]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, row: int) -> bytes:
        return self._tree.read(self._files[row])
