"""PKU-Reid: Ma et al., "Orientation Driven Bag of Appearances for Person Re-identification", 2016.

Its images are one pool, divided by partitions.
"""

from data_prep.builder import ReidBuilder
from data_prep.listing import Listing
from data_prep.raw import RawTree
from data_prep.regular import read_regular

__all__ = ["FOLDER", "OFFICIAL", "PARTITIONS", "Builder", "read"]

FOLDER = "PKUv1a_128x48"
OFFICIAL = {"images": {"images": 1824, "identities": 114}}
# name: (training identities, test identities, number of splits)
PARTITIONS = {"57-57": (57, 57, 10)}
CAMERAS = {(camera, orientation): camera for camera in (1, 2) for orientation in range(1, 9)}


class Builder(ReidBuilder):
    """PKU-Reid as a TFDS data set."""

    name = "pku_reid"


def read(tree: RawTree) -> tuple[RawTree, Listing]:
    """Records of the official tree: `PKUv1a_128x48/1_2_3.png`, sixteen images of each identity.

    A name is the identity, the camera (1 or 2) and the orientation (1 to 8), with or without zeros
    before them. The authors divide at random and give no list; the partition here is random, the
    same everywhere. A stand-in of N identities has round(N / 2) for training.

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
        r"(\d+)_(\d+)_(\d+)\.png",
        CAMERAS,
        form="1_2_3.png: identity, camera 1 or 2, orientation 1 to 8",
        official=OFFICIAL,
        partitions=PARTITIONS,
    )
