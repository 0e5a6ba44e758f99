"""What programs set before JAX starts."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from reid_jax import cpu, parallel

PROGRAM = """
from reid_jax import cpu
cpu.prepare()
import jax
print(jax.local_device_count())
cpu.prepare()
print(jax.local_device_count())
"""


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, min(len(os.sched_getaffinity(0)), cpu.MOST_DEVICES)),
        ({"JAX_NUM_CPU_DEVICES": "3"}, 3),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}, 5),
    ],
)
def test_each_core_is_a_device_unless_a_number_was_set(settings, expected):
    environ = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environ | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.split() == [str(expected)] * 2


def test_where_jax_has_started_nothing_changes(monkeypatch):
    before = jax.local_devices()
    monkeypatch.setenv("XLA_FLAGS", "")
    cpu.one_device_per_core()
    assert jax.local_devices() == before


@pytest.mark.parametrize(("num_rows", "num_devices"), [(1, 1), (3, 3), (8, 8), (12, 8)])
def test_fewer_rows_than_devices_take_a_device_each(num_rows, num_devices, monkeypatch):
    """One image would be embedded by every core at once, each slowed down by the others."""
    copies = []
    monkeypatch.setattr(
        parallel,
        "replicate",
        lambda tree, devices, real=parallel.replicate: (
            copies.append(devices) or real(tree, devices)
        ),
    )
    call = parallel.map_rows(lambda factor, rows: factor * rows, np.float32(3), num_rows=num_rows)
    assert [len(devices) for devices in copies] == [num_devices]
    rows = np.arange(2.0 * num_rows, dtype=np.float32).reshape(num_rows, 2)
    np.testing.assert_array_equal(call(rows), 3 * rows)
    np.testing.assert_array_equal(call(rows[:1]), 3 * rows[:1])
