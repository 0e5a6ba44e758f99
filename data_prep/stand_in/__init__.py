"""Stand-in data sets: rendered pedestrians in the official layouts of real ones."""

from data_prep.stand_in.contact_sheet import contact_sheet
from data_prep.stand_in.difficulty import DEFAULT_DIFFICULTY, Difficulty
from data_prep.stand_in.image import ORIENTATIONS, RENDERER_VERSION, render, render_distractor
from data_prep.stand_in.plans import (
    DUKEMTMC_FULL,
    MARKET1501_FULL,
    DukeCounts,
    MarketCounts,
    PlannedImage,
    distractors_500k_plan,
    dukemtmc_plan,
    market1501_plan,
)
from data_prep.stand_in.writers import (
    CARD,
    write_distractors_500k,
    write_dukemtmc,
    write_market1501,
)

__all__ = [
    "CARD",
    "DEFAULT_DIFFICULTY",
    "DUKEMTMC_FULL",
    "MARKET1501_FULL",
    "ORIENTATIONS",
    "RENDERER_VERSION",
    "Difficulty",
    "DukeCounts",
    "MarketCounts",
    "PlannedImage",
    "contact_sheet",
    "distractors_500k_plan",
    "dukemtmc_plan",
    "market1501_plan",
    "render",
    "render_distractor",
    "write_distractors_500k",
    "write_dukemtmc",
    "write_market1501",
]
