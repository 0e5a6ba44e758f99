"""Query expansion against the sentence that defines it."""

import numpy as np
import pytest

from reid_jax.evaluation import expanded_queries


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("number", [1, 4, 50])
def test_equals_a_loop(number, normalise):
    random = np.random.default_rng(number)
    query, gallery = random.normal(size=(5, 3)), random.normal(size=(11, 3))
    found = expanded_queries(query, gallery, number=number, normalise=normalise)
    assert found.dtype == np.float64
    for row, one in enumerate(query):
        order = sorted(range(11), key=lambda g: ((gallery[g] - one) ** 2).sum())
        members = [one, *(gallery[g] for g in order[:number])]
        mean = sum(members) / len(members)
        expected = mean / np.sqrt((mean**2).sum()) if normalise else mean
        np.testing.assert_allclose(found[row], expected, atol=1e-12)
    single = expanded_queries(
        query.astype(np.float16), gallery.astype(np.float32), number=number, normalise=normalise
    )
    assert single.dtype == np.float32


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="k must be at least 1"):
        expanded_queries(np.ones((1, 2)), np.ones((3, 2)), number=0, normalise=True)
    with pytest.raises(ValueError, match="must come from the same model"):
        expanded_queries(np.ones((1, 2)), np.ones((3, 4)), number=1, normalise=True)
