"""Tables of images: CSV and TSV files `file,identity[,camera][,split]`."""

import csv
import dataclasses
import io
import posixpath
import re
import unicodedata
from typing import Any

from reid_jax.data.raw import RawTree
from reid_jax.data.records import MISSING, Problem, clean_name, identity_of

__all__ = [
    "COLUMNS",
    "TABLE_SUFFIXES",
    "Row",
    "find_table",
    "read_rows",
    "read_table",
    "spelling_notes",
]

COLUMNS = ("file", "identity", "camera", "split")
TABLE_SUFFIXES = (".csv", ".tsv")
DELIMITERS = ",;\t"
FLOAT = re.compile(r"[+-]?\d+\.0*")
EXPECTED = "file,identity or file,identity,camera, each also with split"


@dataclasses.dataclass(frozen=True)
class Row:
    """One image of a table: its path in the tree, and the names that the table gives."""

    file: str
    identity: str
    camera: str
    split: str
    line: str


@dataclasses.dataclass
class _Table:
    """The cells of a table: names of its columns, and its rows with their line numbers."""

    columns: list[str]
    rows: list[tuple[int, list[str]]]

    @property
    def names(self) -> list[str]:
        """Columns without those that have no name (an index), in small letters."""
        return [name for name in self.columns if name]

    @property
    def has_images(self) -> bool:
        return {"file", "identity"} <= set(self.names)


def find_table(tree: RawTree) -> str | None:
    """The table that says who is on the images of a tree.

    Args:
        tree: the raw files.

    Returns:
        Path of the one table with the columns file and identity; None if there is none.

    Raises:
        ValueError: if there are several, or if a table names the images but has other columns.
    """
    paths = [path for path in tree.sizes if path.lower().endswith(TABLE_SUFFIXES)]
    if not paths:
        return None
    images = set(tree.all_images())
    names = {posixpath.basename(image) for image in images}
    folders = {posixpath.dirname(image) for image in images}
    top = posixpath.commonpath([*folders, *map(posixpath.dirname, paths)]) if images else ""
    found, others = [], []
    # Sub-folders of images may hold tables of their own, of boxes for example: those say nothing
    # here, unless they have the columns.
    for path in sorted(paths, key=lambda path: (path.count("/"), path))[:1000]:
        try:
            table = read_table(tree, path, most=20)
        except ValueError:
            if posixpath.dirname(path) == top:
                raise
            continue
        if table.has_images:
            found.append(path)
            continue
        at_top = posixpath.dirname(path) == top
        cells = {_slashed(cell) for cell in table.columns}
        cells |= {_slashed(cell) for _, cells in table.rows for cell in cells}
        of_images = any(posixpath.basename(cell) in names for cell in cells)
        if (at_top and not table.columns) or (
            of_images and (at_top or posixpath.dirname(path) not in folders)
        ):
            others.append((path, table))
    if len(found) > 1:
        kind = "CSV files" if all(path.lower().endswith(".csv") for path in found) else "tables"
        raise ValueError(
            f"{tree.where} holds {len(found)} {kind} ({', '.join(found[:5])}"
            f"{', ...' if len(found) > 5 else ''}); give the path of the one to use as --raw_dir, "
            "or join them into one with a column split (train, val, test, query, gallery)"
        )
    if not found and others:
        _refuse_columns(*others[0])
    return found[0] if found else None


def read_rows(tree: RawTree, path: str) -> tuple[list[Row], list[Problem], list[str], list[str]]:
    """The images of a table.

    Args:
        tree: the raw files.
        path: of the table in the tree.

    Returns:
        The rows in the order of the table; a problem for each row that cannot be used; the names of
        its columns; and notes on what was read otherwise than it is written.

    Raises:
        ValueError: if it has other columns or no rows, or is not text.
    """
    table = read_table(tree, path)
    if not table.has_images or not set(table.names) <= set(COLUMNS):
        _refuse_columns(path, table)
    twice = sorted({name for name in table.names if table.names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has the column {twice[0]} twice; expected {EXPECTED}")
    if not table.rows:
        raise ValueError(f"{path} has no rows below its first line; expected a line for each image")
    composed: dict[str, list[str]] = {}
    for file in tree.sizes:
        composed.setdefault(unicodedata.normalize("NFC", file), []).append(file)
    folder = posixpath.dirname(path)
    rows: list[Row] = []
    problems: list[Problem] = []
    seen: set[str] = set()
    spellings: dict[str, set[str]] = {}
    for number, cells in table.rows:
        line = f"{path} line {number}"
        if len(cells) != len(table.columns):
            what = f"{line}: expected {len(table.columns)} fields, got {len(cells)}"
            problems.append(Problem("row", what))
            continue
        row = {name: cell.strip() for name, cell in zip(table.columns, cells, strict=True) if name}
        given, said = row["file"], row["identity"]
        identity = identity_of(said)
        located = _located(given, folder, composed)
        if not given or not said:
            problems.append(Problem("row", f"{line}: the file or the identity is empty"))
        elif located is None:
            problems.append(Problem("missing", f"{line}: {given}"))
        elif located in seen:
            problems.append(Problem("row", f"{line}: {given} is there twice"))
        elif identity is None:
            what = "only -1 (junk) may be negative" if said.startswith("-") else "nothing is known"
            problems.append(Problem("row", f"{line}: the identity is {said} ({what})"))
        elif "split" in row and row["split"].casefold() in MISSING:
            problems.append(Problem("row", f"{line}: the split is empty"))
        else:
            seen.add(located)
            spellings.setdefault(identity, set()).add(said)
            camera = _camera_of(row.get("camera", ""))
            rows.append(Row(located, identity, camera, row.get("split", ""), line))
    return rows, problems, table.names, spelling_notes(spellings, "identities", path)


def read_table(tree: RawTree, path: str, *, most: int | None = None) -> _Table:
    """The cells of a table, by whichever of comma, semicolon and tab separates them.

    Args:
        tree: the raw files.
        path: of the table in the tree.
        most: how many rows to read; None reads all.

    Raises:
        ValueError: if it is not text, or not a table.
    """
    content = tree.read(path)
    # Excel saves "Unicode text" as UTF-16.
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
    first, _, rest = text.partition("\n")
    skipped, delimiters = 0, DELIMITERS
    if first.strip().lower().startswith("sep=") and first.strip()[4:] in tuple(DELIMITERS):
        text, skipped, delimiters = rest, 1, first.strip()[4:]
    tables: list[tuple[_Table, Any]] = []
    for delimiter in delimiters:
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
        )
        try:
            columns = [_column(name, place) for place, name in enumerate(next(reader, []))]
            if not columns and tables:
                break
            tables.append((_Table(columns, []), reader))
        except csv.Error as error:
            raise ValueError(f"{path} line 1 is no row of a table: {error}") from error
    # The first of those that fit best: by its columns, else by their number.
    table, reader = max(tables, key=lambda pair: (pair[0].has_images, len(pair[0].columns)))
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                table.rows.append((reader.line_num + skipped, cells))
            if most is not None and len(table.rows) >= most:
                break
    except csv.Error as error:
        number = reader.line_num + skipped
        raise ValueError(f"{path} line {number} is no row of a table: {error}") from error
    return table


def _column(name: str, place: int) -> str:
    name = name.strip()
    index = place == 0 and (name.lower() == "index" or name.lower().startswith("unnamed:"))
    if index or not name:
        return ""
    return name.lower() if name.lower() in COLUMNS else name


def _refuse_columns(path: str, table: _Table) -> None:
    more = sorted(set(table.names) - set(COLUMNS))
    cure = "correct its first line"
    if table.has_images and more:
        cure = f"take out {', '.join(more)}"
    raise ValueError(
        f"{path} has the columns {','.join(table.names) or '(none)'} in its first line; expected "
        f"{EXPECTED}; {cure}, or move the file elsewhere if it does not say who is on the images"
    )


def _located(given: str, folder: str, composed: dict[str, list[str]]) -> str | None:
    """The file that a path of a table means: from the table's folder, else from the root."""
    for base in (folder, ""):
        path = posixpath.normpath(posixpath.join(base, _slashed(given)))
        found = composed.get(unicodedata.normalize("NFC", path), [])
        if path in found or len(found) == 1:
            return path if path in found else found[0]
    return None


def _slashed(path: str) -> str:
    return path.strip().replace("\\", "/")


def _camera_of(text: str) -> str:
    """The name of a camera; '' where there is none. Whole numbers lose the '.0' of pandas."""
    name = clean_name(text)
    whole, point, zeros = name.partition(".")
    if point and whole.isdecimal() and not zeros.strip("0"):
        name = whole
    return "" if name.casefold() in MISSING | {"-1", "-1.0"} else name


def spelling_notes(spellings: dict[str, set[str]], what: str, where: str) -> list[str]:
    """Notes on names that are read otherwise than they are written, and on names alike.

    Args:
        spellings: the ways in which each name is written.
        what: "identities", for the notes.
        where: what holds them, for the notes.

    Returns:
        A line for each cause: numbers with '.0', two Unicode forms, numbers with zeros before them.
    """
    notes = []
    points = sorted(name for name, said in spellings.items() if any(map(FLOAT.fullmatch, said)))
    if points:
        notes.append(
            f"{len(points):,} {what} of {where} are written like {points[0]}.0 and read as whole "
            "numbers"
        )
    forms = sorted(
        name
        for name, said in spellings.items()
        if len([s for s in said if not FLOAT.fullmatch(s)]) > 1
    )
    if forms:
        notes.append(
            f"{len(forms):,} {what} of {where} are written in two Unicode forms and read as one "
            f"each: {', '.join(forms[:5])}"
        )
    values: dict[int, list[str]] = {}
    for name in spellings:
        if name.isdecimal() and len(name) < 300:
            values.setdefault(int(name), []).append(name)
    alike = sorted(sorted(names) for names in values.values() if len(names) > 1)
    if alike:
        notes.append(
            f"{len(alike):,} {what} of {where} have the same number and are read as different: "
            f"{' and '.join(alike[0])}"
        )
    return notes
