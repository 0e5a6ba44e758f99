"""Embeddings of all images of a split, in order, over all devices and hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from reid_jax import parallel

__all__ = ["extract_features"]


def extract_features(
    embed: Callable[[Any, jax.Array], jax.Array],
    variables: Any,
    batches: Callable[[slice], Iterable[np.ndarray]],
    *,
    num_images: int,
    batch_size: int,
    description: str,
) -> np.ndarray:
    """Features of images 0 to N - 1.

    Args:
        embed: `embed(variables, images [B, H, W, 3]) -> [B, D]`, without batch statistics.
        variables: of the model.
        batches: `batches(rows)` gives the images of a range of rows in order, [b, H, W, 3] with
            b up to `batch_size`; each process asks for its own share.
        num_images: N.
        batch_size: images of one call on this process.
        description: of the progress bar.
    Returns:
        [N, D] float32, the same on every process.
    Raises:
        ValueError: if `batches` gives another number of images.
    """
    share = parallel.host_share(num_images)
    # A process without a share embeds one image all the same, to know the size of a feature.
    rows = share if share.stop > share.start else slice(0, 1)
    run = parallel.map_rows(embed, variables, num_rows=batch_size)
    features, found = None, 0
    with tqdm(
        total=rows.stop - rows.start,
        desc=description,
        unit="img",
        disable=num_images <= batch_size or not parallel.is_main_process(),
        mininterval=1,
    ) as bar:
        for images in batches(rows):
            part = np.asarray(run(images), np.float32)
            if features is None:
                features = np.empty((rows.stop - rows.start, part.shape[1]), np.float32)
            features[found : found + len(part)] = part[: len(features) - found]
            found += len(part)
            bar.update(len(images))
    if features is None or found != rows.stop - rows.start:
        raise ValueError(f"got {found} images for rows {rows.start} to {rows.stop}.")
    own = features[: share.stop - share.start]
    return parallel.gather_shares(own, num_images)
