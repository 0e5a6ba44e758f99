"""The experiments of all methods; the only place with hyper-parameters."""

from experiments.configs import batch_contrastive
from experiments.configs.experiment import (
    Experiment,
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
    "PaperTable",
    "apply_overrides",
    "build_config",
    "paper_row",
]

EXPERIMENTS: dict[str, Experiment] = {**batch_contrastive.EXPERIMENTS}
TABLES: dict[str, PaperTable] = {**batch_contrastive.TABLES}
FIGURES: dict[str, dict[str, str]] = {**batch_contrastive.FIGURES}
