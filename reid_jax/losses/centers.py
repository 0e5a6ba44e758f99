"""Class centers as carried state: center loss (Wen et al., ECCV 2016) and its relatives."""

from __future__ import annotations

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

from reid_jax import parallel
from reid_jax.losses.shapes import require_shapes

__all__ = [
    "CenterState",
    "center_loss",
    "init_centers",
    "inter_center_loss",
    "inter_center_step",
    "intra_center_loss",
    "update_centers",
    "update_pair_centers",
]


@flax.struct.dataclass
class CenterState:
    """One center per identity.

    Attributes:
        centers: [K, D] in embedding units.
    """

    centers: jax.Array


def init_centers(num_identities: int, dim: int) -> CenterState:
    """Centers at zero.

    Args:
        num_identities: K.
        dim: D, the size of an embedding.
    Returns:
        State with `centers` [K, D] float32 zeros.
    Deviation: none.
    """
    return CenterState(centers=jnp.zeros((num_identities, dim)))


def center_loss(embeddings: jax.Array, labels: jax.Array, centers: jax.Array) -> jax.Array:
    r"""Half the squared distance of each embedding to the center of its identity.

    .. math:: \ell_i = \tfrac12 \lVert x_i - c_{y_i} \rVert_2^2

    Zhang and Xu (batch_contrastive), Eq. 4, after Wen et al. (ECCV 2016).

    Args:
        embeddings: [B, D].
        labels: [B] int32 in [0, K); not checked under jit.
        centers: [K, D]; no gradient flows into them.
    Returns:
        [B] in squared embedding units; the paper sums.
    Raises:
        ValueError: if the shapes do not fit.
    Deviation: none.
    """
    embeddings, labels, centers = map(jnp.asarray, (embeddings, labels, centers))
    require_shapes(embeddings=(embeddings, "BD"), labels=(labels, "B"), centers=(centers, "KD"))
    own = lax.stop_gradient(centers)[labels]
    return jnp.sum((embeddings - own) ** 2, axis=1) / 2


def update_centers(
    state: CenterState,
    embeddings: jax.Array,
    labels: jax.Array,
    *,
    rate: float,
    prior_count: int = 1,
    axis_name: str | None = None,
) -> CenterState:
    r"""Moves the center of each identity in the batch towards its embeddings.

    .. math:: \Delta c_k = \frac{\sum_{i: y_i = k} (c_k - x_i)}{1 + \sum_{i: y_i = k} 1},
        \qquad c_k \leftarrow c_k - \eta \, \Delta c_k

    Zhang and Xu (batch_contrastive), Eq. 5-6, after Wen et al. (ECCV 2016).

    Args:
        state: the centers before the step.
        embeddings: [B, D] rows of this device; the result is differentiable in them, the caller
            stops the gradient.
        labels: [B] int32 in [0, K).
        rate: eta.
        prior_count: the 1 in the denominator; 0 gives a step of `rate` towards the mean of the
            identity's rows, as in the code of Jin et al. (arXiv 1705.03332).
        axis_name: device axis; rows of all devices count, before the division.
    Returns:
        The next state; centers of identities that are not in the batch are unchanged.
    Raises:
        ValueError: if the shapes do not fit.
    Deviation: Eq. 6 prints a plus sign, with which the centers diverge; minus here.
    """
    embeddings, labels = jnp.asarray(embeddings), jnp.asarray(labels)
    require_shapes(
        embeddings=(embeddings, "BD"), labels=(labels, "B"), centers=(state.centers, "KD")
    )
    rows = parallel.gather(embeddings, axis_name=axis_name)
    membership = _membership(parallel.gather(labels, axis_name=axis_name), state, rows.dtype)
    counts = jnp.maximum(prior_count + jnp.sum(membership, axis=0), 1)
    return _moved(state, rows, membership, counts, rate)


def intra_center_loss(
    embeddings_a: jax.Array, embeddings_b: jax.Array, labels: jax.Array, centers: jax.Array
) -> jax.Array:
    r"""Half the squared distances of both images of a positive pair to their common center.

    .. math:: \ell_i = \tfrac12 \big( \lVert x_{i1} - c_{y_i} \rVert_2^2
        + \lVert x_{i2} - c_{y_i} \rVert_2^2 \big)

    Zheng et al. (clever), Eq. 1.

    Args:
        embeddings_a: [P, D] first images of positive pairs, not L2-normalised.
        embeddings_b: [P, D] second images.
        labels: [P] int32 identity of each pair.
        centers: [K, D]; no gradient flows into them.
    Returns:
        [P] in squared embedding units; the mean over positive pairs is Eq. 1.
    Raises:
        ValueError: if the shapes do not fit.
    Deviation: none; the gradient is that of Eq. 1, where Eq. 2-3 as printed lack the 1/m.
    """
    return center_loss(embeddings_a, labels, centers) + center_loss(embeddings_b, labels, centers)


def inter_center_loss(
    labels_a: jax.Array, labels_b: jax.Array, centers: jax.Array, *, margin: float
) -> jax.Array:
    r"""Hinge on the squared distance between the two centers of a negative pair.

    .. math:: \ell_i = \max\big(0, d - \lVert c_{y_{i1}} - c_{y_{i2}} \rVert_2^2 \big)

    Zheng et al. (clever), Eq. 6.

    Args:
        labels_a: [P] int32 identities of the first images of negative pairs.
        labels_b: [P] int32 identities of the second images.
        centers: [K, D]; the gradient flows into them.
        margin: d, in squared embedding units.
    Returns:
        [P]; the mean over negative pairs is Eq. 6. Nothing is masked: a positive pair gives
        `margin`, so the caller passes negative pairs.
    Raises:
        ValueError: if the shapes do not fit.
    Deviation: none.
    """
    labels_a, labels_b, centers = map(jnp.asarray, (labels_a, labels_b, centers))
    require_shapes(labels_a=(labels_a, "P"), labels_b=(labels_b, "P"), centers=(centers, "KD"))
    between = jnp.sum((centers[labels_a] - centers[labels_b]) ** 2, axis=1)
    return jnp.maximum(0, margin - between)


def inter_center_step(
    labels_a: jax.Array,
    labels_b: jax.Array,
    same: jax.Array,
    centers: jax.Array,
    *,
    margin: float,
    rate: float,
    axis_name: str | None = None,
) -> jax.Array:
    r"""How far the centers of negative pairs move apart, in the form of Eqs. 4 and 5.

    .. math:: \Delta c_k = \frac{\sum_{j} -2 (c_k - c_{\bar k_j})}{1 + N_k}, \qquad
        \text{step}_k = -\alpha \, \Delta c_k

    The sum runs over the negative pairs j that hold k and whose centers are nearer than the margin,
    with :math:`\bar k_j` the other identity: it is the gradient of Eq. 6's hinges in c_k. As in
    Eq. 4 it has no weight of the loss and no 1/m, and N_k is the number of pairs that hold k,
    positive ones included. Zheng et al. (clever) print it for Eq. 1 alone.

    Args:
        labels_a: [P] int32 identities of the first images.
        labels_b: [P] int32 identities of the second images.
        same: [P] bool, True for positive pairs, which count in N_k only.
        centers: [K, D], before the step.
        margin: d, in squared embedding units.
        rate: alpha.
        axis_name: device axis; pairs of all devices count, before the division.
    Returns:
        [K, D], to be added to the centers; zero for an identity without a near negative pair.
    Raises:
        ValueError: if the shapes do not fit.
    Deviation: the paper prints no step for Eq. 6; this is Eq. 4 with the gradient of its hinge.
    """
    labels_a, labels_b, same, centers = map(jnp.asarray, (labels_a, labels_b, same, centers))
    require_shapes(
        labels_a=(labels_a, "P"),
        labels_b=(labels_b, "P"),
        same=(same, "P"),
        centers=(centers, "KD"),
    )
    state = CenterState(centers)
    in_a, in_b, apart = (
        parallel.gather(rows, axis_name=axis_name)
        for rows in (
            _membership(labels_a, state, centers.dtype),
            _membership(labels_b, state, centers.dtype),
            ~same,
        )
    )
    exact = lax.Precision.HIGHEST
    between = jnp.matmul(in_a - in_b, centers, precision=exact)
    near = apart & (jnp.sum(between**2, axis=1) < margin)
    force = 2 * jnp.where(near[:, None], between, 0)
    push = jnp.matmul((in_a - in_b).T, force, precision=exact)
    return rate * push / (1 + jnp.sum(jnp.maximum(in_a, in_b), axis=0))[:, None]


def update_pair_centers(
    state: CenterState,
    embeddings_a: jax.Array,
    embeddings_b: jax.Array,
    labels_a: jax.Array,
    labels_b: jax.Array,
    *,
    rate: float,
    axis_name: str | None = None,
) -> CenterState:
    r"""Moves the centers towards the images of pairs, counting pairs instead of images.

    .. math:: \Delta c_k = \frac{\sum_{n: y_n = k} (c_k - x_n)}{1 + N_k},
        \qquad c_k \leftarrow c_k - \alpha \, \Delta c_k

    The sum runs over all images of both streams; N_k is the number of pairs that hold identity k,
    where a positive pair counts once and a negative pair once on each side.
    Zheng et al. (clever), Eq. 4-5.

    Args:
        state: the centers before the step.
        embeddings_a: [P, D] first images; the result is differentiable in them.
        embeddings_b: [P, D] second images.
        labels_a: [P] int32 identities of the first images; a pair with -1 in both places moves no
            center.
        labels_b: [P] int32 identities of the second images.
        rate: alpha.
        axis_name: device axis; pairs of all devices count, before the division.
    Returns:
        The next state.
    Raises:
        ValueError: if the shapes do not fit.
    Deviation: Eq. 4 is printed for positive pairs only; the rule above is the same on those and
        gives Wen et al.'s on a lone image of a negative pair.
    """
    embeddings_a, embeddings_b = jnp.asarray(embeddings_a), jnp.asarray(embeddings_b)
    labels_a, labels_b = jnp.asarray(labels_a), jnp.asarray(labels_b)
    require_shapes(
        embeddings_a=(embeddings_a, "PD"),
        embeddings_b=(embeddings_b, "PD"),
        labels_a=(labels_a, "P"),
        labels_b=(labels_b, "P"),
        centers=(state.centers, "KD"),
    )
    rows = jnp.concatenate(
        [parallel.gather(x, axis_name=axis_name) for x in (embeddings_a, embeddings_b)]
    )
    in_a = _membership(parallel.gather(labels_a, axis_name=axis_name), state, rows.dtype)
    in_b = _membership(parallel.gather(labels_b, axis_name=axis_name), state, rows.dtype)
    num_pairs = jnp.sum(jnp.maximum(in_a, in_b), axis=0)
    return _moved(state, rows, jnp.concatenate([in_a, in_b]), 1 + num_pairs, rate)


def _membership(labels: jax.Array, state: CenterState, dtype: jnp.dtype) -> jax.Array:
    """[N, K] one-hot, zeros where the label is -1.

    A product with it is deterministic everywhere, a scatter on a GPU is not.
    """
    return jax.nn.one_hot(labels, len(state.centers), dtype=dtype)


def _moved(
    state: CenterState, rows: jax.Array, membership: jax.Array, counts: jax.Array, rate: float
) -> CenterState:
    """Centers after a step towards `rows`; the denominators are `counts` [K]."""
    centers = jnp.asarray(state.centers)
    images = jnp.sum(membership, axis=0)
    sums = jnp.matmul(membership.T, rows, precision=lax.Precision.HIGHEST)
    delta = (images[:, None] * centers - sums) / counts[:, None]
    return dataclasses.replace(state, centers=(centers - rate * delta).astype(centers.dtype))
