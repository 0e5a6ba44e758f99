"""Protocols that draw queries and galleries from one pool of two cameras: CUHK03, CUHK01, VIPeR."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from reid_jax import evaluation
from reid_jax.data import Source
from reid_jax.protocols.base import Evaluation, Protocol, Subsets, of_comparison
from reid_jax.protocols.features import Embeds

__all__ = ["MultiShot", "OneDirection", "PerQuery"]

DRAW_SEED = 0
"""Of random galleries: the same images for every run, so that runs can be compared in pairs."""


@dataclasses.dataclass(frozen=True)
class Pool(Protocol):
    """What the protocols of one pool share.

    Attributes:
        num_repeats: random draws, whose means are reported.
    """

    num_repeats: int = 1
    needs: ClassVar[tuple[str, ...]] = ("test",)

    def shown(self, subsets: Subsets) -> tuple[Source, Source]:
        """The pool, for queries and gallery."""
        return subsets["test"], subsets["test"]

    def _evaluate(self, embedder: Embeds, subsets: Subsets) -> Evaluation:
        if self.refinement:
            distance_of = self._refined(embedder, subsets["test"])
        else:
            distance_of = embedder.distance_of(subsets["test"])
        ranked = self._ranked(distance_of, subsets["test"])
        return of_comparison(
            embedder, ranked, num_repeats=ranked.num_repeats, num_left_out=ranked.num_left_out
        )

    def check(self, embedder: Embeds) -> None:
        """Refuses a refinement where no list has an embedding of its own; see `Protocol.check`."""
        super().check(embedder)
        if self.refinement and getattr(embedder.model, "test_statistics", "running") == "batch":
            self._refuse_refinement("model.test_statistics=batch embeds each side as one batch")

    def _refined(self, embedder: Embeds, pool: Source) -> evaluation.DistanceOf:
        """Distances to a gallery, all of whose images are neighbours of each other."""
        features, normalise = embedder(pool), embedder.scoring.normalise

        def distance_of(query_rows: np.ndarray, gallery_rows: np.ndarray) -> np.ndarray:
            gallery, identities = features[gallery_rows], pool.identities[gallery_rows]
            queries = self.refinement.expanded(
                features[query_rows], gallery, identities, normalise=normalise
            )
            return self.refinement.distances(queries, gallery, identities)

        return distance_of

    def _ranked(self, distance_of: evaluation.DistanceOf, pool: Source) -> evaluation.NamedRanking:
        raise NotImplementedError

    def _refuse_shortlist(self, embedder: Embeds) -> None:
        raise ValueError(
            f"a shortlist of {embedder.scoring.shortlist} is taken from one gallery, and "
            f"{self.name} with {self.num_repeats} repeats draws several: score all pairs with "
            "evaluation.shortlist=0, or take single-shot-one-direction with "
            "evaluation.num_repeats=1"
        )


@dataclasses.dataclass(frozen=True)
class OneDirection(Pool):
    """One random image of each person in each camera, the first asks: single-shot-one-direction."""

    def check(self, embedder: Embeds) -> None:
        """Refuses a shortlist or a refinement of several draws; see `Protocol.check`."""
        super().check(embedder)
        if self.refinement and self.num_repeats > 1:
            self._refuse_refinement(f"its {self.num_repeats} repeats draw a gallery each")
        if embedder.scoring.shortlist and self.num_repeats > 1:
            self._refuse_shortlist(embedder)

    def _ranked(self, distance_of: evaluation.DistanceOf, pool: Source) -> evaluation.NamedRanking:
        return evaluation.single_shot_one_direction(
            distance_of, pool, num_repeats=self.num_repeats, seed=DRAW_SEED
        )


@dataclasses.dataclass(frozen=True)
class PerQuery(Pool):
    """Every image a query with a random gallery of its own: `single-shot-per-query`."""

    def check(self, embedder: Embeds) -> None:
        """Refuses a shortlist and a refinement; see `Protocol.check`."""
        super().check(embedder)
        if self.refinement:
            self._refuse_refinement("every query has a gallery of its own")
        if embedder.scoring.shortlist:
            self._refuse_shortlist(embedder)

    def _ranked(self, distance_of: evaluation.DistanceOf, pool: Source) -> evaluation.NamedRanking:
        return evaluation.single_shot_per_query(
            distance_of, pool, num_repeats=self.num_repeats, seed=DRAW_SEED
        )


@dataclasses.dataclass(frozen=True)
class MultiShot(Pool):
    """Every image a query, all images of the other camera its gallery: `multi-shot`."""

    def _ranked(self, distance_of: evaluation.DistanceOf, pool: Source) -> evaluation.NamedRanking:
        return evaluation.multi_shot(distance_of, pool)
