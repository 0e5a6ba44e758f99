"""Small folders as people have them: names, tables and images of one colour."""

import cv2
import numpy as np

IMAGE = cv2.imencode(".png", np.full((8, 4, 3), 90, np.uint8))[1].tobytes()


def encoded(suffix, value=90):
    """An image in the encoding that the suffix names, where OpenCV writes it; else a PNG."""
    pixels = np.full((64, 32, 3), value, np.uint8)
    pixels[:20, :10] = (10, 200, 60)
    if suffix in (".pfm", ".hdr", ".pic"):
        pixels = pixels.astype(np.float32) / 255
    if suffix in (".pgm", ".pbm"):
        pixels = pixels[..., 0]
    suffix = {".jfif": ".jpg", ".mpo": ".jpg"}.get(suffix, suffix)
    return cv2.imencode(suffix, pixels)[1].tobytes()


def write(root, *files):
    """Writes files: each a path, which becomes an image, or (path, text or bytes)."""
    for file in files:
        path, content = (file, IMAGE) if isinstance(file, str) else file
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def folders(prefix, names, *, form="{k}.jpg", number=2):
    """Paths in one sub-folder an identity."""
    return [f"{prefix}{name}/{form.format(k=k)}" for name in names for k in range(number)]


def market(prefix, identities, *, cameras=(1, 2)):
    """Paths with Market-style names."""
    return [f"{prefix}{i:04d}_c{c}_0.jpg" for i in identities for c in cameras]


def table(rows, *, header="file,identity", delimiter=","):
    """Text of a table."""
    lines = [header.replace(",", delimiter), *(delimiter.join(row) for row in rows)]
    return "\n".join(lines) + "\n"
