"""The command of the installed package: `reid-jax COMMAND ...`, one module a command.

A command is a module here with `add_arguments(parser)` and `run(arguments) -> status`; its
docstring is its help. At its top it imports nothing that imports JAX, so that `--help` answers at
once. The exit status is 0, 1 after an error, or 2 where some images were left out.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "embed": "embed images into one file",
    "evaluate": "measure a model, or features made elsewhere",
    "export": "write a model for other programs",
    "find": "find the images of a gallery that are most like a query",
    "same": "decide whether two images show one person",
    "serve": "open a search page on this machine",
    "train": "train a model on a folder of images",
}
"""Name of each command's module to what it does."""


class _Parser(argparse.ArgumentParser):
    """Status 2 says that images were left out, so a wrong argument is an error like any other."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: without the program's name; None takes those of the process.

    Returns:
        The exit status.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] not in COMMANDS:
        lines = [f"  {name:10}{what}" for name, what in COMMANDS.items()]
        parser = _Parser(
            prog="reid-jax",
            description="From a model and images to an answer.",
            epilog="commands:\n" + "\n".join(lines) + "\n\n'reid-jax COMMAND --help' says more.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("command", metavar="COMMAND", help="one of the commands below")
        name = parser.parse_known_args(arguments)[0].command
        parser.error(f"there is no command {name!r}; known: {', '.join(COMMANDS)}")
    name = arguments[0]
    # The one place where a name becomes a module: the others are not imported.
    command = importlib.import_module(f"reid_jax.cli.{name}")
    parser = _Parser(
        prog=f"reid-jax {name}",
        description=command.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    parsed = parser.parse_args(arguments[1:])
    # Here, so that --help answers without JAX.
    from reid_jax import compilation, cpu

    cpu.prepare()
    compilation.keep_compiled()
    try:
        return command.run(parsed)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        print(f"reid-jax {name}: {_told(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)
