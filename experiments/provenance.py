"""Where a number comes from: the commit, the versions and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

from reid_jax.versions import versions

__all__ = ["commit", "machine", "versions"]


def commit() -> str | None:
    """The commit of this program's repository, `-dirty` with changes; None outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def machine() -> dict[str, Any]:
    """The processor, how many of its cores this process may use, and the kind of the devices."""
    usable = getattr(os, "sched_getaffinity", None)  # Linux only.
    cores = len(usable(0)) if usable else os.cpu_count()
    return {"cpu": _cpu_name(), "cores": cores, "device": jax.devices()[0].device_kind}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
