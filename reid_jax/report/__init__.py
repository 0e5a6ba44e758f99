"""Reports: tables of a paper beside ours, and one self-contained HTML page for a run.

It takes data in memory and reads no file.
"""

from reid_jax import extras

extras.require("matplotlib")  # before the modules below, which name it

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
