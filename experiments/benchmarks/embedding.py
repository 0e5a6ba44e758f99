"""Images per second of embedding: this library, PyTorch channels-last, and ONNX Runtime.

    python experiments/benchmarks/embedding.py

For ResNet-50 on 256x128 and efficientnet_lite0 on 128x64, at batch 1 and 32, in float32, from
pixels in memory to embeddings in memory. Ours are as an `Embedder` makes them in a program that
calls `cpu.prepare`: the cores share the rows of a batch; the two others share the work inside an
operation. ONNX Runtime runs this library's own export of the same network. The three are timed in
turn, round by round, and the best round of each counts; ratios are of those. Every output is
compared with this library's first, so that all do the same work. What is not installed is left out.
`--decode N` also embeds N JPEG files, and says what share of their decoding the device's work
hides.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

import cv2
import jax
import numpy as np
from flax import traverse_util

from reid_jax import (
    Embedder,
    Preprocess,
    Scoring,
    cpu,
    data,
    export,
    models,
    parallel,
    pretrained,
)
from reid_jax.pretrained.efficientnet_lite0 import torch_name
from reid_jax.pretrained.torch_state import axes_in_file

CASES = {"resnet50": (256, 128), "efficientnet_lite0": (128, 64)}
BATCHES = (1, 32)
MEAN, STD = (120.0, 115.0, 110.0), (60.0, 58.0, 62.0)
Embed = Callable[[np.ndarray], np.ndarray]


def embedder(name: str, size: tuple[int, int]) -> Embedder:
    """Random values of a trained network's scale."""
    model = models.build(name)
    made = Embedder(
        model, None, Preprocess(size=size, mean=MEAN, std=STD), Scoring(normalise=False), {}
    )
    rng = np.random.default_rng(0)

    def leaf(path, shape):
        if path[-1].key == "kernel":
            values = rng.standard_normal(shape.shape) * np.sqrt(2 / np.prod(shape.shape[:-1]))
        elif path[-1].key in ("scale", "var"):
            values = rng.uniform(0.5, 1.5, shape.shape)
        else:
            values = rng.uniform(-0.3, 0.3, shape.shape)
        return values.astype(np.float32)

    values = jax.tree_util.tree_map_with_path(leaf, made.expected_variables())
    return Embedder(model, values, made.preprocess, made.scoring, {})


def ours(made: Embedder, batch: int) -> Embed:
    embed = parallel.map_rows(made.embed, made.variables, num_rows=batch)
    return lambda images: np.asarray(embed(images))


def in_onnx(made: Embedder, folder: str) -> Embed:
    import onnxruntime

    path = pathlib.Path(folder) / "model.onnx"
    export.onnx(made, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def pytorch(name: str, made: Embedder) -> Embed:
    import torch

    sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests"))
    from references import torch_efficientnet_lite0, torch_resnet

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    network = torch_resnet.ResNet(50, 2)
    if name == "efficientnet_lite0":
        network = torch_efficientnet_lite0.EfficientNetLite0(2)
    state = torch_state(name, made)
    network.load_state_dict(
        {key: torch.from_numpy(value) for key, value in state.items()}, strict=False
    )
    network = network.eval().to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(colour).reshape(3, 1, 1) for colour in (MEAN, STD))

    def embed(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            # A view of [B, H, W, 3] in this order is channels-last as it is.
            pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
            taps = network((pixels - mean) / std)
            return taps.get("embedding", taps.get("pool5")).numpy()

    return embed


def torch_state(name: str, made: Embedder) -> dict[str, np.ndarray]:
    if name == "resnet50":
        return pretrained.torchvision_state(made.model, made.variables)
    leaves = traverse_util.flatten_dict(made.variables)
    return {
        torch_name(leaf): np.ascontiguousarray(value.transpose(axes_in_file(value.ndim)))
        for leaf, value in leaves.items()
    }


def report(title: str, forms: dict[str, Embed], images: np.ndarray, rounds: int) -> None:
    expected = forms["ours"](images)
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for number in range(rounds + 1):
        for name, embed in forms.items():
            start = time.perf_counter()
            found = embed(images)
            seconds[name].append(time.perf_counter() - start)
            if not number and np.abs(found - expected).max() > 1e-3 * np.abs(expected).max():
                raise SystemExit(f"{name} embeds otherwise: {np.abs(found - expected).max()}")
    best = {name: min(times[1:]) for name, times in seconds.items()}
    for name, taken in best.items():
        ratio = f"{taken / best['ours']:.2f}"
        print(f"| {title} | {len(images)} | {name} | {len(images) / taken:.1f} | {ratio} |")


def decoding(made: Embedder, count: int) -> None:
    """Files against arrays against decoding alone."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number in range(count):
            image = cv2.resize(rng.integers(0, 256, (32, 16, 3), np.uint8), (128, 256))
            paths.append(str(pathlib.Path(folder) / f"{number}.jpg"))
            cv2.imwrite(paths[-1], image)
        made(paths)  # Compiles.
        taken = {}
        start = time.perf_counter()
        listed = data.as_images(paths)
        arrays = [listed.image(row, made.input_size) for row in range(count)]
        taken["decoded one by one"] = time.perf_counter() - start
        for name, images in (("embedded from memory", arrays), ("embedded from files", paths)):
            start = time.perf_counter()
            made(images)
            taken[name] = time.perf_counter() - start
    alone = taken["decoded one by one"]
    left = taken["embedded from files"] - taken["embedded from memory"]
    for name, value in taken.items():
        print(f"{count} images {name}: {value:.2f} s")
    print(f"hidden: {100 * (1 - left / alone):.0f} % of the decoding")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--decode", type=int, default=0, help="JPEG files; several batches of 64")
    options = parser.parse_args()
    cpu.prepare()  # As a program does; all have the memory that it keeps.
    print(f"{jax.default_backend()}, {len(os.sched_getaffinity(0))} processors")
    print("| network | batch | by | images/s | our speed against it |\n|---|---|---|---|---|")
    rng = np.random.default_rng(1)
    for name in options.models:
        made = embedder(name, CASES[name])
        with tempfile.TemporaryDirectory() as folder:
            forms: dict[str, Embed] = {}
            if importlib.util.find_spec("torch"):
                forms["pytorch"] = pytorch(name, made)
            if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
                forms["onnxruntime"] = in_onnx(made, folder)
            for batch in BATCHES:
                images = rng.integers(0, 256, (batch, *CASES[name], 3), np.uint8)
                title = f"{name} {CASES[name][0]}x{CASES[name][1]}"
                report(title, {"ours": ours(made, batch), **forms}, images, options.rounds)
        if options.decode:
            decoding(made, options.decode)


if __name__ == "__main__":
    main()
