"""Parameters, FLOPs and depth against what is known of the networks."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from experiments import complexity, papers

SHAPE = jax.ShapeDtypeStruct


@pytest.mark.parametrize(
    ("name", "parameters", "gflops", "convolutions"),
    [
        # Bias and batch norm are counted too; without them 0.475, 0.642 and 0.808 million. At level
        # 4 all similarity maps meet on 10x4.
        ("csn (L2, L3)", 0.478, 0.931, 12),
        ("csn (L2, L3), sim_grid=20x8", 0.478, 0.943, 12),
        ("csn (L2, L3, L4)", 0.647, 1.007, 16),
        ("csn (L2, L3, L4), trunk=table5", 0.813, 1.259, 18),
    ],
)
def test_csn_costs_what_the_audit_of_table_5_says(name, parameters, gflops, convolutions):
    found = complexity.cost(*complexity.NETWORKS[name], by_xla=False)
    assert round(found.num_parameters / 1e6, 3) == parameters
    assert round(found.pair_flops / 1e9, 3) == gflops
    assert found.num_convolutions == convolutions


def test_parts_of_csn_cost_what_the_audit_says():
    found = complexity.cost(*complexity.NETWORKS["csn (L2, L3)"], by_xla=False)
    # Trunk, localisation nets and ranking net of two images; correlation and head of the pair.
    assert 2 * found.image_flops / 2e6 == pytest.approx(278.3 + 69.2 + 79.1, abs=0.2)
    coarser_head = 8.0 - (160 - 40) * (1152 * 32 + 9 * 32 * 32 + 32 * 500 / 4) / 1e6
    assert found.comparison_flops / 2e6 == pytest.approx(36.9 + coarser_head, abs=0.1)


def test_a_verification_head_is_what_a_comparison_costs():
    found, alone = (
        complexity.cost(*complexity.NETWORKS[name], by_xla=False)
        for name in ("nine_conv, verification", "nine_conv")
    )
    assert found.comparison_flops == 2 * (512 * 512 + 512 * 2)
    assert found.num_parameters == alone.num_parameters + 513 * 512 + 513 * 2
    assert (found.image_flops, found.pair_flops - found.comparison_flops) == (
        alone.image_flops,
        alone.pair_flops,
    )
    assert found.num_layers == alone.num_layers + 2


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        # Without the identification head, which their names count.
        ("resnet18", 17),
        ("resnet50", 49),
        ("vgg16, verification", 15 + 1),
        ("caffenet, verification", 7 + 1),
        ("nine_conv", 10),
        # Trunk, localisation net, head.
        ("csn (L2, L3)", 3 + 4 + 4),
    ],
)
def test_layers_are_those_of_the_networks_names(name, layers):
    assert complexity.cost(*complexity.NETWORKS[name], by_xla=False).num_layers == layers


def test_a_program_is_counted_product_by_product():
    def function(kernel, matrix, image):
        x = lax.conv_general_dilated(
            image,
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=2,
        )
        once = jax.jit(lambda y: jnp.einsum("bhwc,cd->bhwd", y, matrix))
        x = once(x)
        x, _ = lax.scan(lambda y, _: (once(y), None), x, length=3)
        return lax.platform_dependent(x, cpu=lambda y: y, default=once)

    shapes = [SHAPE(s, jnp.float32) for s in ((3, 5, 2, 6), (6, 6), (2, 7, 8, 4))]
    places = 2 * 7 * 8
    expected = places * 6 * 3 * 5 * 2 + 4 * places * 6 * 6
    assert complexity.multiply_adds(function, *shapes) == expected
    # A loop is one layer deep: its iterations have the same weights.
    layers = complexity.weight_layers(lambda v, image: function(*v, image), shapes[:2], shapes[2])
    assert layers == 3


@pytest.mark.parametrize("name", ["resnet18", "csn (L2, L3)", "caffenet, verification"])
def test_xla_counts_what_we_do_but_for_padding(name):
    found = complexity.cost(*complexity.NETWORKS[name])
    assert 0.85 * found.pair_flops < found.xla_flops < 1.02 * found.pair_flops


def test_the_table_has_the_papers_numbers_and_the_count_of_xla(monkeypatch):
    one = {"csn (L2, L3)": ({"name": "csn", "width": 3}, (40, 40))}
    monkeypatch.setattr(complexity, "NETWORKS", one)
    text = complexity.markdown(papers.TABLES["csn/5"])
    assert "| X-Corr |  |  |  |  |  |  |  | 2.2 | 1.58 | 10 |" in text
    row = next(line for line in text.splitlines() if line.startswith("| csn (L2, L3), 40x40"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[-3:] == ["0.5", "0.96", "12"]
    assert float(cells[5]) > 0
    assert "two for each multiplication" in text
