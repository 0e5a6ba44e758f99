"""Oxford5k: Philbin et al., "Object Retrieval with Large Vocabularies and Fast Spatial Matching",
CVPR 2007."""

import math
import posixpath
import re
from collections.abc import Iterator

from data_prep.builder import ReidBuilder
from data_prep.listing import Listing, Problem, Query, Record
from data_prep.raw import RawTree
from reid_jax import schema
from reid_jax.data import decode

__all__ = ["EXTRA_IMAGE", "OFFICIAL", "Builder", "read"]

OFFICIAL = {"images": {"images": 5062}}
NUM_QUERIES = 55
# The page of the data set counts 5,062 images; its archive holds this one too, which is on no list.
EXTRA_IMAGE = "ashmolean_000214"
KINDS = ("query", "good", "ok", "junk")
PREFIX = "oxc1_"  # of image names in query files, and nowhere else
BORDER = 1.0  # pixels by which a box may leave its image: they are drawn to fractions of one


class Builder(ReidBuilder):
    """Oxford5k as a TFDS data set."""

    name = "oxford5k"


def read(tree: RawTree) -> tuple[RawTree, Listing]:
    """Records of the official tree: one folder of images, and one of ground truth.

    The two archives unpack without a folder of their own, so their names are the user's (often
    `oxbuild_images` and `gt_files_170407`), and one folder may hold both. An image may show several
    landmarks, so no image has an identity: all are 0, and what is right stands in the queries.

    Args:
        tree: the raw files, the two folders anywhere below.

    Returns:
        The tree from the folder that holds both, and what it holds: the split `images` and the
        queries. The counts of a stand-in are its own.

    Raises:
        ValueError: if there is not one folder of images and one of ground truth.
    """
    truth = sorted({posixpath.dirname(path) for path in tree.sizes if _truth_name(path)})
    folders = tree.image_folders()
    if len(truth) != 1 or len(folders) != 1:
        raise ValueError(
            f"{tree.where} is not this data set: expected one folder of images and one of the "
            "ground truth *_query.txt, *_good.txt, *_ok.txt, *_junk.txt; found images in "
            f"{_listed(folders)}, and ground truth in {_listed(truth)}"
        )
    root = posixpath.commonpath([f"/{folders[0]}", f"/{truth[0]}"]).strip("/")
    tree = tree.at(root + "/" if root else "")
    files = tree.images(*tree.image_folders())
    queries, problems = _queries(tree, files)
    notes = []
    if not tree.is_stand_in:
        extra = [file for file in files if _stem(file) == EXTRA_IMAGE]
        notes += [f"{file} is beyond the official count, as in the archive" for file in extra]
        problems += _count_problems(len(files) - len(extra), len(queries))
    records = [Record(file, schema.DISTRACTOR, schema.NO_CAMERA) for file in files]
    return tree, Listing(
        {"images": records},
        has_cameras=False,
        problems=problems,
        official=not tree.is_stand_in,
        notes=notes,
        queries=queries,
    )


def _truth_name(path: str) -> re.Match | None:
    return re.fullmatch(rf"(.*[^/])_({'|'.join(KINDS)})\.txt", path)


def _stem(file: str) -> str:
    return posixpath.splitext(posixpath.basename(file))[0]


def _listed(folders: list[str]) -> str:
    names = [folder or "." for folder in folders]
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "no folder"


def _count_problems(num_images: int, num_queries: int) -> Iterator[Problem]:
    expected = OFFICIAL["images"]["images"]
    if num_images != expected:
        yield Problem("count", f"images: {num_images:,} images, the official set has {expected:,}")
    if num_queries != NUM_QUERIES:
        yield Problem("count", f"{num_queries} queries, the official set has {NUM_QUERIES}")


def _queries(tree: RawTree, files: list[str]) -> tuple[list[Query], list[Problem]]:
    """The queries, as far as their files go, and everything wrong with these."""
    problems: list[Problem] = []

    def wrong(what: str) -> None:
        problems.append(Problem("truth", what))

    named: dict[str, str] = {}
    for file in files:
        if named.setdefault(_stem(file), file) != file:
            wrong(f"{named[_stem(file)]} and {file} have the same name in the ground truth")
    queries = []
    for prefix in sorted({match[1] for match in map(_truth_name, tree.sizes) if match}):
        paths = {kind: f"{prefix}_{kind}.txt" for kind in KINDS}
        lines = {}
        for kind, path in paths.items():
            if path not in tree.sizes:
                wrong(f"{path} is missing")
            content = tree.read(path) if path in tree.sizes else b""
            lines[kind] = content.decode("utf-8", "replace").split("\n")

        lists: dict[str, list[str]] = {"good": [], "ok": [], "junk": []}
        seen = set()
        for kind, images in lists.items():
            for number, line in enumerate(lines[kind], 1):
                name = line.strip()
                if not name:
                    continue
                if name not in named:
                    wrong(f"{paths[kind]} line {number}: there is no image {name}")
                elif name in seen:
                    wrong(f"{paths[kind]} line {number}: {name} is listed twice for this query")
                else:
                    images.append(named[name])
                seen.add(name)
        if not lists["good"] and not lists["ok"]:
            wrong(f"{prefix}: no image in {paths['good']} or {paths['ok']}: nothing to find")
        if paths["query"] not in tree.sizes:
            continue
        try:
            file, box = _region(tree, " ".join(lines["query"]), named)
        except ValueError as error:
            wrong(f"{paths['query']}: {error}")
            file, box = "", []
        queries.append(Query(posixpath.basename(prefix), file, box, **lists))
    return queries, problems


def _region(tree: RawTree, text: str, named: dict[str, str]) -> tuple[str, list[float]]:
    """File and box of a query file's text."""
    fields = text.split()
    try:
        name, *numbers = fields
        x1, y1, x2, y2 = map(float, numbers)
    except ValueError:
        raise ValueError(
            f"expected an image and its box, x1 y1 x2 y2, got {text.strip()[:80]!r}"
        ) from None
    name = name.removeprefix(PREFIX)
    if name not in named:
        raise ValueError(f"there is no image {name}")
    # Written so that nan fails too.
    if not (math.isfinite(x1 + y1 + x2 + y2) and x1 < x2 and y1 < y2):
        raise ValueError(f"the box {' '.join(numbers)} (x1 y1 x2 y2) is empty")
    try:
        height, width = decode(tree.read(named[name]), None).shape[:2]
    except ValueError:
        return named[name], [x1, y1, x2, y2]  # reported with all other unreadable images
    beyond = max(-x1, -y1, x2 - width, y2 - height) > BORDER
    if beyond or x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        raise ValueError(
            f"the box {' '.join(numbers)} (x1 y1 x2 y2) leaves its image, {width} x {height} pixels"
        )
    box = [max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height))]
    return named[name], box
