"""A prepared stand-in of a few identities, and a run of a few steps on it."""

import pytest
import tiny

from data_prep import stand_in
from data_prep.prepare import prepare
from experiments.options import RunOptions


@pytest.fixture(scope="session")
def raw_dir(tmp_path_factory):
    """A tiny Market-1501 tree in the official layout."""
    raw_dir = tmp_path_factory.mktemp("raw")
    stand_in.write_market1501(
        raw_dir,
        num_train_identities=8,
        num_test_identities=4,
        train_images_per_identity=5,
        gallery_images_per_identity=4,
        num_distractors=3,
        num_junk=2,
        num_workers=1,
        progress=False,
    )
    return raw_dir


@pytest.fixture(scope="session")
def data_dir(raw_dir, tmp_path_factory):
    """The tree prepared, with two identities kept for validation."""
    data_dir = tmp_path_factory.mktemp("prepared")
    prepare("market1501", raw_dir, data_dir, num_val_identities=2, progress=False)
    return data_dir


@pytest.fixture
def options(data_dir, tmp_path):
    """Options of a tiny run, as the command line gives them; ``options(exp=..., ...)``."""

    def make(**changed):
        values = {
            "exp": "batch_contrastive_market",
            "data_dir": str(data_dir),
            "workdir": str(tmp_path / "run"),
            "scale": "small",
        }
        overrides = (*tiny.OVERRIDES, *changed.pop("overrides", ()))
        return RunOptions(**{**values, **changed, "overrides": overrides})

    return make
