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
    raw, smooth = figure.axes[-1].lines
    np.testing.assert_array_equal(raw.get_ydata(), terms[f"term {num_terms - 1}"])
    assert smooth.get_label() == "mean of 5 steps"


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
