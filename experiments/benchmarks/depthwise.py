"""Time of depthwise convolution, forward and its gradients: ours, XLA's own, and PyTorch's.

    python experiments/benchmarks/depthwise.py --threads 1

The shapes are those of efficientnet_lite0 on 32 images of 128x64. Processor time is taken (of all
threads), so that another load on the machine counts little, the forms take turns, and the best
round counts. PyTorch runs channels-last where it is installed. XLA's own takes seconds on the
large maps: `--skip xla` leaves it out.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from reid_jax.cpu import keep_freed_memory
from reid_jax.models.conv import Padding, conv

# Height, width, channels, kernel, stride.
SHAPES = [
    (64, 32, 32, 3, 1),
    (64, 32, 96, 3, 2),
    (64, 32, 96, 3, 1),  # not in the network: that of the project's first measurements
    (32, 16, 144, 3, 1),
    (32, 16, 144, 5, 2),
    (16, 8, 240, 5, 1),
    (8, 4, 480, 5, 1),
    (4, 2, 1152, 5, 1),
]
Calls = tuple[Callable[[], None], Callable[[], None]]


def in_jax(function: Callable[..., jax.Array], arrays: list[np.ndarray]) -> Calls:
    """(forward, gradients)."""
    x, kernel, dy = map(jnp.asarray, arrays)
    forward = jax.jit(function)
    # The convolution is linear: its result is of no use to its gradients, and XLA leaves it out.
    gradients = jax.jit(lambda x, kernel, dy: jax.vjp(function, x, kernel)[1](dy))
    return (
        lambda: jax.block_until_ready(forward(x, kernel)),
        lambda: jax.block_until_ready(gradients(x, kernel, dy)),
    )


def xla(x: jax.Array, kernel: jax.Array, *, stride: int, padding: Padding) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[3],
    )


def pytorch(arrays: list[np.ndarray], *, stride: int, padding: Padding) -> Calls:
    """(forward, forward and gradients): PyTorch has the gradients of a recorded forward alone."""
    import torch

    last = torch.channels_last
    x, dy = (
        torch.from_numpy(array.transpose(0, 3, 1, 2)).contiguous(memory_format=last)
        for array in (arrays[0], arrays[2])
    )
    kernel = torch.from_numpy(arrays[1].transpose(3, 2, 0, 1).copy()).contiguous(memory_format=last)
    edges = (*padding[1], *padding[0])

    def convolve(x: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(x, edges)
        groups = x.shape[1] // kernel.shape[1]
        return torch.nn.functional.conv2d(padded, kernel, None, stride, groups=groups)

    def forward() -> None:
        with torch.no_grad():
            convolve(x, kernel)

    def both() -> None:
        leaves = [array.detach().requires_grad_() for array in (x, kernel)]
        torch.autograd.grad(convolve(*leaves), leaves, dy)

    return forward, both


def best_times(calls: dict[str, Calls], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of processor time, forward and second call, of the best round."""
    best = {name: [np.inf, np.inf] for name in calls}
    for number in range(rounds + 1):
        for name, pair in calls.items():
            for which, call in enumerate(pair):
                start = time.process_time()
                call()
                taken = 1e3 * (time.process_time() - start)
                if number:  # The first compiles.
                    best[name][which] = min(best[name][which], taken)
    return best


def use_processors(number: int) -> None:
    """Keeps this process on some processors; called before JAX starts its threads.

    Where an operating system cannot, all are used.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:number])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1, help="processors that are used")
    parser.add_argument("--skip", nargs="*", choices=["xla", "pytorch"], default=[])
    options = parser.parse_args()
    use_processors(options.threads)
    keep_freed_memory()  # As a run does; all then have it.
    with_torch = importlib.util.find_spec("torch") is not None and "pytorch" not in options.skip
    if with_torch:
        import torch

        torch.set_num_threads(options.threads)

    print(f"{options.batch} images, {jax.default_backend()}, processor time in ms")
    print(
        "| map, kernel, stride | form | forward | gradients | of PyTorch's |\n|---|---|---|---|---|"
    )
    for height, width, channels, size, stride in SHAPES:
        total = size - stride
        padding: Padding = ((total // 2, total - total // 2),) * 2
        rng = np.random.default_rng(0)
        shapes = [(options.batch, height, width, channels), (size, size, 1, channels)]
        shapes.append((options.batch, height // stride, width // stride, channels))
        arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
        own = functools.partial(conv, strides=(stride, stride), padding=padding, groups=channels)
        calls = {"ours": in_jax(own, arrays)}
        if "xla" not in options.skip:
            form = functools.partial(xla, stride=stride, padding=padding)
            calls["xla"] = in_jax(form, arrays)
        if with_torch:
            calls["pytorch"] = pytorch(arrays, stride=stride, padding=padding)
        best = best_times(calls, options.rounds)
        if with_torch:
            best["pytorch"][1] -= best["pytorch"][0]
        for name, (forward, gradients) in best.items():
            ratio = ""
            if with_torch:
                base = best["pytorch"]
                ratio = f"{forward / base[0]:.2f}, {gradients / base[1]:.2f}"
            case = f"{height}x{width}x{channels}, {size}x{size}, {stride}"
            print(f"| {case} | {name} | {forward:.1f} | {gradients:.1f} | {ratio} |")


if __name__ == "__main__":
    main()
