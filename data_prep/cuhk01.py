"""CUHK01: Li et al., "Human Reidentification with Transferred Metric Learning", ACCV 2012.

It is also called the CAMPUS data set. Its images are one pool, divided by partitions.
"""

from data_prep.builder import ReidBuilder
from data_prep.listing import Listing
from data_prep.raw import RawTree
from data_prep.regular import read_regular

__all__ = ["FOLDER", "OFFICIAL", "PARTITIONS", "Builder", "read"]

FOLDER = "campus"
OFFICIAL = {"images": {"images": 3884, "identities": 971}}
# name: (training identities, test identities, number of splits)
PARTITIONS = {"485-486": (485, 486, 10), "871-100": (871, 100, 20)}
CAMERAS = {(1,): 1, (2,): 1, (3,): 2, (4,): 2}


class Builder(ReidBuilder):
    """CUHK01 as a TFDS data set."""

    name = "cuhk01"


def read(tree: RawTree) -> tuple[RawTree, Listing]:
    """Records of the official tree: `campus/0001001.png`, four images of each identity.

    A name is four digits of identity and three that number the image: 1 and 2 are of camera 1
    (view A), 3 and 4 of camera 2. There are no official partitions; those here are random, the same
    everywhere. A stand-in of N identities keeps their names, with round(485 N / 971) and
    round(871 N / 971) identities for training.

    Args:
        tree: the raw files, the official folder anywhere below.

    Returns:
        The tree from the official root, and what it holds; the counts of a stand-in are its own.

    Raises:
        ValueError: if the official folder is not there.
    """
    return read_regular(
        tree,
        FOLDER,
        r"(\d{4})(\d{3})\.png",
        CAMERAS,
        form="0001001.png: identity, then image 001 to 004",
        official=OFFICIAL,
        partitions=PARTITIONS,
    )
