"""Plans on a Ray cluster: bit for bit as on this machine, also when a node is lost; and the errors.

Nodes and the driver are processes of their own; nothing of Ray runs in the process of the tests.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import tabb
from tabb.cli import main
from tabb.data import inspect_arrays, save_npz
from tabb.errors import DataError, UsageError
from tabb.running.cluster import Cluster
from tabb.running.cluster.node import run_cell, sha256
from tabb.running.cluster.plan import run_plan_on
from tabb.running.cluster.shipping import check_files
from tabb.running.cluster.versions import difference, versions
from tabb.running.plan import Cell, failures, unfinished, write_plan
from tabb.training.folder import RunFolder
from tabb.training.spec import RunSpec

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason='needs pip install "tabb-rl[ray]"')
SMALL = [
    "--task",
    "none",
    "--backbone.policies",
    "1",
    "--backbone.hidden",
    "16",
    "16",
    "--backbone.batch-size",
    "16",
    "--progress",
    "lines",
    "--imitation.matching",
    "0",
]
QUICK = ["--updates", "2000", "--evaluations", "2", *SMALL]
LONG = ["--updates", "60000", "--evaluations", "30", "--held-out", "0", *SMALL]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name two small data files."""
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, rows in (("source", 600), ("target", 200)):
        moves = generator.normal(size=(rows, 3)), generator.uniform(-1, 1, (rows, 2)), generator.normal(size=rows)
        drawn = inspect_arrays(*moves, timeouts=np.arange(1, rows + 1) % 50 == 0)  # in no order, which is doubted
        save_npz(folder / f"{name}.npz", drawn.transitions)
    return ["--source", str(folder / "source.npz"), "--target", str(folder / "target.npz")]


class Nodes:
    """A head without CPUs, and the nodes that a test adds."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parents[1] / "ray_nodes.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"TMPDIR": str(folder)},
        )
        self.address = self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.strip() == "done" or line.strip().rpartition(":")[2].isdigit():
                return line.strip()
        raise AssertionError("the cluster ended")

    def tell(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        assert self._line() == "done"

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    (tmp_path / "tmp").mkdir()
    found = Nodes(tmp_path / "tmp")
    yield found
    found.close()


def start(*arguments: str) -> subprocess.Popen[str]:
    """`tabb train` in a process of its own."""
    command = [sys.executable, "-m", "tabb", "train", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    said = process.communicate(timeout=300)[1]
    assert process.returncode == code, said
    return said


def saved_update(folder: Path) -> int:
    """Where a run that is stopped now goes on."""
    with np.load(folder / "checkpoint.npz") as file:
        return int(json.loads(str(file["header"]))["update"])


def assert_same_run(first: Path, second: Path) -> None:
    for name in ("policy.npz", "checkpoint.npz"):
        with np.load(first / name) as a, np.load(second / name) as b:
            assert a.files == b.files
            for key in a.files:
                if key != "header" or name != "checkpoint.npz":  # which holds wall times
                    np.testing.assert_array_equal(a[key], b[key])
    one, other = (
        [{key: value for key, value in line.items() if key != "rate"} for line in RunFolder(folder).metrics()]
        for folder in (first, second)
    )
    assert one == other


# --- On two nodes ---


@needs_ray
@pytest.mark.slow
def test_two_nodes_train_what_this_machine_trains(nodes: Nodes, data: list[str], tmp_path: Path) -> None:
    nodes.tell("add 1")
    nodes.tell("add 1")
    # Networks of full size: how those round depends on the cores that a process may use.
    arguments = ["pooled", "target-only", *data, "--updates", "200", "--evaluations", "2", "--task", "none"]
    said = finish(start(*arguments, "--ray", nodes.address, "--out", str(tmp_path / "cluster")))
    assert "2 cells for 2 nodes with 2 CPUs" in said
    assert "Ray" not in said.replace("--ray", ""), "Ray is not quiet"
    finish(start(*arguments, "--jobs", "2", "--out", str(tmp_path / "here")))
    for cell in ("pooled/seed0", "target-only/seed0"):
        assert [len(list((tmp_path / where / cell / "policies").iterdir())) for where in ("here", "cluster")] == [2, 2]
        assert_same_run(tmp_path / "here" / cell, tmp_path / "cluster" / cell)
    config = [RunFolder(tmp_path / where / "pooled/seed0").config() for where in ("here", "cluster")]
    assert config[0]["origin"] == config[1]["origin"], "the record names the files of this machine"
    assert not list((tmp_path / "tmp").glob("tabb-*/cells/*")), "a node keeps nothing of a finished cell"
    assert len(list((tmp_path / "tmp").glob("tabb-*/data/*/*.npz"))) == 2


@needs_ray
@pytest.mark.slow
def test_a_node_is_lost(nodes: Nodes, data: list[str], tmp_path: Path) -> None:
    nodes.tell("add 1")
    out, cell = tmp_path / "cluster", tmp_path / "cluster" / "seed0"
    arguments = ["pooled", *data, *LONG]
    driver = start(*arguments, "--ray", nodes.address, "--out", str(out))
    wait_for(cell / "checkpoint.npz", driver)
    nodes.tell("kill 0")
    before, saved = RunFolder(cell).metrics(), saved_update(cell)
    assert not (cell / "result.json").exists(), "killed too late to prove anything"
    nodes.tell("add 1")
    said = finish(driver)
    assert "its worker was lost (NodeDiedError); goes on from what is saved, 1 of 3" in said
    # Nobody measures the same updates per second twice: what was saved was not trained again.
    after = RunFolder(cell).metrics()
    kept = [line for line in before if line["update"] <= saved]
    assert kept
    assert after[: len(kept)] == kept
    assert saved_update(cell) == 60_000
    finish(start(*arguments, "--jobs", "2", "--seeds", "0", "1", "--out", str(tmp_path / "here")))
    assert_same_run(tmp_path / "here" / "seed0", cell)


@needs_ray
@pytest.mark.slow
def test_stopped_at_the_driver_and_a_cell_that_fails(nodes: Nodes, data: list[str], tmp_path: Path) -> None:
    nodes.tell("add 1")
    out = tmp_path / "cluster"
    driver = start("pooled", *data, *LONG, "--ray", nodes.address, "--out", str(out))
    wait_for(out / "seed0" / "checkpoint.npz", driver)
    driver.send_signal(signal.SIGINT)
    said = finish(driver, 130).splitlines()
    go_on = f"tabb train --resume {out} --ray {nodes.address}"
    assert said[-1] == f"tabb: error: stopped; what the cells had saved is here; go on with `{go_on}`"
    before, saved = RunFolder(out / "seed0").metrics(), saved_update(out / "seed0")
    finish(start(*go_on.split()[2:], "--progress", "none"))
    kept = [line for line in before if line["update"] <= saved]
    assert kept
    assert RunFolder(out / "seed0").metrics()[: len(kept)] == kept
    assert (out / "seed0" / "result.json").exists()
    finish(start(*go_on.split()[2:]))  # nothing is left to do

    bad = start("pooled", *data, *QUICK, "--backbone.learning-rate", "1e30", "--ray", nodes.address, "--out",
                str(tmp_path / "bad"))  # fmt: skip
    said = finish(bad, 4).splitlines()
    assert said[-1].startswith("tabb: error: pooled seed 0: seed 0 diverged")


@needs_ray
@pytest.mark.slow
def test_a_node_with_another_tabb(nodes: Nodes, data: list[str], tmp_path: Path) -> None:
    code = tmp_path / "other" / "tabb"
    shutil.copytree(Path(tabb.__file__).parent, code, ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    (code / "rules" / "tabb.py").write_text("# another method\n")
    nodes.tell("add 1")
    nodes.tell(f"from {code.parent}")
    nodes.tell("add 1")
    out = tmp_path / "out"
    said = finish(start("pooled", *data, *QUICK, "--ray", nodes.address, "--out", str(out)), 4).splitlines()[-1]
    assert re.fullmatch(r"tabb: error: node \S+ has tabb \S+ \(code \w+\), this machine .*: install the same .*", said)
    assert not list(out.rglob("config.json")), "nothing was trained"


# --- One cell on a node, without a cluster ---


def spec_of(data: list[str], updates: int = 2_000) -> RunSpec:
    settings = tabb.Settings(updates=updates, evaluations=30, held_out=0.0, imitation=tabb.Imitation(best=0.8))
    backbone = tabb.IQL(policies=2, hidden=(16, 16), batch_size=16)
    return RunSpec(tabb.Pooled(), backbone, (data[1],), (data[3],), None, None, 0, settings)


def job(spec: RunSpec, files: dict[str, bytes] | None = None) -> dict:
    return {"name": "seed0", "spec": spec.to_json(), "files": files or {}, "data": {}, "environment": {}, "gpus": 0}


@pytest.mark.slow
def test_a_cell_goes_on_elsewhere(
    optimised_children: None,
    data: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spec = spec_of(data, updates=6_000)
    first = run_cell(job(spec), "one")
    files = dict(next(message for message in first if "checkpoint.npz" in message["files"])["files"])
    first.close()  # as a cancelled task
    assert "result.json" not in files
    assert not list(tmp_path.glob("tabb-*/cells/*"))
    last = {}
    for message in run_cell(job(spec, files), "two"):
        last |= message["files"]
        log = message["log"]
    assert message["done"], log
    assert log == b"", "nothing to tell"
    (tmp_path / "checkpoint.npz").write_bytes(files["checkpoint.npz"])
    saved = saved_update(tmp_path)
    lines = [json.loads(line) for line in last["metrics.jsonl"].splitlines()]
    kept = [line for line in map(json.loads, files["metrics.jsonl"].splitlines()) if line["update"] <= saved]
    assert 0 < saved < 6000
    assert kept
    assert lines[: len(kept)] == kept
    assert json.loads(last["result.json"])["updates"] == 6000


def test_errors_of_a_cell_and_of_a_node(data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bad = job(spec_of(data))
    bad["spec"]["target"] = [str(tmp_path / "no.npz")]
    (message,) = run_cell(bad, "one")
    assert message["failed"] == ""
    assert message["log"].decode().startswith("tabb: error: ")
    assert "no.npz" in message["log"].decode()
    (tmp_path / f"tabb-{os.getuid()}").rename(tmp_path / "gone")
    (tmp_path / f"tabb-{os.getuid()}").write_text("no folder")
    (message,) = run_cell(job(spec_of(data)), "one")
    assert message["failed"].startswith("on node one: ")


@pytest.mark.slow
def test_a_node_takes_steps_in_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any data: what comes back has all steps and the data set of them."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    online = tabb.Online(target_steps=30, source_steps=40, warm_up=8)
    settings = tabb.Settings(updates=20, evaluations=0, online=online)
    backbone = tabb.SAC(hidden=(8,), batch_size=8)
    spec = RunSpec(tabb.Pooled(), backbone, None, None, "hopper-gravity-0.5", None, 0, settings)
    files = {name: content for message in run_cell(job(spec), "one") for name, content in message["files"].items()}
    assert json.loads(files["result.json"])["steps"] == {"source": 40, "target": 30}
    (tmp_path / "steps.npz").write_bytes(files["target-steps.npz"])
    assert len(tabb.load(tmp_path / "steps.npz")) == 30


def test_steps_of_a_robot_are_no_nodes(data: list[str], tmp_path: Path, capsys) -> None:
    spec = spec_of(data)
    settings = dataclasses.replace(spec.settings, online=tabb.Online(target_steps=5), imitation=None)
    with pytest.raises(UsageError, match="steps in Robot-v0: are taken at this machine; go on without --ray"):
        check_files([dataclasses.replace(spec, env="Robot-v0", target=None, settings=settings)])
    words = ["--source", data[1], "--env", "Robot-v0", "--online.target-steps", "5", "--ray", "local"]
    assert main(["train", "pooled@sac", *words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "steps in Robot-v0 are taken at this machine, where a robot would be; leave --ray out" in said
    assert not (tmp_path / "out").exists()


# --- The driver, with a stand-in for Ray that runs each task in this process ---


class FakeRay(types.ModuleType):
    """As much of Ray as the driver and a node use."""

    class exceptions:
        RayError = type("RayError", (Exception,), {})
        RayTaskError = type("RayTaskError", (RayError,), {})
        LocalRayletDiedError = type("LocalRayletDiedError", (RayError,), {})

    put = get = staticmethod(lambda value: value)

    @staticmethod
    def remote(**resources: object) -> Callable[..., object]:
        return lambda task: types.SimpleNamespace(remote=task)

    @staticmethod
    def wait(generators: list, num_returns: int, timeout: float) -> tuple[list, list]:
        return generators[:1], generators[1:]

    @staticmethod
    def cancel(generator: Iterator[dict]) -> None:
        generator.close()  # type: ignore[attr-defined]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    ray = FakeRay("ray")
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("tabb.running.cluster.plan.connected", lambda *_: contextlib.nullcontext(ray))
    monkeypatch.setattr("tabb.running.cluster.plan.look_at_nodes", lambda *_: (1, 1.0, 0.0))
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
        signal.signal(number, handler)


@pytest.mark.slow
def test_a_failed_cell_leaves_the_others_alone(data: list[str], tmp_path: Path, stand_in: None, capsys) -> None:
    good = spec_of(data, updates=5)
    bad = dataclasses.replace(good, seed=1, backbone=dataclasses.replace(good.backbone, learning_rate=1e30))
    write_plan(tmp_path / "runs", [Cell("bad", "bad/seed1", bad), Cell("good", "good/seed0", good)])
    error = run_plan_on(Cluster("auto"), tmp_path / "runs", 1, 1, "lines")
    assert str(error).startswith("bad: seed 1 diverged")
    assert "tabb: warning: bad failed: seed 1 diverged" in capsys.readouterr().err
    assert list(failures(tmp_path / "runs")) == ["bad/seed1"]
    finished = RunFolder(tmp_path / "runs" / "good" / "seed0")
    assert finished.result_file.exists()
    assert finished.config()["origin"]["source"]["files"] == [data[1]]
    assert [cell.label for cell in unfinished(tmp_path / "runs")] == ["bad"]


def test_a_cell_that_another_process_trains_is_that_cells_failure(
    data: list[str], tmp_path: Path, stand_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [Cell(name, f"{name}/seed0", spec_of(data, updates=5)) for name in ("held", "free")]
    write_plan(tmp_path / "runs", cells)
    begun: list[str] = []

    def task(here: object, job: dict) -> Iterator[dict]:
        begun.append(job["name"])
        yield {"files": {"result.json": b"{}"}, "log": b"", "done": True}

    monkeypatch.setattr("tabb.running.cluster.plan.task_of", lambda: task)
    held = RunFolder(tmp_path / "runs" / "held" / "seed0")
    held.path.mkdir(parents=True)
    with held.locked():
        error = run_plan_on(Cluster("auto"), tmp_path / "runs", 1, 1, "none")
    assert str(error).startswith(f"held: {held.path}: another process trains here")
    assert len(begun) == 1
    assert [cell.label for cell in unfinished(tmp_path / "runs")] == ["held"]


# --- What the driver refuses ---


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--ray", "ray://host:10001"], 2, "Ray's client is not supported"),
        (["--ray-gpus", "1"], 2, "name it with --ray ADDRESS"),
        (["--ray", "somewhere"], 2, "use auto, local or HOST:PORT"),
        (["--ray", "host:99999"], 2, "use auto, local or HOST:PORT"),
        (["--ray", "local", "--ray-gpus", "-1"], 2, "--ray-gpus -1: use 0, a fraction of one, or a whole number"),
        (["--ray", "local", "--ray-gpus", "1.5"], 2, "--ray-gpus 1.5"),
        (["--ray", "local", "--jobs", "0"], 2, "--jobs 0: must be at least 1"),
        (["--ray", "local", "--ray-retries", "-1"], 2, "--ray-retries -1: must be at least 0"),
        (["--ray", "local", "--track", "tensorboard"], 2, "tabb track FOLDER"),
        pytest.param(["--ray", "127.0.0.1:1"], 4, "127.0.0.1:1: cannot be reached", marks=needs_ray),
    ],
)
def test_one_line_errors(options: list[str], code: int, says: str, data: list[str], tmp_path: Path, capsys) -> None:
    assert main(["train", "pooled", *data, *QUICK, *options, "--out", str(tmp_path / "out")]) == code
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("tabb: error: ")
    assert says in said[0]
    assert not (tmp_path / "out").exists()


def test_without_ray(data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["train", "pooled", *data, *QUICK, "--ray", "local", "--out", str(tmp_path / "out")]) == 2
    assert (
        capsys.readouterr().err.strip()
        == 'tabb: error: a cluster needs Ray: pip install "tabb-rl[ray]" (on every node)'
    )
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_no_plan_is_not_resumed_on_a_cluster(tmp_path: Path, capsys) -> None:
    (tmp_path / "seed0").mkdir()
    (tmp_path / "seed0" / "config.json").write_text("{}")
    assert main(["train", "--resume", str(tmp_path), "--ray", "local"]) == 2
    assert "was not started as a plan" in capsys.readouterr().err


def test_versions_must_agree() -> None:
    here = versions()
    assert set(here) > {"Python", "tabb", "jax", "mujoco"}
    assert difference(here, dict(here), "far") is None
    assert difference(here, here | {"jax": "0.1"}, "far") == (
        f"node far has jax 0.1, this machine {here['jax']}: install the same on every node, then run the command again"
    )
    mine = here | {"package near": "1.0"}  # brings a rule: nodes need it for that rule alone, but then the same
    assert difference(mine, here, "far") is None
    assert "node far has package near 2.0, this machine 1.0" in str(
        difference(mine, mine | {"package near": "2.0"}, "far")
    )


def test_data_of_a_node_stand_in_for_the_drivers(
    data: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node's copies are read; what comes back names the driver's files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    there = spec_of(data, updates=5)
    here = job(dataclasses.replace(there, source=("/driver/s.npz",), target=("/driver/t.npz",)))
    for domain, file in (("source", data[1]), ("target", data[3])):
        copy = tmp_path / f"tabb-{os.getuid()}" / "data" / domain / Path(file).name
        copy.parent.mkdir(parents=True, mode=0o700)
        (tmp_path / f"tabb-{os.getuid()}").chmod(0o700)
        shutil.copy(file, copy)
        item = {
            "name": copy.name,
            "key": domain,
            "path": f"/driver/{domain[0]}.npz",
            "parts": [("", sha256(copy), None)],
        }
        here["data"][domain] = [item]
    files: dict[str, bytes] = {}
    for message in run_cell(here, "one"):
        files |= message["files"]
    assert message.get("done"), message["log"]
    origin = json.loads(files["config.json"])["origin"]
    assert [origin[domain]["files"] for domain in ("source", "target")] == [["/driver/s.npz"], ["/driver/t.npz"]]


def test_data_that_are_not_here(data: list[str], tmp_path: Path) -> None:
    check_files([spec_of(data)])
    with pytest.raises(DataError, match=r"no\.npz: no such file"):
        check_files([spec_of(data), dataclasses.replace(spec_of(data), source=(str(tmp_path / "no.npz"),))])


def test_addresses() -> None:
    assert (Cluster("[::1]:6379").host, Cluster("10.0.0.1:6379").port) == ("::1", 6379)
    with pytest.raises(UsageError, match="--ray-gpus inf"):
        Cluster("auto", gpus=float("inf"))
