"""`reid-jax train` as it is typed, on a tiny network: whole, again, after a stop, and refused."""

import dataclasses
import inspect
import json
import os
import re
import shutil
import signal

import jax
import numpy as np
import pytest
from search_parts import write

import reid_jax as rj
from reid_jax import models
from reid_jax.cli import main
from reid_jax.preprocess import IMAGENET_MEAN
from reid_jax.recipes import RECIPES, methods, running


def tiny(start, num_identities):
    return models.ResNet((1, 1), False, width=4, num_identities=num_identities, neck=True)


def make_small(patch):
    """The recipe of the default with a network of two blocks, from scratch."""
    default = inspect.signature(running.train).parameters["recipe"].default
    changed = dataclasses.replace(RECIPES[default], model=tiny, batch_size=8, size=(32, 32))
    patch.setitem(RECIPES, default, changed)
    patch.setattr(running, "PROBE_STEPS", 3)
    start = methods.StartingNetwork("resnet18", {}, IMAGENET_MEAN, (64.0,) * 3, "", "network: tiny")
    patch.setattr(methods, "starting_network", lambda: start)


@pytest.fixture(autouse=True)
def small_recipes(monkeypatch):
    make_small(monkeypatch)


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Three crops of each of ten people."""
    root = tmp_path_factory.mktemp("crops")
    random = np.random.default_rng(0)
    for person in range(10):
        colour = random.integers(0, 256, 3)
        for i in range(3):
            write(root / f"person_{person}" / f"{i}.png", colour, 10 * person + i)
    return root


def run(*arguments):
    return main(["train", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def made(crops, tmp_path_factory):
    """The directory of a finished training."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        out = tmp_path_factory.mktemp("models") / "model"
        assert run(crops, "--out", out, "--steps", 6) == 0
    return out


def test_the_model_and_what_is_beside_it(made, crops, tmp_path, capsys):
    files = {path.name for path in made.iterdir()}
    assert {"embedder.json", "variables.safetensors", "results.json", "report.html"} <= files
    # What the page prints is taken up as the same training, not refused as another one.
    assert "--recipe batch_contrastive --steps 6 --seed 0" in (made / "report.html").read_text()
    assert {"plan.json", "training"} <= files
    results = json.loads((made / "results.json").read_text())
    assert results["protocol"] == "single-query-no-cameras"
    assert results["num_train_identities"] == 10 - 2 - 2
    assert set(results["metrics"]) >= {"rank1", "map_step"}
    embedder = rj.Embedder.load(made)
    image = crops / "person_0" / "0.png"
    assert embedder([image]).shape == (1, 8)
    assert results["operating"]["measured_on"] == "validation"
    assert embedder.known_decision().as_json() == results["operating"]
    other = crops / "person_1" / "0.png"
    assert main(["same", str(made), str(image), str(other)]) == 0
    assert "distance" in capsys.readouterr().out
    query = ["find", made, "--gallery", crops, "--query", image, "--store", tmp_path / "store"]
    assert main([str(word) for word in query]) == 0
    assert "person_0" in capsys.readouterr().out
    # The people of the test are none of those that were trained on.
    division = rj.recipes.divided(rj.data.open_splits(crops), seed=0)
    rj.protocols.PROTOCOLS["single-query"].shared(embedder.trainings, division.test)


def test_a_finished_training_is_told_again(made, crops, capsys):
    before = (made / "embedder.json").stat().st_mtime_ns
    assert run(crops, "--out", made, "--steps", 6) == 0
    printed = capsys.readouterr().out
    assert "is finished already" in printed
    assert "rank-1" in printed
    assert (made / "embedder.json").stat().st_mtime_ns == before


@pytest.mark.slow  # tests/training/test_loop.py stops and resumes the loop itself
def test_a_stopped_training_goes_on_to_the_same_model(made, crops, tmp_path, monkeypatch, capsys):
    fit = running.fit

    def stopping(*args, **options):
        if (validation := options.get("validation")) is not None:

            def asked(embedder):
                os.kill(os.getpid(), signal.SIGTERM)
                return validation(embedder)

            options["validation"] = asked
        return fit(*args, **options)

    monkeypatch.setattr(running, "fit", stopping)
    out = tmp_path / "model"
    assert run(crops, "--out", out, "--steps", 6) == 130
    assert "the same command goes on from there" in capsys.readouterr().err
    assert not (out / "embedder.json").exists()
    monkeypatch.setattr(running, "fit", fit)
    assert run(crops, "--out", out, "--steps", 6) == 0
    assert "Resuming after step" in capsys.readouterr().out
    ours, theirs = (rj.Embedder.load(place).variables for place in (out, made))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_a_directory_of_something_else_is_refused(made, crops, tmp_path, capsys):
    assert run(crops, "--out", made, "--steps", 6, "--seed", 1) == 1
    assert "belongs to another training:\n  seed: 0 there, 1 here" in capsys.readouterr().err
    assert run(crops, "--out", crops, "--steps", 6) == 1
    assert "holds something that is no training" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert run(crops, "--out", tmp_path / "file") == 1
    assert "is a file" in capsys.readouterr().err


def test_images_that_came_later_are_no_part_of_a_finished_training(made, crops, tmp_path, capsys):
    grown = tmp_path / "grown"
    shutil.copytree(crops, grown)
    out = tmp_path / "model"
    shutil.copytree(made, out)
    plan = json.loads((out / "plan.json").read_text())
    plan["request"]["data"] = str(grown.resolve())
    (out / "plan.json").write_text(json.dumps(plan))
    assert run(grown, "--out", out, "--steps", 6) == 0
    write(grown / "person_0" / "9.png", (9, 99, 9))
    assert run(grown, "--out", out, "--steps", 6) == 1
    error = capsys.readouterr().err
    assert re.search(
        r"images: train, 30 images \(\w+\) there, train, 31 images \(\w+\) here", error
    ), error
    del plan["request"]["images"]  # A plan of before.
    (out / "plan.json").write_text(json.dumps(plan))
    assert run(grown, "--out", out, "--steps", 6) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--recipe", "clever"), "no cameras that count"),
        (("--minutes", "0.001"), "minutes are too few: .* give --minutes"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_training(
    crops, tmp_path, arguments, message, capsys
):
    assert run(crops, "--out", tmp_path / "model", *arguments) == 1
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "model").exists()


def test_images_that_allow_no_test_are_refused(tmp_path, capsys):
    for person in range(4):
        write(tmp_path / "few" / f"{person}" / "0.png", (9, 9, 9))
    assert run(tmp_path / "few", "--out", tmp_path / "model") == 1
    assert "4 images of 4 people, 0 of them with two images" in capsys.readouterr().err
    assert run(tmp_path / "nothing", "--out", tmp_path / "model") == 1
    assert "nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--minutes", "0"), "no number of minutes above 0"),
        (("--size", "128"), "expected HEIGHTxWIDTH"),
        (("--minutes", "3", "--steps", "9"), "not allowed with"),
        (("--recipe", "weak"), "invalid choice: 'weak'"),
    ],
)
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit):
        run("crops", "--out", "model", *arguments)
    assert message in capsys.readouterr().err
