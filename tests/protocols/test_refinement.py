"""Expansion, re-ranking and mirrored embeddings in protocols: each is the function it names."""

import dataclasses
import itertools

import numpy as np
import pytest
from search_parts import make_embedder, picture

from reid_jax import data, evaluation
from reid_jax.protocols import PROTOCOLS, EmbedsOnce, GivenFeatures, Refinement

RERANK = Refinement(rerank=True, rerank_k1=4, rerank_k2=2, rerank_lambda=0.4)


def source(split, identities, cameras, seed):
    """A source without pixels, and its features: of an identity alike."""
    random = np.random.default_rng(seed)
    identities = np.array(identities)
    made = data.Source("made", split, [f"{split}/{i}" for i in range(len(identities))], identities,
                       np.array(cameras), images=[b""] * len(identities))  # fmt: skip
    directions = np.random.default_rng(0).normal(size=(12, 6))
    rows = directions[identities] + 1.2 * random.normal(size=(len(identities), 6))
    return made, rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def market():
    """Subsets and their features; the gallery has distractors and junk."""
    random = np.random.default_rng(5)
    people = np.arange(1, 9)
    parts = {
        "query": source("query", people, random.integers(1, 3, 8), 1),
        "gallery": source(
            "gallery",
            [*np.repeat(people, 3), 0, 0, -1, -1, -1],
            [*np.tile([1, 2, 3], 8), 1, 2, 1, 2, 3],
            2,
        ),
    }
    multi = source("multi_query", np.repeat(people, 2), np.repeat(parts["query"][0].cameras, 2), 3)
    parts["multi_query"] = multi
    parts["test"] = source("test", np.repeat(people, 4), np.tile([1, 1, 2, 2], 8), 4)
    given = GivenFeatures(list(parts.values()), where="made")
    return given, {name: part for name, (part, _) in parts.items()}


def refined(name, refinement):
    return dataclasses.replace(PROTOCOLS[name], refinement=refinement)


def reranked(query, gallery, of):
    return evaluation.k_reciprocal_rerank(
        query, gallery, k1=of.rerank_k1, k2=of.rerank_k2, lambda_value=of.rerank_lambda
    )


@pytest.mark.parametrize("expand", [0, 3])
def test_single_query_re_ranks_all_but_junk(market, expand):
    given, subsets = market
    query, gallery = subsets["query"], subsets["gallery"]
    refinement = dataclasses.replace(RERANK, expand=expand)
    found = refined("single-query", refinement).evaluate(given, subsets)
    kept = gallery.take(np.flatnonzero(gallery.identities >= 0), "kept")
    of_query, of_gallery = given(query), given(gallery)[gallery.identities >= 0]
    if expand:
        of_query = evaluation.expanded_queries(of_query, of_gallery, number=3, normalise=True)
    distances = reranked(of_query, of_gallery, RERANK)
    expected = evaluation.single_query_of_distances(distances, query, kept)
    metrics = evaluation.metrics(expected.result)
    assert found.metrics == metrics
    plain = PROTOCOLS["single-query"].evaluate(given, subsets)
    assert found.metrics != plain.metrics
    assert found.fingerprint == plain.fingerprint
    assert (found.num_query, found.num_gallery) == (8, 29)
    marks = "+expand3" * bool(expand) + "+rerank(4,2,0.4)"
    assert found.protocol == "single-query" + marks
    assert found.distance.startswith("distance re-ranked by k-reciprocal neighbours")
    assert ("3 nearest" in found.distance) == bool(expand)
    # Lists show gallery rows, and never junk.
    rows = found.lists.gallery_rows
    assert (gallery.identities[rows[rows >= 0]] >= 0).all()
    assert found.histogram.same_pair_counts.sum() == plain.histogram.same_pair_counts.sum()
    np.testing.assert_array_equal(
        found.histogram.different_pair_counts.sum(), plain.histogram.different_pair_counts.sum()
    )


def test_expansion_alone_goes_through_blocks(market):
    given, subsets = market
    query, gallery = subsets["query"], subsets["gallery"]
    found = refined("single-query", Refinement(expand=2)).evaluate(given, subsets)
    of_query = evaluation.expanded_queries(
        given(query), given(gallery)[gallery.identities >= 0], number=2, normalise=True
    )
    expected = evaluation.single_query(of_query, given(gallery), query, gallery)
    assert found.metrics == evaluation.metrics(expected.result)
    assert found.protocol == "single-query+expand2"


@pytest.mark.parametrize("pooling", ["average", "maximum"])
def test_multi_query_is_pooled_first(market, pooling):
    given, subsets = market
    query, gallery, multi = (subsets[n] for n in ("query", "gallery", "multi_query"))
    plain = PROTOCOLS[f"multi-query-{pooling}"].evaluate(given, subsets)
    expected = evaluation.multi_query(
        given(query), given(multi), given(gallery), query, multi, gallery, pooling=pooling
    )
    assert plain.metrics == evaluation.metrics(expected.result)
    assert plain.fingerprint == expected.fingerprint
    found = refined(plain.protocol, RERANK).evaluate(given, subsets)
    pooled = evaluation.pool_queries(given(multi), query, multi, pooling=pooling)
    kept = gallery.identities >= 0
    distances = reranked(pooled, given(gallery)[kept], RERANK)
    own = gallery.take(np.flatnonzero(kept), "kept")
    expected = evaluation.single_query_of_distances(distances, query, own)
    assert found.metrics == evaluation.metrics(expected.result)
    assert found.fingerprint == plain.fingerprint


def test_pools_of_one_gallery_are_re_ranked(market):
    given, subsets = market
    pool = subsets["test"]
    features = given(pool)

    def distance_of(query_rows, gallery_rows):
        return reranked(features[query_rows], features[gallery_rows], RERANK)

    found = refined("multi-shot", RERANK).evaluate(given, subsets)
    expected = evaluation.multi_shot(distance_of, pool)
    assert found.metrics == evaluation.metrics(expected.result)
    found = refined("single-shot-one-direction", RERANK).evaluate(given, subsets)
    expected = evaluation.single_shot_one_direction(distance_of, pool, num_repeats=1, seed=0)
    assert found.metrics == evaluation.metrics(expected.result)
    expanded = refined("single-shot-one-direction", Refinement(expand=2)).evaluate(given, subsets)

    def to_means(query_rows, gallery_rows):
        near = features[gallery_rows]
        mean = evaluation.expanded_queries(features[query_rows], near, number=2, normalise=True)
        return ((mean[:, None] - near) ** 2).sum(-1)

    direct = evaluation.single_shot_one_direction(to_means, pool, num_repeats=1, seed=0)
    assert expanded.metrics == evaluation.metrics(direct.result)
    assert expanded.lists.distances.dtype == np.float64
    assert found.intervals["rank1"][0] <= found.metrics["rank1"] <= found.intervals["rank1"][1]


@pytest.mark.parametrize("refinement", [Refinement(rerank=True), Refinement(expand=2)])
def test_what_a_refinement_does_not_fit_is_refused(market, refinement):
    given, subsets = market
    several = dataclasses.replace(PROTOCOLS["single-shot-one-direction"], num_repeats=3)
    for protocol, why in (
        (PROTOCOLS["single-shot-per-query"], "every query has a gallery of its own"),
        (PROTOCOLS["distractors"], "never all there at once"),
        (several, "its 3 repeats draw a gallery each"),
    ):
        with pytest.raises(ValueError, match=f"{refinement.suffix[1:]} does not fit .*{why}"):
            dataclasses.replace(protocol, refinement=refinement).evaluate(given, subsets)
    with pytest.raises(ValueError, match="oxford5k embeds boxes of images"):
        PROTOCOLS["oxford5k"].check(given)
    embedder = make_embedder()
    refined("oxford5k", Refinement(expand=2)).check(embedder)
    with pytest.raises(ValueError, match="junk images are others for each query"):
        refined("oxford5k", Refinement(rerank=True)).check(embedder)


def test_names_say_all_options_and_never_collide():
    options = itertools.product((0, 1, 10), (False, True), (10, 20), (3, 6), (0.0, 0.3))
    made = {Refinement(*values) for values in options}
    # Constants of a re-ranking that is off change nothing.
    different = {one if one.rerank else Refinement(one.expand) for one in made}
    assert len({one.suffix for one in made}) == len(different)
    assert Refinement().suffix == ""
    assert Refinement(expand=10, rerank=True).suffix == "+expand10+rerank"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"expand": -1}, "expand=-1: expected at least 0"),
        ({"rerank_k1": 0}, "rerank_k1=0"),
        ({"rerank_k2": 0}, "rerank_k2=0"),
        ({"rerank_lambda": 1.5}, r"rerank_lambda=1\.5"),
    ],
)
def test_wrong_constants_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        Refinement(**wrong)


# Embedders -------------------------------------------------------------------------------------


def pictures():
    return np.stack([picture((30 * i, 200, 250 - 30 * i), i) for i in range(5)])


def test_flip_is_the_mean_of_an_image_and_its_mirror_image():
    images = pictures()
    raw = make_embedder(normalise=False)
    mean = (raw(images) + raw(images[:, :, ::-1])) / 2
    found = make_embedder(normalise=False, test_mode="flip")(images)
    np.testing.assert_allclose(found, mean, rtol=1e-5, atol=1e-6)
    unit = make_embedder(test_mode="flip")
    expected = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(unit(images), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(unit(images[:, :, ::-1]), unit(images), rtol=1e-5, atol=1e-6)
    assert not np.allclose(unit(images), make_embedder()(images), atol=1e-4)


def encoded(tmp_path, images, split):
    from search_parts import cv2

    files = [cv2.imencode(".png", image)[1].tobytes() for image in images]
    people = 1 + np.arange(len(images)) % 3
    return data.Source("made", split, [f"{i}.png" for i in range(len(images))], people, None, files)


def test_each_source_is_embedded_once(tmp_path, monkeypatch):
    embedder = EmbedsOnce.of(make_embedder(test_mode="flip"))
    subsets = {name: encoded(tmp_path, pictures(), name) for name in ("query", "gallery")}
    asked = []
    extract = evaluation.extract_features

    def counted(*args, **how):
        asked.append(how["description"])
        return extract(*args, **how)

    monkeypatch.setattr(evaluation, "extract_features", counted)
    found = [
        PROTOCOLS[name].evaluate(embedder, subsets)
        for name in ("single-query", "single-query-swapped", "single-query")
    ]
    assert asked == ["embedding query", "embedding gallery"]
    assert found[0].protocol == "single-query-no-cameras+flip"
    assert found[0].metrics == found[2].metrics
    embedder(subsets["query"].take([0], "block"))
    embedder.distance_of(subsets["gallery"])
    assert asked[2:] == ["embedding block"]
    assert len(embedder._known) == 2, "a source that is gone takes no memory"


def test_given_features_rank_as_the_embedder_bit_for_bit(tmp_path):
    embedder = make_embedder()
    subsets = {name: encoded(tmp_path, pictures(), name) for name in ("query", "gallery")}
    given = GivenFeatures([(s, embedder(s)) for s in subsets.values()], where="file")
    for refinement in (Refinement(), Refinement(expand=1, rerank=True)):
        protocol = refined("single-query", refinement)
        ours, theirs = (protocol.evaluate(one, subsets) for one in (embedder, given))
        assert ours.metrics == theirs.metrics
        assert (ours.protocol, ours.fingerprint) == (theirs.protocol, theirs.fingerprint)
        np.testing.assert_array_equal(ours.lists.distances, theirs.lists.distances)


def test_given_features_that_do_not_fit_are_refused(market):
    _, subsets = market
    query, gallery = subsets["query"], subsets["gallery"]
    rows = np.random.default_rng(0).normal(size=(8, 4))
    with pytest.raises(ValueError, match=r"file: the features of query have the shape \(7, 4\)"):
        GivenFeatures([(query, rows[:7])], where="file")
    with pytest.raises(ValueError, match=r"different numbers of columns \(query 4, gallery 3\)"):
        GivenFeatures([(query, rows), (gallery, np.ones((29, 3)))], where="file")
    broken = rows.copy()
    broken[5, 1] = np.inf
    with pytest.raises(ValueError, match=r"first in row 5 \(query/5\)"):
        GivenFeatures([(query, broken)], where="file")
    given = GivenFeatures([(query, rows)], where="file")
    with pytest.raises(ValueError, match="file has no features of gallery; it has query"):
        PROTOCOLS["single-query"].evaluate(given, subsets)
    np.testing.assert_allclose(np.linalg.norm(given(query), axis=1), 1, atol=1e-12)
    as_they_are = GivenFeatures([(query, rows)], where="file", normalise=False)
    np.testing.assert_array_equal(as_they_are(query), rows)
    assert as_they_are.distance_name == "squared Euclidean distance"
    zero = GivenFeatures([(query, np.zeros((8, 2)))], where="file")
    assert not zero(query).any()
