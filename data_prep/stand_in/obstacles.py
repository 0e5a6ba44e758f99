"""Things that stand before a pedestrian: a pole, a box, a bicycle, a bush."""

import cv2
import numpy as np

from data_prep.stand_in.draws import Draws
from data_prep.stand_in.pedestrian import Light, Tube, paint

__all__ = ["draw_obstacle"]

_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


def draw_obstacle(canvas: np.ndarray, draws: Draws, light: Light) -> None:
    """Draw a random obstacle onto the canvas, in place.

    Args:
        canvas: float32 [3, H, W] in [0, 1].
        draws: for its kind, place and colour.
        light: the light on it.
    """
    draw = draws.pick([_pole, _box, _bicycle, _bush], [0.3, 0.3, 0.25, 0.15])
    draw(canvas, draws, light)


def _coloured(draws: Draws, low: float, high: float) -> np.ndarray:
    grey = draws.uniform(low, high)
    return np.array([grey + draws.bell(0.06) for _ in range(3)], np.float32).clip(0.03, 0.95)


def _cloth_of(colour: np.ndarray) -> np.ndarray:
    return np.broadcast_to(colour[:, None, None], (3, 8, 8)).copy()


def _pole(canvas, draws, light):
    height, width = canvas.shape[1:]
    x, half = draws.uniform(0.1, 0.9) * width, draws.uniform(0.02, 0.06) * width
    texture = _cloth_of(_coloured(draws, 0.2, 0.7))
    ends = (x, -5.0), (x + draws.bell(0.02) * width, height + 5.0)
    paint(canvas, Tube(0, *ends, (half, half), texture, flat=True), light)


def _box(canvas, draws, light):
    height, width = canvas.shape[1:]
    x, half = draws.uniform(0.15, 0.85) * width, draws.uniform(0.15, 0.40) * width
    top = height * draws.uniform(0.60, 0.85)
    texture = _cloth_of(_coloured(draws, 0.15, 0.7))
    texture[:, 0] *= 1.25
    texture[:, ::3] *= 0.9
    paint(canvas, Tube(0, (x, top), (x, height + 5.0), (half, half), texture, flat=True), light)


def _bush(canvas, draws, light):
    height, width = canvas.shape[1:]
    green = np.array([0.22, 0.36, 0.16], np.float32) * draws.uniform(0.6, 1.3)
    leaves = green[:, None, None] * (1 + 0.3 * draws.noise((16, 32)))
    texture = np.clip(leaves, 0, 1).astype(np.float32)
    x = draws.pick([0.0, 1.0]) * width
    for _ in range(4):
        at = (x + draws.bell(0.2) * width, height * draws.uniform(0.72, 1.0))
        size = draws.uniform(0.12, 0.30) * width
        paint(canvas, Tube(0, at, (at[0] + 4, at[1]), (size, size), texture), light)


def _bicycle(canvas, draws, light):
    """Two wheels and a frame, partly outside the box."""
    height, width = canvas.shape[1:]
    radius = height * draws.uniform(0.13, 0.17)
    rear = np.array(
        [draws.uniform(-0.6, 0.5) * width, height - radius - draws.uniform(0, 0.1) * height]
    )
    front = rear + np.array([2.9 * radius, 0])
    mask = np.zeros((height, width), np.uint8)
    thick = max(int(radius / 9), 1)

    def fixed(point):
        return tuple(round(value * (1 << _SHIFT)) for value in point)

    for wheel in (rear, front):
        cv2.circle(mask, fixed(wheel), int(radius * (1 << _SHIFT)), 255, thick, cv2.LINE_AA, _SHIFT)
    saddle, pedal, bars = (
        rear + radius * np.array(p) for p in ([0.8, -1.5], [1.2, 0.0], [2.5, -1.6])
    )
    frame = [(rear, saddle), (saddle, pedal), (rear, pedal), (saddle, bars), (pedal, bars)]
    for start, end in [*frame, (bars, front)]:
        cv2.line(mask, fixed(start), fixed(end), 255, thick + 1, cv2.LINE_AA, _SHIFT)
    cover = mask.astype(np.float32) * np.float32(1 / 255)
    colour = _coloured(draws, 0.05, 0.5)[:, None, None] * np.float32(light.ambient)
    canvas += cover * (colour - canvas)
