"""From a network and images to an embedder: `fit` reads in the order in which a training goes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from etils import epath

from reid_jax import data, evaluation, models, parallel
from reid_jax.checkpoint import Checkpoints, has_checkpoint
from reid_jax.embedder import FORMAT, TRAINING_FILE, Embedder, Scoring
from reid_jax.files import differences, read_json, write_atomically
from reid_jax.objectives import Objective
from reid_jax.preprocess import Preprocess
from reid_jax.training.loop import Intervals, Several, train
from reid_jax.training.state import TrainState, create_state
from reid_jax.training.step import (
    make_train_step,
    output_shapes,
    require_outputs,
    several_steps,
    with_resident_images,
)
from reid_jax.versions import versions

__all__ = [
    "batch_shapes",
    "example_images",
    "fit",
    "fits_on_device",
    "fresh_state",
    "trained_on",
    "training_labels",
]

RESIDENT_BYTES = 4 * 2**30
"""Decoded training images up to this size stay on each device."""

Validate = Callable[[Embedder], Mapping[str, float]]


def fit(
    model: nn.Module,
    objective: Objective,
    source: data.Source,
    *,
    sampler: data.Sampler,
    optimizer: optax.GradientTransformation,
    preprocess: Preprocess,
    num_steps: int,
    seed: int,
    workdir: epath.PathLike | None = None,
    validation: Validate | None = None,
    intervals: Intervals | None = None,
    scoring: Scoring | None = None,
    learning_rate: optax.Schedule | None = None,
    initial: Callable[[Any], Any] | None = None,
    earlier: Sequence[Mapping[str, Any]] = (),
    monitor: str = "map_step",
    num_parts: int = 1,
    steps_per_dispatch: int = 1,
) -> Embedder:
    """Trains a network and returns it as an embedder. The same call resumes.

    All local devices, and all processes of a job, share each batch; their number does not change
    the result. A run that was stopped goes on from its last checkpoint to the same parameters, bit
    for bit.

    Args:
        model: of `reid_jax.models`, or with the attributes of
            `Network`.
        objective: of `reid_jax.objectives`.
        source: the training images.
        sampler: over the rows of `source`; pairs for a network that takes pairs.
        optimizer: of all parameters.
        preprocess: what the network sees.
        num_steps: length of the training.
        seed: of initial parameters, augmentation and dropout.
        workdir: where checkpoints, metrics and the record go; None keeps nothing on disk.
        validation: `validation(embedder) -> {metric: score}`, such as
            `PROTOCOLS["single-query"].validation(subsets)`; the best state is returned.
        intervals: how often is logged, saved and validated; by default validated ten times if there
            is a validation.
        scoring: how the embedder embeds and compares.
        learning_rate: the optimizer's schedule, for the log.
        initial: `initial(variables) -> variables`: changes the fresh variables before the first
            step, such as by pre-trained ones.
        earlier: what the initial variables were trained on: `record["data"]` of those trainings,
            so that a test on their people is noticed too.
        monitor: the validation score of which the highest counts.
        num_parts: of a batch that go through the network one after another, for less memory; see
            `make_train_step`.
        steps_per_dispatch: that the devices take without the host in between, where nothing is due
            after the first of them; for short steps.

    Returns:
        The embedder, of the best state on validation, else of the last.

    Raises:
        ValueError: if the parts do not fit each other, or `workdir` belongs to another training.
        NonFiniteLossError: if the loss or its gradient is not finite.
        StoppedError: after an interrupt or a termination signal, with the state saved.
    """
    labels, num_identities = training_labels(source)
    _require_fit(model, sampler, source, num_identities)
    scoring = scoring or Scoring()
    intervals = intervals or Intervals(validate_every=-(-num_steps // 10) if validation else 0)
    devices = _devices(sampler.batch_size, num_parts)
    for note in sampler.notes:
        parallel.say(note)
    batch = batch_shapes(preprocess, sampler)
    state = fresh_state(model, optimizer, objective, labels, batch, jax.random.key(seed))

    with contextlib.ExitStack() as stack:
        if workdir is None:
            workdir = stack.enter_context(tempfile.TemporaryDirectory(prefix="reid_jax_"))
        place = epath.Path(workdir).expanduser()
        record = _claimed(
            place,
            {
                "format": FORMAT,
                "network": _description(model),
                "objective": _described(objective.loss),
                "sampler": {"name": type(sampler).__name__, "batch_size": sampler.batch_size},
                "preprocess": preprocess.as_json(),
                "num_steps": num_steps,
                "seed": seed,
                "num_identities": num_identities,
                "data": trained_on(source),
                **({"num_parts": num_parts} if num_parts > 1 else {}),
            },
        )
        checkpoints = Checkpoints(place)
        stack.callback(checkpoints.close)
        if initial is not None:
            state = dataclasses.replace(state, **initial(state.variables))
        record["data"] |= data.fingerprint_of_training(source) | {"earlier": list(earlier)}
        images = _resident_images(source, preprocess.size)
        if "embedder" in record:
            preprocess = Preprocess.from_json(record["embedder"]["preprocess"])
        else:
            preprocess = preprocess.fitted(_training_images(source, preprocess.size, images))
        single, variables = models.single_image(model, state.variables)
        embedder = Embedder(
            model=single,
            variables=variables,
            preprocess=preprocess,
            scoring=scoring,
            provenance={"data": record["data"], "versions": versions(), "steps": num_steps},
        )
        if record["network"] is not None:
            _write(place / TRAINING_FILE, record | {"embedder": embedder.as_json()})

        step: Callable[..., tuple[TrainState, dict[str, jax.Array]]] = make_train_step(
            model,
            optimizer,
            objective,
            axis_name=parallel.AXIS,
            preprocess=preprocess,
            num_parts=num_parts,
        )
        constants: tuple[Any, ...] = ()
        if images is not None:
            step = with_resident_images(step)
            constants = (parallel.replicate(images, devices),)
        several = None
        if steps_per_dispatch > 1:
            program = parallel.pmap_step(several_steps(step), devices)
            several = Several(steps_per_dispatch, program)
        refresh, refresh_every = _refresh(
            objective, single, model, preprocess, labels, sampler, devices, constants
        )

        def trained(state: TrainState) -> Embedder:
            _, variables = models.single_image(model, state.variables)
            return dataclasses.replace(embedder, variables=variables)

        final = train(
            state,
            parallel.pmap_step(step, devices),
            lambda first_step: data.batches(
                source,
                sampler,
                labels=labels,
                seed=seed,
                first_step=first_step,
                num_steps=num_steps - first_step,
                image_size=preprocess.size,
                host_rows=parallel.host_rows(sampler.batch_size),
                resident=images is not None,
            ),
            constants=constants,
            devices=devices,
            images_per_step=sampler.batch_size * sampler.images_per_row,
            num_steps=num_steps,
            intervals=intervals,
            checkpoints=checkpoints,
            workdir=place,
            learning_rate=learning_rate,
            validate=None if validation is None else lambda state: validation(trained(state)),
            monitor=monitor,
            refresh=refresh,
            refresh_every=refresh_every,
            several=several,
        )
        if validation is not None and (best := checkpoints.restore_best(state)) is not None:
            final, best_step = best
            parallel.say(f"Taking the state of step {best_step}, the best on validation.")
        provenance = {**embedder.provenance, "steps": int(final.step)}
        return dataclasses.replace(trained(final), provenance=provenance)


# Before any work -------------------------------------------------------------------------------


def training_labels(source: data.Source) -> tuple[np.ndarray, int]:
    """Numbers the training identities.

    Returns:
        labels [N] int32 in [0, K), and K.

    Raises:
        ValueError: if there are fewer than two, or an image is a distractor or junk.
    """
    labels, identity_of_label = data.identity_labels(source.identities)
    if len(identity_of_label) < 2:
        raise ValueError(
            f"the training split of {source.dataset} has {len(identity_of_label)} identity: there "
            "is nothing to tell apart; give images of at least two."
        )
    return labels, len(identity_of_label)


def _require_fit(
    model: nn.Module, sampler: data.Sampler, source: data.Source, num_identities: int
) -> None:
    head = getattr(model, "num_identities", None)
    if head is not None and head != num_identities:
        raise ValueError(
            f"the model has an identification head for {head} identities, and the training images "
            f"are of {num_identities}: build it with num_identities={num_identities}"
        )
    own, given = getattr(model, "num_images", 1), sampler.images_per_row
    if own != given:
        kinds = {1: "single images", 2: "pairs of images"}
        raise ValueError(
            f"{type(model).__name__} takes {kinds[own]}, and {type(sampler).__name__} gives "
            f"{kinds[given]}: take another sampler or another network"
        )
    sampled = sampler(0)
    rows = np.concatenate(sampled[:2]) if isinstance(sampled, tuple) else sampled
    if rows.max() >= len(source):
        raise ValueError(
            f"the sampler gives row {rows.max()}, and there are {len(source)} training images: "
            "make the sampler for this source"
        )


def example_images(model: nn.Module, size: tuple[int, int]) -> list[np.ndarray]:
    """One example input of a network: an image [1, *size, 3], or two."""
    return [np.zeros((1, *size, 3), np.float32)] * getattr(model, "num_images", 1)


def _devices(batch_size: int, num_parts: int) -> Any:
    if batch_size % num_parts:
        raise ValueError(
            f"a batch of {batch_size} rows has not {num_parts} equal parts: take a number of parts "
            "that divides it"
        )
    devices = parallel.usable_devices(batch_size // num_parts)
    if len(devices) < jax.local_device_count():
        part = f", in {num_parts} parts," if num_parts > 1 else ""
        parallel.say(
            f"A batch of {batch_size} rows{part} is divided over {len(devices)} of this host's "
            f"{jax.local_device_count()} devices, the largest number that divides it."
        )
    return devices


def fresh_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    labels: np.ndarray,
    batch: Mapping[str, Any],
    key: jax.Array,
) -> TrainState:
    """The state before the first step; the loss state is the objective's.

    Args:
        model: that is trained.
        optimizer: of all parameters.
        objective: of `reid_jax.objectives`.
        labels: of the training images.
        batch: shapes, as of `batch_shapes`.
        key: for the initial parameters.

    Raises:
        ValueError: if the objective needs an output that the model does not give.
    """
    image = batch["image_a" if "image_a" in batch else "image"]
    state = create_state(model, optimizer, *example_images(model, image.shape[1:3]), key=key)
    outputs = output_shapes(model, state.variables, batch)
    embedding = next((v for k, v in outputs.items() if k in ("embedding", "embedding_a")), None)
    # A network that scores pairs has no embedding, and its objective keeps none.
    dim = 0 if embedding is None else embedding.shape[-1]
    state = dataclasses.replace(state, loss_state=objective.init(labels, dim))
    require_outputs(objective, outputs, batch, state.loss_state)
    return state


def batch_shapes(preprocess: Preprocess, sampler: data.Sampler) -> dict[str, Any]:
    """Shapes of a batch of two rows, with images as the network sees them."""
    rows = 2
    single = {
        "image": jax.ShapeDtypeStruct((rows, *preprocess.input_size, 3), np.float32),
        "key": jax.ShapeDtypeStruct((rows, 2), np.uint32),
        **{n: jax.ShapeDtypeStruct((rows,), np.int32) for n in ("identity", "camera", "row")},
    }
    if sampler.images_per_row == 1:
        return single
    batch = {f"{name}_{side}": leaf for side in "ab" for name, leaf in single.items()}
    return batch | {"same": jax.ShapeDtypeStruct((rows,), np.bool_)}


# The record ------------------------------------------------------------------------------------


def trained_on(source: data.Source) -> dict[str, Any]:
    """What a record says of a list of images: data set, split, number and fingerprint."""
    return {
        "dataset": source.dataset,
        "split": source.split,
        "num_images": len(source),
        "fingerprint": evaluation.fingerprint(source.files, source.identities, source.cameras),
    }


def _claimed(workdir: epath.Path, record: dict[str, Any]) -> dict[str, Any]:
    """The record of a training, once it is sure that the work directory is its own."""
    path = workdir / TRAINING_FILE
    if has_checkpoint(workdir) and path.exists():
        known = read_json(path)
        differing = differences(known, json.loads(json.dumps(record)))
        if differing:
            raise ValueError(
                f"{workdir} belongs to another training:\n  "
                + "\n  ".join(differing)
                + "\nGive another work directory, or delete that one."
            )
        return known
    _write(path, record)
    parallel.barrier("work directory claimed")
    return record


def _write(path: epath.Path, content: Mapping[str, Any]) -> None:
    if parallel.is_main_process():
        write_atomically(path, json.dumps(content, indent=2) + "\n")


def _description(model: nn.Module) -> dict[str, Any] | None:
    try:
        return models.describe(model)
    except ValueError:
        return None  # A network of the caller's own, which a file cannot name.


def _described(loss: Any) -> dict[str, Any]:
    """The name and the constants of an objective's loss, as far as they can be written."""
    function = getattr(loss, "func", loss)
    constants = getattr(loss, "keywords", {})
    plain = (bool, int, float, str, type(None))
    return {"name": getattr(function, "__name__", type(function).__name__).lstrip("_")} | {
        name: value if isinstance(value, plain) else getattr(value, "name", type(value).__name__)
        for name, value in constants.items()
    }


# Images and refreshes --------------------------------------------------------------------------


def fits_on_device(source: data.Source, size: tuple[int, int]) -> bool:
    """Whether decoded images of this size stay on each device, and batches come without pixels."""
    return len(source) * 3 * int(np.prod(size)) <= RESIDENT_BYTES


def _resident_images(source: data.Source, size: tuple[int, int]) -> np.ndarray | None:
    if not fits_on_device(source, size):
        return None
    return data.load_images(source, size, progress=parallel.is_main_process())


def _training_images(
    source: data.Source, size: tuple[int, int], resident: np.ndarray | None
) -> Callable[[], Iterable[np.ndarray]]:
    def images() -> Iterator[np.ndarray]:
        parallel.say(f"Mean of {len(source):,} training images.")
        if resident is not None:
            yield resident
        else:
            yield from data.image_batches(source, size, batch_size=256)

    return images


def _refresh(
    objective: Objective,
    single: nn.Module,
    model: nn.Module,
    preprocess: Preprocess,
    labels: np.ndarray,
    sampler: data.Sampler,
    devices: Any,
    constants: tuple[Any, ...],
) -> tuple[Callable[[TrainState], Any] | None, int | None]:
    """What computes the loss state anew from all training images, and how often."""
    if objective.refresh is None:
        return None, None
    if not constants:
        raise ValueError(
            "the objective recomputes the codes of all training images, and these take more than "
            f"{RESIDENT_BYTES / 2**30:.0f} GiB: give smaller images"
        )

    def embed(variables: Any, images: jax.Array) -> jax.Array:
        _, variables = models.single_image(model, variables)
        taps: Any = single.apply(variables, preprocess.central(images), train=False)
        return taps["embedding"]

    recompute = objective.refresh.make(embed, labels, devices=devices)
    steps_per_epoch = max(len(labels) // sampler.batch_size, 1)
    return lambda state: recompute(state, *constants), objective.refresh.every(steps_per_epoch)
