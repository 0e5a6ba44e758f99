"""Carves a query and a gallery out of records, by identity."""

import numpy as np

from data_prep.listing import Record
from reid_jax import keys

__all__ = ["carve"]


def carve(
    records: list[Record], num_identities: int, *, seed: int, draw: int, has_cameras: bool
) -> tuple[list[Record], list[Record], list[Record]]:
    """Takes identities out of the records and divides their images into query and gallery.

    The query has one random image per identity and camera, the gallery has the rest. Where that
    would leave a query without a match (fewer than two cameras with two images or more), one camera
    of the identity gives no query. Without cameras the query has one image per identity.

    Args:
        records: all with an identity above 0.
        num_identities: how many identities to take, of those with a match in another camera
            (without cameras: with a second image).
        seed: in [0, 2**64).
        draw: number of this use of the seed.
        has_cameras: whether the camera counts.

    Returns:
        The records of the other identities, the query and the gallery, each sorted; they depend on
        the records and the seed only.

    Raises:
        ValueError: if there are not enough such identities, or none is left.
    """
    records = sorted(records)
    blocks: dict[int, dict[int, list[int]]] = {}
    for index, record in enumerate(records):
        cameras = blocks.setdefault(record.identity, {})
        cameras.setdefault(record.camera if has_cameras else index, []).append(index)
    eligible = sorted(identity for identity, cameras in blocks.items() if len(cameras) > 1)
    need = "images from two cameras" if has_cameras else "two images"
    if num_identities > len(eligible):
        raise ValueError(
            f"{num_identities} identities were asked for, but only {len(eligible)} of "
            f"{len(blocks)} have {need}, which a query with a match needs; ask for fewer"
        )
    if num_identities == len(blocks):
        raise ValueError(
            f"{num_identities} identities were asked for, which is all of them: none is left to "
            "train on; ask for fewer"
        )
    words = keys.random_bits(
        seed, stream=keys.SPLIT, index=draw, count=len(eligible) + len(records)
    )
    order = np.argsort(words[: len(eligible)], kind="stable")
    chosen = [eligible[place] for place in order[:num_identities]]
    words = words[len(eligible) :]

    queries = set()
    for identity in chosen:
        cameras = blocks[identity]
        picks = {
            camera: min(rows, key=lambda row: (words[row], row)) for camera, rows in cameras.items()
        }
        if has_cameras:
            rich = [camera for camera, rows in cameras.items() if len(rows) > 1]
            if len(rich) < 2:
                del picks[rich[0] if rich else max(picks, key=lambda camera: words[picks[camera]])]
            queries.update(picks.values())
        else:
            queries.add(min(picks.values(), key=lambda row: (words[row], row)))
    taken = set(chosen)
    rest = [record for record in records if record.identity not in taken]
    query = [records[row] for row in sorted(queries)]
    gallery = [
        record
        for row, record in enumerate(records)
        if record.identity in taken and row not in queries
    ]
    return rest, query, gallery
