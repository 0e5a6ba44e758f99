"""Lists without the matrix equal a sort of the matrix."""

import sys
import tracemalloc

import numpy as np
import pytest

from reid_jax.evaluation import k_reciprocal_rerank
from reid_jax.search import nearest, rerank_nearest
from reid_jax.search.nearest import Rows

# The package has the function under the name of its module.
MODULE = sys.modules["reid_jax.search.nearest"]


def features(seed, num_query=7, num_gallery=90, dim=8):
    random = np.random.default_rng(seed)
    directions = random.normal(size=(9, dim))
    x = directions[random.integers(0, 9, num_query + num_gallery)]
    x = x + 0.6 * random.normal(size=x.shape)
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return x[:num_query], x[num_query:]


def squared(queries, gallery):
    difference = queries.astype(np.float64)[:, None] - gallery.astype(np.float64)[None]
    return (difference**2).sum(axis=2)


@pytest.mark.parametrize("rows_per_block", [None, 1, 7, 90])
@pytest.mark.parametrize("top", [1, 5, 90, 200])
def test_equals_a_sort(monkeypatch, rows_per_block, top):
    monkeypatch.setattr(MODULE, "QUERIES_PER_BLOCK", 3)
    queries, gallery = features(0)
    found = nearest(queries, gallery, top=top, rows_per_block=rows_per_block)
    expected = squared(queries, gallery)
    order = np.argsort(expected, axis=1, kind="stable")[:, :top]
    np.testing.assert_array_equal(found.rows, order)
    np.testing.assert_allclose(
        found.distances, np.take_along_axis(expected, order, axis=1), atol=1e-5
    )
    np.testing.assert_allclose(found.farthest, expected.max(axis=1), rtol=1e-5)


@pytest.mark.parametrize("rows_per_block", [None, 4, 13])
def test_equal_distances_go_to_the_lower_row(rows_per_block):
    random = np.random.default_rng(1)
    gallery = random.integers(-2, 3, (100, 3)).astype(np.float32)
    queries = random.integers(-2, 3, (20, 3)).astype(np.float32)
    found = nearest(queries, gallery, top=30, rows_per_block=rows_per_block)
    order = np.argsort(squared(queries, gallery), axis=1, kind="stable")[:, :30]
    np.testing.assert_array_equal(found.rows, order)


def test_copies_of_a_row_stay_in_order():
    queries, gallery = features(2, dim=129)
    copies = np.repeat(gallery[:1], 50, axis=0)
    found = nearest(queries, np.concatenate([gallery, copies]), top=140, rows_per_block=27)
    for rows in found.rows:
        same = rows[np.isin(rows, [0, *range(90, 140)])]
        np.testing.assert_array_equal(same, sorted(same))


def test_removed_rows_take_no_place():
    queries, gallery = features(3)
    hidden = np.random.default_rng(0).random((7, 90)) < 0.5
    hidden[2] = True
    found = nearest(queries, gallery, top=60, removed=lambda q, g: hidden[q, g], rows_per_block=17)
    expected = np.where(hidden, np.inf, squared(queries, gallery))
    order = np.argsort(expected, axis=1, kind="stable")[:, :60]
    order = np.where(np.isfinite(np.take_along_axis(expected, order, axis=1)), order, -1)
    np.testing.assert_array_equal(found.rows, order)
    assert np.isnan(found.distances[2]).all()


def test_half_precision_and_several_arrays():
    queries, gallery = features(4)
    half = gallery.astype(np.float16)
    whole = nearest(queries, half, top=9)
    parts = nearest(queries, Rows([half[:11], half[11:]]), top=9, rows_per_block=8)
    np.testing.assert_array_equal(whole.rows, parts.rows)
    taken = Rows([half[:11], half[11:]]).take(np.array([40, 3, 11, 10]))
    np.testing.assert_array_equal(taken, half[[40, 3, 11, 10]].astype(np.float32))


def test_bad_input_is_named():
    queries, gallery = features(5)
    with pytest.raises(ValueError, match="7 columns and the gallery's 8"):
        nearest(queries[:, :7], gallery, top=1)
    with pytest.raises(ValueError, match="gallery is empty"):
        nearest(queries, gallery[:0], top=1)
    with pytest.raises(ValueError, match="at least 1"):
        nearest(queries, gallery, top=0)
    broken = gallery.copy()
    broken[33, 2] = np.nan
    with pytest.raises(ValueError, match="gallery row 33 hold nan"):
        nearest(queries, broken, top=1)
    with pytest.raises(ValueError, match="query row 33 hold nan"):
        nearest(broken, gallery, top=1)
    with pytest.raises(ValueError, match="k1 and k2"):
        rerank_nearest(queries, gallery, top=1, k1=0)
    with pytest.raises(ValueError, match="lambda_value"):
        rerank_nearest(queries, gallery, top=1, lambda_value=2.0)


@pytest.mark.parametrize(
    "settings", [{}, {"k1": 6, "k2": 3}, {"k1": 5, "k2": 1, "lambda_value": 0.5}]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_reranked_lists_equal_the_dense_matrix(seed, settings):
    queries, gallery = features(seed, num_query=12, num_gallery=150)
    dense = k_reciprocal_rerank(queries, gallery, **settings)
    for top in (3, 20, 150):
        found = rerank_nearest(queries, gallery, top=top, **settings)
        np.testing.assert_allclose(found.distances, np.sort(dense, axis=1)[:, :top], atol=1e-5)
        np.testing.assert_allclose(
            np.take_along_axis(dense, found.rows, axis=1), found.distances, atol=1e-5
        )


def test_reranked_lists_leave_out_the_removed_and_bear_copies():
    queries, gallery = features(6, num_query=4, num_gallery=60)
    gallery = np.concatenate([gallery, np.repeat(gallery[:1], 30, axis=0)])
    hidden = np.random.default_rng(1).random((4, 90)) < 0.3
    dense = np.where(hidden, np.inf, k_reciprocal_rerank(queries, gallery))
    found = rerank_nearest(queries, gallery, top=15, removed=lambda q, g: hidden[q, g])
    np.testing.assert_allclose(found.distances, np.sort(dense, axis=1)[:, :15], atol=1e-5)
    assert not np.take_along_axis(hidden, found.rows, axis=1).any()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_gallery(tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE, "BLOCK_BYTES", 2**18)
    path = tmp_path / "features.npy"
    file = np.lib.format.open_memmap(path, "w+", np.float16, (60_000, 64))
    random = np.random.default_rng(0)
    for start in range(0, len(file), 10_000):
        file[start : start + 10_000] = random.normal(size=(10_000, 64))
    del file
    gallery = np.load(path, mmap_mode="r")
    queries = np.asarray(gallery[::6000], np.float32)

    def peak(num_rows):
        nearest(queries, gallery[:num_rows], top=5)
        tracemalloc.start()
        found = nearest(queries, gallery[:num_rows], top=5)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found, most

    for num_rows in (6_000, 60_000):
        found, most = peak(num_rows)
        # A few blocks of 256 kB, some of which JAX lets go late; the whole is 15 MB in float32.
        assert most < 3 * 2**20
    np.testing.assert_array_equal(found.rows[:, 0], np.arange(0, 60_000, 6000))
