import math
from html.parser import HTMLParser

import pytest

from reid_jax import report

TABLE = report.Table(
    title="Table 1: Market-1501",
    columns=("rank1", "map_trapezoid", "map_step"),
    rows=[
        {"label": "TriNet (2017)", "paper": {"rank1": 0.8492, "map_trapezoid": 0.6914}},
        {
            "label": "softmax",
            "paper": {"rank1": 0.8334, "map_trapezoid": 0.6320},
            "ours": {"rank1": (0.5123, 0.0123), "map_trapezoid": [0.39, 0.01], "map_step": 0.4},
            "note": "ResNet-18",
        },
        {"label": "a|b <i>", "ours": {"rank1": float("nan"), "map_step": None}},
    ],
    notes=("Mean of 5 runs & <more>.",),
    data_source="stand-in",
)


def _cells(text):
    """Rows of cell texts of an HTML table, entities resolved; fails on a tag left open."""
    rows, open_tags = [], []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag != "br":
                open_tags.append(tag)
            if tag == "tr":
                rows.append([])
            if tag in ("td", "th"):
                rows[-1].append("")

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

        def handle_data(self, data):
            if rows and open_tags and open_tags[-1] in ("td", "th", "small"):
                rows[-1][-1] += data

    Parser().feed(text)
    assert not open_tags
    return rows


def test_text_table_golden():
    assert report.text_table(TABLE).splitlines() == [
        "Table 1: Market-1501 (%)",
        "[stand-in data: rendered, not comparable with the paper]",
        "                            rank-1      mAP (trapezoid)  mAP (step)",
        "               paper          ours  paper          ours        ours",
        "-" * 78,
        "TriNet (2017)  84.92             -  69.14             -           -",
        "softmax        83.34  51.23 ± 1.23  63.20  39.00 ± 1.00       40.00  ResNet-18",
        "a|b <i>            -             -      -             -           -",
        "-" * 78,
        "Mean of 5 runs & <more>.",
    ]


def test_markdown_table_golden():
    assert report.markdown_table(TABLE).splitlines() == [
        "**Table 1: Market-1501 (%)**",
        "",
        "**stand-in data: rendered, not comparable with the paper**",
        "",
        "|  | rank-1, paper | rank-1, ours | mAP (trapezoid), paper | mAP (trapezoid), ours "
        "| mAP (step), ours | note |",
        "|---|---:|---:|---:|---:|---:|---|",
        "| TriNet (2017) | 84.92 | - | 69.14 | - | - |  |",
        "| softmax | 83.34 | 51.23 ± 1.23 | 63.20 | 39.00 ± 1.00 | 40.00 | ResNet-18 |",
        "| a\\|b \\<i> | - | - | - | - | - |  |",
        "",
        "Mean of 5 runs & \\<more>.",
    ]


def test_html_table_golden():
    text = report.html_table(TABLE)
    assert _cells(text) == [
        ["", "rank-1", "mAP (trapezoid)", "mAP (step)", "note"],
        ["paper", "ours", "paper", "ours", "ours"],
        ["TriNet (2017)", "84.92", "-", "69.14", "-", "-", ""],
        ["softmax", "83.34", "51.23± 1.23", "63.20", "39.00± 1.00", "40.00", "ResNet-18"],
        ["a|b <i>", "-", "-", "-", "-", "-", ""],
        ["Mean of 5 runs & <more>."],
    ]
    assert "<i>" not in text
    assert '<span class="mark">stand-in data: rendered, not comparable' in text


def test_a_table_without_the_papers_numbers_does_not_name_sources():
    table = report.Table("Ours", ("rank1", "auc"), [{"label": "run", "ours": {"rank1": 0.5}}])
    assert report.text_table(table).splitlines()[1] == "     rank-1  auc"
    assert "| run | 50.00 | - |" in report.markdown_table(table)
    assert _cells(report.html_table(table)) == [["", "rank-1", "auc"], ["run", "50.00", "-"]]


def test_every_format_marks_data_that_is_not_official():
    rows = [{"label": "ours", "ours": {"rank1": 0.5}}]
    for render in (report.text_table, report.markdown_table, report.html_table):
        assert "stand-in data" in render(report.Table("t", ("rank1",), rows, (), "stand-in"))
        assert "own data" in render(report.Table("t", ("rank1",), rows, (), "custom"))
        official = render(report.Table("t", ("rank1",), rows))
        assert not any(words in official for words in ("comparable", "official", 'class="mark"'))
    unmarked = report.html_table(report.Table("t", ("rank1",), rows, (), "stand-in"), marked=False)
    assert "stand-in" not in unmarked


def test_a_table_without_rows_keeps_its_head():
    table = report.Table("Empty", ("rank1",), [])
    assert "rank-1" in report.text_table(table)
    assert _cells(report.html_table(table)) == [["", "rank-1"]]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.864, "86.40"),
        (1, "100.00"),
        (-0.0123, "-1.23"),
        ((0.5, 0.01), "50.00 ± 1.00"),
        ([0.5, None], "50.00"),
        ((0.5, math.nan), "50.00"),
        ((None, None), "-"),
        (None, "-"),
        (math.nan, "-"),
    ],
)
def test_percent(value, expected):
    assert report.percent(value) == expected


def test_percent_refuses_three_values():
    with pytest.raises(ValueError, match="standard deviation"):
        report.percent((0.1, 0.2, 0.3))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"ours": {}}, "label"),
        ({"label": "x", "our": {}}, "'our'"),
        ({"label": "x", "ours": {"rank_1": 0.5}}, "rank_1"),
    ],
)
def test_table_refuses_a_row(row, message):
    with pytest.raises(ValueError, match=message):
        report.Table("t", ("rank1",), [row])


def test_unknown_data_source_is_refused():
    with pytest.raises(ValueError, match="official, stand-in, custom"):
        report.Table("t", ("rank1",), [], data_source="rendered")
