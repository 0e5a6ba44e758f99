"""Chooses a value of an experiment's row on validation identities.

    python experiments/search.py --exp=batch_contrastive_market --key=loss_weight --values=10,1,0.1

Each value is a run of ``experiments/run.py`` on a data set prepared with ``--num_val_identities``
(without ``--data_dir``, a stand-in with 50 of them), scored by mAP on those at the last step. The
test images are not looked at.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiments.run import add_run_options, exit_status, make_job, prepare_jax

STAND_IN_VAL_IDENTITIES = 50


def search(options: argparse.Namespace) -> dict[str, float]:
    """Mean validation mAP (step) of each value; the highest is the one to take."""
    from etils import epath

    from experiments import job, protocols
    from reid_jax import parallel
    from reid_jax.training.logs import read_metrics

    scores = {}
    for value in options.values.split(","):
        row = f"{options.exp}{',' if ':' in options.exp else ':'}{options.key}={value}"
        finals = []
        for seed in range(options.seed, options.seed + options.repeats):
            chosen = argparse.Namespace(
                **{**vars(options), "exp": row, "seed": seed, "workdir": None}
            )
            made = make_job(chosen, num_val_identities=STAND_IN_VAL_IDENTITIES)
            if protocols.validation_sources(made.data_dir, made.config, split=0) is None:
                raise ValueError(
                    f"{made.config.dataset} in {made.data_dir} has no validation identities: "
                    "prepare it with --num_val_identities N, in another --data_dir."
                )
            if not made.config.train.validate_every:
                raise ValueError(
                    f"{options.exp} does not validate while it trains: add --set "
                    "train.validate_every=N, a number of steps"
                )
            workdir = epath.Path("runs/search") / made.workdir.name / f"seed_{seed}"
            made = dataclasses.replace(made, workdir=workdir)
            job.train(made)
            parallel.barrier("searched")
            records = read_metrics(made.workdir)
            finals.append([r["val_map_step"] for r in records if "val_map_step" in r][-1])
        scores[value] = sum(finals) / len(finals)
        parallel.say(f"{options.key}={value}: validation mAP {100 * scores[value]:.2f} %")
    best = max(scores, key=scores.get)
    parallel.say(
        f"best: {options.key}={best}, chosen on validation identities ({options.repeats} run(s))"
    )
    return scores


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="experiments/search.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--exp", required=True, metavar="NAME[:key=value,...]")
    parser.add_argument("--key", required=True, help="of the experiment's row")
    parser.add_argument("--values", required=True, metavar="V,V,...")
    add_run_options(parser)
    options = parser.parse_args()
    prepare_jax()
    return exit_status(lambda: search(options))


if __name__ == "__main__":
    sys.exit(main())
