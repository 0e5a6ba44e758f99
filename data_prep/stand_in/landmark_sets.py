"""Writing rendered landmarks: Oxford5k in its official layout, and labelled folders to train on."""

import dataclasses
import functools
import os
import pathlib

from data_prep.stand_in.draws import Draws
from data_prep.stand_in.landmark_photos import (
    BUILDINGS_VERSION,
    landmark_box,
    render_landmark,
    render_street,
)
from data_prep.stand_in.writers import encoded, in_chunks, new_tree, progress_bar

__all__ = [
    "OXFORD5K_FULL",
    "PlannedPhoto",
    "landmarks_plan",
    "oxford5k_plan",
    "write_landmarks",
    "write_oxford5k",
]

IMAGES, TRUTH = "oxbuild_images", "gt_files_170407"
QUERIES_PER_LANDMARK = 5
OXFORD5K_FULL = {
    "num_landmarks": 11,
    "num_good": 25,
    "num_ok": 27,
    "num_junk": 27,
    "num_streets": 4193,
}
LANDMARKS = (
    "all_souls", "ashmolean", "balliol", "bodleian", "christ_church", "cornmarket",
    "hertford", "keble", "magdalen", "pitt_rivers", "radcliffe_camera",
)  # fmt: skip
# The official photographs are named after the search that found them, so others share the names.
SEARCHES = (*LANDMARKS, "jesus", "new", "oriel", "oxford", "trinity", "worcester")
_TRAINING = 1000  # numbers of the landmarks to train on begin above those of the test
# (height, width) as shares of the long side, and how often
_SHAPES = ((0.75, 1.0), (1.0, 0.75), (2 / 3, 1.0), (1.0, 2 / 3))
_SHAPE_WEIGHTS = (0.5, 0.25, 0.15, 0.1)


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedPhoto:
    """One photograph of a plan.

    Attributes:
        file: path relative to the tree's root, with '/'.
        kind: "good", "ok" or "junk" (see `render_landmark`), or "street".
        landmark: the renderer's number of it; 0 for a street.
        index: number of the photograph of this landmark and kind, or of streets.
        size: (height, width) in pixels.
    """

    file: str
    kind: str
    landmark: int
    index: int
    size: tuple[int, int]


def oxford5k_plan(
    *,
    seed: int,
    num_landmarks: int,
    num_good: int,
    num_ok: int,
    num_junk: int,
    num_streets: int,
    long_side: int,
) -> list[PlannedPhoto]:
    """All photographs of an Oxford5k tree, in order of file name.

    Args:
        seed: seed of names and sizes.
        num_landmarks: up to 11.
        num_good, num_ok, num_junk: photographs of each landmark; at least 5 good ones, which are
            its queries.
        num_streets: photographs of no landmark.
        long_side: pixels.

    Raises:
        ValueError: for counts that do not fit together.
    """
    if not 1 <= num_landmarks <= len(LANDMARKS):
        raise ValueError(f"num_landmarks is {num_landmarks}; expected 1 to {len(LANDMARKS)}.")
    if num_good < QUERIES_PER_LANDMARK:
        raise ValueError(
            f"num_good is {num_good}; each of the {QUERIES_PER_LANDMARK} queries of a landmark "
            "needs a good photograph."
        )
    found: dict[str, list[tuple[str, int, int]]] = {search: [] for search in SEARCHES}
    for landmark, name in enumerate(LANDMARKS[:num_landmarks], 1):
        for kind, number in (("good", num_good), ("ok", num_ok), ("junk", num_junk)):
            found[name] += [(kind, landmark, index) for index in range(number)]
    draws = Draws(seed, "searches")
    for index in range(num_streets):
        found[draws.pick(SEARCHES)].append(("street", 0, index))
    plan = []
    for place, (search, photos) in enumerate(found.items()):
        for number, chosen in enumerate(Draws(seed, "names", place).order(len(photos))):
            kind, landmark, index = photos[chosen]
            file = f"{IMAGES}/{search}_{number:06d}.jpg"
            size = _size(Draws(seed, f"size {kind}", landmark, index), long_side)
            plan.append(PlannedPhoto(file, kind, landmark, index, size))
    return sorted(plan, key=lambda photo: photo.file)


def landmarks_plan(
    *, seed: int, num_landmarks: int, images_per_landmark: int, long_side: int
) -> list[PlannedPhoto]:
    """All photographs of a tree of labelled landmarks, in order of file name.

    Args:
        seed: seed of kinds and sizes.
        num_landmarks: none of them is one of `oxford5k_plan`.
        images_per_landmark: photographs of each, good ones and, one in three, ok ones.
        long_side: pixels.
    """
    plan = []
    for number in range(1, num_landmarks + 1):
        for index in range(images_per_landmark):
            draws = Draws(seed, "training photograph", number, index)
            kind = draws.pick(["good", "good", "ok"])
            file = f"landmark_{number:04d}/{index:04d}.jpg"
            size = _size(draws, long_side)
            plan.append(PlannedPhoto(file, kind, _TRAINING + number, index, size))
    return plan


def write_oxford5k(
    raw_dir: str | os.PathLike,
    *,
    seed: int = 0,
    num_landmarks: int = 11,
    num_good: int = 10,
    num_ok: int = 6,
    num_junk: int = 4,
    num_streets: int = 300,
    full: bool = False,
    long_side: int = 256,
    num_workers: int | None = None,
    progress: bool = True,
) -> pathlib.Path:
    """Write an Oxford5k tree of rendered buildings, with the ground truth of five queries each.

    Args:
        raw_dir: folder that will hold `oxford5k`.
        seed: seed of names and pictures.
        num_landmarks: up to 11.
        num_good, num_ok, num_junk: photographs of each landmark: clear ones, those that show more
            than a quarter of it, and those that show less.
        num_streets: photographs of no landmark.
        full: the official 5,062 images and 55 queries instead; the numbers above are then unused.
            How many are good, ok and junk is alike for all landmarks, other than officially.
        long_side: pixels; the photographs have several shapes.
        num_workers: processes; None for one per CPU. With more than one they are spawned, so a
            calling script needs the `if __name__ == "__main__"` guard.
        progress: whether to show a progress bar.

    Returns:
        The tree's path. A complete tree written with the same arguments is left as it is.

    Raises:
        FileExistsError: if the path holds anything else.
        ValueError: for counts that do not fit together.
    """
    counts = {
        "num_landmarks": num_landmarks,
        "num_good": num_good,
        "num_ok": num_ok,
        "num_junk": num_junk,
        "num_streets": num_streets,
    }
    if full:
        counts = OXFORD5K_FULL
    plan = oxford5k_plan(seed=seed, long_side=long_side, **counts)
    card = {"dataset": "oxford5k", "counts": counts, "full": full, "long_side": long_side}
    tree = pathlib.Path(raw_dir) / "oxford5k"
    return _write(tree, plan, card, seed, num_workers, progress, truth=_ground_truth(plan, seed))


def write_landmarks(
    raw_dir: str | os.PathLike,
    *,
    seed: int = 0,
    num_landmarks: int = 60,
    images_per_landmark: int = 12,
    long_side: int = 256,
    num_workers: int | None = None,
    progress: bool = True,
) -> pathlib.Path:
    """Write folders of labelled rendered landmarks, none of which `write_oxford5k` has.

    There is no official size of such a set, hence no `full`.

    Args:
        raw_dir: folder that will hold `landmarks`.
        seed: seed of the pictures; the same as for `write_oxford5k`, for other landmarks.
        num_landmarks: sub-folders.
        images_per_landmark: photographs in each.
        long_side, num_workers, progress: as for `write_oxford5k`.

    Returns:
        The tree's path. A complete tree written with the same arguments is left as it is.

    Raises:
        FileExistsError: if the path holds anything else.
    """
    counts = {"num_landmarks": num_landmarks, "images_per_landmark": images_per_landmark}
    plan = landmarks_plan(seed=seed, long_side=long_side, **counts)
    card = {"dataset": "landmarks", "counts": counts, "long_side": long_side}
    tree = pathlib.Path(raw_dir) / "landmarks"
    return _write(tree, plan, card, seed, num_workers, progress, truth={})


def _size(draws: Draws, long_side: int) -> tuple[int, int]:
    height, width = draws.pick(_SHAPES, _SHAPE_WEIGHTS)
    return round(height * long_side), round(width * long_side)


def _ground_truth(plan: list[PlannedPhoto], seed: int) -> dict[str, str]:
    """Text of each ground-truth file by its path."""
    texts = {}
    for landmark in sorted({photo.landmark for photo in plan} - {0}):
        own = [photo for photo in plan if photo.landmark == landmark]
        lists = {
            kind: "".join(f"{_name(photo)}\n" for photo in own if photo.kind == kind)
            for kind in ("good", "ok", "junk")
        }
        queries = [p for p in own if p.kind == "good" and p.index < QUERIES_PER_LANDMARK]
        for photo in queries:
            name = f"{TRUTH}/{LANDMARKS[landmark - 1]}_{photo.index + 1}"
            x1, y1, x2, y2 = landmark_box(seed, landmark, photo.index, size=photo.size)
            # A query is mostly less than the whole building.
            draws = Draws(seed, "query", landmark, photo.index)
            left, right, top, bottom = (draws.uniform(0, 0.15) for _ in range(4))
            box = (
                x1 + left * (x2 - x1),
                y1 + top * (y2 - y1),
                x2 - right * (x2 - x1),
                y2 - bottom * (y2 - y1),
            )
            sides = " ".join(f"{side:.1f}" for side in box)
            texts[f"{name}_query.txt"] = f"oxc1_{_name(photo)} {sides}\n"
            texts |= {f"{name}_{kind}.txt": text for kind, text in lists.items()}
    return texts


def _name(photo: PlannedPhoto) -> str:
    return pathlib.PurePosixPath(photo.file).stem


def _write(tree, plan, card, seed, num_workers, progress, *, truth) -> pathlib.Path:
    card = {**card, "buildings_version": BUILDINGS_VERSION, "seed": seed, "num_images": len(plan)}

    def fill(folder: pathlib.Path) -> None:
        for subfolder in sorted({photo.file.rsplit("/", 1)[0] for photo in plan}):
            (folder / subfolder).mkdir()
        for file, text in truth.items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(text, encoding="utf-8")
        write = functools.partial(_write_chunk, folder=str(folder), seed=seed)
        with progress_bar(card, progress) as bar:
            for count in in_chunks(write, plan, num_workers):
                bar.update(count)

    return new_tree(tree, card, fill)


def _write_chunk(chunk: list[PlannedPhoto], folder: str, seed: int) -> int:
    for photo in chunk:
        if photo.kind == "street":
            picture = render_street(seed, photo.index, size=photo.size)
        else:
            picture = render_landmark(
                seed, photo.landmark, photo.index, kind=photo.kind, size=photo.size
            )
        pathlib.Path(folder, photo.file).write_bytes(encoded(picture, ".jpg"))
    return len(chunk)
