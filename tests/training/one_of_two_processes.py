"""One process of tests/training/test_processes.py: trains, is stopped, resumes, embeds.

python one_of_two_processes.py WORKDIR RESULT [lose]

With `lose` the second process kills itself in the place of both being stopped.
"""

import os
import pickle
import signal
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from reid_jax import parallel

parallel.initialize()

import jax
import numpy as np
import tiny

from experiments.launch import exit_status
from reid_jax import evaluation


class Killed(Exception):
    pass


def host_batches(first_step):
    for step in range(first_step, 8):
        if not resumed and step == 5:
            if not lose:
                raise Killed
            if not parallel.is_main_process():
                os.kill(os.getpid(), signal.SIGKILL)
        yield tiny.batch_at(step, parallel.host_rows(tiny.BATCH))


def fit():
    return tiny.fit(workdir, num_devices=2, batches=host_batches)


if __name__ == "__main__":
    workdir, result = map(Path, sys.argv[1:3])
    assert jax.process_count() == 2
    assert jax.local_device_count() == 2
    lose, resumed = "lose" in sys.argv, False
    if lose:
        sys.exit(exit_status(fit))
    try:
        fit()
    except Killed:
        resumed = True
    assert resumed
    parallel.barrier("killed")
    state = fit()
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
    try:
        parallel.usable_devices(18)
    except ValueError as error:
        message = str(error)
    result.write_bytes(pickle.dumps((jax.tree.leaves(state), message)))
    parallel.barrier("done")
