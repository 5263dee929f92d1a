"""Films of, and data from, environments that are not tabb's."""

from __future__ import annotations

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import tabb
from tabb.cli import main
from tabb.data import read
from tabb.errors import UsageError
from tabb.policy import Policy
from tabb.rendering.rendered import RenderedEpisode, check_sizes, maker_of, record_rendered

NAME = "tabb-tests/Drawn-v0"


class Drawn(gymnasium.Env):
    """A point that actions move; its picture is as bright as its place is far."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012 - Gymnasium's own way
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, render_mode=None, picture=None):
        self.render_mode, self._picture, self._place = render_mode, picture, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._place = seed % 7
        return np.full(3, self._place, np.float32), {}

    def step(self, action):
        self._place += 1
        return np.full(3, self._place, np.float32), float(action.sum()), self._place % 7 == 5, False, {}

    def render(self):
        if self._picture is not None:
            return self._picture()
        return np.full((20, 40, 3), 10 * self._place, np.uint8) if self.render_mode == "rgb_array" else None


if NAME not in gymnasium.registry:
    gymnasium.register(NAME, entry_point=Drawn, max_episode_steps=4)


@pytest.fixture
def policy() -> Policy:
    """Two networks that act together."""
    generator = np.random.default_rng(0)
    weights = (generator.normal(size=(2, 3, 2)).astype(np.float32),)
    biases = (np.zeros((2, 1, 2), np.float32),)
    return Policy(np.zeros(3, np.float32), np.ones(3, np.float32), weights, biases, {"rule": "pooled"})


@pytest.fixture
def run(policy: Policy, tmp_path: Path) -> Path:
    """The folder of a run that was evaluated in that environment."""
    policy.save(tmp_path / "policy.npz")
    (tmp_path / "config.json").write_text(json.dumps({"origin": {"env": NAME}}))
    return tmp_path


def test_recorded_episodes_are_those_of_the_evaluation(policy: Policy) -> None:
    found = tabb.evaluate(policy, None, 3, 100, env_factory=NAME)
    episodes = record_rendered(policy, maker_of(NAME), 3, 100, (2, 0))
    assert [one.number for one in episodes] == [2, 0]
    for one in episodes:
        assert one.return_at(4) == found.returns[one.number]
        assert len(one.rewards) == found.lengths[one.number] == len(one.frames) - 1
        assert one.seconds == 0.1
    first = (100 + 2) % 7
    assert episodes[0].terminal == ((first + len(episodes[0].rewards)) % 7 == 5)
    # 40 x 20 pixels are scaled to 64 x 32 and stand in the middle of 64 x 64.
    picture = episodes[0].picture(1, 64, 64)
    assert picture.shape == (64, 64, 3)
    assert (picture[16:48] == 10 * (first + 1)).all()
    assert (picture[:16] == 0).all()


def test_a_film_of_a_run_is_made_where_the_run_was_evaluated(run: Path, capsys) -> None:
    for more in ([], ["--env", NAME]):
        assert (
            main(["watch", str(run), *more, "--size", "96x64", "--out", str(run / "film.gif"), "--episodes", "2"]) == 0
        )
        assert f"{NAME}, seed 10000" in capsys.readouterr().out
    assert (run / "film.gif").stat().st_size > 500
    film = tabb.watch([run, Policy.load(run)], out=run / "two.gif", env_factory=Drawn_with_pictures, size=(64, 64))
    assert film.task == "Drawn"
    assert film.returns[0] == film.returns[1]


def Drawn_with_pictures() -> gymnasium.Env:
    return gymnasium.wrappers.TimeLimit(Drawn("rgb_array"), 4)


@pytest.mark.parametrize(
    ("picture", "says"),
    [
        (lambda: None, "render() gives nothing; films need pictures of uint8"),
        (lambda: np.zeros((4, 4)), "render() gives float64 of shape (4, 4)"),
        (lambda: 1 / 0, "render() raised ZeroDivisionError"),
    ],
)
def test_what_is_no_picture_is_one_line(policy: Policy, tmp_path: Path, picture, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        tabb.watch(policy, out=tmp_path / "a.gif", env_factory=lambda: Drawn("rgb_array", picture))
    assert str(caught.value).startswith(f"environment Drawn: {says}")


def test_what_does_not_fit_is_one_line(policy: Policy, tmp_path: Path, run: Path, capsys) -> None:
    with pytest.raises(UsageError, match=r"'Nothing-v0' cannot be made to draw pictures"):
        maker_of("Nothing-v0")
    other = Policy(np.zeros(4, np.float32), np.ones(4, np.float32), (np.zeros((4, 2), np.float32),), policy.biases)
    with pytest.raises(UsageError, match="observation_size is 4 and 3; film in the environment"):
        check_sizes(maker_of(NAME), [policy, other])
    with pytest.raises(UsageError, match="observation_size is 4 and 3; collect in one"):
        tabb.collect(other, None, tmp_path / "a.hdf5", env_factory=NAME)
    with pytest.raises(UsageError, match="give one of them"):
        tabb.collect(policy, "hopper", tmp_path / "a.hdf5", env_factory=NAME)
    with pytest.raises(UsageError, match="give one of them"):
        tabb.watch(policy, "hopper", tmp_path / "a.gif", env_factory=NAME)
    with pytest.raises(UsageError, match="engine=native: an environment of your own has its own physics"):
        tabb.watch(policy, None, tmp_path / "a.gif", env_factory=NAME, engine="native")
    with pytest.raises(UsageError, match="engine=legacy: an environment of your own has its own physics"):
        tabb.evaluate(policy, None, env_factory=NAME, engine="legacy")
    for command in (["watch", str(run)], ["collect", str(run), "--out", str(tmp_path / "a.hdf5")]):
        assert main([*command, "--task", "hopper", "--env", NAME]) == 2
        assert "give one of them" in capsys.readouterr().err
    assert main(["collect", "random", "--out", str(tmp_path / "a.hdf5")]) == 2
    assert "give --task or --env" in capsys.readouterr().err


def test_an_environment_without_a_rate_has_thirty_pictures_per_second(policy: Policy) -> None:
    class Bare(Drawn):
        metadata = {}  # noqa: RUF012

    (one,) = record_rendered(policy, lambda drawn: Bare("rgb_array"), 1, 0, (0,))
    assert isinstance(one, RenderedEpisode)
    assert one.seconds == pytest.approx(1 / 30)


def test_data_are_collected_in_any_environment(run: Path, tmp_path: Path, capsys) -> None:
    for policy, out in ((str(run), "a.hdf5"), ("random", "b.hdf5")):
        more = ["--noise", "0.1"] if policy != "random" else ["--env", NAME]
        assert main(["collect", policy, *more, "--out", str(tmp_path / out), "--rows", "10"]) == 0
        loaded = read(tmp_path / out)
        assert loaded.report.rows == 10
        assert loaded.transitions.observation.shape[1] == 3
        assert loaded.report.provenance["env_id"] == NAME
        assert "mean_return" in loaded.report.provenance
        assert "task" not in loaded.report.provenance
    # The file is tabb's own: it may be replaced where that is asked for.
    assert main(["collect", "random", "--env", NAME, "--out", str(tmp_path / "b.hdf5"), "--overwrite"]) == 0


@pytest.mark.parametrize(("rows", "whole"), [(3, 0), (4, 4), (7, 4), (8, 8)])
def test_the_mean_return_of_collected_data_is_of_whole_episodes(tmp_path: Path, rows: int, whole: int) -> None:
    path = tmp_path / "a.hdf5"  # two episodes of four steps
    stated = tabb.collect(None, None, path, rows=rows, next_observations=True, env_factory=NAME).provenance
    rewards = read(path).transitions.reward
    assert len(rewards) == rows
    assert ("mean_return" in stated) == (whole > 0)
    if whole:
        assert float(stated["mean_return"]) == pytest.approx(rewards[:whole].sum() / (whole / 4), rel=0.01)
