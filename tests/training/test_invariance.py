"""1, 2, 4 and 8 devices give the same parameters, centers and batch statistics."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from reid_jax import parallel

STEPS = 3


def as_dtype(state, dtype):
    cast = lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x
    return jax.tree.map(cast, state)


def run_pmapped(num_devices, dtype, *args):
    step, state = tiny.make(*args, axis_name=parallel.AXIS)
    devices = jax.local_devices()[:num_devices]
    chex.clear_trace_counter()
    step = parallel.pmap_step(chex.assert_max_traces(step, n=1), devices)
    state = parallel.replicate(as_dtype(state, dtype), devices)
    for number in range(STEPS):
        state, metrics = step(state, parallel.shard(tiny.batch_at(number), devices))
    for leaf in jax.tree.leaves((state, metrics)):
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(np.asarray(shard.data), np.asarray(leaf))
    return jax.device_get((state, metrics))


@functools.cache
def run_jitted(dtype, *args):
    step, state = tiny.make(*args)
    step, state = jax.jit(step), as_dtype(state, dtype)
    for number in range(STEPS):
        state, metrics = step(state, tiny.batch_at(number))
    return jax.device_get((state, metrics))


@pytest.mark.parametrize(
    "num_devices", [8, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 4))]
)
@pytest.mark.usefixtures("float64")
def test_devices_agree_in_float64(num_devices):
    args = (np.float64, "batch_contrastive")
    tiny.assert_close(run_pmapped(num_devices, *args), run_jitted(*args), 1e-10)


@pytest.mark.usefixtures("float64")
@pytest.mark.slow
def test_devices_agree_with_the_printed_gradient():
    args = (np.float64, "batch_contrastive", "eq8")
    printed = run_jitted(*args)
    tiny.assert_close(run_pmapped(4, *args), printed, 1e-10)
    with pytest.raises(AssertionError):
        tiny.assert_close(run_jitted(np.float64, "batch_contrastive"), printed, 1e-6)


@pytest.mark.slow
def test_devices_agree_in_float32():
    args = (np.float32, "batch_contrastive")
    tiny.assert_close(run_pmapped(8, *args), run_jitted(*args), 1e-5)
