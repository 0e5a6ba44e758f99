"""From a distance to the probability that two images show one person."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy

from reid_jax.evaluation.operating import PersonPairs

__all__ = ["Calibration", "ReliabilityBin", "calibrate"]

PRIOR = 0.5
MOST_FOLDS = 5
BINS = 10


@dataclasses.dataclass(frozen=True)
class ReliabilityBin:
    """Pairs of people that were held out, of about one probability.

    Attributes:
        predicted: mean probability.
        observed: share of pairs of one person, both kinds of pairs weighing as much.
        share: of all pairs, so weighed.
        count: pairs.
    """

    predicted: float
    observed: float
    share: float
    count: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    r"""The probability of one person on both images, falling with the distance.

    .. math:: p(d) = \frac{1}{1 + \exp(s (d - m))}

    It is the probability where one pair in two shows one person (`prior`): what a distance says by
    itself. Where same pairs are rarer, as in a large gallery, multiply the odds :math:`p / (1 - p)`
    by those of the prior that holds.

    Attributes:
        method: 'logistic'.
        slope: s, positive, a distance's unit to the minus one.
        midpoint: m, the distance of probability 1/2.
        prior: share of same pairs that the probability is for.
        expected_calibration_error: mean difference of predicted and observed over the bins, by
            their shares; of people that the fit had not seen.
        num_folds: groups of people that were held out in turn.
        reliability: bins of width 0.1 that are not empty, of the same people.
    """

    method: str = "logistic"
    slope: float
    midpoint: float
    prior: float = PRIOR
    expected_calibration_error: float
    num_folds: int
    reliability: tuple[ReliabilityBin, ...]

    def probability(self, distances: np.ndarray) -> np.ndarray:
        """The probability of each distance.

        Args:
            distances: [...] in the unit of the fit.

        Returns:
            [...] float64 in [0, 1]; of two distances, the larger never has the larger one.
        """
        return scipy.special.expit(
            -self.slope * (np.asarray(distances, np.float64) - self.midpoint)
        )


def calibrate(pairs: PersonPairs, *, seed: int = 0) -> Calibration | None:
    """Fits the probability, and measures it on people that were held out.

    It is logistic regression on the distance (J. Platt, Probabilistic outputs for support vector
    machines, 1999, with the targets given there, which keep separate kinds from an endless slope),
    and not isotonic: two numbers are measured well from few people, the probability falls strictly,
    so that no two distances tie, it goes on beyond the distances that were seen, and distances and
    scores of any unit do. That it fits is not taken for granted: the reliability shows it. Both
    kinds of pairs weigh as much, which is the equal prior.

    For the reliability the people are divided into up to five groups. Pairs within a group get the
    probability that was fitted to the pairs of the others; a pair of two groups is left out there.

    Args:
        pairs: of people.
        seed: of the groups.

    Returns:
        Calibration, fitted to all pairs; None where fewer than four people have a pair of their
        own.
    """
    same = pairs.same
    distances = np.asarray(pairs.distances, np.float64)
    owners = np.unique(np.asarray(pairs.people_a)[same])
    if len(owners) < 4:
        return None
    num_folds = MOST_FOLDS if len(owners) >= 2 * MOST_FOLDS else 2
    random = np.random.default_rng(seed)
    # Those with pairs of their own come first, so that every group has some.
    people = pairs.people
    order = random.permutation(len(people))
    order = order[np.argsort(~np.isin(people[order], owners), kind="stable")]
    fold_of = np.empty(len(people), np.int64)
    fold_of[order] = np.arange(len(people)) % num_folds
    folds = [fold_of[np.searchsorted(people, side)] for side in (pairs.people_a, pairs.people_b)]
    predicted = np.full(len(distances), np.nan)
    for fold in range(num_folds):
        fitted = (folds[0] != fold) & (folds[1] != fold)
        held = (folds[0] == fold) & (folds[1] == fold)
        slope, midpoint = _fit(distances[fitted], same[fitted])
        predicted[held] = scipy.special.expit(-slope * (distances[held] - midpoint))
    measured = np.isfinite(predicted)
    bins = _reliability(predicted[measured], same[measured])
    slope, midpoint = _fit(distances, same)
    return Calibration(
        slope=slope,
        midpoint=midpoint,
        expected_calibration_error=float(
            sum(each.share * abs(each.predicted - each.observed) for each in bins)
        ),
        num_folds=num_folds,
        reliability=bins,
    )


def _weights(same: np.ndarray) -> np.ndarray:
    return np.where(same, PRIOR / same.sum(), (1 - PRIOR) / (~same).sum())


def _fit(distances: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """(slope, midpoint) of the largest likelihood."""
    weights = _weights(same)
    num_same, num_different = int(same.sum()), int((~same).sum())
    targets = np.where(same, (num_same + 1) / (num_same + 2), 1 / (num_different + 2))
    # In units of the spread, so that one size of step fits all distances.
    middle = float(np.sum(weights * distances))
    spread = float(np.sqrt(np.sum(weights * (distances - middle) ** 2))) or 1.0
    scaled = (distances - middle) / spread

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        bias, slope = values
        logits = bias - slope * scaled
        wrong = weights * (scipy.special.expit(logits) - targets)
        likelihood = np.sum(weights * (targets * logits - np.logaddexp(0, logits)))
        return -float(likelihood), np.array([wrong.sum(), -(wrong * scaled).sum()])

    bounds = [(None, None), (1e-6, None)]  # A larger distance is never more likely.
    found = scipy.optimize.minimize(
        loss, np.array([0.0, 1.0]), jac=True, bounds=bounds, options={"ftol": 1e-12, "gtol": 1e-8}
    )
    bias, slope = found.x
    return float(slope / spread), float(middle + spread * bias / slope)


def _reliability(predicted: np.ndarray, same: np.ndarray) -> tuple[ReliabilityBin, ...]:
    weights = _weights(same)
    places = np.minimum((predicted * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    shares, sums, observed = (
        np.bincount(places, values, minlength=BINS)
        for values in (weights, weights * predicted, weights * same)
    )
    return tuple(
        ReliabilityBin(
            # Rounding may leave a mean of ones, or the share of one bin alone, above 1.
            min(float(sums[bin] / shares[bin]), 1.0),
            min(float(observed[bin] / shares[bin]), 1.0),
            min(float(shares[bin]), 1.0),
            int(counts[bin]),
        )
        for bin in np.flatnonzero(counts)
    )
