"""What is done between the embeddings and the ranking: query expansion and re-ranking."""

from __future__ import annotations

import dataclasses

import numpy as np

from reid_jax import evaluation, schema

__all__ = ["Refinement"]


@dataclasses.dataclass(frozen=True)
class Refinement:
    """Options of a ranking; the queries are expanded first, and then the distances re-ranked.

    Attributes:
        expand: replaces a query by the mean of itself and its nearest gallery images, this many;
            see `reid_jax.evaluation.expanded_queries`.
        rerank: by k-reciprocal neighbours; see `reid_jax.evaluation.k_reciprocal_rerank`.
        rerank_k1: neighbours of the reciprocal sets.
        rerank_k2: rows averaged by the local query expansion.
        rerank_lambda: weight of the original distance, in [0, 1].

    Raises:
        ValueError: for a number outside its range.
    """

    expand: int = 0
    rerank: bool = False
    rerank_k1: int = 20
    rerank_k2: int = 6
    rerank_lambda: float = 0.3

    def __post_init__(self) -> None:
        for name, least in (("expand", 0), ("rerank_k1", 1), ("rerank_k2", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: expected at least {least}")
        if not 0 <= self.rerank_lambda <= 1:
            raise ValueError(f"rerank_lambda={self.rerank_lambda}: expected a weight in [0, 1]")

    def __bool__(self) -> bool:
        return self.rerank or self.expand > 0

    @property
    def suffix(self) -> str:
        """What a protocol's name ends in: `+expand10+rerank`, and constants of one's own."""
        suffix = f"+expand{self.expand}" * (self.expand > 0)
        if not self.rerank:
            return suffix
        constants = (self.rerank_k1, self.rerank_k2, self.rerank_lambda)
        own = constants != (Refinement.rerank_k1, Refinement.rerank_k2, Refinement.rerank_lambda)
        return f"{suffix}+rerank" + ("({},{},{:g})".format(*constants) if own else "")

    def distance_name(self, plain: str) -> str:
        """What the distances are, for an axis or a heading.

        Args:
            plain: what they are without a refinement.
        """
        name = "distance re-ranked by k-reciprocal neighbours" if self.rerank else plain
        if self.expand:
            name += f", of queries averaged with their {self.expand} nearest images"
        return name

    def expanded(
        self,
        query_features: np.ndarray,
        gallery_features: np.ndarray,
        gallery_identities: np.ndarray,
        *,
        normalise: bool,
    ) -> np.ndarray:
        """The features of the queries, expanded if they are to be; junk takes no part.

        Args:
            query_features: [Q, D] finite.
            gallery_features: [G, D].
            gallery_identities: [G] int; -1 is junk.
            normalise: scales means to unit length.

        Returns:
            [Q, D].
        """
        if not self.expand:
            return query_features
        return evaluation.expanded_queries(
            query_features,
            gallery_features[gallery_identities != schema.JUNK],
            number=self.expand,
            normalise=normalise,
        )

    def distances(
        self,
        query_features: np.ndarray,
        gallery_features: np.ndarray,
        gallery_identities: np.ndarray,
    ) -> np.ndarray:
        """Distances of the features, re-ranked if they are to be; to junk they are infinite.

        Args:
            query_features: [Q, D], expanded.
            gallery_features: [G, D].
            gallery_identities: [G] int; -1 is junk, which is no one's neighbour.

        Returns:
            [Q, G].
        """
        kept = gallery_identities != schema.JUNK
        if not self.rerank:
            both = np.concatenate([query_features, gallery_features[kept]])
            sides = np.split(np.arange(len(both)), [len(query_features)])
            found = evaluation.feature_distances(both)(*sides)
        else:
            found = evaluation.k_reciprocal_rerank(
                query_features,
                gallery_features[kept],
                k1=self.rerank_k1,
                k2=self.rerank_k2,
                lambda_value=self.rerank_lambda,
            )
        if kept.all():
            return found
        distances = np.full((len(found), len(kept)), np.inf, found.dtype)
        distances[:, kept] = found
        return distances
