"""Decide whether two images show one person.

  reid-jax same model a.jpg b.jpg
  reid-jax same model --pairs pairs.csv --far 0.01

The threshold was measured on people that were kept apart when the model was trained: by default the
one of equal error, with --far the one that accepts that share of pairs of two persons. The
probability is that of a pair that is as likely to show one person as two. A line of the file of
--pairs has two images, from the directory the command is given in; a first line 'a,b' is a heading.
The exit status is 0 whatever is decided, and 1 after an error.
"""

from __future__ import annotations

import argparse
import csv
import json
import pathlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reid_jax.evaluation import Decision, Verdict

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    parser.add_argument("model", metavar="MODEL", help="saved model, or a training's directory")
    parser.add_argument("images", metavar="IMAGE", nargs="*", help="two images")
    parser.add_argument("--pairs", metavar="FILE", help="CSV of pairs of images")
    parser.add_argument(
        "--far",
        type=float,
        metavar="RATE",
        help="false accept rate: 0.1, 0.01, 0.001 or 0.0001, as far as it was measured",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    pairs = _pairs(arguments)
    # Imported here: --help, and what is wrong with the arguments, come without JAX.
    from reid_jax.cli.shared import open_model
    from reid_jax.decide import same_pairs

    embedder = open_model(arguments.model)
    verdicts = same_pairs(embedder, pairs, false_accept_rate=arguments.far)
    decision = embedder.known_decision()
    if arguments.json:
        print(json.dumps(_record(decision, pairs, verdicts), indent=2, ensure_ascii=False))
        return 0
    for (a, b), verdict in zip(pairs, verdicts, strict=True):
        told = "same person" if verdict.same else "different people"
        line = f"{told:<17} distance {verdict.distance:.4f}"
        if verdict.probability is not None:
            line += f"  probability {100 * verdict.probability:5.1f} %"
        print(line + f"  {a}  {b}" * (len(pairs) > 1))
    print(f"{_threshold(decision, arguments.far)}; measured on {decision.origin}")
    return 0


def _pairs(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    if arguments.pairs is None:
        if len(arguments.images) != 2:
            raise ValueError(f"got {len(arguments.images)} images, expected two, or --pairs FILE")
        return [(arguments.images[0], arguments.images[1])]
    if arguments.images:
        raise ValueError(f"got {arguments.images[0]} and --pairs: give one or the other")
    path = pathlib.Path(arguments.pairs).expanduser()
    pairs = []
    with path.open(newline="", encoding="utf-8") as file:
        try:
            for number, row in enumerate(csv.reader(file), 1):
                cells = [cell.strip() for cell in row]
                if not cells or (number == 1 and cells == ["a", "b"]):
                    continue
                if len(cells) != 2 or not all(cells):
                    raise ValueError(f"line {number} has {','.join(row)!r}, expected two images")
                pairs.append((cells[0], cells[1]))
        except (ValueError, csv.Error) as error:  # A file that is no text is a ValueError too.
            raise ValueError(f"{path}: {error}") from error
    if not pairs:
        raise ValueError(f"{path} has no pair of images")
    return pairs


def _threshold(decision: Decision, rate: float | None) -> str:
    at = f"same up to a distance of {decision.threshold(rate):.4f}, "
    if rate is None:
        return at + f"where both errors are {100 * decision.equal_error.rate:.1f} %"
    point = decision.point(rate)
    return at + (
        f"which accepts {100 * rate:g} % of pairs of two persons and "
        f"{100 * (point.true_accept_rate or 0):.1f} % of pairs of one"
    )


def _record(
    decision: Decision, pairs: list[tuple[str, str]], verdicts: list[Verdict]
) -> dict[str, object]:
    first = verdicts[0]
    point = None if first.false_accept_rate is None else decision.point(first.false_accept_rate)
    return {
        "distance": decision.distance,
        "threshold": first.threshold,
        "false_accept_rate": first.false_accept_rate,
        "true_accept_rate": point and point.true_accept_rate,
        "equal_error_rate": decision.equal_error.rate,
        "measured_on": decision.measured_on,
        "num_people": decision.num_people,
        "dataset": decision.dataset,
        "data_source": decision.data_source,
        "pairs": [
            {
                "a": a,
                "b": b,
                "distance": verdict.distance,
                "probability": verdict.probability,
                "same": verdict.same,
            }
            for (a, b), verdict in zip(pairs, verdicts, strict=True)
        ],
    }
