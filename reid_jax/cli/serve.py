"""Open a search page on this machine.

  reid-jax serve model --gallery photos/

Drop an image on the page, or click one of the gallery, and see what is most like it. The page loads
nothing from elsewhere, and other machines cannot reach it unless --host names an address of this
machine that they can. Stop it with Ctrl-C.
"""

from __future__ import annotations

import argparse

from reid_jax.cli.arguments import add_store

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments to a parser."""
    parser.add_argument("model", metavar="MODEL", help="saved model, or a training's directory")
    parser.add_argument("--gallery", required=True, metavar="DIR", help="folder or zip file")
    parser.add_argument("--port", type=int, default=8321, metavar="N", help="8321; 0 takes any")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="127.0.0.1; the page asks for no password, so think before you give another",
    )
    add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command until it is interrupted; returns the exit status."""
    # Imported here: --help answers without JAX.
    from reid_jax import search
    from reid_jax.cli.shared import open_graph, open_model, open_store, tell_unreadable, updated

    try:
        from reid_jax.search.server import listen, make_app
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{error.name} is not installed: pip install 'reid-jax[serve]' brings it"
        ) from error

    # The port comes first: the gallery may take hours.
    with listen(arguments.host, arguments.port) as listening:
        embedder = open_model(arguments.model)
        gallery = search.open_gallery(arguments.gallery)
        store = open_store(arguments.store, embedder, gallery, arguments.float16)
        update = updated(store, gallery)
        status = tell_unreadable(update.unreadable)
        graph = open_graph(store, update.stored, top=20) if arguments.index else None
        searcher = search.Searcher(embedder, gallery, update.stored, graph)
        app = make_app(searcher, hosts=listening.hosts, num_unreadable=len(update.unreadable))
        print(f"the page is {listening.address} (Ctrl-C stops it)", flush=True)
        listening.serve(app)
    return status
