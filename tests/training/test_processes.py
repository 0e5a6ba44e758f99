"""Two processes with two devices each give what one process with four gives."""

import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from reid_jax import parallel
from reid_jax.training.logs import read_metrics

PROGRAM = Path(__file__).with_name("one_of_two_processes.py")


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def run(*arguments):
    """Runs two processes of two devices each; gives each one's exit status and output."""
    port = free_port()
    processes = []
    for number in range(2):
        environment = {
            **os.environ,
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(number),
            "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=2"),
        }
        command = [sys.executable, PROGRAM, *(str(given).format(number) for given in arguments)]
        processes.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        )
    outputs = [process.communicate(timeout=400)[0].decode() for process in processes]
    return [process.returncode for process in processes], outputs


def assert_as_one_process(results, expected):
    for state, _ in results:
        for ours, first, one in zip(state, results[0][0], expected, strict=True):
            np.testing.assert_array_equal(ours, first)
            np.testing.assert_allclose(ours, one, rtol=1e-5, atol=1e-5)


def test_two_processes_agree_with_one(tmp_path):
    statuses, outputs = run(tmp_path / "two", tmp_path / "result_{}")
    assert statuses == [0, 0], "\n".join(outputs)
    results = [pickle.loads((tmp_path / f"result_{n}").read_bytes()) for n in range(2)]
    assert_as_one_process(results, jax.tree.leaves(tiny.fit(tmp_path / "one", num_devices=4)))
    assert "multiple of 4, such as 16 or 20" in results[0][1]
    assert [record["step"] for record in read_metrics(tmp_path / "two")] == list(range(8))


@pytest.mark.slow
def test_a_lost_process_ends_the_other_with_a_message(tmp_path):
    statuses, outputs = run(tmp_path / "run", tmp_path / "none", "lose")
    # By the message of the program, or by that of JAX where a checkpoint waits for the lost one.
    told = ("this process of 2 could not go on", "another task died")
    assert statuses[0] != 0
    assert statuses[1] == -signal.SIGKILL
    assert any(text in outputs[0] for text in told), outputs[0]


def test_initialize_names_what_is_missing(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.delenv("JAX_PROCESS_ID", raising=False)
    with pytest.raises(ValueError, match="JAX_PROCESS_ID"):
        parallel.initialize()


@pytest.mark.parametrize(("batch_size", "used"), [(16, 8), (12, 6), (7, 7), (11, 1)])
def test_one_host_uses_the_most_devices_that_divide_the_batch(batch_size, used):
    assert len(parallel.usable_devices(batch_size)) == used
