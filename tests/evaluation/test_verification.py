import numpy as np
import pytest

from references import ranking as reference
from reid_jax.evaluation import (
    PairDistanceHistogram,
    best_threshold,
    equal_error,
    equal_error_rate,
    roc,
    roc_from_histogram,
    true_accept_rate_at,
    verification_metrics,
)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_roc_equals_loops(seed):
    random = np.random.default_rng(seed)
    same = random.normal(0, 1, 40).round(1)
    different = random.normal(1, 1, 70).round(1)
    curve = roc(same, different)
    points = reference.roc(same.tolist(), different.tolist())
    np.testing.assert_allclose(
        np.stack([curve.thresholds, curve.false_accept_rate, curve.true_accept_rate], axis=1),
        points,
    )
    for rate in (0.0, 0.05, 0.3, 1.0):
        expected = max([t for _, f, t in points if f <= rate], default=0.0)
        assert true_accept_rate_at(curve, rate) == pytest.approx(expected)
    threshold, accuracy = best_threshold(curve)
    assert accuracy == pytest.approx(max((t + 1 - f) / 2 for _, f, t in points))
    assert threshold in same or threshold in different


def test_hand_worked_curve():
    # Of four same pairs one is beyond two of the four different ones.
    curve = roc([1.0, 2.0, 3.0, 6.0], [4.0, 5.0, 7.0, 8.0])
    assert true_accept_rate_at(curve, 0.0) == 0.75
    assert true_accept_rate_at(curve, 0.5) == 1.0
    assert equal_error_rate(curve) == 0.25
    assert best_threshold(curve) == (3.0, 0.875)


def test_separated_and_swapped_pairs():
    assert equal_error_rate(roc([1, 2], [3, 4])) == 0
    assert equal_error_rate(roc([3, 4], [1, 2])) == 1
    # One threshold that accepts everything: the line from (0, 1) to (1, 0) crosses at a half.
    assert equal_error_rate(roc([1], [1])) == 0.5


@pytest.mark.parametrize("decimals", [0, 1, 6])
@pytest.mark.parametrize("shift", [0.5, 2.0, 9.0])
@pytest.mark.parametrize("seed", range(5))
def test_equal_error_equals_loops(seed, shift, decimals):
    random = np.random.default_rng(seed)
    same = random.normal(0, 1, 30).round(decimals)
    # As many pairs of both kinds: equal shares happen.
    different = random.normal(shift, 1, (30, 47)[seed % 2]).round(decimals)
    (lowest, highest), rate = reference.equal_error_rates(same.tolist(), different.tolist())
    threshold, found = equal_error(roc(same, different))
    assert found == pytest.approx(rate, abs=1e-12)
    assert found == equal_error_rate(roc(same, different))
    assert threshold == pytest.approx((lowest + highest) / 2, abs=1e-12)


@pytest.mark.parametrize("num_bins", [20, 100, 1000])
@pytest.mark.parametrize("shift", [0.5, 2.0, 9.0])
@pytest.mark.parametrize("seed", range(5))
def test_equal_error_of_a_histogram_is_that_of_its_pairs_up_to_a_bin(seed, shift, num_bins):
    # Few pairs: neighbouring distances are further apart than the edges.
    random = np.random.default_rng(seed)
    same, different = random.normal(0, 1, 30), random.normal(shift, 1, (30, 47)[seed % 2])
    edges = np.linspace(-6, 15, num_bins + 1)
    counts = (np.histogram(side, edges)[0] for side in (same, different))
    threshold, rate = equal_error(roc_from_histogram(PairDistanceHistogram(edges, *counts)))
    expected, expected_rate = equal_error(roc(same, different))
    width = edges[1] - edges[0]
    assert abs(threshold - expected) <= width
    # The rates cannot differ by more than the pairs within a bin of the threshold.
    near = [np.mean(np.abs(side - expected) <= width) for side in (same, different)]
    assert abs(rate - expected_rate) <= max(near) + 1e-12


def test_equal_error_in_a_gap_is_its_middle():
    assert equal_error(roc([1, 2], [3, 4])) == (2.5, 0)
    # Accepting 4 and not 5 makes one error in four on both sides.
    assert equal_error(roc([1.0, 2.0, 3.0, 6.0], [4.0, 5.0, 7.0, 8.0])) == (4.5, 0.25)
    # Shares that are equal but for rounding: 1/3, and 1 - 2/3.
    assert equal_error(roc([1, 2, 5], [2, 4, 6])) == pytest.approx((3, 1 / 3))


def test_histogram_gives_the_curve_at_its_edges():
    histogram = PairDistanceHistogram(
        np.array([0.0, 1.0, 2.0, 3.0]), np.array([3, 1, 0]), np.array([0, 2, 8])
    )
    curve = roc_from_histogram(histogram)
    assert curve.thresholds.tolist() == [1, 2, 3]
    assert curve.true_accept_rate.tolist() == [0.75, 1, 1]
    assert curve.false_accept_rate.tolist() == [0, 0.2, 1]
    metrics = verification_metrics(curve, false_accept_rates=(0.1, 0.25))
    assert metrics["true_accept_rate_at_0.1"] == 0.75
    assert metrics["true_accept_rate_at_0.25"] == 1
    assert metrics["threshold"] == 2
    assert metrics["balanced_accuracy"] == pytest.approx(0.9)
    # From (0, .25) to (.2, 0): equal at 1/9.
    assert metrics["equal_error_rate"] == pytest.approx(1 / 9)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="same_distances"):
        roc([], [1.0])
    with pytest.raises(ValueError, match="1 nan"):
        roc([1.0], [np.nan])
    with pytest.raises(ValueError, match="false_accept_rate"):
        true_accept_rate_at(roc([1], [2]), 1.5)
    empty = PairDistanceHistogram(np.arange(3.0), np.array([0, 0]), np.array([1, 1]))
    with pytest.raises(ValueError, match="same_pair_counts is 0"):
        roc_from_histogram(empty)
