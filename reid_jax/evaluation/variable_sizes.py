"""Features of images that keep their own sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from reid_jax import parallel

__all__ = ["extract_features_by_size"]


def extract_features_by_size(
    embed: Callable[[Any, jax.Array], jax.Array],
    variables: Any,
    batches: Callable[[Sequence[np.ndarray]], Iterable[np.ndarray]],
    *,
    sizes: np.ndarray,
    batch_size: int,
    description: str,
) -> np.ndarray:
    """Features of images of different sizes, for a network whose features do not depend on them.

    A batch holds images of exactly one size, and the network is compiled once for each size:
    padding to a common size would change the features near the border, and with them the maximum
    that a MAC layer takes. Where sizes hardly repeat, round them (`reid_jax.data.rounded_sizes`).

    Args:
        embed: `embed(variables, images [B, H, W, 3]) -> [B, D]`, without batch statistics, for
            any H and W.
        variables: of the model.
        batches: `batches(groups)` gives for each group of rows, in order, the images of these
            rows, [b, H, W, 3]; each process asks for its own share.
        sizes: [N, 2] integers, (height, width) of the images as `batches` gives them.
        batch_size: the most images of one call on this process; a size with fewer images has
            smaller calls.
        description: of the progress bar.
    Returns:
        [N, D] float32 in the order of `sizes`, the same on every process.
    Raises:
        ValueError: if there is no image, or `batches` gives images of another number or size.
    """
    sizes = np.asarray(sizes)
    if sizes.ndim != 2 or sizes.shape[1] != 2 or len(sizes) == 0:
        raise ValueError(f"sizes are {list(sizes.shape)}; expected (height, width) of each image")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; expected at least 1")
    # By size, so that each process has few sizes to compile for.
    order = np.lexsort((sizes[:, 1], sizes[:, 0]))
    share = parallel.host_share(len(sizes))
    # A process without a share embeds one image all the same, to know the size of a feature.
    own_rows = order[share] if share.stop > share.start else order[:1]
    blocks = np.split(own_rows, 1 + np.flatnonzero(np.diff(sizes[own_rows], axis=0).any(axis=1)))
    groups = [
        block[first : first + batch_size]
        for block in blocks
        for first in range(0, len(block), batch_size)
    ]
    features: list[np.ndarray] = []
    shape, run = None, None
    with tqdm(
        total=len(own_rows),
        desc=description,
        unit="img",
        disable=not parallel.is_main_process(),
        mininterval=1,
    ) as bar:
        for group, images in zip(groups, batches(groups), strict=True):
            expected = (len(group), *sizes[group[0]].tolist(), 3)
            if images.shape != expected:
                raise ValueError(f"got images {images.shape} for {expected}")
            if run is None or expected[1:] != shape:
                # The first group of a size is its largest, and the others are padded to it.
                shape = expected[1:]
                run = parallel.map_rows(embed, variables, num_rows=len(group))
            features.append(np.asarray(run(images), np.float32))
            bar.update(len(group))
    own = np.concatenate(features)[: share.stop - share.start]
    gathered = parallel.gather_shares(own, len(sizes))
    ordered = np.empty_like(gathered)
    ordered[order] = gathered
    return ordered
