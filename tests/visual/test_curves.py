import numpy as np
import pytest

from reid_jax import visual


def _offsets(ax):
    return [collection.get_offsets() for collection in ax.collections]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("window", [1, 3, 7, 101])
def test_moving_average_is_the_mean_of_the_finite_neighbours(seed, window):
    rng = np.random.Generator(np.random.Philox(seed))
    values = np.where(rng.random(40) < 0.6, rng.normal(3, 1, 40), np.nan)
    values[10:20] = np.nan
    values[30] = np.inf
    expected = []
    for position in range(40):
        near = values[max(0, position - window // 2) : position + window // 2 + 1]
        near = [value for value in near if np.isfinite(value)]
        expected.append(sum(near) / len(near) if near else np.nan)
    np.testing.assert_allclose(visual.moving_average(values, window), expected, rtol=1e-12)


@pytest.mark.parametrize(("values", "window"), [([[1.0]], 1), ([1.0], 0), ([1.0], 2)])
def test_moving_average_refuses(values, window):
    with pytest.raises(ValueError, match="moving_average"):
        visual.moving_average(np.array(values), window)


@pytest.mark.parametrize("num_terms", [1, 2, 3, 4, 5, 7])
def test_training_curves_have_a_panel_for_each_term(num_terms):
    steps = np.arange(100)
    terms = {f"term {number}": np.sqrt(steps + number) for number in range(num_terms)}
    figure = visual.training_curves(steps, terms)
    assert [ax.get_title(loc="left") for ax in figure.axes] == list(terms)
    (mean,) = figure.axes[-1].lines
    values = terms[f"term {num_terms - 1}"]
    np.testing.assert_allclose(mean.get_ydata(), visual.moving_average(values, 5), rtol=1e-12)
    assert mean.get_label() == "mean of 5 steps"
    # Every row is full: the panels of a row share its width evenly.
    rows = {}
    for ax in figure.axes:
        place = ax.get_subplotspec()
        rows.setdefault(place.rowspan.start, []).append((place.colspan.start, place.colspan.stop))
    columns = figure.axes[0].get_gridspec().ncols
    for spans in rows.values():
        assert spans[0][0] == 0
        assert spans[-1][1] == columns
        assert len({stop - start for start, stop in spans}) == 1


def test_training_curves_have_a_band_of_one_standard_deviation():
    rng = np.random.Generator(np.random.Philox(0))
    values = 5 + rng.normal(0, 1, 100)
    figure = visual.training_curves(np.arange(100), {"loss": values})
    (band,) = figure.axes[0].collections
    corners = band.get_paths()[0].vertices
    mean = np.array([values[max(0, i - 2) : i + 3].mean() for i in range(100)])
    squares = (values - mean) ** 2
    deviation = np.sqrt([squares[max(0, i - 2) : i + 3].mean() for i in range(100)])
    for place in (0, 50, 99):
        edges = np.sort(np.unique(corners[corners[:, 0] == place, 1]))
        expected = mean[place] + np.array([-1, 1]) * deviation[place]
        np.testing.assert_allclose(edges[[0, -1]], expected, rtol=1e-9)


def test_few_steps_are_drawn_as_they_are_without_a_legend():
    figure = visual.training_curves(np.arange(40), {"loss": np.arange(40.0)})
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), np.arange(40.0))
    assert not figure.legends


def test_many_steps_make_a_figure_of_bounded_size():
    steps = np.arange(50_000)
    figure = visual.training_curves(steps, {"loss": np.sqrt(steps)})
    assert len(figure.axes[0].lines[0].get_xdata()) == 1000
    assert figure.axes[0].lines[0].get_xdata()[-1] == steps[-1]


def test_drops_of_the_learning_rate_are_marked_in_every_panel():
    terms = {"loss": np.arange(40.0), "accuracy": np.arange(40.0)}
    figure = visual.training_curves(np.arange(40), terms, drops=(10, 30))
    for ax in figure.axes:
        assert [line.get_xdata()[0] for line in ax.lines[1:]] == [10, 30]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["learning rate falls"]


def test_training_curves_leave_out_what_is_not_finite():
    values = np.array([1.0, np.nan, 3.0, np.inf])
    figure = visual.training_curves(np.arange(4), {"loss": values, "nothing": np.full(4, np.nan)})
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), [1.0, 3.0])
    assert not figure.axes[1].lines
    assert figure.axes[1].texts[0].get_text() == "no values"


def test_training_curves_draw_a_validation_as_markers():
    figure = visual.training_curves(np.array([9, 19]), {"mAP": np.array([0.1, 0.2])}, smooth=False)
    (line,) = figure.axes[0].lines
    assert line.get_marker() == "o"


@pytest.mark.parametrize(
    ("steps", "terms"),
    [([], {"loss": []}), ([0, 1], {}), ([0, 1], {"loss": [1.0]})],
)
def test_training_curves_refuse(steps, terms):
    terms = {name: np.array(values) for name, values in terms.items()}
    with pytest.raises(ValueError, match=r"steps|terms|loss"):
        visual.training_curves(np.array(steps), terms)


def test_distance_scatter_draws_only_batches_with_a_positive_pair():
    steps = np.arange(6)
    intra = np.array([0.2, np.nan, 0.4, np.nan, np.nan, 0.6])
    mean, low = np.linspace(1.0, 1.5, 6), np.linspace(0.5, 0.9, 6)
    panels = {"(a) softmax": (steps, intra, mean, low), "(b) joint": (steps, intra, mean, low)}
    figure = visual.distance_scatter(panels, distance="squared Euclidean distance")
    assert len(figure.axes) == 2
    clouds = _offsets(figure.axes[0])
    for cloud, values in zip(clouds, (mean, low, intra), strict=True):
        np.testing.assert_allclose(cloud, np.stack([steps, values], 1)[[0, 2, 5]])
    assert figure.axes[0].get_ylabel() == "squared Euclidean distance"
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_distance_scatter_says_when_no_batch_has_a_positive_pair():
    nothing = np.full(3, np.nan)
    figure = visual.distance_scatter({"": (np.arange(3), nothing, np.ones(3), nothing)})
    assert figure.axes[0].texts[0].get_text() == "no values"


@pytest.mark.parametrize("panels", [{}, {"": (np.arange(3), np.ones(2), np.ones(3), np.ones(3))}])
def test_distance_scatter_refuses(panels):
    with pytest.raises(ValueError, match=r"panels|intra"):
        visual.distance_scatter(panels)


@pytest.mark.parametrize("num_ranks", [1, 4, 300])
def test_cmc_curve_is_in_percent_and_ends_at_the_last_rank(num_ranks):
    cmc = 1 - 0.5 * np.exp(-np.arange(num_ranks) / 9)
    figure = visual.cmc_curve({"ours": cmc})
    (line,) = figure.axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), 100 * cmc[:50])
    assert figure.axes[0].texts[0].get_text() == "50.0"
    # An axis that does not begin at 0 says so.
    broken = any(mark.get_label() == "_break" for mark in figure.axes[0].collections)
    assert broken == (figure.axes[0].get_ylim()[0] > 0)


def test_the_spread_of_runs_is_a_band_in_percent():
    cmc = np.linspace(0.5, 1.0, 10)
    figure = visual.cmc_curve({"mean": cmc}, spread=(cmc - 0.1, cmc))
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(40)
    assert band[:, 1].max() == pytest.approx(100)
    assert figure.axes[0].get_ylim()[0] < 40


def test_cmc_curves_are_told_apart_by_more_than_colour():
    cmc = np.linspace(0.4, 1.0, 60)
    figure = visual.cmc_curve({"softmax": 0.9 * cmc, "joint": cmc})
    looks = {(line.get_linestyle(), line.get_marker()) for line in figure.axes[0].lines}
    assert len(looks) == 2


@pytest.mark.parametrize("curves", [{}, {"ours": []}, {"ours": [[0.1, 0.2]]}])
def test_cmc_curve_refuses(curves):
    with pytest.raises(ValueError, match="cmc_curve"):
        visual.cmc_curve({name: np.array(cmc) for name, cmc in curves.items()})


def test_distance_scatter_shows_every_panel_whole():
    low = ([0, 1], [0.2, 0.3], [0.4, 0.5], [0.1, 0.2])
    high = ([0, 1], [0.2, 0.3], [1.3, 1.4], [0.1, 0.2])
    figure = visual.distance_scatter({"a": low, "b": high})
    for ax in figure.axes:
        bottom, top = ax.get_ylim()
        assert bottom == 0
        assert top > 1.4
