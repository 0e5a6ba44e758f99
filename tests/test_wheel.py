"""The wheel: what is in it, and that it works alone, far from the repository."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OFFLINE = ("--no-deps", "--no-index", "--disable-pip-version-check", "--quiet")

PROGRAM = """
import functools
import sys
import jax
import numpy as np
import reid_jax as rj

model = rj.models.build("resnet18", width=4)
example = np.zeros((1, 32, 32, 3), np.float32)
# Compiled at once and without XLA's costly passes: random numbers of many shapes take seconds.
init = jax.jit(
    functools.partial(model.init, train=False),
    compiler_options={"xla_backend_optimization_level": 0},
)
embedder = rj.Embedder(
    model=model,
    variables=jax.device_get(init(jax.random.key(0), example)),
    preprocess=rj.Preprocess(size=(32, 32)),
)
images = np.random.default_rng(0).integers(0, 256, (2, 40, 20, 3), dtype=np.uint8)
embedded = embedder(images)
embedder.save("model")
assert embedded.shape == (2, 32) and np.isfinite(embedded).all(), embedded
np.testing.assert_array_equal(rj.Embedder.load("model")(images), embedded)
assert "strong" in rj.recipes.RECIPES
heavy = {"matplotlib", "sklearn", "tensorflow_datasets", "msgspec", "h5py", "experiments"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
print(rj.__file__)
"""


def run(*command, **how):
    result = subprocess.run(command, capture_output=True, text=True, check=False, **how)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    # A copy, so that no build folder or egg-info of the clone gets in, and none is left there.
    place = tmp_path_factory.mktemp("wheel")
    clone = place / "clone"
    clone.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    for top in ("reid_jax", "experiments", "data_prep"):
        shutil.copytree(ROOT / top, clone / top, ignore=shutil.ignore_patterns("__pycache__"))
    pip = (sys.executable, "-m", "pip")
    run(*pip, "wheel", *OFFLINE, "--no-build-isolation", "-w", place / "dist", clone)
    (found,) = (place / "dist").glob("*.whl")
    return found


def test_the_wheel_holds_the_library_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"reid_jax"}
    files = {
        f"reid_jax/{path.relative_to(ROOT / 'reid_jax')}"
        for path in (ROOT / "reid_jax").rglob("*")
        if path.suffix in (".py", ".typed", ".html", ".css", ".js")
    }
    assert files == {name for name in names if name.startswith("reid_jax/")}
    assert "reid_jax/py.typed" in files


def test_the_wheel_embeds_from_an_empty_directory(wheel, tmp_path):
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    run(sys.executable, "-m", "pip", "install", *OFFLINE, "--target", site, wheel)
    printed = run(
        sys.executable,
        *("-P", "-c", PROGRAM),
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    assert printed.strip() == str(site / "reid_jax" / "__init__.py")


@pytest.mark.parametrize("program", ["experiments/run.py", "data_prep/prepare.py"])
def test_programs_of_a_clone_run_from_another_directory(tmp_path, program):
    printed = run(sys.executable, ROOT / program, "--help", cwd=tmp_path)
    assert printed.startswith("usage: ")
