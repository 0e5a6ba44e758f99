"""What a training begins from: pre-trained weights, or the network of a finished run."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
from etils import epath
from flax import traverse_util

from experiments import build
from experiments.config import Config
from experiments.workdir import read_results
from reid_jax import pretrained
from reid_jax.embedder import TRAINING_FILE, read_training
from reid_jax.files import read_json
from reid_jax.preprocess import Preprocess

__all__ = ["Start", "earlier_trainings", "with_variables_of"]

SHOWN_DIFFERENCES = 8


class Start:
    """Changes fresh variables into those that a training begins with.

    Attributes:
        facts: where they came from, for the results; None from scratch.
        trainings: what a run that is started from was trained on.
    """

    def __init__(self, config: Config, model: nn.Module, *, data_source: str) -> None:
        """Makes it.

        Args:
            config: with `model.weights` and `model.start_from`.
            model: that is trained.
            data_source: 'official', 'custom' or 'stand-in', of the run's data.

        Raises:
            FileNotFoundError: if `model.start_from` is no finished run.
            ModuleNotFoundError: if `model.weights` is a name whose package is not installed.
            ValueError: if that package's file is another one.
        """
        if config.model.weights in pretrained.PACKAGED:
            pretrained.packaged_weights(config.model.weights)
        self._config, self._model, self._data_source = config, model, data_source
        self.facts: dict[str, Any] | None = None
        self.trainings = earlier_trainings(config)

    @property
    def is_scratch(self) -> bool:
        """Whether the config has neither weights nor a run to start from."""
        return not (self._config.model.weights or self._config.model.start_from)

    def preprocess(self, own: Preprocess) -> Preprocess:
        """What the network sees, with the mean of the run `model.start_from` for `data.mean=start`.

        Raises:
            FileNotFoundError: if that is no finished run.
            ValueError: if its mean image is of another size.
        """
        if self._config.data.mean != "start":
            return own
        start = _finished(self._config.model.start_from)
        theirs = Preprocess.from_json(read_json(start / TRAINING_FILE)["embedder"]["preprocess"])
        if theirs.size != own.size:
            raise ValueError(
                f"data.mean=start: model.start_from={start} sees images of {theirs.size}, and here "
                f"they are of {own.size}: give its data.image_size, or data.mean=image"
            )
        return dataclasses.replace(own, mean=theirs.mean)

    def __call__(self, variables: Any) -> Any:
        """The variables with weights and with another run's network, where the config has them.

        Raises:
            FileNotFoundError: if a file or a finished run is missing.
            ValueError: if it does not fit, or was trained on other data.
        """
        if self._config.model.weights:
            variables = self._with_weights(variables)
        if self._config.model.start_from:
            variables = self._with_run(variables)
        return variables

    def _with_weights(self, variables: Any) -> Any:
        """The weights in the network, or in the backbone of a siamese one."""
        backbone = getattr(self._model, "backbone", None)
        path = self._config.model.weights
        prefix = self._config.model.weights_prefix
        if backbone is None:
            loaded, self.facts = pretrained.load_weights(
                path, self._model, variables, prefix=prefix
            )
            return loaded
        own = {name: tree["backbone"] for name, tree in variables.items() if "backbone" in tree}
        loaded, self.facts = pretrained.load_weights(path, backbone, own, prefix=prefix)
        changed = {k: {**variables[k], "backbone": tree} for k, tree in loaded.items()}
        return {**variables, **changed}

    def _with_run(self, variables: Any) -> Any:
        """The network of the run `model.start_from`, but for the head."""
        start = _finished(self._config.model.start_from)
        results = read_results(start)
        if results.data_source == "stand-in" != self._data_source:
            raise ValueError(
                f"model.start_from={start} was trained on stand-in data, and the data here is "
                f"{self._data_source}: train it on such data too"
            )
        record, _, theirs = read_training(start)
        try:
            changed, taken = with_variables_of(variables, theirs)
        except ValueError as error:
            raise ValueError(f"model.start_from={start} ({results.exp}): {error}") from error
        self.facts = {
            "start_from": str(start),
            **{n: getattr(results, n) for n in ("exp", "scale", "seed", "steps", "trained_on")},
            "training_fingerprint": record["data"]["fingerprint"],
            **taken,
        }
        return changed


def earlier_trainings(config: Config) -> list[dict[str, Any]]:
    """What is known of the images that the run `model.start_from` was trained on; [] without one.

    Raises:
        FileNotFoundError: if that is no finished run.
    """
    if not config.model.start_from:
        return []
    own = read_json(_finished(config.model.start_from) / TRAINING_FILE)["data"]
    return [own, *own.get("earlier", ())]


def _finished(start_from: str) -> epath.Path:
    start = epath.Path(start_from).expanduser()
    if not (start / "results.json").exists():
        raise FileNotFoundError(
            f"model.start_from={start} is not the work directory of a finished run: it holds no "
            "results.json; finish that run first, or give another"
        )
    return start


def with_variables_of(variables: Any, others: Any) -> tuple[Any, dict[str, Any]]:
    """The variables of a network with all but its identification head from another training of it.

    Args:
        variables: the network's own, fresh.
        others: of the other training, whose identities may be others.
    Returns:
        The variables; and a report: `matched`, the number of tensors that were taken, and
        `kept`, the names of those that are as they were.
    Raises:
        ValueError: if the two are not of the same network, with what differs.
    """
    head = build.IDENTIFICATION_HEAD
    own, theirs = (traverse_util.flatten_dict(tree, sep="/") for tree in (variables, others))
    kept = [name for name in own if head in name.split("/")]
    taken = {k: v for k, v in theirs.items() if head not in k.split("/")}
    here = {name: list(leaf.shape) for name, leaf in own.items() if name not in kept}
    there = {name: list(leaf.shape) for name, leaf in taken.items()}
    differing = [
        f"{name}: {there.get(name, 'absent')} there, {here.get(name, 'absent')} here"
        for name in {**here, **there}
        if there.get(name) != here.get(name)
    ]
    if differing:
        more = len(differing) - SHOWN_DIFFERENCES
        listed = differing[:SHOWN_DIFFERENCES] + ([f"and {more} more"] if more > 0 else [])
        raise ValueError("it is of another network:\n  " + "\n  ".join(listed))
    report = {"matched": len(taken), "kept": kept}
    empty = {name: {} for name, tree in variables.items() if not tree}
    return {**empty, **traverse_util.unflatten_dict({**own, **taken}, sep="/")}, report
