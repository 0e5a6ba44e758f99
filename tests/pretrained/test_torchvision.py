"""torchvision weights: same outputs as PyTorch, and errors that name every tensor."""

import hashlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from reid_jax import models
from reid_jax.pretrained import load_torchvision, load_weights

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from references import models as layer_references  # noqa: E402
from references import torch_plain, torch_resnet  # noqa: E402

NUM_CLASSES = 7


def images(rows=3, size=(64, 32)):
    rng = np.random.default_rng(0)
    return (rng.gamma(2.0, 1.0, (rows, *size, 3)) - 1).astype(np.float32)


def reference(depth):
    """A PyTorch net with random weights and random running statistics."""
    torch.manual_seed(depth)
    net = torch_resnet.ResNet(depth, NUM_CLASSES)
    for name, tensor in net.state_dict().items():
        if name.endswith("running_mean"):
            tensor.uniform_(-0.3, 0.3)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif tensor.ndim == 1 and tensor.is_floating_point():
            tensor.uniform_(0.2, 0.8)
    return net


def saved(net, path):
    state = net.state_dict() if isinstance(net, torch.nn.Module) else net
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        arrays = {name: np.ascontiguousarray(value.numpy()) for name, value in state.items()}
        safetensors.numpy.save_file(arrays, path)
    return path


def build(depth, num_identities=NUM_CLASSES, **options):
    model = models.build(f"resnet{depth}", num_identities=num_identities, **options)
    return model, layer_references.variables(model, images(1))


def assert_taps_equal(taps, expected):
    for name, tap in expected.items():
        tap = tap.detach().numpy()
        tap = tap.transpose(0, 2, 3, 1) if tap.ndim == 4 else tap
        scale = np.abs(tap).max()
        np.testing.assert_allclose(taps[name] / scale, tap / scale, rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("depth", [18, 50])
def test_outputs_equal_pytorch(depth, tmp_path):
    net = reference(depth)
    model, variables = build(depth)
    counters = [name for name in net.state_dict() if name.endswith("num_batches_tracked")]
    trees = []
    for suffix in (".pth", ".safetensors"):
        path = saved(net, tmp_path / f"weights{suffix}")
        loaded, report = load_torchvision(path, model, variables)
        trees.append(loaded)
        assert jax.tree.map(jnp.shape, loaded) == jax.tree.map(jnp.shape, variables)
        assert report["file"] == f"weights{suffix}"
        assert report["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert report["matched"] == len(net.state_dict()) - len(counters)
        assert report["matched"] == len(jax.tree.leaves(variables))
        assert set(report["left_out"]) == set(counters)
        assert report["kept"] == []
    jax.tree.map(np.testing.assert_array_equal, *trees)

    nchw = torch.from_numpy(images().transpose(0, 3, 1, 2))
    assert_taps_equal(jax.jit(model.apply)(loaded, images()), net.eval()(nchw))
    taps, updates = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))(
        loaded, images()
    )
    assert_taps_equal(taps, net.train()(nchw))
    # PyTorch's running statistics have moved in that call; ours must have moved alike.
    path = saved(net, tmp_path / "after.safetensors")
    after, _ = load_torchvision(path, model, variables)
    jax.tree.map(
        lambda got, expected: np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4),
        updates["batch_stats"],
        after["batch_stats"],
    )


def build_vgg(num_identities=NUM_CLASSES, **options):
    model = models.build("vgg16", width=4, num_identities=num_identities, **options)
    return model, layer_references.variables(model, images(1, (224, 224)))


def test_vgg16_outputs_equal_pytorch(tmp_path):
    """fc6 too, whose columns torchvision has in another order."""
    torch.manual_seed(0)
    net = torch_plain.VGG16(4, NUM_CLASSES).eval()
    path = saved(net, tmp_path / "weights.pth")
    image = images(2, (224, 224))
    with torch.no_grad():
        expected = net(torch.from_numpy(image.transpose(0, 3, 1, 2)))
    model, variables = build_vgg()
    loaded, report = load_weights(path, model, variables)
    assert_taps_equal(jax.jit(model.apply)(loaded, image), expected)
    assert report["matched"] == len(net.state_dict()) == 32
    assert report["left_out"] == {}
    assert report["image_std"] == [58.395, 57.12, 57.375]

    model, variables = build_vgg(5, pooling="max")
    loaded, report = load_weights(path, model, variables)
    assert {name for name, reason in report["left_out"].items() if "pooling" in reason} == {
        "classifier.0.weight",
        "classifier.0.bias",
        "classifier.3.weight",
        "classifier.3.bias",
    }
    assert "the new head has 5 identities from 32" in report["left_out"]["classifier.6.weight"]
    taps = jax.jit(model.apply)(loaded, image)
    np.testing.assert_allclose(taps["embedding"], expected["conv5"].amax((2, 3)), atol=1e-4)


def test_vgg16_that_does_not_fit(tmp_path):
    path = saved(torch_plain.VGG16(4, NUM_CLASSES), tmp_path / "weights.pth")
    model, variables = build_vgg()
    small = layer_references.variables(model, images(1, (128, 64)))
    with pytest.raises(
        ValueError,
        match=r"classifier.0.weight \(256, 32, 7, 7\) instead of \(256, 32, 4, 2\).*224 x 224",
    ):
        load_torchvision(path, model, small)
    with pytest.raises(ValueError, match="file looks like VGG16, the model like ResNet-18"):
        load_torchvision(path, *build(18))
    state = torch_plain.VGG16(4, NUM_CLASSES).state_dict()
    for index in (0, 2):
        state[f"features.{index}.running_mean"] = torch.zeros(4)
    with pytest.raises(ValueError, match=r"file looks like a network that is not known .* norm"):
        load_torchvision(saved(state, tmp_path / "bn.pth"), model, variables)
    with pytest.raises(
        ValueError, match="torchvision has no weights for CaffeNet, only for ResNet"
    ):
        load_torchvision(path, models.build("caffenet"), variables)


@pytest.mark.parametrize("num_identities", [None, 5])
def test_another_head_keeps_its_values_and_is_reported(num_identities, tmp_path):
    path = saved(reference(18), tmp_path / "weights.safetensors")
    model, variables = build(18, num_identities)
    loaded, report = load_torchvision(path, model, variables)
    assert {"fc.weight", "fc.bias"} <= set(report["left_out"])
    if num_identities:
        assert "classifier of 7 classes" in report["left_out"]["fc.weight"]
        assert report["kept"] == ["params/identification/bias", "params/identification/kernel"]
        np.testing.assert_array_equal(
            loaded["params"]["identification"]["kernel"],
            variables["params"]["identification"]["kernel"],
        )
    else:
        assert report["kept"] == []
    assert np.any(loaded["params"]["conv1"]["kernel"] != variables["params"]["conv1"]["kernel"])


def test_siamese_backbone(tmp_path):
    net = reference(18)
    path = saved(net, tmp_path / "weights.pth")
    model = models.Siamese(models.build("resnet18"), "square", num_identities=5)
    variables = layer_references.variables(model, images(1), images(1))
    loaded, _ = load_torchvision(path, model.backbone, models.backbone_variables(variables))
    taps = jax.jit(model.backbone.apply)(loaded, images())
    expected = net.eval()(torch.from_numpy(images().transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(taps["embedding"], expected["pool5"].detach(), atol=1e-4)


def test_every_misfit_is_named_at_once(tmp_path):
    state = reference(18).state_dict()
    del state["layer2.0.bn1.running_var"], state["layer4.1.conv2.weight"]
    state["layer3.0.conv1.weight"] = torch.zeros(256, 128, 1, 1)
    state["bn1.bias"] = torch.zeros(65)
    state["layer9.extra"] = torch.zeros(3)
    path = saved(state, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="does not fit the model") as error:
        load_torchvision(path, *build(18))
    message = str(error.value)
    assert "missing: layer2.0.bn1.running_var, layer4.1.conv2.weight" in message
    assert "unexpected: layer9.extra" in message
    assert "bn1.bias (65,) instead of (64,)" in message
    assert "layer3.0.conv1.weight (256, 128, 1, 1) instead of (256, 128, 3, 3)" in message


def test_weights_of_the_other_network(tmp_path):
    path = saved(reference(18), tmp_path / "weights.safetensors")
    with pytest.raises(
        ValueError,
        match=r"missing: .*layer1.0.conv3.weight.*looks like ResNet-18, the model like ResNet-50",
    ):
        load_torchvision(path, *build(50))


def test_layout_and_files_that_cannot_be_used(tmp_path):
    model, variables = build(18)
    path = saved(reference(18), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="stride='caffe': build it with stride='torchvision'"):
        load_torchvision(path, model.clone(stride="caffe"), variables)
    with pytest.raises(ValueError, match="there is no weights file"):
        load_torchvision(tmp_path / "none.pth", model, variables)
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(path.read_bytes()[:1000])
        with pytest.raises(ValueError, match=r"is cut short or damaged|is not a readable"):
            load_torchvision(tmp_path / name, model, variables)
    (tmp_path / "weights.npz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"must be a .safetensors, .pth, .pt or .pth.tar file"):
        load_torchvision(tmp_path / "weights.npz", model, variables)
    torch.save(reference(18), tmp_path / "model.pth")
    with pytest.raises(ValueError, match="holds a whole model and would call"):
        load_torchvision(tmp_path / "model.pth", model, variables)


@pytest.mark.parametrize("zipped", [True, False])
def test_pth_is_read_without_pytorch(zipped, tmp_path, monkeypatch):
    """Both formats, one level down, with the prefix of DataParallel."""
    state = reference(18).state_dict()
    value = {"epoch": 3, "state_dict": {f"module.{name}": t for name, t in state.items()}}
    path = tmp_path / "weights.pth"
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    plain, _ = load_torchvision(saved(state, tmp_path / "plain.safetensors"), *build(18))
    monkeypatch.setitem(sys.modules, "torch", None)
    loaded, report = load_torchvision(path, *build(18), prefix="module.")
    assert (report["entry"], report["prefix"]) == ("state_dict", "module.")
    jax.tree.map(np.testing.assert_array_equal, loaded, plain)
