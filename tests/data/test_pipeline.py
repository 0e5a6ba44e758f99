import numpy as np
import pytest

from data_prep.prepare import prepare
from references import raw_trees
from reid_jax import data, schema
from reid_jax.keys import batch_keys

SIZE = (24, 12)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    raw = raw_trees.write_tree(tmp_path_factory.mktemp("raw"), raw_trees.market_files())
    data_dir = tmp_path_factory.mktemp("data")
    prepare("market1501", raw, data_dir, progress=False)
    return data.open_split(data_dir, "market1501", "train")


@pytest.fixture(scope="module")
def labels(source):
    return data.identity_labels(source.identities)[0]


def sampler_of(kind, source, labels):
    if kind == "uniform":
        return data.UniformSampler(len(source), batch_size=8, seed=5)
    if kind == "identity":
        return data.IdentitySampler(labels, identities_per_batch=2, images_per_identity=4, seed=5)
    return data.PairSampler(
        labels,
        source.cameras,
        num_pairs=8,
        negatives_per_positive=lambda epoch: min(4, 1.01**epoch),
        cross_camera=True,
        seed=5,
    )


def run(source, labels, kind, **options):
    options = {"seed": 3, "first_step": 0, "num_steps": 6, "image_size": SIZE} | options
    sampler = sampler_of(kind, source, labels)
    return list(data.batches(source, sampler, labels=labels, **options))


def assert_equal(batch, other):
    assert batch.keys() == other.keys()
    for name in batch:
        np.testing.assert_array_equal(batch[name], other[name], err_msg=name)


def test_batch_keys():
    keys = batch_keys(7, 12, 5)
    assert keys.shape == (5, 2)
    assert keys.dtype == np.uint32
    assert (batch_keys(7, 12, 3) == keys[:3]).all()
    others = [batch_keys(7, 12, 5, stream=1), batch_keys(7, 13, 5), batch_keys(8, 12, 5)]
    assert len(np.unique(np.concatenate([keys, *others]), axis=0)) == 20
    with pytest.raises(ValueError, match="stream is 4"):
        batch_keys(0, 0, 1, stream=4)


@pytest.mark.parametrize("kind", ["uniform", "identity"])
def test_batches(source, labels, kind):
    sampler = sampler_of(kind, source, labels)
    for step, batch in enumerate(run(source, labels, kind)):
        rows = sampler(step)
        assert set(batch) == set(schema.BATCH_KEYS)
        assert (batch["row"] == rows).all()
        assert (batch["identity"] == labels[rows]).all()
        assert (batch["camera"] == source.cameras[rows]).all()
        assert (batch["key"] == batch_keys(3, step, 8)).all()
        for row, image in zip(rows, batch["image"], strict=True):
            assert (image == data.decode(source[row], SIZE)).all()
        dtypes = {name: str(value.dtype) for name, value in batch.items()}
        assert dtypes == {
            "image": "uint8",
            "identity": "int32",
            "camera": "int32",
            "row": "int32",
            "key": "uint32",
        }


def test_pair_batches_from_a_builder(source, labels):
    sampler = sampler_of("pair", source, labels)
    for step, batch in enumerate(run(source, labels, "pair")):
        expected = {name + half for name in schema.BATCH_KEYS for half in ("_a", "_b")} | {"same"}
        assert set(batch) == expected
        assert batch["same"].dtype == bool
        for half, rows in zip("ab", sampler(step)[:2], strict=True):
            assert (batch[f"row_{half}"] == rows).all()
            for row, image in zip(rows, batch[f"image_{half}"], strict=True):
                assert (image == data.decode(source[row], SIZE)).all()
        identities = [source.identities[batch[f"row_{half}"]] for half in "ab"]
        assert ((identities[0] == identities[1]) == batch["same"]).all()
        assert ((batch["identity_a"] == batch["identity_b"]) == batch["same"]).all()
        assert (batch["camera_a"] != batch["camera_b"]).all()
        assert (batch["key_a"] == batch_keys(3, step, 8, stream=0)).all()
        assert (batch["key_b"] == batch_keys(3, step, 8, stream=1)).all()


@pytest.mark.parametrize("kind", ["uniform", "identity", "pair"])
def test_hosts_make_up_the_global_batch(source, labels, kind):
    whole = run(source, labels, kind)
    hosts = [run(source, labels, kind, host_rows=slice(first, first + 4)) for first in (0, 4)]
    for batch, low, high in zip(whole, *hosts, strict=True):
        joined = {name: np.concatenate([low[name], high[name]]) for name in low}
        assert_equal(joined, batch)


@pytest.mark.parametrize("kind", ["uniform", "identity", "pair"])
def test_resuming(source, labels, kind):
    whole = run(source, labels, kind)
    for batch, other in zip(
        whole[4:], run(source, labels, kind, first_step=4, num_steps=2), strict=True
    ):
        assert_equal(batch, other)


@pytest.mark.parametrize("kind", ["uniform", "pair"])
def test_resident(source, labels, kind):
    images = data.load_images(source, SIZE, progress=False)
    for batch, resident in zip(
        run(source, labels, kind), run(source, labels, kind, resident=True), strict=True
    ):
        for half in ("",) if kind == "uniform" else ("_a", "_b"):
            resident["image" + half] = images[resident["row" + half]]
        assert_equal(batch, resident)


def test_without_cameras(labels):
    batch = data.batch_at(
        2,
        sampler=data.UniformSampler(len(labels), batch_size=3, seed=0),
        labels=labels,
        cameras=None,
        seed=0,
    )
    assert (batch["camera"] == schema.NO_CAMERA).all()
    assert "image" not in batch


def test_labels_must_fit(source, labels):
    with pytest.raises(ValueError, match="labels for the"):
        run(source, labels[:-1], "uniform")


def test_unreadable_image_is_named(labels):
    size = len(labels)
    broken = data.Source(
        "memory", "train", [f"{row}.jpg" for row in range(size)], labels, None, [b"x"] * size
    )
    with pytest.raises(ValueError, match=r"memory/train: \d+\.jpg: .*not a readable image"):
        run(broken, labels, "uniform")
