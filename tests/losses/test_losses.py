"""Every loss and center update against its float64 reference, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from references import losses as reference
from reid_jax import losses

SEEDS = (0, 1, 2)


def batch(seed, rows=9, dim=5, identities=4, unit=False):
    """Asymmetric random rows; every identity's count differs and not all of them occur."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, dim)) + 0.1
    if unit:
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    labels = rng.choice(identities - 1, size=rows, p=rng.dirichlet(np.ones(identities - 1) * 3))
    return x, labels.astype(np.int32), rng.normal(size=(identities, dim)), rng


def assert_same(ours, theirs, tolerance=1e-10):
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=tolerance, atol=tolerance)


def assert_gradient(loss, reference_loss, x, tolerance=1e-6):
    ours = jax.grad(lambda x: jnp.sum(loss(x)))(jnp.asarray(x))
    theirs = reference.finite_difference(lambda x: reference_loss(x).sum(), x)
    np.testing.assert_allclose(np.asarray(ours), theirs, rtol=tolerance, atol=tolerance)


pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_identification_loss(seed, jit):
    x, labels, _, _ = batch(seed)
    loss = jax.jit(losses.identification_loss) if jit else losses.identification_loss
    assert_same(loss(x, labels), reference.identification(x, labels))
    assert_gradient(lambda x: loss(x, labels), lambda x: reference.identification(x, labels), x)


@pytest.mark.parametrize("seed", SEEDS)
def test_smoothed_labels(seed):
    x, labels, _, _ = batch(seed)

    def smoothed(x):
        every = [reference.identification(x, [k] * len(x)) for k in range(x.shape[1])]
        return 0.7 * reference.identification(x, labels) + 0.3 / len(every) * sum(every)

    loss = lambda x: losses.identification_loss(x, labels, smoothing=0.3)
    assert_same(loss(x), smoothed(x))
    assert_gradient(loss, smoothed, x)


@pytest.mark.parametrize("seed", SEEDS)
def test_verification_loss_has_the_same_pair_at_index_one(seed):
    x, _, _, rng = batch(seed, dim=2)
    same = rng.random(len(x)) < 0.4
    expected = reference.identification(x, [1 if s else 0 for s in same])
    assert_same(losses.verification_loss(x, same), expected)
    assert losses.verification_loss(jnp.array([[-9.0, 9.0]]), jnp.array([True]))[0] < 1e-6


@pytest.mark.parametrize("margin", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("seed", SEEDS)
def test_batch_contrastive_loss(seed, margin):
    x, labels, _, _ = batch(seed, unit=True)
    kwargs = {"margin": margin}
    expected = reference.batch_contrastive(x, labels, margin)
    assert expected.std() > 0
    assert_same(losses.batch_contrastive_loss(x, labels, **kwargs), expected)
    assert_same(losses.batch_contrastive_loss(x, labels, gradient="eq8", **kwargs), expected)
    assert_gradient(
        lambda x: losses.batch_contrastive_loss(x, labels, **kwargs),
        lambda x: reference.batch_contrastive(x, labels, margin),
        x,
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_batch_contrastive_eq8_gradient_is_the_printed_one(seed):
    x, labels, _, _ = batch(seed, unit=True)
    loss = lambda x: losses.batch_contrastive_loss(x, labels, margin=1.0, gradient="eq8").sum()
    assert_same(jax.grad(loss)(jnp.asarray(x)), reference.batch_contrastive_eq8(x, labels, 1.0))


def test_eq8_audit():
    """Which reading of Eq. 8 is the gradient of which reading of Eq. 3: four rows."""
    rng = np.random.default_rng(5)
    x = np.abs(rng.normal(size=(8, 3)))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    labels, margin = np.array([0, 0, 0, 1, 1, 2, 2, 3]), 1.0
    centers = np.abs(rng.normal(size=(4, 3)))
    gradient = reference.finite_difference(
        lambda x: (
            reference.batch_contrastive(x, labels, margin).sum()
            + reference.center(x, labels, centers).sum()
        ),
        x,
    )
    once = reference.finite_difference(
        lambda x: (
            reference.batch_contrastive(x, labels, margin).sum()
            - sum(
                ((x[i] - x[j]) ** 2).sum() / 2
                for i in range(8)
                for j in range(i)
                if labels[i] == labels[j]
            )
            + reference.center(x, labels, centers).sum()
        ),
        x,
    )

    def printed(positive_factor, to_nearest):
        g = x - centers[labels]
        for i in range(8):
            negatives = [j for j in range(8) if labels[j] != labels[i]]
            nearest = min(negatives, key=lambda j: ((x[i] - x[j]) ** 2).sum())
            for j in range(8):
                if labels[i] == labels[j]:
                    g[i] += positive_factor * (x[i] - x[j])
            if ((x[i] - x[nearest]) ** 2).sum() < margin:
                g[i] -= x[i] - x[nearest]
                if to_nearest:
                    g[nearest] += x[i] - x[nearest]
        return g

    assert np.abs(printed(1, False) - gradient).max() > 0.1
    assert np.abs(printed(2, False) - gradient).max() > 0.1
    assert np.abs(printed(2, True) - gradient).max() < 1e-8
    assert np.abs(printed(1, True) - once).max() < 1e-8

    def ours(kind):
        def loss(x):
            contrastive = losses.batch_contrastive_loss(x, labels, margin=margin, gradient=kind)
            return (contrastive + losses.center_loss(x, labels, centers)).sum()

        return np.asarray(jax.grad(loss)(jnp.asarray(x)))

    assert np.abs(ours("autodiff") - gradient).max() < 1e-8
    assert np.abs(ours("eq8") - printed(1, False)).max() < 1e-12


@pytest.mark.parametrize("gradient", ["autodiff", "eq8"])
@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_batch_contrastive_without_negatives_or_positives(labels, gradient):
    x, _, _, _ = batch(3, rows=3, unit=True)
    loss = lambda x: losses.batch_contrastive_loss(
        x, np.array(labels), margin=1.9, gradient=gradient
    )
    assert_same(loss(x), reference.batch_contrastive(x, labels, 1.9))
    assert np.isfinite(jax.grad(lambda x: loss(x).sum())(jnp.asarray(x))).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_center_loss_treats_centers_as_constants(seed):
    x, labels, centers, _ = batch(seed)
    assert_same(losses.center_loss(x, labels, centers), reference.center(x, labels, centers))
    assert_gradient(
        lambda x: losses.center_loss(x, labels, centers),
        lambda x: reference.center(x, labels, centers),
        x,
    )
    to_centers = jax.grad(lambda c: losses.center_loss(x, labels, c).sum())(jnp.asarray(centers))
    assert not np.any(to_centers)


@pytest.mark.parametrize("seed", SEEDS)
def test_update_centers(seed):
    x, labels, centers, _ = batch(seed)
    new = losses.update_centers(losses.CenterState(centers), x, labels, rate=0.5)
    assert_same(new.centers, reference.updated_centers(centers, x, labels, 0.5))
    absent = np.setdiff1d(np.arange(len(centers)), labels)
    assert absent.size
    np.testing.assert_array_equal(new.centers[absent], centers[absent])


@pytest.mark.parametrize("rate", [0.5, 0.01])
def test_printed_plus_sign_of_eq6_diverges(rate):
    x, centers = np.ones((1, 2)), np.zeros((1, 2))
    plus = minus = centers
    state = losses.CenterState(jnp.asarray(centers))
    for _ in range(1064):
        minus = reference.updated_centers(minus, x, [0], rate)
        state = losses.update_centers(state, x, np.array([0]), rate=rate)
        if np.abs(plus).max() < 1e30:
            plus = reference.updated_centers(plus, x, [0], rate, sign=+1)
    assert np.abs(plus - x).max() > 1e2
    assert np.abs(state.centers - x).max() < 5e-3
    assert_same(state.centers, minus)


def test_init_centers_is_zero():
    assert losses.init_centers(3, 2).centers.shape == (3, 2)
    assert not losses.init_centers(3, 2).centers.any()


@pytest.mark.parametrize("seed", SEEDS)
def test_intra_center_loss(seed):
    xa, labels, centers, rng = batch(seed)
    xb = rng.normal(size=xa.shape)
    loss = lambda xa: losses.intra_center_loss(xa, xb, labels, centers)
    assert_same(loss(xa), reference.intra_center(xa, xb, labels, centers))
    gradient = jax.grad(lambda xa: jnp.mean(loss(xa)))(jnp.asarray(xa))
    assert_same(gradient, (xa - centers[labels]) / len(xa))


@pytest.mark.parametrize("seed", SEEDS)
def test_inter_center_loss(seed):
    _, labels, centers, rng = batch(seed)
    other = (labels + rng.integers(1, 4, size=len(labels))) % 4
    margin = float(np.median(((centers[labels] - centers[other]) ** 2).sum(1))) + 0.01
    expected = reference.inter_center(labels, other, centers, margin)
    assert (expected > 0).any()
    assert (expected == 0).any()
    assert_same(losses.inter_center_loss(labels, other, centers, margin=margin), expected)
    assert_gradient(
        lambda c: losses.inter_center_loss(labels, other, c, margin=margin),
        lambda c: reference.inter_center(labels, other, c, margin),
        centers,
    )
    assert_same(losses.inter_center_loss([1], [1], centers, margin=3.0), [3.0])


@pytest.mark.parametrize("seed", SEEDS)
def test_update_pair_centers(seed):
    xa, labels_a, centers, rng = batch(seed)
    xb = rng.normal(size=xa.shape)
    labels_b = np.where(rng.random(len(xa)) < 0.5, labels_a, (labels_a + 1) % 4).astype(np.int32)

    def update(xa):
        state = losses.CenterState(jnp.asarray(centers))
        return losses.update_pair_centers(state, xa, xb, labels_a, labels_b, rate=0.5).centers

    def update_reference(xa):
        return reference.updated_pair_centers(centers, xa, xb, labels_a, labels_b, 0.5)

    assert_same(update(xa), update_reference(xa))
    weights = rng.normal(size=centers.shape)
    assert_gradient(lambda xa: weights * update(xa), lambda xa: weights * update_reference(xa), xa)


def test_pair_center_oracles():
    xa, xb = np.array([[1.0, 5.0]]), np.array([[3.0, -1.0]])
    zero = losses.init_centers(2, 2)
    positive = losses.update_pair_centers(zero, xa, xb, [1], [1], rate=0.5)
    assert_same(positive.centers[1], 0.5 * (xa + xb)[0] / 2)
    start = losses.CenterState(jnp.array([[2.0, 2.0], [0.0, 1.0]]))
    negative = losses.update_pair_centers(start, xa, xb, [0], [1], rate=1.0)
    assert_same(start.centers[0] - negative.centers[0], (start.centers[0] - xa[0]) / 2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["compact", "scatter"])
def test_inherent_losses(name, seed):
    codes, labels, means, _ = batch(seed)
    means *= 0.8 if name == "scatter" else 1.5
    loss, plain = getattr(losses, f"{name}_loss"), getattr(reference, name)
    assert_same(loss(codes, labels, means), plain(codes, labels, means))
    assert_gradient(lambda x: loss(x, labels, means), lambda x: plain(x, labels, means), codes)
    assert not np.any(jax.grad(lambda m: loss(codes, labels, m).sum())(jnp.asarray(means)))


def test_inherent_closed_form_gradients_and_d_min():
    codes, labels, means, _ = batch(4)
    scatter = jax.grad(lambda x: losses.scatter_loss(x, labels, means).sum())(jnp.asarray(codes))
    others = [sum(means[j] for j in range(len(means)) if j != y) for y in labels]
    assert_same(scatter, (len(means) - 1) * codes - np.array(others))
    collinear = np.array([[0.0], [2.0], [6.0]])
    inside, outside = np.array([[0.9], [1.2]])
    assert losses.compact_loss([inside], [0], collinear)[0] == 0
    assert_same(losses.compact_loss([outside], [0], collinear), [0.5 * (1.2**2 - 1)])
    with pytest.raises(ValueError, match="at least two"):
        losses.compact_loss(codes, labels * 0, means[:1])


@pytest.mark.parametrize("seed", SEEDS)
def test_contrastive_loss(seed):
    xa, _, _, rng = batch(seed)
    xb = xa + rng.normal(size=xa.shape) * 0.4
    same = rng.random(len(xa)) < 0.5
    loss = lambda xa: losses.contrastive_loss(xa, xb, same, margin=1.0)
    assert_same(loss(xa), reference.contrastive(xa, xb, same, 1.0))
    assert_gradient(loss, lambda xa: reference.contrastive(xa, xb, same, 1.0), xa)


def test_contrastive_gradient_is_finite_at_distance_zero():
    x = jnp.ones((2, 3))
    same = jnp.array([True, False])
    gradient = jax.grad(lambda a: losses.contrastive_loss(a, x, same, margin=1.0).sum())(x)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_batch_hard_triplet_loss(seed):
    x, labels, _, _ = batch(seed)
    loss = lambda x: losses.batch_hard_triplet_loss(x, labels, margin=0.3)
    assert_same(loss(x), reference.batch_hard_triplet(x, labels, 0.3), tolerance=1e-6)
    assert_gradient(loss, lambda x: reference.batch_hard_triplet(x, labels, 0.3), x, 1e-5)


def partial_triplet(labels):
    return lambda x: losses.batch_hard_triplet_loss(x, labels, margin=0.3).sum()


def test_batch_hard_triplet_alone_and_one_identity():
    x = np.random.default_rng(0).normal(size=(3, 4))
    for labels in (np.array([0, 0, 0]), np.array([0, 1, 2])):
        loss = partial_triplet(labels)
        expected = reference.batch_hard_triplet(x, labels, 0.3).sum()
        assert_same(loss(x), expected, tolerance=1e-6)
        assert np.isfinite(jax.grad(loss)(jnp.asarray(x))).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda x, y, c: losses.identification_loss(x, y[:-1]),
        lambda x, y, c: losses.verification_loss(x, y),
        lambda x, y, c: losses.batch_contrastive_loss(x, y[:-1], margin=1.0),
        lambda x, y, c: losses.center_loss(x[:, :-1], y, c),
        lambda x, y, c: losses.update_centers(losses.CenterState(c), x[:, 1:], y, rate=0.5),
        lambda x, y, c: losses.compact_loss(x, y[None], c),
        lambda x, y, c: losses.contrastive_loss(x, x[1:], y, margin=1.0),
    ],
)
def test_shapes_that_do_not_fit_are_named(call):
    x, labels, centers, _ = batch(0)
    with pytest.raises(ValueError, match="shape"):
        call(jnp.asarray(x), jnp.asarray(labels), jnp.asarray(centers))


def test_unknown_gradient_lists_the_known_ones():
    x, labels, _, _ = batch(0)
    with pytest.raises(ValueError, match="autodiff"):
        losses.batch_contrastive_loss(x, labels, margin=1.0, gradient="eq3")
