"""Time of a training step of csn, with each correlation and in PyTorch, and of scoring pairs.

    python experiments/benchmarks/csn_step.py --pairs 64
    python experiments/benchmarks/csn_step.py --pairs 64 --grouped_conv   # once: takes minutes
    python experiments/benchmarks/csn_step.py --score 1250

A step is the whole of it: both images of each pair at 160 x 60, forward, all losses, backward and
Adam, in float32, levels 2 and 3. Ours and PyTorch's (the same network, tests/references/torch_csn)
take turns, so that another load on the machine meets both; the best round counts. A pause before
each lets the threads of the one before stop waiting for work. `--score` times pairs at once
through the whole network, as in Section 4.2 of the paper, and from cached parts.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import pathlib
import sys
import time
from collections.abc import Callable

import jax
import numpy as np

from reid_jax import evaluation, models, objectives, training
from reid_jax.cpu import keep_freed_memory
from reid_jax.training import schedules

SIZE = (160, 60, 3)
PAUSE = 0.5


def batch_of(num_pairs: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    images = {name: rng.standard_normal((num_pairs, *SIZE), np.float32) for name in "ab"}
    return {
        "image_a": images["a"],
        "image_b": images["b"],
        "same": np.arange(num_pairs) % 3 == 0,
    }


def ours(correlation: str, batch: dict[str, np.ndarray]) -> tuple[Callable[[], None], float]:
    """A function that takes one step, and the seconds of its compilation."""
    model = models.build("csn", correlation=correlation)
    objective = objectives.csn(
        ranking_weight=1.0, margin=1.0, prior_weight=0.1, min_scale=0.1, limit=1.0
    )
    optimizer = schedules.adam(lambda step: 5e-4, weight_decay=5e-4)
    image = np.zeros((1, *SIZE), np.float32)
    state = [training.create_state(model, optimizer, image, image, key=jax.random.key(0))]
    step = jax.jit(training.make_train_step(model, optimizer, objective), donate_argnums=0)
    batch = jax.device_put(batch)
    start = time.perf_counter()
    compiled = step.lower(state[0], batch).compile()
    seconds = time.perf_counter() - start

    def call() -> None:
        state[0], metrics = compiled(state[0], batch)
        jax.block_until_ready((state[0], metrics))

    return call, seconds


def pytorch(batch: dict[str, np.ndarray]) -> Callable[[], None]:
    import torch

    sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tests"))
    from references import torch_csn

    model = torch_csn.CSN().train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, weight_decay=5e-4)
    a, b = (torch.from_numpy(batch[name].transpose(0, 3, 1, 2)) for name in ("image_a", "image_b"))
    same = torch.from_numpy(batch["same"])

    def call() -> None:
        optimizer.zero_grad()
        torch_csn.loss_of(model(a, b), same).backward()
        optimizer.step()

    return call


def time_steps(options: argparse.Namespace) -> None:
    batch = batch_of(options.pairs)
    print(f"csn (L2, L3), {options.pairs} pairs, {jax.default_backend()}")
    auto, compile_seconds = ours("auto", batch)
    print(f"auto compiles in {compile_seconds:.0f} s")
    steps = {"auto": auto}
    if importlib.util.find_spec("torch") and not options.grouped_conv:
        steps["pytorch"] = pytorch(batch)
    seconds = {name: [] for name in steps}
    for _ in range(options.rounds + 1):
        for name, step in steps.items():
            time.sleep(PAUSE)
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
    best = {name: min(times[1:]) for name, times in seconds.items()}
    if options.grouped_conv:
        step, compile_seconds = ours("grouped_conv", batch)
        print(f"grouped_conv compiles in {compile_seconds:.0f} s")
        start = time.perf_counter()
        try:
            step()
        except jax.errors.JaxRuntimeError as error:
            print(f"grouped_conv does not run with {options.pairs} pairs: {error}")
        else:
            best["grouped_conv"] = time.perf_counter() - start
    for name, value in best.items():
        print(f"{name:12} {value:8.3f} s a step, {options.pairs / value:7.1f} pairs/s")
    for name in best.keys() - {"auto"}:
        print(f"auto against {name}: {best[name] / best['auto']:.1f} times its speed")


def time_scores(options: argparse.Namespace) -> None:
    """All queries with all of 50 gallery images, so many that it is the wanted number of pairs."""
    num_gallery = 50
    num_queries = options.score // num_gallery
    num_pairs = num_queries * num_gallery
    model = models.build("csn")
    images = batch_of(num_queries + num_gallery)["image_a"]
    variables = jax.jit(model.init)(jax.random.key(0), images[:1], images[:1])
    score = functools.partial(evaluation.similarity_score, distance_weight=0.2, epsilon=1e-4)

    @jax.jit
    def direct(variables, a, b):
        outputs = model.apply(variables, a, b, train=False)
        return score(outputs["pair_logits"], outputs["descriptor_a"], outputs["descriptor_b"])

    def embed(variables, images):
        return model.apply(variables, images, method="embed")

    def of_parts(variables, a, b):
        logits = model.apply(variables, a, b, method="score")["pair_logits"]
        return score(logits, a["descriptor"], b["descriptor"])

    queries, gallery = np.arange(num_queries), np.arange(num_queries, len(images))
    pairs = np.stack([np.repeat(queries, num_gallery), np.tile(gallery, num_queries)], axis=1)

    def all_direct() -> None:
        blocks = [pairs[i : i + options.block] for i in range(0, num_pairs, options.block)]
        for block in blocks:
            rows = np.concatenate([block, np.repeat(block[-1:], options.block - len(block), 0)])
            jax.block_until_ready(direct(variables, images[rows[:, 0]], images[rows[:, 1]]))

    def batches(rows):
        for first in range(rows.start, rows.stop, 25):
            yield images[first : min(first + 25, rows.stop)]

    scorers = []

    def cached() -> None:
        cache = evaluation.cache_images(
            embed,
            variables,
            batches,
            image=jax.ShapeDtypeStruct((1, *SIZE), np.float32),
            num_images=len(images),
            batch_size=25,
            description="images",
        )
        if not scorers:
            scorers.append(
                evaluation.PairScorer(of_parts, variables, cache, block_size=options.block)
            )
        embedded.append(time.perf_counter())
        scorers[0].distance_of(queries, gallery)

    embedded: list[float] = []
    print(f"csn (L2, L3), {num_queries} x {num_gallery} images, blocks of {options.block} pairs")
    for _ in range(options.rounds + 1):
        start = time.perf_counter()
        all_direct()
        middle = time.perf_counter()
        cached()
        end = time.perf_counter()
        print(
            f"direct {middle - start:.2f} s; from cached parts {end - middle:.2f} s, of which "
            f"{embedded[-1] - middle:.2f} s for the images"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--grouped_conv", action="store_true", help="time that one, once")
    parser.add_argument("--score", type=int, metavar="PAIRS", help="time scoring instead")
    parser.add_argument("--block", type=int, default=125, help="pairs of one call")
    options = parser.parse_args()
    keep_freed_memory()  # As a run does; all then have it.
    (time_scores if options.score else time_steps)(options)


if __name__ == "__main__":
    main()
