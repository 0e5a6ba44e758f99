"""What the experiments hold of the papers, against a second transcription of the papers."""

import dataclasses
import re

import pytest
from flat_config import defaults, flat

from experiments import figures, papers
from references import printed

METRICS = {
    "rank-1": "rank1",
    "rank-5": "rank5",
    "rank-10": "rank10",
    "top-1": "rank1",
    "top-5": "rank5",
    "top-10": "rank10",
}
# Of each method's tables, the AP that its numbers are.
AP = {"inherent": "map_step"}
OF_MULTI_QUERY = {
    "multi-rank-1": "multi-query-average/rank1",
    "multi-mAP": "multi-query-average/map_trapezoid",
}
OF_MULTI_SHOT = {
    metric: f"multi-shot/{METRICS.get(metric, 'map_trapezoid')}"
    for metric in ("rank-1", "rank-5", "rank-10", "mAP")
}
OF_DISTRACTORS = {
    f"{size}-{metric}": f"distractors/{share}{METRICS.get(metric, 'map_trapezoid')}"
    for size, share in (("100k", "fifth/"), ("200k", "two_fifths/"), ("500k", ""))
    for metric in ("rank-1", "mAP")
}
TABLES = {
    "batch_contrastive/1": (printed.BATCH_CONTRASTIVE_1, {}),
    "batch_contrastive/2": (printed.BATCH_CONTRASTIVE_2, {}),
    "identif_verif/2": (printed.IDENTIF_VERIF_2, {}),
    "identif_verif/3": (printed.IDENTIF_VERIF_3, OF_MULTI_QUERY),
    "identif_verif/4": (printed.IDENTIF_VERIF_4, {}),
    "identif_verif/5": (printed.IDENTIF_VERIF_5, OF_MULTI_SHOT),
    "identif_verif/6": (printed.IDENTIF_VERIF_6, OF_DISTRACTORS),
    "identif_verif/7": (printed.IDENTIF_VERIF_7, {}),
    "clever/1": (printed.CLEVER_1, {}),
    "clever/2": (printed.CLEVER_2, {}),
    "inherent/1": (printed.INHERENT_1, {}),
    "csn/2": (printed.CSN_2, {}),
    "csn/3": (printed.CSN_3, {}),
    "csn/4": (printed.CSN_4, {}),
}
# Rows that the papers do not print as their own: another network with the same printed numbers, or
# nothing printed at all.
MORE_ROWS = re.compile(r", trunk of Table 5$|\(not in the paper\)$")
MORE_TABLES = (
    *("clever/inter_grad", "inherent/reduction", "inherent/scatter_weight"),
    *("csn/cross_camera", "csn/5"),
)


def plain(label):
    """A label without the characters in which transcriptions differ; C1 of Table 4 of csn is C1."""
    label = re.sub(r"^(C\d): .*", r"\1", label)
    return re.sub(r"[^a-z0-9]", "", label.lower())


def transcribed(text, columns, method):
    """{label: {column: number in percent}}, and of a table of several data sets by each of them."""
    head, *lines = text.strip().splitlines()
    datasets, _, metrics = head.rpartition(": ")
    names = [f"{d}/{m}" for d in datasets.split(", ") for m in metrics.split()]
    rows = {}
    for line in lines:
        label, numbers = line.rsplit("|", 1)
        for name, number in zip(names, numbers.split(), strict=True):
            dataset, _, metric = name.rpartition("/")
            if metric == "mAP" and metric not in columns:
                metric = AP.get(method, "map_trapezoid")
            metric = columns.get(metric) or METRICS.get(metric, metric)
            whole = plain(f"{dataset} {label}")
            if number != "-":
                rows.setdefault(whole, {})[metric] = float(number)
    return rows


def in_experiments(table, rows):
    found = {}
    for label, numbers in rows:
        own = {
            column: 100 * number
            for column, number in zip(table.columns, numbers, strict=True)
            if number is not None
        }
        if own:
            found[plain(label)] = own
    return found


@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_printed_digit(name):
    table = papers.TABLES[name]
    text, columns = TABLES[name]
    ours = in_experiments(table, [(label, numbers) for label, *numbers in table.literature])
    own = [(label, numbers) for label, _, *numbers in table.rows]
    ours |= in_experiments(table, [row for row in own if not MORE_ROWS.search(row[0])])
    theirs = transcribed(text, columns, name.partition("/")[0])
    assert ours.keys() == theirs.keys()
    for label, numbers in theirs.items():
        assert ours[label] == pytest.approx(numbers, abs=1e-9), label


def test_every_table_is_transcribed():
    of_no_paper = {name for name in papers.TABLES if name.endswith("/pretrained")}
    assert {*TABLES, *MORE_TABLES} == {
        name for name in papers.TABLES if not name.startswith("strong")
    } - of_no_paper
    assert len(of_no_paper) == 5
    for name in of_no_paper:
        assert all(set(numbers) == {None} for _, _, *numbers in papers.TABLES[name].rows)
    # The others repeat rows of these, or have none of the paper's.
    for name in ("clever/inter_grad", "inherent/reduction", "inherent/scatter_weight"):
        method = name.partition("/")[0]
        known = [numbers for _, _, *numbers in papers.TABLES[f"{method}/1"].rows]
        for _, _, *numbers in papers.TABLES[name].rows:
            assert numbers in known or set(numbers) == {None}
    # Two networks have one printed row.
    for name in ("csn/2", "csn/3", "csn/4"):
        rows = {label: numbers for label, _, *numbers in papers.TABLES[name].rows}
        more = {label: numbers for label, numbers in rows.items() if MORE_ROWS.search(label)}
        assert len(more) == {"csn/2": 4}.get(name, 1)
        for label, numbers in more.items():
            assert numbers == rows[MORE_ROWS.sub("", label)]


def test_what_networks_cost_is_as_printed():
    table = papers.TABLES["csn/5"]
    ours = {label: tuple(numbers) for label, *numbers in table.literature} | dict(table.printed)
    assert ours == printed.CSN_5


def test_the_numbers_of_rows_are_those_of_their_tables():
    """A run shows the numbers of its row, its table those of the transcription."""
    for table in map(papers.TABLES.get, TABLES):
        for _, exp, *numbers in table.rows:
            experiment, _, row = exp.partition(":")
            own = papers.EXPERIMENTS[experiment].paper.get(row, {})
            for column, number in zip(table.columns, numbers, strict=True):
                if number is not None and "/" not in column:
                    assert own[column] == number, (exp, column)
    # And there are no others, but for one that a README prints.
    shown = {exp for t in papers.TABLES.values() if hasattr(t, "rows") for _, exp, *_ in t.rows}
    for name, experiment in papers.EXPERIMENTS.items():
        for row, numbers in experiment.paper.items():
            if (exp := f"{name}:{row}".removesuffix(":")) not in shown:
                assert "test_mode=dense_flip" in row, exp
                assert numbers == printed.IDENTIF_VERIF_DENSE_FLIP


def test_what_figures_print():
    text = papers.FIGURES["identif_verif/6"].printed
    assert all(part in text for part in printed.IDENTIF_VERIF_FIGURE_6)
    assert figures.NUM_MAPPED_IDENTITIES == printed.IDENTIF_VERIF_FIGURE_4


def test_the_strong_baseline_has_its_printed_numbers():
    for exp, numbers in printed.STRONG.items():
        assert tuple(papers.EXPERIMENTS[exp].paper[""].values()) == numbers
        assert list(papers.EXPERIMENTS[exp].paper[""]) == ["rank1", "map_step"]


def test_what_a_config_says_where_nothing_is_said():
    said = {k: v for k, v in defaults().items() if v is not dataclasses.MISSING}
    assert {k: v for k, v in said.items() if v} == printed.WHERE_NOTHING_IS_SAID


def test_every_row_of_the_papers_has_its_constants():
    rows = {
        f"{name}:{row}".removesuffix(":")
        for name, experiment in papers.EXPERIMENTS.items()
        for row in ("", *experiment.paper)
    }
    assert rows == printed.CONSTANTS.keys()


@pytest.mark.parametrize("exp", sorted(printed.CONSTANTS))
def test_every_constant_of_the_papers_scale(exp):
    ours = flat(papers.build_config(exp, papers.EXPERIMENTS, scale="paper"))
    theirs = {**{k: v for k, v in defaults().items() if k in ours}, **printed.CONSTANTS[exp]}
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert (
            ours[key] == pytest.approx(value) if isinstance(value, float) else (ours[key] == value)
        ), key
