"""What a program on a CPU sets before JAX starts; the results stay the same, and steps are faster.

A library does not set what holds for a whole process: the programs of `experiments/` and the
command `reid-jax` call `prepare`, and so may any program that trains or embeds on a CPU.
"""

from __future__ import annotations

import ctypes
import os
import sys

import jax

__all__ = ["keep_freed_memory", "one_device_per_core", "prepare"]

M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX = -4, -1, -8  # From glibc's malloc.h.

MOST_DEVICES = 8
"""Each device holds the parameters and the optimizer's state once more."""


def prepare() -> None:
    """Keeps freed memory and makes a device of each core; call it before any other use of JAX."""
    keep_freed_memory()
    one_device_per_core()


def keep_freed_memory() -> None:
    """Tells glibc to reuse freed memory instead of giving it back to the kernel.

    A training step on a CPU frees and allocates hundreds of megabytes, and each page that the
    kernel hands out anew is a fault: most of the time of a step where faults are slow. To have an
    effect it must come before JAX makes its threads. Other C libraries are left alone.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_ARENA_MAX, 1)):
            mallopt(parameter, value)


def one_device_per_core() -> None:
    """Lets JAX see each core of this process as a device, up to `MOST_DEVICES`.

    XLA uses a second core badly inside an operation, and the devices of a batch work side by side.
    Who has set a number of CPU devices (`JAX_NUM_CPU_DEVICES`, or XLA's flag) keeps it, and where
    JAX has started already nothing changes. Other platforms do not see it.
    """
    asked = jax.config.values["jax_num_cpu_devices"] != -1
    if asked or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        jax.config.update("jax_num_cpu_devices", min(cores, MOST_DEVICES))
    except RuntimeError:
        return  # JAX has started
