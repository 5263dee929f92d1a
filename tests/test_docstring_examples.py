"""The examples in docstrings do what they say."""

from __future__ import annotations

import ast
import doctest
from pathlib import Path

import h5py
import numpy as np
import pytest

import tabb

PACKAGE = Path(tabb.__file__).parent
SMALLER = {
    "updates=50_000": "updates=20, evaluations=1, episodes=1",
    "tabb.TABB()": "tabb.TABB(predictor=tabb.ResidualPredictor(updates=20))",
}
"""what makes examples of training short, as written and as run"""


def examples():
    """Each docstring of the package that has examples; nothing is imported to find them."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if ">>> " in text else ():
            if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                continue
            docstring, name = ast.get_docstring(node) or "", f"{file.relative_to(PACKAGE)}:{getattr(node, 'name', '')}"
            example = doctest.DocTestParser().get_doctest(docstring, {"tabb": tabb, "np": np}, name, str(file), 0)
            if example.examples:
                found.append(pytest.param(example, id=name, marks=[pytest.mark.slow] if ".fit(" in docstring else []))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """simulator.hdf5 and robot.hdf5: the first 600 and 300 rows of the bundled data."""
    place = tmp_path_factory.mktemp("examples")
    for name, rows, file in (("simulator", 600, "hopper_medium"), ("robot", 300, "hopper_gravity_0.5_medium")):
        with (
            h5py.File(PACKAGE / "data" / "bundled" / f"{file}.hdf5") as whole,
            h5py.File(place / f"{name}.hdf5", "w") as part,
        ):
            for key in ("observations", "actions", "rewards", "terminals", "timeouts"):
                part[key] = whole[key][:rows]
            part["timeouts"][-1] = True
            part["next_observations"] = whole["observations"][1 : rows + 1]
    return place


@pytest.mark.parametrize("example", examples())
@pytest.mark.filterwarnings("ignore::tabb.errors.DataWarning")
def test_example(example, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for one in example.examples:
        for written, run in SMALLER.items():
            one.source = one.source.replace(written, run)
    told: list[str] = []
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    doctest.DocTestRunner(optionflags=flags).run(example, out=told.append)
    assert not told, "".join(told)
