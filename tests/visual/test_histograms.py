import numpy as np
import pytest

from reid_jax import visual


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equal_error_agrees_with_the_pairs_themselves(seed):
    rng = np.random.Generator(np.random.Philox(seed))
    same, different = rng.normal(0.6, 0.2, 4000), rng.normal(1.1, 0.3, 30000)
    edges = np.linspace(-1, 4, 501)
    threshold, rate = visual.equal_error(
        edges, np.histogram(same, edges)[0], np.histogram(different, edges)[0]
    )
    missed, accepted = np.mean(same > threshold), np.mean(different <= threshold)
    np.testing.assert_allclose([missed, accepted], [rate, rate], atol=0.005)


def test_equal_error_of_separate_kinds_is_zero_in_the_middle_of_the_gap():
    edges = np.arange(7.0)
    threshold, rate = visual.equal_error(edges, [3, 1, 0, 0, 0, 0], [0, 0, 0, 0, 2, 5])
    assert (threshold, rate) == (3.0, 0.0)


def test_equal_error_within_one_bin():
    # Both kinds spread evenly over [1, 2]: half of each lies on the wrong side of the middle.
    assert visual.equal_error([0, 1, 2, 3], [0, 4, 0], [0, 10, 0]) == (1.5, 0.5)


def test_equal_error_without_pairs_of_a_kind_is_nan():
    assert np.isnan(visual.equal_error([0, 1, 2], [0, 0], [1, 2])).all()


@pytest.mark.parametrize(
    ("edges", "same", "different"),
    [
        ([0, 1, 2], [1, 2, 3], [1, 2]),
        ([0, 1, 2], [1, 2], [1, 2, 3]),
        ([0], [], []),
        ([0, 2, 1], [1, 2], [1, 2]),
        ([0, 1, 2], [-1, 2], [1, 2]),
    ],
)
def test_equal_error_refuses(edges, same, different):
    with pytest.raises(ValueError, match="pair histogram"):
        visual.equal_error(edges, same, different)


def test_histogram_scales_each_kind_by_itself_and_marks_the_threshold():
    edges = np.linspace(0, 2, 5)
    figure = visual.pair_distance_histogram(edges, [3, 1, 0, 0], [0, 10, 30, 60], distance="cosine")
    (ax,) = figure.axes
    different, _, same, _ = [patch.get_data().values for patch in ax.patches]
    np.testing.assert_allclose(different, [0, 10, 30, 60])
    np.testing.assert_allclose(same, [75, 25, 0, 0])
    threshold, _ = visual.equal_error(edges, [3, 1, 0, 0], [0, 10, 30, 60])
    assert ax.lines[0].get_xdata()[0] == threshold
    assert ax.get_xlabel() == "cosine"


def test_histogram_without_pairs_still_draws():
    figure = visual.pair_distance_histogram([0, 1, 2], [0, 0], [0, 0])
    assert not figure.axes[0].lines


def test_precision_histogram_counts_the_queries_with_a_match():
    values = np.array([0.0, 0.04, 0.06, 0.51, 1.0, np.nan])
    (ax,) = visual.precision_histogram(values).axes
    counts, edges, _ = ax.patches[0].get_data()
    expected = np.zeros(20)
    expected[[0, 1, 10, 19]] = [2, 1, 1, 1]
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_allclose(edges, np.arange(0, 101, 5))
    assert ax.lines[0].get_xdata()[0] == pytest.approx(100 * np.nanmean(values))


@pytest.mark.parametrize("values", [[], [np.nan], [0.5, 1.5], [-0.1]])
def test_precision_histogram_refuses(values):
    with pytest.raises(ValueError, match="precision_histogram"):
        visual.precision_histogram(np.array(values))
