"""A paper's table or figure with ours beside it: runs what is missing, reuses what is done.

    python experiments/tables.py --table=batch_contrastive/1 --repeats=5
    python experiments/tables.py --figure=batch_contrastive/1

Runs are those of `experiments/run.py` with the same options, in the same work directories. A
table is printed and written to `runs/tables/` (`--results_dir`) as Markdown, with the
`results.json` of its rows and the commands that made them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiments.options import add_run_options
from experiments.papers import FIGURES, TABLES


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="experiments/tables.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"tables: {', '.join(TABLES)}\n\nfigures: {', '.join(FIGURES)}",
    )
    parser.add_argument("--table", metavar="METHOD/NUMBER")
    parser.add_argument("--figure", metavar="METHOD/NUMBER")
    parser.add_argument(
        "--rows",
        default="",
        metavar="TEXT",
        help="only rows with it in their label; several by commas, or a whole label that has some",
    )
    parser.add_argument("--results_dir", default="runs/tables", help="default runs/tables")
    add_run_options(parser)
    options = parser.parse_args()

    # Here, so that --help answers at once: what follows imports JAX.
    from experiments.launch import exit_status, prepare_jax
    from experiments.printed import make

    prepare_jax()
    return exit_status(lambda: make(options))


if __name__ == "__main__":
    sys.exit(main())
