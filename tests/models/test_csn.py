"""The network of csn: counts and shapes of the paper, and what swapping the images swaps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from references import csn as reference
from reid_jax import models

PAPER = (160, 60)
SMALL = (36, 20)


def described(size=PAPER, **options):
    """(taps, variables) as shapes."""
    model = models.build("csn", **options)
    image = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    return jax.eval_shape(model.init_with_output, jax.random.key(0), image, image)


def num_kernel_values(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim >= 2)


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"levels": "l2"}, 306_888),
        ({"levels": "l3"}, 389_832),
        ({"levels": "l4"}, 472_776),
        ({"levels": "l2l3"}, 474_568),
        ({"levels": "l2l3l4"}, 642_248),
        ({"levels": "l2l3l4", "trunk": "table5"}, 808_136),
        # Without the ranking net; without the localisation nets; with a third of the maps.
        ({"ranking": False}, 474_568 - 215_040),
        ({"attention": "center_crop"}, 474_568 - 2 * 41_728),
        ({"dividing": False}, 474_568 - 32 * (1152 - 384)),
    ],
)
def test_kernel_counts_of_table_5(options, count):
    _, variables = described(**options)
    assert num_kernel_values(variables) == count


def test_shapes_of_the_paper():
    taps, variables = described(levels="l2l3l4")
    shapes = {name: tap.shape[1:] for name, tap in taps.items()}
    assert all(tap.shape[0] == 2 for tap in taps.values())
    maps = {2: (40, 15, 96), 3: (20, 8, 96), 4: (10, 4, 96)}
    for level, size in {2: 10, 3: 5, 4: 3}.items():
        for side in "ab":
            assert shapes.pop(f"x{level}_{side}") == maps[level]
            assert shapes.pop(f"theta{level}_{side}") == (3, 6)
            assert shapes.pop(f"part{level}_{side}") == (3, size, size, 96)
        assert shapes.pop(f"sim{level}") == (*maps[level][:2], 576)
    assert shapes == {
        "sim": (10, 4, 1728),
        "pair_logits": (2,),
        "descriptor_a": (256,),
        "descriptor_b": (256,),
    }
    assert described()[0]["sim"].shape == (2, 10, 4, 1152)
    assert described(sim_grid="20x8")[0]["sim"].shape == (2, 20, 8, 1152)
    assert described(dividing=False)[0]["sim"].shape == (2, 10, 4, 384)
    assert described(levels="l2l3l4", f4=5)[0]["part4_a"].shape == (2, 3, 5, 5, 96)
    assert set(variables["params"]["features"]) == {
        *("conv1", "conv2", "conv3", "conv3b"),
        *("bn1", "bn2", "bn3", "bn3b"),
    }


def test_layers_inside():
    """Table 1, and the sizes within the localisation and ranking nets and the head."""
    model = models.build("csn", levels="l2l3l4")
    image = jnp.zeros((1, *PAPER, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), image, image)
    _, state = jax.eval_shape(
        lambda variables: model.apply(
            variables, image, image, capture_intermediates=True, mutable=["intermediates"]
        ),
        variables,
    )
    seen = state["intermediates"]

    def shapes(net, *names):
        return [seen[net][name]["__call__"][0].shape for name in names]

    assert shapes("features", "conv1", "conv2", "conv3", "conv3b") == [
        (2, 160, 60, 32),
        (2, 80, 30, 96),
        (2, 40, 15, 96),
        (2, 20, 8, 96),
    ]
    inside = {
        2: [(6, 20, 15, 32), (6, 10, 8, 32), (6, 5, 4, 128), (6, 6)],
        3: [(6, 10, 8, 32), (6, 5, 4, 32), (6, 3, 2, 128), (6, 6)],
        4: [(6, 5, 4, 32), (6, 3, 2, 32), (6, 2, 1, 128), (6, 6)],
    }
    for level, expected in inside.items():
        names = "loc_conv1", "loc_conv2", "loc_conv3", "theta"
        assert shapes(f"localisation_l{level}", *names) == expected
    assert [call.shape for call in seen["ranking_net"]["conv_a"]["__call__"]] == [
        (6, 10, 10, 96),
        (6, 5, 5, 96),
        (6, 3, 3, 96),
    ]
    assert [call.shape for call in seen["ranking_net"]["conv_b"]["__call__"]] == [
        (2, 15, 5, 96),
        (2, 9, 3, 96),
        (2, 6, 2, 96),
    ]
    assert shapes("head", "conv4", "conv5", "conv6", "match") == [
        (1, 10, 4, 32),
        (1, 10, 4, 32),
        (1, 5, 2, 500),
        (1, 2),
    ]


def test_stripes_of_the_paper():
    assert models.stripes(40) == [(0, 20), (10, 30), (20, 40)]
    assert models.stripes(20) == [(0, 10), (5, 15), (10, 20)]
    assert models.stripes(10) == [(0, 5), (2, 7), (5, 10)]
    assert models.stripes(7) == [(0, 4), (1, 5), (3, 7)]
    assert models.stripes(10, dividing=False) == [(0, 10)]


def images(seed, rows=2, size=SMALL):
    rng = np.random.default_rng(seed)
    return [(rng.gamma(2.0, 1.0, (rows, *size, 3)) - 1).astype(np.float32) for _ in range(2)]


def moved(variables, seed=5):
    """Every parameter off its start, so that the transformers look elsewhere."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: (x + 0.1 * np.abs(rng.standard_normal(x.shape))).astype(x.dtype), variables
    )


@pytest.fixture(scope="module")
def network():
    model = models.build("csn", levels="l2l3l4", width=6)
    a, b = images(0)
    initial = jax.jit(model.init)(jax.random.key(0), a, b)
    apply = jax.jit(lambda v, a, b: model.apply(v, a, b, train=False))
    return model, moved(initial), apply, initial


def test_swapping_the_images_swaps_what_it_should(network):
    _, variables, apply, _ = network
    a, b = images(1)
    one, other = apply(variables, a, b), apply(variables, b, a)
    for name, tap in one.items():
        if name.endswith("_a"):
            swapped = other[name[:-1] + "b"]
        elif name.startswith("sim"):
            # The two halves of the channels of each level.
            levels = 3 if name == "sim" else 1
            halves = other[name].reshape(*tap.shape[:3], levels, 2, -1)
            swapped = halves[..., ::-1, :].reshape(tap.shape)
        else:
            continue
        np.testing.assert_allclose(tap, swapped, rtol=1e-4, atol=1e-4, err_msg=name)
    # The head has weights of its own for each half.
    assert np.abs(one["pair_logits"] - other["pair_logits"]).max() > 1e-4
    norms = np.linalg.norm(one["descriptor_a"], axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)


def test_similarity_is_a_map_with_the_parts_of_the_other_image(network):
    _, variables, apply, _ = network
    taps = {name: np.asarray(tap, np.float64) for name, tap in apply(variables, *images(2)).items()}
    for level, size in {2: 10, 3: 5, 4: 3}.items():
        for half, (x, parts) in enumerate(["ab", "ba"]):
            x, parts = taps[f"x{level}_{x}"], taps[f"part{level}_{parts}"]
            for i in range(3):
                first = 6 * (3 * half + i)
                found = taps[f"sim{level}"][..., first : first + 6]
                expected = reference.correlation(x, parts[:, i])
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        theta, x = taps[f"theta{level}_a"], taps[f"x{level}_a"]
        for i, (top, bottom) in enumerate(models.stripes(x.shape[1])):
            expected = reference.spatial_transform(x[:, top:bottom], theta[:, i], (size, size))
            found = taps[f"part{level}_a"][:, i]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_transformers_start_near_the_identity(network):
    _, _, apply, initial = network
    taps = apply(initial, *images(3))
    for level in (2, 3, 4):
        expected = np.broadcast_to([0.9, 0, 0, 0, 0.9, 0], (2, 3, 6))
        np.testing.assert_allclose(taps[f"theta{level}_b"], expected, atol=1e-6)


def test_parts_computed_once_give_the_same_score(network):
    model, variables, apply, _ = network
    a, b = images(4)
    embed = jax.jit(lambda v, image: model.apply(v, image, method="embed"))
    parts_a, parts_b = embed(variables, a), embed(variables, b)
    score = jax.jit(lambda v, a, b: model.apply(v, a, b, method="score"))
    outputs = score(variables, parts_a, parts_b)
    direct = apply(variables, a, b)
    for name, value in outputs.items():
        np.testing.assert_allclose(value, direct[name], rtol=1e-5, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(parts_b["descriptor"], direct["descriptor_b"], rtol=1e-5, atol=1e-5)


def test_center_crop_and_whole_map():
    a, b = images(6, size=(40, 40))
    model = models.build("csn", levels="l3", attention="center_crop", dividing=False, width=6)
    taps, _ = jax.jit(model.init_with_output)(jax.random.key(0), a, b)
    x = taps["x3_a"]
    assert x.shape[1:3] == (5, 5)
    np.testing.assert_array_equal(taps["part3_a"][:, 0], x)
    assert not [name for name in taps if name.startswith("theta")]
    bare = models.build("csn", levels="l3", ranking=False, width=6)
    taps, _ = jax.eval_shape(bare.init_with_output, jax.random.key(0), a, b)
    assert "descriptor_a" not in taps


def test_bfloat16_keeps_logits_and_descriptors_wide():
    taps, variables = described(dtype=jnp.bfloat16)
    assert taps["x2_a"].dtype == taps["sim"].dtype == jnp.bfloat16
    assert taps["pair_logits"].dtype == taps["descriptor_a"].dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("options", "smallest"),
    [
        ({"levels": "l2"}, (9, 5)),
        ({}, (17, 9)),
        ({"levels": "l2l3l4"}, (33, 17)),
        ({"dividing": False}, (9, 9)),
        ({"attention": "center_crop"}, (73, 37)),
    ],
)
def test_smallest_image(options, smallest):
    assert models.build("csn", **options).smallest_image == smallest
    described(smallest, **options)
    height, width = smallest
    for size in ((height - 1, width), (height, width - 1)):
        with pytest.raises(ValueError, match=f"smallest size that works is {height} x {width}"):
            described(size, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": "l1l2"}, "levels='l1l2' is not known; known: l2, l3, l4, l2l3, l2l3l4"),
        ({"trunk": "resnet"}, "known: prose, table5"),
        ({"sim_grid": "5x2"}, "known: 10x4, 20x8"),
        ({"attention": "none"}, "known: stn, center_crop"),
        ({"trunk": "table5"}, "needs level 4"),
        ({"levels": "l4", "sim_grid": "20x8"}, "use sim_grid='10x4'"),
        ({"width": 4}, "a multiple of 3"),
        ({"num_identities": 3}, "has no option num_identities"),
    ],
)
def test_unknown_options(options, message):
    with pytest.raises(ValueError, match=message):
        models.build("csn", **options)


def test_images_of_two_sizes():
    model = models.build("csn")
    with pytest.raises(ValueError, match="one shape"):
        model.init(jax.random.key(0), jnp.zeros((1, 40, 20, 3)), jnp.zeros((1, 40, 24, 3)))


@pytest.mark.torch
@pytest.mark.parametrize("train", [pytest.param(False, marks=pytest.mark.slow), True])
def test_equals_pytorch(train):
    torch = pytest.importorskip("torch")
    from references import torch_csn

    model = models.build("csn", width=6)
    a, b = images(7, rows=3)
    variables = moved(jax.jit(model.init)(jax.random.key(2), a, b))
    variables = jax.tree.map(np.asarray, variables)
    theirs = torch_csn.load(torch_csn.CSN(6), variables).train(train)
    with torch.no_grad():
        expected = theirs(*(torch.tensor(x).permute(0, 3, 1, 2) for x in (a, b)))
    apply = jax.jit(lambda v: model.apply(v, a, b, train=train, mutable=["batch_stats"]))
    taps, changed = apply(variables)
    for name in ("pair_logits", "descriptor_a", "descriptor_b"):
        np.testing.assert_allclose(taps[name], expected[name], rtol=1e-4, atol=1e-4, err_msg=name)
    for level in (2, 3):
        ours = np.concatenate([taps[f"theta{level}_{side}"] for side in "ab"]).reshape(-1, 6)
        np.testing.assert_allclose(ours, expected["theta"][level], rtol=1e-4, atol=1e-4)
    statistics = torch_csn.CSN(6)
    torch_csn.load(statistics, {"params": variables["params"], **jax.device_get(changed)})
    for name, value in statistics.state_dict().items():
        if "running" in name:
            other = theirs.state_dict()[name]
            np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-4, err_msg=name)
