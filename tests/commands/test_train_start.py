"""`tabb train --start`: runs that start from the weights of another run, here, as a plan, and after a stop."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

import tabb
from child_compilation import compilation_cache
from command_line import refused, told
from tabb.cli import main
from tabb.data import save_npz
from tabb.training.folder import RunFolder

__all__ = ["compilation_cache"]

SMALL = [
    "--updates",
    "20",
    "--held-out",
    "0",
    "--backbone.hidden",
    "8",
    "8",
    "--backbone.batch-size",
    "8",
    "--backbone.policies",
    "1",
    "--progress",
    "none",
]
WAYS = [pytest.param(1, id="here"), pytest.param(2, id="plan", marks=pytest.mark.slow)]
"""jobs: in this process, or as processes of a plan"""
SETTINGS = tabb.Settings(updates=20, held_out=0.0, backbone=tabb.IQL(policies=1, hidden=(8, 8), batch_size=8))


def save_data(folder: Path, columns: int = 3) -> list[str]:
    """Options that name two small files of data, of so many observation columns."""
    files = []
    for name, rows in (("source", 400), ("target", 200)):
        generator = np.random.default_rng(rows)
        data = tabb.from_arrays(
            generator.normal(size=(rows, columns)),
            generator.uniform(-1, 1, (rows, 2)),
            generator.normal(size=rows),
            timeouts=np.arange(1, rows + 1) % 20 == 0,
        )
        save_npz(folder / f"{name}.npz", data)
        files += [f"--{name}", str(folder / f"{name}.npz")]
    return files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return save_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def first(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two finished runs, of seeds 0 and 1."""
    out = tmp_path_factory.mktemp("first")
    assert main(["train", "pooled", *files, *SMALL, "--seeds", "0", "1", "--jobs", "1", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def whole(files: list[str], first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `tabb.train` makes of the policies of these runs, never stopped."""
    out = tmp_path_factory.mktemp("whole")
    source, target = (tabb.load(file) for file in files[1::2])
    tabb.train(
        tabb.Pooled(), source, target, seeds=(0, 1), settings=SETTINGS, folder=out, start=first, start_parts=("policy",)
    )
    return out


def assert_same_runs(one: Path, other: Path) -> None:
    for seed in (0, 1):
        folders = [RunFolder(root / f"seed{seed}") for root in (one, other)]
        with np.load(folders[0].checkpoint_file) as a, np.load(folders[1].checkpoint_file) as b:
            assert a.files == b.files
            for name in a.files:
                if name != "header":  # holds wall times
                    np.testing.assert_array_equal(a[name], b[name])
        starts = [folder.config()["start"] for folder in folders]
        assert starts[0] == starts[1]


def options_of(files: list[str], first: Path, out: Path, jobs: int) -> list[str]:
    start = ["--start", str(first), "--start-parts", "policy"]
    return ["train", "pooled", *files, *SMALL, *start, "--seeds", "0", "1", "--jobs", str(jobs), "--out", str(out)]


@pytest.mark.parametrize("jobs", WAYS)
def test_the_same_bits_as_in_python(
    jobs: int, files: list[str], first: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(first.parent)  # a relative path is that of the folder where the command is given
    assert main(options_of(files, Path(first.name), tmp_path / "runs", jobs)) == 0
    assert (tmp_path / "runs" / "plan.json").exists() == (jobs == 2)
    assert_same_runs(tmp_path / "runs", whole)
    # It did start there: without it the weights are others.
    with np.load(whole / "seed0" / "policy.npz") as a, np.load(first / "seed0" / "policy.npz") as b:
        assert any((a[name] != b[name]).any() for name in a.files if a[name].dtype == np.float32)


@pytest.mark.parametrize("jobs", WAYS)
def test_a_stopped_run_goes_on(
    jobs: int, files: list[str], first: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seed 0 is stopped on its way, seed 1 is not begun; on a plan they go on as processes."""
    out = tmp_path / "runs"
    with monkeypatch.context() as patched:
        log = RunFolder.log

        def stop_after(folder: RunFolder, line: dict[str, object]) -> None:
            log(folder, line)
            os.kill(os.getpid(), signal.SIGINT)

        patched.setattr(RunFolder, "log", stop_after)
        assert main(options_of(files, first, out, 1)) == 130
    assert (out / "seed0" / "checkpoint.npz").exists()
    assert not (out / "seed0" / "result.json").exists()
    assert not (out / "seed1").exists()
    if jobs == 2:
        stopped = shutil.move(out / "seed0", tmp_path / "seed0")
        assert main(options_of(files, first, out, 2)) == 0
        shutil.rmtree(out / "seed0")
        shutil.rmtree(out / "seed1")
        shutil.move(stopped, out / "seed0")
    assert main(["train", "--resume", str(out), "--progress", "none"]) == 0
    assert_same_runs(out, whole)


def test_a_folder_holds_runs_of_one_start(
    files: list[str], first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = ["--seeds", "0", "--out", tmp_path / "runs", "--start", first, "--start-parts"]
    told(capsys, "train", "pooled", *files, *SMALL, *one, "policy")
    code, line = refused(capsys, "train", "pooled", *files, *SMALL, "--seeds", "1", "--out", tmp_path / "runs")
    assert (code, "differs in start" in line) == (4, True)


@pytest.mark.parametrize(
    ("learners", "arguments", "says"),
    [
        (["pooled"], ["--start", "{first}/gone"], "is no run folder, and has no seed0 to start seed 0 from"),
        (["pooled"], ["--start", "{first}", "--seeds", "0", "7"], "has no seed7 to start seed 7 from"),
        (["pooled"], ["--start", "{stopped}"], "is not finished; go on with `tabb train --resume"),
        (["pooled@td3-bc"], ["--start", "{first}"], "is a run of backbone iql, not of td3-bc"),
        (["pooled@cql", "pooled"], ["--start", "{first}"], "is a run of backbone iql, not of cql"),
        (["pooled"], ["--start", "{first}", "--backbone.hidden", "9"], "its policy has layers"),
        (["pooled"], ["--start", "{first}", "--task", "hopper-morph"], "this run's data 11 observation and 3 action"),
        (["pooled"], ["--start-parts", "policy"], "--start-parts: says what to take from another run"),
        (["pooled"], ["--start", "{first}", "--start-parts", "actor"], "--start-parts"),
        (["pooled"], ["--start", "{first}", "--ray", "local"], "--start with --ray: nodes do not have the run"),
    ],
)
def test_starts_that_cannot_be(
    learners: list[str],
    arguments: list[str],
    says: str,
    first: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Said before the data are read (these are no data sets), in one line, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    stopped = shutil.copytree(first / "seed0", tmp_path / "stopped")
    (stopped / "result.json").unlink()
    for name in ("source", "target"):
        Path(f"{name}.npz").write_text("no data")
    words = [word.format(first=first, stopped=stopped) for word in arguments]
    sizes = ["--backbone.hidden", "8", "8", "--backbone.policies", "1"] if learners == ["pooled"] else []
    sizes = [] if "--backbone.hidden" in words else sizes
    data = ["--source", "source.npz", "--target", "target.npz", "--updates", "20", "--out", "runs"]
    code, line = refused(capsys, "train", *learners, *data, *sizes, *words)
    assert (code, says in line) == (2, True), line
    assert not Path("runs").exists()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_data_of_other_sizes(jobs: str, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a task only the data say what their sizes are; of a plan no run is begun."""
    files = save_data(tmp_path, columns=4)
    arguments = ["--start", first, "--seeds", "0", "1", "--jobs", jobs, "--out", tmp_path / "runs"]
    code, line = refused(capsys, "train", "pooled", *files, *SMALL, *arguments)
    says = "has 3 observation and 2 action entries, this run's data 4 observation and 2 action entries"
    assert (code, says in line) == (2, True), line
    assert not (tmp_path / "runs").exists()


def test_resume_takes_no_other_start(first: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = refused(capsys, "train", "--resume", first, "--start", first)
    assert (code, "--start with --resume: a run goes on as it was started" in line) == (2, True)


def test_a_plan_that_starts_elsewhere_stays_off_a_cluster(files: list[str], first: Path, tmp_path: Path) -> None:
    from tabb.errors import UsageError
    from tabb.running.cluster.shipping import check_files
    from tabb.training.spec import RunSpec

    spec = RunSpec(tabb.Pooled(), tabb.IQL(), None, (files[3],), None, None, 0, SETTINGS, start=str(first))
    with pytest.raises(UsageError, match="nodes do not have the run to start from; go on without --ray"):
        check_files([spec])
