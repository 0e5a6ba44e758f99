import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from references import landmarks as reference
from reid_jax.evaluation import (
    extract_features_by_size,
    metrics,
    oxford5k,
    rank_landmarks,
)


def query(good, ok=(), junk=(), *, name="a_1", row=0, box=(1.0, 2.0, 8.5, 9.0)):
    lists = [np.array(rows, np.int64) for rows in (good, ok, junk)]
    return types.SimpleNamespace(
        name=name, row=row, box=box, good=lists[0], ok=lists[1], junk=lists[2]
    )


def random_queries(rng, num_images, number):
    queries = []
    for index in range(number):
        rows = rng.permutation(num_images)[: rng.integers(3, num_images)]
        cuts = sorted(rng.integers(1, len(rows) + 1, 2))
        good, ok, junk = np.split(rows, cuts)
        queries.append(query(good, ok, junk, name=f"q_{index}", row=int(good[0])))
    return queries


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_the_loops(seed):
    rng = np.random.default_rng(seed)
    queries = random_queries(rng, 23, 6)
    # Few different values, so that many are equal.
    distances = rng.integers(-4, 9, (6, 23)).astype([np.float32, np.float64][seed % 2])
    result = rank_landmarks(distances, queries)
    for q, own in enumerate(queries):
        positive, junk = {*own.good, *own.ok}, set(own.junk)
        ranked = reference.ranked_list(distances[q])
        official = reference.average_precision_official(positive, junk, ranked)
        step = reference.average_precision_step(positive, junk, ranked)
        assert abs(result.average_precision_trapezoid[q] - official) < 1e-10
        assert abs(result.average_precision_step[q] - step) < 1e-10
        kept = [row for row in ranked if row not in junk]
        assert result.first_match_rank[q] == min(kept.index(row) for row in positive)
    assert abs(result.map_trapezoid - result.average_precision_trapezoid.mean()) < 1e-12
    assert result.num_valid_queries == 6
    assert result.num_matches.tolist() == [len(own.good) + len(own.ok) for own in queries]


def test_one_right_image_at_rank_2():
    result = rank_landmarks(np.array([[0.3, 0.1, 0.2]]), [query([2])])
    assert result.map_trapezoid == 0.25
    assert result.map_step == 0.5
    assert metrics(result)["rank1"] == 0


def test_junk_closes_ranks_and_ok_counts():
    # In order: junk 3, good 0, junk 4, wrong 5, ok 1, wrong 2.
    distances = np.array([[2.0, 5, 6, 1, 3, 4]])
    result = rank_landmarks(distances, [query([0], [1], [3, 4])])
    assert abs(result.map_step - (1 + 2 / 3) / 2) < 1e-12
    assert abs(result.map_trapezoid - (1 + (1 / 2 + 2 / 3) / 2) / 2) < 1e-12
    assert result.cmc[0] == 1


def test_the_image_of_the_query_stays_in_the_list():
    distances = np.array([[0.0, 2, 1, 3]])
    with_itself = rank_landmarks(distances, [query([0, 1])])
    assert abs(with_itself.map_step - (1 + 2 / 3) / 2) < 1e-12
    # It is right because a list says so, and for no other reason.
    assert abs(rank_landmarks(distances, [query([1])]).map_step - 1 / 3) < 1e-12


def test_equal_distances_go_to_the_lower_row():
    result = rank_landmarks(np.zeros((2, 4)), [query([0]), query([3])])
    assert result.first_match_rank.tolist() == [0, 3]
    assert rank_landmarks(np.array([[0.0, -0.0]]), [query([1])]).first_match_rank[0] == 1


def test_each_query_has_its_own_lists():
    # One image is right for the first, junk for the second and wrong for the third.
    distances = np.tile([0.0, 1, 2], (3, 1))
    queries = [query([0]), query([1], junk=[0]), query([2])]
    assert rank_landmarks(distances, queries).first_match_rank.tolist() == [0, 0, 2]


@pytest.mark.parametrize(
    ("queries", "distances", "message"),
    [
        ([query([], [], [1])], np.zeros((1, 3)), "query a_1 has neither a good nor an ok image"),
        ([query([3])], np.zeros((1, 3)), "rows from 3 to 3, but there are 3 images"),
        ([query([-1])], np.zeros((1, 3)), "rows from -1 to -1"),
        ([query([0], [0])], np.zeros((1, 3)), "an image on its lists twice"),
        ([query([0], junk=[0])], np.zeros((1, 3)), "an image on its lists twice"),
        ([query([0])], np.array([[0, np.nan]]), "1 queries have nan distances, the first is a_1"),
        ([query([0])], np.zeros((2, 3)), r"distances are \[2, 3\]; expected \[Q, N\] for 1"),
        ([query([0])], np.zeros(3), r"distances are \[3\]"),
        ([], np.zeros((0, 3)), "for 0 queries"),
    ],
)
def test_what_cannot_be_ranked(queries, distances, message):
    with pytest.raises(ValueError, match=message):
        rank_landmarks(distances, queries)


def features(seed, num_query=3, num_images=9):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(num_query, 5)), rng.normal(size=(num_images, 5))


@pytest.mark.parametrize("distance", ["squared_euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_protocol_on_features(distance, dtype):
    query_features, image_features = (array.astype(dtype) for array in features(1))
    queries = random_queries(np.random.default_rng(4), 9, 3)
    files = [f"images/{row}.jpg" for row in range(9)]
    evaluation = oxford5k(query_features, image_features, queries, files, distance=distance)
    a, b = (np.asarray(array, np.float64) for array in (query_features, image_features))
    if distance == "cosine":
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
        distances = 1 - a @ b.T
    else:
        distances = ((a[:, None] - b[None]) ** 2).sum(axis=2)
    assert evaluation.protocol == "oxford5k"
    expected = rank_landmarks(distances, queries)
    np.testing.assert_array_equal(
        evaluation.result.average_precision_trapezoid, expected.average_precision_trapezoid
    )


def test_fingerprint_is_that_of_images_boxes_and_lists():
    files = [f"{row}.jpg" for row in range(9)]
    base = query([0, 4], [2], [5])

    def fingerprint(own, names=files):
        return oxford5k(*features(0, 1), [own], names).fingerprint

    assert fingerprint(query([4, 0], [2], [5])) == fingerprint(base)  # the order of a list is none
    others = [
        query([0], [2, 4], [5]),
        query([0, 4], [2], []),
        query([0, 4], [2], [6]),
        query([0, 4], [2], [5], row=4),
        query([0, 4], [2], [5], name="a_2"),
        query([0, 4], [2], [5], box=(1.0, 2.0, 8.5, 9.1)),
    ]
    found = {fingerprint(own) for own in [base, *others]} | {fingerprint(base, files[::-1])}
    assert len(found) == 8


def test_features_that_do_not_fit():
    files = [str(row) for row in range(9)]
    with pytest.raises(ValueError, match="3 features for 1 queries, and 9 features for 9 images"):
        oxford5k(*features(0), [query([0])], files)
    with pytest.raises(ValueError, match="unknown distance 'l1'"):
        oxford5k(*features(0, 1), [query([0])], files, distance="l1")


# ---- images of their own sizes


@dataclasses.dataclass(eq=False)
class Mac:
    """One convolution, ReLU and the maximum over the map; counts the sizes it is traced for."""

    seed: int = 0
    traced: list = dataclasses.field(default_factory=list)

    def __post_init__(self):
        rng = np.random.default_rng(self.seed)
        self.kernel = rng.normal(size=(3, 3, 3, 4))
        self.bias = rng.normal(size=4)

    @property
    def variables(self):
        return {"kernel": self.kernel.astype(np.float32), "bias": self.bias.astype(np.float32)}

    def __call__(self, variables, images):
        self.traced.append(images.shape[1:3])
        out = jax.lax.conv_general_dilated(
            images.astype(jnp.float32) / 64,
            variables["kernel"],
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=jax.lax.Precision.HIGHEST,
        )
        return jnp.maximum(out + variables["bias"], 0).max(axis=(1, 2))


SIZES = np.array([(6, 9), (9, 6), (6, 9), (5, 5), (6, 9), (9, 6), (6, 9), (6, 9)])


def photographs(sizes=SIZES):
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def stacks(images):
    return lambda groups: (np.stack([images[row] for row in group]) for group in groups)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_images_of_different_sizes(batch_size):
    mac, images = Mac(), photographs()
    found = extract_features_by_size(
        mac, mac.variables, stacks(images), sizes=SIZES, batch_size=batch_size, description="test"
    )
    expected = reference.max_activations([i / 64 for i in images], mac.kernel, mac.bias)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    # Each size is traced once, whatever the number of its batches.
    assert sorted(mac.traced) == sorted({tuple(size) for size in SIZES.tolist()})


def test_padding_would_change_the_features():
    mac = Mac()
    mac.bias = mac.bias + 20  # away from the border every channel is large
    image = np.full((6, 6, 3), 40, np.uint8)
    shown = [image, np.pad(image, ((0, 2), (0, 2), (0, 0)))]
    exact, padded = (
        extract_features_by_size(
            mac,
            mac.variables,
            stacks([picture]),
            sizes=np.array([picture.shape[:2]]),
            batch_size=1,
            description="test",
        )
        for picture in shown
    )
    assert np.abs(exact - padded).max() > 0.1


def test_sizes_that_are_not_those_of_the_images():
    mac, images = Mac(), photographs()
    for sizes, batch_size, message in (
        (SIZES[:, ::-1], 2, r"got images \(2, 9, 6, 3\) for \(2, 6, 9, 3\)"),
        (SIZES[:0], 2, "sizes are"),
        (SIZES[:, :1], 2, r"sizes are \[8, 1\]"),
        (SIZES, 0, "batch_size is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            extract_features_by_size(
                mac,
                mac.variables,
                stacks(images),
                sizes=sizes,
                batch_size=batch_size,
                description="test",
            )
