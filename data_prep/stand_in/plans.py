"""What the official data sets hold: file names, identities, cameras. Nothing is rendered here.

A plan is a pure function of (counts, seed): the full list of images in order of file name, each
with what the renderer needs to draw it.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_prep.stand_in.draws import Draws

__all__ = [
    "DUKEMTMC_FULL",
    "MARKET1501_FULL",
    "DukeCounts",
    "MarketCounts",
    "PlannedImage",
    "distractors_500k_plan",
    "dukemtmc_plan",
    "market1501_plan",
]

NUM_MARKET_CAMERAS = 6
NUM_DUKE_CAMERAS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class PlannedImage:
    """One image of a plan.

    Attributes:
        file: path relative to the tree's root, with '/'; its suffix is the format.
        kind: "detected", "drawn" or "junk" (see `render`), or "distractor".
        identity: the renderer's identity; a junk image's is not in its name.
        camera: 1-based.
        index: number of the image of this identity (or of distractors) in this camera.
        size: (height, width) in pixels.
        orientation: as for `render`.
    """

    file: str
    kind: str
    identity: int
    camera: int
    index: int
    size: tuple[int, int]
    orientation: int | None = None


@dataclasses.dataclass(frozen=True)
class MarketCounts:
    """How much a Market-1501 tree holds.

    Attributes:
        train_identities, train_pairs, train_images: the training set; a pair is an identity seen
            by a camera.
        test_identities: identities of query and gallery.
        queries: one per test identity and camera; so also the number of test pairs.
        gallery_images: gallery images of test identities, without distractors and junk.
        distractors: images named `0000`.
        junk: images named `-1`.
        drawn_train, drawn_test: images in `gt_bbox` of training and of test identities; the
            queries are among the latter. Both 0: there is no `gt_bbox`.
    """

    train_identities: int
    train_pairs: int
    train_images: int
    test_identities: int
    queries: int
    gallery_images: int
    distractors: int
    junk: int
    drawn_train: int
    drawn_test: int


# train_pairs and the division of gt_bbox's 25,259 are ours; the rest are the official counts.
MARKET1501_FULL = MarketCounts(
    train_identities=751,
    train_pairs=3_262,
    train_images=12_936,
    test_identities=750,
    queries=3_368,
    gallery_images=13_115,
    distractors=2_798,
    junk=3_819,
    drawn_train=12_436,
    drawn_test=12_823,
)


@dataclasses.dataclass(frozen=True)
class DukeCounts:
    """How much a DukeMTMC-reID tree holds; the fields are those of `MarketCounts`.

    Attributes:
        distractor_identities: identities in the gallery that one camera alone sees, without query.
        gallery_images: all images of the gallery, these included.
    """

    train_identities: int
    train_pairs: int
    train_images: int
    test_identities: int
    queries: int
    distractor_identities: int
    gallery_images: int


# train_pairs is ours; the rest are the official counts.
DUKEMTMC_FULL = DukeCounts(
    train_identities=702,
    train_pairs=2_196,
    train_images=16_522,
    test_identities=702,
    queries=2_228,
    distractor_identities=408,
    gallery_images=17_661,
)


def market1501_plan(
    counts: MarketCounts, *, seed: int, size: tuple[int, int] = (128, 64)
) -> list[PlannedImage]:
    """The images of a Market-1501 tree, sorted by file name.

    Identities are numbered from 1, training and test ones mixed, as in the official set.

    Args:
        counts: how much the tree holds; `MARKET1501_FULL` for the official counts.
        seed: seed of the plan and of the pictures.
        size: (height, width) in pixels.

    Returns:
        The plan; its files lie in bounding_box_train, bounding_box_test, query and gt_bbox.

    Raises:
        ValueError: for counts that no data set can have, such as fewer than two cameras for an
            identity.
    """
    train, test = _split_identities(counts.train_identities, counts.test_identities, seed)
    train_pairs = _pairs(train, counts.train_pairs, NUM_MARKET_CAMERAS, seed, "train")
    test_pairs = _pairs(test, counts.queries, NUM_MARKET_CAMERAS, seed, "test")
    in_train = _spread(counts.train_images, len(train_pairs), 1, seed, "train_images")
    in_gallery = _spread(counts.gallery_images, len(test_pairs), 1, seed, "gallery_images")
    plan = []

    def add(folder, kind, identity, camera, index):
        name = _market_name(seed, identity, camera, index, drawn=kind == "drawn")
        plan.append(PlannedImage(f"{folder}/{name}", kind, identity, camera, index, size))

    for folder, pairs, amounts in (
        ("bounding_box_train", train_pairs, in_train),
        ("bounding_box_test", test_pairs, in_gallery),
    ):
        for (identity, camera), amount in zip(pairs, amounts, strict=True):
            for index in range(amount):
                add(folder, "detected", identity, camera, index)
    for (identity, camera), amount in zip(test_pairs, in_gallery, strict=True):
        add("query", "drawn", identity, camera, amount)  # the first drawn box of the pair
    drawn_pairs = []
    if counts.drawn_train:
        drawn = _spread(counts.drawn_train, len(train_pairs), 0, seed, "drawn_train")
        drawn_pairs += zip(train_pairs, in_train, drawn, strict=True)
    if counts.drawn_test:
        drawn = _spread(counts.drawn_test, len(test_pairs), 1, seed, "drawn_test")
        drawn_pairs += zip(test_pairs, in_gallery, drawn, strict=True)
    for (identity, camera), first, amount in drawn_pairs:
        for index in range(first, first + amount):
            add("gt_bbox", "drawn", identity, camera, index)
    plan += _market_distractors("bounding_box_test", counts.distractors, size)
    # Junk shows test identities: what the detector cut too badly to count.
    first_junk = 1_000_000
    for number in range(counts.junk):
        identity, camera = test_pairs[number * 7919 % len(test_pairs)]
        name = f"-1_c{camera}s{1 + number % 6}_{number:06d}_{1 + number % 5:02d}.jpg"
        index = first_junk + number
        file = f"bounding_box_test/{name}"
        plan.append(PlannedImage(file, "junk", identity, camera, index, size))
    return sorted(plan, key=lambda image: image.file)


def distractors_500k_plan(
    num_images: int, *, size: tuple[int, int] = (128, 64)
) -> list[PlannedImage]:
    """The images of a distractors_500k tree: identity 0, cameras 1 to 6, sorted by file name."""
    # Other pictures than the distractors of the Market-1501 tree of the same seed.
    plan = _market_distractors("images", num_images, size, first=1_000_000)
    return sorted(plan, key=lambda image: image.file)


def dukemtmc_plan(counts: DukeCounts, *, seed: int) -> list[PlannedImage]:
    """The images of a DukeMTMC-reID tree, sorted by file name; their sizes differ.

    Args:
        counts: how much the tree holds; `DUKEMTMC_FULL` for the official counts.
        seed: seed of the plan and of the pictures.

    Returns:
        The plan; its files lie in bounding_box_train, bounding_box_test and query.

    Raises:
        ValueError: for counts that no data set can have.
    """
    num_test = counts.test_identities + counts.distractor_identities
    train, others = _split_identities(counts.train_identities, num_test, seed)
    chosen = Draws(seed, "duke distractors").order(len(others))[: counts.distractor_identities]
    alone = {others[position] for position in chosen}
    test = [identity for identity in others if identity not in alone]
    train_pairs = _pairs(train, counts.train_pairs, NUM_DUKE_CAMERAS, seed, "duke train")
    test_pairs = _pairs(test, counts.queries, NUM_DUKE_CAMERAS, seed, "duke test")
    lone_pairs = [
        (identity, 1 + Draws(seed, "duke camera", identity).integer(NUM_DUKE_CAMERAS))
        for identity in sorted(alone)
    ]
    gallery_pairs = test_pairs + lone_pairs
    in_train = _spread(counts.train_images, len(train_pairs), 1, seed, "duke train images")
    in_gallery = _spread(counts.gallery_images, len(gallery_pairs), 1, seed, "duke gallery images")
    plan = []

    def add(folder, identity, camera, index):
        name, size = _duke_name_and_size(seed, identity, camera, index)
        file = f"{folder}/{name}"
        plan.append(PlannedImage(file, "detected", identity, camera, index, size))

    for folder, pairs, amounts in (
        ("bounding_box_train", train_pairs, in_train),
        ("bounding_box_test", gallery_pairs, in_gallery),
    ):
        for (identity, camera), amount in zip(pairs, amounts, strict=True):
            for index in range(amount):
                add(folder, identity, camera, index)
    for (identity, camera), amount in zip(gallery_pairs, in_gallery, strict=True):
        if identity not in alone:
            add("query", identity, camera, amount)
    return sorted(plan, key=lambda image: image.file)


def _market_name(seed: int, identity: int, camera: int, index: int, *, drawn: bool) -> str:
    """Unique for each (identity, camera, index): frames of a track are 25 apart."""
    draws = Draws(seed, "market name", identity, camera)
    sequence, start = 1 + draws.integer(6), draws.integer(90_000)
    box = 0 if drawn else 1 + Draws(seed, "market box", identity, camera, index).integer(5)
    return f"{identity:04d}_c{camera}s{sequence}_{start + 25 * index:06d}_{box:02d}.jpg"


def _duke_name_and_size(seed, identity, camera, index) -> tuple[str, tuple[int, int]]:
    """Duke's crops keep their size on the sensor: a track's changes as the pedestrian walks."""
    track = Draws(seed, "duke track", identity, camera)
    draws = Draws(seed, "duke crop", identity, camera, index)
    start, tall = track.integer(250_000), track.uniform(110, 300)
    height = int(tall * draws.uniform(0.85, 1.15))
    width = int(height * draws.uniform(0.36, 0.50))
    return f"{identity:04d}_c{camera}_f{start + 60 * index:07d}.jpg", (height, width)


def _market_distractors(folder, count, size, first=0) -> list[PlannedImage]:
    plan = []
    for number in range(count):
        camera, index = 1 + number % NUM_MARKET_CAMERAS, number // NUM_MARKET_CAMERAS
        name = f"0000_c{camera}s{1 + index % 6}_{index:06d}_{1 + index % 5:02d}.jpg"
        plan.append(PlannedImage(f"{folder}/{name}", "distractor", 0, camera, first + index, size))
    return plan


def _split_identities(num_train: int, num_test: int, seed: int) -> tuple[list[int], list[int]]:
    """Numbers 1 .. num_train + num_test, split at random; each part sorted."""
    order = 1 + Draws(seed, "split").order(num_train + num_test)
    return sorted(order[:num_train].tolist()), sorted(order[num_train:].tolist())


def _pairs(
    identities: Sequence[int], num_pairs: int, num_cameras: int, seed: int, purpose: str
) -> list[tuple[int, int]]:
    """`num_pairs` pairs (identity, camera): each identity in 2 to `num_cameras` cameras."""
    low, high = 2 * len(identities), num_cameras * len(identities)
    if not low <= num_pairs <= high:
        raise ValueError(
            f"{num_pairs} pairs of identity and camera do not fit {len(identities)} identities "
            f"with 2 to {num_cameras} cameras each: expected {low} to {high}."
        )
    draws = Draws(seed, f"cameras {purpose}")
    amounts = [2] * len(identities)
    # Every identity offers its cameras beyond two; a random choice of the offers is taken.
    offers = np.repeat(np.arange(len(identities)), num_cameras - 2)
    for taken in offers[draws.order(len(offers))[: num_pairs - low]]:
        amounts[taken] += 1
    pairs = []
    for identity, amount in zip(identities, amounts, strict=True):
        cameras = 1 + Draws(seed, "seen by", identity).order(num_cameras)[:amount]
        pairs += [(identity, camera) for camera in sorted(cameras.tolist())]
    return pairs


def _spread(total: int, num_parts: int, minimum: int, seed: int, purpose: str) -> list[int]:
    """`total` divided unevenly over the parts, each at least `minimum`; the sum is exact."""
    spare = total - minimum * num_parts
    if spare < 0:
        raise ValueError(
            f"{purpose}: {total} images are too few for {num_parts} pairs of identity and camera; "
            f"expected at least {minimum * num_parts}."
        )
    weights = -np.log1p(-Draws(seed, purpose).uniforms(num_parts)) + 0.5
    marks = np.round(np.cumsum(weights) / weights.sum() * spare).astype(int)
    marks[-1] = spare
    return (minimum + np.diff(marks, prepend=0)).tolist()
