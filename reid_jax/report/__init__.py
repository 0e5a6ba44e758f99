"""Reports: tables of a paper beside ours, and one self-contained HTML page for a run."""

from reid_jax.report.page import deviations, write_page, write_summary_page
from reid_jax.report.run import Run
from reid_jax.report.runs import read_results, summarize
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
    "Run",
    "Table",
    "data_mark",
    "deviations",
    "html_table",
    "markdown_table",
    "percent",
    "read_results",
    "summarize",
    "text_table",
    "write_page",
    "write_summary_page",
]
