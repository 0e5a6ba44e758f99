"""Drawing a pedestrian as shaded, textured tubes.

A figure is a list of tubes: tapered limbs, torso, head and bag, each a surface of revolution
around a straight axis. A texture is wrapped around the axis and turned with the pedestrian, so a
print shows only in front and a backpack only from behind. Edges are anti-aliased by their
distance to the outline.

Body coordinates, in statures: right, up, forward. Screen coordinates: x to the right, y up, and
z towards the viewer. Heading 0 faces the viewer; headings grow so that the pedestrian, seen from
above, turns to the viewer's right.
"""

import dataclasses
import math

import numpy as np

from data_prep.stand_in.appearance import TOP_OF_TORSO, Appearance
from data_prep.stand_in.draws import Draws

__all__ = ["Light", "Pose", "Tube", "View", "draw_pedestrian", "paint", "pose"]

_STEPS = 256
_ANGLE = np.arcsin(np.linspace(-1, 1, _STEPS))
_SINE = np.sin(_ANGLE)
_COSINE = np.cos(_ANGLE)


@dataclasses.dataclass(frozen=True)
class Light:
    """Light on a figure: ambient, and directional with its x and z components."""

    ambient: float
    diffuse: float
    x: float
    z: float


@dataclasses.dataclass(frozen=True)
class View:
    """Where a pedestrian stands on the canvas.

    Attributes:
        x, y: the point between the feet, in pixels from the top left.
        scale: pixels for one stature.
        pitch: radians by which the camera looks down.
        roll: sideways lean of the camera.
        heading: radians; 0 faces the viewer.
    """

    x: float
    y: float
    scale: float
    pitch: float
    roll: float
    heading: float


@dataclasses.dataclass(frozen=True)
class Pose:
    """What the limbs do: gait phase in radians, amplitude, arms, turn of the head."""

    phase: float
    amplitude: float
    elbows: tuple[float, float]
    raised: int  # -1 or 1: that arm is raised, as with a telephone; 0: neither
    head_turn: float


@dataclasses.dataclass(frozen=True, eq=False)
class Tube:
    """A textured tube on the canvas.

    Attributes:
        depth: tubes are painted in increasing order of it.
        start, end: ends of the axis (x, y) in pixels.
        radii: half-widths in pixels at even steps along the axis.
        texture: float32 [3, rows, columns].
        rows: the part (first, last) of the texture's rows, as fractions, along the axis.
        turn: radians by which the texture is turned.
        shade: factor on the colour.
        flat: whether the ends are cut straight instead of rounded.
    """

    depth: float
    start: tuple[float, float]
    end: tuple[float, float]
    radii: tuple[float, ...]
    texture: np.ndarray
    rows: tuple[float, float] = (0.0, 1.0)
    turn: float = 0.0
    shade: float = 1.0
    flat: bool = False


def pose(draws: Draws, stride: float) -> Pose:
    """A random pose of the gait; `stride` scales its amplitude."""
    standing = draws.chance(0.12)
    return Pose(
        phase=draws.uniform(0, 2 * math.pi),
        amplitude=0.05 if standing else stride * draws.uniform(0.28, 0.50),
        elbows=(draws.uniform(0.1, 0.8), draws.uniform(0.1, 0.8)),
        raised=draws.pick([-1, 0, 1], [0.06, 0.88, 0.06]),
        head_turn=draws.bell(0.3),
    )


def paint(canvas: np.ndarray, tube: Tube, light: Light) -> None:
    """Paint a tube onto the canvas, in place.

    Args:
        canvas: float32 [3, H, W] in [0, 1].
        tube: what to paint; parts off the canvas are left out.
        light: shades the tube around its axis.
    """
    (x0, y0), (x1, y1) = tube.start, tube.end
    reach = max(tube.radii) + 1
    left, right = (
        max(int(min(x0, x1) - reach), 0),
        min(int(max(x0, x1) + reach) + 1, canvas.shape[2]),
    )
    top, bottom = (
        max(int(min(y0, y1) - reach), 0),
        min(int(max(y0, y1) + reach) + 1, canvas.shape[1]),
    )
    if left >= right or top >= bottom:
        return
    length = max(math.hypot(x1 - x0, y1 - y0), 1e-3)
    axis_x, axis_y = (x1 - x0) / length, (y1 - y0) / length
    x = np.arange(left, right, dtype=np.float32) + np.float32(0.5 - x0)
    y = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - y0))[:, None]
    along = x * np.float32(axis_x) + y * np.float32(axis_y)
    across = x * np.float32(axis_y) - y * np.float32(axis_x)
    position = np.clip(along, 0, np.float32(length))
    beyond = along - position
    position *= np.float32(0.9999 / length)
    steps = np.linspace(0, 1, len(tube.radii))
    profile = np.interp(np.linspace(0, 1, 64), steps, tube.radii).astype(np.float32)
    radius = profile[(position * 64).astype(np.intp)]

    if tube.flat:
        cover = radius + np.float32(0.5) - np.abs(across)
        cover = np.minimum(cover, 1 - np.abs(beyond))
    else:
        cover = radius + np.float32(0.5) - np.sqrt(across * across + beyond * beyond)
    cover = np.clip(cover, 0, 1)

    side = np.clip(across / radius, -1, 1) * np.float32(127.5) + np.float32(127.5)
    side = side.astype(np.intp)
    num_rows, num_columns = tube.texture.shape[1:]
    columns = ((_ANGLE - tube.turn) * (num_columns / (2 * math.pi))).astype(np.intp) % num_columns
    first, last = tube.rows
    row = (position * np.float32((last - first) * num_rows) + np.float32(first * num_rows)).astype(
        np.intp
    )
    row *= num_columns
    row += columns[side]
    colour = tube.texture.reshape(3, -1).take(row, axis=1)
    facing = np.maximum(light.x * axis_y * _SINE + light.z * _COSINE, 0)
    shading = (tube.shade * (light.ambient + light.diffuse * facing)).astype(np.float32)
    colour *= shading[side]
    region = canvas[:, top:bottom, left:right]
    colour -= region
    colour *= cover
    region += colour


def draw_pedestrian(
    canvas: np.ndarray, looks: Appearance, stance: Pose, view: View, light: Light
) -> None:
    """Draw a pedestrian onto the canvas, in place.

    Args:
        canvas: float32 [3, H, W] in [0, 1].
        looks: the identity's appearance.
        stance: the limbs' positions.
        view: place, scale and heading.
        light: the light on the figure.
    """
    for tube in _Figure(looks, stance, view).tubes():
        paint(canvas, tube, light)


class _Figure:
    """The tubes of one pedestrian in one view."""

    def __init__(self, looks: Appearance, stance: Pose, view: View):
        self.looks, self.stance, self.view = looks, stance, view
        self.sine, self.cosine = math.sin(view.heading), math.cos(view.heading)
        # A camera that looks down shortens upright figures; the stature in pixels stays.
        self.down = math.tan(view.pitch)
        self.sway = 0.0
        self.parts: list[Tube] = []

    def tubes(self) -> list[Tube]:
        self.legs()
        self.trunk()
        self.arms()
        self.head()
        self.bag()
        return sorted(self.parts, key=lambda tube: tube.depth)

    def depth(self, right: float, forward: float) -> float:
        return forward * self.cosine + right * self.sine

    def point(self, right: float, up: float, forward: float) -> tuple[float, float]:
        """Body coordinates to pixels."""
        across = forward * self.sine - right * self.cosine
        height = up - self.sway - self.down * self.depth(right, forward)
        view = self.view
        return view.x + view.scale * (across + view.roll * height), view.y - view.scale * height

    def half_width(self, lateral: float, forward: float) -> float:
        """Half-width in pixels of an elliptical cross-section, from its two half-axes."""
        scale = self.view.scale * self.looks.width
        return scale * math.hypot(lateral * self.cosine, forward * self.sine)

    def add(
        self, depth, start, end, radii, texture, *, turn=None, shade=1.0, flat=False, rows=(0, 1)
    ):
        turn = self.view.heading if turn is None else turn
        self.parts.append(Tube(depth, start, end, tuple(radii), texture, rows, turn, shade, flat))

    def legs(self):
        looks, stance = self.looks, self.stance
        thigh, shin = 0.49 * (looks.hips - 0.03), 0.51 * (looks.hips - 0.03)
        joints = []
        for side in (-1, 1):
            phase = stance.phase + (math.pi if side > 0 else 0)
            swing = stance.amplitude * math.sin(phase)
            bend = 0.08 + 1.7 * stance.amplitude * max(0.0, math.cos(phase))
            knee = (looks.hips - thigh * math.cos(swing), thigh * math.sin(swing))
            ankle = (
                knee[0] - shin * math.cos(swing - bend),
                knee[1] + shin * math.sin(swing - bend),
            )
            joints.append((side, knee, ankle, swing - bend))
        self.sway = min(ankle[0] for _, _, ankle, _ in joints) - 0.03
        scale = self.view.scale * looks.width
        for side, knee, ankle, tilt in joints:
            hip_at, knee_at, ankle_at = 0.046 * side, 0.042 * side, 0.040 * side
            depth = -1 + self.depth(hip_at, 0.5 * knee[1])
            shade = 0.80 if self.depth(side, 0) < -0.3 else 1.0
            wide = [
                looks.leg_width if looks.leg_cover > at else 0.88 for at in (0.1, 0.35, 0.6, 0.9)
            ]
            self.add(
                depth - 0.002,
                self.point(ankle_at, ankle[0] - 0.016, ankle[1] - 0.012),
                self.point(
                    ankle_at + 0.012 * side, ankle[0] - 0.018 + 0.03 * tilt, ankle[1] + 0.085
                ),
                (0.021 * scale, 0.020 * scale, 0.017 * scale),
                looks.shoe,
                turn=-math.pi / 2,
                shade=shade,
            )
            self.add(
                depth - 0.001,
                self.point(knee_at, *knee),
                self.point(ankle_at, *ankle),
                (0.042 * scale * wide[1], 0.040 * scale * wide[2], 0.029 * scale * wide[3]),
                looks.leg,
                shade=0.94 * shade,
                rows=(0.5, 1),
            )
            self.add(
                depth,
                self.point(hip_at, looks.hips, 0),
                self.point(knee_at, *knee),
                (0.062 * scale * wide[0], 0.055 * scale * wide[0], 0.042 * scale * wide[1]),
                looks.leg,
                shade=shade,
                rows=(0, 0.5),
            )

    def trunk(self):
        looks = self.looks
        self.add(
            -0.5,
            self.point(0, looks.hips + 0.07, 0),
            self.point(0, looks.hips - 0.03, 0),
            (
                self.half_width(0.086, 0.066),
                self.half_width(0.094, 0.076),
                self.half_width(0.078, 0.066),
            ),
            looks.pelvis,
        )
        if looks.skirt is not None:
            self.add(
                -0.4,
                self.point(0, looks.hips + 0.08, 0),
                self.point(0, looks.skirt, 0),
                [self.half_width(*axes) for axes in ((0.08, 0.062), (0.1, 0.085), (0.122, 0.112))],
                looks.pelvis,
                flat=True,
            )
        neck = self.half_width(0.034, 0.034)
        self.add(
            -0.1,
            self.point(0, 0.87, 0.005),
            self.point(0, 0.80, 0),
            (neck, neck),
            looks.skin,
            shade=0.9,
        )
        shoulders, thick = looks.shoulders, 0.012 * (looks.sleeve_width - 0.9)
        outline = (  # height, half-width to the side, half-depth
            (TOP_OF_TORSO, 0.036, 0.040),
            (0.812, 0.72 * shoulders, 0.056),
            (0.780, 0.99 * shoulders, 0.068),
            (0.730, 0.90 * shoulders + thick, 0.078 + thick),
            (0.620, 0.080 + thick, 0.066 + thick),
            (0.520, 0.094 + thick, 0.078 + thick),
            (0.300, 0.094 + thick + looks.flare, 0.080 + thick + looks.flare),
        )
        heights = [-row[0] for row in outline]
        steps = np.linspace(-TOP_OF_TORSO, -looks.hem, 16)
        lateral = np.interp(steps, heights, [row[1] for row in outline])
        forward = np.interp(steps, heights, [row[2] for row in outline])
        radii = [self.half_width(a, b) for a, b in zip(lateral, forward, strict=True)]
        lean = 0.02 * self.stance.amplitude
        self.add(
            0.0,
            self.point(0, TOP_OF_TORSO, lean),
            self.point(0, looks.hem, 0),
            radii,
            looks.torso,
            flat=True,
        )

    def arms(self):
        looks, stance = self.looks, self.stance
        scale = self.view.scale * looks.width
        for side in (-1, 1):
            phase = stance.phase + (0 if side > 0 else math.pi)
            swing = 0.75 * stance.amplitude * math.sin(phase)
            bend = stance.elbows[side > 0] * (0.5 + 0.5 * math.sin(phase) ** 2)
            if stance.raised == side:
                swing, bend = 0.5, 2.1
            carries = looks.bag == "handbag" and looks.bag_side == side
            if carries:
                swing, bend = 0.3 * swing, 0.15
            shoulder = (side * (looks.shoulders - 0.018) * looks.width, 0.772, 0.0)
            elbow = (
                shoulder[0] + 0.024 * side,
                0.772 - 0.152 * math.cos(swing),
                0.152 * math.sin(swing),
            )
            fore = swing + bend
            wrist = (
                elbow[0] - 0.004 * side,
                elbow[1] - 0.145 * math.cos(fore),
                elbow[2] + 0.145 * math.sin(fore),
            )
            depth = 0.05 + self.depth(side * 0.12, 0.6 * wrist[2])
            shade = 0.82 if depth < 0 else 0.97
            wide = [
                looks.sleeve_width if looks.sleeve > at else 0.85 for at in (0.1, 0.3, 0.7, 0.9)
            ]
            hand = self.point(wrist[0], wrist[1] - 0.014, wrist[2] + 0.004)
            at_wrist, at_elbow = self.point(*wrist), self.point(*elbow)
            self.add(depth, at_wrist, hand, (0.017 * scale,) * 2, looks.skin, shade=shade)
            self.add(
                depth + 0.001,
                at_elbow,
                at_wrist,
                (0.027 * scale * wide[1], 0.025 * scale * wide[2], 0.019 * scale * wide[3]),
                looks.arm,
                shade=shade,
                rows=(0.5, 1),
            )
            self.add(
                depth + 0.002,
                self.point(*shoulder),
                at_elbow,
                (0.029 * scale, 0.031 * scale * wide[0], 0.027 * scale * wide[1]),
                looks.arm,
                shade=shade,
                rows=(0, 0.5),
            )
            if carries:
                self.handbag(wrist, depth - 0.001)

    def handbag(self, wrist, depth):
        looks, scale = self.looks, self.view.scale
        size = looks.bag_size
        top, bottom = wrist[1] - 0.05, wrist[1] - 0.05 - 0.11 * size
        half = scale * size * math.hypot(0.022 * self.cosine, 0.065 * self.sine)
        start, end = self.point(wrist[0], top, wrist[2]), self.point(wrist[0], bottom, wrist[2])
        strap = (0.006 * scale,) * 2
        self.add(depth, self.point(*wrist), start, strap, looks.bag_texture, shade=0.8)
        self.add(depth, start, end, (0.8 * half, half, 1.05 * half), looks.bag_texture, flat=True)

    def bag(self):
        looks = self.looks
        size = looks.bag_size
        if looks.bag == "backpack":
            back = -0.115
            top, bottom = self.point(0, 0.79, back), self.point(0, 0.79 - 0.22 * size, back)
            half = self.half_width(0.088 * size, 0.058 * size)
            depth = self.depth(0, back)
            self.add(
                0.3 if depth > 0.05 else -0.3 if depth < -0.05 else -0.05,
                top,
                end=bottom,
                radii=(0.75 * half, 0.95 * half, half, half, 0.92 * half),
                texture=looks.bag_texture,
                turn=self.view.heading + math.pi,
                flat=True,
            )
        elif looks.bag == "shoulder bag":
            right = looks.bag_side * 0.115 * looks.width
            start = self.point(right, 0.56, -0.02)
            end = self.point(right, 0.56 - 0.12 * size, -0.02)
            half = self.view.scale * size * math.hypot(0.028 * self.cosine, 0.075 * self.sine)
            depth = 0.04 if self.depth(right, -0.02) > 0 else -0.2
            self.add(depth, start, end, (0.9 * half, half, half), looks.bag_texture, flat=True)

    def head(self):
        looks = self.looks
        heading = self.view.heading + self.stance.head_turn
        width = self.view.scale * looks.head
        across, along = math.sin(heading), math.cos(heading)
        half = width * math.hypot(0.051 * along, 0.059 * across)
        levels = np.linspace(-1, 1, 12)
        oval = half * np.sqrt(np.maximum(1 - np.abs(levels) ** 2.3, 0.02))
        oval *= 1 - 0.10 * np.maximum(levels, 0)  # a narrower chin
        tall = 0.068 * looks.head
        top, chin = self.point(0, 0.925 + tall, 0.012), self.point(0, 0.925 - tall, 0.012)
        self.add(0.2, top, chin, oval, looks.head_texture, turn=heading, flat=True)
        if looks.cap:
            brow = self.point(0, 0.958, 0.035)
            peak = self.point(-0.045 * math.sin(self.stance.head_turn), 0.954, 0.080)
            depth = 0.21 if along > -0.2 else 0.19
            self.add(depth, brow, peak, (0.5 * half, 0.3 * half), looks.cap_texture, shade=0.8)
        if looks.hair in ("long", "tail"):
            behind = -0.040
            long = looks.hair == "long"
            front = 0.8 * half if long else 0.3 * half
            depth = self.depth(0, behind)
            self.add(
                0.25 if depth > 0.012 else -0.15,
                self.point(0, 0.93, behind),
                self.point(0, 0.77 if long else 0.81, behind - 0.01),
                (front, 1.1 * front, 0.8 * front),
                looks.hair_texture,
                shade=0.95,
            )
