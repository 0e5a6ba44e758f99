"""What a program does before its first result: no JAX for --help, nothing compiled twice."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from plain_network import Plain

import reid_jax as rj
from reid_jax import compilation, data, evaluation, objectives, protocols
from reid_jax.training import Intervals, schedules

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("program", ["run", "tables", "evaluate", "tune"])
def test_help_of_a_program_answers_without_jax(program):
    code = (
        "import runpy, sys\n"
        "sys.argv = [sys.argv[1], '--help']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as done:\n    assert not done.code, done.code\n"
        "assert not {'jax', 'flax', 'optax', 'reid_jax.models'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", code, f"experiments/{program}.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: " in done.stdout


def test_a_training_starts_without_what_a_report_needs():
    code = (
        "import sys, experiments.launch\n"
        "late = {'matplotlib.figure', 'jinja2', 'scipy.io', 'scipy.optimize', 'scipy.sparse'}\n"
        "assert not late & set(sys.modules), late & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def compilations():
    """A list to which the name of each function that is compiled is added."""
    names = []

    def on_event(event, seconds, **said):
        del seconds
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(said.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(on_event)
    yield names
    jax.monitoring.unregister_event_duration_listener(on_event)


@pytest.fixture(scope="module")
def subsets(tmp_path_factory):
    """A folder of ten people, some of them for validation and some for the test."""
    folder = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    for person in range(10):
        (folder / f"p{person}").mkdir()
        for number in range(5 + person % 3):
            pixels = rng.integers(0, 256, (32, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"p{person}" / f"{number}.png")
    source = data.open_folder(folder)
    return data.carve(source, num_test_identities=3, num_val_identities=3, seed=0)


def test_nothing_is_compiled_after_the_first_step_and_evaluation(subsets, compilations, tmp_path):
    protocol = protocols.PROTOCOLS["single-query"]
    of_validation = {name[4:]: source for name, source in subsets.items() if name[:4] == "val_"}
    validate = protocol.validation(of_validation)
    numbers = []

    def validation(embedder):
        scores = validate(embedder)
        numbers.append(len(compilations))
        return scores

    train = subsets["train"]
    embedder = rj.fit(
        Plain(num_identities=train.num_identities, batch_norm=True),
        objectives.softmax(),
        train,
        sampler=data.UniformSampler(len(train), batch_size=8, seed=0),
        optimizer=schedules.sgd(lambda step: 0.01, momentum=0.9, weight_decay=0.0),
        preprocess=rj.Preprocess(size=(32, 16), mean=(100.0,) * 3, std=(60.0,) * 3),
        num_steps=9,
        seed=0,
        workdir=tmp_path,
        validation=validation,
        intervals=Intervals(log_every=2, checkpoint_every=4, validate_every=3),
    )
    assert len(numbers) == 3
    assert len(compilations) == numbers[0] > 0, compilations[numbers[0] :]
    protocol.evaluate(embedder, subsets)
    first = len(compilations)
    protocol.evaluate(embedder, subsets)
    assert len(compilations) == first, compilations[first:]


def test_the_next_scorer_of_a_network_compiles_nothing(compilations):
    def embed(variables, images):
        return {"part": images.mean((1, 2)) * variables}

    def score(variables, parts_a, parts_b):
        return (variables * parts_a["part"] * parts_b["part"]).sum(1)

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    counts = []
    for variables in (np.float32(1), np.float32(2)):
        cache = evaluation.cache_images(
            embed,
            variables,
            lambda rows: [images[rows]],
            image=jax.ShapeDtypeStruct((1, 4, 4, 3), np.uint8),
            num_images=5,
            batch_size=5,
            description="images",
        )
        scorer = evaluation.PairScorer(score, variables, cache, block_size=4)
        ours = scorer.distance_of(np.array([0, 1]), np.array([2, 3, 4]))
        means = images.mean((1, 2)) * variables
        expected = -variables * np.einsum("qd,gd->qg", means[:2], means[2:])
        np.testing.assert_allclose(ours, expected, rtol=1e-4)
        counts.append(len(compilations))
    assert counts[1] == counts[0] > 0, compilations[counts[0] :]


def test_what_is_compiled_is_kept_where_nobody_says_otherwise(monkeypatch, tmp_path):
    keys = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [jax.config.values[key] for key in keys]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.delenv(name, raising=False)
    try:
        compilation.keep_compiled()
        directory = os.path.join(tmp_path, "reid_jax", "compilation")
        assert [jax.config.values[key] for key in keys] == [directory, compilation.LEAST_SECONDS]
        jax.config.update(keys[0], "elsewhere")
        jax.config.update(keys[1], 7.0)
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
        monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "7")
        compilation.keep_compiled()
        assert [jax.config.values[key] for key in keys] == ["elsewhere", 7.0]
    finally:
        for key, value in zip(keys, before, strict=True):
            jax.config.update(key, value)
