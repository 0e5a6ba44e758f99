"""From images to the gallery images that are most like them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Collection, Sequence

import numpy as np

from reid_jax.data.records import market_records
from reid_jax.embedder import Embedder
from reid_jax.evaluation import mean_with_nearest
from reid_jax.search.embedding import StreamEmbedder, Unreadable, read_queries
from reid_jax.search.gallery import Gallery, open_gallery
from reid_jax.search.graph import NeighbourGraph
from reid_jax.search.nearest import Removed, nearest
from reid_jax.search.reranking import rerank_nearest
from reid_jax.search.store import EmbeddingStore, Stored

__all__ = ["Found", "Hit", "Queries", "Results", "Searcher", "find"]


@dataclasses.dataclass(frozen=True)
class Hit:
    """A gallery image that was found.

    Attributes:
        file: its path in the gallery, with '/'.
        distance: smaller is more alike; `Results.distance` says what it is.
        identity: the name of who is on it, where the gallery says so.
        camera: the name of its camera, likewise.
        row: its row in the store.
        probability: that it shows whom the query shows, where one pair in two does; None where the
            model does not say.
    """

    file: str
    distance: float
    identity: str | None
    camera: str | None
    row: int
    probability: float | None = None


@dataclasses.dataclass(frozen=True)
class Found:
    """What was found for one query, nearest first.

    Attributes:
        query: the query's file.
        hits: the nearest gallery images.
    """

    query: str
    hits: Sequence[Hit]


@dataclasses.dataclass(frozen=True)
class Results:
    """What was found for all queries.

    Attributes:
        found: one list a query, in the order of the queries.
        distance: what the distances are, for a heading.
        unreadable: gallery images that were not searched.
        gallery: all that was searched.
        threshold: the distance up to which the model says that two images show one person, at the
            point of equal error; None where it does not say.
        decision: where the threshold comes from, or why there is none; empty for a model that
            has none.
    """

    found: Sequence[Found]
    distance: str
    unreadable: Sequence[Unreadable] = ()
    gallery: Gallery | None = dataclasses.field(default=None, repr=False)
    threshold: float | None = None
    decision: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Queries:
    """What is looked for.

    Attributes:
        names: [Q] for messages and pages.
        features: [Q, D] float32.
        rows: [Q] row of the store that the query is itself, which no list of it shows; -1 for none.
        identities: [Q] names; None where not known.
        cameras: [Q] names; None where not known.
    """

    names: Sequence[str]
    features: np.ndarray
    rows: np.ndarray
    identities: Sequence[str | None]
    cameras: Sequence[str | None]


class Searcher:
    """A gallery with its embeddings, ready for query after query.

    Attributes:
        gallery: the images.
        stored: their embeddings.
        identities: [G] names by row of the store; None where not known.
        cameras: [G] likewise.

    Args:
        embedder: the model of the embeddings.
        gallery: the images.
        stored: the embeddings, of a store that was updated with this gallery.
        graph: of `stored`, which gives nearly the exact lists of a gallery of millions in less
            time; None compares with all images. Re-ranking compares with all in any case.
    """

    def __init__(
        self,
        embedder: Embedder,
        gallery: Gallery,
        stored: Stored,
        graph: NeighbourGraph | None = None,
    ) -> None:
        self.gallery, self.stored, self._graph = gallery, stored, graph
        self._embedder = embedder
        self._decision = embedder.known_decision() if embedder.decision else None
        self._row_of = {file: row for row, file in enumerate(stored.files)}
        place = {file: number for number, file in enumerate(gallery.files)}
        self.identities = [gallery.identities[place[file]] for file in stored.files]
        self.cameras = [gallery.cameras[place[file]] for file in stored.files]
        self._embed = StreamEmbedder(embedder, batch_size=1)

    @property
    def distance_name(self) -> str:
        """What the distances are, for a heading."""
        return self._embedder.distance_name

    @property
    def decision_name(self) -> str:
        """Where the threshold comes from, for a heading; empty without one."""
        return self._decided(rerank=False, expand=0)

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) to which a query is resized."""
        return self._embed.input_size

    def queries(self, paths: Sequence[str | os.PathLike]) -> Queries:
        """Embeds the images that are looked for.

        Who and which camera a query shows is known if it is in the gallery, or if the gallery has
        such names and the query's name is like Market-1501's.

        Args:
            paths: Q files.

        Raises:
            ValueError: if there is none, or some are no images; all of these are named.
        """
        pixels = read_queries(paths, self._embed.input_size)
        batch = self._embed
        if len(pixels) > 1:
            size = min(self._embedder.scoring.batch_size, 1 << (len(pixels) - 1).bit_length())
            batch = StreamEmbedder(self._embedder, batch_size=size)
        names = [os.fspath(path) for path in paths]
        features = [
            batch(pixels[i : i + batch.batch_size], names[i : i + batch.batch_size])
            for i in range(0, len(pixels), batch.batch_size)
        ]
        rows, identities, cameras = [], [], []
        for path in paths:
            row = self._row_in_gallery(pathlib.Path(path).expanduser())
            rows.append(row)
            identity, camera = self._said_by_name(os.path.basename(path))
            identities.append(self.identities[row] if row >= 0 else identity)
            cameras.append(self.cameras[row] if row >= 0 else camera)
        return Queries(names, np.concatenate(features), np.array(rows), identities, cameras)

    def query_of_pixels(self, pixels: np.ndarray, name: str) -> Queries:
        """Embeds one image in memory.

        Args:
            pixels: [H, W, 3] uint8, RGB, of the embedder's input size.
            name: for pages.

        Raises:
            ValueError: if the embedding is not finite.
        """
        features = self._embed(pixels[None], [name])
        return Queries([name], features, np.array([-1]), [None], [None])

    def queries_of_rows(self, rows: Sequence[int]) -> Queries:
        """Takes images of the gallery as queries.

        Args:
            rows: of the store.

        Raises:
            IndexError: if a row is out of range.
        """
        if any(not 0 <= row < len(self.stored) for row in rows):
            raise IndexError(f"rows {list(rows)} of a store of {len(self.stored)}")
        return Queries(
            [self.stored.files[row] for row in rows],
            np.asarray(self.stored.features[list(rows)], np.float32),
            np.array(rows),
            [self.identities[row] for row in rows],
            [self.cameras[row] for row in rows],
        )

    def search(
        self,
        queries: Queries,
        *,
        top: int,
        rerank: bool = False,
        expand: int = 0,
        other_cameras: bool = False,
        cameras: Collection[str] | None = None,
        name: str = "",
    ) -> Results:
        """Finds the gallery images that are most like each query.

        Args:
            queries: what is looked for.
            top: length of a list.
            rerank: by k-reciprocal neighbours; takes the neighbours of all gallery images.
            expand: replaces a query by the mean of itself and its nearest images, this many.
            other_cameras: leaves out what the query's camera saw: of the query's identity, or all
                of it where that is not known. A query whose camera is not known loses nothing.
            cameras: shows these cameras only.
            name: shows files and identities only whose names hold this, in any case.

        Raises:
            ValueError: as `nearest`; or if `other_cameras` is asked of a gallery without
                cameras, or `expand` is below 0.
        """
        if other_cameras and not any(self.cameras):
            raise ValueError(
                f"the gallery {self.gallery.root} does not say its cameras, so none can be left "
                "out: names like 0002_c1_000451.jpg, or a table with a column camera, say them"
            )
        if expand < 0:
            raise ValueError(f"expand is {expand}, expected a number of images")
        removed = self._removed(queries, other_cameras, cameras, name)
        features = queries.features
        if expand:
            features = self._expanded(queries, expand)
        decision = None if rerank or expand else self._decision
        if self._graph is not None and not rerank:
            lists = self._graph.nearest(features, top=top, removed=removed)
        else:
            search = rerank_nearest if rerank else nearest
            lists = search(features, self.stored.features, top=top, removed=removed)
        found = [
            Found(
                query,
                [
                    Hit(
                        self.stored.files[row],
                        float(distance),
                        self.identities[row],
                        self.cameras[row],
                        int(row),
                        None if decision is None else decision.verdict(distance).probability,
                    )
                    for row, distance in zip(rows, distances, strict=True)
                    if row >= 0
                ],
            )
            for query, rows, distances in zip(
                queries.names, lists.rows, lists.distances, strict=True
            )
        ]
        kind = "distance re-ranked by k-reciprocal neighbours" if rerank else self.distance_name
        if expand:
            kind += f", of queries averaged with their {expand} nearest images"
        return Results(
            found,
            kind,
            gallery=self.gallery,
            threshold=None if decision is None else decision.threshold(),
            decision=self._decided(rerank=rerank, expand=expand),
        )

    def _decided(self, *, rerank: bool, expand: int) -> str:
        if self._decision is None:
            return ""
        if rerank or expand:
            what = "re-ranked distances" if rerank else "distances of averaged queries"
            return (
                f"{what} have no probability and no threshold: those were measured on distances of "
                "two images alone"
            )
        return (
            f"equal error {100 * self._decision.equal_error.rate:.1f} %, measured on "
            f"{self._decision.origin}"
        )

    def _expanded(self, queries: Queries, number: int) -> np.ndarray:
        removed = self._removed(queries, False, None, "")
        around = nearest(queries.features, self.stored.features, top=number, removed=removed)
        return mean_with_nearest(
            queries.features,
            (np.asarray(self.stored.features[rows[rows >= 0]], np.float32) for rows in around.rows),
            normalise=self._embedder.scoring.normalise,
        )

    def _removed(
        self, queries: Queries, other_cameras: bool, cameras: Collection[str] | None, name: str
    ) -> Removed | None:
        hidden = np.zeros(len(self.stored), bool)
        if cameras is not None:
            shown = set(cameras)
            hidden |= np.array([camera not in shown for camera in self.cameras])
        if name:
            wanted = name.casefold()
            hidden |= np.array(
                [
                    wanted not in file.casefold() and wanted not in (identity or "").casefold()
                    for file, identity in zip(self.stored.files, self.identities, strict=True)
                ]
            )
        seen, query_cameras = _numbers(self.cameras, queries.cameras)
        shows, query_identities = _numbers(self.identities, queries.identities)
        if not (hidden.any() or other_cameras or (queries.rows >= 0).any()):
            return None

        def removed(asked: slice, found: slice) -> np.ndarray:
            columns = np.arange(len(hidden))[found]
            left = queries.rows[asked, None] == columns
            left |= hidden[found]
            if other_cameras:
                camera, identity = query_cameras[asked, None], query_identities[asked, None]
                same = (camera == seen[found]) & (camera >= 0)
                left |= same & ((identity == shows[found]) | (identity == -1))
            return left

        return removed

    def _row_in_gallery(self, path: pathlib.Path) -> int:
        try:
            inside = path.absolute().relative_to(self.gallery.root).as_posix()
        except ValueError:
            return -1
        return self._row_of.get(inside, -1)

    def _said_by_name(self, name: str) -> tuple[str | None, str | None]:
        if not any(self.cameras):
            return None, None
        records, _ = market_records([name], first_camera=0)
        if not records:
            return None, None
        identity = str(records[0].identity) if records[0].identity > 0 else None
        return identity, str(records[0].camera)


def _numbers(
    gallery: Sequence[str | None], queries: Sequence[str | None]
) -> tuple[np.ndarray, np.ndarray]:
    """A number for each name on both sides, -1 for None."""
    known = {name: i for i, name in enumerate(dict.fromkeys([*gallery, *queries]))}
    known[None] = -1
    here, there = (np.array([known[name] for name in x], np.int64) for x in (gallery, queries))
    return here, there


def find(
    embedder: Embedder,
    gallery: Gallery | str | os.PathLike,
    queries: Sequence[str | os.PathLike],
    *,
    top: int = 20,
    rerank: bool = False,
    expand: int = 0,
    other_cameras: bool = False,
    store: str | os.PathLike | None = None,
    dtype: str | None = None,
    progress: bool = False,
) -> Results:
    """Finds the gallery images that are most like each query.

    A query that is itself in the gallery is not found for itself.

    Args:
        embedder: the model, one that embeds single images.
        gallery: a folder or zip file of any form.
        queries: image files.
        top: length of a list.
        rerank: by k-reciprocal neighbours; takes the neighbours of all gallery images.
        expand: replaces a query by the mean of itself and its nearest images, this many.
        other_cameras: leaves out what the query's camera saw; see `Searcher.search`.
        store: folder that keeps the gallery's embeddings for the next call, see
            `EmbeddingStore`; None embeds the gallery for this call only.
        dtype: of the store, 'float32' or 'float16'.
        progress: show a progress bar.

    Returns:
        A list a query, and the gallery images that cannot be read, which are left out.

    Raises:
        FileNotFoundError: if there is no gallery.
        ValueError: if the gallery or a query holds no image, the store is of another model, or the
            network has no embedding of a single image.
    """
    opened = gallery if isinstance(gallery, Gallery) else open_gallery(gallery)
    # Before the gallery is embedded: that may take hours.
    read_queries(queries, embedder.input_size)
    with tempfile.TemporaryDirectory(prefix="reid_jax_") as temporary:
        kept = EmbeddingStore(store or temporary, embedder, dtype=dtype)
        update = kept.update(opened, progress=progress)
        searcher = Searcher(embedder, opened, update.stored)
        results = searcher.search(
            searcher.queries(queries),
            top=top,
            rerank=rerank,
            expand=expand,
            other_cameras=other_cameras,
        )
    return dataclasses.replace(results, unreadable=update.unreadable)
