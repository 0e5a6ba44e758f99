import made_up
import numpy as np
import pytest

from reid_jax.report import Run


def run_in_memory(*, seed=0, **results):
    """A finished run with made-up numbers; keywords replace entries of its results."""
    training, validation = made_up.curves(seed=seed)
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
    """Noise of the shapes that `write_page` takes, for lists as `make_run` makes them."""

    def images(num_lists=3, height=16, width=8):
        rng = np.random.Generator(np.random.Philox(1))
        shape = (3 * num_lists, 11, height, width, 3)
        pixels = rng.integers(0, 256, shape, np.uint8)
        return {"query_images": pixels[:, 0], "gallery_images": pixels[:, 1:]}

    return images
