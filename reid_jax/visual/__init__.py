"""Figures of training, distances, ranks and pictures: arrays in, `matplotlib` figures out."""

from reid_jax.visual.curves import cmc_curve, distance_scatter, moving_average, training_curves
from reid_jax.visual.histograms import equal_error, pair_distance_histogram
from reid_jax.visual.ranked_lists import contact_sheet, ranked_lists

__all__ = [
    "cmc_curve",
    "contact_sheet",
    "distance_scatter",
    "equal_error",
    "moving_average",
    "pair_distance_histogram",
    "ranked_lists",
    "training_curves",
]
