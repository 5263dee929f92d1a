"""LeRobot data sets of both versions: what is taken for what, where the task ends, and folders that are odd."""

import json
import shutil
import sys
import types

import numpy as np
import pytest

import tabb
from cart import cart
from command_line import told
from tabb.data import Reading, load, load_lerobot, read
from tabb.data.audit import audit
from tabb.data.catalogue import is_quality, resolve
from tabb.errors import DataError, UsageError
from tabb.transitions import COLUMNS

pa = pytest.importorskip("pyarrow", reason="LeRobot data sets need the extra `parquet`")
from pyarrow import parquet  # noqa: E402

LOG = cart(200, 1)
ENDS = LOG["terminals"] | LOG["timeouts"]
EPISODE = np.searchsorted(np.flatnonzero(ENDS), np.arange(200))
FRAME = np.arange(200) - np.searchsorted(EPISODE, EPISODE)
WANTED = tabb.from_arrays(
    LOG["observations"], LOG["actions"], LOG["rewards"], terminals=LOG["terminals"], episodes=EPISODE
)
VIDEO = {"dtype": "video", "shape": [96, 96, 3], "names": None}


def rows():
    """The columns of the log as LeRobot has them."""
    float32 = {key: LOG[key].astype(np.float32) for key in ("observations", "actions", "rewards")}
    return {
        "observation.state": float32["observations"],
        "action": float32["actions"],
        "next.reward": float32["rewards"],
        "next.success": LOG["terminals"],
        "next.done": ENDS,
        "timestamp": (FRAME / 10).astype(np.float32),
        "frame_index": FRAME,
        "episode_index": EPISODE,
        "index": np.arange(200),
        "task_index": np.zeros(200, int),
    }


def column(values):
    values = np.asarray(values)
    if values.ndim == 1:
        return pa.array(values)
    return pa.array(list(values), pa.list_(pa.from_numpy_dtype(values.dtype)))


def write(folder, columns=None, version="v3.0", **changes):
    """A data set as LeRobot lays it out: files of several episodes, or (v2.1) one file for each."""
    columns = rows() if columns is None else columns
    episode = np.asarray(columns["episode_index"]) if "episode_index" in columns else EPISODE
    table = pa.table({key: column(values) for key, values in columns.items()})
    if version == "v3.0":
        path = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        files = [(f"data/chunk-000/file-{i:03d}.parquet", part) for i, part in enumerate((episode < 5, episode >= 5))]
    else:
        path = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
        numbers = np.unique(episode)
        files = [(f"data/chunk-{n // 4:03d}/episode_{n:06d}.parquet", episode == n) for n in numbers]
    for name, part in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table.filter(pa.array(part)), folder / name)
    features = {
        key: {"dtype": str(np.asarray(values).dtype), "shape": list(np.shape(values)[1:]) or [1], "names": None}
        for key, values in columns.items()
    }
    info = {
        "codebase_version": version,
        "robot_type": "cart",
        "total_episodes": len(np.unique(episode)),
        "total_frames": len(episode),
        "chunks_size": 4,
        "fps": 10,
        "data_path": path,
        "video_path": "videos/{video_key}.mp4",
        "features": {"observation.images.top": VIDEO} | features,
    }
    (folder / "meta").mkdir(exist_ok=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info | changes))
    return folder


def same(one, other):
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_both_versions_are_the_log(version, tmp_path, capsys):
    folder = write(tmp_path / "cart", version=version)
    loaded = read(folder)
    same(loaded.transitions, WANTED)
    report = loaded.report
    assert report.layout == "lerobot"
    assert report.provenance == {"codebase_version": version, "robot_type": "cart", "fps": 10}
    assert "videos and images are ignored: observation.images.top" in report.notes
    assert any("end in success (`next.success`), which is taken for the end" in note for note in report.notes)
    text = told(capsys, "data", "describe", folder)
    assert "columns    observations: observation.state" in text
    assert "columns    rewards: next.reward" in text
    assert not audit(folder).of_level("error")
    same(load_lerobot(folder).transitions, WANTED)


def test_several_state_columns_are_joined_in_the_order_of_info_json(tmp_path):
    columns = rows()
    state = columns.pop("observation.state")
    parts = {"observation.state.speed": state[:, 1:], "observation.state.place": state[:, :1]}
    folder = write(tmp_path / "a", {"action": columns["action"], **parts, **columns})
    np.testing.assert_array_equal(load(folder).observation, WANTED.observation[:, ::-1])
    chosen = Reading(names={"observations": ["observation.state.place", "observation.state.speed"]})
    np.testing.assert_array_equal(load(folder, chosen).observation, WANTED.observation)
    # `observation.state` alone is the state, and what else there is, is said.
    folder = write(tmp_path / "b", rows() | {"observation.environment_state": state})
    report = read(folder).report
    assert dict(report.taken)["observations"] == ("observation.state",)
    assert report.unread == ("observation.environment_state",)
    both = load(folder, Reading(names={"observations": ["observation.state", "observation.environment_state"]}))
    assert both.observation.shape[1] == 4


def test_where_the_task_ends(tmp_path):
    columns = rows()
    del columns["next.success"]
    report = read(write(tmp_path / "a", columns)).report
    assert report.terminals == 0
    assert "no column says where the task itself ended, so no row is terminal (names.terminals)" in report.notes
    stated = read(tmp_path / "a", Reading(names={"terminals": "next.done"}))
    assert stated.report.terminals == ENDS.sum()
    # A success along the way is no end.
    success = np.ones(200, bool)
    report = read(write(tmp_path / "b", rows() | {"next.success": success})).report
    assert report.terminals == report.episodes
    done = ENDS.copy()
    done[3] = True
    (doubt,) = read(write(tmp_path / "c", rows() | {"next.done": done})).report.doubts
    assert doubt.startswith("`next.done` marks 1 rows that are not the last of their episode (the first is row 3)")


def test_success_can_be_the_reward(tmp_path):
    columns = rows()
    del columns["next.reward"]
    folder = write(tmp_path / "a", columns)
    with pytest.raises(DataError, match=r"rewards: not found: no next.reward.*or next.success for a reward of 1"):
        load(folder)
    (tmp_path / "a.toml").write_text('names.rewards = "next.success"')
    data = load(folder)
    np.testing.assert_array_equal(data.reward, WANTED.terminal)
    np.testing.assert_array_equal(data.terminal, WANTED.terminal)


def test_rows_out_of_order_and_missing_frames(tmp_path):
    mixed = np.random.default_rng(0).permutation(200)
    folder = write(tmp_path / "a", {key: values[mixed] for key, values in rows().items()})
    same(load(folder), WANTED)
    left = np.delete(np.arange(200), 3)
    loaded = read(write(tmp_path / "b", {key: values[left] for key, values in rows().items()}))
    assert any("steps are missing after 1 rows (the first is row 2)" in doubt for doubt in loaded.report.doubts)
    assert not np.isin(WANTED.reward[2], loaded.transitions.reward)


def changed(**columns):
    named = {key.replace("__", "."): values for key, values in columns.items()}
    return {key: values for key, values in (rows() | named).items() if values is not None}


WRONG = {
    "rows": (rows, {"total_frames": 300}, "total_frames: is 300 in info.json, but there are 200 rows"),
    "episodes": (rows, {"total_episodes": 1}, "total_episodes: is 1 in info.json, but there are"),
    "version": (rows, {"codebase_version": "v1.6"}, "codebase_version: is v1.6; v2.1 and v3.0 are read"),
    "path elsewhere": (rows, {"data_path": "../../other/file-{file_index:03d}.parquet"}, "data: has no file like"),
    "path with code": (rows, {"data_path": "data/{file_index.__class__}.parquet"}, "data_path: is 'data/"),
    "path without number": (rows, {"data_path": "data/rows.parquet"}, "data_path: is 'data/rows.parquet'"),
    "features": (rows, {"features": [1]}, "features: is missing or no table"),
    "a feature that is not there": (
        rows,
        {"features": {"effort": {"dtype": "float32", "shape": [2]}}},
        "effort: is in info.json but not in the rows",
    ),
    "width": (
        rows,
        {"features": {"observation.state": {"dtype": "float32", "shape": [7]}}},
        "observation.state: has 2 numbers in a row, but info.json says 7",
    ),
    "no episodes": (lambda: changed(episode_index=None), {}, "episode_index: is no column"),
    "no state": (lambda: changed(observation__state=None), {}, "observations: not found"),
    "text": (lambda: changed(next__reward=["a"] * 200), {}, "rewards: not found"),
    "nan": (
        lambda: changed(next__reward=np.where(np.arange(200) == 9, np.nan, 1.0)),
        {},
        "rewards: row 9 is nan",
    ),
    "no rows": (lambda: {key: values[:0] for key, values in rows().items()}, {"total_episodes": None}, "has no rows"),
    "success that is no flag": (lambda: changed(next__success=np.arange(200)), {}, "next.success: row 2 is 2"),
    "the same frame twice": (
        lambda: changed(frame_index=np.where(FRAME == 1, 0, FRAME)),
        {},
        "frame_index: rows 0 and 1 are the same step",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_odd_folders_are_one_line(case, tmp_path):
    make, changes, words = WRONG[case]
    folder = write(tmp_path / "odd", make(), **changes)
    with pytest.raises(DataError, match=words) as caught:
        load(folder)
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)
    assert audit(folder).of_level("error")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"features": 3}'])
def test_damaged_info(content, tmp_path):
    folder = write(tmp_path / "odd")
    (folder / "meta" / "info.json").write_bytes(content)
    with pytest.raises(DataError, match=r"info\.json"):
        load(folder)


def test_damaged_and_missing_rows(tmp_path):
    folder = write(tmp_path / "cut")
    path = folder / "data" / "chunk-000" / "file-001.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"file-001\.parquet: cannot be read as Parquet"):
        load(folder)
    path.unlink()
    with pytest.raises(DataError, match="total_frames"):
        load(folder)
    parquet.write_table(pa.table({"action": [1.0]}), path)
    with pytest.raises(DataError, match=r"file-001\.parquet: column .* is not as in"):
        load(folder)
    shutil.rmtree(folder / "data")
    with pytest.raises(DataError, match="has no file like"):
        load(folder)


def test_a_folder_with_a_plain_name_is_no_quality(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "my_robot")
    assert not is_quality("my_robot")
    assert is_quality("medium")
    assert is_quality("some_word")
    assert [path.name for path in resolve("my_robot", "none", "target")] == ["my_robot"]


# --- by name ---


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A client of the hub that has one data set, made here; calls are noted."""
    calls = []

    def snapshot_download(name, *, repo_type, allow_patterns):
        calls.append((name, repo_type, tuple(allow_patterns)))
        if name != "own/cart":
            raise RuntimeError("404: no such\nrepository")
        return str(write(tmp_path / "cache"))

    client = types.ModuleType("huggingface_hub")
    client.snapshot_download = snapshot_download
    monkeypatch.setitem(sys.modules, "huggingface_hub", client)
    monkeypatch.setenv("HF_LEROBOT_HOME", str(tmp_path / "home"))
    return calls


def test_a_data_set_by_name_is_fetched_without_videos(hub):
    same(load("lerobot:own/cart"), WANTED)
    ((name, kind, patterns),) = hub
    assert (name, kind) == ("own/cart", "dataset")
    assert not any("video" in pattern for pattern in patterns)


def test_what_is_at_home_is_not_fetched(hub, tmp_path, capsys):
    write(tmp_path / "home" / "own" / "there")
    same(load("lerobot:own/there"), WANTED)
    assert told(capsys, "data", "get", "lerobot:own/there").strip() == str(tmp_path / "home" / "own" / "there")
    assert not hub


def test_names_that_cannot_be_had(hub, monkeypatch):
    with pytest.raises(DataError, match=r"lerobot:own/none: cannot be fetched \(404: no such repository\)"):
        load("lerobot:own/none")
    with pytest.raises(UsageError, match="is no name of a data set; write lerobot:OWNER/NAME"):
        load("lerobot:cart")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r'pip install "tabb-rl\[lerobot\]"'):
        load("lerobot:own/cart")
