"""What a model decides of two images, measured on people and kept with it."""

import dataclasses
import json

import numpy as np
import pytest
import tiny_embedders
from search_parts import make_embedder, people_source

import reid_jax as rj
from reid_jax import decide


@pytest.fixture(scope="module")
def embedder():
    return make_embedder()


@pytest.fixture(scope="module")
def source():
    return people_source()


@pytest.fixture(scope="module")
def decision(embedder, source):
    return decide.measure(embedder, {"val": source}, data_source="stand-in")


def test_the_pairs_are_those_of_a_ranking(embedder, source, decision):
    distances = embedder.distances(source, source)
    same, different = [], []
    for a in range(len(source)):
        for b in range(a + 1, len(source)):
            if source.identities[a] != source.identities[b]:
                different.append(distances[a, b])
            elif source.cameras[a] != source.cameras[b]:
                same.append(distances[a, b])
    assert (decision.num_same_pairs, decision.num_different_pairs) == (16, 252)
    assert (len(same), len(different)) == (16, 252)
    curve = rj.evaluation.roc(np.array(same), np.array(different))
    assert decision.equal_error.rate == pytest.approx(rj.evaluation.equal_error_rate(curve))
    assert decision.points[0].true_accept_rate == pytest.approx(
        rj.evaluation.true_accept_rate_at(curve, 0.1)
    )
    assert (decision.measured_on, decision.dataset, decision.num_people) == (
        *("validation", "rendered"),
        8,
    )
    assert decision.distance == "squared Euclidean distance of unit vectors"
    assert decision.origin == "8 validation people of rendered, rendered"


def test_validation_people_come_first_and_test_people_where_there_are_none(embedder, source):
    test = people_source(split="test", first=50)
    assert decide.people_to_measure({"val": source, "test": test}) == ("validation", [source])
    lists = {"query": source, "gallery": test}
    assert decide.people_to_measure(lists) == ("test", [source, test])
    both = lists | {"val_query": test, "val_gallery": source}
    assert decide.people_to_measure(both) == ("validation", [test, source])
    assert decide.measure(embedder, {"test": test}).measured_on == "test"
    with pytest.raises(decide.NotMeasurableError, match="got train, query"):
        decide.people_to_measure({"train": source, "query": test})


def test_what_is_no_person_is_left_out(embedder, source, decision):
    identities = source.identities.copy()
    rows = np.concatenate([np.arange(len(source)), [0, 1]])
    more = source.take(rows, "val")
    identities = np.concatenate([identities, [0, -1]])
    found = decide.measure(embedder, {"val": dataclasses.replace(more, identities=identities)})
    assert (found.num_images, found.num_different_pairs) == (24, 252)
    assert found.equal_error == decision.equal_error


def test_few_images_are_of_many_people_and_of_two_cameras(embedder, source):
    found = decide.measure(embedder, {"val": source}, max_images=16)
    assert (found.num_people, found.num_images, found.num_same_pairs) == (8, 16, 8)
    found = decide.measure(embedder, {"val": source}, max_images=8)
    assert (found.num_people, found.num_images, found.num_same_pairs) == (4, 8, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cameras": np.ones(24, np.int64)}, "24 images of validation people: .* 0 show one"),
        ({"identities": np.ones(24, np.int64)}, "128 show one person"),
        ({"identities": np.zeros(24, np.int64)}, "no two images of validation people"),
    ],
)
def test_people_without_pairs_are_refused(embedder, source, change, message):
    with pytest.raises(decide.NotMeasurableError, match=message):
        decide.measure(embedder, {"val": dataclasses.replace(source, **change)})


def test_batch_norm_of_a_whole_side_is_refused(source):
    made = tiny_embedders.embedder("nine_conv", size=(64, 64), test_statistics="batch")
    with pytest.raises(decide.NotMeasurableError, match="two images alone"):
        decide.measure(made, {"val": source})


def test_a_model_decides_of_two_images(embedder, source, decision):
    model = embedder.with_decision(decision)
    images = [source.image(row, None) for row in range(6)]
    found = model.same(images[0], images[2])
    assert found.distance == pytest.approx(embedder.distances([images[0]], [images[2]])[0, 0])
    assert found.same == (found.distance <= decision.equal_error.threshold)
    assert found.probability == pytest.approx(float(decision.probability(found.distance)))
    strict = model.same(images[0], images[2], false_accept_rate=0.1)
    assert strict.threshold == decision.points[0].threshold
    assert model.same(images[0], images[0]).same
    with pytest.raises(ValueError, match=r"no threshold was measured at .* 0\.001"):
        model.same(images[0], images[2], false_accept_rate=1e-3)
    with pytest.raises(ValueError, match=r"no threshold and no probability: measure .*decide"):
        embedder.same(images[0], images[2])
    other = dataclasses.replace(model, scoring=rj.Scoring(normalise=False))
    with pytest.raises(ValueError, match="thresholds are of squared Euclidean distance of unit"):
        other.same(images[0], images[2])


def test_many_pairs_of_files(embedder, source, decision, tmp_path):
    files = []
    for row in range(5):
        files.append(str(tmp_path / f"{row}.png"))
        (tmp_path / f"{row}.png").write_bytes(source[row])
    model = embedder.with_decision(decision)
    pairs = [(files[a], files[b]) for a, b in ((0, 1), (3, 0), (4, 4))]
    found = decide.same_pairs(model, pairs, false_accept_rate=0.1)
    for (a, b), verdict in zip(pairs, found, strict=True):
        alone = model.same(a, b, false_accept_rate=0.1)
        assert verdict.distance == pytest.approx(alone.distance, abs=1e-5)
        assert verdict.same == alone.same
    (tmp_path / "1.png").write_text("no image")
    with pytest.raises(ValueError, match=r"1 of 4 images cannot be read:\n.*1\.png"):
        decide.same_pairs(model, pairs)


def test_a_saved_model_keeps_its_decision(embedder, decision, tmp_path):
    embedder.with_decision(decision).save(tmp_path / "new")
    assert rj.Embedder.load(tmp_path / "new").decision == decision
    embedder.save(tmp_path / "without")
    assert rj.Embedder.load(tmp_path / "without").decision is None
    # A model of before there were decisions.
    record = tmp_path / "without" / "embedder.json"
    content = json.loads(record.read_text())
    assert content.pop("decision") is None
    record.write_text(json.dumps(content))
    assert rj.Embedder.load(tmp_path / "without").decision is None
    record = tmp_path / "new" / "embedder.json"
    content = json.loads(record.read_text())
    content["decision"]["equal_error"]["threshold"] = "low"
    record.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"new\.equal_error\.threshold is 'low', expected float"):
        rj.Embedder.load(tmp_path / "new")


@pytest.mark.slow
def test_a_network_that_scores_pairs_decides_too(tmp_path):
    made = tiny_embedders.embedder(
        "csn", size=(64, 32), scoring=rj.Scoring(distance_weight=0.2, pairs_per_block=16)
    )
    source = people_source(people=4)
    decision = decide.measure(
        dataclasses.replace(made, scoring=dataclasses.replace(made.scoring, shortlist=3)),
        {"test": source},
    )
    assert decision.distance == "minus the similarity score"
    assert decision.num_images == 12
    model = made.with_decision(decision)
    found = model.same(source.image(0, None), source.image(2, None))
    assert found.distance < 0
    assert 0 <= found.probability <= 1
    assert found.same == (found.distance <= decision.equal_error.threshold)
    model.save(tmp_path / "model")
    opened = rj.Embedder.load(tmp_path / "model")
    again = opened.same(source.image(0, None), source.image(2, None))
    assert again.distance == pytest.approx(found.distance, rel=1e-5)
