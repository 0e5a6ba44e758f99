"""What networks say they are, and networks as data."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from reid_jax import models

OPTIONS = {
    "resnet18": [
        {"num_identities": 7, "dropout": 0.5, "stride": "caffe", "pooling": "max", "width": 16},
        {"head_init_std": None, "num_streams": 2, "dtype": jnp.bfloat16, "remat": True},
    ],
    "resnet50": [
        {"head_init_std": 0.1, "dtype": jnp.dtype("float32"), "last_stride": 1, "neck": True}
    ],
    "efficientnet_lite0": [
        {"num_identities": 7, "dropout": 0.5, "last_stride": 1, "width": 16, "neck": True},
        {"head_init_std": 0.1, "num_streams": 2, "dtype": jnp.bfloat16, "remat": True},
    ],
    "vgg16": [{"hidden_dropout": 0.25, "pooling": "max", "width": 8, "dtype": np.float16}],
    "caffenet": [{"num_identities": 3, "dropout": 0.5, "width": 12}, {"num_streams": 2}],
    "nine_conv": [{"feature_reweighting": True, "test_statistics": "batch", "width": 4}],
    "csn": [
        {"levels": "l2l3l4", "trunk": "table5", "dividing": False, "f4": 2, "width": 12},
        {"sim_grid": "20x8", "attention": "center_crop", "ranking": False, "correlation": "fft"},
        {"remat": True},
    ],
}


def single_networks():
    for name in models.MODELS:
        for options in [{}, *OPTIONS[name]]:
            yield models.build(name, **options)
    yield models.ResNet(blocks=(1, 1), bottleneck=False, freeze_batch_norm=True, remat=True)
    yield models.ResNet(blocks=(2, 2, 2, 2), bottleneck=True, width=8, dtype=jnp.bfloat16)


def networks():
    yield from single_networks()
    for backbone in single_networks():
        if not backbone.scores_pairs and not backbone.num_identities and not backbone.dropout:
            yield models.Siamese(backbone, "square")
            yield models.Siamese(
                backbone,
                verification="relu_diff",
                num_identities=5,
                dropout=0.9,
                verification_dropout="before_square",
            )


@pytest.mark.parametrize("model", list(networks()), ids=lambda m: models.describe(m)["name"])
def test_a_description_makes_the_network_again(model):
    description = models.describe(model)
    again = models.from_description(json.loads(json.dumps(description)))
    assert type(again) is type(model)
    assert again == model
    assert models.describe(again) == description
    # Where it runs plays no part.
    assert models.describe(model.clone(axis_name="devices")) == description


def test_every_option_of_every_network_is_described():
    described = {}
    for model in networks():
        described.setdefault(type(model), set()).update(models.describe(model)["options"])
    for kind, options in described.items():
        fields = {field.name for field in dataclasses.fields(kind)}
        unset = {"parent", "name", "axis_name"}
        if issubclass(kind, models.VGG16 | models.CaffeNet):
            # Both have the options of PlainNet.
            options = described[models.VGG16] | described[models.CaffeNet]
        elif kind is models.NineConv:
            unset |= {"num_identities", "dropout", "num_streams", "dtype"}
        elif kind is models.CSN:
            unset |= {"dtype"}
        assert fields - unset == options, kind


def test_descriptions_by_hand():
    assert models.describe(models.build("resnet18")) == {"name": "resnet18", "options": {}}
    model = models.resnet50(num_identities=3, dtype=jnp.bfloat16, axis_name="devices")
    options = {"num_identities": 3, "dtype": "bfloat16"}
    assert models.describe(model) == {"name": "resnet50", "options": options}
    small = models.ResNet(blocks=(1, 1), bottleneck=False, width=8)
    options = {"blocks": [1, 1], "bottleneck": False, "width": 8}
    assert models.describe(small) == {"name": "resnet", "options": options}
    pair = models.Siamese(small, "square", num_identities=3, dropout=0.5)
    assert models.describe(pair) == {
        "name": "siamese",
        "options": {
            "backbone": {"name": "resnet", "options": options},
            "verification": "square",
            "num_identities": 3,
            "dropout": 0.5,
        },
    }


class Foreign(nn.Module):
    num_identities: int | None = None
    dropout: float = 0.0
    axis_name: str | None = None
    num_streams: int = 1


class Derived(models.ResNet):
    pass


@pytest.mark.parametrize(
    "model",
    [Foreign(), models.Siamese(Foreign(), "square"), Derived(blocks=(1, 1), bottleneck=False)],
    ids=["foreign", "backbone", "derived"],
)
def test_a_network_of_another_package_has_no_description(model):
    with pytest.raises(ValueError, match=r"(Foreign|Derived) is not a network of reid_jax\.models"):
        models.describe(model)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"name": "resnet18"}, "a network is described as"),
        ("resnet18", "a network is described as"),
        ({"name": "resnet19", "options": {}}, "'resnet19' is not known; known: caffenet"),
        ({"name": "vgg16", "options": {"stride": "caffe"}}, "no option stride"),
        ({"name": "resnet18", "options": {"blocks": [1, 1]}}, "no option blocks"),
        ({"name": "resnet", "options": {"blocks": [1, 1]}}, "lacks bottleneck"),
        ({"name": "siamese", "options": {"verification": "square"}}, "lacks backbone"),
        ({"name": "resnet", "options": {"blocks": [1], "bottleneck": True, "a": 1}}, "no option a"),
    ],
)
def test_descriptions_that_do_not_fit_are_named(description, message):
    with pytest.raises(ValueError, match=message):
        models.from_description(description)


@pytest.mark.parametrize("model", list(networks()), ids=lambda m: models.describe(m)["name"])
def test_networks_say_what_they_are(model):
    kind = (model.num_images, model.takes_keys, model.scores_pairs)
    names = ("num_images", "takes_keys", "scores_pairs", "axis_name")
    if isinstance(model, models.CSN):
        assert kind == (2, False, True)
    elif isinstance(model, models.Siamese):
        assert kind == (2, True, False)
    else:
        assert kind == (1, True, False)
        names += ("num_streams",)
    # What it says of itself is no field; the axis and the streams can be set.
    fields = {field.name for field in dataclasses.fields(model)}
    assert fields.isdisjoint(names[:3])
    assert fields >= set(names[3:])
    assert model.scores_pairs == (hasattr(model, "embed") and hasattr(model, "score"))


@pytest.mark.parametrize("siamese", [False, True])
@pytest.mark.parametrize("num_identities", [None, 3])
def test_single_image_network(siamese, num_identities):
    backbone = models.ResNet(blocks=(1, 1), bottleneck=False, width=4, stride="caffe")
    fields = {"num_identities": num_identities, "dropout": 0.5, "axis_name": None}
    image = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
    if siamese:
        model = models.Siamese(backbone, "square", **fields)
        images, name = (image, image), "embedding_a"
    else:
        model = backbone.clone(**fields, num_streams=2)
        images, name = (image,), "embedding"
    variables = tiny.init(model, *images, seed=1)
    expected = tiny.apply(model, variables, *images)[name]
    single, own = models.single_image(model.clone(axis_name="devices"), variables)
    assert single == backbone
    taps = tiny.apply(single, own, image)
    np.testing.assert_allclose(taps["embedding"], expected, rtol=1e-5, atol=1e-6)
    assert "logits" not in taps
    shapes = jax.eval_shape(backbone.init, jax.random.key(0), image)
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, shapes)


def test_a_network_that_scores_pairs_has_no_single_image_network():
    model, variables = models.build("csn"), {"params": {"identification": 1}}
    assert models.single_image(model, variables) == (model, variables)


def test_single_image_of_plain_networks_without_batch_statistics():
    model = models.build("vgg16", width=2, pooling="max", num_identities=3, hidden_dropout=0.5)
    image = jnp.ones((1, 32, 32, 3))
    single, variables = models.single_image(model, tiny.init(model, image))
    assert single == models.build("vgg16", width=2, pooling="max", hidden_dropout=0.5)
    assert set(variables) == {"params"}
    assert tiny.apply(single, variables, image)["embedding"].shape == (1, 16)
