import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from reid_jax import report

COMMAND = "python experiments/run.py --exp=batch_contrastive_market --scale=small --seed=0"
VOID = {"meta", "br", "link", "img", "input", "hr"}
MARK = "stand-in data: rendered, not comparable with the paper"


class Page(HTMLParser):
    """Elements, text by enclosing tag and ids of a page; fails where tags do not nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.text, self.ids = [], [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append((tuple(self.open), data))

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def within(self, tag):
        return "".join(data for path, data in self.text if tag in path)


def assert_self_contained(page, text):
    for tag, attributes in page.elements:
        assert tag not in ("script", "link", "iframe", "object", "base")
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "data", "srcset"):
                assert value.startswith(("#", "data:", "seed_")), (tag, name, value[:80])
            assert not name.startswith("on")
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    # The only addresses are the names of the SVG and XLink vocabularies.
    assert set(re.findall(r"https?://[^\"' <]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_page_is_self_contained_and_complete(tmp_path, make_run, thumbnails):
    path = report.write_page(
        make_run(),
        tmp_path / "run" / "report.html",
        **thumbnails(),
        query_captions=[f"id {row}, c1" for row in range(9)],
        gallery_captions=[[f"id {row}, c{rank}" for rank in range(10)] for row in range(9)],
        deviations=["update_centers: minus for the printed plus."],
        command=COMMAND,
    )
    assert path.name == "report.html"
    text = path.read_text()
    page = Page(text)
    assert_self_contained(page, text)
    assert len(page.ids) == len(set(page.ids))
    for target in re.findall(r'(?:href="#|url\(#)([^")]+)', text):
        assert target in page.ids
    # Each figure says in words what it shows, and is not empty.
    figures = [attributes for attributes in page.of("svg") if attributes.get("role") == "img"]
    assert len(figures) == len(page.of("figure")) == 8
    assert all(len(attributes["aria-label"]) > 60 for attributes in figures)
    assert len(page.of("path")) > 100
    # Thumbnails and one layer of dots.
    assert len(page.of("image")) == 3 * 3 * 11 - 3 + 1
    assert "currentColor" in text
    assert "#24292f" not in text.split("</style>")[1]
    words = page.within("body")
    for expected in (
        "batch_contrastive_market",
        "00ff00ff00ff00ff",
        "jax 0.10.2",
        "0123abc",
        "55.00",
        "86.40",
        "67.64",
        "2 of 120 queries have no match",
        "update_centers: minus for the printed plus.",
        "--exp=batch_contrastive_market --scale=small --seed=0",
        "train.batch_size",
        "id 8, c6",
        "images/s",
        "equal error",
        "validation mAP (step)",
    ):
        assert expected in words, expected
    assert not list(path.parent.glob("*.partial"))


def test_stand_in_is_marked_at_the_top_and_at_every_table_and_figure(
    tmp_path, make_run, thumbnails
):
    text = report.write_page(make_run(), tmp_path / "a.html", **thumbnails()).read_text()
    page = Page(text)
    assert MARK[1:] in page.within("header")
    banner = text.index('class="banner"')
    assert banner < text.index("<table")
    assert banner < text.index("55.00")
    captions = re.findall(r"<(?:figcaption|caption)>.*?</(?:figcaption|caption)>", text, re.DOTALL)
    assert len(captions) == 9
    assert all(MARK in caption for caption in captions)


def test_official_data_has_no_mark_and_own_data_has_its_own(tmp_path, make_run):
    official = report.write_page(make_run(data_source="official"), tmp_path / "a.html").read_text()
    assert "not comparable" not in official
    assert 'class="banner"' not in official
    custom = report.write_page(make_run(data_source="custom", paper=None), tmp_path / "b.html")
    assert "own data" in Page(custom.read_text()).within("header")


def test_page_without_curves_lists_or_config_says_so(tmp_path, make_run):
    problems = tuple(f"{name} is missing" for name in ("config", "curves", "ranks"))
    run = report.Run(make_run().results, problems=problems)
    page = Page(report.write_page(run, tmp_path / "a.html").read_text())
    words = page.within("body")
    assert "Not on this page" in words
    assert all(problem in words for problem in problems)
    assert not page.of("figure")
    assert "How to reproduce" not in words


def test_facts_say_what_was_tested_on_what(tmp_path, make_run):
    results = {"partition": "316-316", "split": 3, "shortlist": 20, "trained_on": "viper+cuhk01"}
    shared = {"people": 4, "test_people": 9, "files": 0}
    results |= {"overlap": shared, "num_repeats": 10}
    path = report.write_page(make_run(**results), tmp_path / "a.html")
    facts = Page(path.read_text()).within("dl")
    for expected in (
        "316-316",
        "Split3",
        "Shortlist20",
        "viper+cuhk01",
        "people 4",
        "1 x TFRT",
    ):
        assert expected in facts.replace("\n", ""), expected
    facts = Page(report.write_page(make_run(), path).read_text()).within("dl")
    assert not {"Partition", "Split", "Shortlist"} & set(facts.split("\n"))
    assert "not recorded" not in facts


def test_null_and_nan_are_absent_not_zero(tmp_path, make_run):
    metrics = {"rank1": float("nan"), "map_step": None, "map_trapezoid": 0.25, "threshold": 1.23456}
    training = {
        "step": np.arange(3.0),
        "loss": np.array([2.0, np.nan, np.nan]),
        "intra_distance": np.full(3, np.nan),
        "inter_distance_mean": np.ones(3),
        "inter_distance_min": np.full(3, np.nan),
    }
    run = dataclasses.replace(
        make_run(metrics=metrics, weights=None, protocol=None), training=training, validation={}
    )
    page = Page(report.write_page(run, tmp_path / "a.html").read_text())
    words = page.within("body")
    assert "nan" not in words.lower()
    assert "0 of 3" in words
    assert "no values" in words
    assert "25.00" in words
    assert "1.235" in words


def test_curves_are_told_in_words(tmp_path, make_run):
    training = {"step": np.arange(3.0), "loss": np.array([9.0, 7.0, 6.0])}
    run = dataclasses.replace(make_run(), training=training)
    words = Page(report.write_page(run, tmp_path / "a.html").read_text())
    labels = [attributes.get("aria-label", "") for attributes in words.of("svg")]
    assert any("total loss goes from 9 to 6" in label for label in labels)
    assert "Each of the 3 logged" in words.within("body")


def test_texts_are_escaped(tmp_path, make_run):
    evil = '<script>alert("1")</script>&'
    run = make_run(exp=evil, method=evil, dataset=evil, protocol=evil)
    path = report.write_page(run, tmp_path / "a.html", deviations=[evil], command=evil)
    text = path.read_text()
    page = Page(text)
    assert not page.of("script")
    assert evil in page.within("h1")
    assert evil in page.within("li")
    assert evil in page.within("pre")


def test_the_same_run_gives_the_same_page(tmp_path, make_run, thumbnails):
    first = report.write_page(make_run(), tmp_path / "a.html", **thumbnails()).read_bytes()
    again = report.write_page(make_run(), tmp_path / "b.html", **thumbnails()).read_bytes()
    assert again == first


def test_the_command_is_shown(tmp_path, make_run):
    path = report.write_page(make_run(), tmp_path / "a.html", command="python run.py --exp=x")
    assert Page(path.read_text()).within("pre") == "python run.py --exp=x"


def test_unknown_data_is_refused(tmp_path, make_run):
    with pytest.raises(ValueError, match="data_source is 'rendered'"):
        report.write_page(make_run(data_source="rendered"), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_images_that_do_not_fit_are_refused(tmp_path, make_run, thumbnails):
    run, path, images = make_run(), tmp_path / "report.html", thumbnails()
    with pytest.raises(ValueError, match="both query_images and gallery_images"):
        report.write_page(run, path, query_images=images["query_images"])
    with pytest.raises(ValueError, match="lists of shape"):
        report.write_page(run, path, **thumbnails(num_lists=2))
    run = dataclasses.replace(run, ranking={"cmc": np.linspace(0.1, 1, 9)})
    with pytest.raises(ValueError, match="ranked_gallery"):
        report.write_page(run, path, **images)
    assert not path.exists()


def _repeats(make_run, num_runs=3):
    """Runs that differ in seed and commit, and the mean of them."""
    runs = {}
    for seed in range(num_runs):
        metrics = {"rank1": 0.5 + 0.1 * seed, "map_step": 0.3 - 0.05 * seed, "eer": 0.1}
        runs[f"seed_{seed}"] = make_run(seed=seed, metrics=metrics, commit=f"commit {seed}")
    summary = runs["seed_0"].results | {
        "seed": None,
        "commit": None,
        "num_runs": num_runs,
        "runs": list(runs),
        "metrics": {"rank1": 0.6, "map_step": 0.25, "eer": 0.1},
        "metrics_std": {"rank1": 0.1, "map_step": 0.05, "eer": 0.0},
        "run_metrics": {name: run.results["metrics"] for name, run in runs.items()},
    }
    return summary, runs


def test_summary_page_shows_mean_deviation_and_each_run(tmp_path, make_run):
    summary, runs = _repeats(make_run)
    path = report.write_summary_page(
        summary, runs, tmp_path / "report.html", command=f"{COMMAND} --repeats=3"
    )
    text = path.read_text()
    page = Page(text)
    assert_self_contained(page, text)
    words = page.within("body")
    for expected in ("mean of 3 runs", "60.00", "± 10.00", "50.00", "70.00", "--repeats=3"):
        assert expected in words, expected
    assert [link["href"] for link in page.of("a")] == [
        f"seed_{seed}/report.html" for seed in range(3)
    ]
    assert words.count(MARK) == 5  # numbers, two tables, further metrics, curve
    assert MARK[1:] in page.within("header")


def test_summary_page_says_what_differs_and_what_is_missing(tmp_path, make_run):
    summary, runs = _repeats(make_run)
    runs["seed_1"] = dataclasses.replace(runs["seed_1"], ranking={}, problems=("no ranks.",))
    page = Page(report.write_summary_page(summary, runs, tmp_path / "a.html").read_text())
    facts = page.within("dl").replace("\n", "")
    assert "Seeddiffers between the runs" in facts
    assert "Git commitdiffers between the runs" in facts
    assert "none: trained from scratch" in facts
    assert "seed_1: no ranks." in page.within("li")
    assert not page.of("figure")


def test_summary_page_refuses_a_single_run(tmp_path, make_run):
    run = make_run()
    with pytest.raises(ValueError, match="Use write_page"):
        report.write_summary_page(run.results, {"": run}, tmp_path / "a.html")
    summary, _ = _repeats(make_run)
    with pytest.raises(ValueError, match="there are no runs"):
        report.write_summary_page(summary, {}, tmp_path / "a.html")
