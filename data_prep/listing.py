"""What a raw data set holds: records by split, and everything found wrong with it."""

import dataclasses

from reid_jax.data.raw import RawTree
from reid_jax.data.records import Problem, Record, counts, market_records, numbered

__all__ = [
    "Listing",
    "Partition",
    "Problem",
    "Query",
    "Record",
    "counts",
    "market_layout",
    "market_records",
    "numbered",
    "of_queries",
    "official_problems",
    "without_files",
]


@dataclasses.dataclass(frozen=True)
class Partition:
    """Which identities, or which images, train and test, several times over.

    Attributes:
        pool: the split that holds the images of all roles.
        origin: where the division comes from: "official test sets", "random, seed 0".
        splits: for each split the content of its roles (`train`, `val`, `test`, `query`,
            `gallery`): identities, or names of files where a protocol fixes the images.
    """

    pool: str
    origin: str
    splits: list[dict[str, list[int] | list[str]]]


@dataclasses.dataclass(frozen=True)
class Query:
    """A part of an image to search for, and the images in which its object is known to be.

    Attributes:
        name: name of the query.
        file: the image.
        box: [x1, y1, x2, y2] in pixels of it.
        good, ok: files that show the object, clearly or more than a quarter of it.
        junk: files that show less of it, which count neither as right nor as wrong.
    """

    name: str
    file: str
    box: list[float]
    good: list[str]
    ok: list[str]
    junk: list[str]


@dataclasses.dataclass
class Listing:
    """What a raw data set holds.

    Attributes:
        splits: sorted records of each split; without query and gallery, identities for the test can
            be carved from train. `test` and `val` of an own data set are not divided yet: the first
            becomes query and gallery, the second val_query and val_gallery.
        has_cameras: whether the records have cameras.
        problems: what is wrong with names, rows and counts.
        official: whether the official counts match.
        unlabelled: distractor and junk records that go to the gallery of carved identities.
        identity_names: the name of identity i + 1, where identities had names; else None.
        camera_names: likewise of cameras.
        notes: one line each on what was left out or assumed.
        description: lines on the form that was found, of an own data set.
        partitions: where training and test are divided by partitions, by name; the splits are then
            pools, from which nothing is carved.
        queries: where parts of images are searched for; their files are in the splits.
    """

    splits: dict[str, list[Record]]
    has_cameras: bool = True
    problems: list[Problem] = dataclasses.field(default_factory=list)
    official: bool = False
    unlabelled: list[Record] = dataclasses.field(default_factory=list)
    identity_names: list[str] | None = None
    camera_names: list[str] | None = None
    notes: list[str] = dataclasses.field(default_factory=list)
    description: list[str] = dataclasses.field(default_factory=list)
    partitions: dict[str, Partition] = dataclasses.field(default_factory=dict)
    queries: list[Query] = dataclasses.field(default_factory=list)


def official_problems(
    splits: dict[str, list[Record]], official: dict[str, dict[str, int]]
) -> list[Problem]:
    """A problem for each count of a split that is not the official one.

    Args:
        splits: records of each split.
        official: the official counts of each split; those not named are not checked.
    """
    problems = []
    for split, expected in official.items():
        if split not in splits:
            continue
        got = counts(splits[split])
        problems += [
            Problem("count", f"{split}: {got[name]:,} {name}, the official set has {number:,}")
            for name, number in expected.items()
            if got[name] != number
        ]
    return problems


def market_layout(
    tree: RawTree, folders: dict[str, str], *, num_cameras: int | None
) -> tuple[dict[str, list[Record]], list[Problem]]:
    """Records of a tree with one folder of Market-style names per split.

    Args:
        tree: the raw files.
        folders: the folder of each split.
        num_cameras: the official number of cameras, or None if any will do.

    Returns:
        Sorted records of each split, and a problem for each name that does not parse.
    """
    splits, problems = {}, []
    for split, folder in folders.items():
        splits[split], wrong = market_records(tree.images(folder), num_cameras=num_cameras)
        problems += wrong
    return splits, problems


def without_files(queries: list[Query], bad: set[str]) -> list[Query]:
    """The queries without some files; left out where that takes their image or all they match."""
    kept = []
    for query in queries:
        lists = {
            kind: [file for file in getattr(query, kind) if file not in bad]
            for kind in ("good", "ok", "junk")
        }
        if query.file not in bad and (lists["good"] or lists["ok"]):
            kept.append(dataclasses.replace(query, **lists))
    return kept


def of_queries(hand_drawn: list[Record], query: list[Record]) -> list[Record]:
    """The hand-drawn boxes (`gt_bbox` holds those of all identities) of the query identities."""
    identities = {record.identity for record in query}
    return [record for record in hand_drawn if record.identity in identities]
