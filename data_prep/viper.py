"""VIPeR: Gray et al., "Evaluating Appearance Models for Recognition, ...", PETS 2007.

Its images are one pool, divided by partitions.
"""

import posixpath
import re

from data_prep.builder import ReidBuilder
from data_prep.listing import Listing, Problem, Record, official_problems
from data_prep.partitions import random_partitions
from data_prep.raw import RawTree

__all__ = ["FOLDERS", "OFFICIAL", "PARTITIONS", "Builder", "read"]

FOLDERS = ("cam_a", "cam_b")
OFFICIAL = {"images": {"images": 1264, "identities": 632}}
# name: (training identities, test identities, number of splits)
PARTITIONS = {"316-316": (316, 316, 10)}


class Builder(ReidBuilder):
    """VIPeR as a TFDS data set."""

    name = "viper"


def read(tree: RawTree) -> tuple[RawTree, Listing]:
    """Records of the official tree: `cam_a/000_45.bmp`, one image of each identity and camera.

    A name is the identity and the angle of view, which differs between the cameras. The numbers in
    names run from 0 with gaps; identities here are their places in sorted order, from 1. There are
    no official partitions; the one here is random, the same everywhere. A stand-in of N identities
    has round(N / 2) for training.

    Args:
        tree: the raw files, the official folders anywhere below.

    Returns:
        The tree from the official root, and what it holds; the counts of a stand-in are its own.

    Raises:
        ValueError: if the official folders are not there.
    """
    tree = tree.at(tree.root(FOLDERS))
    problems, seen = [], {folder: {} for folder in FOLDERS}
    for folder in FOLDERS:
        for file in tree.images(folder):
            match = re.fullmatch(r"(\d+)_\d+\.bmp", posixpath.basename(file), re.IGNORECASE)
            if not match:
                form = "000_45.bmp: identity, then angle"
                problems.append(Problem("layout", f"{file} (expected {form})", file))
            elif int(match[1]) in seen[folder]:
                other, _ = seen[folder][int(match[1])]
                what = f"{file} (the same identity and camera as {other})"
                problems.append(Problem("layout", what, file))
            else:
                seen[folder][int(match[1])] = (file, match[1])
    shared = sorted(set(seen["cam_a"]) & set(seen["cam_b"]))
    for folder, other in (FOLDERS, FOLDERS[::-1]):
        problems += [
            Problem("incomplete", f"{file}: identity {name} has no image in {other}", file)
            for number, (file, name) in seen[folder].items()
            if number not in seen[other]
        ]
    records = sorted(
        Record(seen[folder][number][0], identity, camera)
        for camera, folder in enumerate(FOLDERS, 1)
        for identity, number in enumerate(shared, 1)
    )
    splits = {"images": records}
    if not tree.is_stand_in:
        problems += official_problems(splits, OFFICIAL)
    partitions = random_partitions("images", records, PARTITIONS)
    return tree, Listing(
        splits,
        problems=problems,
        official=not tree.is_stand_in,
        identity_names=[seen["cam_a"][number][1] for number in shared],
        partitions=partitions,
    )
