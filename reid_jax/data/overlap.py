"""Whether people or files of a test were trained on: digests of both, kept with a training."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from reid_jax import schema
from reid_jax.data.source import Source

__all__ = ["Overlap", "fingerprint_of_training", "overlap"]


@dataclasses.dataclass(frozen=True)
class Overlap:
    """What a test shares with a training.

    Attributes:
        num_people: identities of the test that were trained on.
        num_test_people: identities of the test.
        num_files: images of the test that were trained on, whatever they are called.
        examples: the first of each, for a message.
    """

    num_people: int
    num_test_people: int
    num_files: int
    examples: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.num_people or self.num_files)

    def as_json(self) -> dict[str, int]:
        """The numbers, as results hold them."""
        return {
            "people": self.num_people,
            "test_people": self.num_test_people,
            "files": self.num_files,
        }

    def message(self) -> str:
        """One sentence with the numbers and examples."""
        return (
            f"{self.num_people:,} of {self.num_test_people:,} test identities and "
            f"{self.num_files:,} test images were trained on, such as {', '.join(self.examples)}"
        )


def fingerprint_of_training(source: Source) -> dict[str, str]:
    """Digests of the people and the files that a training sees, as its record keeps them.

    A person is the name of an identity in a data set of a name; a file is its content. Distractors
    and junk have no identity and do not count.

    Args:
        source: the training images; each is read once.

    Returns:
        `people` and `files`, each the sorted 64-bit digests in base64.
    """
    people, files = _digests(source)
    return {"people": _packed(people), "files": _packed(files)}


def overlap(records: Iterable[Mapping[str, Any]], sources: Iterable[Source]) -> Overlap:
    """Compares what was trained on with what is tested.

    Args:
        records: of `fingerprint_of_training`, one for each training that the variables went
            through.
        sources: of the test.

    Returns:
        Overlap.
    """
    known = list(records)
    if not known:
        return Overlap(0, 0, 0, ())  # The images are not read for nothing; some have no pixels.
    people = _union(record["people"] for record in known if "people" in record)
    files = _union(record["files"] for record in known if "files" in record)
    test_people: set[int] = set()
    shared_people: dict[int, str] = {}
    shared_files: dict[int, str] = {}
    for source in dict.fromkeys(sources):
        rows = _labelled(source)
        of_people, of_files = _digests(source)
        test_people |= set(of_people.tolist())
        for digests, trained, shared, name in (
            (of_people, people, shared_people, lambda row, s=source: _person(s, row)),
            (of_files, files, shared_files, lambda row, s=source: s.files[row]),
        ):
            for place in np.flatnonzero(np.isin(digests, trained)):
                shared.setdefault(int(digests[place]), name(int(rows[place])))
    examples = [*list(shared_people.values())[:1], *list(shared_files.values())[:1]]
    return Overlap(len(shared_people), len(test_people), len(shared_files), tuple(examples))


def _labelled(source: Source) -> np.ndarray:
    return np.flatnonzero(source.identities > schema.DISTRACTOR)


def _person(source: Source, row: int) -> str:
    name = source.identity_name(row)
    # The names of joined data sets begin with theirs.
    return name if "+" in source.dataset else f"{source.dataset}/{name}"


@functools.lru_cache(maxsize=16)
def _digests(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """[M] uint64 each, of the person and the content of every row that has an identity."""
    rows = _labelled(source).tolist()
    people = [_digest(_person(source, row).encode()) for row in rows]
    files = [_digest(source[row]) for row in rows]
    return np.array(people, np.uint64), np.array(files, np.uint64)


def _digest(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _packed(digests: np.ndarray) -> str:
    return base64.b64encode(np.unique(digests).astype("<u8").tobytes()).decode()


def _union(packed: Iterable[str]) -> np.ndarray:
    parts = [np.frombuffer(base64.b64decode(text), "<u8") for text in packed]
    return np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.uint64)
