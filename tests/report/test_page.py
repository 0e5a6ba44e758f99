import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from reid_jax import report

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
        make_run(tmp_path / "run"),
        **thumbnails(),
        query_captions=[f"id {row}, c1" for row in range(9)],
        gallery_captions=[[f"id {row}, c{rank}" for rank in range(10)] for row in range(9)],
        deviations=["update_centers: minus for the printed plus."],
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
    # Thumbnails, raw curves and one layer of dots.
    assert len(page.of("image")) == 3 * 3 * 11 - 3 + 5 + 1
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
    text = report.write_page(make_run(tmp_path), **thumbnails()).read_text()
    page = Page(text)
    assert MARK[1:] in page.within("header")
    banner = text.index('class="banner"')
    assert banner < text.index("<table")
    assert banner < text.index("55.00")
    captions = re.findall(r"<(?:figcaption|caption)>.*?</(?:figcaption|caption)>", text, re.DOTALL)
    assert len(captions) == 9
    assert all(MARK in caption for caption in captions)


def test_official_data_has_no_mark_and_own_data_has_its_own(tmp_path, make_run):
    official = report.write_page(make_run(tmp_path / "a", data_source="official")).read_text()
    assert "not comparable" not in official
    assert 'class="banner"' not in official
    custom = report.write_page(make_run(tmp_path / "b", data_source="custom", paper=None))
    assert "own data" in Page(custom.read_text()).within("header")


def test_page_without_curves_lists_or_config_says_so(tmp_path, make_run):
    make_run(tmp_path)
    for name in ("config.json", "metrics.jsonl", "ranking.npz"):
        (tmp_path / name).unlink()
    page = Page(report.write_page(tmp_path).read_text())
    words = page.within("body")
    assert "Not on this page" in words
    for name in ("config.json", "metrics.jsonl", "ranking.npz"):
        assert f"{name} is missing" in words
    assert not page.of("figure")


def test_null_and_nan_are_absent_not_zero(tmp_path, make_run):
    metrics = {"rank1": float("nan"), "map_step": None, "map_trapezoid": 0.25, "threshold": 1.23456}
    make_run(tmp_path, metrics=metrics, weights=None, protocol=None)
    lines = [
        {
            "step": step,
            "loss": float("nan") if step else 2.0,
            "intra_distance": None,
            "inter_distance_mean": 1.0,
            "inter_distance_min": None,
        }
        for step in range(3)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    page = Page(report.write_page(tmp_path).read_text())
    words = page.within("body")
    assert "nan" not in words.lower()
    assert "0 of 3" in words
    assert "no values" in words
    assert "25.00" in words
    assert "1.235" in words


def test_a_step_written_twice_counts_as_written_last_and_a_cut_line_is_told(tmp_path, make_run):
    make_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 0, "loss": 9.0}\n{"step": 1, "loss": 8.0}\n{"step": 1, "lo\n'
        '{"step": 1, "loss": 7.0}\n{"step": 2, "loss": 6.0}\n'
    )
    words = Page(report.write_page(tmp_path).read_text())
    assert "1 line(s) cut short" in words.within("body")
    labels = [attributes.get("aria-label", "") for attributes in words.of("svg")]
    assert any("total loss goes from 9 to 6" in label for label in labels)
    assert "Each of the 3 logged" in words.within("body")


def test_texts_are_escaped(tmp_path, make_run):
    evil = '<script>alert("1")</script>&'
    make_run(tmp_path, exp=evil, method=evil, dataset=evil, protocol=evil)
    text = report.write_page(tmp_path, deviations=[evil]).read_text()
    page = Page(text)
    assert not page.of("script")
    assert evil in page.within("h1")
    assert evil in page.within("li")


def test_the_same_run_gives_the_same_page(tmp_path, make_run, thumbnails):
    first = report.write_page(make_run(tmp_path / "a"), **thumbnails()).read_bytes()
    assert report.write_page(make_run(tmp_path / "b"), **thumbnails()).read_bytes() == first


@pytest.mark.parametrize("command", ["python run.py --exp=x", ["python", "run.py", "--exp=x"]])
def test_the_command_of_the_config_is_shown(tmp_path, make_run, command):
    make_run(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"command": command}
    (tmp_path / "config.json").write_text(json.dumps(config))
    page = Page(report.write_page(tmp_path).read_text())
    assert page.within("pre") == "python run.py --exp=x"


def test_a_missing_or_broken_run_is_refused(tmp_path, make_run):
    with pytest.raises(FileNotFoundError, match=r"results\.json does not exist"):
        report.write_page(tmp_path)
    (tmp_path / "results.json").write_text('{"exp": ')
    with pytest.raises(ValueError, match="is not JSON"):
        report.write_page(tmp_path)
    (tmp_path / "results.json").write_text('{"exp": "x"}')
    with pytest.raises(ValueError, match="lacks data_source, metrics"):
        report.write_page(tmp_path)
    make_run(tmp_path, data_source="rendered")
    with pytest.raises(ValueError, match="data_source is 'rendered'"):
        report.write_page(tmp_path)
    make_run(tmp_path)
    cut = (tmp_path / "ranking.npz").read_bytes()[:200]
    (tmp_path / "ranking.npz").write_bytes(cut)
    with pytest.raises(ValueError, match=r"ranking\.npz cannot be read"):
        report.write_page(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_images_that_do_not_fit_are_refused(tmp_path, make_run, thumbnails):
    make_run(tmp_path)
    images = thumbnails()
    with pytest.raises(ValueError, match="both query_images and gallery_images"):
        report.write_page(tmp_path, query_images=images["query_images"])
    with pytest.raises(ValueError, match="lists of shape"):
        report.write_page(tmp_path, **thumbnails(num_lists=2))
    np.savez(tmp_path / "ranking.npz", cmc=np.linspace(0.1, 1, 9))
    with pytest.raises(ValueError, match="ranked_gallery"):
        report.write_page(tmp_path, **images)


def test_deviations_come_from_docstrings():
    def differs():
        """One line.

        Returns:
            Nothing.
        Deviation: minus sign,
            as the ``plus`` diverges.
        Example: none.
        """

    def agrees():
        """One line.

        Deviation: none.
        """

    def silent():
        pass

    expected = ["differs: minus sign, as the plus diverges."]
    assert report.deviations([differs, agrees, silent, differs]) == expected


def _repeats(tmp_path, make_run, num_runs=3):
    runs = {}
    for seed in range(num_runs):
        metrics = {"rank1": 0.5 + 0.1 * seed, "map_step": 0.3 - 0.05 * seed, "eer": 0.1}
        make_run(tmp_path / f"seed_{seed}", seed=seed, metrics=metrics)
        runs[f"seed_{seed}"] = report.read_results(tmp_path / f"seed_{seed}")
    (tmp_path / "results.json").write_text(json.dumps(report.summarize(runs)))
    return runs


def test_summarize_gives_mean_and_sample_deviation(tmp_path, make_run):
    summary = report.summarize(_repeats(tmp_path, make_run))
    assert summary["metrics"]["rank1"] == pytest.approx(0.6)
    assert summary["metrics_std"]["rank1"] == pytest.approx(np.std([0.5, 0.6, 0.7], ddof=1))
    assert summary["runs"] == ["seed_0", "seed_1", "seed_2"]
    assert summary["num_runs"] == 3
    assert summary["seed"] is None
    assert summary["fingerprint"] == "00ff00ff00ff00ff"


def test_summarize_of_one_run_has_no_deviation(tmp_path, make_run):
    summary = report.summarize(_repeats(tmp_path, make_run, num_runs=1))
    assert summary["metrics_std"]["rank1"] is None


def test_summarize_does_not_average_over_what_is_missing(tmp_path, make_run):
    runs = _repeats(tmp_path, make_run)
    del runs["seed_1"]["metrics"]["rank1"]
    runs["seed_2"]["fingerprint"] = "another"
    summary = report.summarize(runs)
    assert summary["metrics"]["rank1"] is None
    assert summary["fingerprint"] is None


@pytest.mark.parametrize("key", ["exp", "data_source", "protocol", "scale", "dataset"])
def test_summarize_refuses_runs_of_two_kinds(tmp_path, make_run, key):
    runs = _repeats(tmp_path, make_run)
    runs["seed_1"][key] = "another"
    with pytest.raises(ValueError, match=f"differ in {key}"):
        report.summarize(runs)
    with pytest.raises(ValueError, match="no runs"):
        report.summarize({})


def test_summary_page_shows_mean_deviation_and_each_run(tmp_path, make_run):
    _repeats(tmp_path, make_run)
    text = report.write_summary_page(tmp_path).read_text()
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


def test_summary_page_refuses_a_single_run(tmp_path, make_run):
    make_run(tmp_path)
    with pytest.raises(ValueError, match="Use write_page"):
        report.write_summary_page(tmp_path)
