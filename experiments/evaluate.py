"""Evaluates a finished run again, on another data set or by another protocol.

    python experiments/evaluate.py --workdir runs/batch_contrastive_market \
        --protocol multi-query-average

Writes ``evaluation,DATASET,PROTOCOL.json`` into the work directory.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiments.run import exit_status, prepare_jax


def evaluate_again(options: argparse.Namespace) -> None:
    """Does what the command line says."""
    from etils import epath

    from experiments import job
    from reid_jax import data, parallel

    workdir = epath.Path(options.workdir).expanduser()
    config, record, variables = job.load_run(workdir)
    dataset = options.dataset or config.dataset
    protocol = options.protocol or config.evaluation.protocol
    data_dir = epath.Path(options.data_dir or record["data_dir"]).expanduser()
    split = job.open_splits(data_dir, dataset, protocol)
    facts, _, _ = job.evaluate(config, variables, split, protocol)
    results = {
        "exp": record["exp"],
        "method": config.method,
        "dataset": dataset,
        "trained_on": config.dataset,
        "data_source": data.dataset_card(data_dir, dataset)["data_source"],
        "scale": record["scale"],
        "seed": record["seed"],
        **facts,
        "paper": None,
    }
    path = workdir / f"evaluation,{dataset},{facts['protocol']}.json"
    if parallel.is_main_process():
        job.write_json(path, results)
    parallel.say(job.summary_text(results))
    parallel.say(f"results: {path}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="experiments/evaluate.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", required=True, help="of the run")
    parser.add_argument("--dataset", help="default: the run's own")
    parser.add_argument("--protocol", help="default: the run's own")
    parser.add_argument(
        "--data_dir",
        default=os.environ.get("REID_DATA_DIR"),
        help="where prepare.py put the data sets; default $REID_DATA_DIR, else as in the run",
    )
    options = parser.parse_args()
    prepare_jax()
    return exit_status(lambda: evaluate_again(options))


if __name__ == "__main__":
    sys.exit(main())
