"""Samplers: which images make up the batch of a step, as pure functions of (seed, step).

All randomness is the raw output of a Philox counter-based generator, whose stream NumPy keeps fixed
between versions, so that a sampler has no state to save and a batch can be rebuilt from its step
number.
"""

import functools
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from reid_jax import keys

__all__ = ["IdentitySampler", "PairSampler", "Sampler", "UniformSampler"]


class Sampler(Protocol):
    """What a training needs to know of a sampler.

    Attributes:
        batch_size: rows of the global batch; pairs, where it gives pairs.
        images_per_row: 1, or 2 for pairs.
        notes: what a user should know of how it treats the images, a sentence each.
    """

    batch_size: int
    images_per_row: int
    notes: tuple[str, ...]

    def num_steps(self, epochs: float) -> int:
        """Steps that cover this many epochs, rounded up."""

    def __call__(self, step: int) -> np.ndarray | tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of the step's batch: [B], or (rows_a [P], rows_b [P], same [P])."""


@functools.lru_cache(maxsize=8)
def _shuffled(seed: int, epoch: int, count: int) -> np.ndarray:
    order = np.argsort(
        keys.random_bits(seed, stream=keys.EPOCH_ORDER, index=epoch, count=count), kind="stable"
    )
    order.flags.writeable = False
    return order


def _integers(values: ArrayLike, name: str) -> np.ndarray:
    values = np.asarray(values)
    if values.ndim != 1 or len(values) == 0 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"{name} is {values.dtype} {values.shape}; expected integers [N] with N at least 1"
        )
    return values.astype(np.int64)


def _check_positive(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} is {count}; expected at least 1")


class UniformSampler:
    """Uniform random batches: each epoch is one shuffled pass over all images.

    Batches run across the end of an epoch, so that every image is used exactly once per epoch
    whatever the batch size; a batch larger than the set takes rows from several epochs.
    """

    images_per_row = 1
    notes: tuple[str, ...] = ()

    def __init__(self, num_images: int, *, batch_size: int, seed: int):
        """Makes the sampler.

        Args:
            num_images: N, size of the training set.
            batch_size: B, rows of the global batch.
            seed: in [0, 2**64).

        Raises:
            ValueError: if a size is below 1 or the seed out of range.
        """
        _check_positive(num_images=num_images, batch_size=batch_size)
        keys.random_bits(seed, stream=keys.EPOCH_ORDER, index=0, count=1)
        self.num_images = num_images
        self.batch_size = batch_size
        self.seed = seed

    def epoch(self, step: int) -> int:
        """Epoch, from 0, of the first row of the step's batch."""
        return step * self.batch_size // self.num_images

    def num_steps(self, epochs: float) -> int:
        """Steps that cover this many epochs, rounded up."""
        return int(np.ceil(epochs * self.num_images / self.batch_size))

    def __call__(self, step: int) -> np.ndarray:
        """Rows of the step's batch.

        Args:
            step: from 0.

        Returns:
            [B] int64 in [0, N).
        """
        positions = step * self.batch_size + np.arange(self.batch_size)
        epochs = positions // self.num_images
        rows = np.empty(self.batch_size, np.int64)
        for epoch in range(self.epoch(step), int(epochs[-1]) + 1):
            here = epochs == epoch
            order = _shuffled(self.seed, epoch, self.num_images)
            rows[here] = order[positions[here] - epoch * self.num_images]
        return rows


class IdentitySampler:
    """Batches of P identities with K images each (PxK).

    Each pass goes over the identities in shuffled order, P at a time; if fewer than P identities
    remain, they are left for the next pass, since a batch never holds one twice. The K images are
    drawn without replacement where the identity has K, with replacement otherwise.
    """

    images_per_row = 1
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        identities: np.ndarray,
        *,
        identities_per_batch: int,
        images_per_identity: int,
        seed: int,
    ):
        """Makes the sampler.

        Args:
            identities: [N] integers, labels or raw identities of the training images.
            identities_per_batch: P.
            images_per_identity: K.
            seed: in [0, 2**64).

        Raises:
            ValueError: if a size is below 1, or there are fewer than P identities.
        """
        identities = _integers(identities, "identities")
        _check_positive(
            identities_per_batch=identities_per_batch, images_per_identity=images_per_identity
        )
        keys.random_bits(seed, stream=keys.EPOCH_ORDER, index=0, count=1)
        self._rows = np.argsort(identities, kind="stable")
        _, self._counts = np.unique(identities, return_counts=True)
        self._starts = np.cumsum(self._counts) - self._counts
        self.num_identities = len(self._counts)
        if self.num_identities < identities_per_batch:
            raise ValueError(
                f"identities_per_batch is {identities_per_batch}, but there are only "
                f"{self.num_identities} identities; lower it"
            )
        self.identities_per_batch = identities_per_batch
        self.images_per_identity = images_per_identity
        self.batch_size = identities_per_batch * images_per_identity
        self.seed = seed

    def epoch(self, step: int) -> int:
        """Pass over the identities, from 0, of the step."""
        return step // (self.num_identities // self.identities_per_batch)

    def num_steps(self, epochs: float) -> int:
        """Steps that draw as many images as the set has, this many times, rounded up.

        An epoch of training counts images, as that of the other samplers does: a pass over the
        identities, K images of each, would be shorter the more images each has.
        """
        return int(np.ceil(epochs * len(self._rows) / self.batch_size))

    def __call__(self, step: int) -> np.ndarray:
        """Rows of the step's batch.

        Args:
            step: from 0.

        Returns:
            [P * K] int64 in [0, N), the K images of an identity side by side.
        """
        epoch = self.epoch(step)
        first = (
            step - epoch * (self.num_identities // self.identities_per_batch)
        ) * self.identities_per_batch
        chosen = _shuffled(self.seed, epoch, self.num_identities)[
            first : first + self.identities_per_batch
        ]
        counts = self._counts[chosen]
        num_words = int(counts.sum()) + self.identities_per_batch * self.images_per_identity
        words = keys.random_bits(
            self.seed, stream=keys.IDENTITY_IMAGES, index=step, count=num_words
        )
        # One word per image of the chosen identities orders them; the remaining words draw with
        # replacement.
        segment = np.repeat(np.arange(self.identities_per_batch), counts)
        offsets = np.cumsum(counts) - counts
        within = np.arange(len(segment)) - np.repeat(offsets, counts)
        shuffled = within[np.lexsort((words[: len(segment)], segment))]
        draws = words[len(segment) :].reshape(self.identities_per_batch, self.images_per_identity)
        enough = counts >= self.images_per_identity
        ranks = np.minimum(np.arange(self.images_per_identity), counts[:, None] - 1)
        picks = np.where(
            enough[:, None],
            shuffled[offsets[:, None] + ranks],
            (draws % counts[:, None].astype(np.uint64)).astype(np.int64),
        )
        return self._rows[(self._starts[chosen][:, None] + picks).reshape(-1)]


class PairSampler:
    """Pairs of images: each epoch is one shuffled pass of all images as first elements.

    Zheng et al., "A Discriminatively Learned CNN Embedding for Person Re-identification", Sec.
    III-F. The first round(P / (1 + r)) pairs of a batch are positive, the rest negative, with r the
    negatives per positive of the epoch in which the batch begins. The second element is drawn
    uniformly: for a positive pair among the other images of the same identity, for a negative pair
    among all images of other identities. With `cross_camera` it is of another camera, and the image
    of the lower camera number comes first: the first images of two cameras' pairs are all of the
    one, the second all of the other, as in a siamese network of two cameras.

    An image without a possible positive partner is the first element of negative pairs only
    (`num_negative_only` counts them): the epoch's order is rearranged so that all other rules hold.
    Only where fewer images have a partner than the epoch has positive pairs, those images come more
    than once and some of the others wait for another epoch. `num_positive_pairs` counts all pairs
    that could be positive, each once.
    """

    images_per_row = 2

    def __init__(
        self,
        identities: np.ndarray,
        cameras: np.ndarray | None,
        *,
        num_pairs: int,
        negatives_per_positive: float | Callable[[int], float],
        cross_camera: bool,
        seed: int,
    ):
        """Makes the sampler.

        Args:
            identities: [N] non-negative integers, labels or raw identities of the training images.
            cameras: [N] integers, or None without cameras.
            num_pairs: P, pairs of the global batch.
            negatives_per_positive: r, a number, or a function of the epoch (from 0).
            cross_camera: partners come from another camera, and the lower camera is first.
            seed: in [0, 2**64).

        Raises:
            ValueError: if there is one identity only, no image with a positive partner, an image
                with no possible negative partner, `cross_camera` without cameras, or sizes that do
                not fit.
        """
        identities = _integers(identities, "identities")
        _check_positive(num_pairs=num_pairs)
        keys.random_bits(seed, stream=keys.EPOCH_ORDER, index=0, count=1)
        if identities.min() < 0:
            raise ValueError(
                f"{int((identities < 0).sum())} of {len(identities)} identities are negative "
                "(junk); leave these rows out"
            )
        self.num_images = len(identities)
        self.num_pairs = self.batch_size = num_pairs
        self.seed = seed
        self._ratio = (
            negatives_per_positive
            if callable(negatives_per_positive)
            else lambda epoch: negatives_per_positive
        )
        self._num_positive(0)

        _, identity = np.unique(identities, return_inverse=True)
        num_identities = int(identity.max()) + 1
        if num_identities < 2:
            raise ValueError("all images are of one identity; negative pairs need at least two")
        if cross_camera:
            if cameras is None:
                raise ValueError(
                    "cross_camera=True, but the data set has no cameras; use cross_camera=False"
                )
            camera = _integers(cameras, "cameras")
            if len(camera) != len(identity):
                raise ValueError(f"got {len(identity)} identities but {len(camera)} cameras")
            _, camera = np.unique(camera, return_inverse=True)
        else:
            camera = np.zeros(self.num_images, np.int64)
        self.cross_camera = cross_camera
        self._identity, self._camera = identity, camera
        num_cameras = int(camera.max()) + 1

        # In the order by identity and camera the positive partners of an image are its identity's
        # stretch without one inner stretch: the image itself, or the images of its camera.
        rows = np.arange(self.num_images)
        self._by_identity = np.lexsort((rows, camera, identity))
        place = np.empty(self.num_images, np.int64)
        place[self._by_identity] = rows
        of_identity = np.bincount(identity)
        self._identity_start = (np.cumsum(of_identity) - of_identity)[identity]
        self._identity_size = of_identity[identity]
        block = identity * num_cameras + camera
        sorted_block = block[self._by_identity]
        first = np.searchsorted(sorted_block, block, side="left")
        self._own_start = first if cross_camera else place
        own_last = np.searchsorted(sorted_block, block, side="right")
        self._own_size = own_last - first if cross_camera else np.ones(self.num_images, np.int64)
        self._num_positives = self._identity_size - self._own_size
        self.num_negative_only = int((self._num_positives == 0).sum())
        self.num_positive_pairs = int(self._num_positives.sum()) // 2
        if self.num_negative_only == self.num_images:
            where = "from another camera" if cross_camera else "of the same identity"
            raise ValueError(f"no image has a second image {where}: no positive pair is possible")

        # In the order by camera and identity the negative partners are everything but the image's
        # whole camera (with cross_camera) and, in each other camera, its identity's stretch.
        by_camera = camera * num_identities + identity
        self._by_camera = np.lexsort((rows, by_camera))
        self._sorted_by_camera = by_camera[self._by_camera]
        self._num_identities, self._num_cameras = num_identities, num_cameras
        self._num_negatives = self.num_images - self._identity_size
        if cross_camera:
            self._num_negatives -= np.bincount(camera)[camera] - self._own_size
        if self._num_negatives.min() == 0:
            raise ValueError(
                f"{int((self._num_negatives == 0).sum())} images have no negative partner: every "
                "image of another camera is of the same identity; use cross_camera=False"
            )
        self._epoch_order = functools.lru_cache(maxsize=4)(self._order_of_epoch)

    @property
    def notes(self) -> tuple[str, ...]:
        """Says how many images have no positive partner, if any."""
        if not self.num_negative_only:
            return ()
        return (
            f"{self.num_negative_only:,} of {self.num_images:,} training images have no positive "
            "partner: they are in negative pairs only.",
        )

    def epoch(self, step: int) -> int:
        """Epoch, from 0, of the first pair of the step's batch."""
        return step * self.num_pairs // self.num_images

    def num_steps(self, epochs: float) -> int:
        """Steps that cover this many epochs, rounded up."""
        return int(np.ceil(epochs * self.num_images / self.num_pairs))

    def _num_positive(self, epoch: int) -> int:
        ratio = float(self._ratio(epoch))
        if not 0 <= ratio < np.inf:
            raise ValueError(
                f"negatives_per_positive is {ratio} in epoch {epoch}; expected a finite number >= 0"
            )
        positives = round(self.num_pairs / (1 + ratio))
        if positives == 0:
            raise ValueError(
                f"with {ratio} negatives per positive a batch of {self.num_pairs} pairs has no "
                "positive pair; raise num_pairs or lower negatives_per_positive"
            )
        return positives

    def _order_of_epoch(self, epoch: int) -> np.ndarray:
        """First elements of the epoch's pairs, in order."""
        slots = epoch * self.num_images + np.arange(self.num_images)
        batch_epochs = slots // self.num_pairs * self.num_pairs // self.num_images
        limits = np.empty(self.num_images, np.int64)
        for batch_epoch in np.unique(batch_epochs):
            limits[batch_epochs == batch_epoch] = self._num_positive(int(batch_epoch))
        positive = slots % self.num_pairs < limits
        num_positive = int(positive.sum())

        shuffled = _shuffled(self.seed, epoch, self.num_images)
        has_partner = self._num_positives[shuffled] > 0
        as_positive = has_partner & (np.cumsum(has_partner) <= num_positive)
        order = np.empty(self.num_images, np.int64)
        order[positive] = np.resize(shuffled[as_positive], num_positive)
        order[~positive] = shuffled[~as_positive][: self.num_images - num_positive]
        order.flags.writeable = False
        return order

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of the step's pairs.

        Args:
            step: from 0.

        Returns:
            rows_a [P] int64, rows_b [P] int64, same [P] bool, the positive pairs first.
        """
        epoch = self.epoch(step)
        slots = step * self.num_pairs + np.arange(self.num_pairs)
        rows_a = np.empty(self.num_pairs, np.int64)
        for slot_epoch in range(epoch, int(slots[-1]) // self.num_images + 1):
            here = slots // self.num_images == slot_epoch
            order = self._epoch_order(slot_epoch)
            rows_a[here] = order[slots[here] - slot_epoch * self.num_images]
        num_positive = self._num_positive(epoch)
        words = keys.random_bits(self.seed, stream=keys.PARTNERS, index=step, count=self.num_pairs)
        rows_b = np.concatenate(
            [
                self._positive(rows_a[:num_positive], words[:num_positive]),
                self._negative(rows_a[num_positive:], words[num_positive:]),
            ]
        )
        swapped = self._camera[rows_a] > self._camera[rows_b]  # Never, where cameras do not count.
        rows_a, rows_b = np.where(swapped, rows_b, rows_a), np.where(swapped, rows_a, rows_b)
        return rows_a, rows_b, np.arange(self.num_pairs) < num_positive

    def _positive(self, rows: np.ndarray, words: np.ndarray) -> np.ndarray:
        draw = _below(words, self._num_positives[rows]) + self._identity_start[rows]
        draw += np.where(draw >= self._own_start[rows], self._own_size[rows], 0)
        return self._by_identity[draw]

    def _negative(self, rows: np.ndarray, words: np.ndarray) -> np.ndarray:
        draw = _below(words, self._num_negatives[rows])
        for camera in range(self._num_cameras):
            whole = self.cross_camera & (self._camera[rows] == camera)
            low = camera * self._num_identities + np.where(whole, 0, self._identity[rows])
            high = low + np.where(whole, self._num_identities, 1)
            start = np.searchsorted(self._sorted_by_camera, low)
            size = np.searchsorted(self._sorted_by_camera, high) - start
            draw += np.where(draw >= start, size, 0)
        return self._by_camera[draw]


def _below(words: np.ndarray, limits: np.ndarray) -> np.ndarray:
    # The bias of the remainder is below N / 2**64.
    return (words % limits.astype(np.uint64)).astype(np.int64)
