import numpy as np
import pytest
from matplotlib.colors import to_hex

from reid_jax import visual
from reid_jax.visual import style


def _pixels(*shape):
    return np.random.Generator(np.random.Philox(0)).integers(0, 256, (*shape, 3), np.uint8)


def test_right_and_wrong_differ_in_colour_line_and_mark():
    matches = np.array([[1, 0, -1], [0, 1, 1]])
    figure = visual.ranked_lists(
        _pixels(2, 16, 8),
        _pixels(2, 3, 16, 8),
        matches,
        query_captions=["id 1, c1", "id 2, c3"],
        gallery_captions=[["a", "b", "absent"], ["d", "e", "f"]],
    )
    (ax,) = figure.axes
    frames = [(to_hex(p.get_edgecolor()).upper(), p.get_linestyle()) for p in ax.patches]
    assert [colour for colour, _ in frames].count(style.GREEN) == 3
    assert [colour for colour, _ in frames].count(style.VERMILION) == 2
    assert len({line for colour, line in frames if colour == style.GREEN}) == 1
    discs = [line.get_marker() for line in ax.lines if line.get_marker() in ("o", "s")]
    assert (discs.count("o"), discs.count("s")) == (3, 2)
    assert len(ax.images) == 2 + 5
    words = [text.get_text() for text in ax.texts]
    assert {"query", "1", "3", "none", "id 2, c3", "f"} <= set(words)
    assert "absent" not in words


def test_images_keep_their_pixels_and_proportions():
    queries, gallery = _pixels(1, 32, 16), _pixels(1, 1, 32, 16)
    ax = visual.ranked_lists(queries, gallery, np.array([[1]])).axes[0]
    np.testing.assert_array_equal(ax.images[0].get_array(), queries[0])
    left, right, bottom, top = ax.images[1].get_extent()
    assert (bottom - top) / (right - left) == pytest.approx(2.0)


def test_large_images_are_averaged_down():
    flat = np.full((1, 1, 320, 160, 3), 77, np.uint8)
    ax = visual.ranked_lists(flat[0], flat, np.array([[0]])).axes[0]
    assert ax.images[1].get_array().shape == (160, 80, 3)
    assert (ax.images[1].get_array() == 77).all()


@pytest.mark.parametrize(
    ("queries", "gallery", "matches", "message"),
    [
        (_pixels(2, 8, 4).astype(np.float32), _pixels(2, 3, 8, 4), np.ones((2, 3)), "query_images"),
        (_pixels(2, 8, 4), _pixels(6, 8, 4), np.ones((2, 3)), "gallery_images"),
        (_pixels(1, 8, 4), _pixels(2, 3, 8, 4), np.ones((2, 3)), "1 queries"),
        (_pixels(2, 8, 4), _pixels(2, 3, 8, 4), np.ones((3, 2)), "matches"),
        (_pixels(2, 8, 4), _pixels(2, 3, 8, 4), np.full((2, 3), 2), "matches"),
    ],
)
def test_ranked_lists_refuse(queries, gallery, matches, message):
    with pytest.raises(ValueError, match=message):
        visual.ranked_lists(queries, gallery, matches)


def test_ranked_lists_refuse_captions_that_do_not_fit():
    with pytest.raises(ValueError, match="captions"):
        visual.ranked_lists(
            _pixels(1, 8, 4), _pixels(1, 2, 8, 4), np.ones((1, 2)), gallery_captions=[["one"]]
        )


@pytest.mark.parametrize("captions", [None, [f"id {number}" for number in range(5)]])
def test_contact_sheet_shows_every_image(captions):
    figure = visual.contact_sheet(_pixels(5, 8, 4), captions=captions, num_columns=2)
    assert len(figure.axes[0].images) == 5
    assert [text.get_text() for text in figure.axes[0].texts] == (captions or [])


@pytest.mark.parametrize("images", [_pixels(0, 8, 4), _pixels(8, 4)])
def test_contact_sheet_refuses(images):
    with pytest.raises(ValueError, match=r"contact_sheet|images"):
        visual.contact_sheet(images)


def test_contact_sheet_refuses_missing_captions():
    with pytest.raises(ValueError, match="captions"):
        visual.contact_sheet(_pixels(3, 8, 4), captions=["one"])
