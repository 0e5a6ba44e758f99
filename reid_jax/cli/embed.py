"""Embed any number of images into one file.

  reid-jax embed model photos/ -o photos.npz

.npz and .h5 hold features [N, D], files, identities and cameras (names, empty where the folder does
not say them); a line of .csv has file, identity, camera and D numbers. Images that cannot be read
are listed and left out, and the exit status is then 2.
"""

from __future__ import annotations

import argparse
import os

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    parser.add_argument("model", metavar="MODEL", help="saved model, or a training's directory")
    parser.add_argument("paths", metavar="PATH", nargs="+", help="folder, zip file or image")
    parser.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="ends in .npz, .h5 or .csv"
    )
    parser.add_argument("--float16", action="store_true", help="numbers of half the size")


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    # Imported here: --help answers without JAX.

    from reid_jax.cli.shared import open_model, tell_unreadable
    from reid_jax.search.feature_files import embed_to_file
    from reid_jax.search.gallery import gallery_of_files, open_gallery

    galleries = []
    alone = []
    for path in arguments.paths:
        if os.path.isdir(path) or path.lower().endswith(".zip") or not os.path.exists(path):
            galleries.append(open_gallery(path))
        else:
            alone.append(path)
    if alone:
        galleries.append(gallery_of_files(alone))
    number, unreadable = embed_to_file(
        open_model(arguments.model),
        galleries,
        arguments.output,
        dtype="float16" if arguments.float16 else "float32",
        progress=True,
    )
    print(f"{number:,} embeddings are in {arguments.output}")
    return tell_unreadable(unreadable)
