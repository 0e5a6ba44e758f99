"""torchvision's names and layouts: the loader's inverse, bit for bit."""

import jax
import numpy as np
import pytest
import safetensors.numpy
import tiny_embedders

from reid_jax import Scoring, export
from reid_jax.pretrained import load_weights


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_load_weights_takes_the_file_bit_for_bit(tmp_path, name):
    embedder = tiny_embedders.embedder(name, width=4)
    path = tmp_path / "model.safetensors"
    card = export.torchvision_safetensors(embedder, path)
    zeros = jax.tree.map(np.zeros_like, embedder.variables)
    loaded, report = load_weights(path, embedder.model, zeros)
    jax.tree.map(np.testing.assert_array_equal, loaded, embedder.variables)
    assert report["matched"] == len(jax.tree.leaves(embedder.variables))
    assert not report["left_out"]
    assert not report["kept"]
    assert card["output"]["shape"][1] == {"resnet18": 32, "resnet50": 128}[name]
    tensors = safetensors.numpy.load_file(path)
    assert tensors["conv1.weight"].shape == (4, 3, 7, 7)
    assert {"layer4.1.bn2.running_var", "layer2.0.downsample.0.weight"} <= set(tensors)


def test_the_cards_program_says_what_is_not_inside(tmp_path):
    embedder = tiny_embedders.embedder("resnet18")
    card = export.torchvision_safetensors(embedder, tmp_path / "model.safetensors")
    assert "resnet.BasicBlock, [2, 2, 2, 2])" in card["loader"]
    assert "[110.0, 105.0, 100.0]" in card["loader"]
    assert "normalize(embeddings)" in card["loader"]
    compile(card["loader"], "loader", "exec")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vgg16", {"width": 4}, "only for ResNet"),
        ("resnet18", {"width": 4, "stride": "caffe"}, "stride='torchvision'"),
        ("resnet18", {"width": 4, "pooling": "max"}, "another embedding"),
        ("resnet18", {"width": 4, "scoring": Scoring(test_mode="dense_flip")}, "another embedding"),
        ("resnet18", {"width": 4, "mean": np.ones((64, 32, 3))}, "a mean image"),
    ],
)
def test_what_torchvision_would_not_compute_is_refused(tmp_path, name, options, message):
    with pytest.raises(ValueError, match=message):
        export.torchvision_safetensors(
            tiny_embedders.embedder(name, **options), tmp_path / "model.safetensors"
        )
    assert not list(tmp_path.iterdir())
