"""Figures of a page: curves of the training, curves and distances of the evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reid_jax import visual
from reid_jax.report.document import Drawn, drawn
from reid_jax.report.tables import METRIC_HEADINGS

__all__ = [
    "decision_figures",
    "failure_figures",
    "ranking_figures",
    "run_figures",
    "training_figures",
]

_TERM_HEADINGS = {
    "loss": "total loss",
    "identification_loss": "identification loss (nats)",
    "verification_loss": "verification loss (nats)",
    "batch_contrastive_loss": "batch-contrastive loss",
    "center_loss": "center loss",
}
_DISTANCES = ("intra_distance", "inter_distance_mean", "inter_distance_min")
MOST_DROPS = 6
MOST_CAMERAS = 16


def training_figures(
    training: Mapping[str, np.ndarray],
    validation: Mapping[str, np.ndarray],
    training_distance: str,
    mark: str | None,
) -> list[Drawn]:
    """Curves of the loss terms, the distances in the batches and the validation."""
    terms = {
        _TERM_HEADINGS.get(name, name.replace("_", " ")): values
        for name, values in training.items()
        if name == "loss" or name.endswith("_loss")
    }
    for name in ("accuracy", "verification_accuracy"):
        if name in training:
            terms[f"{name.replace('_', ' ')} in the batch (%)"] = 100.0 * training[name]
    drops = _drops(training)
    if terms and not drops and np.ptp(training.get("learning_rate", np.zeros(1))) > 0:
        terms["learning rate"] = training["learning_rate"]
    figures = []
    if terms:
        steps = training["step"]
        caption = f"{len(steps):,} logged steps."
        if drops:
            rates = [_rate_before(training, None), *(_rate_before(training, d) for d in drops)]
            caption += f" The learning rate falls: {', '.join(f'{rate:.3g}' for rate in rates)}."
        figures.append(
            drawn(
                visual.training_curves(steps, terms, drops=drops),
                name="training-curves",
                title="Loss terms and accuracy.",
                caption=caption,
                alt="Training curves. "
                + "; ".join(_change(name, values) for name, values in terms.items())
                + ".",
                mark=mark,
            )
        )
    validated = {
        f"validation {METRIC_HEADINGS.get(name[4:], name[4:])} (%)": 100.0 * values
        for name, values in validation.items()
        if name in ("val_rank1", "val_map_step", "val_map", "val_minp")
    }
    if validated:
        figures.append(
            drawn(
                visual.training_curves(validation["step"], validated, smooth=False, drops=drops),
                name="validation-curves",
                title="Validation.",
                caption="Measured during training on identities kept apart.",
                alt="Validation curves. "
                + "; ".join(_change(name, values) for name, values in validated.items())
                + ".",
                mark=mark,
            )
        )
    if all(name in training for name in _DISTANCES):
        intra, inter_mean, inter_min = (training[name] for name in _DISTANCES)
        num_positive = int(np.isfinite(intra).sum())
        figures.append(
            drawn(
                visual.distance_scatter(
                    {"": (training["step"], intra, inter_mean, inter_min)},
                    distance=training_distance,
                ),
                name="batch-distances",
                title="Distances within the training batches.",
                caption=f"A dot for each batch with a positive pair ({num_positive:,} of "
                f"{len(intra):,}); lines are moving averages. Fig. 1 of the batch-contrastive "
                "paper.",
                alt="Distances within training batches. "
                + "; ".join(
                    _change(name, values)
                    for name, values in (
                        ("Intra-class distance", intra),
                        ("mean inter-class distance", inter_mean),
                        ("minimum inter-class distance", inter_min),
                    )
                )
                + ".",
                mark=mark,
            )
        )
    return figures


def _drops(training: Mapping[str, np.ndarray]) -> list[float]:
    """Steps at which the learning rate falls; none where it falls all the time."""
    if "learning_rate" not in training:
        return []
    rate = training["learning_rate"]
    known = np.isfinite(rate)
    steps, rate = training["step"][known], rate[known]
    fallen = np.flatnonzero(np.diff(rate) < 0) + 1
    return [float(steps[place]) for place in fallen] if len(fallen) <= MOST_DROPS else []


def _rate_before(training: Mapping[str, np.ndarray], step: float | None) -> float:
    """The first learning rate, or the one from a step on."""
    place = 0 if step is None else int(np.flatnonzero(training["step"] == step)[0])
    return float(training["learning_rate"][place])


def ranking_figures(ranking: Mapping[str, np.ndarray], mark: str | None) -> list[Drawn]:
    """The curve of ranks and the distances of pairs."""
    figures = []
    if "cmc" in ranking:
        figures.append(_cmc_figure(ranking["cmc"], "", mark))
    if "pair_distance_edges" in ranking:
        histogram = (
            ranking["pair_distance_edges"],
            ranking["same_pair_counts"],
            ranking["different_pair_counts"],
        )
        distance = str(ranking.get("distance", "distance"))
        threshold, rate = visual.equal_error(*histogram)
        if math.isfinite(threshold):
            words = (
                f"At the threshold {threshold:.3g} as many same pairs are missed as different "
                f"pairs are accepted, {100.0 * rate:.1f} % of each."
            )
        else:
            words = "There are no pairs of one of the kinds, so there is no threshold."
        figures.append(
            drawn(
                visual.pair_distance_histogram(*histogram, distance=distance),
                name="pair-distances",
                title="Distances of same and different pairs.",
                caption=f"Each kind adds up to 100 %. {words}",
                alt=f"Histograms of the {distance} of same and of different pairs. {words}",
                mark=mark,
            )
        )
    return figures


def decision_figures(operating: Mapping[str, Any], mark: str | None) -> list[Drawn]:
    """Error rates over thresholds and the reliability of the probability; see `Run.results`."""
    figures = []
    curve = operating.get("roc") or {}
    if curve.get("false_accept_rate"):
        points = {
            point["false_accept_rate"]: point["true_accept_rate"]
            for point in operating["points"]
            if point["true_accept_rate"] is not None
        }
        words = ", ".join(
            f"{100 * accepted:.1f} % at {100 * rate:g} % false accepts"
            for rate, accepted in points.items()
        )
        figures.append(
            drawn(
                visual.roc_curve(
                    curve["false_accept_rate"], curve["true_accept_rate"], points=points
                ),
                name="roc",
                title="Same person or not.",
                caption="True accepts for each rate of false accepts; on the dotted line as many "
                "matches are missed as others are accepted.",
                alt=f"Curve of true accepts over false accepts: {words or 'no marked point'}.",
                mark=mark,
            )
        )
    calibration = operating.get("calibration") or {}
    if bins := calibration.get("reliability"):
        columns = ([one[name] for one in bins] for name in ("predicted", "observed", "share"))
        error = 100 * calibration["expected_calibration_error"]
        figures.append(
            drawn(
                visual.reliability_curve(*(np.array(values) for values in columns)),
                name="reliability",
                title="Reliability of the probability.",
                caption="Said and found share of pairs of one person, on people that the "
                f"calibration has not seen: {error:.1f} points apart on average. A dot's area is "
                "the share of the pairs.",
                alt="Curve of the share of pairs of one person over the probability that was "
                f"said; the expected calibration error is {error:.1f} %.",
                mark=mark,
            )
        )
    return figures


def failure_figures(ranking: Mapping[str, np.ndarray], mark: str | None) -> list[Drawn]:
    """How the queries differ: their average precision, and cameras that are confused."""
    figures = []
    precision = ranking.get("average_precision_step", np.zeros(0))
    if np.isfinite(precision).any():
        known = precision[np.isfinite(precision)]
        words = (
            f"{100 * np.mean(known < 0.1):.0f} % of the queries below 10 %, "
            f"{100 * np.mean(known > 0.9):.0f} % above 90 %."
        )
        figures.append(
            drawn(
                visual.precision_histogram(precision),
                name="precision-histogram",
                title="Average precision of the queries.",
                caption=words,
                alt=f"Histogram of the average precision of {len(known):,} queries: {words}",
                mark=mark,
            )
        )
    rank1 = ranking.get("camera_pair_rank1", np.zeros((0, 0)))
    if 2 <= len(rank1) <= MOST_CAMERAS and np.isfinite(rank1).any():
        names = [str(name) for name in ranking["camera_pair_names"]]
        row, column = np.unravel_index(np.nanargmin(rank1), rank1.shape)
        words = (
            f"Lowest: queries of camera {names[row]} with matches in camera {names[column]}, "
            f"{100 * rank1[row, column]:.1f} %."
        )
        figures.append(
            drawn(
                visual.camera_pair_heat_map({"rank-1": rank1}, cameras=names),
                name="camera-pairs",
                title="Rank-1 by pair of cameras.",
                caption=f"{words} Dotted: one camera with itself.",
                alt=f"Heat map of rank-1 for each two of {len(names)} cameras. {words}",
                mark=mark,
            )
        )
    return figures


def _cmc_figure(
    cmc: np.ndarray,
    which: str,
    mark: str | None,
    spread: tuple[np.ndarray, np.ndarray] | None = None,
) -> Drawn:
    words = ", ".join(
        f"{100.0 * cmc[rank - 1]:.1f} % at rank {rank}"
        for rank in (1, 5, 10, 20)
        if rank <= len(cmc)
    )
    band = " The band reaches from the lowest run to the highest." if spread else ""
    return drawn(
        visual.cmc_curve({"CMC": cmc}, spread=spread),
        name="cmc",
        title="Cumulative matching characteristic.",
        caption=f"Share of the queries with a match within the first ranks{which}.{band}",
        alt=f"Curve of the share of queries with a match{which}: {words}.",
        mark=mark,
    )


def run_figures(
    rankings: Sequence[Mapping[str, np.ndarray]],
    metrics: Mapping[str, Sequence[float | None]],
    mark: str | None,
) -> list[Drawn]:
    """The mean curve of ranks of several runs with its spread, and each run's numbers.

    Args:
        rankings: of each run; where one has no curve there is none of all.
        metrics: heading to the value of each run.
        mark: see `drawn`.
    """
    figures = []
    curves = [ranking["cmc"] for ranking in rankings if "cmc" in ranking]
    if len(curves) == len(rankings):
        # Galleries of several splits may differ in size: the mean ends with the shortest.
        shortest = min(map(len, curves))
        every = np.stack([cmc[:shortest] for cmc in curves])
        spread = (every.min(0), every.max(0)) if len(curves) > 1 else None
        figures.append(_cmc_figure(every.mean(0), f", mean of {len(curves)} runs", mark, spread))
    if metrics:
        ends = "; ".join(
            f"{name} from {100 * min(known):.1f} to {100 * max(known):.1f} %"
            for name, values in metrics.items()
            if (known := [value for value in values if value is not None and value == value])
        )
        figures.append(
            drawn(
                visual.run_dots(metrics),
                name="run-dots",
                title="Each run.",
                caption="A dot for each, with mean and standard deviation.",
                alt=f"Numbers of {len(rankings)} runs: {ends or 'none known'}.",
                mark=mark,
            )
        )
    return figures


def _change(name: str, values: np.ndarray) -> str:
    """A curve in words, for those who do not see it."""
    values = values[np.isfinite(values)]
    if not len(values):
        return f"{name} has no values"
    window = max(1, len(values) // 25)
    first, last = values[:window].mean(), values[-window:].mean()
    return f"{name} goes from {first:.3g} to {last:.3g}"
