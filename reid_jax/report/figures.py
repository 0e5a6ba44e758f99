"""Figures of a page: curves of the training, curves and distances of the evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from reid_jax import visual
from reid_jax.report import document
from reid_jax.report.tables import METRIC_HEADINGS

__all__ = ["evaluation_figures", "mean_cmc_figure", "training_figures"]

_TERM_HEADINGS = {
    "loss": "total loss",
    "identification_loss": "identification loss (nats)",
    "verification_loss": "verification loss (nats)",
    "batch_contrastive_loss": "batch-contrastive loss",
    "center_loss": "center loss",
}
_DISTANCES = ("intra_distance", "inter_distance_mean", "inter_distance_min")


def training_figures(
    training: Mapping[str, np.ndarray],
    validation: Mapping[str, np.ndarray],
    training_distance: str,
    mark: str | None,
) -> str:
    """Curves of the loss terms, the distances in the batches and the validation, as HTML."""
    terms = {
        _TERM_HEADINGS.get(name, name.replace("_", " ")): values
        for name, values in training.items()
        if name == "loss" or name.endswith("_loss")
    }
    for name in ("accuracy", "verification_accuracy"):
        if name in training:
            terms[f"{name.replace('_', ' ')} in the batch (%)"] = 100.0 * training[name]
    figures = []
    if terms:
        steps = training["step"]
        figures.append(
            document.figure_tag(
                visual.training_curves(steps, terms),
                name="training-curves",
                title="Loss terms and accuracy.",
                caption="Each of the "
                f"{len(steps):,} logged training steps, and their moving average.",
                alt="Training curves. "
                + "; ".join(_change(name, values) for name, values in terms.items())
                + ".",
                mark=mark,
            )
        )
    if all(name in training for name in _DISTANCES):
        intra, inter_mean, inter_min = (training[name] for name in _DISTANCES)
        num_positive = int(np.isfinite(intra).sum())
        figures.append(
            document.figure_tag(
                visual.distance_scatter(
                    {"": (training["step"], intra, inter_mean, inter_min)},
                    distance=training_distance,
                ),
                name="batch-distances",
                title="Distances within the training batches.",
                caption="A dot for each batch that has a positive pair "
                f"({num_positive:,} of {len(intra):,}), lines are moving averages; "
                "Fig. 1 of the batch-contrastive paper.",
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
    validated = {
        f"validation {METRIC_HEADINGS.get(name[4:], name[4:])} (%)": 100.0 * values
        for name, values in validation.items()
        if name.startswith("val_")
    }
    if validated:
        figures.append(
            document.figure_tag(
                visual.training_curves(validation["step"], validated, smooth=False),
                name="validation-curves",
                title="Validation.",
                caption="Measured during training on identities kept apart.",
                alt="Validation curves. "
                + "; ".join(_change(name, values) for name, values in validated.items())
                + ".",
                mark=mark,
            )
        )
    return "\n".join(figures)


def evaluation_figures(ranking: Mapping[str, np.ndarray], mark: str | None) -> str:
    """The curve of ranks and the distances of pairs, as HTML."""
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
            document.figure_tag(
                visual.pair_distance_histogram(*histogram, distance=distance),
                name="pair-distances",
                title="Distances of same and different pairs.",
                caption=f"Each kind adds up to 100 %. {words}",
                alt=f"Histograms of the {distance} of same and of different pairs. {words}",
                mark=mark,
            )
        )
    return f'<div class="pair">{"".join(figures)}</div>' if figures else ""


def _cmc_figure(cmc: np.ndarray, which: str, mark: str | None) -> str:
    words = ", ".join(
        f"{100.0 * cmc[rank - 1]:.1f} % at rank {rank}"
        for rank in (1, 5, 10, 20)
        if rank <= len(cmc)
    )
    return document.figure_tag(
        visual.cmc_curve({"CMC": cmc}),
        name="cmc",
        title="Cumulative matching characteristic.",
        caption=f"Share of the queries with a match within the first ranks{which}.",
        alt=f"Curve of the share of queries with a match{which}: {words}.",
        mark=mark,
    )


def mean_cmc_figure(rankings: Sequence[Mapping[str, np.ndarray]], mark: str | None) -> str:
    """The mean curve of ranks of several runs, as HTML; empty where a run has none."""
    curves = [ranking["cmc"] for ranking in rankings if "cmc" in ranking]
    if len(curves) < len(rankings):
        return ""
    # Galleries of several splits may differ in size: the mean ends with the shortest.
    shortest = min(map(len, curves))
    mean = np.mean([cmc[:shortest] for cmc in curves], axis=0)
    return _cmc_figure(mean, f", mean of {len(curves)} runs", mark)


def _change(name: str, values: np.ndarray) -> str:
    """A curve in words, for those who do not see it."""
    values = values[np.isfinite(values)]
    if not len(values):
        return f"{name} has no values"
    window = max(1, len(values) // 25)
    first, last = values[:window].mean(), values[-window:].mean()
    return f"{name} goes from {first:.3g} to {last:.3g}"
