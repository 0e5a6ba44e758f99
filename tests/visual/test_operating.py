import numpy as np
import pytest

from reid_jax import visual


def test_roc_is_in_percent_with_its_points_on_a_logarithmic_axis():
    false_accept = np.array([0.0, 0.001, 0.01, 0.1, 1.0])
    true_accept = np.array([0.1, 0.4, 0.7, 0.9, 1.0])
    figure = visual.roc_curve(false_accept, true_accept, points={0.01: 0.7})
    (ax,) = figure.axes
    equal, curve, point = ax.lines
    np.testing.assert_allclose(curve.get_xdata(), [0.1, 1, 10, 100])
    np.testing.assert_allclose(curve.get_ydata(), [40, 70, 90, 100])
    np.testing.assert_allclose(equal.get_xdata() + equal.get_ydata(), 100)
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (1.0, 70.0)
    assert ax.texts[0].get_text() == "70.0"
    assert ax.get_xscale() == "log"


@pytest.mark.parametrize(
    ("false_accept", "true_accept"),
    [([0.1, 0.2], [0.3]), ([0.0, 0.0], [0.1, 0.2]), ([0.1, 1.2], [0.3, 0.4]), ([[0.1]], [[0.2]])],
)
def test_roc_refuses(false_accept, true_accept):
    with pytest.raises(ValueError, match="roc_curve"):
        visual.roc_curve(np.array(false_accept), np.array(true_accept))


def test_reliability_shows_each_bin_by_its_share():
    figure = visual.reliability_curve([0.05, 0.5, 0.9], [0.1, 0.4, 1.0], [0.6, 0.1, 0.3])
    (ax,) = figure.axes
    (bins,) = ax.collections
    np.testing.assert_allclose(bins.get_offsets(), [[5, 10], [50, 40], [90, 100]])
    assert list(np.argsort(bins.get_sizes())) == [1, 2, 0]


@pytest.mark.parametrize(
    "columns", [([], [], []), ([0.1], [0.2], [0.3, 0.7]), ([1.5], [0.5], [1.0])]
)
def test_reliability_refuses(columns):
    with pytest.raises(ValueError, match="reliability_curve"):
        visual.reliability_curve(*columns)
