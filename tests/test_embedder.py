"""Embedders from Python: files, and what is refused before any work is lost."""

import dataclasses
import json

import cv2
import jax
import numpy as np
import optax
import pytest

import reid_jax as rj

SIZE = (32, 32)
IDENTITIES = 3


def fresh(model, size=SIZE):
    """Numbers in the form of a network's variables, without compiling its initialisers."""
    example = [jax.ShapeDtypeStruct((1, *size, 3), np.float32)] * model.num_images
    shapes = jax.eval_shape(lambda *x: model.init(jax.random.key(0), *x, train=False), *example)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.uniform(0.01, 0.1, leaf.shape).astype(leaf.dtype), shapes)


@pytest.fixture(scope="module")
def embedder():
    model = rj.models.build("resnet18", width=4)
    return rj.Embedder(
        model=model,
        variables=fresh(model),
        preprocess=rj.Preprocess(size=SIZE),
        provenance={"data": "none"},
    )


@pytest.fixture(scope="module")
def pair_embedder():
    model = rj.models.build("csn", width=3)
    size = model.smallest_image
    return rj.Embedder(
        model=model, variables=fresh(model, size), preprocess=rj.Preprocess(size=size)
    )


def pictures(count, size=SIZE):
    return np.random.default_rng(count).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def source(count=6, size=SIZE):
    """A source whose images are in memory."""
    images = [cv2.imencode(".png", picture)[1].tobytes() for picture in pictures(count, size)]
    return rj.data.Source(
        dataset="made_up",
        split="train",
        files=[f"{row}.png" for row in range(count)],
        identities=1 + np.arange(count) % IDENTITIES,
        cameras=None,
        images=images,
    )


def fit(model, objective, workdir, *, size=SIZE, sampler=None):
    images = source(size=size)
    return rj.fit(
        model,
        objective,
        images,
        sampler=sampler or rj.data.UniformSampler(len(images), batch_size=2, seed=0),
        optimizer=optax.sgd(0.1),
        preprocess=rj.Preprocess(size=size),
        num_steps=1,
        seed=0,
        workdir=workdir,
    )


# Saved models ----------------------------------------------------------------------------------


def changed(directory, change):
    path = directory / "embedder.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_a_saved_model_embeds_as_before(embedder, tmp_path):
    images = pictures(3, (40, 20))
    embedder.save(tmp_path / "model")
    loaded = rj.Embedder.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded(images), embedder(images))
    assert (loaded.scoring, loaded.provenance) == (embedder.scoring, embedder.provenance)


@pytest.mark.parametrize("version", [None, 0, 2])
def test_a_saved_model_of_another_version_is_refused(embedder, tmp_path, version):
    embedder.save(tmp_path)
    changed(tmp_path, lambda record: record.update(format=version))
    with pytest.raises(ValueError, match=f"is of format {version}, and this version .* format 1"):
        rj.Embedder.load(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-7],
        lambda content: b"",
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    ],
    ids=["cut", "empty", "one bit"],
)
def test_damaged_variables_are_refused(embedder, tmp_path, damage):
    embedder.save(tmp_path)
    path = tmp_path / "variables.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"variables\.safetensors is not the file that"):
        rj.Embedder.load(tmp_path)


def test_missing_files_are_named(embedder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no embedder\.json$"):
        rj.Embedder.load(tmp_path)
    embedder.save(tmp_path)
    (tmp_path / "variables.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="safetensors is missing: save the model again"):
        rj.Embedder.load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_record_that_is_no_json_object_is_refused(embedder, tmp_path, content):
    embedder.save(tmp_path)
    (tmp_path / "embedder.json").write_text(content)
    with pytest.raises(ValueError, match=r"embedder\.json"):
        rj.Embedder.load(tmp_path)


def without(name):
    return lambda record: record.pop(name)


@pytest.mark.parametrize(
    "change",
    [
        *map(without, ("network", "preprocess", "scoring", "provenance")),
        lambda record: record["scoring"].update(test_mode="denseflip"),
        lambda record: record["scoring"].update(colour="red"),
        lambda record: record["preprocess"].pop("size"),
        lambda record: record["network"].update(colour="red"),
        lambda record: record["network"].pop("name"),
    ],
    ids=[
        *("no network", "no preprocess", "no scoring", "no provenance"),
        *("mode", "scoring", "size", "option", "name"),
    ],
)
def test_a_record_that_was_edited_is_refused_by_name(embedder, tmp_path, change):
    embedder.save(tmp_path)
    changed(tmp_path, change)
    with pytest.raises(ValueError, match=str(tmp_path)):
        rj.Embedder.load(tmp_path)


def test_variables_of_another_network_are_refused(embedder, tmp_path):
    embedder.save(tmp_path)
    changed(tmp_path, lambda record: record["network"]["options"].update(width=8))
    with pytest.raises(ValueError, match=r"do not fit its network:\n  .*bn1"):
        rj.Embedder.load(tmp_path)


def test_nothing_but_a_saved_model_is_replaced(embedder, tmp_path):
    (tmp_path / "thesis.tex").write_text("ten years")
    with pytest.raises(FileExistsError, match="holds something that is no saved model"):
        embedder.save(tmp_path)
    with pytest.raises(FileExistsError, match="holds something that is no saved model"):
        embedder.save(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    embedder.save(tmp_path / "model")
    other = dataclasses.replace(embedder, provenance={"data": "other"})
    other.save(tmp_path / "model")
    assert rj.Embedder.load(tmp_path / "model").provenance == {"data": "other"}


# Images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("nothing", [[], (), np.zeros((0, 32, 32, 3), np.uint8)])
def test_no_images_are_refused(embedder, nothing):
    with pytest.raises(ValueError, match="there is no image: expected at least one"):
        embedder(nothing)
    with pytest.raises(ValueError, match="there is no image"):
        embedder.distances(pictures(1), nothing)


def test_all_unreadable_images_are_named_at_once(embedder, tmp_path):
    paths = [tmp_path / name for name in ("good.png", "text.jpg", "gone.png", "empty.png")]
    cv2.imwrite(str(paths[0]), pictures(1)[0])
    paths[1].write_text("no image")
    paths[3].write_bytes(b"")
    with pytest.raises(ValueError, match=r"^3 of 4 images cannot be read:\n") as error:
        embedder(paths)
    for path in paths[1:]:
        assert str(path) in str(error.value)
    assert "good.png" not in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        pictures(1)[0][..., 0],
        np.concatenate([pictures(1)[0], pictures(2)[0][..., :1]], -1),
        pictures(1)[0].astype(np.uint16) * 257,
        pictures(1)[0][..., 0].astype(np.uint16) * 257,
    ],
    ids=["grey", "RGBA", "16 bits", "grey of 16 bits"],
)
def test_files_are_decoded_as_everywhere(embedder, tmp_path, content):
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), content)
    decoded = rj.data.decode(path.read_bytes(), None)
    assert (decoded.shape, decoded.dtype) == ((*SIZE, 3), np.uint8)
    np.testing.assert_array_equal(embedder([path]), embedder([decoded]))


@pytest.mark.parametrize(
    "array",
    [
        pictures(1)[0].astype(np.float32) / 255,
        pictures(1)[0].astype(np.int64),
        pictures(1)[0][..., 0],
        np.zeros((32, 32, 4), np.uint8),
        np.zeros((0, 32, 3), np.uint8),
    ],
    ids=["float", "int64", "grey", "RGBA", "empty"],
)
def test_arrays_of_another_kind_are_refused(embedder, array):
    expected = r"^1 of 2 images cannot be read:\n  image 1 is .*; expected uint8 \[H, W, 3\], RGB"
    with pytest.raises(ValueError, match=expected):
        embedder([pictures(1)[0], array])


@pytest.mark.parametrize("single", ["a.png", 3, pictures(1)[0]], ids=["path", "number", "array"])
def test_a_single_image_is_to_be_put_into_a_list(embedder, single):
    with pytest.raises((TypeError, ValueError), match=r"list of|expected uint8 \[H, W, 3\]"):
        embedder(single)


def test_a_network_that_scores_pairs_has_distances_alone(pair_embedder):
    images = pictures(3)
    with pytest.raises(ValueError, match=r"use distances\(queries, gallery\)"):
        pair_embedder(images)
    with pytest.raises(ValueError, match=r"use distances\(queries, gallery\)"):
        pair_embedder.embed  # noqa: B018
    distances = pair_embedder.distances(images[:1], images)
    assert distances.shape == (1, 3)
    assert np.isfinite(distances).all()


# Before training -------------------------------------------------------------------------------


def softmax():
    return rj.objectives.softmax()


def csn():
    return rj.objectives.csn(
        ranking_weight=1.0, margin=1.0, prior_weight=0.1, min_scale=0.1, limit=1.0
    )


def refused(match, model, objective, workdir, **how):
    with pytest.raises(ValueError, match=match):
        fit(model, objective, workdir, **how)
    assert not workdir.exists() or not list(workdir.iterdir())


def test_an_image_size_that_the_network_cannot_take(tmp_path):
    model = rj.models.build("csn", width=3)
    pairs = rj.data.PairSampler(
        source().identities,
        None,
        num_pairs=2,
        negatives_per_positive=1.0,
        cross_camera=False,
        seed=0,
    )
    refused("too small for a CSN", model, csn(), tmp_path / "run", size=(8, 8), sampler=pairs)
    model = rj.models.build("resnet18", width=4, num_identities=IDENTITIES)
    refused("too small for a ResNet", model, softmax(), tmp_path / "run", size=(1, 1))


@pytest.mark.parametrize("name", ["resnet18", "nine_conv"])
def test_a_model_without_the_head_that_the_objective_needs(tmp_path, name):
    model = rj.models.build(name, width=4)
    refused("needs 'logits', .*num_identities=K", model, softmax(), tmp_path / "run")


def test_a_head_for_another_number_of_identities(tmp_path):
    model = rj.models.build("resnet18", width=4, num_identities=IDENTITIES + 1)
    match = "head for 4 identities, and the training images are of 3"
    refused(match, model, softmax(), tmp_path / "run")


def test_a_pair_sampler_with_a_network_for_single_images(tmp_path):
    model = rj.models.build("resnet18", width=4, num_identities=IDENTITIES)
    pairs = rj.data.PairSampler(
        source().identities,
        None,
        num_pairs=2,
        negatives_per_positive=1.0,
        cross_camera=False,
        seed=0,
    )
    match = "ResNet takes single images, and PairSampler gives pairs of images"
    refused(match, model, softmax(), tmp_path / "run", sampler=pairs)


def test_an_objective_for_pairs_with_a_network_for_single_images(tmp_path):
    model = rj.models.build("resnet18", width=4, num_identities=IDENTITIES)
    refused("needs 'same' of the batch, .*take a PairSampler", model, csn(), tmp_path / "run")


def test_a_sampler_of_another_source(tmp_path):
    model = rj.models.build("resnet18", width=4, num_identities=IDENTITIES)
    sampler = rj.data.UniformSampler(600, batch_size=2, seed=0)
    refused("there are 6 training images", model, softmax(), tmp_path / "run", sampler=sampler)


def test_one_identity_is_nothing_to_tell_apart(tmp_path):
    one = dataclasses.replace(source(), identities=np.ones(6, np.int64))
    with pytest.raises(ValueError, match="nothing to tell apart"):
        rj.training.trainer.training_labels(one)
