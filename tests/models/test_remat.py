"""Rematerialisation changes what is kept for the gradient, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from reid_jax import models

SMALL_RESNET = models.ResNet(blocks=(1, 1), bottleneck=False, width=2, num_identities=3)


def loss_and_gradient(model, images):
    """The program of a loss of all that losses read, its gradient and the running averages."""
    variables = tiny.init(model, *images, train=False)
    variables = jax.tree.map(lambda leaf: leaf.astype(images[0].dtype), variables)

    def loss(params):
        outputs, changed = model.apply(
            {**variables, "params": params}, *images, train=True, mutable=["batch_stats"]
        )
        read = ("logits", "pair_logits", "descriptor", "theta")
        taps = [value for name, value in outputs.items() if name.startswith(read)]
        return sum(jnp.sum(jnp.sin(tap)) for tap in taps), changed

    return jax.value_and_grad(loss, has_aux=True), variables["params"]


@pytest.mark.parametrize(
    ("model", "size", "times"),
    [
        pytest.param(SMALL_RESNET, 32, 2, id="resnet"),
        pytest.param(
            SMALL_RESNET.clone(freeze_batch_norm=True),
            32,
            2,
            id="frozen",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            models.build("efficientnet_lite0", width=4, num_identities=3),
            32,
            16,
            id="efficientnet_lite0",
            marks=pytest.mark.slow,
        ),
        # The trunk, the localisation net, the ranking net and the head.
        pytest.param(
            models.build("csn", width=6, levels="l2"), 40, 4, id="csn", marks=pytest.mark.slow
        ),
    ],
)
def test_gradients_are_the_same(model, size, times, float64):
    images = np.random.default_rng(0).normal(size=(model.num_images, 4, size, size, 3))
    images = list(images)
    plain, params = loss_and_gradient(model, images)
    again, same = loss_and_gradient(model.clone(remat=True), images)
    jax.tree.map(np.testing.assert_array_equal, same, params)
    assert "remat" not in str(jax.make_jaxpr(plain)(params))
    assert str(jax.make_jaxpr(again)(params)).count("prevent_cse=") == times
    tiny.assert_close(jax.jit(again)(params), jax.jit(plain)(params), 1e-12)


def test_an_embedder_has_nothing_to_keep():
    model = SMALL_RESNET.clone(remat=True)
    single, _ = models.single_image(model, {"params": {}})
    assert single.remat is False
    description = models.describe(model)
    assert description["options"]["remat"] is True
    assert models.from_description(description) == model
