"""Where a training step's time goes: every layer of a network alone, beside PyTorch's.

    python experiments/benchmarks/layers.py --model resnet18 --size 256x128 --batch 16
    python experiments/benchmarks/layers.py --model resnet50 --batch 1 --forward

The layers are those that a forward pass of the network goes through, equal ones counted: each
convolution, and each batch norm of a map with the ReLU behind it. The time of one is that of its
forward pass and all its gradients, as processor time on one core (`--threads`), so that another
load on the machine counts little; the two libraries take turns and the best round counts. PyTorch
runs channels-last, and is needed. The images of a step are divided over the devices of a CPU: give
the batch of one device. What is left of a whole step is pooling, additions, loss, update, and the
waiting of two devices for one cache.

With `--forward` it is where the time of an embedding goes: the forward pass as at test, in which
batch norm is a multiplication and an addition.
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.depthwise import use_processors
from experiments.benchmarks.train_step import NETWORKS
from reid_jax import models
from reid_jax.cpu import keep_freed_memory
from reid_jax.models.activation import relu
from reid_jax.models.conv import Conv, Padding, Pair, conv
from reid_jax.models.norm import BatchNorm, batch_normalise


class Layer(NamedTuple):
    """What tells a layer's work from another's."""

    kind: str
    image: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    strides: Pair = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    groups: int = 1

    def __str__(self) -> str:
        size = "x".join(map(str, self.image[1:]))
        if self.kind == "norm":
            return f"{size}, batch norm and ReLU"
        stride = f", stride {self.strides[0]}" if self.strides != (1, 1) else ""
        alike = " of each channel" if self.groups > 1 else f" to {self.kernel[3]}"
        return f"{size}, {self.kernel[0]}x{self.kernel[1]}{alike}{stride}"


def layers_of(name: str, image: tuple[int, ...]) -> collections.Counter[Layer]:
    """How often each layer is met by `image` [B, H, W, 3]."""
    met: collections.Counter[Layer] = collections.Counter()

    def note(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name == "__call__" and isinstance(module, Conv):
            shape = args[0].shape
            kernel = (*module.kernel_size, shape[3] // module.groups, module.features)
            layer = Layer("conv", shape, kernel, module.strides, module.padding, module.groups)
            met[layer] += 1
        of_maps = isinstance(module, BatchNorm) and args[0].ndim == 4
        if context.method_name == "__call__" and of_maps:
            met[Layer("norm", args[0].shape)] += 1
        return call(*args, **kwargs)

    model = models.build(name, num_identities=751)
    with nn.intercept_methods(note):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(image))
    return met


def arrays_of(layer: Layer) -> list[np.ndarray]:
    """The image, and the kernel or the scale and shift."""
    rng = np.random.default_rng(0)
    channels = (layer.image[3],)
    shapes = [layer.kernel] if layer.kind == "conv" else [channels, channels]
    return [rng.standard_normal(shape, np.float32) for shape in (layer.image, *shapes)]


def ours(layer: Layer, arrays: list[np.ndarray], *, forward: bool) -> Callable[[], None]:
    def function(image: jax.Array, *parameters: jax.Array) -> jax.Array:
        if layer.kind == "norm" and forward:
            return relu(image * parameters[0] + parameters[1])
        if layer.kind == "norm":
            return relu(batch_normalise(image, *parameters, epsilon=1e-5)[0])
        return conv(
            image,
            *parameters,
            strides=layer.strides,
            padding=layer.padding,
            groups=layer.groups,
        )

    @jax.jit
    def both(*arrays: jax.Array) -> Any:
        result, gradients = jax.vjp(function, *arrays)
        return result, gradients(result)

    given = [jnp.asarray(array) for array in arrays]
    called = jax.jit(function) if forward else both
    return lambda: jax.block_until_ready(called(*given))


def pytorch(layer: Layer, arrays: list[np.ndarray], *, forward: bool) -> Callable[[], None]:
    import torch

    functional = torch.nn.functional
    last = torch.channels_last
    image = torch.from_numpy(arrays[0].transpose(0, 3, 1, 2)).contiguous(memory_format=last)
    parameters = [torch.from_numpy(array) for array in arrays[1:]]
    if layer.kind == "conv":
        parameters = [parameters[0].permute(3, 2, 0, 1).contiguous(memory_format=last)]
    (top, bottom), (left, right) = layer.padding
    even = top == bottom and left == right
    known = [torch.zeros(layer.image[3]), torch.ones(layer.image[3])] if forward else [None, None]

    def function(image: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        if layer.kind == "norm":
            return functional.relu(
                functional.batch_norm(image, *known, *parameters, training=not forward)
            )
        if not even:
            image = functional.pad(image, (left, right, top, bottom))
        pad = (top, left) if even else 0
        return functional.conv2d(image, *parameters, None, layer.strides, pad, groups=layer.groups)

    def call() -> None:
        if forward:
            with torch.no_grad():
                function(image, *parameters)
            return
        leaves = [array.detach().requires_grad_() for array in (image, *parameters)]
        result = function(*leaves)
        torch.autograd.grad(result, leaves, result.detach())

    return call


def best_times(calls: list[Callable[[], None]], rounds: int) -> list[float]:
    """Milliseconds of processor time of the best round."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for call, taken in zip(calls, times, strict=True):
            start = time.process_time()
            call()
            taken.append(1e3 * (time.process_time() - start))
    return [min(taken[1:]) for taken in times]  # The first compiles.


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18", choices=NETWORKS)
    parser.add_argument("--batch", type=int, default=16, help="images of one device")
    parser.add_argument("--size", default="256x128", help="height x width")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--forward", action="store_true", help="of an embedding: no gradients")
    parser.add_argument("--threads", type=int, default=1, help="processors that are used")
    options = parser.parse_args()
    use_processors(options.threads)
    keep_freed_memory()  # As a run does; both then have it.
    import torch

    torch.set_num_threads(options.threads)

    height, width = map(int, options.size.split("x"))
    met = layers_of(options.model, (options.batch, height, width, 3))
    rows = []
    for layer, count in met.items():
        arrays = arrays_of(layer)
        calls = [made(layer, arrays, forward=options.forward) for made in (ours, pytorch)]
        rows.append((layer, count, *(count * best for best in best_times(calls, options.rounds))))
    print(
        f"{options.model}, {options.batch} images of {options.size}, {jax.default_backend()}, "
        f"processor time in ms of {options.threads} core(s), jax {jax.__version__}, "
        f"torch {torch.__version__}\n"
    )
    print("| layer | times | ours | PyTorch | lost |\n|---|---|---|---|---|")
    for layer, count, own, other in sorted(rows, key=lambda row: row[3] - row[2]):
        print(f"| {layer} | {count} | {own:.1f} | {other:.1f} | {own - other:+.1f} |")
    for kind in ("conv", "norm"):
        own, other = (sum(row[n] for row in rows if row[0].kind == kind) for n in (2, 3))
        print(f"| all of {kind} | | {own:.1f} | {other:.1f} | {own - other:+.1f} |")


if __name__ == "__main__":
    main()
