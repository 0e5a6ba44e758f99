"""The images that are searched: a folder or zip file of any form, with names where it says them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from reid_jax import schema
from reid_jax.data.forms import read_folder
from reid_jax.data.raw import RawTree, open_raw

__all__ = ["Gallery", "gallery_of_files", "open_gallery"]


@dataclasses.dataclass(frozen=True, eq=False)
class Gallery:
    """The images of a folder or zip file, read one at a time.

    Attributes:
        root: the folder or zip file.
        files: [N] paths below it with '/', sorted.
        identities: [N] names; None where the form of the folder says none.
        cameras: [N] names; None likewise.
        notes: one line each on what the folder's form says.
        tree: reads the files.
    """

    root: pathlib.Path
    files: Sequence[str]
    identities: Sequence[str | None]
    cameras: Sequence[str | None]
    notes: Sequence[str] = ()
    tree: RawTree = dataclasses.field(repr=False, kw_only=True)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, file: str) -> bytes:
        """Encoded bytes of one of `files`.

        Raises:
            OSError: if it cannot be read any more.
            KeyError: if it is none of the files that were there when the gallery was opened.
        """
        return self.tree.read(file)

    def stamp(self, file: str) -> tuple[int, int]:
        """(bytes, time of the last change in ns); the time is 0 where it is not known.

        That is so inside a zip file, and for a file that is gone.
        """
        try:
            status = os.stat(self.root / file)
        except OSError:
            return self.tree.sizes.get(file, 0), 0
        return status.st_size, status.st_mtime_ns

    def path(self, file: str) -> pathlib.Path | None:
        """Where one of `files` lies on disk; None inside a zip file."""
        path = self.root / file
        return path if path.is_file() else None


def open_gallery(path: str | os.PathLike) -> Gallery:
    """Lists the images of a folder or zip file.

    The forms that `reid_jax.data.open_folder` reads give names of identities and cameras; a
    folder of any other form is a gallery too, without names.

    Args:
        path: the folder or zip file.

    Raises:
        FileNotFoundError: if there is nothing at the path.
        ValueError: if it holds no image, or names that are not UTF-8.
    """
    root = pathlib.Path(path).expanduser().absolute()
    try:
        tree = open_raw(path)
    except ValueError as error:
        if root.is_dir() and not any(root.iterdir()):
            raise ValueError(f"the gallery {root} is empty: put images into it") from error
        raise
    files = tree.all_images()
    if not files:
        raise ValueError(f"the gallery {root} holds no image; it has {len(tree.sizes):,} files")
    identities: dict[str, str] = {}
    cameras: dict[str, str] = {}
    try:
        contents = read_folder(tree)
    except ValueError as error:
        why = str(error).splitlines()[0].split("; ")[0]
        notes = [f"names of identities and cameras are not known: {why}"]
    else:
        notes = [f"form: {contents.form}", *contents.notes]
        # The data set may lie in a sub-folder, from which its records count.
        prefix = files[0].removesuffix(contents.tree.all_images()[0])
        records = [record for part in contents.splits.values() for record in part]
        for record in records + contents.unlabelled:
            file = prefix + record.file
            if record.identity > schema.DISTRACTOR:
                identities[file] = _name(record.identity, contents.identity_names)
            if contents.has_cameras:
                cameras[file] = _name(record.camera, contents.camera_names)
    return Gallery(
        root,
        files,
        [identities.get(file) for file in files],
        [cameras.get(file) for file in files],
        notes,
        tree=tree,
    )


def gallery_of_files(files: Sequence[str | os.PathLike]) -> Gallery:
    """Makes a gallery of single image files, in the order given, without names.

    Args:
        files: paths; whether they can be read is seen when they are.
    """
    names = [os.fspath(file) for file in files]
    tree = RawTree(
        dict.fromkeys(names, 0), lambda file: pathlib.Path(file).read_bytes(), "the files"
    )
    unknown = [None] * len(names)
    return Gallery(pathlib.Path(), names, unknown, unknown, tree=tree)


def _name(number: int, names: Sequence[str] | None) -> str:
    return str(number) if names is None else names[number - 1]
