"""Partitions of a prepared data set: which of its images train and which test."""

import numpy as np
from etils import epath

from reid_jax.data.source import Source, dataset_card, open_split

__all__ = ["open_partition"]


def open_partition(
    data_dir: epath.PathLike, dataset: str, partition: str, index: int
) -> dict[str, Source]:
    """Opens one split of a partition of a prepared data set.

    Args:
        data_dir: where data sets are prepared; may be a bucket.
        dataset: name of the data set.
        partition: its name, such as "detected-1367-100".
        index: number of the split, from 0.

    Returns:
        For each role (`train`, `val`, `test`, or `train`, `query`, `gallery`) its images, in the
        order of the file names. Source.split is "<partition>/<index>/<role>".

    Raises:
        FileNotFoundError: if the data set is not prepared there.
        ValueError: if it has no such partition or the partition no such split, or is damaged.
    """
    card = dataset_card(data_dir, dataset)
    known = card.get("partitions", {})
    if not known:
        raise ValueError(
            f"{dataset} in {data_dir} has no partitions; its splits are "
            f"{', '.join(sorted(card['counts']))}, which open_split opens"
        )
    if partition not in known:
        raise ValueError(
            f"{dataset} in {data_dir} has no partition {partition!r}; its partitions are "
            f"{', '.join(known)}"
        )
    splits = known[partition]["splits"]
    if not 0 <= index < len(splits):
        raise ValueError(
            f"{dataset} in {data_dir}: split {index} of partition {partition!r}, which has "
            f"{len(splits)}: expected 0 to {len(splits) - 1}"
        )
    pool = open_split(data_dir, dataset, known[partition]["pool"])
    sources = {}
    for role, members in splits[index].items():
        named = isinstance(members[0], str)
        wanted = np.isin(np.array(pool.files) if named else pool.identities, members)
        sources[role] = pool.take(np.flatnonzero(wanted), f"{partition}/{index}/{role}")
    return sources
