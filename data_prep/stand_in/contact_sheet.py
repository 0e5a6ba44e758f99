"""Contact sheets: many renderings on one picture, to look at."""

from collections.abc import Sequence

import numpy as np

from data_prep.stand_in.difficulty import DEFAULT_DIFFICULTY, Difficulty
from data_prep.stand_in.image import ORIENTATIONS, render, render_distractor

__all__ = ["contact_sheet"]


def contact_sheet(
    seed: int,
    identities: Sequence[int],
    *,
    columns: str = "cameras",
    num_cameras: int = 6,
    size: tuple[int, int] = (128, 64),
    difficulty: Difficulty = DEFAULT_DIFFICULTY,
) -> np.ndarray:
    """A picture with one row of renderings per identity, and a last one of false detections.

    Args:
        seed: the renderer's seed.
        identities: one row each.
        columns: "cameras" (two images for each camera) or "orientations" (in camera 1).
        num_cameras: number of cameras.
        size: (height, width) of each image.
        difficulty: calibration constants.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        ValueError: for an unknown `columns`.
    """
    options = {"size": size, "difficulty": difficulty}
    if columns == "orientations":
        keys = [(1, turn, turn) for turn in range(len(ORIENTATIONS))]
    elif columns == "cameras":
        keys = [(camera, index, None) for camera in range(1, num_cameras + 1) for index in range(2)]
    else:
        raise ValueError(f"columns is {columns!r}; expected 'cameras' or 'orientations'.")
    rows = [
        [
            render(seed, identity, camera, index, orientation=turn, **options)
            for camera, index, turn in keys
        ]
        for identity in identities
    ]
    rows.append([render_distractor(seed, camera, index, **options) for camera, index, _ in keys])
    framed = [[np.pad(image, ((0, 2), (0, 2), (0, 0))) for image in row] for row in rows]
    return np.concatenate([np.concatenate(row, axis=1) for row in framed], axis=0)
