"""Plans as processes: one failed run leaves the others alone, and a child does what its spec says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tabb
from tabb.data import save_npz
from tabb.errors import RunError, Stopped
from tabb.running import processes
from tabb.running.plan import Cell, failures, log_file, unfinished, write_plan
from tabb.running.processes import Call, import_path, run_calls, run_plan, start_child, why_it_failed
from tabb.training.folder import RunFolder
from tabb.training.spec import RunSpec

BACKBONE = tabb.IQL(policies=1, hidden=(8,), batch_size=8)
SETTINGS = tabb.Settings(updates=4, evaluations=1, held_out=0.0)

OWN_RULE = '''
import dataclasses
from tabb.rules import RULES, Pooled

@dataclasses.dataclass(frozen=True)
class Mine(Pooled):
    """A rule of a module of the user's."""
    name = "mine"

RULES["mine"] = Mine
'''


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, ...]]:
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, rows, scale in (("source", 200, 1.0), ("target", 60, 1.0), ("huge", 200, 1e32)):
        moves = (
            generator.normal(size=(rows, 3)),
            generator.uniform(-1, 1, (rows, 2)),
            scale * generator.normal(size=rows),
        )
        save_npz(folder / f"{name}.npz", tabb.from_arrays(*moves, timeouts=np.arange(1, rows + 1) % 20 == 0))
    return {name: (str(folder / f"{name}.npz"),) for name in ("source", "target", "huge")}


def spec_of(rule: tabb.Rule, source: tuple[str, ...] | None, target: tuple[str, ...], seed: int = 0) -> RunSpec:
    return RunSpec(rule, BACKBONE, source, target, None, None, seed, SETTINGS)


@pytest.mark.usefixtures("hang_up_is_heard")
@pytest.mark.parametrize(("number", "wishes"), [(signal.SIGINT, 2), (signal.SIGTERM, 2), (signal.SIGHUP, 1)])
def test_how_often_the_runs_of_a_plan_are_asked_to_stop(
    data: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, wishes: int
) -> None:
    """Each further Ctrl-C is passed on to them; that the terminal was closed is one wish, however often it is told."""
    write_plan(tmp_path, [Cell("cell", "seed0", spec_of(tabb.TargetOnly(), None, data["target"]))])
    asked, before = [], signal.getsignal(number)
    monkeypatch.setattr(processes, "_end", lambda running, wanted: asked.append(wanted()))

    def told_twice() -> None:
        for _ in range(2):
            os.kill(os.getpid(), number)

    with pytest.raises(Stopped, match="stopped and saved; go on with"):
        run_plan(tmp_path, 0, "none", watch=told_twice)
    assert asked == [wishes]
    assert signal.getsignal(number) == before


def test_one_failed_run_leaves_the_others_alone(data: dict, tmp_path: Path, capsys) -> None:
    write_plan(
        tmp_path,
        [
            Cell("pooled seed 0", "pooled/seed0", spec_of(tabb.Pooled(), data["huge"], data["target"])),
            Cell("target-only seed 0", "target-only/seed0", spec_of(tabb.TargetOnly(), None, data["target"])),
        ],
    )
    turns = iter(["news"])
    error = run_plan(tmp_path, 1, "lines", watch=lambda: next(turns, None))
    assert isinstance(error, RunError)
    assert str(error).startswith("pooled seed 0: seed 0 diverged")
    assert str(error).endswith(f"; try again with `tabb train --resume {tmp_path}`")
    told = capsys.readouterr().err
    assert "tabb: warning: pooled seed 0 failed: seed 0 diverged" in told
    assert told.splitlines().count("news") == 1
    assert (tmp_path / "target-only" / "seed0" / "result.json").exists()
    assert list(failures(tmp_path)) == ["pooled/seed0"]
    assert [cell.label for cell in unfinished(tmp_path)] == ["pooled seed 0"]


def test_a_log_that_cannot_be_written_is_that_runs_failure(data: dict, tmp_path: Path) -> None:
    names = ("a", "b")
    cells = [Cell(name, f"{name}/seed0", spec_of(tabb.TargetOnly(), None, data["target"])) for name in names]
    write_plan(tmp_path, cells)
    for cell in cells:
        log_file(tmp_path, cell).mkdir(parents=True)
    assert str(run_plan(tmp_path, 1, "none")).startswith("2 runs failed: a: ")
    assert all("seed0.log: cannot be written (Is a directory)" in failures(tmp_path)[cell.folder] for cell in cells)


def test_a_rule_of_another_module_and_scripts_beside_it(
    data: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child imports what this process imports, and nothing that happens to lie where it was started."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "users_rules.py").write_text(OWN_RULE)
    for name in ("tabb", "jax", "random"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('of the user, not of tabb')\n")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    monkeypatch.chdir(tmp_path)
    import users_rules  # type: ignore[import-not-found]

    spec = spec_of(users_rules.Mine(), data["source"], data["target"])
    write_plan(Path("runs"), [Cell("mine seed 0", "seed0", spec)])
    try:
        assert run_plan(Path("runs"), 1, "none") is None
        config = RunFolder("runs/seed0").config()
        assert RunSpec.from_config(config) == spec
    finally:
        tabb.rules.RULES.pop("mine")
        sys.modules.pop("users_rules")
    assert config["rule"] == {"name": "mine", "class": "users_rules:Mine"}


@pytest.mark.slow
def test_a_child_by_hand(data: dict, tmp_path: Path) -> None:
    """A spec in a file, an error in one line, and a finished run that is left as it is."""
    spec = spec_of(tabb.TargetOnly(), None, data["target"], seed=5)
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_json()))

    def child(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tabb.running.child", *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    wrong = child(str(tmp_path / "spec.json"), str(tmp_path / "seed0"))
    assert (wrong.returncode, wrong.stderr.splitlines()[1:]) == (2, [])
    assert "the folder of seed 5 is called seed5" in wrong.stderr
    done = child(str(tmp_path / "spec.json"), str(tmp_path / "seed5"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    before = (tmp_path / "seed5" / "policy.npz").read_bytes()
    assert child(str(tmp_path / "spec.json"), str(tmp_path / "seed5")).returncode == 0
    assert (tmp_path / "seed5" / "policy.npz").read_bytes() == before
    assert child().returncode == 2
    assert child(str(tmp_path / "nowhere.json"), "x").returncode == 4


def test_how_a_process_ended(tmp_path: Path) -> None:
    log, folder = tmp_path / "seed0.log", RunFolder(tmp_path / "seed0")
    log.write_text("tabb: error: disk full\n")
    assert why_it_failed(4, log, folder) == "disk full"
    assert why_it_failed(-signal.SIGKILL, log, folder) == f"was killed by SIGKILL (out of memory?); see {log}"
    assert why_it_failed(-signal.SIGSEGV, log, folder) == f"was killed by SIGSEGV; see {log}"
    assert why_it_failed(0, log, folder) == f"ended without a result; see {log}"
    folder.path.mkdir()
    folder.result_file.write_text("{}")
    assert why_it_failed(0, log, folder) is None


def test_calls_in_processes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    good = Call("copy", "shutil:copyfile", {"src": str(tmp_path / "a"), "dst": str(tmp_path / "b")})
    (tmp_path / "a").write_text("plain")
    run_calls([good], 1)
    assert (tmp_path / "b").read_text() == "plain"
    bad = Call("task x", "tabb.environments.tasks:get_task", {"name": "hoper"})
    with pytest.raises(RunError, match="task x failed, see above; the others were stopped"):
        run_calls([bad, good], 2)
    assert capfd.readouterr().err.startswith("tabb: error: unknown task 'hoper'")


def test_what_children_are_told(tmp_path: Path) -> None:
    assert "" not in import_path().split(os.pathsep)
    log = tmp_path / "log"
    with open(log, "wb") as out:
        process = start_child(["-c", "import sys; print(sys.stdin.read(), sys.flags.safe_path)"], {"a": 1}, stdout=out)
    assert process.wait() == 0
    assert log.read_text().split() == ['{"a":', "1}", "True"]
    assert log_file(Path("r"), Cell("x", "a/seed0", spec_of(tabb.Pooled(), None, ("/t",)))) == Path("r/a/seed0.log")
