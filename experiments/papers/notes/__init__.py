"""Where runs of the papers' experiments differ from the papers, or fill a gap in them.

A note is of a paper and says of which runs it is true. What is so whatever the experiment, of a
loss or a network, is a `Deviation:` line where that is defined; a report has both.
"""

from __future__ import annotations

from experiments.config import Config
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
        "network, 96x48, 240 steps of 32 images (16 pairs, 8 identities with 4 images each), SGD "
        "at 0.03 with warm-up and cosine, images mirrored (and shifted and erased where that is a "
        "trick of the baseline), without dropout, and unit vectors at test; unless a key says "
        "otherwise objective and constants are the paper's, but that a margin between centers goes "
        "with the number of features, and mean codes come from the bank.",
        lambda config, scale: scale == "pretrained",
    ),
    Note(
        "verification_weight or center_factor gives losses other weights than the paper, or the "
        "code that it builds on.",
        lambda config, scale: _weighs_otherwise(config),
    ),
)
"""Notes of every paper's runs."""


def _weighs_otherwise(config: Config) -> bool:
    """Whether a weight that has a key in a row is none that a row has without the key."""
    loss = config.loss
    usual = {
        "identification_verification": {"verification_weight": (1.0,)},
        "identification_center": {"center_weight": (0.01,)},
        "clever": {
            # A half is that of the baseline without centers.
            "verification_weight": (0.0, 1.0)
            if loss.intra_weight or loss.inter_weight
            else (0.5, 1.0),
            "intra_weight": (0.0, 0.01),
            "inter_weight": (0.0, 8e-3),
        },
    }
    of_objective = usual.get(config.objective, {})
    return any(getattr(loss, name) not in weights for name, weights in of_objective.items())


NOTES: dict[str, tuple[Note, ...]] = {
    "batch_contrastive": batch_contrastive.NOTES,
    "identif_verif": identif_verif.NOTES,
    "clever": clever.NOTES,
    "inherent": inherent.NOTES,
    "csn": csn.NOTES,
    "strong": strong.NOTES,
}
"""Of each paper."""
