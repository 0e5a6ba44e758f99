"""The form of a person's own folder: recognised by its structure, and told."""

import dataclasses
import os
import posixpath
import re
from collections.abc import Iterable

from reid_jax import schema
from reid_jax.data import tables
from reid_jax.data.contents import Contents, number, rest_notes, some, special_notes
from reid_jax.data.raw import RawTree, suffixes_of
from reid_jax.data.records import (
    LARGEST,
    Problem,
    Record,
    identity_of,
    listed,
    market_records,
    numbered,
)
from reid_jax.data.roles import MASKS, ROLES, assigned, role_of

__all__ = ["FORMS", "read_folder"]

FORMS = (
    "expected identity sub-folders with images in them, or one CSV file with the columns "
    "file,identity[,camera][,split], or images with names like 0002_c1_000451.jpg (identity, _c, "
    "camera), all in one folder; identity sub-folders and such names may also lie in train, val, "
    "test, query and gallery"
)
MARKET = "names like 0002_c1_000451.jpg"
# Names of cameras, and never of people: cam1, camera_07, cctv 3; and without a number if all are.
CAMERA = re.compile(r"(cam|camera|kamera|cctv)[ _-]?\d+.*")
CAMERA_LIKE = re.compile(r"(cam|camera|kamera|cctv)([ _-].+|\d.*)?")


@dataclasses.dataclass
class _Found:
    """What a reader found, before it is divided: records by role ('' where there are none)."""

    form: str
    roles: dict[str, list[Record]]
    has_cameras: bool
    identity_names: list[str] | None = None
    camera_names: list[str] | None = None
    problems: list[Problem] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def read_folder(tree: RawTree, *, table: str | None = None, use_cameras: bool = True) -> Contents:
    """What a person's own folder holds.

    Args:
        tree: the raw files.
        table: path in the tree of the table to use, if the user named one.
        use_cameras: False leaves cameras out: every record has none.

    Returns:
        Its contents; every image of the tree is in a split, among the unlabelled, in a problem, or
        counted in a note.

    Raises:
        ValueError: if no form, or more than one, fits.
    """
    original = tree
    path = table or tables.find_table(tree)
    if path is not None:
        root = "" if table else _common([*tree.all_images(), path])
        tree = tree.at(root)
        path = path.removeprefix(root)
        found = _read_table(tree, path, use_cameras)
    else:
        images = tree.all_images()
        if not images:
            kinds = suffixes_of(tree.sizes)
            raise ValueError(f"{tree.where} holds no images; {FORMS}; it has {kinds or 'no files'}")
        tree = tree.at(_root(images))
        found = _read_tree(tree, images[0].removesuffix(tree.all_images()[0]), use_cameras)
    try:
        splits, notes = assigned(found.roles, where=tree.where)
    except ValueError as error:
        if not found.problems:
            raise
        # What is missing may be in what cannot be used.
        raise ValueError(f"{error}\n{listed(found.problems)}") from error
    pool = splits.pop("", None)
    unlabelled = []
    if pool is not None:
        unlabelled = [record for record in pool if record.identity <= 0]
        splits["train"] = [record for record in pool if record.identity > 0]
    contents = Contents(
        tree=tree,
        form=found.form,
        splits=splits,
        has_cameras=found.has_cameras,
        unlabelled=unlabelled,
        identity_names=found.identity_names,
        camera_names=found.camera_names,
        problems=found.problems,
        notes=found.notes + notes,
        used_table=path,
    )
    contents.notes += special_notes(contents) + rest_notes(original, path)
    return contents


# ---- the structure of a tree without a table


def _root(images: list[str]) -> str:
    """Prefix of the folder in which the data set lies: the deepest that holds all images."""
    root = _common(images)
    direct = all("/" not in image.removeprefix(root) for image in images)
    if root and direct and not market_records(images, first_camera=0)[0]:
        # One folder whose images have no identity in their names is itself an identity.
        root = root[: root[:-1].rfind("/") + 1]
    name = root[:-1].rsplit("/", 1)[-1]
    if name and role_of(name) not in (None, "train"):
        # Only test/, or only query/: a split without the others.
        root = root[: root[:-1].rfind("/") + 1]
    return root


def _common(paths: list[str]) -> str:
    common = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    return common + "/" if common else ""


def _read_tree(tree: RawTree, root: str, use_cameras: bool) -> _Found:
    tops: dict[str, list[str]] = {}
    direct = []
    for image in tree.all_images():
        if "/" in image:
            tops.setdefault(image.split("/")[0], []).append(image)
        else:
            direct.append(image)
    roles = {top: role for top in tops if (role := role_of(top))}
    others = [top for top in tops if top not in roles]
    wrapped = f" (in {root[:-1]})" if root else ""
    if roles:
        clear = len(set(roles.values()) - {MASKS}) > 1
        if not clear and (others or direct):
            raise ValueError(
                f"{tree.where}: {some(roles)} has the name of a split ({', '.join(ROLES)}), and "
                f"beside it are {some(others) or 'images'}, so the form is unclear; if all "
                "sub-folders are identities, write a CSV file file,identity; if not, give each "
                "split a sub-folder with its name"
            )
        found = _read_splits(tree, {top: tops[top] for top in roles}, roles, use_cameras)
        found.notes += [
            f"not read: the images in {top} ({len(tops[top]):,}), which is not the name of a split"
            for top in others
        ]
        if direct:
            found.notes.append(f"not read: {number(direct, 'image')} beside the splits")
    elif tops and direct:
        raise ValueError(
            f"{tree.where} holds images both directly and in sub-folders ({some(tops)}), so its "
            f"form is unclear; {FORMS}"
        )
    elif direct:
        found = _read_names(tree.where, {"": direct}, use_cameras)
        found.form = f"one folder of {MARKET}"
    else:
        _refuse_several(tree.where, tops)
        found = _read_identities(tree.where, {"": tops}, use_cameras)
        found.form = "one sub-folder an identity"
    found.form += wrapped
    return found


def _read_splits(
    tree: RawTree, tops: dict[str, list[str]], roles: dict[str, str], use_cameras: bool
) -> _Found:
    """Folders of splits, all with identity sub-folders or all with names."""
    notes = [
        f"not read: the images in {top} ({len(files):,}), which are masks"
        for top, files in tops.items()
        if roles[top] == MASKS
    ]
    tops = {top: files for top, files in tops.items() if roles[top] != MASKS}
    whole = [top for top in tops if roles[top] == "train" and _plain(top) not in ALL_OF_TRAIN]
    for top in [top for top in tops if _plain(top) in ALL_OF_TRAIN and whole]:
        notes.append(
            f"not read: the images in {top} ({len(tops.pop(top)):,}), which repeats {whole[0]}"
        )
    by_role: dict[str, str] = {}
    for top in tops:
        if roles[top] in by_role:
            raise ValueError(
                f"{tree.where}: {by_role[roles[top]]} and {top} are both the split "
                f"{roles[top]}; join them, or move one elsewhere"
            )
        by_role[roles[top]] = top
    deep = {top: sum(file.count("/") > 1 for file in files) for top, files in tops.items()}
    mixed = [top for top, files in tops.items() if 0 < deep[top] < len(files)]
    if mixed:
        raise ValueError(
            f"{tree.where}: {some(mixed)} holds images both directly and in sub-folders, so its "
            f"form is unclear; {FORMS}"
        )
    nested = [top for top in tops if deep[top]]
    if nested and len(nested) < len(tops):
        raise ValueError(
            f"{tree.where}: {some(nested)} has sub-folders, and "
            f"{some(set(tops) - set(nested))} has images directly; expected identity sub-folders "
            f"in all of them, or {MARKET} in all of them"
        )
    if nested:
        groups: dict[str, dict[str, list[str]]] = {}
        for role, top in by_role.items():
            for file in tops[top]:
                groups.setdefault(role, {}).setdefault(file.split("/")[1], []).append(file)
        found = _read_identities(tree.where, groups, use_cameras, depth=2)
        kind = "one sub-folder an identity"
    else:
        found = _read_names(tree.where, {r: tops[top] for r, top in by_role.items()}, use_cameras)
        kind = MARKET
    listed = ", ".join(
        top if top == role else f"{top} ({role})"
        for role, top in sorted(by_role.items(), key=_rank)
    )
    found.form = f"folders of splits, {listed}, in each {kind}"
    found.notes += notes
    return found


ALL_OF_TRAIN = ("train_all", "trainval", "train_val")


def _plain(top: str) -> str:
    return top.casefold().replace("-", "_")


def _rank(pair: tuple[str, str]) -> int:
    return ROLES.index(pair[0])


def _read_names(where: str, roles: dict[str, list[str]], use_cameras: bool) -> _Found:
    """Images with Market-style names, by role."""
    records, problems, total = {}, [], 0
    for role, files in roles.items():
        records[role], wrong = market_records(files, first_camera=0)
        problems += wrong
        total += len(files)
    if len(problems) == total and all(problem.kind == "name" for problem in problems):
        examples = ", ".join(problem.what for problem in problems[:3])
        raise ValueError(
            f"{where}: the names of its {total:,} images say no identity ({examples}); {FORMS}"
        )
    found = _Found("", records, has_cameras=use_cameras, problems=problems)
    cameras = {record.camera for part in records.values() for record in part}
    if not use_cameras:
        found.roles = {
            role: [dataclasses.replace(r, camera=schema.NO_CAMERA) for r in part]
            for role, part in records.items()
        }
    elif 0 in cameras:
        found.camera_names = [str(camera) for camera in sorted(cameras)]
        place = {camera: number for number, camera in enumerate(sorted(cameras), 1)}
        found.roles = {
            role: [dataclasses.replace(r, camera=place[r.camera]) for r in part]
            for role, part in records.items()
        }
    found.notes = [_camera_note(use_cameras, MARKET, use_cameras)]
    return found


def _read_identities(
    where: str, roles: dict[str, dict[str, list[str]]], use_cameras: bool, *, depth: int = 1
) -> _Found:
    """Identity sub-folders, by role: the name of a sub-folder is the identity."""
    folders = {folder for groups in roles.values() for folder in groups}
    _refuse_disagreeing(where, [group for groups in roles.values() for group in groups.items()])
    _refuse_cameras(where, folders)
    splits = [folder for folder in folders if role_of(folder)]
    if splits:
        raise ValueError(
            f"{where}: the sub-folders {some(splits)} have names of splits, where names of "
            "identities are expected; move them up, so that the splits lie side by side, or write "
            "a CSV file file,identity[,camera][,split]"
        )
    problems: list[Problem] = []
    images: list[tuple[str, str, str]] = []
    spellings: dict[str, set[str]] = {}
    for role, groups in roles.items():
        for folder, files in groups.items():
            identity = identity_of(folder)
            for file in files:
                if file.count("/") != depth:
                    problems.append(Problem("depth", file, file))
                elif identity is None:
                    problems.append(Problem("identity", file, file))
                else:
                    images.append((role, file, identity))
                    spellings.setdefault(identity, set()).add(folder)
    identities = numbered(spellings)
    matches = {
        file: re.match(r"(?:-1|\d+)_c(\d+)", os.path.basename(file)) for _, file, _ in images
    }
    has_cameras = use_cameras and any(matches.values())
    kept = []
    for role, file, identity in images:
        match = matches[file]
        if has_cameras and not match:
            problems.append(Problem("name", file, file))
        elif has_cameras and match and int(match[1]) > LARGEST:
            problems.append(Problem("number", file, file))
        else:
            camera = int(match[1]) if has_cameras and match else schema.NO_CAMERA
            kept.append((role, Record(file, identities[identity], camera)))
    records: dict[str, list[Record]] = {role: [] for role in roles}
    camera_names = None
    cameras = sorted({record.camera for _, record in kept})
    if has_cameras and 0 in cameras:
        camera_names = [str(camera) for camera in cameras]
    for role, record in kept:
        if camera_names:
            record = dataclasses.replace(record, camera=cameras.index(record.camera) + 1)
        records[role].append(record)
    return _Found(
        "",
        {role: sorted(part) for role, part in records.items()},
        has_cameras=has_cameras,
        identity_names=_names(identities),
        camera_names=camera_names,
        problems=problems,
        notes=[
            _camera_note(has_cameras, MARKET, use_cameras),
            *tables.spelling_notes(spellings, "sub-folders", where),
        ],
    )


def _refuse_cameras(where: str, folders: Iterable[str]) -> None:
    folders = sorted(folders)
    cameras = [folder for folder in folders if CAMERA.fullmatch(folder.casefold())]
    like = [folder for folder in folders if CAMERA_LIKE.fullmatch(folder.casefold())]
    if cameras or (len(like) > 1 and len(like) == len(folders)):
        raise ValueError(
            f"{where}: the sub-folders {some(cameras or like)} are named like cameras, not like "
            "identities; write a CSV file file,identity,camera with a line for each image, or "
            "sort the images into a sub-folder for each identity, with names like "
            "0002_c1_000451.jpg, where c1 is the camera"
        )


def _refuse_disagreeing(where: str, groups: list[tuple[str, list[str]]]) -> None:
    """In an identity sub-folder all Market-style names have one identity."""
    found = []
    for folder, files in groups:
        records, _ = market_records(files, first_camera=0)
        identities = sorted({record.identity for record in records})
        if len(identities) > 1:
            found.append(
                f"{folder} ({', '.join(map(str, identities[:3]))}{', ...' * (len(identities) > 3)})"
            )
    if found:
        raise ValueError(
            f"{where}: the sub-folders {some(found)} hold Market-style names of several "
            "identities each, so they are not identities; if they are splits, name them train, "
            "val, test, query and gallery; if they are cameras, put all images into one folder; "
            "if they are identities all the same, write a CSV file file,identity[,camera]"
        )


def _refuse_several(where: str, tops: dict[str, list[str]]) -> None:
    several = []
    for top, files in tops.items():
        below = {file.split("/")[1] for file in files if file.count("/") > 1}
        if len({role for name in below if (role := role_of(name))}) > 1:
            several.append(top)
    if several:
        raise ValueError(
            f"{where} holds folders of splits in {some(several)}, beside each other or beside "
            "other images; give the path of the data set that you mean"
        )


# ---- tables


def _read_table(tree: RawTree, path: str, use_cameras: bool) -> _Found:
    rows, problems, columns, notes = tables.read_rows(tree, path)
    has_split = "split" in columns
    kept: list[tuple[str, tables.Row]] = []
    roles: dict[str, list[Record]] = {}
    for row in rows:
        role = role_of(row.split) if has_split else ""
        if role is None or role == MASKS:
            what = f"{row.line}: the split is {row.split}; expected {', '.join(ROLES)}"
            problems.append(Problem("row", what))
        else:
            kept.append((role, row))
    identities = numbered(row.identity for _, row in kept)
    names = {row.camera for _, row in kept if row.camera}
    has_cameras = use_cameras and bool(names)
    problems += [
        Problem("row", f"{row.line}: the camera is empty, but other rows have one")
        for _, row in kept
        if has_cameras and not row.camera
    ]
    numbers = all(re.fullmatch(r"[1-9]\d*", name) and int(name) <= LARGEST for name in names)
    ordered = sorted(names, key=_by_value)
    cameras = {name: int(name) if numbers else place for place, name in enumerate(ordered, 1)}
    for role, row in kept:
        camera = cameras.get(row.camera, schema.NO_CAMERA) if has_cameras else schema.NO_CAMERA
        roles.setdefault(role, []).append(Record(row.file, identities[row.identity], camera))
    notes = [_camera_note(has_cameras, "a column camera", use_cameras), *notes]
    listed = {row.file for row in rows}
    unused = len(set(tree.all_images()) - listed)
    if unused:
        notes.append(f"{unused:,} images are not in {path} and were left out")
    return _Found(
        f"the table {path} with the columns {','.join(columns)}",
        {role: sorted(records) for role, records in roles.items()} or {"": []},
        has_cameras=has_cameras,
        identity_names=_names(identities),
        camera_names=ordered if has_cameras and not numbers else None,
        problems=problems,
        notes=notes,
    )


def _by_value(name: str) -> tuple[int, int, str]:
    number = re.fullmatch(r"\d{1,300}", name)
    return (0, int(name), name) if number else (1, 0, name)


# ---- notes


def _names(identities: dict[str, int]) -> list[str]:
    return [name for name, number in identities.items() if number > 0]


def _camera_note(has_cameras: bool, source: str, use_cameras: bool) -> str:
    if not use_cameras:
        return "cameras are left out (--no_cameras): the camera rule is off"
    if has_cameras:
        return f"cameras are taken from {source}"
    return f"there are no cameras ({source} would give them): the camera rule is off"
