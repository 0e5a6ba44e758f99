"""Nearly exact lists from a graph of neighbours."""

import numpy as np
import pytest

from reid_jax.search import NeighbourGraph, Stored, nearest

pytest.importorskip("usearch")


def stored(number=600, dim=16, seed=3, dtype=np.float32):
    rows = np.random.default_rng(seed).normal(size=(number, dim)) * np.linspace(0.2, 2, dim)
    names = [f"{i:04}.jpg" for i in range(number)]
    return Stored(names, [f"{i:064x}" for i in range(number)], rows.astype(dtype))


def queries(number=9, dim=16):
    return np.random.default_rng(7).normal(size=(number, dim)).astype(np.float32)


def test_lists_are_nearly_those_of_a_sort_and_their_distances_exact():
    gallery = stored()
    graph = NeighbourGraph(gallery)
    asked = queries()
    found, exact = graph.nearest(asked, top=10), nearest(asked, gallery.features, top=10)
    same = [np.isin(e, f).mean() for e, f in zip(exact.rows, found.rows, strict=True)]
    assert np.mean(same) >= 0.95
    squared = ((asked[:, None].astype(float) - gallery.features[found.rows]) ** 2).sum(-1)
    np.testing.assert_allclose(found.distances, squared, rtol=1e-5)
    assert (np.diff(found.distances) >= 0).all()


def test_where_all_rows_are_candidates_the_lists_are_exact():
    gallery = stored(100)
    asked = queries()
    found = NeighbourGraph(gallery).nearest(asked, top=200)
    exact = nearest(asked, gallery.features, top=200)
    np.testing.assert_array_equal(found.rows, exact.rows)
    np.testing.assert_allclose(found.distances, exact.distances, rtol=1e-4, atol=1e-5)


def test_recall_is_the_share_of_the_exact_lists():
    gallery = stored()
    graph = NeighbourGraph(gallery)
    assert graph.recall(top=5, sample=40) >= 0.95
    assert graph.recall(top=5, sample=40) == graph.recall(top=5, sample=40)

    class Missing(NeighbourGraph):
        def nearest(self, queries, *, top, removed=None):
            found = super().nearest(queries, top=top, removed=removed)
            found.rows[:, -2:] = -1
            return found

    assert Missing(gallery).recall(top=4) == pytest.approx(0.5, abs=0.03)


def test_a_query_that_loses_its_candidates_gets_the_exact_list():
    gallery = stored()
    asked = queries()
    hidden = np.zeros((len(asked), len(gallery)), bool)
    hidden[0, : len(gallery) - 3] = True  # three are left
    hidden[1, ::2] = True

    def removed(rows, columns):
        return hidden[rows, columns]

    found = NeighbourGraph(gallery).nearest(asked, top=5, removed=removed)
    exact = nearest(asked, gallery.features, top=5, removed=removed)
    np.testing.assert_array_equal(found.rows[0], exact.rows[0])
    assert set(found.rows[0, :3]) == set(range(len(gallery) - 3, len(gallery)))
    assert (found.rows[0, 3:] == -1).all()
    assert not hidden[1, found.rows[1]].any()


def test_a_kept_graph_is_opened_again_and_one_of_other_embeddings_replaced(tmp_path, monkeypatch):
    gallery = stored()
    first = NeighbourGraph(gallery, tmp_path).nearest(queries(), top=5)
    (kept,) = tmp_path.iterdir()
    before = kept.stat().st_mtime_ns
    again = NeighbourGraph(gallery, tmp_path).nearest(queries(), top=5)
    assert kept.stat().st_mtime_ns == before
    np.testing.assert_array_equal(again.rows, first.rows)
    other = stored(seed=4)
    other = Stored(other.files, [d[::-1] for d in other.digests], other.features)
    NeighbourGraph(other, tmp_path)
    assert [path != kept for path in tmp_path.iterdir()] == [True]


def test_bad_input_is_named():
    gallery = stored(20)
    with pytest.raises(ValueError, match="same model"):
        NeighbourGraph(gallery).nearest(queries(dim=4), top=3)
    with pytest.raises(ValueError, match="nan"):
        NeighbourGraph(gallery).nearest(queries() * np.nan, top=3)
    gallery.features[7, 2] = np.inf
    with pytest.raises(ValueError, match=r"0007\.jpg"):
        NeighbourGraph(gallery)
