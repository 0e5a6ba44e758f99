import dataclasses
import json
import re
from html.parser import HTMLParser

import made_up
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
        assert tag not in ("link", "iframe", "object", "base")
        # The one script stands in the page itself.
        assert tag != "script" or set(attributes) <= {"type", "id"}
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "data", "srcset"):
                assert value.startswith(("#", "data:", "seed_", "results.json")), (
                    tag,
                    name,
                    value[:80],
                )
            assert not name.startswith("on")
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    # The only addresses are the names of the SVG and XLink vocabularies.
    assert set(re.findall(r"https?://[^\"' <]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_page_is_self_contained_and_complete(tmp_path, make_run, thumbnails):
    run = make_run(operating=made_up.operating(), intervals={"rank1": [0.5012, 0.6021]})
    path = report.write_page(
        dataclasses.replace(run, files=("results.json",)),
        tmp_path / "run" / "report.html",
        pictures=thumbnails(
            query_captions=[f"Anna {row}, c1" for row in range(9)],
            gallery_captions=[[f"id {row}, c{rank}" for rank in range(10)] for row in range(9)],
            query_cameras=["yard"] * 9,
            first_images=np.zeros((9, 16, 8, 3), np.uint8),
            first_captions=["Bert, c2"] * 9,
            confused=[("Anna", "Berta", 3, 4)],
        ),
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
    assert len(figures) == len(page.of("figure")) == 9
    assert all(len(attributes["aria-label"]) > 60 for attributes in figures)
    assert len(page.of("path")) > 100
    # Crops are JPEG: 9 queries, 90 images but 3 that are not there, and one first match.
    crops = page.of("img")
    assert len(crops) == 9 + 90 - 3 + 1
    assert all(one["src"].startswith("data:image/jpeg;base64,") for one in crops)
    assert "currentColor" in text
    assert "#24292f" not in text.split("</style>")[1]
    words = page.within("body")
    for expected in (
        "batch_contrastive_market",
        "00ff00ff00ff00ff",
        "jax 0.10.2",
        "0123abc",
        "55.00",
        "95 %: 50.1 to 60.2",
        "86.40",
        "67.64",
        "2 of 120 queries have no match",
        "update_centers: minus for the printed plus.",
        "--exp=batch_contrastive_market --scale=small --seed=0",
        "train.batch_size",
        "Anna 8, c1",
        "id 8, c6",
        "images/s",
        "equal error",
        "validation mAP (step)",
        "3 of 4",
        "54.32",
        "49.3 to 59.3",
        "camera entrance with matches in camera yard, 31.0 %",
        "The learning rate falls: 0.01, 0.001.",
    ):
        assert expected in words, expected
    assert page.of("a")[-1]["href"] == "results.json"
    assert not list(path.parent.glob("*.partial"))


def test_the_sections_stand_in_the_order_of_their_use(tmp_path, make_run, thumbnails):
    run = make_run(operating=made_up.operating())
    text = report.write_page(run, tmp_path / "a.html", pictures=thumbnails()).read_text()
    assert re.findall(r"<h2>(.*?)</h2>", text) == [
        "Result",
        "Same person or not",
        "Ranked lists",
        "Where it fails",
        "Training",
        "Background",
    ]
    assert re.findall(r"<h3>([\w ]+)", text) == [
        "Best queries ",
        "Worst queries ",
        "Random queries ",
    ]
    assert text.index('class="tiles"') < text.index("<h2>")
    # What only an author of a paper looks for is folded.
    assert text.index("<details>") > text.index("<h2>Background")


def lists_of(text):
    """For each list of a page: words on it, and its cells as (classes, words)."""
    found = []
    for part in text.split('<div class="list"')[1:]:
        said = " ".join(re.sub(r"<[^>]+>", " ", part.split("<p>")[1].split("</p>")[0]).split())
        cells = re.findall(r'<li class="cell ([^"]*)".*?>(.*?)</li>', part, re.DOTALL)
        plain = [(names, " ".join(re.sub(r"<[^>]+>", " ", c).split())) for names, c in cells]
        found.append((said, plain))
    return found


def test_a_list_says_how_good_it_is(tmp_path, make_run, thumbnails):
    pictures = thumbnails(
        first_images=np.zeros((9, 16, 8, 3), np.uint8), first_captions=["Bert"] * 9
    )
    run = make_run(drawn=False)
    text = report.write_page(run, tmp_path / "a.html", pictures=pictures).read_text()
    lists = lists_of(text)
    assert lists[0][0] == "AP 99.0 % 12 matches first: rank 1"
    # The first of the worst has its first match in an eleventh cell, and no other list has.
    assert [len(cells) for _, cells in lists] == [10, 10, 10, 11, 10, 10, 10, 10, 10]
    assert lists[3][0].endswith("first: rank 214")
    assert lists[3][1][-1] == ("right", "rank 214 first match Bert 1.500")
    assert lists[8][1][-1][1] == "10 none"


def test_what_comes_after_the_last_match_is_grey(tmp_path, make_run, thumbnails):
    run = make_run(drawn=False)
    match = np.zeros((9, 10), np.int8)
    match[:, [0, 3]] = 1
    several = np.array([2, 3] + [12] * 7)
    ranking = {**run.ranking, "ranked_match": match, "ranked_num_matches": several}
    run = dataclasses.replace(run, ranking=ranking)
    text = report.write_page(run, tmp_path / "a.html", pictures=thumbnails()).read_text()
    first, second, *_ = [[names for names, _ in cells] for _, cells in lists_of(text)]
    assert first == ["right", "wrong", "wrong", "right"] + ["wrong after"] * 6
    assert "wrong after" not in second


def test_a_threshold_is_that_of_the_operating_points_or_of_the_pairs(
    tmp_path, make_run, thumbnails
):
    def rates(**results):
        run = make_run(drawn=False, **results)
        pairs = {k: v for k, v in made_up.ranking().items() if "pair_" in k or k == "distance"}
        run = dataclasses.replace(run, ranking={**run.ranking, **pairs})
        path = report.write_page(run, tmp_path / "a.html", pictures=thumbnails())
        return json.loads(re.search(r'id="rates">(.*?)</script>', path.read_text())[1])

    of_people = rates(operating=made_up.operating())
    assert of_people["start"] == 0.8125
    assert of_people["measured_on"] == "validation people"
    elsewhere = rates(operating=made_up.operating() | {"distance": "another"})
    assert elsewhere == rates()
    assert len(elsewhere["threshold"]) == 40
    assert elsewhere["false_accept_rate"][-1] == elsewhere["true_accept_rate"][-1] == 1
    place = elsewhere["threshold"].index(elsewhere["start"])
    missed = 1 - elsewhere["true_accept_rate"][place]
    assert abs(missed - elsewhere["false_accept_rate"][place]) < 0.05


def test_an_operating_point_without_a_value_is_a_dash(tmp_path, make_run):
    text = report.write_page(
        make_run(drawn=False, operating=made_up.operating() | {"calibration": None}),
        tmp_path / "a.html",
    ).read_text()
    table = text.split('id="points"')[1].split("</table>")[0]
    (last,) = re.findall(r"0.01 % false accepts</th>(.*?)</tr>", table)
    assert re.sub(r"<[^>]+>", " ", last).split() == ["-", "0.01", "-"]
    assert 'id="reliability"' not in text


def test_stand_in_is_marked_at_the_top_and_within_every_figure(tmp_path, make_run, thumbnails):
    text = report.write_page(make_run(), tmp_path / "a.html", pictures=thumbnails()).read_text()
    page = Page(text)
    banner = text.index('class="banner"')
    assert text.count('class="banner"') == 1
    assert banner < text.index("<table")
    assert banner < text.index("55.00")
    figures = re.findall(r"<figure.*?</figure>", text, re.DOTALL)
    assert len(figures) == 7
    assert all(figure.split("<figcaption>")[0].count(MARK) == 1 for figure in figures)
    assert page.within("body").count(MARK[1:]) == 1 + 7


def test_the_paper_stands_below_a_number_only_where_they_can_be_compared(tmp_path, make_run):
    def tiles(**results):
        text = report.write_page(make_run(drawn=False, **results), tmp_path / "a.html").read_text()
        return text.split('class="tiles"')[1].split("</dl>")[0]

    assert "paper 86.40" in tiles(data_source="official")
    assert "paper" not in tiles()


def test_later_evaluations_are_rows_of_the_table(tmp_path, make_run):
    run = make_run(drawn=False)
    again = run.results | {"metrics": {"rank1": 0.6789}}
    run = dataclasses.replace(run, evaluations={"single-query+rerank, market1501": again})
    text = report.write_page(run, tmp_path / "a.html").read_text()
    row = text.split("single-query+rerank, market1501</th>")[1].split("</tr>")[0]
    assert "67.89" in row


def test_deviations_are_unfolded_at_the_papers_scale(tmp_path, make_run):
    for scale in ("paper", "small"):
        run = make_run(drawn=False, scale=scale)
        text = report.write_page(run, tmp_path / "a.html", deviations=["x"]).read_text()
        assert ("<details open><summary>Where this departs" in text) == (scale == "paper")


def test_official_data_has_no_mark_and_own_data_has_its_own(tmp_path, make_run):
    official = report.write_page(make_run(data_source="official"), tmp_path / "a.html").read_text()
    assert "not comparable" not in official
    assert 'class="banner"' not in official
    run = make_run(drawn=False, data_source="custom", paper=None, dataset="shop_a")
    page = Page(report.write_page(run, tmp_path / "b.html").read_text())
    assert "wn data" in page.within("header")
    assert "shop_a" in page.within("h1")
    # It is said in grey, once.
    assert not [one for one in page.of("p") if one.get("class") == "banner"]
    assert page.within("body").count("not comparable") == 1


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
    path = report.write_page(make_run(drawn=False, **results), tmp_path / "a.html")
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
    facts = Page(report.write_page(make_run(drawn=False), path).read_text()).within("dl")
    assert not {"Partition", "Split", "Shortlist"} & set(facts.split("\n"))
    assert "not recorded" not in facts


def test_training_says_how_large_and_how_long(tmp_path, make_run):
    run = make_run(drawn=False, num_parameters=2_831_000)
    speed = np.full(100, np.nan)
    speed[[9, 59]] = 20.0, 10.0
    values = {
        "sampler": {"batch_size": 32},
        "data": {"image_size": [256, 128], "crop_size": []},
        "model": {"name": "resnet18"},
    }
    run = dataclasses.replace(
        run,
        config={"config": values},
        training={"step": np.arange(100.0), "images_per_second": speed},
        training_set={"num_images": 12_936, "num_identities": 751},
    )

    def facts(run):
        text = report.write_page(run, tmp_path / "a.html").read_text()
        pairs = re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", text.split('class="line"')[1])
        return dict(pairs[: [name for name, _ in pairs].index("Training time") + 1])

    assert facts(run) == {
        "Training images": "12,936",
        "identities": "751",
        "Steps": "80",
        "Batch": "32",
        "Input": "256 x 128",
        "Network": "resnet18",
        "Parameters": "2.83 million",
        "Training speed": "15.0 images/s (median)",
        # 10 steps of 32 images at 20 a second, and 90 at 10.
        "Training time": "about 5 min",
    }
    # A config of another kind has no such sections.
    run = dataclasses.replace(run, config={"config": {"data": "photos"}}, training={})
    assert "Input" not in report.write_page(run, tmp_path / "a.html").read_text()


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
    assert "3 logged steps" in words.within("body")


def test_texts_are_escaped(tmp_path, make_run):
    evil = '<script>alert("1")</script>&'
    run = make_run(drawn=False, exp=evil, method=evil, dataset=evil, protocol=evil)
    path = report.write_page(run, tmp_path / "a.html", deviations=[evil], command=evil)
    text = path.read_text()
    page = Page(text)
    assert not page.of("script")
    assert "<script" not in text
    assert evil in page.within("h1")
    assert evil in page.within("li")
    assert evil in page.within("pre")


def test_the_same_run_gives_the_same_page(tmp_path, make_run, thumbnails):
    first = report.write_page(make_run(), tmp_path / "a.html", pictures=thumbnails()).read_bytes()
    again = report.write_page(make_run(), tmp_path / "b.html", pictures=thumbnails()).read_bytes()
    assert again == first


def test_the_command_is_shown(tmp_path, make_run):
    path = report.write_page(
        make_run(drawn=False), tmp_path / "a.html", command="python run.py --exp=x"
    )
    assert Page(path.read_text()).within("pre") == "python run.py --exp=x"


def test_unknown_data_is_refused(tmp_path, make_run):
    with pytest.raises(ValueError, match="data_source is 'rendered'"):
        report.write_page(make_run(data_source="rendered"), tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_images_that_do_not_fit_are_refused(tmp_path, make_run, thumbnails):
    run, path = make_run(drawn=False), tmp_path / "report.html"
    with pytest.raises(ValueError, match="lists of shape"):
        report.write_page(run, path, pictures=thumbnails(num_lists=2))
    pictures = thumbnails()
    images = pictures.gallery_images.astype(np.float32)
    floating = report.Pictures(pictures.query_images, images)
    with pytest.raises(ValueError, match="gallery_images"):
        report.write_page(run, path, pictures=floating)
    run = dataclasses.replace(run, ranking={"cmc": np.linspace(0.1, 1, 9)})
    with pytest.raises(ValueError, match="ranked_gallery"):
        report.write_page(run, path, pictures=pictures)
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
    assert words.count(MARK[1:]) == 1 + 2  # the banner, and the two figures
    assert [one["id"] for one in page.of("figure")] == ["cmc", "run-dots"]
    assert "rank-1 from 50.0 to 70.0 %" in page.of("svg")[1]["aria-label"]


def test_summary_page_says_what_differs_and_what_is_missing(tmp_path, make_run):
    summary, runs = _repeats(make_run)
    runs["seed_1"] = dataclasses.replace(runs["seed_1"], ranking={}, problems=("no ranks.",))
    page = Page(report.write_summary_page(summary, runs, tmp_path / "a.html").read_text())
    facts = page.within("dl").replace("\n", "")
    assert "Seeddiffers between the runs" in facts
    assert "Git commitdiffers between the runs" in facts
    assert "Initial weightsfrom scratch" in facts
    assert "seed_1: no ranks." in page.within("li")
    assert [one["id"] for one in page.of("figure")] == ["run-dots"]


def test_summary_page_refuses_a_single_run(tmp_path, make_run):
    run = make_run()
    with pytest.raises(ValueError, match="Use write_page"):
        report.write_summary_page(run.results, {"": run}, tmp_path / "a.html")
    summary, _ = _repeats(make_run)
    with pytest.raises(ValueError, match="there are no runs"):
        report.write_summary_page(summary, {}, tmp_path / "a.html")
