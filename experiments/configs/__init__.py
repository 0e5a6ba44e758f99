"""The experiments of all methods; the only place with hyper-parameters."""

from experiments.configs import batch_contrastive, clever, csn, identif_verif, inherent
from experiments.configs.experiment import (
    Experiment,
    PaperComplexity,
    PaperFigure,
    PaperTable,
    apply_overrides,
    build_config,
    paper_row,
)

__all__ = [
    "EXPERIMENTS",
    "FIGURES",
    "TABLES",
    "Experiment",
    "PaperComplexity",
    "PaperFigure",
    "PaperTable",
    "apply_overrides",
    "build_config",
    "paper_row",
]

_METHODS = (batch_contrastive, identif_verif, clever, inherent, csn)

EXPERIMENTS: dict[str, Experiment] = {k: v for m in _METHODS for k, v in m.EXPERIMENTS.items()}
TABLES: dict[str, PaperTable | PaperComplexity] = {
    k: v for m in _METHODS for k, v in m.TABLES.items()
}
FIGURES: dict[str, PaperFigure] = {k: v for m in _METHODS for k, v in m.FIGURES.items()}
