"""The search page in headless Chromium, as a person uses it."""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import threading
import time
import urllib.request

import pytest
from search_parts import people_source, write, write_photos

from reid_jax import decide, search
from reid_jax.search.server import listen, make_app

pytestmark = pytest.mark.skipif(
    not (shutil.which("chromedriver") and shutil.which("chromium")), reason="needs chromium-driver"
)
ENTER, RIGHT, UP, DOWN, BACKSPACE = "\ue007", "\ue014", "\ue013", "\ue015", "\ue003"
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """Enough of the WebDriver protocol."""

    def __init__(self, port, profile):
        self._root = f"http://127.0.0.1:{port}"
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options.append(f"--user-data-dir={profile}")
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": options}}
        wanted["goog:loggingPrefs"] = {"browser": "ALL"}
        self._root += (
            "/session/" + self.post("/session", capabilities={"alwaysMatch": wanted})["sessionId"]
        )

    def post(self, path, **content):
        request = urllib.request.Request(
            self._root + path, json.dumps(content).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def close(self):
        request = urllib.request.Request(self._root, method="DELETE")
        urllib.request.urlopen(request, timeout=60).close()

    def run(self, script, *arguments):
        return self.post("/execute/sync", script=script, args=list(arguments))

    def until(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not (found := self.run("return " + condition)):
            assert time.monotonic() < end, f"{condition} stays {found}; the page says {self.says()}"
            time.sleep(0.05)
        return found

    def says(self):
        return self.run("return document.getElementById('status').textContent")

    def find(self, selector):
        return self.post("/element", using="css selector", value=selector)[ELEMENT]

    def click(self, selector):
        self.post(f"/element/{self.find(selector)}/click")

    def type(self, selector, text):
        self.post(f"/element/{self.find(selector)}/value", text=text)

    def press(self, key):
        keys = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self.post("/actions", actions=[{"type": "key", "id": "keyboard", "actions": keys}])

    def size(self, width, height):
        self.post(
            "/goog/cdp/execute",
            cmd="Emulation.setDeviceMetricsOverride",
            params={"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def problems(self):
        return [one["message"] for one in self.post("/se/log", type="browser")]

    def picture(self, name):
        """Keeps a picture of the page where REID_PICTURES says, to be looked at."""
        if folder := os.environ.get("REID_PICTURES"):
            with urllib.request.urlopen(self._root + "/screenshot", timeout=60) as answer:
                content = base64.b64decode(json.load(answer)["value"])
            (pathlib.Path(folder) / name).write_bytes(content)


def free_port():
    with socket.socket() as connection:
        connection.bind(("127.0.0.1", 0))
        return connection.getsockname()[1]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    port = free_port()
    with subprocess.Popen(
        ["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as driver:
        try:
            for _ in range(200):
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5).close()
                    break
                time.sleep(0.1)
            made = Browser(port, tmp_path_factory.mktemp("profile"))
            yield made
            made.close()
        finally:
            driver.terminate()


@pytest.fixture(scope="module")
def page(browser, embedder, tmp_path_factory):
    """The address of a page over twelve crops, one of them with a name that is no markup."""
    root = tmp_path_factory.mktemp("page")
    photos = write_photos(root / "photos")
    write(photos / "<b id=evil>eve" / "4_c3_0.png", (200, 30, 200), 50)
    gallery = search.open_gallery(photos)
    update = search.EmbeddingStore(root / "store", embedder).update(gallery)
    searcher = search.Searcher(embedder, gallery, update.stored)
    with listen("127.0.0.1", 0) as listening:
        app = make_app(searcher, hosts=listening.hosts)
        thread = threading.Thread(target=listening.serve, args=(app,))
        thread.start()
        yield listening.address
        listening.stop()
        thread.join()


@pytest.fixture(scope="module")
def deciding(embedder):
    """A model that knows where one person ends."""
    return embedder.with_decision(decide.measure(embedder, {"val": people_source()}))


@pytest.fixture(scope="module")
def deciding_page(browser, deciding, tmp_path_factory):
    """The address of a page with a decision line."""
    root = tmp_path_factory.mktemp("deciding")
    gallery = search.open_gallery(write_photos(root / "photos"))
    update = search.EmbeddingStore(root / "store", deciding).update(gallery)
    searcher = search.Searcher(deciding, gallery, update.stored)
    with listen("127.0.0.1", 0) as listening:
        app = make_app(searcher, hosts=listening.hosts)
        thread = threading.Thread(target=listening.serve, args=(app,))
        thread.start()
        yield listening.address
        listening.stop()
        thread.join()


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
