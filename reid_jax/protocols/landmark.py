"""Landmark retrieval: boxes of images against all images, at their own size: Oxford5k."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from reid_jax import data, evaluation, parallel
from reid_jax.data import Source
from reid_jax.distances import squared_euclidean
from reid_jax.embedder import Embedder
from reid_jax.protocols.base import Evaluation, Protocol, Subsets, of_comparison
from reid_jax.protocols.features import Embeds
from reid_jax.protocols.market import refuse_pairs

__all__ = ["Landmarks"]

BOX_MULTIPLE = 32
"""Sides of the queries are rounded to it: a network is compiled for each size."""

SMALLEST_BOX = 39
"""What CaffeNet needs at least; smaller queries are enlarged."""


@dataclasses.dataclass(frozen=True)
class Landmarks(Protocol):
    """A box of one image searches a collection: `oxford5k`."""

    needs: ClassVar[tuple[str, ...]] = ("images", "queries")

    def check(self, embedder: Embeds) -> None:
        """Refuses a network that scores pairs, features, and re-ranking; see `Protocol.check`."""
        refuse_pairs(self, embedder)
        super().check(embedder)
        if not isinstance(embedder, Embedder):
            raise ValueError(f"{self.name} embeds boxes of images at their own size: give a model")
        if self.refinement.rerank:
            self._refuse_refinement("the junk images are others for each query")

    def shown(self, subsets: Subsets) -> tuple[Source, Source]:
        """The collection, for queries and gallery."""
        return subsets["images"], subsets["images"]

    def _evaluate(self, embedder: Embeds, subsets: Subsets) -> Evaluation:
        assert isinstance(embedder, Embedder)
        images, queries = subsets["images"], subsets["queries"]

        def features(read: Any, sizes: np.ndarray, description: str) -> np.ndarray:
            return evaluation.extract_features_by_size(
                embedder.embed,
                embedder.variables,
                lambda groups: data.batches_by_size(groups, read=read, sizes=sizes),
                sizes=sizes,
                batch_size=embedder.scoring.batch_size,
                description=description,
            )

        sizes = np.array([query.size for query in queries])
        boxes = data.rounded_sizes(sizes, BOX_MULTIPLE, smallest=SMALLEST_BOX)
        of_queries = features(
            lambda row, size: data.query_image(images, queries[row], size),
            boxes,
            "embedding queries",
        )
        sizes = data.image_sizes(images, progress=parallel.is_main_process())
        of_images = features(images.image, sizes, f"embedding {images.split}")
        nobody = np.zeros(len(images), np.int64)  # Junk is another one for each query.
        of_queries = self.refinement.expanded(
            of_queries, of_images, nobody, normalise=embedder.scoring.normalise
        )
        ranked = dataclasses.replace(
            evaluation.oxford5k(of_queries, of_images, queries, images.files),
            comparison=_comparison(of_queries, of_images, queries),
        )
        return of_comparison(embedder, ranked)


def _comparison(
    of_queries: np.ndarray, of_images: np.ndarray, queries: Sequence[data.LandmarkQuery]
) -> evaluation.Comparison:
    """Each query with all images but its junk."""
    distances = np.array(squared_euclidean(of_queries, of_images))
    match = np.zeros(distances.shape, bool)
    gallery_rows = np.tile(np.arange(len(of_images)), (len(queries), 1))
    for place, query in enumerate(queries):
        match[place, np.concatenate([query.good, query.ok])] = True
        gallery_rows[place, query.junk] = -1
    distances[gallery_rows < 0] = np.inf
    return evaluation.Comparison(np.arange(len(queries)), gallery_rows, distances, match)
