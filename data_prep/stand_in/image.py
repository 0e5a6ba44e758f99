"""Rendering single images: a pedestrian, or a false detection, as one camera sees it."""

import math

import cv2
import numpy as np

from data_prep.stand_in.appearance import appearance
from data_prep.stand_in.camera import Camera, camera, photograph
from data_prep.stand_in.difficulty import DEFAULT_DIFFICULTY, Difficulty
from data_prep.stand_in.draws import Draws
from data_prep.stand_in.obstacles import draw_obstacle
from data_prep.stand_in.pedestrian import Light, View, draw_pedestrian, pose

__all__ = ["ORIENTATIONS", "RENDERER_VERSION", "render", "render_distractor"]

RENDERER_VERSION = 1  # raise it with any change of the pixels

ORIENTATIONS = (
    "front",
    "front-right",
    "right",
    "back-right",
    "back",
    "back-left",
    "left",
    "front-left",
)

CANVAS_HEIGHT = 192  # pixels, whatever the size asked for: appearance does not depend on it
_STRANGERS = 1 << 40  # identities of passers-by, far from those of any data set


def render(
    seed: int,
    identity: int,
    camera_number: int,
    index: int,
    *,
    orientation: int | None = None,
    size: tuple[int, int] = (128, 64),
    box: str = "detected",
    difficulty: Difficulty = DEFAULT_DIFFICULTY,
) -> np.ndarray:
    """One image of an identity, a pure function of its arguments.

    Args:
        seed: seed of the whole data set.
        identity: any integer; fixes body, clothes, hair and bag.
        camera_number: 1-based; fixes scene, colours, detail and typical viewpoint.
        index: number of the image of this identity in this camera; fixes pose, orientation, box,
            obstacles and light.
        orientation: 0 to 7, as `ORIENTATIONS` (the side of the pedestrian turned to the camera
            is named from the viewer: "right" walks to the viewer's right); None draws one as is
            typical of the camera.
        size: (height, width) in pixels.
        box: "detected" with a detector's errors, "drawn" as by hand, or "junk", a detection that
            misses most of the pedestrian.
        difficulty: calibration constants.

    Returns:
        uint8 [height, width, 3] RGB.

    Raises:
        ValueError: for an unknown box or orientation.
    """
    if box not in ("detected", "drawn", "junk"):
        raise ValueError(f"box is {box!r}; expected 'detected', 'drawn' or 'junk'.")
    if orientation is not None and not 0 <= orientation < len(ORIENTATIONS):
        raise ValueError(f"orientation is {orientation}; expected 0 to {len(ORIENTATIONS) - 1}.")
    place = camera(seed, camera_number, difficulty)
    track = Draws(seed, "track", identity, camera_number)
    draws = Draws(seed, "image", identity, camera_number, index)
    heading = _heading(track, draws, place, orientation, difficulty)
    canvas_width = max(round(CANVAS_HEIGHT * size[1] / size[0]), 16)
    view = _view(draws, place, heading, canvas_width, box, difficulty)
    light = _light(draws, place, difficulty)
    canvas = _background(place, track, draws, canvas_width)
    if draws.chance(difficulty.crowd_rate):
        _passer_by(canvas, seed, draws, view, light, difficulty, behind=True)
    _contact_shadow(canvas, view, draws)
    looks = appearance(seed, identity, difficulty)
    draw_pedestrian(canvas, looks, pose(draws, looks.stride), view, light)
    if draws.chance(difficulty.occlusion_rate):
        if draws.chance(0.3):
            _passer_by(canvas, seed, draws, view, light, difficulty, behind=False)
        else:
            draw_obstacle(canvas, draws, light)
    return _picture(canvas, place, draws, difficulty, size)


def render_distractor(
    seed: int,
    camera_number: int,
    index: int,
    *,
    size: tuple[int, int] = (128, 64),
    difficulty: Difficulty = DEFAULT_DIFFICULTY,
) -> np.ndarray:
    """A false detection: background, a thing, or a part of a passer-by; a pure function.

    Args:
        seed: seed of the whole data set.
        camera_number: 1-based.
        index: number of the false detection in this camera.
        size: (height, width) in pixels.
        difficulty: calibration constants.

    Returns:
        uint8 [height, width, 3] RGB.
    """
    place = camera(seed, camera_number, difficulty)
    draws = Draws(seed, "distractor", camera_number, index)
    canvas_width = max(round(CANVAS_HEIGHT * size[1] / size[0]), 16)
    light = _light(draws, place, difficulty)
    canvas = _background(place, draws, draws, canvas_width)
    kind = draws.pick(["background", "thing", "part"], [0.22, 0.18, 0.60])
    if kind == "thing":
        draw_obstacle(canvas, draws, light)
    elif kind == "part":
        heading = draws.integer(8) * math.pi / 4
        view = _view(draws, place, heading, canvas_width, "junk", difficulty)
        _passer_by(canvas, seed, draws, view, light, difficulty, behind=None)
    return _picture(canvas, place, draws, difficulty, size)


def _heading(track, draws, place: Camera, orientation, difficulty) -> float:
    usual = track.pick(range(8), place.heading_weights)
    turned = draws.pick([1, 7, 2, 6, 4], [0.32, 0.32, 0.12, 0.12, 0.12])
    jitter = draws.bell(0.16)
    if orientation is None:
        orientation = usual + (turned if draws.chance(difficulty.turn_rate) else 0)
    return orientation * math.pi / 4 + jitter


def _view(draws, place: Camera, heading, canvas_width, box, difficulty) -> View:
    """Where the pedestrian stands in the box, with the errors of whoever drew the box."""
    error = {"detected": 1.0, "drawn": 0.35, "junk": 1.0}[box] * difficulty.misalignment
    scale = 0.90 * math.exp(error * draws.bell(0.065))
    x = 0.5 + error * draws.bell(0.055)
    y = 0.5 + 0.5 * scale + error * draws.bell(0.030)
    if box == "junk":
        scale *= draws.uniform(1.3, 2.2) if draws.chance(0.6) else draws.uniform(0.3, 0.6)
        x += draws.pick([-1, 1]) * draws.uniform(0.15, 0.5)
        y += draws.uniform(-0.3, 0.9) if scale > 0.88 else draws.uniform(-0.3, 0.1)
    return View(
        x=x * canvas_width,
        y=y * CANVAS_HEIGHT,
        scale=scale * CANVAS_HEIGHT,
        pitch=place.pitch,
        roll=place.roll + draws.bell(0.01),
        heading=heading,
    )


def _light(draws, place: Camera, difficulty) -> Light:
    angle, strength = place.light
    angle += difficulty.light_spread * draws.bell(0.4)
    strength = min(max(strength + difficulty.light_spread * draws.bell(0.1), 0.1), 0.9)
    return Light(1.05 - 0.75 * strength, strength, math.sin(angle), 0.35 + 0.65 * math.cos(angle))


def _background(place: Camera, track, draws, canvas_width) -> np.ndarray:
    """The piece of the scene behind the box, float32 [3, H, W]."""
    height, width = place.scene.shape[:2]
    zoom = 1.25 * math.exp(track.bell(0.15) + draws.bell(0.05))  # canvas pixels per scene pixel
    foot = place.horizon + (height - place.horizon) * min(
        max(track.uniform(0.15, 0.95) + draws.bell(0.08), 0.1), 1.0
    )
    x = width * (track.uniform(0.1, 0.9) + draws.bell(0.05))
    move = np.array(
        [[zoom, 0, canvas_width / 2 - zoom * x], [0, zoom, 0.93 * CANVAS_HEIGHT - zoom * foot]]
    )
    patch = cv2.warpAffine(
        place.scene, move, (canvas_width, CANVAS_HEIGHT), borderMode=cv2.BORDER_REFLECT
    )
    return np.ascontiguousarray(patch.transpose(2, 0, 1), dtype=np.float32) * np.float32(1 / 255)


def _passer_by(canvas, seed, draws, view: View, light, difficulty, *, behind: bool | None):
    """Another pedestrian: behind, before (False), or in the place (None) of the main one."""
    stranger = appearance(seed, _STRANGERS + draws.integer(1 << 20), difficulty)
    width = canvas.shape[2]
    if behind is None:
        other = view
    else:
        scale = view.scale * (draws.uniform(0.65, 0.95) if behind else draws.uniform(1.0, 1.2))
        x = view.x + draws.pick([-1, 1]) * width * draws.uniform(0.36, 0.62)
        y = view.y + CANVAS_HEIGHT * (
            draws.uniform(-0.1, 0) if behind else draws.uniform(0.02, 0.1)
        )
        heading = draws.integer(8) * math.pi / 4
        other = View(x, y, scale, view.pitch, view.roll, heading)
    draw_pedestrian(canvas, stranger, pose(draws, stranger.stride), other, light)


def _contact_shadow(canvas, view: View, draws):
    """The soft dark patch that puts the feet on the ground."""
    wide, tall = 0.16 * view.scale, 0.035 * view.scale
    centre = view.x + draws.uniform(-0.06, 0.06) * view.scale
    top = max(int(view.y - 3 * tall), 0)
    rows = np.arange(top, min(int(view.y + 3 * tall), canvas.shape[1]), dtype=np.float32)
    columns = np.arange(canvas.shape[2], dtype=np.float32)
    if rows.size == 0:
        return
    distance = ((rows[:, None] - view.y) / tall) ** 2 + ((columns - centre) / wide) ** 2
    canvas[:, top : top + rows.size] *= 1 - np.float32(draws.uniform(0.25, 0.6)) * np.exp(-distance)


def _picture(canvas, place: Camera, draws, difficulty, size) -> np.ndarray:
    """Light of the moment, then the camera."""
    spread = difficulty.light_spread
    canvas *= np.float32(math.exp(spread * draws.bell(0.12)))
    if draws.chance(0.3):
        _cast_shadow(canvas, draws, spread)
    seen = cv2.merge(list(canvas))
    sharpness = math.exp(difficulty.camera_blur * draws.bell(0.2))
    return photograph(seen, place, draws, sharpness=sharpness, size=size)


def _cast_shadow(canvas, draws, spread):
    """A straight, soft edge of shade across the box."""
    angle, depth = draws.uniform(0, 2 * math.pi), 1 - math.exp(-spread * draws.uniform(0.1, 0.6))
    x = np.linspace(-0.5, 0.5, canvas.shape[2], dtype=np.float32)
    y = np.linspace(-1, 1, canvas.shape[1], dtype=np.float32)[:, None]
    edge = x * np.float32(math.cos(angle)) + y * np.float32(math.sin(angle))
    edge = np.clip((edge - np.float32(draws.uniform(-0.5, 0.5))) * 6 + 0.5, 0, 1)
    canvas *= 1 - np.float32(depth) * edge
