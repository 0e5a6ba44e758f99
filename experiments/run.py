"""Runs an experiment: python experiments/run.py --exp=batch_contrastive_market

The same command resumes a run that was stopped, and shows the results of one that is finished.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import errno
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from reid_jax import parallel

M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX = -4, -1, -8  # From glibc's malloc.h.
SCALES = ("auto", "paper", "small")
_MENDABLE = (ValueError, OSError, ImportError, MemoryError)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options that a run has wherever it is started from."""
    parser.add_argument("--dataset", help="another prepared data set in place of the experiment's")
    parser.add_argument(
        "--data_dir",
        default=os.environ.get("REID_DATA_DIR"),
        help="where prepare.py put the data sets; default $REID_DATA_DIR, else a stand-in",
    )
    parser.add_argument("--scale", choices=SCALES, default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=1, help="runs with seed, seed + 1, ...")
    parser.add_argument(
        "--splits",
        default="0",
        metavar="all|N,N,...",
        help="of the data set's partition; default 0",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="section.key=value", dest="overrides"
    )


def run_experiment(options: argparse.Namespace) -> dict[str, Any]:
    """Does what the command line says and returns the results, the mean of several runs."""
    from experiments import job as jobs
    from reid_jax import report

    job = make_job(options)
    runs = planned_runs(job, options)
    if not all((run.workdir / "results.json").exists() for run in runs.values()):
        provide_start(job, options)
    if list(runs) == [""]:
        results = jobs.run(runs[""])
    else:
        job = dataclasses.replace(job, workdir=common_workdir(runs))
        finished = {}
        for name, run in runs.items():
            parallel.say(f"--- {name}")
            finished[name] = jobs.run(run)
        results = report.summarize(finished)
        if parallel.is_main_process():
            jobs.write_json(job.workdir / "results.json", results)
            report.write_summary_page(job.workdir, deviations=jobs.deviations(job.config))
    parallel.say(jobs.summary_text(results))
    parallel.say(f"report:  {common_workdir(runs) / 'report.html'}")
    return results


def provide_start(job: Any, options: argparse.Namespace) -> None:
    """Does the run that a job starts from, where that is to be in an experiment's own place.

    It is the experiment as it is: split 0, seed 0 and no ``--set``.
    """
    from etils import epath

    from experiments import configs

    start = job.config.model.get("start_from", "")
    place, _, name = start.partition("/")
    exp = name.replace(",", ":", 1)
    of_experiment = place == "runs" and exp.partition(":")[0] in configs.EXPERIMENTS
    if not of_experiment or (epath.Path(start) / "results.json").exists():
        return
    parallel.say(f"{job.exp} starts from {start}, which is not finished: that run comes first.")
    own = {"exp": exp, "dataset": None, "workdir": None, "overrides": []}
    own |= {"seed": 0, "repeats": 1, "splits": "0"}
    run_experiment(argparse.Namespace(**{**vars(options), **own}))


def make_job(options: argparse.Namespace, *, num_val_identities: int = 0) -> Any:
    """The job that the command line describes, with its data found or its stand-in prepared.

    Args:
        options: of the command line.
        num_val_identities: of a stand-in, kept out of its training set.
    """
    # Imported after parallel.initialize: everything below may touch JAX.
    from etils import epath

    from experiments import configs, datasets, protocols
    from experiments.job import Job

    if options.seed < 0:
        raise ValueError(f"--seed={options.seed}: expected 0 or more")
    scale, why = chosen_scale(options.scale, options.data_dir)
    config = configs.build_config(options.exp, configs.EXPERIMENTS, scale=scale)
    configs.apply_overrides(config, options.overrides)
    if options.dataset and options.dataset != config.dataset:
        config.dataset = options.dataset
    parallel.say(f"{options.exp} on {config.dataset}, scale {scale} ({why}).")
    if options.data_dir:
        data_dir = epath.Path(options.data_dir).expanduser()
    else:
        data_dir = datasets.prepared_stand_ins(
            protocols.needed_datasets(config, config.evaluation.protocol),
            scale=scale,
            num_val_identities=num_val_identities,
        )
    name = options.exp.replace(":", ",").replace("/", "_")
    return Job(
        exp=options.exp,
        config=config,
        paper=configs.paper_row(options.exp, config, configs.EXPERIMENTS, scale=scale),
        scale=scale,
        seed=options.seed,
        split=0,
        data_dir=data_dir,
        workdir=epath.Path(options.workdir or f"runs/{name}").expanduser(),
        command=command(options, scale),
    )


def planned_runs(job: Any, options: argparse.Namespace) -> dict[str, Any]:
    """The runs of a command by their place below its work directory; one run alone has place ''.

    A single run and several leave each other alone, and the answer is the same before and after the
    runs. Several are named after split and seed, as far as these differ.
    """
    from reid_jax import data

    if options.repeats < 1:
        raise ValueError(f"--repeats={options.repeats}: expected at least 1")
    partition = job.config.data.partition
    num_splits = 1
    if partition:
        card = data.dataset_card(job.data_dir, job.config.dataset)
        # An unknown partition is refused, with the known ones, where its images are opened.
        num_splits = len(card.get("partitions", {}).get(partition, {}).get("splits", [None]))
    splits = chosen_splits(options.splits, num_splits, partition or job.config.dataset)
    seeds = range(job.seed, job.seed + options.repeats)
    several_splits = splits != [0]
    workdir = job.workdir
    single_run_is_there = (workdir / "config.json").exists()
    if not several_splits and options.repeats == 1:
        if not single_run_is_there and (workdir / "results.json").exists():
            names = json.loads((workdir / "results.json").read_text()).get("runs", [""])
            place = "split_0" if names[0].startswith("split") else f"seed_{job.seed}"
            parallel.say(f"{workdir} holds several runs, which are kept: this run is in {place}.")
            workdir /= place
        return {"": dataclasses.replace(job, workdir=workdir)}
    if single_run_is_there:
        workdir /= "repeats"
        parallel.say(f"{job.workdir} holds a single run, which is kept: the runs go to {workdir}.")
    runs = {}
    for split in splits:
        for seed in seeds:
            parts = [f"split_{split}"] * several_splits + [f"seed_{seed}"] * (len(seeds) > 1)
            name = "/".join(parts)
            runs[name] = dataclasses.replace(job, split=split, seed=seed, workdir=workdir / name)
    return runs


def common_workdir(runs: dict[str, Any]) -> Any:
    """Where the results of all runs of a command are."""
    name, run = next(iter(runs.items()))
    workdir = run.workdir
    for _ in filter(None, name.split("/")):
        workdir = workdir.parent
    return workdir


def chosen_splits(text: str, num_splits: int, of: str) -> list[int]:
    """Numbers of the splits that ``--splits`` names."""
    if text == "all":
        return list(range(num_splits))
    try:
        splits = [int(number) for number in text.split(",")]
    except ValueError:
        raise ValueError(f"--splits={text}: expected all, or numbers such as 0,1,2") from None
    if len(set(splits)) < len(splits) or not all(0 <= split < num_splits for split in splits):
        raise ValueError(
            f"--splits={text}: {of} has the splits 0 to {num_splits - 1}, each to be named once"
            if num_splits > 1
            else f"--splits={text}: {of} has one split, 0"
        )
    return splits


def chosen_scale(scale: str, data_dir: str | None) -> tuple[str, str]:
    """The scale that ``auto`` stands for, and the reason."""
    import jax

    if scale != "auto":
        return scale, "as asked for"
    if jax.default_backend() == "cpu":
        return "small", "this is a CPU; --scale=paper for the paper's"
    if not data_dir:
        return "small", "no --data_dir is given; --scale=paper for the paper's on a stand-in"
    return "paper", f"an accelerator, {jax.default_backend()}, and data"


def command(options: argparse.Namespace, scale: str) -> str:
    """The command that does the same again, with the scale that was taken."""
    words = ["python", "experiments/run.py", f"--exp={options.exp}", f"--scale={scale}"]
    words += [f"--seed={options.seed}", f"--repeats={options.repeats}"]
    words += [f"--splits={options.splits}"] * (options.splits != "0")
    for name in ("dataset", "data_dir", "workdir"):
        if getattr(options, name):
            words.append(f"--{name}={getattr(options, name)}")
    words += [f"--set={override}" for override in options.overrides]
    return shlex.join(words)


def prepare_jax() -> None:
    """Joins the processes of the job and turns the persistent compilation cache on."""
    keep_freed_memory()
    parallel.initialize()
    import jax

    from experiments.datasets import cache_dir

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "compilation"))


def keep_freed_memory() -> None:
    """Tells glibc to reuse freed memory instead of giving it back to the kernel.

    A training step on a CPU frees and allocates hundreds of megabytes, and each page that the
    kernel hands out anew is a fault: most of the time of a step where faults are slow. To have an
    effect it must come before JAX makes its threads. Other C libraries are left alone.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_ARENA_MAX, 1)):
            mallopt(parameter, value)


def exit_status(program: Callable[[], Any]) -> int:
    """Runs a program; an error that its user can mend becomes one message and a status of 1."""
    from reid_jax.training import NonFiniteLossError, StoppedError

    try:
        program()
    except StoppedError as stopped:
        parallel.say(str(stopped))
        return 130
    except KeyboardInterrupt:
        print("Stopped: the same command goes on from the last checkpoint.", file=sys.stderr)
        return 130
    except Exception as error:
        message = str(error)
        # Orbax and TensorStore wrap the system's error in their own.
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in message:
            message = (
                f"the disk is full ({message}). Make room and give the same command again: it goes "
                "on from the last checkpoint."
            )
        elif not isinstance(error, (*_MENDABLE, NonFiniteLossError)):
            raise
        print(f"error: {message}", file=sys.stderr)
        return 1
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="experiments/run.py", description=__doc__)
    parser.add_argument("--exp", required=True, metavar="NAME[:key=value,...]")
    parser.add_argument("--workdir", help="default runs/EXP")
    add_run_options(parser)
    options = parser.parse_args()
    prepare_jax()
    return exit_status(lambda: run_experiment(options))


if __name__ == "__main__":
    sys.exit(main())
