"""Same person or not: error rates and thresholds from distances of same and different pairs.

A pair is accepted as the same person where its distance is at most the threshold.
"""

import dataclasses

import numpy as np

from reid_jax.evaluation.histogram import PairDistanceHistogram

__all__ = [
    "Roc",
    "best_threshold",
    "equal_error",
    "equal_error_rate",
    "roc",
    "roc_from_histogram",
    "threshold_at",
    "true_accept_rate_at",
    "verification_metrics",
]


@dataclasses.dataclass(frozen=True)
class Roc:
    """Receiver operating characteristic over increasing thresholds.

    Attributes:
        thresholds: [T] increasing distances.
        starts: [T] distances up to which the rates are those of the threshold before (for the first
            one: nothing is accepted), and from which they move to those of the threshold: the
            threshold itself where single distances are known, the lower edge of a histogram's bin.
        false_accept_rate: [T] share of different pairs at or below the threshold.
        true_accept_rate: [T] share of same pairs at or below the threshold.
    """

    thresholds: np.ndarray
    starts: np.ndarray
    false_accept_rate: np.ndarray
    true_accept_rate: np.ndarray


def roc(same_distances: np.ndarray, different_distances: np.ndarray) -> Roc:
    """Exact curve, with a threshold at every distance that occurs.

    Args:
        same_distances: [S] distances of pairs of one person.
        different_distances: [T] distances of pairs of two persons.

    Returns:
        Roc.

    Raises:
        ValueError: if a side is empty, not one-dimensional or has nan.
    """
    sides = []
    for name, values in (("same", same_distances), ("different", different_distances)):
        values = np.asarray(values, np.float64)
        if values.ndim != 1 or len(values) == 0 or np.isnan(values).any():
            raise ValueError(
                f"{name}_distances must be at least one number, without nan, in one dimension; got "
                f"shape {values.shape} with {int(np.isnan(values).sum())} nan"
            )
        sides.append(np.sort(values))
    thresholds = np.unique(np.concatenate(sides))
    same, different = (np.searchsorted(x, thresholds, side="right") / len(x) for x in sides)
    return Roc(thresholds, thresholds, different, same)


def roc_from_histogram(histogram: PairDistanceHistogram) -> Roc:
    """Curve at the upper bin edges, for more pairs than can be held.

    Args:
        histogram: counts of `pair_distance_histogram`.

    Returns:
        Roc with E thresholds; between two of them nothing is known.

    Raises:
        ValueError: if it holds no same pair or no different pair.
    """
    curves = []
    for name in ("same_pair_counts", "different_pair_counts"):
        counts = np.asarray(getattr(histogram, name))
        if counts.sum() == 0:
            raise ValueError(f"{name} is 0 everywhere; a curve needs pairs of both kinds")
        curves.append(np.cumsum(counts) / counts.sum())
    edges = np.asarray(histogram.edges, np.float64)
    return Roc(edges[1:], edges[:-1], curves[1], curves[0])


def equal_error(curve: Roc) -> tuple[float, float]:
    """Where as large a share of different pairs is accepted as of same pairs is rejected.

    The one definition: as the threshold rises, the false accept rate rises from 0 and the false
    reject rate falls from 1. Where they cross, both move linearly from the values at one threshold
    of the curve to those at the next. A single distance moves them at once, a bin of a histogram
    from its lower to its upper edge, over which its pairs are taken to be spread evenly; so the
    histogram of some distances gives what the distances give, up to the width of a bin. Where the
    rates are equal over a whole interval, as in a gap between the two kinds, the threshold is its
    middle.

    Args:
        curve: of `roc` or `roc_from_histogram`.

    Returns:
        (threshold, error rate): in the unit of the distances, and as a fraction.
    """
    false_accept = np.concatenate([[0.0], curve.false_accept_rate])
    false_reject = np.concatenate([[1.0], 1 - curve.true_accept_rate])
    # Rises from -1 to 1, but for the rounding of shares that are equal.
    difference = false_accept - false_reject
    difference[np.abs(difference) < 1e-12] = 0
    after = int(np.argmax(difference > 0))
    equal = np.flatnonzero(difference == 0)
    if len(equal):
        first = curve.thresholds[equal[0] - 1]
        return float((first + curve.starts[after - 1]) / 2), float(false_accept[equal[0]])
    share = -difference[after - 1] / (difference[after] - difference[after - 1])
    start, end = curve.starts[after - 1], curve.thresholds[after - 1]
    low, high = false_accept[after - 1], false_accept[after]
    return float(start + share * (end - start)), float(low + share * (high - low))


def equal_error_rate(curve: Roc) -> float:
    """The error rate of `equal_error`.

    Args:
        curve: of `roc` or `roc_from_histogram`.

    Returns:
        A fraction.
    """
    return equal_error(curve)[1]


def threshold_at(curve: Roc, false_accept_rate: float) -> tuple[float | None, float]:
    """The largest threshold that keeps a false accept rate, and what it accepts.

    Args:
        curve: of `roc` or `roc_from_histogram`.
        false_accept_rate: the largest share of different pairs that may be accepted, in [0, 1].

    Returns:
        (threshold, true accept rate): of the thresholds of the curve, not interpolated; (None, 0)
        where none of them keeps the rate.

    Raises:
        ValueError: on a rate outside [0, 1].
    """
    if not 0 <= false_accept_rate <= 1:
        raise ValueError(f"false_accept_rate must be in [0, 1], got {false_accept_rate}")
    kept = int(np.searchsorted(curve.false_accept_rate, false_accept_rate, side="right"))
    if not kept:
        return None, 0.0
    return float(curve.thresholds[kept - 1]), float(curve.true_accept_rate[kept - 1])


def true_accept_rate_at(curve: Roc, false_accept_rate: float) -> float:
    """The true accept rate of `threshold_at`.

    Args:
        curve: of `roc` or `roc_from_histogram`.
        false_accept_rate: the largest share of different pairs that may be accepted, in [0, 1].

    Returns:
        A fraction; 0 where no threshold of the curve keeps the rate.

    Raises:
        ValueError: on a rate outside [0, 1].
    """
    return threshold_at(curve, false_accept_rate)[1]


def best_threshold(curve: Roc) -> tuple[float, float]:
    """Threshold of the largest balanced accuracy, and that accuracy.

    Balanced accuracy, (share of same pairs accepted + share of different pairs rejected) / 2, does
    not depend on how many pairs of each kind were compared.

    Args:
        curve: of `roc` or `roc_from_histogram`.

    Returns:
        (threshold, balanced accuracy); the smallest threshold where several are equal.
    """
    accuracy = (curve.true_accept_rate + 1 - curve.false_accept_rate) / 2
    best = int(np.argmax(accuracy))
    return float(curve.thresholds[best]), float(accuracy[best])


def verification_metrics(
    curve: Roc, *, false_accept_rates: tuple[float, ...] = (0.1, 0.01, 0.001)
) -> dict[str, float]:
    """The verification metrics of a result, as plain floats.

    Args:
        curve: of `roc` or `roc_from_histogram`.
        false_accept_rates: rates at which the true accept rate is given.

    Returns:
        `equal_error_rate`, `threshold`, `balanced_accuracy` and `true_accept_rate_at_RATE` each.
    """
    threshold, accuracy = best_threshold(curve)
    return {
        "equal_error_rate": equal_error_rate(curve),
        "threshold": threshold,
        "balanced_accuracy": accuracy,
        **{
            f"true_accept_rate_at_{rate:g}": true_accept_rate_at(curve, rate)
            for rate in false_accept_rates
        },
    }
