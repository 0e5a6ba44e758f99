import dataclasses

import numpy as np
import pytest

from references import ranking as reference
from reid_jax.evaluation import (
    comparison_histogram,
    comparison_lists,
    draw_one_direction,
    draw_per_query,
    feature_distances,
    metrics,
    multi_shot,
    rank,
    rank_columns,
    single_shot_one_direction,
    single_shot_per_query,
)


@dataclasses.dataclass
class Listed:
    files: list
    identities: np.ndarray
    cameras: np.ndarray | None


def pool(seed):
    """Images of two cameras in random order: 4 to 10 of seven identities, junk, and three images
    of identities that one camera alone has, 40 and 41."""
    identities = np.repeat([0, 1, 2, 3, 4, 5, 6, -1], [4, 5, 6, 7, 8, 9, 10, 11])
    identities = np.append(identities, [40, 41, 40])
    cameras = np.append(np.arange(60) % 3 // 2 + 1, [1, 2, 1])
    order = np.random.default_rng(seed).permutation(63)
    files = [f"pool/{i:03d}.png" for i in range(63)]
    return Listed(files, identities[order], cameras[order])


def pool_distances(seed, images, decimals=8):
    """Asymmetric, as a model of pairs may be."""
    size = len(images.files)
    return np.random.default_rng(seed).normal(size=(size, size)).round(decimals)


def lookup(distances, calls=None):
    def distance_of(query_rows, gallery_rows):
        if calls is not None:
            calls.append((query_rows, gallery_rows))
        return distances[np.ix_(query_rows, gallery_rows)]

    return distance_of


def assert_equal_reference(result, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(result, name), value, atol=1e-12, err_msg=name)


def repeats_by_loops(distances, identities, draws):
    """One reference result for each (query_rows [Q], gallery_rows [Q, K])."""
    found = []
    for query_rows, gallery_rows in draws:
        values, match = [], []
        for query, gallery in zip(query_rows, gallery_rows, strict=True):
            values.append([distances[query, g] for g in gallery])
            match.append([identities[query] == identities[g] for g in gallery])
        found.append(reference.rank_columns(values, match))
    return found


def assert_mean_of_repeats(evaluation, repeats):
    assert evaluation.num_repeats == len(repeats)
    for name in ("cmc", "cmc_all_shots", "map_step", "map_trapezoid", "minp"):
        mean = np.mean([r[name] for r in repeats], axis=0)
        np.testing.assert_allclose(getattr(evaluation.result, name), mean, atol=1e-12, err_msg=name)
    for name in ("average_precision_trapezoid", "first_match_rank"):
        rows = np.concatenate([r[name] for r in repeats])
        np.testing.assert_allclose(getattr(evaluation.result, name), rows, err_msg=name)
    spread = {
        "rank1": [r["cmc"][0] for r in repeats],
        "rank5": [r["cmc"][4] for r in repeats],
        "map_step": [r["map_step"] for r in repeats],
        "map_trapezoid": [r["map_trapezoid"] for r in repeats],
        "minp": [r["minp"] for r in repeats],
    }
    for name, values in spread.items():
        np.testing.assert_allclose(
            evaluation.metrics_std[name], np.std(values, ddof=1), atol=1e-12, err_msg=name
        )
    assert evaluation.metrics_std.keys() == metrics(evaluation.result).keys()
    assert all(type(v) is float for v in evaluation.metrics_std.values())


@pytest.mark.parametrize("decimals", [0, 8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", [0, 1])
def test_rank_columns_equals_loops(seed, dtype, decimals):
    random = np.random.default_rng(seed)
    distances = random.normal(size=(17, 40)).round(decimals).astype(dtype)
    match = random.random((17, 40)) < random.random((17, 1)) * 0.4
    match[3] = False
    result = rank_columns(distances, match)
    assert_equal_reference(result, reference.rank_columns(distances, match))
    assert result.num_matches.tolist() == match.sum(axis=1).tolist()


def test_rank_columns_of_one_gallery_is_rank():
    random = np.random.default_rng(2)
    distances = random.normal(size=(9, 30)).round(1)
    query_ids, gallery_ids = random.integers(0, 4, 9), random.integers(0, 5, 30)
    found = rank_columns(distances, query_ids[:, None] == gallery_ids)
    expected = rank(distances, query_ids, None, gallery_ids, None)
    for field in dataclasses.fields(found):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name))


def test_single_match_at_rank_two():
    result = rank_columns(np.array([[0.2, 0.1, 0.3]]), np.array([[True, False, False]]))
    assert result.map_trapezoid == 0.25
    assert result.map_step == 0.5
    assert result.cmc.tolist() == [0, 1, 1]


def test_padding_a_gallery_moves_no_rank():
    distances = np.array([[np.inf, 1.0, np.inf], [3.0, 2.0, 1.0]])
    match = np.array([[True, False, False], [False, True, True]])
    padded = rank_columns(
        np.pad(distances, ((0, 0), (0, 2)), constant_values=np.inf), np.pad(match, ((0, 0), (0, 2)))
    )
    plain = rank_columns(distances, match)
    assert plain.first_match_rank.tolist() == padded.first_match_rank.tolist() == [1, 0]
    np.testing.assert_array_equal(padded.cmc[:3], plain.cmc)
    assert padded.map_step == plain.map_step


def test_rank_columns_bad_input():
    with pytest.raises(ValueError, match=r"match must be \[Q, K\] and match bool"):
        rank_columns(np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(3, 2\)"):
        rank_columns(np.zeros((2, 3)), np.zeros((3, 2), bool))
    with pytest.raises(ValueError, match="nothing to rank"):
        rank_columns(np.zeros((0, 3)), np.zeros((0, 3), bool))
    with pytest.raises(ValueError, match="first is query row 1"):
        rank_columns(np.array([[1, 2], [np.nan, 3]]), np.eye(2, dtype=bool))


def test_draw_one_direction():
    random = np.random.default_rng(3)
    identities, cameras = random.integers(-1, 9, 80), random.integers(1, 4, 80)
    settings = {"query_camera": 1, "gallery_camera": 3}
    draws = set()
    for seed in range(8):
        for repeat in range(2):
            draw = {**settings, "seed": seed, "repeat": repeat}
            query, gallery = draw_one_direction(identities, cameras, **draw)
            assert (cameras[query] == 1).all()
            assert (cameras[gallery] == 3).all()
            shared = set(identities[cameras == 1]) & set(identities[cameras == 3]) - {-1}
            assert identities[query].tolist() == identities[gallery].tolist() == sorted(shared)
            draws.add((*query, *gallery))
            again = draw_one_direction(identities, cameras, **draw)
            np.testing.assert_array_equal(again[0], query)
    assert len(draws) == 16
    with pytest.raises(ValueError, match="must differ"):
        draw_one_direction(identities, cameras, query_camera=1, gallery_camera=1, seed=0)
    with pytest.raises(ValueError, match="share no identity"):
        draw_one_direction(identities, cameras, query_camera=1, gallery_camera=7, seed=0)


def test_the_draws_are_the_same_on_every_machine():
    identities, cameras = np.repeat([3, 5, 8], 4), np.tile([1, 1, 2, 2], 3)
    settings = {"query_camera": 1, "gallery_camera": 2, "seed": 7}
    query, gallery = draw_one_direction(identities, cameras, **settings)
    assert (query.tolist(), gallery.tolist()) == ([1, 4, 8], [3, 6, 11])
    query, gallery = draw_per_query(identities, cameras, seed=7, repeat=1)
    assert gallery[[0, 1, 11]].tolist() == [[2, 6, 11], [3, 6, 10], [0, 4, 8]]


def test_draw_per_query():
    random = np.random.default_rng(4)
    identities, cameras = random.integers(-1, 5, 60), random.integers(1, 3, 60)
    query, gallery = draw_per_query(identities, cameras, seed=5)
    assert query.tolist() == np.flatnonzero(identities != -1).tolist()
    assert gallery.shape == (len(query), 5)
    assert (cameras[gallery] != cameras[query][:, None]).all()
    assert (identities[gallery] == np.arange(5)).all()
    assert len({tuple(row) for row in gallery}) > len(query) / 2
    np.testing.assert_array_equal(gallery, draw_per_query(identities, cameras, seed=5)[1])
    other = draw_per_query(identities, cameras, seed=5, repeat=1)[1]
    assert (gallery != other).any()
    with pytest.raises(ValueError, match="two cameras"):
        draw_per_query(identities, np.ones(60, int), seed=5)


@pytest.mark.parametrize("decimals", [0, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_one_direction_equals_loops(seed, decimals):
    images = pool(seed)
    distances = pool_distances(seed, images, decimals)
    calls = []
    evaluation = single_shot_one_direction(
        lookup(distances, calls), images, num_repeats=3, seed=seed
    )
    draws = [
        draw_one_direction(
            images.identities,
            images.cameras,
            query_camera=1,
            gallery_camera=2,
            seed=seed,
            repeat=repeat,
        )
        for repeat in range(3)
    ]
    draws = [(query, np.tile(gallery, (len(query), 1))) for query, gallery in draws]
    assert_mean_of_repeats(evaluation, repeats_by_loops(distances, images.identities, draws))
    assert evaluation.protocol == "single-shot-one-direction"
    assert evaluation.result.num_valid_queries == 3 * 7
    assert evaluation.num_left_out == 2
    ((query_rows, gallery_rows),) = calls
    assert set(images.cameras[query_rows]) == {1}
    assert set(images.cameras[gallery_rows]) == {2}
    assert (np.diff(query_rows) > 0).all()
    assert (np.diff(gallery_rows) > 0).all()


def test_one_direction_has_a_direction():
    images = pool(3)
    distances = pool_distances(3, images)
    calls = []
    settings = {"query_camera": 2, "gallery_camera": 1, "num_repeats": 3, "seed": 0}
    back = single_shot_one_direction(lookup(distances, calls), images, **settings)
    assert set(images.cameras[calls[0][0]]) == {2}
    forth = single_shot_one_direction(lookup(distances), images, num_repeats=3, seed=0)
    assert back.fingerprint != forth.fingerprint


@pytest.mark.parametrize("decimals", [0, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_per_query_equals_loops(seed, decimals):
    images = pool(seed + 10)
    distances = pool_distances(seed, images, decimals)
    evaluation = single_shot_per_query(lookup(distances), images, num_repeats=3, seed=seed)
    draws = [
        draw_per_query(images.identities, images.cameras, seed=seed, repeat=repeat)
        for repeat in range(3)
    ]
    assert_mean_of_repeats(evaluation, repeats_by_loops(distances, images.identities, draws))
    assert evaluation.protocol == "single-shot-per-query"
    assert evaluation.num_left_out == 2
    assert evaluation.result.num_valid_queries == 3 * len(draws[0][0])


def test_per_query_galleries_come_from_the_other_camera_only():
    # Images of one camera are alike, so a gallery that had the query's own camera would lose.
    images = pool(6)
    identities, cameras = images.identities, images.cameras
    features = np.eye(50)[identities] + 5 * np.eye(50)[cameras + 44]
    calls = []

    def distance_of(query_rows, gallery_rows):
        calls.append((query_rows, gallery_rows))
        return feature_distances(features)(query_rows, gallery_rows)

    evaluation = single_shot_per_query(distance_of, images, num_repeats=3, seed=0)
    assert evaluation.result.cmc[0] == 1
    assert [set(cameras[rows]) for call in calls for rows in call] == [{1}, {2}, {2}, {1}]
    compared = evaluation.comparison
    assert (cameras[compared.gallery_rows] != cameras[compared.query_rows][:, None]).all()


@pytest.mark.parametrize("decimals", [0, 8])
@pytest.mark.parametrize("seed", [0, 1])
def test_multi_shot_equals_loops(seed, decimals):
    images = pool(seed + 20)
    identities, cameras = images.identities, images.cameras
    distances = pool_distances(seed, images, decimals)
    evaluation = multi_shot(lookup(distances), images)
    ranks_of = []
    for query in np.flatnonzero(identities != -1):
        gallery = [g for g in range(63) if cameras[g] != cameras[query] and identities[g] != -1]
        gallery.sort(key=lambda g, query=query: (distances[query, g], g))
        ranks_of.append([r for r, g in enumerate(gallery) if identities[g] == identities[query]])
    known = identities != -1
    num_gallery = max((known & (cameras == 1)).sum(), (known & (cameras == 2)).sum())
    assert_equal_reference(evaluation.result, reference.result(ranks_of, num_gallery))
    assert evaluation.protocol == "multi-shot"
    assert (evaluation.num_repeats, evaluation.metrics_std) == (1, None)
    # Identities 40 and 41 are queries without a match.
    assert len(evaluation.result.first_match_rank) - evaluation.result.num_valid_queries == 3
    assert evaluation.num_left_out == 2


def test_features_and_their_distances_agree():
    images = pool(30)
    features = np.random.default_rng(31).normal(size=(63, 6))
    for distance in ("squared_euclidean", "cosine"):
        distances = reference.distance(features, features, distance)
        for protocol, settings in (
            (single_shot_one_direction, {"num_repeats": 3, "seed": 1}),
            (single_shot_per_query, {"num_repeats": 3, "seed": 1}),
            (multi_shot, {}),
        ):
            distance_of = feature_distances(features, distance=distance)
            found = protocol(distance_of, images, **settings)
            expected = protocol(lookup(distances), images, **settings)
            assert found.fingerprint == expected.fingerprint
            np.testing.assert_array_equal(
                found.result.first_match_rank, expected.result.first_match_rank
            )
            assert found.result.map_step == expected.result.map_step
            assert found.comparison.distances.dtype == np.float64


def test_fingerprint_sees_pool_seed_and_repeats():
    images = pool(40)
    distance_of = lookup(pool_distances(40, images))
    found = set()
    for protocol in (single_shot_one_direction, single_shot_per_query):
        for num_repeats, seed in ((1, 0), (3, 0), (3, 1), (3, 0)):
            evaluation = protocol(distance_of, images, num_repeats=num_repeats, seed=seed)
            found.add(evaluation.fingerprint)
    found.add(multi_shot(distance_of, images).fingerprint)
    images.files[0] = "other.png"
    found.add(multi_shot(distance_of, images).fingerprint)
    assert len(found) == 8


def test_comparison_is_the_first_repeat():
    images = pool(50)
    distances = pool_distances(50, images, decimals=0)
    evaluation = single_shot_per_query(lookup(distances), images, num_repeats=3, seed=2)
    compared = evaluation.comparison
    query, gallery = draw_per_query(images.identities, images.cameras, seed=2)
    np.testing.assert_array_equal(compared.query_rows, query)
    np.testing.assert_array_equal(compared.gallery_rows, gallery)
    np.testing.assert_array_equal(compared.distances, distances[query[:, None], gallery])
    first = rank_columns(compared.distances, compared.match).first_match_rank
    np.testing.assert_array_equal(first, evaluation.result.first_match_rank[: len(query)])

    lists = comparison_lists(compared, k=4)
    for q, row in enumerate(query):
        nearest = sorted(range(7), key=lambda j, row=row, q=q: (distances[row, gallery[q, j]], j))
        wanted = gallery[q, nearest[:4]]
        assert lists.gallery_rows[q].tolist() == wanted.tolist()
        assert lists.distances[q].tolist() == distances[row, wanted].tolist()
        assert lists.match[q].tolist() == [
            int(images.identities[g] == images.identities[row]) for g in wanted
        ]


def test_lists_and_histogram_leave_padding_out():
    images = pool(60)
    evaluation = multi_shot(lookup(pool_distances(60, images)), images)
    compared = evaluation.comparison
    present = compared.gallery_rows >= 0
    assert not present.all()
    lists = comparison_lists(compared, k=100)
    assert lists.gallery_rows.shape == lists.distances.shape == lists.match.shape
    for q in range(len(present)):
        num_present = present[q].sum()
        assert (np.sort(lists.gallery_rows[q, :num_present]) >= 0).all()
        assert (np.diff(lists.distances[q, :num_present]) >= 0).all()
        assert (lists.gallery_rows[q, num_present:] == -1).all()
        assert np.isnan(lists.distances[q, num_present:]).all()
        assert lists.match[q].sum() == compared.match[q].sum()
    histogram = comparison_histogram(compared, num_bins=11)
    assert len(histogram.edges) == 12
    assert histogram.same_pair_counts.sum() == compared.match.sum()
    assert histogram.different_pair_counts.sum() == present.sum() - compared.match.sum()
    with pytest.raises(ValueError, match="k must be"):
        comparison_lists(compared, k=0)
    far = dataclasses.replace(compared, distances=np.full_like(compared.distances, np.inf))
    with pytest.raises(ValueError, match="distances are infinite"):
        comparison_histogram(far)


def test_bad_input_is_named():
    images = pool(70)
    distance_of = lookup(pool_distances(70, images))
    draws = {"num_repeats": 1, "seed": 0}
    with pytest.raises(ValueError, match="num_repeats must be"):
        single_shot_one_direction(distance_of, images, num_repeats=0, seed=0)
    three = dataclasses.replace(images, cameras=np.arange(63) % 3 + 1)
    with pytest.raises(ValueError, match="needs two cameras"):
        multi_shot(distance_of, three)
    apart = dataclasses.replace(images, identities=np.arange(63))
    with pytest.raises(ValueError, match="share no identity"):
        multi_shot(distance_of, apart)
    with pytest.raises(ValueError, match="this data set has no cameras"):
        single_shot_per_query(distance_of, dataclasses.replace(images, cameras=None), **draws)
    unknown = dataclasses.replace(images, cameras=np.where(images.cameras == 1, 1, -1))
    with pytest.raises(ValueError, match="images without a camera"):
        single_shot_per_query(distance_of, unknown, **draws)
    with pytest.raises(ValueError, match=r"for each of 7 query and 7 gallery rows.*\(1, 7\)"):
        single_shot_one_direction(lambda q, g: distance_of(q[:1], g), images, **draws)
    with pytest.raises(ValueError, match="nan distances"):
        single_shot_one_direction(lambda q, g: distance_of(q, g) * np.nan, images, **draws)
    with pytest.raises(ValueError, match="known: squared_euclidean, euclidean, cosine"):
        feature_distances(np.zeros((3, 2)), distance="manhattan")
    with pytest.raises(ValueError, match=r"features must be \[N, D\]"):
        feature_distances(np.zeros(3))
