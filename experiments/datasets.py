"""Where a run's data comes from: a directory of prepared data sets, or rendered stand-ins."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from etils import epath

from data_prep import stand_in
from data_prep.prepare import locked, prepare
from reid_jax import parallel
from reid_jax.files import cache_dir

__all__ = ["prepared_stand_ins", "provide"]


def _distractors(raw_dir: epath.Path, *, full: bool, progress: bool) -> epath.PathLike:
    number = 500_000 if full else 4_000
    return stand_in.write_distractors_500k(raw_dir, num_images=number, progress=progress)


def _landmarks(raw_dir: epath.Path, *, full: bool, progress: bool) -> epath.PathLike:
    number = 700 if full else 60
    return stand_in.write_landmarks(raw_dir, num_landmarks=number, progress=progress)


WRITERS = {
    "market1501": functools.partial(stand_in.write_market1501, multi_query=True),
    "dukemtmc": stand_in.write_dukemtmc,
    "distractors_500k": _distractors,
    "cuhk03": stand_in.write_cuhk03,
    "cuhk01": stand_in.write_cuhk01,
    "viper": stand_in.write_viper,
    "pku_reid": stand_in.write_pku_reid,
    "oxford5k": stand_in.write_oxford5k,
    "landmarks": _landmarks,
}
"""`WRITERS[dataset](raw_dir, full=..., progress=...) -> path of the tree`"""

WITHOUT_VALIDATION = ("distractors_500k", "cuhk03", "cuhk01", "viper", "pku_reid", "oxford5k")
"""Data sets without a train split, from which validation identities could be kept out."""


def prepared_stand_ins(
    datasets: Iterable[str], *, scale: str, num_val_identities: int = 0
) -> epath.Path:
    """Renders and prepares stand-ins of data sets, each once, and returns their data directory.

    Args:
        datasets: that have a renderer.
        scale: 'small' renders a few thousand images, 'paper' the official counts.
        num_val_identities: of the training identities, kept out for validation.
    Raises:
        ValueError: if there is no stand-in of a data set.
    """
    root = cache_dir() / "stand_in" / f"{scale}-v{stand_in.RENDERER_VERSION}"
    data_dir = root / (f"prepared-val{num_val_identities}" if num_val_identities else "prepared")
    for dataset in datasets:
        if dataset not in WRITERS:
            raise ValueError(
                f"there is no stand-in of {dataset!r} (there is of {', '.join(sorted(WRITERS))}): "
                "give the --data_dir in which it is prepared."
            )
        raw_dir = root / "raw" / dataset
        # Every process does so: hosts may have a cache each, and the renderer is deterministic.
        with locked(raw_dir, dataset):
            progress = not (data_dir / dataset).exists() and parallel.is_main_process()
            if progress:
                print(f"No --data_dir: rendering and preparing a stand-in of {dataset} in {root}.")
            tree = WRITERS[dataset](raw_dir, full=scale == "paper", progress=progress)
            carved = 0 if dataset in WITHOUT_VALIDATION else num_val_identities
            prepare(dataset, tree, data_dir, num_val_identities=carved, progress=progress)
    return data_dir


def provide(data_dir: epath.PathLike, datasets: Iterable[str]) -> None:
    """Prepares what is missing, if the directory is one of stand-ins; another is left alone."""
    data_dir = epath.Path(data_dir)
    for scale in ("small", "paper"):
        if data_dir == prepared_stand_ins((), scale=scale):
            prepared_stand_ins(datasets, scale=scale)
