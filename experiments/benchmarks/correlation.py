"""Time of depthwise cross-correlation, forward and with its gradients, by every method.

    python experiments/benchmarks/correlation.py

The shapes are those of csn at levels 2 and 3, and the 20x7 of the project's first measurements.
PyTorch's `conv2d(groups=...)` on the same numbers runs beside, where it is installed. The methods
take turns, so that another load on the machine meets all of them; the best round counts. A pause
before each lets the threads of the one before stop waiting for work. A method that takes longer
than `--once_above` seconds runs once.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from reid_jax.cpu import keep_freed_memory
from reid_jax.ops import depthwise_cross_correlation

# Name, signal [H, W], kernel [h, w].
SHAPES = [
    ("level 2", (40, 15), (10, 10)),
    ("level 3", (20, 8), (5, 5)),
    ("level 3 but for a column", (20, 7), (5, 5)),
]
PAUSE = 0.3
METHODS = ("auto", "shift", "fft", "grouped_conv")


def ours(method: str, arrays: list[np.ndarray]) -> tuple[Callable[[], None], Callable[[], None]]:
    """(forward, forward and backward)."""

    def correlate(signal: jax.Array, kernel: jax.Array) -> jax.Array:
        return depthwise_cross_correlation(signal, kernel, method=method)

    def both(signal: jax.Array, kernel: jax.Array, dy: jax.Array) -> tuple:
        y, vjp = jax.vjp(correlate, signal, kernel)
        return y, *vjp(dy)

    signal, kernel, dy = map(jnp.asarray, arrays)
    forward, both = jax.jit(correlate), jax.jit(both)
    return (
        lambda: jax.block_until_ready(forward(signal, kernel)),
        lambda: jax.block_until_ready(both(signal, kernel, dy)),
    )


def pytorch(arrays: list[np.ndarray]) -> tuple[Callable[[], None], Callable[[], None]]:
    """The same with the examples folded into the channels, which is not counted."""
    import torch

    signal, kernel, dy = (torch.from_numpy(array.transpose(0, 3, 1, 2).copy()) for array in arrays)
    groups = signal.shape[0] * signal.shape[1]
    signal, dy = (x.reshape(1, groups, *x.shape[2:]) for x in (signal, dy))
    kernel = kernel.reshape(groups, 1, *kernel.shape[2:])
    rows, columns = (((size - 1) // 2, size // 2) for size in kernel.shape[2:])

    def correlate() -> torch.Tensor:
        padded = torch.nn.functional.pad(signal, (*columns, *rows))
        return torch.nn.functional.conv2d(padded, kernel, groups=groups)

    def forward() -> None:
        with torch.no_grad():
            correlate()

    def both() -> None:
        signal.requires_grad_()
        kernel.requires_grad_()
        signal.grad = kernel.grad = None
        correlate().backward(dy)
        signal.requires_grad_(False)
        kernel.requires_grad_(False)

    return forward, both


def best_times(
    calls: dict[str, Callable[[], None]], *, rounds: int, once_above: float
) -> dict[str, float]:
    """Seconds of the best of several rounds, in turns."""
    best = {}
    for call in calls.values():
        call()  # Compiles.
    for _ in range(rounds):
        for name, call in calls.items():
            if best.get(name, 0) > once_above:
                continue
            time.sleep(PAUSE)
            start = time.perf_counter()
            call()
            best[name] = min(best.get(name, np.inf), time.perf_counter() - start)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--channels", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--once_above", type=float, default=1.0, help="seconds")
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    options = parser.parse_args()
    keep_freed_memory()  # As a run does; all then have it.

    print(f"{options.batch} examples, {options.channels} channels, {jax.default_backend()}")
    for name, signal, kernel in SHAPES:
        rng = np.random.default_rng(0)
        arrays = [
            rng.standard_normal((options.batch, *size, options.channels), np.float32)
            for size in (signal, kernel, signal)
        ]
        makers = {method: ours(method, arrays) for method in options.methods}
        if importlib.util.find_spec("torch"):
            makers["pytorch"] = pytorch(arrays)
        timing = {"rounds": options.rounds, "once_above": options.once_above}
        forward = best_times({name: calls[0] for name, calls in makers.items()}, **timing)
        both = best_times({name: calls[1] for name, calls in makers.items()}, **timing)
        print(f"\n{name}: signal {signal[0]}x{signal[1]}, kernel {kernel[0]}x{kernel[1]}")
        print("| method | forward, ms | forward + backward, ms |\n|---|---|---|")
        for method in makers:
            print(f"| {method} | {1e3 * forward[method]:.2f} | {1e3 * both[method]:.2f} |")


if __name__ == "__main__":
    main()
