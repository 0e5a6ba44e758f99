"""Prepared data sets as random-access sources of encoded images, and their decoding."""

import atexit
import concurrent.futures
import dataclasses
import functools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import cv2
import numpy as np
import tqdm
from etils import epath

from reid_jax import extras, schema

__all__ = [
    "Source",
    "dataset_card",
    "dataset_dir",
    "decode",
    "identity_labels",
    "join",
    "load_images",
    "open_split",
]


class EncodedImages(Protocol):
    """Encoded images by row."""

    def __len__(self) -> int:
        """Their number."""

    def __getitem__(self, row: int, /) -> bytes:
        """The bytes of a row's image."""


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """One split of a data set: its columns, and its encoded images by row.

    Attributes:
        dataset: name of the data set.
        split: name of the split.
        files: [N] paths relative to the raw data set, with '/'.
        identities: [N] int64 as the data set numbers them; -1 is junk, 0 a distractor.
        cameras: [N] int64 from 1, or None for a data set without cameras.
        images: [N] encoded bytes, read when indexed.
        identity_names: name of each identity above 0, where identities have names; else None.
        camera_names: likewise of cameras.
    """

    dataset: str
    split: str
    files: Sequence[str]
    identities: np.ndarray
    cameras: np.ndarray | None
    images: EncodedImages = dataclasses.field(repr=False)
    identity_names: Mapping[int, str] | None = dataclasses.field(default=None, repr=False)
    camera_names: Mapping[int, str] | None = dataclasses.field(default=None, repr=False)

    @property
    def num_identities(self) -> int:
        """How many identities above 0 there are; distractors and junk do not count."""
        return len(np.unique(self.identities[self.identities > schema.DISTRACTOR]))

    def identity_name(self, row: int) -> str:
        """Name of the identity of a row: its number where it has none."""
        identity = int(self.identities[row])
        return (self.identity_names or {}).get(identity, str(identity))

    def camera_name(self, row: int) -> str | None:
        """Name of the camera of a row: its number where it has none, None without cameras."""
        if self.cameras is None:
            return None
        camera = int(self.cameras[row])
        return (self.camera_names or {}).get(camera, str(camera))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> bytes:
        """Encoded bytes of the image of a row in [0, N)."""
        row = int(row)
        if not 0 <= row < len(self):
            raise IndexError(
                f"row {row} of split {self.split!r} of {self.dataset}, which has {len(self)} rows"
            )
        return self.images[row]

    def take(self, rows: Sequence[int] | np.ndarray, split: str) -> "Source":
        """Some of the rows as a source of their own.

        Args:
            rows: [M] integers in [0, N), in the order wanted.
            split: name of the new source.

        Returns:
            The source; its images are still read when indexed.

        Raises:
            IndexError: if a row is out of range.
        """
        rows = np.asarray(rows, np.int64)
        for row in rows[(rows < 0) | (rows >= len(self))]:
            raise IndexError(
                f"row {row} of split {self.split!r} of {self.dataset}, which has {len(self)} rows"
            )
        return dataclasses.replace(
            self,
            split=split,
            files=[self.files[row] for row in rows],
            identities=self.identities[rows],
            cameras=None if self.cameras is None else self.cameras[rows],
            images=_TakenImages(self.images, rows),
        )

    def image(self, row: int, size: tuple[int, int] | None) -> np.ndarray:
        """Decoded image of a row, as `decode` gives it; an error names the file."""
        try:
            return decode(self[row], size)
        except ValueError as error:
            raise ValueError(f"{self.dataset}/{self.split}: {self.files[row]}: {error}") from error


class _TakenImages:
    """Some of the images of a source, by row of the selection."""

    def __init__(self, images: EncodedImages, rows: np.ndarray):
        self._images, self._rows = images, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> bytes:
        return self._images[self._rows[row]]


class _JoinedImages:
    """The images of several sources, one source after the other."""

    def __init__(self, sources: Sequence[Source]):
        self._sources = sources
        self._ends = np.cumsum([len(source) for source in sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: int) -> bytes:
        place = int(np.searchsorted(self._ends, row, side="right"))
        source = self._sources[place]
        return source[row - (self._ends[place] - len(source))]


class _RecordImages:
    """Image bytes of a TFDS data source, by row."""

    def __init__(self, records: Any) -> None:
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, row: int) -> bytes:
        return self._records[row]["image"]


def dataset_dir(data_dir: epath.PathLike, dataset: str) -> epath.Path:
    """Directory of the newest prepared version of a data set.

    Args:
        data_dir: where data sets are prepared; may be a bucket.
        dataset: name of the data set.

    Returns:
        `data_dir/<dataset>/<version>`.

    Raises:
        FileNotFoundError: if it is not prepared there, with the command that prepares it.
    """
    data_dir = epath.Path(data_dir).expanduser()
    parent = data_dir / dataset
    versions = []
    if dataset and parent.is_dir():
        names = [path.name for path in parent.iterdir()]
        versions = [name for name in names if re.fullmatch(r"\d+\.\d+\.\d+", name)]
    # The information file is written last, so a directory without it is not a prepared data set.
    versions = [name for name in versions if (parent / name / "dataset_info.json").exists()]
    if not versions:
        raise FileNotFoundError(
            f"the data set {dataset!r} is not prepared in {data_dir}; prepare it with\n"
            f"  python data_prep/prepare.py {dataset} --raw_dir DIR --data_dir {data_dir}\n"
            "or, for images of your own,\n"
            f"  python data_prep/prepare.py folder --name {dataset} --raw_dir DIR "
            f"--data_dir {data_dir}"
        )
    return parent / max(versions, key=lambda name: tuple(map(int, name.split("."))))


def dataset_card(data_dir: epath.PathLike, dataset: str) -> dict:
    """What the preparation recorded about a data set.

    Args:
        data_dir: where data sets are prepared; may be a bucket.
        dataset: name of the data set.

    Returns:
        `data_source` ('official', 'custom' or 'stand-in'), `has_cameras`, `counts` of images and
        identities per split, `skipped` images, the options of the split, `stand_in` parameters,
        `identity_names` and `camera_names` (of number i + 1) where they had names, `no_cameras`
        where they were left out, `identity_digests` of the names in each split, `partitions` by
        name (see `open_partition`), each with `pool`, `origin`, `splits` and a `fingerprint`.

    Raises:
        FileNotFoundError: if it is not prepared there.
        ValueError: if the record is missing or unreadable.
    """
    directory = dataset_dir(data_dir, dataset)
    path = directory / "metadata.json"
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(_damaged(directory, f"{path.name} is unreadable: {error}")) from error


def open_split(data_dir: epath.PathLike, dataset: str, split: str) -> Source:
    """Opens one split of a prepared data set.

    Args:
        data_dir: where data sets are prepared; may be a bucket.
        dataset: name of the data set.
        split: name of the split.

    Returns:
        The source, in the order of the file names.

    Raises:
        FileNotFoundError: if the data set is not prepared there.
        ValueError: if it has no such split, or is damaged.
    """
    # Own folders do without it.
    tfds = extras.require("tensorflow_datasets")
    directory = dataset_dir(data_dir, dataset)
    card = dataset_card(data_dir, dataset)
    if split not in card["counts"]:
        raise ValueError(
            f"{dataset} in {data_dir} has no split {split!r}; its splits are "
            f"{', '.join(sorted(card['counts']))}"
        )
    local = os.fspath(directory)
    if "://" in local:
        local = _local_copy(local, split)
    try:
        records = tfds.builder_from_directory(local).as_data_source(
            split, decoders={"image": tfds.decode.SkipDecoding()}
        )
        columns = [(r["identity"], r["camera"], r["file"].decode()) for r in records]
    except Exception as error:
        # TFDS, protobuf and the record reader each have exceptions of their own for a missing or
        # damaged file.
        raise ValueError(_damaged(directory, f"split {split!r}: {error}")) from error
    expected = card["counts"][split]["images"]
    if len(columns) != expected:
        raise ValueError(
            _damaged(directory, f"split {split!r} has {len(columns)} records, not {expected}")
        )
    identities, cameras, files = zip(*columns, strict=True) if columns else ((), (), ())
    return Source(
        dataset=dataset,
        split=split,
        files=files,
        identities=np.array(identities, np.int64),
        cameras=np.array(cameras, np.int64) if card["has_cameras"] else None,
        images=_RecordImages(records),
        identity_names=_names(card.get("identity_names")),
        camera_names=_names(card.get("camera_names")),
    )


def _names(listed: list[str] | None) -> dict[int, str] | None:
    """The names that a card lists, by number."""
    return None if listed is None else dict(enumerate(listed, 1))


@functools.cache
def _local_copy(directory: str, split: str) -> str:
    # The record reader reads local files only, and random access to a bucket would be slow anyway.
    target = tempfile.mkdtemp(prefix="reid_jax_")
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    for path in epath.Path(directory).iterdir():
        if path.suffix == ".json" or f"-{split}.array_record-" in path.name:
            with path.open("rb") as source, open(os.path.join(target, path.name), "wb") as copy:
                shutil.copyfileobj(source, copy)
    return target


def _damaged(directory: epath.Path, what: str) -> str:
    return f"the prepared data set in {directory} is damaged ({what}); delete and prepare it again"


def join(sources: Sequence[Source], split: str) -> Source:
    """Several sources as one: no identity of a data set is one of another data set.

    Args:
        sources: splits of one data set or several. Those of the same data set number its identities
            alike.
        split: name of the new source.

    Returns:
        The source, one after the other. Its data set is named `a+b`, its files begin with their
        data set, and the identities of a data set come after the highest one of the data sets
        before it; junk and distractors stay what they are. Images are still read when indexed.
        Where several data sets are joined, the names of identities begin with theirs too; cameras
        keep their names where the data sets agree on them.

    Raises:
        ValueError: if there is no source, or some have cameras and others have none.
    """
    if not sources:
        raise ValueError("there is no source to join; expected at least one")
    without = [source.dataset for source in sources if source.cameras is None]
    if 0 < len(without) < len(sources):
        raise ValueError(f"{', '.join(without)} has no cameras and the other sources have")
    offsets, highest = {}, 0
    for dataset in dict.fromkeys(source.dataset for source in sources):
        offsets[dataset] = highest
        of_dataset = [source.identities for source in sources if source.dataset == dataset]
        highest += max((int(ids.max()) for ids in of_dataset if ids.size), default=0)
    identities = [
        np.where(source.identities > schema.DISTRACTOR, offsets[source.dataset], 0)
        + source.identities
        for source in sources
    ]
    return Source(
        dataset="+".join(offsets),
        split=split,
        files=[f"{source.dataset}/{file}" for source in sources for file in source.files],
        identities=np.concatenate(identities),
        cameras=None if without else np.concatenate([source.cameras for source in sources]),
        images=_JoinedImages(sources),
        identity_names=_joined_identity_names(sources, offsets),
        camera_names=_joined_camera_names(sources),
    )


def _joined_identity_names(
    sources: Sequence[Source], offsets: dict[str, int]
) -> dict[int, str] | None:
    if len(offsets) == 1 and all(source.identity_names is None for source in sources):
        return None
    names = {}
    for source in sources:
        start = f"{source.dataset}/" if len(offsets) > 1 else ""
        for identity in np.unique(source.identities[source.identities > schema.DISTRACTOR]):
            # An identity without a name is called by its number in its own data set.
            name = (source.identity_names or {}).get(int(identity), str(identity))
            names[int(identity) + offsets[source.dataset]] = start + name
    return names


def _joined_camera_names(sources: Sequence[Source]) -> Mapping[int, str] | None:
    first = sources[0].camera_names
    return first if all(source.camera_names == first for source in sources) else None


def identity_labels(identities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Training labels of identities.

    Args:
        identities: [N] raw identities, all at least 1.

    Returns:
        labels [N] int32 in [0, K), and identity_of_label [K] int64, sorted.

    Raises:
        ValueError: if there is no identity, or a row is a distractor or junk.
    """
    identities = np.asarray(identities, np.int64)
    if identities.size == 0:
        raise ValueError("there is no training image")
    unlabelled = int((identities <= schema.DISTRACTOR).sum())
    if unlabelled:
        raise ValueError(
            f"{unlabelled} of {identities.size} training images are distractors (0) or junk (-1), "
            "which have no label; leave them out"
        )
    identity_of_label, labels = np.unique(identities, return_inverse=True)
    return labels.astype(np.int32), identity_of_label


def decode(image_bytes: bytes, size: tuple[int, int] | None) -> np.ndarray:
    """Decodes an image with OpenCV and resizes it bilinearly.

    OpenCV takes a third of Pillow's time at 256x128 (experiments/benchmarks/pipeline.py).

    Args:
        image_bytes: encoded image, in any format that OpenCV reads.
        size: (height, width), or None for the stored size.

    Returns:
        [H, W, 3] uint8, RGB.

    Raises:
        ValueError: if the bytes are not an image.
    """
    image = None
    if image_bytes:
        try:
            image = cv2.imdecode(np.frombuffer(image_bytes, np.uint8), cv2.IMREAD_COLOR_RGB)
        except cv2.error as error:
            raise ValueError(f"not a readable image: {error}") from error
    if image is None:
        raise ValueError(f"{len(image_bytes)} bytes that are not a readable image")
    if size is not None and image.shape[:2] != tuple(size):
        height, width = size
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image


def load_images(source: Source, size: tuple[int, int], *, progress: bool) -> np.ndarray:
    """Decodes all images of a source, on all cores.

    Args:
        source: the split to load.
        size: (height, width).
        progress: show a progress bar.

    Returns:
        [N, H, W, 3] uint8, RGB.

    Raises:
        ValueError: if an image is unreadable, naming its file.
    """
    # One image is the work of one thread: OpenCV's own threads would only compete.
    cv2.setNumThreads(1)
    images = np.empty((len(source), *size, 3), np.uint8)

    def fill(first: int) -> int:
        rows = range(first, min(first + 32, len(source)))
        for row in rows:
            images[row] = source.image(row, size)
        return len(rows)

    bar = tqdm.tqdm(
        total=len(source),
        desc=f"{source.dataset}/{source.split}",
        unit="image",
        disable=not progress,
    )
    with bar, concurrent.futures.ThreadPoolExecutor() as pool:
        for done in pool.map(fill, range(0, len(source), 32)):
            bar.update(done)
    return images
