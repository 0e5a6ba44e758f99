"""Find the images of a gallery that are most like a query.

  reid-jax find model --gallery photos/ --query q.jpg --top 20 --html page.html

The gallery's embeddings are kept, so the next call embeds only what is new or changed. Gallery
images that cannot be read are listed and left out, and the exit status is then 2.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys

from reid_jax.cli.arguments import add_store, at_least

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    parser.add_argument("model", metavar="MODEL", help="saved model, or a training's directory")
    parser.add_argument("--gallery", required=True, metavar="DIR", help="folder or zip file")
    parser.add_argument(
        "--query", required=True, action="append", metavar="FILE", help="image; may be repeated"
    )
    parser.add_argument(
        "--top", type=at_least(1), default=20, metavar="N", help="images a query (20)"
    )
    parser.add_argument(
        "--rerank", action="store_true", help="re-rank by k-reciprocal neighbours (takes longer)"
    )
    parser.add_argument(
        "--expand",
        type=at_least(0),
        default=0,
        metavar="N",
        help="search with the mean of the query and its N nearest images",
    )
    parser.add_argument(
        "--other_cameras",
        "--other-cameras",
        action="store_true",
        help="leave out what the query's own camera saw, where cameras are known",
    )
    parser.add_argument("--html", metavar="FILE", help="write a page with the images")
    parser.add_argument("--json", metavar="FILE", help="write JSON; - is the standard output")
    parser.add_argument("--csv", metavar="FILE", help="write CSV; - is the standard output")
    add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    # Imported here: --help answers without JAX.

    from reid_jax import search
    from reid_jax.cli.shared import open_graph, open_model, open_store, tell_unreadable, updated
    from reid_jax.files import write_atomically

    if arguments.index and arguments.rerank:
        raise ValueError("--rerank compares all images with each other: leave --index out")
    embedder = open_model(arguments.model)
    gallery = search.open_gallery(arguments.gallery)
    # Before the gallery is embedded: that may take hours.
    search.read_queries(arguments.query, embedder.input_size)
    store = open_store(arguments.store, embedder, gallery, arguments.float16)
    update = updated(store, gallery)
    graph = open_graph(store, update.stored, top=arguments.top) if arguments.index else None
    searcher = search.Searcher(embedder, gallery, update.stored, graph)
    results = searcher.search(
        searcher.queries(arguments.query),
        top=arguments.top,
        rerank=arguments.rerank,
        expand=arguments.expand,
        other_cameras=arguments.other_cameras,
    )
    results = dataclasses.replace(results, unreadable=update.unreadable)
    made = {"json": search.as_json, "csv": search.as_csv}
    shown = False
    for kind, make in made.items():
        file = getattr(arguments, kind)
        if file == "-":
            sys.stdout.write(make(results))
            shown = True
        elif file:
            write_atomically(pathlib.Path(file).expanduser(), make(results))
    if arguments.html:
        queries = [pathlib.Path(path).expanduser().read_bytes() for path in arguments.query]
        page = search.as_page(results, queries)
        write_atomically(pathlib.Path(arguments.html).expanduser(), page)
        print(f"the page is {arguments.html}", file=sys.stderr)
    if not shown:
        sys.stdout.write(search.as_text(results))
    return tell_unreadable(update.unreadable)
