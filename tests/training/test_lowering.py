"""The step body lowers for a TPU and a GPU on a machine that has neither."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from lowered import executions

from reid_jax import losses, models, objectives, training
from reid_jax.training import schedules


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_step_lowers(platform):
    step, state = tiny.make("batch_contrastive")
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state, tiny.batch_at(0))
    )
    exported = jax.export.export(jax.jit(step), platforms=[platform])(*shapes)
    text = exported.mlir_module()
    assert exported.platforms == (platform,)
    # On an accelerator a 1x1 convolution and the pooling are the library's own operations.
    assert "stablehlo.convolution" in text
    assert "stablehlo.select_and_scatter" in text


@pytest.mark.slow  # test_step_lowers has the same step of a network of two blocks
def test_paper_scale_step_lowers_for_tpu():
    model = models.build("resnet50", num_identities=751, dropout=0.9, dtype=jnp.bfloat16)
    optimizer = schedules.sgd(lambda step: 0.01, momentum=0.9, weight_decay=5e-4)
    objective = objectives.batch_contrastive(margin=1.0, center_rate=0.5, loss_weight=1.0)
    step = training.make_train_step(model, optimizer, objective, preprocess=tiny.preprocess)
    state = jax.eval_shape(
        lambda: training.create_state(
            model,
            optimizer,
            jnp.zeros((1, 256, 128, 3)),
            key=jax.random.key(0),
            loss_state=losses.init_centers(751, 2048),
        )
    )
    batch = {
        "image": jax.ShapeDtypeStruct((16, 256, 128, 3), np.uint8),
        "identity": jax.ShapeDtypeStruct((16,), np.int32),
        "key": jax.ShapeDtypeStruct((16, 2), np.uint32),
    }
    exported = jax.export.export(jax.jit(step), platforms=["tpu"])(state, batch)
    assert executions(exported.mlir_module(), "stablehlo.convolution") > 150
