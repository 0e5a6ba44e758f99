"""Resume, stop, best on validation, and a loss that is not finite."""

import json
import os
import signal
import types

import jax
import numpy as np
import pytest
import tiny

from reid_jax import training
from reid_jax.training import loop
from reid_jax.training.logs import read_metrics


class Killed(Exception):
    pass


def killed_at(step):
    """Batches up to a step, then what a killed process looks like to the files it leaves."""

    def batches(first_step):
        for number, batch in enumerate(tiny.batches(first_step), start=first_step):
            if number == step:
                raise Killed
            yield batch

    return batches


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    return tiny.fit(workdir, num_devices=4), workdir


@pytest.mark.parametrize("step", [1, 5])  # Before the first checkpoint, and after one.
def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path, step, uninterrupted):
    with pytest.raises(Killed):
        tiny.fit(tmp_path, num_devices=4, batches=killed_at(step))
    resumed = tiny.fit(tmp_path, num_devices=4)
    jax.tree.map(np.testing.assert_array_equal, resumed, uninterrupted[0])

    def logged(workdir):
        return [
            {k: v for k, v in r.items() if k not in ("images_per_second", "data_wait")}
            for r in read_metrics(workdir)
        ]

    assert logged(tmp_path) == logged(uninterrupted[1])
    assert [record["step"] for record in read_metrics(tmp_path)] == list(range(8))


def test_a_checkpoint_of_four_devices_goes_on_with_one(tmp_path, uninterrupted):
    with pytest.raises(Killed):
        tiny.fit(tmp_path, num_devices=4, batches=killed_at(5))
    tiny.assert_close(tiny.fit(tmp_path, num_devices=1), uninterrupted[0], 1e-5)


def test_a_run_says_how_long_it_waited_for_data(tmp_path, monkeypatch, capsys):
    clock = iter(range(10_000))
    counter = types.SimpleNamespace(perf_counter=lambda: float(next(clock)))
    monkeypatch.setattr(loop, "time", counter)
    tiny.fit(tmp_path, num_devices=1)
    # Each step asks the clock before and after its batch, and each log once or twice more.
    shares = [r["data_wait"] for r in read_metrics(tmp_path) if "data_wait" in r]
    assert shares
    assert all(0 < share <= 0.5 for share in shares)
    assert "waited for data for " in capsys.readouterr().out


def test_a_finished_run_is_restored_without_a_step(uninterrupted):
    again = tiny.fit(uninterrupted[1], num_devices=4, batches=killed_at(0))
    jax.tree.map(np.testing.assert_array_equal, again, uninterrupted[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_saves_and_says_so(tmp_path, number, uninterrupted):
    def batches(first_step):
        for step, batch in enumerate(tiny.batches(first_step), start=first_step):
            if step == 4:
                os.kill(os.getpid(), number)
            yield batch

    with pytest.raises(training.StoppedError, match="step 5 of 8"):
        tiny.fit(tmp_path, num_devices=4, checkpoint_every=100, batches=batches)
    resumed = tiny.fit(tmp_path, num_devices=4)
    jax.tree.map(np.testing.assert_array_equal, resumed, uninterrupted[0])


def cut(checkpoint):
    """Halves the largest file of a checkpoint."""
    files = [file for file in checkpoint.rglob("*") if file.is_file()]
    largest = max(files, key=lambda file: file.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)


def test_truncated_checkpoint_falls_back_to_the_one_before(tmp_path, caplog, uninterrupted):
    with pytest.raises(Killed):
        tiny.fit(tmp_path, num_devices=4, batches=killed_at(7))
    cut(tmp_path / "checkpoints" / "last" / "6")
    resumed = tiny.fit(tmp_path, num_devices=4)
    assert "The checkpoint of step 6 cannot be read" in caplog.text
    assert (tmp_path / "checkpoints" / "unreadable_6").is_dir()
    jax.tree.map(np.testing.assert_array_equal, resumed, uninterrupted[0])


def test_an_evaluation_takes_the_checkpoint_before_a_damaged_one(tmp_path, caplog):
    run = tmp_path / "run"
    tiny.fit(run, num_steps=4)
    expected = tiny.fit(tmp_path / "to_the_one_before", num_steps=2)
    template = {"params": expected.params, "batch_stats": expected.batch_stats}
    cut(run / "checkpoints" / "last" / "4")
    before = sorted(run.rglob("*"))
    checkpoints = training.Checkpoints(run)
    variables = checkpoints.restore_variables(template)
    assert "The checkpoint of step 4 cannot be read" in caplog.text
    assert "trying the one before it" in caplog.text
    jax.tree.map(np.testing.assert_array_equal, variables, template)
    cut(run / "checkpoints" / "last" / "2")
    with pytest.raises(ValueError, match=r"no checkpoint in .*last can be read:\n  step 4: "):
        checkpoints.restore_variables(template)
    checkpoints.close()
    assert sorted(run.rglob("*")) == before  # an evaluation changes nothing


def test_a_damaged_best_checkpoint_is_not_replaced_by_the_last(tmp_path):
    scores = iter([0.7, 0.2])
    final = tiny.fit(
        tmp_path,
        num_steps=4,
        validate=lambda state: {"map_step": next(scores), "rank1": 0.1},
        validate_every=2,
    )
    cut(tmp_path / "checkpoints" / "best" / "2")
    checkpoints = training.Checkpoints(tmp_path)
    with pytest.raises(ValueError, match="to take the last state instead of the best"):
        checkpoints.restore_variables({"params": final.params, "batch_stats": final.batch_stats})
    checkpoints.close()


def test_every_checkpoint_unreadable_is_an_error_and_deletes_nothing(tmp_path):
    with pytest.raises(Killed):
        tiny.fit(tmp_path, batches=killed_at(5))
    for step in (2, 4):
        for file in (tmp_path / "checkpoints" / "last" / str(step)).rglob("*"):
            if file.is_file() and file.stat().st_size > 1000:
                os.truncate(file, 10)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="can be read"):
        tiny.fit(tmp_path)
    assert set(before) <= set(tmp_path.rglob("*"))


def test_best_on_validation_is_kept(tmp_path):
    scores = iter([0.2, 0.7, 0.4, 0.7])
    seen = []

    def validate(state):
        seen.append(int(state.step))
        return {"map_step": next(scores), "rank1": 0.1}

    final = tiny.fit(tmp_path, validate=validate, validate_every=2)
    assert seen == [2, 4, 6, 8]
    checkpoints = training.Checkpoints(tmp_path)
    state, step = checkpoints.restore_best(final)
    assert (step, int(state.step), checkpoints.best_score()) == (4, 4, 0.7)
    variables = {"params": final.params, "batch_stats": final.batch_stats}
    best = checkpoints.restore_variables(variables)
    jax.tree.map(np.testing.assert_array_equal, best["params"], state.params)
    checkpoints.close()
    lines = [r for r in read_metrics(tmp_path) if "val_map_step" in r]
    assert [(r["step"], r["val_map_step"]) for r in lines] == [
        (1, 0.2),
        (3, 0.7),
        (5, 0.4),
        (7, 0.7),
    ]


def test_refresh_gives_the_loss_state_before_each_step(tmp_path):
    seen = []

    def refresh(state):
        seen.append(int(state.step))
        return jax.tree.map(lambda c: c * 0, state.loss_state)

    final = tiny.fit(tmp_path, num_steps=3, refresh=refresh)
    assert seen == [0, 1, 2]
    last = tiny.batch_at(2)["identity"]
    moved = np.flatnonzero(np.abs(final.loss_state.centers).sum(1))
    np.testing.assert_array_equal(moved, np.unique(last))


def test_a_loss_that_is_not_finite_stops_with_what_is_needed(tmp_path):
    def batches(first_step):
        for step, batch in enumerate(tiny.batches(first_step), start=first_step):
            if step >= 4:  # Identities out of range give NaN cross-entropy.
                batch["identity"] = batch["identity"] + 1000
            yield batch

    with pytest.raises(training.NonFiniteLossError) as error:
        tiny.fit(tmp_path, checkpoint_every=3, batches=batches)
    message = str(error.value)
    assert "not finite at step 4" in message
    assert "identification_loss nan" in message
    assert "checkpoint is that of step 3" in message
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[4])["loss"] is None
    checkpoints = training.Checkpoints(tmp_path)
    assert checkpoints.latest_step() == 3
    checkpoints.close()
