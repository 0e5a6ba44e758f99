"""Evaluates a finished run again, on another data set or by another protocol.

    python experiments/evaluate.py --workdir runs/batch_contrastive_market \
        --protocol multi-query-average

Writes ``evaluation,DATASET,PROTOCOL.json`` into the work directory.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiments.run import exit_status, prepare_jax


def evaluate_again(options: argparse.Namespace) -> None:
    """Does what the command line says."""
    from etils import epath

    from experiments import job
    from reid_jax import parallel

    results, path = evaluation_of(
        epath.Path(options.workdir).expanduser(),
        dataset=options.dataset,
        protocol=options.protocol,
        data_dir=options.data_dir,
        partition=options.partition,
        split=options.split,
        shortlist=options.shortlist,
    )
    parallel.say(job.summary_text(results))
    parallel.say(f"results: {path}")


def evaluation_of(
    workdir: Any,
    *,
    dataset: str | None = None,
    protocol: str | None = None,
    data_dir: str | None = None,
    partition: str | None = None,
    split: int | None = None,
    shortlist: int | None = None,
    reuse: bool = False,
) -> tuple[dict[str, Any], Any]:
    """Results of a finished run on another data set or by another protocol, and their path.

    What is None is the run's own; the partition of another data set is none. With ``reuse`` results
    that are newer than the run's own are taken as they are.
    """
    from etils import epath
    from ml_collections import ConfigDict

    from experiments import datasets, inputs, job, protocols
    from reid_jax import parallel

    record = job.read_record(workdir)
    own = ConfigDict(record["config"])
    config = own.copy_and_resolve_references()
    if dataset:
        config.update(dataset=dataset)
        config.evaluation.dataset = ""
        config.data.joined = ()
    if partition is not None or config.dataset != own.dataset:
        config.data.partition = partition or ""
    split = record["split"] if split is None else split
    protocol = protocol or own.evaluation.protocol
    tested = config.evaluation.dataset or config.dataset
    name = f"evaluation,{tested},{protocol}"
    if shortlist is not None:
        if "shortlist" not in config.evaluation:
            raise ValueError(
                f"{record['exp']} compares embeddings, which takes no shortlist: leave out "
                "--shortlist"
            )
        if shortlist < 0:
            raise ValueError(f"--shortlist={shortlist}: expected a number of images, or 0 for all")
        config.evaluation.shortlist = shortlist
        name += f",shortlist-{shortlist}"
    path = workdir / f"{name}.json"
    if reuse and path.exists() and path.stat().mtime >= (workdir / "results.json").stat().mtime:
        found = json.loads(path.read_text())
        # The same file holds what evaluate.py found on another split of the data set.
        if (found["partition"], found["split"]) == (config.data.partition or None, split):
            return found, path
    data_dir = epath.Path(data_dir or record["data_dir"]).expanduser()
    datasets.provide(data_dir, protocols.needed_datasets(config, protocol))
    sources = protocols.open_sources(data_dir, config, protocol, split=split)
    _, network = job.load_run(workdir)
    # Only what is tested and how it is scored may differ from the training.
    network.config.evaluation = config.evaluation
    outcome = protocols.evaluate(network, sources, protocol)
    results = {
        "exp": record["exp"],
        "method": own.method,
        "dataset": tested,
        "trained_on": "+".join(inputs.training_datasets(own)),
        "data_source": protocols.data_source(data_dir, config, protocol),
        "partition": config.data.partition or None,
        "split": split,
        "scale": record["scale"],
        "seed": record["seed"],
        **outcome.facts,
        "paper": None,
    }
    if parallel.is_main_process():
        job.write_json(path, results)
    return results, path


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="experiments/evaluate.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
        "--data_dir",
        default=os.environ.get("REID_DATA_DIR"),
        help="where prepare.py put the data sets; default $REID_DATA_DIR, else as in the run",
    )
    options = parser.parse_args()
    prepare_jax()
    return exit_status(lambda: evaluate_again(options))


if __name__ == "__main__":
    sys.exit(main())
