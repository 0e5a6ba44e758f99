"""Compiles the steps of experiments for a Cloud TPU, on a machine that has none.

    pip install libtpu
    python experiments/aot_tpu.py --exp=batch_contrastive_market --topology=v5e:2x4

The training step of a run, with the official numbers of images and identities and its batch over
all chips of the topology; the embedding of a batch, over the chips of one host; and the scores of
pairs of a network that scores those. Everything is as a run on a TPU has it: bfloat16, unless
`--set model.dtype=float32`.

A row says what the compiler knows of one chip: memory (arguments with the resident images, results
that are not written over them, and what is needed beside them), floating-point operations, bytes
read and written, collectives with the bytes of their results; and the processor's seconds of the
compilation. Rows go to `--table` as soon as they are there, in JSON and as a page of the same name
in Markdown; a program whose text, compiler and topology are those of a row is not compiled again.
A step of ResNet-50 takes two cores about 5 minutes; `--collectives` is done in seconds.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

# Before JAX looks for a TPU that is not there.
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}

import jax
from jax.experimental import topologies

from experiments import compiled, provenance
from experiments.config import Config, parse_overrides
from experiments.launch import exit_status
from experiments.papers import EXPERIMENTS, build_config
from reid_jax.files import write_atomically

__all__ = ["devices_of", "page", "rows"]

TABLE = "docs/tpu_table.json"
_OF_A_ROW = ("exp", "set", "scale", "topology", "program")


def devices_of(topology: str) -> list[Any]:
    """The chips of a topology such as v5e:2x4.

    Raises:
        ValueError: if there is no compiler for it.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(
            "libtpu, which has the TPU's compiler, is not installed: pip install libtpu"
        )
    try:
        return list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"no compiler for --topology={topology}: give one such as v5e:2x4 or v4:2x2x1, while "
            f"no other process uses libtpu ({str(error).splitlines()[0]})"
        ) from None


def rows(
    exp: str, config: Config, topology: str, *, known: Sequence[dict[str, Any]], **named: Any
) -> Any:
    """Yields a row for each program of an experiment: one of the known ones, or a new one.

    Args:
        exp: the experiment.
        config: its values.
        topology: that it is compiled for.
        known: rows of before.
        **named: what else is a row's own: `set` and `scale`.
    """
    devices = devices_of(topology)
    config = compiled.settled(config)
    versions = {name: provenance.versions()[name] for name in ("jax", "jaxlib")}
    versions["libtpu"] = importlib.metadata.version("libtpu")
    for name, make in compiled.programs(config).items():
        row = {"exp": exp, **named, "topology": topology, "program": name}
        try:
            program = make(config, devices)
            lowered = program.lowered()
            row |= {"digest": compiled.digest(lowered), "versions": versions}
            if same := [old for old in known if row.items() <= old.items()]:
                yield same[0]
                continue
            found = compiled.compiled(lowered)
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            yield row | {"error": str(error).splitlines()[0]}
            continue
        yield row | {
            "commit": provenance.commit(),
            "device": devices[0].device_kind,
            "dtype": config.model.dtype,
            "rows": program.rows,
            "chips": program.chips,
            "memory": found.memory,
            **{name: getattr(found, name) for name in compiled.NUMBERS},
        }


# The table --------------------------------------------------------------------------------------

HEADINGS = (
    *("experiment", "program", "rows", "chips", "memory, GB", "of it arguments", "GFLOP"),
    *("GB moved", "collectives", "MB in them", "compiled in, CPU s"),
)


def page(table: Sequence[dict[str, Any]]) -> str:
    """The rows as a page in Markdown, a table for each topology."""
    text = [
        "# Steps compiled for Cloud TPUs",
        "",
        "What the TPU's compiler says of each experiment's steps; no TPU has run them. All numbers",
        "but the rows of a batch are of one chip: memory with the resident images, floating-point",
        "operations, bytes read and written, and the bytes of the collectives' results.",
        "",
        "    python experiments/aot_tpu.py --exp=NAME --topology=TOPOLOGY",
    ]
    for topology in dict.fromkeys(row["topology"] for row in table):
        own = [row for row in table if row["topology"] == topology]
        kinds = dict.fromkeys(row["device"] for row in own if "device" in row)
        text += ["", f"## {topology} ({', '.join(kinds)})", "", _line(HEADINGS)]
        text.append(_line(["---"] * len(HEADINGS)))
        text += [_line(_cells(row)) for row in own]
    versions = dict.fromkeys(
        ", ".join(f"{name} {number}" for name, number in row["versions"].items())
        for row in table
        if "versions" in row
    )
    return "\n".join([*text, "", *(f"Compiled by {each}." for each in versions), ""])


def _cells(row: dict[str, Any]) -> list[Any]:
    name = " ".join([row["exp"], *row["set"]])
    if row["scale"] != "paper":
        name += f" ({row['scale']} scale)"
    if "error" in row:
        return [name, row["program"], row["error"], *[""] * (len(HEADINGS) - 3)]
    collectives = sorted(row["collectives"].items())
    return [
        *(name, row["program"], row["rows"], row["chips"]),
        *(f"{row['memory'] / 1e9:.2f}", f"{row['arguments'] / 1e9:.2f}"),
        *(f"{row['flops'] / 1e9:.1f}", f"{row['traffic'] / 1e9:.2f}"),
        ", ".join(f"{number} {kind}" for kind, (number, _) in collectives) or "none",
        f"{sum(size for _, (_, size) in collectives) / 1e6:.2f}",
        f"{row['cpu_seconds']:.0f}" if row["cpu_seconds"] else "not noted",
    ]


def _line(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _kept(path: Path, known: Sequence[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """Writes the table with a row, in the place of the one that it replaces."""
    name = [row[key] for key in _OF_A_ROW]
    names = [[old[key] for key in _OF_A_ROW] for old in known]
    table = list(known)
    if name in names:
        table[names.index(name)] = row
    else:
        table.append(row)
    write_atomically(path, json.dumps(table, indent=1) + "\n")
    write_atomically(path.with_suffix(".md"), page(table))
    return table


def count_collectives(exp: str, config: Config, topology: str) -> None:
    """Prints the collectives of a training step as they are before a compiler joins them."""
    config = compiled.settled(config)
    program = compiled.programs(config)["training step"](config, devices_of(topology))
    found = sorted(program.collectives().items())
    cells = (f"{size / 1e6:.2f} MB in {number} {kind}" for kind, (number, size) in found)
    line = f"{exp}, {topology}: {program.rows} rows on {program.chips} chips; {', '.join(cells)}"
    print(line, flush=True)


def compile_all(options: argparse.Namespace) -> None:
    """Does what the command line says."""
    path = Path(options.table)
    table = json.loads(path.read_text()) if path.exists() else []
    names = list(EXPERIMENTS) if options.exp == "all" else [options.exp]
    for topology in options.topology.split(","):
        for exp in names:
            config = build_config(exp, EXPERIMENTS, scale=options.scale)
            config = parse_overrides(config, options.overrides)
            if options.collectives:
                count_collectives(exp, config, topology)
                continue
            named = {"set": options.overrides, "scale": options.scale}
            for row in rows(exp, config, topology, known=table, **named):
                table = _kept(path, table, row)
                print(_line([topology, *_cells(row)]), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="experiments/aot_tpu.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--exp", required=True, help="NAME[:key=value,...], or all")
    parser.add_argument(
        "--topology", default="v5e:2x4", help="one or more, such as v5e:2x4,v4:2x2x1"
    )
    parser.add_argument("--scale", default="paper", choices=("paper", "small"))
    parser.add_argument(
        "--set", action="append", default=[], metavar="section.key=value", dest="overrides"
    )
    parser.add_argument(
        "--collectives",
        action="store_true",
        help="only count the training step's collectives: nothing is compiled",
    )
    parser.add_argument("--table", default=TABLE, help="of JSON; default %(default)s")
    options = parser.parse_args()
    return exit_status(lambda: compile_all(options))


if __name__ == "__main__":
    sys.exit(main())
