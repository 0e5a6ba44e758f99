"""Images per second of a training step on one GPU, in bfloat16, beside PyTorch compiled.

    python experiments/benchmarks/gpu_step.py --model resnet50 --batches 16 64 256
    python experiments/benchmarks/gpu_step.py --model csn --batches 256

A step is forward, the loss, backward and the optimizer, with the batch on the device already: of
ResNet-50 softmax cross-entropy and SGD with momentum at 256x128, of csn all its losses and Adam at
160x60, where an example is a pair. Ours is the step of a run, `pmap_step` with `dtype=bfloat16`
(parameters, statistics and losses in float32); PyTorch's is `torch.compile`, channels-last, under
`autocast`, with its fused optimizer, in its default mode and in "reduce-overhead" (CUDA graphs).

Each program has a process of its own, one after the other, so that none holds another's memory.
Steps follow one another without waiting for results; the best of the rounds counts. FLOPs are three
times those of the forward pass, two for each multiplication with its addition in convolutions and
matrix products, as `experiments/complexity.py` counts; they are set against what a product of two
8192x8192 matrices reaches on the same device.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

if __package__ in (None, ""):
    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])

import numpy as np

SIZES = {"csn": (160, 60), "resnet18": (256, 128), "resnet50": (256, 128)}
NUM_IDENTITIES = 751
PROGRAMS = ("ours", "torch", "torch reduce-overhead")
MATRIX = 8192

Step = Callable[[], Any]
"""Takes a step without waiting for it."""
Timed = tuple[Step, Callable[[], Any]]
"""A step, and what waits until all that were taken are done."""


def made_batch(name: str, rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    images = ("image_a", "image_b") if name == "csn" else ("image",)
    batch = {key: rng.standard_normal((rows, *SIZES[name], 3), np.float32) for key in images}
    if name == "csn":
        return batch | {"same": np.arange(rows) % 3 == 0}
    return batch | {"identity": rng.integers(0, NUM_IDENTITIES, rows, np.int32)}


def in_turn(step: Step, wait: Callable[[], Any], *, steps: int, rounds: int) -> list[float]:
    """Seconds of a step in each round, best first; the first call, which compiles, is not one."""
    for _ in range(5):
        step()
    wait()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
        seconds.append((time.perf_counter() - start) / steps)
    return sorted(seconds)


# Ours --------------------------------------------------------------------------------------------


def ours(name: str, batch: dict[str, np.ndarray]) -> Timed:
    import jax

    from reid_jax import models, objectives, parallel, training
    from reid_jax.training import schedules

    if name == "csn":
        model = models.build("csn", dtype="bfloat16")
        objective = objectives.csn(
            ranking_weight=1.0, margin=1.0, prior_weight=0.1, min_scale=0.1, limit=1.0
        )
        optimizer = schedules.adam(lambda step: 5e-4, weight_decay=5e-4)
    else:
        model = models.build(name, num_identities=NUM_IDENTITIES, dtype="bfloat16")
        objective = objectives.softmax()
        optimizer = schedules.sgd(lambda step: 0.01, momentum=0.9, weight_decay=5e-4)
    images = [batch[key][:1] for key in sorted(batch) if key.startswith("image")]
    devices = jax.local_devices()[:1]
    fresh = training.create_state(model, optimizer, *images, key=jax.random.key(0))
    step = parallel.pmap_step(
        training.make_train_step(model, optimizer, objective, axis_name=parallel.AXIS), devices
    )
    placed = parallel.shard(batch, devices)
    last = [(parallel.replicate(fresh, devices), None)]

    def take() -> None:
        last[0] = step(last[0][0], placed)

    return take, lambda: jax.block_until_ready(last[0])


def product_of_ours() -> Timed:
    """The product of matrices that the FLOPs of a step are set against."""
    import jax
    import jax.numpy as jnp

    x, y = jax.random.normal(jax.random.key(0), (2, MATRIX, MATRIX), jnp.bfloat16)
    product, last = jax.jit(jnp.matmul), [y]

    def take() -> None:
        last[0] = product(x, y)

    return take, lambda: jax.block_until_ready(last[0])


# PyTorch's ---------------------------------------------------------------------------------------


def in_torch(name: str, batch: dict[str, np.ndarray], mode: str) -> Timed:
    import torch

    sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests"))
    from references import torch_csn, torch_resnet

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    last = torch.channels_last
    network: Any = torch_csn.CSN()
    optimizer: Any = functools.partial(torch.optim.Adam, lr=5e-4)
    if name != "csn":
        network = torch_resnet.ResNet(int(name.removeprefix("resnet")), NUM_IDENTITIES)
        optimizer = functools.partial(torch.optim.SGD, lr=0.01, momentum=0.9)
    network = network.train().to(device=device, memory_format=last)
    optimizer = optimizer(network.parameters(), weight_decay=5e-4, fused=True)
    compiled = torch.compile(network, mode=mode or None)
    placed = {key: torch.from_numpy(value).to(device) for key, value in batch.items()}
    images = [
        placed[key].permute(0, 3, 1, 2).contiguous(memory_format=last)
        for key in sorted(placed)
        if key.startswith("image")
    ]

    def take() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16):
            outputs = compiled(*images)
        # In float32, as ours.
        outputs = {
            key: {level: theta.float() for level, theta in value.items()}
            if isinstance(value, dict)
            else value.float()
            for key, value in outputs.items()
        }
        if name == "csn":
            loss = torch_csn.loss_of(outputs, placed["same"])
        else:
            loss = torch.nn.functional.cross_entropy(outputs["logits"], placed["identity"].long())
        loss.backward()
        optimizer.step()

    return take, torch.cuda.synchronize if device == "cuda" else lambda: None


# Programs and their table ------------------------------------------------------------------------


def measure(program: str, name: str, rows: int, *, steps: int, rounds: int) -> dict[str, Any]:
    """What one program does, in this process."""
    batch = made_batch(name, rows)
    start = time.perf_counter()
    if program == "ours":
        step, wait = ours(name, batch)
    else:
        step, wait = in_torch(name, batch, program.removeprefix("torch").strip())
    step()
    wait()
    first = time.perf_counter() - start
    found = {"first": first, "seconds": in_turn(step, wait, steps=steps, rounds=rounds)}
    if program == "ours":
        import jax

        found["product"] = in_turn(*product_of_ours(), steps=10, rounds=rounds)
        found["device"] = f"{jax.local_devices()[0].device_kind}, jax {jax.__version__}"
        stats = jax.local_devices()[0].memory_stats() or {}
        found["memory"] = stats.get("peak_bytes_in_use", 0)
    else:
        import torch

        found["device"] = f"PyTorch {torch.__version__}"
        if torch.cuda.is_available():
            found["memory"] = torch.cuda.max_memory_allocated()
    return found


def flops_of(name: str) -> int:
    """Of a training step, for one example."""
    from experiments.complexity import cost

    found = cost({"name": name}, SIZES[name], compiled=False)
    return 3 * (found.pair_flops if name == "csn" else found.image_flops)


def in_own_process(program: str, rows: int, options: argparse.Namespace) -> dict[str, Any] | None:
    words = [sys.executable, __file__, "--program", program, "--model", options.model]
    words += ["--batches", str(rows), "--steps", str(options.steps)]
    words += ["--rounds", str(options.rounds)]
    answer = subprocess.run(words, capture_output=True, text=True, check=False)
    if answer.returncode:
        print(f"{program}, batch {rows}: {answer.stderr[-2000:]}", file=sys.stderr, flush=True)
        return None
    return json.loads(answer.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50", choices=SIZES)
    parser.add_argument("--batches", type=int, nargs="*", default=[16, 64, 256])
    parser.add_argument("--steps", type=int, default=30, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--skip", choices=PROGRAMS, nargs="*", default=[])
    parser.add_argument("--program", choices=PROGRAMS, help="this one alone, and its numbers")
    options = parser.parse_args()
    if options.program:
        (rows,) = options.batches
        timing = {"steps": options.steps, "rounds": options.rounds}
        print(json.dumps(measure(options.program, options.model, rows, **timing)))
        return

    programs = [name for name in PROGRAMS if name not in options.skip]
    if not importlib.util.find_spec("torch"):
        programs = ["ours"]
    flops = flops_of(options.model)
    print(f"{options.model}, {SIZES[options.model]}, {flops / 1e9:.2f} GFLOPs an example")
    headings = "batch", "by", "examples/s", "ms, best", "median", "TFLOP/s", "of the product's"
    print(f"| {' | '.join(headings)} | memory, GB |")
    print("|---|---|---|---|---|---|---|---|")
    for rows in options.batches:
        best, product = {}, None
        for program in programs:
            found = in_own_process(program, rows, options)
            if found is None:
                continue
            seconds = best[program] = found["seconds"][0]
            if program == "ours":
                product = 2 * MATRIX**3 / found["product"][0]
            rate = flops * rows / seconds
            share = f"{100 * rate / product:.1f} %" if product else ""
            print(
                f"| {rows} | {program} ({found['device']}) | {rows / seconds:.0f} "
                f"| {1e3 * seconds:.2f} | {1e3 * float(np.median(found['seconds'])):.2f} "
                f"| {rate / 1e12:.1f} | {share} | {found.get('memory', 0) / 1e9:.2f} |",
                flush=True,
            )
        for program in best.keys() - {"ours"}:
            if "ours" in best:
                print(f"ours against {program}: {best[program] / best['ours']:.2f} times its speed")


if __name__ == "__main__":
    main()
