"""The three forms of an exported model."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from etils import epath
from jax import export

from reid_jax.embedder import Embedder
from reid_jax.export.card import make_card, write_card
from reid_jax.pretrained import torchvision_state

__all__ = ["FORMS", "PLATFORMS", "onnx", "stablehlo", "torchvision_safetensors"]

PLATFORMS = ("cpu", "cuda", "tpu")
"""For which `stablehlo` makes one file."""

Evaluation = Mapping[str, Any] | None


def stablehlo(
    embedder: Embedder, path: epath.PathLike, *, evaluation: Evaluation = None
) -> dict[str, Any]:
    """Writes a model as one StableHLO file that JAX alone runs, on a CPU, CUDA GPU or TPU.

    The file holds the variables and all that the network does with pixels: images [B, H, W, 3]
    uint8 RGB in, any B, of the embedder's `input_size`; embeddings [B, D] float32 out, as
    `embedder(images)` gives them. JAX reads such a file for at least six months of later
    versions. A card stands beside it: `path.json` and `path.md`, with a loader's program.

    Args:
        embedder: a model with an embedding of single images.
        path: of the file; what is there is replaced.
        evaluation: what was measured of the model, for the card: see
            `reid_jax.export.make_card`.

    Returns:
        The card.

    Raises:
        ValueError: if the network scores pairs, or normalises with the statistics of the batch
            that is tested.
    """
    _require_rows(embedder)
    (rows,) = export.symbolic_shape("batch")
    height, width = embedder.input_size
    images = jax.ShapeDtypeStruct((rows, height, width, 3), np.uint8)
    embed, variables = embedder.embed, jax.device_get(embedder.variables)
    exported = export.export(
        jax.jit(lambda images: embed(variables, images)), platforms=list(PLATFORMS)
    )(images)
    path = epath.Path(path).expanduser()
    card = make_card(
        embedder,
        "stablehlo",
        file=path.name,
        dim=exported.out_avals[0].shape[1],
        evaluation=evaluation,
        platforms=PLATFORMS,
        notes=(
            f"Calling convention {exported.calling_convention_version} of jax.export: JAX reads "
            "the file for at least six months of later versions.",
        ),
    )
    return write_card(path, card, content=bytes(exported.serialize()))


def onnx(
    embedder: Embedder, path: epath.PathLike, *, evaluation: Evaluation = None
) -> dict[str, Any]:
    """Writes a model as ONNX: `images` [batch, H, W, 3] uint8 in, `embeddings` [batch, D] out.

    The graph is translated from the traced network, primitive by primitive, from the definition of
    each layer; mean and deviation are inside. A card stands beside it, as of `stablehlo`.

    Args:
        embedder: a model with an embedding of single images. One that computes in another dtype
            than float32 is written in float32; the card says so.
        path: of the file; what is there is replaced.
        evaluation: for the card.

    Returns:
        The card.

    Raises:
        ImportError: if the package `onnx` is not installed.
        ValueError: as `stablehlo`, or if the network does what has no translation.
    """
    _require_rows(embedder)
    if importlib.util.find_spec("onnx") is None:
        raise ImportError(
            "writing .onnx needs the package onnx: pip install 'reid-jax[onnx]' (or pip install "
            "onnx)"
        )
    from reid_jax.export.translation import model_of

    notes: tuple[str, ...] = ()
    if (dtype := getattr(embedder.model, "dtype", None)) is not None:
        notes = (f"Computes in float32, where the network was made for {np.dtype(dtype).name}.",)
        embedder = dataclasses.replace(embedder, model=embedder.model.clone(dtype=None))
    model = model_of(
        embedder.embed,
        jax.device_get(embedder.variables),
        embedder.input_size,
        description="Embedding of pedestrian crops, by reid_jax; see the card beside the file.",
    )
    dim = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    path = epath.Path(path).expanduser()
    card = make_card(embedder, "onnx", file=path.name, dim=dim, evaluation=evaluation, notes=notes)
    return write_card(path, card, content=model.SerializeToString())


def torchvision_safetensors(
    embedder: Embedder, path: epath.PathLike, *, evaluation: Evaluation = None
) -> dict[str, Any]:
    """Writes a ResNet's variables with torchvision's names and layouts, as `.safetensors`.

    torchvision's ResNet takes them with `load_state_dict(..., strict=False)`, for want of `fc`
    alone, and then gives the embedding where `fc` is the identity;
    `reid_jax.pretrained.load_weights` takes them too. Mean and deviation are not inside: the
    card beside the file has them.

    Args:
        embedder: of a ResNet as torchvision builds it, tested on whole images.
        path: of the file; what is there is replaced.
        evaluation: for the card.

    Returns:
        The card.

    Raises:
        ValueError: if torchvision has no such network, or would compute something else with it.
    """
    _require_rows(embedder)
    model = embedder.model
    tensors = torchvision_state(model, jax.device_get(embedder.variables))
    if embedder.scoring.test_mode != "single" or model.pooling != "average":
        raise ValueError(
            f"the model embeds by test_mode={embedder.scoring.test_mode!r} and pooling="
            f"{model.pooling!r}, and torchvision's ResNet averages its last map: the weights would "
            "give another embedding. Export it as .stablehlo or .onnx"
        )
    if embedder.preprocess.mean.ndim == 3:
        raise ValueError(
            "the model subtracts a mean image, which a file of torchvision's weights has no place "
            "for: export it as .stablehlo or .onnx, where it is inside"
        )
    finish = "scaled to unit length" if embedder.scoring.normalise else "not scaled"
    path = epath.Path(path).expanduser()
    card = make_card(
        embedder,
        "safetensors",
        file=path.name,
        dim=tensors["layer4.0.bn1.weight"].shape[0] * (4 if model.bottleneck else 1),
        evaluation=evaluation,
        notes=(f"The embedding is what torchvision's `fc` would get, {finish}.",),
    )
    return write_card(path, card, content=safetensors.numpy.save(tensors))


FORMS: dict[str, Callable[..., dict[str, Any]]] = {
    ".stablehlo": stablehlo,
    ".onnx": onnx,
    ".safetensors": torchvision_safetensors,
}
"""The writer for each ending of a file's name."""


def _require_rows(embedder: Embedder) -> None:
    """Refuses networks whose result for an image is no function of the image alone."""
    if embedder.scores_pairs:
        raise ValueError(
            f"{type(embedder.model).__name__} scores pairs of images and has no embedding of a "
            "single one, so there is nothing to export: train a network with an embedding "
            "(resnet50, resnet18, vgg16, caffenet, nine_conv)"
        )
    if getattr(embedder.model, "test_statistics", "running") == "batch":
        raise ValueError(
            "the network normalises with the statistics of the batch that is tested "
            "(test_statistics='batch'): the embedding of an image depends on the others. Export "
            "it with test_statistics='running', which has the same variables"
        )
    embedder.check()
