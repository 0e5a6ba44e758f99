import numpy as np
import pytest

from references import figures
from reid_jax import visual


def _random(*shape, seed=0):
    return np.random.Generator(np.random.Philox(seed)).random(shape)


def _images(*shape):
    return np.random.Generator(np.random.Philox(9)).integers(0, 256, (*shape, 3), np.uint8)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("drop", [False, True])
def test_channel_sum_agrees_with_loops(seed, drop):
    feature_map = _random(3, 5, 7, 40, seed=seed)
    expected = figures.channel_sum(feature_map, drop_border_channels=drop)
    sums = visual.channel_sum(feature_map, drop_border_channels=drop)
    np.testing.assert_allclose(sums, expected, rtol=1e-12)
    assert drop == (sums < feature_map.sum(-1) - 1e-9).any()


@pytest.mark.parametrize("seed", [0, 1])
def test_channels_with_equal_values_are_ordered_as_in_matlab(seed):
    feature_map = np.floor(3 * _random(2, 6, 5, 50, seed=seed))
    expected = figures.channel_sum(feature_map, drop_border_channels=True)
    sums = visual.channel_sum(feature_map, drop_border_channels=True)
    np.testing.assert_array_equal(sums, expected)


@pytest.mark.parametrize(
    ("largest", "second", "kept"),
    [
        ((5, 5), (7, 3), True),
        ((1, 2), (13, 13), True),
        ((5, 1), (7, 3), False),
        ((5, 5), (7, 0), False),
        ((0, 9), (7, 3), False),
        ((5, 5), (0, 13), False),
    ],
)
def test_a_channel_goes_when_one_of_its_two_largest_is_at_the_border(largest, second, kept):
    feature_map = np.zeros((1, 14, 14, 1))
    feature_map[0, *largest, 0], feature_map[0, *second, 0] = 2.0, 1.0
    sums = visual.channel_sum(feature_map, drop_border_channels=True)
    assert sums.sum() == (3.0 if kept else 0.0)


@pytest.mark.parametrize(
    ("shape", "drop", "message"),
    [((3, 4, 5), False, "shape"), ((0, 4, 4, 2), False, "shape"), ((2, 1, 1, 3), True, "1 x 1")],
)
def test_channel_sum_refuses(shape, drop, message):
    with pytest.raises(ValueError, match=message):
        visual.channel_sum(np.ones(shape), drop_border_channels=drop)


def _heats(figure):
    """The coloured pictures: those with a scale of their own."""
    return [image for image in figure.axes[0].images if image.get_array().ndim == 2]


def test_each_row_is_an_image_and_its_maps():
    maps = {"I": 4 * _random(2, 4, 3), "V": _random(2, 4, 3, seed=1), "I+V": np.ones((2, 4, 3))}
    images = _images(2, 32, 16)
    figure = visual.activation_maps(images, maps)
    ax = figure.axes[0]
    # The image, and for each map a grey image and the colours.
    assert len(ax.images) == 2 * (1 + 2 * 3)
    np.testing.assert_array_equal(ax.images[0].get_array(), images[0])
    heats = _heats(figure)
    assert [heat.get_array().shape for heat in heats] == [(32, 16)] * 6
    np.testing.assert_allclose(
        [heat.norm.vmax for heat in heats[:2]], [maps["I"][0].max(), *[maps["V"][0].max()]]
    )
    assert all(heat.norm.vmin == 0 for heat in heats)
    words = [text.get_text() for text in ax.texts]
    assert words[:4] == ["image", "I", "V", "I+V"]
    assert words[-1] == "each map on\nits own scale"
    assert words.count("largest 1.00") == 2


def test_enlarged_maps_keep_their_places():
    values = np.zeros((1, 4, 2))
    values[0, 3, 0] = 5.0
    heat = _heats(visual.activation_maps(_images(1, 64, 32), {"map": values}))[0]
    pixels = np.asarray(heat.get_array())
    # The centre of the last row and first column of cells.
    np.testing.assert_allclose(pixels[55:57, 7:9].mean(), 5.0, rtol=0.1)
    assert pixels[:40].max() == 0
    assert pixels[:, 24:].max() == 0


def test_a_common_scale_ends_at_the_largest_of_all():
    maps = {"I": 4 * _random(2, 4, 3), "V": _random(2, 4, 3, seed=1)}
    figure = visual.activation_maps(_images(2, 16, 16), maps, common_scale=True)
    assert {heat.norm.vmax for heat in _heats(figure)} == {maps["I"].max()}
    assert figure.axes[1].get_xlim()[1] == maps["I"].max()
    assert figure.axes[0].texts[-1].get_text() == "one scale\nfor all maps"


def test_a_map_of_zeros_is_drawn():
    figure = visual.activation_maps(_images(1, 8, 4), {"none": np.zeros((1, 2, 2))})
    assert _heats(figure)[0].norm.vmax == 1.0


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ({}, "0 maps"),
        ({"I": np.ones((3, 4, 4))}, "shape"),
        ({"I": np.ones((2, 4))}, "shape"),
        ({"I": np.full((2, 4, 4), -0.5)}, "ReLU"),
        ({"I": np.full((2, 4, 4), np.nan)}, "finite"),
    ],
)
def test_activation_maps_refuse(maps, message):
    with pytest.raises(ValueError, match=message):
        visual.activation_maps(_images(2, 8, 4), maps)


def test_activation_maps_refuse_images_that_are_not_bytes():
    with pytest.raises(ValueError, match="images"):
        visual.activation_maps(_random(2, 8, 4, 3), {"I": np.ones((2, 4, 4))})
