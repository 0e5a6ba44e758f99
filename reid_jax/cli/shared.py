"""What several commands do alike."""

from __future__ import annotations

import hashlib
import pathlib
import sys
from collections.abc import Sequence

from reid_jax.embedder import TRAINING_FILE, Embedder
from reid_jax.files import cache_dir
from reid_jax.search import (
    EmbeddingStore,
    Gallery,
    NeighbourGraph,
    Stored,
    Unreadable,
    Update,
    model_digest,
)

__all__ = ["PARTIAL", "open_graph", "open_model", "open_store", "tell_unreadable", "updated"]

PARTIAL = 2
"""Exit status where some images could not be read, and the rest was done."""

SHOWN = 20
QUERIES_OF_RECALL = 100


def open_model(path: str) -> Embedder:
    """Opens a saved model, or the work directory of a training.

    Args:
        path: of a directory.

    Raises:
        FileNotFoundError: if it is neither.
        ValueError: if it is of another version or damaged.
    """
    directory = pathlib.Path(path).expanduser()
    if (directory / TRAINING_FILE).exists():
        return Embedder.from_run(directory)
    return Embedder.load(directory)


def open_store(
    path: str | None, embedder: Embedder, gallery: Gallery, half: bool
) -> EmbeddingStore:
    """Opens the store that was asked for, else this gallery's and model's in the user's cache.

    Args:
        path: of the store's folder, or None.
        embedder: the model.
        gallery: the images.
        half: keep float16.
    """
    if path is None:
        key = f"{gallery.root}\0{model_digest(embedder)}\0{half}"
        name = f"{gallery.root.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
        path = cache_dir() / "stores" / name
    return EmbeddingStore(path, embedder, dtype="float16" if half else None)


def updated(store: EmbeddingStore, gallery: Gallery) -> Update:
    """Updates a store, and says on the standard error what was done.

    Args:
        store: of the gallery.
        gallery: the images.
    """
    for note in gallery.notes:
        print(note, file=sys.stderr)
    update = store.update(gallery, progress=True)
    print(
        f"{len(update.stored):,} images searched: {update.embedded:,} embedded now, "
        f"{update.kept:,} from {store.directory}",
        file=sys.stderr,
    )
    return update


def open_graph(store: EmbeddingStore, stored: Stored, *, top: int) -> NeighbourGraph:
    """Opens or builds the graph of a store, and says on the standard error what it misses.

    Args:
        store: keeps the graph.
        stored: its embeddings.
        top: length of the lists that are compared.

    Raises:
        ModuleNotFoundError: if usearch is not installed; the message says what installs it.
    """
    graph = NeighbourGraph(stored, store.directory, progress=True)
    queries = min(QUERIES_OF_RECALL, len(stored))
    print(
        f"the index finds {graph.recall(top=top, sample=queries):.1%} of the exact lists of {top} "
        f"({queries} images of the gallery as queries)",
        file=sys.stderr,
    )
    return graph


def tell_unreadable(unreadable: Sequence[Unreadable]) -> int:
    """Lists the images that were left out on the standard error.

    Args:
        unreadable: the images.

    Returns:
        The exit status: 0 if there is none.
    """
    if not unreadable:
        return 0
    images = "image" if len(unreadable) == 1 else "images"
    print(f"{len(unreadable):,} {images} cannot be read and were left out:", file=sys.stderr)
    for one in unreadable[:SHOWN]:
        print(f"  {one.file}: {one.reason}", file=sys.stderr)
    if len(unreadable) > SHOWN:
        print(f"  and {len(unreadable) - SHOWN:,} more", file=sys.stderr)
    return PARTIAL
