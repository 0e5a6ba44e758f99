"""Kinds of arguments that several commands take."""

from __future__ import annotations

import argparse
from collections.abc import Callable

__all__ = ["at_least"]


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
