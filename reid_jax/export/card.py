"""What is known of an exported model, beside it: as JSON for programs, as Markdown for people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath

from reid_jax import models
from reid_jax.embedder import Embedder
from reid_jax.files import flattened, write_atomically
from reid_jax.versions import versions

__all__ = ["CARD_FORMAT", "loader", "make_card", "write_card"]

CARD_FORMAT = 1

INTENDED_USE = (
    "Comparing crops of whole pedestrians, one person a crop, by the distance between their "
    "embeddings: to rank a gallery for a query, or to decide with a threshold that was measured "
    "on images like one's own."
)
LIMITS = (
    "An embedding says how alike two crops look. It proves nobody's identity, and a decision about "
    "a person needs a person who looks at the images.",
    "Other cameras, seasons and people than the training's lower the accuracy, often by much: "
    "measure on images of your own before relying on a number printed here.",
    "A distance has no meaning without a threshold measured on images of the same kind.",
    "Images that show no person get an embedding too.",
)

STAND_IN = (
    "**On rendered figures (the stand-in), not on photographs: the numbers say that the program "
    "works, and nothing of people.**"
)

STABLEHLO_LOADER = """\
import numpy as np
from jax import export, jit

with open({file!r}, "rb") as file:
    embed = jit(export.deserialize(bytearray(file.read())).call)
images = np.zeros((2, {height}, {width}, 3), np.uint8)  # RGB, any number of them
embeddings = np.asarray(embed(images))  # [2, {dim}]
"""
ONNX_LOADER = """\
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession({file!r}, providers=["CPUExecutionProvider"])
images = np.zeros((2, {height}, {width}, 3), np.uint8)  # RGB, any number of them
(embeddings,) = session.run(["embeddings"], {{"images": images}})  # [2, {dim}]
"""
SAFETENSORS_LOADER = """\
import torch
import torchvision
from safetensors.torch import load_file

network = {network}
missing, unexpected = network.load_state_dict(load_file({file!r}), strict=False)
assert set(missing) <= {{"fc.weight", "fc.bias"}} and not unexpected
network.fc = torch.nn.Identity()
network.eval()
mean, std = (torch.tensor(c).reshape(1, 3, 1, 1) for c in ({mean}, {std}))
images = torch.zeros(2, 3, {height}, {width})  # RGB, 0 to 255
with torch.no_grad():
    embeddings = network((images - mean) / std)  # [2, {dim}]
{finish}"""
UNIT_ROWS_IN_TORCH = "embeddings = torch.nn.functional.normalize(embeddings)\n"
LOADERS = {"stablehlo": STABLEHLO_LOADER, "onnx": ONNX_LOADER, "safetensors": SAFETENSORS_LOADER}

FENCE = "`" * 3


def make_card(
    embedder: Embedder,
    form: str,
    *,
    file: str,
    dim: int,
    evaluation: Mapping[str, Any] | None,
    platforms: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Gathers what is known of a model.

    Args:
        embedder: the model.
        form: 'stablehlo', 'onnx' or 'safetensors'.
        file: name of the exported model.
        dim: D of the embeddings.
        evaluation: what was measured, as `results.json` of a run has it (`dataset`,
            `data_source`, `protocol`, `metrics`, ...); None where nothing is known.
        platforms: for which it was made.
        notes: sentences about this export.

    Returns:
        The card but for `bytes` and `sha256`, which `write_card` adds; JSON.
    """
    height, width = embedder.input_size
    preprocess = embedder.preprocess
    inside = form != "safetensors"
    provenance = dict(embedder.provenance)
    return {
        "format": CARD_FORMAT,
        "form": form,
        "file": file,
        "network": models.describe(embedder.model),
        "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(embedder.variables["params"])),
        "platforms": list(platforms),
        "input": {
            "name": "images",
            "shape": ["batch", height, width, 3] if inside else ["batch", 3, height, width],
            "dtype": "uint8" if inside else "float32",
            "pixels": "RGB, 0 to 255"
            + (
                "; mean and deviation are inside the model"
                if inside
                else ", minus mean, divided by std"
            ),
            "resize": f"each crop as a whole to {width} x {height} (width x height), bilinear "
            "without antialiasing (OpenCV's INTER_LINEAR), without keeping its aspect",
        },
        "preprocess": preprocess.as_json() if preprocess.mean.ndim == 1 else "a mean image, inside",
        "output": {
            "name": "embeddings",
            "shape": ["batch", dim],
            "dtype": "float32",
            "unit_length": embedder.scoring.normalise and inside,
        },
        "distance": embedder.distance_name,
        "trained_on": provenance.pop("data", None),
        "training": provenance,
        "operating": embedder.decision and embedder.decision.as_json(),
        "evaluation": None if evaluation is None else dict(evaluation),
        "intended_use": INTENDED_USE,
        "limits": list(LIMITS),
        "notes": list(notes),
        "loader": loader(embedder, form, file, dim=dim),
        "versions": versions(),
    }


def write_card(path: epath.Path, card: Mapping[str, Any], *, content: bytes) -> dict[str, Any]:
    """Writes a model, and its card beside it as `path.json` and `path.md`.

    Args:
        path: of the model.
        card: of `make_card`.
        content: of the model's file.

    Returns:
        The whole card.
    """
    card = {
        **card,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    write_atomically(path, content)
    text = json.dumps(card, indent=2, ensure_ascii=False)
    write_atomically(path.parent / f"{path.name}.json", text + "\n")
    write_atomically(path.parent / f"{path.name}.md", _markdown(card))
    return card


def loader(embedder: Embedder, form: str, file: str, *, dim: int) -> str:
    """The program that embeds two images with an exported model.

    Args:
        embedder: the model.
        form: 'stablehlo', 'onnx' or 'safetensors'.
        file: path of the exported model.
        dim: D of the embeddings.

    Returns:
        Python; it needs JAX, ONNX Runtime or PyTorch, and never reid_jax.
    """
    height, width = embedder.input_size
    facts = {"file": file, "height": height, "width": width, "dim": dim}
    if form == "safetensors":
        facts |= {
            "network": _torch_network(embedder),
            "mean": embedder.preprocess.mean.tolist(),
            "std": embedder.preprocess.std.tolist(),
            "finish": UNIT_ROWS_IN_TORCH if embedder.scoring.normalise else "",
        }
    return LOADERS[form].format(**facts)


def _torch_network(embedder: Embedder) -> str:
    model = embedder.model
    if model.width != 64:
        return f"...  # a ResNet of {model.width} channels in conv1, which torchvision has not"
    block = "Bottleneck" if model.bottleneck else "BasicBlock"
    return f"torchvision.models.ResNet(torchvision.models.resnet.{block}, {list(model.blocks)})"


def _markdown(card: Mapping[str, Any]) -> str:
    output, given = card["output"], card["input"]
    unit = ", of unit length" if output["unit_length"] else ""
    parts = [
        f"# {card['file']}",
        f"An embedding of pedestrian crops: {card['network']['name']}, "
        f"{card['num_parameters']:,} parameters.",
        "## Use",
        _table(
            {
                "input": f"`{given['name']}` {given['dtype']} {given['shape']}, {given['pixels']}",
                "resize": given["resize"],
                "output": f"`{output['name']}` {output['dtype']} {output['shape']}{unit}",
                "distance": card["distance"],
                "platforms": ", ".join(card["platforms"]) or "as its runtime has them",
                "SHA-256": card["sha256"],
            }
        ),
        f"{FENCE}python\n{card['loader']}{FENCE}",
        *card["notes"],
        "## Intended use and limits",
        card["intended_use"],
        "\n".join(f"- {limit}" for limit in card["limits"]),
        "## Trained on",
        _facts(card["trained_on"], "Not known: the model does not say."),
        "## Measured",
        STAND_IN if (card["evaluation"] or {}).get("data_source") == "stand-in" else "",
        _facts(card["evaluation"], "Nothing is known: measure it on images of your own."),
        "## Same person or not",
        _operating(card["operating"]),
        "## Made with",
        _facts({"network": card["network"], **card["training"], "export": card["versions"]}, ""),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _operating(operating: Mapping[str, Any] | None) -> str:
    if operating is None:
        return "No threshold was measured."
    equal = operating["equal_error"]
    rows = {"equal error": f"{100 * equal['rate']:.2f} %, up to a distance of {equal['threshold']}"}
    for point in operating["points"]:
        if point["threshold"] is not None:
            rows[f"{100 * point['false_accept_rate']:g} % of different pairs accepted"] = (
                f"{100 * point['true_accept_rate']:.2f} % of same pairs accepted, up to a distance "
                f"of {point['threshold']}"
            )
    if calibration := operating["calibration"]:
        rows["probability, one pair in two being the same"] = (
            f"1 / (1 + exp({calibration['slope']} (distance - {calibration['midpoint']})))"
        )
    rows["measured on"] = (
        f"{operating['num_people']:,} {operating['measured_on']} people of {operating['dataset']} "
        f"({operating['data_source']})"
    )
    return _table(rows)


def _facts(facts: Mapping[str, Any] | None, otherwise: str) -> str:
    return _table(flattened(facts)) if facts else otherwise


def _table(facts: Mapping[str, Any]) -> str:
    rows = [
        f"| {name} | {_cell(value)} |" for name, value in facts.items() if value not in (None, [])
    ]
    return "\n".join(["| | |", "|---|---|", *rows])


def _cell(value: Any) -> str:
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return shown.replace("|", "\\|").replace("\n", " ")
