"""Seconds from a command to its first training step, with an empty cache and with a full one.

    python experiments/benchmarks/start_up.py
    python experiments/benchmarks/start_up.py --exp=csn_cuhk03

The command is that of `make run`, with its stand-in rendered before. "First" is when the progress
bar counts its first images: JAX is imported, the data opened, the fresh state made and the step
compiled. The cache of the cold start is an empty directory; the warm start has what the cold one
kept there. Each is stopped as soon as it has taken a step. Processor time is that of the whole
process.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from experiments.datasets import prepared_stand_ins
from experiments.papers import EXPERIMENTS, build_config

ROOT = Path(__file__).resolve().parents[2]
FIRST = re.compile(rb"training:[^\r\n]*\| *[1-9][0-9.]*k?/")


def start(command: list[str], cache: str) -> tuple[float, float, float]:
    """Seconds to the first step, to the first line of output, and of processors."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT, env=environment
    )
    assert process.stdout is not None
    output, spoke = b"", 0.0
    while chunk := os.read(process.stdout.fileno(), 65536):
        spoke = spoke or time.perf_counter() - begun
        output += chunk
        if FIRST.search(output):
            break
    took = time.perf_counter() - begun
    process.kill()
    process.communicate()
    if not FIRST.search(output):
        sys.exit(f"no step was taken:\n{output.decode()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took, spoke, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--exp", default="batch_contrastive_market")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()

    config = build_config(options.exp, EXPERIMENTS, scale="small")
    prepared_stand_ins([config.dataset], scale="small")
    command = [sys.executable, "experiments/run.py", f"--exp={options.exp}", "--scale=small"]
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as cache:
            for name in ("cold", "warm"):
                with tempfile.TemporaryDirectory() as workdir:
                    took, spoke, used = start([*command, f"--workdir={workdir}/run"], cache)
                print(
                    f"round {number + 1}, {name}: first step after {took:.1f} s, first words after "
                    f"{spoke:.1f} s, {used:.1f} s of processors",
                    flush=True,
                )


if __name__ == "__main__":
    main()
