"""Measure a model, or features made elsewhere, on images of people it has not seen.

  reid-jax evaluate model photos/ --flip --expand 10 --rerank
  reid-jax evaluate --features features.mat

DATA is a folder or zip file with query and gallery, or one that is not divided, whose images are
then divided: one random image of each person and camera asks. FILE is .npz, .h5 or .mat, and holds
query_f, query_label, query_cam, gallery_f, gallery_label and gallery_cam, or features and files as
`reid-jax embed` writes them. Who is on the images of such a file is said by DATA, a folder with the
same names or a CSV file file,identity[,camera][,split]; without it by the file, or by its names.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

from reid_jax.cli.arguments import at_least

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    parser.usage = "reid-jax evaluate (MODEL DATA | --features FILE [DATA]) [options]"
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="MODEL DATA",
        help="saved model, or a training's directory; and a folder, zip file or table of images",
    )
    parser.add_argument("--features", metavar="FILE", help="in the place of a model")
    parser.add_argument(
        "--protocol",
        action="append",
        default=[],
        metavar="NAME,NAME,...",
        help="single-query; each image is embedded once for all of them",
    )
    parser.add_argument("--flip", action="store_true", help="embed each image and its mirror image")
    parser.add_argument(
        "--expand",
        type=at_least(0),
        default=0,
        metavar="N",
        help="average a query with its N nearest images",
    )
    parser.add_argument("--rerank", action="store_true", help="re-rank by k-reciprocal neighbours")
    parser.add_argument(
        "--no_normalise",
        "--no-normalise",
        action="store_true",
        help="compare features as they are, not scaled to unit length",
    )
    parser.add_argument(
        "--allow_overlap",
        "--allow-overlap",
        action="store_true",
        help="test on people or files that were trained on too; the result says so",
    )
    parser.add_argument(
        "--save",
        action="store_true",
        help="measure thresholds and a probability on these people too, and keep them in the model",
    )
    parser.add_argument("--json", metavar="FILE", help="write JSON; - is the standard output")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    model, data = _inputs(arguments)
    if arguments.save and (model is None or arguments.flip or arguments.no_normalise):
        raise ValueError(
            "--save keeps thresholds of the distances of MODEL as it is: leave out --features, "
            "--flip and --no_normalise"
        )
    # Imported here: --help answers without JAX.
    from reid_jax.cli import evaluating
    from reid_jax.files import write_atomically

    found = evaluating.evaluations(
        model,
        data,
        features=arguments.features,
        protocols=[name for text in arguments.protocol for name in text.split(",")],
        flip=arguments.flip,
        expand=arguments.expand,
        rerank=arguments.rerank,
        normalise=False if arguments.no_normalise else None,
        allow_overlap=arguments.allow_overlap,
    )
    told = ""
    if arguments.save:
        if any("overlap" in one.details for one in found):
            raise ValueError("--save: people were trained on, whose distances are not of others")
        told = evaluating.saved_decision(model, data)
    tested = {"model": model, "features": arguments.features, "data": data}
    text = json.dumps({**tested, **evaluating.as_json(found)}, indent=2, allow_nan=False) + "\n"
    if arguments.json == "-":
        sys.stdout.write(text)
        return 0
    if arguments.json:
        write_atomically(pathlib.Path(arguments.json).expanduser(), text)
    sys.stdout.write(evaluating.as_text(found) + told)
    return 0


def _inputs(arguments: argparse.Namespace) -> tuple[str | None, str | None]:
    """The model and the data; None where they are not given."""
    given = arguments.inputs
    if arguments.features and len(given) < 2:
        return None, given[0] if given else None
    if not arguments.features and len(given) == 2:
        return given[0], given[1]
    raise ValueError(
        f"expected MODEL DATA, or --features FILE and perhaps DATA; got {' '.join(given) or 'none'}"
        f"{' and --features' * bool(arguments.features)}"
    )
