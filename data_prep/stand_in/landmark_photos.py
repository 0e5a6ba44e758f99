"""Photographs of rendered landmarks: viewpoint, light, surroundings, trees before it, camera."""

import dataclasses
import functools
import math

import cv2
import numpy as np

from data_prep.stand_in.buildings import STRANGERS, all_points, landmark_parts
from data_prep.stand_in.draws import Draws

__all__ = [
    "BUILDINGS_VERSION",
    "KINDS",
    "landmark_box",
    "render_landmark",
    "render_street",
    "visible_share",
]

BUILDINGS_VERSION = 1  # raise it with any change of the pixels

# Shares of the landmark that a photograph of a kind shows, as Oxford5k words them: good is a clear
# picture, ok shows more than a quarter, junk less.
KINDS = {"good": (0.75, 1.0), "ok": (0.30, 0.70), "junk": (0.05, 0.22)}
_ATTEMPTS = 200
_SUPERSAMPLING = 2
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


@dataclasses.dataclass(frozen=True, eq=False)
class _View:
    """A camera, with the trees before it.

    Attributes:
        position: [3] in metres.
        rotation: [3, 3], rows: right, up, forward.
        focal: focal length as a share of the frame's long side.
        centre: [2] principal point from the top left corner, in the same unit.
        trees: leaves of each tree, see `_tree`.
    """

    position: np.ndarray
    rotation: np.ndarray
    focal: float
    centre: np.ndarray
    trees: list[np.ndarray]

    def project(self, points: np.ndarray) -> np.ndarray:
        """Points [n, 3] on the picture: [n, 2], to the right and down, in the same unit."""
        local = (points - self.position) @ self.rotation.T
        scaled = self.focal * local[:, :2] / np.maximum(local[:, 2:], 0.1)
        return self.centre + scaled * [1, -1]


def render_landmark(
    seed: int, landmark: int, index: int, *, kind: str = "good", size: tuple[int, int]
) -> np.ndarray:
    """A photograph of a landmark, a pure function of its arguments.

    Args:
        seed: seed of the whole data set.
        landmark: any integer; fixes geometry and colours.
        index: number of the photograph; fixes viewpoint, light, trees and surroundings.
        kind: a key of `KINDS`: how much of the landmark is seen.
        size: (height, width) in pixels.

    Returns:
        uint8 [height, width, 3] RGB.

    Raises:
        ValueError: for an unknown kind.
    """
    parts = landmark_parts(seed, landmark)
    view = _found_view(seed, landmark, index, kind, size)
    draws = Draws(seed, "photograph", landmark, index, sorted(KINDS).index(kind))
    return _photograph(seed, parts, view, draws, size)


def landmark_box(
    seed: int, landmark: int, index: int, *, kind: str = "good", size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The box (x1, y1, x2, y2) in pixels around what a photograph shows of its landmark.

    Args:
        seed, landmark, index, kind, size: as for `render_landmark`.
    """
    view = _found_view(seed, landmark, index, kind, size)
    points = view.project(all_points(landmark_parts(seed, landmark))) * max(size)
    low = np.clip(points.min(axis=0), 0, [size[1], size[0]])
    high = np.clip(points.max(axis=0), 0, [size[1], size[0]])
    return tuple(np.round([*low, *high], 1).tolist())


def visible_share(
    seed: int, landmark: int, index: int, *, kind: str = "good", size: tuple[int, int]
) -> float:
    """Share of the landmark's outline that is in the photograph and not behind trees.

    Args:
        seed, landmark, index, kind, size: as for `render_landmark`.
    """
    view = _found_view(seed, landmark, index, kind, size)
    return _visible_share(landmark_parts(seed, landmark), view, size)


def render_street(seed: int, index: int, *, size: tuple[int, int]) -> np.ndarray:
    """A photograph that shows no landmark: another building, or trees and an open place.

    Args:
        seed: seed of the whole data set.
        index: number of the photograph.
        size: (height, width) in pixels.

    Returns:
        uint8 [height, width, 3] RGB.
    """
    draws = Draws(seed, "street", index)
    stranger = STRANGERS + draws.integer(1 << 20)
    parts = landmark_parts(seed, stranger)
    view = _view(parts, draws, draws.pick(["good", "ok", "ok"]), size)
    if draws.chance(0.25):
        parts = []
        trees = [_tree(draws, draws.uniform(0.4, 0.8), size) for _ in range(3 + draws.integer(4))]
        view = dataclasses.replace(view, trees=trees)
    return _photograph(seed, parts, view, draws, size)


# ---- views


@functools.lru_cache(maxsize=512)
def _found_view(seed, landmark, index, kind, size) -> _View:
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected {', '.join(KINDS)}.")
    parts = landmark_parts(seed, landmark)
    low, high = KINDS[kind]
    draws = Draws(seed, f"view {kind}", landmark, index)
    for _ in range(_ATTEMPTS):
        view = _view(parts, draws, kind, size)
        if low <= _visible_share(parts, view, size) <= high:
            return view
    raise RuntimeError(f"no {kind} view of landmark {landmark} was found for photograph {index}.")


def _view(parts, draws: Draws, kind: str, size) -> _View:
    points = all_points(parts)
    reach = np.abs(points).max()
    turn = draws.uniform(-0.85, 0.85)
    away = reach * draws.uniform(2.2, 4.0)
    position = np.array([away * math.sin(turn), draws.uniform(1.5, 5.0), -away * math.cos(turn)])
    pitch, roll = draws.uniform(0.0, 0.2), draws.bell(0.02)
    right = np.array([math.cos(turn), 0, math.sin(turn)])
    forward = np.array([-math.sin(turn), 0, math.cos(turn)])
    up = np.array([0.0, 1, 0])
    forward, up = (
        math.cos(pitch) * forward + math.sin(pitch) * up,
        math.cos(pitch) * up - math.sin(pitch) * forward,
    )
    right, up = (
        math.cos(roll) * right + math.sin(roll) * up,
        math.cos(roll) * up - math.sin(roll) * right,
    )
    frame = np.array([size[1], size[0]]) / max(size)
    if kind == "good":
        fill, spread, num_trees = draws.uniform(0.55, 1.0), 0.12, draws.integer(3)
    elif kind == "ok":
        fill, spread, num_trees = draws.uniform(0.7, 1.9), 0.5, draws.integer(4)
    else:
        fill, spread, num_trees = draws.uniform(0.8, 3.5), 1.1, 1 + draws.integer(4)
    view = _View(position, np.array([right, up, forward]), 1.0, np.zeros(2), [])
    shown = view.project(points)
    low, high = shown.min(axis=0), shown.max(axis=0)
    focal = fill * (frame / (high - low)).min()
    shift = np.array([draws.uniform(-spread, spread), draws.uniform(-spread, spread)])
    # Down rather than up: photographs of buildings have more sky than ground.
    shift[1] = -0.5 * shift[1] if shift[1] < 0 else shift[1]
    centre = frame / 2 - focal * (low + high) / 2 + shift * np.minimum(focal * (high - low), frame)
    tallest = 0.5 if kind == "good" else 0.9
    trees = [_tree(draws, draws.uniform(0.25, tallest), size) for _ in range(num_trees)]
    return dataclasses.replace(view, focal=focal, centre=centre, trees=trees)


def _tree(draws: Draws, tall: float, size) -> np.ndarray:
    """A tree as leaves [n, 6]: x, y, two radii, angle, shade; the first row is the trunk."""
    wide_frame, tall_frame = size[1] / max(size), size[0] / max(size)
    x = draws.pick([-1, 1]) * draws.uniform(0.15, 0.55) * wide_frame + wide_frame / 2
    foot = tall_frame * draws.uniform(0.92, 1.1)
    tall *= tall_frame
    crown = tall * draws.uniform(0.3, 0.45)
    number = 150
    at, out, big, shade = draws.uniforms(4 * number).reshape(4, number)
    leaves = np.stack(
        [
            x + crown * np.sqrt(out) * np.cos(2 * np.pi * at),
            foot - tall + crown + 1.1 * crown * np.sqrt(out) * np.sin(2 * np.pi * at),
            crown * (0.07 + 0.12 * big),
            crown * (0.05 + 0.08 * big),
            180 * at,
            shade,
        ],
        axis=1,
    )
    trunk = [x, foot, 0.05 * tall, tall - crown, 0, draws.uniform()]
    return np.concatenate([[trunk], leaves])


def _visible_share(parts, view: _View, size) -> float:
    frame = np.array([size[1], size[0]]) / max(size)
    shown = view.project(all_points(parts))
    low, high = shown.min(axis=0), shown.max(axis=0)
    scale = 120 / (high - low).max()
    mask = np.zeros(np.ceil((high - low) * scale).astype(int)[::-1] + 1, np.uint8)
    for part in parts:
        for face in part.faces:
            if face.normal @ (view.position - face.points[0]) > 0:
                _fill(mask, (view.project(face.points) - low) * scale, 1)
    total = int(mask.sum())
    for tree in view.trees:
        _draw_tree(mask, tree - [*low, 0, 0, 0, 0], scale, lambda shade: 0)
    first = np.floor(np.maximum(-low * scale, 0)).astype(int)
    last = np.ceil(np.maximum((frame - low) * scale, 0)).astype(int)
    return float(mask[first[1] : last[1], first[0] : last[0]].sum() / max(total, 1))


# ---- photographs


def _fill(canvas, points, colour):
    # Far outside coordinates overflow OpenCV's fixed point.
    fixed = np.round(np.clip(points, -5000, 5000) * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], colour, cv2.LINE_AA if canvas.ndim == 3 else cv2.LINE_8, _SHIFT)


def _draw_tree(canvas, tree, scale, colour):
    x, foot, thick, tall = tree[0, :4]
    bottom, top = [(x - thick, foot), (x + thick, foot)], foot - tall
    trunk = np.array([*bottom, (x + thick / 2, top), (x - thick / 2, top)])
    _fill(canvas, trunk * scale, colour(None))
    for x, y, wide, high, angle, shade in tree[1:]:
        centre = (round(x * scale), round(y * scale))
        axes = (max(round(wide * scale), 1), max(round(high * scale), 1))
        cv2.ellipse(canvas, centre, axes, angle, 0, 360, colour(shade), -1)


def _photograph(seed, parts, view: _View, draws: Draws, size) -> np.ndarray:
    scale = _SUPERSAMPLING * max(size)
    canvas = np.zeros((_SUPERSAMPLING * size[0], _SUPERSAMPLING * size[1], 3), np.uint8)
    weather = draws.pick(["sun", "sun", "clouds", "evening", "dusk"])
    ambient = {"sun": 0.55, "clouds": 0.82, "evening": 0.55, "dusk": 0.58}[weather]
    strength = {"sun": 0.6, "clouds": 0.12, "evening": 0.55, "dusk": 0.1}[weather]
    tint = np.array(
        {
            "sun": (1.03, 1.0, 0.94),
            "clouds": (0.95, 0.98, 1.02),
            "evening": (1.12, 0.92, 0.72),
            "dusk": (0.80, 0.88, 1.14),
        }[weather]
    )
    sun = np.array([draws.uniform(-1, 1), draws.uniform(0.3, 0.9), draws.uniform(-1.0, 0.2)])
    sun /= np.linalg.norm(sun)
    horizon = _scenery(canvas, view, weather, tint * (ambient + 0.6 * strength), draws, scale)
    for _ in range(draws.integer(3)):  # what stands behind
        stranger = landmark_parts(seed, STRANGERS + (1 << 30) + draws.integer(40))
        move = [draws.pick([-1, 1]) * draws.uniform(18, 45), 0, draws.uniform(15, 40)]
        _draw(canvas, stranger, view, scale, sun, ambient, strength, tint, 0.0, draws, move)
    _bushes(canvas, horizon, draws, tint * (ambient + 0.5 * strength))
    lit = draws.uniform(0.2, 0.7) if weather == "dusk" else 0.0
    _draw(canvas, parts, view, scale, sun, ambient, strength, tint, lit, draws)
    leaf = np.array(draws.pick([(0.30, 0.46, 0.18), (0.38, 0.50, 0.22), (0.58, 0.42, 0.16)]))
    for tree in view.trees:
        light = tint * (ambient + 0.6 * strength)

        def colour(shade, light=light):
            base = np.array((0.26, 0.20, 0.15)) if shade is None else leaf * (0.5 + 0.8 * shade)
            return _rgb(base * light)

        _draw_tree(canvas, tree, scale, colour)
    return _developed(canvas, draws, size)


def _rgb(colour) -> tuple[int, int, int]:
    return tuple(int(v) for v in np.clip(np.asarray(colour) * 255, 0, 255))


def _draw(canvas, parts, view, scale, sun, ambient, strength, tint, lit, draws, move=(0, 0, 0)):
    move = np.asarray(move, np.float64)
    across = view.position[::2] - move[::2]  # on the ground
    for part in sorted(parts, key=lambda part: -np.linalg.norm(part.centre[::2] - across)):
        for face in part.faces:
            glow = face.glass and lit > 0 and draws.chance(lit)
            points = face.points + move
            if face.normal @ (view.position - points[0]) <= 0:
                continue
            light = ambient + strength * max(float(face.normal @ sun), 0.0)
            colour = (0.98, 0.82, 0.45) if glow else face.colour * light * tint
            _fill(canvas, view.project(points) * scale, _rgb(colour))


def _scenery(canvas, view: _View, weather, light, draws, scale) -> float:
    """Sky and ground; returns the row of the horizon."""
    height, width = canvas.shape[:2]
    far = view.position + 1e5 * np.array([-view.position[0], 0, -view.position[2]])
    far[1] = view.position[1]
    horizon = float(np.clip((view.project(far[None])[0] * scale)[1], -1e4, 1e4))
    top, low = {
        "sun": ((0.30, 0.52, 0.86), (0.72, 0.84, 0.95)),
        "clouds": ((0.66, 0.69, 0.73), (0.84, 0.85, 0.86)),
        "evening": ((0.45, 0.52, 0.72), (0.96, 0.72, 0.48)),
        "dusk": ((0.16, 0.21, 0.40), (0.45, 0.46, 0.60)),
    }[weather]
    share = np.clip(np.arange(height) / max(horizon, 1.0), 0, 1)[:, None, None]
    sky = (1 - share) * np.array(top) + share * np.array(low)
    cover = cv2.resize(draws.noise((6, 8)), (width, height), interpolation=cv2.INTER_CUBIC)
    cover += 0.5 * cv2.resize(draws.noise((14, 18)), (width, height), interpolation=cv2.INTER_CUBIC)
    cloud = np.clip(0.35 * cover - draws.uniform(-0.2, 0.6), 0, 0.6)[:, :, None]
    white = 0.93 if weather != "dusk" else 0.5
    canvas[:] = np.clip(255 * ((1 - cloud) * sky + cloud * white), 0, 255).astype(np.uint8)
    start = int(np.clip(horizon, 0, height))
    if start >= height:
        return horizon
    kind = draws.pick(["grass", "paving", "asphalt", "gravel"])
    base = np.array(
        {
            "grass": (0.34, 0.48, 0.20),
            "paving": (0.60, 0.57, 0.52),
            "asphalt": (0.36, 0.36, 0.38),
            "gravel": (0.68, 0.62, 0.50),
        }[kind]
    )
    rows = np.linspace(0.9, 1.1, height - start)[:, None, None]
    rough = 1 + 0.06 * draws.noise((height - start, width))[:, :, None]
    ground = base * light * rows * cv2.GaussianBlur(rough, (0, 0), 1.0).reshape(rough.shape)
    canvas[start:] = np.clip(255 * ground, 0, 255).astype(np.uint8)
    if kind in ("paving", "asphalt"):
        line = _rgb(base * light * (0.86 if kind == "paving" else 1.9))
        middle = draws.uniform(0, 1) * width
        step = draws.uniform(0.12, 0.3) * width if kind == "paving" else 2 * width
        for column in np.arange(-3 * width, 4 * width, step):
            cv2.line(canvas, (int(middle), start), (int(column), height), line, 1, cv2.LINE_AA)
        row = float(start)
        while kind == "paving" and row < height:
            row += 4 + 0.14 * (row - start)
            cv2.line(canvas, (0, int(row)), (width, int(row)), line, 1)
    return horizon


def _bushes(canvas, horizon, draws, light):
    """A line of green along the horizon."""
    height, width = canvas.shape[:2]
    if not 0 < horizon < height or draws.chance(0.3):
        return
    shades = (0.2, 0.36), (0.32, 0.46), (0.14, 0.24)
    green = np.array([draws.uniform(low, high) for low, high in shades])
    high = draws.uniform(0.01, 0.05) * height
    for at, up, shade in draws.uniforms(3 * 120).reshape(120, 3):
        centre = (int(at * width), int(horizon - up * high))
        axes = (int(0.03 * width), int(0.6 * high) + 2)
        colour = _rgb(green * light * (0.6 + 0.5 * shade))
        cv2.ellipse(canvas, centre, axes, 0, 0, 360, colour, -1)


def _developed(canvas, draws: Draws, size) -> np.ndarray:
    """What lens, sensor and their owner make of it."""
    picture = cv2.resize(canvas, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    picture = picture.astype(np.float32) / 255
    saturation = np.float32(math.exp(draws.bell(0.18)))
    grey = picture.mean(axis=2, keepdims=True)
    picture = grey + saturation * (picture - grey)
    cast = np.exp([draws.bell(0.04) for _ in range(3)]).astype(np.float32)
    picture *= cast * np.float32(math.exp(draws.bell(0.12)))
    contrast = np.float32(math.exp(draws.bell(0.12)))
    gamma = np.float32(math.exp(draws.bell(0.12)))
    picture = np.clip(0.5 + contrast * (picture - 0.5), 0, 1) ** gamma
    if draws.chance(0.3):
        picture = cv2.GaussianBlur(picture, (0, 0), draws.uniform(0.3, 0.9))
    blotches = cv2.resize(draws.noise((24, 24)), (size[1], size[0]), interpolation=cv2.INTER_CUBIC)
    picture *= 1 + np.float32(0.02) * blotches[:, :, None]
    picture += np.float32(draws.uniform(0.005, 0.025)) * draws.noise((*size, 3))
    return np.clip(255 * picture, 0, 255).astype(np.uint8)
