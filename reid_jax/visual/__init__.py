"""Figures of training, distances, ranks and pictures: arrays in, `matplotlib` figures out."""

from reid_jax import extras

extras.require("matplotlib")  # before the modules below, which name it

from reid_jax.visual.activation_maps import activation_maps, channel_sum
from reid_jax.visual.camera_pairs import camera_pair_heat_map
from reid_jax.visual.curves import cmc_curve, distance_scatter, moving_average, training_curves
from reid_jax.visual.distractors import distractor_curve
from reid_jax.visual.embedding_map import embedding_map, tsne
from reid_jax.visual.histograms import (
    equal_error,
    pair_distance_histogram,
    precision_histogram,
)
from reid_jax.visual.operating import reliability_curve, roc_curve
from reid_jax.visual.ranked_lists import (
    RankedList,
    contact_sheet,
    ranked_list_groups,
    ranked_lists,
)
from reid_jax.visual.similarity_maps import SimilarityLevel, attended_outline, similarity_maps
from reid_jax.visual.spread import run_dots
from reid_jax.visual.style import mark

__all__ = [
    "RankedList",
    "SimilarityLevel",
    "activation_maps",
    "attended_outline",
    "camera_pair_heat_map",
    "channel_sum",
    "cmc_curve",
    "contact_sheet",
    "distance_scatter",
    "distractor_curve",
    "embedding_map",
    "equal_error",
    "mark",
    "moving_average",
    "pair_distance_histogram",
    "precision_histogram",
    "ranked_list_groups",
    "ranked_lists",
    "reliability_curve",
    "roc_curve",
    "run_dots",
    "similarity_maps",
    "training_curves",
    "tsne",
]
