"""Losses of the five papers: arrays in, one value per row out; the objective reduces.

Class centers are carried state (`CenterState`), updated by a function that returns the next
state. Nothing here knows of devices beyond `axis_name`.
"""

from reid_jax.losses.batch_contrastive import batch_contrastive_loss
from reid_jax.losses.centers import (
    CenterState,
    center_loss,
    init_centers,
    inter_center_loss,
    inter_center_step,
    intra_center_loss,
    update_centers,
    update_pair_centers,
)
from reid_jax.losses.classification import identification_loss, verification_loss
from reid_jax.losses.inherent import compact_loss, scatter_loss
from reid_jax.losses.metric import batch_hard_triplet_loss, contrastive_loss
from reid_jax.losses.spatial_prior import (
    inside_image_prior,
    positive_scale_prior,
    rotation_prior,
    stn_prior,
)

__all__ = [
    "CenterState",
    "batch_contrastive_loss",
    "batch_hard_triplet_loss",
    "center_loss",
    "compact_loss",
    "contrastive_loss",
    "identification_loss",
    "init_centers",
    "inside_image_prior",
    "inter_center_loss",
    "inter_center_step",
    "intra_center_loss",
    "positive_scale_prior",
    "rotation_prior",
    "scatter_loss",
    "stn_prior",
    "update_centers",
    "update_pair_centers",
    "verification_loss",
]
