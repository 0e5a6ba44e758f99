"""Several steps a dispatch: the same training, the same logs, and everything when it is due."""

import contextlib
import itertools

import jax
import numpy as np
import pytest
import tiny
import tiny_methods
from plain_network import Plain

from experiments import build
from reid_jax import parallel, training
from reid_jax.training import loop, schedules
from reid_jax.training.logs import read_metrics
from reid_jax.training.step import several_steps

NUM_STEPS, COUNT = 11, 2
INTERVALS = training.Intervals(log_every=5, checkpoint_every=4, validate_every=6)


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def parts():
    """(step, several, state, devices) of a small training, with dropout and batch norm."""
    model = Plain(num_identities=tiny.IDENTITIES, dropout=0.5, batch_norm=True)
    objective = build.objective(tiny_methods.config_of("batch_contrastive_market"))
    optimizer = schedules.sgd(tiny.LEARNING_RATE, momentum=0.9, weight_decay=5e-4)
    state = tiny_methods.state_for(model, optimizer, objective)
    step = training.make_train_step(model, optimizer, objective, axis_name=parallel.AXIS)
    devices = jax.local_devices()[:2]
    several = loop.Several(COUNT, parallel.pmap_step(several_steps(step), devices))
    return parallel.pmap_step(step, devices), several, state, devices


def trained(parts, workdir, *, several, killed_at=None):
    """The last state of a training, and after which steps it was validated."""
    step, dispatched, state, devices = parts
    seen = []

    def validate(state):
        seen.append(int(state.step))
        return {"map_step": 0.5}

    def batches(first_step):
        for number in itertools.count(first_step):
            if number == killed_at:
                raise Killed
            yield tiny.batch_at(number)

    checkpoints = training.Checkpoints(workdir)
    try:
        final = training.train(
            state,
            step,
            batches,
            devices=devices,
            images_per_step=tiny.BATCH,
            num_steps=NUM_STEPS,
            intervals=INTERVALS,
            checkpoints=checkpoints,
            workdir=workdir,
            validate=validate,
            several=dispatched if several else None,
        )
    finally:
        checkpoints.close()
    return final, seen


def logged(workdir):
    left_out = ("images_per_second", "data_wait")
    return [{k: v for k, v in r.items() if k not in left_out} for r in read_metrics(workdir)]


@pytest.mark.slow  # bit for bit, see Makefile
def test_the_training_and_its_logs_are_the_same(parts, tmp_path):
    expected, seen = trained(parts, tmp_path / "one", several=False)
    assert seen == [6, NUM_STEPS]
    ours, ours_seen = trained(parts, tmp_path / "several", several=True)
    assert ours_seen == seen
    jax.tree.map(np.testing.assert_array_equal, ours, expected)
    assert logged(tmp_path / "several") == logged(tmp_path / "one")
    with pytest.raises(Killed):
        trained(parts, tmp_path / "killed", several=True, killed_at=7)
    # From the checkpoint of step 4, one step at a time and then several.
    for killed_at in (9, None):
        with pytest.raises(Killed) if killed_at else contextlib.nullcontext():
            resumed, _ = trained(
                parts, tmp_path / "killed", several=killed_at is None, killed_at=killed_at
            )
    jax.tree.map(np.testing.assert_array_equal, resumed, expected)
    assert logged(tmp_path / "killed") == logged(tmp_path / "one")


@pytest.mark.parametrize("count", [2, 3, 5, 8])
@pytest.mark.parametrize("due", [(5, 4, 6, 0), (50, 1000, 0, 7), (1, 3, 0, 0)])
@pytest.mark.parametrize("first_step", [0, 3])
def test_what_is_due_is_at_the_end_of_a_dispatch(count, due, first_step):
    num_steps = 101
    done, ends = first_step, []
    while done < num_steps:
        done += count if loop.nothing_due(done, count, num_steps, due) else 1
        ends.append(done)
    assert ends[-1] == num_steps
    expected = {
        n for n in range(first_step + 1, num_steps + 1) if any(e and n % e == 0 for e in due)
    }
    assert expected <= set(ends)
    fewest = sum(  # As many as fit between what is due.
        length // count + length % count
        for length in np.diff([first_step, *sorted(expected | {num_steps})])
    )
    assert len(ends) == fewest
