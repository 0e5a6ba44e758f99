"""The training step, written once for every method, model and number of devices."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import lax

from reid_jax import parallel
from reid_jax.keys import as_row_keys
from reid_jax.objectives import Objective
from reid_jax.training.parts import gradients_in_parts
from reid_jax.training.state import TrainState

__all__ = [
    "make_train_step",
    "output_shapes",
    "require_outputs",
    "several_steps",
    "with_resident_images",
]

Batch = dict[str, jax.Array]
Preprocess = Callable[[jax.Array, jax.Array], jax.Array]


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    objective: Objective,
    *,
    axis_name: str | None = None,
    preprocess: Preprocess | None = None,
    num_parts: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """Builds `train_step(state, batch) -> (state, metrics)`.

    The step is a pure function for `jit` (`axis_name=None`, the whole batch on one device) or
    for `pmap` (`reid_jax.parallel.pmap_step`); both give the same parameters.

    Args:
        model: called with `image` of the batch, or with `image_a` and `image_b` if the batch
            has those; a model with a field `axis_name` is cloned with the step's.
        optimizer: gets gradients of the global loss.
        objective: of `reid_jax.objectives`; its loss is that of the global batch.
        axis_name: device axis of the step, or None.
        preprocess: `preprocess(images, keys [B]) -> images`, augmentation and normalisation.
        num_parts: of a batch that go through the network one after another, for less memory, see
            `gradients_in_parts`. The loss is that of the whole batch; batch norm has the statistics
            of each part, and its running averages move once a step, by the mean over the parts.
    Returns:
        The step. Its metrics are the objective's, `loss` and `gradient_norm`, all over the
        global batch. A row's augmentation and dropout depend on `batch["key"]` alone, as two
        streams of it.
    """
    if hasattr(model, "axis_name"):
        model = model.clone(axis_name=axis_name)
    takes_keys = getattr(model, "takes_keys", False)

    def model_inputs(batch: Batch, suffix: str) -> tuple[jax.Array, dict[str, jax.Array]]:
        image, key = batch["image" + suffix], batch.get("key" + suffix)
        if key is None:
            if preprocess is not None:
                raise ValueError(f"the batch has no 'key{suffix}', which preprocessing needs.")
            return image, {}
        augment_keys, dropout_keys = jax.vmap(jax.random.split, out_axes=1)(
            as_row_keys(key, len(image))
        )
        if preprocess is not None:
            image = preprocess(image, augment_keys)
        return image, {"keys" + suffix: dropout_keys} if takes_keys else {}

    def outputs_of(
        params: Any, rows: Batch, *, batch_stats: Any
    ) -> tuple[dict[str, jax.Array], Any]:
        """The network's outputs of some rows of a batch, and its running averages after them."""
        suffixes = ("_a", "_b") if "image_a" in rows else ("",)
        inputs = [model_inputs(rows, suffix) for suffix in suffixes]
        images = [
            x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float) for x, _ in inputs
        ]
        keys: dict[str, Any] = {
            name: value for _, stream in inputs for name, value in stream.items()
        }
        variables = {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})
        outputs, changed = model.apply(
            variables, *images, train=True, mutable=["batch_stats"], **keys
        )
        return outputs, changed.get("batch_stats", batch_stats)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        def global_loss(outputs: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
            return objective.loss(
                _Outputs(outputs), _Rows(batch), state.loss_state, axis_name=axis_name
            )

        (loss, (loss_state, metrics)), batch_stats, gradients = gradients_in_parts(
            functools.partial(outputs_of, batch_stats=state.batch_stats),
            global_loss,
            state.params,
            batch,
            num_parts=num_parts,
        )
        gradients = parallel.cross_mean(gradients, axis_name=axis_name)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        next_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
            loss_state=loss_state,
        )
        return next_state, {"loss": loss, "gradient_norm": optax.tree.norm(gradients), **metrics}

    return train_step


def output_shapes(model: nn.Module, variables: Any, batch: Mapping[str, Any]) -> dict[str, Any]:
    """Traces the network of a training step, on shapes.

    Args:
        model: as for `make_train_step`.
        variables: of the model, or their shapes.
        batch: shapes of a batch whose images are what the network sees, with keys.
    Returns:
        The shapes of its outputs by name.
    """
    if hasattr(model, "axis_name"):
        model = model.clone(axis_name=None)
    suffixes = ("_a", "_b") if "image_a" in batch else ("",)
    takes_keys = getattr(model, "takes_keys", False)

    def outputs_of(variables: Any, batch: Batch) -> Any:
        images = [batch["image" + suffix] for suffix in suffixes]
        keys: dict[str, Any] = {
            "keys" + suffix: as_row_keys(batch["key" + suffix], len(images[0]))
            for suffix in suffixes
            if takes_keys
        }
        outputs, _ = model.apply(variables, *images, train=True, mutable=["batch_stats"], **keys)
        return outputs

    return jax.eval_shape(outputs_of, variables, batch)


def require_outputs(
    objective: Objective, outputs: Mapping[str, Any], batch: Mapping[str, Any], loss_state: Any
) -> None:
    """Traces the loss, on shapes, so that an output that it misses is named before any work.

    Args:
        objective: as for `make_train_step`.
        outputs: of `output_shapes`.
        batch: shapes of a batch.
        loss_state: of the objective.

    Raises:
        ValueError: if the objective needs an output that the model does not give.
    """

    def loss(outputs: dict[str, jax.Array], batch: Batch, loss_state: Any) -> Any:
        return objective.loss(_Outputs(outputs), _Rows(batch), loss_state, axis_name=None)

    jax.eval_shape(loss, dict(outputs), dict(batch), loss_state)


class _Outputs(dict):
    """A model's outputs; asking for one that it does not give says what to do."""

    def __missing__(self, name: str) -> NoReturn:
        hint = ""
        if name.startswith("logits"):
            hint = ": build the model with num_identities=K, which adds the identification head"
        elif name == "pair_logits":
            hint = ": build models.Siamese(..., verification='square'), or a csn"
        raise ValueError(
            f"the objective needs {name!r}, and the model gives {', '.join(sorted(self))}{hint}."
        )


class _Rows(dict):
    """A batch; asking for a column that it has not says what to do."""

    def __missing__(self, name: str) -> NoReturn:
        hint = ""
        if name == "same" or name.endswith(("_a", "_b")):
            hint = ": take a PairSampler, and a network that takes pairs of images"
        raise ValueError(
            f"the objective needs {name!r} of the batch, which has {', '.join(sorted(self))}{hint}."
        )


def with_resident_images(
    train_step: Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]],
) -> Callable[[TrainState, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]]:
    """The same step for batches without images: it takes them from all images, on the device.

    Args:
        train_step: from `make_train_step`.
    Returns:
        `step(state, batch, images)` with `images` uint8 [N, H, W, 3], which `batch["row"]`
        (`row_a` and `row_b` of pairs) indexes. Pass them as an argument: a large array that a
        jitted function closes over becomes a constant of the program.
    """

    def step(
        state: TrainState, batch: Batch, images: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        rows = {name.replace("row", "image"): batch[name] for name in batch if name[:3] == "row"}
        return train_step(state, batch | {name: images[row] for name, row in rows.items()})

    return step


def several_steps(train_step: Callable[..., Any]) -> Callable[..., Any]:
    """Several steps as one program, for steps so short that starting them takes its time.

    Args:
        train_step: of `make_train_step` or `with_resident_images`.
    Returns:
        `steps(state, batches, *constants) -> (state, metrics)`, where the batches of N steps and
        the metrics of them have a first axis N more.
    """

    def steps(state: TrainState, batches: Batch, *constants: Any) -> tuple[TrainState, Batch]:
        return lax.scan(lambda state, batch: train_step(state, batch, *constants), state, batches)

    return steps
