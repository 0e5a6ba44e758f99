"""Evaluates a finished run again, on another data set or by another protocol.

    python experiments/evaluate.py --workdir runs/softmax_market --protocol multi-query-average

Writes `evaluation-DATASET-...-PROTOCOL.json` into the work directory; evaluations that differ in
data set, partition, split, protocol, shortlist or an option never share a file.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiments.config import PROTOCOL_NAMES


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="experiments/evaluate.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"protocols: {', '.join(PROTOCOL_NAMES)}",
    )
    parser.add_argument("--workdir", required=True, help="of the run")
    parser.add_argument("--dataset", help="default: the run's own")
    parser.add_argument("--protocol", help="default: the run's own")
    parser.add_argument("--partition", help="of the data set; default: the run's own")
    parser.add_argument("--split", type=int, help="of the partition; default: the run's own")
    parser.add_argument(
        "--shortlist",
        type=int,
        help="score only the N gallery images nearest by descriptor (csn); 0: all",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="evaluation.key=value",
        dest="overrides",
        help="another value of a key of the section evaluation",
    )
    parser.add_argument(
        "--allow_overlap",
        action="store_true",
        help="test on people or files that were trained on too; the result says so",
    )
    parser.add_argument(
        "--data_dir",
        default=os.environ.get("REID_DATA_DIR"),
        help="where prepare.py put the data sets; default $REID_DATA_DIR, else as in the run",
    )
    options = parser.parse_args()

    # Here, so that --help answers at once: what follows imports JAX.
    from experiments import summary
    from experiments.again import evaluation_of
    from experiments.launch import exit_status, prepare_jax
    from reid_jax import parallel

    def evaluate() -> None:
        asked = {name: value for name, value in vars(options).items() if name != "workdir"}
        results, path = evaluation_of(Path(options.workdir).expanduser(), **asked)
        parallel.say(summary.summary_text(results))
        parallel.say(f"results: {path}")

    prepare_jax()
    return exit_status(evaluate)


if __name__ == "__main__":
    sys.exit(main())
