"""The options that a run has wherever it is started from."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex

__all__ = ["RunOptions", "add_run_options"]

SCALES = ("auto", "paper", "small")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a command line says of a run.

    Attributes:
        exp: the experiment with its row, `NAME[:key=value,...]`; '' with `config`.
        config: a config.json in the place of an experiment.
        workdir: where everything goes; None is a place of the experiment's own.
        dataset: another prepared data set in the place of the experiment's.
        data_dir: where data sets are prepared; None is a stand-in.
        scale: 'paper', 'small', or 'auto'.
        seed: of the first run.
        repeats: runs with seed, seed + 1, ...
        splits: of the data set's partition: 'all', or numbers.
        overrides: `section.key=value`.
        allow_overlap: tests on people that were trained on too, and says so.
    """

    exp: str = ""
    config: str | None = None
    workdir: str | None = None
    dataset: str | None = None
    data_dir: str | None = None
    scale: str = "auto"
    seed: int = 0
    repeats: int = 1
    splits: str = "0"
    overrides: tuple[str, ...] = ()
    allow_overlap: bool = False

    @classmethod
    def of(cls, parsed: argparse.Namespace) -> RunOptions:
        """The options among those that a parser found."""
        names = {field.name for field in dataclasses.fields(cls)}
        found = {name: value for name, value in vars(parsed).items() if name in names}
        overrides = [*found.get("overrides", ())]
        if getattr(parsed, "weights_prefix", None) is not None:
            overrides.append(f"model.weights_prefix={parsed.weights_prefix}")
        return cls(**found | {"overrides": tuple(overrides)})

    def command(self, scale: str) -> str:
        """The command that does the same again, with the scale that was taken."""
        words = ["python", "experiments/run.py"]
        words.append(f"--config={self.config}" if self.config else f"--exp={self.exp}")
        words += [f"--scale={scale}", f"--seed={self.seed}", f"--repeats={self.repeats}"]
        if self.splits != "0":
            words.append(f"--splits={self.splits}")
        for name in ("dataset", "data_dir", "workdir"):
            if getattr(self, name):
                words.append(f"--{name}={getattr(self, name)}")
        words += [f"--set={override}" for override in self.overrides]
        words += ["--allow_overlap"] if self.allow_overlap else []
        return shlex.join(words)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options shared by run.py, tables.py and tune.py."""
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
        "--allow_overlap",
        action="store_true",
        help="test on people or files that were trained on too; the result says so",
    )
    parser.add_argument(
        "--weights_prefix",
        metavar="TEXT",
        help="what the names in model.weights begin with and the network's do not, such as module.",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="section.key=value",
        dest="overrides",
        help="another value of a key; run.py --exp=NAME --show_config lists them",
    )
