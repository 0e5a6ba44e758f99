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
import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.depthwise import Calls, best_times, use_processors
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


def pytorch(arrays: list[np.ndarray]) -> tuple[Calls, list[np.ndarray]]:
    """(forward, forward and gradients), and the results of the second in float64."""
    import torch

    last = torch.channels_last
    x, dy = (torch.from_numpy(array.transpose(0, 3, 1, 2)) for array in (arrays[0], arrays[2]))
    kernel = torch.from_numpy(arrays[1].transpose(3, 2, 0, 1).copy())
    given = [array.contiguous(memory_format=last) for array in (x, kernel, dy)]
    convolve = functools.partial(torch.nn.functional.conv2d, padding=1)

    def both(x: torch.Tensor, kernel: torch.Tensor, dy: torch.Tensor) -> list[torch.Tensor]:
        leaves = [array.detach().requires_grad_() for array in (x, kernel)]
        y = convolve(*leaves)
        return [y, *torch.autograd.grad(y, leaves, dy)]

    def forward() -> None:
        with torch.no_grad():
            convolve(*given[:2])

    def backward() -> None:
        both(*given)

    y, dx, dkernel = (array.detach().numpy() for array in both(x.double(), kernel.double(), dy))
    exact = [y.transpose(0, 2, 3, 1), dx.transpose(0, 2, 3, 1), dkernel.transpose(2, 3, 1, 0)]
    return (forward, backward), exact


def error(results: list[np.ndarray], exact: list[np.ndarray]) -> float:
    return max(
        float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(results, exact, strict=True)
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
        forms: dict[str, Callable[[], tuple[Calls, list[np.ndarray]]]] = {
            "winograd": functools.partial(in_jax, arrays, is_winograd=True),
            "direct": functools.partial(in_jax, arrays, is_winograd=False),
        }
        if with_torch:
            forms["pytorch"] = functools.partial(pytorch, arrays)
        made = {name: form() for name, form in forms.items()}
        best = best_times({name: calls for name, (calls, _) in made.items()}, options.rounds)
        if with_torch:
            best["pytorch"][1] -= best["pytorch"][0]
        for name, (forward, backward) in best.items():
            off = f"{error(made[name][1], made['pytorch'][1]):.1e}" if with_torch else ""
            mark = " (taken)" if name == ("winograd" if taken else "direct") else ""
            case = f"{height}x{width}, {channels} to {features}"
            print(
                f"| {case} | {name}{mark} | {forward:.1f} | {backward:.1f} | "
                f"{off if name != 'pytorch' else ''} |"
            )


if __name__ == "__main__":
    main()
