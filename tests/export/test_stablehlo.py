"""The StableHLO file embeds as the embedder does, in a process that has JAX alone."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import tiny_embedders
from jax import export as jax_export
from search_parts import make_embedder, people_source

from reid_jax import Scoring, decide, export

# In a process of its own: the card's program, on images of a file, with what it must not import.
PROGRAM = """
import sys
{loader}
images = np.load("images.npy")
np.save("embeddings.npy", np.concatenate([embed(images[:3]), embed(images[3:])]))
tops = {{name.split(".")[0] for name in sys.modules}}
print(sorted(tops & {{"reid_jax", "flax", "torch", "cv2"}}))
"""


def test_the_cards_program_gives_the_embedders_rows_with_jax_alone(tmp_path):
    embedder = tiny_embedders.embedder("resnet18", width=4)
    images = tiny_embedders.images(8)
    np.save(tmp_path / "images.npy", images)
    card = export.stablehlo(embedder, tmp_path / "model.stablehlo")
    program = PROGRAM.format(loader=card["loader"])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr
    found, expected = np.load(tmp_path / "embeddings.npy"), embedder(images)
    assert found.shape == (8, 32)
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "scoring"),
    [
        ("resnet18", {"width": 4}, Scoring(test_mode="dense_flip")),
        ("nine_conv", {"width": 2}, Scoring(normalise=False)),
        ("caffenet", {"width": 6, "size": (64, 48)}, None),
    ],
)
@pytest.mark.slow
def test_one_file_is_for_any_rows_and_platform(tmp_path, name, options, scoring):
    embedder = tiny_embedders.embedder(name, scoring=scoring, **options)
    path = tmp_path / "model.stablehlo"
    card = export.stablehlo(embedder, path)
    read = jax_export.deserialize(bytearray(path.read_bytes()))
    assert read.platforms == ("cpu", "cuda", "tpu") == tuple(card["platforms"])
    # A gather in the place of a slice would cost an exported network its speed.
    assert "stablehlo.gather" not in read.mlir_module()
    images = tiny_embedders.images(5, embedder.input_size)
    expected = embedder(images)
    found = np.concatenate([read.call(images[:1]), read.call(images[1:])])
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.slow
def test_depthwise_convolutions_take_any_number_of_rows(tmp_path):
    embedder = tiny_embedders.efficientnet_lite0()
    export.stablehlo(embedder, tmp_path / "model.stablehlo")
    read = jax_export.deserialize(bytearray((tmp_path / "model.stablehlo").read_bytes()))
    assert "stablehlo.gather" not in read.mlir_module()
    images = tiny_embedders.images(5, embedder.input_size)
    found = np.concatenate([read.call(images[:1]), read.call(images[1:])])
    np.testing.assert_allclose(found, embedder(images), rtol=0, atol=1e-5)


def test_the_card_says_what_is_known(tmp_path):
    embedder = tiny_embedders.embedder("resnet18", width=4)
    evaluation = {"protocol": "single-query", "metrics": {"rank1": 0.75}}
    evaluation |= {"data_source": "stand-in"}
    path = tmp_path / "model.stablehlo"
    embedder = embedder.with_decision(decide.measure(make_embedder(), {"val": people_source()}))
    card = export.stablehlo(embedder, path, evaluation=evaluation)
    assert card["operating"] == embedder.decision.as_json()
    assert card == json.loads((tmp_path / "model.stablehlo.json").read_text())
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["input"]["shape"] == ["batch", 64, 32, 3]
    assert card["trained_on"]["dataset"] == "market1501"
    assert card["training"]["steps"] == 7
    assert card["evaluation"] == evaluation
    text = (tmp_path / "model.stablehlo.md").read_text()
    for part in (
        card["sha256"],
        card["loader"],
        "0.75",
        "12936",
        "32 x 64",
        "unit length",
        "rendered",
        "| equal error | 25.00 %, up to a distance of 0.07",
        "8 validation people of rendered (custom)",
    ):
        assert part in text
    assert "Not known" not in text


def test_a_card_without_facts_says_so(tmp_path):
    embedder = tiny_embedders.embedder("nine_conv", width=2, size=(32, 16))
    object.__setattr__(embedder, "provenance", {})
    export.stablehlo(embedder, tmp_path / "model.stablehlo")
    text = (tmp_path / "model.stablehlo.md").read_text()
    assert "the model does not say" in text
    assert "No threshold was measured." in text
    assert "measure it on images of your own" in text


@pytest.mark.parametrize("form", export.FORMS)
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("csn", {}, "scores pairs of images"),
        ("nine_conv", {"width": 2, "test_statistics": "batch"}, "statistics of the batch"),
    ],
)
def test_an_embedding_that_is_no_function_of_the_image_is_refused(
    tmp_path, form, name, options, message
):
    from reid_jax import Embedder, Preprocess, models

    embedder = Embedder(models.build(name, **options), {}, Preprocess(size=(160, 60)))
    with pytest.raises(ValueError, match=message):
        export.FORMS[form](embedder, tmp_path / f"model{form}")
    assert not list(tmp_path.iterdir())
