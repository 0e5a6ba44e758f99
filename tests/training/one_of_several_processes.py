"""One process of tests/training/test_processes.py, of a job that shares four devices.

python one_of_several_processes.py WORKDIR RESULT WHAT

WHAT is one of
  twice: train, be stopped at step 5 as all are, train on, embed, rank.
  on: train, or go on where another job was stopped, and embed and rank.
  kill:N:step, kill:N:saving, term:N: train; process N is killed at step 5 or while the state of
    step 4 is being saved, or gets a termination signal at step 5.
"""

import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from reid_jax import parallel

parallel.initialize()

import jax
import numpy as np
import tiny

from reid_jax import evaluation


class Stopped(Exception):
    pass


def host_batches(first_step):
    if fate == "kill" and when == "saving":
        threading.Thread(target=killed_while_saving, daemon=True).start()
    for step in range(first_step, 8):
        if step == 5 and fate == "twice" and first_step == 0:
            raise Stopped
        if step == 5 and fate == "kill" and when == "step":
            os.kill(os.getpid(), signal.SIGKILL)
        if step >= 5 and fate == "term":
            if step == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(3)  # The processes agree in the background on a step to come.
        yield tiny.batch_at(step, parallel.host_rows(tiny.BATCH))


def killed_while_saving():
    while not list((workdir / "checkpoints" / "last").glob("4.*tmp*")):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)


def fit():
    return tiny.fit(workdir, num_devices=jax.local_device_count(), batches=host_batches)


def embedded():
    images = np.arange(7 * 4, dtype=np.float32).reshape(7, 2, 2, 1)
    features = evaluation.extract_features(
        lambda scale, x: (x * scale).sum((1, 2)),
        np.float32(2),
        lambda rows: iter(np.split(images[rows], [2])),
        num_images=7,
        batch_size=2,
        description="embedding",
    )
    np.testing.assert_array_equal(features, images.sum((1, 2)) * 2)


def ranked():
    """Each process has what it would find alone: of small integers, which are exact."""
    random = np.random.default_rng(3)
    query, gallery, distractors = (
        random.integers(-3, 4, (n, 6)).astype(np.float32) for n in (23, 150, 40)
    )
    who = random.integers(0, 8, 23), None, random.integers(0, 8, 150), None

    def distances(images):
        return ((query[:, None] - images) ** 2).sum(2)

    alone = evaluation.rank(distances(gallery), *who)
    shared = evaluation.rank_features(query, gallery, *who, queries_per_block=4)
    np.testing.assert_array_equal(shared.first_match_rank, alone.first_match_rank)
    assert shared.map_step == alone.map_step
    if fate == "twice":
        return  # A quick test: what follows takes another form of the same.
    more = *who[:2], np.append(who[2], np.full(40, -2)), None
    alone = evaluation.rank(distances(np.concatenate([gallery, distractors])), *more)
    shared = evaluation.rank_with_distractors(query, gallery, *who, [distractors], at=[40])[40]
    np.testing.assert_array_equal(shared.cmc, alone.cmc)
    assert shared.map_step == alone.map_step


if __name__ == "__main__":
    workdir, result = map(Path, sys.argv[1:3])
    fate, number, when = [*sys.argv[3].split(":"), "", ""][:3]
    assert jax.device_count() == 4
    if fate in ("kill", "term"):
        if number != str(jax.process_index()):
            fate = ""
        # Not above: it takes seconds to import, and the others need none of it.
        from experiments.launch import exit_status

        sys.exit(exit_status(fit))
    if fate == "twice":
        try:
            fit()
        except Stopped:
            pass
        else:
            raise AssertionError("nothing stopped it")
        parallel.barrier("stopped")
    state = fit()
    embedded()
    ranked()
    try:
        parallel.usable_devices(18)
    except ValueError as error:
        message = str(error)
    result.write_bytes(pickle.dumps((jax.tree.leaves(state), message)))
    parallel.barrier("done")
