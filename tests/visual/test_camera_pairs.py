import numpy as np
import pytest
from matplotlib.colors import to_hex

from reid_jax import visual
from reid_jax.visual import style


def _matrix(num_cameras=6, seed=0):
    return np.random.Generator(np.random.Philox(seed)).random((num_cameras, num_cameras))


def _panels(figure):
    return [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]


def test_a_number_in_each_cell_and_the_cross_camera_mean_in_the_title():
    matrices = {"mAP": _matrix(), "rank-1": _matrix(seed=1)}
    left, right = _panels(visual.camera_pair_heat_map(matrices))
    numbers = [text.get_text() for text in right.texts]
    assert numbers == [f"{100 * value:.1f}" for value in matrices["rank-1"].ravel()]
    # A row is a camera of the queries.
    assert right.texts[2 * 6 + 5].get_position() == (5, 2)
    total = sum(matrices["mAP"][i][j] for i in range(6) for j in range(6) if i != j)
    assert left.get_title(loc="left") == f"(a) mAP, mean of 30 pairs {100 * total / 30:.2f} %"
    assert left.get_ylabel() == "camera of the query"
    assert left.get_xlabel() == right.get_xlabel() == "camera of the gallery"
    assert len(left.patches) == 6


def test_both_panels_share_one_scale():
    figure = visual.camera_pair_heat_map({"mAP": 0.1 * _matrix(), "rank-1": _matrix()})
    assert [ax.images[0].get_clim() for ax in _panels(figure)] == [(0.0, 100.0)] * 2


def test_pairs_without_queries_are_shown_and_left_out_of_the_mean():
    matrix = np.array([[0.9, 0.2, np.nan], [0.4, 0.8, 0.6], [np.nan, 0.1, 0.7]])
    (ax,) = _panels(visual.camera_pair_heat_map({"mAP": matrix}))
    assert ax.get_title(loc="left") == "mAP, mean of 4 measured pairs 32.50 %"
    assert ax.texts[2].get_text() == "\N{EN DASH}"
    # It stands on the page, so it has the page's colour; numbers on colours have not.
    assert to_hex(ax.texts[2].get_color()) == style.INK
    assert [ax.texts[i].get_color() for i in (0, 1)] == ["black", "white"]
    np.testing.assert_array_equal(ax.images[0].get_array().mask, np.isnan(matrix))


def test_no_pairs_at_all_and_names_of_cameras():
    matrix = np.where(np.eye(2, dtype=bool), 0.5, np.nan)
    (ax,) = _panels(visual.camera_pair_heat_map({"mAP": matrix}, cameras=["A", "B"]))
    assert ax.get_title(loc="left") == "mAP, no pairs of cameras"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["A", "B"]


@pytest.mark.parametrize(
    ("matrices", "cameras", "message"),
    [
        ({}, None, "empty"),
        ({"mAP": np.ones((6, 5))}, None, "shape"),
        ({"mAP": np.ones((1, 1))}, None, "2 or more"),
        ({"mAP": np.ones((3, 3)), "rank-1": np.ones((2, 2))}, None, "rank-1"),
        ({"mAP": np.full((3, 3), 48.42)}, None, "48.42"),
        ({"mAP": np.full((3, 3), np.inf)}, None, "inf"),
        ({"mAP": np.ones((3, 3))}, [1, 2], "2 cameras"),
    ],
)
def test_camera_pair_heat_map_refuses(matrices, cameras, message):
    with pytest.raises(ValueError, match=message):
        visual.camera_pair_heat_map(matrices, cameras=cameras)
