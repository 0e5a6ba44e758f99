"""Bootstrap intervals against a plain loop over the queries that are drawn."""

import types

import numpy as np
import pytest

from reid_jax.evaluation import bootstrap_intervals, rank, single_shot_one_direction


def ranking(seed=0, num_query=23, num_gallery=40, without=3):
    """A ranking some of whose queries have no match."""
    random = np.random.default_rng(seed)
    query = random.integers(1, 6, num_query)
    query[:without] = 9
    gallery = random.integers(1, 6, num_gallery)
    return rank(random.normal(size=(num_query, num_gallery)), query, None, gallery, None)


@pytest.mark.parametrize("seed", [0, 1])
def test_equals_a_loop_over_resamples(seed):
    result = ranking(seed)
    found = bootstrap_intervals(result, num_resamples=50, confidence=0.8, seed=seed)
    valid = np.flatnonzero(result.num_matches > 0)
    assert len(valid) == 20
    random = np.random.default_rng(seed)
    values = {
        "rank1": np.where(result.first_match_rank == 0, 1.0, 0.0),
        "map_step": result.average_precision_step,
        "map_trapezoid": result.average_precision_trapezoid,
    }
    means = {name: [] for name in values}
    for times in random.multinomial(len(valid), [1 / len(valid)] * len(valid), size=50):
        drawn = [row for row, number in zip(valid, times, strict=True) for _ in range(number)]
        assert len(drawn) == len(valid)
        for name, value in values.items():
            means[name].append(sum(value[row] for row in drawn) / len(drawn))
    assert found.keys() == values.keys()
    for name, (low, high) in found.items():
        ordered = sorted(means[name])
        # The quantiles 0.1 and 0.9 of 50 numbers, interpolated: places 4.9 and 44.1.
        assert low == pytest.approx(0.1 * ordered[4] + 0.9 * ordered[5], abs=1e-12)
        assert high == pytest.approx(0.9 * ordered[44] + 0.1 * ordered[45], abs=1e-12)


def test_the_interval_is_that_of_the_normal_law_for_many_queries():
    result = ranking(3, num_query=1000, num_gallery=30, without=0)
    low, high = bootstrap_intervals(result, num_resamples=2000)["map_step"]
    error = result.average_precision_step.std() / np.sqrt(1000)
    assert low == pytest.approx(result.map_step - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(result.map_step + 1.96 * error, abs=0.15 * error)


def test_repeats_of_one_query_are_drawn_together():
    pool = types.SimpleNamespace(
        identities=np.repeat(np.arange(1, 9), 6),
        cameras=np.tile([1, 2], 24),
        files=[str(row) for row in range(48)],
    )
    distances = np.random.default_rng(0).normal(size=(48, 48))
    ranked = single_shot_one_direction(
        lambda q, g: distances[np.ix_(q, g)], pool, num_repeats=5, seed=0
    )
    found = bootstrap_intervals(ranked.result, num_repeats=5, num_resamples=30)
    by_query = ranked.result.average_precision_step.reshape(5, 8).mean(axis=0)
    times = np.random.default_rng(0).multinomial(8, [1 / 8] * 8, size=30)
    means = [sum(n * value for n, value in zip(row, by_query, strict=True)) / 8 for row in times]
    assert found["map_step"] == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-12)


def test_no_valid_query_and_wrong_numbers():
    nothing = rank(np.zeros((2, 3)), np.array([1, 1]), None, np.array([2, 2, 2]), None)
    assert np.isnan(bootstrap_intervals(nothing)["rank1"]).all()
    with pytest.raises(ValueError, match="23 queries are not 2 repeats"):
        bootstrap_intervals(ranking(), num_repeats=2)
    with pytest.raises(ValueError, match="num_resamples=0"):
        bootstrap_intervals(ranking(), num_resamples=0)
    with pytest.raises(ValueError, match=r"confidence=1\.0"):
        bootstrap_intervals(ranking(), confidence=1.0)
