"""Mean codes of all training identities, as Wei et al. (inherent) need them before each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from reid_jax import parallel
from reid_jax.training.state import TrainState

__all__ = ["MEANS", "MeanCodes", "identity_means", "init_mean_codes", "make_refresh", "remember"]

MEANS = ("exact", "bank", "batch", "ema")
"""Where the mean codes come from; see :func:`init_mean_codes`."""


@flax.struct.dataclass
class MeanCodes:
    """Mean codes, and what they are computed from.

    Attributes:
        means: [K, D] mean code of each identity.
        codes: [N, D] the last known code of each training image, or None where none is kept.
        labels: [N] int32 label of each training image, or None.
    """

    means: jax.Array
    codes: jax.Array | None = None
    labels: jax.Array | None = None


def init_mean_codes(labels: np.ndarray, dim: int, *, means: str) -> MeanCodes | None:
    """The loss state before the first :func:`make_refresh` has filled it.

    Args:
        labels: [N] labels of the training images, every one of 0 to K - 1 among them.
        dim: D, the size of a code.
        means: ``"exact"``: all codes are computed anew before each step, without augmentation and
            with the running averages of batch norm. ``"bank"``: the same once an epoch, and each
            batch replaces the codes of its images in between. ``"batch"``: the means of the
            identities in the batch alone. ``"ema"``: centers that each batch moves towards its
            codes, after starting from all images.
    Returns:
        zeros of the right shapes; None for ``"batch"``, which carries nothing.
    Raises:
        ValueError: if ``means`` is unknown, there is one identity only, or one has no image.
    Deviation: the paper computes the means at the beginning of every batch, which is ``"exact"``,
        and does not say which statistics batch norm uses there; the others are cheaper.
    """
    labels = np.asarray(labels)
    if means not in MEANS:
        raise ValueError(f"means is {means!r}, expected one of {', '.join(MEANS)}.")
    num_identities = int(labels.max()) + 1
    if num_identities < 2:
        raise ValueError(
            "there is one training identity: the distance to the nearest other mean code (d_min) "
            "needs at least two."
        )
    absent = np.setdiff1d(np.arange(num_identities), labels)
    if len(absent):
        raise ValueError(f"identities {absent[:5].tolist()} have no training image and no mean.")
    if means == "batch":
        return None
    zeros = jnp.zeros((num_identities, dim))
    if means == "ema":
        return MeanCodes(zeros)
    return MeanCodes(zeros, jnp.zeros((len(labels), dim)), jnp.asarray(labels, jnp.int32))


def identity_means(
    codes: jax.Array, labels: jax.Array, num_identities: int
) -> tuple[jax.Array, jax.Array]:
    """Mean code of each identity among some rows.

    Args:
        codes: [N, D].
        labels: [N] int32 in [0, K).
        num_identities: K.
    Returns:
        [K, D], zero for an identity without a row; [K] bool, which identities have one.
    """
    # A product with one-hot rows is deterministic everywhere, a scatter on a GPU is not.
    membership = jax.nn.one_hot(labels, num_identities, dtype=codes.dtype)
    counts = jnp.sum(membership, axis=0)
    sums = jnp.matmul(membership.T, codes, precision=lax.Precision.HIGHEST)
    return sums / jnp.maximum(counts, 1)[:, None], counts > 0


def remember(
    state: MeanCodes, codes: jax.Array, rows: jax.Array, *, axis_name: str | None
) -> MeanCodes:
    """The bank after a batch: the codes of its images are replaced, the means follow.

    Args:
        state: with ``codes`` and ``labels``.
        codes: [B, D] rows of this device.
        rows: [B] int32, which training images they are; an image that occurs twice in the global
            batch gets the mean of its codes.
        axis_name: device axis.
    """
    codes = parallel.gather(lax.stop_gradient(codes), axis_name=axis_name)
    rows = parallel.gather(rows, axis_name=axis_name)
    fresh, replaced = identity_means(codes, rows, len(state.codes))
    codes = jnp.where(replaced[:, None], fresh, state.codes).astype(state.codes.dtype)
    means, _ = identity_means(codes, state.labels, len(state.means))
    return state.replace(means=means, codes=codes)


def make_refresh(
    embed: Callable[[Any, jax.Array], jax.Array],
    labels: np.ndarray,
    *,
    devices: Sequence[jax.Device],
    block_size: int,
) -> Callable[[TrainState, jax.Array], MeanCodes]:
    """Builds ``refresh(state, images) -> MeanCodes``: the codes of all images as of a state.

    All devices of all processes share the images, one computation with nothing read by the host;
    what the devices do not divide is padded with the last image and cut off again. The result is
    on every device, ready for the step.

    Args:
        embed: ``embed(variables, images [b, H, W, 3]) -> [b, D]``, from resident pixels to codes,
            each row on its own (no augmentation, no batch statistics).
        labels: [N] int32 of the training images.
        devices: this process's devices that share a batch.
        block_size: images that a device embeds at once.
    Returns:
        The function. The state has a :class:`MeanCodes`, and ``images`` [N, H, W, 3] are already
        on every device, as for :func:`~reid_jax.training.with_resident_images`.
    """
    num_images, num_identities = len(labels), int(np.max(labels)) + 1
    labels = parallel.replicate(np.asarray(labels, np.int32), devices)
    num_devices = parallel.num_devices(devices)
    share = -(-num_images // num_devices)
    num_blocks = -(-share // block_size)
    block = -(-share // num_blocks)
    num_rows = num_blocks * block * num_devices
    rows = np.minimum(np.arange(num_rows, dtype=np.int32), num_images - 1)
    rows = parallel.shard({"row": rows[parallel.host_rows(num_rows)]}, devices)

    def recompute(
        state: TrainState, batch: dict[str, jax.Array], images: jax.Array, labels: jax.Array
    ) -> MeanCodes:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        blocks = batch["row"].reshape(num_blocks, block)
        codes = lax.map(lambda rows: embed(variables, images[rows]), blocks)
        codes = codes.reshape(num_blocks * block, -1)
        codes = parallel.gather(codes, axis_name=parallel.AXIS)[:num_images]
        of_identities, _ = identity_means(codes, labels, num_identities)
        kept = {} if state.loss_state.codes is None else {"codes": codes}
        return state.loss_state.replace(means=of_identities, **kept)

    run = parallel.pmap_step(recompute, devices, donate=False)
    return lambda state, images: run(state, rows, images, labels)
