"""Stand-in data sets: rendered pedestrians in the official layouts of real ones."""

from data_prep.stand_in.contact_sheet import contact_sheet
from data_prep.stand_in.cuhk03 import CUHK03_FULL, Cuhk03Counts, cuhk03_plan, write_cuhk03
from data_prep.stand_in.difficulty import DEFAULT_DIFFICULTY, Difficulty
from data_prep.stand_in.image import ORIENTATIONS, RENDERER_VERSION, render, render_distractor
from data_prep.stand_in.landmark_photos import render_landmark, render_street
from data_prep.stand_in.landmark_sets import (
    OXFORD5K_FULL,
    PlannedPhoto,
    landmarks_plan,
    oxford5k_plan,
    write_landmarks,
    write_oxford5k,
)
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
from data_prep.stand_in.small_sets import (
    cuhk01_plan,
    pku_reid_plan,
    viper_plan,
    write_cuhk01,
    write_pku_reid,
    write_viper,
)
from data_prep.stand_in.writers import (
    CARD,
    write_distractors_500k,
    write_dukemtmc,
    write_market1501,
)

__all__ = [
    "CARD",
    "CUHK03_FULL",
    "DEFAULT_DIFFICULTY",
    "DUKEMTMC_FULL",
    "MARKET1501_FULL",
    "ORIENTATIONS",
    "OXFORD5K_FULL",
    "RENDERER_VERSION",
    "Cuhk03Counts",
    "Difficulty",
    "DukeCounts",
    "MarketCounts",
    "PlannedImage",
    "PlannedPhoto",
    "contact_sheet",
    "cuhk01_plan",
    "cuhk03_plan",
    "distractors_500k_plan",
    "dukemtmc_plan",
    "landmarks_plan",
    "market1501_plan",
    "oxford5k_plan",
    "pku_reid_plan",
    "render",
    "render_distractor",
    "render_landmark",
    "render_street",
    "viper_plan",
    "write_cuhk01",
    "write_cuhk03",
    "write_distractors_500k",
    "write_dukemtmc",
    "write_landmarks",
    "write_market1501",
    "write_oxford5k",
    "write_pku_reid",
    "write_viper",
]
