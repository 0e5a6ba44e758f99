"""Examines a raw data set: finds all that is wrong with it, and says what to do about it."""

import concurrent.futures
import re
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable

import cv2
import tqdm

from data_prep.listing import Partition, Problem, Record
from data_prep.raw import RawTree
from reid_jax.data import decode
from reid_jax.data.records import CAUSES, listed

__all__ = [
    "FIXES",
    "image_problems",
    "partition_problems",
    "report",
    "size_problems",
    "split_problems",
]

# Not a stuffed byte, a fill byte or a restart marker, which pixels hold.
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd8]", re.DOTALL)
SKIP = "or leave such images out with --skip_bad_images"


def _with_skip(kind: str) -> tuple[str, str]:
    heading, fix = CAUSES[kind]
    return heading, f"{fix}; {SKIP}"


# kind: (heading, fix)
FIXES = {
    "empty": ("empty image file", f"copy these files again, {SKIP}"),
    "unreadable": ("unreadable image", f"copy these files again, {SKIP}"),
    **{kind: _with_skip(kind) for kind in ("name", "number", "identity")},
    "camera": ("camera that this data set does not have", f"correct these names, {SKIP}"),
    "distractor": (
        "distractor with an identity",
        f"names of distractors begin with 0000_c and the camera; rename these files, {SKIP}",
    ),
    "layout": (
        "name that this data set does not have",
        f"the right form is beside each; rename these files, {SKIP}",
    ),
    "incomplete": (
        "identity that lacks an image",
        "every identity of this data set has the same number of images; complete the copy",
    ),
    "depth": _with_skip("depth"),
    "row": CAUSES["row"],
    "missing": CAUSES["missing"],
    "unlabelled": (
        "image without an identity where one is needed",
        f"identities -1 and 0 belong in the gallery only; move these files there, {SKIP}",
    ),
    "match": (
        "query with no match from another camera in the gallery",
        f"add gallery images of these identities from another camera, {SKIP}; data set folder: "
        "--no_cameras turns the camera rule off",
    ),
    "one_camera": (
        "all images are of one camera",
        "a match must be from another camera, so no query would have one; --no_cameras keeps the "
        "images and turns the camera rule off; or add images of another camera",
    ),
    "overlap": (
        "identity that is in train and in query or gallery",
        "results on such identities mean nothing; renumber them, or take them out of one side",
    ),
    "count": (
        "wrong count",
        "complete the copy (gt_bbox, for multi_query, may be missing altogether); a part or a "
        "variant of a data set is an own data set, prepared with\n"
        "      python data_prep/prepare.py folder --raw_dir DIR --data_dir DIR",
    ),
    "split": ("split that cannot be made", "give other numbers"),
    "absent": (
        "identity without any image",
        "the copy is not whole, or an identity too many is counted; copy the data set again",
    ),
    "partition": (
        "partition that does not fit the images",
        "correct the file that the partition comes from, or copy it again",
    ),
    "truth": (
        "ground truth of the queries that cannot be used",
        "complete the copy, or correct these files: each query has a _query.txt (image x1 y1 x2 "
        "y2, in pixels), a _good.txt, an _ok.txt and a _junk.txt (one image a line, no suffix)",
    ),
    "size": ("too little data", "add images"),
}


def _image_problem(tree: RawTree, file: str) -> Problem | None:
    if tree.sizes[file] == 0:
        return Problem("empty", file, file)
    try:
        content = tree.read(file)
        decode(content, None)
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        return Problem("unreadable", f"{file} ({error})", file)
    # OpenCV 4 decodes a JPEG that was cut short, and fills the rest with grey.
    if content[:2] == b"\xff\xd8" and not _jpeg_ends(content):
        return Problem("unreadable", f"{file} (cut short)", file)
    return None


def _jpeg_ends(content: bytes) -> bool:
    """Whether a JPEG has its end marker; what comes after it is not looked at."""
    place = 2
    while True:
        marker = _MARKER.search(content, place)
        if marker is None:
            return False
        if marker[0][1] == 0xD9:
            return True
        length = int.from_bytes(content[marker.end() : marker.end() + 2])
        # After the header of a scan come its pixels, which hold no marker.
        place = marker.end() + max(length, 2)


def image_problems(tree: RawTree, files: list[str], *, progress: bool = True) -> list[Problem]:
    """Decodes each image once, on all cores.

    Args:
        tree: the raw files.
        files: the images to examine.
        progress: show a progress bar.

    Returns:
        A problem for each image that is empty or unreadable, in the order of the files.
    """
    cv2.setNumThreads(1)
    level = cv2.utils.logging.setLogLevel(0)
    chunks = [files[first : first + 32] for first in range(0, len(files), 32)]
    problems = []
    bar = tqdm.tqdm(
        total=len(files), desc="examining", unit="image", disable=not progress, file=sys.stderr
    )
    with bar, concurrent.futures.ThreadPoolExecutor() as pool:
        for found in pool.map(lambda chunk: [_image_problem(tree, f) for f in chunk], chunks):
            problems += [problem for problem in found if problem]
            bar.update(len(found))
    cv2.utils.logging.setLogLevel(level)
    return problems


def split_problems(splits: dict[str, list[Record]], *, has_cameras: bool) -> list[Problem]:
    """What is wrong between train, query and gallery.

    Args:
        splits: records of each split.
        has_cameras: whether a match must be from another camera.

    Returns:
        Problems: images without identity, queries without a match, identities on both sides.
    """
    problems = [
        Problem("unlabelled", f"{record.file} (identity {record.identity})", record.file)
        for split in ("train", "query")
        for record in splits.get(split, [])
        if record.identity <= 0
    ]
    trained, queried, found = (
        {record.identity for record in splits.get(split, []) if record.identity > 0}
        for split in ("train", "query", "gallery")
    )
    problems += [Problem("overlap", f"identity {i}") for i in sorted(trained & (queried | found))]
    cameras: dict[int, set[int]] = {}
    for record in splits.get("gallery", []):
        cameras.setdefault(record.identity, set()).add(record.camera)
    for record in splits.get("query", []):
        seen = cameras.get(record.identity, set())
        if record.identity > 0 and not (seen - {record.camera} if has_cameras else seen):
            problems.append(Problem("match", record.file, record.file))
    return problems


def size_problems(splits: dict[str, list[Record]]) -> list[Problem]:
    """A problem for each split without images, and for a train split of fewer than 2 identities."""
    problems = [
        Problem("size", f"{split} has no usable image")
        for split, records in splits.items()
        if not records
    ]
    if splits.get("train") and len({record.identity for record in splits["train"]}) < 2:
        problems.append(Problem("size", "train has 1 identity; at least 2 are needed"))
    return problems


def partition_problems(
    partitions: dict[str, Partition], splits: dict[str, list[Record]]
) -> list[Problem]:
    """What is wrong with partitions.

    Args:
        partitions: by name.
        splits: records of each split, among them the pools.

    Returns:
        Problems: unknown pools and roles, members that the pool does not have or that a role has
        twice, identities on both sides, queries without a match, and too little to train on.
    """
    problems = []
    for name, partition in partitions.items():
        if partition.pool not in splits:
            what = f"{name}: the pool is {partition.pool}, not one of {', '.join(splits)}"
            problems.append(Problem("partition", what))
            continue
        if not partition.splits:
            problems.append(Problem("partition", f"{name} has no split"))
        by_identity: dict[int, list[Record]] = {}
        for record in splits[partition.pool]:
            if record.identity > 0:
                by_identity.setdefault(record.identity, []).append(record)
        by_file = {record.file: [record] for record in splits[partition.pool]}
        for index, split in enumerate(partition.splits):
            wrong = _roles_wrong(split, set(partition.splits[0]), by_identity, by_file)
            problems += [Problem("partition", f"{name}, split {index}: {what}") for what in wrong]
    return problems


def _roles_wrong(
    split: dict[str, list[int] | list[str]],
    expected: set[str],
    by_identity: dict[int, list[Record]],
    by_file: dict[str, list[Record]],
) -> list[str]:
    """What is wrong with the roles of one split of a partition."""
    if set(split) - {"val"} not in ({"train", "test"}, {"train", "query", "gallery"}):
        return [
            f"the roles are {', '.join(split)}; expected train and test, or train, query and "
            "gallery, with or without val"
        ]
    if set(split) != expected:
        return [f"the roles are {', '.join(split)}, unlike those of split 0"]
    wrong, records = [], {}
    for role, members in split.items():
        named = all(isinstance(member, str) for member in members)
        kind, known = ("files", by_file) if named else ("identities", by_identity)
        twice = [member for member, times in Counter(members).items() if times > 1]
        unknown = [member for member in dict.fromkeys(members) if member not in known]
        if not members:
            wrong.append(f"{role} is empty")
        if twice:
            wrong.append(f"{role} names {len(twice)} {kind} more than once: {_some(twice)}")
        if unknown:
            wrong.append(
                f"{role} names {len(unknown)} {kind} without an image in the pool: {_some(unknown)}"
            )
        records[role] = [record for member in members for record in known.get(member, [])]
    identities = {role: {record.identity for record in found} for role, found in records.items()}
    if len(identities["train"]) < 2:
        wrong.append(f"train has {len(identities['train'])} identities; at least 2 are needed")
    for one in ("train", "val"):
        for other in split:
            both = sorted(identities.get(one, set()) & identities[other])
            if both and one != other and (one, other) != ("val", "train"):
                wrong.append(f"{len(both)} identities are in {one} and in {other}: {_some(both)}")
    if "query" in split:
        wrong += [
            f"the query {problem.what} has no match from another camera in the gallery"
            for problem in split_problems(records, has_cameras=True)
            if problem.kind == "match"
        ]
    return wrong


def _some(members: Iterable[int | str]) -> str:
    listed = [str(member) for member in members]
    return ", ".join(listed[:8]) + ", ..." * (len(listed) > 8)


def report(problems: list[Problem]) -> str:
    """All problems by kind, each kind with its fix, its number and the first five.

    What is wrong with counts and partitions is listed whole: each is a cause of its own.
    """
    return listed(problems, FIXES, whole=("count", "partition"))
