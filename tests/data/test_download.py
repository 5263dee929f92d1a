"""Public data sets: the catalogue, and downloads from a real server that behaves well or badly."""

import functools
import hashlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tabb.cli import main
from tabb.data import catalogue, download, load, published, resolve, write_hdf5
from tabb.data.names import locate
from tabb.data.published_d4rl import published_d4rl
from tabb.data.published_otdf import published_otdf
from tabb.errors import DataError, UsageError


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `content` under any name; the first folder of the path says what goes wrong."""

    def __init__(self, content, *arguments):
        self.content = content
        super().__init__(*arguments)

    def do_GET(self):
        how = self.path.split("/")[1]
        if how == "absent":
            self.send_error(404)
            return
        body = {"good": self.content, "wrong": self.content[::-1], "endless": self.content * 400}.get(how, self.content)
        self.send_response(200)
        if how != "endless":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body[: len(body) // 2] if how in ("cut", "slow") else body)
            self.wfile.flush()
            if how == "slow":
                time.sleep(60)  # longer than any test waits, also on a busy machine
        except OSError:
            pass  # the client left

    def log_message(self, *_):
        pass


@pytest.fixture
def content(steps, tmp_path):
    path = tmp_path / "made.hdf5"
    write_hdf5(path, steps(60))
    return path.read_bytes()


@pytest.fixture
def server(content, tmp_path, monkeypatch):
    """The address of a server on this machine; downloads go to `tmp_path/cache`, and no proxy is asked."""
    monkeypatch.setenv("TABB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TABB_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, content))
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


@pytest.fixture
def entry(content, server):
    """`entry(how)`: a public data set on the server, with the right checksum."""

    def make(how="good"):
        digest = hashlib.sha256(content).hexdigest()
        file = "hopper_morph_medium.hdf5"
        address = f"{server}/{how}/{file}"
        return published.Published(
            "otdf:hopper-morph-medium", "hopper-morph", "medium", file, address, len(content), digest
        )

    return make


def left(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_a_good_download_is_kept_and_used_again(entry, content, tmp_path, capsys):
    path = download.fetch(entry())
    assert path == tmp_path / "cache" / "data" / "hopper_morph_medium.hdf5"
    assert path.read_bytes() == content
    assert left(tmp_path) == [path.name]
    assert capsys.readouterr().err == "fetching otdf:hopper-morph-medium (0.0 MB) from 127.0.0.1\n"
    assert download.fetch(entry("absent")) == path  # no server is asked
    assert capsys.readouterr().err == ""


def test_a_damaged_download_is_fetched_again(entry, content):
    path = download.fetch(entry())
    path.write_bytes(b"damage")
    assert download.fetch(entry()).read_bytes() == content


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("wrong", "SHA-256 differs"),
        ("absent", "127.0.0.1 answers 404"),
        ("cut", "cannot be reached, or broke off"),
        ("endless", "not the published file"),
    ],
)
def test_a_bad_download_leaves_nothing(how, words, entry, tmp_path):
    with pytest.raises(DataError, match=words) as caught:
        download.fetch(entry(how), show=False)
    assert str(caught.value).startswith("otdf:hopper-morph-medium: ")
    assert "\n" not in str(caught.value)
    assert left(tmp_path) == []


def test_offline(entry, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/x.hdf5"
    with pytest.raises(DataError, match=r"127.0.0.1 cannot be reached.*check the network, or put .* into"):
        download.fetch(entry()._replace(address=address), show=False)
    assert left(tmp_path) == []


def test_a_silent_server_is_given_up(entry, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with pytest.raises(DataError):
        download.fetch(entry("slow"), show=False)
    assert left(tmp_path) == []


def know(monkeypatch, kind, entries):
    """Make these the public data sets of a kind, wherever they are asked for."""
    for module in (f"tabb.data.published_{kind}", "tabb.data.published"):
        monkeypatch.setattr(f"{module}.published_{kind}", lambda: entries)


STOPPED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
from tabb import cli
from tabb.data import published_otdf
published_otdf.OTDF_ADDRESS = sys.argv[1]
sys.exit(cli.main(["data", "get", "otdf:hopper-morph-medium"]))
"""


def test_ctrl_c_leaves_nothing(server, tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", STOPPED, f"{server}/slow"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 20
    while not left(tmp_path) and time.monotonic() < until:  # the half that came is in a file of another name
        time.sleep(0.01)
    assert left(tmp_path) != ["hopper_morph_medium.hdf5"]
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=10)
    assert child.returncode == 130
    assert told.splitlines()[-1] == "tabb: stopped"
    assert "Traceback" not in told
    assert left(tmp_path) == []


def test_the_shelf_comes_first_and_is_checked(entry, content, tmp_path, monkeypatch):
    shelf = tmp_path / "shelf" / "target"
    shelf.mkdir(parents=True)
    monkeypatch.setenv("TABB_DATA", str(tmp_path / "shelf"))
    (shelf / "hopper_morph_medium.hdf5").write_bytes(content)
    assert download.fetch(entry("absent")) == shelf / "hopper_morph_medium.hdf5"
    (shelf / "hopper_morph_medium.hdf5").write_bytes(content + b"x")
    with pytest.raises(DataError, match=r"is not the published otdf:hopper-morph-medium \(SHA-256 differs\)"):
        download.fetch(entry())


def test_no_folder_to_download_to(entry, monkeypatch):
    monkeypatch.setenv("TABB_CACHE", "off")
    with pytest.raises(UsageError, match="set TABB_CACHE"):
        download.fetch(entry())


def test_a_folder_that_cannot_be_made(entry, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TABB_CACHE", str(tmp_path / "file"))
    know(monkeypatch, "otdf", [entry()])
    assert main(["data", "get", "otdf:hopper-morph-medium"]) == 4
    assert "cannot be written (Not a directory)" in capsys.readouterr().err


def test_names_are_used_like_files(entry, content, tmp_path, monkeypatch, capsys):
    know(monkeypatch, "otdf", [entry()])
    monkeypatch.setattr("tabb.commands.data.published_otdf", lambda: [entry()])
    with pytest.raises(DataError, match="or fetch them: tabb data get otdf:hopper-morph-medium"):
        resolve("medium", "hopper-morph", "target")
    assert main(["data", "list"]) == 0
    assert "otdf:hopper-morph-medium" in (told := capsys.readouterr().out)
    assert told.rstrip().endswith("to fetch")
    made = tmp_path / "made.hdf5"
    assert len(load("otdf:hopper-morph-medium")) == len(load(made))
    assert len(load(f"otdf:hopper_morph_medium+{made}")) == 2 * len(load(made))
    path = tmp_path / "cache" / "data" / "hopper_morph_medium.hdf5"
    assert resolve("otdf:hopper-morph-medium", "ant", "source") == [path]
    assert resolve("medium", "hopper-morph", "target") == [path]
    assert main(["data", "describe", "otdf:hopper-morph-medium"]) == 0
    assert "60 in the file" in capsys.readouterr().out
    assert main(["data", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert next(one["path"] for one in listed if one.get("name") == "otdf:hopper-morph-medium") == str(path)
    assert main(["data", "get", "otdf:hopper-morph-medium"]) == 0
    assert capsys.readouterr().out.strip() == str(path)


def test_the_catalogue_is_whole():
    entries = published_otdf()
    assert len(entries) == len({entry.sha256 for entry in entries}) == 36
    tasks = {entry.task for entry in entries}
    assert len(tasks) == 12
    assert {entry.quality for entry in entries} == {"medium", "medium_expert", "expert"}
    from tabb.environments.tasks import get_task

    assert {get_task(task).name for task in tasks} == tasks
    one = published.lookup("otdf:hopper-gravity-0.5-medium_expert")
    assert one == published.lookup("otdf:hopper_gravity_0.5_medium-expert")
    assert one.address.endswith(
        "/41e2e626844bd6b65e2316a418ce4d6df4bbe775/datasets/hopper_gravity_0.5_medium_expert.hdf5"
    )


@pytest.mark.data
def test_the_catalogue_is_of_the_files_at_hand(real_data):
    for entry in published_otdf():
        path = real_data / "target" / entry.file
        assert path.stat().st_size == entry.bytes
        assert download.fetch(entry) == path


def test_names_that_do_not_exist(tmp_path, monkeypatch, capsys):
    with pytest.raises(UsageError, match=r"otdf:hopper-morf-medium: no such .* did you mean otdf:hopper-morph-medium"):
        locate("otdf:hopper-morf-medium")
    with pytest.raises(UsageError, match="`tabb data list` shows all"):
        load("otdf:???")
    assert main(["data", "get", "hopper.hdf5"]) == 2
    assert main(["data", "get"]) == 2
    assert capsys.readouterr().err.count("tabb: error: tabb data get") == 2
    monkeypatch.chdir(tmp_path)
    assert locate("C:data.hdf5") is None
    (tmp_path / "otdf:mine").touch()
    assert locate("otdf:mine") is None  # a file of that very name wins
    assert os.listdir(tmp_path) == ["otdf:mine"]


def test_d4rl_files_without_a_checksum_are_found(content, tmp_path, monkeypatch):
    monkeypatch.setenv("TABB_DATA", str(tmp_path))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "own"))
    with pytest.raises(DataError, match=r"no relocate-expert-v1.hdf5 .*in .*d4rl or .*own; tabb knows no checksum"):
        locate("d4rl:relocate-expert-v1")
    for folder in ("own", "d4rl"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "relocate-expert-v1.hdf5"
        path.write_bytes(content)
        assert locate("d4rl:relocate-expert-v1") == path
    assert catalogue.resolve("d4rl:relocate-expert-v1", "hopper", "source") == [path]


def test_d4rl_files_with_a_checksum_are_found_or_fetched(server, content, tmp_path, monkeypatch):
    monkeypatch.setenv("TABB_DATA", str(tmp_path / "shelf"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "own"))
    entry = next(entry for entry in published_d4rl() if entry.name == "d4rl:hopper-medium-replay-v2")
    here = entry._replace(
        address=f"{server}/good/{entry.file}", bytes=len(content), sha256=hashlib.sha256(content).hexdigest()
    )
    know(monkeypatch, "d4rl", [here])
    own = tmp_path / "shelf" / "source" / "hopper_medium_replay.hdf5"
    own.parent.mkdir(parents=True)
    with pytest.raises(
        DataError, match=r"no hopper_medium_replay.hdf5 in .*tabb data get d4rl:hopper-medium-replay-v2$"
    ):
        catalogue.find("hopper-morph", "medium_replay", "source")
    fetched = locate("d4rl:hopper-medium-replay-v2")
    assert fetched == tmp_path / "cache" / "data" / "hopper_medium_replay-v2.hdf5"
    # By quality too; a file of $TABB_DATA comes first.
    assert catalogue.find("hopper-morph", "medium_replay", "source") == [fetched]
    own.touch()
    assert catalogue.find("hopper-morph", "medium_replay", "source") == [own]
    # Own halves of medium_expert come before a downloaded whole, which comes before a mixture.
    whole = here._replace(name="d4rl:hopper-medium-expert-v2", file="hopper_medium_expert-v2.hdf5")
    half = here._replace(name="d4rl:hopper-expert-v2", file="hopper_expert-v2.hdf5")
    know(monkeypatch, "d4rl", [here, whole, half])
    place, shelf = fetched.parent, own.parent
    for path in (shelf / "hopper_medium.hdf5", place / half.file):
        path.write_bytes(content)
    assert catalogue.find("hopper", "medium_expert", "source") == [shelf / "hopper_medium.hdf5", place / half.file]
    (place / whole.file).write_bytes(content)
    assert catalogue.find("hopper", "medium_expert", "source") == [place / whole.file]
    (shelf / "hopper_expert.hdf5").write_bytes(content)
    assert catalogue.find("hopper", "medium_expert", "source") == [
        shelf / "hopper_medium.hdf5",
        shelf / "hopper_expert.hdf5",
    ]
    for folder in (tmp_path / "own", tmp_path / "shelf" / "d4rl"):
        folder.mkdir(parents=True)
        (folder / entry.file).write_bytes(content)
        assert locate("d4rl:hopper_medium_replay-v2") == folder / entry.file
    (folder / entry.file).write_bytes(b"another")
    with pytest.raises(DataError, match="is not the published d4rl:hopper-medium-replay-v2"):
        locate("d4rl:hopper-medium-replay-v2")


def test_d4rls_catalogue_is_whole():
    entries = {entry.name: entry for entry in published_d4rl()}
    assert len(entries) == 38
    assert len({entry.sha256 for entry in entries.values()}) == 38
    for entry in entries.values():
        assert len(bytes.fromhex(entry.sha256)) == 32
        assert entry.address.endswith(f"/{entry.file}")
        assert published.lookup(entry.name) == entry
    medium = entries["d4rl:walker2d-medium-expert-v2"]
    assert (medium.task, medium.quality, medium.file) == ("walker2d", "medium_expert", "walker2d_medium_expert-v2.hdf5")
    assert entries["d4rl:pen-human-v1"].address.endswith("/hand_dapg_v1/pen-human-v1.hdf5")
    maze = entries["d4rl:antmaze-large-play-v2"]
    assert maze.file == "Ant_maze_hardest-maze_noisy_multistart_True_multigoal_False_sparse_fixed.hdf5"
