"""Operating points against counts by loops, their intervals, and the calibrated probability."""

import dataclasses
import json

import numpy as np
import pytest

from references import ranking as reference
from reid_jax.evaluation import Decision, PersonPairs, calibrate, operating_points


def made_pairs(seed, *, people=12, images=3, noise=0.6, dims=2, decimals=9):
    """Pairs of images that scatter around their person, each person at a place of their own."""
    random = np.random.default_rng(seed)
    identities = np.repeat(100 - 7 * np.arange(people), images)
    places = random.normal(size=(people, dims)).repeat(images, axis=0)
    places = places + noise * random.normal(size=places.shape)
    first, second = np.triu_indices(len(places), 1)
    distances = ((places[first] - places[second]) ** 2).sum(1).round(decimals)
    return PersonPairs(distances, identities[first], identities[second])


def decision_of(pairs):
    return Decision(
        **vars(operating_points(pairs, num_resamplings=20)),
        measured_on="validation",
        dataset="made_up",
        data_source="custom",
        distance="squared Euclidean distance",
        num_images=36,
        calibration=calibrate(pairs),
    )


@pytest.mark.parametrize("decimals", [1, 9])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_points_equal_a_plain_count(seed, decimals):
    pairs = made_pairs(seed, decimals=decimals)
    found = operating_points(pairs, false_accept_rates=(0.5, 0.1, 0.02), num_resamplings=1)
    triples = list(zip(pairs.distances, pairs.people_a, pairs.people_b, strict=True))
    same = [d for d, a, b in triples if a == b]
    different = [d for d, a, b in triples if a != b]
    assert (found.num_people, found.num_same_pairs) == (12, len(same) == 36 and 36)
    assert found.num_different_pairs == len(different) == 594
    for point, rate in zip(found.points, (0.5, 0.1, 0.02), strict=True):
        best = None, None
        for threshold in sorted(set(same) | set(different)):
            wrong = sum(d <= threshold for d in different) / len(different)
            if wrong <= rate:
                best = threshold, sum(d <= threshold for d in same) / len(same)
        assert (point.threshold, point.true_accept_rate) == best
    (lowest, highest), rate = reference.equal_error_rates(same, different)
    assert found.equal_error.rate == pytest.approx(rate)
    assert lowest <= found.equal_error.threshold <= highest
    for threshold, wrong, accepted in zip(*vars(found.roc).values(), strict=True):
        # The curve is rounded to six digits.
        threshold *= 1 + 1e-5
        assert wrong == pytest.approx(np.mean(np.array(different) <= threshold), abs=2e-3)
        assert accepted == pytest.approx(np.mean(np.array(same) <= threshold), abs=0.03)
    assert list(found.roc.threshold) == sorted(found.roc.threshold)


def test_a_rate_that_too_few_pairs_resolve_is_not_measured():
    pairs = made_pairs(0)
    found = operating_points(pairs, num_resamplings=2)
    assert [point.threshold is None for point in found.points] == [False, True, True, True]
    assert found.points[1].true_accept_rate is None
    # Of 594 pairs 10 are a share of 1.7 %.
    below, at = operating_points(pairs, false_accept_rates=(0.0168, 10 / 594)).points
    assert below.threshold is None
    assert at.threshold is not None


def test_resampling_equals_loops():
    """One resampling, with each person's pairs copied as often as they were drawn."""
    pairs = made_pairs(3, people=6, noise=1.0)
    found = operating_points(pairs, false_accept_rates=(0.1,), num_resamplings=1, seed=5)
    people = np.unique(pairs.people_a)
    (drawn,) = np.random.default_rng(5).multinomial(6, np.full(6, 1 / 6), size=1)
    times = dict(zip(people, drawn, strict=True))
    same, different = [], []
    for d, a, b in zip(pairs.distances, pairs.people_a, pairs.people_b, strict=True):
        if a == b:
            same += [d] * times[a]
        else:
            different += [d] * (times[a] * times[b])
    _, rate = reference.equal_error_rates(same, different)
    assert found.equal_error.rate_interval == pytest.approx((rate, rate))
    kept = [d for d in sorted(same + different) if np.mean(np.array(different) <= d) <= 0.1]
    accepted = np.mean(np.array(same) <= kept[-1])
    assert found.points[0].threshold_interval == pytest.approx((kept[-1], kept[-1]))
    assert found.points[0].true_accept_interval == pytest.approx((accepted, accepted))


def test_intervals_are_reproducible_and_of_people():
    pairs = made_pairs(4, people=20)
    once, again = (operating_points(pairs, num_resamplings=50, seed=1) for _ in range(2))
    assert once == again
    assert once != operating_points(pairs, num_resamplings=50, seed=2)
    low, high = once.equal_error.rate_interval
    assert low < once.equal_error.rate < high
    # The same images once more say nothing new of people.
    twice = PersonPairs(*(np.tile(value, 2) for value in vars(pairs).values()))
    repeated = operating_points(twice, num_resamplings=50, seed=1)
    assert repeated.equal_error.rate_interval == pytest.approx((low, high))
    few = operating_points(made_pairs(0, people=4))
    assert few.equal_error.rate_interval is None
    assert few.points[0].true_accept_interval is None


def test_intervals_cover():
    """Of 40 draws of 25 people the intervals of nearly all hold what many people have."""
    many = operating_points(made_pairs(99, people=400), num_resamplings=1).equal_error.rate
    held = 0
    for seed in range(40):
        pairs = made_pairs(seed, people=25)
        low, high = operating_points(pairs, num_resamplings=80).equal_error.rate_interval
        held += low <= many <= high
    assert held >= 35


def test_the_grid_of_many_pairs_changes_nothing_that_matters():
    pairs = made_pairs(7, people=120, images=6)
    assert len(pairs.distances) > 250_000
    found = operating_points(pairs, num_resamplings=30)
    for point in found.points:
        low, high = point.threshold_interval
        assert low < point.threshold < high
        low, high = point.true_accept_interval
        assert low < point.true_accept_rate < high
    assert len(found.roc.threshold) <= 51


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distances": [1.0, np.nan, 2.0]}, "1 of 3 distances are not finite"),
        ({"people_b": [1, 2]}, r"must all be \[P\]"),
        ({"people_b": [1, 2, 3]}, "3 show one person"),
        ({"people_b": [3, 1, 1]}, "0 show one person"),
    ],
)
def test_wrong_pairs_are_refused(change, message):
    given = {"distances": [1.0, 3.0, 2.0], "people_a": [1, 2, 3], "people_b": [1, 3, 2]} | change
    with pytest.raises(ValueError, match=message):
        PersonPairs(**{name: np.array(value) for name, value in given.items()})


# Probability -----------------------------------------------------------------------------------


def test_the_fit_has_the_largest_likelihood():
    pairs = made_pairs(1, noise=0.9)
    found = calibrate(pairs)
    same, d = pairs.same, pairs.distances

    def likelihood(slope, midpoint):
        total = 0.0
        for distance, is_same in zip(d, same, strict=True):
            p = 1 / (1 + np.exp(slope * (distance - midpoint)))
            n = same.sum() if is_same else (~same).sum()
            target = (n + 1) / (n + 2) if is_same else 1 / (n + 2)
            total += (target * np.log(p) + (1 - target) * np.log(1 - p)) / n
        return total

    best = likelihood(found.slope, found.midpoint)
    for slope, midpoint in ((1.01, 1), (0.99, 1), (1, 1.01), (1, 0.99)):
        assert likelihood(slope * found.slope, midpoint * found.midpoint) < best


@pytest.mark.parametrize("noise", [0.01, 0.6, 50.0])
def test_the_probability_falls_with_the_distance(noise):
    found = calibrate(made_pairs(2, noise=noise))
    distances = np.linspace(-1, 4, 500)
    probability = found.probability(distances)
    assert (np.diff(probability) <= 0).all()
    assert ((probability >= 0) & (probability <= 1)).all()
    assert found.probability(found.midpoint) == 0.5
    assert found.slope > 0


def test_a_distance_that_rises_where_people_agree_has_no_falling_probability():
    pairs = made_pairs(2)
    upside_down = dataclasses.replace(pairs, distances=-pairs.distances)
    probability = calibrate(upside_down).probability(np.linspace(-5, 0, 50))
    assert (np.diff(probability) <= 0).all()
    assert np.abs(probability - 0.5).max() < 0.02


def test_reliability_is_of_people_that_were_held_out():
    pairs = made_pairs(5, people=60, noise=0.5, dims=8)
    found = calibrate(pairs)
    assert found.num_folds == 5
    # Twelve people a group with three images: their own pairs, and those among the group.
    assert sum(each.count for each in found.reliability) == 5 * (36 * 35 // 2)
    assert sum(each.share for each in found.reliability) == pytest.approx(1)
    observed = sum(each.share * each.observed for each in found.reliability)
    assert observed == pytest.approx(0.5)
    error = sum(each.share * abs(each.predicted - each.observed) for each in found.reliability)
    assert found.expected_calibration_error == pytest.approx(error)
    assert error < 0.1
    assert calibrate(made_pairs(5, people=6)).num_folds == 2
    assert calibrate(made_pairs(5, people=3)) is None


# Decision --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decision():
    return decision_of(made_pairs(0))


def test_a_decision_goes_through_json(decision):
    record = json.loads(json.dumps(decision.as_json()))
    assert Decision.from_json(record, where="d") == decision
    few = decision_of(made_pairs(0, people=3))
    assert few.calibration is None
    assert Decision.from_json(json.loads(json.dumps(few.as_json())), where="d") == few


def changed(record, path, value):
    *parents, last = path
    for name in parents:
        record = record[name]
    if value is ...:
        del record[last]
    else:
        record[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["equal_error"], ..., r"d has .*, expected num_people"),
        (["colour"], "red", r"d has .*colour.*, expected"),
        (["equal_error", "rate"], "high", r"d\.equal_error\.rate is 'high', expected float"),
        (["equal_error", "rate"], None, r"d\.equal_error\.rate is None, expected float"),
        (["equal_error", "rate"], float("nan"), r"d\.equal_error\.rate is nan"),
        (["equal_error", "rate_interval"], [0.1], r"rate_interval is \[0\.1\]"),
        (["points", 0, "threshold"], True, r"d\.points\[0\]\.threshold is True"),
        (["measured_on"], "train", "d.measured_on is 'train'"),
        (["num_people"], 1.5, "d.num_people is 1.5, expected int"),
        (["calibration", "slope"], -1.0, "d.calibration.slope is -1.0, expected"),
        (["calibration", "reliability"], {}, "d.calibration.reliability is {}"),
    ],
)
def test_a_damaged_decision_is_refused_by_name(decision, path, value, message):
    record = json.loads(json.dumps(decision.as_json()))
    changed(record, path, value)
    with pytest.raises(ValueError, match=message):
        Decision.from_json(record, where="d")


def test_a_verdict(decision):
    threshold = decision.points[0].threshold
    assert decision.rates == (0.1,)
    found = decision.verdict(threshold, 0.1)
    assert found.same
    assert (found.threshold, found.false_accept_rate) == (threshold, 0.1)
    assert found.probability == pytest.approx(float(decision.calibration.probability(threshold)))
    assert not decision.verdict(np.nextafter(threshold, np.inf), 0.1).same
    equal = decision.verdict(0.0)
    assert equal.threshold == decision.equal_error.threshold
    assert equal.false_accept_rate is None
    with pytest.raises(ValueError, match=r"rate of 0\.001: there are 0\.1, and the equal error"):
        decision.threshold(1e-3)
    with pytest.raises(ValueError, match="594 pairs of two persons resolve"):
        decision.threshold(0.5)
    zero = dataclasses.replace(decision.points[0], threshold=0.0)
    assert dataclasses.replace(decision, points=(zero,)).threshold(0.1) == 0.0
