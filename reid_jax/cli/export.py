"""`reid-jax export MODEL -o FILE`: a trained model for other programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from etils import epath

from reid_jax.files import read_json

__all__ = ["add_arguments", "run"]

# Of what a run found: the parts that a card shows.
SHOWN = (
    *("exp", "dataset", "trained_on", "data_source", "partition", "protocol", "fingerprint"),
    *("scale", "num_query", "num_gallery", "num_valid_queries", "metrics", "metrics_std"),
    "overlap",
)


def add_arguments(parser: Any) -> None:
    """Declares the command's arguments.

    Args:
        parser: an `argparse.ArgumentParser`.
    """
    parser.description = "Writes a trained model for other programs, and a card beside it."
    parser.add_argument("model", help="a saved model, or the work directory of a training")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help="model.stablehlo (JAX alone; CPU, CUDA, TPU), model.onnx, or model.safetensors (a "
        "ResNet with torchvision's names)",
    )
    parser.add_argument(
        "--results",
        metavar="FILE",
        help="results.json of an evaluation, for the card (default: the one in MODEL, if any)",
    )


def run(options: Any) -> int:
    """Exports the model.

    Args:
        options: `model`, `output` and `results`, as `add_arguments` declares them.

    Returns:
        Exit status: 0, or 1 after one line about what is wrong.
    """
    try:
        card = _exported(options)
    except (ImportError, OSError, ValueError) as error:
        print(f"reid-jax export: {error}", file=sys.stderr)
        return 1
    print(
        f"{options.output}: {card['bytes'] / 1e6:.1f} MB, {card['input']['name']} "
        f"{card['input']['dtype']} {card['input']['shape']} -> {card['output']['name']} "
        f"{card['output']['shape']}\nCard: {options.output}.md and .json. To use it:\n"
    )
    print(card["loader"], end="")
    return 0


def _exported(options: Any) -> dict[str, Any]:
    # Imported here: --help answers without JAX.
    from reid_jax.embedder import TRAINING_FILE, Embedder
    from reid_jax.export import FORMS

    output = epath.Path(options.output).expanduser()
    if output.suffix not in FORMS:
        raise ValueError(
            f"{options.output} ends in {output.suffix or 'nothing'!r}: the ending chooses the "
            f"form, and the known ones are {', '.join(FORMS)}"
        )
    if output.is_dir():
        raise ValueError(f"{options.output} is a directory: give the name of a file in it")
    directory = epath.Path(options.model).expanduser()
    if not directory.is_dir():
        raise FileNotFoundError(f"there is no model at {options.model}: it is no directory")
    is_run = (directory / TRAINING_FILE).exists()
    embedder = Embedder.from_run(directory) if is_run else Embedder.load(directory)
    evaluation = _evaluation(options.results, directory)
    return FORMS[output.suffix](embedder, output, evaluation=evaluation)


def _evaluation(given: str | None, directory: epath.Path) -> Mapping[str, Any] | None:
    path = epath.Path(given).expanduser() if given else directory / "results.json"
    if not given and not path.exists():
        return None
    results = read_json(path)
    return {name: results[name] for name in SHOWN if results.get(name) is not None}
