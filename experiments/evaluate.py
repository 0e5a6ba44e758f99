"""Evaluates a finished run again: other protocols, another data set, other options.

    python experiments/evaluate.py --workdir runs/softmax_market --protocol multi-query-average
    python experiments/evaluate.py --workdir runs/softmax_market --flip --expand 10 --rerank

Writes `evaluation-DATASET-...-PROTOCOL....json` into the work directory for each protocol;
evaluations that differ in data set, partition, split, protocol, features or an option never share a
file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiments.config import PROTOCOL_NAMES
from experiments.options import EvaluateOptions, add_evaluate_options


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="experiments/evaluate.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"protocols: {', '.join(PROTOCOL_NAMES)}",
    )
    add_evaluate_options(parser)
    options = EvaluateOptions.of(parser.parse_args())

    # Here, so that --help answers at once: what follows imports JAX.
    from experiments import summary
    from experiments.again import evaluations_of
    from experiments.launch import exit_status, prepare_jax
    from reid_jax import parallel

    def evaluate() -> None:
        for results, path in evaluations_of(options):
            parallel.say(summary.summary_text(results))
            parallel.say(f"results: {path}")

    prepare_jax()
    return exit_status(evaluate)


if __name__ == "__main__":
    sys.exit(main())
