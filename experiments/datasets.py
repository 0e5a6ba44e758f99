"""Where a run's data comes from: a directory of prepared data sets, or a rendered stand-in."""

from __future__ import annotations

import os

from etils import epath

from data_prep import stand_in
from data_prep.prepare import locked, prepare
from reid_jax import parallel

__all__ = ["cache_dir", "prepared_stand_in"]

WRITERS = {"market1501": stand_in.write_market1501, "dukemtmc": stand_in.write_dukemtmc}


def cache_dir() -> epath.Path:
    """The user's cache directory for this program."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return epath.Path(root) / "reid_jax"


def prepared_stand_in(dataset: str, *, scale: str, num_val_identities: int = 0) -> epath.Path:
    """Renders and prepares the stand-in of a data set, once, and returns its data directory.

    Args:
        dataset: that has a renderer.
        scale: 'small' renders a few thousand images, 'paper' the official counts.
        num_val_identities: of the training identities, kept out for validation.
    Raises:
        ValueError: if there is no stand-in of this data set.
    """
    if dataset not in WRITERS:
        raise ValueError(
            f"there is no stand-in of {dataset!r} (there is of {', '.join(sorted(WRITERS))}): "
            "give the --data_dir in which it is prepared."
        )
    root = cache_dir() / "stand_in" / f"{dataset}-{scale}-v{stand_in.RENDERER_VERSION}"
    data_dir = root / (f"prepared-val{num_val_identities}" if num_val_identities else "prepared")
    # Every process does so: hosts may have a cache each, and the renderer is deterministic.
    with locked(root, dataset):
        progress = not (data_dir / dataset).exists() and parallel.is_main_process()
        if progress:
            print(f"No --data_dir: rendering and preparing a stand-in of {dataset} in {root}.")
        WRITERS[dataset](root / "raw", full=scale == "paper", progress=progress)
        prepare(
            dataset,
            root / "raw",
            data_dir,
            num_val_identities=num_val_identities,
            progress=progress,
        )
    return data_dir
