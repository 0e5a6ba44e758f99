"""The experiments of all papers, their tables and their figures; the only place with
hyper-parameters."""

from experiments.papers import batch_contrastive, clever, csn, identif_verif, inherent
from experiments.papers.experiment import (
    Experiment,
    PaperComplexity,
    PaperFigure,
    PaperTable,
    build_config,
    paper_row,
    row_keys,
    slug,
)

__all__ = [
    "EXPERIMENTS",
    "FIGURES",
    "TABLES",
    "Experiment",
    "PaperComplexity",
    "PaperFigure",
    "PaperTable",
    "build_config",
    "paper_row",
    "row_keys",
    "slug",
]

_PAPERS = (batch_contrastive, identif_verif, clever, inherent, csn)

EXPERIMENTS: dict[str, Experiment] = {k: v for m in _PAPERS for k, v in m.EXPERIMENTS.items()}
TABLES: dict[str, PaperTable | PaperComplexity] = {
    k: v for m in _PAPERS for k, v in m.TABLES.items()
}
FIGURES: dict[str, PaperFigure] = {k: v for m in _PAPERS for k, v in m.FIGURES.items()}
