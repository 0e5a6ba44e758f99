"""Partitions: which identities train and which test, drawn at random and described."""

import hashlib
import json
from collections.abc import Iterable

import numpy as np

from data_prep.listing import Partition, Record
from reid_jax import keys

__all__ = ["fingerprint", "random_identity_splits", "random_partitions", "summary"]


def random_identity_splits(
    identities: Iterable[int], sizes: dict[str, int], *, num_splits: int, seed: int
) -> list[dict[str, list[int]]]:
    """Divides identities at random, several times over.

    Args:
        identities: which to divide; their order does not matter.
        sizes: how many identities each role takes, such as {"train": 316, "test": 316}.
        num_splits: how many divisions; the first of them are the same for any number.
        seed: in [0, 2**64).

    Returns:
        For each split the sorted identities of each role, disjoint; the same on any machine.

    Raises:
        ValueError: if the roles take another number of identities than there are.
    """
    identities = sorted(set(identities))
    if sum(sizes.values()) != len(identities) or min(sizes.values()) < 1:
        listed = ", ".join(f"{number} {role}" for role, number in sizes.items())
        raise ValueError(
            f"the roles take {listed}, {sum(sizes.values())} in all, but there are "
            f"{len(identities)} identities; expected roles of at least 1 that take all of them"
        )
    splits = []
    for index in range(num_splits):
        words = keys.random_bits(seed, stream=keys.PARTITION, index=index, count=len(identities))
        order = np.argsort(words, kind="stable").tolist()
        split, first = {}, 0
        for role, number in sizes.items():
            split[role] = sorted(identities[place] for place in order[first : first + number])
            first += number
        splits.append(split)
    return splits


def random_partitions(
    pool: str, records: Iterable[Record], sizes: dict[str, tuple[int, int, int]], *, seed: int = 0
) -> dict[str, Partition]:
    """Random partitions of a pool, the same on any machine.

    Args:
        pool: name of the pool.
        records: what it holds.
        sizes: by name of the partition the numbers of training and of test identities, and of
            splits; where the pool has another number of identities, they are in that proportion
            (at least 2 train and 1 tests).
        seed: in [0, 2**64).

    Returns:
        The partitions by name; without any split where there are fewer than 3 identities.
    """
    identities = {record.identity for record in records}
    partitions = {}
    for name, (num_train, num_test, num_splits) in sizes.items():
        whole = num_train + num_test
        share = (2 * len(identities) * num_train + whole) // (2 * whole)
        share = min(max(share, 2), len(identities) - 1)
        splits = []
        if len(identities) > 2:
            parts = {"train": share, "test": len(identities) - share}
            splits = random_identity_splits(identities, parts, num_splits=num_splits, seed=seed)
        partitions[name] = Partition(pool, f"random, seed {seed}", splits)
    return partitions


def fingerprint(partition: Partition) -> str:
    """Tells partitions apart: 16 hexadecimal digits of the pool and of each role's content."""
    content = [
        {role: sorted(members) for role, members in split.items()} for split in partition.splits
    ]
    described = json.dumps([partition.pool, content], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def summary(partition: Partition) -> str:
    """One line: how many splits, what each role holds, the origin and the fingerprint."""
    roles = []
    for role, members in partition.splits[0].items():
        sizes = [len(split[role]) for split in partition.splits]
        unit = "images" if isinstance(members[0], str) else "identities"
        most = f" to {max(sizes):,}" if max(sizes) > min(sizes) else ""
        roles.append(f"{role} {min(sizes):,}{most} {unit}")
    number = len(partition.splits)
    return (
        f"{number} split{'s' * (number > 1)} of {partition.pool}: {', '.join(roles)} "
        f"({partition.origin}; fingerprint {fingerprint(partition)})"
    )
