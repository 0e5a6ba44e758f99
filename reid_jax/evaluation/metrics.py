"""How the positions of the true matches become the ranking metrics, all in float64 on the host.

The removal of junk and of same-camera images, and all conventions of CMC and AP, are arithmetic on
the few positions of the gallery images that show a query's identity.
"""

import dataclasses

import numpy as np

__all__ = ["METRIC_HEADINGS", "RankingResult", "metrics_of_positions"]

METRIC_HEADINGS = {
    "rank1": "rank-1",
    "rank5": "rank-5",
    "rank10": "rank-10",
    "rank20": "rank-20",
    "map": "mAP",
    "map_step": "mAP (step)",
    "map_trapezoid": "mAP (trapezoid)",
    "minp": "mINP",
}
"""The heading of each metric; one that is not here is its own heading."""


@dataclasses.dataclass(frozen=True)
class RankingResult:
    """Metrics of one ranking; means are over the queries that have a match left after removal.

    With no such query every mean and both CMC curves are nan and `num_valid_queries` is 0.

    Attributes:
        cmc: [G] float64, rank 1 first: share of queries whose first match is at that rank or
            before.
        cmc_all_shots: [G] float64: share of matches, weighted to 1 a query, with fewer than that
            many wrong images before them (other matches do not count).
        map_step: mean of `average_precision_step`.
        map_trapezoid: mean of `average_precision_trapezoid`.
        minp: mean of `inverse_negative_penalty`.
        num_valid_queries: number of queries with a match.
        average_precision_step: [Q] float64, (1/n) sum_i i/(g_i+1) over the 0-based ranks g_1 < ...
            < g_n of the matches; nan without a match. The form of PyTorch code bases.
        average_precision_trapezoid: [Q] float64, (1/n) sum_i 1/2 [i/(g_i+1) + (i-1)/g_i], the
            second term 1 where g_i = 0; nan without a match. The form of the official Market-1501
            and Oxford kits; never above the step.
        first_match_rank: [Q] int64, 0-based; -1 without a match.
        inverse_negative_penalty: [Q] float64, n/(g_n+1); nan without a match.
        num_matches: [Q] int64, n.
    """

    cmc: np.ndarray
    cmc_all_shots: np.ndarray
    map_step: float
    map_trapezoid: float
    minp: float
    num_valid_queries: int
    average_precision_step: np.ndarray
    average_precision_trapezoid: np.ndarray
    first_match_rank: np.ndarray
    inverse_negative_penalty: np.ndarray
    num_matches: np.ndarray


def metrics_of_positions(
    positions: np.ndarray, match: np.ndarray, num_gallery: int
) -> RankingResult:
    """The metrics of a ranking, given where the images of the query's identity are in it.

    Args:
        positions: [Q, M] int, place of each such image in the query's list, from 0, in any order;
            -1 is padding.
        match: [Q, M] bool, whether the image is to be found. Another one is removed, as one of the
            query's own camera is, and the ranks behind it close up.
        num_gallery: G, the length of the curves.

    Returns:
        RankingResult.
    """
    own = positions >= 0
    # By position, padding last.
    order = np.argsort(np.where(own, positions, num_gallery), axis=1, kind="stable")
    positions, own, match = (np.take_along_axis(x, order, axis=1) for x in (positions, own, match))
    removed_before = np.cumsum(own & ~match, axis=1)
    ranks = np.where(match, positions - removed_before, 0)
    number = np.cumsum(match, axis=1)
    num_matches = match.sum(axis=1)
    valid = num_matches > 0

    def mean_over_matches(values: np.ndarray) -> np.ndarray:
        total = np.where(match, values, 0.0).sum(axis=1)
        return np.where(valid, total / np.maximum(num_matches, 1), np.nan)

    precision = number / (ranks + 1.0)
    previous = np.where(ranks > 0, (number - 1) / np.maximum(ranks, 1), 1.0)
    step = mean_over_matches(precision)
    trapezoid = mean_over_matches((precision + previous) / 2)
    first = np.where(match, ranks, num_gallery).min(axis=1)
    last = np.where(match, ranks, -1).max(axis=1)
    penalty = np.where(valid, num_matches / np.maximum(last + 1.0, 1.0), np.nan)

    num_valid = int(valid.sum())
    query_weight = np.broadcast_to(1 / np.maximum(num_matches, 1)[:, None], match.shape)
    wrong_before = (ranks - (number - 1))[match]
    return RankingResult(
        cmc=_cumulative(np.bincount(first[valid], minlength=num_gallery)),
        cmc_all_shots=_cumulative(
            np.bincount(wrong_before, weights=query_weight[match], minlength=num_gallery),
            num_valid,
        ),
        map_step=_mean(step[valid]),
        map_trapezoid=_mean(trapezoid[valid]),
        minp=_mean(penalty[valid]),
        num_valid_queries=num_valid,
        average_precision_step=step,
        average_precision_trapezoid=trapezoid,
        first_match_rank=np.where(valid, first, -1),
        inverse_negative_penalty=penalty,
        num_matches=num_matches,
    )


def _cumulative(counts: np.ndarray, total: int | None = None) -> np.ndarray:
    total = counts.sum() if total is None else total
    return np.cumsum(counts) / total if total else np.full(len(counts), np.nan)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
