"""Rendered stand-ins of CUHK01, VIPeR and PKU-Reid: two cameras, the same images of each identity.

Each data set has pedestrians and cameras of its own: a net that was trained on the stand-in of
another, from the same seed, has not seen them.
"""

import os
import pathlib

from data_prep.stand_in.difficulty import DEFAULT_DIFFICULTY, Difficulty
from data_prep.stand_in.draws import Draws
from data_prep.stand_in.image import ORIENTATIONS, RENDERER_VERSION
from data_prep.stand_in.plans import PlannedImage
from data_prep.stand_in.writers import write_plan

__all__ = [
    "cuhk01_plan",
    "pku_reid_plan",
    "viper_plan",
    "write_cuhk01",
    "write_pku_reid",
    "write_viper",
]

# The official numbers of identities.
CUHK01_FULL, VIPER_FULL, PKU_REID_FULL = 971, 632, 114
VIPER_NUMBERS = 874  # what VIPeR's 632 are numbered with, from 0
CUHK01_SIZE, VIPER_SIZE, PKU_REID_SIZE = (160, 60), (128, 48), (128, 48)
# Added to identities (below 100,000) and to cameras for the renderer.
CUHK01_FIRST, VIPER_FIRST, PKU_REID_FIRST = (100_000, 100), (200_000, 200), (300_000, 300)


def cuhk01_plan(num_identities: int) -> list[PlannedImage]:
    """The images of a CUHK01 tree, `campus/0001001.png`: two of each identity and camera."""
    _check_identities(num_identities, 9_999)
    return [
        _planned(
            f"campus/{identity:04d}{number + 1:03d}.png",
            CUHK01_FIRST, identity, 1 + number // 2, number % 2, CUHK01_SIZE,
        )
        for identity in range(1, num_identities + 1)
        for number in range(4)
    ]  # fmt: skip


def viper_plan(num_identities: int, *, seed: int) -> list[PlannedImage]:
    """The images of a VIPeR tree, `cam_a/000_45.bmp`: one of each identity and camera.

    As in the official set, the numbers in names have gaps, and the angle of view, in degrees, is
    another one in camera 2.

    Args:
        num_identities: how many.
        seed: seed of the numbers, the angles and the pictures.
    """
    _check_identities(num_identities, 700)
    span = -(-num_identities * VIPER_NUMBERS // VIPER_FULL)
    numbers = sorted(Draws(seed, "viper numbers").order(span)[:num_identities].tolist())
    plan = []
    for identity, number in enumerate(numbers, 1):
        draws = Draws(seed, "viper angles", identity)
        first = draws.pick([0, 1, 2], [0.4, 0.2, 0.4])
        second = min(first + draws.pick([1, 2, 3, 4], [0.2, 0.5, 0.1, 0.2]), 4)
        for camera, turn in ((1, first), (2, second)):
            file = f"cam_{'ab'[camera - 1]}/{number:03d}_{45 * turn}.bmp"
            plan.append(_planned(file, VIPER_FIRST, identity, camera, 0, VIPER_SIZE, turn))
    return sorted(plan, key=lambda image: image.file)


def pku_reid_plan(num_identities: int) -> list[PlannedImage]:
    """The images of a PKU-Reid tree, `PKUv1a_128x48/001_01_1.png`: eight orientations each."""
    _check_identities(num_identities, 999)
    return [
        _planned(
            f"PKUv1a_128x48/{identity:03d}_{camera:02d}_{turn + 1}.png",
            PKU_REID_FIRST, identity, camera, turn, PKU_REID_SIZE, turn,
        )
        for identity in range(1, num_identities + 1)
        for camera in (1, 2)
        for turn in range(len(ORIENTATIONS))
    ]  # fmt: skip


def write_cuhk01(
    raw_dir: str | os.PathLike,
    *,
    seed: int = 0,
    num_identities: int = 240,
    full: bool = False,
    difficulty: Difficulty = DEFAULT_DIFFICULTY,
    num_workers: int | None = None,
    progress: bool = True,
) -> pathlib.Path:
    """Write a CUHK01 tree of rendered pedestrians: PNG files of 160x60.

    Args:
        raw_dir: folder that will hold `CUHK01`.
        seed: seed of the pictures.
        num_identities: how many, of four images each.
        full: the official 971 instead.
        difficulty, num_workers, progress: as for `write_market1501`.

    Returns:
        The tree's path. A complete tree written with the same arguments is left as it is.

    Raises:
        FileExistsError: if the path holds anything else.
        ValueError: for a number of identities that names have no room for.
    """
    count = CUHK01_FULL if full else num_identities
    card = _card("cuhk01", seed, count, full)
    tree = pathlib.Path(raw_dir) / "CUHK01"
    plan = cuhk01_plan(count)
    return write_plan(tree, plan, card, difficulty, num_workers, progress)


def write_viper(
    raw_dir: str | os.PathLike,
    *,
    seed: int = 0,
    num_identities: int = 160,
    full: bool = False,
    difficulty: Difficulty = DEFAULT_DIFFICULTY,
    num_workers: int | None = None,
    progress: bool = True,
) -> pathlib.Path:
    """Write a VIPeR tree of rendered pedestrians: BMP files of 128x48.

    Args:
        raw_dir: folder that will hold `VIPeR`.
        seed: seed of the numbers, the angles and the pictures.
        num_identities: how many, of two images each.
        full: the official 632 instead.
        difficulty, num_workers, progress: as for `write_market1501`.

    Returns:
        The tree's path. A complete tree written with the same arguments is left as it is.

    Raises:
        FileExistsError: if the path holds anything else.
        ValueError: for a number of identities that names have no room for.
    """
    count = VIPER_FULL if full else num_identities
    card = _card("viper", seed, count, full)
    tree = pathlib.Path(raw_dir) / "VIPeR"
    plan = viper_plan(count, seed=seed)
    return write_plan(tree, plan, card, difficulty, num_workers, progress)


def write_pku_reid(
    raw_dir: str | os.PathLike,
    *,
    seed: int = 0,
    num_identities: int = PKU_REID_FULL,
    full: bool = False,
    difficulty: Difficulty = DEFAULT_DIFFICULTY,
    num_workers: int | None = None,
    progress: bool = True,
) -> pathlib.Path:
    """Write a PKU-Reid tree of rendered pedestrians: PNG files of 128x48, eight orientations.

    Args:
        raw_dir: folder that will hold `PKU-Reid`.
        seed: seed of the pictures.
        num_identities: how many, of sixteen images each; the official number is small already.
        full: the official 114 instead.
        difficulty, num_workers, progress: as for `write_market1501`.

    Returns:
        The tree's path. A complete tree written with the same arguments is left as it is.

    Raises:
        FileExistsError: if the path holds anything else.
        ValueError: for a number of identities that names have no room for.
    """
    count = PKU_REID_FULL if full else num_identities
    card = _card("pku_reid", seed, count, full)
    tree = pathlib.Path(raw_dir) / "PKU-Reid"
    plan = pku_reid_plan(count)
    return write_plan(tree, plan, card, difficulty, num_workers, progress)


def _card(dataset: str, seed: int, num_identities: int, full: bool) -> dict:
    return {
        "dataset": dataset,
        "renderer_version": RENDERER_VERSION,
        "seed": seed,
        "counts": {"identities": num_identities},
        "full": full,
    }


def _check_identities(number: int, most: int) -> None:
    if not 1 <= number <= most:
        raise ValueError(f"num_identities is {number}; expected 1 to {most}.")


def _planned(
    file: str,
    first: tuple[int, int],
    identity: int,
    camera: int,
    index: int,
    size: tuple[int, int],
    orientation: int | None = None,
) -> PlannedImage:
    identity, camera = first[0] + identity, first[1] + camera
    return PlannedImage(file, "drawn", identity, camera, index, size, orientation)
