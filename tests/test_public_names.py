"""The names of `tabb`: typed, documented, and no others."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import textwrap
import types
import warnings
from pathlib import Path

import pytest

import tabb

ROOT = Path(__file__).parent.parent
PAGES = "\n".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "api").glob("*.md")))


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_dir_shows_public_names_and_packages_alone():
    public = [name for name in dir(tabb) if not name.startswith("__")]
    assert {"TABB", "train", "Learner", "results", "audit", "data"} <= set(public)
    for name in public:
        value = getattr(tabb, name)
        if isinstance(value, types.ModuleType):
            assert value.__name__ == f"tabb.{name}"
        else:
            assert name in tabb.__all__
    assert set(tabb.__all__) <= set(dir(tabb))


@pytest.mark.parametrize("name", [name for name in tabb.__all__ if name != "__version__"])
def test_every_name_is_documented(name):
    assert re.search(rf":: tabb\.{name}\b[^.]", PAGES), f"{name} is on no page of docs/api"


@pytest.mark.slow  # as is what tests/test_packages.py lets type checkers read: mypy begins anew each time
def test_every_name_is_typed(tmp_path):
    """mypy sees each name from outside as more than Any."""
    pytest.importorskip("mypy")
    names = [name for name in tabb.__all__ if name != "__version__"]
    script = tmp_path / "outside.py"
    script.write_text(
        "import tabb\n"
        + "".join(f"reveal_type(tabb.{name})\n" for name in names)
        + textwrap.dedent(
            """
            learner: tabb.Learner = tabb.Learner(tabb.TABB(), "cql", updates=10, seeds=(0, 1)).fit(None, "real.hdf5")
            policy: tabb.Policy = learner.policy
            runs: list[tabb.Run] = tabb.train(tabb.Pooled(), None, tabb.load("real.hdf5"), backbone=tabb.CQL())
            rows: list[tabb.RunResult] = tabb.results("runs")
            scores: tabb.RowScores = tabb.score_rows(runs[0])
            audit: tabb.Audit = tabb.audit("real.hdf5")
            mean: float = tabb.evaluate(policy, "hopper").mean
            """
        )
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout
    revealed = [line for line in done.stdout.splitlines() if "Revealed type is" in line]
    assert len(revealed) == len(names)
    for name, line in zip(names, revealed, strict=True):
        assert 'is "Any"' not in line, name


def test_names_are_imported_when_they_are_used():
    assert run_python("import sys, tabb; print({'jax', 'equinox', 'mujoco'} & set(sys.modules))") == "set()\n"


@pytest.mark.parametrize(
    "first",
    [
        "import tabb.audit",
        "tabb.audit",
        "from tabb.audit import Finding; import tabb.audit",
        "from tabb.data.audit import audit",
    ],
)
def test_audit_is_a_function_and_the_old_module(first):
    code = f"""
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import tabb
        {first}
        print(tabb.audit("nowhere.hdf5").files, "nowhere" in str(tabb.audit("nowhere.hdf5")))
        import tabb.audit
        print(tabb.audit("nowhere.hdf5").files, tabb.data.audit.audit("nowhere.hdf5").files)
    """
    assert run_python(code) == "('nowhere.hdf5',) True\n('nowhere.hdf5',) ('nowhere.hdf5',)\n"


def test_the_old_module_gives_advice():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sys.modules.pop("tabb.audit", None)
        importlib.import_module("tabb.audit")
    assert [str(one.message) for one in caught] == ["tabb.audit is tabb.data.audit now; import that"]


@pytest.mark.parametrize("first", ["import tabb.results.summary", "tabb.results", "from tabb import results"])
def test_results_is_a_function_and_a_package(first, tmp_path):
    code = f"""
        import tabb
        {first}
        print(tabb.results({str(tmp_path)!r}))
        import tabb.results.summary
        print(tabb.results({str(tmp_path)!r}), tabb.results.summary.results_in({str(tmp_path)!r}))
    """
    assert run_python(code) == "[]\n[] []\n"
