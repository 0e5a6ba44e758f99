"""One value by its annotation: checked, read from the text of a command line, and described.

An annotation is that of a field or of a row's key: `Annotated[int, Meta(ge=1)]`, a `Literal` of
known values, a tuple of these, or one of them `| None`. msgspec decides what fits.
"""

from __future__ import annotations

import difflib
import math
import re
import types
import typing
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec

__all__ = [
    "among",
    "checked",
    "known_values",
    "limits_text",
    "parsed",
    "takes_none",
    "type_text",
]

_LIMITS = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))


def checked(name: str, value: Any, annotation: Any) -> Any:
    """The value as its annotation has it: an int in the place of a float becomes one.

    Raises:
        ValueError: if it does not fit, with the name, the value and what is expected.
    """
    try:
        value = msgspec.convert(value, annotation)
    except msgspec.ValidationError:
        raise ValueError(_refusal(name, value, annotation)) from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}={value}: expected a finite number")
    return value


def parsed(name: str, text: str, annotation: Any) -> Any:
    """The value that a text stands for.

    A str takes the text as it is; a tuple `(128,64)`, `128,64`, `[128, 64]` or `()`; a bool
    true or false; what may be None also `none`.

    Raises:
        ValueError: as `checked`.
    """
    if text in known_values(annotation):
        return text
    if takes_none(annotation) and text.strip().lower() == "none":
        return None
    readable = [branch for branch in _given(annotation) if not _is_literal(branch)]
    if not readable or _plain(readable[0]) is str:
        return checked(name, text, annotation)
    try:
        return checked(name, _read(text, readable[0]), annotation)
    except (msgspec.ValidationError, IndexError):
        raise ValueError(_refusal(name, text, annotation)) from None


def known_values(annotation: Any) -> tuple[Any, ...]:
    """The values that the `Literal` of an annotation names."""
    return tuple(
        value
        for branch in _branches(annotation)
        if _is_literal(branch)
        for value in typing.get_args(_plain(branch))
    )


def takes_none(annotation: Any) -> bool:
    """Whether None is among what an annotation allows."""
    return types.NoneType in _branches(annotation)


def type_text(annotation: Any) -> str:
    """What an annotation allows, in words: `float or none`, or the known values."""
    parts = [_branch_text(branch) for branch in _given(annotation)]
    return " or ".join(parts + ["none"] * _none_is_none(annotation))


def limits_text(annotation: Any) -> str:
    """The limits of a number, or of each item of a tuple, in words: `at least 1`."""
    found = []
    for branch in _given(annotation):
        if typing.get_origin(_plain(branch)) is tuple:
            branch = typing.get_args(_plain(branch))[0]
        found += [
            f"{words} {limit:g}"
            for meta in getattr(branch, "__metadata__", ())
            for attribute, words in _LIMITS
            if (limit := getattr(meta, attribute, None)) is not None
        ]
    return " and ".join(found)


def among(name: str, names: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, and all of them."""
    names = sorted(names)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{hint}; known: {', '.join(names) or 'none'}"


def _read(text: str, annotation: Any) -> Any:
    """Text as a number, a bool or a tuple of such; IndexError for more items than the tuple has."""
    plain = _plain(annotation)
    if typing.get_origin(plain) is not tuple:
        text = re.sub(r"(?<=\d)_(?=\d)", "", text.strip())  # 50_000
        return msgspec.convert(text, annotation, strict=False)
    text = text.strip()
    if text[:1] + text[-1:] in ("()", "[]"):
        text = text[1:-1]
    items = [item.strip().strip("'\"") for item in text.split(",")]
    items = items[:-1] if items[-1] == "" else items  # (3,) and ()
    kinds = typing.get_args(plain)
    kinds = kinds[:1] * len(items) if Ellipsis in kinds else kinds
    return tuple(
        item if _plain(kinds[place]) is str else _read(item, kinds[place])
        for place, item in enumerate(items)
    )


def _refusal(name: str, given: Any, annotation: Any) -> str:
    known = known_values(annotation)
    if known and all(map(_is_literal, _given(annotation))):
        known += ("none",) * _none_is_none(annotation)
        return f"{name}={given!r}; known: {_listed(known)}"
    limits = limits_text(annotation)
    expected = ", ".join([type_text(annotation), limits][: 1 + bool(limits)])
    return f"{name}={given}: expected a value of type {expected}"


def _none_is_none(annotation: Any) -> bool:
    """Whether the text none is None, and not a value of that name."""
    return takes_none(annotation) and "none" not in known_values(annotation)


def _given(annotation: Any) -> list[Any]:
    """The branches of an annotation but None."""
    return [branch for branch in _branches(annotation) if branch is not types.NoneType]


def _is_literal(annotation: Any) -> bool:
    return typing.get_origin(_plain(annotation)) is Literal


def _branches(annotation: Any) -> tuple[Any, ...]:
    plain = _plain(annotation)
    if typing.get_origin(plain) in (typing.Union, types.UnionType):
        return typing.get_args(plain)
    return (annotation,)


def _plain(annotation: Any) -> Any:
    while typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation


def _branch_text(annotation: Any) -> str:
    plain = _plain(annotation)
    if _is_literal(plain):
        return _listed(typing.get_args(plain))
    if typing.get_origin(plain) is tuple:
        item, *others = typing.get_args(plain)
        number = "" if Ellipsis in others else f"{1 + len(others)} "
        return f"tuple of {number}{_branch_text(item)}"
    return plain.__name__


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(str(value) or "''" for value in values)
