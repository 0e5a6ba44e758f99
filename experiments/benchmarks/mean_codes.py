"""Time of a training step of inherent with exact mean codes, from the bank, and without any.

    python experiments/benchmarks/mean_codes.py                      # as at the small scale
    python experiments/benchmarks/mean_codes.py --width 64 --size 256x128 --rounds 2   # the paper's

`exact` embeds all training images (912 in the paper) before each step, `bank` once an epoch,
set1 (classification alone) never. The three take turns, so that another load on the machine meets
all; the best round counts. A round of `bank` is a step, to which its share of the pass over all
images is added.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reid_jax import models, objectives, parallel, training
from reid_jax.cpu import keep_freed_memory
from reid_jax.training import schedules

MEANS = {"exact": objectives.exact_means, "bank": objectives.bank_means}
NUM_IDENTITIES, WEIGHTS = 57, {"compact_weight": 5e-5, "scatter_weight": 1e-6}


def normalised(images: jax.Array) -> jax.Array:
    return (images.astype(jnp.float32) - 120) / 64


def make(
    means: str | None, options: argparse.Namespace, images: np.ndarray
) -> tuple[Callable[[], None], Callable[[], None] | None]:
    """A function that takes one step, and one that recomputes the mean codes."""
    devices = jax.local_devices()[:1]
    labels = np.arange(len(images), dtype=np.int32) % NUM_IDENTITIES
    model = models.build("resnet18", width=options.width, num_identities=NUM_IDENTITIES)
    single = models.build("resnet18", width=options.width)
    objective = objectives.softmax()
    if means:
        objective = objectives.inherent(means=MEANS[means](), **WEIGHTS)
    loss_state = objective.init(labels, 8 * options.width)
    optimizer = schedules.adam(lambda step: 1e-3, weight_decay=5e-4)
    example = np.zeros((1, *images.shape[1:]), np.float32)
    state = training.create_state(
        model, optimizer, example, key=jax.random.key(0), loss_state=loss_state
    )
    held: list[Any] = [parallel.replicate(state, devices)]
    resident = parallel.replicate(images, devices)
    step = training.make_train_step(
        model,
        optimizer,
        objective,
        axis_name=parallel.AXIS,
        preprocess=lambda images, keys: normalised(images),
    )
    run = parallel.pmap_step(training.with_resident_images(step), devices)
    rows = np.random.default_rng(0).permutation(len(images))[: options.batch].astype(np.int32)
    batch = {
        "row": rows,
        "identity": labels[rows],
        "key": np.zeros((options.batch, 2), np.uint32),
    }
    batch = parallel.shard(batch, devices)

    def embed(variables: Any, images: jax.Array) -> jax.Array:
        params = {k: v for k, v in variables["params"].items() if k != "identification"}
        taps = single.apply({**variables, "params": params}, normalised(images), train=False)
        return taps["embedding"]

    def take_step() -> None:
        held[0], metrics = run(held[0], batch, resident)
        jax.block_until_ready((held[0], metrics))

    if not means:
        return take_step, None
    recompute = objective.refresh.make(embed, labels, devices=devices)

    def refresh() -> None:
        held[0] = held[0].replace(loss_state=recompute(held[0], resident))
        jax.block_until_ready(held[0].loss_state)

    return take_step, refresh


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=912)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--width", type=int, default=32, help="of ResNet-18; 64 in the paper")
    parser.add_argument("--size", default="96x48", help="height x width")
    parser.add_argument("--rounds", type=int, default=5, help="at least 2")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: expected at least 2")
    keep_freed_memory()  # As a run does.

    size = tuple(int(side) for side in options.size.split("x"))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (options.images, *size, 3), dtype=np.uint8)
    print(
        f"ResNet-18 of width {options.width}, {options.size}, {options.images} images, batches of "
        f"{options.batch}, {jax.default_backend()}"
    )
    made = {name: make(name, options, images) for name in (None, "bank", "exact")}
    seconds: dict[str, list[float]] = {"set1": [], "bank": [], "exact": [], "all codes": []}
    for _ in range(options.rounds + 1):
        for means, (step, refresh) in made.items():
            if refresh:
                start = time.perf_counter()
                refresh()
                seconds["all codes"].append(time.perf_counter() - start)
            start = time.perf_counter()
            step()
            taken = time.perf_counter() - start
            if means == "exact":
                taken += seconds["all codes"][-1]
            seconds[means or "set1"].append(taken)
    # The first round of each compiles; "all codes" has two programs.
    best = {name: min(times[2:]) for name, times in seconds.items()}
    best["bank"] += best["all codes"] / max(options.images // options.batch, 1)
    for name, value in best.items():
        rate = options.images if name == "all codes" else options.batch
        print(f"{name:10} {1e3 * value:8.1f} ms, {rate / value:7.1f} images/s")
    print(f"exact takes {best['exact'] / best['bank']:.1f} times the time of bank")


if __name__ == "__main__":
    main()
