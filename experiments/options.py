"""The options of a run and of an evaluation, wherever they are started from."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
from collections.abc import Sequence

__all__ = ["EvaluateOptions", "RunOptions", "add_evaluate_options", "add_run_options"]

SCALES = ("auto", "paper", "small", "pretrained")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What a command line says of a run.

    Attributes:
        exp: the experiment with its row, `NAME[:key=value,...]`; '' with `config`.
        config: a config.json in the place of an experiment.
        workdir: where everything goes; None is a place of the experiment's own.
        dataset: another prepared data set in the place of the experiment's.
        data_dir: where data sets are prepared; None is a stand-in.
        scale: 'paper', 'small', 'pretrained', or 'auto'.
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

    def command(self, scale: str, program: str = "run.py", of: Sequence[str] = ()) -> str:
        """The command that does the same again.

        Args:
            scale: that was taken.
            program: of `experiments/`.
            of: the options that say what is made; by default --config or --exp.
        """
        words = ["python", f"experiments/{program}"]
        words += of or [f"--config={self.config}" if self.config else f"--exp={self.exp}"]
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
    parser.add_argument(
        "--scale",
        choices=SCALES,
        default="auto",
        help="the paper's size and schedule; small, from scratch; pretrained, as short, from "
        "ImageNet features; default the one that suits the machine",
    )
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What a command line says of another evaluation of a finished run.

    Attributes:
        workdir: of the run.
        dataset: to test on; what is None is the run's own, but another data set has no partition.
        protocols: their names; none is the run's own.
        data_dir: where data sets are prepared; None is as in the run.
        partition: of the data set.
        split: of the partition.
        features: file of features made elsewhere, in the place of the run's network.
        overrides: `evaluation.key=value`.
        allow_overlap: tests on people that were trained on too, and says so.
    """

    workdir: str
    dataset: str | None = None
    protocols: tuple[str, ...] = ()
    data_dir: str | None = None
    partition: str | None = None
    split: int | None = None
    features: str | None = None
    overrides: tuple[str, ...] = ()
    allow_overlap: bool = False

    @classmethod
    def of(cls, parsed: argparse.Namespace) -> EvaluateOptions:
        """The options that a parser found."""
        found = {field.name: getattr(parsed, field.name) for field in dataclasses.fields(cls)}
        named = [name for text in parsed.protocols for name in text.split(",")]
        return cls(
            **found | {"protocols": tuple(named), "overrides": tuple(parsed.overrides or ())}
        )

    def command(self) -> str:
        """The command that does the same again."""
        words = ["python", "experiments/evaluate.py", f"--workdir={self.workdir}"]
        words += [f"--protocol={','.join(self.protocols)}"] if self.protocols else []
        for name in ("dataset", "data_dir", "partition", "split", "features"):
            if getattr(self, name) is not None:
                words.append(f"--{name}={getattr(self, name)}")
        words += [f"--set={override}" for override in self.overrides]
        words += ["--allow_overlap"] if self.allow_overlap else []
        return shlex.join(words)


def add_evaluate_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of evaluate.py."""
    parser.add_argument("--workdir", required=True, help="of the run")
    parser.add_argument("--dataset", help="default: the run's own")
    parser.add_argument(
        "--protocol",
        action="append",
        default=[],
        dest="protocols",
        metavar="NAME,NAME,...",
        help="each image is embedded once for all of them; default: the run's own",
    )
    parser.add_argument("--partition", help="of the data set; default: the run's own")
    parser.add_argument("--split", type=int, help="of the partition; default: the run's own")
    parser.add_argument(
        "--features",
        metavar="FILE",
        help=".npz, .h5 or .mat with features made elsewhere, in the place of the run's network",
    )
    for option, override, help_text in (
        ("--flip", "test_mode=flip", "embed each image and its mirror image"),
        ("--rerank", "rerank=true", "re-rank by k-reciprocal neighbours; see evaluation.rerank_*"),
    ):
        parser.add_argument(
            option,
            action="append_const",
            const=f"evaluation.{override}",
            dest="overrides",
            help=help_text,
        )
    for option, help_text in (
        ("--expand", "average a query with its N nearest images"),
        ("--shortlist", "score only the N gallery images nearest by descriptor (csn); 0: all"),
    ):
        parser.add_argument(
            option,
            action="append",
            type=f"evaluation.{option[2:]}={{}}".format,
            dest="overrides",
            metavar="N",
            help=help_text,
        )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="evaluation.key=value",
        dest="overrides",
        help="another value of a key of the section evaluation",
    )
    parser.add_argument(
        "--allow_overlap",
        action="store_true",
        help="test on people or files that were trained on too; the result says so",
    )
    parser.add_argument(
        "--data_dir",
        default=os.environ.get("REID_DATA_DIR"),
        help="where prepare.py put the data sets; default $REID_DATA_DIR, else as in the run",
    )
