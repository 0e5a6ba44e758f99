"""The choice of a hyper-parameter on validation identities."""

from __future__ import annotations

import argparse
import dataclasses

from etils import epath

from experiments import build, job, provenance, sources, workdir
from experiments.launch import make_job, planned_runs
from experiments.options import RunOptions
from experiments.papers import slug
from reid_jax import parallel
from reid_jax.training.logs import read_metrics

__all__ = ["tune"]

STAND_IN_VAL_IDENTITIES = 50


def tune(options: argparse.Namespace) -> dict[str, float]:
    """Mean validation mAP (step) of each value; the highest is the one to take.

    Args:
        options: of the command line: `key`, `values`, and those of `RunOptions`; the
            runs of all seeds and splits go below `workdir`, and the scores to a file there.
    """
    scores = {}
    top = epath.Path(options.workdir or "runs/tune").expanduser()
    for value in options.values.split(","):
        exp = f"{options.exp}{',' if ':' in options.exp else ':'}{options.key}={value}"
        row = dataclasses.replace(RunOptions.of(options), exp=exp, workdir=str(top / slug(exp)))
        made = make_job(row, num_val_identities=STAND_IN_VAL_IDENTITIES)
        if not made.config.train.validate_every:
            raise ValueError(
                f"{options.exp} does not validate while it trains: add --set "
                "train.validate_every=N, a number of steps"
            )
        finals = []
        for name, run in planned_runs(made, row).items():
            protocol = build.protocol(run.config)
            images = sources.open_all(run.data_dir, run.config, protocol, split=run.split)
            if images.validation is None:
                raise ValueError(
                    f"{run.config.dataset} in {run.data_dir} has no validation identities: "
                    "prepare it with --num_val_identities N, in another --data_dir."
                )
            if not name:
                run = dataclasses.replace(run, workdir=run.workdir / f"seed_{run.seed}")
            job.train(job.with_dtype(run), images)
            parallel.barrier("tuned")
            records = read_metrics(run.workdir)
            finals.append([r["val_map_step"] for r in records if "val_map_step" in r][-1])
        scores[value] = sum(finals) / len(finals)
        parallel.say(f"{options.key}={value}: validation mAP {100 * scores[value]:.2f} %")
    best = max(scores, key=lambda value: scores[value])
    if parallel.is_main_process():
        path = top / f"{slug(options.exp)}-{options.key}.json"
        workdir.write_json(
            path,
            {
                "exp": options.exp,
                "key": options.key,
                "validation_map_step": scores,
                "num_runs": len(finals),
                "scale": made.scale,
                "dataset": made.config.dataset,
                "overrides": list(options.overrides),
                "command": _command(options, made.scale),
                "commit": provenance.commit(),
                "versions": provenance.versions(),
                "machine": provenance.machine(),
            },
        )
        parallel.say(f"scores: {path}")
    parallel.say(
        f"best: {options.key}={best}, chosen on validation identities ({len(finals)} run(s))"
    )
    return scores


def _command(options: argparse.Namespace, scale: str) -> str:
    """The command that does the same again, with the scale that was taken."""
    of = [f"--{name}={getattr(options, name)}" for name in ("exp", "key", "values")]
    return RunOptions.of(options).command(scale, "tune.py", of)
