"""Kinds of arguments that several commands take."""

from __future__ import annotations

import argparse
from collections.abc import Callable

__all__ = ["add_store", "at_least"]


def at_least(lowest: int) -> Callable[[str], int]:
    """A kind of argument: a whole number that is not too small.

    Args:
        lowest: the smallest that is taken.

    Returns:
        What argparse calls with the text.
    """

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = lowest - 1
        if value < lowest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {lowest} on")
        return value

    return number


def add_store(parser: argparse.ArgumentParser) -> None:
    """Adds what says where and how a gallery's embeddings are kept and searched.

    Args:
        parser: of a command that searches a gallery.
    """
    parser.add_argument(
        "--store", metavar="DIR", help="keeps the gallery's embeddings (a folder in the cache)"
    )
    parser.add_argument(
        "--index",
        action="store_true",
        help="search a graph of neighbours, for galleries of millions: nearly the exact lists",
    )
    parser.add_argument("--float16", action="store_true", help="a store of half the size")
