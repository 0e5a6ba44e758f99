import numpy as np
import pytest

from reid_jax import visual

_SIZES = [19732, 119732, 219732, 519732]
# Table VI of Zheng, Zheng and Yang.
_PAPER = (_SIZES, [0.7951, 0.7378, 0.7150, 0.6826], [0.5987, 0.5228, 0.4911, 0.4524])


def test_one_curve_in_each_panel_with_its_numbers():
    figure = visual.distractor_curve({"I+V": _PAPER})
    for ax, heading, values in zip(figure.axes, ("rank-1", "mAP"), _PAPER[1:], strict=True):
        assert ax.get_title(loc="left") == heading
        (line,) = ax.lines
        np.testing.assert_array_equal(line.get_xdata(), _SIZES)
        np.testing.assert_allclose(line.get_ydata(), 100 * np.array(values))
        assert [text.get_text() for text in ax.texts] == [f"{100 * v:.1f}" for v in values]
    formatted = figure.axes[0].xaxis.get_major_formatter()
    assert [formatted(size) for size in _SIZES] == ["19.7k", "119.7k", "219.7k", "519.7k"]
    assert formatted(2500) == "2,500"


def test_numbers_of_two_curves_stand_above_the_upper_and_below_the_lower():
    lower = (_SIZES, np.array(_PAPER[1]) - 0.1, np.array(_PAPER[2]) - 0.1)
    figure = visual.distractor_curve({"I": lower, "I+V": _PAPER})
    sides = [text.get_verticalalignment() for text in figure.axes[1].texts]
    assert sides == ["top"] * 4 + ["bottom"] * 4
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["I", "I+V"]


def test_many_curves_are_told_apart_by_more_than_colour():
    curves = {str(n): (_SIZES, [0.1 * n] * 4, [0.05 * n] * 4) for n in range(4)}
    figure = visual.distractor_curve(curves)
    looks = {(line.get_linestyle(), line.get_marker()) for line in figure.axes[0].lines}
    assert len(looks) == 4
    assert not figure.axes[0].texts


def test_ticks_without_room_are_left_out():
    curve = ([1000, 1010, 1020, 5000], [0.5] * 4, [0.4] * 4)
    figure = visual.distractor_curve({"": curve})
    assert list(figure.axes[0].get_xticks()) == [1000, 5000]


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "empty"),
        ({"a": ([], [], [])}, "S of 1"),
        ({"a": ([1, 2], [0.5], [0.4, 0.3])}, r"rank-1 \(1,\)"),
        ({"a": ([2, 1], [0.5, 0.4], [0.4, 0.3])}, "ascend"),
        ({"a": ([1, 2], [79.5, 73.8], [0.4, 0.3])}, "79.5"),
        ({"a": ([1, 2], [0.5, np.nan], [0.4, 0.3])}, "nan"),
    ],
)
def test_distractor_curve_refuses(curves, message):
    with pytest.raises(ValueError, match=message):
        visual.distractor_curve(curves)
