"""What was found, as JSON, as CSV and as one page that stands alone."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence

import cv2
import jinja2
import numpy as np

from reid_jax.data import decode
from reid_jax.search.searching import Found, Results

__all__ = ["as_csv", "as_json", "as_page", "as_text", "crop", "line_place", "line_words"]

COLUMNS = ("query", "rank", "distance", "probability", "identity", "camera", "file")
CROP_HEIGHT, CROP_WIDTH = 256, 256
_PAGES = jinja2.Environment(
    loader=jinja2.PackageLoader("reid_jax.search", "templates"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


def as_json(results: Results) -> str:
    """The lists as JSON.

    Args:
        results: of `find`.

    Returns:
        An object: `distance`, what the distances are; `threshold` and `decision`, as `Results` has
        them; `found`, a list of `query` and `hits`, each with `file`, `distance`, `probability`,
        `identity` and `camera` (null where not known); `unreadable`.
    """
    content = {
        "distance": results.distance,
        "threshold": results.threshold,
        "decision": results.decision,
        "gallery": str(results.gallery.root) if results.gallery else None,
        "found": [
            {
                "query": found.query,
                "hits": [
                    {
                        "file": hit.file,
                        "distance": hit.distance,
                        "probability": hit.probability,
                        "identity": hit.identity,
                        "camera": hit.camera,
                    }
                    for hit in found.hits
                ],
            }
            for found in results.found
        ],
        "unreadable": [{"file": u.file, "reason": u.reason} for u in results.unreadable],
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def as_csv(results: Results) -> str:
    """The lists as CSV: query, rank from 1, distance, probability, identity, camera and file.

    Args:
        results: of `find`.

    Returns:
        A line for each image found, below a heading.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for found in results.found:
        for rank, hit in enumerate(found.hits, 1):
            probability = "" if hit.probability is None else f"{hit.probability:.6g}"
            names = (hit.identity or "", hit.camera or "", hit.file)
            writer.writerow([found.query, rank, f"{hit.distance:.6g}", probability, *names])
    return text.getvalue()


def as_text(results: Results) -> str:
    """The lists for a terminal.

    Args:
        results: of `find`.

    Returns:
        Lines.
    """
    lines = []
    for found in results.found:
        lines.append(f"{found.query}  ({results.distance})")
        line = line_place(results, found)
        for rank, hit in enumerate(found.hits, 1):
            if rank - 1 == line:
                lines.append(f"      {'-' * 8}  {line_words(results)}")
            names = [hit.identity or "", f"camera {hit.camera}" if hit.camera else ""]
            told = "  ".join(name for name in names if name)
            shown = "" if hit.probability is None else f"{100 * hit.probability:5.1f} %  "
            lines.append(
                f"{rank:4d}  {hit.distance:8.4f}  {shown}{hit.file}" + f"  ({told})" * bool(told)
            )
        if not found.hits:
            lines.append("      nothing is left to show")
        elif line == len(found.hits):
            lines.append(f"      {'-' * 8}  {line_words(results)}")
    if results.decision:
        lines.append(f"({results.decision})")
    return "\n".join(lines) + "\n"


def line_place(results: Results, found: Found) -> int | None:
    """How many images of a list are within the threshold; None without one."""
    if results.threshold is None:
        return None
    return sum(hit.distance <= results.threshold for hit in found.hits)


def line_words(results: Results) -> str:
    """What stands at the threshold in a list."""
    return f"same person above, another below: distance {results.threshold:.4f}"


def as_page(results: Results, queries: Sequence[bytes]) -> str:
    """The lists as one page without a script, with all crops in it.

    Args:
        results: of `find`.
        queries: [Q] encoded images of the queries.

    Returns:
        HTML that loads nothing.

    Raises:
        ValueError: if the numbers of lists and queries differ, or the gallery is not known.
    """
    if results.gallery is None or len(queries) != len(results.found):
        raise ValueError(
            f"got {len(queries)} query images for {len(results.found)} lists, of the gallery "
            f"{results.gallery}"
        )
    gallery = results.gallery
    crops: dict[str, str | None] = {}

    def shown(file: str) -> str | None:
        if file not in crops:
            try:
                crops[file] = _data_uri(gallery.read(file))
            except (OSError, ValueError):  # It went away since it was embedded.
                crops[file] = None
        return crops[file]

    lists = [
        {"found": found, "crop": _data_uri(query), "crops": [shown(hit.file) for hit in found.hits]}
        for found, query in zip(results.found, queries, strict=True)
    ]
    return _PAGES.get_template("lists.html").render(
        lists=lists,
        results=results,
        name=gallery.root.name,
        said=_said,
        line_place=line_place,
        line_words=line_words,
    )


def _said(found: Found) -> str:
    return f"{len(found.hits):,} image{'s' * (len(found.hits) != 1)}"


def crop(content: bytes, *, height: int = CROP_HEIGHT, width: int = CROP_WIDTH) -> bytes:
    """An image no larger than a page shows it.

    Args:
        content: encoded image, of any format that OpenCV reads.
        height: pixels at most.
        width: pixels at most.

    Returns:
        JPEG.

    Raises:
        ValueError: if the bytes are not an image.
    """
    image = decode(content, None)
    scale = min(1.0, height / image.shape[0], width / image.shape[1])
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    bgr = np.ascontiguousarray(image[..., ::-1])
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return encoded.tobytes()


def _data_uri(content: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(crop(content)).decode()
