"""An own data set, prepared by the command and opened again."""

import pytest

from data_prep.prepare import main
from reid_jax.data import dataset_card, open_split


@pytest.fixture
def prepare(tmp_path, capsys):
    """Runs the command; gives the exit status, and all that it printed."""

    def run(raw, *options):
        data_dir = tmp_path / "data"
        arguments = ["folder", f"--raw_dir={raw}", f"--data_dir={data_dir}", *options]
        if not any(option.startswith("--name") for option in options):
            arguments.append("--name=own")
        status = main(arguments)
        printed = capsys.readouterr()
        text = printed.out + "".join(
            line for line in printed.err.splitlines(keepends=True) if "image/s" not in line
        )
        assert "Traceback" not in text
        return status, text

    return run


@pytest.fixture
def own(tmp_path):
    """Splits of the data set `own`: file, name of the identity and name of the camera."""

    def opened():
        found = {}
        for split in dataset_card(tmp_path / "data", "own")["counts"]:
            source = open_split(tmp_path / "data", "own", split)
            found[split] = [
                (file, source.identity_name(row), source.camera_name(row))
                for row, file in enumerate(source.files)
            ]
        return found

    return opened
