"""Carves a query and a gallery out of records, by identity."""

from collections.abc import Iterable

import numpy as np

from reid_jax.data.carving import carve_rows, divide_rows
from reid_jax.data.records import Record

__all__ = ["carve", "divide"]


def carve(
    records: list[Record], num_identities: int, *, seed: int, draw: int, has_cameras: bool
) -> tuple[list[Record], list[Record], list[Record]]:
    """Takes identities out of the records and divides their images into query and gallery.

    Args:
        records: all with an identity above 0.
        num_identities: how many identities to take, of those with a match in another camera
            (without cameras: with a second image).
        seed: in [0, 2**64).
        draw: number of this use of the seed.
        has_cameras: whether the camera counts.

    Returns:
        The records of the other identities, the query and the gallery, each sorted, as
        `reid_jax.data.carve` divides them; they depend on the records and the seed only.

    Raises:
        ValueError: if there are not enough such identities, or none is left.
    """
    records = sorted(records)
    parts = carve_rows(*_columns(records, has_cameras), num_identities, seed=seed, draw=draw)
    rest, query, gallery = (_taken(records, rows) for rows in parts)
    return rest, query, gallery


def divide(
    records: list[Record], *, seed: int, draw: int, has_cameras: bool
) -> tuple[list[Record], list[Record]]:
    """Divides the records of a test side into query and gallery.

    Args:
        records: of the test side, with distractors and junk.
        seed: in [0, 2**64).
        draw: number of this use of the seed.
        has_cameras: whether the camera counts.

    Returns:
        The query, of every identity with a match, and the gallery, each sorted.

    Raises:
        ValueError: if no identity has a match.
    """
    records = sorted(records)
    parts = divide_rows(*_columns(records, has_cameras), seed=seed, draw=draw)
    query, gallery = (_taken(records, rows) for rows in parts)
    return query, gallery


def _columns(records: list[Record], has_cameras: bool) -> tuple[np.ndarray, np.ndarray | None]:
    identities = np.array([record.identity for record in records], np.int64)
    cameras = np.array([record.camera for record in records], np.int64)
    return identities, cameras if has_cameras else None


def _taken(records: list[Record], rows: Iterable[int]) -> list[Record]:
    return [records[row] for row in rows]
