"""The search page's server gives the page, lists and crops of the gallery, and nothing else."""

import io
import socket
import struct
import threading
import urllib.error
import urllib.request
import zlib

import cv2
import numpy as np
import PIL.Image
import pytest
from search_parts import people_source, picture, write

from reid_jax import decide, search
from reid_jax.search.server import UPLOAD_BYTES, decode_upload, listen, make_app

SECRET = b"the secret that no request may get"


@pytest.fixture(scope="module")
def searcher(tmp_path_factory, embedder):
    from search_parts import write_photos

    root = tmp_path_factory.mktemp("served")
    photos = write_photos(root / "photos")
    (root / "secret.txt").write_bytes(SECRET)
    (photos / "notes.txt").write_bytes(SECRET)
    write(root / "outside.png", (7, 7, 7))
    gallery = search.open_gallery(photos)
    update = search.EmbeddingStore(root / "store", embedder).update(gallery)
    return search.Searcher(embedder, gallery, update.stored)


@pytest.fixture
def client(searcher):
    return make_app(searcher, hosts={"localhost"}, num_unreadable=3).test_client()


def encoded(colour, kind=".png"):
    return cv2.imencode(kind, picture(colour, 5)[..., ::-1])[1].tobytes()


def test_the_gallery(client):
    told = client.get("/gallery").json
    assert told["images"] == 12
    assert told["unreadable"] == 3
    assert told["cameras"] == [{"name": "1", "images": 8}, {"name": "2", "images": 4}]
    assert told["distance"] == "squared Euclidean distance of unit vectors"


def test_a_row_as_query(client, searcher):
    found = client.get("/search?row=3&top=5").json
    assert found["query"] == {"row": 3, "file": "bob/1_c1_0.png", "identity": "bob", "camera": "1"}
    assert len(found["hits"]) == 5
    expected = searcher.search(searcher.queries_of_rows([3]), top=5).found[0].hits
    assert [hit["file"] for hit in found["hits"]] == [hit.file for hit in expected]
    shown = client.get("/search?row=3&camera=2&name=AN").json["hits"]
    assert {(hit["camera"], hit["identity"]) for hit in shown} == {("2", "anna"), ("2", "dan")}


def test_a_model_that_decides_says_where(searcher, embedder, client):
    assert client.get("/gallery").json["decision"] == ""
    plain = client.get("/search?row=3").json
    assert (plain["line"], plain["threshold"], plain["decision"]) == (None, None, "")
    decision = decide.measure(embedder, {"val": people_source()})
    model = embedder.with_decision(decision)
    app = make_app(search.Searcher(model, searcher.gallery, searcher.stored), hosts=None)
    deciding = app.test_client()
    assert "measured on 8 validation people" in deciding.get("/gallery").json["decision"]
    found = deciding.get("/search?row=3").json
    assert found["threshold"] == decision.equal_error.threshold
    assert found["line"] == sum(hit["distance"] <= found["threshold"] for hit in found["hits"])
    assert [hit["distance"] for hit in found["hits"]] == [h["distance"] for h in plain["hits"]]
    chance = found["hits"][0]["probability"]
    assert chance == pytest.approx(float(decision.probability(found["hits"][0]["distance"])))
    reranked = deciding.get("/search?row=3&rerank=1").json
    assert "re-ranked" in reranked["distance"]
    assert reranked["line"] is None
    assert "have no probability" in reranked["decision"]
    assert reranked["hits"][0]["probability"] is None


@pytest.mark.parametrize("kind", [".png", ".jpg", ".webp", ".bmp"])
def test_an_upload_as_query(client, kind):
    answer = client.post("/search?top=3", data=encoded((200, 40, 40), kind))
    assert answer.status_code == 200
    assert {hit["identity"] for hit in answer.json["hits"]} == {"anna"}
    assert answer.json["query"]["row"] is None


def test_crops_are_encoded_anew(client, searcher):
    answer = client.get("/image/3")
    assert answer.mimetype == "image/jpeg"
    image = cv2.imdecode(np.frombuffer(answer.data, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (32, 32, 3)


@pytest.mark.parametrize(
    "path",
    [
        "/image/12",
        "/image/-1",
        "/image/1e0",
        "/image/0x1",
        "/image/99999999999999999999999",
        "/image/../secret.txt",
        "/image/..%2fsecret.txt",
        "/image/..%2f..%2fsecret.txt",
        "/image/%2e%2e/%2e%2e/secret.txt",
        "/image/%252e%252e%252fsecret.txt",
        "/image/..\\secret.txt",
        "/image/..%5csecret.txt",
        "/image/0/../../secret.txt",
        "/image/0%00.png",
        "/image/notes.txt",
        "/image//etc/passwd",
        "/image/%2fetc%2fpasswd",
        "//etc/passwd",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..;/secret.txt",
        "/secret.txt",
        "/static/secret.txt",
        "/static/../server.py",
        "/templates/serve.html",
        "/server.py",
        "/image/..%c0%afsecret.txt",
        "/image/%uff0e%uff0e/secret.txt",
        "/photos/anna/0_c1_0.png",
        "/anna/0_c1_0.png",
        "/image/anna/0_c1_0.png",
        "/image/file:///etc/passwd",
        "/image/outside.png",
        "/image/..%2foutside.png",
        "/search?row=../secret.txt",
        "/search?row=-1",
        "/search?row=12",
        "/search?row=3&top=0",
        "/search?row=3&top=501",
        "/search",
        "/image/",
        "/image/0?file=../secret.txt&path=/etc/passwd",
    ],
)
def test_nothing_but_rows_of_the_gallery(searcher, path):
    """Through a socket, as written: a client library would tidy the path."""
    with listen("127.0.0.1", 0) as listening:
        app = make_app(searcher, hosts=listening.hosts)
        thread = threading.Thread(target=listening.serve, args=(app,))
        thread.start()
        port = int(listening.address.rsplit(":", 1)[1].strip("/"))
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                host = f"127.0.0.1:{port}"
                connection.sendall(
                    f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
                )
                answer = b""
                while part := connection.recv(65536):
                    answer += part
        finally:
            listening.stop()
            thread.join()
    status = int(answer.split(b" ", 2)[1])
    if path.startswith("/image/0?"):
        assert status == 200  # What else is asked is not looked at.
        assert b"image/jpeg" in answer
    else:
        assert 300 <= status < 500, answer[:200]
    for never in (SECRET, b"root:", b"make_app", b"Traceback"):
        assert never not in answer


def test_uploads_are_limited(client):
    for wrong in (b"", b"no image", SECRET, b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"<svg></svg>"):
        answer = client.post("/search", data=wrong)
        assert answer.status_code == 400, wrong
        assert "no image" in answer.json["error"]
    answer = client.post("/search", data=b"\0" * (UPLOAD_BYTES + 1))
    assert answer.status_code == 413
    assert answer.json["error"] == "the image is larger than 16 MB"


def png_of(width, height):
    """A PNG file that says its size, and has next to no data."""

    def chunk(kind, data):
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(10_000, 4_001), (65_000, 65_000), (2**31 - 1, 2**31 - 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_large_images_are_refused_before_they_are_decoded(monkeypatch, size):
    monkeypatch.setattr("reid_jax.search.server.decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=r"pixels|no image"):
        decode_upload(png_of(*size), (32, 32))


def test_other_formats_are_refused():
    content = io.BytesIO()
    PIL.Image.new("RGB", (8, 8)).save(content, "TIFF")
    with pytest.raises(ValueError, match="no image of the kinds JPEG"):
        decode_upload(content.getvalue(), (32, 32))


def test_strangers_are_refused(client):
    # A page from elsewhere whose name leads to this machine, and one that asks from its own name.
    assert client.get("/gallery", headers={"Host": "evil.example"}).status_code == 403
    for site in ("cross-site", "same-site"):
        assert client.get("/search?row=1", headers={"Sec-Fetch-Site": site}).status_code == 403
    assert client.get("/gallery", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200
    # A link to the page may stand anywhere.
    assert client.get("/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_the_page_loads_nothing_from_elsewhere(client):
    answer = client.get("/")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    page = answer.text
    assert "http" not in page
    nonce = page.split('nonce="')[1].split('"')[0]
    assert f"'nonce-{nonce}'" in answer.headers["Content-Security-Policy"]
    assert client.get("/").text != page  # Another nonce each time.
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_an_image_that_went_away(searcher, client):
    path = searcher.gallery.path(searcher.stored.files[5])
    content = path.read_bytes()
    path.unlink()
    try:
        assert client.get("/image/5").status_code == 410
    finally:
        path.write_bytes(content)


def test_a_port_in_use_is_one_message():
    with listen("127.0.0.1", 0) as listening:
        port = int(listening.address.rsplit(":", 1)[1].strip("/"))
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 cannot be taken"):
            listen("127.0.0.1", port).__enter__()
    with pytest.raises(ValueError, match="0 to 65535"):
        listen("127.0.0.1", 70_000).__enter__()
    with pytest.raises(OSError, match=r"no address of this machine|cannot be taken"):
        listen("no.such.host.invalid", 0).__enter__()


def test_loopback_alone_by_default():
    with listen("127.0.0.1", 0) as listening:
        assert "localhost:" in " ".join(listening.hosts)
        port = listening.address.rsplit(":", 1)[1].strip("/")
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(f"http://127.0.0.2:{port}/", timeout=2)
