"""Priors on the affine parameters of a spatial transformer: upright, inside, not turned.

`theta` is (s_w, r_w, t_w, r_h, s_h, t_h), as `reid_jax.ops.spatial_transform` takes it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = [
    "inside_image_prior",
    "positive_scale_prior",
    "rotation_prior",
    "stn_prior",
]


def positive_scale_prior(theta: jax.Array, *, min_scale: float) -> jax.Array:
    r"""Hinge on the scales, against views that are flipped or shrink to a point.

    .. math:: \ell = \max(0, \beta - s_w) + \max(0, \beta - s_h)

    Li et al. (CVPR 2017), as in their published loss layer; Guo and Cheung (csn), Sec. 4.2.

    Args:
        theta: [..., 6].
        min_scale: beta, normalised: 1 is the whole input.
    Returns:
        [...], zero exactly where both scales are at least `min_scale`.
    Raises:
        ValueError: if the last axis is not 6.
    Deviation: the paper gives no formula; this is that of its reference [19].
    """
    s_w, _, _, _, s_h, _ = _parameters(theta)
    return jnp.maximum(0, min_scale - s_w) + jnp.maximum(0, min_scale - s_h)


def inside_image_prior(theta: jax.Array, *, limit: float) -> jax.Array:
    r"""Squared hinge on the edges of the view, against views that leave the input.

    .. math:: \ell = \tfrac12 \sum_{w,h} \big[ \max(0, (t - s)^2 - \gamma)
        + \max(0, (t + s)^2 - \gamma) \big]

    Li et al. (CVPR 2017), as in their published loss layer; Guo and Cheung (csn), Sec. 4.2.

    Args:
        theta: [..., 6].
        limit: gamma, the square of the farthest normalised coordinate; 1 is the border.
    Returns:
        [...], with `limit=1` zero exactly where the edges of the view without its rotation are
        within the input.
    Raises:
        ValueError: if the last axis is not 6.
    Deviation: the paper gives no formula; this is that of its reference [19].
    """
    s_w, _, t_w, _, s_h, t_h = _parameters(theta)
    edges = (t_w - s_w, t_w + s_w, t_h - s_h, t_h + s_h)
    excess = [jnp.maximum(0, edge**2 - limit) for edge in edges]
    return sum(excess[1:], start=excess[0]) / 2


def rotation_prior(theta: jax.Array) -> jax.Array:
    r"""L1 norm of the rotation parameters, :math:`|r_w| + |r_h|`.

    Guo and Cheung (csn), Sec. 4.2.

    Args:
        theta: [..., 6].
    Returns:
        [...], zero exactly without rotation; the gradient there is zero.
    Raises:
        ValueError: if the last axis is not 6.
    Deviation: none.
    """
    _, r_w, _, r_h, _, _ = _parameters(theta)
    # The derivative of jnp.abs at 0, where the transformers start, is 1.
    return jnp.maximum(r_w, -r_w) + jnp.maximum(r_h, -r_h)


def stn_prior(theta: jax.Array, *, min_scale: float, limit: float) -> jax.Array:
    r"""The prior of csn: positive scale, inside the image, no rotation, with equal weights.

    .. math:: \ell = \ell_{pos} + \ell_{in} + |r_w| + |r_h|

    Guo and Cheung (csn), Sec. 4.2.

    Args:
        theta: [..., 6].
        min_scale: of `positive_scale_prior`.
        limit: of `inside_image_prior`.
    Returns:
        [...]; the objective takes the mean over images and stripes.
    Raises:
        ValueError: if the last axis is not 6.
    Deviation: the paper names the three terms and gives neither formulas nor weights.
    """
    return (
        positive_scale_prior(theta, min_scale=min_scale)
        + inside_image_prior(theta, limit=limit)
        + rotation_prior(theta)
    )


def _parameters(theta: jax.Array) -> tuple[jax.Array, ...]:
    theta = jnp.asarray(theta)
    if theta.shape[-1:] != (6,):
        raise ValueError(
            f"theta has shape {theta.shape}, expected [..., 6] = (s_w, r_w, t_w, r_h, s_h, t_h)."
        )
    return tuple(theta[..., i] for i in range(6))
