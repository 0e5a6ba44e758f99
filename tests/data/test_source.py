import os
import pathlib
import subprocess
import sys
import textwrap

import cv2
import numpy as np
import pytest
from etils import epath

from data_prep.prepare import prepare
from references import raw_trees
from reid_jax import data


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return raw_trees.write_tree(tmp_path_factory.mktemp("raw"), raw_trees.market_files())


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, raw):
    directory = tmp_path_factory.mktemp("data")
    prepare("market1501", raw, directory, progress=False)
    return directory


def test_open_split(data_dir, raw):
    source = data.open_split(data_dir, "market1501", "gallery")
    files = sorted(f for f in raw_trees.market_files() if f.startswith("bounding_box_test/"))
    assert list(source.files) == files
    assert len(source) == len(files)
    assert source.identities.dtype == source.cameras.dtype == np.int64
    for row, file in enumerate(files):
        name = file.split("/")[1]
        assert source.identities[row] == int(name.split("_")[0])
        assert source.cameras[row] == int(name.split("_c")[1][0])
        assert source[row] == (raw / file).read_bytes()
    assert source[np.int64(2)] == source[2]
    for row in (-1, len(files)):
        with pytest.raises(IndexError, match=f"row {row} of split 'gallery'"):
            source[row]


def test_card(data_dir):
    card = data.dataset_card(data_dir, "market1501")
    assert card["data_source"] == "stand-in"
    assert card["stand_in"] == {"seed": 3}
    assert card["has_cameras"] is True
    assert card["skipped"] == {}
    assert card["counts"]["gallery"] == {
        "images": 14,
        "identities": 3,
        "distractors": 2,
        "junk": 3,
    }
    assert set(card["counts"]) == {"train", "query", "gallery", "multi_query"}


def test_not_prepared(tmp_path, data_dir):
    command = r"python data_prep/prepare.py dukemtmc --raw_dir DIR --data_dir "
    with pytest.raises(FileNotFoundError, match=command):
        data.open_split(data_dir, "dukemtmc", "train")
    with pytest.raises(FileNotFoundError, match="not prepared in"):
        data.dataset_card(tmp_path / "nowhere", "market1501")


def test_unknown_split(data_dir):
    with pytest.raises(ValueError, match="no split 'val_query'; its splits are gallery, multi_q"):
        data.open_split(data_dir, "market1501", "val_query")


@pytest.mark.parametrize("damage", ["missing", "truncated", "card", "features"])
def test_damaged(tmp_path, raw, damage):
    prepare("market1501", raw, tmp_path, progress=False)
    directory = tmp_path / "market1501" / "1.0.0"
    (records,) = directory.glob("*-train.*")
    if damage == "missing":
        records.unlink()
    elif damage == "truncated":
        records.write_bytes(records.read_bytes()[: records.stat().st_size // 2])
    elif damage == "card":
        (directory / "metadata.json").write_text('{"data_so')
    else:
        (directory / "features.json").unlink()
    with pytest.raises(ValueError, match="is damaged"):
        data.open_split(tmp_path, "market1501", "train")


def test_newest_version(data_dir):
    assert data.dataset_dir(data_dir, "market1501").name == "1.0.0"


def test_bucket(tmp_path, raw):
    """A data set goes to a bucket and comes back; the bucket is a folder in disguise."""

    def local(path):
        return os.fspath(path).replace("gs://bucket", os.fspath(tmp_path))

    def moved(function, path, *args, **kwargs):
        return function(local(path), *args, **kwargs)

    names = ("open", "exists", "isdir", "listdir", "makedirs", "mkdir", "rmtree")
    written = []

    def opened(function, path, mode):
        if "w" in mode and "gs://" in os.fspath(path):
            written.append(os.path.basename(path))
        return function(local(path), mode)

    mocks = dict.fromkeys(names, moved) | {"open": opened}
    with epath.testing.mock_epath(**mocks):
        prepare("market1501", raw, "gs://bucket/data", progress=False)
        source = data.open_split("gs://bucket/data", "market1501", "query")
        assert source[0] == (raw / source.files[0]).read_bytes()
    assert written[-1] == "dataset_info.json"
    assert (tmp_path / "data/market1501/1.0.0/metadata.json").exists()


def test_neither_tensorflow_nor_torch(tmp_path, raw):
    script = f"""
        import sys
        from data_prep.prepare import prepare
        from reid_jax import data

        prepare("market1501", {os.fspath(raw)!r}, {os.fspath(tmp_path)!r}, progress=False)
        source = data.open_split({os.fspath(tmp_path)!r}, "market1501", "train")
        labels, _ = data.identity_labels(source.identities)
        sampler = data.UniformSampler(len(source), batch_size=4, seed=0)
        batches = data.batches(
            source, sampler, labels=labels, seed=0, first_step=0, num_steps=2, image_size=(8, 8)
        )
        assert len(list(batches)) == 2
        print(sorted({{"tensorflow", "torch"}} & set(sys.modules)))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("seed", [0, 1])
def test_identity_labels(seed):
    identities = np.random.Generator(np.random.Philox(seed)).choice([7, 1500, 3, 22], 40)
    labels, identity_of_label = data.identity_labels(identities)
    assert labels.dtype == np.int32
    assert identity_of_label.tolist() == sorted(set(identities.tolist()))
    assert (identity_of_label[labels] == identities).all()


@pytest.mark.parametrize(
    ("identities", "message"),
    [([3, 0, -1, 4], "2 of 4 training images are distractors"), ([], "no training image")],
)
def test_identity_labels_refuse(identities, message):
    with pytest.raises(ValueError, match=message):
        data.identity_labels(np.array(identities, np.int64))


def bilinear(image, height, width):
    """Bilinear interpolation at pixel centres, as a loop."""
    result = np.zeros((height, width, 3))
    for y in range(height):
        for x in range(width):
            v = min(max((y + 0.5) * image.shape[0] / height - 0.5, 0), image.shape[0] - 1)
            u = min(max((x + 0.5) * image.shape[1] / width - 0.5, 0), image.shape[1] - 1)
            top, left = int(v), int(u)
            low, right = min(top + 1, image.shape[0] - 1), min(left + 1, image.shape[1] - 1)
            a, b = v - top, u - left
            result[y, x] = (1 - a) * ((1 - b) * image[top, left] + b * image[top, right]) + a * (
                (1 - b) * image[low, left] + b * image[low, right]
            )
    return result


@pytest.mark.parametrize("size", [(32, 16), (11, 13), None])
@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_decode(size, suffix):
    generator = np.random.Generator(np.random.Philox(2))
    rgb = generator.integers(0, 256, (16, 8, 3), dtype=np.uint8)
    content = cv2.imencode(suffix, rgb[..., ::-1])[1].tobytes()
    got = data.decode(content, size)
    assert got.dtype == np.uint8
    expected = rgb if size is None else bilinear(rgb.astype(float), *size)
    assert np.abs(got - expected).max() <= 1


def test_decode_grey_and_transparent():
    grey = np.arange(128, dtype=np.uint8).reshape(16, 8)
    image = data.decode(cv2.imencode(".png", grey)[1].tobytes(), None)
    assert (image == grey[..., None]).all()
    rgba = np.dstack([grey, grey + 1, grey + 2, grey])
    image = data.decode(cv2.imencode(".png", rgba)[1].tobytes(), None)
    assert (image == rgba[..., 2::-1]).all()


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff"])
def test_decode_refuses(content):
    with pytest.raises(ValueError, match="not a readable image"):
        data.decode(content, None)


def memory_source(images):
    size = len(images)
    return data.Source(
        "memory", "train", [f"{row}.jpg" for row in range(size)], np.ones(size), None, images
    )


@pytest.mark.parametrize("count", [1, 32, 70])
def test_load_images(count):
    source = memory_source([raw_trees.noise(str(row)) for row in range(count)])
    images = data.load_images(source, (12, 6), progress=False)
    expected = [data.decode(source[row], (12, 6)) for row in range(count)]
    assert (images == np.stack(expected)).all()


def test_load_images_names_the_bad_file():
    source = memory_source([raw_trees.noise("a"), b"rubbish"])
    with pytest.raises(ValueError, match=r"memory/train: 1\.jpg: .*not a readable image"):
        data.load_images(source, (12, 6), progress=False)
