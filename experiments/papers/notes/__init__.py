"""Where runs of the papers' experiments differ from the papers, or fill a gap in them.

A note is of a paper and says of which runs it is true. What is so whatever the experiment, of a
loss or a network, is a `Deviation:` line where that is defined; a report has both.
"""

from __future__ import annotations

from experiments.papers.notes import (
    batch_contrastive,
    clever,
    csn,
    identif_verif,
    inherent,
    strong,
)
from experiments.papers.notes.note import Note

__all__ = ["NOTES", "OF_ALL", "Note"]

OF_ALL = (
    Note(
        "scale pretrained: efficientnet_lite0 from ImageNet's weights in the place of the paper's "
        "network, 96x48, 240 steps of 32 images (16 pairs), SGD at 0.03 with momentum, warm-up and "
        "cosine, 5e-4 of the kernels as weight decay, without dropout, and unit vectors at test; "
        "objective, constants and sampling are the paper's, a margin between centers goes with the "
        "number of features, and mean codes come from the bank.",
        lambda config, scale: scale == "pretrained",
    ),
    Note(
        "verification_weight or center_factor gives losses other weights than the paper, or the "
        "code that it builds on.",
        lambda config, scale: any(
            getattr(config.loss, name) not in (None, 0.0, *usual)
            for name, usual in _USUAL_WEIGHTS.get(config.objective, {}).items()
        ),
    ),
)
"""Notes of every paper's runs."""

_OF_V = {"verification_weight": (1.0,)}
_USUAL_WEIGHTS: dict[str, dict[str, tuple[float, ...]]] = {
    "identification_verification": _OF_V,
    "verification": _OF_V,
    "identification_center": {"center_weight": (0.01,)},
    "clever": {"verification_weight": (0.5, 1.0), "intra_weight": (0.01,), "inter_weight": (8e-3,)},
}

NOTES: dict[str, tuple[Note, ...]] = {
    "batch_contrastive": batch_contrastive.NOTES,
    "identif_verif": identif_verif.NOTES,
    "clever": clever.NOTES,
    "inherent": inherent.NOTES,
    "csn": csn.NOTES,
    "strong": strong.NOTES,
}
"""Of each paper."""
