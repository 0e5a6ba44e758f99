"""Part of the parameters at rest for the first steps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from reid_jax.training import schedules

OPTIMIZERS = {
    "adam": schedules.adam(schedules.step_decay(0.1, boundaries=[4]), weight_decay=0.01),
    "sgd": schedules.sgd(schedules.step_decay(0.1, boundaries=[4]), momentum=0.9, weight_decay=0.1),
}


def params():
    rng = np.random.default_rng(0)
    return {
        "backbone": {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)},
        "head": {"kernel": rng.normal(size=(2, 4))},
    }


def of_head(tree):
    return {name: jax.tree.map(lambda _, name=name: name == "head", tree[name]) for name in tree}


def gradients(step):
    rng = np.random.default_rng(100 + step)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), params())


def trained(optimizer, num_steps):
    """The parameters after each step."""
    update = jax.jit(optimizer.update)
    current = jax.tree.map(jnp.asarray, params())
    state, states = optimizer.init(current), [current]
    for step in range(num_steps):
        updates, state = update(gradients(step), state, current)
        current = optax.apply_updates(current, updates)
        states.append(current)
    return [jax.device_get(state) for state in states]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
@pytest.mark.parametrize("num_frozen", [0, 1, 3])
def test_the_rest_is_bit_equal_until_then_and_moves_after(name, num_frozen):
    optimizer = OPTIMIZERS[name]
    states = trained(schedules.freeze_until(optimizer, of_head, num_steps=num_frozen), 6)
    everything = trained(optimizer, 6)
    for step in range(6):
        before, after = states[step], states[step + 1]
        for leaf in ("kernel", "bias"):
            same = np.array_equal(before["backbone"][leaf], after["backbone"][leaf])
            assert same == (step < num_frozen)
        assert not np.array_equal(before["head"]["kernel"], after["head"]["kernel"])
        # Its decay depends on itself alone, so that the head moves as if nothing were frozen.
        np.testing.assert_array_equal(
            after["head"]["kernel"], everything[step + 1]["head"]["kernel"]
        )
    if num_frozen == 0:
        jax.tree.map(np.testing.assert_array_equal, states, everything)


def test_moments_are_warm_when_the_rest_begins_to_move():
    # Of a constant gradient Adam's step is the learning rate, from the first step that is taken.
    optimizer = schedules.adam(schedules.step_decay(0.1, boundaries=[]), weight_decay=0.0)
    frozen = schedules.freeze_until(optimizer, of_head, num_steps=5)
    current = jax.tree.map(jnp.asarray, params())
    state = frozen.init(current)
    for _ in range(6):
        updates, state = frozen.update(jax.tree.map(jnp.ones_like, current), state, current)
    np.testing.assert_allclose(updates["backbone"]["bias"], [-0.1, -0.1], rtol=1e-5)
