"""What protocols compare: an embedder, one that embeds each source once, or given features."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from reid_jax import evaluation
from reid_jax.data import Source
from reid_jax.embedder import Embedder, Images, Scoring

__all__ = ["Embeds", "EmbedsOnce", "GivenFeatures"]

UNIT = 1e-3
"""Rows whose lengths differ from 1 by less are taken for unit vectors."""


class Embeds(Protocol):
    """What a protocol asks of an embedder; `reid_jax.Embedder` says what each is."""

    @property
    def model(self) -> Any: ...

    @property
    def scoring(self) -> Scoring: ...

    @property
    def scores_pairs(self) -> bool: ...

    @property
    def trainings(self) -> list[Mapping[str, Any]]: ...

    @property
    def distance_name(self) -> str: ...

    def check(self) -> None: ...

    def __call__(self, images: Source, /) -> np.ndarray: ...

    def distance_of(self, images: Source, /) -> evaluation.DistanceOf: ...


@dataclasses.dataclass(frozen=True, eq=False)
class EmbedsOnce(Embedder):
    """An embedder that keeps the embeddings of a source for as long as the source is there."""

    _known: weakref.WeakKeyDictionary[Source, np.ndarray] = dataclasses.field(
        default_factory=weakref.WeakKeyDictionary, repr=False
    )

    @classmethod
    def of(cls, embedder: Embedder) -> EmbedsOnce:
        """The same embedder, which keeps what it embeds.

        Args:
            embedder: is left as it is.
        """
        fields = dataclasses.fields(Embedder)
        return cls(**{field.name: getattr(embedder, field.name) for field in fields})

    def __call__(self, images: Images) -> np.ndarray:
        """Embeds images, those of a source once; see `Embedder`."""
        if not isinstance(images, Source):
            return super().__call__(images)
        if images not in self._known:
            self._known[images] = super().__call__(images)
        return self._known[images]


class GivenFeatures:
    """Features made elsewhere, in the place of an embedder.

    Rows are scaled to unit length with `normalise`, and left as they are where all of them are of
    that length already.

    Args:
        features: (source, [N, D] in the order of its images) for all that is compared.
        where: what they are, for messages: their file.
        normalise: scales rows to unit length.

    Raises:
        ValueError: if there is no number of rows or columns that fits, or numbers are not finite.
    """

    model = None
    scores_pairs = False

    def __init__(
        self,
        features: Sequence[tuple[Source, np.ndarray]],
        *,
        where: str,
        normalise: bool = True,
    ) -> None:
        self.where = where
        self.scoring = Scoring(normalise=normalise)
        self._features: list[tuple[Source, np.ndarray]] = []
        for source, given in features:
            rows = np.asarray(given)
            if rows.ndim != 2 or len(rows) != len(source):
                raise ValueError(
                    f"{where}: the features of {source.split} have the shape {rows.shape}, "
                    f"expected a row for each of {len(source)} images"
                )
            rows = rows.astype(np.result_type(rows.dtype, np.float32), copy=False)
            if not np.isfinite(rows).all():
                row = int(np.argmin(np.isfinite(rows).all(axis=1)))
                raise ValueError(
                    f"{where}: the features of {source.split} hold nan or infinite numbers, first "
                    f"in row {row} ({source.files[row]}): make them again"
                )
            self._features.append((source, _unit_rows(rows) if normalise else rows))
        columns = {source.split: rows.shape[1] for source, rows in self._features}
        if len(set(columns.values())) > 1:
            told = ", ".join(f"{split} {number}" for split, number in columns.items())
            raise ValueError(
                f"{where}: the features have different numbers of columns ({told}): all must come "
                "from one model"
            )

    @property
    def trainings(self) -> list[Mapping[str, Any]]:
        """None: what the features' model was trained on is not known."""
        return []

    @property
    def distance_name(self) -> str:
        """What the distances are, for an axis or a heading."""
        return "squared Euclidean distance" + " of unit vectors" * self.scoring.normalise

    def check(self) -> None:
        """Nothing can be wrong that was not when they were given."""

    def __call__(self, images: Source, /) -> np.ndarray:
        """The features of a source.

        Args:
            images: one of the sources that features were given of.

        Raises:
            ValueError: if it is none of them.
        """
        for source, rows in self._features:
            if source is images:
                return rows
        splits = ", ".join(source.split for source, _ in self._features)
        raise ValueError(f"{self.where} has no features of {images.split}; it has {splits}")

    def distance_of(self, images: Source, /) -> evaluation.DistanceOf:
        """Distances between the images of a source, by row; see `Embedder.distance_of`."""
        return evaluation.feature_distances(self(images))


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if (np.abs(lengths - 1) < UNIT).all():
        return rows
    return rows / np.maximum(lengths, np.finfo(rows.dtype).tiny)
