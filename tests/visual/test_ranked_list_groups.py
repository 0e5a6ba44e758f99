import dataclasses

import numpy as np
import pytest
from matplotlib.colors import to_hex

from reid_jax import visual
from reid_jax.visual import style


def _picture(height, width, seed=0):
    rng = np.random.Generator(np.random.Philox(seed))
    return rng.integers(0, 256, (height, width, 3), np.uint8)


def _list(matches=(1, 0, 1), **changes):
    gallery = [_picture(16, 8, seed) for seed in range(len(matches))]
    return visual.RankedList(_picture(16, 8), gallery, matches, **changes)


def test_each_group_has_its_heading_above_its_lists():
    groups = {"easy": [_list((1, 1, 1))], "hard": [_list((0, 0, 1)), _list((0, 0, 0))]}
    ax = visual.ranked_list_groups(groups).axes[0]
    places = {text.get_text(): text.get_position()[1] for text in ax.texts}
    tops = [image.get_extent()[3] for image in ax.images[::4]]
    assert places["1"] < places["easy"] < tops[0] < places["hard"] < tops[1] < tops[2]
    frames = [to_hex(patch.get_edgecolor()).upper() for patch in ax.patches]
    assert (frames.count(style.GREEN), frames.count(style.VERMILION)) == (4, 5)


def test_a_group_without_a_heading_takes_no_room_for_one():
    with_heading = visual.ranked_list_groups({"easy": [_list()]})
    without = visual.ranked_list_groups({"": [_list()]})
    assert without.get_figheight() < with_heading.get_figheight()


def test_pictures_keep_their_proportions_inside_their_cells():
    gallery = [_picture(60, 80), _picture(80, 60, 1), _picture(60, 80, 2), _picture(20, 80, 3)]
    ranked = visual.RankedList(_picture(60, 80), gallery, (1, 1, 0, 1))
    ax = visual.ranked_list_groups({"": [ranked]}).axes[0]
    boxes = [image.get_extent() for image in ax.images[1:]]
    sizes = [((right - left), (bottom - top)) for left, right, bottom, top in boxes]
    for (width, height), image in zip(sizes, gallery, strict=True):
        assert height / width == pytest.approx(image.shape[0] / image.shape[1])
        assert width <= 1 + 1e-9
        assert height <= 0.75 + 1e-9
    assert sizes[0] == pytest.approx((1.0, 0.75))
    assert sizes[1][1] == pytest.approx(0.75)
    middles = [(top + bottom) / 2 for _, _, bottom, top in boxes]
    np.testing.assert_allclose(middles, middles[0])
    steps = np.diff([(left + right) / 2 for left, right, _, _ in boxes])
    np.testing.assert_allclose(steps, steps[0])


def test_the_searched_part_of_a_query_is_boxed():
    ranked = visual.RankedList(
        _picture(50, 100), [_picture(50, 100)], (1,), query_box=(20, 10, 60, 40)
    )
    ax = visual.ranked_list_groups({"": [ranked]}).axes[0]
    (box,) = [p for p in ax.patches if to_hex(p.get_edgecolor()).upper() == style.ORANGE]
    left, _, _, top = ax.images[0].get_extent()
    np.testing.assert_allclose(box.get_xy(), (left + 0.2, top + 0.1))
    np.testing.assert_allclose((box.get_width(), box.get_height()), (0.4, 0.3))


def test_what_stands_where_there_is_no_image_is_not_looked_at():
    ranked = visual.RankedList(
        _picture(16, 8), [_picture(16, 8), None], (1, -1), "id 3", ["c2", "absent"]
    )
    ax = visual.ranked_list_groups({"": [ranked]}).axes[0]
    words = [text.get_text() for text in ax.texts]
    assert len(ax.images) == 2
    assert {"id 3", "c2", "none"} <= set(words)
    assert "absent" not in words


def test_marks_are_smaller_where_pictures_are():
    few, many = (visual.ranked_list_groups({"": [_list([1] * n)]}) for n in (5, 30))
    sizes = [max(line.get_markersize() for line in f.axes[0].lines) for f in (few, many)]
    assert sizes[0] == 13.0
    assert sizes[1] < 6.0


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({}, "one or more groups"),
        ({"easy": []}, "one or more groups"),
        ({"easy": [_list()], "hard": []}, r"\[1, 0\]"),
        ({"easy": [_list(), _list((1, 0))]}, "expected 3 of each"),
        ({"easy": [_list(())]}, "1 or more"),
        ({"easy": [_list((1, 2, 0))]}, "matches"),
        ({"easy": [_list(gallery_captions=["one"])]}, "1 captions"),
        ({"easy": [_list(query_box=(0, 0, 9, 4))]}, "8 x 16"),
        ({"easy": [_list(query_box=(4, 0, 4, 4))]}, "query_box"),
        ({"easy": [dataclasses.replace(_list(), query=np.ones((8, 4, 3)))]}, "query is float64"),
        ({"easy": [dataclasses.replace(_list(), gallery=[None] * 3)]}, "a gallery image"),
    ],
)
def test_ranked_list_groups_refuse(groups, message):
    with pytest.raises(ValueError, match=message):
        visual.ranked_list_groups(groups)
