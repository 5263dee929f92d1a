"""tabb replaces only what tabb has written: of each writer, a stranger's file stays and its own earlier one goes."""

import dataclasses
import importlib.util
import json

import h5py
import numpy as np
import pytest

import tabb
from cart import cart
from tabb.cli import main
from tabb.data.hdf5 import write_hdf5
from tabb.data.npz import save_npz
from tabb.deploy import export
from tabb.errors import RunError, UsageError
from tabb.evaluation.figures import save_png
from tabb.files import write_json
from tabb.own_files import KINDS, refuse_others, refuse_plan_files, refuse_run_files
from tabb.policy import Policy
from tabb.rendering.encode import write_film
from tabb.results.row_scores import RowScores, save_scores
from tabb.training.folder import RunFolder

LOG = cart(120, 1)


def policy():
    zeros = np.zeros((2, 1), np.float32)
    return Policy(np.zeros(2, np.float32), np.ones(2, np.float32), (zeros,), (np.zeros(1, np.float32),), {"seed": 3})


def figure():
    from matplotlib.figure import Figure

    return Figure(figsize=(1, 1))


FRAMES = [np.full((32, 32, 3), shade, np.uint8) for shade in (0, 90, 200)]
needs_onnx = pytest.mark.skipif(importlib.util.find_spec("onnx") is None, reason="needs the extra export")
needs_av = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="needs the extra watch")
WRITERS = {
    "policy.npz": lambda path: policy().save(path),
    "exported.npz": lambda path: export(policy(), "npz", path),
    "exported.onnx": lambda path: export(policy(), "onnx", path),
    "exported.stablehlo": lambda path: export(policy(), "stablehlo", path),
    "rows.npz": lambda path: save_npz(path, tabb.from_arrays(**LOG)),
    "log.hdf5": lambda path: write_hdf5(path, LOG),
    "scores.hdf5": lambda path: save_scores(RowScores({"tbm": np.ones(3)}, {"seed": 0}), path),
    "figure.png": lambda path: save_png(figure(), path),
    "film.gif": lambda path: write_film(path, iter(FRAMES), 5),
    "film.mp4": lambda path: write_film(path, iter(FRAMES), 5),
}
MARKS = {"exported.onnx": needs_onnx, "exported.stablehlo": needs_onnx, "film.mp4": needs_av}
writers = pytest.mark.parametrize("name", [pytest.param(name, marks=MARKS.get(name, ())) for name in WRITERS])


def hdf5(path, content):
    with h5py.File(path, "w") as file:
        for key, column in content.items():
            file[key] = column


def npz(path, **columns):
    with open(path, "wb") as file:
        np.savez(file, **columns)


def png(path):
    figure().savefig(path, format="png")


STRANGERS = {
    "text": lambda path: path.write_text("a note"),
    "csv": lambda path: path.write_text("t,x,y\n0,1,2\n"),
    "bytes": lambda path: path.write_bytes(bytes(range(256))),
    "json": lambda path: path.write_text('{"rows": [1, 2]}'),
    "list": lambda path: path.write_text("[1, 2]"),
    "npz of a log": lambda path: npz(path, **LOG),
    "npz under other names": lambda path: npz(path, obs=np.zeros((9, 2)), acts=np.ones(9)),
    "npz under singular names": lambda path: npz(path, **dataclasses.asdict(tabb.from_arrays(**LOG)) | {"extras": 0}),
    "npz with a header": lambda path: npz(path, header=np.array("{}"), obs=np.ones(9)),
    "hdf5 of a log": lambda path: hdf5(path, LOG),
    "robomimic": lambda path: hdf5(path, {"data/demo_0/obs": np.zeros((9, 2)), "data/demo_0/actions": np.ones((9, 1))}),
    "figure": png,
    "page": lambda path: path.write_text("<!DOCTYPE html><html><head><title>x</title></head></html>"),
    "zip, cut": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(50)),
}


@writers
@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_strangers_file_stays(tmp_path, name, stranger):
    path = tmp_path / name
    STRANGERS[stranger](path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"is there already and is not .* that tabb wrote"):
        WRITERS[name](path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [name]


@writers
def test_an_own_file_is_replaced(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    first = path.stat().st_ino
    WRITERS[name](path)
    assert path.stat().st_ino != first


@writers
def test_an_empty_file_holds_nothing_to_lose(tmp_path, name):
    path = tmp_path / name
    path.touch()
    WRITERS[name](path)
    assert path.stat().st_size > 0


@writers
def test_an_own_file_of_another_kind_stays(tmp_path, name):
    """The rows that a policy was trained on are tabb's as well."""
    for other, write in WRITERS.items():
        same = {"policy.npz", "exported.npz"}
        if other == name or {other, name} == same or other in MARKS or {other, name} <= {"film.gif", "film.mp4"}:
            continue
        write(tmp_path / other)
        (tmp_path / other).rename(tmp_path / name)
        with pytest.raises(UsageError, match="that tabb wrote"):
            WRITERS[name](tmp_path / name)


@pytest.mark.parametrize("kind", KINDS)
def test_devices_and_folders_stay(tmp_path, kind):
    from pathlib import Path

    for path in (Path("/dev/null"), tmp_path):
        with pytest.raises(UsageError, match="name a file"):
            refuse_others(path, kind)


@needs_onnx
def test_a_strangers_description_beside_a_program_stays(tmp_path):
    (tmp_path / "a.stablehlo.json").write_text('{"mine": 1}')
    with pytest.raises(UsageError, match=r"a\.stablehlo\.json"):
        export(policy(), "stablehlo", tmp_path / "a.stablehlo")
    assert not (tmp_path / "a.stablehlo").exists()


# --- Commands ---


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small finished run without rollouts."""
    folder = tmp_path_factory.mktemp("runs")
    settings = tabb.Settings(updates=4, evaluations=1, backbone=tabb.IQL(policies=1, hidden=(8,), batch_size=8))
    files = {"source": folder / "sim.hdf5", "target": folder / "real.hdf5"}
    write_hdf5(files["source"], cart(300))
    write_hdf5(files["target"], LOG)
    origin = {domain: {"files": [str(file)]} for domain, file in files.items()}
    source, target = (tabb.load(file) for file in files.values())
    tabb.train(tabb.TABB(**tabb.TABB.small), source, target, settings=settings, folder=folder / "tabb", origin=origin)
    return folder / "tabb" / "seed0"


@pytest.mark.parametrize("stranger", ["text", "npz under other names", "robomimic"])
@pytest.mark.parametrize(
    "command",
    [
        ["report", "{run}", "--out", "{out}"],
        ["score", "{run}", "--out", "{out}"],
        ["select", "{run}", "--out", "{out}"],
        ["audit", "{run}/../../real.hdf5", "--out", "{out}"],
        ["collect", "random", "--task", "hopper", "--rows", "5", "--overwrite", "--out", "{out}"],
        ["export", "{run}", "--format", "npz", "--out", "{out}.npz"],
        ["watch", "{run}", "--task", "hopper", "--out", "{out}.gif"],
    ],
    ids=lambda command: command[0],
)
def test_no_command_replaces_a_strangers_file(tmp_path, run, command, stranger, capsys):
    out = tmp_path / "out"
    words = [word.format(run=run, out=out) for word in command]
    path = type(out)(words[-1])
    STRANGERS[stranger](path)
    before = path.read_bytes()
    assert main(words) == 2
    told = capsys.readouterr().err
    if command[0] != "watch":  # which says first that the policy does not fit the task
        assert "is there already and is not" in told
    assert told.count("\n") == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize("command", ["report", "score"])
def test_a_command_replaces_its_own_file(tmp_path, run, command, capsys):
    for _ in range(2):
        assert main([command, str(run), "--out", str(tmp_path / "out")]) == 0, capsys.readouterr().err


def test_an_audit_replaces_an_audit(tmp_path, run):
    for _ in range(2):
        main(["audit", str(run / "../../real.hdf5"), "--out", str(tmp_path / "out.json")])
    assert "findings" in json.loads((tmp_path / "out.json").read_text())


# --- Files of earlier versions, which bear no mark ---


def test_a_run_folder_of_an_earlier_version_may_be_written_to(tmp_path, run):
    import shutil

    old = shutil.copytree(run, tmp_path / "seed0")
    for name, kind in (("curve.png", "figure"), ("watch.gif", "film")):
        (old / name).unlink(missing_ok=True)
        png(old / name) if kind == "figure" else (old / name).write_bytes(b"GIF89a" + bytes(20))
        refuse_others(old / name, kind)
        stranger = tmp_path / name  # the same file where tabb has no business
        stranger.write_bytes((old / name).read_bytes())
        with pytest.raises(UsageError):
            refuse_others(stranger, kind)
    (old / "policy.npz").write_bytes(b"damaged")
    refuse_others(old / "policy.npz", "policy")


def test_pages_and_scores_of_an_earlier_version_are_known(tmp_path):
    page = tmp_path / "report.html"
    page.write_text("<html>" + " " * 9000 + "<footer>Written by tabb 0.0.9. Values</footer></body></html>")
    refuse_others(page, "page")
    hdf5(tmp_path / "scores.hdf5", {"tbm": np.ones(3)})
    with h5py.File(tmp_path / "scores.hdf5", "a") as file:
        for key in ("run", "rule", "seed", "source_sha256", "versions"):
            file.attrs[key] = "x"
    refuse_others(tmp_path / "scores.hdf5", "scores")


# --- Folders ---


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "checkpoint.npz", "prepared.npz", "policy.npz", "result.json", "curve.png"]
)
def test_a_new_run_replaces_nothing_in_its_folder(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match=f"holds {name} but no run of tabb"):
        RunFolder(tmp_path).start({})
    assert (tmp_path / name).read_text() == "mine"


def test_a_new_run_may_lie_beside_other_files(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    refuse_run_files(tmp_path)
    refuse_plan_files(tmp_path)


def test_a_new_benchmark_replaces_nothing_in_its_folder(tmp_path):
    (tmp_path / "report.md").write_text("mine")
    with pytest.raises(RunError, match=r"holds report\.md but no plan of tabb"):
        refuse_plan_files(tmp_path)


@pytest.mark.parametrize(
    ("rules", "name"),
    [
        (["target-only"], "comparison.png"),
        (["target-only", "pooled"], "comparison.png"),
        (["target-only", "pooled"], "failed.json"),
        (["tabb", "source-only"], "answer.json"),
        (["tabb", "source-only"], "policy.npz"),
        ([], "trust.json"),
        ([], "trust.png"),
    ],
)
def test_what_is_written_after_training_is_refused_before_it(tmp_path, rules, name, capsys):
    (tmp_path / name).write_text('{"mine": 1}')
    assert main(["train", *rules, "--updates", "4", "--progress", "none", "--out", str(tmp_path)]) in (2, 4)
    told = capsys.readouterr().err
    assert name in told
    assert told.count("\n") == 1
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == '{"mine": 1}'


def test_rows_given_back_are_those_written(tmp_path):
    rows = tabb.from_arrays(**LOG)
    save_npz(tmp_path / "a.npz", rows)
    save_npz(tmp_path / "a.npz", rows[:50])
    assert len(tabb.load(tmp_path / "a.npz")) == 50
    assert dataclasses.is_dataclass(rows)


def test_json_of_other_shape_is_no_audit(tmp_path):
    write_json(tmp_path / "a.json", {"files": [], "findings": [], "reports": {}, "more": 1})
    with pytest.raises(UsageError):
        refuse_others(tmp_path / "a.json", "audit")
