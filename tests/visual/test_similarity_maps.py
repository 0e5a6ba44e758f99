import dataclasses

import numpy as np
import pytest

from references import figures
from reid_jax import visual

IDENTITY = np.array([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])


def _thetas(*shape, seed=0):
    rng = np.random.Generator(np.random.Philox(seed))
    return rng.uniform(-0.4, 0.4, (*shape, 6)) + 0.6 * IDENTITY


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("stripe", "feature_size"), [((10, 30), (40, 15)), ((5, 15), (20, 8)), ((0, 5), (10, 4))]
)
def test_outline_agrees_with_the_corners_of_the_sampled_grid(seed, stripe, feature_size):
    theta = _thetas(seed=seed)
    outline = visual.attended_outline(
        theta, stripe=stripe, image_size=(160, 60), feature_size=feature_size
    )
    points = figures.sampled_points(theta, stripe, feature_size, (160, 60), out_size=4)
    expected = [points[0, 0], points[0, -1], points[-1, -1], points[-1, 0]]
    np.testing.assert_allclose(outline, expected, rtol=0, atol=1e-10)


def test_outline_of_the_identity_is_the_stripe():
    outline = visual.attended_outline(IDENTITY, stripe=(40, 120), image_size=(160, 60))
    np.testing.assert_array_equal(outline, [(0, 40), (59, 40), (59, 119), (0, 119)])


def test_outline_lies_on_the_centres_of_the_cells():
    # A cell is 4 x 4 pixels: the first one's centre lies between its second and third.
    outline = visual.attended_outline(
        IDENTITY, stripe=(10, 30), image_size=(160, 60), feature_size=(40, 15)
    )
    np.testing.assert_allclose(outline[[0, 2]], [(1.5, 41.5), (57.5, 117.5)])


def test_each_number_of_theta_moves_what_it_names():
    def outline(**changes):
        names = ("s_w", "r_w", "t_w", "r_h", "s_h", "t_h")
        theta = [changes.get(name, value) for name, value in zip(names, IDENTITY, strict=True)]
        return visual.attended_outline(np.array(theta), stripe=(0, 101), image_size=(101, 101))

    np.testing.assert_allclose(outline(s_w=0.5)[:, 0], [25, 75, 75, 25])
    np.testing.assert_allclose(outline(s_h=0.5)[:, 1], [25, 25, 75, 75])
    np.testing.assert_allclose(outline(t_w=0.2)[:, 0], [10, 110, 110, 10])
    np.testing.assert_allclose(outline(t_h=-0.2)[:, 1], [-10, -10, 90, 90])
    # r_w shifts the columns with the row, r_h the rows with the column.
    np.testing.assert_allclose(outline(r_w=0.1)[:, 0], [-5, 95, 105, 5])
    np.testing.assert_allclose(outline(r_h=0.1)[:, 1], [-5, 5, 105, 95])


@pytest.mark.parametrize(
    ("theta", "stripe", "message"),
    [
        (np.ones(5), (0, 20), "6 finite"),
        (np.full(6, np.inf), (0, 20), "6 finite"),
        (IDENTITY, (20, 20), "stripe"),
        (IDENTITY, (30, 50), "40 rows"),
        (IDENTITY, (-1, 20), "stripe"),
    ],
)
def test_outline_refuses(theta, stripe, message):
    with pytest.raises(ValueError, match=message):
        visual.attended_outline(theta, stripe=stripe, image_size=(160, 60), feature_size=(40, 15))


def _level(num_pairs, size, stripes, seed=0):
    rng = np.random.Generator(np.random.Philox(seed))
    maps = 3 + rng.random((num_pairs, len(stripes), *size))
    return visual.SimilarityLevel(maps, _thetas(*maps.shape[:2], seed=seed), np.array(stripes))


def _pictures(num_pairs=2):
    shape = (num_pairs, 160, 60, 3)
    return np.random.Generator(np.random.Philox(5)).integers(0, 256, shape, np.uint8)


def _levels(num_pairs=2):
    return {
        "CSN-2": _level(num_pairs, (40, 15), [(0, 20), (10, 30)]),
        "CSN-3": _level(num_pairs, (20, 8), [(0, 10), (5, 15)], seed=1),
    }


WORDS = {"parts": ["upper", "middle"], "headings": ["(a) positive", "(b) negative"]}


def test_each_pair_has_its_images_outlines_and_maps():
    levels = _levels()
    queries, tests = _pictures(), _pictures()[::-1]
    figure = visual.similarity_maps(queries, tests, levels, **WORDS)
    (ax,) = figure.axes
    heats = [image for image in ax.images if image.get_array().ndim == 2]
    # 2 pairs of 2 parts: the query, the test image, and two maps over grey queries.
    assert len(heats) == 8
    assert len(ax.images) == 4 * (2 + 2 * 2)
    np.testing.assert_array_equal(ax.images[0].get_array(), queries[0])
    np.testing.assert_array_equal(ax.images[1].get_array(), tests[0])
    values = levels["CSN-3"].maps[1, 0]
    assert (heats[5].norm.vmin, heats[5].norm.vmax) == (values.min(), values.max())
    words = [text.get_text() for text in ax.texts]
    assert f"{values.min():.3f} to {values.max():.3f}" in words
    for text in ("(a) positive", "(b) negative", "query", "test image", "CSN-2", "CSN-3", "middle"):
        assert text in words
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["sampled by CSN-2", "sampled by CSN-3", "stripe"]


def test_outlines_lie_on_the_test_image():
    levels = _levels()
    figure = visual.similarity_maps(_pictures(), _pictures(), levels, **WORDS)
    ax = figure.axes[0]
    outlines = [patch for patch in ax.patches if len(patch.get_xy()) == 5]
    assert len({patch.get_linestyle() for patch in outlines}) == 2
    # The second pair, its middle part, CSN-3.
    left, right, bottom, top = ax.images[3 * 6 + 1].get_extent()
    pixels = visual.attended_outline(
        levels["CSN-3"].theta[1, 1], stripe=(5, 15), image_size=(160, 60), feature_size=(20, 8)
    )
    expected = [left, top] + (pixels + 0.5) / [60, 160] * [right - left, bottom - top]
    np.testing.assert_allclose(outlines[7].get_xy()[:4], expected, atol=1e-10)
    # What lies beside the image would be drawn over the next one.
    clip = ax.transData.inverted().transform_bbox(outlines[7].get_clip_box())
    np.testing.assert_allclose(np.sort(clip.get_points(), 0), [(left, top), (right, bottom)])


def test_stripes_of_equal_rows_are_drawn_once():
    figure = visual.similarity_maps(_pictures(), _pictures(), _levels(), **WORDS)
    stripes = [patch for patch in figure.axes[0].patches if patch.get_linestyle() == ":"]
    assert len(stripes) == 4
    left, _, bottom, top = figure.axes[0].images[1].get_extent()
    assert stripes[0].get_xy() == (left, top)
    assert stripes[0].get_height() == pytest.approx((bottom - top) / 2)


def test_one_pair_is_narrower_than_two():
    one = visual.similarity_maps(
        _pictures(1), _pictures(1), _levels(1), parts=["upper", "middle"], headings=["only"]
    )
    two = visual.similarity_maps(_pictures(), _pictures(), _levels(), **WORDS)
    assert one.get_figwidth() < 0.55 * two.get_figwidth()
    assert one.get_figheight() == two.get_figheight()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": np.ones((2, 3, 40, 15))}, "maps"),
        ({"theta": np.ones((2, 2, 5))}, "theta"),
        ({"stripes": np.array([[0, 20]])}, "stripes"),
        ({"maps": np.full((2, 2, 40, 15), np.nan)}, "not finite"),
        ({"stripes": np.array([[0, 20], [10, 50]])}, "stripe"),
    ],
)
def test_similarity_maps_refuse_a_level(changes, message):
    level = dataclasses.replace(_levels()["CSN-2"], **changes)
    with pytest.raises(ValueError, match=message):
        visual.similarity_maps(_pictures(), _pictures(), {"CSN-2": level}, **WORDS)


@pytest.mark.parametrize(
    ("tests", "levels", "words", "message"),
    [
        (_pictures(1), _levels(), WORDS, "same shape"),
        (_pictures().astype(float), _levels(), WORDS, "test_images"),
        (_pictures(), {}, WORDS, "0 levels"),
        (_pictures(), _levels(), {**WORDS, "parts": []}, "0 parts"),
        (_pictures(), _levels(), {**WORDS, "headings": ["one"]}, "1 headings"),
    ],
)
def test_similarity_maps_refuse(tests, levels, words, message):
    with pytest.raises(ValueError, match=message):
        visual.similarity_maps(_pictures(), tests, levels, **words)
