"""What a command says where a package of an extra is missing."""

import sys

import pytest

from reid_jax.cli import main


def test_serve_without_flask(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "flask", None)
    monkeypatch.delitem(sys.modules, "reid_jax.search.server", raising=False)
    assert main(["serve", "model", "--gallery", "photos"]) == 1
    assert "flask is not installed: pip install 'reid-jax[serve]'" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--version"], ["nothing"]])
def test_what_is_no_command(arguments, capsys):
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 1
    assert "usage: reid-jax" in capsys.readouterr().err
