"""The images of a run, opened by the names that its training and its protocol have for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from etils import epath

from experiments import build
from experiments.config import Config
from reid_jax import data
from reid_jax.embedder import Embedder
from reid_jax.keys import FEW_IMAGES, random_bits
from reid_jax.protocols import PROTOCOLS, Protocol
from reid_jax.training.trainer import trained_on

__all__ = [
    "Described",
    "Images",
    "by_camera",
    "data_source",
    "described",
    "digests",
    "few_of_each",
    "needed_datasets",
    "open_all",
    "open_images",
    "subsets",
    "tested_dataset",
    "training_datasets",
    "training_source",
    "validation",
    "validation_name",
]

DISTRACTORS = "distractors_500k"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Described:
    """What results say of the data.

    Attributes:
        data_source: 'official', 'custom' or 'stand-in'.
        tested: name of the data set that is tested on.
        trained_on: names of those that are trained on, joined by +; None: not known.
        camera_rule: 'off' where the data set was prepared with the rule turned off, else None.
    """

    data_source: str
    tested: str
    trained_on: str | None
    camera_rule: str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images(Described):
    """The images of a run.

    Attributes:
        train: what is trained on.
        subsets: what the protocol compares.
        validation: what `reid_jax.fit` takes to validate; None without such identities.
        people: whom thresholds are measured on, as `reid_jax.decide.measure` takes them: validation
            identities, or else those that the protocol compares.
    """

    train: data.Source
    subsets: dict[str, Any]
    validation: Callable[[Embedder], Mapping[str, float]] | None
    people: dict[str, Any]


def open_all(data_dir: epath.PathLike, config: Config, protocol: Protocol, *, split: int) -> Images:
    """Opens all images of a run, so that what is missing is known before any work.

    Raises:
        FileNotFoundError: if a data set is not prepared.
        ValueError: if one lacks what the training or the protocol needs.
    """
    found = validation(data_dir, config, split=split)
    tested = subsets(data_dir, config, protocol, split=split)
    return Images(
        train=training_source(data_dir, config, split=split),
        subsets=tested,
        validation=found and found[0].validation(found[1]),
        people={validation_name(need): kept for need, kept in found[1].items()}
        if found
        else tested,
        **dataclasses.asdict(described(data_dir, config, protocol)),
    )


def described(data_dir: epath.PathLike, config: Config, protocol: Protocol) -> Described:
    """Says where the data of a run comes from, by name, and the camera rule."""
    tested = tested_dataset(config)
    no_cameras = data.dataset_card(data_dir, tested).get("no_cameras")
    return Described(
        data_source=data_source(data_dir, config, protocol),
        tested=tested,
        trained_on="+".join(training_datasets(config)),
        camera_rule="off" if no_cameras else None,
    )


def digests(images: Images) -> dict[str, str]:
    """By name, what tells each list of a run from another: of its files, people and cameras."""
    named = {**images.people, **images.subsets, "train": images.train}
    return {
        name: trained_on(listed)["fingerprint"]
        for name, listed in sorted(named.items())
        if isinstance(listed, data.Source)
    }


# Names -----------------------------------------------------------------------------------------


def training_datasets(config: Config) -> tuple[str, ...]:
    """Names of the data sets that a run trains on: `data.joined`, or its own."""
    return config.data.joined or (config.dataset,)


def tested_dataset(config: Config) -> str:
    """Name of the data set that a run is tested on."""
    return config.evaluation.dataset or config.dataset


def needed_datasets(config: Config, protocol: Protocol) -> list[str]:
    """The data sets that a run and a protocol need."""
    names = [*training_datasets(config), config.dataset, tested_dataset(config)]
    names += [DISTRACTORS] * ("distractors" in protocol.needs)
    return list(dict.fromkeys(names))


def data_source(data_dir: epath.PathLike, config: Config, protocol: Protocol) -> str:
    """'official' if all data of a result is, else 'stand-in' if any of it is one, else 'custom'."""
    names = needed_datasets(config, protocol)
    sources = {data.dataset_card(data_dir, name)["data_source"] for name in names}
    return next(kind for kind in ("stand-in", "custom", "official") if kind in sources)


# Test ------------------------------------------------------------------------------------------


def subsets(
    data_dir: epath.PathLike,
    config: Config,
    protocol: Protocol,
    *,
    split: int,
    opened: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a protocol compares: a source for each of its needs, and the queries of Oxford5k.

    Args:
        data_dir: where the data set is prepared.
        config: says what is tested.
        protocol: with its needs.
        split: number of the split of the partition.
        opened: what other protocols compare of the same data, which is not opened again.

    Raises:
        ValueError: for a data set without what the protocol needs.
    """
    opened = opened or {}
    own = [name for name in protocol.needs if name not in ("distractors", "queries")]
    tested = tested_dataset(config)
    _require(protocol, own, data_dir, config, split)
    found = {name: opened[name] for name in protocol.needs if name in opened}
    new = [name for name in own if name not in opened]
    if tested != config.dataset:
        found |= {name: data.open_split(data_dir, tested, name) for name in new}
    elif new:
        found |= open_images(data_dir, config, new, split=split)
    if "queries" in protocol.needs and "queries" not in opened:
        found["queries"] = data.landmark_queries(data_dir, found["images"])
    if "distractors" in protocol.needs and "distractors" not in opened:
        found["distractors"] = data.open_split(data_dir, DISTRACTORS, "gallery")
    return found


def _require(
    protocol: Protocol, own: list[str], data_dir: epath.PathLike, config: Config, split: int
) -> None:
    """Says which protocols and partitions fit, where the data set lacks what one needs."""
    tested = tested_dataset(config)
    card = data.dataset_card(data_dir, tested)
    known = set(card["counts"])
    partitions = card.get("partitions") or {}
    partition = config.data.partition if tested == config.dataset else ""
    if partition:
        return  # What a partition lacks is said where it is opened.
    if all(name in known for name in own):
        return
    fitting = [
        name
        for name, other in PROTOCOLS.items()
        if set(other.needs) - {"distractors", "queries"} <= known
        and ("distractors" not in other.needs)
    ]
    advice = f"take --protocol {' or '.join(fitting)}" if fitting else ""
    if partitions:
        advice = (
            f"it is a pool that partitions divide: name one of {', '.join(partitions)} "
            "(evaluate.py --partition NAME, run.py --set data.partition=NAME), with the protocol "
            "single-shot-one-direction or another of one pool, or single-query for one that has "
            "query and gallery"
        )
    raise ValueError(
        f"{protocol.name} needs {' and '.join(own)}, and {tested} in {data_dir} has "
        f"{', '.join(sorted(known))}: {advice or 'prepare it with query and gallery'}"
    )


def validation(
    data_dir: epath.PathLike, config: Config, *, split: int
) -> tuple[Protocol, dict[str, data.Source]] | None:
    """The protocol for images of validation identities, and these; None if there are none."""
    if config.data.partition:
        known: Iterable[str] = data.open_partition(
            data_dir, config.dataset, config.data.partition, split
        )
    else:
        known = data.dataset_card(data_dir, config.dataset)["counts"]
    if not set(known) & {"val", "val_query"}:
        return None
    protocol = build.protocol(config)
    if protocol.needs != ("test",):
        protocol = build.protocol(config, "single-query")
    names = [validation_name(need) for need in protocol.needs]
    found = open_images(data_dir, config, names, split=split)
    return protocol, dict(zip(protocol.needs, found.values(), strict=True))


def validation_name(need: str) -> str:
    """The split of validation identities in the place of one of the test."""
    return "val" if need == "test" else f"val_{need}"


def open_images(
    data_dir: epath.PathLike, config: Config, names: Iterable[str], *, split: int = 0
) -> dict[str, data.Source]:
    """The images of a run's data set by name: `train`, `query`, `gallery`, `test`, ...

    A data set with a partition has `test` identities; as `query` and `gallery` they are
    divided by camera: the first asks, the second answers.

    Args:
        data_dir: where the data set is prepared.
        config: with `dataset` and `data.partition` ('' for a data set with one fixed split).
        names: which are wanted.
        split: number of the split of the partition.
    Raises:
        ValueError: if the data set lacks one, with those that it has.
    """
    partition = config.data.partition
    if not partition:
        return {name: data.open_split(data_dir, config.dataset, name) for name in names}
    card = data.dataset_card(data_dir, config.dataset)
    if not card.get("partitions"):
        raise ValueError(
            f"{config.dataset} in {data_dir} has no partitions, and the experiment has "
            f"data.partition={partition}: add --set data.partition= --set "
            "evaluation.protocol=single-query (for pairs of a data set without cameras also --set "
            "sampler.cross_camera=false)"
        )
    known = data.open_partition(data_dir, config.dataset, partition, split)
    for prefix, pool in (("", "test"), ("val_", "val")):
        if pool in known and not {prefix + "query", prefix + "gallery"} & known.keys():
            known |= by_camera(known[pool], prefix)
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(
            f"the partition {partition} of {config.dataset} has no "
            f"{' and no '.join(missing)}; it has {', '.join(sorted(known))}"
        )
    return {name: known[name] for name in names}


def by_camera(pool: data.Source, prefix: str) -> dict[str, data.Source]:
    """Query and gallery of a pool that two cameras saw; nothing of another one."""
    cameras = np.unique(pool.cameras) if pool.cameras is not None else ()
    if len(cameras) != 2:
        return {}
    return {
        prefix + name: pool.take(np.flatnonzero(pool.cameras == camera), f"{pool.split}/{name}")
        for name, camera in zip(("query", "gallery"), cameras, strict=True)
    }


# Training --------------------------------------------------------------------------------------


def training_source(data_dir: epath.PathLike, config: Config, *, split: int) -> data.Source:
    """The images that a run trains on: its data set's, or those of `data.joined`.

    With `data.images_per_camera` they are so many of each identity and camera, drawn anew for each
    split of the partition.

    Of joined data sets these are all images of the identities that both views saw, whatever is
    tested on them elsewhere; the run is evaluated on its own data set, which is not trained on.

    Args:
        data_dir: where the data sets are prepared.
        config: with `dataset`, `data.partition` and, for several data sets, `data.joined`.
        split: number of the split of the partition.
    Raises:
        ValueError: if a data set has no such images, or cannot be joined.
    """
    source = _all_training_images(data_dir, config, split)
    if not config.data.images_per_camera:
        return source
    rows = few_of_each(source, config.data.images_per_camera, seed=split)
    return source.take(rows, source.split)


def few_of_each(source: data.Source, count: int, *, seed: int) -> np.ndarray:
    """Rows of at most so many random images of each identity and camera, in the source's order."""
    cameras = np.zeros(len(source)) if source.cameras is None else source.cameras
    words = random_bits(seed, stream=FEW_IMAGES, index=0, count=len(source))
    kept: list[int] = []
    taken: dict[tuple[int, int], int] = {}
    for row in np.argsort(words, kind="stable"):
        key = int(source.identities[row]), int(cameras[row])
        taken[key] = taken.get(key, 0) + 1
        if taken[key] <= count:
            kept.append(int(row))
    return np.sort(np.array(kept, np.int64))


def _all_training_images(data_dir: epath.PathLike, config: Config, split: int) -> data.Source:
    joined = config.data.joined
    if not joined:
        return open_images(data_dir, config, ("train",), split=split)["train"]
    unknown = [name for name in joined if name not in JOINED]
    if unknown or config.dataset in joined:
        raise ValueError(
            f"data.joined={tuple(joined)}; known: {', '.join(JOINED)}, without the data set "
            f"{config.dataset} that is tested on"
        )
    source = data.join([part for name in joined for part in JOINED[name](data_dir)], "joined")
    sides = [np.unique(source.identities[source.cameras == view]) for view in (1, 2)]
    people = np.intersect1d(*sides)
    kept = np.isin(source.identities, people[people > 0])
    return source.take(np.flatnonzero(kept), "joined")


def _cuhk03(data_dir: epath.PathLike) -> list[data.Source]:
    """The detector's boxes of all identities of the first three groups."""
    return list(data.open_partition(data_dir, "cuhk03", "detected-1160-100-100", 0).values())


def _market1501(data_dir: epath.PathLike) -> list[data.Source]:
    """Training and gallery images; cameras 1 to 3 are the first view, 4 to 6 the second."""
    parts = [data.open_split(data_dir, "market1501", split) for split in ("train", "gallery")]
    return [dataclasses.replace(p, cameras=np.where(p.cameras <= 3, 1, 2)) for p in parts]


JOINED = {"cuhk03": _cuhk03, "market1501": _market1501}
"""`JOINED[dataset](data_dir) -> sources` of two views"""
