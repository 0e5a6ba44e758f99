import dataclasses

import jax
import numpy as np
import pytest

from references import ranking as reference
from reid_jax.evaluation import (
    counting,
    pair_distance_histogram,
    rank,
    rank_features,
    rank_with_distractors,
    top_k,
)
from reid_jax.evaluation.gallery import Labels


def labels(seed, num_query=23, num_gallery=150, num_identities=8):
    random = np.random.default_rng(seed)
    return (
        random.integers(-1, num_identities, num_query),
        random.integers(1, 4, num_query),
        random.integers(-1, num_identities + 3, num_gallery),
        random.integers(1, 4, num_gallery),
    )


def without_cameras(query_ids, _, gallery_ids, __):
    return query_ids, None, gallery_ids, None


def features(seed, query_ids, gallery_ids, dim=13):
    random = np.random.default_rng(seed)
    directions = random.normal(size=(20, dim))
    return tuple(
        (directions[ids] + 1.5 * random.normal(size=(len(ids), dim))).astype(np.float32)
        for ids in (query_ids, gallery_ids)
    )


def assert_equal_reference(result, expected, atol=1e-12):
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(result, name), value, atol=atol, err_msg=name)


@pytest.mark.parametrize("cameras", [True, False])
@pytest.mark.parametrize("decimals", [0, 8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rank_equals_loops(seed, dtype, decimals, cameras):
    who = labels(seed)
    who = who if cameras else without_cameras(*who)
    # One decimal or less: many ties. Around half are negative.
    distances = np.random.default_rng(seed + 10).normal(size=(23, 150)).round(decimals)
    distances = distances.astype(dtype)
    assert_equal_reference(rank(distances, *who), reference.rank(distances, *who))


def test_float64_distances_are_not_rounded():
    distances = np.array([[1 + 2e-12, 1.0, 1 + 1e-12]])
    result = rank(distances, [7], None, [7, 3, 4], None)
    assert result.first_match_rank.tolist() == [2]
    assert not jax.config.jax_enable_x64


def test_rank_takes_integers_and_small_floats():
    for dtype in (np.int64, np.float16):
        result = rank(np.array([[3, 1, 2]], dtype), [7], None, [7, 3, 7], None)
        assert result.first_match_rank.tolist() == [1]


def test_peers_example():
    # Matches at ranks 1, 2, 4 and 7.
    ids = np.array([5, 5, 1, 5, 2, 3, 5, 4])
    result = rank(np.arange(8.0)[None], [5], None, ids, None)
    assert result.map_step == pytest.approx(0.83036, abs=5e-6)
    assert result.map_trapezoid == pytest.approx(0.81101, abs=5e-6)
    assert result.minp == pytest.approx(4 / 7)
    assert result.cmc.tolist() == [1.0] * 8
    np.testing.assert_allclose(result.cmc_all_shots, [0.5, 0.75, 0.75, 1, 1, 1, 1, 1])
    assert result.num_matches.tolist() == [4]


def test_single_match_at_rank_two():
    result = rank(np.array([[0.2, 0.1, 0.3]]), [5], None, [5, 6, 7], None)
    assert result.map_trapezoid == 0.25
    assert result.map_step == 0.5
    assert result.cmc.tolist() == [0, 1, 1]


def test_removal_closes_the_ranks():
    # In order: junk, same camera, wrong, same camera, match, wrong of the same camera, match.
    ids = np.array([-1, 5, 6, 5, 5, 7, 5])
    cameras = np.array([1, 1, 1, 1, 2, 1, 3])
    distances = np.arange(7.0)[None] - 3
    result = rank(distances, [5], [1], ids, cameras)
    assert result.first_match_rank.tolist() == [1]
    assert result.map_step == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert result.map_trapezoid == pytest.approx(((1 / 2 + 0) / 2 + (2 / 4 + 1 / 3) / 2) / 2)
    assert result.minp == pytest.approx(2 / 4)
    assert len(result.cmc) == 7
    assert rank(distances, [5], None, ids, None).first_match_rank.tolist() == [0]


def test_ties_go_to_the_lower_gallery_index():
    ids = np.array([1, 5, 2, 5])
    result = rank(np.zeros((1, 4)), [5], None, ids, None)
    assert result.map_step == pytest.approx((1 / 2 + 2 / 4) / 2)
    # -0 and 0 are equal.
    assert rank(np.array([[0.0, -0.0]]), [5], None, [1, 5], None).first_match_rank.tolist() == [1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_distances_are_ordered(dtype):
    tiny, huge = np.finfo(dtype).smallest_normal, np.finfo(dtype).max
    ordered = np.array([-np.inf, -huge, -1, -tiny, 0, tiny, 1, huge, np.inf], dtype)
    shuffled = np.random.default_rng(20).permutation(9)
    ids = np.arange(9)[shuffled]
    result = rank(np.tile(ordered[shuffled], (9, 1)), np.arange(9), None, ids, None)
    assert result.first_match_rank.tolist() == list(range(9))


def test_infinite_distances_rank_last():
    distances = np.array([[np.inf, np.inf, -np.inf, 1.0]])
    result = rank(distances, [5], None, [-1, 5, 3, 4], None)
    assert result.first_match_rank.tolist() == [2]


def test_queries_without_a_match_are_counted_out():
    distances = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.3, 0.1, 0.2]])
    # Junk query; identity that is not there; only a same-camera image; rank 2.
    result = rank(distances, [-1, 9, 2, 1], [1, 1, 1, 2], [1, 2, -1], [1, 1, 1])
    assert result.num_valid_queries == 1
    assert result.first_match_rank.tolist() == [-1, -1, -1, 1]
    assert np.isnan(result.average_precision_step).tolist() == [True, True, True, False]
    assert np.isnan(result.average_precision_trapezoid[:3]).all()
    assert np.isnan(result.inverse_negative_penalty[:3]).all()
    assert result.map_step == 0.5
    assert result.cmc.tolist() == [0, 1, 1]


def test_no_valid_query_gives_nan():
    result = rank(np.zeros((2, 2)), [1, 2], [1, 1], [1, 2], [1, 1])
    assert result.num_valid_queries == 0
    assert np.isnan([result.map_step, result.map_trapezoid, result.minp]).all()
    assert np.isnan(result.cmc).all()
    assert np.isnan(result.cmc_all_shots).all()


def test_identity_zero_is_an_ordinary_identity():
    result = rank(np.array([[1.0, 2.0]]), [0], None, [3, 0], None)
    assert result.first_match_rank.tolist() == [1]


@pytest.mark.parametrize("seed", range(5))
def test_step_is_never_below_trapezoid(seed):
    who = labels(seed, num_query=60)
    distances = np.random.default_rng(seed).random((60, 150))
    result = rank(distances, *who)
    valid = result.first_match_rank >= 0
    step, trapezoid = result.average_precision_step, result.average_precision_trapezoid
    assert (step[valid] >= trapezoid[valid] - 1e-15).all()


@pytest.mark.parametrize("cameras", [True, False])
@pytest.mark.parametrize("distance", ["squared_euclidean", "euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rank_features_equals_loops(dtype, distance, cameras):
    who = labels(3)
    who = who if cameras else without_cameras(*who)
    query, gallery = (x.astype(dtype) for x in features(4, who[0], who[2]))
    expected = reference.rank(reference.distance(query, gallery, distance), *who)
    assert_equal_reference(rank_features(query, gallery, *who, distance=distance), expected)


def test_many_matches_of_one_query():
    # More than one pass of counting, and galleries around the width of a lane block.
    for num_gallery in (127, 300, 1024, 1025):
        random = np.random.default_rng(num_gallery)
        ids = random.integers(0, 2, num_gallery)
        distances = random.normal(size=(3, num_gallery)).round(1)
        who = (np.array([0, 1, 5]), None, ids, None)
        assert_equal_reference(rank(distances, *who), reference.rank(distances, *who))


@pytest.mark.parametrize("distance", ["squared_euclidean", "euclidean"])
@pytest.mark.parametrize("queries_per_block", [1, 2, 7, 23, 1000])
def test_blocks_do_not_change_the_result(queries_per_block, distance):
    who = labels(5)
    # Small integers: many ties between different images.
    random = np.random.default_rng(6)
    query, gallery = random.integers(-3, 4, (23, 6)), random.integers(-3, 4, (150, 6))
    expected = reference.rank(reference.distance(query, gallery, distance), *who)
    result = rank_features(
        query.astype(np.float32),
        gallery.astype(np.float32),
        *who,
        distance=distance,
        queries_per_block=queries_per_block,
    )
    assert_equal_reference(result, expected)


@pytest.mark.parametrize("distance", ["squared_euclidean", "euclidean", "cosine"])
def test_equal_images_tie_exactly(distance):
    who = labels(7, num_gallery=300)
    query, gallery = features(8, who[0], who[2], dim=37)
    copies = np.random.default_rng(9).integers(0, 300, 300)
    gallery = gallery[copies]
    for queries_per_block in (None, 5):
        result = rank_features(
            query, gallery, *who, distance=distance, queries_per_block=queries_per_block
        )
        # Sorted by loops over float64 distances that are equal exactly where the images are.
        expected = reference.rank(reference.distance(query, gallery, distance), *who)
        assert_equal_reference(result, expected)


def test_blocks_are_bounded_and_whole():
    blocks = counting.query_blocks(np.arange(3368), 519_732, None)
    assert max(map(len, blocks)) * 519_732 <= counting.BLOCK_ENTRIES
    assert np.concatenate(blocks).tolist() == list(range(3368))
    assert len({len(b) for b in blocks}) <= 2
    assert len(counting.query_blocks(np.arange(3), 10**9, None)) == 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("decimals", [0, 8])
@pytest.mark.parametrize("seed", [30, 31, 32])
def test_counting_equals_the_definition_by_sorting(seed, decimals, dtype):
    who = labels(seed, num_gallery=300)
    images = Labels(*who)
    # Many ties without decimals; and infinite distances.
    distances = np.random.default_rng(seed).normal(size=(23, 300)).round(decimals).astype(dtype)
    distances[:, ::17] = np.inf
    sorted_positions = counting.positions_by_sorting(distances, images.removed)
    for q in range(23):
        kept = [g for g in range(300) if who[2][g] != -1]
        kept.sort(key=lambda g, q=q: (distances[q, g], g))
        assert [sorted_positions[q, g] for g in kept] == list(range(len(kept)))
    assert (sorted_positions[:, images.removed] == -1).all()
    positions, rows = counting.positions_of_distances(images, distances)
    own = positions >= 0
    assert own.sum(axis=1).tolist() == [(who[2] == k).sum() if k != -1 else 0 for k in who[0]]
    np.testing.assert_array_equal(
        positions[own], np.take_along_axis(sorted_positions, rows, axis=1)[own]
    )


@pytest.mark.parametrize("queries_per_block", [None, 5])
def test_counting_of_features_equals_the_definition_by_sorting(queries_per_block, monkeypatch):
    who = labels(33, num_gallery=300)
    images = Labels(*who)
    # Small integers: the distances are exact, and many are equal.
    random = np.random.default_rng(34)
    query, gallery = (random.integers(-3, 4, (n, 6)).astype(np.float32) for n in (23, 300))
    distances = reference.distance(query, gallery, "squared_euclidean")
    sorted_positions = counting.positions_by_sorting(distances, images.removed)
    arguments = (images, query, gallery, "squared_euclidean", np.dtype(np.float32))
    found = [counting.positions_of_features(*arguments, queries_per_block)]
    # As for a large gallery, part by part.
    monkeypatch.setattr(counting, "_PART_ENTRIES", 23 * 70)
    found += counting.positions_by_parts(*arguments[:3], (), (0,), *arguments[3:])
    for positions, rows in found:
        own = positions >= 0
        assert own.any()
        np.testing.assert_array_equal(
            positions[own], np.take_along_axis(sorted_positions, rows, axis=1)[own]
        )


@pytest.mark.parametrize(
    ("decimals", "numbers"),
    [(0, (1, 4)), (8, (1, 4)), pytest.param(8, (1, 2, 8), marks=pytest.mark.slow)],
)
def test_devices_do_not_change_the_result(decimals, numbers, monkeypatch):
    who = labels(40, num_gallery=300)
    random = np.random.default_rng(41)
    # Without decimals the distances are exact, and many are equal.
    query, gallery, distractors = (
        (3 * random.normal(size=(n, 6))).round(decimals).astype(np.float32) for n in (23, 300, 95)
    )
    monkeypatch.setattr(counting, "_PART_QUERIES", 7)
    monkeypatch.setattr(counting, "_PART_ENTRIES", 6 * 45)
    every = jax.local_devices()
    found = []
    for number in numbers:
        monkeypatch.setattr(jax, "local_devices", lambda number=number: every[:number])
        # Six blocks of four queries, the last of which is short; and of one whole.
        found.append(
            [
                rank_features(query, gallery, *who, queries_per_block=4),
                rank(reference.distance(query, gallery, "squared_euclidean"), *who),
                *rank_with_distractors(query, gallery, *who, [distractors], at=[50, 95]).values(),
            ]
        )
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            for field in dataclasses.fields(one):
                np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
    distances = reference.distance(query, gallery, "squared_euclidean")
    for result in found[-1][:3]:
        assert_equal_reference(result, reference.rank(distances, *who))


@pytest.mark.parametrize("cameras", [True, False])
@pytest.mark.parametrize("k", [1, 10, 200])
def test_top_k_equals_loops(k, cameras):
    who = labels(10)
    who = who if cameras else without_cameras(*who)
    query_ids, query_cameras, gallery_ids, gallery_cameras = who
    query, gallery = features(11, query_ids, gallery_ids)
    gallery[75:] = gallery[:75]
    distances = reference.distance(query, gallery, "squared_euclidean")
    lists = top_k(query, gallery, *who, k=k, queries_per_block=9)
    assert lists.gallery_rows.shape == lists.distances.shape == lists.match.shape == (23, k)
    for q in range(23):
        camera = query_cameras[q] if cameras else None
        rows = reference.ranked_rows(
            distances[q], query_ids[q], camera, gallery_ids, gallery_cameras
        )[:k]
        assert lists.gallery_rows[q].tolist() == rows + [-1] * (k - len(rows))
        np.testing.assert_allclose(lists.distances[q, : len(rows)], distances[q][rows], rtol=1e-4)
        assert np.isnan(lists.distances[q, len(rows) :]).all()
        match = (gallery_ids[rows] == query_ids[q]).tolist()
        assert lists.match[q].tolist() == match + [0] * (k - len(rows))


@pytest.mark.parametrize("cameras", [True, False])
def test_pair_distance_histogram_equals_loops(cameras):
    who = labels(12)
    who = who if cameras else without_cameras(*who)
    query_ids, query_cameras, gallery_ids, gallery_cameras = who
    query, gallery = features(13, query_ids, gallery_ids)
    distances = reference.distance(query, gallery, "squared_euclidean")
    same, different = [], []
    for q in np.flatnonzero(query_ids != -1):
        camera = query_cameras[q] if cameras else None
        rows = reference.ranked_rows(
            distances[q], query_ids[q], camera, gallery_ids, gallery_cameras
        )
        for g in rows:
            (same if gallery_ids[g] == query_ids[q] else different).append(distances[q, g])
    found = pair_distance_histogram(query, gallery, *who, num_bins=17, queries_per_block=6)
    assert len(found.edges) == 18
    assert found.edges[0] == pytest.approx(min(same + different), rel=1e-5)
    assert found.edges[-1] == pytest.approx(max(same + different), rel=1e-5)
    edges = np.array([5.0, 20.5, 40.25, 80.125])
    given = pair_distance_histogram(query, gallery, *who, edges=edges)
    for histogram, bins in ((found, found.edges.astype(np.float64)), (given, edges)):
        for counts, values in (
            (histogram.same_pair_counts, same),
            (histogram.different_pair_counts, different),
        ):
            expected = np.histogram(np.clip(values, bins[0], bins[-1]), bins)[0]
            assert counts.tolist() == expected.tolist()


def test_bad_input_is_named():
    ok = ([1, 2], [1, 1], [1, 2, 3], [2, 2, 2])
    with pytest.raises(ValueError, match=r"must be \[Q, G\]"):
        rank(np.zeros(3), *ok)
    with pytest.raises(ValueError, match="2 queries and 4 gallery"):
        rank(np.zeros((2, 4)), *ok)
    with pytest.raises(ValueError, match="query_cameras is given and gallery_cameras is None"):
        rank(np.zeros((2, 3)), ok[0], ok[1], ok[2], None)
    with pytest.raises(ValueError, match="gallery is empty"):
        rank(np.zeros((2, 0)), ok[0], None, [], None)
    with pytest.raises(ValueError, match="query_cameras has 1 entries"):
        rank(np.zeros((2, 3)), ok[0], [1], ok[2], ok[3])
    with pytest.raises(ValueError, match="one integer per image"):
        rank(np.zeros((2, 3)), [0.5, 1.0], None, ok[2], None)
    with pytest.raises(ValueError, match="first is query row 1"):
        rank(np.array([[1, 2, 3], [1, np.nan, 3]]), *ok)
    x = np.ones((2, 4), np.float32), np.ones((3, 4), np.float32)
    with pytest.raises(ValueError, match="known: squared_euclidean, euclidean, cosine"):
        rank_features(*x, *ok, distance="manhattan")
    with pytest.raises(ValueError, match="same model"):
        rank_features(x[0][:, :3], x[1], *ok)
    with pytest.raises(ValueError, match="nan distances"):
        rank_features(x[0] * np.inf, x[1], *ok)
    with pytest.raises(ValueError, match="queries_per_block"):
        rank_features(*x, *ok, queries_per_block=0)
    with pytest.raises(ValueError, match="k must be"):
        top_k(*x, *ok, k=0)
    with pytest.raises(ValueError, match="increasing"):
        pair_distance_histogram(*x, *ok, edges=np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="no pair to count"):
        pair_distance_histogram(*x, [-1, -1], None, ok[2], None)


def test_nan_of_a_junk_image_is_no_error():
    distances = np.array([[np.nan, 2.0, 1.0]])
    assert rank(distances, [5], None, [-1, 5, 6], None).first_match_rank.tolist() == [1]
