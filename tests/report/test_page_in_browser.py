"""The page of a run in headless Chromium: widths, and what its script does."""

import dataclasses
import json

import made_up
import numpy as np
import pytest
from browser import needs_chromium, open_browser

from reid_jax import report

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def page(browser, tmp_path, make_run, thumbnails):
    run = make_run(exp="a_very_long_name_of_an_experiment_that_no_phone_is_wide_enough_for")
    results = run.results | {"operating": made_up.operating()}
    pictures = thumbnails(
        query_cameras=["yard", "entrance", "yard"] * 3,
        first_images=np.zeros((9, 16, 8, 3), np.uint8),
    )
    path = report.write_page(
        dataclasses.replace(run, results=results), tmp_path / "report.html", pictures=pictures
    )
    browser.size(1280, 900)
    browser.open(path.as_uri())
    return browser


def visible_lists(page):
    script = "[...document.querySelectorAll('.list')].map(one => one.offsetParent !== null)"
    return page.run(f"return {script}")


def set_value(page, name, value, event):
    page.run(
        "const one = document.getElementById(arguments[0]); one.value = arguments[1];"
        "one.dispatchEvent(new Event(arguments[2], {bubbles: true}))",
        name,
        value,
        event,
    )


def test_the_page_fits_its_window_and_filters_and_judges_its_lists(page):
    for width in (1280, 500, 390):
        page.size(width, 900)
        assert page.run("return document.documentElement.scrollWidth") <= width
    page.picture("report_phone.png")
    page.size(1280, 900)

    assert visible_lists(page) == [True] * 9
    set_value(page, "camera", "entrance", "change")
    assert visible_lists(page) == [False, True, False] * 3
    set_value(page, "camera", "", "change")
    set_value(page, "precision", "45", "input")
    assert visible_lists(page) == [False] * 5 + [True] * 4
    shown = "[...document.querySelectorAll('.group')].map(one => one.offsetParent !== null)"
    assert page.run(f"return {shown}") == [False, True, True]
    set_value(page, "precision", "100", "input")

    rates = json.loads(page.run("return document.getElementById('rates').textContent"))
    place = 4
    set_value(page, "threshold", str(place), "input")
    threshold = rates["threshold"][place]
    cells = page.run(
        "return [...document.querySelectorAll('.ranks .cell[data-distance]')]"
        ".map(one => [Number(one.dataset.distance), one.classList.contains('accepted')])"
    )
    assert len(cells) == 90 - 3 + 1
    assert all(accepted == (distance <= threshold) for distance, accepted in cells)
    said = page.run("return document.querySelector('output[for=threshold]').textContent")
    assert f"{100 * rates['false_accept_rate'][place]:.3g}"[:4] in said
    page.click("#clear")
    assert page.run("return document.querySelectorAll('.accepted').length") == 0
    assert page.run("return document.body.classList.contains('judged')") is False

    # A page from a file may not be let at the clipboard: then the table is selected.
    page.click("#copy")
    page.until("document.getElementById('copy').textContent !== 'Copy as CSV'")
    assert page.problems() == []
