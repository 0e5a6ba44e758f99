"""Images with their identity and camera, and what is wrong with them."""

import dataclasses
import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Mapping

from reid_jax import schema

__all__ = [
    "CAUSES",
    "Problem",
    "Record",
    "clean_name",
    "counts",
    "identity_of",
    "listed",
    "market_records",
    "numbered",
    "told",
]

# kind: (what is wrong, what to do)
CAUSES = {
    "name": (
        "name that does not parse",
        "names begin with identity, _c and camera, as in 0002_c1s1_000451_03.jpg; rename these "
        "files; other names need identity sub-folders or a CSV file (data set folder)",
    ),
    "number": (
        "number that does not fit in 64 bits",
        "rename these files; or name identities in sub-folders or in a CSV file, where any name "
        "will do",
    ),
    "identity": (
        "identity that says nothing",
        "a missing value is no identity: give the name of the identity, or -1 for images that "
        "count as junk",
    ),
    "depth": (
        "image that is not directly in an identity sub-folder",
        "move these files into the folder of their identity, which lies in the data set's folder "
        "or in train, val, test, query or gallery; or write a CSV file "
        "file,identity[,camera][,split]",
    ),
    "row": ("row of the CSV file that cannot be used", "correct or delete these rows"),
    "missing": (
        "file of the CSV that is not there",
        "paths are relative to the CSV file, or to the folder that was given; correct or delete "
        "these rows, add the files, or give the folder that holds both",
    ),
}
MOST = 5  # of one cause are listed
# What spread sheets, pandas and R write where nothing is known.
MISSING = frozenset({"", "nan", "<na>", "n/a", "#n/a", "na", "null", "none"})
LARGEST = 2**63 - 1


@dataclasses.dataclass(frozen=True, order=True)
class Record:
    """One image: its path from the raw root, its identity and its camera (-1 without)."""

    file: str
    identity: int
    camera: int


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing wrong with a raw data set.

    Attributes:
        kind: what sort of problem, a key of `CAUSES` here or of `FIXES` in `data_prep.doctor`.
        what: the file, or what was got and expected.
        file: the image that `--skip_bad_images` leaves out; None if that is no way out.
    """

    kind: str
    what: str
    file: str | None = None


def listed(
    problems: Iterable[Problem],
    causes: Mapping[str, tuple[str, str]] = CAUSES,
    *,
    whole: Container[str] = (),
) -> str:
    """All problems by cause: each with its number, what to do, and the first five.

    Args:
        problems: what is wrong.
        causes: what is wrong, and what to do, for each kind.
        whole: kinds of which each problem is a cause of its own, which are listed whole.

    Returns:
        Lines, in the order of the causes.
    """
    problems = list(problems)
    lines = []
    for kind, (heading, fix) in causes.items():
        found = [problem.what for problem in problems if problem.kind == kind]
        if found:
            lines += [f"  {heading} ({len(found):,}); to fix it: {fix}"]
            most = len(found) if kind in whole else MOST
            lines += [f"    {what}" for what in found[:most]]
            lines += [f"    ... and {len(found) - most:,} more"] * (len(found) > most)
    return "\n".join(lines)


def clean_name(text: str) -> str:
    """A name in Unicode's composed form, so that equal names are equal, without outer blanks."""
    return unicodedata.normalize("NFC", text.strip())


def identity_of(text: str) -> str | None:
    """The identity that a cell of a table or the name of a sub-folder means.

    Args:
        text: as it stands there.

    Returns:
        Its name: '-1' is junk; whole numbers lose the '.0' that pandas writes. None where it says
        nothing: empty, nan, or a negative number other than -1.
    """
    name = clean_name(text)
    if re.fullmatch(r"[+-]?\d+\.0*", name):
        name = name.split(".")[0]
    if name.casefold() in MISSING:
        return None
    if re.fullmatch(r"-\d+", name):
        return {"1": str(schema.JUNK), "": "0"}.get(name[1:].lstrip("0"))
    return name


def market_records(
    files: Iterable[str], *, num_cameras: int | None = None, first_camera: int = 1
) -> tuple[list[Record], list[Problem]]:
    """Records of images with names like Market-1501's: `0002_c1s1_000451_03.jpg`.

    Args:
        files: paths whose last part begins with identity, `_c` and camera.
        num_cameras: the official number of cameras, or None if any will do.
        first_camera: the lowest number of a camera, 1 or 0.

    Returns:
        Sorted records, and a problem for each name that does not parse.
    """
    records, problems = [], []
    for file in sorted(files):
        name = file.rsplit("/", 1)[-1]
        match = re.match(r"(-1|\d+)_c(\d+)", name)
        if not match or int(match[2]) < first_camera:
            problems.append(Problem("name", file, file))
        elif max(int(match[1]), int(match[2])) > LARGEST:
            problems.append(Problem("number", file, file))
        elif num_cameras is not None and int(match[2]) > num_cameras:
            problems.append(Problem("camera", f"{file} (cameras are 1 to {num_cameras})", file))
        else:
            records.append(Record(file, int(match[1]), int(match[2])))
    return records, problems


def numbered(names: Iterable[str]) -> dict[str, int]:
    """Numbers from 1 for names, in sorted order (by value where all are integers).

    '-1' keeps its meaning, junk.
    """
    names = set(names) - {str(schema.JUNK)}
    if all(re.fullmatch(r"-?\d{1,300}", name) for name in names):
        ordered = sorted(names, key=lambda name: (int(name), name))
    else:
        ordered = sorted(names)
    return {str(schema.JUNK): schema.JUNK} | {
        name: number for number, name in enumerate(ordered, 1)
    }


def counts(records: Iterable[Record]) -> dict[str, int]:
    """Numbers of images, of identities above 0, of distractors and of junk images."""
    identities = [record.identity for record in records]
    return {
        "images": len(identities),
        "identities": len({identity for identity in identities if identity > 0}),
        "distractors": identities.count(schema.DISTRACTOR),
        "junk": identities.count(schema.JUNK),
    }


def told(records: Iterable[Record], names: list[str] | None = None, *, most: int = 0) -> str:
    """How many images of how many identities, and how many distractors and junk images.

    Args:
        records: what to tell of.
        names: of identity i + 1, or None where identities are numbers.
        most: how many identities to name, each with its number of images.

    Returns:
        One line: '6 images of 2 identities, 1 distractor: anna (3), bob (2)'.
    """
    records = list(records)
    number = counts(records)
    line = f"{number['images']:,} image{'s' * (number['images'] != 1)} of "
    line += f"{number['identities']:,} identit{'y' if number['identities'] == 1 else 'ies'}"
    if number["distractors"]:
        line += f", {number['distractors']:,} distractor{'s' * (number['distractors'] > 1)}"
    if number["junk"]:
        line += f", {number['junk']:,} junk"
    images = Counter(record.identity for record in records if record.identity > 0)
    first = sorted(images)[:most]
    if first:
        line += ": " + ", ".join(f"{names[i - 1] if names else i} ({images[i]:,})" for i in first)
        line += ", ..." * (len(images) > most)
    return line
