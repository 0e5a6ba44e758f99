"""Train a model on a folder of images, test it, and save it.

  reid-jax train my_crops --out model
  reid-jax train my_crops --out model --minutes 30 --recipe softmax

The folder has a sub-folder for each identity, or names like Market-1501's, or a table
file,identity[,camera][,split]; it may be divided into train, val, test, query and gallery. People
are kept apart to choose the best state and to test it. The same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import sys

from reid_jax.cli.arguments import at_least

__all__ = ["add_arguments", "run"]

NAMES = (
    *("strong", "softmax", "batch_contrastive", "identif_verif", "triplet", "inherent"),
    *("clever", "csn"),
)
"""Of `reid_jax.recipes.RECIPES`, known without importing it."""

STOPPED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    parser.add_argument("data", metavar="DATA", help="folder, zip file or table of images")
    parser.add_argument("--out", required=True, metavar="MODEL", help="new directory")
    parser.add_argument(
        "--recipe",
        choices=NAMES,
        default="batch_contrastive",
        help="method (default: %(default)s); clever and csn need cameras",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes", type=_minutes, metavar="N", help="that all may take; the training is shortened"
    )
    length.add_argument(
        "--steps", type=at_least(1), metavar="N", help="length (default: by the number of images)"
    )
    parser.add_argument(
        "--size", type=_size, metavar="HxW", help="of images (default: by their shape, 128x64)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="default: 0")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    # Imported here: --help answers without JAX.
    from reid_jax import recipes, training

    try:
        recipes.train(
            arguments.data,
            arguments.out,
            recipe=arguments.recipe,
            minutes=arguments.minutes,
            num_steps=arguments.steps,
            size=arguments.size,
            seed=arguments.seed,
        )
    except training.StoppedError as stopped:
        print(stopped, file=sys.stderr)
        return STOPPED
    except training.NonFiniteLossError as error:
        print(f"reid-jax train: {error}", file=sys.stderr)
        return 1
    print(
        f"next: reid-jax find {arguments.out} --gallery FOLDER --query IMAGE, or same, "
        "embed, serve, export"
    )
    return 0


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes above 0")
    return value


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and min(int(height), int(width)) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; expected HEIGHTxWIDTH, as 128x64")
    return int(height), int(width)
