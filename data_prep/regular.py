"""Data sets that have the same images of each identity, in one folder."""

import posixpath
import re
from collections.abc import Iterable

from data_prep.listing import Listing, Problem, Record, official_problems
from data_prep.partitions import random_partitions
from data_prep.raw import RawTree

__all__ = ["read_regular"]


def _records(
    files: Iterable[str],
    pattern: str,
    cameras: dict[tuple[int, ...], int],
    *,
    form: str,
    num_identities: int | None,
) -> tuple[list[Record], list[Problem]]:
    """Records of images whose names are an identity and the number of one of its images.

    Args:
        files: paths of the images.
        pattern: matches a whole name; the first group is the identity, the others number the image.
        cameras: the camera of each number of an image (the values of the other groups); each
            identity should have all of these images.
        form: how a name should be, for messages.
        num_identities: how many identities there should be, numbered from 1; None if any will do.

    Returns:
        Sorted records, and a problem for each name that does not parse or stands for the same image
        as another, for each image that an identity lacks and for each identity without images.
    """
    records, problems, found = [], [], {}
    for file in sorted(files):
        match = re.fullmatch(pattern, posixpath.basename(file), re.IGNORECASE)
        identity, *number = map(int, match.groups()) if match else (0,)
        place = tuple(number)
        if identity < 1 or place not in cameras:
            problems.append(Problem("layout", f"{file} (expected {form})", file))
        elif place in found.setdefault(identity, {}):
            other = found[identity][place]
            problems.append(Problem("layout", f"{file} (the same image as {other})", file))
        else:
            found[identity][place] = file
            records.append(Record(file, identity, cameras[place]))
    for identity in sorted({*found, *range(1, 1 + (num_identities or 0))}):
        if identity not in found:
            problems.append(Problem("absent", f"identity {identity}"))
            continue
        lacking = [place for place in cameras if place not in found[identity]]
        problems += [
            Problem("incomplete", f"identity {identity}: image {'_'.join(map(str, place))}")
            for place in lacking
        ]
    return records, problems


def read_regular(
    tree: RawTree,
    folder: str,
    pattern: str,
    cameras: dict[tuple[int, ...], int],
    *,
    form: str,
    official: dict[str, dict[str, int]],
    partitions: dict[str, tuple[int, int, int]],
) -> tuple[RawTree, Listing]:
    """The tree from its official root, and its images with random partitions.

    Args:
        tree: the raw files, the folder anywhere below.
        folder: the folder of the images.
        pattern, cameras, form: as for `_records`.
        official: the official counts; those of a stand-in are its own.
        partitions: training and test identities and number of splits of each partition.

    Returns:
        The tree, and what it holds as the split `images`.

    Raises:
        ValueError: if the folder is not there.
    """
    tree = tree.at(tree.root([folder]))
    is_official = not tree.is_stand_in
    records, problems = _records(
        tree.images(folder),
        pattern,
        cameras,
        form=form,
        num_identities=official["images"]["identities"] if is_official else None,
    )
    splits = {"images": records}
    if is_official:
        problems += official_problems(splits, official)
    found = random_partitions("images", records, partitions)
    return tree, Listing(splits, problems=problems, official=is_official, partitions=found)
