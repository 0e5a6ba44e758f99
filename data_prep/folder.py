"""A data set of one's own: identity sub-folders, a table, or a folder of Market-style names."""

import re
import types
import unicodedata

from data_prep.builder import ReidBuilder
from data_prep.listing import Listing
from data_prep.raw import RawTree
from reid_jax.data.forms import read_folder

__all__ = ["Builder", "builder_named", "data_set_name", "read"]


class Builder(ReidBuilder):
    """An own data set as a TFDS data set."""

    name = "folder"


def builder_named(name: str) -> type[ReidBuilder]:
    """The builder of an own data set of a name."""
    if name == Builder.name:
        return Builder
    return types.new_class(
        "Builder",
        (Builder,),
        {"skip_registration": True},
        lambda body: body.update(name=name, __module__=__name__),
    )


def data_set_name(text: str) -> str:
    """A name made into one that a data set can have: 'Shop A (2)' becomes 'shop_a_2'.

    Returns:
        Small letters, digits and '_', the first a letter; '' if the text has none.
    """
    # Letters lose their accents.
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    return f"set_{plain}" if plain[:1].isdigit() else plain


def read(
    tree: RawTree, *, csv_file: str | None = None, use_cameras: bool = True
) -> tuple[RawTree, Listing]:
    """Records of an own data set, whose form is recognised.

    Args:
        tree: the raw files.
        csv_file: path in the tree of the table to use, if the user named one.
        use_cameras: False leaves cameras out, and with them the camera rule.

    Returns:
        The tree from the root of the data set, and what it holds.

    Raises:
        ValueError: if no form, or more than one, fits.
    """
    contents = read_folder(tree, table=csv_file, use_cameras=use_cameras)
    return contents.tree, Listing(
        contents.splits,
        has_cameras=contents.has_cameras,
        problems=contents.problems,
        unlabelled=contents.unlabelled,
        identity_names=contents.identity_names,
        camera_names=contents.camera_names,
        description=contents.lines(),
    )
