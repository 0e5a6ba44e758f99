"""What a camera adds: its scene, its habitual viewpoint, its colours and its loss of detail."""

import dataclasses
import functools

import cv2
import numpy as np

from data_prep.stand_in.difficulty import Difficulty
from data_prep.stand_in.draws import Draws
from data_prep.stand_in.scene import scene_picture

__all__ = ["Camera", "camera", "photograph"]


@dataclasses.dataclass(frozen=True, eq=False)
class Camera:
    """One camera of the network.

    Attributes:
        scene: uint8 [H, W, 3] RGB, the place without pedestrians.
        horizon: row of the scene where the ground begins.
        colour: float32 [3, 4], the affine map from scene colours to sensor colours.
        curve: uint8 [256], the tone curve.
        blur: standard deviation of the lens blur, as a fraction of the height of a crop.
        lines: how many sensor lines a pedestrian's crop covers, typically.
        noise: standard deviation of the sensor noise, in grey levels.
        pitch: radians by which it looks down; roll: its sideways lean.
        heading_weights: [8], how often pedestrians are seen at each orientation.
        light: direction (radians, 0 behind the camera) and strength of the light.
    """

    scene: np.ndarray
    horizon: int
    colour: np.ndarray
    curve: np.ndarray
    blur: float
    lines: float
    noise: float
    pitch: float
    roll: float
    heading_weights: tuple[float, ...]
    light: tuple[float, float]


@functools.lru_cache(maxsize=16)
def camera(seed: int, number: int, difficulty: Difficulty) -> Camera:
    """Camera `number` (1-based, as in file names), a pure function of its arguments."""
    draws = Draws(seed, "camera", number)
    colour_strength = difficulty.camera_colour
    saturation = float(np.exp(colour_strength * draws.uniform(-0.7, 0.2)))
    cast = np.exp([colour_strength * draws.bell(0.06) for _ in range(3)])
    exposure = float(np.exp(colour_strength * draws.bell(0.12)))
    haze = colour_strength * draws.uniform(0.0, 0.12)
    grey = np.full((3, 3), 1 / 3)
    mix = (1 - haze) * exposure * cast[:, None] * (saturation * np.eye(3) + (1 - saturation) * grey)
    colour = np.concatenate([mix, haze * cast[:, None]], axis=1).astype(np.float32)
    gamma = float(np.exp(colour_strength * draws.bell(0.18)))
    contrast = float(np.exp(colour_strength * draws.bell(0.15)))
    tone = np.linspace(0, 1, 256) ** gamma
    tone = np.clip(0.5 + contrast * (tone - 0.5), 0.01, 0.99)
    heading, sharpness = draws.uniform(0, 2 * np.pi), 1.6 * difficulty.viewpoint_bias
    angles = np.arange(8) * np.pi / 4 - heading
    # People walk a path both ways, one of them more often.
    weights = np.exp(sharpness * np.cos(angles)) + 0.5 * np.exp(-sharpness * np.cos(angles))
    scene, horizon = scene_picture(seed, number)
    return Camera(
        scene=scene,
        horizon=horizon,
        colour=colour,
        curve=np.round(255 * tone).astype(np.uint8),
        blur=difficulty.camera_blur * draws.uniform(0.001, 0.007),
        lines=192 / (1 + difficulty.camera_blur * draws.uniform(0.2, 2.2)),
        noise=difficulty.camera_noise * draws.uniform(1.0, 6.0),
        pitch=draws.uniform(0.05, 0.40),
        roll=draws.bell(0.02),
        heading_weights=tuple(weights.tolist()),
        light=(draws.uniform(-1.9, 1.9), draws.uniform(0.25, 0.75)),
    )


def photograph(
    canvas: np.ndarray, view: Camera, draws: Draws, *, sharpness: float, size: tuple[int, int]
) -> np.ndarray:
    """The camera's picture of a canvas.

    Args:
        canvas: float32 [H, W, 3] in [0, 1], scene colours.
        view: the camera.
        draws: for the noise.
        sharpness: scales the number of sensor lines for this image.
        size: (height, width) of the picture in pixels.

    Returns:
        uint8 [height, width, 3] RGB.
    """
    sensed = cv2.transform(canvas, view.colour)
    picture = cv2.LUT(cv2.convertScaleAbs(cv2.max(sensed, 0), alpha=255), view.curve)
    height, width = canvas.shape[:2]
    sigma = view.blur * height
    if sigma > 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), sigma)
    lines = int(min(max(view.lines * sharpness, 24), height))
    columns = max(round(lines * width / height), 8)
    picture = cv2.resize(picture, (columns, lines), interpolation=cv2.INTER_AREA)
    noisy = picture.astype(np.float32)
    noisy += view.noise * draws.noise(picture.shape)
    picture = cv2.convertScaleAbs(cv2.max(noisy, 0))
    shrinks = size[0] < lines
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return cv2.resize(picture, (size[1], size[0]), interpolation=how)
