"""The results, made one after the other: what is made stays made, whatever stops the program."""

import argparse
import json
import pathlib
import shlex
import subprocess
import sys

import pytest

from data_prep.stand_in.__main__ import main as render
from experiments import make_results, papers
from experiments.config import parse_overrides
from experiments.options import add_run_options
from experiments.papers import FIGURES, TABLES
from experiments.printed import chosen_rows

STAND_IN = "tables.py --table=csn/5"


@pytest.fixture
def options(tmp_path):
    return argparse.Namespace(
        workdir=str(tmp_path / "work"),
        results_dir=str(tmp_path / "results"),
        data_dir=str(tmp_path / "data"),
    )


@pytest.fixture
def ran(monkeypatch):
    """Commands that were run, each with the status that `statuses` gives it, or 0."""
    commands, statuses = [], {}

    def run(command, *, cwd, env, check):
        assert pathlib.Path(cwd).is_dir()
        commands.append(command)
        status = statuses.get(len(commands), 0)
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(make_results.subprocess, "run", run)
    return commands, statuses


def parsed(item):
    parser = argparse.ArgumentParser()
    for option in ("--table", "--figure", "--rows"):
        parser.add_argument(option, default="")
    add_run_options(parser)
    return parser.parse_args(shlex.split(item)[1:])


@pytest.mark.parametrize("item", make_results.ITEMS)
def test_an_item_names_what_there_is(item):
    asked = parsed(item)
    assert bool(asked.table) != bool(asked.figure)
    if asked.figure:
        assert asked.figure in FIGURES
        return
    table = TABLES[asked.table]
    rows = chosen_rows(table, asked.rows, asked.table) if asked.table != "csn/5" else []
    for _, exp, *_ in rows:
        config = papers.build_config(exp, papers.EXPERIMENTS, scale=asked.scale)
        parse_overrides(config, asked.overrides)


def test_every_table_and_figure_is_made():
    asked = [parsed(item) for item in make_results.ITEMS]
    assert {each.table for each in asked} - {""} == TABLES.keys()
    assert {each.figure for each in asked} - {""} == FIGURES.keys()
    assert len(set(make_results.ITEMS)) == len(make_results.ITEMS)


def test_a_stopped_program_goes_on_where_it_stood(options, ran, capsys):
    commands, statuses = ran
    items = make_results.chosen("batch_contrastive/")
    statuses[2] = 130
    assert make_results.make(items, options) == 130
    assert len(commands) == 2
    assert f"goes on with {items[1]}" in capsys.readouterr().out
    assert make_results.make(items, options) == 0
    assert len(commands) == 1 + len(items)
    assert commands[1] == commands[2]
    assert make_results.make(items, options) == 0
    assert len(commands) == 1 + len(items)


def test_a_command_has_no_path_of_this_machine_that_results_would_hold(options):
    item = make_results.chosen("strong/pretrained")[0]
    assert make_results.command(item, options)[-1] == "--data_dir=../data"


def test_the_larger_stand_in_is_rendered_before_what_is_measured_on_it(options, ran, monkeypatch):
    made, statuses = ran
    (item,) = make_results.chosen("clever/inter_grad")
    statuses[2] = 1
    assert make_results.make([item], options) == 1
    assert make_results.make([item], options) == 0
    first = [command[2] for command in made[:2]]
    assert first == ["data_prep.stand_in", "data_prep.prepare"]
    assert [command[1:] for command in made[2:4]] == [command[1:] for command in made[:2]]
    assert len(made) == 5
    assert "--data_dir=stand_in_100" in made[4]
    given = {}
    writer = (lambda *a, **k: given.update(k) or a[0], ("num_test_identities", "groups"), 10)
    monkeypatch.setattr("data_prep.stand_in.__main__._WRITERS", {"cuhk03": writer})
    assert render(made[0][3:]) == 0
    assert (given["num_test_identities"], sum(given["groups"])) == (100, 390)


def test_runs_on_the_two_stand_ins_are_kept_apart(tmp_path):
    places = {
        make_results.folder(item, tmp_path)
        for item in make_results.chosen("clever/1,clever/2,clever/inter_grad")
    }
    assert places == {tmp_path, tmp_path / "larger"}


SAVES = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGINT, lambda *_: None)
os.kill(os.getppid(), signal.SIGINT)
time.sleep(1)
pathlib.Path("saved").touch()
sys.exit(130)
"""


def test_ctrl_c_gives_the_program_time_to_save(options, monkeypatch, capsys):
    program = [sys.executable, "-c", SAVES]
    monkeypatch.setattr(make_results, "command", lambda item, options: program)
    assert make_results.make([STAND_IN], options) == 130
    assert (pathlib.Path(options.workdir) / "saved").exists()
    assert f"goes on with {STAND_IN}" in capsys.readouterr().out


def test_what_fails_is_named_and_the_rest_is_made(options, ran, capsys):
    commands, statuses = ran
    items = make_results.chosen("csn/")
    statuses[1] = 1
    assert make_results.make(items, options) == 1
    assert len(commands) == len(items)
    assert f"not made, see its error above: {items[0]}" in capsys.readouterr().err
    assert make_results.make(items, options) == 0
    assert len(commands) == len(items) + 1


def test_photographs_are_left_out_by_name(options, ran, monkeypatch, capsys):
    commands, _ = ran
    words = ["make_results.py", "--only=strong/", f"--workdir={options.workdir}"]
    monkeypatch.setattr(sys, "argv", [*words, f"--data_dir={options.data_dir}"])
    assert make_results.main() == 0
    assert "Left out, for there is no market_photos in --data_dir" in capsys.readouterr().err
    assert [any("pretrained" in word for word in command) for command in commands] == [False] * 2


def test_the_list_says_what_is_made(options, ran, monkeypatch, capsys):
    item = STAND_IN
    assert make_results.make([item], options) == 0
    monkeypatch.setattr(
        sys, "argv", ["make_results.py", "--list", "--only=csn", f"--workdir={options.workdir}"]
    )
    assert make_results.main() == 0
    lines = capsys.readouterr().out.splitlines()
    of_csn = [line for line in lines if "csn/" in line and not line.startswith("---")]
    assert [line.endswith(item) and "min" in line for line in of_csn].count(True) == 1
    assert sum("to make" in line for line in of_csn) == len(of_csn) - 1
    monkeypatch.setattr(sys, "argv", ["make_results.py", "--only=nothing"])
    with pytest.raises(SystemExit):
        make_results.main()
    assert "--only=nothing: no item has it" in capsys.readouterr().err


@pytest.mark.slow  # test_table_of_complexity_needs_no_run makes the table in this process
def test_an_item_that_needs_no_training_is_made(options):
    assert make_results.make([STAND_IN], options) == 0
    with open(f"{options.workdir}/{make_results.MADE}") as file:
        assert list(json.load(file)) == [STAND_IN]
    with open(f"{options.results_dir}/csn_table_5.md") as file:
        assert "Table 5" in file.read()
