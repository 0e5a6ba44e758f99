"""Reports: tables of a paper beside ours, and one self-contained HTML page for a run.

It takes data in memory and reads no file. What draws is imported on first use: a training that
reports at its end does not wait for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from reid_jax import extras

extras.require("matplotlib")  # before the modules below, which name it

if TYPE_CHECKING:
    from reid_jax.report.lists import Pictures
    from reid_jax.report.page import write_page, write_summary_page
    from reid_jax.report.pictures import pictures_of
    from reid_jax.report.run import Run
    from reid_jax.report.tables import (
        METRIC_HEADINGS,
        Table,
        data_mark,
        html_table,
        markdown_table,
        percent,
        text_table,
    )

__all__ = [
    "METRIC_HEADINGS",
    "Pictures",
    "Run",
    "Table",
    "data_mark",
    "html_table",
    "markdown_table",
    "percent",
    "pictures_of",
    "text_table",
    "write_page",
    "write_summary_page",
]

_HOMES = {
    "Pictures": "lists",
    "Run": "run",
    "pictures_of": "pictures",
    "write_page": "page",
    "write_summary_page": "page",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOMES.get(name, 'tables')}")
    return getattr(home, name)
