"""Embeddings of any number of images into one file, batch by batch."""

from __future__ import annotations

import contextlib
import csv
import os
import pathlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from typing import IO, Protocol

import numpy as np
from tqdm import tqdm

from reid_jax.embedder import Embedder
from reid_jax.extras import require
from reid_jax.search.embedding import StreamEmbedder, Unreadable, model_digest, read_images
from reid_jax.search.gallery import Gallery

__all__ = ["SUFFIXES", "embed_to_file"]

SUFFIXES = (".npz", ".h5", ".csv")
DTYPES = ("float32", "float16")


def embed_to_file(
    embedder: Embedder,
    galleries: Sequence[Gallery],
    output: str | os.PathLike,
    *,
    dtype: str = "float32",
    progress: bool = False,
) -> tuple[int, list[Unreadable]]:
    """Embeds images and writes what is found batch by batch; the file is there whole or not at all.

    `.npz` and `.h5` hold `features` [N, D], `files`, `identities` and `cameras` [N] (names,
    empty where not known), and `model`, the model's digest. A line of `.csv` has file, identity,
    camera and the D numbers.

    Args:
        embedder: the model, one that embeds single images.
        galleries: the images; their files are named with the folder's path before them where there
            are several.
        output: ends in .npz, .h5 or .csv; a file that is there is replaced.
        dtype: 'float32' or 'float16'.
        progress: show a progress bar.

    Returns:
        (number of images embedded, images that cannot be read and were left out).

    Raises:
        ValueError: on another suffix or dtype, if no image can be read, if an embedding is not
            finite, or if the network has no embedding of a single image.
    """
    output = pathlib.Path(output).expanduser()
    if output.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{output} ends in {output.suffix!r}; known: {', '.join(SUFFIXES)}")
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}; known: {', '.join(DTYPES)}")
    embed = StreamEmbedder(embedder)
    number, unreadable = 0, []
    writers: dict[str, type[_Writer]] = {".npz": _Npz, ".h5": _H5, ".csv": _Csv}
    writer = writers[output.suffix.lower()]
    total = sum(map(len, galleries))
    with (
        _replaced(output) as partial,
        writer(partial, dtype, model_digest(embedder)) as written,
        tqdm(total=total, desc="embedding", unit="img", disable=not progress) as bar,
    ):
        for gallery in galleries:
            prefix = f"{gallery.root}/" if len(galleries) > 1 and gallery.root.name else ""
            place = {file: row for row, file in enumerate(gallery.files)}
            for images, lost in read_images(
                gallery, gallery.files, embed.input_size, batch_size=embed.batch_size
            ):
                unreadable += [Unreadable(prefix + one.file, one.reason) for one in lost]
                bar.update(len(images) + len(lost))
                if not images:
                    continue
                pixels = np.stack([i.pixels for i in images if i.pixels is not None])
                rows = [place[image.file] for image in images]
                features = embed(pixels, [image.file for image in images])
                if not np.isfinite(features.astype(dtype)).all():
                    raise ValueError(f"embeddings reach beyond {dtype}: take float32")
                written.add(
                    [prefix + image.file for image in images],
                    [gallery.identities[row] or "" for row in rows],
                    [gallery.cameras[row] or "" for row in rows],
                    features.astype(dtype),
                )
                number += len(images)
        if not number:
            shown = "".join(f"\n  {one.file}: {one.reason}" for one in unreadable[:5])
            raise ValueError(f"none of {total:,} images can be read:{shown}")
    return number, unreadable


class _Writer(Protocol):
    def __init__(self, path: pathlib.Path, dtype: str, model: str) -> None: ...

    def __enter__(self) -> _Writer: ...

    def __exit__(self, *failure: object) -> None: ...

    def add(
        self, files: list[str], identities: list[str], cameras: list[str], features: np.ndarray
    ) -> None: ...


@contextlib.contextmanager
def _replaced(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path to write to, which becomes the output if all goes well."""
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".partial")
    try:
        yield partial
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


class _Csv:
    def __init__(self, path: pathlib.Path, dtype: str, model: str) -> None:
        del dtype, model
        self._file = open(path, "w", newline="", encoding="utf-8")  # noqa: SIM115 (by __exit__)
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._begun = False

    def __enter__(self) -> _Csv:
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()

    def add(
        self, files: list[str], identities: list[str], cameras: list[str], features: np.ndarray
    ) -> None:
        if not self._begun:
            names = (f"f{column}" for column in range(features.shape[1]))
            self._writer.writerow(["file", "identity", "camera", *names])
            self._begun = True
        for file, identity, camera, row in zip(files, identities, cameras, features, strict=True):
            # The shortest digits that read back as the same number.
            self._writer.writerow([file, identity, camera, *map(str, row)])


class _H5:
    def __init__(self, path: pathlib.Path, dtype: str, model: str) -> None:
        self._file = require("h5py").File(path, "w")
        self._file.attrs["model"] = model
        self._dtype = dtype

    def __enter__(self) -> _H5:
        return self

    def __exit__(self, *failure: object) -> None:
        self._file.close()

    def add(
        self, files: list[str], identities: list[str], cameras: list[str], features: np.ndarray
    ) -> None:
        columns = {"files": files, "identities": identities, "cameras": cameras}
        if "features" not in self._file:
            width = features.shape[1]
            self._file.create_dataset(
                "features", (0, width), self._dtype, maxshape=(None, width), chunks=(64, width)
            )
            for name in columns:
                self._file.create_dataset(
                    name, (0,), require("h5py").string_dtype(), maxshape=(None,), chunks=(4096,)
                )
        start = len(self._file["features"])
        for name, values in [*columns.items(), ("features", features)]:
            data = self._file[name]
            data.resize(start + len(files), axis=0)
            data[start:] = values


class _Npz:
    """Rows wait in an unnamed file, as the header of an array says how many there are."""

    def __init__(self, path: pathlib.Path, dtype: str, model: str) -> None:
        self._path, self._dtype, self._model = path, np.dtype(dtype), model
        self._rows: IO[bytes] = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 (likewise)
        self._names: tuple[list[str], list[str], list[str]] = ([], [], [])
        self._width = 0

    def __enter__(self) -> _Npz:
        return self

    def add(
        self, files: list[str], identities: list[str], cameras: list[str], features: np.ndarray
    ) -> None:
        self._width = features.shape[1]
        self._rows.write(np.ascontiguousarray(features).data)
        for held, new in zip(self._names, (files, identities, cameras), strict=True):
            held.extend(new)

    def __exit__(self, *failure: object) -> None:
        with self._rows:
            if failure[0] is not None:
                return
            with zipfile.ZipFile(self._path, "w") as archive:
                with self._member(archive, "features", self._dtype, self._width) as member:
                    self._rows.seek(0)
                    shutil.copyfileobj(self._rows, member, 2**20)
                for name, values in zip(
                    ("files", "identities", "cameras"), self._names, strict=True
                ):
                    longest = max(1, *map(len, values))
                    with self._member(archive, name, np.dtype(f"<U{longest}")) as member:
                        for value in values:
                            member.write(value.encode("utf-32-le").ljust(4 * longest, b"\0"))
                with archive.open("model.npy", "w") as member:
                    np.lib.format.write_array(member, np.array(self._model))

    def _member(
        self, archive: zipfile.ZipFile, name: str, dtype: np.dtype, *width: int
    ) -> IO[bytes]:
        member = archive.open(f"{name}.npy", "w", force_zip64=True)
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (len(self._names[0]), *width),
        }
        np.lib.format.write_array_header_2_0(member, header)
        return member
