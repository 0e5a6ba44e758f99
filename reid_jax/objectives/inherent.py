"""Wei et al. (inherent): compact and scatter loss around mean codes, and the triplet baseline."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from reid_jax import parallel
from reid_jax.deviations import deviations
from reid_jax.losses import batch_hard_triplet_loss, compact_loss, scatter_loss
from reid_jax.objectives import terms
from reid_jax.objectives.mean_codes import MeanCodes, MeanSource
from reid_jax.objectives.objective import Arrays, Objective, stateless

__all__ = ["REDUCTIONS", "SCATTER_OVER", "inherent", "triplet"]

REDUCTIONS = ("alike", "mixed")
"""How the rows of the three losses of `inherent` become one number each."""

SCATTER_OVER = ("all", "batch")
"""From which other identities the scatter loss of `inherent` pushes a code away."""


def inherent(
    *,
    compact_weight: float,
    scatter_weight: float,
    means: MeanSource,
    scatter_cap: float | None = None,
    reduction: str = "alike",
    scatter_over: str = "all",
) -> Objective:
    r"""Classification, compact and scatter loss of Wei et al. (inherent), Eq. 4.

    .. math:: L = L_{SR} + \beta L_{CL} - \gamma L_{SL}

    The scatter loss is maximised, and as printed the objective has no minimum: longer codes always
    lower it, so the norm of the codes and the scatter loss are logged.

    Eq. 1 is written for one training sample, Eqs. 2 and 3 are sums over samples, and Eq. 4 adds the
    three. How they are reduced over a batch decides what beta and gamma weigh:

    * `"alike"`: all three are means. All three as sums would differ by a common factor, which Adam
      does not see.
    * `"mixed"`: L_SR is a mean, L_CL and L_SL are sums: they weigh B times as much as with
      `"alike"`.

    Args:
        compact_weight: beta.
        scatter_weight: gamma.
        means: where the mean codes come from: `exact_means`,
            `bank_means`, `batch_means` or
            `moving_means`.
        scatter_cap: a row whose scatter loss is above it is pushed no further; None pushes without
            end, as printed.
        reduction: one of `REDUCTIONS`.
        scatter_over: `"all"` takes the sum of Eq. 3 over all other training identities, `"batch"`
            over those that are in the batch. The means, and d_min, are the same.
    Returns:
        The objective. It reads `logits` [B, K] and `embedding` [B, D] of the model,
        `identity` and `row` [B] of the batch, and carries what the means need. `code_gap`,
        for means that come with the code of each image, is the mean distance between those codes
        and the ones of the training pass. `init` raises ValueError if there is one training
        identity (d_min is undefined), or one has no image.
    Raises:
        ValueError: if `reduction` or `scatter_over` is unknown.
    Deviation: Eq. 1 prints KL(posterior, label), which is infinite; the cross-entropy is meant.
    """
    for name, given, known in (
        ("reduction", reduction, REDUCTIONS),
        ("scatter_over", scatter_over, SCATTER_OVER),
    ):
        if given not in known:
            raise ValueError(f"{name} is {given!r}, expected one of {', '.join(known)}.")
    loss = functools.partial(
        _inherent,
        compact_weight=compact_weight,
        scatter_weight=scatter_weight,
        means=means,
        scatter_cap=scatter_cap,
        reduction=reduction,
        scatter_over=scatter_over,
    )
    documented = [inherent, compact_loss, scatter_loss]
    return Objective(means.init, loss, means.refresh, deviations(documented) + means.notes)


def _inherent(
    outputs: Arrays,
    batch: Arrays,
    loss_state: MeanCodes | None,
    *,
    compact_weight: float,
    scatter_weight: float,
    means: MeanSource,
    scatter_cap: float | None,
    reduction: str,
    scatter_over: str,
    axis_name: str | None = None,
) -> tuple[jax.Array, tuple[MeanCodes | None, Arrays]]:
    codes, labels = outputs["embedding"], batch["identity"]
    loss, metrics = terms.identification(outputs["logits"], labels, axis_name=axis_name)

    num_identities = outputs["logits"].shape[1]
    mean_codes, known = means.of_batch(loss_state, codes, labels, num_identities, axis_name)
    next_state = means.following(loss_state, codes, batch, axis_name)

    compact_rows = compact_loss(codes, labels, mean_codes, known=known)
    if scatter_over == "batch":
        # Those whose mean is known are all, or already those of the batch.
        known = _present(parallel.gather(labels, axis_name=axis_name), num_identities)
    scatter_rows = scatter_loss(codes, labels, mean_codes, known=known)
    if scatter_cap is not None:
        scatter_rows = jnp.minimum(scatter_rows, scatter_cap)
    reduced = parallel.mean if reduction == "alike" else parallel.total
    compact = reduced(compact_rows, axis_name=axis_name)
    scatter = reduced(scatter_rows, axis_name=axis_name)

    metrics |= {
        "compact_loss": compact,
        "scatter_loss": scatter,
        "code_norm": _mean_norm(codes, axis_name),
    }
    if loss_state is not None and loss_state.codes is not None:
        metrics["code_gap"] = _mean_norm(codes - loss_state.codes[batch["row"]], axis_name)
    return loss + compact_weight * compact - scatter_weight * scatter, (next_state, metrics)


def _present(labels: jax.Array, num_identities: int) -> jax.Array:
    """[K] bool, which identities are among the labels."""
    return jnp.any(labels[:, None] == jnp.arange(num_identities)[None, :], axis=0)


def triplet(*, margin: float) -> Objective:
    """Mean batch-hard triplet loss alone, on codes that are not normalised: the `htri` rows.

    Args:
        margin: in Euclidean distance of codes.
    Returns:
        The objective. It reads `embedding` [B, D] of the model and `identity` [B] of the batch,
        and carries nothing; `triplet_active` is the share of anchors with a loss.
    Deviation: none.
    """
    documented = [triplet, batch_hard_triplet_loss]
    loss = functools.partial(_triplet, margin=margin)
    return Objective(stateless, loss, notes=deviations(documented))


def _triplet(
    outputs: Arrays,
    batch: Arrays,
    loss_state: Any,
    *,
    margin: float,
    axis_name: str | None = None,
) -> tuple[jax.Array, tuple[Any, Arrays]]:
    codes = outputs["embedding"]
    rows = batch_hard_triplet_loss(codes, batch["identity"], margin=margin, axis_name=axis_name)
    loss = parallel.mean(rows, axis_name=axis_name)
    active = parallel.mean((rows > 0).astype(rows.dtype), axis_name=axis_name)
    return loss, (
        loss_state,
        {
            "triplet_loss": loss,
            "triplet_active": active,
            "code_norm": _mean_norm(codes, axis_name),
        },
    )


def _mean_norm(rows: jax.Array, axis_name: str | None) -> jax.Array:
    norms = jnp.linalg.norm(lax.stop_gradient(rows), axis=1)
    return parallel.mean(norms, axis_name=axis_name)
