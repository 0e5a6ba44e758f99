"""Protocols of a query list and a gallery list: Market-1501's, multi-query, distractors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np

from reid_jax import evaluation
from reid_jax.data import Source, join
from reid_jax.protocols import findings
from reid_jax.protocols.base import (
    LIST_LENGTH,
    Evaluation,
    Protocol,
    Subsets,
    listed_queries,
    of_comparison,
)
from reid_jax.protocols.features import Embeds

__all__ = ["DISTRACTOR_SHARES", "Distractors", "MultiQuery", "SingleQuery", "Swapped"]

DISTRACTOR_SHARES = {"fifth/": 0.2, "two_fifths/": 0.4, "": 1.0}
"""Shares of the distractors that are added to the gallery: 100k, 200k and all of the 500k."""

DISTRACTOR_BLOCK = 16_384
"""Distractors whose features are there at once: 134 MB of 2048-d ones."""

NEEDS_EMBEDDINGS = "single-query, single-query-swapped, single-shot-one-direction, " + (
    "single-shot-per-query, multi-shot"
)
POOLED = "single-shot-one-direction, single-shot-per-query, multi-shot"


@dataclasses.dataclass(frozen=True)
class Lists(Protocol):
    """What the protocols of two lists share."""

    needs: ClassVar[tuple[str, ...]] = ("query", "gallery")

    def check(self, embedder: Embeds) -> None:
        """Refuses batch norm that needs a whole side at once; see `Protocol.check`."""
        super().check(embedder)
        if getattr(embedder.model, "test_statistics", "running") == "batch":
            raise ValueError(
                f"model.test_statistics=batch needs all images of a side in one batch, and "
                f"{self.name} embeds them in several: take {POOLED}"
            )

    def _ranked(
        self,
        embedder: Embeds,
        of_query: np.ndarray,
        query: Source,
        gallery: Source,
        *others: tuple[str, Source],
    ) -> Evaluation:
        """The Evaluation of queries by their embeddings; `others` are part of the fingerprint."""
        of_gallery = embedder(gallery)
        of_query = self.refinement.expanded(
            of_query, of_gallery, gallery.identities, normalise=embedder.scoring.normalise
        )
        if self.refinement.rerank:
            distances = self.refinement.distances(of_query, of_gallery, gallery.identities)
            ranked = evaluation.single_query_of_distances(
                distances, query, gallery, protocol=self.name, others=others
            )
            return of_comparison(embedder, ranked)
        ranked = evaluation.single_query(
            of_query, of_gallery, query, gallery, protocol=self.name, others=others
        )
        return of_features(embedder, ranked, (of_query, of_gallery), query, gallery)


@dataclasses.dataclass(frozen=True)
class SingleQuery(Lists):
    """One image a query, the protocol of Market-1501: `single-query`."""

    def _evaluate(self, embedder: Embeds, subsets: Subsets) -> Evaluation:
        query, gallery = self.shown(subsets)
        if embedder.scores_pairs:
            distance_of = embedder.distance_of(join([query, gallery], "both lists"))
            rows = np.arange(len(query) + len(gallery))
            distances = distance_of(rows[: len(query)], rows[len(query) :])
            ranked = evaluation.single_query_of_distances(
                distances, query, gallery, protocol=self.name
            )
            return of_comparison(embedder, ranked)
        return self._ranked(embedder, embedder(query), query, gallery)


@dataclasses.dataclass(frozen=True)
class Swapped(SingleQuery):
    """The same with the lists swapped: each gallery image asks, and the queries answer."""

    def shown(self, subsets: Subsets) -> tuple[Source, Source]:
        """The gallery's images, which ask, and the queries'."""
        return subsets["gallery"], subsets["query"]


@dataclasses.dataclass(frozen=True)
class MultiQuery(Lists):
    """All images of a person in a camera are one query: `multi-query-POOLING`.

    Attributes:
        pooling: 'average' or 'maximum' of their embeddings.
    """

    pooling: str = "average"
    needs: ClassVar[tuple[str, ...]] = ("query", "gallery", "multi_query")

    def check(self, embedder: Embeds) -> None:
        """Refuses a network that scores pairs; see `Protocol.check`."""
        refuse_pairs(self, embedder)
        super().check(embedder)

    def _evaluate(self, embedder: Embeds, subsets: Subsets) -> Evaluation:
        query, gallery, multi = (subsets[name] for name in self.needs)
        pooled = evaluation.pool_queries(embedder(multi), query, multi, pooling=self.pooling)
        return self._ranked(embedder, pooled, query, gallery, ("multi_query", multi))


@dataclasses.dataclass(frozen=True)
class Distractors(Lists):
    """`single-query` as distractors join the gallery: the numbers for each share of them."""

    needs: ClassVar[tuple[str, ...]] = ("query", "gallery", "distractors")

    def check(self, embedder: Embeds) -> None:
        """Refuses a network that scores pairs, and a refinement; see `Protocol.check`."""
        refuse_pairs(self, embedder)
        super().check(embedder)
        if self.refinement:
            self._refuse_refinement(
                "the distractors, among which neighbours would be, are never all there at once"
            )

    def _evaluate(self, embedder: Embeds, subsets: Subsets) -> Evaluation:
        query, gallery, distractors = (subsets[name] for name in self.needs)
        features = embedder(query), embedder(gallery)
        numbers = {
            part: round(share * len(distractors)) for part, share in DISTRACTOR_SHARES.items()
        }
        steps = evaluation.single_query_with_distractors(
            *features,
            _blocks(embedder, distractors),
            query,
            gallery,
            distractors,
            at=list(numbers.values()),
        )
        found = of_features(embedder, steps[numbers[""]], features, query, gallery)
        metrics = {
            part + name: value
            for part, number in numbers.items()
            for name, value in evaluation.metrics(steps[number].result).items()
        }
        return dataclasses.replace(
            found,
            protocol=self.name,
            metrics=metrics,
            num_gallery=len(gallery) + len(distractors),
            details={"distractors": numbers},
        )


def _blocks(embedder: Embeds, distractors: Source) -> Iterator[np.ndarray]:
    """Embeddings of the distractors, which are never all there at once."""
    for first in range(0, len(distractors), DISTRACTOR_BLOCK):
        rows = np.arange(first, min(first + DISTRACTOR_BLOCK, len(distractors)))
        yield embedder(distractors.take(rows, f"{first + len(rows):,} distractors"))


def of_features(
    embedder: Embeds,
    ranked: evaluation.NamedRanking,
    features: Sequence[np.ndarray],
    query: Source,
    gallery: Source,
) -> Evaluation:
    """The Evaluation of a ranking of embeddings, whose distances are never all there at once."""
    rows, kinds = listed_queries(ranked.result.average_precision_step)
    chosen = query.take(rows, "listed")
    lists, listed = findings.of_listed(
        ranked.result,
        rows,
        evaluation.top_k(
            features[0][rows],
            features[1],
            chosen.identities,
            chosen.cameras,
            gallery.identities,
            gallery.cameras,
            k=max(LIST_LENGTH, int(ranked.result.first_match_rank[rows].max(initial=0)) + 1),
        ),
        length=LIST_LENGTH,
    )
    return Evaluation(
        protocol=ranked.protocol,
        fingerprint=ranked.fingerprint,
        metrics=evaluation.metrics(ranked.result),
        result=ranked.result,
        num_query=len(query),
        num_gallery=len(gallery),
        distance=embedder.distance_name,
        histogram=evaluation.pair_distance_histogram(
            features[0],
            features[1],
            query.identities,
            query.cameras,
            gallery.identities,
            gallery.cameras,
        ),
        list_queries=rows,
        list_kinds=kinds,
        lists=lists,
        findings={
            **listed,
            **findings.nearest(features, query, gallery),
            **findings.between_cameras(features, query, gallery),
        },
    )


def refuse_pairs(protocol: Protocol, embedder: Embeds) -> None:
    """Refuses a network that scores pairs where a protocol needs an embedding of each image.

    Raises:
        ValueError: with the protocols that fit.
    """
    if embedder.scores_pairs:
        raise ValueError(
            f"{protocol.name} needs an embedding of each image, and "
            f"{type(embedder.model).__name__} scores pairs of images: take {NEEDS_EMBEDDINGS}"
        )
