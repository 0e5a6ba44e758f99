"""Several processes that share four devices give what one process with all of them gives."""

import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny

from reid_jax import parallel, training
from reid_jax.training.logs import read_metrics

PROGRAM = Path(__file__).with_name("one_of_several_processes.py")


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def run(count, *arguments):
    """Runs processes that share four devices; gives each one's exit status and output."""
    port = free_port()
    devices = f"device_count={4 // count}"
    processes = []
    for number in range(count):
        environment = {
            **os.environ,
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
            "JAX_NUM_PROCESSES": str(count),
            "JAX_PROCESS_ID": str(number),
            "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=8", devices),
        }
        command = [sys.executable, PROGRAM, *(str(given).format(number) for given in arguments)]
        processes.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        )
    try:
        outputs = [process.communicate(timeout=400)[0].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


def assert_as_one_process(directory, count):
    """Every process has the parameters of one process that was never stopped."""
    results = [pickle.loads((directory / f"result_{n}").read_bytes()) for n in range(count)]
    expected = jax.tree.leaves(tiny.fit(directory / "one", num_devices=4))
    for state, message in results:
        assert "multiple of 4, such as 16 or 20" in message
        for ours, first, one in zip(state, results[0][0], expected, strict=True):
            np.testing.assert_array_equal(ours, first)
            np.testing.assert_allclose(ours, one, rtol=1e-5, atol=1e-5)


def test_two_processes_agree_with_one(tmp_path):
    statuses, outputs = run(2, tmp_path / "run", tmp_path / "result_{}", "twice")
    assert statuses == [0, 0], "\n".join(outputs)
    assert_as_one_process(tmp_path, 2)
    assert [record["step"] for record in read_metrics(tmp_path / "run")] == list(range(8))


def lose(workdir, number, when):
    """Loses one of two processes: the other ends, and says why."""
    statuses, outputs = run(2, workdir, "none", f"kill:{number}:{when}")
    # By the message of the program, or by that of JAX where its own look-out comes first.
    told = ("this process of 2 could not go on", "another task died")
    assert statuses[number] == -signal.SIGKILL
    assert statuses[1 - number] not in (0, -signal.SIGKILL)
    assert any(text in outputs[1 - number] for text in told), outputs[1 - number]


@pytest.mark.slow
def test_four_processes_go_on_where_one_of_two_was_lost(tmp_path):
    lose(tmp_path / "run", number=1, when="step")
    statuses, outputs = run(4, tmp_path / "run", tmp_path / "result_{}", "on")
    assert statuses == [0] * 4, "\n".join(outputs)
    assert "Resuming after step" in outputs[0]
    assert_as_one_process(tmp_path, 4)
    assert [record["step"] for record in read_metrics(tmp_path / "run")] == list(range(8))


def assert_one_process_goes_on(directory, capsys):
    """In the place of all others, from a checkpoint that several processes have written."""
    state = tiny.fit(directory / "run", num_devices=4)
    assert "Resuming after step" in capsys.readouterr().out
    tiny.assert_close(state, tiny.fit(directory / "one", num_devices=4), 1e-5)
    assert [record["step"] for record in read_metrics(directory / "run")] == list(range(8))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "when"), [(0, "step"), (0, "saving"), (1, "saving")])
def test_one_process_goes_on_where_one_of_two_was_lost(tmp_path, capsys, number, when):
    lose(tmp_path / "run", number, when)
    if when == "saving":
        names = {path.name for path in (tmp_path / "run" / "checkpoints" / "last").iterdir()}
        assert "2" in names
        assert any(name.startswith("4.") for name in names), names
    assert_one_process_goes_on(tmp_path, capsys)


@pytest.mark.slow
def test_a_termination_signal_to_one_process_stops_all_at_one_step(tmp_path, capsys):
    statuses, outputs = run(2, tmp_path / "run", "none", "term:1")
    assert statuses == [130, 130], "\n".join(outputs)
    assert "of 8 and saved: the same command goes on from there" in outputs[0]
    assert_one_process_goes_on(tmp_path, capsys)


def test_processes_that_do_not_share_a_work_directory_are_told(tmp_path, monkeypatch):
    checkpoints = training.Checkpoints(tmp_path)
    monkeypatch.setattr(parallel, "gather_hosts", lambda mine: np.array([4, -1], mine.dtype))
    with pytest.raises(ValueError, match="that of step 4 on process 0, none on process 1"):
        checkpoints.restore_last({"a": np.zeros(3)})
    checkpoints.close()


def test_a_process_lost_while_a_checkpoint_is_read_does_not_make_it_a_damaged_one(
    tmp_path, monkeypatch
):
    def lost(*arguments, **settings):
        raise jax.errors.JaxRuntimeError("Gloo all-reduce failed: connection reset by peer")

    checkpoints = training.Checkpoints(tmp_path)
    checkpoints.save({"a": np.zeros(3)}, 2)
    checkpoints.wait()
    monkeypatch.setattr(ocp.CheckpointManager, "restore", lost)
    with pytest.raises(jax.errors.JaxRuntimeError, match="connection reset"):
        checkpoints.restore_last({"a": np.zeros(3)})
    checkpoints.close()


def test_initialize_names_what_is_missing(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "localhost:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.delenv("JAX_PROCESS_ID", raising=False)
    with pytest.raises(ValueError, match="JAX_PROCESS_ID"):
        parallel.initialize()


@pytest.mark.parametrize(("batch_size", "used"), [(16, 8), (12, 6), (7, 7), (11, 1)])
def test_one_host_uses_the_most_devices_that_divide_the_batch(batch_size, used):
    assert len(parallel.usable_devices(batch_size)) == used
