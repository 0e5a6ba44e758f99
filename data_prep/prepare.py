"""Prepares a raw data set for training, and examines it first.

    python data_prep/prepare.py DATASET --raw_dir DIR --data_dir DIR [--skip_bad_images]
        [--num_test_identities N] [--num_val_identities N] [--seed N] [--partition_file FILE]
    python data_prep/prepare.py folder --raw_dir DIR --data_dir DIR [--name NAME] [--no_cameras] ...

DATASET is one of market1501, distractors_500k, dukemtmc, cuhk03, cuhk01, viper, pku_reid,
oxford5k, landmarks (labelled photographs, a sub-folder for each landmark) and folder (an own data
set). DIR is the official folder or zip file, or for `folder` also the table. All that is wrong is
listed at once, each with its fix.

An own data set has identity sub-folders, or a CSV or TSV file `file,identity[,camera][,split]`, or
images with names like Market-1501's. Sub-folders and names may also lie in folders of splits
(train, val, test, query or probe, gallery; bounding_box_train, image_query and the like); a test
side without a query is divided into query and gallery. In sub-folders and tables the identity -1 is
junk, and any other name is an identity. What was found is printed. The data set is called NAME
(else like the folder) in every later command; --no_cameras leaves cameras out, and with them the
rule that a match is from another camera.

cuhk03, cuhk01, viper and pku_reid are pools of images (`detected` and `labeled`; `images`), divided
into training and test identities by partitions: those that come with cuhk03, else random ones, the
same everywhere, and `imported`, which is that of FILE. For cuhk03 DIR holds `cuhk-03.mat`, and the
two files cuhk03_new_protocol_config_*.mat of the 767/700 protocol, where that is wanted.

oxford5k is one pool of images with queries; DIR holds the unpacked images and ground truth.
landmarks is for training only: photographs in one sub-folder per landmark.
"""

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator

if __package__ in (None, ""):
    # Run as a script: the repository takes the place of this folder on the path.
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from etils import epath

from data_prep import (
    cuhk01,
    cuhk03,
    distractors_500k,
    doctor,
    dukemtmc,
    folder,
    landmarks,
    market1501,
    oxford5k,
    partition_files,
    pku_reid,
    viper,
)
from data_prep.examination import examine
from data_prep.listing import Listing, Problem, Record, counts
from data_prep.partitions import fingerprint, summary
from data_prep.raw import STAND_IN, RawTree, open_raw
from reid_jax.data import dataset_card
from reid_jax.data.records import told
from reid_jax.data.tables import TABLE_SUFFIXES

__all__ = ["DATASETS", "main", "prepare"]

DATASETS = {
    "market1501": market1501,
    "distractors_500k": distractors_500k,
    "dukemtmc": dukemtmc,
    "cuhk03": cuhk03,
    "cuhk01": cuhk01,
    "viper": viper,
    "pku_reid": pku_reid,
    "oxford5k": oxford5k,
    "landmarks": landmarks,
    "folder": folder,
}


def prepare(
    dataset: str,
    raw_dir: str | os.PathLike,
    data_dir: epath.PathLike,
    *,
    skip_bad_images: bool = False,
    num_test_identities: int | None = None,
    num_val_identities: int = 0,
    seed: int = 0,
    partition_file: str | os.PathLike | None = None,
    name: str | None = None,
    no_cameras: bool = False,
    progress: bool = True,
) -> dict:
    """Examines a raw data set and writes it as a TFDS data set.

    Args:
        dataset: a key of `DATASETS`.
        raw_dir: the official folder or zip file; for `folder` also a table.
        data_dir: where data sets are prepared; may be a bucket.
        skip_bad_images: leave bad images out, with a count, where otherwise there is an error.
        num_test_identities: identities to carve query and gallery from; `folder` needs it unless it
            has them (or a test side), and 0 makes a data set for training only.
        num_val_identities: identities to carve val_query and val_gallery from, out of train.
        seed: of the carving.
        partition_file: a file of which identities train and which test (see `partition_files`),
            which becomes the partition `imported`; for data sets that partitions divide.
        name: what an own data set (`folder`) is called; by default like its folder.
        no_cameras: leave the cameras of an own data set out: matches are from any camera.
        progress: show progress bars.

    Returns:
        The card of the data set, as `reid_jax.data.dataset_card` returns it.

    Raises:
        FileNotFoundError: if there is nothing at raw_dir.
        ValueError: if the raw data set is not usable, with all that is wrong; or if another
            preparation of it is there already.
        OSError: if the disk is full.
    """
    if dataset not in DATASETS:
        raise ValueError(f"unknown data set {dataset!r}; known are {', '.join(DATASETS)}")
    name = _name(dataset, name, raw_dir)
    if no_cameras and dataset != "folder":
        raise ValueError(
            f"--no_cameras is for own data sets (folder); the protocol of {dataset} has cameras"
        )
    data_dir = epath.Path(data_dir).expanduser()
    options = {
        "num_test_identities": num_test_identities,
        "num_val_identities": num_val_identities,
        "seed": seed if num_test_identities or num_val_identities else None,
    }
    tree, listing, stand_in = _read(dataset, raw_dir, options, seed, no_cameras)
    if partition_file is not None:
        _import_partition(dataset, listing, partition_file)
    inputs = _digest(
        tree,
        listing,
        options
        | {"skip_bad_images": skip_bad_images, "stand_in": stand_in}
        | ({"no_cameras": True} if no_cameras else {}),
    )
    with locked(data_dir, name):
        prepared = _prepared(data_dir, name, inputs)
        if prepared is not None:
            print(f"{name} is already prepared in {data_dir}, from the same files and options")
            _print_next(dataset, prepared, data_dir)
            return prepared
        skipped = examine(
            name,
            tree,
            listing,
            options,
            skip_bad_images=skip_bad_images,
            progress=progress,
            hint=functools.partial(_hint, dataset),
        )
        source = "official" if listing.official and not skipped else "custom"
        card = {
            "dataset": name,
            "data_source": "stand-in" if stand_in is not None else source,
            "has_cameras": listing.has_cameras,
            "no_cameras": no_cameras,
            "counts": {split: counts(records) for split, records in listing.splits.items()},
            "skipped": skipped,
            "split": options,
            "stand_in": stand_in,
            "identity_names": listing.identity_names,
            "camera_names": listing.camera_names,
            "identity_digests": {
                split: _identity_digest(records, listing.identity_names)
                for split, records in listing.splits.items()
            },
            "partitions": {
                name: {"fingerprint": fingerprint(part), **dataclasses.asdict(part)}
                for name, part in listing.partitions.items()
            },
            "queries": [dataclasses.asdict(query) for query in listing.queries],
            "inputs": inputs,
        }
        builder = DATASETS[dataset].Builder
        if dataset == "folder":
            builder = folder.builder_named(name)
        _write(builder, data_dir, tree, listing, card, progress)
    for note in listing.notes:
        print(note)
    for split, records in listing.splits.items():
        print(f"{split}: {told(records)}")
    for partition, part in listing.partitions.items():
        print(f"{partition}: {summary(part)}")
    if skipped:
        print(f"skipped {sum(map(len, skipped.values())):,} bad images (listed in the card)")
    print(f"{name} ({card['data_source']}) is prepared in {data_dir}")
    _print_next(dataset, card, data_dir)
    return card


def _name(dataset: str, name: str | None, raw_dir: str | os.PathLike) -> str:
    """What the data set is called."""
    if dataset != "folder":
        if name not in (None, dataset):
            raise ValueError(f"--name is for own data sets (folder); {dataset} has its name")
        return dataset
    if name is not None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            wanted = folder.data_set_name(name)
            raise ValueError(
                f"--name is {name!r}; expected a small letter, then small letters, digits and _"
                + (f", such as {wanted}" if wanted else "")
            )
        given = "--name is"
    else:
        path = pathlib.Path(raw_dir).expanduser().resolve()
        if path.suffix.lower() in TABLE_SUFFIXES:
            path = path.parent
        called = path.stem if path.suffix.lower() == ".zip" else path.name
        name = folder.data_set_name(called)
        if not name:
            raise ValueError(
                f"the name of the folder {called!r} has no letter from a to z to call the data set "
                "by; give --name NAME"
            )
        given = f"the folder {called!r} calls the data set"
    if name in DATASETS and name != "folder":
        raise ValueError(
            f"{given} {name}, which is the name of an official data set; give another --name"
        )
    return name


def _print_next(dataset: str, card: dict, data_dir: epath.Path) -> None:
    """Prints the command that uses an own data set, or a partition of one's own."""
    if "imported" in card["partitions"]:
        roles = card["partitions"]["imported"]["splits"][0]
        protocol = "single-query" if "query" in roles else "single-shot-one-direction"
        print(
            f"next: python experiments/run.py --exp=csn_cuhk03 --dataset {card['dataset']} "
            f"--data_dir {data_dir} --set data.partition=imported --set "
            f"evaluation.protocol={protocol} (or another experiment)"
        )
    if dataset != "folder":
        return
    name = card["dataset"]
    if "train" in card["counts"]:
        print(
            "next: python experiments/run.py --exp=batch_contrastive_market "
            f"--dataset {name} --data_dir {data_dir}"
        )
    else:
        print(f"next: python experiments/evaluate.py --workdir RUN --dataset {name}")


def _identity_digest(records: list[Record], names: list[str] | None) -> str:
    """Tells sets of identities apart, by name."""
    identities = sorted({record.identity for record in records if record.identity > 0})
    described = json.dumps([names[i - 1] if names else str(i) for i in identities])
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def _read(
    dataset: str, raw_dir: str | os.PathLike, options: dict, seed: int, no_cameras: bool
) -> tuple[RawTree, Listing, dict | None]:
    for name in ("num_test_identities", "num_val_identities"):
        if (options[name] or 0) < 0:
            raise ValueError(f"--{name} is {options[name]}; expected 0 or more")
    if options["seed"] is not None and not 0 <= options["seed"] < 2**64:
        raise ValueError(f"--seed is {options['seed']}; expected an integer from 0 to 2**64 - 1")
    path = pathlib.Path(raw_dir).expanduser()
    if dataset != "folder":
        raw = open_raw(raw_dir)
        tree, listing = DATASETS[dataset].read(raw)
        listing.notes += raw.notes
    elif path.suffix.lower() in TABLE_SUFFIXES and path.is_file():
        tree, listing = folder.read(
            open_raw(path.parent), csv_file=path.name, use_cameras=not no_cameras
        )
    else:
        tree, listing = folder.read(open_raw(raw_dir), use_cameras=not no_cameras)
    for line in listing.description:
        print(line)
    sides = [side for side in ("test", "val") if side in listing.splits]
    if sides:
        options["seed"] = seed

    asked = options["num_test_identities"]
    if listing.partitions:
        for name in ("num_test_identities", "num_val_identities"):
            if options[name]:
                raise ValueError(
                    f"--{name} is {options[name]}, but {dataset} divides its identities by "
                    f"partitions ({', '.join(listing.partitions)}); leave it out"
                )
    elif "train" not in listing.splits:
        if asked or options["num_val_identities"]:
            raise ValueError(f"{dataset} has no train split to carve identities from")
    elif "val" in sides and options["num_val_identities"]:
        raise ValueError(
            f"--num_val_identities is {options['num_val_identities']}, but the data set has "
            "validation images of its own (val); leave it out"
        )
    elif "test" in sides:
        if asked:
            raise ValueError(
                f"--num_test_identities is {asked}, but the data set has a test side of its own, "
                "from which query and gallery are carved; leave it out"
            )
    elif "query" in listing.splits:
        if asked:
            raise ValueError(
                f"--num_test_identities is {asked}, but the data set has a query and a gallery of "
                "its own; leave it out"
            )
    elif asked is None and dataset == "folder":
        found = counts(listing.splits["train"])["identities"]
        problems = f"\n{doctor.report(listing.problems)}" if listing.problems else ""
        raise ValueError(
            f"{tree.where} has {found} identities and no query or gallery: give "
            f"--num_test_identities N to carve them (0: a data set for training only){problems}"
        )
    return tree, listing, _stand_in(tree, path)


def _import_partition(dataset: str, listing: Listing, path: str | os.PathLike) -> None:
    if not listing.partitions:
        raise ValueError(
            f"--partition_file is {os.fspath(path)}, but {dataset} is not divided by partitions; "
            "leave it out"
        )
    imported, problems = partition_files.read_partition(path, listing.splits)
    listing.partitions["imported"] = imported
    listing.problems += problems


def _stand_in(tree: RawTree, path: pathlib.Path) -> dict | None:
    # One folder of a stand-in, prepared as an own data set, is still a stand-in.
    above = path.resolve().parent / STAND_IN
    if not tree.is_stand_in and not above.is_file():
        return None
    try:
        return json.loads(tree.read(STAND_IN) if tree.is_stand_in else above.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"{STAND_IN} of {tree.where} is unreadable ({error}); render the stand-in again"
        ) from error


def _digest(tree: RawTree, listing: Listing, options: dict) -> str:
    """Tells raw data sets apart by names, sizes, identities and cameras, and by the options."""
    records = [
        (split, record.file, record.identity, record.camera, tree.sizes[record.file])
        for split, records in {**listing.splits, "": listing.unlabelled}.items()
        for record in records
    ]
    problems = [problem.what for problem in listing.problems]
    described = [records, problems, options]
    if listing.description:
        # Of an own data set the same numbers may stand for other names.
        described.append([listing.identity_names, listing.camera_names])
    if listing.partitions:
        described.append({name: fingerprint(part) for name, part in listing.partitions.items()})
    if listing.queries:
        described.append([dataclasses.asdict(query) for query in listing.queries])
    described = json.dumps(described, sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


@contextlib.contextmanager
def locked(data_dir: epath.PathLike, dataset: str) -> Iterator[None]:
    """Lets one process at a time write a data set below a directory; a bucket has no locks."""
    # Two that start together would each take the other's unfinished files for leftovers.
    if "://" in os.fspath(data_dir):
        yield
        return
    import fcntl

    epath.Path(data_dir).mkdir(parents=True, exist_ok=True)
    with open(os.path.join(data_dir, f".{dataset}.lock"), "w") as lock:
        # Some network file systems have none either.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prepared(data_dir: epath.PathLike, dataset: str, inputs: str) -> dict | None:
    try:
        card = dataset_card(data_dir, dataset)
    except FileNotFoundError:
        return None
    if card.get("inputs") == inputs:
        return card
    raise ValueError(
        f"{dataset} is already prepared in {data_dir}, from other files or with other options "
        f"({card['data_source']}, {json.dumps(card['split'])}); delete "
        f"{epath.Path(data_dir) / dataset}, or give another --data_dir"
    )


def _hint(dataset: str, listing: Listing, problems: list[Problem]) -> str:
    if not any(problem.kind == "count" for problem in problems):
        return ""
    got = {split: len(records) for split, records in listing.splits.items()}
    for name, module in DATASETS.items():
        official = getattr(module, "OFFICIAL", {})
        if name != dataset and official:
            same = [got.get(split) == number["images"] for split, number in official.items()]
            if all(same):
                return f"\nThe counts are those of {name}: is it that data set?"
    return ""


def _write(
    builder: type,
    data_dir: epath.PathLike,
    tree: RawTree,
    listing: Listing,
    card: dict,
    progress: bool,
) -> None:
    parent = epath.Path(data_dir) / card["dataset"]
    if parent.exists():
        for path in parent.iterdir():
            # What a killed preparation leaves: TFDS writes there, and renames at the end.
            if re.match(r"incomplete\.|.*\.incomplete", path.name):
                print(f"removing the leftover of an unfinished preparation: {path}")
                path.rmtree()
    make = functools.partial(
        builder, tree=tree, splits=listing.splits, card=card, progress=progress
    )
    if "://" not in os.fspath(data_dir):
        _check_space(data_dir, tree, listing)
        make(data_dir=data_dir).prepare()
        return
    # The record writer writes local files only. The information file, without which nothing counts
    # as prepared, is copied last.
    with tempfile.TemporaryDirectory() as local:
        _check_space(local, tree, listing)
        built = make(data_dir=local)
        built.prepare()
        target = parent / str(built.version)
        target.mkdir(parents=True, exist_ok=True)
        files = sorted(built.data_path.iterdir(), key=lambda path: path.name == "dataset_info.json")
        for path in files:
            with path.open("rb") as source, (target / path.name).open("wb") as copy:
                shutil.copyfileobj(source, copy)


def _check_space(directory: str | os.PathLike, tree: RawTree, listing: Listing) -> None:
    need = sum(tree.sizes[r.file] for records in listing.splits.values() for r in records)
    free = shutil.disk_usage(directory).free
    if need > free:
        raise OSError(
            f"{directory} has {free / 1e6:,.1f} MB free, and the data set needs about "
            f"{need / 1e6:,.1f} MB; free some, or give another --data_dir"
        )


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="For --partition_file " + partition_files.FORMS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", metavar="DATASET", help=", ".join(DATASETS))
    parser.add_argument("--raw_dir", required=True, help="the official folder or zip file")
    parser.add_argument("--data_dir", required=True, help="where to write; may be a bucket")
    parser.add_argument("--skip_bad_images", action="store_true", help="leave bad images out")
    parser.add_argument("--num_test_identities", type=int, metavar="N")
    parser.add_argument("--num_val_identities", type=int, metavar="N", default=0)
    parser.add_argument("--seed", type=int, metavar="N", default=0)
    parser.add_argument("--name", help="of an own data set; default: like its folder")
    parser.add_argument(
        "--no_cameras", action="store_true", help="leave the cameras of an own data set out"
    )
    parser.add_argument("--partition_file", metavar="FILE", help="forms: see below")
    options = vars(parser.parse_args(arguments))
    try:
        prepare(**options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
