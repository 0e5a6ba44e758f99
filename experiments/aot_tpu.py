"""Compiles an experiment's steps for a Cloud TPU, on a machine that has none.

    pip install libtpu
    python experiments/aot_tpu.py --exp=batch_contrastive_market --topology=v5e:2x4

The training step of the experiment at the paper's scale, with the official numbers of images and
identities, its batch divided over all chips, and the embedding of a batch on one chip. A row says
what the compiler knows of a chip: memory (arguments with the resident images, results, and what
the step needs beside them), floating-point operations, bytes moved, collectives and the bytes in
them; and the seconds of compilation. `--exp=all` makes two rows of each experiment.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

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

from data_prep import cuhk03, dukemtmc, market1501
from experiments import build
from experiments.config import Config, parse_overrides
from experiments.papers import EXPERIMENTS, build_config
from reid_jax import data, parallel, training
from reid_jax.preprocess import Preprocess
from reid_jax.scoring import pair_functions
from reid_jax.training import trainer
from reid_jax.versions import versions

COLLECTIVE = re.compile(
    r"\s(all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)(-start)?\("
)
BYTES = {"f32": 4, "bf16": 2, "s32": 4, "u32": 4, "u8": 1, "s8": 1, "pred": 1, "f16": 2}
HEADINGS = (
    *("step", "batch", "chips", "memory a chip, GB", "of it arguments", "GFLOP a chip"),
    *("GB moved a chip", "collectives a step", "MB in them", "compiled in, s"),
)


def official_training(config: Config) -> tuple[int, int]:
    """(images, identities) of the official training set of an experiment."""
    partition = config.data.partition
    if config.dataset in ("market1501", "dukemtmc"):
        module = {"market1501": market1501, "dukemtmc": dukemtmc}[config.dataset]
        numbers = module.OFFICIAL["train"]
    elif partition:
        # Named by the sizes of its parts: detected-1160-100-100, 316-316.
        identities = next(int(part) for part in partition.split("-") if part.isdigit())
        images = {"cuhk01": 4, "viper": 2, "pku_reid": 16}.get(config.dataset)
        if config.dataset == "cuhk03":
            pool = cuhk03.OFFICIAL[partition.split("-")[0]]
            images = -(-pool["images"] // pool["identities"])
        numbers = {"images": identities * (images or 1), "identities": identities}
    else:
        raise ValueError(
            f"{config.dataset} has no official numbers here: give one of the experiments on a data "
            "set of persons"
        )
    return numbers["images"], numbers["identities"]


def counted(config: Config) -> data.Source:
    """Images that nobody reads: the official numbers of them, of two cameras."""
    images, identities = official_training(config)
    rows = np.arange(images)
    files = [f"{row}.jpg" for row in rows]
    return data.Source(
        dataset=config.dataset,
        split="train",
        files=files,
        identities=1 + rows % identities,
        cameras=1 + (rows // identities) % 2,
        images=files,
    )


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler says of a program.

    Attributes:
        memory: bytes of a chip: arguments, results that are not written over them, and the rest.
        arguments: bytes of the arguments alone.
        flops, traffic: of a chip; bytes of the traffic.
        collectives: number of each kind, and the bytes of their results on a chip.
        seconds: of compilation.
    """

    memory: int
    arguments: int
    flops: float
    traffic: float
    collectives: dict[str, tuple[int, int]]
    seconds: float


def compiled(function: Any, arguments: Any) -> Compiled:
    """Compiles a jitted function for the devices of its arguments' shardings."""
    start = time.perf_counter()
    program = function.lower(*arguments).compile()
    seconds = time.perf_counter() - start
    memory, cost = program.memory_analysis(), program.cost_analysis()
    own = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Compiled(
        memory=memory.argument_size_in_bytes + own + memory.temp_size_in_bytes,
        arguments=memory.argument_size_in_bytes,
        flops=cost.get("flops", float("nan")),
        traffic=cost.get("bytes accessed", float("nan")),
        collectives=collectives_of(program.as_text()),
        seconds=seconds,
    )


def collectives_of(text: str) -> dict[str, tuple[int, int]]:
    """Number and bytes of each kind of collective in the text of a compiled program."""
    found: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for line in text.splitlines():
        name = COLLECTIVE.search(line)
        if name is None or "=" not in line:
            continue
        shapes = re.findall(r"(\w+)\[([\d,]*)\]", line[: name.start()].partition("=")[2])
        sizes = [
            BYTES.get(kind, 4) * int(np.prod([int(n) for n in shape.split(",") if n] or [1]))
            for kind, shape in shapes
        ]
        found[name[1]][0] += 1
        # A started gather names its operand before its result.
        started = name[2] and name[1] != "all-reduce"
        found[name[1]][1] += sum(sizes[len(sizes) // 2 :] if started else sizes)
    return {kind: (number, size) for kind, (number, size) in found.items()}


def placed(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Shapes of the leaves, laid out over a mesh."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def fitted(preprocess: Preprocess) -> Preprocess:
    """With a mean of black images, where the mean is that of the training images."""
    return preprocess.fitted(lambda: [np.zeros((1, *preprocess.size, 3), np.uint8)])


def train_step(config: Config, devices: Any) -> tuple[Compiled, int, int]:
    """The training step as `reid_jax.fit` makes it, its batch, and the chips that share it.

    `pmap` lowers for devices that are there alone; under `shard_map` the same step does for others.
    """
    source = counted(config)
    made = build.parts(config, source, seed=0)
    labels, _ = trainer.training_labels(source)
    seen = fitted(made.preprocess)
    state = jax.eval_shape(
        lambda key: trainer.fresh_state(
            made.model, made.optimizer, made.objective, seen, labels, key
        ),
        jax.random.key(0),
    )
    step = training.make_train_step(
        made.model, made.optimizer, made.objective, axis_name=parallel.AXIS, preprocess=seen
    )
    batch = {
        name: jax.ShapeDtypeStruct((made.sampler.batch_size, *leaf.shape[1:]), leaf.dtype)
        for name, leaf in trainer.batch_shapes(seen, made.sampler).items()
        if not name.startswith("image")
    }
    images = jax.ShapeDtypeStruct((len(source), *seen.size, 3), jnp.uint8)
    # As on one host: the largest number of chips that divides the batch.
    size = made.sampler.batch_size
    chips = max(n for n in range(1, len(devices) + 1) if size % n == 0)
    mesh = Mesh(np.array(devices[:chips]), (parallel.AXIS,))
    everywhere, rows = PartitionSpec(), PartitionSpec(parallel.AXIS)
    body = jax.shard_map(
        training.with_resident_images(step),
        mesh=mesh,
        in_specs=(everywhere, rows, everywhere),
        out_specs=everywhere,
        check_vma=False,
    )
    arguments = (
        placed(state, mesh, everywhere),
        placed(batch, mesh, rows),
        placed(images, mesh, everywhere),
    )
    return compiled(jax.jit(body, donate_argnums=0), arguments), size, chips


def embedding_step(config: Config, devices: Any) -> tuple[Compiled, int, int]:
    """The embedding of a batch of images on one chip."""
    embedder = build.embedder(config)
    embedder = dataclasses.replace(embedder, preprocess=fitted(embedder.preprocess))
    rows = config.evaluation.batch_size
    mesh = Mesh(np.array(devices[:1]), (parallel.AXIS,))
    image = jax.ShapeDtypeStruct((rows, *embedder.input_size, 3), jnp.uint8)

    embed: Any = embedder.embed
    if embedder.scores_pairs:
        embed, _ = pair_functions(embedder.model, embedder.preprocess, embedder.scoring)
    arguments = (
        placed(embedder.variables, mesh, PartitionSpec()),
        placed(image, mesh, PartitionSpec()),
    )
    return compiled(jax.jit(embed), arguments), rows, 1


def row(name: str, found: Compiled, batch: int, chips: int) -> str:
    """One line of the table."""
    cells = (
        *(name, batch, chips, f"{found.memory / 1e9:.2f}", f"{found.arguments / 1e9:.2f}"),
        *(f"{found.flops / 1e9:.1f}", f"{found.traffic / 1e9:.2f}"),
        ", ".join(f"{n} {kind}" for kind, (n, _) in sorted(found.collectives.items())) or "none",
        f"{sum(size for _, size in found.collectives.values()) / 1e6:.2f}",
        f"{found.seconds:.0f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="experiments/aot_tpu.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--exp", default="all", help="NAME[:key=value,...], or all")
    parser.add_argument("--topology", default="v5e:2x4", help="such as v5e:2x4 or v4:2x2x1")
    parser.add_argument("--scale", default="paper", choices=("paper", "small"))
    parser.add_argument(
        "--set", action="append", default=[], metavar="section.key=value", dest="overrides"
    )
    options = parser.parse_args()
    try:
        topology = topologies.get_topology_desc(platform="tpu", topology_name=options.topology)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        print(f"error: no compiler for {options.topology} ({error}): pip install libtpu")
        return 1
    devices = topology.devices
    print(f"{len(devices)} chips of {devices[0].device_kind}, {options.topology}")
    print(", ".join(f"{name} {number}" for name, number in versions().items()))
    print(f"\n| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}", flush=True)
    names = list(EXPERIMENTS) if options.exp == "all" else [options.exp]
    for name in names:
        config = build_config(name, EXPERIMENTS, scale=options.scale)
        config = parse_overrides(config, options.overrides)
        for kind, make in {"training": train_step, "embedding": embedding_step}.items():
            try:
                found, batch, chips = make(config, devices)
            except (jax.errors.JaxRuntimeError, ValueError) as error:
                print(f"| {name} {kind} | {str(error).splitlines()[0]} |", flush=True)
                continue
            print(row(f"{name} {kind}", found, batch, chips), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
