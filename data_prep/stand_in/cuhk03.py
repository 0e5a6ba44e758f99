"""CUHK03's `cuhk-03.mat` with rendered pedestrians, and the files of the new protocol."""

import dataclasses
import functools
import itertools
import os
import pathlib
from collections.abc import Iterator

import h5py
import numpy as np
import scipy
from tqdm import tqdm

from data_prep.stand_in.difficulty import DEFAULT_DIFFICULTY, Difficulty
from data_prep.stand_in.draws import Draws
from data_prep.stand_in.image import RENDERER_VERSION
from data_prep.stand_in.plans import PlannedImage
from data_prep.stand_in.writers import in_chunks, new_tree, picture, progress_bar

__all__ = ["CUHK03_FULL", "Cuhk03Counts", "cuhk03_plan", "write_cuhk03"]

POOLS = {"detected": "detected", "labeled": "drawn"}  # how the renderer calls these boxes
NUM_TEST_SETS = 20
# People and cameras of its own, as `small_sets` has them.
PERSON_BEFORE_FIRST, CAMERA_BEFORE_FIRST = 400_000, 400
IMAGES_PER_VIEW = 5
FEWEST_PER_VIEW = 3
TRAIN_SHARE = 767 / 1467  # of the new protocol
FIRST_GROUPS = 3  # the test sets are taken from these
# Text of 116 bytes, an offset of 8, the version, the order of bytes; HDF5 begins at byte 512.
HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64 HDF5 schema 1.00 .".ljust(116)
HEADER = (HEADER + bytes(8) + b"\x00\x02IM").ljust(512, b"\0")


@dataclasses.dataclass(frozen=True)
class Cuhk03Counts:
    """How much a CUHK03 file holds.

    Attributes:
        groups: identities of the five groups.
        test_identities: identities of each of the 20 test sets, all from the first three groups.
        one_view_identities: identities, the last ones, that view A alone sees.
        detected, labeled: images of each pool.
    """

    groups: tuple[int, ...]
    test_identities: int
    one_view_identities: int
    detected: int
    labeled: int


CUHK03_FULL = Cuhk03Counts(
    groups=(843, 440, 77, 58, 49),
    test_identities=100,
    one_view_identities=1,
    detected=14_097,
    labeled=14_096,
)


def write_cuhk03(
    raw_dir: str | os.PathLike,
    *,
    seed: int = 0,
    groups: tuple[int, ...] = (150, 78, 14, 10, 8),
    num_test_identities: int = 40,
    num_one_view_identities: int = 2,
    images_per_view: float = 4.8,
    full: bool = False,
    difficulty: Difficulty = DEFAULT_DIFFICULTY,
    num_workers: int | None = None,
    progress: bool = True,
) -> pathlib.Path:
    """Write a CUHK03 folder of rendered pedestrians.

    The five groups are five pairs of cameras, all with colours of their own. The boxes of
    `labeled` are drawn by hand around the moments of `detected`.

    Args:
        raw_dir: folder that will hold `cuhk03_release`.
        seed: seed of the test sets and the pictures.
        groups: identities of the five groups.
        num_test_identities: identities of each of the 20 test sets, from the first three groups.
        num_one_view_identities: identities, the last ones, that view A alone sees.
        images_per_view: mean number for an identity and a view, at most 5.
        full: the official counts instead; the numbers above are then unused.
        difficulty: calibration constants.
        num_workers: processes; None for one per CPU. With more than one they are spawned, so a
            calling script needs the `if __name__ == "__main__"` guard.
        progress: whether to show a progress bar.

    Returns:
        The folder's path. A complete folder written with the same arguments is left as it is.

    Raises:
        FileExistsError: if the path holds anything else.
        ValueError: for counts that do not fit together.
    """
    counts = CUHK03_FULL
    if len(groups) != len(counts.groups):
        raise ValueError(f"{len(groups)} groups; expected {len(counts.groups)}, pairs of cameras")
    if not full:
        images = round(images_per_view * (2 * sum(groups) - num_one_view_identities))
        counts = Cuhk03Counts(
            tuple(groups), num_test_identities, num_one_view_identities, images, images
        )
    plans = {pool: cuhk03_plan(counts, pool, seed=seed) for pool in POOLS}
    test_sets = _test_sets(counts, seed)
    card = {
        "dataset": "cuhk03",
        "renderer_version": RENDERER_VERSION,
        "seed": seed,
        "counts": {**dataclasses.asdict(counts), "groups": list(counts.groups)},
        "full": full,
        "difficulty": dataclasses.asdict(difficulty),
        "num_images": sum(map(len, plans.values())),
    }

    def fill(folder: pathlib.Path) -> None:
        work = functools.partial(_pictures, seed=seed, difficulty=difficulty)
        with (
            progress_bar(card, progress) as bar,
            h5py.File(folder / "cuhk-03.mat", "w", userblock_size=len(HEADER)) as mat,
        ):
            everything = [image for plan in plans.values() for image in plan]
            chunks = in_chunks(work, everything, num_workers)
            pictures = itertools.chain.from_iterable(chunks)
            for pool, plan in plans.items():
                _write_pool(mat, pool, plan, pictures, counts, bar)
            _write_cell(mat, "testsets", test_sets, "double")
        with open(folder / "cuhk-03.mat", "r+b") as mat:
            mat.write(HEADER)
        for pool, plan in plans.items():
            content = _new_protocol(plan, counts, seed)
            scipy.io.savemat(folder / f"cuhk03_new_protocol_config_{pool}.mat", content)

    return new_tree(pathlib.Path(raw_dir) / "cuhk03_release", card, fill)


def cuhk03_plan(counts: Cuhk03Counts, pool: str, *, seed: int) -> list[PlannedImage]:
    """The images of a pool, sorted by file name; their sizes differ.

    Args:
        counts: how much there is; `CUHK03_FULL` for the official counts.
        pool: "detected" or "labeled".
        seed: seed of the plan and of the pictures.

    Returns:
        The plan. Group g has cameras 2g - 1 and 2g, `index` is the image's place among the five of
        its view, and its file is called as the new protocol does.

    Raises:
        ValueError: for counts that no CUHK03 file can have.
    """
    before = _before(counts.groups)
    one_view = range(before[-1] - counts.one_view_identities + 1, before[-1] + 1)
    views = [
        (group, identity, view)
        for group in range(len(counts.groups))
        for identity in range(before[group] + 1, before[group + 1] + 1)
        for view in range(1 if identity in one_view else 2)
    ]
    cells = [(*seen, index) for seen in views for index in range(IMAGES_PER_VIEW)]
    num_images = getattr(counts, pool)
    if not FEWEST_PER_VIEW * len(views) <= num_images <= len(cells):
        raise ValueError(
            f"{num_images} images do not fit {len(views)} views of {before[-1]} identities: "
            f"expected {FEWEST_PER_VIEW * len(views)} to {len(cells)}"
        )
    left, empty = dict.fromkeys(views, IMAGES_PER_VIEW), set()
    for place in Draws(seed, f"cuhk03 empty {pool}").order(len(cells)).tolist():
        seen = cells[place][:3]
        if len(empty) < len(cells) - num_images and left[seen] > FEWEST_PER_VIEW:
            left[seen] -= 1
            empty.add(place)
    plan = []
    for place, (group, identity, view, index) in enumerate(cells):
        if place not in empty:
            column = view * IMAGES_PER_VIEW + index + 1
            name = f"{group + 1}_{identity - before[group]:03d}_{view + 1}_{column:02d}.png"
            person, camera = (
                PERSON_BEFORE_FIRST + identity,
                CAMERA_BEFORE_FIRST + 1 + 2 * group + view,
            )
            size = _size(pool, seed, person, camera, index)
            plan.append(PlannedImage(f"{pool}/{name}", POOLS[pool], person, camera, index, size))
    return plan


def _size(pool: str, seed: int, identity: int, camera: int, index: int) -> tuple[int, int]:
    """A track's size changes as the pedestrian walks; boxes drawn by hand are tighter."""
    tall = Draws(seed, "cuhk03 track", identity, camera).uniform(130, 200)
    draws = Draws(seed, "cuhk03 crop", identity, camera, index)
    height, slim = tall * draws.uniform(0.92, 1.08), draws.uniform(0.35, 0.43)
    if pool == "labeled":
        height, slim = 0.96 * height, 0.93 * slim
    return round(height), round(height * slim)


def _pictures(chunk: list[PlannedImage], *, seed: int, difficulty: Difficulty) -> list[np.ndarray]:
    return [picture(image, seed, difficulty) for image in chunk]


def _before(groups: tuple[int, ...]) -> list[int]:
    """How many identities come before each group; at the end, how many there are."""
    return [0, *itertools.accumulate(groups)]


def _write_pool(
    mat: h5py.File,
    pool: str,
    plan: list[PlannedImage],
    pictures: Iterator[np.ndarray],
    counts: Cuhk03Counts,
    bar: tqdm,
) -> None:
    # MATLAB gives an empty matrix as its dimensions.
    empty = _write(mat, f"#refs#/{pool}_empty", np.zeros(2, np.uint64), "double", MATLAB_empty=1)
    before = _before(counts.groups)
    cells = [
        np.full((2 * IMAGES_PER_VIEW, number), empty.ref, h5py.ref_dtype)
        for number in counts.groups
    ]
    # The pictures go on with those of the next pool.
    for image, pixels in zip(plan, pictures, strict=False):
        group, view = divmod(image.camera - CAMERA_BEFORE_FIRST - 1, 2)
        column = view * IMAGES_PER_VIEW + image.index
        place = image.identity - PERSON_BEFORE_FIRST - before[group] - 1
        # MATLAB's order of axes is the reverse of HDF5's.
        written = _write(mat, "#refs#/" + image.file.replace("/", "_"), pixels.T, "uint8")
        cells[group][column, place] = written.ref
        bar.update()
    _write_cell(mat, pool, cells)


def _test_sets(counts: Cuhk03Counts, seed: int) -> list[np.ndarray]:
    """The test sets, each with (group, number in the group) in its columns, both from 1."""
    members = [
        (group + 1, place + 1)
        for group, number in enumerate(counts.groups[:FIRST_GROUPS])
        for place in range(number)
    ]
    if not 0 < counts.test_identities <= len(members):
        raise ValueError(
            f"{counts.test_identities} test identities; expected 1 to {len(members)}, the number "
            "of identities of the first three groups"
        )
    sets = []
    for index in range(NUM_TEST_SETS):
        order = Draws(seed, "cuhk03 test set", index).order(len(members))
        rows = [members[place] for place in order[: counts.test_identities]]
        sets.append(np.array(rows, np.float64).T)
    return sets


def _write_cell(mat: h5py.File, name: str, contents: list[np.ndarray], kind: str = "cell") -> None:
    """A list of arrays or of cells as a cell."""
    references = [
        _write(mat, f"#refs#/{name}_{number}", content, kind).ref
        for number, content in enumerate(contents, 1)
    ]
    _write(mat, name, np.array([references], h5py.ref_dtype), "cell")


def _write(
    mat: h5py.File, name: str, content: np.ndarray, kind: str, **attributes: int
) -> h5py.Dataset:
    dataset = mat.create_dataset(name, data=content)
    dataset.attrs["MATLAB_class"] = np.bytes_(kind)
    for key, value in attributes.items():
        dataset.attrs[key] = np.uint8(value)
    return dataset


def _new_protocol(plan: list[PlannedImage], counts: Cuhk03Counts, seed: int) -> dict:
    """The content of a file of the new protocol, with its share of training identities."""
    total = sum(counts.groups)
    seen_twice = total - counts.one_view_identities  # those seen once, the last, are for training
    order = PERSON_BEFORE_FIRST + 1 + Draws(seed, "cuhk03 new protocol").order(seen_twice)
    test = set(order[: total - round(TRAIN_SHARE * total)].tolist())
    blocks: dict[tuple[int, int], list[int]] = {}
    for row, image in enumerate(plan, 1):
        if image.identity in test:
            blocks.setdefault((image.identity, image.camera), []).append(row)
    query = {
        rows[Draws(seed, "cuhk03 query", *seen).integer(len(rows))] for seen, rows in blocks.items()
    }
    rows = {
        "train": [row for row, image in enumerate(plan, 1) if image.identity not in test],
        "query": sorted(query),
        "gallery": sorted(row for found in blocks.values() for row in found if row not in query),
    }
    columns = {
        "labels": [image.identity - PERSON_BEFORE_FIRST for image in plan],
        "camId": [2 - image.camera % 2 for image in plan],
        **{f"{role}_idx": found for role, found in rows.items()},
    }
    names = np.array([image.file.rsplit("/", 1)[1] for image in plan], object)
    content = {key: np.array(column, np.float64)[:, None] for key, column in columns.items()}
    return {"filelist": names[:, None], **content}
