"""Images per second of short steps, one and several to a dispatch.

    python experiments/benchmarks/dispatch.py --width 4 --size 32x32 --batch 8

Each number of `train.steps_per_dispatch` is a training of a ResNet-18 by `reid_jax.training.fit` on
images of noise, all of it: sampling, placing on the devices, logging. The trainings take turns; the
rate is that between the last two log lines, without compilation, and the best round counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import jax

from experiments.benchmarks.pipeline import noise_source
from reid_jax import cpu, data, models, objectives, training
from reid_jax.preprocess import Preprocess
from reid_jax.training import schedules
from reid_jax.training.logs import read_metrics

LOG_EVERY = 128


def rate(steps_per_dispatch: int, source: data.Source, options: argparse.Namespace) -> float:
    """Images per second of the last `LOG_EVERY` steps of a training."""
    height, width = map(int, options.size.split("x"))
    _, identities = data.identity_labels(source.identities)
    model = models.build("resnet18", width=options.width, num_identities=len(identities))
    num_steps = 2 * LOG_EVERY
    with tempfile.TemporaryDirectory() as workdir:
        training.fit(
            model,
            objectives.softmax(),
            source,
            sampler=data.UniformSampler(len(source), batch_size=options.batch, seed=0),
            optimizer=schedules.sgd(lambda step: 0.01, momentum=0.9, weight_decay=0.0),
            preprocess=Preprocess(size=(height, width)),
            num_steps=num_steps,
            seed=0,
            workdir=workdir,
            intervals=training.Intervals(log_every=LOG_EVERY, checkpoint_every=num_steps),
            steps_per_dispatch=steps_per_dispatch,
        )
        return read_metrics(workdir)[-1]["images_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, nargs="*", default=[1, 4, 16, 64])
    parser.add_argument("--width", type=int, default=4, help="channels of the first stage")
    parser.add_argument("--size", default="32x32", help="height x width")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cpu.prepare()  # As a run does.

    source = noise_source(1000)
    rates = dict.fromkeys(options.steps, 0.0)
    for _ in range(options.rounds):
        for steps in rates:
            rates[steps] = max(rates[steps], rate(steps, source, options))
    print(
        f"resnet18 of width {options.width}, {options.batch} images of {options.size}, "
        f"{jax.local_device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}"
    )
    for steps, found in rates.items():
        one = rates[options.steps[0]]
        print(f"{steps:3} a dispatch: {found:8.1f} images/s, {found / one:.2f} times")


if __name__ == "__main__":
    main()
