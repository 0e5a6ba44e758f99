"""Pairs scored from cached parts: the direct score, whatever the blocks, devices and order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from references import csn as reference
from reid_jax import evaluation, models

SIZE = (24, 16, 3)
NUM_IMAGES = 11
WEIGHT = 0.002  # of the distance: the probability shows beside it, as after training


def embed_and_score(model):
    def embed(variables, images):
        return model.apply(variables, images, method="embed")

    def score(variables, a, b):
        outputs = model.apply(variables, a, b, method="score")
        return evaluation.similarity_score(
            outputs["pair_logits"],
            a["descriptor"],
            b["descriptor"],
            distance_weight=WEIGHT,
            epsilon=1e-4,
        )

    return embed, score


@pytest.fixture(scope="module")
def csn():
    """(model, variables, images) with running averages that are not those of the start."""
    model = models.build("csn", width=6)
    images = np.random.default_rng(0).gamma(1.0, 1.0, (NUM_IMAGES, *SIZE)).astype(np.float32) - 1
    variables = tiny.init(model, images[:1], images[:1])
    rng = np.random.default_rng(1)
    moved = jax.tree.map(
        lambda x: x + abs(0.1 * rng.standard_normal(x.shape, np.float32)), variables["batch_stats"]
    )
    variables = {"params": variables["params"], "batch_stats": moved}
    return model, jax.tree.map(np.asarray, variables), images


def made_cache(embed, variables, images, batch_size=4):
    def batches(rows):
        for first in range(rows.start, rows.stop, batch_size):
            yield images[first : min(first + batch_size, rows.stop)]

    return evaluation.cache_images(
        embed,
        variables,
        batches,
        image=jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype),
        num_images=len(images),
        batch_size=batch_size,
        description="images",
    )


def test_score_is_equation_7(float64):
    rng = np.random.default_rng(2)
    logits, a, b = rng.normal(size=(5, 2)), rng.normal(size=(5, 7)), rng.normal(size=(5, 7))
    b[0] = a[0]
    ours = evaluation.similarity_score(logits, a, b, distance_weight=0.2, epsilon=1e-4)
    expected = [
        reference.similarity_score(*row, 0.2, 1e-4) for row in zip(logits, a, b, strict=True)
    ]
    np.testing.assert_allclose(ours, expected, rtol=1e-10)
    assert ours[0] > 2000


def test_cached_score_is_the_direct_score(csn):
    """Through the whole network at once, and from the parts, in blocks that do not fit."""
    model, variables, images = csn
    embed, score = embed_and_score(model)
    cache = made_cache(embed, variables, images)
    scorer = evaluation.PairScorer(score, variables, cache, block_size=6)
    queries, gallery = np.array([4, 0, 9]), np.array([7, 1, 10, 0, 4])
    ours = scorer.distance_of(queries, gallery)
    assert ours.shape == (3, 5)
    assert ours.dtype == np.float32
    assert scorer.name == "all-pairs"

    direct = jax.jit(lambda v, a, b: model.apply(v, a, b, train=False))
    outputs = direct(variables, images[np.repeat(queries, 5)], images[np.tile(gallery, 3)])
    expected = evaluation.similarity_score(
        outputs["pair_logits"],
        outputs["descriptor_a"],
        outputs["descriptor_b"],
        distance_weight=WEIGHT,
        epsilon=1e-4,
    ).reshape(3, 5)
    # An image and itself are at distance 0, where the inverse magnifies the last digits.
    same = queries[:, None] == gallery
    np.testing.assert_allclose(-ours[~same], expected[~same], rtol=1e-4)
    assert (-ours[same] > 1).all()
    # The order within a pair counts.
    other_way = scorer.distance_of(gallery, queries).T
    assert not np.allclose(other_way[~same], ours[~same], rtol=1e-5)


def toy(num_images=13, seed=3):
    """A cache and a score that count exactly, and the distances of all pairs."""
    rng = np.random.default_rng(seed)
    images = rng.integers(-9, 9, (num_images, 2, 2, 3)).astype(np.float32)

    def embed(variables, images):
        flat = images.reshape(len(images), -1)
        return {"descriptor": flat[:, :2], "values": flat.astype(jnp.bfloat16)}

    def score(variables, a, b):
        assert a["values"].dtype == jnp.bfloat16
        return variables["factor"] * (a["values"] * b["values"][:, ::-1]).astype(np.float32).sum(1)

    variables = {"factor": np.float32(2)}
    flat = images.reshape(num_images, -1)
    distances = -2 * (flat[:, None] * flat[None, :, ::-1]).sum(2)
    return made_cache(embed, variables, images), score, variables, distances, flat[:, :2]


@pytest.mark.parametrize("block_size", [1, 2, 7, 9, 1000])
def test_any_block_size_fills_every_pair(block_size):
    cache, score, variables, distances, _ = toy()
    scorer = evaluation.PairScorer(score, variables, cache, block_size=block_size)
    for num_queries, num_gallery in [(13, 13), (1, 13), (13, 1), (3, 8)]:
        queries, gallery = np.arange(num_queries), np.arange(13)[::-1][:num_gallery]
        ours = scorer.distance_of(queries, gallery)
        np.testing.assert_array_equal(ours, distances[np.ix_(queries, gallery)])


def test_a_gallery_of_one():
    cache, score, variables, distances, _ = toy()
    scorer = evaluation.PairScorer(score, variables, cache, block_size=4, shortlist=5)
    np.testing.assert_array_equal(scorer.distance_of([2, 3], [7]), distances[2:4, 7:8])


@pytest.mark.parametrize("shortlist", [1, 4, 12])
def test_shortlist_comes_first_and_the_rest_by_descriptors(shortlist):
    cache, score, variables, distances, descriptors = toy()
    scorer = evaluation.PairScorer(score, variables, cache, block_size=3, shortlist=shortlist)
    assert scorer.name == f"shortlist-{shortlist}"
    queries, gallery = np.array([0, 5, 8]), np.arange(13)[::-1]
    ours = scorer.distance_of(queries, gallery)
    for row, query in enumerate(queries):
        far = np.linalg.norm(descriptors[query] - descriptors[gallery], axis=1)
        nearest = np.argsort(far, kind="stable")
        chosen, rest = nearest[:shortlist], nearest[shortlist:]
        np.testing.assert_array_equal(ours[row, chosen], distances[query, gallery[chosen]])
        assert ours[row, chosen].max() < ours[row, rest].min()
        np.testing.assert_array_equal(np.argsort(ours[row, rest], kind="stable"), range(len(rest)))
    everything = evaluation.PairScorer(score, variables, cache, block_size=3, shortlist=13)
    np.testing.assert_array_equal(
        everything.distance_of(queries, gallery), distances[np.ix_(queries, gallery)]
    )


def test_out_of_memory_halves_the_block_and_says_so(monkeypatch, capsys):
    cache, score, variables, distances, _ = toy()
    tried = []

    def limited(limit):
        def score_few(variables, a, b):
            tried.append(len(a["values"]))
            if len(a["values"]) > limit:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 3 bytes too many")
            return score(variables, a, b)

        return score_few

    scorer = evaluation.PairScorer(limited(5), variables, cache, block_size=16)
    rows = np.arange(13)
    np.testing.assert_array_equal(scorer.distance_of(rows, rows), distances)
    assert scorer.block_size == 4
    assert max(tried) <= 16
    assert tried[-1] <= 4
    said = capsys.readouterr().out
    assert "blocks of 16 pairs; trying blocks of 8" in said
    assert "blocks of 8 pairs; trying blocks of 4" in said

    scorer = evaluation.PairScorer(limited(0), variables, cache, block_size=4)
    with pytest.raises(MemoryError, match="a single pair"):
        scorer.distance_of(rows, rows)

    def broken(variables, a, b):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        evaluation.PairScorer(broken, variables, cache, block_size=4).distance_of(rows, rows)


def test_refusals(csn):
    cache, score, variables, _, _ = toy()
    other = {"factor": np.float32(3)}
    with pytest.raises(ValueError, match="make the cache again with this model"):
        evaluation.PairScorer(score, other, cache, block_size=4)
    with pytest.raises(ValueError, match="block_size is a number of pairs"):
        evaluation.PairScorer(score, variables, cache, block_size=0)
    with pytest.raises(ValueError, match="shortlist is a number of images"):
        evaluation.PairScorer(score, variables, cache, block_size=4, shortlist=0)
    images = np.ones((2, 2, 2, 3), np.float32)
    bare = made_cache(lambda variables, images: {"values": images}, variables, images)
    with pytest.raises(ValueError, match="which this model does not have"):
        evaluation.PairScorer(score, variables, bare, block_size=4, shortlist=3)
    scorer = evaluation.PairScorer(score, variables, cache, block_size=4)
    with pytest.raises(ValueError, match="gallery_rows must be"):
        scorer.distance_of([1], [])
    with pytest.raises(ValueError, match="query_rows go from 1 to 13"):
        scorer.distance_of([1, 13], [0])


def test_fingerprint_of_variables():
    tree = {"a": np.arange(3.0), "b": {"c": np.zeros((2, 1), np.float32)}}
    same = {"b": {"c": jnp.zeros((2, 1))}, "a": np.arange(3.0)}
    first = evaluation.variables_fingerprint(tree)
    assert first == evaluation.variables_fingerprint(same)
    changed = [
        tree | {"a": np.array([0.0, 1.0, 2.0000001])},
        tree | {"a": np.arange(3)},
        tree | {"b": {"c": np.zeros((1, 2), np.float32)}},
        {"a": tree["a"], "b": {"d": tree["b"]["c"]}},
    ]
    assert len({first, *map(evaluation.variables_fingerprint, changed)}) == 5
