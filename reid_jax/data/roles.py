"""The splits of a person's own data set: their names, and what is made of them."""

import re

from reid_jax.data.records import Record

__all__ = ["MASKS", "ROLES", "assigned", "role_of"]

ROLES = ("train", "val", "test", "query", "gallery", "multi_query")
MASKS = "masks"
NAMES = {
    **dict.fromkeys(("train", "training", "train_all", "trainval", "train_val"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing", "tests"), "test"),
    **dict.fromkeys(("query", "queries", "probe", "probes"), "query"),
    **dict.fromkeys(("gallery", "galleries"), "gallery"),
    **dict.fromkeys(("multi_query", "gt_bbox"), "multi_query"),
}


def role_of(name: str) -> str | None:
    """The split that a folder or a cell of a table names: one of `ROLES`.

    `train`, `bounding_box_test`, `image_query`, `Probe`, `val_images` and the like are known; masks
    of people have `MASKS`; None for any other name.
    """
    plain = re.sub(r"[ .-]", "_", name.strip().casefold())
    if re.fullmatch(r"masks?(_.+)?", plain):
        return MASKS
    if plain not in NAMES:
        plain = re.sub(r"^(bounding_box|images?|imgs?|data)_", "", plain)
        plain = re.sub(r"_?(set|images?|imgs?|data|split)$", "", plain)
    return NAMES.get(plain)


def assigned(
    roles: dict[str, list[Record]], *, where: str
) -> tuple[dict[str, list[Record]], list[str]]:
    """What is made of the splits that a data set has.

    Args:
        roles: records by role, '' where the data set is not divided.
        where: the data set, for messages.

    Returns:
        Records by split, and notes. `test` remains where query and gallery have to be made of it,
        and `val` where val_query and val_gallery have to be.

    Raises:
        ValueError: if a split is missing that the others need.
    """
    if set(roles) == {""}:
        return dict(roles), []
    splits, notes = dict(roles), []
    present = ", ".join(role for role in ROLES if role in splits)

    def refuse(what: str) -> None:
        raise ValueError(f"{where} has the splits {present}: {what}")

    if "query" in splits:
        if "test" in splits and "gallery" in splits:
            refuse(
                "test and gallery are both something to search in; join them, or move one elsewhere"
            )
        if "test" in splits:
            splits["gallery"] = splits.pop("test")
        if "gallery" not in splits:
            refuse(
                "gallery is missing (or test, which does as well); add it, or name query test, "
                "from which query and gallery are then carved"
            )
    elif "gallery" in splits:
        if "test" in splits:
            refuse("query is missing, and test and gallery are both something to search in")
        splits["test"] = splits.pop("gallery")
    if "val" in splits and "train" not in splits:
        refuse("train is missing; validation needs it: add it, or move val elsewhere")
    if "multi_query" in splits and "query" not in splits:
        left = len(splits.pop("multi_query"))
        notes.append(f"not read: {left:,} images of multi_query, which needs query and gallery")
    if not splits:
        refuse("train, or query and gallery, are missing")

    if "multi_query" in splits:
        queried = {record.identity for record in splits["query"]}
        whole = splits["multi_query"]
        splits["multi_query"] = [record for record in whole if record.identity in queried]
        left = len(whole) - len(splits["multi_query"])
        if left:
            notes.append(f"not read: {left:,} images of multi_query of identities without a query")
    if "val" in splits:
        trained = {record.identity for record in splits["train"]}
        validated = {record.identity for record in splits["val"]}
        if validated & trained:
            val = splits.pop("val")
            splits["train"] = sorted(splits["train"] + val)
            notes.append(
                f"the {len(val):,} images of val are of {len(validated & trained):,} identities of "
                "train, which says nothing about new ones: they are added to train"
            )
        else:
            notes.append("val is divided into val_query and val_gallery")
    if "test" in splits:
        notes.append("there is no query: query and gallery are carved from the test side")
    if "train" not in splits:
        notes.append("there is no train: a data set for evaluation only")
    order = ("train", "query", "gallery", "multi_query", "test", "val")
    return {split: splits[split] for split in order if split in splits}, notes
