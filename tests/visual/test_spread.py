import numpy as np
import pytest

from reid_jax import visual


def test_a_dot_for_each_run_beside_the_mean_and_the_deviation():
    values = [0.5, 0.6, None, 0.85]
    figure = visual.run_dots({"rank-1": values, "mAP": [0.1] * 4})
    (ax,) = figure.axes
    spread, mean, dots = ax.lines[:3]
    percent = np.array([50.0, 60.0, 85.0])
    np.testing.assert_allclose(dots.get_xdata(), percent)
    assert mean.get_xdata()[0] == pytest.approx(65)
    np.testing.assert_allclose(spread.get_xdata(), 65 + percent.std(ddof=1) * np.array([-1, 1]))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["rank-1", "mAP"]
    # The first metric is at the top.
    assert ax.get_ylim()[0] > ax.get_ylim()[1]


def test_a_metric_without_values_says_so_and_one_run_has_no_spread():
    figure = visual.run_dots({"rank-1": [None], "mAP": [0.4]})
    assert figure.axes[0].texts[0].get_text() == "no values"
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xdata(), [40, 40])


def test_no_metric_is_refused():
    with pytest.raises(ValueError, match="run_dots"):
        visual.run_dots({})


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_a_mark_is_within_the_figure_or_just_below_it(layout):
    figure = visual.cmc_curve({"": np.linspace(0.5, 1, 9)})
    figure.set_layout_engine(layout)
    visual.mark(figure, "stand-in data")
    text = figure.texts[-1]
    assert text.get_text() == "stand-in data"
    assert (text.get_position()[1] > 0) == (layout == "constrained")
