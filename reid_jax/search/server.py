"""A search page on this machine: Flask's routes around a `Searcher`.

What a browser may get is the page, and crops of the images that are in the store, each by its row:
no request holds a path. A crop is encoded anew, so the bytes of a gallery file never reach a
browser as they are.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import flask
import PIL.Image
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server

from reid_jax.data import decode
from reid_jax.search.output import crop, line_place, line_words
from reid_jax.search.searching import Queries, Searcher

__all__ = ["Listening", "decode_upload", "listen", "make_app"]

UPLOAD_BYTES = 16 * 2**20
UPLOAD_PIXELS = 40 * 10**6
UPLOAD_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MOST = 500
"""Images of one list."""

_POLICY = (
    "default-src 'none'; img-src 'self' blob: data:; connect-src 'self'; "
    "script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)


def make_app(
    searcher: Searcher, *, hosts: Collection[str] | None, num_unreadable: int = 0
) -> flask.Flask:
    """Makes the application.

    Args:
        searcher: the gallery with its embeddings.
        hosts: what a browser may call this server ('127.0.0.1:8321'); other names are refused, as
            a page from elsewhere would have that leads its own name to this machine. None lets any
            name pass.
        num_unreadable: of gallery images that are not searched, for the page.

    Returns:
        A WSGI application: `/` is the page, `/gallery` what is searched, `/image/ROW` a crop,
        `GET /search?row=ROW` and `POST /search` (an encoded image) the lists; both take
        `top`, `name`, `rerank=1` and any number of `camera`.
    """
    app = flask.Flask(__name__, static_folder=None, template_folder="templates")
    app.config["MAX_CONTENT_LENGTH"] = UPLOAD_BYTES
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    # One search at a time: two would only share the processor, and the memory of neither is small.
    turn = threading.Lock()
    images = len(searcher.stored)

    @app.before_request
    def refuse_strangers() -> None:
        if hosts is not None and flask.request.host.lower() not in hosts:
            flask.abort(403, "this server is called by another name")
        # Browsers say which page asks; other programs do not, and need not.
        site = flask.request.headers.get("Sec-Fetch-Site", "none")
        if flask.request.path != "/" and site not in ("same-origin", "none"):
            flask.abort(403, "another page asked")

    @app.after_request
    def guard(response: flask.Response) -> flask.Response:
        nonce = flask.g.get("nonce", "none")
        response.headers["Content-Security-Policy"] = _POLICY.format(nonce=nonce)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response

    @app.errorhandler(HTTPException)
    def tell(error: HTTPException) -> tuple[flask.Response, int]:
        told = error.description or error.name
        if error.code == 413:
            told = f"the image is larger than {UPLOAD_BYTES // 2**20} MB"
        return flask.jsonify(error=told), error.code or 500

    @app.get("/")
    def page() -> str:
        flask.g.nonce = secrets.token_urlsafe(16)
        return flask.render_template(
            "serve.html", nonce=flask.g.nonce, name=searcher.gallery.root.name
        )

    @app.get("/gallery")
    def gallery() -> dict[str, Any]:
        seen = Counter(camera for camera in searcher.cameras if camera is not None)
        return {
            "name": searcher.gallery.root.name,
            "images": images,
            "unreadable": num_unreadable,
            "cameras": [
                {"name": name, "images": seen[name]} for name in sorted(seen, key=_by_value)
            ],
            "distance": searcher.distance_name,
            "decision": searcher.decision_name,
            "identities": any(searcher.identities),
        }

    @app.get("/image/<int:row>")
    def image(row: int) -> flask.Response:
        if row >= images:
            flask.abort(404, f"the gallery has {images:,} images")
        try:
            content = crop(searcher.gallery.read(searcher.stored.files[row]))
        except (OSError, ValueError):
            flask.abort(410, "this image went away since the gallery was embedded")
        response = flask.Response(content, mimetype="image/jpeg")
        response.headers["Cache-Control"] = "private, max-age=3600"
        return response

    @app.get("/search")
    def search_row() -> dict[str, Any]:
        row = flask.request.args.get("row", type=int)
        if row is None or not 0 <= row < images:
            flask.abort(400, f"row is a number from 0 to {images - 1}")
        return answer(searcher.queries_of_rows([row]))

    @app.post("/search")
    def search_upload() -> dict[str, Any]:
        content = flask.request.get_data(cache=False)
        try:
            pixels = decode_upload(content, searcher.input_size)
            with turn:
                queries = searcher.query_of_pixels(pixels, "upload")
        except ValueError as error:
            flask.abort(400, str(error))
        return answer(queries)

    def answer(queries: Queries) -> dict[str, Any]:
        asked = flask.request.args
        top = asked.get("top", 60, type=int)
        if not 1 <= top <= MOST:
            flask.abort(400, f"top is a number from 1 to {MOST}")
        with turn:
            results = searcher.search(
                queries,
                top=top,
                cameras=asked.getlist("camera") or None,
                name=asked.get("name", ""),
                rerank=asked.get("rerank") == "1",
            )
        row = int(queries.rows[0])
        return {
            "query": {
                "row": row if row >= 0 else None,
                "file": queries.names[0] if row >= 0 else None,
                "identity": queries.identities[0],
                "camera": queries.cameras[0],
            },
            "distance": results.distance,
            "threshold": results.threshold,
            "decision": results.decision,
            "line": line_place(results, results.found[0]),
            "line_words": "" if results.threshold is None else line_words(results),
            "hits": [
                {
                    "row": hit.row,
                    "file": hit.file,
                    "distance": hit.distance,
                    "probability": hit.probability,
                    "identity": hit.identity,
                    "camera": hit.camera,
                }
                for hit in results.found[0].hits
            ],
        }

    return app


def decode_upload(content: bytes, size: tuple[int, int]) -> Any:
    """Decodes an image from a stranger.

    Its kind and size are read from its first bytes, before any of its pixels is decoded.

    Args:
        content: encoded image.
        size: (height, width) to which it is resized.

    Returns:
        [H, W, 3] uint8, RGB.

    Raises:
        ValueError: if it is no JPEG, PNG, WebP, BMP or GIF, or has more than 40 million pixels.
    """
    try:
        with PIL.Image.open(io.BytesIO(content), formats=UPLOAD_FORMATS) as opened:
            width, height = opened.size
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        if isinstance(error, PIL.Image.DecompressionBombError):
            raise ValueError("the image has too many pixels") from error
        raise ValueError(f"this is no image of the kinds {', '.join(UPLOAD_FORMATS)}") from error
    if width * height > UPLOAD_PIXELS:
        raise ValueError(
            f"the image has {width} x {height} pixels; at most {UPLOAD_PIXELS // 10**6} million "
            "are taken"
        )
    return decode(content, size)


def _by_value(name: str) -> tuple[int, int, str]:
    return (0, int(name), name) if name.isdecimal() and len(name) < 20 else (1, 0, name)


class Listening:
    """A port that is taken, before there is anything to serve.

    Attributes:
        address: of the page.
        hosts: names by which a browser may call the server; None where it is open to others.
    """

    def __init__(self, connection: socket.socket, host: str) -> None:
        self._connection = connection
        port = connection.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{port}/"
        self.hosts = None
        if _is_loopback(host):
            names = {shown, "127.0.0.1", "localhost", "[::1]"}
            self.hosts = {f"{name}:{port}".lower() for name in names}
            if port == 80:
                self.hosts |= names
        self._host, self._port = host, port
        self._server: Any = None

    def serve(self, app: flask.Flask) -> None:
        """Serves until `stop` or Ctrl-C.

        Args:
            app: of `make_app`.
        """
        self._server = make_server(
            self._host,
            self._port,
            app,
            threaded=True,
            request_handler=_Quiet,
            fd=self._connection.fileno(),
        )
        with contextlib.suppress(KeyboardInterrupt):
            self._server.serve_forever()

    def stop(self) -> None:
        """Ends `serve`, from another thread."""
        if self._server is not None:
            self._server.shutdown()


class _Quiet(WSGIRequestHandler):
    """Says nothing of each request."""

    # A client that sends nothing would hold its thread for ever.
    timeout = 60

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        del code, size


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@contextlib.contextmanager
def listen(host: str, port: int) -> Iterator[Listening]:
    """Takes a port.

    Args:
        host: an address of this machine.
        port: 0 takes any that is free.

    Raises:
        OSError: if the port is taken or the address is not this machine's, with what to do.
        ValueError: if it is no port.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"the port is {port}, expected 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                connection.bind((host, port))
            except PermissionError as error:
                raise OSError(f"port {port} needs more rights: take --port 8321") from error
            except OSError as error:
                raise OSError(
                    f"port {port} of {host} cannot be taken ({error.strerror}): stop what runs "
                    "there, or take another with --port"
                ) from error
            connection.listen(64)
            yield Listening(connection, host)
    except socket.gaierror as error:
        raise OSError(f"{host} is no address of this machine: {error.strerror}") from error
