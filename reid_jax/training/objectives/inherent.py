"""Wei et al. (inherent): compact and scatter loss around mean codes, and the triplet baseline."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from reid_jax import parallel
from reid_jax.losses import (
    CenterState,
    batch_hard_triplet_loss,
    compact_loss,
    scatter_loss,
    update_centers,
)
from reid_jax.training.mean_codes import MEANS, MeanCodes, identity_means, remember
from reid_jax.training.objectives import terms
from reid_jax.training.objectives.terms import Arrays

__all__ = ["inherent", "triplet"]


def inherent(
    outputs: Arrays,
    batch: Arrays,
    loss_state: MeanCodes | None,
    *,
    compact_weight: float,
    scatter_weight: float,
    means: str,
    mean_rate: float | None = None,
    scatter_cap: float | None = None,
    axis_name: str | None = None,
) -> tuple[jax.Array, tuple[MeanCodes | None, Arrays]]:
    r"""Classification, compact and scatter loss of Wei et al. (inherent), Eq. 4.

    .. math:: L = L_{SR} + \beta L_{CL} - \gamma L_{SL}

    L_SR is a mean over the batch, L_CL and L_SL are sums. The scatter loss is maximised, and as
    printed the objective has no minimum: longer codes always lower it, so the norm of the codes and
    the scatter loss are logged.

    Args:
        outputs: ``logits`` [B, K] and ``embedding`` [B, D] of the model.
        batch: ``identity`` [B] and ``row`` [B].
        loss_state: mean codes from before the step; None for ``means="batch"``.
        compact_weight: beta.
        scatter_weight: gamma.
        means: where the mean codes come from, see
            :func:`~reid_jax.training.mean_codes.init_mean_codes`.
        mean_rate: how far ``"ema"`` moves a mean towards its codes.
        scatter_cap: a row whose scatter loss is above it is pushed no further; None pushes without
            end, as printed.
        axis_name: device axis.
    Returns:
        (loss, (mean codes, metrics)). ``code_gap``, for means that come with the code of each
        image, is the mean distance between those codes and the ones of the training pass.
    Raises:
        ValueError: if ``means`` is unknown, there is one training identity (d_min is undefined), or
            ``mean_rate`` is given without ``"ema"`` or missing with it.
    Deviation: Eq. 1 prints KL(posterior, label), which is infinite; the cross-entropy is meant.
    """
    if means not in MEANS:
        raise ValueError(f"means is {means!r}, expected one of {', '.join(MEANS)}.")
    if (mean_rate is not None) != (means == "ema"):
        raise ValueError(f"mean_rate is {mean_rate} with means={means!r}: it belongs to 'ema'.")
    codes, labels = outputs["embedding"], batch["identity"]
    loss, metrics = terms.identification(outputs["logits"], labels, axis_name=axis_name)

    next_state, known = loss_state, None
    if means == "batch":
        mean_codes, known = identity_means(
            parallel.gather(lax.stop_gradient(codes), axis_name=axis_name),
            parallel.gather(labels, axis_name=axis_name),
            outputs["logits"].shape[1],
        )
    else:
        mean_codes = loss_state.means
    if means == "bank":
        next_state = remember(loss_state, codes, batch["row"], axis_name=axis_name)
    elif means == "ema":
        moved = update_centers(
            CenterState(mean_codes),
            lax.stop_gradient(codes),
            labels,
            rate=mean_rate,
            axis_name=axis_name,
        )
        next_state = loss_state.replace(means=moved.centers)

    compact = parallel.total(
        compact_loss(codes, labels, mean_codes, known=known), axis_name=axis_name
    )
    scatter_rows = scatter_loss(codes, labels, mean_codes, known=known)
    if scatter_cap is not None:
        scatter_rows = jnp.minimum(scatter_rows, scatter_cap)
    scatter = parallel.total(scatter_rows, axis_name=axis_name)

    metrics |= {
        "compact_loss": compact,
        "scatter_loss": scatter,
        "code_norm": _mean_norm(codes, axis_name),
    }
    if means in ("exact", "bank"):
        metrics["code_gap"] = _mean_norm(codes - loss_state.codes[batch["row"]], axis_name)
    return loss + compact_weight * compact - scatter_weight * scatter, (next_state, metrics)


def triplet(
    outputs: Arrays,
    batch: Arrays,
    loss_state: Any,
    *,
    margin: float,
    axis_name: str | None = None,
) -> tuple[jax.Array, tuple[Any, Arrays]]:
    """Mean batch-hard triplet loss alone, on codes that are not normalised: the ``htri`` rows.

    Args:
        outputs: ``embedding`` [B, D] of the model.
        batch: ``identity`` [B].
        loss_state: passed through.
        margin: in Euclidean distance of codes.
        axis_name: device axis.
    Returns:
        (loss, (loss_state, metrics)); ``triplet_active`` is the share of anchors with a loss.
    Deviation: none.
    """
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
