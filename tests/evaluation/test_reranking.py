import numpy as np
import pytest

from references import ranking as reference
from reid_jax.evaluation import k_reciprocal_rerank, reciprocal, reranking


def features(seed, num_query=7, num_gallery=31, dim=5):
    random = np.random.default_rng(seed)
    directions = random.normal(size=(6, dim))
    x = directions[random.integers(0, 6, num_query + num_gallery)]
    x = x + 0.7 * random.normal(size=x.shape)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x[:num_query], x[num_query:]


@pytest.mark.parametrize(
    ("k1", "k2", "lambda_value"), [(6, 3, 0.3), (5, 1, 0.0), (7, 2, 0.5), (20, 6, 0.3), (1, 1, 0.9)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_loops(seed, k1, k2, lambda_value):
    query, gallery = features(seed)
    settings = {"k1": k1, "k2": k2, "lambda_value": lambda_value}
    expected = reference.k_reciprocal_rerank(query, gallery, **settings)
    found = k_reciprocal_rerank(query, gallery, **settings)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-10)
    single = k_reciprocal_rerank(query.astype(np.float32), gallery.astype(np.float32), **settings)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, atol=1e-5)


def test_blocks_do_not_change_the_result(monkeypatch):
    query, gallery = features(2)
    whole = k_reciprocal_rerank(query, gallery, k1=6, k2=3)
    monkeypatch.setattr(reranking, "BLOCK_ENTRIES", 5 * 38)
    monkeypatch.setattr(reciprocal, "_SPARSE_ROWS", 4)
    np.testing.assert_allclose(k_reciprocal_rerank(query, gallery, k1=6, k2=3), whole, atol=1e-12)


def test_the_distance_alone():
    query, gallery = features(3)
    every = np.concatenate([query, gallery])
    squared = reference.distance(query, every, "squared_euclidean")
    expected = (squared / squared.max(axis=1, keepdims=True))[:, len(query) :]
    np.testing.assert_allclose(
        k_reciprocal_rerank(query, gallery, lambda_value=1.0), expected, atol=1e-12
    )


def test_few_and_equal_rows():
    found = k_reciprocal_rerank(np.ones((1, 3), np.float32), np.ones((2, 3), np.float32))
    assert np.isfinite(found).all()


def test_more_copies_of_an_image_than_neighbours_give_numbers():
    query, gallery = features(5)
    gallery = np.concatenate([np.repeat(gallery[:1], 9, axis=0), gallery])
    found = k_reciprocal_rerank(query, gallery, k1=4, k2=2)
    assert np.isfinite(found).all()
    assert found.max() <= 1


def test_bad_input_is_named():
    query, gallery = features(4)
    with pytest.raises(ValueError, match="k1 and k2"):
        k_reciprocal_rerank(query, gallery, k1=0)
    with pytest.raises(ValueError, match="lambda_value"):
        k_reciprocal_rerank(query, gallery, lambda_value=1.5)
    with pytest.raises(ValueError, match="same D"):
        k_reciprocal_rerank(query[:, :2], gallery)
    with pytest.raises(ValueError, match="at least one row"):
        k_reciprocal_rerank(query[:0], gallery)
    with pytest.raises(ValueError, match="infinite"):
        k_reciprocal_rerank(query * np.nan, gallery)
