import numpy as np
import pytest
from matplotlib.colors import to_hex

from references import figures
from reid_jax import visual
from reid_jax.visual import style


def _clusters(num_identities=5, images_per_identity=8, dim=12, seed=0):
    rng = np.random.Generator(np.random.Philox(seed))
    identities = np.repeat(np.arange(1, num_identities + 1), images_per_identity)
    centers = 4 * rng.normal(size=(num_identities, dim))
    return centers[identities - 1] + 0.3 * rng.normal(size=(len(identities), dim)), identities


def _map(num_images=60, seed=0, ratio=2):
    """Coordinates, images whose only colour is their number, identities."""
    rng = np.random.Generator(np.random.Philox(seed))
    coordinates = rng.normal(size=(num_images, 2)) * [3.0, 5.0] + [7.0, -2.0]
    images = np.zeros((num_images, 8 * ratio, 8, 3), np.uint8)
    images[...] = np.arange(1, num_images + 1, dtype=np.uint8)[:, None, None, None]
    return coordinates, images, rng.integers(-1, 9, num_images)


def _shown(figure, ratio=2):
    """{(row, column): index} read off the picture."""
    canvas = figure.axes[0].images[0].get_array()
    _, num_columns, num_rows, _ = figure.axes[0].images[0].get_extent()
    cells = canvas.reshape(int(num_rows), -1, int(num_columns), canvas.shape[1] // num_columns, 4)
    shown = {}
    for row, column in np.ndindex(int(num_rows), int(num_columns)):
        red, opacity = cells[row, :, column, :, 0], cells[row, :, column, :, 3]
        assert set(np.unique(opacity)) <= {0, 255}
        numbers = np.unique(red[opacity == 255])
        assert len(numbers) <= 1
        if len(numbers):
            shown[row, column] = int(numbers[0]) - 1
    return shown


def test_tsne_is_a_function_of_features_and_seed():
    features, _ = _clusters()
    once = visual.tsne(features, seed=3)
    assert once.shape == (40, 2)
    np.testing.assert_array_equal(visual.tsne(features, seed=3), once)


def test_tsne_keeps_identities_together():
    features, identities = _clusters()
    coordinates = visual.tsne(features, seed=0)
    distances = np.linalg.norm(coordinates[:, None] - coordinates[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (identities[distances.argmin(1)] == identities).all()


def test_tsne_of_four_features():
    assert np.isfinite(visual.tsne(np.eye(4), seed=0)).all()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones(5), "shape"),
        (np.eye(3), "4 or more"),
        (np.arange(8.0)[:, None], "2 or more"),
        (np.full((9, 3), np.nan), "not finite"),
        (np.ones((9, 3)), "the same"),
    ],
)
def test_tsne_refuses(features, message):
    with pytest.raises(ValueError, match=message):
        visual.tsne(features, seed=0)


@pytest.mark.parametrize(("seed", "ratio", "num_columns"), [(0, 2, 6), (1, 1, 9), (2, 3, 7)])
def test_a_cell_shows_the_image_nearest_to_its_centre(seed, ratio, num_columns):
    coordinates, images, identities = _map(seed=seed, ratio=ratio)
    figure = visual.embedding_map(
        coordinates, images, identities, num_columns=num_columns, num_highlighted=0
    )
    expected = figures.shown_in_cells(coordinates, np.zeros(60, bool), ratio, num_columns)
    assert _shown(figure, ratio) == expected
    assert f"{len(expected)} of 60 images" in figure.texts[0].get_text()
    assert not figure.axes[0].patches


def test_highlighted_identities_go_first_and_are_told_apart_by_more_than_colour():
    coordinates, images, identities = _map(seed=4)
    identities[:5], identities[5:9], identities[9:] = 7, 3, identities[9:] % 3 - 1
    # 0 and -1 are no identities, though they have the most images.
    figure = visual.embedding_map(coordinates, images, identities, num_columns=5, num_highlighted=3)
    ones = int((identities == 1).sum())
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [f"id 1, {ones} images", "id 7, 5 images", "id 3, 4 images"]
    expected = figures.shown_in_cells(coordinates, np.isin(identities, [1, 3, 7]), 2, 5)
    assert _shown(figure) == expected
    ax = figure.axes[0]
    borders = [to_hex(patch.get_edgecolor()).upper() for patch in ax.patches]
    colours = dict(zip([1, 7, 3], style.CYCLE, strict=False))
    marked = [identities[index] for _, index in sorted(expected.items())]
    assert borders == [colours[i] for i in marked if i in colours]
    assert len({line.get_marker() for line in ax.lines}) == 3


def test_equal_counts_highlight_the_lowest_identities():
    coordinates, images, _ = _map()
    identities = np.repeat([9, 4, 6, 2, 8, 5], 10)
    figure = visual.embedding_map(coordinates, images, identities, num_highlighted=2)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["id 2, 10 images", "id 4, 10 images"]


def test_images_at_one_place_are_one_cell():
    _, images, identities = _map(3)
    figure = visual.embedding_map(np.ones((3, 2)), images, identities, num_highlighted=0)
    assert len(_shown(figure)) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coordinates": np.ones((60, 3))}, "coordinates"),
        ({"coordinates": np.full((60, 2), np.nan)}, "not finite"),
        ({"images": np.ones((60, 8, 4, 3))}, "images"),
        ({"identities": np.ones(59, int)}, "59 identities"),
        ({"identities": np.ones((60, 1), int)}, "identities"),
        ({"num_columns": 0}, "num_columns"),
        ({"num_highlighted": 7}, "num_highlighted"),
    ],
)
def test_embedding_map_refuses(changes, message):
    arguments = dict(zip(("coordinates", "images", "identities"), _map(), strict=True)) | changes
    arrays = [arguments.pop(name) for name in ("coordinates", "images", "identities")]
    with pytest.raises(ValueError, match=message):
        visual.embedding_map(*arrays, **arguments)
