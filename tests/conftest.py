"""Eight CPU devices for every test, set before JAX is imported."""

import gc
import os
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ.pop("REID_DATA_DIR", None)
# The processes of one session, and the programs that tests start, compile each function once.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp(prefix="reid_jax_tests_"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Compilation is most of what the tests do, and takes a third of the time without XLA's costly
# passes. Set it to 0 to test what users run.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax
import pytest

# Tracing makes very many objects that live on: the collector would look at them over and over.
gc.set_threshold(100_000, 20, 100)

LONGEST = (
    *("test_layers", "test_run", "test_csn_runs", "test_finetuning", "test_resnet", "test_losses"),
    *("test_configs", "test_overlap_runs", "test_csn_training", "test_readme", "test_train"),
    *("test_efficientnet_lite0", "test_inherent", "test_siamese", "test_page", "test_processes"),
)
"""The files that take longest, the longest first."""


def pytest_configure(config):
    """Keeps the order of files below: pytest-xdist would begin with those of the most tests."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """The longest files first, so that no worker is left alone with one at the end."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_unconfigure(config):
    """Removes the compiled functions at the end of the session; workers leave them alone."""
    directory = os.environ["JAX_COMPILATION_CACHE_DIR"]
    if not hasattr(config, "workerinput") and "reid_jax_tests_" in directory:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def _free_compiled_functions():
    """A worker would hold gigabytes of them at the end: 1500 take two."""
    yield
    if len(jax.local_devices()[0].client.live_executables()) > 1500:
        jax.clear_caches()


@pytest.fixture
def float64():
    """Runs a test in double precision."""
    with jax.enable_x64(True):
        yield
