"""A headless Chromium that tests use as a person would."""

import base64
import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.request

import pytest

needs_chromium = pytest.mark.skipif(
    not (shutil.which("chromedriver") and shutil.which("chromium")), reason="needs chromium-driver"
)
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

    def open(self, address):
        self.post("/url", url=address)

    def run(self, script, *arguments):
        return self.post("/execute/sync", script=script, args=list(arguments))

    def until(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not (found := self.run("return " + condition)):
            page = self.run("return document.body.innerText.slice(0, 500)")
            assert time.monotonic() < end, f"{condition} stays {found}; the page says {page}"
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


@contextlib.contextmanager
def open_browser(profile):
    """A browser with an empty profile in a folder of its own."""
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
            made = Browser(port, profile)
            yield made
            made.close()
        finally:
            driver.terminate()
