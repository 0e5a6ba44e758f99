"""What a person's own folder holds, and how it is told."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sized

from reid_jax import schema
from reid_jax.data.raw import IMAGE_SUFFIXES, RawTree, suffixes_of
from reid_jax.data.records import Problem, Record, told
from reid_jax.data.tables import TABLE_SUFFIXES

__all__ = ["OVERLAP", "Contents", "number", "rest_notes", "some", "special_notes"]

OVERLAP = "overlap"
# As names of identities they are read, and asked about.
DOUBTFUL = {"unknown", "unlabeled", "unlabelled", "junk", "distractor", "distractors", "background"}


@dataclasses.dataclass
class Contents:
    """What a person's own folder holds.

    Attributes:
        tree: the files from the root of the data set.
        form: which form it has, in words.
        splits: sorted records of each split: `train` alone where nothing is divided; else `train`,
            `query`, `gallery`, `multi_query`, and `test` and `val`, which are to be divided.
        has_cameras: whether the records have cameras.
        unlabelled: distractor and junk records of a folder that is not divided.
        identity_names: the name of identity i + 1, where identities have names; else None.
        camera_names: likewise of cameras.
        problems: names and rows that cannot be used.
        notes: one line each on what was assumed, merged or left out.
        used_table: path of the table that was read, if any.
    """

    tree: RawTree
    form: str
    splits: dict[str, list[Record]]
    has_cameras: bool
    unlabelled: list[Record] = dataclasses.field(default_factory=list)
    identity_names: list[str] | None = None
    camera_names: list[str] | None = None
    problems: list[Problem] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    used_table: str | None = None

    def lines(self) -> list[str]:
        """What was found: the form, the splits with their first identities, cameras, the rest."""
        lines = [f"form: {self.form}"]
        for split, records in self.splits.items():
            records = records + (self.unlabelled if split == "train" else [])
            lines.append(f"{split}: {told(records, self.identity_names, most=5)}")
        if self.has_cameras:
            records = [record for split in self.splits.values() for record in split]
            images = Counter(record.camera for record in records + self.unlabelled)
            first = [
                f"{self.camera_names[camera - 1] if self.camera_names else camera} ({times:,})"
                for camera, times in sorted(images.items())[:8]
            ]
            lines.append(
                f"{number(images, 'camera')}: {', '.join(first)}{', ...' * (len(images) > 8)}"
            )
        return lines + self.notes


def special_notes(contents: Contents) -> list[str]:
    """Notes on distractors, and on identities whose names say that they are none."""
    records = [record for part in contents.splits.values() for record in part] + contents.unlabelled
    notes = []
    distractors = sum(record.identity == schema.DISTRACTOR for record in records)
    if distractors:
        notes.append(
            f"{distractors:,} image{'s have' if distractors > 1 else ' has'} identity 0 and count "
            "as distractors, wrong for every query (Market-1501's rule); number people from 1 if 0 "
            "is one"
        )
    images = Counter(record.identity for record in records)
    notes += [
        f"the identity {name} ({images[identity]:,} images) is read as one identity like any "
        "other; if these images have none, call it -1 (junk)"
        for identity, name in enumerate(contents.identity_names or [], 1)
        if name.casefold() in DOUBTFUL and images[identity]
    ]
    return notes + _overlap_notes(contents)


def _overlap_notes(contents: Contents) -> list[str]:
    """A note where people of the training are also searched for."""
    trained, searched = (
        {r.identity for split in splits for r in contents.splits.get(split, []) if r.identity > 0}
        for splits in (("train",), ("test", "query", "gallery"))
    )
    both = sorted(trained & searched)
    if not both:
        return []
    names = [contents.identity_names[i - 1] if contents.identity_names else str(i) for i in both]
    return [
        f"{OVERLAP}: {len(both):,} identities are in train and in test, query or gallery: "
        f"{', '.join(names[:5])}{', ...' * (len(names) > 5)}; results on them mean nothing"
    ]


def rest_notes(tree: RawTree, path: str | None) -> list[str]:
    """Notes on the files of a tree that are no images; `path` is the table that was read."""
    rest = [file for file in tree.sizes if not file.lower().endswith(IMAGE_SUFFIXES)]
    rest = [file for file in rest if path is None or not (f"/{file}").endswith(f"/{path}")]
    unused = [file for file in rest if file.lower().endswith(TABLE_SUFFIXES)]
    notes = []
    if unused:
        notes.append(
            f"not read: {some(unused)}, which is not a table of these images with the columns "
            "file and identity"
        )
    others = [file for file in rest if not file.lower().endswith(TABLE_SUFFIXES)]
    if others:
        notes.append(f"not read: {number(others, 'file')} of other kinds ({suffixes_of(others)})")
    if tree.hidden:
        notes.append(f"not read: {number(tree.hidden, 'hidden file')} ({suffixes_of(tree.hidden)})")
    return notes + tree.notes


def number(things: Sized, what: str) -> str:
    """How many: '1 image', '1,200 images'."""
    return f"{len(things):,} {what}{'s' * (len(things) != 1)}"


def some(names: Iterable[str]) -> str:
    """The first five names, sorted, and how many more there are."""
    names = sorted(names)
    more = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
