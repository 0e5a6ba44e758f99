import dataclasses

import numpy as np
import pytest

from references import ranking as reference
from reid_jax.evaluation import camera_pair_matrix


@dataclasses.dataclass
class Listed:
    files: list
    identities: np.ndarray
    cameras: np.ndarray | None


def listed(name, identities, cameras):
    files = [f"{name}/{i:03d}.jpg" for i in range(len(identities))]
    return Listed(files, np.array(identities), np.array(cameras))


def on_a_line(*positions):
    return np.array(positions, np.float64)[:, None]


def test_hand_made_case():
    # One query of camera 1 at 0. By distance: same camera, wrong of camera 2, right of camera 3,
    # junk, right of camera 2, wrong of camera 3, right of camera 2.
    query = listed("query", [5], [1])
    gallery = listed("gallery", [5, 6, 5, -1, 5, 7, 5], [1, 2, 3, 1, 2, 3, 2])
    matrix = camera_pair_matrix(on_a_line(0), on_a_line(1, 2, 3, 4, 5, 6, 7), query, gallery)
    assert matrix.cameras.tolist() == [1, 2, 3]
    assert matrix.num_queries.tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0]]
    # Camera 1: the first. Camera 2: wrong, right, wrong, right. Camera 3: wrong, right.
    assert matrix.rank1[0].tolist() == [1, 0, 0]
    np.testing.assert_allclose(matrix.map_step[0], [1, (1 / 2 + 2 / 4) / 2, 1 / 2])
    trapezoid = [1, ((0 + 1 / 2) / 2 + (1 / 3 + 2 / 4) / 2) / 2, (0 + 1 / 2) / 2]
    np.testing.assert_allclose(matrix.map_trapezoid[0], trapezoid)
    assert np.isnan(matrix.rank1[1:]).all()
    assert np.isnan(matrix.map_step[1:]).all()


def test_the_query_itself_is_no_match():
    # Query and gallery are one list: each image is nearest to itself.
    images = listed("images", [5, 5, 6, 5], [1, 1, 1, 2])
    features = on_a_line(0, 3, 1, 2)
    matrix = camera_pair_matrix(features, features, images, images)
    assert matrix.num_queries.tolist() == [[2, 2], [1, 0]]
    # For 0 in camera 1: wrong at 1, right at 3. For 3: wrong at 1 (distance 2), right at 0.
    assert matrix.rank1[0, 0] == 0
    assert matrix.map_step[0, 0] == 1 / 2
    # The match of camera 2 is at 2: second for 0, first for 3.
    assert matrix.rank1[0, 1] == 1 / 2
    assert matrix.map_step[0, 1] == (1 / 2 + 1) / 2
    # From camera 2 at 2: wrong at 1 and right at 3 are as near, and 3 is the lower row.
    assert matrix.rank1[1, 0] == 1
    assert matrix.map_step[1, 0] == (1 + 2 / 3) / 2
    gallery = listed("others", images.identities, images.cameras)
    assert camera_pair_matrix(features, features, images, gallery).rank1[0, 0] == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_loops(seed, dtype):
    random = np.random.default_rng(seed)
    query = listed("query", random.integers(-1, 5, 31), random.integers(1, 5, 31))
    gallery = listed("gallery", random.integers(-1, 7, 140), random.integers(2, 6, 140))
    itself = np.full(31, -1)
    # Some queries are gallery images too.
    for q, g in zip(range(0, 31, 2), random.permutation(140), strict=False):
        itself[q] = g
        gallery.files[g] = query.files[q]
        gallery.identities[g], gallery.cameras[g] = query.identities[q], query.cameras[q]
    features = (random.integers(-3, 4, (size, 5)).astype(dtype) for size in (31, 140))
    query_features, gallery_features = features
    distances = reference.distance(query_features, gallery_features, "squared_euclidean")
    matrix = camera_pair_matrix(query_features, gallery_features, query, gallery)
    assert matrix.cameras.tolist() == [1, 2, 3, 4, 5]
    for row, query_camera in enumerate(matrix.cameras):
        for column, camera in enumerate(matrix.cameras):
            expected = reference.camera_pair_cell(
                distances,
                query.identities,
                query.cameras,
                gallery.identities,
                gallery.cameras,
                itself,
                query_camera,
                camera,
            )
            assert matrix.num_queries[row, column] == expected["num_valid_queries"]
            cell = [expected["cmc"][0], expected["map_step"], expected["map_trapezoid"]]
            found = [m[row, column] for m in (matrix.rank1, matrix.map_step, matrix.map_trapezoid)]
            np.testing.assert_allclose(found, cell, atol=1e-12)


def test_without_any_match():
    query, gallery = listed("query", [5], [1]), listed("gallery", [6], [2])
    matrix = camera_pair_matrix(on_a_line(0), on_a_line(1), query, gallery)
    assert matrix.num_queries.sum() == 0
    assert np.isnan([matrix.rank1, matrix.map_step, matrix.map_trapezoid]).all()


def test_bad_input_is_named():
    query, gallery = listed("query", [5, 6], [1, 2]), listed("gallery", [5], [2])
    with pytest.raises(ValueError, match="the gallery has images without a camera"):
        camera_pair_matrix(
            np.ones((2, 3)), np.ones((1, 3)), query, dataclasses.replace(gallery, cameras=None)
        )
    unknown = dataclasses.replace(query, cameras=np.array([1, -1]))
    with pytest.raises(ValueError, match="the query has images without a camera"):
        camera_pair_matrix(np.ones((2, 3)), np.ones((1, 3)), unknown, gallery)
    with pytest.raises(ValueError, match="for 3 queries and 1 gallery"):
        camera_pair_matrix(np.ones((3, 3)), np.ones((1, 3)), query, gallery)
    with pytest.raises(ValueError, match="unknown distance"):
        camera_pair_matrix(np.ones((2, 3)), np.ones((1, 3)), query, gallery, distance="manhattan")
