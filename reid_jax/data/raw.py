"""Raw data sets: a folder or a zip file, as a table of files."""

import os
import pathlib
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, cast

__all__ = ["IMAGE_SUFFIXES", "STAND_IN", "RawTree", "is_hidden", "open_raw", "suffixes_of"]

# What cv2.imdecode reads, by the names that such files have; the one list of the project. A test
# decodes one of each.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    *(".png", ".apng", ".bmp", ".dib", ".webp", ".avif", ".gif"),
    *(".tif", ".tiff", ".jp2", ".hdr", ".pic"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pam", ".pfm", ".sr", ".ras"),
)
COMPRESSIONS = (
    *(zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
    *(zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA),
)
STAND_IN = "STAND_IN.json"  # the renderer leaves it in the root of a tree


class RawTree:
    """Files of a raw data set by their path from its root, with '/', in sorted order.

    Attributes:
        sizes: bytes of each file.
        where: what the user gave, for messages.
        stream: opens a file that is too large to be read whole; None for a tree without such files.
        hidden: hidden files, and those that Windows and macOS add, which `sizes` lacks.
        notes: one line for each other thing that was left out, such as a link that leads back.
    """

    def __init__(
        self,
        sizes: dict[str, int],
        read: Callable[[str], bytes],
        where: str,
        stream: Callable[[str], BinaryIO] | None = None,
        *,
        hidden: Iterable[str] = (),
        notes: Iterable[str] = (),
    ):
        self.sizes = dict(sorted(sizes.items()))
        self.read = read
        self.where = where
        self.stream = stream
        self.hidden = sorted(hidden)
        self.notes = list(notes)

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
        whole = self.stream
        stream = whole and (lambda path: whole(prefix + path))
        return RawTree(
            sizes,
            lambda path: self.read(prefix + path),
            self.where,
            stream,
            hidden=self.hidden,
            notes=self.notes,
        )

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
        score: dict[str, int] = {}
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
            best = max(sorted(score), key=lambda parent: score[parent])
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


def is_hidden(path: str) -> bool:
    """Whether a path is hidden, or is one that Windows or macOS adds."""
    parts = path.split("/")
    return any(part.startswith(".") or part == "__MACOSX" for part in parts) or parts[-1] in (
        "Thumbs.db",
        "desktop.ini",
    )


def suffixes_of(files: Iterable[str]) -> str:
    """The kinds of files with the number of each: '.txt 3, .csv 1, no suffix 2'."""
    kinds = Counter(os.path.splitext(file)[1].lower() or "no suffix" for file in files)
    return ", ".join(f"{kind} {number:,}" for kind, number in kinds.most_common())


def open_raw(raw_dir: str | os.PathLike) -> RawTree:
    """Opens a raw data set.

    Args:
        raw_dir: a folder, a zip file, or a folder that holds nothing but one zip file.

    Returns:
        Its files; hidden files and those that Windows and macOS add are left out.

    Raises:
        FileNotFoundError: if there is nothing at that path.
        ValueError: if it is empty, or not a readable zip file, or if the name of an image is not
            UTF-8.
        OSError: if a folder in it cannot be listed.
    """
    where = _shown(os.fspath(raw_dir))
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

    sizes: dict[str, int] = {}
    paths: dict[str, str] = {}
    hidden: list[str] = []
    notes: list[str] = []
    foreign: list[str] = []
    for full in _walk(path, notes):
        # Some programs unpack a zip file of Windows to names with backslashes in them.
        relative = os.path.relpath(full, path).replace(os.sep, "/").replace("\\", "/")
        if is_hidden(relative):
            hidden.append(_shown(relative))
        elif _shown(relative) != relative:
            foreign.append(relative)
        else:
            if relative in paths:
                raise ValueError(
                    f"{where} holds two files that are both read as {relative}, one of them with "
                    "backslashes in its name; rename or remove one"
                )
            # A link to nothing counts as an empty file, which the doctor reports.
            sizes[relative] = os.path.getsize(full) if os.path.exists(full) else 0
            paths[relative] = full
    _refuse_foreign(where, foreign, notes)
    if not sizes:
        raise ValueError(f"{where} is empty; give the folder or the zip file of the raw data set")
    if len(sizes) == 1 and next(iter(sizes)).lower().endswith(".zip"):
        return _open_zip(pathlib.Path(next(iter(paths.values()))), where)
    return RawTree(
        sizes,
        lambda relative: pathlib.Path(paths[relative]).read_bytes(),
        where,
        lambda relative: open(paths[relative], "rb"),
        hidden=hidden,
        notes=notes,
    )


def _walk(root: pathlib.Path, notes: list[str]) -> Iterator[str]:
    """Paths of all files below a folder; links are followed, but not those that lead back."""

    def refuse(error: OSError) -> None:
        raise error

    def place(folder: str) -> tuple[int, int]:
        status = os.stat(folder)
        return status.st_dev, status.st_ino

    top = os.path.realpath(root)
    above = {os.fspath(root): {place(os.fspath(root))}}
    for folder, subfolders, names in os.walk(os.fspath(root), followlinks=True, onerror=refuse):
        chain = above.pop(folder)
        kept = []
        for name in sorted(subfolders):
            full = os.path.join(folder, name)
            target = os.path.realpath(full)
            if os.path.islink(full) and (
                place(full) in chain or (top + os.sep).startswith(target.rstrip(os.sep) + os.sep)
            ):
                relative = os.path.relpath(full, root)
                notes.append(
                    f"not read: the link {_shown(relative)}, which leads back to a "
                    "folder that it is in"
                )
                continue
            above[full] = chain | {place(full)}
            kept.append(name)
        subfolders[:] = kept
        yield from (os.path.join(folder, name) for name in names)


def _shown(name: str) -> str:
    """A name as it can be printed: bytes that are not UTF-8 become \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _refuse_foreign(where: str, files: list[str], notes: list[str]) -> None:
    images = sorted(_shown(file) for file in files if file.lower().endswith(IMAGE_SUFFIXES))
    if images:
        more = f" and {len(images) - 5:,} more" if len(images) > 5 else ""
        raise ValueError(
            f"{where} holds {len(images):,} images whose names are not UTF-8: "
            f"{', '.join(images[:5])}{more}; rename them, for Chinese names for example with\n"
            f"  convmv -f gbk -t utf8 -r --notest {where}"
        )
    if files:
        notes.append(
            f"not read: {len(files):,} other files whose names are not UTF-8 ({suffixes_of(files)})"
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
    # Some programs of Windows write names with backslashes.
    entries = {
        name: entry
        for entry in archive.infolist()
        if not (name := entry.filename.replace("\\", "/")).endswith("/")
    }
    if any(entry.flag_bits & 1 for entry in entries.values()):
        archive.close()
        raise ValueError(
            f"{where} is protected by a password; unpack it, and give the folder instead"
        )
    unknown = [name for name, entry in entries.items() if entry.compress_type not in COMPRESSIONS]
    if unknown:
        archive.close()
        raise ValueError(
            f"{where} packs {len(unknown):,} files by a method that is not read here (Windows does "
            f"so with large ones), such as {unknown[0]}; unpack it, and give the folder instead"
        )
    sizes = {name: entry.file_size for name, entry in entries.items() if not is_hidden(name)}
    if not sizes:
        archive.close()
        raise ValueError(f"{where} holds no files; download or copy it again")
    return RawTree(
        sizes,
        lambda name: archive.read(entries[name]),
        where,
        lambda name: cast(BinaryIO, archive.open(entries[name])),
        hidden=set(entries) - set(sizes),
    )
