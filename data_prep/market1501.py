"""Market-1501: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015."""

from data_prep.builder import ReidBuilder
from data_prep.listing import Listing, market_layout, of_queries, official_problems
from data_prep.raw import RawTree

__all__ = ["FOLDERS", "HAND_DRAWN", "OFFICIAL", "Builder", "read"]

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
HAND_DRAWN = "gt_bbox"
OFFICIAL = {
    "train": {"images": 12936, "identities": 751},
    "query": {"images": 3368, "identities": 750},
    "gallery": {"images": 19732, "identities": 750, "distractors": 2798, "junk": 3819},
    # As it comes, with the identities of train too.
    "multi_query": {"images": 25259},
}


class Builder(ReidBuilder):
    """Market-1501 as a TFDS data set."""

    name = "market1501"


def read(tree: RawTree) -> tuple[RawTree, Listing]:
    """Records of the official tree.

    `gt_bbox`, the hand-drawn boxes, becomes the split `multi_query`: its images of the query
    identities. It may be missing.

    Args:
        tree: the raw files, the official folders anywhere below.

    Returns:
        The tree from the official root, and what it holds; the counts of a stand-in are its own.

    Raises:
        ValueError: if the official folders are not there.
    """
    tree = tree.at(tree.root(FOLDERS.values()))
    present = set(tree.image_folders())
    folders = FOLDERS | ({"multi_query": HAND_DRAWN} if HAND_DRAWN in present else {})
    splits, problems = market_layout(tree, folders, num_cameras=6)
    if not tree.is_stand_in:
        problems += official_problems(splits, OFFICIAL)
    notes = []
    if "multi_query" in splits:
        splits["multi_query"] = of_queries(splits["multi_query"], splits["query"])
    else:
        notes.append(f"no {HAND_DRAWN}: there is no multi_query split")
    return tree, Listing(splits, problems=problems, notes=notes, official=not tree.is_stand_in)
