"""The command line as tests call it."""

from pathlib import Path

import pytest

import tabb
from tabb.cli import main

FOLDER = Path(tabb.__file__).parent / "data" / "bundled"
BUNDLED = ["--source", str(FOLDER / "hopper_medium.hdf5"), "--target", str(FOLDER / "hopper_gravity_0.5_medium.hdf5")]


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What a command that must succeed prints."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Exit code and the one line of a command that must fail."""
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert captured.err.startswith("tabb: error: ")
    assert len(captured.err.strip().splitlines()) == 1, captured.err
    return code, captured.err
