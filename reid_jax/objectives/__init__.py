"""What a training minimises: a constructor for each method, one file per paper.

Each gives an `Objective`: a tuple of pure functions, as optax's (init, update). The loss
reduces a batch to the global scalar itself, so that any number of devices gives the same.
"""

from reid_jax.objectives.batch_contrastive import (
    batch_contrastive,
    batch_distances,
    softmax,
)
from reid_jax.objectives.clever import clever, identification_center
from reid_jax.objectives.csn import csn
from reid_jax.objectives.identif_verif import (
    identification_contrastive,
    identification_verification,
)
from reid_jax.objectives.inherent import inherent, triplet
from reid_jax.objectives.mean_codes import bank_means, batch_means, exact_means, moving_means
from reid_jax.objectives.objective import Objective, Refresh
from reid_jax.objectives.strong import strong

__all__ = [
    "Objective",
    "Refresh",
    "bank_means",
    "batch_contrastive",
    "batch_distances",
    "batch_means",
    "clever",
    "csn",
    "exact_means",
    "identification_center",
    "identification_contrastive",
    "identification_verification",
    "inherent",
    "moving_means",
    "softmax",
    "strong",
    "triplet",
]
