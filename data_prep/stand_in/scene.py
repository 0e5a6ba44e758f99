"""The places the cameras look at: wall or street above, ground below, plants, lines, things."""

import cv2
import numpy as np

from data_prep.stand_in.draws import Draws

__all__ = ["scene_picture"]

HEIGHT, WIDTH = 448, 896
# Outlines as (to the right, up) from the foot of the thing, in pixels.
_CAR = [(0, 0), (0, 26), (26, 32), (46, 54), (104, 54), (126, 30), (142, 0)]
_WINDOW = [(36, 33), (50, 50), (100, 50), (114, 33)]
_FRAME = [((0, 14), (14, 34)), ((14, 34), (34, 34)), ((34, 34), (40, 14)), ((14, 34), (22, 14))]
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates


def scene_picture(seed: int, number: int) -> tuple[np.ndarray, int]:
    """A camera's scene without pedestrians.

    Args:
        seed: the renderer's seed.
        number: the camera.

    Returns:
        (uint8 [HEIGHT, WIDTH, 3] RGB, the row where the ground begins).
    """
    draws = Draws(seed, "scene", number)
    horizon = int(HEIGHT * draws.uniform(0.22, 0.42))
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    _backdrop(picture, horizon, draws)
    _ground(picture, horizon, draws)
    if draws.chance(0.7):
        _plants(picture, horizon, draws)
    _things(picture, horizon, draws)
    return _weathered(picture, draws), horizon


def _tint(draws: Draws, lightness: float, spread: float) -> tuple[int, int, int]:
    return tuple(int(np.clip(255 * (lightness + draws.bell(spread)), 0, 255)) for _ in range(3))


def _polygon(picture, points, colour):
    fixed = np.round(np.array(points, np.float64) * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(picture, [fixed], colour, cv2.LINE_AA, _SHIFT)


def _rectangle(picture, left, top, right, bottom, colour):
    _polygon(picture, [(left, top), (right, top), (right, bottom), (left, bottom)], colour)


def _backdrop(picture, horizon, draws):
    """A wall of bricks, a shop front with windows, or a shutter."""
    base = draws.uniform(0.35, 0.75)
    picture[:horizon] = _tint(draws, base, 0.035)
    kind = draws.pick(["bricks", "windows", "shutter"])
    line = _tint(draws, 0.75 * base, 0.03)
    if kind == "bricks":
        for row in range(0, horizon, 9):
            cv2.line(picture, (0, row), (WIDTH, row), line, 1)
            for column in range(10 * (row // 9 % 2), WIDTH, 20):
                cv2.line(picture, (column, row), (column, min(row + 9, horizon - 1)), line, 1)
    elif kind == "windows":
        width = draws.uniform(50, 110)
        for left in np.arange(draws.uniform(-width, 0), WIDTH, 1.15 * width):
            pane = _tint(draws, draws.uniform(0.15, 0.8), 0.07)
            _rectangle(picture, left, 0.1 * horizon, left + width, 0.93 * horizon, pane)
            if draws.chance(0.5):  # a poster or a shelf
                top, edge = draws.uniform(0.2, 0.6) * horizon, left + draws.uniform(5, 0.5 * width)
                _rectangle(
                    picture, edge, top, edge + 0.4 * width, top + 28, _tint(draws, 0.55, 0.2)
                )
    else:
        for row in range(0, horizon, 5):
            cv2.line(picture, (0, row), (WIDTH, row), line, 1)
    _rectangle(picture, 0, horizon - 6, WIDTH, horizon, _tint(draws, 0.6 * base, 0.03))


def _ground(picture, horizon, draws):
    """Paving with lines to a vanishing point, or asphalt with a painted line."""
    base = draws.uniform(0.42, 0.66)
    far, near = np.array(_tint(draws, base * 1.08, 0.02)), np.array(_tint(draws, base * 0.92, 0.02))
    share = np.linspace(0, 1, HEIGHT - horizon)[:, None, None]
    picture[horizon:] = (far * (1 - share) + near * share).astype(np.uint8)
    centre = draws.uniform(0.2, 0.8) * WIDTH
    line = _tint(draws, base * draws.pick([0.82, 1.15]), 0.01)
    if draws.chance(0.65):
        step = draws.uniform(28, 70)
        for column in np.arange(-2 * WIDTH, 3 * WIDTH, step):
            start = (int(centre + 0.35 * (column - centre)), horizon)
            cv2.line(picture, start, (int(column), HEIGHT), line, 1, cv2.LINE_AA)
        row = float(horizon)
        while row < HEIGHT:
            row += 5 + 0.10 * (row - horizon)
            cv2.line(picture, (0, int(row)), (WIDTH, int(row)), line, 1)
    for _ in range(draws.integer(3)):
        foot, width = draws.uniform(-0.2, 1.2) * WIDTH, draws.uniform(8, 26)
        top = centre + 0.35 * (foot - centre)
        paint = draws.pick([(222, 222, 215), (205, 180, 80), _tint(draws, 0.3, 0.02)])
        points = [
            (top, horizon),
            (top + 0.4 * width, horizon),
            (foot + width, HEIGHT),
            (foot, HEIGHT),
        ]
        _polygon(picture, points, paint)
    if draws.chance(0.5):  # a strip of another pavement or of lawn
        top = horizon + draws.uniform(0.0, 0.3) * (HEIGHT - horizon)
        colour = draws.pick([(88, 112, 62), _tint(draws, 0.5, 0.05), _tint(draws, 0.35, 0.04)])
        _rectangle(picture, 0, top, WIDTH, top + draws.uniform(12, 40), colour)


def _plants(picture, horizon, draws):
    """Bushes and crowns of trees: many small leaves in shades of one green."""
    for _ in range(1 + draws.integer(4)):
        x, y = draws.uniform(0, WIDTH), horizon - draws.uniform(-10, 0.7 * horizon)
        wide, tall = draws.uniform(40, 170), draws.uniform(25, 75)
        green = np.array([draws.uniform(45, 95), draws.uniform(75, 125), draws.uniform(35, 70)])
        for at, up, size, shade in draws.uniforms(4 * 260).reshape(260, 4):
            angle, distance = 2 * np.pi * at, np.sqrt(up)
            centre = (
                int(x + wide * distance * np.cos(angle)),
                int(y + tall * distance * np.sin(angle)),
            )
            colour = tuple(np.clip(green * (0.5 + 0.9 * shade), 0, 255).astype(int).tolist())
            axes = (int(3 + 9 * size), int(2 + 6 * size))
            cv2.ellipse(picture, centre, axes, 60 * shade, 0, 360, colour, -1, cv2.LINE_AA)


def _things(picture, horizon, draws):
    """Parked cars and bicycles, poles, bins along the far edge of the ground."""
    for _ in range(2 + draws.integer(5)):
        x, foot = draws.uniform(0, WIDTH), horizon + draws.uniform(5, 45)
        kind = draws.pick(["car", "bicycle", "pole", "bin", "pole"])
        colour = _tint(draws, draws.uniform(0.12, 0.8), 0.10)
        dark = (38, 38, 42)
        if kind == "car":
            _polygon(picture, [(x + right, foot - up) for right, up in _CAR], colour)
            _polygon(picture, [(x + right, foot - up) for right, up in _WINDOW], (52, 58, 66))
            for wheel in (28, 112):
                cv2.circle(picture, (int(x + wheel), int(foot)), 12, dark, -1, cv2.LINE_AA)
        elif kind == "bicycle":
            for wheel in (0, 40):
                cv2.circle(picture, (int(x + wheel), int(foot - 14)), 15, dark, 2, cv2.LINE_AA)
            for (x0, up0), (x1, up1) in _FRAME:
                start, end = (int(x + x0), int(foot - up0)), (int(x + x1), int(foot - up1))
                cv2.line(picture, start, end, colour, 2, cv2.LINE_AA)
        elif kind == "pole":
            _rectangle(picture, x, 0, x + draws.uniform(4, 11), foot, colour)
        else:
            _rectangle(picture, x, foot - 48, x + 30, foot, colour)
            _rectangle(picture, x - 2, foot - 54, x + 32, foot - 46, dark)


def _weathered(picture, draws):
    """Blotches, grain and large shadows, so that no surface is flat."""
    blotches = draws.noise((56, 112))
    grain = draws.noise((HEIGHT, WIDTH))
    factor = 1 + 0.05 * cv2.resize(blotches, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    factor += 0.035 * cv2.GaussianBlur(grain, (0, 0), 0.8)
    picture = np.clip(picture * factor[:, :, None], 0, 255).astype(np.uint8)
    return cv2.GaussianBlur(picture, (0, 0), 0.8)
