"""What a protocol is: its name, the images it needs, and what it finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from reid_jax import evaluation
from reid_jax.data import Overlap, Source, overlap
from reid_jax.protocols import findings
from reid_jax.protocols.features import Embeds
from reid_jax.protocols.refinement import Refinement

__all__ = ["Evaluation", "Protocol", "Subsets", "of_comparison"]

Subsets = Mapping[str, Any]
"""A source for each name that a protocol needs, and for `oxford5k` the list of its queries."""

LISTS_PER_KIND = 3
LIST_LENGTH = 10


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What a protocol finds.

    Attributes:
        protocol: its name, with all that makes its numbers others: `-no-cameras`, a shortlist,
            `+flip`, `+expand10`, `+rerank`.
        fingerprint: of what was compared; equal exactly where that is.
        metrics: fractions in [0, 1]: `rank1`, `rank5`, `rank10`, `rank20`, `map_step`,
            `map_trapezoid`, `minp`, and what else the protocol measures.
        result: the ranking, with values of each query.
        num_query, num_gallery: numbers of images.
        distance: what the images were compared by.
        histogram: distances of same and of different pairs.
        list_queries: [R] rows of the queries whose ranked lists are shown.
        list_kinds: [R] why each is: 'best', 'median', 'worst' or 'random'.
        lists: their nearest gallery images.
        findings: further arrays that a report shows, see `reid_jax.protocols.findings`.
        details: further facts, such as the number of random draws.
    """

    protocol: str
    fingerprint: str
    metrics: dict[str, float]
    result: evaluation.RankingResult
    num_query: int
    num_gallery: int
    distance: str
    histogram: evaluation.PairDistanceHistogram
    list_queries: np.ndarray
    list_kinds: list[str]
    lists: evaluation.RankedLists
    findings: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    details: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of some `metrics` over resampled queries, see `bootstrap_intervals`."""
        repeats = self.details.get("num_repeats", 1)
        return evaluation.bootstrap_intervals(self.result, num_repeats=repeats)

    @property
    def num_valid_queries(self) -> int:
        """Queries with a match; the means are over these."""
        return self.result.num_valid_queries

    def arrays(self) -> dict[str, np.ndarray]:
        """What a page shows: values of each query, curves, the histogram and the ranked lists."""
        names = ("average_precision_step", "average_precision_trapezoid", "first_match_rank", "cmc")
        return {
            **{name: getattr(self.result, name) for name in names},
            "pair_distance_edges": self.histogram.edges,
            "same_pair_counts": self.histogram.same_pair_counts,
            "different_pair_counts": self.histogram.different_pair_counts,
            "distance": np.array(self.distance),
            "ranked_queries": self.list_queries,
            "ranked_kind": np.array(self.list_kinds),
            "ranked_gallery": self.lists.gallery_rows,
            "ranked_match": self.lists.match,
            "ranked_distance": self.lists.distances,
            **self.findings,
        }


@dataclasses.dataclass(frozen=True)
class Protocol:
    """A way to evaluate: `protocol.evaluate(embedder, subsets)`.

    Attributes:
        name: of the protocol.
        refinement: what is done between the embeddings and the ranking.
        needs: names of the images it compares.
    """

    name: str
    refinement: Refinement = dataclasses.field(default_factory=Refinement)
    needs: ClassVar[tuple[str, ...]]

    def check(self, embedder: Embeds) -> None:
        """Refuses an embedder that the protocol cannot evaluate, before any training.

        Args:
            embedder: its variables are not looked at.

        Raises:
            ValueError: with the protocols that fit.
        """
        embedder.check()
        if self.refinement and embedder.scores_pairs:
            raise ValueError(
                f"{self.refinement.suffix[1:]} needs an embedding of each image, and "
                f"{type(embedder.model).__name__} scores pairs of images: leave it out"
            )

    def evaluate(
        self, embedder: Embeds, subsets: Subsets, *, allow_overlap: bool = False
    ) -> Evaluation:
        """Compares the images and scores the result.

        Args:
            embedder: a trained network, or features made elsewhere (`GivenFeatures`).
            subsets: images for each name in `needs`; others are not looked at.
            allow_overlap: goes on where people or files of the test were trained on; the numbers
                are then in `details["overlap"]`.

        Returns:
            Evaluation.

        Raises:
            ValueError: if images are missing, the protocol does not fit them, or they were trained
                on.
        """
        self.check(embedder)
        missing = [name for name in self.needs if name not in subsets]
        if missing:
            raise ValueError(
                f"{self.name} needs {', '.join(self.needs)}, and {', '.join(missing)} is missing; "
                f"got {', '.join(subsets) or 'nothing'}"
            )
        needed = {name: subsets[name] for name in self.needs}
        shared = self.shared(embedder.trainings, needed, allow_overlap=allow_overlap)
        found = self._evaluate(embedder, needed)
        flipped = "+flip" * (embedder.scoring.test_mode == "flip")
        found = dataclasses.replace(
            found,
            protocol=found.protocol + flipped + self.refinement.suffix,
            distance=self.refinement.distance_name(found.distance),
        )
        if shared:
            details = {**found.details, "overlap": shared.as_json()}
            found = dataclasses.replace(found, details=details)
        return found

    def shared(
        self,
        trainings: Iterable[Mapping[str, Any]],
        subsets: Subsets,
        *,
        allow_overlap: bool = False,
    ) -> Overlap:
        """Counts the people and files of the test that were trained on, or refuses them.

        Args:
            trainings: of `data.fingerprint_of_training`, or an embedder's `trainings`.
            subsets: images for each name in `needs`.
            allow_overlap: counts where it would refuse.

        Returns:
            Overlap.

        Raises:
            ValueError: if there are any, with their numbers and an example.
        """
        tested = [subsets[name] for name in self.needs if isinstance(subsets[name], Source)]
        found = overlap(trainings, tested)
        if found and not allow_overlap:
            raise ValueError(
                f"{found.message()}: the result would be of people that the network knows. Test "
                "on others, or allow it (--allow_overlap, allow_overlap=True); the result then "
                "says so"
            )
        return found

    def validation(self, subsets: Subsets) -> Callable[[Embeds], dict[str, float]]:
        """What `reid_jax.fit` takes: the metrics of an embedder on images kept apart.

        Args:
            subsets: images for each name in `needs`.
        """
        return lambda embedder: self.evaluate(embedder, subsets).metrics

    def shown(self, subsets: Subsets) -> tuple[Source, Source]:
        """The images of queries and gallery, to which the rows of an Evaluation's lists belong."""
        return subsets["query"], subsets["gallery"]

    def _evaluate(self, embedder: Embeds, subsets: Subsets) -> Evaluation:
        raise NotImplementedError

    def _refuse_refinement(self, why: str) -> None:
        raise ValueError(
            f"{self.refinement.suffix[1:]} does not fit {self.name}: {why}; leave it out, or take "
            "single-query, single-query-swapped, multi-query-average, multi-query-maximum, "
            "multi-shot, or single-shot-one-direction with one repeat"
        )


def of_comparison(embedder: Embeds, ranked: evaluation.NamedRanking, **details: Any) -> Evaluation:
    """The Evaluation of a ranking that says all that it compared."""
    comparison = ranked.comparison
    assert comparison is not None
    num_query, num_gallery = comparison.gallery_rows.shape
    places, kinds = listed_queries(ranked.result.average_precision_step[:num_query])
    fields = [field.name for field in dataclasses.fields(comparison)]
    chosen = evaluation.Comparison(**{name: getattr(comparison, name)[places] for name in fields})
    name = ranked.protocol
    if num_gallery > (shortlist := embedder.scoring.shortlist) > 0:
        name += f", shortlist-{shortlist}"
    length = max(LIST_LENGTH, int(ranked.result.first_match_rank[places].max(initial=0)) + 1)
    lists, listed = findings.of_listed(
        ranked.result,
        places,
        evaluation.comparison_lists(chosen, k=length),
        length=LIST_LENGTH,
    )
    return Evaluation(
        protocol=name,
        fingerprint=ranked.fingerprint,
        metrics=evaluation.metrics(ranked.result),
        result=ranked.result,
        num_query=num_query,
        num_gallery=num_gallery,
        distance=embedder.distance_name,
        histogram=evaluation.comparison_histogram(comparison),
        list_queries=chosen.query_rows,
        list_kinds=kinds,
        lists=lists,
        findings={**listed, **findings.nearest_of_comparison(comparison)},
        details=details,
    )


def listed_queries(precision: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Chooses queries to show: the best, middling, worst and random ones, each once.

    Args:
        precision: [Q] average precision, NaN for a query without a match.

    Returns:
        [R] places, and the kind of each.
    """
    num_valid = int(np.isfinite(precision).sum())
    order = np.argsort(precision, kind="stable")[:num_valid]  # NaN is last.
    from_the_middle = np.argsort(np.abs(np.arange(num_valid) - num_valid // 2), kind="stable")
    candidates_of = {
        "best": order[::-1],
        "median": order[from_the_middle],
        "worst": order,
        "random": np.random.default_rng(0).permutation(order),
    }
    rows: list[int] = []
    kinds: list[str] = []
    for kind, candidates in candidates_of.items():
        fresh = [row for row in candidates if row not in rows][:LISTS_PER_KIND]
        rows += fresh
        kinds += [kind] * len(fresh)
    return np.array(rows, np.int64), kinds
