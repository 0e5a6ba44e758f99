"""Writing rendered data sets in the official layouts."""

import concurrent.futures
import dataclasses
import functools
import json
import multiprocessing
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

import cv2
import numpy as np
from tqdm import tqdm

from data_prep.stand_in.difficulty import DEFAULT_DIFFICULTY, Difficulty
from data_prep.stand_in.image import RENDERER_VERSION, render, render_distractor
from data_prep.stand_in.plans import (
    DUKEMTMC_FULL,
    MARKET1501_FULL,
    DukeCounts,
    MarketCounts,
    PlannedImage,
    distractors_500k_plan,
    dukemtmc_plan,
    market1501_plan,
)

__all__ = [
    "CARD",
    "in_chunks",
    "new_tree",
    "picture",
    "progress_bar",
    "write_distractors_500k",
    "write_dukemtmc",
    "write_market1501",
    "write_plan",
]

T = TypeVar("T")

CARD = "STAND_IN.json"
_JPEG_QUALITY = 90
_CHUNK = 64  # images for one task of the pool


def write_market1501(
    raw_dir: str | os.PathLike,
    *,
    seed: int = 0,
    num_train_identities: int = 250,
    num_test_identities: int = 100,
    train_images_per_identity: float = 12.0,
    gallery_images_per_identity: float = 8.0,
    cameras_per_identity: float = 3.6,
    num_distractors: int = 150,
    num_junk: int = 100,
    multi_query: bool = True,
    full: bool = False,
    size: tuple[int, int] = (128, 64),
    difficulty: Difficulty = DEFAULT_DIFFICULTY,
    num_workers: int | None = None,
    progress: bool = True,
) -> pathlib.Path:
    """Write a Market-1501 tree of rendered pedestrians.

    Args:
        raw_dir: folder that will hold `Market-1501-v15.09.15`.
        seed: seed of names and pictures.
        num_train_identities, num_test_identities: numbers of identities.
        train_images_per_identity: mean number in bounding_box_train.
        gallery_images_per_identity: mean number in bounding_box_test.
        cameras_per_identity: mean number of cameras that see an identity, from 2 to 6; one query
            for each camera of a test identity.
        num_distractors: images `0000` in bounding_box_test: false detections.
        num_junk: images `-1` in bounding_box_test: detections that miss most of the pedestrian.
        multi_query: whether to write `gt_bbox`, two images for each query (the query is one).
        full: the official counts instead, `gt_bbox` of all identities included; the numbers above
            and `multi_query` are then unused.
        size: (height, width) in pixels.
        difficulty: calibration constants.
        num_workers: processes; None for one per CPU. With more than one they are spawned, so a
            calling script needs the `if __name__ == "__main__"` guard.
        progress: whether to show a progress bar.

    Returns:
        The tree's path. A complete tree written with the same arguments is left as it is.

    Raises:
        FileExistsError: if the path holds anything else.
        ValueError: for counts that do not fit together.
    """
    counts = MARKET1501_FULL
    if not full:
        queries = round(cameras_per_identity * num_test_identities)
        counts = MarketCounts(
            train_identities=num_train_identities,
            train_pairs=round(cameras_per_identity * num_train_identities),
            train_images=round(train_images_per_identity * num_train_identities),
            test_identities=num_test_identities,
            queries=queries,
            gallery_images=round(gallery_images_per_identity * num_test_identities),
            distractors=num_distractors,
            junk=num_junk,
            drawn_train=0,
            drawn_test=2 * queries if multi_query else 0,
        )
    plan = market1501_plan(counts, seed=seed, size=size)
    card = _card("market1501", seed, counts=dataclasses.asdict(counts), size=list(size), full=full)
    tree = pathlib.Path(raw_dir) / "Market-1501-v15.09.15"
    return write_plan(tree, plan, card, difficulty, num_workers, progress)


def write_dukemtmc(
    raw_dir: str | os.PathLike,
    *,
    seed: int = 0,
    num_train_identities: int = 250,
    num_test_identities: int = 100,
    num_distractor_identities: int = 40,
    train_images_per_identity: float = 12.0,
    gallery_images_per_identity: float = 8.0,
    cameras_per_identity: float = 3.2,
    full: bool = False,
    difficulty: Difficulty = DEFAULT_DIFFICULTY,
    num_workers: int | None = None,
    progress: bool = True,
) -> pathlib.Path:
    """Write a DukeMTMC-reID tree of rendered pedestrians; the images differ in size.

    Args:
        raw_dir: folder that will hold `DukeMTMC-reID`.
        seed: seed of names and pictures.
        num_train_identities, num_test_identities: numbers of identities.
        num_distractor_identities: identities in the gallery that have no query, each seen by one
            camera.
        train_images_per_identity: mean number in bounding_box_train.
        gallery_images_per_identity: mean number in bounding_box_test, distractor ids included.
        cameras_per_identity: mean number of cameras that see an identity, from 2 to 8.
        full: the official counts instead; the numbers above are then unused.
        difficulty, num_workers, progress: as for `write_market1501`.

    Returns:
        The tree's path. A complete tree written with the same arguments is left as it is.

    Raises:
        FileExistsError: if the path holds anything else.
        ValueError: for counts that do not fit together.
    """
    counts = DUKEMTMC_FULL
    if not full:
        num_gallery_identities = num_test_identities + num_distractor_identities
        counts = DukeCounts(
            train_identities=num_train_identities,
            train_pairs=round(cameras_per_identity * num_train_identities),
            train_images=round(train_images_per_identity * num_train_identities),
            test_identities=num_test_identities,
            queries=round(cameras_per_identity * num_test_identities),
            distractor_identities=num_distractor_identities,
            gallery_images=round(gallery_images_per_identity * num_gallery_identities),
        )
    card = _card("dukemtmc", seed, counts=dataclasses.asdict(counts), full=full)
    tree = pathlib.Path(raw_dir) / "DukeMTMC-reID"
    plan = dukemtmc_plan(counts, seed=seed)
    return write_plan(tree, plan, card, difficulty, num_workers, progress)


def write_distractors_500k(
    raw_dir: str | os.PathLike,
    *,
    num_images: int,
    seed: int = 0,
    size: tuple[int, int] = (128, 64),
    difficulty: Difficulty = DEFAULT_DIFFICULTY,
    num_workers: int | None = None,
    progress: bool = True,
) -> pathlib.Path:
    """Write a distractors_500k tree: false detections named as identity 0, cameras 1 to 6.

    Args:
        raw_dir: folder that will hold `distractors_500k`.
        num_images: how many; the official set has 500,000.
        seed, size, difficulty, num_workers, progress: as for `write_market1501`; give the same
            seed for the same cameras.

    Returns:
        The tree's path. A complete tree written with the same arguments is left as it is.

    Raises:
        FileExistsError: if the path holds anything else.
    """
    counts = {"distractors": num_images}
    full = num_images == 500_000
    card = _card("distractors_500k", seed, counts=counts, size=list(size), full=full)
    tree = pathlib.Path(raw_dir) / "distractors_500k"
    plan = distractors_500k_plan(num_images, size=size)
    return write_plan(tree, plan, card, difficulty, num_workers, progress)


def _card(dataset: str, seed: int, **facts) -> dict:
    return {"dataset": dataset, "renderer_version": RENDERER_VERSION, "seed": seed, **facts}


def write_plan(
    tree: pathlib.Path,
    plan: list[PlannedImage],
    card: dict,
    difficulty: Difficulty,
    num_workers: int | None,
    progress: bool,
) -> pathlib.Path:
    """Render a plan, each image to its file.

    Args:
        tree: the tree's path.
        plan: its images.
        card: everything else that decides what the tree holds, with `dataset` and `seed`.
        difficulty, num_workers, progress: as for `write_market1501`.

    Returns, raises: as `new_tree`.
    """
    card = {**card, "difficulty": dataclasses.asdict(difficulty), "num_images": len(plan)}

    def fill(folder: pathlib.Path) -> None:
        for subfolder in sorted({image.file.rsplit("/", 1)[0] for image in plan}):
            (folder / subfolder).mkdir(parents=True)
        write = functools.partial(
            _write_chunk, folder=str(folder), seed=card["seed"], difficulty=difficulty
        )
        with progress_bar(card, progress) as bar:
            for count in in_chunks(write, plan, num_workers):
                bar.update(count)

    return new_tree(tree, card, fill)


def new_tree(tree: pathlib.Path, card: dict, fill: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """Fill a folder beside the tree, then move it into place: a killed run leaves no tree.

    Args:
        tree: the tree's path.
        card: everything that decides what the tree holds.
        fill: writes the tree into the folder that it is given.

    Returns:
        The tree's path. A complete tree with the same card is left as it is.

    Raises:
        FileExistsError: if the path holds anything else.
    """
    if tree.exists():
        _check_same(tree, card)
        return tree
    partial = tree.with_name(tree.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    try:
        fill(partial)
        (partial / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        partial.rename(tree)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return tree


def progress_bar(card: dict, progress: bool) -> tqdm:
    """The bar over the `num_images` of a card."""
    return tqdm(
        total=card["num_images"],
        desc=f"render {card['dataset']}",
        unit="image",
        disable=not progress,
        file=sys.stderr,
    )


def _check_same(tree: pathlib.Path, card: dict) -> None:
    """Raise unless the tree was rendered with exactly this card."""
    if not (tree / CARD).is_file():
        raise FileExistsError(
            f"{tree} exists and has no {CARD}, so it is not a stand-in. It was left as it is; "
            "give another raw_dir, or move it away."
        )
    found = json.loads((tree / CARD).read_text(encoding="utf-8"))
    if found == card:
        return
    names = sorted(name for name in {*found, *card} if found.get(name) != card.get(name))
    listed = "; ".join(f"{name} is {found.get(name)}, not {card.get(name)}" for name in names)
    raise FileExistsError(
        f"{tree} holds a stand-in rendered with other parameters: {listed}. It was left as it is; "
        "give another raw_dir, or delete it to render anew."
    )


def in_chunks(
    work: Callable[[list[PlannedImage]], T], plan: list[PlannedImage], num_workers: int | None
) -> Iterator[T]:
    """Work on a plan, chunk by chunk, on several processes.

    Args:
        work: what to do with a chunk; can be pickled.
        plan: the images.
        num_workers: processes; None for one per CPU.

    Returns:
        Iterator over what `work` returns for each chunk, in order.
    """
    chunks = [plan[first : first + _CHUNK] for first in range(0, len(plan), _CHUNK)]
    num_workers = min(num_workers or os.cpu_count() or 1, len(chunks))
    if num_workers <= 1:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)  # the pieces are too small to share
        try:
            yield from map(work, chunks)
        finally:
            cv2.setNumThreads(threads)
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        num_workers, multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    with pool:
        yield from pool.map(work, chunks)


def _start_worker() -> None:
    cv2.setNumThreads(1)  # the processes already fill the CPUs


def _write_chunk(chunk: list[PlannedImage], folder: str, seed: int, difficulty: Difficulty) -> int:
    for image in chunk:
        path = f"{folder}/{image.file}"
        with open(path, "xb") as file:
            suffix = os.path.splitext(path)[1]
            file.write(encoded(picture(image, seed, difficulty), suffix))
    return len(chunk)


def picture(image: PlannedImage, seed: int, difficulty: Difficulty) -> np.ndarray:
    """A planned image, rendered: uint8 [height, width, 3] RGB."""
    options = {"size": image.size, "difficulty": difficulty}
    if image.kind == "distractor":
        return render_distractor(seed, image.camera, image.index, **options)
    options |= {"box": image.kind, "orientation": image.orientation}
    return render(seed, image.identity, image.camera, image.index, **options)


def encoded(picture: np.ndarray, suffix: str) -> bytes:
    """The file of a picture, uint8 [height, width, 3] RGB, in the format of a suffix."""
    blue_first = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if suffix == ".jpg" else []
    done, data = cv2.imencode(suffix, blue_first, quality)
    if not done:
        raise RuntimeError(f"OpenCV could not encode a picture of shape {picture.shape}: {suffix}.")
    return data.tobytes()
