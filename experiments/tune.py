"""Chooses a value of an experiment's row on validation identities.

    python experiments/tune.py --exp=batch_contrastive_market --key=loss_weight --values=10,1,0.1

Each value is a run of `experiments/run.py` on a data set prepared with `--num_val_identities`
(without `--data_dir`, a stand-in with 50 of them), scored by mAP on those at the last step, in
`runs/tune/` (`--workdir`), where the scores are written too. The test images are not looked at.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiments.options import add_run_options


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="experiments/tune.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--exp", required=True, metavar="NAME[:key=value,...]")
    parser.add_argument("--key", required=True, help="of the experiment's row")
    parser.add_argument("--values", required=True, metavar="V,V,...")
    parser.add_argument("--workdir", default="runs/tune", help="default runs/tune")
    add_run_options(parser)
    options = parser.parse_args()

    # Here, so that --help answers at once: what follows imports JAX.
    from experiments.launch import exit_status, prepare_jax
    from experiments.tuning import tune

    prepare_jax()
    return exit_status(lambda: tune(options))


if __name__ == "__main__":
    sys.exit(main())
