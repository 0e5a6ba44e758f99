import made_up
import numpy as np
import pytest

from reid_jax.report import Pictures, Run


def run_in_memory(*, seed=0, drawn=True, **results):
    """A finished run with made-up numbers; keywords replace entries of its results.

    With `drawn=False` it has its lists but nothing that a page would draw, which takes long.
    """
    training, validation = made_up.curves(seed=seed)
    if not drawn:
        lists = {k: v for k, v in made_up.ranking(seed=seed).items() if k.startswith("ranked_")}
        return Run(made_up.results(seed=seed, **results), made_up.CONFIG, ranking=lists)
    return Run(
        made_up.results(seed=seed, **results),
        made_up.CONFIG,
        training,
        validation,
        made_up.ranking(seed=seed),
    )


@pytest.fixture
def make_run():
    return run_in_memory


@pytest.fixture
def thumbnails():
    """Noise as crops of the lists that `make_run` makes; keywords are further fields."""

    def pictures(num_lists=3, height=16, width=8, **fields):
        rng = np.random.Generator(np.random.Philox(1))
        shape = (3 * num_lists, 11, height, width, 3)
        pixels = rng.integers(0, 256, shape, np.uint8)
        return Pictures(pixels[:, 0], pixels[:, 1:], **fields)

    return pictures
