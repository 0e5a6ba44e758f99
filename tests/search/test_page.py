"""The search page in headless Chromium, as a person uses it."""

import contextlib
import json
import threading

import pytest
from browser import needs_chromium, open_browser
from search_parts import people_source, write, write_photos

from reid_jax import decide, search
from reid_jax.search.server import listen, make_app

pytestmark = needs_chromium
ENTER, RIGHT, UP, DOWN, BACKSPACE = "\ue007", "\ue014", "\ue013", "\ue015", "\ue003"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@contextlib.contextmanager
def served(embedder, photos, store):
    """The address of a page, while a thread serves it."""
    gallery = search.open_gallery(photos)
    update = search.EmbeddingStore(store, embedder).update(gallery)
    searcher = search.Searcher(embedder, gallery, update.stored)
    with listen("127.0.0.1", 0) as listening:
        app = make_app(searcher, hosts=listening.hosts)
        thread = threading.Thread(target=listening.serve, args=(app,))
        thread.start()
        yield listening.address
        listening.stop()
        thread.join()


@pytest.fixture(scope="module")
def page(browser, embedder, tmp_path_factory):
    """The address of a page over twelve crops, one of them with a name that is no markup."""
    root = tmp_path_factory.mktemp("page")
    photos = write_photos(root / "photos")
    write(photos / "<b id=evil>eve" / "4_c3_0.png", (200, 30, 200), 50)
    with served(embedder, photos, root / "store") as address:
        yield address


@pytest.fixture(scope="module")
def deciding(embedder):
    """A model that knows where one person ends."""
    return embedder.with_decision(decide.measure(embedder, {"val": people_source()}))


@pytest.fixture(scope="module")
def deciding_page(browser, deciding, tmp_path_factory):
    """The address of a page with a decision line."""
    root = tmp_path_factory.mktemp("deciding")
    with served(deciding, write_photos(root / "photos"), root / "store") as address:
        yield address


HITS = "document.querySelectorAll('#hits button')"


def test_a_search_from_start_to_end(browser, page, tmp_path):
    browser.size(1200, 800)
    browser.post("/url", url=page)
    browser.until("document.querySelectorAll('#cameras label').length === 3")
    assert "13 images; smaller is more alike" in browser.run(
        "return document.getElementById('about').textContent"
    )
    query = write(tmp_path / "query.png", (198, 44, 41), 99)
    browser.type("#file", str(query))
    browser.until(f"{HITS}.length === 13")
    text = browser.run(f"return {HITS}[0].textContent")
    assert text.startswith("1. 0.")
    assert "anna" in text
    assert "camera " in text
    # Every crop on the screen is loaded, from this server alone.
    browser.until(f"[...{HITS}].every(b => b.querySelector('img').naturalWidth === 32)")
    browser.picture("desktop.png")
    # A name is text.
    assert browser.run("return document.getElementById('evil')") is None
    assert "<b id=evil>eve" in browser.run("return document.body.textContent")

    # A click makes a result the next query, which is not found for itself.
    file = browser.run(f"return {HITS}[0].querySelector('img').alt")
    browser.click("#hits button")
    browser.until(f"document.getElementById('says').textContent === {json.dumps(file)}")
    browser.until(f"{HITS}.length === 12")

    # Filters by camera and name.
    browser.run("document.querySelector('#cameras input[value=\"2\"]').click()")
    browser.until(f"{HITS}.length === 3")  # Of four, as the query is one of them.
    browser.type("#name", "BOB")
    browser.until(f"{HITS}.length === 1")
    browser.type("#name", "xyz")
    browser.until(f"{HITS}.length === 0")
    assert browser.says() == "No image is left: change the filters."
    browser.run(
        "document.querySelector('#cameras input[value=\"2\"]').click();"
        "const name = document.getElementById('name'); name.value = '';"
        "name.dispatchEvent(new Event('input')); name.blur();"
    )
    browser.until(f"{HITS}.length === 12")

    # Something that is no image.
    (tmp_path / "no.png").write_bytes(b"no image")
    browser.type("#file", str(tmp_path / "no.png"))
    browser.until("document.getElementById('status').className === 'error'")
    assert "this is no image of the kinds JPEG" in browser.says()
    wrong = [one for one in browser.problems() if "status of 400" not in one]
    assert not wrong


def test_the_decision_line_and_re_ranking(browser, deciding_page, tmp_path):
    query = write(tmp_path / "query.png", (198, 44, 41), 99)
    for name, width, height in (("line_phone.png", 360, 740), ("line_desktop.png", 1200, 800)):
        browser.size(width, height)
        browser.post("/url", url=deciding_page)
        browser.type("#file", str(query))
        browser.until(f"{HITS}.length === 12")
        assert browser.run("return document.documentElement.scrollWidth") <= width
        items = browser.run(
            "return [...document.querySelectorAll('#hits li')].map(item => item.textContent)"
        )
        places = [place for place, text in enumerate(items) if "same person above" in text]
        assert places == [6]  # The model takes two of the colours for one.
        browser.until(f"[...{HITS}].every(b => b.querySelector('img').naturalWidth === 32)")
        browser.picture(name)
    assert browser.run("return document.querySelectorAll('#hits .sure').length") == 12
    assert "measured on 8 validation people" in browser.run(
        "return document.getElementById('about').textContent"
    )
    # The arrows step over the line: below it, a row up is the last row above it.
    browser.run(f"{HITS}[6].focus()")
    browser.press(UP)
    browser.until(f"[...{HITS}].indexOf(document.activeElement) === 0")
    browser.press(DOWN)
    browser.until(f"[...{HITS}].indexOf(document.activeElement) === 6")
    browser.run("document.getElementById('rerank').click()")
    browser.until("document.querySelectorAll('#hits .line').length === 0")
    assert "re-ranked distances have no probability" in browser.says()
    assert browser.run("return document.querySelectorAll('#hits .sure').length") == 0
    assert not browser.problems()


@pytest.mark.slow
def test_the_keyboard_alone(browser, page, tmp_path):
    browser.size(1200, 800)
    browser.post("/url", url=page)
    query = write(tmp_path / "query.png", (40, 198, 41), 99)
    browser.type("#file", str(query))
    browser.until(f"{HITS}.length === 13")
    browser.run("document.activeElement.blur()")
    place = f"[...{HITS}].indexOf(document.activeElement)"
    browser.press(RIGHT)
    browser.until(f"{place} === 0")
    browser.press(RIGHT)
    browser.until(f"{place} === 1")
    browser.press(DOWN)
    assert browser.run(f"return {place}") > 2
    file = browser.run("return document.activeElement.querySelector('img').alt")
    browser.press(ENTER)
    browser.until(f"document.getElementById('says').textContent === {json.dumps(file)}")
    browser.until(f"{HITS}.length === 12")
    browser.press(BACKSPACE)
    browser.until("document.getElementById('says').textContent === 'query.png'")
    browser.until(f"{HITS}.length === 13")
    browser.press("/")
    browser.until("document.activeElement.id === 'name'")
    assert browser.run("return document.getElementById('name').value") == ""


@pytest.mark.slow
def test_the_width_of_a_phone(browser, page, tmp_path):
    browser.size(360, 740)
    browser.post("/url", url=page)
    browser.type("#file", str(write(tmp_path / "query.png", (40, 41, 198), 99)))
    browser.until(f"{HITS}.length === 13")
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    tops = browser.run(f"return [...{HITS}].map(b => Math.round(b.getBoundingClientRect().top))")
    assert tops.count(tops[0]) >= 3
    browser.picture("phone.png")


@pytest.mark.slow
def test_the_page_of_find(browser, deciding, photos, tmp_path):
    queries = [photos / "anna/0_c1_0.png", write(tmp_path / "other.png", (40, 41, 198), 99)]
    results = search.find(deciding, photos, queries, top=9)
    path = tmp_path / "page.html"
    path.write_text(search.as_page(results, [query.read_bytes() for query in queries]))
    for name, width in (("find_desktop.png", 1200), ("find_phone.png", 360)):
        browser.size(width, 800)
        browser.post("/url", url=path.as_uri())
        browser.until("[...document.images].every(image => image.naturalWidth === 32)")
        assert browser.run("return document.images.length") == 20
        assert browser.run("return document.documentElement.scrollWidth") <= width
        browser.picture(name)
