"""MatConvNet weights on generated files: outputs of the network they come from, and errors."""

import functools
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io

from references import models as layer_references
from reid_jax import models
from reid_jax.models.norm import BatchNorm
from reid_jax.pretrained import load_matconvnet, load_weights, matconvnet

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from references import matconvnet as reference  # noqa: E402
from references import torch_plain  # noqa: E402

NUM_CLASSES = 7
WIDTH = {"caffenet": 6, "vgg16": 4, "resnet50": 4}
SIDE = {"caffenet": 227, "vgg16": 224, "resnet50": 70}
AVERAGE = np.random.default_rng(0).uniform(90, 130, (5, 4, 3))


def images(name, rows=2):
    rng = np.random.default_rng(1)
    return (50 * rng.gamma(2.0, 1.0, (rows, SIDE[name], SIDE[name], 3)) - 80).astype(np.float32)


@functools.cache
def network(name):
    """A PyTorch net with random weights."""
    torch.manual_seed(0)
    kind = {"caffenet": torch_plain.CaffeNet, "vgg16": torch_plain.VGG16}[name]
    return kind(WIDTH[name], NUM_CLASSES)


def simplenn_layers(name):
    """The net's convolutions and dense layers, which MatConvNet has as convolutions too."""
    net, layers = network(name), []
    if name == "caffenet":
        found = [(f"conv{i}", getattr(net, f"conv{i}")) for i in range(1, 6)]
        dense = [net.fc6, net.fc7, net.fc8]
    else:
        names = [f"conv{s}_{i}" for s, n in enumerate((2, 2, 3, 3, 3), 1) for i in range(1, n + 1)]
        convolutions = [layer for layer in net.features if isinstance(layer, torch.nn.Conv2d)]
        found = list(zip(names, convolutions, strict=True))
        dense = [net.classifier[i] for i in (0, 3, 6)]
    channels = found[-1][1].out_channels
    for layer_name, layer in [*found, *zip(("fc6", "fc7", "fc8"), dense, strict=True)]:
        weight = layer.weight.detach().numpy()
        if layer_name == "fc6":
            side = int(np.sqrt(weight.shape[1] / channels))
            weight = weight.reshape(-1, channels, side, side)
        elif weight.ndim == 2:
            weight = weight[:, :, None, None]
        layers.append((layer_name, weight.transpose(2, 3, 1, 0), layer.bias.detach().numpy()))
    return layers


def saved(name, path, **how):
    if name == "resnet50":
        reference.save_dagnn(path, reference.resnet50_params(4, NUM_CLASSES), AVERAGE)
    else:
        reference.save_simplenn(path, simplenn_layers(name), AVERAGE, **how)
    return path


@functools.cache
def build(name, num_identities=NUM_CLASSES, **options):
    if name == "resnet50":
        options = {"stride": "caffe", **options}
    model = models.build(name, num_identities=num_identities, width=WIDTH[name], **options)
    return model, layer_references.variables(model, images(name, 1))


def expected_taps(name):
    if name == "resnet50":
        return reference.resnet50_taps(reference.resnet50_params(4, NUM_CLASSES), images(name))
    with torch.no_grad():
        taps = network(name)(torch.from_numpy(images(name).transpose(0, 3, 1, 2)))
    return {
        n: t.numpy().transpose(0, 2, 3, 1) if t.ndim == 4 else t.numpy() for n, t in taps.items()
    }


@pytest.mark.parametrize("name", WIDTH)
def test_outputs_equal_the_network_in_the_file(name, tmp_path):
    path = saved(name, tmp_path / "weights.mat")
    model, variables = build(name)
    loaded, report = load_weights(path, model, variables)
    assert jax.tree.map(jnp.shape, loaded) == jax.tree.map(jnp.shape, variables)
    taps = jax.jit(model.apply)(loaded, images(name))
    for tap, expected in expected_taps(name).items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(
            taps[tap] / scale, expected / scale, rtol=0, atol=1e-4, err_msg=tap
        )
    assert report["file"] == "weights.mat"
    assert report["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert report["matched"] == len(jax.tree.leaves(variables))
    assert report["kept"] == []
    assert set(report["left_out"]) == ({"conv1_bias"} if name == "resnet50" else set())
    np.testing.assert_allclose(report["image_mean"], AVERAGE.mean((0, 1)))
    assert report["image_std"] == [1, 1, 1]


def test_files_of_the_older_format(tmp_path):
    model, variables = build("caffenet")
    new, report = load_matconvnet(saved("caffenet", tmp_path / "new.mat"), model, variables)
    old, old_report = load_matconvnet(
        saved("caffenet", tmp_path / "old.mat", old=True), model, variables
    )
    jax.tree.map(np.testing.assert_array_equal, new, old)
    assert report["image_mean"] == old_report["image_mean"]


def test_an_average_that_is_one_colour_or_missing(tmp_path):
    model, variables = build("caffenet")
    for average, mean in (
        (np.array([[[1.0, 2.0, 3.0]]]), [1, 2, 3]),
        (np.array([1.0, 2.0, 3.0]), [1, 2, 3]),
        (np.zeros((0, 0)), None),
    ):
        reference.save_simplenn(tmp_path / "a.mat", simplenn_layers("caffenet"), average)
        assert load_matconvnet(tmp_path / "a.mat", model, variables)[1]["image_mean"] == mean


def test_batch_norm_has_the_epsilon_of_the_files():
    assert BatchNorm.epsilon == matconvnet.EPSILON


@pytest.mark.parametrize(("name", "head"), [("caffenet", "fc8"), ("resnet50", "fc1000")])
@pytest.mark.parametrize("num_identities", [None, 5])
def test_another_head_keeps_its_values_and_is_reported(name, head, num_identities, tmp_path):
    model, variables = build(name, num_identities)
    loaded, report = load_matconvnet(saved(name, tmp_path / "w.mat"), model, variables)
    assert {f"{head}_filter", f"{head}_bias"} <= set(report["left_out"])
    if num_identities:
        assert "classifier of 7 classes" in report["left_out"][f"{head}_filter"]
        assert report["kept"] == ["params/identification/bias", "params/identification/kernel"]
        np.testing.assert_array_equal(
            loaded["params"]["identification"]["kernel"],
            variables["params"]["identification"]["kernel"],
        )


def test_the_maximum_over_the_map_leaves_the_dense_layers_out(tmp_path):
    model, variables = build("caffenet", pooling="max")
    loaded, report = load_matconvnet(saved("caffenet", tmp_path / "w.mat"), model, variables)
    reasons = {name: reason for name, reason in report["left_out"].items() if "pooling" in reason}
    assert set(reasons) == {
        f"{layer}_{leaf}" for layer in ("fc6", "fc7") for leaf in ("filter", "bias")
    }
    assert (
        "from 256 values; the new head has 7 identities from 16" in report["left_out"]["fc8_bias"]
    )
    taps = jax.jit(model.apply)(loaded, images("caffenet"))
    expected = expected_taps("caffenet")["conv5"].max((1, 2))
    np.testing.assert_allclose(taps["embedding"], expected, atol=1e-4 * expected.max())


def test_dead_channels_and_moments_that_are_none(tmp_path):
    model, variables = build("resnet50")
    params = reference.resnet50_params(4, NUM_CLASSES)
    params["bn2a_branch1_moments"][:, 1] = np.sqrt(np.float32(1e-5))
    reference.save_dagnn(tmp_path / "w.mat", params, AVERAGE)
    loaded, _ = load_matconvnet(tmp_path / "w.mat", model, variables)
    variance = loaded["batch_stats"]["res2a"]["shortcut_bn"]["var"]
    assert (variance >= 0).all()
    np.testing.assert_allclose(variance, 0, atol=1e-11)
    params["bn2a_branch1_moments"][3, 1] = 1e-3
    reference.save_dagnn(tmp_path / "w.mat", params, AVERAGE)
    with pytest.raises(ValueError, match=r"second column of bn2a_branch1_moments has 0.001"):
        load_matconvnet(tmp_path / "w.mat", model, variables)


def test_every_misfit_is_named_at_once(tmp_path):
    params = reference.resnet50_params(4, NUM_CLASSES)
    del params["bn3b_branch2c_moments"], params["res5c_branch2b_filter"]
    params["res4a_branch1_filter"] = np.zeros((3, 3, 32, 64), np.float32)
    params["bn_conv1_mult"] = np.zeros(5, np.float32)
    params["extra"] = np.zeros(3, np.float32)
    reference.save_dagnn(tmp_path / "w.mat", params, AVERAGE)
    with pytest.raises(ValueError, match="does not fit the model") as error:
        load_matconvnet(tmp_path / "w.mat", *build("resnet50"))
    message = str(error.value)
    assert (
        "missing: bn3b_branch2c_moments[:, 0], bn3b_branch2c_moments[:, 1], res5c_branch2b_filter;"
    ) in message
    assert "unexpected: extra;" in message
    assert "bn_conv1_mult (5,) instead of (4,)" in message
    assert "res4a_branch1_filter (3, 3, 32, 64) instead of (1, 1, 32, 64)" in message
    assert message.endswith("Is it the same network?")


def test_weights_of_another_network_or_image_size(tmp_path):
    paths = {name: saved(name, tmp_path / f"{name}.mat") for name in WIDTH}
    for of_file, of_model, sentence in (
        ("resnet50", "vgg16", "file looks like ResNet-50, the model like VGG16"),
        ("caffenet", "resnet50", "file looks like AlexNet or CaffeNet, the model like ResNet-50"),
        ("vgg16", "caffenet", "file looks like VGG16, the model like AlexNet or CaffeNet"),
    ):
        with pytest.raises(ValueError, match=sentence):
            load_matconvnet(paths[of_file], *build(of_model))
    model, _ = build("caffenet")
    narrow = layer_references.variables(model, np.zeros((1, 128, 64, 3), np.float32))
    with pytest.raises(
        ValueError, match=r"fc6_filter \(6, 6, 16, 256\) instead of \(3, 1, 16, 256\).*227 x 227"
    ):
        load_matconvnet(paths["caffenet"], model, narrow)


def test_layout_and_files_that_cannot_be_used(tmp_path):
    model, variables = build("resnet50")
    path = saved("resnet50", tmp_path / "w.mat")
    with pytest.raises(ValueError, match="stride='torchvision': build it with stride='caffe'"):
        load_matconvnet(path, model.clone(stride="torchvision"), variables)
    with pytest.raises(ValueError, match="no weights for NineConv, only for CaffeNet, ResNet, VGG"):
        load_matconvnet(path, models.build("nine_conv"), variables)
    with pytest.raises(ValueError, match=r"give siamese\.backbone"):
        load_matconvnet(path, models.Siamese(model.clone(num_identities=None), "square"), variables)
    with pytest.raises(ValueError, match="there is no weights file"):
        load_matconvnet(tmp_path / "none.mat", model, variables)
    (tmp_path / "broken.mat").write_bytes(path.read_bytes()[:3000])
    with pytest.raises(
        ValueError, match=r"broken.mat is not a MatConvNet network .* or is damaged"
    ):
        load_matconvnet(tmp_path / "broken.mat", model, variables)
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM"
    (tmp_path / "new.mat").write_bytes(header.ljust(512, b"\x00"))
    with pytest.raises(ValueError, match=r"new.mat is a MATLAB 7.3 file"):
        load_matconvnet(tmp_path / "new.mat", model, variables)
    scipy.io.savemat(tmp_path / "other.mat", {"net": {"a": 1.0}, "stats": 2.0})
    with pytest.raises(ValueError, match="at its top, and holds net, stats"):
        load_matconvnet(tmp_path / "other.mat", model, variables)
    with pytest.raises(ValueError, match=r"known endings are .mat, .pt, .pth, .safetensors"):
        load_weights(tmp_path / "weights.npz", model, variables)
