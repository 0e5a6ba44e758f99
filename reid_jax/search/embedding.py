"""Embedding in a stream: images are read ahead, and no more than a few batches are held."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Container, Iterator, Sequence

import numpy as np

from reid_jax import parallel
from reid_jax.data import decode
from reid_jax.data.prefetch import prefetch
from reid_jax.embedder import Embedder
from reid_jax.evaluation import variables_fingerprint
from reid_jax.search.gallery import Gallery

__all__ = [
    "ReadImage",
    "StreamEmbedder",
    "Unreadable",
    "model_digest",
    "read_images",
    "read_queries",
]

# A file changed so shortly before it is read may change again within one tick of its clock.
_SETTLED_NS = 2 * 10**9


class StreamEmbedder:
    """An embedder made ready once, that then embeds batch after batch.

    Attributes:
        batch_size: the most images of a call.
        input_size: (height, width) of the images.

    Args:
        embedder: gives an embedding of each image by itself.
        batch_size: None takes `scoring.batch_size`.

    Raises:
        ValueError: if the network scores pairs, or if its embedding of an image depends on the
            images around it.
    """

    def __init__(self, embedder: Embedder, *, batch_size: int | None = None) -> None:
        embed = embedder.embed
        if getattr(embedder.model, "test_statistics", "running") == "batch":
            raise ValueError(
                f"{type(embedder.model).__name__} takes batch norm's statistics from the images "
                "that are embedded together, so no image has an embedding of its own to keep: "
                "compare two lists with Embedder.distances"
            )
        self.batch_size = batch_size or embedder.scoring.batch_size
        self.input_size = embedder.input_size
        self._run = parallel.map_rows(embed, embedder.variables, num_rows=self.batch_size)

    def __call__(self, images: np.ndarray, files: Sequence[str]) -> np.ndarray:
        """Embeds images.

        Args:
            images: [n, *input_size, 3] uint8, RGB; n from 1 to `batch_size`.
            files: [n] their names, for messages.

        Returns:
            [n, D] float32.

        Raises:
            ValueError: if an embedding is not finite.
        """
        features = np.asarray(self._run(images), np.float32)
        finite = np.isfinite(features).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"the embedding of {files[int(np.argmin(finite))]} holds nan or infinite numbers: "
                "look for a model that diverged in training"
            )
        return features


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """An image that could not be read, and why."""

    file: str
    reason: str


@dataclasses.dataclass(frozen=True)
class ReadImage:
    """An image as it was read.

    Attributes:
        file: its path in the gallery.
        size: bytes.
        modified: time of its last change in ns; 0 if that does not identify its content.
        digest: SHA-256 of its bytes.
        pixels: [H, W, 3] uint8; None if its digest was known.
    """

    file: str
    size: int
    modified: int
    digest: str
    pixels: np.ndarray | None = dataclasses.field(repr=False)


def read_images(
    gallery: Gallery,
    files: Sequence[str],
    size: tuple[int, int],
    *,
    batch_size: int,
    known: Container[str] = (),
) -> Iterator[tuple[list[ReadImage], list[Unreadable]]]:
    """Reads and decodes images ahead, on threads.

    Args:
        gallery: holds them.
        files: which of its files, in the order in which they are given.
        size: (height, width) to which they are resized.
        batch_size: files of a batch; the last one has what is left.
        known: digests of images that need not be decoded.

    Returns:
        Iterator of batches: the images that were read, and the files that cannot be.
    """

    def make(number: int) -> tuple[list[ReadImage], list[Unreadable]]:
        found: list[ReadImage] = []
        lost: list[Unreadable] = []
        for file in files[number * batch_size : (number + 1) * batch_size]:
            one = _read(gallery, file, size, known)
            if isinstance(one, ReadImage):
                found.append(one)
            else:
                lost.append(one)
        return found, lost

    if not files:
        return iter(())
    return prefetch(0, -(-len(files) // batch_size), make, threads=True)


def _read(
    gallery: Gallery, file: str, size: tuple[int, int], known: Container[str]
) -> ReadImage | Unreadable:
    try:
        before = gallery.stamp(file)
        content = gallery.read(file)
        # Time and content belong together only if nobody wrote between them.
        settled = before[1] and before == gallery.stamp(file)
        settled = settled and before[1] < time.time_ns() - _SETTLED_NS
        digest = hashlib.sha256(content).hexdigest()
        pixels = None if digest in known else decode(content, size)
    except FileNotFoundError:
        return Unreadable(file, "it went away while the gallery was read")
    except OSError as error:
        return Unreadable(file, error.strerror or str(error))
    except ValueError as error:
        return Unreadable(file, str(error))
    return ReadImage(file, len(content), before[1] if settled else 0, digest, pixels)


def read_queries(paths: Sequence[str | os.PathLike], size: tuple[int, int]) -> np.ndarray:
    """Reads and decodes the images that are looked for.

    Args:
        paths: Q files.
        size: (height, width) to which they are resized.

    Returns:
        [Q, H, W, 3] uint8, RGB.

    Raises:
        ValueError: if there is none, or some are no images; all of these are named.
    """
    if not paths:
        raise ValueError("there is no query: name at least one image")
    images, problems = [], []
    for path in paths:
        try:
            images.append(decode(pathlib.Path(path).expanduser().read_bytes(), size))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            problems.append(f"{os.fspath(path)}: {reason}")
    if problems:
        raise ValueError(
            f"{len(problems):,} of {len(paths):,} queries cannot be read:\n  "
            + "\n  ".join(problems[:5])
            + (f"\n  and {len(problems) - 5:,} more" if len(problems) > 5 else "")
        )
    return np.stack(images)


def model_digest(embedder: Embedder) -> str:
    """Hash of all that an embedding depends on: variables, network, preprocessing and test mode.

    Args:
        embedder: any; where its data came from and how it is batched do not count.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.
    """
    try:
        network = embedder.as_json()["network"]
    except ValueError:  # A network of one's own, which has no description.
        network = f"{type(embedder.model).__module__}.{type(embedder.model).__qualname__}"
    told = {
        "variables": variables_fingerprint(embedder.variables),
        "network": network,
        "preprocess": embedder.preprocess.as_json(),
        "normalise": embedder.scoring.normalise,
        "test_mode": embedder.scoring.test_mode,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
