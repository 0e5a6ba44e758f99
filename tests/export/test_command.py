"""``reid-jax export``: the ending chooses the form, and what is wrong is one line."""

import argparse
import json

import pytest
import tiny_embedders

from reid_jax.cli import export as command


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "model"
    tiny_embedders.embedder("resnet18", width=4).save(directory)
    return directory


def test_the_ending_chooses_the_form(model, tmp_path, capsys):
    results = tmp_path / "results.json"
    results.write_text(json.dumps({"protocol": "single-query", "metrics": {"rank1": 0.5}}))
    output = tmp_path / "exported" / "model.safetensors"
    assert run(model, "-o", output, "--results", results) == 0
    card = json.loads((output.parent / "model.safetensors.json").read_text())
    assert card["form"] == "safetensors"
    assert card["evaluation"] == {"protocol": "single-query", "metrics": {"rank1": 0.5}}
    assert card["loader"] in capsys.readouterr().out


def test_without_results_the_card_has_none(model, tmp_path):
    assert run(model, "-o", tmp_path / "model.stablehlo") == 0
    card = json.loads((tmp_path / "model.stablehlo.json").read_text())
    assert (card["form"], card["evaluation"]) == ("stablehlo", None)


def test_without_the_package_onnx_one_line_says_what_to_install(
    model, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert run(model, "-o", tmp_path / "model.onnx") == 1
    assert "pip install" in one_line(capsys)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.pt", "known ones are .stablehlo, .onnx, .safetensors"),
        ("model", "ends in 'nothing'"),
        (".", "ends in 'nothing'"),
    ],
)
def test_an_ending_that_is_not_known(model, tmp_path, capsys, name, message):
    assert run(model, "-o", tmp_path / name) == 1
    assert message in one_line(capsys)


def test_a_directory_that_is_no_model(model, tmp_path, capsys):
    assert run(tmp_path / "absent", "-o", tmp_path / "model.onnx") == 1
    assert "there is no model" in one_line(capsys)
    assert run(tmp_path, "-o", tmp_path / "model.stablehlo") == 1
    assert "is no saved model" in one_line(capsys)
    (tmp_path / "folder.onnx").mkdir()
    assert run(model, "-o", tmp_path / "folder.onnx") == 1
    assert "is a directory" in one_line(capsys)
    assert run(model, "-o", tmp_path / "a.safetensors", "--results", tmp_path / "none.json") == 1
    assert "none.json" in one_line(capsys)


def one_line(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("reid-jax export: ")
    assert captured.err.count("\n") == 1
    return captured.err
