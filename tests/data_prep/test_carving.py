import collections

import numpy as np
import pytest

from data_prep.carving import carve
from data_prep.listing import Record


def records_of(blocks):
    """blocks: {(identity, camera): number of images}."""
    return [
        Record(f"{identity:04d}_c{camera}_{number}.jpg", identity, camera)
        for (identity, camera), count in blocks.items()
        for number in range(count)
    ]


def random_records(seed):
    generator = np.random.Generator(np.random.Philox(seed))
    return records_of(
        {
            (identity, camera): int(generator.integers(0, 4))
            for identity in range(1, 31)
            for camera in (1, 2, 3)
        }
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("has_cameras", [True, False])
def test_carving(seed, has_cameras):
    records = random_records(seed)
    rest, query, gallery = carve(records, 12, seed=seed, draw=0, has_cameras=has_cameras)
    assert sorted(rest + query + gallery) == sorted(records)
    for part in (rest, query, gallery):
        assert part == sorted(part)
    identities = [{record.identity for record in part} for part in (rest, query, gallery)]
    assert not identities[0] & (identities[1] | identities[2])
    assert identities[1] == identities[2]
    assert len(identities[1]) == 12
    key = (lambda r: (r.identity, r.camera)) if has_cameras else (lambda r: r.identity)
    assert set(collections.Counter(map(key, query)).values()) == {1}
    for record in query:
        assert any(
            other.identity == record.identity and (other.camera != record.camera or not has_cameras)
            for other in gallery
        )
    # Two cameras with two images each: every camera has its query.
    for identity in identities[1] if has_cameras else ():
        images = collections.Counter(r.camera for r in records if r.identity == identity)
        queried = {r.camera for r in query if r.identity == identity}
        rich = [camera for camera, count in images.items() if count > 1]
        assert len(queried) == len(images) - (len(rich) < 2)


def test_carving_depends_on_records_and_seed_only():
    records = random_records(3)
    options = {"draw": 0, "has_cameras": True}
    first = carve(records, 9, seed=4, **options)
    assert carve(records[::-1], 9, seed=4, **options) == first
    assert carve(records, 9, seed=5, **options) != first
    assert carve(records, 9, seed=4, draw=1, has_cameras=True) != first


def test_golden_carving():
    records = records_of({(i, c): 2 for i in range(1, 7) for c in (1, 2)})
    _, query, _ = carve(records, 2, seed=0, draw=0, has_cameras=True)
    assert [record.file for record in query] == [
        "0002_c1_1.jpg",
        "0002_c2_0.jpg",
        "0003_c1_1.jpg",
        "0003_c2_0.jpg",
    ]


@pytest.mark.parametrize(
    ("blocks", "number", "message"),
    [
        ({(1, 1): 5, (2, 1): 1, (2, 2): 1, (3, 1): 9}, 2, "only 1 of 3 have images from two"),
        ({(1, 1): 2, (1, 2): 2, (2, 1): 2, (2, 2): 2}, 2, "none is left to train on"),
    ],
)
def test_carving_refuses(blocks, number, message):
    with pytest.raises(ValueError, match=message):
        carve(records_of(blocks), number, seed=0, draw=0, has_cameras=True)


def test_carving_without_cameras_needs_two_images():
    with pytest.raises(ValueError, match="only 1 of 3 have two images"):
        carve(records_of({(1, 1): 5, (2, 1): 1, (3, 1): 1}), 2, seed=0, draw=0, has_cameras=False)
