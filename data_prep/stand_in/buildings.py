"""Rendered landmarks: simple buildings of boxes, roofs, towers and domes.

A landmark is a list of flat polygons in metres: x to the right along its front, y up, z to the
back.
"""

import dataclasses
import functools
import itertools
import math

import numpy as np

from data_prep.stand_in.draws import Draws

__all__ = ["STRANGERS", "Face", "Part", "all_points", "landmark_parts"]

STRANGERS = 1 << 40  # numbers of buildings that are no landmark, far from those of any data set

_WALLS = [
    (0.82, 0.70, 0.50), (0.86, 0.82, 0.72), (0.62, 0.31, 0.23), (0.93, 0.91, 0.87),
    (0.55, 0.55, 0.57), (0.80, 0.62, 0.36), (0.45, 0.28, 0.22), (0.72, 0.78, 0.80),
    (0.86, 0.68, 0.62), (0.70, 0.72, 0.58), (0.90, 0.84, 0.55), (0.50, 0.58, 0.66),
]  # fmt: skip
_ROOFS = [
    (0.26, 0.28, 0.33), (0.62, 0.29, 0.19), (0.40, 0.62, 0.54), (0.37, 0.27, 0.21),
    (0.56, 0.58, 0.61), (0.48, 0.16, 0.15), (0.30, 0.38, 0.30),
]  # fmt: skip
_TRIMS = [(0.94, 0.93, 0.90), (0.80, 0.74, 0.62), (0.30, 0.27, 0.25), (0.66, 0.50, 0.38)]
_GLASS = [(0.16, 0.19, 0.26), (0.28, 0.34, 0.42), (0.20, 0.17, 0.15), (0.42, 0.50, 0.56)]
_DOORS = [(0.32, 0.18, 0.10), (0.12, 0.22, 0.34), (0.45, 0.10, 0.10), (0.14, 0.30, 0.20)]


@dataclasses.dataclass(frozen=True, eq=False)
class Face:
    """A flat polygon [n, 3] that is seen from the side of its normal."""

    points: np.ndarray
    normal: np.ndarray
    colour: np.ndarray
    glass: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """A convex body: faces in the order of drawing, details after the wall that they are on."""

    centre: np.ndarray
    faces: list[Face]


@dataclasses.dataclass(frozen=True)
class _Style:
    """What the parts of a landmark have in common."""

    wall: np.ndarray
    roof: np.ndarray
    trim: np.ndarray
    glass: np.ndarray
    door: np.ndarray
    window: str  # rectangle, arch, pointed or round
    spacing: float  # metres from window to window
    window_width: float  # share of the spacing
    window_height: float  # share of a floor
    bars: int
    frame: float
    band: float  # height of the bands between floors; 0 for none
    floor: float  # metres from floor to floor
    pilasters: bool


@functools.lru_cache(maxsize=128)
def landmark_parts(seed: int, number: int) -> list[Part]:
    """The bodies of landmark `number`, which stands on the ground around (0, 0, 0).

    It fixes geometry and colours: a pure function of its arguments.
    """
    draws = Draws(seed, "landmark", number)
    style = _style(draws)
    floors = 1 + draws.integer(4)
    height = floors * style.floor
    # Neither so low nor so narrow that a photograph would be mostly sky.
    width = min(max(style.spacing * (3 + draws.integer(7)), 0.7 * height), 2.6 * height)
    depth = draws.uniform(0.5, 0.9) * max(width, 8.0)
    parts = []
    body = draws.pick(["hall", "round", "hall", "hall"])
    if body == "round":
        radius = 0.45 * max(min(width, 16.0), 9.0)
        width = depth = 2 * radius
        height = max(height, 1.1 * radius)
        parts.append(_turret(style, draws, 0, 0, 0, radius, height, draws.pick(["dome", "cone"])))
        if draws.chance(0.6):  # it stands on a wider base
            base = 0.35 * height
            parts.insert(0, _block(style, draws, 0, 0, 0, 1.3 * width, base, 1.3 * depth, "flat"))
    else:
        roof = draws.pick(["ridge", "gable", "hip", "flat", "battlements"])
        parts.append(_block(style, draws, 0, 0, 0, width, height, depth, roof, door=True))
    if body == "hall" and draws.chance(0.45):
        wing = draws.uniform(0.3, 0.6)
        roof = draws.pick(["ridge", "hip", "flat", "battlements"])
        for side in draws.pick([(-1,), (1,), (-1, 1), (-1, 1)]):
            x = side * 0.5 * width * (1 + wing)
            size = (wing * width, draws.uniform(0.55, 0.85) * height, 0.8 * depth)
            parts.append(_block(style, draws, x, 0, 0.05 * depth, *size, roof))
    if body == "hall" and draws.chance(0.7):
        _towers(parts, style, draws, width, height, depth)
    if body == "hall" and draws.chance(0.3):
        _portico(parts, style, draws, width, height, depth)
    return parts


def _style(draws: Draws) -> _Style:
    def near(options) -> np.ndarray:
        colour = np.array(draws.pick(options)) * draws.uniform(0.88, 1.08)
        return np.clip(colour + [draws.bell(0.03) for _ in range(3)], 0.03, 0.97)

    return _Style(
        wall=near(_WALLS),
        roof=near(_ROOFS),
        trim=near(_TRIMS),
        glass=near(_GLASS),
        door=near(_DOORS),
        window=draws.pick(["rectangle", "rectangle", "arch", "pointed", "round"]),
        spacing=draws.uniform(1.8, 4.0),
        window_width=draws.uniform(0.3, 0.65),
        window_height=draws.uniform(0.4, 0.78),
        bars=draws.integer(3),
        frame=draws.pick([0.0, 0.12, 0.22]),
        band=draws.pick([0.0, 0.25, 0.45]),
        floor=draws.uniform(2.8, 4.6),
        pilasters=draws.chance(0.3),
    )


def _towers(parts, style, draws, width, height, depth):
    thick = draws.uniform(0.16, 0.28) * max(width, 9.0)
    tall = height * draws.uniform(1.3, 2.2) + 2
    top = draws.pick(["spire", "battlements", "hip", "dome", "clock"])
    for place in draws.pick([("left",), ("right",), ("left", "right"), ("middle",), ("front",)]):
        x = {"left": -0.5, "right": 0.5}.get(place, 0.0) * (width - 0.4 * thick)
        z = -0.5 * depth if place != "middle" else 0.0
        foot = height if place == "middle" else 0.0
        if top == "dome":
            parts.append(_turret(style, draws, x, foot, z, thick / 2, tall - foot, "dome"))
        else:
            roof = draws.pick(["spire", "hip"]) if top == "clock" else top
            size = (thick, tall - foot, thick)
            clock = top == "clock"
            parts.append(_block(style, draws, x, foot, z, *size, roof, clock=clock))


def _portico(parts, style, draws, width, height, depth):
    """Columns before the front, under a gable."""
    wide, tall = draws.uniform(0.4, 0.8) * width, draws.uniform(0.7, 1.0) * height
    z = -0.5 * depth - 1.2
    faces = []
    for x in np.linspace(-wide / 2 + 0.4, wide / 2 - 0.4, 4 + 2 * draws.integer(2)):
        faces += [_quad((x - 0.35, 0, z), (0.7, 0, 0), (0, tall, 0), style.trim)]
        faces += [_quad((x + 0.1, 0, z), (0.25, 0, 0), (0, tall, 0), 0.8 * style.trim)]
    faces.append(_quad((-wide / 2, tall, z), (wide, 0, 0), (0, 0.9, 0), 0.95 * style.trim))
    points = [(-wide / 2 - 0.4, tall + 0.9, z), (wide / 2 + 0.4, tall + 0.9, z)]
    front = np.array([*points, (0, tall + 0.9 + 0.22 * wide, z)])
    faces.append(Face(front, np.array([0.0, 0, -1]), style.trim))
    inner = front.mean(axis=0) + 0.72 * (front - front.mean(axis=0))
    faces.append(Face(inner, np.array([0.0, 0, -1]), 0.82 * style.wall))
    parts.append(Part(np.array([0, tall / 2, z]), faces))


def _quad(corner, right, up, colour, glass=False) -> Face:
    corner, right, up = (np.array(vector, np.float64) for vector in (corner, right, up))
    normal = np.cross(right, up)
    points = np.array([corner, corner + right, corner + right + up, corner + up])
    # x, y and z are left-handed.
    return Face(points, -normal / np.linalg.norm(normal), np.asarray(colour), glass)


def _block(style, draws, x, y, z, wide, tall, deep, roof, *, door=False, clock=False) -> Part:
    """A box with windows on its four walls, and a roof."""
    x0, x1, z0, z1 = x - wide / 2, x + wide / 2, z - deep / 2, z + deep / 2
    walls = [
        ((x0, y, z0), (1, 0, 0), wide),
        ((x1, y, z0), (0, 0, 1), deep),
        ((x1, y, z1), (-1, 0, 0), wide),
        ((x0, y, z1), (0, 0, -1), deep),
    ]
    faces = []
    for number, (corner, right, length) in enumerate(walls):
        corner, right = np.array(corner, np.float64), np.array(right, np.float64)
        faces.append(_quad(corner, right * length, (0, tall, 0), style.wall))
        has_door = door and number == 0
        faces += _windows(style, corner, right, length, tall, has_door)
        if clock:
            at = corner + right * length / 2 + np.array([0, tall - 0.55 * length, 0])
            faces += _clock(style, at, right, 0.32 * length)
    faces += _roof(style, roof, (x0, x1, z0, z1), y + tall, walls)
    return Part(np.array([x, y + tall / 2, z]), faces)


def _outline(shape: str, wide: float, tall: float) -> np.ndarray:
    """Outline [n, 2] of a window or door, its foot in the middle at (0, 0)."""
    half = wide / 2
    if shape == "rectangle":
        return np.array([(-half, 0), (half, 0), (half, tall), (-half, tall)])
    if shape == "round":
        turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
        radius = min(half, tall / 2)
        return np.stack([radius * np.cos(turn), tall / 2 + radius * np.sin(turn)], axis=1)
    turn = np.linspace(0, np.pi, 7)
    rise = min(half * (1.9 if shape == "pointed" else 1.0), 0.6 * tall)
    bow = np.sin(turn) if shape == "arch" else 1 - np.abs(np.cos(turn)) ** 1.3
    arch = np.stack([half * np.cos(turn), tall - rise + rise * bow], axis=1)
    return np.concatenate([[(-half, 0), (half, 0)], arch])


def _windows(style, corner, right, length, tall, has_door) -> list[Face]:
    faces = []
    up = np.array([0.0, 1, 0])
    normal = -np.cross(right, up)

    def add(outline, along, above, colour, glass=False):
        flat = corner + (along + outline[:, :1]) * right + (above + outline[:, 1:]) * up
        faces.append(Face(flat, normal, colour, glass))

    columns, floors = max(round(length / style.spacing), 1), max(round(tall / style.floor), 1)
    spacing, floor = length / columns, tall / floors
    wide, high = style.window_width * spacing, style.window_height * floor
    if style.band:
        for number in range(1, floors + 1):
            strip = _outline("rectangle", length, style.band)
            add(strip, length / 2, number * floor - style.band, style.trim)
    if style.pilasters:
        for number in range(columns + 1):
            along = min(max(number * spacing, 0.2), length - 0.2)
            add(_outline("rectangle", 0.4, tall), along, 0, 0.9 * style.trim)
    for row in range(floors):
        for column in range(columns):
            along, above = (column + 0.5) * spacing, row * floor + 0.45 * (floor - high)
            if has_door and row == 0 and column == columns // 2:
                shape = "rectangle" if style.window == "round" else style.window
                door = _outline(shape, 0.62 * spacing, 0.8 * floor)
                add(door * 1.15, along, 0, style.trim)
                add(door, along, 0, style.door)
                continue
            if style.frame:
                grown = _outline(style.window, wide + 2 * style.frame, high + 2 * style.frame)
                add(grown, along, above - style.frame, style.trim)
            add(_outline(style.window, wide, high), along, above, style.glass, True)
            for bar in range(style.bars):
                place = along + wide * ((bar + 1) / (style.bars + 1) - 0.5)
                top = 0.85 * high if style.window != "round" else 0.7 * high
                foot = above + (0.15 * high if style.window == "round" else 0)
                add(_outline("rectangle", 0.1, top), place, foot, style.trim)
    return faces


def _clock(style, at, right, radius) -> list[Face]:
    up = np.array([0.0, 1, 0])
    normal = -np.cross(right, up)
    faces = []
    for scale, colour in ((1.2, 0.5 * style.trim), (1.0, np.array([0.93, 0.92, 0.86]))):
        disc = _outline("round", 2 * scale * radius, 2 * scale * radius) - [0, scale * radius]
        faces.append(Face(at + disc[:, :1] * right + disc[:, 1:] * up, normal, colour))
    for angle, long in ((0.6, 0.75), (2.6, 0.55)):
        tip = radius * long * (math.sin(angle) * right + math.cos(angle) * up)
        side = 0.08 * radius * (math.cos(angle) * right - math.sin(angle) * up)
        hand = np.array([at - side, at + side, at + tip])
        faces.append(Face(hand, normal, np.array([0.08, 0.08, 0.1])))
    return faces


def _roof(style, kind, edges, top, walls) -> list[Face]:
    x0, x1, z0, z1 = edges
    wide, deep = x1 - x0, z1 - z0
    xm, zm = (x0 + x1) / 2, (z0 + z1) / 2
    faces = []
    if kind in ("flat", "battlements"):
        for corner, right, length in walls:
            corner = np.array([corner[0], top, corner[2]], np.float64)
            right = np.array(right, np.float64)
            if kind == "flat":
                faces.append(_quad(corner, right * length, (0, 0.5, 0), style.trim))
                continue
            teeth = max(round(length / 1.6), 2)
            step = length / (2 * teeth - 1)
            for tooth in range(teeth):
                start = corner + 2 * tooth * step * right
                faces.append(_quad(start, step * right, (0, 0.9, 0), style.wall))
        return faces
    out = 0.3  # the eaves
    a, b = np.array([x0 - out, top, z0 - out]), np.array([x1 + out, top, z0 - out])
    c, d = np.array([x1 + out, top, z1 + out]), np.array([x0 - out, top, z1 + out])
    if kind == "ridge":
        rise = 0.42 * deep
        ends = np.array([x0 - out, top + rise, zm]), np.array([x1 + out, top + rise, zm])
        slopes = [(a, b, ends[1], ends[0]), (c, d, ends[0], ends[1])]
        gables = [(b, c, ends[1]), (d, a, ends[0])]
    elif kind == "gable":
        rise = 0.5 * wide
        ends = np.array([xm, top + rise, z0 - out]), np.array([xm, top + rise, z1 + out])
        slopes = [(b, c, ends[1], ends[0]), (d, a, ends[0], ends[1])]
        gables = [(a, b, ends[0]), (c, d, ends[1])]
    else:
        rise = {"hip": 0.45, "spire": 1.7}[kind] * min(wide, deep)
        inset = max(wide - deep, 0) / 2 if kind == "hip" else 0
        ends = np.array([xm - inset, top + rise, zm]), np.array([xm + inset, top + rise, zm])
        slopes = [(a, b, ends[1], ends[0]), (c, d, ends[0], ends[1])]
        slopes += [(b, c, ends[1]), (d, a, ends[0])]
        gables = []
    for points, colour in [(p, style.roof) for p in slopes] + [(p, style.wall) for p in gables]:
        points = np.array(points)
        normal = -np.cross(points[1] - points[0], points[-1] - points[0])
        faces.append(Face(points, normal / np.linalg.norm(normal), colour))
    if kind == "gable":
        middle = np.array([xm, top + 0.12 * wide, z0 - out])
        disc = _outline("round", 0.22 * wide, 0.22 * wide)
        window = middle + np.stack([disc[:, 0], disc[:, 1], 0 * disc[:, 0]], axis=1)
        faces.append(Face(window, np.array([0.0, 0, -1]), style.glass, True))
    return faces


def _turret(style, draws, x, y, z, radius, tall, top) -> Part:
    """A round body with windows, under a dome or a cone."""
    sides = 20
    rise = radius * (draws.uniform(0.8, 1.2) if top == "dome" else draws.uniform(1.0, 2.0))
    turn = np.linspace(0, 2 * np.pi, sides + 1)
    ring = np.stack([np.sin(turn), 0 * turn, -np.cos(turn)], axis=1)
    centre = np.array([x, y, z])
    # Radius, height and colour of each ring; the last colour is not used.
    profile = [(radius, 0.0, style.wall), (radius, tall, style.trim)]
    eaves = tall + 0.5
    if top == "cone":
        profile += [(1.06 * radius, eaves, style.roof), (0.0, eaves + rise, style.roof)]
    else:
        waist, foot = radius, eaves
        if draws.chance(0.5):  # a narrower drum carries the dome
            waist, foot = 0.8 * radius, eaves + 0.25 * radius
            profile += [(waist, eaves, style.wall)]
        profile += [
            (waist * math.cos(angle), foot + rise * waist / radius * math.sin(angle), style.roof)
            for angle in np.linspace(0, 0.5 * np.pi, 6)
        ]
    floors = max(round(tall / style.floor), 1)
    every = 1 if radius > 4 else 2
    faces = []
    for (r0, y0, colour), (r1, y1, _) in itertools.pairwise(profile):
        for side in range(sides):
            low = centre + r0 * ring[side : side + 2] + [0, y0, 0]
            high = centre + r1 * ring[side : side + 2] + [0, y1, 0]
            points = np.array([low[0], low[1], high[1], high[0]])
            middle = ring[side] + ring[side + 1]
            normal = middle / np.linalg.norm(middle) + [0, (r0 - r1) / max(y1 - y0, 0.05), 0]
            faces.append(Face(points, normal / np.linalg.norm(normal), np.asarray(colour)))
            if y0 == 0 and side % every == 0:
                right = low[1] - low[0]
                length = np.linalg.norm(right)
                narrow = dataclasses.replace(style, spacing=length, band=0.0, pilasters=False)
                narrow = dataclasses.replace(narrow, floor=tall / floors)
                faces += _windows(narrow, low[0], right / length, length, tall, False)
    return Part(np.array([x, y + tall / 2, z]), faces)


def all_points(parts: list[Part]) -> np.ndarray:
    """All corners [n, 3] of some bodies."""
    return np.concatenate([face.points for part in parts for face in part.faces])
