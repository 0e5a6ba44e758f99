"""Embeddings on disk that follow a gallery: what is new or changed is embedded, no more.

A store is a folder. `index.json` names its parts, and each part is two files: `features-*.npy`,
one row an image, and `images-*.json`, the file, bytes, time and digest of each. No file that the
index names is ever written again: new files are written beside them, then the index is replaced in
one step, then what it no longer names is removed. So a store is whole at any moment, and a process
that is killed loses at most the part it was filling.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import logging
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from reid_jax.embedder import Embedder
from reid_jax.files import write_atomically
from reid_jax.search.embedding import (
    ReadImage,
    StreamEmbedder,
    Unreadable,
    model_digest,
    read_images,
)
from reid_jax.search.gallery import Gallery

__all__ = ["FORMAT", "EmbeddingStore", "Stored", "Update"]

FORMAT = 1
"""Version of the files of a store."""

DTYPES = ("float32", "float16")
INDEX, LOCK = "index.json", "lock"
_OWN = re.compile(r"(index\.json|lock|(features|images)-\d+\.(npy|json))(\.partial)?")
_GRAPH = re.compile(r"graph-[0-9a-f]{16}\.usearch(\.partial)?")
"""What `NeighbourGraph` keeps beside a store's files."""

_COPIED_BYTES = 2**24

_logger = logging.getLogger(__name__)


class _Entry(NamedTuple):
    """An image as it was when it was embedded."""

    file: str
    size: int
    modified: int
    digest: str


class _Place(NamedTuple):
    """Where the embedding of an image stands."""

    part: int
    row: int


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """The embeddings of a store at one moment; a later update does not change them.

    Attributes:
        files: [N] paths in the gallery, sorted.
        digests: [N] SHA-256 of the bytes of each.
        features: [N, D] float32 or float16, memory-mapped.
    """

    files: Sequence[str]
    digests: Sequence[str]
    features: np.ndarray = dataclasses.field(repr=False)

    def __len__(self) -> int:
        return len(self.files)


@dataclasses.dataclass(frozen=True, eq=False)
class Update:
    """What an update of a store found and did.

    Attributes:
        stored: the embeddings of all images that can be read.
        embedded: number of images that were embedded.
        kept: number of images whose embedding was there already, renamed ones included.
        dropped: number of files that were in the store and are no longer.
        unreadable: images that are not in the store because they cannot be read.
    """

    stored: Stored
    embedded: int
    kept: int
    dropped: int
    unreadable: Sequence[Unreadable]


class EmbeddingStore:
    """A folder with the embeddings of the images of one gallery by one model.

    Args:
        directory: the store; new, empty, or one that this class made.
        embedder: the model.
        dtype: 'float32', or 'float16' for half the space; None takes what is there, else float32.
        bytes_per_part: embeddings that are held, and may be lost to a kill, before they are kept.

    Raises:
        FileExistsError: if the directory holds something else.
        ValueError: on a dtype that is not known, or a network that has no embedding of one image.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        embedder: Embedder,
        *,
        dtype: str | None = None,
        bytes_per_part: int = 2**25,
    ) -> None:
        if dtype not in (None, *DTYPES):
            raise ValueError(f"dtype is {dtype!r}; known: {', '.join(DTYPES)}")
        self.directory = pathlib.Path(directory).expanduser()
        if self.directory.exists():
            names = [path.name for path in self.directory.iterdir()]
            others = [n for n in names if not (_OWN.fullmatch(n) or _GRAPH.fullmatch(n))]
            if others:
                raise FileExistsError(
                    f"{self.directory} holds something that is no store ({sorted(others)[0]}): "
                    "give another directory"
                )
        self.model = model_digest(embedder)
        self._embed = StreamEmbedder(embedder)
        self._dtype = dtype
        self._bytes_per_part = bytes_per_part

    def update(self, gallery: Gallery, *, progress: bool = False) -> Update:
        """Embeds the new and changed images of a gallery, and drops those that are gone.

        Waits for another process that updates the same store. A file whose bytes and time are those
        of the last update is taken to be the same; any other is read, and embedded unless an image
        of the same content was.

        Args:
            gallery: all images that the store is to hold.
            progress: show a progress bar.

        Returns:
            What was done, with the embeddings.

        Raises:
            ValueError: if the store is of another model, gallery or dtype, or is damaged; if no
                image can be read; or if an embedding is not finite.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._locked():
            index = self._index(gallery)
            _remove_others(self.directory, index)
            return _Updating(self.directory, index, self._embed, self._bytes_per_part).run(
                gallery, progress=progress
            )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        # The kernel takes the lock back from a process that dies.
        with open(self.directory / LOCK, "a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _logger.warning("waiting for another process that updates %s", self.directory)
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _index(self, gallery: Gallery) -> dict[str, Any]:
        path = self.directory / INDEX
        root = os.fspath(gallery.root)
        if not path.exists():
            dtype = self._dtype or DTYPES[0]
            made = {"format": FORMAT, "model": self.model, "gallery": root, "dtype": dtype}
            made |= {"next": 0, "parts": []}
            write_atomically(path, json.dumps(made, indent=2))
            return made
        try:
            index = json.loads(path.read_text())
            known = index["format"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: delete the store, to embed anew") from error
        advice = "give another directory for the store, or delete this one to embed anew"
        if known != FORMAT:
            raise ValueError(
                f"{self.directory} is of format {known}, and this version of reid_jax writes "
                f"format {FORMAT}: {advice}"
            )
        if index["model"] != self.model:
            raise ValueError(
                f"{self.directory} holds embeddings of another model ({index['model']}; the one "
                f"given is {self.model}): {advice}"
            )
        if self._dtype not in (None, index["dtype"]):
            raise ValueError(
                f"{self.directory} holds {index['dtype']}, and {self._dtype} was asked for: "
                f"{advice}"
            )
        if index["gallery"] != root and os.path.exists(index["gallery"]):
            raise ValueError(
                f"{self.directory} holds the gallery {index['gallery']}, and the one given is "
                f"{root}: {advice}"
            )
        return index | {"gallery": root}


class _Updating:
    """One update, by the process that has the lock."""

    def __init__(
        self,
        directory: pathlib.Path,
        index: dict[str, Any],
        embed: StreamEmbedder,
        bytes_per_part: int,
    ) -> None:
        self._directory, self._index, self._embed = directory, index, embed
        self._bytes_per_part = bytes_per_part
        self._parts = [_open_part(directory, part) for part in index["parts"]]
        self._held: dict[str, tuple[_Entry, _Place]] = {}
        for number, (entries, _) in enumerate(self._parts):
            self._held |= {e.file: (e, _Place(number, row)) for row, e in enumerate(entries)}
        self._by_digest = {entry.digest: place for entry, place in self._held.values()}
        self._filling: tuple[list[_Entry], list[np.ndarray]] = ([], [])

    def run(self, gallery: Gallery, *, progress: bool) -> Update:
        known = dict(self._held)
        found: dict[str, tuple[_Entry, _Place]] = {}
        pending = []
        for file in gallery.files:
            entry, place = self._held.get(file, (None, None))
            same = entry and entry.modified and gallery.stamp(file) == (entry.size, entry.modified)
            if entry and place and same:
                found[file] = entry, place
            else:
                pending.append(file)
        embedded, unreadable = 0, []
        batches = read_images(
            gallery,
            pending,
            self._embed.input_size,
            batch_size=self._embed.batch_size,
            known=frozenset(self._by_digest),
        )
        with tqdm(
            total=len(pending), desc="embedding", unit="img", disable=not (progress and pending)
        ) as bar:
            for images, lost in batches:
                new = [image for image in images if image.pixels is not None]
                if new:
                    self._add(new)
                    embedded += len(new)
                found |= {i.file: (_entry(i), self._by_digest[i.digest]) for i in images}
                unreadable += lost
                bar.update(len(images) + len(lost))
        self._close_part()
        if not found:
            shown = "".join(f"\n  {u.file}: {u.reason}" for u in unreadable[:5])
            raise ValueError(f"no image of the gallery {gallery.root} can be read:{shown}")
        ordered = [found[file] for file in gallery.files if file in found]
        self._write_as_one(ordered)
        entries, features = self._parts[0]
        return Update(
            Stored([e.file for e in entries], [e.digest for e in entries], features),
            embedded=embedded,
            kept=len(found) - embedded,
            dropped=len(known.keys() - found.keys()),
            unreadable=sorted(unreadable, key=lambda one: one.file),
        )

    def _add(self, images: list[ReadImage]) -> None:
        pixels = np.stack([image.pixels for image in images if image.pixels is not None])
        features = self._embed(pixels, [image.file for image in images])
        features = _cast(features, self._index["dtype"])
        entries, blocks = self._filling
        for row, image in enumerate(images, len(entries)):
            self._by_digest[image.digest] = _Place(len(self._parts), row)
        entries += map(_entry, images)
        blocks.append(features)
        if sum(block.nbytes for block in blocks) >= self._bytes_per_part:
            self._close_part()

    def _close_part(self) -> None:
        """Makes what is held so far a part of the store: from here on no kill loses it."""
        entries, blocks = self._filling
        if not entries:
            return
        part = self._write_part(entries, iter(blocks), blocks[0].shape[1])
        self._replace_index([*self._index["parts"], part])
        self._parts.append(_open_part(self._directory, part))
        self._filling = ([], [])

    def _write_as_one(self, ordered: list[tuple[_Entry, _Place]]) -> None:
        """Makes one part of all rows, in the order of the gallery; the old ones are removed."""
        entries = [entry for entry, _ in ordered]
        places = np.array([place for _, place in ordered], np.int64)
        first_part = len(self._parts[0][0]) if len(self._parts) == 1 else -1
        in_order = len(ordered) == first_part and bool(
            (places[:, 1] == np.arange(len(places))).all()
        )
        if in_order and entries == self._parts[0][0]:
            return
        if in_order:
            # Only times or names changed.
            number = self._take_number()
            part = self._index["parts"][0] | {"images": f"images-{number}.json"}
            _write_images(self._directory / part["images"], entries)
        else:
            num_columns = self._parts[0][1].shape[1]
            part = self._write_part(entries, self._rows(places, num_columns), num_columns)
        self._replace_index([part])
        self._parts = [_open_part(self._directory, part)]
        _remove_others(self._directory, self._index)

    def _rows(self, places: np.ndarray, num_columns: int) -> Iterator[np.ndarray]:
        dtype = np.dtype(self._index["dtype"])
        size = max(1, _COPIED_BYTES // (num_columns * dtype.itemsize))
        for start in range(0, len(places), size):
            block = places[start : start + size]
            rows = np.empty((len(block), num_columns), dtype)
            for number in np.unique(block[:, 0]):
                here = block[:, 0] == number
                rows[here] = self._parts[number][1][block[here, 1]]
            yield rows

    def _write_part(
        self, entries: list[_Entry], blocks: Iterator[np.ndarray], num_columns: int
    ) -> dict[str, Any]:
        number = self._take_number()
        part: dict[str, Any] = {
            "features": f"features-{number}.npy",
            "images": f"images-{number}.json",
            "rows": len(entries),
        }
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype(self._index["dtype"])),
            "fortran_order": False,
            "shape": (len(entries), num_columns),
        }
        with open(self._directory / part["features"], "wb") as file:
            np.lib.format.write_array_header_2_0(file, header)
            for block in blocks:
                file.write(np.ascontiguousarray(block).data)
            file.flush()
            os.fsync(file.fileno())
        _write_images(self._directory / part["images"], entries)
        return part

    def _take_number(self) -> int:
        number = self._index["next"]
        self._index = self._index | {"next": number + 1}
        return number

    def _replace_index(self, parts: list[dict[str, Any]]) -> None:
        self._index = self._index | {"parts": parts}
        write_atomically(self._directory / INDEX, json.dumps(self._index, indent=2))


def _entry(image: ReadImage) -> _Entry:
    return _Entry(image.file, image.size, image.modified, image.digest)


def _cast(features: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "float16" and np.abs(features).max() > np.finfo(np.float16).max:
        raise ValueError(
            f"embeddings reach {np.abs(features).max():.3g}, more than float16 holds: make the "
            "store in float32"
        )
    return features.astype(dtype, copy=False)


def _write_images(path: pathlib.Path, entries: list[_Entry]) -> None:
    write_atomically(path, json.dumps(entries, ensure_ascii=False, separators=(",", ":")))


def _open_part(directory: pathlib.Path, part: dict[str, Any]) -> tuple[list[_Entry], np.ndarray]:
    try:
        entries = [_Entry(*row) for row in json.loads((directory / part["images"]).read_text())]
        features = np.load(directory / part["features"], mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"the store {directory} is damaged ({error}): delete it, to embed anew"
        ) from error
    if not len(entries) == len(features) == part["rows"]:
        raise ValueError(
            f"the store {directory} is damaged ({part['features']} has {len(features)} rows for "
            f"{len(entries)} images): delete it, to embed anew"
        )
    return entries, features


def _remove_others(directory: pathlib.Path, index: dict[str, Any]) -> None:
    """Removes what a killed process left, and what a later index no longer names."""
    named = {INDEX, LOCK}
    named |= {part[kind] for part in index["parts"] for kind in ("features", "images")}
    for path in directory.iterdir():
        if _OWN.fullmatch(path.name) and path.name not in named:
            path.unlink(missing_ok=True)
