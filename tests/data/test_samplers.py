import collections

import numpy as np
import pytest

from references import samplers as reference
from reid_jax.data import IdentitySampler, PairSampler, UniformSampler
from reid_jax.keys import random_bits

GOLDEN_UNIFORM = [[3, 5, 2, 7, 0], [6, 1, 4, 0, 6], [7, 4, 0, 2, 6]]
GOLDEN_PAIRS = [
    [[0, 3, 3, 5], [1, 4, 7, 1]],
    [[0, 5, 2, 3], [1, 6, 1, 7]],
    [[0, 3, 5, 0], [1, 4, 4, 4]],
]


@pytest.mark.parametrize(
    ("seed", "stream", "index"), [(0, 0, 0), (7, 3, 123456), (2**63 + 5, 4, 1)]
)
def test_random_bits_are_philox(seed, stream, index):
    words = random_bits(seed, stream=stream, index=index, count=11)
    assert words.tolist() == reference.philox((seed, (stream << 48) | index), 11)
    assert random_bits(seed, stream=stream, index=index, count=3).tolist() == words[:3].tolist()


@pytest.mark.parametrize(("seed", "index"), [(-1, 0), (2**64, 0), (0, -1), (0, 2**48)])
def test_random_bits_out_of_range(seed, index):
    with pytest.raises(ValueError, match="expected an integer"):
        random_bits(seed, stream=0, index=index, count=1)


@pytest.mark.parametrize(("num_images", "batch_size"), [(10, 4), (12, 4), (3, 8), (5, 5), (7, 1)])
@pytest.mark.parametrize("seed", [0, 3])
def test_uniform_batches(num_images, batch_size, seed):
    sampler = UniformSampler(num_images, batch_size=batch_size, seed=seed)
    num_steps = 3 * num_images
    batches = [sampler(step) for step in range(num_steps)]
    expected = reference.uniform(num_images, batch_size, seed, num_steps)
    assert [batch.tolist() for batch in batches] == expected
    # Every image exactly once per epoch, across the borders of batches.
    stream = np.concatenate(batches)
    for epoch in range(3):
        passed = stream[epoch * num_images : (epoch + 1) * num_images]
        assert sorted(passed.tolist()) == list(range(num_images))
    assert sampler.epoch(num_images) == batch_size
    assert sampler.num_steps(3) == -(-3 * num_images // batch_size)


def test_uniform_golden_order():
    sampler = UniformSampler(8, batch_size=5, seed=1)
    assert [sampler(step).tolist() for step in (0, 1, 1000)] == GOLDEN_UNIFORM


def test_seeds_and_epochs_differ():
    orders = {
        tuple(UniformSampler(50, batch_size=50, seed=seed)(step))
        for seed in (0, 1, 2)
        for step in (0, 1)
    }
    assert len(orders) == 6


@pytest.mark.parametrize("seed", [0, 5])
def test_identity_batches(seed):
    identities = np.repeat([30, 4, 9, 17, 2, 8, 1], [1, 2, 3, 4, 9, 5, 4])
    identities = identities[random_bits(seed, stream=9, index=0, count=len(identities)).argsort()]
    sampler = IdentitySampler(identities, identities_per_batch=3, images_per_identity=4, seed=seed)
    for epoch in range(4):
        seen = []
        for step in (2 * epoch, 2 * epoch + 1):
            assert sampler.epoch(step) == epoch
            rows = sampler(step)
            assert (rows == sampler(step)).all()
            groups = identities[rows].reshape(3, 4)
            assert (groups == groups[:, :1]).all()
            seen += groups[:, 0].tolist()
            for group, identity in zip(rows.reshape(3, 4), groups[:, 0], strict=True):
                if (identities == identity).sum() >= 4:
                    assert len(set(group.tolist())) == 4
        assert len(set(seen)) == 6
    # A training's epoch is as many images as there are: 28 images, 12 a step.
    assert sampler.num_steps(1.5) == 4 == UniformSampler(28, batch_size=12, seed=0).num_steps(1.5)


def test_identity_images_are_uniform():
    identities = np.repeat([0, 1, 2], [6, 2, 3])
    sampler = IdentitySampler(identities, identities_per_batch=3, images_per_identity=3, seed=0)
    drawn = np.bincount(np.concatenate([sampler(step) for step in range(2000)]), minlength=11)
    expected = np.repeat([1000, 3000, 2000], [6, 2, 3])
    assert (np.abs(drawn - expected) < 5 * np.sqrt(expected)).all()


def random_set(seed, *, num_images=60):
    generator = np.random.Generator(np.random.Philox(seed))
    identities = generator.integers(0, 9, num_images)
    cameras = generator.integers(1, 4, num_images) * 7
    identities[:3] = [20, 21, 22]  # one image each
    return identities, cameras


@pytest.mark.parametrize("cross_camera", [False, True])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pair_batches(seed, cross_camera):
    identities, cameras = random_set(seed)
    sampler = PairSampler(
        identities,
        cameras,
        num_pairs=16,
        negatives_per_positive=lambda epoch: min(4, 1.3**epoch),
        cross_camera=cross_camera,
        seed=seed,
    )
    allowed = {
        (row, same): reference.partners(
            identities, cameras, row, same=same, cross_camera=cross_camera
        )
        for row in range(60)
        for same in (False, True)
    }
    alone = [row for row in range(60) if not allowed[row, True]]
    assert sampler.num_negative_only == len(alone) >= 3
    first = []
    for step in range(60):
        rows_a, rows_b, same = sampler(step)
        if cross_camera:
            assert (cameras[rows_a] < cameras[rows_b]).all()
        ratio = min(4, 1.3 ** (16 * step // 60))
        num_positive = round(16 / (1 + ratio))
        assert same.tolist() == [True] * num_positive + [False] * (16 - num_positive)
        for row_a, row_b, kind in zip(rows_a, rows_b, same, strict=True):
            assert row_b in allowed[row_a, bool(kind)]
        first += rows_a.tolist()
    for epoch in range(16):
        if not cross_camera:  # With it, the image that was drawn first may be the second one.
            assert sorted(first[60 * epoch : 60 * (epoch + 1)]) == list(range(60))


def test_the_first_images_of_two_cameras_are_all_of_the_one():
    identities, cameras = np.repeat(np.arange(9), 6), np.tile(np.repeat([4, 2], 3), 9)
    sampler = PairSampler(
        identities, cameras, num_pairs=10, negatives_per_positive=2, cross_camera=True, seed=3
    )
    drawn = np.zeros(54, int)
    for step in range(27):  # Five epochs, in each of which an image is drawn once.
        rows_a, rows_b, same = sampler(step)
        assert set(cameras[rows_a]) == {2}
        assert set(cameras[rows_b]) == {4}
        assert ((identities[rows_a] == identities[rows_b]) == same).all()
        np.add.at(drawn, np.concatenate([rows_a, rows_b]), 1)
    assert (drawn >= 5).all()
    smallest = PairSampler(
        [0, 0, 1, 1], [1, 2, 1, 2], num_pairs=2, negatives_per_positive=1, cross_camera=True, seed=0
    )
    assert all((smallest(step)[0] % 2 == 0).all() for step in range(8))


@pytest.mark.parametrize("cross_camera", [False, True])
def test_pair_partners_are_uniform(cross_camera):
    identities, cameras = random_set(4, num_images=24)
    sampler = PairSampler(
        identities,
        cameras,
        num_pairs=24,
        negatives_per_positive=1,
        cross_camera=cross_camera,
        seed=11,
    )
    drawn = collections.defaultdict(collections.Counter)
    for step in range(3000):
        order = sampler._epoch_order(step)  # A batch is an epoch: which of a pair was drawn first.
        for element, row_a, row_b, same in zip(order, *sampler(step), strict=True):
            assert element in (row_a, row_b)
            partner = row_b if element == row_a else row_a
            drawn[int(element), bool(same)][int(partner)] += 1
    statistic, freedom = 0.0, 0
    for (row, same), counter in drawn.items():
        allowed = reference.partners(identities, cameras, row, same=same, cross_camera=cross_camera)
        expected = sum(counter.values()) / len(allowed)
        statistic += sum((counter[other] - expected) ** 2 / expected for other in allowed)
        freedom += len(allowed) - 1
    assert abs(statistic - freedom) < 4 * np.sqrt(2 * freedom)


def test_pair_golden_order():
    identities = np.array([5, 5, 7, 7, 7, 9, 9, 9])
    cameras = np.array([1, 2, 1, 1, 2, 1, 2, 3])
    sampler = PairSampler(
        identities, cameras, num_pairs=4, negatives_per_positive=1, cross_camera=True, seed=2
    )
    got = [[part.tolist() for part in sampler(step)[:2]] for step in (0, 1, 9)]
    assert got == GOLDEN_PAIRS


def test_pair_ratio_holds_where_few_images_have_a_partner():
    identities = np.array([0, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    sampler = PairSampler(
        identities, None, num_pairs=4, negatives_per_positive=1, cross_camera=False, seed=0
    )
    assert sampler.num_negative_only == 8
    for step in range(10):
        rows_a, rows_b, same = sampler(step)
        assert same.sum() == 2
        assert set(rows_a[:2]) <= {0, 1}
        assert ((identities[rows_a] == identities[rows_b]) == same).all()


def test_pair_batch_larger_than_the_set():
    sampler = PairSampler(
        np.array([0, 0, 1, 1]),
        None,
        num_pairs=10,
        negatives_per_positive=lambda epoch: 1 + epoch,
        cross_camera=False,
        seed=0,
    )
    first = np.concatenate([sampler(step)[0] for step in range(4)])
    assert np.bincount(first).tolist() == [10] * 4
    assert sampler(1)[2].sum() == round(10 / 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"identities": np.zeros(4, int)}, "one identity"),
        ({"identities": np.arange(4)}, "no image has a second image of the same"),
        ({"identities": np.array([0, 0, -1, 1])}, "negative"),
        ({"identities": np.zeros((2, 2), int)}, "expected integers"),
        ({"identities": np.array([], int)}, "expected integers"),
        ({"cross_camera": True}, "no cameras"),
        ({"cross_camera": True, "cameras": np.array([1, 2])}, "4 identities but 2 cameras"),
        ({"cross_camera": True, "cameras": np.ones(4, int)}, "no image has a second image from"),
        ({"cross_camera": True, "cameras": np.array([1, 2, 1, 1])}, "no negative partner"),
        ({"num_pairs": 0}, "num_pairs is 0"),
        ({"num_pairs": 2, "negatives_per_positive": 9}, "no positive pair"),
        ({"negatives_per_positive": -0.5}, "finite number"),
        ({"negatives_per_positive": float("nan")}, "finite number"),
        ({"seed": -1}, "seed"),
    ],
)
def test_pair_sampler_refuses(options, message):
    options = {
        "identities": np.array([0, 0, 1, 1]),
        "cameras": None,
        "num_pairs": 4,
        "negatives_per_positive": 1,
        "cross_camera": False,
        "seed": 0,
    } | options
    identities, cameras = options.pop("identities"), options.pop("cameras")
    with pytest.raises(ValueError, match=message):
        PairSampler(identities, cameras, **options)


def test_other_samplers_refuse():
    with pytest.raises(ValueError, match="num_images is 0"):
        UniformSampler(0, batch_size=4, seed=0)
    with pytest.raises(ValueError, match="batch_size is 0"):
        UniformSampler(4, batch_size=0, seed=0)
    with pytest.raises(ValueError, match="only 2 identities"):
        IdentitySampler([1, 1, 2], identities_per_batch=3, images_per_identity=2, seed=0)
    with pytest.raises(ValueError, match="images_per_identity is 0"):
        IdentitySampler([1, 1, 2], identities_per_batch=2, images_per_identity=0, seed=0)
    with pytest.raises(ValueError, match="step"):
        UniformSampler(4, batch_size=4, seed=0)(-1)
