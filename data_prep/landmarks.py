"""Labelled photographs of landmarks, on which a model for Oxford5k is trained."""

import dataclasses

from data_prep import folder
from data_prep.builder import ReidBuilder
from data_prep.listing import Listing
from data_prep.raw import RawTree
from reid_jax import schema

__all__ = ["Builder", "read"]


class Builder(ReidBuilder):
    """Photographs of landmarks as a TFDS data set."""

    name = "landmarks"


def read(tree: RawTree) -> tuple[RawTree, Listing]:
    """Records of landmark photographs: one sub-folder per landmark, with any name.

    `identif_verif` takes the 3D models of Radenovic et al., ECCV 2016; sort the images of each of
    their clusters into a sub-folder. A CSV file `file,identity` will do as well, as for `folder`.

    Args:
        tree: the raw files.

    Returns:
        The tree from the root of the data set, and what it holds: a train split without cameras.

    Raises:
        ValueError: if the images are not labelled in one of these forms.
    """
    tree, listing = folder.read(tree)
    if set(listing.splits) != {"train"} or "" in tree.image_folders():
        raise ValueError(
            f"{tree.where} is not a folder of labelled landmarks: expected one sub-folder of "
            "photographs per landmark, or a CSV file file,identity"
        )
    if listing.has_cameras:
        listing.notes = ["cameras were found in the data set, and are not used for landmarks"]
    train, unlabelled = (
        [dataclasses.replace(record, camera=schema.NO_CAMERA) for record in records]
        for records in (listing.splits["train"], listing.unlabelled)
    )
    return tree, dataclasses.replace(
        listing,
        splits={"train": train},
        unlabelled=unlabelled,
        has_cameras=False,
        description=[line for line in listing.description if "camera" not in line],
        camera_names=None,
    )
