"""The training step of each paper's experiment lowers for a GPU; nobody has run one there.

Seconds each; tests/training/test_lowering.py has the quick one.
"""

import jax
import pytest

from experiments import compiled
from experiments.papers import EXPERIMENTS, build_config


@pytest.mark.slow
@pytest.mark.parametrize(
    "exp",
    [
        "batch_contrastive_market",
        "identif_verif_cuhk03",
        "clever_viper",
        "inherent_pku",
        "csn_viper",
        "strong_market",
    ],
)
def test_the_training_step_lowers_for_cuda(exp):
    config = compiled.settled(build_config(exp, EXPERIMENTS, scale="small"))
    step = compiled.programs(config)["training step"](config, jax.devices()[:2])
    lowered = step.function.trace(*step.arguments).lower(lowering_platforms=("cuda",))
    text = lowered.as_text()
    assert step.chips == 2
    assert "stablehlo.convolution" in text
    assert "stablehlo.all_reduce" in text
    assert "bf16" in text
