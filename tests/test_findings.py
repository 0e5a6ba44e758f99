from types import SimpleNamespace

import numpy as np
import pytest

from reid_jax import evaluation
from reid_jax.protocols import findings


class Images(SimpleNamespace):
    def __len__(self):
        return len(self.identities)


@pytest.fixture(params=[0, 1])
def compared(request):
    """Features, queries, gallery, and for each query the gallery rows that count, nearest first."""
    rng = np.random.Generator(np.random.Philox(request.param))
    query, gallery = (
        Images(
            identities=rng.integers(1, 9, number),
            cameras=rng.integers(1, 4, number),
            files=[f"{side}/{row}.jpg" for row in range(number)],
            camera_names={1: "entrance", 2: "yard", 3: "roof"},
        )
        for side, number in (("query", 12), ("gallery", 90))
    )
    features = [rng.normal(size=(len(images), 5)) for images in (query, gallery)]
    ranked = []
    for row in range(len(query)):
        order = np.argsort(((features[0][row] - features[1]) ** 2).sum(1), kind="stable")
        own = (gallery.identities == query.identities[row]) & (
            gallery.cameras == query.cameras[row]
        )
        ranked.append([int(place) for place in order if not own[place]])
    return features, query, gallery, ranked


def test_listed_queries_say_how_good_they_are_and_where_their_first_match_is(compared):
    features, query, gallery, ranked = compared
    sides = (query.identities, query.cameras, gallery.identities, gallery.cameras)
    result = evaluation.rank_features(*features, *sides)
    places = np.array([7, 0, 3, 11])
    lists = evaluation.top_k(
        features[0][places],
        features[1],
        query.identities[places],
        query.cameras[places],
        gallery.identities,
        gallery.cameras,
        k=90,
    )
    cut, arrays = findings.of_listed(result, places, lists, length=2)
    some_beyond = False
    for listed, place in enumerate(places):
        match = gallery.identities[ranked[place]] == query.identities[place]
        first = int(np.flatnonzero(match)[0])
        assert list(cut.gallery_rows[listed]) == ranked[place][:2]
        assert arrays["ranked_num_matches"][listed] == match.sum()
        assert arrays["ranked_first_rank"][listed] == first
        precision = (np.arange(match.sum()) + 1) / (np.flatnonzero(match) + 1)
        np.testing.assert_allclose(
            arrays["ranked_average_precision"][listed], precision.mean(), rtol=1e-12
        )
        if first < 2:
            assert arrays["ranked_first_gallery"][listed] == -1
            assert np.isnan(arrays["ranked_first_distance"][listed])
        else:
            some_beyond = True
            row = ranked[place][first]
            assert arrays["ranked_first_gallery"][listed] == row
            distance = ((features[0][place] - features[1][row]) ** 2).sum()
            np.testing.assert_allclose(arrays["ranked_first_distance"][listed], distance, rtol=1e-5)
    assert some_beyond


def test_the_nearest_image_is_the_first_of_the_list(compared):
    features, query, gallery, ranked = compared
    arrays = findings.nearest(features, query, gallery)
    np.testing.assert_array_equal(arrays["nearest_query"], np.arange(12))
    np.testing.assert_array_equal(arrays["nearest_gallery"], [rows[0] for rows in ranked])


def test_the_nearest_of_a_comparison_is_of_the_querys_own_gallery():
    comparison = evaluation.Comparison(
        query_rows=np.array([4, 9]),
        gallery_rows=np.array([[3, -1, 8], [1, 2, -1]]),
        distances=np.array([[0.5, np.inf, 0.2], [0.1, 0.3, np.inf]]),
        match=np.zeros((2, 3), bool),
    )
    arrays = findings.nearest_of_comparison(comparison)
    assert list(arrays["nearest_query"]) == [4, 9]
    assert list(arrays["nearest_gallery"]) == [8, 1]


def test_pairs_of_cameras_have_their_names(compared):
    features, query, gallery, _ = compared
    arrays = findings.between_cameras(features, query, gallery)
    assert list(arrays["camera_pair_names"]) == ["entrance", "yard", "roof"]
    matrix = evaluation.camera_pair_matrix(*features, query, gallery)
    np.testing.assert_array_equal(arrays["camera_pair_rank1"], matrix.rank1)


def test_one_camera_or_none_has_no_pairs(compared):
    features, query, gallery, _ = compared
    for cameras in (None, np.ones(12, int)):
        query.cameras = cameras
        gallery.cameras = None if cameras is None else np.ones(90, int)
        assert findings.between_cameras(features, query, gallery) == {}
