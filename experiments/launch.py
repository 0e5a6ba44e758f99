"""From options to finished runs: the job of a command line, its repeats and splits, its start."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
from etils import epath

from experiments import build, datasets, job, sources, summary, workdir
from experiments.config import Config, changed, load_config, parse_overrides
from experiments.job import Job
from experiments.options import RunOptions
from experiments.papers import EXPERIMENTS, build_config, paper_row, slug
from experiments.workdir import Results
from reid_jax import compilation, cpu, data, parallel, report
from reid_jax.training import NonFiniteLossError, StoppedError

__all__ = [
    "chosen_scale",
    "chosen_splits",
    "common_workdir",
    "exit_status",
    "make_job",
    "planned_runs",
    "prepare_jax",
    "run_experiment",
    "short_name",
]

LONGEST_NAME = 120
_MENDABLE = (ValueError, OSError, ImportError, MemoryError, NonFiniteLossError)


def run_experiment(options: RunOptions) -> Results:
    """Does what the options say and returns the results, the mean of several runs."""
    made = make_job(options)
    runs = planned_runs(made, options)
    top = common_workdir(runs)
    if not all((each.workdir / "results.json").exists() for each in runs.values()):
        provide_start(made, options)
    if list(runs) == [""]:
        results = job.run(runs[""])
    else:
        finished = {}
        for name, each in runs.items():
            parallel.say(f"--- {name}")
            finished[name] = job.run(each)
        results = dataclasses.replace(summary.summarize(finished), command=made.command)
        if parallel.is_main_process():
            workdir.write_results(top / "results.json", results)
            report.write_summary_page(
                workdir.to_dict(results),
                {name: workdir.read_run(each.workdir) for name, each in runs.items()},
                top / "report.html",
                deviations=job.notes(made),
                command=made.command,
            )
    parallel.say(summary.summary_text(results))
    parallel.say(f"report:  {top / 'report.html'}")
    return results


def provide_start(made: Job, options: RunOptions) -> None:
    """Runs the pre-training experiment that `model.start_exp` names, unless it has finished.

    It is the experiment as it is: split 0, seed 0 and no `--set`.
    """
    model = made.config.model
    if not model.start_exp or (epath.Path(model.start_from) / "results.json").exists():
        return
    parallel.say(
        f"{made.exp} starts from {model.start_from}, which is not finished: that run comes first."
    )
    run_experiment(
        RunOptions(
            exp=model.start_exp,
            data_dir=options.data_dir,
            scale=options.scale,
            workdir=model.start_from,
        )
    )


def make_job(options: RunOptions, *, num_val_identities: int = 0) -> Job:
    """The job that the options describe, with its data found or its stand-in prepared.

    Args:
        options: of the command line.
        num_val_identities: of a stand-in, kept out of its training set.
    """
    if options.seed < 0:
        raise ValueError(f"--seed={options.seed}: expected 0 or more")
    if bool(options.exp) == bool(options.config):
        raise ValueError("give either --exp=NAME[:key=value,...] or --config=FILE")
    scale, why = chosen_scale(options.scale, options.data_dir)
    exp = options.exp
    if options.config:
        config = load_config(options.config)
        exp = _exp_of(options.config)
    else:
        config = build_config(exp, EXPERIMENTS, scale=scale)
    config = parse_overrides(config, options.overrides)
    own_dataset = config.dataset
    if options.dataset:
        config = changed(config, dataset=options.dataset)
    parallel.say(f"{exp} on {config.dataset}, scale {scale} ({why}).")
    if options.data_dir and options.dataset:
        config = fitted_to(config, _absolute(options.data_dir), options)
    protocol = build.protocol(config)
    if options.data_dir:
        data_dir = _absolute(options.data_dir)
    else:
        data_dir = datasets.prepared_stand_ins(
            sources.needed_datasets(config, protocol),
            scale="paper" if scale == "paper" else "small",
            num_val_identities=num_val_identities,
        )
    known = exp.partition(":")[0] in EXPERIMENTS
    return Job(
        exp=exp,
        config=config,
        paper=paper_row(exp, config, EXPERIMENTS, scale=scale) if known else None,
        scale=scale,
        seed=options.seed,
        split=0,
        data_dir=data_dir,
        workdir=_absolute(options.workdir or default_workdir(exp, own_dataset, options)),
        command=options.command(scale),
        allow_overlap=options.allow_overlap,
    )


def fitted_to(config: Config, data_dir: epath.Path, options: RunOptions) -> Config:
    """The config with what another data set needs: no partition or no cameras, where it has none.

    What `--set` gives is left alone; what is changed is said.
    """
    card = data.dataset_card(data_dir, config.dataset)
    given = {override.partition("=")[0] for override in options.overrides}
    changes: dict[str, dict[str, Any]] = {}
    if config.data.partition and not card.get("partitions"):
        changes["data"] = {"partition": ""}
        if build.protocol(config).needs == ("test",):
            changes["evaluation"] = {"protocol": "single-query"}
            if config.model.test_statistics == "batch":  # Of all images of a side at once.
                changes["model"] = {"test_statistics": "running"}
    if config.sampler.cross_camera and not card["has_cameras"]:
        changes["sampler"] = {"cross_camera": False}
    for section, keys in changes.items():
        for key, value in list(keys.items()):
            if f"{section}.{key}" in given:
                del keys[key]
            else:
                was = getattr(getattr(config, section), key)
                parallel.say(
                    f"{config.dataset} is another kind of data set: {section}.{key}={value} in the "
                    f"place of {was}."
                )
    return changed(config, **changes)


def default_workdir(exp: str, dataset: str, options: RunOptions) -> str:
    """A place of a run's own: its experiment, its data set, and whatever `--set` changed.

    Args:
        exp: the experiment with its row.
        dataset: the experiment's own data set, which goes without saying.
        options: of the command line.
    """
    parts = [exp]
    if options.dataset and options.dataset != dataset:
        parts.append(options.dataset)
    parts += sorted(options.overrides)
    return f"runs/{short_name(parts)}"


def short_name(parts: Iterable[str]) -> str:
    """Parts of a name in a form that every shell takes, with a digest for what is too long."""
    name = "-".join(filter(None, (slug(part) for part in parts)))
    if len(name) > LONGEST_NAME:
        name = f"{name[:LONGEST_NAME]}-{zlib.crc32(name.encode()):08x}"
    return name


def _absolute(path: str) -> epath.Path:
    given = epath.Path(path).expanduser()
    return given if "://" in str(path) else epath.Path(os.path.abspath(given))


def _exp_of(path: str) -> str:
    content = json.loads(epath.Path(path).expanduser().read_text())
    return content.get("exp") or re.sub(r"\.json$", "", os.path.basename(path))


def planned_runs(made: Job, options: RunOptions) -> dict[str, Job]:
    """The runs of a command by their place below its work directory; one run alone has place ''.

    A single run and repeated runs never share a directory, and the answer is the same before and
    after the runs. Several are named after split and seed, as far as these differ.
    """
    if options.repeats < 1:
        raise ValueError(f"--repeats={options.repeats}: expected at least 1")
    partition = made.config.data.partition
    num_splits = 1
    if partition:
        card = data.dataset_card(made.data_dir, made.config.dataset)
        # An unknown partition is refused, with the known ones, where its images are opened.
        num_splits = len(card.get("partitions", {}).get(partition, {}).get("splits", [None]))
    splits = chosen_splits(options.splits, num_splits, partition or made.config.dataset)
    seeds = range(made.seed, made.seed + options.repeats)
    several_splits = splits != [0]
    top = made.workdir
    single_run_is_there = (top / "config.json").exists()
    if not several_splits and options.repeats == 1:
        if not single_run_is_there and (top / "results.json").exists():
            names = workdir.read_results(top).runs or [""]
            place = "split_0" if names[0].startswith("split") else f"seed_{made.seed}"
            parallel.say(f"{top} holds several runs, which are kept: this run is in {place}.")
            top /= place
        return {"": dataclasses.replace(made, workdir=top)}
    if single_run_is_there:
        top /= "repeats"
        parallel.say(f"{made.workdir} holds a single run, which is kept: the runs go to {top}.")
    runs = {}
    for split in splits:
        for seed in seeds:
            parts = [f"split_{split}"] if several_splits else []
            parts += [f"seed_{seed}"] if len(seeds) > 1 else []
            name = "/".join(parts)
            runs[name] = dataclasses.replace(made, split=split, seed=seed, workdir=top / name)
    return runs


def common_workdir(runs: dict[str, Job]) -> epath.Path:
    """Where the results of all runs of a command are."""
    name, first = next(iter(runs.items()))
    top = first.workdir
    for _ in filter(None, name.split("/")):
        top = top.parent
    return top


def chosen_splits(text: str, num_splits: int, of: str) -> list[int]:
    """Numbers of the splits that `--splits` names."""
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
    """The scale that `auto` stands for, and the reason."""
    if scale != "auto":
        return scale, "as asked for"
    if jax.default_backend() == "cpu":
        return "small", "this is a CPU; --scale=paper for the paper's"
    if not data_dir:
        return "small", "no --data_dir is given; --scale=paper for the paper's on a stand-in"
    return "paper", f"an accelerator, {jax.default_backend()}, and data"


# The process -----------------------------------------------------------------------------------


def prepare_jax() -> None:
    """Joins the processes of the job, uses all cores and keeps what is compiled."""
    cpu.prepare()
    parallel.initialize()
    compilation.keep_compiled()


def exit_status(program: Callable[[], Any]) -> int:
    """Runs a program; an error that its user can mend becomes one message and a status of 1."""
    try:
        program()
    except StoppedError as stopped:
        parallel.say(str(stopped))
        return 130
    except KeyboardInterrupt:
        print("Stopped: the same command goes on from the last checkpoint.", file=sys.stderr)
        return 130
    except jax.errors.JaxRuntimeError as error:
        # Memory that does not suffice is no other process's doing.
        if parallel.is_single_process() or "RESOURCE_EXHAUSTED" in str(error):
            raise
        parallel.leave(
            f"error: this process of {jax.process_count()} could not go on, most likely because "
            f"another one was lost ({str(error).splitlines()[0]}). Give the same command again, on "
            "any number of processes: it goes on from the last checkpoint."
        )
    except Exception as error:
        message = str(error)
        # Orbax and TensorStore wrap the system's error in their own.
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in message:
            message = (
                f"the disk is full ({message}). Make room and give the same command again: it goes "
                "on from the last checkpoint."
            )
        elif not isinstance(error, _MENDABLE):
            raise
        print(f"error: {message}", file=sys.stderr)
        return 1
    return 0
