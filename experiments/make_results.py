"""Makes the results of experiments/results/ anew: every table and figure, one after the other.

    python experiments/make_results.py --list
    python experiments/make_results.py
    python experiments/make_results.py --only clever,csn/2
    python experiments/make_results.py --only market_photos --data_dir data

Stopped or killed, the same command goes on where it stood: what is made is kept in `--workdir`, and
a run that was begun resumes from its last checkpoint. To measure what a change of the code does,
give another `--workdir` and another `--results_dir`, and compare the two.

The stand-ins are rendered; what has `market_photos` in it needs photographs of people, prepared in
`--data_dir` as the data set `market_photos` (docs/results.md says from what).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from reid_jax.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = "market_photos"
MADE = "made.json"

LARGER = "stand_in_100"
"""A stand-in of CUHK03 with 100 test identities."""
OF_LARGER = "larger"
"""The folder of the work directory for it and its runs, whose names those of the usual one have."""
RENDER_LARGER = tuple(
    line.strip()
    for line in f"""
    -m data_prep.stand_in cuhk03 --raw_dir=raw --num_test_identities=100 --groups=225,117,21,15,12
    -m data_prep.prepare cuhk03 --raw_dir=raw/cuhk03_release --data_dir={LARGER}
    """.strip().splitlines()
)

_SMALL = "--scale=small"
_SMALL_LARGER = f"{_SMALL} --data_dir={LARGER}"
_PRETRAINED = f"--scale=pretrained --dataset={PHOTOS}"
# csn's trunk is its own, so it sees the photographs from scratch.
_SMALL_PHOTOS = (
    f"{_SMALL} --dataset={PHOTOS} --set=evaluation.shortlist=100 --set=optimizer.num_steps=1400"
)

# What each item needs: rows of another table are taken as they are where its command is the same.
ITEMS = tuple(
    line.strip()
    for line in f"""
    tables.py --table=batch_contrastive/pretrained {_PRETRAINED} --repeats=5
    tables.py --table=identif_verif/pretrained --rows="I alone,I+V" {_PRETRAINED} --repeats=5
    tables.py --table=identif_verif/pretrained {_PRETRAINED} --repeats=3
    tables.py --table=inherent/pretrained {_PRETRAINED} --repeats=3
    tables.py --table=clever/pretrained {_PRETRAINED} --repeats=3
    tables.py --table=strong/pretrained {_PRETRAINED} --repeats=3
    tables.py --table=csn/3 --rows="Ours-(L2, L3)" {_SMALL_PHOTOS} --repeats=3
    tables.py --table=batch_contrastive/1 {_SMALL} --repeats=5
    tables.py --figure=batch_contrastive/1 {_SMALL}
    tables.py --table=batch_contrastive/2 {_SMALL}
    tables.py --table=identif_verif/2 --rows=ResNet-50 {_SMALL} --repeats=5
    tables.py --table=identif_verif/2 {_SMALL}
    tables.py --table=identif_verif/3 {_SMALL}
    tables.py --table=identif_verif/4 {_SMALL}
    tables.py --table=identif_verif/5 {_SMALL}
    tables.py --table=identif_verif/6 {_SMALL}
    tables.py --table=identif_verif/7 {_SMALL}
    tables.py --figure=identif_verif/4 {_SMALL}
    tables.py --figure=identif_verif/5 {_SMALL}
    tables.py --figure=identif_verif/6 {_SMALL}
    tables.py --figure=identif_verif/7 {_SMALL}
    tables.py --figure=identif_verif/8 {_SMALL}
    tables.py --figure=identif_verif/9 {_SMALL}
    tables.py --table=clever/1 {_SMALL_LARGER} --splits=0,1,2,3,4,5,6,7,8,9
    tables.py --table=clever/inter_grad {_SMALL_LARGER} --splits=0,1,2,3,4,5,6,7,8,9
    tables.py --table=clever/2 {_SMALL}
    tables.py --table=inherent/1 {_SMALL} --splits=0,1,2,3,4
    tables.py --table=inherent/reduction {_SMALL} --splits=0,1,2,3,4
    tables.py --table=inherent/scatter_weight {_SMALL} --splits=0,1,2,3,4
    tables.py --figure=inherent/3 {_SMALL}
    tables.py --table=csn/2 {_SMALL}
    tables.py --table=csn/3 {_SMALL} --splits=0,1,2
    tables.py --table=csn/4 {_SMALL} --splits=0,1,2
    tables.py --table=csn/cross_camera {_SMALL}
    tables.py --table=csn/5
    tables.py --figure=csn/4 {_SMALL}
    tables.py --table=strong/1 {_SMALL} --repeats=3
    tables.py --table=strong/2 {_SMALL}
    """.strip().splitlines()
)
"""What is made, in this order: arguments of `experiments/tables.py`."""


def chosen(only: str) -> list[str]:
    """The items that hold one of the texts between the commas of `--only`; all without any.

    Raises:
        ValueError: for a text that no item holds.
    """
    texts = [text for text in only.split(",") if text]
    for text in texts:
        if not any(text in item for item in ITEMS):
            raise ValueError(f"--only={text}: no item has it; --list shows them all")
    return [item for item in ITEMS if not texts or any(text in item for text in texts)]


def needs_photographs(item: str) -> bool:
    """Whether an item is measured on photographs, which nobody can render."""
    return f"--dataset={PHOTOS}" in item


class Made:
    """Which items are made, and how long each took, in a file of the work directory."""

    def __init__(self, workdir: Path) -> None:
        self.path = workdir / MADE
        self.seconds: dict[str, float] = {}
        if self.path.exists():
            self.seconds = json.loads(self.path.read_text())

    def add(self, item: str, seconds: float) -> None:
        """Records an item; what another process has recorded meanwhile is kept."""
        there = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.seconds = there | self.seconds | {item: round(seconds, 1)}
        write_atomically(self.path, json.dumps(self.seconds, indent=2) + "\n")


def command(item: str, options: argparse.Namespace) -> list[str]:
    """The command of an item."""
    script, *words = shlex.split(item)
    words.append(f"--results_dir={Path(options.results_dir).absolute()}")
    if needs_photographs(item):
        # Relative, for the command is written into the results.
        place = os.path.relpath(Path(options.data_dir).expanduser(), options.workdir)
        words.append(f"--data_dir={place}")
    return [sys.executable, str(ROOT / "experiments" / script), *words]


def folder(item: str, workdir: Path) -> Path:
    """Where the commands of an item run."""
    return workdir / OF_LARGER if f"--data_dir={LARGER}" in item else workdir


def commands(item: str, options: argparse.Namespace) -> list[list[str]]:
    """The command of an item, after those that render what it is measured on, if not there yet."""
    rendering = RENDER_LARGER if f"--data_dir={LARGER}" in item else ()
    return [*([sys.executable, *line.split()] for line in rendering), command(item, options)]


@contextlib.contextmanager
def interrupts_left_to_the_program() -> Iterator[list[int]]:
    """Ctrl-C reaches the program that runs, which saves its state; it would be killed otherwise.

    Yields:
        The interrupts that came.
    """
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)


def make(items: Sequence[str], options: argparse.Namespace) -> int:
    """Makes what is not made yet, and returns the exit status: 0 where everything is made."""
    workdir = Path(options.workdir)
    made = Made(workdir)
    # Photographs come from --data_dir alone; stand-ins are rendered.
    environment = {name: value for name, value in os.environ.items() if name != "REID_DATA_DIR"}
    # For the programs that are modules.
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    failed = []
    for number, item in enumerate(items, start=1):
        if item in made.seconds:
            continue
        print(f"--- {number} of {len(items)}: {item}", flush=True)
        start = time.monotonic()
        place = folder(item, workdir)
        place.mkdir(parents=True, exist_ok=True)
        with interrupts_left_to_the_program() as interrupts:
            for words in commands(item, options):
                done = subprocess.run(words, cwd=place, env=environment, check=False)
                status = done.returncode
                if status or interrupts:
                    break
        if interrupts or status in (130, -2):
            print(f"Stopped: the same command goes on with {item}", flush=True)
            return 130
        if status:
            failed.append(item)
        else:
            made.add(item, time.monotonic() - start)
    for item in failed:
        print(f"not made, see its error above: {item}", file=sys.stderr)
    return 1 if failed else 0


def listing(items: Sequence[str], workdir: Path) -> str:
    """A line for each item: the minutes that it took, or that it is not made."""
    seconds = Made(workdir).seconds
    return "\n".join(
        f"{f'{seconds[item] / 60:.1f} min' if item in seconds else 'to make':>10}  {item}"
        for item in items
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="experiments/make_results.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", metavar="TEXT,...", help="items that hold a TEXT")
    parser.add_argument("--list", action="store_true", help="say what is made, and stop")
    parser.add_argument("--workdir", default="runs/results", help="default runs/results")
    parser.add_argument(
        "--results_dir",
        default=str(ROOT / "experiments" / "results"),
        help="default experiments/results",
    )
    parser.add_argument(
        "--data_dir",
        default=os.environ.get("REID_DATA_DIR"),
        help=f"where {PHOTOS} is prepared; default $REID_DATA_DIR",
    )
    options = parser.parse_args()
    try:
        items = chosen(options.only)
    except ValueError as error:
        parser.error(str(error))
    if options.list:
        print(listing(items, Path(options.workdir)))
        return 0
    photographs = [item for item in items if needs_photographs(item)]
    place = Path(options.data_dir or "").expanduser() / PHOTOS
    if photographs and not (options.data_dir and place.is_dir()):
        print(
            f"Left out, for there is no {PHOTOS} in --data_dir={options.data_dir or ''}: "
            f"{len(photographs)} items on photographs of people.",
            file=sys.stderr,
        )
        items = [item for item in items if item not in photographs]
    return make(items, options)


if __name__ == "__main__":
    sys.exit(main())
