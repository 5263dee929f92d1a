"""`tabb watch`: films of real episodes, with the evaluation's own returns, and one line for each error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tabb
from tabb.cli import main
from tabb.environments.tasks import get_task
from tabb.errors import RunError, UsageError
from tabb.policy import Policy
from tabb.rendering.encode import write_film
from tabb.rendering.film import FilmFormat, picture_count
from tabb.rendering.recording import record

SMALL = ["--size", "96x64"]


def frames(path: Path) -> list[np.ndarray]:
    if path.suffix == ".gif":
        with Image.open(path) as film:
            found = []
            for number in range(film.n_frames):
                film.seek(number)
                found.append(np.array(film.convert("RGB")))
            return found
    import av

    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]


@pytest.mark.parametrize("task", ["hopper-gravity-0.5", "walker2d-morph", "ant-kinematic", "antmaze-small-zshape"])
def test_filmed_episodes_are_those_of_the_evaluation(task, make_policy):
    policy = Policy.load(make_policy(task))
    steps = get_task(task).max_episode_steps
    found = tabb.evaluate(policy, task, 3, seed=70)
    episodes = record(policy, get_task(task), 3, 70, (2, 0))
    assert [one.number for one in episodes] == [2, 0]
    for one in episodes:
        assert one.return_at(steps) == found.returns[one.number]
        assert len(one.rewards) == found.lengths[one.number] == len(one.states) - 1
        assert one.terminal == (len(one.rewards) < steps)
        assert not np.array_equal(one.states[0], one.states[-1])
        assert bool(one.marks) == task.startswith("antmaze")


def test_drawing_changes_no_physics(make_policy, renderer, tmp_path):
    """The return that the command prints is that of `tabb evaluate` in the same task, all digits of it."""
    folder = make_policy("halfcheetah-friction-0.1")
    film = tabb.watch(folder, out=tmp_path / "a.gif", episodes=2, film=(1, 0), size=(64, 48), steps=3)
    found = tabb.evaluate(Policy.load(folder), "halfcheetah-friction-0.1", 2)
    assert film.returns == ((found.returns[1], found.returns[0]),)
    assert film.lengths == ((1000, 1000),)
    assert film.terminal == ((False, False),)


@pytest.mark.slow
def test_two_policies_side_by_side_until_both_have_ended(make_policy, renderer, tmp_path, capsys):
    pytest.importorskip("av")
    short, long = make_policy("hopper", "pooled", 1, scale=3.0), make_policy("hopper", "tabb", 0, scale=0.02)
    assert main(["watch", str(short), str(long), *SMALL, "--episodes", "2", "--speed", "0.25"]) == 0
    told = capsys.readouterr().out.splitlines()
    found = [tabb.evaluate(Policy.load(one), "hopper", 2) for one in (short, long)]
    lengths = [one.lengths[0] for one in found]
    assert lengths[0] < lengths[1] < 1000
    for line, label, one in zip(told, ("pooled", "tabb"), found, strict=False):
        assert line == f"{label}, episode 0: return {one.returns[0]:.1f}, {one.lengths[0]} steps (ended)"
    film = short / "watch.mp4"
    assert told[2].startswith(f"film: {film} (")
    pictures = frames(film)
    assert len(pictures) == picture_count([_Length(n) for n in lengths], FilmFormat(fps=25, speed=0.25)) + 25
    assert {picture.shape for picture in pictures} == {(64, 192, 3)}
    ended = round(lengths[0] * 0.008 * 100)  # in pictures: 25 a second, at a quarter of the speed
    left = [picture[:, :90].astype(int) for picture in pictures]
    assert np.abs(left[ended + 2] - left[-1]).mean() < 4  # stays on its last picture
    assert np.abs(left[0] - left[-1]).mean() > 4
    bottom = [picture[-6:, 40:90].reshape(-1, 3).mean(axis=0) for picture in (pictures[0], pictures[-1])]
    assert bottom[1][0] > bottom[1][1] + 60  # the red strip of an ended episode
    assert abs(bottom[0][0] - bottom[0][1]) < 40
    assert sorted(file.name for file in short.iterdir()) == ["policy.npz", "watch.mp4"]


class _Length:
    """As long as a recorded episode of the hopper."""

    seconds = 0.008

    def __init__(self, steps: int) -> None:
        self.rewards = [0.0] * steps


def test_pictures_keep_the_pace_of_the_simulation():
    format = FilmFormat(fps=25, speed=2.0)
    assert picture_count([_Length(1000)], format) == 101  # 8 s at twice the speed
    assert picture_count([_Length(1000), _Length(10)], FilmFormat(fps=50, steps=100)) == 41


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_a_film_holds_its_pictures(suffix, tmp_path):
    if suffix == ".mp4":
        pytest.importorskip("av")
    colours = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    pictures = [np.full((33, 47, 3), colour, np.uint8) for colour in colours]
    pictures[0][:, 24:], pictures[1][:, 24:], pictures[2][:, 24:] = colours[1], colours[2], colours[0]
    out = tmp_path / f"film{suffix}"
    write_film(out, iter(pictures), 25)
    found = frames(out)
    assert len(found) == 3
    assert found[0].shape == ((33, 47, 3) if suffix == ".gif" else (32, 46, 3))
    for picture, wanted in zip(found, pictures, strict=True):
        for column in (8, 40):
            assert np.abs(picture[16, column].astype(int) - wanted[16, column]).max() < 30


def test_what_was_there_stays_where_a_film_fails(tmp_path):
    out = tmp_path / "film.gif"
    write_film(out, iter([np.zeros((16, 16, 3), np.uint8)] * 2), 25)
    before = out.read_bytes()

    def broken():
        yield np.zeros((16, 16, 3), np.uint8)
        raise UsageError("no more")

    with pytest.raises(UsageError, match="no more"):
        write_film(out, broken(), 25)
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


def test_errors_are_one_line(make_policy, tmp_path, capsys):
    hopper, walker = str(make_policy("hopper")), str(make_policy("walker2d"))
    other = str(make_policy("hopper-morph"))
    for code, says, arguments in (
        (2, "name a run folder", []),
        (4, "is a folder without a policy", [str(tmp_path)]),
        (2, "of different robots (hopper, walker2d)", [hopper, walker]),
        (2, "were trained for hopper and hopper-morph; choose the task", [hopper, other]),
        (
            2,
            "the policies are of the robot walker2d, which is not that of task halfcheetah",
            [walker, "--task", "halfcheetah"],
        ),
        (2, "unknown task 'hopperr'", [hopper, "--task", "hopperr"]),
        (2, "--size 640*480: give width x height", [hopper, "--size", "640*480"]),
        (2, "fps is 0: it must lie between 1 and 100", [hopper, "--fps", "0"]),
        (2, "speed=nan: give a number", [hopper, "--speed", "nan"]),
        (2, "steps is 0", [hopper, "--steps", "0"]),
        (2, "film is (3,): name each episode once, from 0 to 2", [hopper, "--episodes", "3", "--film", "3"]),
        (2, "episodes is 0", [hopper, "--episodes", "0"]),
        (2, "must end in .mp4 or .gif", [hopper, "--out", str(tmp_path / "film.avi")]),
        (2, "is a folder", [hopper, "--out", str(tmp_path)]),
        (4, "cannot be written", [hopper, "--out", str(tmp_path / "none" / "a.gif")]),
        (2, "9 policies: a film shows 1 to 8", [hopper] * 9),
    ):
        assert main(["watch", *arguments]) == code, arguments
        told = capsys.readouterr()
        assert told.err.startswith("tabb: error: "), arguments
        assert says in told.err
        assert told.err.count("\n") == 1
        assert not told.out
    assert not list(tmp_path.rglob("*.mp4")) + list(tmp_path.rglob("*.gif"))


def test_a_size_that_cannot_be_drawn_is_refused(make_policy, renderer, tmp_path):
    with pytest.raises(UsageError, match="size 5000x48: each side of a picture must have 16 to 4096 pixels"):
        tabb.watch(make_policy("hopper"), out=tmp_path / "a.gif", episodes=1, size=(5000, 48))
    with pytest.raises(UsageError, match=r"a policy in memory has no folder"):
        tabb.watch(Policy.load(make_policy("ant")))
    with pytest.raises(RunError, match="no such policy"):
        tabb.watch(tmp_path / "policy.npz")
    assert not list(tmp_path.glob("*.gif"))


@pytest.mark.parametrize(
    ("backend", "says"),
    [
        pytest.param("glfw", "no OpenGL to draw with (glfw: ", marks=pytest.mark.slow),
        ("vulkan", "MUJOCO_GL is 'vulkan': unset it"),
    ],
)
def test_no_renderer_is_one_line(backend, says, make_policy):
    """A window without a display, asked for by name: a real failure in a real process."""
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    command = [sys.executable, "-m", "tabb", "watch", str(make_policy("hopper")), "--out", "a.gif"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment | {"MUJOCO_GL": backend}
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"tabb: error: {says}")
    assert done.stderr.count("\n") == 1
    assert "MUJOCO_GL" in done.stderr
