"""Mean codes of all training identities, as Wei et al. (inherent) need them before each step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from reid_jax import parallel
from reid_jax.deviations import deviations
from reid_jax.losses import CenterState, update_centers
from reid_jax.objectives.objective import Arrays, Refresh

__all__ = [
    "MeanCodes",
    "MeanSource",
    "bank_means",
    "batch_means",
    "exact_means",
    "identity_means",
    "make_refresh",
    "moving_means",
    "remember",
]


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


class MeanSource(NamedTuple):
    """Where an objective takes the mean codes of the identities from.

    Attributes:
        name: how a record of a training names it.
        init: `init(labels, dim) -> state`: a `MeanCodes` of zeros, or None.
        of_batch: `of_batch(state, codes, labels, num_identities, axis_name) -> (means, known)`:
            [K, D] constants, and [K] bool, which of them there are; None if all.
        following: `following(state, codes, batch, axis_name) -> state` after a step.
        refresh: how all are computed anew, or None.
        notes: where it differs from the paper.
    """

    name: str
    init: Callable[[np.ndarray, int], MeanCodes | None]
    of_batch: Callable[..., tuple[jax.Array, jax.Array | None]]
    following: Callable[..., MeanCodes | None]
    refresh: Refresh | None
    notes: tuple[str, ...]


def exact_means() -> MeanSource:
    """Means of all codes, computed anew before each step.

    The codes are those of the unaugmented images, with the running averages of batch norm.

    Deviation: the paper does not say which statistics batch norm uses while the means are computed.
    """

    def unchanged(state: MeanCodes, codes: jax.Array, batch: Arrays, axis_name: Any) -> MeanCodes:
        del codes, batch, axis_name
        return state

    refresh = Refresh(make_refresh, lambda epoch: 1)
    return MeanSource("exact", _with_codes, _carried, unchanged, refresh, deviations([exact_means]))


def bank_means() -> MeanSource:
    """Means of the last known codes: a batch replaces its own, and an epoch begins with all anew.

    Deviation: the paper computes the means at the beginning of every batch; this is cheaper.
    """

    def following(
        state: MeanCodes, codes: jax.Array, batch: Arrays, axis_name: str | None
    ) -> MeanCodes:
        return remember(state, codes, batch["row"], axis_name=axis_name)

    refresh = Refresh(make_refresh, lambda epoch: epoch)
    return MeanSource("bank", _with_codes, _carried, following, refresh, deviations([bank_means]))


def batch_means() -> MeanSource:
    """Means of the identities in the batch alone; nothing is carried.

    Deviation: the paper computes the means of all identities at the beginning of every batch.
    """

    def init(labels: np.ndarray, dim: int) -> None:
        del dim
        _num_identities(labels)

    def of_batch(
        state: None,
        codes: jax.Array,
        labels: jax.Array,
        num_identities: int,
        axis_name: str | None,
    ) -> tuple[jax.Array, jax.Array]:
        del state
        return identity_means(
            parallel.gather(lax.stop_gradient(codes), axis_name=axis_name),
            parallel.gather(labels, axis_name=axis_name),
            num_identities,
        )

    def nothing(state: None, codes: jax.Array, batch: Arrays, axis_name: Any) -> None:
        del state, codes, batch, axis_name

    return MeanSource("batch", init, of_batch, nothing, None, deviations([batch_means]))


def moving_means(*, rate: float) -> MeanSource:
    """Centers that each batch moves towards its codes, after starting from all images.

    Args:
        rate: how far a batch moves a mean towards its codes.
    Deviation: the paper computes the means at the beginning of every batch; this is cheaper.
    """

    def init(labels: np.ndarray, dim: int) -> MeanCodes:
        return MeanCodes(jnp.zeros((_num_identities(labels), dim)))

    def following(
        state: MeanCodes, codes: jax.Array, batch: Arrays, axis_name: str | None
    ) -> MeanCodes:
        moved = update_centers(
            CenterState(state.means),
            lax.stop_gradient(codes),
            batch["identity"],
            rate=rate,
            axis_name=axis_name,
        )
        return dataclasses.replace(state, means=moved.centers)

    refresh = Refresh(make_refresh, lambda epoch: None)
    return MeanSource(
        f"moving {rate}", init, _carried, following, refresh, deviations([moving_means])
    )


def _num_identities(labels: np.ndarray) -> int:
    labels = np.asarray(labels)
    num_identities = int(labels.max()) + 1
    if num_identities < 2:
        raise ValueError(
            "there is one training identity: the distance to the nearest other mean code (d_min) "
            "needs at least two."
        )
    absent = np.setdiff1d(np.arange(num_identities), labels)
    if len(absent):
        raise ValueError(f"identities {absent[:5].tolist()} have no training image and no mean.")
    return num_identities


def _with_codes(labels: np.ndarray, dim: int) -> MeanCodes:
    zeros = jnp.zeros((_num_identities(labels), dim))
    return MeanCodes(zeros, jnp.zeros((len(labels), dim)), jnp.asarray(labels, jnp.int32))


def _carried(
    state: MeanCodes,
    codes: jax.Array,
    labels: jax.Array,
    num_identities: int,
    axis_name: str | None,
) -> tuple[jax.Array, None]:
    del codes, labels, num_identities, axis_name
    return state.means, None


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
        state: with `codes` and `labels`.
        codes: [B, D] rows of this device.
        rows: [B] int32, which training images they are; an image that occurs twice in the global
            batch gets the mean of its codes.
        axis_name: device axis.
    """
    if state.codes is None or state.labels is None:
        raise ValueError("the loss state holds means alone: there are no codes to replace")
    codes = parallel.gather(lax.stop_gradient(codes), axis_name=axis_name)
    rows = parallel.gather(rows, axis_name=axis_name)
    fresh, replaced = identity_means(codes, rows, len(state.codes))
    codes = jnp.where(replaced[:, None], fresh, state.codes).astype(state.codes.dtype)
    means, _ = identity_means(codes, state.labels, len(state.means))
    return dataclasses.replace(state, means=means, codes=codes)


def make_refresh(
    embed: Callable[[Any, jax.Array], jax.Array],
    labels: np.ndarray,
    *,
    devices: Sequence[jax.Device],
    block_size: int = 128,
) -> Callable[[Any, jax.Array], MeanCodes]:
    """Builds `refresh(state, images) -> MeanCodes`: the codes of all images as of a state.

    All devices of all processes share the images, one computation with nothing read by the host;
    what the devices do not divide is padded with the last image and cut off again. The result is
    on every device, ready for the step.

    Args:
        embed: `embed(variables, images [b, H, W, 3]) -> [b, D]`, from resident pixels to codes,
            each row on its own (no augmentation, no batch statistics).
        labels: [N] int32 of the training images.
        devices: this process's devices that share a batch.
        block_size: images that a device embeds at once.
    Returns:
        The function. The state has a `MeanCodes`, and `images` [N, H, W, 3] are already
        on every device, as for `with_resident_images`.
    """
    num_images, num_identities = len(labels), int(np.max(labels)) + 1
    labels = parallel.replicate(np.asarray(labels, np.int32), devices)
    num_devices = parallel.num_devices(devices)
    share = -(-num_images // num_devices)
    num_blocks = -(-share // block_size)
    block = -(-share // num_blocks)
    num_rows = num_blocks * block * num_devices
    all_rows = np.minimum(np.arange(num_rows, dtype=np.int32), num_images - 1)
    rows = parallel.shard({"row": all_rows[parallel.host_rows(num_rows)]}, devices)

    def recompute(
        state: Any, batch: dict[str, jax.Array], images: jax.Array, labels: jax.Array
    ) -> MeanCodes:
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        blocks = batch["row"].reshape(num_blocks, block)
        codes = lax.map(lambda rows: embed(variables, images[rows]), blocks)
        codes = codes.reshape(num_blocks * block, -1)
        codes = parallel.gather(codes, axis_name=parallel.AXIS)[:num_images]
        of_identities, _ = identity_means(codes, labels, num_identities)
        kept = {} if state.loss_state.codes is None else {"codes": codes}
        return dataclasses.replace(state.loss_state, means=of_identities, **kept)

    run = parallel.pmap_step(recompute, devices, donate=False)
    return lambda state, images: run(state, rows, images, labels)
