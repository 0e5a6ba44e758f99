"""Libraries that only some work needs."""

import importlib
import sys

import pytest

from reid_jax import extras


@pytest.mark.parametrize("library", sorted(extras.EXTRAS))
def test_a_missing_library_is_named_with_what_installs_it(monkeypatch, library):
    package, extra = extras.EXTRAS[library]
    monkeypatch.setitem(sys.modules, library, None)
    message = rf"^{package} is not installed: pip install 'reid-jax\[{extra}\]'$"
    with pytest.raises(ModuleNotFoundError, match=message):
        extras.require(f"{library}.part")


def test_a_library_that_lacks_something_itself_says_so(monkeypatch):
    def broken(module):
        raise ModuleNotFoundError("No module named 'kiwisolver'", name="kiwisolver")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="kiwisolver"):
        extras.require("matplotlib")


@pytest.mark.parametrize("part", ["report", "visual"])
def test_figures_and_reports_need_matplotlib(monkeypatch, part):
    for name in [n for n in sys.modules if n.startswith((f"reid_jax.{part}", "matplotlib"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match="matplotlib is not installed: pip install"):
        importlib.import_module(f"reid_jax.{part}")
