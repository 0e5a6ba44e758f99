"""Images per second of a training step: this library, plain Flax, and PyTorch channels-last.

    python -m experiments.benchmarks.train_step --model resnet50 --batch 16 --size 256x128

A step is forward, softmax cross-entropy, backward and SGD with momentum, in float32. Ours is the
step of a run, `make_train_step` over all devices, of which a CPU has one for each core; plain
Flax and PyTorch use the cores inside an operation, as they do by themselves. The three are timed in
turn, round by round, so that a machine shared with others slows all of them: three steps each, of
which the first, which finds the caches and the memory of the one before, does not count; a pause
lets the threads of the one before stop waiting for work. The ratios are of the best steps. PyTorch
is left out where it is missing, and so is plain Flax with `--skip flax` (it takes a minute to
compile), and for other networks than ResNets.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import pathlib
import sys
import time
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from reid_jax import cpu, models, objectives, parallel, training
from reid_jax.training import schedules

NUM_IDENTITIES = 751
NETWORKS = ("efficientnet_lite0", "nine_conv", "resnet18", "resnet50")
PAUSE = 0.3
STEPS = 3
"""Of a turn; the first does not count."""


class PlainBlock(nn.Module):
    features: int
    bottleneck: bool
    stride: int

    @nn.compact
    def __call__(self, x):
        convolution = functools.partial(nn.Conv, use_bias=False)
        norm = functools.partial(nn.BatchNorm, use_running_average=False, momentum=0.9)
        f, s = self.features, self.stride
        layers = (
            [(f, 1, 1), (f, 3, s), (4 * f, 1, 1)] if self.bottleneck else [(f, 3, s), (f, 3, 1)]
        )
        y = x
        for i, (features, size, stride) in enumerate(layers):
            y = nn.relu(y) if i else y
            pad = size // 2
            y = norm()(convolution(features, (size, size), stride, [(pad, pad)] * 2)(y))
        if x.shape != y.shape:
            x = norm()(convolution(y.shape[-1], (1, 1), s)(x))
        return nn.relu(x + y)


class PlainResNet(nn.Module):
    """The same network from Flax's own layers, as most code would write it."""

    blocks: tuple[int, ...]
    bottleneck: bool

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(64, (7, 7), 2, [(3, 3)] * 2, use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=False, momentum=0.9)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), [(1, 1)] * 2)
        for stage, count in enumerate(self.blocks):
            for block in range(count):
                stride = 2 if stage and not block else 1
                x = PlainBlock(64 * 2**stage, self.bottleneck, stride)(x)
        return nn.Dense(NUM_IDENTITIES)(x.mean((1, 2)))


def ours(name: str, image: np.ndarray, label: np.ndarray) -> Callable[[], None]:
    model = models.build(name, num_identities=NUM_IDENTITIES)
    optimizer = schedules.sgd(lambda step: 0.01, momentum=0.9, weight_decay=0.0)
    fresh = training.create_state(model, optimizer, image[:1], key=jax.random.key(0))
    devices = parallel.usable_devices(len(image))
    state = [parallel.replicate(fresh, devices)]
    step = parallel.pmap_step(
        training.make_train_step(model, optimizer, objectives.softmax(), axis_name=parallel.AXIS),
        devices,
    )
    batch = parallel.shard({"image": image, "identity": label}, devices)

    def call() -> None:
        state[0], metrics = step(state[0], batch)
        jax.block_until_ready((state[0], metrics))

    return call


def plain_flax(name: str, image: np.ndarray, label: np.ndarray) -> Callable[[], None]:
    like = models.build(name)
    model = PlainResNet(like.blocks, like.bottleneck)
    optimizer = optax.sgd(0.01, momentum=0.9)

    def loss(params, batch_stats, image, label):
        variables = {"params": params, "batch_stats": batch_stats}
        logits, updates = model.apply(variables, image, mutable=["batch_stats"])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, label)
        return losses.mean(), updates["batch_stats"]

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, image, label):
        params, batch_stats, moments = state
        (value, batch_stats), gradient = jax.value_and_grad(loss, has_aux=True)(
            params, batch_stats, image, label
        )
        updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(params, updates), batch_stats, moments), value

    variables = jax.jit(model.init)(jax.random.key(0), image[:1])
    params = variables["params"]
    state = [(params, variables["batch_stats"], optimizer.init(params))]
    image, label = jnp.asarray(image), jnp.asarray(label)

    def call() -> None:
        state[0], value = step(state[0], image, label)
        jax.block_until_ready((state[0], value))

    return call


def pytorch(name: str, image: np.ndarray, label: np.ndarray) -> Callable[[], None]:
    import torch

    sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests"))
    from references import torch_efficientnet_lite0, torch_nine_conv, torch_resnet

    last = torch.channels_last
    if name == "efficientnet_lite0":
        model = torch_efficientnet_lite0.EfficientNetLite0(NUM_IDENTITIES)
    elif name == "nine_conv":
        model = torch_nine_conv.NineConv(NUM_IDENTITIES, image.shape[1:3])
    else:
        model = torch_resnet.ResNet(int(name.removeprefix("resnet")), NUM_IDENTITIES)
    model = model.train().to(memory_format=last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images = torch.from_numpy(image.transpose(0, 3, 1, 2)).to(memory_format=last)
    labels = torch.from_numpy(label).long()

    def call() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images)["logits"], labels).backward()
        optimizer.step()

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50", choices=NETWORKS)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", default="256x128", help="height x width")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip", choices=["flax", "pytorch"], nargs="*", default=[])
    options = parser.parse_args()
    cpu.prepare()  # As a run does; all three have the memory that it keeps.

    height, width = map(int, options.size.split("x"))
    rng = np.random.default_rng(0)
    image = rng.standard_normal((options.batch, height, width, 3), np.float32)
    label = rng.integers(0, NUM_IDENTITIES, options.batch, np.int32)
    makers = {"ours": ours}
    if options.model.startswith("resnet"):
        makers["flax"] = plain_flax
    if importlib.util.find_spec("torch"):
        makers["pytorch"] = pytorch
    steps = {
        name: make(options.model, image, label)
        for name, make in makers.items()
        if name not in options.skip
    }

    seconds: dict[str, list[float]] = {name: [] for name in steps}
    first: dict[str, float] = {}
    for _ in range(options.rounds):
        for name, step in steps.items():
            time.sleep(PAUSE)
            for number in range(STEPS):
                start = time.perf_counter()
                step()
                taken = time.perf_counter() - start
                first.setdefault(name, taken)
                if number:
                    seconds[name].append(taken)
    devices = len(parallel.usable_devices(options.batch))
    print(
        f"{options.model}, batch {options.batch}, {options.size}, {devices} x "
        f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
    )
    best = {name: min(times) for name, times in seconds.items()}
    for name, time_ in best.items():
        median = float(np.median(seconds[name]))
        print(
            f"{name:8} {options.batch / time_:7.1f} images/s  best {time_:.3f} s  "
            f"median {median:.3f} s  first call {first[name]:.1f} s"
        )
    for name in best.keys() - {"ours"}:
        print(f"ours against {name}: {best[name] / best['ours']:.2f} times its speed")


if __name__ == "__main__":
    main()
