"""Several devices and several hosts: the only module that names pmap, collectives and processes.

Inside a step every function takes `axis_name`. `None` means that the full batch is on this
device, and the result is the same as on any number of devices that share it.

Gradients: a loss built from `total` or `mean` is the global scalar on every device, and
its gradient on one device is the number of devices times that device's share. Averaging the
gradients over the devices with `cross_mean` therefore gives the gradient of the full batch.
"""

from __future__ import annotations

import functools
import glob
import importlib.util
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

__all__ = [
    "AXIS",
    "barrier",
    "cross_mean",
    "cross_sum",
    "devices_taking",
    "gather",
    "gather_hosts",
    "gather_shares",
    "global_row_index",
    "host_rows",
    "host_share",
    "in_turns",
    "initialize",
    "is_main_process",
    "is_single_process",
    "leave",
    "map_devices",
    "map_rows",
    "mean",
    "num_devices",
    "num_sharing",
    "pmap_step",
    "replicate",
    "say",
    "shard",
    "shard_several",
    "spread",
    "stop_agreed",
    "sum_hosts",
    "total",
    "usable_devices",
]

AXIS = "rows"
"""Name of the device axis along which the rows of a batch are divided."""

LOST_AFTER = 30
"""Seconds without a sign of life after which a process of a job counts as lost."""

WAIT_AT_END = 60
"""Seconds that a process which is done, or has failed, waits for the others to end too."""

MOST_GATHERED = 2**26
"""Entries of the arrays of all processes that `sum_hosts` holds at once."""


# Processes -------------------------------------------------------------------------------------


def initialize() -> None:
    """Joins this process to the others of the job; must run before any other JAX call.

    Several processes are recognised by `JAX_COORDINATOR_ADDRESS` (with `JAX_NUM_PROCESSES` and
    `JAX_PROCESS_ID`), by a Cloud TPU host, or by a Slurm or Open MPI job of more than one task;
    anything else is a single process and nothing is done.

    A process that dies takes the others with it: those that wait for its numbers are ended by
    JAX, with the reason, after `LOST_AFTER` seconds at most.

    Raises:
        ValueError: if `JAX_COORDINATOR_ADDRESS` is set and one of the other two is not.
    """
    environ = os.environ
    join = functools.partial(
        jax.distributed.initialize,
        heartbeat_timeout_seconds=LOST_AFTER,
        shutdown_timeout_seconds=WAIT_AT_END,
    )
    if environ.get("JAX_COORDINATOR_ADDRESS"):
        missing = [n for n in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID") if not environ.get(n)]
        if missing:
            raise ValueError(
                f"JAX_COORDINATOR_ADDRESS is set but {' and '.join(missing)} is not: set all "
                "three, or none for a single process."
            )
        join(
            environ["JAX_COORDINATOR_ADDRESS"],
            int(environ["JAX_NUM_PROCESSES"]),
            int(environ["JAX_PROCESS_ID"]),
        )
    elif _on_cloud_tpu() or _several_tasks():
        join()


def _on_cloud_tpu() -> bool:
    platforms = os.environ.get("JAX_PLATFORMS", "tpu")
    has_chips = bool(glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"))
    return "tpu" in platforms and has_chips and importlib.util.find_spec("libtpu") is not None


def _several_tasks() -> bool:
    # SLURM_NTASKS is also set where a batch script runs a single process without srun.
    names = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
    return any(int(os.environ.get(name, "1")) > 1 for name in names)


def leave(message: str) -> NoReturn:
    """Ends this process of several at once, where it would wait for one that is lost.

    Args:
        message: the last line of this process.
    """
    print(message, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)


def is_main_process() -> bool:
    """True on the one process that writes results and prints."""
    return jax.process_index() == 0


def say(message: str) -> None:
    """Prints a line on the main process, above a progress bar if there is one."""
    if is_main_process():
        tqdm.write(message)
        sys.stdout.flush()


def is_single_process() -> bool:
    """True if no other process takes part in the job."""
    return jax.process_count() == 1


def barrier(name: str) -> None:
    """Waits until every process has reached the barrier of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def stop_agreed(steps: Iterable[int]) -> bool:
    """True if the processes of the job have agreed to stop after one of some steps.

    One that gets SIGTERM, which ends it only where it is alone, tells the others, and they agree on
    the first step that none of them has taken
    (`jax.experimental.multihost_utils.reached_preemption_sync_point`).

    Args:
        steps: numbers of steps that were taken, each asked about once by every process.
    """
    if jax.process_count() == 1:
        return False
    return any(multihost_utils.reached_preemption_sync_point(step) for step in steps)


def gather_hosts(array: np.ndarray) -> np.ndarray:
    """[H*N, ...] arrays of equal shape [N, ...] from each of H processes, in process order."""
    if jax.process_count() == 1:
        return array
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def sum_hosts(array: np.ndarray) -> np.ndarray:
    """Sum of arrays of one shape [N, ...] over the processes, on each of them."""
    if jax.process_count() == 1:
        return array
    # Some rows at a time: all processes' arrays are held at once.
    num_parts = -(-array.size * jax.process_count() // MOST_GATHERED)
    parts = np.array_split(array, max(1, min(num_parts, len(array))))
    sums = [gather_hosts(part[None]).sum(axis=0, dtype=array.dtype) for part in parts]
    return np.concatenate(sums)


# Inside a step ---------------------------------------------------------------------------------


def cross_sum(tree: Any, *, axis_name: str | None) -> Any:
    """Sum of each leaf over the devices."""
    return tree if axis_name is None else lax.psum(tree, axis_name)


def cross_mean(tree: Any, *, axis_name: str | None) -> Any:
    """Mean of each leaf over the devices."""
    return tree if axis_name is None else lax.pmean(tree, axis_name)


def gather(rows: jax.Array, *, axis_name: str | None) -> jax.Array:
    """[B, ...] rows of the global batch from this device's [B/devices, ...]; differentiable."""
    return rows if axis_name is None else lax.all_gather(rows, axis_name, tiled=True)


def global_row_index(num_rows: int, *, axis_name: str | None) -> jax.Array:
    """[num_rows] int32: where this device's rows stand in what `gather` returns."""
    first = 0 if axis_name is None else lax.axis_index(axis_name) * num_rows
    return first + jnp.arange(num_rows, dtype=jnp.int32)


def total(rows: jax.Array, *, axis_name: str | None) -> jax.Array:
    """Sum of the values of all rows of the global batch."""
    return cross_sum(jnp.sum(rows), axis_name=axis_name)


def mean(
    rows: jax.Array,
    where: jax.Array | None = None,
    *,
    axis_name: str | None,
    empty: float = 0.0,
) -> jax.Array:
    """Mean over the rows of the global batch: the sum of all values over the count of all values.

    Args:
        rows: values of this device's rows.
        where: bool of the same shape, the rows that count; they may be spread unevenly.
        axis_name: device axis, or None.
        empty: the result if no row of any device counts.
    """
    if where is None:
        return cross_mean(jnp.mean(rows), axis_name=axis_name)
    numerator = total(jnp.where(where, rows, 0), axis_name=axis_name)
    count = total(where.astype(rows.dtype), axis_name=axis_name)
    return jnp.where(count > 0, numerator / jnp.maximum(count, 1), empty)


# Around a step ---------------------------------------------------------------------------------


def usable_devices(batch_size: int) -> Sequence[jax.Device]:
    """This process's devices that a global batch is divided over.

    One process uses the largest number of its devices that divides the batch. Several processes
    always use all devices.

    Raises:
        ValueError: if there are several processes and the devices do not divide the batch.
    """
    local = jax.local_devices()
    sharing = num_sharing(
        batch_size, num_devices=jax.device_count(), num_processes=jax.process_count()
    )
    return local[: sharing // jax.process_count()]


def num_sharing(batch_size: int, *, num_devices: int, num_processes: int) -> int:
    """How many devices a batch is divided over.

    Args:
        batch_size: rows of the global batch.
        num_devices: of all processes.
        num_processes: of the job.

    Raises:
        ValueError: if there are several processes and the devices do not divide the batch.
    """
    if num_processes == 1:
        return max(n for n in range(1, num_devices + 1) if batch_size % n == 0)
    if batch_size % num_devices:
        below = batch_size // num_devices * num_devices
        works = [size for size in (below, below + num_devices) if size]
        raise ValueError(
            f"a batch of {batch_size} rows cannot be shared by {num_devices} devices on "
            f"{num_processes} hosts: use a multiple of {num_devices}, such as "
            f"{' or '.join(map(str, works))}."
        )
    return num_devices


def host_rows(batch_size: int) -> slice:
    """The rows of the global batch that this process loads."""
    per_host = batch_size // jax.process_count()
    first = jax.process_index() * per_host
    return slice(first, first + per_host)


def shard(batch: dict[str, np.ndarray], devices: Sequence[jax.Device]) -> dict[str, Any]:
    """Rows [B, ...] of this process, laid out [devices, B/devices, ...] and already on them."""
    return spread({name: _of_devices(value, devices) for name, value in batch.items()}, devices)


def shard_several(
    batches: Sequence[dict[str, np.ndarray]], devices: Sequence[jax.Device]
) -> dict[str, Any]:
    """The same of N batches at once, laid out [devices, N, B/devices, ...]."""
    stacked = {
        name: np.stack([_of_devices(batch[name], devices) for batch in batches], axis=1)
        for name in batches[0]
    }
    return spread(stacked, devices)


def _of_devices(rows: np.ndarray, devices: Sequence[jax.Device]) -> np.ndarray:
    return rows.reshape(len(devices), -1, *rows.shape[1:])


def replicate(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """A copy of each leaf on every device, ready to be donated to `pmap_step`.

    The copy is always a new buffer: a donated input must not be the caller's own array.
    """
    everywhere = NamedSharding(Mesh(np.asarray(devices), AXIS), PartitionSpec())
    return jax.tree.map(lambda leaf: jax.device_put(leaf, everywhere, may_alias=False), tree)


def spread(tree: Any, devices: Sequence[jax.Device]) -> Any:
    """The rows of each leaf, shared by the devices in equal parts."""
    each = NamedSharding(Mesh(np.asarray(devices), AXIS), PartitionSpec(AXIS))
    return jax.tree.map(lambda leaf: jax.device_put(leaf, each), tree)


def num_devices(devices: Sequence[jax.Device]) -> int:
    """How many devices share a batch, of which `devices` are this process's."""
    return len(devices) * jax.process_count()


def pmap_step(
    step: Callable[..., Any], devices: Sequence[jax.Device], *, donate: bool = True
) -> Callable[..., Any]:
    """`step(state, batch, *constants) -> (state, metrics)` over all devices, the state donated.

    `step` must have been made with `axis_name=AXIS`. The state and the constants have no device
    axis (see `replicate`), the batch has one (see `shard`). With `donate=False` the
    state is only read, and `step` may give back any tree that is the same on every device.
    """

    def call(state: Any, batch: Any, *constants: Any) -> Any:
        return pmapped(state, batch, constants)

    pmapped = jax.pmap(
        lambda state, batch, constants: step(state, batch, *constants),
        axis_name=AXIS,
        in_axes=(None, 0, None),
        out_axes=None,
        donate_argnums=0 if donate else (),
        devices=None if jax.process_count() > 1 else devices,
    )
    return call


def map_rows(function: Callable[..., Any], constants: Any, *, num_rows: int) -> Callable[..., Any]:
    """`function(constants, rows [N, ...]) -> [N, ...]` on blocks of rows, over local devices.

    Args:
        function: treats rows independently.
        constants: a tree of arrays, copied to the devices once.
        num_rows: the most rows of one call, rounded up to what the devices divide. Every call runs
            with that many, padded by repetition, so there is one compilation. Fewer rows than
            devices take a device each: one image is not embedded several times.
    Returns:
        `call(rows [n, ...]) -> [n, ...]` for n up to `num_rows`: the padding is cut off again,
        so no row is lost and none is added.
    """
    devices = jax.local_devices()[:num_rows]
    num_rows += -num_rows % len(devices)
    constants = replicate(constants, devices)
    pmapped = jax.pmap(function, in_axes=(None, 0), devices=devices)

    def call(rows: np.ndarray) -> Any:
        padded = np.concatenate([rows, np.repeat(rows[-1:], num_rows - len(rows), axis=0)])
        out = pmapped(constants, padded.reshape(len(devices), -1, *rows.shape[1:]))
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[: len(rows)], out)

    return call


@functools.cache
def map_devices(
    function: Callable[..., Any], split: tuple[bool, ...], devices: tuple[jax.Device, ...]
) -> Callable[..., Any]:
    """`function` on each of some devices of this process at once, without a word between them.

    Args:
        function: the same object at each call, so that it is compiled once.
        split: for each argument, whether the devices share its rows (see `spread`) or each has it
            whole (see `replicate`).
        devices: of this process.
    Returns:
        `call(*arguments)`, which gives the rows of all devices, one device's after another's.
    """
    specs = tuple(PartitionSpec(AXIS) if shared else PartitionSpec() for shared in split)
    mesh = Mesh(np.asarray(devices), AXIS)
    mapped = jax.shard_map(
        function, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False
    )
    return jax.jit(mapped)


def devices_taking(num_tasks: int, *, over_processes: bool) -> tuple[jax.Device, ...]:
    """This process's devices that have work if each takes one task at a time.

    Args:
        num_tasks: independent of each other.
        over_processes: whether the processes of the job share them, or each has them all.
    """
    own = -(-num_tasks // jax.process_count()) if over_processes else num_tasks
    return tuple(jax.local_devices()[: max(1, own)])


def in_turns(
    tasks: Iterable[Any], num_devices: int, *, over_processes: bool
) -> Iterator[list[Any]]:
    """This process's tasks, in groups of up to `num_devices`, without reading further ahead.

    Args:
        tasks: the same ones, in the same order, on every process.
        num_devices: how many it takes at a time.
        over_processes: whether the processes take them in turns, or each takes them all.
    """
    number, count = (jax.process_index(), jax.process_count()) if over_processes else (0, 1)
    own = itertools.islice(tasks, number, None, count)
    while group := list(itertools.islice(own, num_devices)):
        yield group


def host_share(num_items: int) -> slice:
    """This process's contiguous share of items; `gather_shares` puts the shares together."""
    per_host = -(-num_items // jax.process_count())
    first = min(jax.process_index() * per_host, num_items)
    return slice(first, min(first + per_host, num_items))


def gather_shares(share: np.ndarray, num_items: int) -> np.ndarray:
    """[num_items, ...] on every process from each one's `host_share` of the rows."""
    if jax.process_count() == 1:
        return share
    per_host = -(-num_items // jax.process_count())
    padding = [(0, per_host - len(share))] + [(0, 0)] * (share.ndim - 1)
    return gather_hosts(np.pad(share, padding))[:num_items]
