"""The 500,000 distractors of Market-1501, a gallery that holds no query's identity."""

import os

from data_prep.builder import ReidBuilder
from data_prep.listing import Listing, Problem, market_records, official_problems
from data_prep.raw import RawTree
from reid_jax import schema

__all__ = ["OFFICIAL", "Builder", "read"]

OFFICIAL = {"gallery": {"images": 500000}}


class Builder(ReidBuilder):
    """The 500k distractors as a TFDS data set."""

    name = "distractors_500k"


def read(tree: RawTree) -> tuple[RawTree, Listing]:
    """Records of the official tree: one folder of images, usually called `images`.

    Args:
        tree: the raw files, one folder with images anywhere below.

    Returns:
        The tree from the official root, and what it holds; the counts of a stand-in are its own.

    Raises:
        ValueError: if there is no folder with images, or more than one.
    """
    folders = tree.image_folders()
    if len(folders) != 1:
        raise ValueError(
            f"{tree.where} is not this data set: expected one folder of images, found "
            f"{len(folders)}{': ' + ', '.join(folders[:8]) if folders else ''}"
        )
    parent, name = os.path.split(folders[0])
    root, folder = (parent, name) if name == "images" else (folders[0], "")
    tree = tree.at(root + "/" if root else "")
    records, problems = market_records(tree.images(folder), num_cameras=6)
    problems += [
        Problem("distractor", f"{record.file} (identity {record.identity})", record.file)
        for record in records
        if record.identity != schema.DISTRACTOR
    ]
    splits = {"gallery": [record for record in records if record.identity == schema.DISTRACTOR]}
    if not tree.is_stand_in:
        problems += official_problems(splits, OFFICIAL)
    return tree, Listing(splits, problems=problems, official=not tree.is_stand_in)
