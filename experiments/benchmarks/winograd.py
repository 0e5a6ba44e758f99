"""Time of 3x3 convolutions with stride 1: Winograd's form, the direct forms, and PyTorch's.

    python experiments/benchmarks/winograd.py
    python experiments/benchmarks/winograd.py --batch 1

The shapes are those of ResNets on 256x128, and of narrower networks. Processor time is taken, on
one core, so that another load on the machine counts little; the forms take turns, and the best
round counts. "Direct" is what `reid_jax.models.conv` takes on a CPU where Winograd's form is not
faster; which of the two it takes is marked. The error is the largest of the result and its two
gradients against float64, as a share of the largest value. PyTorch runs channels-last where it is
installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import Any
from unittest import mock

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.depthwise import Calls, best_times, pytorch, use_processors
from reid_jax.cpu import keep_freed_memory
from reid_jax.models import winograd
from reid_jax.models.conv import Padding, conv

# Height, width, channels, features.
SHAPES = [
    (64, 32, 64, 64),
    (32, 16, 128, 128),
    (16, 8, 256, 256),
    (8, 4, 512, 512),
    (32, 16, 32, 32),
    (32, 16, 32, 64),
    (16, 8, 64, 64),
    (4, 2, 256, 256),
]
PADDING: Padding = ((1, 1), (1, 1))


def convolved(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return conv(x, kernel, padding=PADDING)


def gradients(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Any:
    return jax.vjp(convolved, x, kernel)[1](dy)


def in_jax(arrays: list[np.ndarray], *, is_winograd: bool) -> tuple[Calls, list[np.ndarray]]:
    """(forward, gradients), and their results."""
    x, kernel, dy = map(jnp.asarray, arrays)
    # Layers of a shape are traced once; here they are to be traced for each form.
    jax.clear_caches()
    with mock.patch.object(winograd, "is_faster", return_value=is_winograd):
        forward = jax.jit(convolved).lower(x, kernel).compile()
        backward = jax.jit(gradients).lower(x, kernel, dy).compile()
    results = [forward(x, kernel), *backward(x, kernel, dy)]
    calls = (
        lambda: jax.block_until_ready(forward(x, kernel)),
        lambda: jax.block_until_ready(backward(x, kernel, dy)),
    )
    return calls, [np.asarray(result) for result in results]


def exact(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The result and its gradients by the direct form in float64."""
    with jax.enable_x64(True):
        _, results = in_jax([array.astype(np.float64) for array in arrays], is_winograd=False)
    return results


def error(results: list[np.ndarray], right: list[np.ndarray]) -> float:
    return max(
        float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(results, right, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    use_processors(1)
    keep_freed_memory()  # As a run does; all then have it.
    with_torch = importlib.util.find_spec("torch") is not None
    if with_torch:
        import torch

        torch.set_num_threads(1)

    print(f"{options.batch} images, {jax.default_backend()}, processor time in ms")
    print(
        "| map, channels to features | form | forward | gradients | error |\n|---|---|---|---|---|"
    )
    for height, width, channels, features in SHAPES:
        rng = np.random.default_rng(0)
        size = options.batch, height, width
        shapes = [(*size, channels), (3, 3, channels, features), (*size, features)]
        arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
        taken = winograd.is_faster(arrays[0], arrays[1], (1, 1), PADDING)  # type: ignore[arg-type]
        right = exact(arrays)
        calls: dict[str, Calls] = {}
        off = {"pytorch": ""}
        for name in ("winograd", "direct"):
            calls[name], results = in_jax(arrays, is_winograd=name == "winograd")
            off[name] = f"{error(results, right):.1e}"
        if with_torch:
            calls["pytorch"] = pytorch(arrays, stride=1, padding=PADDING)
        best = best_times(calls, options.rounds)
        if with_torch:
            best["pytorch"][1] -= best["pytorch"][0]
        for name, (forward, backward) in best.items():
            mark = " (taken)" if name == ("winograd" if taken else "direct") else ""
            case = f"{height}x{width}, {channels} to {features}"
            print(f"| {case} | {name}{mark} | {forward:.1f} | {backward:.1f} | {off[name]} |")


if __name__ == "__main__":
    main()
