"""A data set of one's own: identity sub-folders, a CSV file, or a folder of Market-style names."""

import csv
import io
import os
import posixpath
import re

from data_prep import market1501
from data_prep.builder import ReidBuilder
from data_prep.listing import (
    Listing,
    Problem,
    Record,
    market_layout,
    market_records,
    numbered,
    of_queries,
)
from data_prep.raw import IMAGE_SUFFIXES, RawTree
from reid_jax import schema

__all__ = ["Builder", "read"]

SPLIT_FOLDERS = (
    market1501.FOLDERS | {"multi_query": market1501.HAND_DRAWN},
    {split: split for split in ("train", "query", "gallery", "multi_query")},
)
FORMS = (
    "expected identity sub-folders with images in them, or one CSV file with the columns "
    "file,identity[,camera], or images with names like 0002_c1_000451.jpg (identity, _c, camera), "
    "all in one folder or in train, query and gallery"
)


class Builder(ReidBuilder):
    """An own data set as a TFDS data set."""

    name = "folder"


def read(tree: RawTree, *, csv_file: str | None = None) -> tuple[RawTree, Listing]:
    """Records of an own data set, whose form is recognised.

    Args:
        tree: the raw files.
        csv_file: path in the tree of the CSV file to use, if the user named one.

    Returns:
        The tree from the root of the data set, and what it holds.

    Raises:
        ValueError: if no form, or more than one, fits.
    """
    if csv_file is None:
        tree = tree.at(_prefix(tree))
    tables = [file for file in tree.sizes if file.endswith(".csv") and "/" not in file]
    tables = [csv_file] if csv_file else tables
    if len(tables) > 1:
        raise ValueError(
            f"{tree.where} holds {len(tables)} CSV files ({', '.join(tables)}); give the path of "
            "the one to use as --raw_dir"
        )
    if tables:
        return tree, _read_csv(tree, tables[0])

    folders = tree.image_folders()
    if not folders:
        raise ValueError(f"{tree.where} holds no images; {FORMS}")
    for names in SPLIT_FOLDERS:
        present = {split: name for split, name in names.items() if name in folders}
        if {"train", "query", "gallery"} <= set(present):
            return tree, _read_splits(tree, present)
    if folders == [""]:
        records, problems = market_records(tree.images())
        return tree, _pool(records, problems)
    if "" in folders:
        raise ValueError(
            f"{tree.where} holds images both directly and in sub-folders ({', '.join(folders[1:5])}"
            f"{', ...' if len(folders) > 5 else ''}), so its form is unclear; {FORMS}"
        )
    return tree, _read_identity_folders(tree)


def _prefix(tree: RawTree) -> str:
    # A zip file often holds everything below one top folder. A single sub-folder of images is one
    # only if the names in it are Market-style: otherwise it is an identity.
    prefix = ""
    while True:
        here = [path.removeprefix(prefix) for path in tree.sizes if path.startswith(prefix)]
        tops = {path.split("/")[0] for path in here if "/" in path}
        kinds = (*IMAGE_SUFFIXES, ".csv")
        direct = [path for path in here if "/" not in path and path.lower().endswith(kinds)]
        if direct or len(tops) != 1:
            return prefix
        (top,) = tops
        below = tree.at(f"{prefix}{top}/")
        images, tables = below.images(), [f for f in below.sizes if f.endswith(".csv")]
        if images and not tables and not market_records(images)[0]:
            return prefix
        prefix = f"{prefix}{top}/"


def _pool(records: list[Record], problems: list[Problem], **options) -> Listing:
    return Listing(
        {"train": [record for record in records if record.identity > 0]},
        problems=problems,
        unlabelled=[record for record in records if record.identity <= 0],
        **options,
    )


def _read_splits(tree: RawTree, folders: dict[str, str]) -> Listing:
    splits, problems = market_layout(tree, folders, num_cameras=None)
    if "multi_query" in splits:
        splits["multi_query"] = of_queries(splits["multi_query"], splits["query"])
    others = [folder for folder in tree.image_folders() if folder not in folders.values()]
    notes = [f"not read: the images in {', '.join(others)}"] if others else []
    return Listing(splits, problems=problems, notes=notes)


def _read_identity_folders(tree: RawTree) -> Listing:
    problems, images = [], []
    for file in tree.all_images():
        if file.count("/") == 1:
            images.append(file)
        else:
            problems.append(Problem("depth", file, file))
    identities = numbered(file.split("/")[0] for file in images)
    cameras = {file: re.match(r"(?:-1|\d+)_c(\d+)", os.path.basename(file)) for file in images}
    has_cameras = any(cameras.values())
    records = []
    for file in images:
        if has_cameras and (not cameras[file] or int(cameras[file][1]) < 1):
            problems.append(Problem("name", file, file))
        else:
            camera = int(cameras[file][1]) if has_cameras else schema.NO_CAMERA
            records.append(Record(file, identities[file.split("/")[0]], camera))
    return _pool(
        records,
        problems,
        has_cameras=has_cameras,
        identity_names=_names(identities),
        notes=[_camera_note(has_cameras, "names like 0002_c1_000451.jpg")],
    )


def _read_csv(tree: RawTree, table: str) -> Listing:
    try:
        text = tree.read(table).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is not UTF-8 text ({error}); save it as UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    columns = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = columns
    if sorted(columns) not in (["file", "identity"], ["camera", "file", "identity"]):
        raise ValueError(
            f"{table} has the columns {','.join(columns) or '(none)'} in its first line; expected "
            "file,identity or file,identity,camera"
        )
    folder = posixpath.dirname(table)
    problems, rows, seen = [], [], set()
    for row in reader:
        line = f"{table} line {reader.line_num}"
        if None in row or None in row.values():
            problems.append(Problem("row", f"{line}: expected {len(columns)} fields"))
            continue
        row = {name: value.strip() for name, value in row.items()}
        file = posixpath.normpath(posixpath.join(folder, row["file"].replace("\\", "/")))
        if not row["file"] or not row["identity"]:
            problems.append(Problem("row", f"{line}: the file or the identity is empty"))
        elif file not in tree.sizes:
            problems.append(Problem("missing", f"{line}: {row['file']}"))
        elif file in seen:
            problems.append(Problem("row", f"{line}: {row['file']} is there twice"))
        else:
            seen.add(file)
            rows.append((file, row["identity"], row.get("camera", ""), line))
    if not rows and not problems:
        raise ValueError(f"{table} has no rows below its first line; {FORMS}")

    identities = numbered(identity for _, identity, _, _ in rows)
    has_cameras = any(camera for _, _, camera, _ in rows)
    problems += [
        Problem("row", f"{line}: the camera is empty, but other rows have one")
        for _, _, camera, line in rows
        if has_cameras and not camera
    ]
    names = {camera for _, _, camera, _ in rows if camera}
    if all(re.fullmatch(r"[1-9]\d*", name) for name in names):
        cameras, camera_names = {name: int(name) for name in names}, None
    else:
        ordered = sorted(names)
        cameras, camera_names = {name: number for number, name in enumerate(ordered, 1)}, ordered
    records = sorted(
        Record(file, identities[identity], cameras.get(camera, schema.NO_CAMERA))
        for file, identity, camera, _ in rows
    )
    notes = [_camera_note(has_cameras, "a column camera")]
    unused = len(tree.all_images()) - len(seen & set(tree.all_images()))
    if unused:
        notes.append(f"{unused} images are not in {table} and were left out")
    return _pool(
        records,
        problems,
        has_cameras=has_cameras,
        identity_names=_names(identities),
        camera_names=camera_names,
        notes=notes,
    )


def _names(identities: dict[str, int]) -> list[str]:
    return [name for name, number in identities.items() if number > 0]


def _camera_note(has_cameras: bool, source: str) -> str:
    if has_cameras:
        return f"cameras are taken from {source}"
    return f"there are no cameras ({source} would give them): the camera rule is off"
