"""What is published: wheel and source distribution, their contents, and that they work where nothing else is."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import tabb

ROOT = Path(__file__).resolve().parents[1]
USER = Path(__file__).with_name("typed_user.py")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("hatchling") is None or not (ROOT / "pyproject.toml").exists(),
    reason='packages are built from a checkout with hatchling: pip install -e ".[dev]"',
)


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """The output of a command in `folder`, where the checkout is on no path."""
    mine = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    done = subprocess.run(command, cwd=folder, env=mine, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_of_package() -> set[str]:
    found = (file for file in (ROOT / "src" / "tabb").rglob("*") if file.is_file() and file.suffix != ".pyc")
    return {str(file.relative_to(ROOT / "src")) for file in found}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Wheel and source distribution of the checkout."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "hatchling", "build", "-d", folder, folder=ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def test_the_wheel_is_the_package_alone(built):
    wheel = zipfile.ZipFile(built[0])
    names = set(wheel.namelist())
    about = {name for name in names if ".dist-info/" in name}
    assert names - about == files_of_package()
    assert "tabb/py.typed" in names
    assert {name.split("/", 1)[1] for name in about} == {
        "METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"
    }  # fmt: skip
    (metadata,) = (name for name in about if name.endswith("METADATA"))
    told = Parser().parsestr(wheel.read(metadata).decode())
    assert told["Version"] == tabb.__version__
    assert told["Requires-Python"] == ">=3.11"
    assert "Typing :: Typed" in told.get_all("Classifier")
    assert "/" not in told["Version"] + told["License-Expression"]
    assert built[0].stat().st_size < 5_000_000


def test_the_source_distribution_makes_the_same_wheel(built, tmp_path):
    with tarfile.open(built[1]) as archive:
        # Python 3.11.4 and newer have the filter, and newer ones ask for it.
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    (root,) = tmp_path.iterdir()
    assert {path.name for path in root.iterdir()} == {
        ".gitignore", "CHANGELOG.md", "CITATION.cff", "LICENSE", "PKG-INFO", "README.md", "docs", "pyproject.toml",
        "src", "tests",
    }  # fmt: skip
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, folder=root)
    (again,) = tmp_path.glob("*.whl")
    first, second = (zipfile.ZipFile(one) for one in (built[0], again))
    assert sorted(first.namelist()) == sorted(second.namelist())
    assert all(first.read(name) == second.read(name) for name in first.namelist())


def test_what_the_wheel_installs_works_without_the_checkout(built, tmp_path):
    """With the dependencies that are here already; the slow tests fetch them into new environments."""
    site = tmp_path / "site"
    run(
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        site,
        built[0],
        folder=tmp_path,
    )
    said = run(sys.executable, "-c", "import tabb; print(tabb.__file__)", folder=tmp_path, PYTHONPATH=str(site))
    assert said.strip() == str(site / "tabb" / "__init__.py")
    version = run(site / "bin" / "tabb", "--version", folder=tmp_path, PYTHONPATH=str(site))
    assert version.strip() == f"tabb {tabb.__version__}"
    assert "usage: tabb COMMAND" in run(site / "bin" / "tabb", "--help", folder=tmp_path, PYTHONPATH=str(site))
    listed = run(site / "bin" / "tabb", "data", "list", folder=tmp_path, PYTHONPATH=str(site), TABB_DATA="")
    assert "hopper_medium" in listed


# --- Other Pythons ---


def newest() -> Path | None:
    """The newest Python of this machine after 3.11, on the path or among pyenv's."""
    for minor in range(30, 11, -1):
        places = [shutil.which(f"python3.{minor}")]
        places += sorted(map(str, (Path.home() / ".pyenv" / "versions").glob(f"3.{minor}.*/bin/python")))[-1:]
        for place in filter(None, places):
            done = subprocess.run([place, "-c", "import sys; print(sys.version_info.minor)"], capture_output=True)
            if done.stdout.strip() == str(minor).encode():  # pyenv's shims are there without the Python behind them
                return Path(place)
    return None


def test_the_newest_python_installs_and_compiles_the_wheel(built, tmp_path):
    """Without what it needs, which the slow tests fetch."""
    python = newest()
    if python is None:
        pytest.skip("there is no Python after 3.11 here")
    run(python, "-m", "venv", "--without-pip", "new", folder=tmp_path)
    new = tmp_path / "new" / "bin"
    pip = (sys.executable, "-m", "pip", "--python", new / "python", "install", "-q", "--no-deps", "--no-index")
    run(*pip, "--disable-pip-version-check", built[0], folder=tmp_path)
    (package,) = (tmp_path / "new" / "lib").glob("python3.*/site-packages/tabb")
    run(new / "python", "-m", "compileall", "-q", package, folder=tmp_path)
    assert run(new / "tabb", "--version", folder=tmp_path).strip() == f"tabb {tabb.__version__}"
    assert "usage: tabb COMMAND" in run(new / "tabb", "--help", folder=tmp_path)


# --- New environments ---


@pytest.fixture(scope="module", params=["of the tests", "newest"])
def installed(request, built, tmp_path_factory):
    """`bin` of a new environment with the wheel and all that it needs."""
    python = Path(sys.executable) if request.param == "of the tests" else newest()
    if python is None:
        pytest.skip("there is no Python after 3.11 here")
    folder = tmp_path_factory.mktemp("new")
    run(python, "-m", "venv", folder / "venv", folder=folder)
    run(folder / "venv" / "bin" / "pip", "install", "-q", "--disable-pip-version-check", built[0], folder=folder)
    return folder / "venv" / "bin"


@pytest.mark.slow
def test_a_new_environment_has_all_it_needs(installed, tmp_path):
    """Every public name, and a run from training to its report, with no extra."""
    every = "import tabb\nfor name in dir(tabb): getattr(tabb, name)\nprint(tabb.__file__)"
    assert str(installed.parent) in run(installed / "python", "-c", every, folder=tmp_path)
    tabb_command = installed / "tabb"
    small = ["--updates", "20", "--evaluations", "1", "--episodes", "1", "--rule.predictor.updates", "10"]
    said = run(tabb_command, "train", "tabb", *small, "--progress", "none", "--out", "run", folder=tmp_path)
    assert "runs: run" in said
    run(tabb_command, "report", "run", folder=tmp_path)
    run(tabb_command, "score", "run/seed0", folder=tmp_path)
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_type_checkers_know_the_installed_package(checker, installed, tmp_path):
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    shutil.copy(USER, tmp_path / "user.py")
    python = str(installed / "python")
    options = ["--strict", "--python-executable", python] if checker == "mypy" else ["--pythonpath", python]
    run(sys.executable, "-m", checker, *options, "user.py", folder=tmp_path)
    (tmp_path / "wrong.py").write_text("import tabb\nrows: int = tabb.load('real.hdf5')\n")
    with pytest.raises(AssertionError, match="Transitions"):  # what it knows is more than Any
        run(sys.executable, "-m", checker, *options, "wrong.py", folder=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["uv", "pipx"])
def test_the_command_runs_without_being_installed(runner, built, tmp_path):
    venv.create(tmp_path / "tools", with_pip=True)
    tools = tmp_path / "tools" / "bin"
    run(tools / "pip", "install", "-q", "--disable-pip-version-check", runner, folder=tmp_path)
    words = ["tool", "run", "--python", sys.executable, "--from"] if runner == "uv" else ["run", "--spec"]
    own = {"PIPX_HOME": str(tmp_path / "pipx"), "UV_TOOL_DIR": str(tmp_path / "uv")}
    said = run(tools / runner, *words, built[0], "tabb", "--help", folder=tmp_path, **own)
    assert "usage: tabb COMMAND" in said
