"""MatConvNet's ImageNet networks, from `.mat` files of MATLAB's format 5.

Written from MatConvNet's documentation and from the program that made its files out of Caffe's. In
both, images are RGB and a kernel is [h, w, C / groups, O], so that no axis is moved. The tests make
files of that structure; none of the published files was at hand.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable
from typing import Any

import flax.linen as nn
import flax.traverse_util
import numpy as np
import scipy
from etils import epath

from reid_jax.pretrained import matching

__all__ = ["load_matconvnet"]

HEADS = {"CaffeNet": "fc8", "VGG16": "fc8", "ResNet": "fc1000"}
DENSE = ("fc7", "fc8", "fc1000")  # convolutions of 1 x 1 there, matrices here
EPSILON = 1e-5  # of this library's batch norm, and of the networks that the files come from
CONV_LEAF = {"kernel": "filter", "bias": "bias"}
NORM_LEAF = {
    "scale": "mult",
    "bias": "bias",
    "mean": "moments[:, 0]",
    "var": "moments[:, 1]",
}
FORMAT = "a MatConvNet network saved in MATLAB's format 5 (not 7.3)"


def load_matconvnet(
    path: epath.PathLike, model: nn.Module, variables: dict
) -> tuple[dict, dict[str, Any]]:
    """The variables of a network with all values taken from a MatConvNet file.

    For `imagenet-caffe-ref.mat` (CaffeNet), `imagenet-vgg-verydeep-16.mat` (VGG16) and
    `imagenet-resnet-50-dag.mat` (ResNet-50 with `stride='caffe'`). Every tensor of the file and
    of the network is matched, or named in the error. Names are those of MatConvNet's importer:
    `conv1_filter`, `conv1_bias`, `bn_conv1_mult`, `bn_conv1_bias`, `bn_conv1_moments`,
    `res2a_branch1_filter`; the layers of a SimpleNN are named in the same way.

    What is left out is left out by name, and reported: the classifier where the network has no
    identification head or one of another size (the head then keeps the values it has in
    `variables`), fc6 and fc7 where it has `pooling='max'`, and the bias that ResNet-50's conv1
    has in front of a batch norm: it is taken off that norm's mean, which changes no result.

    Args:
        path: the `.mat` file.
        model: CaffeNet, VGG16 or ResNet. Of a siamese network give the backbone and
            `backbone_variables(variables)`.
        variables: 'params' and 'batch_stats' as `model.init` makes them; their dtypes are kept.

    Returns:
        new variables; and a report, as `reid_jax.pretrained.load_weights` describes it.

    Raises:
        ValueError: if MatConvNet has no weights for the model or its layout is not Caffe's, the
            file is of another format or cannot be read, or tensors are missing, unexpected or of
            another shape (all are named, and which networks the two look like).
    """
    kind = matching.check_model(model, program="MatConvNet", known=HEADS, stride="caffe")
    path, content = matching.read_content(path)
    tensors, image_mean = _read(path, content)
    names = set(tensors)
    head = (f"{HEADS[kind]}_filter", f"{HEADS[kind]}_bias")
    left_out = {}
    if kind != "ResNet" and model.pooling == "max":
        left_out = {
            name: "pooling='max' has no fc6 and fc7"
            for name in names
            if name.startswith(("fc6_", "fc7_"))
        }
    name_of = _resnet_name if kind == "ResNet" else _plain_name
    wanted = {name_of(leaf): leaf for leaf in flax.traverse_util.flatten_dict(variables)}
    mean, bias = (tensors.get(name) for name in ("bn_conv1_moments[:, 0]", "conv1_bias"))
    if kind == "ResNet" and mean is not None and bias is not None and mean.shape == bias.shape:
        tensors["bn_conv1_moments[:, 0]"] = mean - bias
        left_out["conv1_bias"] = "taken off the running mean of bn1, which is the same"
    loaded, report = matching.fill(
        variables,
        tensors,
        wanted,
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        left_out=left_out,
        head=head,
        networks=(_network(names), _network(wanted)),
    )
    return loaded, report | {"image_mean": image_mean, "image_std": [1.0, 1.0, 1.0]}


def _read(path: epath.Path, content: bytes) -> tuple[dict[str, np.ndarray], list[float] | None]:
    """Tensors by their names, with this library's axes; mean of the average image, RGB or None."""
    try:
        file = scipy.io.loadmat(io.BytesIO(content), struct_as_record=False)
    except NotImplementedError as error:
        raise ValueError(
            f"{path} is a MATLAB 7.3 file and must be {FORMAT}: load it in MATLAB and save it with "
            "'-v7'."
        ) from error
    except Exception as error:
        raise ValueError(f"{path} is not {FORMAT}, or is damaged: {error}") from error
    if "params" in file:
        named = {_text(p.name): p.value for p in file["params"].flat}
    elif "layers" in file:
        named = dict(_simplenn(file["layers"]))
    else:
        found = ", ".join(name for name in file if not name.startswith("__")) or "nothing"
        raise ValueError(
            f"{path} is not {FORMAT}: it must hold 'layers' (SimpleNN) or 'params' (DagNN) at its "
            f"top, and holds {found}."
        )
    tensors = {}
    for name, array in named.items():
        if name.endswith("_moments") and array.ndim == 2 and array.shape[1] == 2:
            tensors[f"{name}[:, 0]"] = array[:, 0]
            tensors[f"{name}[:, 1]"] = _variance(array[:, 1], name, path)
        elif not name.endswith("_filter"):
            tensors[name] = array.ravel()  # MATLAB has no vectors
        elif name.startswith(DENSE) and array.shape[:2] == (1, 1):
            tensors[name] = array[0, 0]
        else:
            tensors[name] = array
    return tensors, _image_mean(file)


def _simplenn(layers: np.ndarray) -> Iterable[tuple[str, np.ndarray]]:
    for cell in layers.flat:
        layer = cell.item()
        if hasattr(layer, "weights"):
            weights = list(layer.weights.flat)
        elif hasattr(layer, "filters"):
            weights = [layer.filters, layer.biases]  # as it was until version 1.0-beta10
        else:
            continue
        # A batch norm has three: its names are not those of the networks here, and are reported.
        suffixes = ("filter", "bias") if len(weights) <= 2 else ("mult", "bias", "moments")
        for suffix, array in zip(suffixes, weights, strict=False):
            yield f"{_text(layer.name)}_{suffix}", array


def _text(value: np.ndarray) -> str:
    return str(np.squeeze(value))


def _variance(sigma: np.ndarray, name: str, path: epath.Path) -> np.ndarray:
    """Variance from MatConvNet's second moment, which is sqrt(variance + epsilon)."""
    variance = np.square(sigma.astype(np.float64)) - EPSILON
    # A dead channel has sigma = sqrt(epsilon), rounded to float32.
    if (variance < -0.01 * EPSILON).any() or (sigma < 0).any():
        raise ValueError(
            f"{path}: the second column of {name} has {sigma.min()}, and must be the standard "
            f"deviation sqrt(variance + {EPSILON})."
        )
    return np.maximum(variance, 0)


def _image_mean(file: dict[str, Any]) -> list[float] | None:
    """RGB mean of the image that the network's inputs are to be reduced by."""
    holder = file["meta"].item() if "meta" in file else None
    normalization = getattr(holder, "normalization", file.get("normalization"))
    if normalization is None:
        return None
    average = getattr(normalization.item(), "averageImage", np.zeros(0))
    if average.size == 0 or average.size % 3:
        return None
    # An image [H, W, 3], or its three means in any direction.
    average = average if average.ndim == 3 else average.reshape(1, 1, -1)
    return [float(value) for value in average.mean((0, 1), dtype=np.float64)]


def _network(names: Iterable[str]) -> str:
    """Which network has tensors of these names."""
    names = set(names)
    found = [re.match(r"res([2-5])(\w+)_branch2a_filter", name) for name in names]
    stages = [int(match[1]) for match in found if match]
    convolutions = [name for name in names if re.fullmatch(r"conv\d(_\d)?_filter", name)]
    return matching.network_name(
        tuple(stages.count(stage) for stage in (2, 3, 4, 5)),
        bottleneck="res2a_branch2c_filter" in names,
        convolutions=len(convolutions),
        batch_norm=any(name.endswith("_mult") for name in names),
    )


def _resnet_name(path: tuple[str, ...]) -> str:
    """('params', 'res3a', 'bn2', 'scale') -> 'bn3a_branch2b_mult'."""
    *layers, leaf = path[1:]
    norm = "bn" in layers[-1] or layers[-1] == "neck"
    if len(layers) == 1:
        renamed = {"bn1": "bn_conv1", "identification": HEADS["ResNet"]}
        name = renamed.get(layers[0], layers[0])
    else:
        block, layer = layers
        branch = "1" if layer.startswith("shortcut") else f"2{'abc'[int(layer[-1]) - 1]}"
        name = f"{'bn' if norm else 'res'}{block.removeprefix('res')}_branch{branch}"
    return f"{name}_{(NORM_LEAF if norm else CONV_LEAF)[leaf]}"


def _plain_name(path: tuple[str, ...]) -> str:
    """('params', 'conv3_2', 'kernel') -> 'conv3_2_filter'."""
    _, layer, leaf = path
    return f"{HEADS['VGG16'] if layer == 'identification' else layer}_{CONV_LEAF[leaf]}"
