"""What each paper minimises: one pure function per method, one file per paper.

An objective is called as ``objective(outputs, batch, loss_state, *, axis_name)`` with the model's
outputs and this device's rows, and returns ``(loss, (loss_state, metrics))``. It reduces to the
global scalar itself. The keyword-only constants are bound with ``functools.partial``.
"""

from reid_jax.training.objectives.batch_contrastive import (
    batch_contrastive,
    batch_distances,
    softmax,
)
from reid_jax.training.objectives.clever import clever, identification_center
from reid_jax.training.objectives.csn import csn
from reid_jax.training.objectives.identif_verif import (
    identification_contrastive,
    identification_verification,
)
from reid_jax.training.objectives.inherent import inherent, triplet
from reid_jax.training.objectives.terms import l2_normalise

__all__ = [
    "batch_contrastive",
    "batch_distances",
    "clever",
    "csn",
    "identification_center",
    "identification_contrastive",
    "identification_verification",
    "inherent",
    "l2_normalise",
    "softmax",
    "triplet",
]
