"""From images to what is compared: one interface over embeddings and over scores of pairs."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import safetensors.numpy
from etils import epath
from flax import traverse_util

from reid_jax import data, evaluation, models
from reid_jax.checkpoint import Checkpoints
from reid_jax.data import ImageList, Source
from reid_jax.distances import squared_euclidean
from reid_jax.evaluation import Decision, Verdict
from reid_jax.files import read_json, write_atomically
from reid_jax.preprocess import Preprocess
from reid_jax.scoring import (
    TEST_MODES,
    Embed,
    Scoring,
    check_scoring,
    embed_function,
    pair_functions,
)

__all__ = [
    "DECISION_FILE",
    "FORMAT",
    "TEST_MODES",
    "TRAINING_FILE",
    "Embedder",
    "Images",
    "Scoring",
    "read_training",
]

FORMAT = 1
"""Version of the files that `Embedder.save` writes."""

TRAINING_FILE = "training.json"
"""What a training keeps beside its checkpoints; `reid_jax.fit` writes it."""

DECISION_FILE = "decision.json"
"""What `reid_jax.decide.write` adds to it."""

RECORD_FILE, VARIABLES_FILE = "embedder.json", "variables.safetensors"
Images = Source | Sequence[Any] | np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Embedder:
    """A network with its variables and all that it needs at test.

    `embedder(images)` gives an embedding of each image, `embedder.distances(queries, gallery)`
    the distances between images; a network that scores pairs (csn) has only those. Images are
    paths, uint8 RGB arrays [H, W, 3], or a `Source`, of any number: they are
    read and embedded batch by batch.

    Attributes:
        model: the network for single images, without a head, or the one that scores pairs.
        variables: of the network.
        preprocess: what the network sees of an image.
        scoring: how images are embedded and compared.
        provenance: what the network was trained on, and by what; JSON.
        decision: thresholds and a probability of its distances; None: not measured.
    """

    model: nn.Module
    variables: Any = dataclasses.field(repr=False)
    preprocess: Preprocess
    scoring: Scoring = dataclasses.field(default_factory=Scoring)
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    decision: Decision | None = dataclasses.field(default=None, repr=False)

    @property
    def scores_pairs(self) -> bool:
        """Whether the network compares pairs as wholes: no single image has an embedding."""
        return getattr(self.model, "scores_pairs", False)

    @property
    def trainings(self) -> list[Mapping[str, Any]]:
        """What is known of the images of each training that the variables went through."""
        own = self.provenance.get("data")
        return [own, *own.get("earlier", ())] if own else []

    @property
    def distance_name(self) -> str:
        """What the distances are, for an axis or a heading."""
        if not self.scores_pairs:
            unit = " of unit vectors" if self.scoring.normalise else ""
            return "squared Euclidean distance" + unit
        name = "minus the similarity score"
        if shortlist := self.scoring.shortlist:
            name += f" (behind a shortlist of {shortlist}, above it: by descriptor)"
        return name

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) to which an image is resized at test."""
        dense = self.scoring.test_mode == "dense_flip"
        return self.preprocess.size if dense else self.preprocess.input_size

    def check(self) -> None:
        """Refuses what the network cannot do at test, before any work.

        Raises:
            ValueError: if the test mode, or the scoring of pairs, does not fit the network.
        """
        check_scoring(self.model, self.preprocess, self.scoring)

    # Embeddings --------------------------------------------------------------------------------

    @property
    def embed(self) -> Embed:
        """`embed(variables, images [B, H, W, 3]) -> [B, D]`, for images of any one size.

        Raises:
            ValueError: if the network scores pairs.
        """
        if self.scores_pairs:
            raise ValueError(
                f"{type(self.model).__name__} scores pairs of images and has no embedding of a "
                "single one: use distances(queries, gallery)"
            )
        self.check()
        return embed_function(self.model, self.preprocess, self.scoring)

    def __call__(self, images: Images) -> np.ndarray:
        """Embeds images.

        Args:
            images: N paths, uint8 RGB arrays, or a source.

        Returns:
            [N, D] float32, of unit length if `scoring.normalise`.

        Raises:
            ValueError: if there is no image, some cannot be read (all are named), or the network
                scores pairs.
        """
        return self._embedded(self.embed, data.as_images(images))

    def _embedded(self, embed: Embed, listed: ImageList) -> np.ndarray:
        batch_size = self._batch_size(len(listed))
        with data.naming_unreadable(listed):
            return evaluation.extract_features(
                embed,
                self.variables,
                lambda rows: self._batches(listed, rows, batch_size),
                num_images=len(listed),
                batch_size=batch_size,
                description=f"embedding {getattr(listed, 'split', 'images')}",
            )

    def _batch_size(self, num_images: int) -> int:
        if getattr(self.model, "test_statistics", "running") == "batch":
            return num_images  # Batch norm sees the whole list at once.
        return min(self.scoring.batch_size, 1 << (num_images - 1).bit_length())

    def _batches(self, images: ImageList, rows: slice, batch_size: int) -> Iterator[np.ndarray]:
        return data.image_batches(images, self.input_size, batch_size=batch_size, rows=rows)

    # Distances ---------------------------------------------------------------------------------

    def distances(self, queries: Images, gallery: Images) -> np.ndarray:
        """Compares each query with each gallery image.

        Args:
            queries: Q images.
            gallery: G images.

        Returns:
            [Q, G] float32, smaller is more alike: squared Euclidean, or minus the score of a pair.

        Raises:
            ValueError: as `__call__`.
        """
        if not self.scores_pairs:
            return np.asarray(squared_euclidean(self(queries), self(gallery)))
        sides = data.as_images(queries), data.as_images(gallery)
        rows = np.arange(len(sides[0]) + len(sides[1]))
        distance_of = self.distance_of(data.JoinedLists(*sides))
        return distance_of(rows[: len(sides[0])], rows[len(sides[0]) :])

    def distance_of(self, images: Images | data.JoinedLists) -> evaluation.DistanceOf:
        """Distances between the images of one list, by row.

        Args:
            images: N images.

        Returns:
            `distance_of(query_rows [Q], gallery_rows [G]) -> [Q, G]`, smaller is more alike.

        Raises:
            ValueError: as `__call__`.
        """
        listed = data.as_images(images)
        if self.scores_pairs:
            return self._scorer(listed).distance_of
        if getattr(self.model, "test_statistics", "running") == "batch":
            return self._distance_of_sides(listed)
        known = self(images) if isinstance(images, Source) else self._embedded(self.embed, listed)
        return evaluation.feature_distances(known)

    def _scorer(self, images: ImageList) -> evaluation.PairScorer:
        embed_parts, score = pair_functions(self.model, self.preprocess, self.scoring)
        batch_size = self._batch_size(len(images))
        with data.naming_unreadable(images):
            cache = evaluation.cache_images(
                embed_parts,
                self.variables,
                lambda rows: self._batches(images, rows, batch_size),
                image=jax.ShapeDtypeStruct((1, *self.input_size, 3), np.uint8),
                num_images=len(images),
                batch_size=batch_size,
                description=f"embedding {getattr(images, 'split', 'images')}",
            )
        return evaluation.PairScorer(
            score,
            self.variables,
            cache,
            block_size=self.scoring.pairs_per_block,
            shortlist=self.scoring.shortlist or None,
        )

    def _distance_of_sides(self, images: ImageList) -> evaluation.DistanceOf:
        """Distances for which all queries are one batch, and all gallery images another."""
        embed_batch = jax.jit(self.embed)

        def distance_of(query_rows: np.ndarray, gallery_rows: np.ndarray) -> np.ndarray:
            sides = (
                embed_batch(
                    self.variables, np.stack([images.image(row, self.input_size) for row in rows])
                )
                for rows in (query_rows, gallery_rows)
            )
            return np.asarray(squared_euclidean(*sides))

        return distance_of

    # Same or different -------------------------------------------------------------------------

    def known_decision(self) -> Decision:
        """The decision, where one must be there.

        Raises:
            ValueError: if there is none, or it was measured on other distances, with what to do.
        """
        how = (
            "measure them with reid_jax.decide.measure on people that were kept apart, and save "
            "the model with_decision; reid-jax train and experiments/run.py do so after a training"
        )
        if self.decision is None:
            raise ValueError(f"this model has no threshold and no probability: {how}")
        here = self.distance_name.partition(" (behind")[0]  # Two images alone need no shortlist.
        if self.decision.distance != here:
            raise ValueError(
                f"the thresholds are of {self.decision.distance}, and the distances are {here}: "
                f"{how}"
            )
        return self.decision

    def with_decision(self, decision: Decision | None) -> Embedder:
        """The same embedder with another decision."""
        return dataclasses.replace(self, decision=decision)

    def same(self, a: Any, b: Any, *, false_accept_rate: float | None = None) -> Verdict:
        """Decides whether two images show one person; `reid_jax.decide.same_pairs` does many.

        Args:
            a: a path or a uint8 RGB array [H, W, 3].
            b: likewise.
            false_accept_rate: at which the threshold was measured, one of `decision.rates`; None
                takes the point of equal error.

        Raises:
            ValueError: as `known_decision`, `Decision.threshold` and `__call__`.
        """
        decision = self.known_decision()
        decision.threshold(false_accept_rate)  # Before the images are looked at.
        return decision.verdict(self.distances([a], [b])[0, 0], false_accept_rate)

    # Files -------------------------------------------------------------------------------------

    def as_json(self) -> dict[str, Any]:
        """All but the variables, as `save` and a run keep it."""
        return {
            "format": FORMAT,
            "network": models.describe(self.model),
            "preprocess": self.preprocess.as_json(),
            "scoring": dataclasses.asdict(self.scoring),
            "provenance": dict(self.provenance),
            "decision": self.decision and self.decision.as_json(),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any], variables: Any, *, where: str) -> Embedder:
        """The embedder of a record and its variables.

        Args:
            record: of `as_json`.
            variables: `params` and `batch_stats`, NumPy arrays.
            where: the record's place, for messages.

        Raises:
            ValueError: if the record is of another version or was damaged, or the variables do not
                fit.
        """
        if record.get("format") != FORMAT:
            raise ValueError(
                f"{where} is of format {record.get('format')}, and this version of reid_jax reads "
                f"format {FORMAT}: save the model again, or use the version that made it"
            )
        # Files of before there were decisions do not have the key.
        decision = record.get("decision")
        if decision is not None:
            decision = Decision.from_json(decision, where=f"decision in {where}")
        try:
            made = cls(
                model=models.from_description(record["network"]),
                variables=variables,
                preprocess=_preprocess_of(json.dumps(record["preprocess"])),
                scoring=Scoring(**record["scoring"]),
                provenance=record["provenance"],
                decision=decision,
            )
        except (KeyError, TypeError, ValueError) as error:
            reason = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{where} does not describe a model: {reason}") from error
        if problems := models.misfits(variables, made.expected_variables()):
            raise ValueError(
                f"the variables in {where} do not fit its network:\n  " + "\n  ".join(problems)
            )
        return made

    def expected_variables(self) -> Any:
        """Shapes of the network's variables."""
        shapes = models.expected_variables(self.model, self.preprocess.input_size)
        return jax.tree.map(lambda leaf: leaf, shapes)

    def save(self, directory: epath.PathLike) -> None:
        """Writes the model as a folder: variables as safetensors, all else as JSON.

        Args:
            directory: new, empty, or holding a saved model, which is replaced.

        Raises:
            FileExistsError: if the directory holds something else.
        """
        directory = epath.Path(directory).expanduser()
        record = self.as_json()
        if directory.exists() and not _is_saved(directory) and not _is_empty(directory):
            raise FileExistsError(
                f"{directory} holds something that is no saved model: give another directory"
            )
        flat = traverse_util.flatten_dict(jax.device_get(self.variables), sep="/")
        content = safetensors.numpy.save(
            {name: np.ascontiguousarray(leaf) for name, leaf in flat.items()}
        )
        record["variables_sha256"] = hashlib.sha256(content).hexdigest()
        # The record goes last and names the digest, so half a model is never taken for a whole one.
        write_atomically(directory / VARIABLES_FILE, content)
        write_atomically(directory / RECORD_FILE, json.dumps(record, indent=2) + "\n")

    @classmethod
    def load(cls, directory: epath.PathLike) -> Embedder:
        """Opens a model that `save` wrote.

        Raises:
            FileNotFoundError: if the directory holds none.
            ValueError: if it is of another version, damaged, or does not fit together.
        """
        directory = epath.Path(directory).expanduser()
        path = directory / RECORD_FILE
        if not path.exists():
            hint = ""
            if (directory / "training.json").exists():
                hint = "; it is the work directory of a training: use Embedder.from_run"
            raise FileNotFoundError(f"{directory} is no saved model: it holds no {path.name}{hint}")
        record = read_json(path)
        variables_path = directory / VARIABLES_FILE
        if not variables_path.exists():
            raise FileNotFoundError(f"{variables_path} is missing: save the model again")
        content = variables_path.read_bytes()
        if hashlib.sha256(content).hexdigest() != record.get("variables_sha256"):
            raise ValueError(
                f"{variables_path} is not the file that {path.name} was written with (its SHA-256 "
                "differs): save or copy the model again"
            )
        flat = safetensors.numpy.load(content)
        nested = traverse_util.unflatten_dict(flat, sep="/")
        variables = {"batch_stats": {}, **nested}
        return cls.from_json(record, variables, where=str(directory))

    @classmethod
    def from_run(cls, workdir: epath.PathLike) -> Embedder:
        """Opens the network of a training: its best state on validation, else its last.

        A decision that the training left (`decision.json`) comes with it.

        Args:
            workdir: that `reid_jax.fit` or `experiments/run.py` wrote.

        Raises:
            FileNotFoundError: if the directory holds no training, or no checkpoint yet.
            ValueError: as `load`.
        """
        record, model, trained = read_training(workdir)
        _, variables = models.single_image(model, trained)
        measured = epath.Path(workdir).expanduser() / DECISION_FILE
        decision = read_json(measured) if measured.exists() else None
        own = record["embedder"] | {"decision": decision}
        return cls.from_json(own, variables, where=str(workdir))


def read_training(workdir: epath.PathLike) -> tuple[dict[str, Any], nn.Module, Any]:
    """Opens what a training left: its best state on validation, else its last.

    Args:
        workdir: that `reid_jax.fit` or `experiments/run.py` wrote.

    Returns:
        (record, model, variables): what stands in `training.json`; the network that was trained,
        heads included; and its variables.

    Raises:
        FileNotFoundError: if the directory holds no training, or no checkpoint yet.
        ValueError: if the network is the caller's own, or the variables do not fit it.
    """
    workdir = epath.Path(workdir).expanduser()
    path = workdir / TRAINING_FILE
    if not path.exists():
        hint = "; it is a saved model: use Embedder.load" if _is_saved(workdir) else ""
        raise FileNotFoundError(
            f"{workdir} is not the work directory of a training: it holds no {path.name}{hint}"
        )
    record = read_json(path)
    if record["network"] is None:
        raise ValueError(
            f"{workdir} trained a network of one's own, which a file cannot name: restore its "
            "variables with reid_jax.checkpoint.Checkpoints"
        )
    model = models.from_description(record["network"])
    size = Preprocess.from_json(record["preprocess"]).input_size
    checkpoints = Checkpoints(workdir)
    try:
        restored = checkpoints.restore_variables(models.expected_variables(model, size))
    finally:
        checkpoints.close()
    if restored is None or "embedder" not in record:
        raise FileNotFoundError(f"{workdir} holds no checkpoint yet: run its command first")
    return record, model, restored


def _is_saved(directory: epath.Path) -> bool:
    return (directory / RECORD_FILE).exists()


def _is_empty(directory: epath.Path) -> bool:
    return directory.is_dir() and not any(directory.iterdir())


@functools.lru_cache(maxsize=16)
def _preprocess_of(text: str) -> Preprocess:
    # One object for one text, so that a model that is opened again shares what is compiled.
    return Preprocess.from_json(json.loads(text))
