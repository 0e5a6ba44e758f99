"""The steps of an experiment, lowered for devices that need not be there, and what a compiler says.

`pmap` lowers for devices that are there alone; under `shard_map` the same step does for others.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from data_prep import cuhk01, cuhk03, dukemtmc, market1501, pku_reid, viper
from experiments import build
from experiments.config import Config, changed
from reid_jax import data, parallel, training
from reid_jax.preprocess import Preprocess
from reid_jax.scoring import pair_functions
from reid_jax.training import trainer

__all__ = [
    "NUMBERS",
    "USUAL_DTYPE",
    "Compiled",
    "Program",
    "collectives_of",
    "compiled",
    "digest",
    "official_training",
    "programs",
    "settled",
]

NUMBERS = (
    *("arguments", "outputs", "temporaries", "flops", "traffic", "collectives"),
    *("seconds", "cpu_seconds"),
)
"""The fields of `Compiled`."""

USUAL_DTYPE = "bfloat16"
"""What the layers of a run compute in on an accelerator where `model.dtype` is none."""

EVERYWHERE, ROWS = PartitionSpec(), PartitionSpec(parallel.AXIS)


@dataclasses.dataclass(frozen=True)
class Program:
    """A jitted function, and the shapes of its arguments on the devices that it is for.

    Attributes:
        function: jitted.
        arguments: shapes with shardings.
        rows: images or pairs of one call, on all devices.
        chips: devices that share them.
    """

    function: Any
    arguments: tuple[Any, ...]
    rows: int
    chips: int

    def lowered(self) -> Any:
        """What `compiled` takes."""
        return self.function.lower(*self.arguments)

    def collectives(self) -> dict[str, tuple[int, int]]:
        """Number of each kind and the bytes of their results on a device, as the program has them.

        It is traced, not compiled: a compiler joins many into few, of about as many bytes.
        """
        return _collectives_of(self.function.trace(*self.arguments).jaxpr.jaxpr)


def settled(config: Config) -> Config:
    """The config with the number format that a run on an accelerator takes."""
    return changed(config, model={"dtype": config.model.dtype or USUAL_DTYPE})


def programs(config: Config) -> dict[str, Callable[[Config, Sequence[Any]], Program]]:
    """The programs of a run by name; each takes the config and the devices of a topology."""
    made = {"training step": _training_step, "embedding": _embedding}
    if build.embedder(config).scores_pairs:
        made["scores of pairs"] = _scores_of_pairs
    return made


# Training ---------------------------------------------------------------------------------------


def official_training(config: Config) -> tuple[int, int]:
    """(images, identities) of an experiment's official training set.

    Raises:
        ValueError: where nobody has fixed one, as for landmarks.
    """
    dataset, partition = config.dataset, config.data.partition
    if config.data.joined:
        dataset = "+".join(config.data.joined)
    whole = {"market1501": market1501, "dukemtmc": dukemtmc}
    divided = {"cuhk01": cuhk01, "viper": viper, "pku_reid": pku_reid}
    if dataset in whole:
        numbers = whole[dataset].OFFICIAL["train"]
        return numbers["images"], numbers["identities"]
    # A partition is named by the identities of its parts: detected-1160-100-100, 316-316.
    pool, *parts = partition.split("-") if dataset == "cuhk03" else ("", *partition.split("-"))
    if dataset == "cuhk03" and pool in cuhk03.OFFICIAL:
        numbers = cuhk03.OFFICIAL[pool]
    elif dataset in divided:
        numbers = divided[dataset].OFFICIAL["images"]
    else:
        raise ValueError(f"{dataset} has no official number of training images: no step")
    identities = int(parts[0]) if parts and parts[0] else numbers["identities"]
    return -(-identities * numbers["images"] // numbers["identities"]), identities


def _counted(config: Config) -> data.Source:
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


def _fitted(preprocess: Preprocess) -> Preprocess:
    """With a mean of black images, where the mean is that of the training images."""
    return preprocess.fitted(lambda: [np.zeros((1, *preprocess.size, 3), np.uint8)])


def _training_step(config: Config, devices: Sequence[Any]) -> Program:
    """The step as `reid_jax.fit` makes it, its batch over all devices."""
    source = _counted(config)
    made = build.parts(config, source, seed=0)
    labels, _ = trainer.training_labels(source)
    seen, size = _fitted(made.preprocess), made.sampler.batch_size
    rows = trainer.batch_shapes(seen, made.sampler)
    state = jax.eval_shape(
        lambda key: trainer.fresh_state(
            made.model, made.optimizer, made.objective, labels, rows, key
        ),
        jax.random.key(0),
    )
    step: Callable[..., Any] = training.make_train_step(
        made.model,
        made.optimizer,
        made.objective,
        axis_name=parallel.AXIS,
        preprocess=seen,
        num_parts=config.train.accumulate,
    )
    batch = {
        name: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype)
        for name, leaf in rows.items()
    }
    images = {
        name: jax.ShapeDtypeStruct((size, *seen.size, 3), jnp.uint8)
        for name in batch
        if name.startswith("image")
    }
    constants: tuple[Any, ...] = ()
    if trainer.fits_on_device(source, seen.size):
        step = training.with_resident_images(step)
        constants = (jax.ShapeDtypeStruct((len(source), *seen.size, 3), jnp.uint8),)
        batch = {name: leaf for name, leaf in batch.items() if name not in images}
    else:
        batch |= images
    hosts = len({device.process_index for device in devices})
    part = size // config.train.accumulate
    chips = parallel.num_sharing(part, num_devices=len(devices), num_processes=hosts)
    mesh = Mesh(np.array(devices[:chips]), (parallel.AXIS,))
    body = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(EVERYWHERE, ROWS, *[EVERYWHERE] * len(constants)),
        out_specs=EVERYWHERE,
        check_vma=False,
    )
    arguments = _placed(state, mesh, EVERYWHERE), _placed(batch, mesh, ROWS)
    return Program(
        function=jax.jit(body, donate_argnums=0),
        arguments=(*arguments, *_placed(constants, mesh, EVERYWHERE)),
        rows=size,
        chips=chips,
    )


# Test -------------------------------------------------------------------------------------------


def _embedding(config: Config, devices: Sequence[Any]) -> Program:
    """The embedding of a batch, over the devices of one host as `parallel.map_rows` divides it."""
    embedder = build.embedder(config)
    seen = _fitted(embedder.preprocess)
    embed: Any
    if embedder.scores_pairs:
        embed, _ = pair_functions(embedder.model, seen, embedder.scoring)
    else:
        embed = dataclasses.replace(embedder, preprocess=seen).embed
    return _of_one_chip(
        embed,
        embedder.expected_variables(),
        lambda rows: [jax.ShapeDtypeStruct((rows, *embedder.input_size, 3), jnp.uint8)],
        num_rows=config.evaluation.batch_size,
        devices=devices,
    )


def _scores_of_pairs(config: Config, devices: Sequence[Any]) -> Program:
    """The scores of a block of pairs, from what is kept of their images."""
    embedder = build.embedder(config)
    embed, score = pair_functions(embedder.model, _fitted(embedder.preprocess), embedder.scoring)

    def sides(rows: int) -> list[Any]:
        image = jax.ShapeDtypeStruct((rows, *embedder.input_size, 3), jnp.uint8)
        return [jax.eval_shape(embed, embedder.expected_variables(), image)] * 2

    return _of_one_chip(
        score,
        embedder.expected_variables(),
        sides,
        num_rows=config.evaluation.pairs_per_block,
        devices=devices[:1],  # A block is one device's.
    )


def _of_one_chip(
    function: Callable[..., Any],
    variables: Any,
    inputs: Callable[[int], list[Any]],
    *,
    num_rows: int,
    devices: Sequence[Any],
) -> Program:
    """A device's share of rows that are independent of each other."""
    own = [device for device in devices if device.process_index == devices[0].process_index]
    mesh = Mesh(np.array(own[:1]), (parallel.AXIS,))
    share = -(-num_rows // len(own))
    arguments = [_placed(tree, mesh, EVERYWHERE) for tree in (variables, *inputs(share))]
    return Program(jax.jit(function), tuple(arguments), rows=share * len(own), chips=len(own))


def _placed(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    """Shapes of the leaves, laid out over a mesh."""
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


# What a compiler says ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compiled:
    """What a compiler says of a program, on each of its devices; sizes in bytes.

    Attributes:
        arguments: what goes in: the state, resident images, the batch.
        outputs: what comes out and is not written over an argument.
        temporaries: what is needed beside them.
        flops: floating-point operations.
        traffic: bytes that operations read and write.
        collectives: number of each kind, and the bytes of their results.
        seconds, cpu_seconds: of the compilation.
    """

    arguments: int
    outputs: int
    temporaries: int
    flops: float
    traffic: float
    collectives: dict[str, tuple[int, int]]
    seconds: float
    cpu_seconds: float

    @property
    def memory(self) -> int:
        """Bytes of a device in all."""
        return self.arguments + self.outputs + self.temporaries


def digest(lowered: Any) -> str:
    """What two programs that compile to the same share: a digest of their text."""
    return hashlib.sha256(lowered.as_text().encode()).hexdigest()[:16]


def compiled(lowered: Any) -> Compiled:
    """Compiles what `Program.lowered` gave."""
    start, cpu_start = time.perf_counter(), time.process_time()
    program = lowered.compile()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    memory, cost = program.memory_analysis(), program.cost_analysis()
    return Compiled(
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        flops=cost.get("flops", float("nan")),
        traffic=cost.get("bytes accessed", float("nan")),
        collectives=collectives_of(program.as_text()),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
    )


_PRIMITIVES = {
    **dict.fromkeys(("psum", "psum_invariant", "pmax", "pmin"), "all-reduce"),
    "all_gather": "all-gather",
    "reduce_scatter": "reduce-scatter",
    "ppermute": "collective-permute",
    "all_to_all": "all-to-all",
}


def _collectives_of(jaxpr: core.Jaxpr) -> dict[str, tuple[int, int]]:
    found: collections.Counter[str] = collections.Counter()
    sizes: collections.Counter[str] = collections.Counter()
    for eqn in jaxpr.eqns:
        if kind := _PRIMITIVES.get(eqn.primitive.name):
            found[kind] += len(eqn.outvars)
            sizes[kind] += sum(var.aval.size * var.aval.dtype.itemsize for var in eqn.outvars)
        for inner in core.jaxprs_in_params(eqn.params):
            times = eqn.params.get("length", 1)
            for kind, (number, size) in _collectives_of(inner).items():
                found[kind] += times * number
                sizes[kind] += times * size
    return {kind: (number, sizes[kind]) for kind, number in found.items()}


_KINDS = "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all"
_COLLECTIVE = re.compile(rf"%\S+ = (.*?) ({_KINDS})(-start)?\(")
_CHAIN = re.compile(r'chain_id="(\d+)"')
_ARRAY = re.compile(r"([a-z]+\d*)\[([\d,]*)\]")


def collectives_of(text: str) -> dict[str, tuple[int, int]]:
    """Number and bytes of each kind of collective in the text of a compiled program.

    One that the compiler spreads over several fusions, to hide it behind them, is written once in
    each, with the same `chain_id`: it counts once.
    """
    chains: set[str] = set()
    found: dict[str, tuple[int, int]] = {}
    for line in text.splitlines():
        collective = _COLLECTIVE.search(line)
        if collective is None:
            continue
        if chain := _CHAIN.search(line):
            if chain[1] in chains:
                continue
            chains.add(chain[1])
        arrays, kind = _ARRAY.findall(collective[1]), collective[2]
        if collective[3] and kind != "all-reduce":
            # A started one names its operands before its results, and then what it counts with.
            arrays = [array for array in arrays if array[1]]
            arrays = arrays[len(arrays) // 2 :]
        sizes = [_bytes(*array) for array in arrays]
        number, size = found.get(kind, (0, 0))
        found[kind] = number + 1, size + sum(sizes)
    return found


def _bytes(kind: str, shape: str) -> int:
    bits = 8 if kind == "pred" else int(re.sub(r"\D", "", kind))
    return -(-bits // 8) * int(np.prod([int(n) for n in shape.split(",") if n] or [1]))
