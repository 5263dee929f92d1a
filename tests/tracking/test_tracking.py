"""Tracking: a tracker gets the very lines of metrics.jsonl, and no bit of a run depends on it."""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tabb
from tabb.cli import main
from tabb.data import save_npz
from tabb.errors import RunError, UsageError
from tabb.results.replay import replay_run
from tabb.tracking import TrackedRun, TrackingWarning, opener, scalars
from tabb.tracking.tensorboard_files import TensorBoard
from tabb.training.folder import RunFolder

SETTINGS = tabb.Settings(
    updates=40, evaluations=2, episodes=2, backbone=tabb.IQL(policies=1, hidden=(8, 8), batch_size=16)
)
QUICK = [
    "--updates",
    "40",
    "--evaluations",
    "0",
    "--progress",
    "none",
    "--backbone.policies",
    "1",
    "--backbone.hidden",
    "8",
    "8",
]


@pytest.fixture(scope="module")
def data():
    """Random data of a hopper's sizes."""
    generator = np.random.default_rng(0)

    def rows(count):
        moves = generator.normal(size=(count, 11)), generator.uniform(-1, 1, (count, 3)), generator.normal(size=count)
        return tabb.from_arrays(*moves, terminals=generator.random(count) < 0.1)

    return rows(300), rows(150)


@pytest.fixture(scope="module")
def train(data):
    return functools.partial(tabb.train, tabb.Pooled(), *data, task="hopper-gravity-0.5", settings=SETTINGS)


@pytest.fixture(scope="module")
def plain(train, tmp_path_factory):
    """A run that is not tracked."""
    return train(folder=tmp_path_factory.mktemp("plain"))[0].folder


def events(file: Path):
    """The events of a TensorBoard file; the checksums of the format are checked."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    raw, found = file.read_bytes(), []
    while raw:
        (size,) = struct.unpack("<Q", raw[:8])
        assert struct.unpack("<I", raw[8:12]) == (masked_crc32c(raw[:8]),)
        body, (check,) = raw[12 : 12 + size], struct.unpack("<I", raw[12 + size : 16 + size])
        assert check == masked_crc32c(body)
        found.append(Event.FromString(body))
        raw = raw[16 + size :]
    assert found[0].file_version == "brain.Event:2"
    return found


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a folder: files by name; a start takes back the steps from its own on."""
    shown: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for event in events(file):
            if event.HasField("session_log") and event.session_log.status == event.session_log.START:
                shown = {tag: [point for point in points if point[0] < event.step] for tag, points in shown.items()}
            for value in event.summary.value:
                shown.setdefault(value.tag, []).append((event.step, value.simple_value))
    return shown


def expected(lines) -> dict[str, list[tuple[int, float]]]:
    """The same from metrics lines, rounded as TensorBoard rounds; lists of numbers are means."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for name, value in line.items():
            if name not in ("kind", "update"):
                tag = f"{line['kind']}/{name}" + ("_mean" if isinstance(value, list) else "")
                number = float(np.float32(np.mean(value)))
                found.setdefault(tag, []).append((line["update"], number))
    return found


def without_rate(lines):
    return [{key: value for key, value in line.items() if key != "rate"} for line in lines]


def assert_same_run(first: Path, second: Path) -> None:
    for name in ("policy.npz", "checkpoint.npz"):
        with np.load(first / name) as a, np.load(second / name) as b:
            assert a.files == b.files
            for key in set(a.files) - {"header"}:  # holds wall times
                np.testing.assert_array_equal(a[key], b[key])
    lines = [without_rate(RunFolder(folder).metrics()) for folder in (first, second)]
    assert lines[0] == lines[1]
    assert RunFolder(first).config() == RunFolder(second).config()


class Kept:
    """A sink that keeps what it is told."""

    opened: list[Kept]

    def __init__(self, run: TrackedRun) -> None:
        self.run, self.lines, self.closed = run, [], False
        self.opened.append(self)

    def log(self, line):
        assert not self.closed
        self.lines.append(json.loads(json.dumps(line)))

    def close(self):
        self.closed = True


@pytest.fixture
def kept():
    """A class of sinks that keep their lines, with those that were opened."""
    return type("Kept", (Kept,), {"opened": []})


def test_tensorboard_shows_every_value_at_its_step(train, plain, tmp_path):
    folder = train(folder=tmp_path, track="tensorboard")[0].folder
    lines = RunFolder(folder).metrics()
    assert {line["kind"] for line in lines} == {"training", "evaluation"}
    shown = curves(folder)
    assert len(shown["training/critic_loss"]) == 40
    assert [step for step, _ in shown["evaluation/mean"]] == [20, 40]
    assert shown == expected(lines)
    assert_same_run(plain, folder)


def test_a_sink_gets_the_very_lines(train, plain, tmp_path, kept):
    folder = train(folder=tmp_path, track=kept, seeds=(0, 3))[0].folder
    assert [sink.run.name for sink in kept.opened] == [
        "pooled hopper-gravity-0.5 seed 0",
        "pooled hopper-gravity-0.5 seed 3",
    ]
    for sink in kept.opened:
        assert sink.closed
        assert sink.lines == RunFolder(sink.run.folder).metrics()
        assert json.loads(json.dumps(dict(sink.run.config))) == RunFolder(sink.run.folder).config()
    with np.load(plain / "policy.npz") as a, np.load(folder / "policy.npz") as b:
        assert all((a[key] == b[key]).all() for key in a.files if a[key].dtype.kind == "f")


def test_a_run_without_a_folder_is_tracked_too(train, plain, kept, tmp_path, monkeypatch):
    run = train(track=kept)[0]
    assert without_rate(kept.opened[0].lines) == without_rate(RunFolder(plain).metrics())
    assert run.folder is None
    monkeypatch.chdir(tmp_path)
    train(track="tensorboard")
    (file,) = (tmp_path / "runs" / "tensorboard").rglob("events.out.tfevents.*")
    assert file.parent.name.startswith("pooled-hopper-gravity-0.5-seed-0-")
    train(track=functools.partial(TensorBoard, folder=tmp_path / "logs"))
    assert len(list((tmp_path / "logs").rglob("events.out.tfevents.*"))) == 1


class Cut(BaseException):
    """The end of a process."""


class DiesAt30(TensorBoard):
    def log(self, line):
        super().log(line)
        if line["update"] == 30:
            raise Cut


def test_a_resumed_run_shows_each_step_once(train, plain, tmp_path):
    with pytest.raises(Cut):
        train(folder=tmp_path, track=DiesAt30)
    folder = tmp_path / "seed0"
    assert [step for step, _ in curves(folder)["training/critic_loss"]] == list(range(1, 31))
    # The checkpoint is of update 20: 21 to 30 are trained, and sent, once more.
    train(folder=tmp_path, track="tensorboard", resume=True)
    assert len(list(folder.glob("events.out.tfevents.*"))) == 2
    assert curves(folder) == expected(RunFolder(folder).metrics())
    assert_same_run(plain, folder)


def test_resuming_fills_what_was_not_tracked_and_leaves_finished_runs(train, tmp_path, kept):
    with pytest.raises(Cut):
        train(folder=tmp_path, track=functools.partial(DiesAt30, folder=tmp_path / "elsewhere"))
    train(folder=tmp_path, track=kept, resume=True)
    (sink,) = kept.opened
    assert sink.run.resumed
    assert sink.lines == RunFolder(tmp_path / "seed0").metrics()
    train(folder=tmp_path, track=kept, resume=True, seeds=(0,))
    assert len(kept.opened) == 1


class DiskFull(TensorBoard):
    """From update 10 on its file is on a disk that is full."""

    def log(self, line):
        if line["update"] == 10:
            from tensorboardX.record_writer import RecordWriter

            self._file.close()
            self._file = RecordWriter("/dev/full")
        assert line["update"] <= 10
        super().log(line)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_a_full_disk_ends_tracking_with_one_warning(train, plain, tmp_path):
    with pytest.warns(TrackingWarning, match="tracking failed and is off .*No space left on device") as warned:
        folder = train(folder=tmp_path, track=DiskFull)[0].folder
    assert len(warned) == 1
    assert "\n" not in str(warned[0].message)
    assert_same_run(plain, folder)
    assert [step for step, _ in curves(folder)["training/critic_loss"]] == list(range(1, 10))


def test_a_sink_that_fails_at_the_end_or_the_start(train, kept, tmp_path):
    def late(run):
        sink = kept(run)
        sink.close = lambda: 1 / 0
        return sink

    with pytest.warns(TrackingWarning, match="ZeroDivisionError"):
        assert train(track=late)[0].evaluations

    def early(run):
        raise ConnectionError("nobody\nis there")

    with pytest.raises(UsageError, match=r"tracking cannot start \(ConnectionError: nobody is there\); fix this"):
        train(track=early)


def test_what_cannot_track_is_said_at_once(train, monkeypatch, tmp_path, capsys):
    with pytest.raises(UsageError, match="track='tb': use tensorboard, trackio, wandb, or a function"):
        train(track="tb", folder=tmp_path / "a")
    for name, package, install in (
        ("tensorboard", "tensorboardX", '"tabb-rl[track]"'),
        ("trackio", "trackio", "trackio"),
        ("wandb", "wandb", "wandb"),
    ):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
        says = f"tracking with {name} needs {package}: pip install {install}"
        with pytest.raises(UsageError, match=says.replace("[", r"\[")):
            train(track=name, folder=tmp_path / "a")
        assert main(["train", "pooled", "--out", str(tmp_path / "a"), "--track", name]) == 2
        assert capsys.readouterr().err == f"tabb: error: {says}\n"
    assert not (tmp_path / "a").exists()


def test_scalars_are_numbers_by_kind():
    line = {"kind": "held-out", "update": 3, "loss": 2, "rows": [1, 2.0], "ok": True, "none": None, "name": "x"}
    assert scalars(line | {"empty": []}) == {"held-out/loss": 2.0, "held-out/rows_mean": 1.5}
    assert opener(None) is None


# --- The command line ---


@pytest.fixture(scope="module")
def files(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name, rows in zip(("source", "target"), data, strict=True):
        save_npz(folder / f"{name}.npz", rows)
    return ["--source", str(folder / "source.npz"), "--target", str(folder / "target.npz")]


def test_command_replays_runs(files, tmp_path, capsys):
    assert main(["train", "pooled", *files, *QUICK, "--out", str(tmp_path / "run")]) == 0
    assert not list(tmp_path.rglob("events.out.tfevents.*"))
    capsys.readouterr()
    for _ in range(2):  # a second time takes the first back
        assert main(["track", str(tmp_path)]) == 0
    folder = tmp_path / "run" / "seed0"
    assert capsys.readouterr().out == f"{folder}: 40 lines to tensorboard\n" * 2
    assert curves(folder) == expected(RunFolder(folder).metrics())
    assert "track" not in json.dumps(RunFolder(folder).config()["settings"])
    for arguments, code in (([], 2), ([str(tmp_path / "none")], 4)):
        assert main(["track", *arguments]) == code
        assert len(capsys.readouterr().err.splitlines()) == 1
    with pytest.raises(RunError, match="its metrics could not be sent"):
        replay_run(folder, lambda run: 1 / 0)


@pytest.mark.slow
def test_runs_as_processes_are_tracked(files, tmp_path):
    """Every child tracks, the plan knows nothing of it, and so it goes on with another tracker or none."""
    arguments = ["pooled", *files, *QUICK, "--seeds", "0", "1", "--jobs", "2", "--out", str(tmp_path)]
    assert main(["train", *arguments, "--track", "tensorboard"]) == 0
    assert "--track" not in (tmp_path / "plan.json").read_text()
    for seed in (0, 1):
        folder = tmp_path / f"seed{seed}"
        assert curves(folder) == expected(RunFolder(folder).metrics())
    (tmp_path / "seed1" / "result.json").unlink()
    (tmp_path / "seed1" / "checkpoint.npz").unlink()
    assert main(["train", "--resume", str(tmp_path), "--progress", "none", "--track", "tensorboard"]) == 0
    assert len(list((tmp_path / "seed0").glob("events.*"))) == 1
    assert len(list((tmp_path / "seed1").glob("events.*"))) == 2
    assert curves(tmp_path / "seed1") == expected(RunFolder(tmp_path / "seed1").metrics())


# --- trackio and wandb, offline, where they are installed ---


def replayed(folder: Path, name: str, **variables: str) -> None:
    """`tabb track` in a process of its own: both read their environment when they are imported."""
    command = [sys.executable, "-m", "tabb", "track", str(folder), "--to", name]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_trackio_holds_every_value(plain, tmp_path):
    pytest.importorskip("trackio", reason="pip install trackio (large: not in the extra)")
    replayed(plain, "trackio", TRACKIO_DIR=str(tmp_path), HF_HUB_OFFLINE="1")
    with sqlite3.connect(tmp_path / "tabb.db") as base:
        rows = base.execute("select run_name, step, metrics from metrics order by id").fetchall()
    lines = RunFolder(plain).metrics()
    assert [(step, json.loads(metrics)) for _, step, metrics in rows] == [
        (line["update"], scalars(line)) for line in lines
    ]
    assert {name for name, *_ in rows} == {"pooled hopper-gravity-0.5 seed 0"}


def records(file: Path):
    """The records of a wandb file: after 7 bytes, LevelDB's log, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    raw, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(raw):
        if 2**15 - at % 2**15 < 7:  # no record begins so near to the end of a block
            at += 2**15 - at % 2**15
            continue
        size, part = struct.unpack("<HB", raw[at + 4 : at + 7])
        whole += raw[at + 7 : at + 7 + size]
        at += 7 + size
        if part in (1, 4):  # a whole record, or the last part of one
            yield Record.FromString(whole)
            whole = b""


def test_wandb_holds_every_value(plain, tmp_path):
    pytest.importorskip("wandb", reason="pip install wandb (large: not in the extra)")
    replayed(plain, "wandb", WANDB_DIR=str(tmp_path), WANDB_MODE="offline", WANDB_SILENT="true")
    (file,) = tmp_path.rglob("run-*.wandb")
    found: dict[int, dict[str, float]] = {}
    for record in records(file):
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            values = {key: json.loads(value) for key, value in items.items() if not key.startswith("_")}
            found.setdefault(record.history.step.num, {}).update(values)
    told: dict[int, dict[str, float]] = {}
    for line in RunFolder(plain).metrics():
        told.setdefault(line["update"], {}).update(scalars(line))
    assert found == told
