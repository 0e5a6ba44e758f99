"""What an identity looks like: body, clothes with their textures, hair, bag.

Lengths are fractions of the stature. A texture is float32 [3, rows, columns] in [0, 1]: rows run
from the top of a part to its bottom, columns around it, column 0 at the front, then to the
pedestrian's left.
"""

import dataclasses
import functools

import cv2
import numpy as np

from data_prep.stand_in.difficulty import Difficulty
from data_prep.stand_in.draws import Draws

__all__ = ["Appearance", "appearance"]

# name: (weight, RGB). The weights follow a street in a warm climate: dark and white dominate.
TOP_COLOURS = {
    "black": (20, (0.09, 0.09, 0.10)),
    "white": (17, (0.88, 0.88, 0.87)),
    "charcoal": (9, (0.24, 0.24, 0.26)),
    "grey": (9, (0.52, 0.52, 0.53)),
    "navy": (8, (0.11, 0.14, 0.30)),
    "blue": (7, (0.18, 0.33, 0.66)),
    "sky": (5, (0.56, 0.72, 0.86)),
    "red": (6, (0.70, 0.13, 0.14)),
    "wine": (2, (0.38, 0.09, 0.15)),
    "pink": (5, (0.88, 0.58, 0.66)),
    "green": (3, (0.16, 0.45, 0.24)),
    "olive": (2, (0.36, 0.37, 0.20)),
    "yellow": (3, (0.90, 0.78, 0.26)),
    "orange": (2, (0.88, 0.46, 0.16)),
    "purple": (2, (0.40, 0.24, 0.52)),
    "brown": (2, (0.36, 0.24, 0.16)),
    "beige": (4, (0.77, 0.69, 0.56)),
}
LEG_COLOURS = {
    "black": (30, (0.09, 0.09, 0.10)),
    "dark denim": (20, (0.14, 0.18, 0.30)),
    "denim": (16, (0.28, 0.37, 0.54)),
    "light denim": (7, (0.52, 0.61, 0.72)),
    "grey": (9, (0.42, 0.42, 0.43)),
    "khaki": (6, (0.62, 0.55, 0.41)),
    "white": (4, (0.85, 0.85, 0.84)),
    "brown": (3, (0.33, 0.24, 0.17)),
    "olive": (2, (0.33, 0.34, 0.21)),
    "red": (2, (0.62, 0.14, 0.16)),
    "pink": (1, (0.85, 0.56, 0.62)),
}
SHOE_COLOURS = {
    "black": (38, (0.08, 0.08, 0.08)),
    "white": (26, (0.86, 0.86, 0.85)),
    "grey": (12, (0.45, 0.45, 0.46)),
    "brown": (10, (0.34, 0.23, 0.15)),
    "red": (5, (0.66, 0.14, 0.15)),
    "blue": (5, (0.17, 0.28, 0.58)),
    "beige": (4, (0.74, 0.65, 0.52)),
}
BAG_COLOURS = {
    "black": (38, (0.08, 0.08, 0.09)),
    "grey": (12, (0.38, 0.38, 0.40)),
    "navy": (12, (0.12, 0.15, 0.32)),
    "red": (9, (0.66, 0.13, 0.15)),
    "brown": (10, (0.42, 0.27, 0.16)),
    "beige": (7, (0.76, 0.68, 0.55)),
    "pink": (5, (0.86, 0.52, 0.62)),
    "green": (4, (0.20, 0.42, 0.25)),
    "white": (5, (0.87, 0.87, 0.86)),
}
HAIR_COLOURS = {
    "black": (58, (0.07, 0.06, 0.06)),
    "dark brown": (24, (0.17, 0.11, 0.08)),
    "brown": (10, (0.32, 0.21, 0.13)),
    "grey": (4, (0.55, 0.54, 0.53)),
    "fair": (3, (0.66, 0.52, 0.33)),
    "red": (1, (0.45, 0.20, 0.11)),
}
SKINS = {
    "light": (34, (0.86, 0.69, 0.59)),
    "medium": (38, (0.78, 0.59, 0.47)),
    "tan": (18, (0.64, 0.45, 0.34)),
    "dark": (10, (0.38, 0.25, 0.19)),
}
# kind: (weight, hem height, sleeve as a fraction of the arm, flare of the hem, width of the sleeve)
WOMENS_TOPS = {
    "t-shirt": (40, 0.485, 0.38, 0.00, 1.15),
    "vest": (9, 0.490, 0.06, 0.00, 0.90),
    "blouse": (14, 0.470, 0.92, 0.01, 1.10),
    "jacket": (13, 0.455, 0.95, 0.01, 1.30),
    "coat": (6, 0.310, 0.95, 0.03, 1.40),
    "dress": (18, 0.310, 0.25, 0.06, 1.00),
}
MENS_TOPS = {
    "t-shirt": (52, 0.465, 0.42, 0.00, 1.30),
    "vest": (3, 0.470, 0.06, 0.00, 0.90),
    "shirt": (16, 0.455, 0.95, 0.00, 1.20),
    "jacket": (20, 0.445, 0.97, 0.01, 1.45),
    "coat": (4, 0.320, 0.97, 0.02, 1.50),
    "sports shirt": (5, 0.470, 0.30, 0.00, 1.25),
}
# kind: (weight, covered fraction of the leg, width of the leg)
WOMENS_LEGS = {
    "trousers": (40, 1.00, 0.95),
    "leggings": (16, 0.93, 0.82),
    "shorts": (20, 0.30, 1.05),
    "skirt": (24, 0.10, 1.00),
}
MENS_LEGS = {
    "trousers": (66, 1.00, 1.12),
    "slim trousers": (14, 0.97, 0.95),
    "shorts": (20, 0.50, 1.25),
}
PATTERNS = {
    "stripes across": 22,
    "stripes down": 8,
    "checks": 16,
    "dots": 6,
    "two halves": 14,
    "contrast sleeves": 12,
    "print": 22,
}
TOP_OF_TORSO = 0.83
TORSO_ROWS, TORSO_COLUMNS = 64, 128
LIMB_ROWS, LIMB_COLUMNS = 64, 32
HEAD_ROWS, HEAD_COLUMNS = 32, 64


@dataclasses.dataclass(frozen=True, eq=False)
class Appearance:
    """Everything about a pedestrian that camera and image leave as it is.

    Attributes:
        width: scale of all widths of the body.
        shoulders: half-width of the shoulders.
        hips: height of the hip joints.
        head: scale of the head.
        hem: height at which the top ends.
        flare: by how much the hem is wider than the hips.
        sleeve: covered fraction of the arm; sleeve_width scales the arm there.
        leg_cover: covered fraction of the leg; leg_width scales the leg there.
        skirt: height of a skirt's hem, or None.
        hair: "short", "long", "tail" or "bald"; cap: whether there is a peaked cap.
        bag: "backpack", "handbag", "shoulder bag" or "none"; bag_side: -1 left, 1 right.
        bag_size: scale of the bag.
        stride: scale of the gait's amplitude.
        torso, arm, leg, pelvis, head_texture, hair_texture, cap_texture, shoe, bag_texture,
            skin: textures.
    """

    width: float
    shoulders: float
    hips: float
    head: float
    hem: float
    flare: float
    sleeve: float
    sleeve_width: float
    leg_cover: float
    leg_width: float
    skirt: float | None
    hair: str
    cap: bool
    bag: str
    bag_side: int
    bag_size: float
    stride: float
    torso: np.ndarray
    arm: np.ndarray
    leg: np.ndarray
    pelvis: np.ndarray
    head_texture: np.ndarray
    hair_texture: np.ndarray
    cap_texture: np.ndarray
    shoe: np.ndarray
    bag_texture: np.ndarray
    skin: np.ndarray


@functools.lru_cache(maxsize=64)
def appearance(seed: int, identity: int, difficulty: Difficulty) -> Appearance:
    """The appearance of an identity, a pure function of its arguments.

    Args:
        seed: the renderer's seed.
        identity: any integer.
        difficulty: its `commonness`, `colour_spread`, `pattern_rate` and `body_spread` count.

    Returns:
        The Appearance.
    """
    return _Wardrobe(seed, identity, difficulty).appearance()


class _Wardrobe:
    """Draws one identity's clothes; a class only to share the streams of random numbers."""

    def __init__(self, seed: int, identity: int, difficulty: Difficulty):
        self.difficulty = difficulty
        self.body = Draws(seed, "body", identity)
        self.clothes = Draws(seed, "clothes", identity)
        self.weave = Draws(seed, "weave", identity)

    def pick(self, draws: Draws, table: dict):
        """(key, values after the weight) of one row of a table of weighted options."""
        weights = [row[0] ** self.difficulty.commonness for row in table.values()]
        key = draws.pick(list(table), weights)
        return key, table[key][1:]

    def colour(self, draws: Draws, table: dict) -> np.ndarray:
        """[3] RGB: a palette entry, moved in lightness and a little in hue."""
        (rgb,) = self.pick(draws, table)[1]
        spread = self.difficulty.colour_spread
        lightness = draws.bell(1.5 * spread)
        # Hue moves in proportion: an equal step on each channel would tint black.
        hue = np.array([1 + draws.bell(1.5 * spread) for _ in range(3)])
        return np.clip((np.array(rgb) + lightness) * hue, 0.04, 0.94)

    def cloth(self, rows: int, columns: int, colour: np.ndarray, mottle=0.10) -> np.ndarray:
        """Plain cloth [3, rows, columns] with soft folds."""
        coarse = self.weave.noise((max(rows // 8, 2), max(columns // 16, 2)))
        folds = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)
        # The seam must close: blend the last columns into the first ones.
        seam = np.linspace(0, 1, columns // 4, dtype=np.float32)
        folds[:, -columns // 4 :] = folds[:, -columns // 4 :] * (1 - seam) + folds[:, :1] * seam
        texture = colour.astype(np.float32)[:, None, None] * (1 + mottle * folds)
        return np.clip(texture, 0, 1)

    def appearance(self) -> Appearance:
        body = self.body
        spread = self.difficulty.body_spread
        woman = body.chance(0.46)
        skin = self.colour(body, SKINS)
        build = {
            "width": 1 + spread * body.bell(0.09) - 0.03 * woman,
            "shoulders": 0.118 + spread * body.bell(0.006) - 0.010 * woman,
            "hips": 0.490 + spread * body.bell(0.010),
            "head": 1 + spread * body.bell(0.05),
            "stride": max(0.4, 1 + spread * body.bell(0.15)),
        }
        bag = self.bag(woman)
        dressed = self.dressed(woman, skin)
        _print_straps(dressed["torso"], bag)
        return Appearance(**build, **dressed, **bag, **self.head(woman, skin))

    def dressed(self, woman: bool, skin: np.ndarray) -> dict:
        """Top, legs and shoes."""
        clothes = self.clothes
        kind, (hem, sleeve, flare, sleeve_width) = self.pick(
            clothes, WOMENS_TOPS if woman else MENS_TOPS
        )
        legs, (cover, leg_width) = self.pick(clothes, WOMENS_LEGS if woman else MENS_LEGS)
        hem += clothes.bell(0.008) if hem > 0.4 else clothes.bell(0.03)
        sleeve = float(np.clip(sleeve + clothes.bell(0.04), 0.0, 1.0))
        skirt = clothes.uniform(0.27, 0.40) if legs == "skirt" and kind != "dress" else None
        if kind == "dress" or legs == "skirt":
            cover = 0.0 if clothes.chance(0.75) else 1.0
        elif legs == "shorts":
            cover += clothes.bell(0.06)
        first, second = self.colour(clothes, TOP_COLOURS), self.colour(clothes, TOP_COLOURS)
        below = self.colour(clothes, LEG_COLOURS)
        torso, arm = self.top(kind, first, second, TOP_OF_TORSO - hem, sleeve, skin)
        leg = self.cloth(LIMB_ROWS, LIMB_COLUMNS, below)
        bare = round(cover * LIMB_ROWS)
        leg[:, bare:] = self.cloth(LIMB_ROWS, LIMB_COLUMNS, skin, 0.04)[:, bare:]
        if kind != "dress" and legs == "shorts" and clothes.chance(0.25):
            leg[:, :bare, 5:11] = second[:, None, None]  # the side stripe of sports shorts
        shoe = self.cloth(16, 32, self.colour(clothes, SHOE_COLOURS), 0.05)
        if clothes.chance(0.4):
            shoe[:, 12:] = 0.85
        return {
            "hem": hem,
            "flare": flare,
            "sleeve": sleeve,
            "sleeve_width": sleeve_width,
            "leg_cover": cover,
            "leg_width": leg_width,
            "skirt": skirt,
            "torso": torso,
            "arm": arm,
            "leg": leg,
            "pelvis": self.cloth(TORSO_ROWS, TORSO_COLUMNS, below),
            "shoe": shoe,
            "skin": self.cloth(8, 8, skin, 0.03),
        }

    def top(self, kind, first, second, height, sleeve, skin) -> tuple[np.ndarray, np.ndarray]:
        """Textures of the torso and of the arm."""
        clothes = self.clothes
        torso = self.cloth(TORSO_ROWS, TORSO_COLUMNS, first)
        arm = self.cloth(LIMB_ROWS, LIMB_COLUMNS, first)
        turn = np.abs((np.arange(TORSO_COLUMNS) / TORSO_COLUMNS + 0.5) % 1 - 0.5) * 2 * np.pi
        rate = self.difficulty.pattern_rate
        if clothes.chance(rate if kind not in ("jacket", "coat") else 0.4 * rate):
            pattern = clothes.pick(list(PATTERNS), list(PATTERNS.values()))
            _print_pattern(torso, arm, pattern, second, height, clothes, turn)
        if kind in ("jacket", "coat") and clothes.chance(0.6):
            opening = clothes.uniform(0.25, 0.6)
            torso[:, :, turn < opening] = self.colour(clothes, TOP_COLOURS)[:, None, None]
        elif kind in ("jacket", "coat", "shirt"):
            torso[:, :, turn < 0.06] *= 0.72
        neckline = clothes.uniform(0.4, 1.0)
        depth = np.maximum(0, neckline - turn) * TORSO_ROWS * (0.14 if kind == "vest" else 0.09)
        below_neck = np.arange(TORSO_ROWS)[:, None] < depth
        torso[:, below_neck] = skin[:, None]
        if kind == "dress" and clothes.chance(0.5):
            waist = int(TORSO_ROWS * 0.26 / height)
            torso[:, waist : waist + 3] *= 0.5
        torso[:, -2:] *= 0.75  # the hem's own shadow
        bare = round(sleeve * LIMB_ROWS)
        arm[:, max(bare - 2, 0) : bare] *= 0.85
        arm[:, bare:] = self.cloth(LIMB_ROWS, LIMB_COLUMNS, skin, 0.04)[:, bare:]
        return torso, arm

    def head(self, woman: bool, skin: np.ndarray) -> dict:
        """Face, hair and cap."""
        body = self.body
        styles = (
            {"short": (14,), "long": (46,), "tail": (40,)}
            if woman
            else {"short": (90,), "long": (3,), "bald": (7,)}
        )
        hair, _ = self.pick(body, styles)
        hair_colour = self.colour(body, HAIR_COLOURS)
        cap = body.chance(0.06)
        cap_colour = self.colour(body, TOP_COLOURS)
        head = self.cloth(HEAD_ROWS, HEAD_COLUMNS, skin, 0.03)
        turn = np.abs((np.arange(HEAD_COLUMNS) / HEAD_COLUMNS + 0.5) % 1 - 0.5) * 2 * np.pi
        line = body.uniform(0.22, 0.34)
        hair_texture = self.cloth(HEAD_ROWS, HEAD_COLUMNS, hair_colour, 0.16)
        if hair != "bald":
            back = 0.97 if hair in ("long", "tail") else body.uniform(0.62, 0.80)
            edge = np.where(turn < 1.05, line, np.where(turn < 1.55, 0.5, back))
            covered = np.arange(HEAD_ROWS)[:, None] / HEAD_ROWS < edge
            head[:, covered] = hair_texture[:, covered]
        rows = np.arange(HEAD_ROWS)[:, None]
        eyes = (rows >= 14) & (rows < 17) & (turn > 0.22) & (turn < 0.62)
        head[:, eyes] *= 0.55 if not body.chance(0.2) else 0.2
        head[:, (rows >= 24) & (rows < 26) & (turn < 0.3)] *= 0.75
        if not woman and body.chance(0.12):
            head[:, (rows > 22) & (turn < 1.2)] *= 0.55  # a beard
        if cap:
            head[:, :11] = cap_colour[:, None, None]
        return {
            "hair": hair,
            "cap": cap,
            "head_texture": head,
            "hair_texture": hair_texture,
            "cap_texture": self.cloth(8, 8, cap_colour, 0.05),
        }

    def bag(self, woman: bool) -> dict:
        clothes = self.clothes
        kinds = ["none", "backpack", "handbag", "shoulder bag"]
        kind = clothes.pick(kinds, [30, 22, 26, 22] if woman else [52, 30, 8, 10])
        colour = self.colour(clothes, BAG_COLOURS)
        texture = self.cloth(32, 64, colour, 0.10)
        texture[:, 14:16] *= 0.6
        if clothes.chance(0.35):
            patch = self.colour(clothes, BAG_COLOURS)
            texture[:, 18:28] = patch[:, None, None]
        return {
            "bag": kind,
            "bag_side": -1 if clothes.chance(0.4) else 1,
            "bag_size": clothes.uniform(0.8, 1.25),
            "bag_texture": texture,
        }


def _print_pattern(torso, arm, pattern, second, height, clothes, turn):
    """Print a pattern in the second colour onto the textures of the torso and of the arm."""
    second = second[:, None]
    down = np.arange(TORSO_ROWS)[:, None] * (height / TORSO_ROWS)
    along = np.arange(LIMB_ROWS)[:, None] * (0.33 / LIMB_ROWS)
    if pattern == "print":
        top = clothes.uniform(0.07, 0.12)
        size, half = clothes.uniform(0.04, 0.11), clothes.uniform(0.25, 0.6)
        mark = (down > top) & (down < top + size) & (turn < half)
        if clothes.chance(0.4):
            mark &= ((down * 90).astype(int) + (turn * 6).astype(int)) % 2 == 0
        if clothes.chance(0.3):
            mark |= (down > 0.06) & (down < 0.10) & (turn > np.pi - 0.8)
        torso[:, mark] = second
    elif pattern == "contrast sleeves":
        arm[:] = second[:, :, None]
    elif pattern == "two halves":
        split = clothes.uniform(0.10, 0.24)
        torso[:, down[:, 0] > split] = second[:, :, None]
        if clothes.chance(0.5):
            arm[:, along[:, 0] > split] = second[:, :, None]
    else:
        period = clothes.uniform(0.030, 0.085)
        fill = clothes.uniform(0.25, 0.6)
        around = round(0.6 / period)
        across, round_about = down / period % 1 < fill, turn * around / np.pi % 1 < fill
        arm_across = along / period % 1 < fill
        arm_around = np.arange(LIMB_COLUMNS) * around / 3 / LIMB_COLUMNS % 1 < fill
        if pattern == "stripes across":
            torso[:, across[:, 0]] = second[:, :, None]
            arm[:, arm_across[:, 0]] = second[:, :, None]
        elif pattern == "stripes down":
            torso[:, :, round_about] = second[:, :, None]
            arm[:, :, arm_around] = second[:, :, None]
        elif pattern == "checks":
            for texture, rows, columns in (
                (torso, across, round_about),
                (arm, arm_across, arm_around),
            ):
                share = 0.5 * rows.astype(np.float32) + 0.5 * columns
                texture += share * (second[:, :, None] - texture)
        elif pattern == "dots":
            torso[:, across & round_about] = second
            arm[:, arm_across & arm_around] = second


def _print_straps(torso: np.ndarray, bag: dict):
    """Print the straps of a worn bag onto the texture of the torso."""
    colour = bag["bag_texture"][:, 4, 4][:, None] * 0.8
    column = (np.arange(TORSO_COLUMNS) / TORSO_COLUMNS + 0.5) % 1 * 2 * np.pi - np.pi
    row = np.arange(TORSO_ROWS)[:, None] / TORSO_ROWS
    if bag["bag"] == "backpack":
        torso[:, (np.abs(np.abs(column) - 0.62) < 0.13) & (row < 0.62)] = colour
    elif bag["bag"] == "shoulder bag":
        # Over one shoulder and across the chest to the other hip.
        path = 0.36 + 0.35 * bag["bag_side"] * column
        torso[:, (np.abs(row - path) < 0.05) & (row < 0.75)] = colour
