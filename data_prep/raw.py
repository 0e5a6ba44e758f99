"""Raw data sets: a folder or a zip file, as a table of files."""

import os
import pathlib
import zipfile
from collections.abc import Callable, Iterable
from typing import BinaryIO

__all__ = ["IMAGE_SUFFIXES", "STAND_IN", "RawTree", "open_raw"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
STAND_IN = "STAND_IN.json"  # the renderer leaves it in the root of a tree


class RawTree:
    """Files of a raw data set by their path from its root, with '/', in sorted order.

    Attributes:
        sizes: bytes of each file.
        where: what the user gave, for messages.
        stream: opens a file that is too large to be read whole; None for a tree without such files.
    """

    def __init__(
        self,
        sizes: dict[str, int],
        read: Callable[[str], bytes],
        where: str,
        stream: Callable[[str], BinaryIO] | None = None,
    ):
        self.sizes = dict(sorted(sizes.items()))
        self.read = read
        self.where = where
        self.stream = stream

    @property
    def is_stand_in(self) -> bool:
        """Whether the renderer made this tree."""
        return STAND_IN in self.sizes

    def at(self, prefix: str) -> "RawTree":
        """The part below a prefix ('' or ending in '/')."""
        sizes = {
            path.removeprefix(prefix): size
            for path, size in self.sizes.items()
            if path.startswith(prefix)
        }
        stream = self.stream and (lambda path: self.stream(prefix + path))
        return RawTree(sizes, lambda path: self.read(prefix + path), self.where, stream)

    def images(self, folder: str = "") -> list[str]:
        """Paths of the images directly in a folder ('' is the root), sorted."""
        return [path for path in self.all_images() if os.path.dirname(path) == folder]

    def all_images(self) -> list[str]:
        """Paths of all images, sorted."""
        return [path for path in self.sizes if path.lower().endswith(IMAGE_SUFFIXES)]

    def image_folders(self) -> list[str]:
        """Folders that hold images directly, sorted; the root is ''."""
        return sorted({os.path.dirname(path) for path in self.all_images()})

    def root(self, folders: Iterable[str]) -> str:
        """Prefix below which all the named folders hold images.

        Raises:
            ValueError: if there is no such place, or more than one.
        """
        folders = list(folders)
        present = set(self.image_folders())
        score = {}
        for folder in present:
            parent, name = os.path.split(folder)
            if name in folders:
                score[parent] = score.get(parent, 0) + 1
        roots = sorted(parent for parent, count in score.items() if count == len(folders))
        if len(roots) == 1:
            return roots[0] + "/" if roots[0] else ""
        if roots:
            raise ValueError(
                f"{self.where} holds more than one data set with the folders {', '.join(folders)}: "
                f"{', '.join(roots)}; give the path of one of them"
            )
        if score:
            best = max(sorted(score), key=score.get)
            missing = [name for name in folders if os.path.join(best, name) not in present]
            raise ValueError(
                f"{self.where}: the folders {', '.join(missing)} are missing or hold no images; "
                f"expected {', '.join(folders)} side by side; copy or unpack the data set again"
            )
        found = ", ".join(folder or "." for folder in sorted(present)[:8]) or "none"
        raise ValueError(
            f"{self.where} is not this data set: expected images in {', '.join(folders)}; the "
            f"folders with images are: {found}{', ...' if len(present) > 8 else ''}"
        )


def _hidden(path: str) -> bool:
    parts = path.split("/")
    return any(part.startswith(".") or part == "__MACOSX" for part in parts) or parts[-1] in (
        "Thumbs.db",
        "desktop.ini",
    )


def open_raw(raw_dir: str | os.PathLike) -> RawTree:
    """Opens a raw data set.

    Args:
        raw_dir: a folder, a zip file, or a folder that holds nothing but one zip file.

    Returns:
        Its files; hidden files and those that Windows and macOS add are left out.

    Raises:
        FileNotFoundError: if there is nothing at that path.
        ValueError: if it is empty, or not a readable zip file.
    """
    where = os.fspath(raw_dir)
    path = pathlib.Path(raw_dir).expanduser()
    if "://" in where:
        raise ValueError(
            f"{where} is a bucket; raw data sets are read from a local path: copy it here"
        )
    if not path.exists():
        raise FileNotFoundError(
            f"{where} does not exist; give the folder or the zip file of the raw data set"
        )
    if path.is_file():
        return _open_zip(path, where)

    sizes = {}
    for folder, subfolders, names in os.walk(path, followlinks=True):
        subfolders.sort()
        for name in names:
            full = os.path.join(folder, name)
            relative = os.path.relpath(full, path).replace(os.sep, "/")
            if not _hidden(relative):
                # A link to nothing counts as an empty file, which the doctor reports.
                sizes[relative] = os.path.getsize(full) if os.path.exists(full) else 0
    if not sizes:
        raise ValueError(f"{where} is empty; give the folder or the zip file of the raw data set")
    if len(sizes) == 1 and next(iter(sizes)).lower().endswith(".zip"):
        return _open_zip(path / next(iter(sizes)), where)
    return RawTree(
        sizes,
        lambda relative: (path / relative).read_bytes(),
        where,
        lambda relative: (path / relative).open("rb"),
    )


def _open_zip(path: pathlib.Path, where: str) -> RawTree:
    if path.suffix.lower() != ".zip":
        raise ValueError(f"{where} is a file, but neither a folder nor a zip file")
    if path.stat().st_size == 0:
        raise ValueError(f"{where} is empty; download or copy it again")
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{where} is not a whole zip file ({error}); it was cut short or damaged: download or "
            "copy it again"
        ) from error
    entries = {entry.filename: entry for entry in archive.infolist() if not entry.is_dir()}
    if any(entry.flag_bits & 1 for entry in entries.values()):
        archive.close()
        raise ValueError(
            f"{where} is protected by a password; unpack it, and give the folder instead"
        )
    sizes = {name: entry.file_size for name, entry in entries.items() if not _hidden(name)}
    if not sizes:
        archive.close()
        raise ValueError(f"{where} holds no files; download or copy it again")
    return RawTree(sizes, archive.read, where, archive.open)
