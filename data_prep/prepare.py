"""Prepares a raw data set for training, and examines it first.

    python data_prep/prepare.py DATASET --raw_dir DIR --data_dir DIR [--skip_bad_images]
        [--num_test_identities N] [--num_val_identities N] [--seed N] [--partition_file FILE]

DATASET is one of market1501, distractors_500k, dukemtmc, cuhk03, cuhk01, viper, pku_reid,
oxford5k, landmarks (labelled photographs, a sub-folder for each landmark) and folder (an own data
set: identity sub-folders, or a CSV file `file,identity[,camera]`, or images with names like
Market-1501's). DIR
is the official folder or zip file, or for `folder` also the CSV file. All that is wrong is listed
at once, each with its fix. In sub-folders and CSV files the identity -1 is junk, and any other name
is an identity.

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
from data_prep.carving import carve
from data_prep.listing import Listing, Problem, counts, without_files
from data_prep.partitions import fingerprint, summary
from data_prep.raw import STAND_IN, RawTree, open_raw
from reid_jax.data import dataset_card

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
TEST_DRAW, VAL_DRAW = 0, 1


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
    progress: bool = True,
) -> dict:
    """Examines a raw data set and writes it as a TFDS data set.

    Args:
        dataset: a key of `DATASETS`.
        raw_dir: the official folder or zip file; for `folder` also a CSV file.
        data_dir: where data sets are prepared; may be a bucket.
        skip_bad_images: leave bad images out, with a count, where otherwise there is an error.
        num_test_identities: identities to carve query and gallery from; `folder` needs it unless it
            has them, and 0 makes a data set for training only.
        num_val_identities: identities to carve val_query and val_gallery from, out of train.
        seed: of the carving.
        partition_file: a file of which identities train and which test (see `partition_files`),
            which becomes the partition `imported`; for data sets that partitions divide.
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
    data_dir = epath.Path(data_dir).expanduser()
    options = {
        "num_test_identities": num_test_identities,
        "num_val_identities": num_val_identities,
        "seed": seed if num_test_identities or num_val_identities else None,
    }
    tree, listing, stand_in = _read(dataset, raw_dir, options)
    if partition_file is not None:
        _import_partition(dataset, listing, partition_file)
    inputs = _digest(
        tree, listing, options | {"skip_bad_images": skip_bad_images, "stand_in": stand_in}
    )
    with locked(data_dir, dataset):
        prepared = _prepared(data_dir, dataset, inputs)
        if prepared is not None:
            print(f"{dataset} is already prepared in {data_dir}, from the same files and options")
            return prepared
        skipped = _examine(dataset, tree, listing, options, skip_bad_images, progress)
        source = "official" if listing.official and not skipped else "custom"
        card = {
            "dataset": dataset,
            "data_source": "stand-in" if stand_in is not None else source,
            "has_cameras": listing.has_cameras,
            "counts": {split: counts(records) for split, records in listing.splits.items()},
            "skipped": skipped,
            "split": options,
            "stand_in": stand_in,
            "identity_names": listing.identity_names,
            "camera_names": listing.camera_names,
            "partitions": {
                name: {"fingerprint": fingerprint(part), **dataclasses.asdict(part)}
                for name, part in listing.partitions.items()
            },
            "queries": [dataclasses.asdict(query) for query in listing.queries],
            "inputs": inputs,
        }
        _write(DATASETS[dataset].Builder, data_dir, tree, listing, card, progress)
    for note in listing.notes:
        print(note)
    for split, number in card["counts"].items():
        print(f"{split}: {number['images']:,} images of {number['identities']:,} identities")
    for name, part in listing.partitions.items():
        print(f"{name}: {summary(part)}")
    if skipped:
        print(f"skipped {sum(map(len, skipped.values())):,} bad images (listed in the card)")
    print(f"{dataset} ({card['data_source']}) is prepared in {data_dir}")
    return card


def _read(
    dataset: str, raw_dir: str | os.PathLike, options: dict
) -> tuple[RawTree, Listing, dict | None]:
    for name in ("num_test_identities", "num_val_identities"):
        if (options[name] or 0) < 0:
            raise ValueError(f"--{name} is {options[name]}; expected 0 or more")
    if options["seed"] is not None and not 0 <= options["seed"] < 2**64:
        raise ValueError(f"--seed is {options['seed']}; expected an integer from 0 to 2**64 - 1")
    path = pathlib.Path(raw_dir).expanduser()
    if dataset != "folder":
        tree, listing = DATASETS[dataset].read(open_raw(raw_dir))
    elif path.suffix.lower() == ".csv" and path.is_file():
        tree, listing = folder.read(open_raw(path.parent), csv_file=path.name)
    else:
        tree, listing = folder.read(open_raw(raw_dir))

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
    elif "query" in listing.splits:
        if asked:
            raise ValueError(
                f"--num_test_identities is {asked}, but the data set has a query and a gallery of "
                "its own; leave it out"
            )
    elif asked is None and dataset == "folder":
        found = counts(listing.splits["train"])["identities"]
        raise ValueError(
            f"{tree.where} has {found} identities and no query or gallery: give "
            "--num_test_identities N to carve them (0: a data set for training only)"
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


def _examine(
    dataset: str,
    tree: RawTree,
    listing: Listing,
    options: dict,
    skip_bad_images: bool,
    progress: bool,
) -> dict[str, list[str]]:
    """Checks everything, leaves bad images out of the listing, and carves the splits."""
    files = sorted(
        {r.file for records in (*listing.splits.values(), listing.unlabelled) for r in records}
    )
    problems = listing.problems + doctor.image_problems(tree, files, progress=progress)
    _leave_out(listing, problems)

    if options["num_test_identities"]:
        _carve(listing, problems, options, "num_test_identities", TEST_DRAW, ("query", "gallery"))
        if "gallery" in listing.splits:
            listing.splits["gallery"] = sorted(listing.splits["gallery"] + listing.unlabelled)
    elif listing.unlabelled:
        listing.notes.append(
            f"{len(listing.unlabelled)} distractor and junk images were left out: no gallery"
        )
    between = doctor.split_problems(listing.splits, has_cameras=listing.has_cameras)
    _leave_out(listing, between)
    problems += between
    if options["num_val_identities"]:
        names = ("val_query", "val_gallery")
        _carve(listing, problems, options, "num_val_identities", VAL_DRAW, names)
    problems += doctor.size_problems(listing.splits)
    problems += doctor.partition_problems(listing.partitions, listing.splits)

    final = [problem for problem in problems if problem.file is None]
    if final or (problems and not skip_bad_images):
        raise ValueError(
            f"{dataset}: {len(problems):,} problem{'s' * (len(problems) > 1)} in {tree.where}\n"
            + doctor.report(problems)
            + _hint(dataset, listing, problems)
        )
    skipped: dict[str, list[str]] = {}
    for problem in problems:
        skipped.setdefault(doctor.FIXES[problem.kind][0], []).append(problem.file)
    return skipped


def _leave_out(listing: Listing, problems: list[Problem]) -> None:
    bad = {problem.file for problem in problems if problem.file is not None}
    for split, records in listing.splits.items():
        listing.splits[split] = [record for record in records if record.file not in bad]
    listing.unlabelled = [record for record in listing.unlabelled if record.file not in bad]
    for part in listing.partitions.values():
        for split in part.splits:
            for role, members in split.items():
                split[role] = [member for member in members if member not in bad]
    kept = without_files(listing.queries, bad)
    if len(kept) < len(listing.queries):
        number = len(listing.queries) - len(kept)
        listing.notes.append(f"left out {number} queries with their images, or with all they match")
    listing.queries = kept


def _carve(
    listing: Listing,
    problems: list[Problem],
    options: dict,
    option: str,
    draw: int,
    names: tuple[str, str],
) -> None:
    try:
        rest, query, gallery = carve(
            listing.splits["train"],
            options[option],
            seed=options["seed"],
            draw=draw,
            has_cameras=listing.has_cameras,
        )
    except ValueError as error:
        problems.append(Problem("split", f"--{option}: {error}"))
        return
    listing.splits |= {"train": rest, names[0]: query, names[1]: gallery}


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
