"""What the TPU compiler makes of csn, on a machine that has no TPU.

    pip install libtpu
    python experiments/benchmarks/tpu_compile.py

Compiles ahead of time for the chips of `--topology`: the depthwise correlation by every method,
forward and with its gradients, and the paper's training step, 256 pairs over all chips. The time is
the compiler's own estimate, not a measurement ("-" where it has none, as for FFT); memory is what a
chip needs beside arguments and results.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable
from typing import Any

# Before JAX looks for a TPU that is not there.
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import build
from experiments.papers import EXPERIMENTS, build_config
from reid_jax import parallel, training
from reid_jax.ops import depthwise_cross_correlation
from reid_jax.training import schedules

SHAPES = [("level 2", (40, 15), (10, 10)), ("level 3", (20, 8), (5, 5))]
COMPILED = ("auto", "grouped_conv", "shift", "fft")


def described(function: Callable[..., Any], *shapes: Any) -> str:
    """Estimated time, memory and traffic of a jitted function, as cells of a table."""
    start = time.perf_counter()
    try:
        compiled = function.lower(*shapes).compile()
    except jax.errors.JaxRuntimeError as error:
        return f"does not compile: {str(error).splitlines()[0]} | | |"
    seconds = time.perf_counter() - start
    cost = compiled.cost_analysis()
    estimate = cost.get("optimal_seconds", -1)
    shown = f"{1e3 * estimate:.2f}" if estimate > 0 else "-"
    temporary = compiled.memory_analysis().temp_size_in_bytes
    traffic = cost["bytes accessed"]
    return f"{shown} | {temporary / 2**20:.0f} | {traffic / 1e9:.2f} | {seconds:.0f}"


def correlations(device: Any, batch: int, channels: int) -> None:
    sharding = jax.sharding.SingleDeviceSharding(device)
    shape = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32, sharding=sharding)
    for name, signal, kernel in SHAPES:
        arrays = [shape((batch, *size, channels)) for size in (signal, kernel, signal)]
        print(f"\n{name}: signal {signal[0]}x{signal[1]}, kernel {kernel[0]}x{kernel[1]}")
        print("| method | estimate, ms | memory, MiB | traffic, GB | compiled in, s |")
        print("|---|---|---|---|---|")
        for method in COMPILED:
            correlate = functools.partial(depthwise_cross_correlation, method=method)

            def both(signal: jax.Array, kernel: jax.Array, dy: jax.Array, f: Any = correlate):
                y, vjp = jax.vjp(f, signal, kernel)
                return y, *vjp(dy)

            print(f"| {method} | {described(jax.jit(correlate), *arrays[:2])} |", flush=True)
            print(f"| {method}, gradients too | {described(jax.jit(both), *arrays)} |", flush=True)


def step(devices: Any) -> None:
    """The paper's step on CUHK03, its batch shared by all devices."""
    config = build_config("csn_cuhk03", EXPERIMENTS, scale="paper")
    model = build.network(config, 2)
    size, pairs = tuple(config.data.image_size), config.sampler.batch_size
    optimizer = schedules.adam(lambda step: 5e-4, weight_decay=config.optimizer.weight_decay)
    objective = build.objective(config)
    image = np.zeros((1, *size, 3), np.float32)
    state = jax.eval_shape(
        lambda key: training.create_state(model, optimizer, image, image, key=key),
        jax.random.key(0),
    )
    batch = {f"image_{side}": jnp.zeros((pairs, *size, 3)) for side in "ab"}
    batch["same"] = np.zeros(pairs, bool)
    mesh = Mesh(np.array(devices), (parallel.AXIS,))
    specs = PartitionSpec(), PartitionSpec(parallel.AXIS)
    body = jax.shard_map(
        training.make_train_step(model, optimizer, objective, axis_name=parallel.AXIS),
        mesh=mesh,
        in_specs=specs,
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    arguments = (
        jax.tree.map(
            lambda x, spec=spec: jax.ShapeDtypeStruct(
                x.shape, x.dtype, sharding=NamedSharding(mesh, spec)
            ),
            tree,
        )
        for tree, spec in zip((state, batch), specs, strict=True)
    )
    print(f"\ncsn (L2, L3), a training step of {pairs} pairs over {len(devices)} chips")
    print("| estimate, ms | memory, MiB | traffic, GB | compiled in, s |\n|---|---|---|---|")
    print(f"| {described(jax.jit(body), *arguments)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--channels", type=int, default=96)
    options = parser.parse_args()
    topology = topologies.get_topology_desc(platform="tpu", topology_name=options.topology)
    print(f"{len(topology.devices)} chips of {topology.devices[0].device_kind}")
    correlations(topology.devices[0], options.batch, options.channels)
    step(topology.devices)


if __name__ == "__main__":
    main()
