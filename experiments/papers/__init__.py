"""The experiments of all papers, their tables and their figures; the only place with
hyper-parameters."""

from experiments.config import Config
from experiments.papers import batch_contrastive, clever, csn, identif_verif, inherent, strong
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
from experiments.papers.notes import NOTES, OF_ALL

__all__ = [
    "EXPERIMENTS",
    "FIGURES",
    "TABLES",
    "Experiment",
    "PaperComplexity",
    "PaperFigure",
    "PaperTable",
    "build_config",
    "method_of",
    "notes_of",
    "paper_row",
    "row_keys",
    "slug",
]

_PAPERS = (batch_contrastive, identif_verif, clever, inherent, csn, strong)

EXPERIMENTS: dict[str, Experiment] = {k: v for m in _PAPERS for k, v in m.EXPERIMENTS.items()}
TABLES: dict[str, PaperTable | PaperComplexity] = {
    k: v for m in _PAPERS for k, v in m.TABLES.items()
}
FIGURES: dict[str, PaperFigure] = {k: v for m in _PAPERS for k, v in m.FIGURES.items()}


def method_of(exp: str) -> str:
    """Name of the paper of an experiment, such as `clever`; '' for a config of one's own."""
    name = exp.partition(":")[0]
    return next((m.__name__.rpartition(".")[2] for m in _PAPERS if name in m.EXPERIMENTS), "")


def notes_of(exp: str, config: Config, *, scale: str) -> tuple[str, ...]:
    """What the paper of an experiment says of a run of it: the `NOTES` that are true of it."""
    method = method_of(exp)
    return tuple(
        f"{method}: {note.text}"
        for note in (*NOTES.get(method, ()), *OF_ALL)
        if note.when(config, scale)
    )
