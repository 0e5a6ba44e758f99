"""Runs an experiment: python experiments/run.py --exp=batch_contrastive_market

The same command resumes a run that was stopped, and shows the results of one that is finished.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from experiments.config import PROTOCOL_NAMES, load_config, parse_overrides, table
from experiments.options import SCALES, RunOptions, add_run_options
from experiments.papers import EXPERIMENTS, build_config


def shown_config(options: RunOptions) -> str:
    """Every key of a config with its value and its meaning, a line each."""
    if options.config:
        config = load_config(options.config)
    else:
        scale = "small" if options.scale == SCALES[0] else options.scale
        config = build_config(options.exp, EXPERIMENTS, scale=scale)
    config = parse_overrides(config, options.overrides)
    rows = [(key, str(value), meaning) for key, value, meaning in table(config)]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{k:<{widths[0]}}  {v:<{widths[1]}}  {meaning}" for k, v, meaning in rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="experiments/run.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"experiments: {', '.join(EXPERIMENTS)}\n\nprotocols: {', '.join(PROTOCOL_NAMES)}",
    )
    parser.add_argument("--exp", default="", metavar="NAME[:key=value,...]")
    parser.add_argument("--config", metavar="FILE", help="a run's config.json, in place of --exp")
    parser.add_argument("--workdir", help="default runs/EXP, with what --set and --dataset change")
    parser.add_argument(
        "--show_config", action="store_true", help="print every key, value and meaning, and stop"
    )
    add_run_options(parser)
    parsed = parser.parse_args()
    options = RunOptions.of(parsed)

    # Here, so that --help and --show_config answer at once: what follows imports JAX.
    from experiments.launch import exit_status, prepare_jax, run_experiment

    if parsed.show_config:
        return exit_status(lambda: print(shown_config(options)))
    prepare_jax()
    return exit_status(lambda: run_experiment(options))


if __name__ == "__main__":
    sys.exit(main())
