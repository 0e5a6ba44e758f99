"""ONNX Runtime gives the embedder's rows, and what has no translation is refused by name."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_embedders

from reid_jax import Scoring, export

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from reid_jax.export.translation import model_of  # noqa: E402

CASES = {
    "resnet18": ("resnet18", {"width": 4}),
    "resnet50": ("resnet50", {"width": 4}),
    "caffe-layout": ("resnet18", {"width": 4, "stride": "caffe", "pooling": "max"}),
    "vgg16": ("vgg16", {"width": 4}),
    "caffenet": ("caffenet", {"width": 6, "size": (64, 48)}),
    "nine_conv": ("nine_conv", {"width": 4, "size": (33, 17), "feature_reweighting": True}),
    "dense_flip": ("resnet18", {"width": 4, "scoring": Scoring(test_mode="dense_flip")}),
    "mean-image": ("nine_conv", {"width": 2, "mean": np.arange(64 * 32 * 3.0).reshape(64, 32, 3)}),
}


def session(content):
    if not isinstance(content, bytes):
        content = content.read_bytes()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


SLOW = {"resnet50": pytest.mark.slow}  # resnet18 has its operations but for the wider blocks


@pytest.mark.parametrize("case", [pytest.param(c, marks=SLOW.get(c, ())) for c in CASES])
def test_onnx_runtime_gives_the_embedders_rows(tmp_path, case):
    name, options = CASES[case]
    embedder = tiny_embedders.embedder(name, **options)
    path = tmp_path / "model.onnx"
    card = export.onnx(embedder, path)
    images = tiny_embedders.images(100, embedder.input_size)
    model = session(path)
    (given,), (output,) = model.get_inputs(), model.get_outputs()
    assert (given.name, given.type) == ("images", "tensor(uint8)")
    assert (given.shape[1:], output.name) == ([*embedder.input_size, 3], "embeddings")
    found = np.concatenate(
        [model.run(None, {"images": images[k:][:33]})[0] for k in (0, 33, 66, 99)]
    )
    expected = embedder(images)
    assert found.shape == expected.shape == (100, card["output"]["shape"][1])
    assert np.abs(found - expected).max() < 1e-5
    assert expected.std(0).max() > 1e-3  # Rows of different images differ by far more.


@pytest.mark.slow
def test_depthwise_convolutions_are_grouped_ones_of_onnx(tmp_path):
    embedder = tiny_embedders.efficientnet_lite0()
    export.onnx(embedder, tmp_path / "model.onnx")
    images = tiny_embedders.images(100, embedder.input_size)
    (found,) = session(tmp_path / "model.onnx").run(None, {"images": images})
    expected = embedder(images)
    assert np.abs(found - expected).max() < 1e-5
    assert expected.std(0).max() > 1e-3
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    groups = [a.i for n in nodes if n.op_type == "Conv" for a in n.attribute if a.name == "group"]
    assert (len(groups), sum(group > 1 for group in groups)) == (49, 16)


def test_axes_are_not_transposed_to_and_fro_and_constants_have_names(tmp_path):
    embedder = tiny_embedders.embedder("resnet18", width=4)
    export.onnx(embedder, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    operators = [node.op_type for node in graph.node]
    assert operators.count("Transpose") == 1  # Of the images.
    assert operators.count("Conv") == 20
    constants = {constant.name: list(constant.dims) for constant in graph.initializer}
    assert constants["res2a/conv1/kernel"] == [4, 4, 3, 3]
    assert not {node.op_type for node in graph.node} & {"If", "Loop", "Expand"}


def test_another_dtype_is_written_in_float32_and_said(tmp_path):
    embedder = tiny_embedders.embedder("nine_conv", width=2, dtype=jnp.bfloat16, size=(32, 16))
    card = export.onnx(embedder, tmp_path / "model.onnx")
    assert card["notes"] == ["Computes in float32, where the network was made for bfloat16."]
    images = tiny_embedders.images(4, (32, 16))
    wide = dataclasses.replace(embedder, model=embedder.model.clone(dtype=None))
    (found,) = session(tmp_path / "model.onnx").run(None, {"images": images})
    np.testing.assert_allclose(found, wide(images), atol=1e-5)


def translated(function):
    return model_of(function, {}, (4, 6), description="A function.").SerializeToString()


FUNCTIONS = {
    "transpose and concatenate": lambda x: jnp.concatenate(
        [x.transpose(0, 2, 1, 3).reshape(x.shape[0], -1), x.max((1, 2))], 1
    ),
    "pad and slice": lambda x: jax.lax.slice_in_dim(
        jnp.pad(x, ((0, 0), (1, 2), (0, 1), (0, 0))), 0, 6, 2, axis=1
    ).sum((1, 2)),
    "concatenate what is repeated": lambda x: jnp.concatenate(
        [x.sum((1, 2)), jnp.broadcast_to(jnp.arange(5.0), (x.shape[0], 5))], 1
    ),
    "sum of what is repeated": lambda x: (
        x.sum((1, 2))
        + jnp.broadcast_to(x.mean((1, 2, 3))[:, None], (x.shape[0], 3)).sum(1)[:, None]
    ),
    "elementary": lambda x: jnp.where(
        x.max((1, 2)) > 250,
        jax.nn.sigmoid(x.max((1, 2)) / 255),
        jnp.tanh(x.sum((1, 2)) / 5000) ** 3,
    ),
    "branch for a platform": lambda x: jax.lax.platform_dependent(
        x.sum((1, 2)), cpu=lambda y: 1 * y, default=lambda y: y
    ),
}


@pytest.mark.parametrize("case", FUNCTIONS)
def test_translations_of_what_networks_may_do(case):
    function = lambda variables, images: FUNCTIONS[case](images.astype(jnp.float32))
    images = tiny_embedders.images(7, (4, 6))
    (found,) = session(translated(function)).run(None, {"images": images})
    np.testing.assert_allclose(found, function({}, images), rtol=1e-5, atol=1e-5)


def test_an_unknown_primitive_is_refused_by_name():
    with pytest.raises(ValueError, match=r"primitive 'sort'.*\.stablehlo"):
        translated(lambda variables, images: jnp.sort(images.astype(jnp.float32).sum((1, 2)), 1))


def test_without_the_package_the_pip_line_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'reid-jax\[onnx\]'"):
        export.onnx(tiny_embedders.embedder("resnet18", width=4), tmp_path / "model.onnx")
