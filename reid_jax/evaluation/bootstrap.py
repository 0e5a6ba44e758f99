"""How far a metric moves with the queries that happen to be there: bootstrap intervals."""

from __future__ import annotations

import numpy as np

from reid_jax.evaluation.metrics import RankingResult

__all__ = ["bootstrap_intervals"]


def bootstrap_intervals(
    result: RankingResult,
    *,
    num_repeats: int = 1,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals over resampled queries.

    Each resample draws as many of the valid queries as there are, with replacement, and takes the
    mean of their values (Efron, "Bootstrap Methods", Annals of Statistics 1979). The gallery and
    the network stay what they are, so the interval says nothing about another training; and queries
    of one person are drawn as if they were independent.

    Args:
        result: of a ranking.
        num_repeats: random draws of the galleries, whose queries stand one repeat after another.
            The values of a query are averaged over them, and one query is drawn with all of its.
        num_resamples: R.
        confidence: share of the resamples inside, half of the rest on either side.
        seed: of the resamples.

    Returns:
        (low, high) of `rank1`, `map_step` and `map_trapezoid`; nan without a valid query.

    Raises:
        ValueError: if the queries are not `num_repeats` times as many, or on a number of resamples
            below 1 or a confidence outside (0, 1).
    """
    if num_resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"num_resamples={num_resamples}, confidence={confidence}; expected at least 1, and a "
            "share in (0, 1)"
        )
    num_rows = len(result.first_match_rank)
    if num_repeats < 1 or num_rows % num_repeats:
        raise ValueError(f"{num_rows} queries are not {num_repeats} repeats of equally many")
    valid = (result.num_matches > 0).reshape(num_repeats, -1)
    # A query without a match in one repeat has none in any: who is drawn does not depend on it.
    kept = valid.all(axis=0)
    values = {
        "rank1": result.first_match_rank == 0,
        "map_step": result.average_precision_step,
        "map_trapezoid": result.average_precision_trapezoid,
    }
    number = int(kept.sum())
    if number == 0:
        return dict.fromkeys(values, (float("nan"), float("nan")))
    columns = np.stack(
        [value.reshape(num_repeats, -1)[:, kept].mean(axis=0) for value in values.values()], axis=1
    )
    random = np.random.default_rng(seed)
    # How often each query is drawn, which is all that a mean needs.
    times = random.multinomial(number, np.full(number, 1 / number), size=num_resamples)
    means = times @ columns / number
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(values, low, high, strict=True)}
