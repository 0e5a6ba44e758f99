"""What README and docs print runs, and what they point at is there."""

import argparse
import importlib
import json
import os
import re
import shlex
import tomllib
from pathlib import Path
from unittest import mock

import cv2
import jax
import numpy as np
import pytest
import tiny

import reid_jax as rj
from data_prep.prepare import DATASETS
from experiments.config import PROTOCOL_NAMES, parse_overrides
from experiments.papers import EXPERIMENTS, FIGURES, TABLES, build_config, slug

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "experiments/results/README.md",
    ROOT / "experiments/results/before_the_assembly/README.md",
]
page_of = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))

SMALLER = {
    "num_steps=700": "num_steps=20",
    'build("resnet18", ': 'build("resnet18", width=8, ',
    "size=(128, 64)": "size=(64, 32)",
}
"""All that the test changes of README's first block: seconds instead of minutes on a CPU."""


# The first block -------------------------------------------------------------------------------


def first_block(changes=SMALLER):
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    for printed, smaller in changes.items():
        assert block.count(printed) == 1, printed
        block = block.replace(printed, smaller)
    return block


def write_crops(directory):
    """60 people with Market-style names, two cameras and two images each, and a.jpg and b.jpg."""
    rng = np.random.default_rng(0)
    (directory / "my_crops").mkdir()
    for person in range(1, 61):
        clothes = rng.integers(0, 256, (2, 3))
        for camera in (1, 2):
            for number in range(2):
                crop = np.repeat(clothes, 32, axis=0)[:, None].repeat(32, axis=1)
                noise = rng.integers(-20, 21, crop.shape)
                name = f"my_crops/{person:04d}_c{camera}s1_{number:06d}_00.jpg"
                dark = (crop + noise).clip(0, 255) * (1.2 - 0.2 * camera)
                cv2.imwrite(str(directory / name), dark.astype(np.uint8))
    for name in ("a.jpg", "b.jpg"):
        cv2.imwrite(str(directory / name), rng.integers(0, 256, (80, 40, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """A directory in which the block finds what it reads."""
    directory = tmp_path_factory.mktemp("readme")
    write_crops(directory)
    return directory


@pytest.fixture(scope="module")
def ran(crops):
    """The directory and the block's names, after the block has run there."""
    names = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(crops)
        exec(first_block(), names)
    return crops, names


def test_the_first_block_runs_as_printed(ran):
    directory, names = ran
    sizes = {name: len(part) for name, part in names["parts"].items()}
    assert sizes == {"train": 40, "query": 100, "gallery": 100}
    assert 0 < names["found"].metrics["rank1"] <= 1
    assert (directory / "model" / "variables.safetensors").is_file()


def test_a_saved_and_an_opened_run_embed_to_the_bit(ran, monkeypatch):
    directory, names = ran
    monkeypatch.chdir(directory)
    images = ["a.jpg", "b.jpg"]
    fitted = names["embedder"](images)
    assert fitted.shape[0] == 2
    assert fitted.dtype == np.float32
    assert np.abs(fitted[0] - fitted[1]).max() > 1e-4
    np.testing.assert_array_equal(rj.Embedder.load("model")(images), fitted)
    np.testing.assert_array_equal(rj.Embedder.from_run("runs/mine")(images), fitted)


def test_the_same_block_resumes(ran, monkeypatch, capsys):
    directory, names = ran
    monkeypatch.chdir(directory)
    again = {}
    exec(first_block(), again)
    assert "Resuming after step 20 of 20" in capsys.readouterr().out
    tiny.assert_close(again["embedder"].variables, names["embedder"].variables, 0)
    assert again["found"].metrics == names["found"].metrics


@pytest.mark.usefixtures("float64")
@pytest.mark.slow
def test_the_fit_is_the_same_on_1_and_on_4_devices(crops, monkeypatch):
    """Three steps of two blocks, which compile soon, in float64.

    In float32 rounding grows in ResNet-18 from 5e-7 after one step to 7e-3 after three, and no
    tolerance would tell it from a fault.
    """
    monkeypatch.chdir(crops)
    changes = SMALLER | {
        "num_steps=700": "num_steps=3",
        'build("resnet18", ': "ResNet(blocks=(1, 1), bottleneck=False, width=8, ",
        'workdir="runs/mine"': "initial=in_float64",
    }
    fit = first_block(changes).partition("found = ")[0]
    trained = []
    for number in (1, 4):
        devices = jax.local_devices()[:number]
        monkeypatch.setattr(rj.parallel, "usable_devices", lambda rows, own=devices: own)
        names = {"in_float64": in_float64}
        exec(fit, names)
        trained.append(names["embedder"].variables)
    assert {leaf.dtype for leaf in jax.tree.leaves(trained)} == {np.dtype(np.float64)}
    tiny.assert_close(*trained, 1e-10)


def in_float64(variables):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), dict(variables))


# The pages -------------------------------------------------------------------------------------


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@page_of
def test_links_lead_to_files(page):
    text = page.read_text()
    for target in re.findall(r"\[[^\]]*\]\(([^)\s#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{target} in {page.name}"


def test_results_have_names_that_every_system_takes():
    for path in (ROOT / "experiments/results").rglob("*.*"):
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", path.name), path.name
        assert path.stat().st_size <= 512 * 1024, path.name


def test_readme_prints_the_committed_numbers():
    rows = re.findall(
        r"`([^`]+)`[^|`]*\| (\d+\.\d+) / (\d+\.\d+) ", (ROOT / "README.md").read_text()
    )
    assert len(rows) == 10
    for exp, *printed in rows:
        results = ROOT / "experiments/results"
        made_anew = sorted(results.glob(f"{slug(exp)}-[0-9]*_runs-small-stand-in.json"))
        before = results / f"before_the_assembly/{slug(exp)}-small-stand-in.json"
        path = made_anew[-1] if made_anew else before
        metrics = json.loads(path.read_text())["metrics"]
        measured = [f"{100 * metrics[name]:.2f}" for name in ("rank1", "map_step")]
        assert measured == printed, exp


def test_extras_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {e for page in PAGES for e in re.findall(r"'?\.\[(\w+)\]", page.read_text())}
    assert named
    assert named <= project["optional-dependencies"].keys()


# Commands --------------------------------------------------------------------------------------


def commands():
    """(page, words) of each command that runs a script of the repository."""
    for page in PAGES:
        text = page.read_text()
        blocks = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
        outside = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", outside)]
        for block in [*blocks, *inline]:
            for line in block.replace("\\\n", " ").splitlines():
                match = re.search(r"(?:\bpython3?) ((?:experiments|data_prep)/.*)", line)
                if match:
                    yield page.name, tuple(shlex.split(match.group(1).rstrip("'"), comments=True))


class Found(Exception):
    """Carries the parser of a script out of it."""


def parser_of(script, patch):
    def stop(parser, *args, **kwargs):
        raise Found(parser)

    patch.setattr(argparse.ArgumentParser, "parse_args", stop)
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    try:
        module.main()
    except Found as found:
        return found.args[0]
    raise AssertionError(f"{script} parses no options")


COMMANDS = sorted(set(commands()))


def test_there_are_commands():
    assert len(COMMANDS) > 20
    scripts = {words[0] for _, words in COMMANDS}
    assert {f"experiments/{name}.py" for name in ("run", "tables", "evaluate", "tune")} <= scripts


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=lambda part: part if isinstance(part, str) else " ".join(part)
)
def test_commands_name_scripts_and_options_that_exist(page, words):
    script, *options = words
    assert (ROOT / script).is_file()
    # A benchmark sets variables of the environment as it is imported.
    with pytest.MonkeyPatch.context() as patch, mock.patch.dict(os.environ):
        parser = parser_of(script, patch)
    if not options:
        return  # The script is named, not called.
    given = vars(parser.parse_args(options))
    if "NAME" not in (given.get("dataset") or "NAME") and script.startswith("data_prep"):
        assert given["dataset"] in DATASETS
    exp = given.get("exp") or ""
    overrides = given.get("overrides") or ()
    if exp and not exp.startswith("NAME"):
        config = build_config(exp, EXPERIMENTS, scale="small")
        parse_overrides(config, [o for o in overrides if not o.startswith("section.")])
    for name, known in (("table", TABLES), ("figure", FIGURES), ("protocol", PROTOCOL_NAMES)):
        value = given.get(name)
        assert value is None or value in known or value.isupper() or value == "...", value
