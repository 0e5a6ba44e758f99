"""A graph of neighbours for galleries of millions: nearly the exact list, without a look at all."""

from __future__ import annotations

import hashlib
import os
import pathlib

import numpy as np
from tqdm import tqdm

from reid_jax.extras import require
from reid_jax.search.nearest import Nearest, Removed, checked_finite, checked_sides, nearest
from reid_jax.search.store import Stored

__all__ = ["NeighbourGraph"]

SETTINGS = {"connectivity": 16, "expansion_add": 128, "expansion_search": 128}
"""Of the graph: edges a node, and nodes looked at when one is added and when one is sought."""

CANDIDATES_PER_PLACE, FEWEST_CANDIDATES = 4, 128
ROWS_PER_ADDITION = 4096


class NeighbourGraph:
    """Finds most of the nearest gallery rows in time that hardly grows with the gallery.

    usearch's graph of float16 copies proposes candidates, some times more than are asked for, and
    their exact distances decide. What is missed is a candidate that the graph did not propose;
    `recall` measures how often. `nearest` is the exact list, and is fast enough below a million
    images.

    Source: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using
    Hierarchical Navigable Small World graphs", 2018.

    Args:
        stored: the embeddings of a gallery.
        directory: keeps the graph for the next time, beside the store's own files; None builds it
            for this process only. A graph of other embeddings is replaced.
        progress: show a progress bar while the graph is built.

    Raises:
        ModuleNotFoundError: if usearch is not installed; the message says what installs it.
        ValueError: if an embedding is not finite.
    """

    def __init__(
        self,
        stored: Stored,
        directory: str | os.PathLike | None = None,
        *,
        progress: bool = False,
    ) -> None:
        self._features = stored.features
        usearch = require("usearch.index")
        path = None
        if directory is not None:
            path = pathlib.Path(directory).expanduser() / f"graph-{_digest(stored)}.usearch"
            if path.exists():
                self._index = usearch.Index.restore(str(path), view=True)
                return
        self._index = usearch.Index(
            ndim=stored.features.shape[1], metric="l2sq", dtype="f16", **SETTINGS
        )
        with tqdm(total=len(stored), desc="indexing", unit="img", disable=not progress) as bar:
            for start in range(0, len(stored), ROWS_PER_ADDITION):
                rows = np.asarray(stored.features[start : start + ROWS_PER_ADDITION], np.float32)
                bad = ~np.isfinite(rows).all(axis=1)
                if bad.any():
                    file = stored.files[start + int(np.argmax(bad))]
                    raise ValueError(f"the embedding of {file} holds nan or infinite numbers")
                self._index.add(np.arange(start, start + len(rows)), rows)
                bar.update(len(rows))
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.partial")
            self._index.save(str(partial))
            os.replace(partial, path)
            for other in path.parent.glob("graph-*.usearch"):
                if other != path:
                    other.unlink(missing_ok=True)

    def nearest(self, queries: np.ndarray, *, top: int, removed: Removed | None = None) -> Nearest:
        """Finds gallery rows that are near each query, by exact distances among the candidates.

        A query whose candidates are removed but for fewer than `top` gets the exact list.

        Args:
            queries: [Q, D] finite.
            top: length of the lists; may exceed the gallery.
            removed: gallery rows that are left out, for each query.

        Returns:
            Lists of k = min(top, G) rows; `farthest` is of the candidates alone.

        Raises:
            ValueError: as `reid_jax.search.nearest`.
        """
        sides = checked_sides(queries, self._features, top)
        asked = checked_finite(sides[0].block(slice(None)), "query", 0)
        num_gallery = len(self._features)
        kept = min(top, num_gallery)
        number = min(num_gallery, max(FEWEST_CANDIDATES, CANDIDATES_PER_PLACE * top))
        found = self._index.search(asked.reshape(-1, asked.shape[1]), number)
        keys = found.keys.reshape(len(asked), -1)
        counts = np.atleast_1d(getattr(found, "counts", keys.shape[1]))
        rows = np.full((len(asked), kept), -1, np.int64)
        distances = np.full((len(asked), kept), np.nan, np.float32)
        farthest = np.zeros(len(asked), np.float32)
        for q, (query, row) in enumerate(zip(asked, keys, strict=True)):
            # In the order of the gallery: equal distances go to the lower row.
            candidates = np.sort(row[: counts[q]].astype(np.int64))
            near = np.asarray(self._features[candidates], np.float32) - query
            squared = np.einsum("cd,cd->c", near, near)
            farthest[q] = squared.max()
            left = None if removed is None else removed(slice(q, q + 1), slice(0, num_gallery))
            if left is not None:
                shown = ~left[0, candidates]
                candidates, squared = candidates[shown], squared[shown]
                if len(candidates) < min(kept, int((~left[0]).sum())):
                    exact = self._exact(query, left[0], top)
                    rows[q], distances[q] = exact.rows[0], exact.distances[0]
                    continue
            order = np.argsort(squared, kind="stable")[:kept]
            rows[q, : len(order)] = candidates[order]
            distances[q, : len(order)] = squared[order]
        return Nearest(rows, distances, farthest)

    def _exact(self, query: np.ndarray, left: np.ndarray, top: int) -> Nearest:
        return nearest(
            query[None], self._features, top=top, removed=lambda _, columns: left[None, columns]
        )

    def recall(self, *, top: int, sample: int = 100, seed: int = 0) -> float:
        """Share of the exact lists that the graph finds, with images of the gallery as queries.

        Args:
            top: length of the lists.
            sample: number of queries, drawn without repetition.
            seed: of the draw.

        Returns:
            Mean over the queries of |found and exact| / |exact|, in [0, 1].
        """
        generator = np.random.default_rng(seed)
        number = min(sample, len(self._features))
        drawn = np.sort(generator.choice(len(self._features), number, replace=False))
        queries = np.asarray(self._features[drawn], np.float32)
        here, exact = self.nearest(queries, top=top), nearest(queries, self._features, top=top)
        shares = [np.isin(e, h).mean() for e, h in zip(exact.rows, here.rows, strict=True)]
        return float(np.mean(shares))


def _digest(stored: Stored) -> str:
    said = hashlib.sha256(f"{stored.features.shape} {stored.features.dtype} {SETTINGS}\n".encode())
    for digest in stored.digests:
        said.update(digest.encode())
    return said.hexdigest()[:16]
