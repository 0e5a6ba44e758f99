import dataclasses

import numpy as np
import pytest

from reid_jax.evaluation import (
    fingerprint,
    metrics,
    multi_query,
    pool_queries,
    rank,
    rank_features,
    single_query,
    single_query_of_distances,
    single_query_with_distractors,
)


@dataclasses.dataclass
class Listed:
    files: list
    identities: np.ndarray
    cameras: np.ndarray | None


def listed(name, identities, cameras):
    cameras = None if cameras is None else np.array(cameras)
    files = [f"{name}/{i:04d}.jpg" for i in range(len(identities))]
    return Listed(files, np.array(identities), cameras)


def toy(seed=0):
    random = np.random.default_rng(seed)
    query = listed("query", [1, 2, 3, 1], [1, 2, 1, 3])
    gallery = listed("gallery", [1, 1, 2, 2, 3, 3, 0, -1], [1, 2, 1, 2, 2, 3, 1, 1])
    return random.normal(size=(4, 5)), random.normal(size=(8, 5)), query, gallery


def test_single_query_is_rank_features_with_a_name():
    query_features, gallery_features, query, gallery = toy()
    evaluation = single_query(query_features, gallery_features, query, gallery)
    expected = rank_features(
        query_features,
        gallery_features,
        query.identities,
        query.cameras,
        gallery.identities,
        gallery.cameras,
    )
    assert evaluation.protocol == "single-query"
    assert evaluation.result.map_step == expected.map_step
    query.cameras = gallery.cameras = None
    without = single_query(query_features, gallery_features, query, gallery)
    assert without.protocol == "single-query-no-cameras"
    assert without.fingerprint != evaluation.fingerprint


@pytest.mark.parametrize("with_cameras", [True, False])
def test_single_query_of_distances_is_that_of_features(with_cameras):
    query_features, gallery_features, query, gallery = toy()
    if not with_cameras:
        query.cameras = gallery.cameras = None
    of_features = single_query(query_features, gallery_features, query, gallery)
    distances = ((query_features[:, None] - gallery_features) ** 2).sum(-1)
    # Minus a score is negative; the order is all that counts.
    found = single_query_of_distances(distances - 100, query, gallery)
    assert (found.protocol, found.fingerprint) == (of_features.protocol, of_features.fingerprint)
    assert metrics(found.result) == metrics(of_features.result)
    comparison = found.comparison
    for q in range(4):
        for g in range(8):
            same = query.identities[q] == gallery.identities[g]
            camera = with_cameras and query.cameras[q] == gallery.cameras[g]
            removed = gallery.identities[g] == -1 or (same and camera)
            assert comparison.gallery_rows[q, g] == (-1 if removed else g)
            assert comparison.match[q, g] == (same and not removed)
            expected = np.inf if removed else distances[q, g] - 100
            assert comparison.distances[q, g] == expected
    cameras = [1] * 4 if with_cameras else None
    with pytest.raises(ValueError, match="no query has a match"):
        single_query_of_distances(distances, listed("query", [7] * 4, cameras), gallery)


def test_fingerprint_sees_every_part():
    base = (["a", "b"], [1, 2], [1, 1])
    others = [
        (["a", "c"], [1, 2], [1, 1]),
        (["a", "b"], [1, 3], [1, 1]),
        (["a", "b"], [1, 2], [1, 2]),
        (["a", "b"], [1, 2], None),
        (["b", "a"], [2, 1], [1, 1]),
    ]
    found = [fingerprint(*x) for x in [base, *others]]
    assert len(set(found)) == 6
    assert all(len(f) == 16 and int(f, 16) >= 0 for f in found)
    assert fingerprint(["a", "b"], np.array([1, 2], np.int32), np.array([1, 1])) == found[0]
    assert found[0] == "a2d2e1dce346b416"
    with pytest.raises(ValueError, match="2 files, 1 identities"):
        fingerprint(["a", "b"], [1], None)


def test_fingerprint_sees_the_border_of_query_and_gallery():
    query_features, gallery_features, query, gallery = toy()
    before = single_query(query_features, gallery_features, query, gallery).fingerprint
    query.files[-1], gallery.files[0] = gallery.files[0], query.files[-1]
    assert single_query(query_features, gallery_features, query, gallery).fingerprint != before


def test_metrics_of_a_small_gallery():
    result = rank(np.array([[1.0, 2.0, 0.5]]), [5], None, [1, 5, 2], None)
    assert metrics(result) == {
        "rank1": 0.0,
        "rank5": 1.0,
        "rank10": 1.0,
        "rank20": 1.0,
        "map_step": pytest.approx(1 / 3),
        "map_trapezoid": pytest.approx(1 / 6),
        "minp": pytest.approx(1 / 3),
    }
    assert all(type(v) is float for v in metrics(result).values())


@pytest.mark.parametrize("pooling", ["average", "maximum"])
def test_multi_query_pools_identity_and_camera(pooling):
    query_features, gallery_features, query, gallery = toy(1)
    multi = listed("gt_bbox", [1, 2, 1, 3, 1, 1, 2], [1, 2, 3, 1, 1, 2, 1])
    features = np.random.default_rng(2).normal(size=(7, 5))
    pooled = pool_queries(features, query, multi, pooling=pooling)
    for q, rows in enumerate([[0, 4], [1], [3], [2]]):
        x = features[rows].mean(0) if pooling == "average" else features[rows].max(0)
        np.testing.assert_allclose(pooled[q], x / np.sqrt((x**2).sum()))
    evaluation = multi_query(
        query_features, features, gallery_features, query, multi, gallery, pooling=pooling
    )
    assert evaluation.protocol == f"multi-query-{pooling}"
    single = single_query(pooled, gallery_features, query, gallery)
    assert evaluation.result.map_step == single.result.map_step
    assert evaluation.fingerprint != single.fingerprint


def test_multi_query_bad_input():
    query_features, gallery_features, query, gallery = toy()
    multi = listed("gt_bbox", [1, 2], [1, 2])
    features = np.ones((2, 5))
    with pytest.raises(ValueError, match=r"2 of 4 queries have no multi-query image.*query/0002"):
        pool_queries(features, query, multi, pooling="average")
    with pytest.raises(ValueError, match="known: average, maximum"):
        pool_queries(features, query, multi, pooling="median")
    with pytest.raises(ValueError, match="no cameras"):
        pool_queries(features, query, listed("gt_bbox", [1, 2], None), pooling="average")
    with pytest.raises(ValueError, match="3 multi-query features"):
        pool_queries(np.ones((3, 5)), query, multi, pooling="average")
    with pytest.raises(ValueError, match="3 query features for 4"):
        multi_query(
            query_features[:3], features, gallery_features, query, multi, gallery, pooling="average"
        )


def test_no_match_names_the_cause():
    query_features, gallery_features, query, gallery = toy()
    gallery.identities = gallery.identities + 10
    with pytest.raises(ValueError, match="none of the 3 query identities is in the gallery"):
        single_query(query_features, gallery_features, query, gallery)
    query_features, gallery_features, query, gallery = toy()
    query.cameras, gallery.cameras = np.ones(4, int), np.ones(8, int)
    with pytest.raises(ValueError, match="query's own camera"):
        single_query(query_features, gallery_features, query, gallery)
    gallery.cameras = np.array([1, 2, 1, 2, 2, 3, 1, -1])
    with pytest.raises(ValueError, match="the gallery has images without a camera"):
        single_query(query_features, gallery_features, query, gallery)


def test_single_query_with_distractors():
    query_features, gallery_features, query, gallery = toy(5)
    distractors = listed("distractors", [0] * 9, [1] * 9)
    features = np.random.default_rng(6).normal(size=(9, 5))
    found = single_query_with_distractors(
        query_features,
        gallery_features,
        [features[:4], features[4:]],
        query,
        gallery,
        distractors,
        at=[7, 3],
    )
    assert list(found) == [0, 3, 7]
    plain = single_query(query_features, gallery_features, query, gallery)
    assert (found[0].protocol, found[0].fingerprint) == (plain.protocol, plain.fingerprint)
    assert found[7].protocol == "single-query+7-distractors"
    assert len({e.fingerprint for e in found.values()}) == 3
    for number, evaluation in found.items():
        files = gallery.files + distractors.files[:number]
        identities = np.append(gallery.identities, np.zeros(number, int))
        cameras = np.append(gallery.cameras, np.ones(number, int))
        together = np.concatenate([gallery_features, features[:number]])
        expected = single_query(query_features, together, query, Listed(files, identities, cameras))
        assert metrics(evaluation.result) == metrics(expected.result)
    distractors.files[2] = "other.jpg"
    again = single_query_with_distractors(
        query_features, gallery_features, [features], query, gallery, distractors, at=[3]
    )
    assert again[3].fingerprint != found[3].fingerprint
    query.cameras = gallery.cameras = None
    again = single_query_with_distractors(
        query_features, gallery_features, [features], query, gallery, distractors, at=[3]
    )
    assert again[3].protocol == "single-query+3-distractors-no-cameras"
    with pytest.raises(ValueError, match="10 distractors were asked for, and the data set has 9"):
        single_query_with_distractors(
            query_features, gallery_features, [features], query, gallery, distractors, at=[10]
        )
