"""Models that score a pair of images: what belongs to one image is computed once and kept.

Comparing Q queries with G gallery images takes Q + G passes through the trunk, and Q x G passes
through the small part that sees both images. The pairs go through it in tiles of some queries by
some gallery images, so that memory does not grow with the gallery.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from reid_jax import parallel
from reid_jax.distances import euclidean
from reid_jax.evaluation.features import extract_features

__all__ = ["ImageCache", "PairScorer", "cache_images", "similarity_score", "variables_fingerprint"]

Parts = dict[str, jax.Array]
Layout = tuple[tuple[str, tuple[int, ...], np.dtype], ...]

LARGE_CACHE = 2**30
"""Bytes above which a cache says what it takes."""


def similarity_score(
    pair_logits: jax.Array,
    descriptor_a: jax.Array,
    descriptor_b: jax.Array,
    *,
    distance_weight: float,
    epsilon: float,
) -> jax.Array:
    r"""Probability of a match plus the weighted inverse distance of the descriptors.

    .. math:: \mathrm{SimiScore} = s_{softmax} + \lambda \frac{1}{d + \epsilon}

    Guo and Cheung (csn), Eq. 7; lambda is 0.2 and epsilon 0.0001.

    Args:
        pair_logits: [P, 2], index 1 = same identity.
        descriptor_a: [P, D].
        descriptor_b: [P, D].
        distance_weight: lambda.
        epsilon: added to the Euclidean distance.

    Returns:
        [P] float32 or wider, larger is more alike.
    Deviation: none.
    """
    squared = jnp.sum(jnp.square(descriptor_a - descriptor_b), axis=-1)
    probability = jax.nn.softmax(pair_logits, axis=-1)[..., 1]
    return probability + distance_weight / (jnp.sqrt(squared) + epsilon)


def variables_fingerprint(variables: Any) -> str:
    """Hash of a model's variables: equal exactly where names, shapes, dtypes and values are.

    Args:
        variables: tree of arrays.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)}\0{array.dtype}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class ImageCache:
    """What a pair model needs of each image, and the checkpoint that it was made with.

    Attributes:
        rows: [N, D] float32, the parts of each image behind each other.
        layout: name, shape without the images' axis, and dtype of each part.
        checkpoint: `variables_fingerprint` of the model.
    """

    rows: np.ndarray
    layout: Layout
    checkpoint: str

    @property
    def columns(self) -> dict[str, slice]:
        """Where each part stands in a row."""
        return _columns(self.layout)

    def parts(self, rows: jax.Array) -> Parts:
        """The parts [n, ...] in rows [n, D] of a cache."""
        return _parts(rows, self.layout)


def _columns(layout: Layout) -> dict[str, slice]:
    ends = np.cumsum([math.prod(shape) for _, shape, _ in layout]).tolist()
    starts = [0, *ends[:-1]]
    return {
        name: slice(start, end) for (name, *_), start, end in zip(layout, starts, ends, strict=True)
    }


def _parts(rows: jax.Array, layout: Layout) -> Parts:
    columns = _columns(layout)
    return {
        name: rows[:, columns[name]].reshape(-1, *shape).astype(dtype)
        for name, shape, dtype in layout
    }


# The functions of both are cached: each validation of a training has a cache and a scorer of its
# own, and a function that is made anew would be compiled anew.
@functools.lru_cache(maxsize=64)
def _flat(embed: Callable[[Any, jax.Array], Parts]) -> Callable[[Any, jax.Array], jax.Array]:
    """The parts of images, by name behind each other in rows [B, D]."""

    def flat(variables: Any, images: jax.Array) -> jax.Array:
        parts = embed(variables, images)
        rows = [parts[name].reshape(len(images), -1) for name in sorted(parts)]
        return jnp.concatenate([part.astype(jnp.float32) for part in rows], axis=1)

    return flat


@functools.lru_cache(maxsize=64)
def _score_tiles(
    score: Callable[[Any, Parts, Parts], jax.Array], layout: Layout, height: int, width: int
) -> Callable[[Any, jax.Array], jax.Array]:
    """The scores [n, height, width] of tiles of rows [n, height + width, D]."""

    def score_tiles(variables: Any, images: jax.Array) -> jax.Array:
        pairs = (
            jnp.repeat(images[:, :height], width, axis=1),
            jnp.tile(images[:, height:], (1, height, 1)),
        )
        sides = (_parts(rows.reshape(-1, rows.shape[-1]), layout) for rows in pairs)
        return score(variables, *sides).reshape(-1, height, width)

    return score_tiles


def cache_images(
    embed: Callable[[Any, jax.Array], Parts],
    variables: Any,
    batches: Callable[[slice], Iterable[np.ndarray]],
    *,
    image: jax.ShapeDtypeStruct,
    num_images: int,
    batch_size: int,
    description: str,
) -> ImageCache:
    """One pass over the images of a list, over all devices and hosts.

    Args:
        embed: `embed(variables, images [B, H, W, 3])` gives a dictionary of arrays [B, ...], all
            that scoring needs of an image and, for a shortlist, its `descriptor` [B, D].
        variables: of the model.
        batches: see `extract_features`.
        image: shape and dtype of the images that `batches` gives, [1, H, W, 3].
        num_images: N.
        batch_size: images of one call on this process.
        description: of the progress bar.

    Returns:
        ImageCache, the same on every process. It takes 437 KB an image for csn (L2, L3) at 160 x
        60.

    Raises:
        ValueError: as `extract_features`.
    """
    shapes = jax.eval_shape(embed, variables, image)
    names = sorted(shapes)
    size = 4 * sum(math.prod(shapes[name].shape[1:]) for name in names) * num_images
    if size > LARGE_CACHE:
        parallel.say(f"The parts of {num_images:,} images take {size / 2**30:.1f} GiB of memory.")

    rows = extract_features(
        _flat(embed),
        variables,
        batches,
        num_images=num_images,
        batch_size=batch_size,
        description=description,
    )
    layout = tuple((name, shapes[name].shape[1:], shapes[name].dtype) for name in names)
    return ImageCache(rows, layout, variables_fingerprint(variables))


class PairScorer:
    """Distances between the images of a cache by a model that scores pairs.

    `scorer.distance_of` is what the single-shot protocols take::

        scorer = PairScorer(score, variables, cache, block_size=256)
        single_shot_one_direction(scorer.distance_of, images, ...)

    Args:
        score: `score(variables, parts_a, parts_b) -> [P]`, larger is more alike; the first images
            are the queries.
        variables: of the model that made the cache.
        cache: of all images that rows will be asked for.
        block_size: the most pairs of one call on each device. It is halved, with a message, for as
            long as a device runs out of memory.
        shortlist: score only the N gallery images of each query that are nearest in Euclidean
            distance of their `descriptor`; the others follow in the order of that distance.
            None scores all pairs.

    Raises:
        ValueError: if the cache was made by other variables, or cannot make a shortlist.
    """

    def __init__(
        self,
        score: Callable[[Any, Parts, Parts], jax.Array],
        variables: Any,
        cache: ImageCache,
        *,
        block_size: int,
        shortlist: int | None = None,
    ) -> None:
        checkpoint = variables_fingerprint(variables)
        if cache.checkpoint != checkpoint:
            raise ValueError(
                f"the image cache was made by checkpoint {cache.checkpoint} and the model is "
                f"{checkpoint}: make the cache again with this model."
            )
        if block_size < 1:
            raise ValueError(f"block_size is a number of pairs, at least 1; got {block_size}.")
        if shortlist is not None:
            if shortlist < 1:
                raise ValueError(
                    f"shortlist is a number of images, at least 1, or None; got {shortlist}."
                )
            if "descriptor" not in cache.columns:
                raise ValueError(
                    f"shortlist={shortlist} orders the gallery by descriptors, which this model "
                    "does not have: score all pairs with shortlist=None."
                )
        self._score, self._variables, self._cache = score, variables, cache
        self._shortlist = shortlist
        self._runners: dict[Any, Any] = {}
        self.block_size = block_size

    @property
    def name(self) -> str:
        """How the distances were made, for the name of a result: `'all-pairs'` or
        `'shortlist-N'`."""
        return "all-pairs" if self._shortlist is None else f"shortlist-{self._shortlist}"

    def distance_of(self, query_rows: np.ndarray, gallery_rows: np.ndarray) -> np.ndarray:
        """Minus the score of each query and gallery image.

        Args:
            query_rows: [Q] rows of the cache.
            gallery_rows: [G] rows of the cache.

        Returns:
            [Q, G] float32, smaller is more alike; the same on every process. With a shortlist, what
            was not scored comes after all that was, in the order of the descriptors' distances.

        Raises:
            ValueError: if there is no query or no gallery image, or a row is not in the cache.
            MemoryError: if a device has not enough memory for a single pair.
        """
        query_rows, gallery_rows = np.asarray(query_rows), np.asarray(gallery_rows)
        num_images = len(self._cache.rows)
        for name, rows in (("query", query_rows), ("gallery", gallery_rows)):
            if rows.ndim != 1 or not len(rows):
                raise ValueError(f"{name}_rows must be [N], at least one; got {rows.shape}.")
            if rows.min() < 0 or rows.max() >= num_images:
                raise ValueError(
                    f"{name}_rows go from {rows.min()} to {rows.max()}, and the cache has "
                    f"{num_images} images."
                )
        share = parallel.host_share(len(query_rows))
        own = query_rows[share]
        if self._shortlist is None or self._shortlist >= len(gallery_rows):
            distances = -self._scores(own, gallery_rows)
        else:
            distances = self._shortlisted(own, gallery_rows)
        return parallel.gather_shares(distances, len(query_rows))

    def _shortlisted(self, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
        descriptors = self._cache.rows[:, self._cache.columns["descriptor"]]
        far = np.asarray(euclidean(descriptors[queries], descriptors[gallery]))
        nearest = np.argsort(far, axis=1, kind="stable")[:, : self._shortlist]
        scored = -self._scores(queries, gallery[nearest])
        # The farthest of the shortlist comes before the nearest of the rest.
        distances = scored.max(axis=1, keepdims=True) + 1 + far
        np.put_along_axis(distances, nearest, scored, axis=1)
        return distances

    def _scores(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """[Q, K] scores of queries [Q] with candidates [K], or each with its own of [Q, K]."""
        while True:
            try:
                return self._scores_in_blocks(queries, candidates)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error):
                    raise
                if self.block_size == 1:
                    raise MemoryError(
                        "a device has not enough memory to score a single pair: use smaller "
                        "images or another device."
                    ) from error
            parallel.say(
                f"Out of memory while scoring blocks of {self.block_size} pairs; trying blocks of "
                f"{self.block_size // 2}."
            )
            self.block_size //= 2

    def _scores_in_blocks(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        scores = np.empty((len(queries), candidates.shape[-1]), np.float32)
        if not len(queries):  # This process has no share.
            return scores
        # A tile of height x width pairs needs only height + width images.
        height, width = _tile_size(*scores.shape, self.block_size, square=candidates.ndim == 1)
        tiles = [
            (slice(i, i + height), slice(j, j + width))
            for i in range(0, scores.shape[0], height)
            for j in range(0, scores.shape[1], width)
        ]
        run = self._runner(height, width)
        num_devices = jax.local_device_count()
        groups = [tiles[i : i + num_devices] for i in range(0, len(tiles), num_devices)]
        with tqdm(
            total=scores.size,
            desc="scoring",
            unit="pair",
            disable=len(tiles) == 1 or not parallel.is_main_process(),
            mininterval=1,
        ) as bar:

            def start(group: list[tuple[slice, slice]]) -> jax.Array:
                rows = []
                for of_queries, of_candidates in group:
                    wanted = candidates[of_candidates]
                    if candidates.ndim == 2:
                        wanted = candidates[of_queries, of_candidates][0]
                    rows.append(_padded(queries[of_queries], height))
                    rows.append(_padded(wanted, width))
                images = self._cache.rows[np.concatenate(rows)]
                return run(images.reshape(len(group), height + width, -1))

            def finish(group: list[tuple[slice, slice]], found: jax.Array) -> None:
                for tile, values in zip(group, np.asarray(found), strict=True):
                    target = scores[tile]
                    target[:] = values[: target.shape[0], : target.shape[1]]
                    bar.update(target.size)

            # While the devices work on one group, the host collects the images of the next.
            pending = groups[0], start(groups[0])
            for group in groups[1:]:
                following = group, start(group)
                finish(*pending)
                pending = following
            finish(*pending)
        return scores

    def _runner(self, height: int, width: int) -> Callable[[np.ndarray], jax.Array]:
        """`run(images [n, height + width, D]) -> [n, height, width]`, compiled once."""
        if (height, width) not in self._runners:
            score_tiles = _score_tiles(self._score, self._cache.layout, height, width)
            self._runners[height, width] = parallel.map_rows(
                score_tiles, self._variables, num_rows=jax.local_device_count()
            )
        return self._runners[height, width]


def _tile_size(num_queries: int, num_candidates: int, block: int, *, square: bool) -> tuple:
    """(height, width) with height * width <= block, and little left over at the edges."""
    width = min(num_candidates, block)
    if square:
        width = min(width, max(math.isqrt(block), block // num_queries))
    height = min(num_queries, block // width) if square else 1
    return tuple(
        -(-size // -(-size // side))
        for size, side in ((num_queries, height), (num_candidates, width))
    )


def _padded(rows: np.ndarray, length: int) -> np.ndarray:
    return np.concatenate([rows, np.repeat(rows[-1:], length - len(rows))])
