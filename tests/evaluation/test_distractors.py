import dataclasses

import numpy as np
import pytest

from references import ranking as reference
from reid_jax.evaluation import counting, rank_features, rank_with_distractors


def labels(seed, num_query=23, num_gallery=150, num_identities=8):
    random = np.random.default_rng(seed)
    return (
        random.integers(-1, num_identities, num_query),
        random.integers(1, 4, num_query),
        random.integers(-1, num_identities + 3, num_gallery),
        random.integers(1, 4, num_gallery),
    )


def with_distractors(who, number):
    query_ids, query_cameras, gallery_ids, gallery_cameras = who
    gallery_ids = np.append(gallery_ids, np.full(number, 1000))
    if gallery_cameras is not None:
        gallery_cameras = np.append(gallery_cameras, np.ones(number, int))
    return query_ids, query_cameras, gallery_ids, gallery_cameras


def features(seed, sizes, dim=6):
    """Small integers: many ties between images."""
    random = np.random.default_rng(seed)
    return [random.integers(-3, 4, (size, dim)).astype(np.float32) for size in sizes]


def in_batches(rows, sizes):
    return np.split(rows, np.cumsum(sizes))


def assert_same(found, expected):
    for field in dataclasses.fields(found):
        np.testing.assert_array_equal(
            getattr(found, field.name), getattr(expected, field.name), err_msg=field.name
        )


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 6 queries and 45 images, whatever the gallery's size."""
    monkeypatch.setattr(counting, "_FEWEST_QUERIES", counting.BLOCK_ENTRIES)
    monkeypatch.setattr(counting, "_PART_QUERIES", 7)
    monkeypatch.setattr(counting, "_PART_ENTRIES", 6 * 45)


@pytest.mark.parametrize("cameras", [True, False])
def test_equals_the_concatenated_gallery(cameras):
    who = labels(0)
    who = who if cameras else (who[0], None, who[2], None)
    query, gallery, distractors = features(0, (23, 150, 400))
    batches = in_batches(distractors, [1, 130, 0, 60, 200])
    found = rank_with_distractors(query, gallery, *who, batches, at=[333, 131, 333])
    assert list(found) == [0, 131, 333]
    for number, result in found.items():
        together = np.concatenate([gallery, distractors[:number]])
        assert_same(result, rank_features(query, together, *with_distractors(who, number)))
        assert len(result.cmc) == 150 + number


@pytest.mark.parametrize("seed", [2, 3])
def test_equals_loops(seed):
    who = labels(seed)
    query, gallery, distractors = features(seed, (23, 150, 90))
    found = rank_with_distractors(query, gallery, *who, [distractors], at=[90])
    for number in (0, 90):
        together = np.concatenate([gallery, distractors[:number]])
        distances = reference.distance(query, together, "squared_euclidean")
        expected = reference.rank(distances, *with_distractors(who, number))
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(found[number], name), value, atol=1e-12)


@pytest.mark.parametrize(
    ("distance", "dtype"),
    [("squared_euclidean", np.float32), ("euclidean", np.float32), ("cosine", np.float64)],
)
@pytest.mark.slow
def test_parts_do_not_change_the_result(small_blocks, distance, dtype):
    who = labels(4)
    random = np.random.default_rng(5)
    directions = random.normal(size=(20, 13))
    query, gallery = (
        (directions[ids] + 1.5 * random.normal(size=(len(ids), 13))).astype(dtype)
        for ids in (who[0], who[2])
    )
    distractors = random.normal(size=(200, 13)).astype(dtype)
    found = rank_with_distractors(
        query, gallery, *who, in_batches(distractors, [3, 120]), at=[50, 200], distance=distance
    )
    parts = rank_features(query, gallery, *who, distance=distance)
    assert_same(found[0], parts)
    for number, result in found.items():
        together = np.concatenate([gallery, distractors[:number]])
        all_labels = with_distractors(who, number)
        settings = {"distance": distance, "queries_per_block": 23}
        assert_same(result, rank_features(query, together, *all_labels, **settings))
        expected = reference.rank(reference.distance(query, together, distance), *all_labels)
        assert result.map_step == pytest.approx(expected["map_step"], abs=1e-12)


@pytest.mark.parametrize("distance", ["squared_euclidean", "cosine"])
def test_equal_images_tie_exactly_across_parts(small_blocks, distance):
    who = labels(6)
    random = np.random.default_rng(7)
    query = random.normal(size=(23, 37)).astype(np.float32)
    images = random.normal(size=(9, 37)).astype(np.float32)
    gallery, distractors = images[random.integers(0, 9, 150)], images[random.integers(0, 9, 100)]
    found = rank_with_distractors(query, gallery, *who, [distractors], at=[100], distance=distance)[
        100
    ]
    # Sorted by loops over float64 distances that are equal exactly where the images are.
    together = np.concatenate([gallery, distractors])
    distances = reference.distance(query, together, distance)
    expected = reference.rank(distances, *with_distractors(who, 100))
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(found, name), value, atol=1e-12, err_msg=name)


def test_a_distractor_comes_after_an_equal_match():
    found = rank_with_distractors(
        np.zeros((1, 2)), np.ones((1, 2)), [5], None, [5], None, [np.ones((3, 2))], at=[3]
    )[3]
    assert found.first_match_rank.tolist() == [0]
    found = rank_with_distractors(
        np.zeros((1, 2)), np.ones((1, 2)), [5], None, [5], None, [np.zeros((3, 2))], at=[3]
    )[3]
    assert found.first_match_rank.tolist() == [3]
    assert found.cmc.tolist() == [0, 0, 0, 1]


def test_reads_no_further_than_asked(small_blocks):
    who = labels(8)
    query, gallery, distractors = features(8, (23, 150, 300))
    taken = []

    def batches():
        for start in range(0, 300, 20):
            taken.append(start)
            yield distractors[start : start + 20]

    rank_with_distractors(query, gallery, *who, batches(), at=[90])
    assert taken == [0, 20, 40, 60, 80]
    taken.clear()
    assert list(rank_with_distractors(query, gallery, *who, batches(), at=[])) == [0]
    assert taken == []


def test_bad_input_is_named():
    who = labels(9)
    query, gallery, distractors = features(9, (23, 150, 30))

    def ranked(batches, at, **settings):
        return rank_with_distractors(query, gallery, *who, batches, at=at, **settings)

    with pytest.raises(ValueError, match="ended after 30 of the 31 distractors"):
        ranked([distractors[:20], distractors[20:]], [10, 31])
    with pytest.raises(ValueError, match="ended after 0 of the 5"):
        ranked([], [5])
    with pytest.raises(ValueError, match=r"must be \[b, 6\].*\(30, 5\)"):
        ranked([distractors[:, :5]], [3])
    with pytest.raises(ValueError, match=r"got shape \(6,\)"):
        ranked([distractors[0]], [3])
    with pytest.raises(ValueError, match="at least 0, got -3"):
        ranked([distractors], [-3, 5])
    with pytest.raises(ValueError, match="nan distances"):
        ranked([np.full_like(distractors, np.inf)], [5])
    with pytest.raises(ValueError, match="unknown distance"):
        ranked([distractors], [5], distance="manhattan")
