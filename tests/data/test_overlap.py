"""People and files of a test that were trained on, counted."""

import dataclasses
import json

import numpy as np
import pytest

from reid_jax import data

RNG = np.random.default_rng(0)


def source(dataset, identities, contents, names=None):
    return data.Source(
        dataset=dataset,
        split="s",
        files=[f"{dataset}/{i}.jpg" for i in range(len(identities))],
        identities=np.array(identities, np.int64),
        cameras=None,
        images=[bytes(content) for content in contents],
        identity_names=names,
    )


def test_people_by_name_and_files_by_content():
    train = source("shop", [1, 1, 2, 3], [b"a", b"b", b"c", b"d"], {1: "ann", 2: "bob", 3: "cy"})
    # Other numbers and other files, two of the names, one of the contents.
    test = source(
        "shop", [1, 2, 2, 4, 0, -1], [b"x", b"y", b"c", b"z", b"a", b"b"], {1: "cy", 2: "bob"}
    )
    record = json.loads(json.dumps(data.fingerprint_of_training(train)))
    found = data.overlap([record], [test])
    assert (found.num_people, found.num_test_people, found.num_files) == (2, 3, 1)
    assert found.examples[0] in ("shop/cy", "shop/bob")
    assert found.examples[1] == "shop/2.jpg"
    assert "2 of 3 test identities and 1 test images were trained on" in found.message()
    # The same names of another data set are other people.
    other = dataclasses.replace(test, dataset="store")
    assert data.overlap([record], [other]).as_json() == {"people": 0, "test_people": 3, "files": 1}


def test_joined_data_sets_keep_their_people():
    parts = [source("market1501", [7, 9], [b"a", b"b"]), source("cuhk03", [7], [b"c"])]
    record = data.fingerprint_of_training(data.join(parts, "joined"))
    assert data.overlap([record], [parts[1]]).num_people == 1
    assert data.overlap([record], [source("cuhk03", [9], [b"e"])]).num_people == 0
    assert data.overlap([record], [source("market1501", [9], [b"e"])]).num_people == 1


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_sets(seed):
    rng = np.random.default_rng(seed)
    sides = []
    for _ in range(3):
        number = int(rng.integers(1, 40))
        people = rng.integers(-1, 20, number)
        contents = [bytes([c]) for c in rng.integers(0, 60, number)]
        sides.append((people, contents))
    train, query, gallery = (source("d", people, contents) for people, contents in sides)
    known = [(p, c) for p, c in zip(*sides[0], strict=True) if p > 0]
    tested = [(p, c) for side in sides[1:] for p, c in zip(*side, strict=True) if p > 0]
    found = data.overlap([data.fingerprint_of_training(train)], [query, gallery])
    assert found.num_people == len({p for p, _ in known} & {p for p, _ in tested})
    assert found.num_test_people == len({p for p, _ in tested})
    assert found.num_files == len({c for _, c in known} & {c for _, c in tested})
    assert bool(found) == bool(found.num_people or found.num_files)


def test_nothing_is_known_of_a_network_without_a_record():
    assert not data.overlap([], [source("d", [1], [b"a"])])
