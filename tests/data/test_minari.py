"""Minari data sets, made with Minari's own API in a folder of the test."""

import json
import sys

import gymnasium
import h5py
import minari
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from minari.data_collector import EpisodeBuffer

from tabb.cli import main
from tabb.data import from_arrays, load, read, resolve
from tabb.data.minari_sets import folder_of, load_minari
from tabb.errors import DataError, UsageError

OBSERVATION = Box(-np.inf, np.inf, (3,))
ACTION = Box(-1, 1, (2,))


def episode(steps, end, seed, observations=None, actions=None):
    """`steps` steps that end with a termination, a truncation, both or (the log was cut) neither."""
    rng = np.random.default_rng(seed)
    return EpisodeBuffer(
        observations=rng.normal(size=(steps + 1, 3)).astype(np.float32) if observations is None else observations,
        actions=rng.uniform(-1, 1, (steps, 2)).astype(np.float32) if actions is None else actions,
        rewards=list(rng.normal(size=steps)),
        terminations=[False] * (steps - 1) + ["terminal" in end],
        truncations=[False] * (steps - 1) + ["truncated" in end],
    )


EPISODES = [
    episode(5, "terminal", 1),
    episode(7, "truncated", 2),
    episode(3, "cut", 3),
    episode(4, "terminal truncated", 4),
]


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def make(recwarn):
    """`make(id, episodes, ...)`: a data set of Minari's; its warnings about unnamed authors are its own."""

    def create(name="own/robot/medium-v0", episodes=EPISODES, **options):
        import warnings

        spaces = {} if "env" in options else {"observation_space": OBSERVATION, "action_space": ACTION}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            minari.create_dataset_from_buffers(name, episodes, **(spaces | options))
        return name

    return create


def test_episodes_become_transitions(make):
    transitions, report = read(f"minari:{make()}")
    assert len(transitions) == report.rows == 19  # the next observation of every row is known
    assert report.episode_ends == (4, 11, 14, 18)
    assert (report.terminals, report.truncations, report.layout) == (2, 2, "minari")
    assert report.provenance["dataset_id"] == "own/robot/medium-v0"
    assert report.engine is None
    for key, expected in {
        "observation": np.concatenate([one.observations[:-1] for one in EPISODES]),
        "next_observation": np.concatenate([one.observations[1:] for one in EPISODES]),
        "action": np.concatenate([one.actions for one in EPISODES]),
        "reward": np.concatenate([one.rewards for one in EPISODES]).astype(np.float32),
    }.items():
        np.testing.assert_array_equal(getattr(transitions, key), expected)
    assert np.flatnonzero(transitions.terminal).tolist() == [4, 18]
    assert transitions.episode.tolist() == [0] * 5 + [1] * 7 + [2] * 3 + [3] * 4


def test_as_arrays_would(make):
    """The same steps by the other door."""
    transitions = load(f"minari:{make()}")
    parts = zip(*[(e.observations[:-1], e.actions, e.rewards, e.observations[1:], e.terminations, e.truncations)
                  for e in EPISODES], strict=True)  # fmt: skip
    other = from_arrays(*map(np.concatenate, parts), episodes=np.repeat(range(4), [5, 7, 3, 4]))
    for key in ("observation", "action", "reward", "next_observation", "terminal", "episode"):
        np.testing.assert_array_equal(getattr(transitions, key), getattr(other, key))


def test_wherever_a_file_is_named(make, root, capsys):
    name = make()
    folder = root / name
    assert resolve(f"minari:{name}", "hopper", "source") == [folder]
    assert len(load(folder)) == len(load([f"minari:{name}"])) == 19
    assert len(load(f"minari:{name}+{folder}")) == 38
    assert main(["data", "describe", f"minari:{name}"]) == 0
    assert "19 in the file, 19 kept" in capsys.readouterr().out
    assert main(["data", "get", f"minari:{name}"]) == 0
    assert capsys.readouterr().out.strip() == str(folder)


@pytest.mark.slow
def test_training_on_minari_data(make, root, tmp_path, capsys):
    first = make("own/robot/a-v0", [episode(40, "truncated", seed) for seed in range(4)])
    second = make("own/robot/b-v0", [episode(40, "terminal", seed) for seed in range(9, 12)])
    arguments = ["--source", f"minari:{first}", "--target", f"minari:{second}", "--updates", "4"]
    assert main(["train", "pooled", *arguments, "--out", str(tmp_path / "run"), "--progress", "none"]) == 0
    config = json.loads((tmp_path / "run" / "seed0" / "config.json").read_text())
    assert config["origin"]["source"]["files"] == [str(root / first)]


def moved_at_random(env_id):
    """Two episodes of a robot of Gymnasium's."""
    spec = gymnasium.spec(env_id)
    observed, done = {"Hopper-v5": (11, 3), "Walker2d-v5": (17, 6), "HalfCheetah-v5": (17, 6)}[env_id]
    rows = [
        EpisodeBuffer(
            observations=np.random.default_rng(seed).normal(size=(5, observed)),
            actions=np.zeros((4, done), np.float32),
            rewards=[1.0] * 4,
            terminations=[False] * 4,
            truncations=[False] * 3 + [True],
        )
        for seed in (1, 2)
    ]
    return rows, spec


@pytest.mark.parametrize(
    ("env_id", "requirements", "doubts"),
    [
        ("HalfCheetah-v5", ["mujoco==3.2.3"], []),  # no margins, and the same file
        ("Hopper-v5", ["gymnasium", "mujoco==3.5.0"], []),
        ("Hopper-v5", ["mujoco>=4.0.0"], []),
        ("Hopper-v5", ["mujoco==3.2.3"], ["steps were made by MuJoCo 3.2.3, and before 3.5"]),
        ("Hopper-v5", ["mujoco>=3.2.3"], ["MuJoCo is not known to be 3.5 or later"]),
        ("Hopper-v5", ["mujoco-py<2.2"], ["MuJoCo is not known to be 3.5 or later"]),
        ("Walker2d-v5", ["mujoco==3.2.3"], ["Walker2d-v5 has a friction of 1.9 at both feet"]),
    ],
)
def test_gymnasiums_robots_are_of_the_engine_native(make, env_id, requirements, doubts):
    """Where robot or MuJoCo is not that of tabb's engine `native` a doubt says so."""
    rows, spec = moved_at_random(env_id)
    report = read(f"minari:{make('m/robot/x-v0', rows, env=spec, requirements=requirements)}").report
    assert (report.engine, report.provenance["env_id"]) == ("native", env_id)
    assert report.provenance["requirements"] == requirements
    said = [doubt for doubt in report.doubts if "MuJoCo" in doubt or "friction" in doubt]
    assert [doubt[: len(start)] for doubt, start in zip(said, doubts, strict=True)] == doubts


WRONG = {
    "dictionary": (
        {"observation_space": Dict(position=OBSERVATION, goal=OBSERVATION)},
        [episode(4, "truncated", 1, {"goal": np.zeros((5, 3)), "position": np.zeros((5, 3))})],
        "observations: are of space Dict with keys goal, position; tabb needs vectors",
    ),
    "choices": (
        {"action_space": Discrete(3)},
        [episode(4, "truncated", 1, actions=np.zeros(4, np.int64))],
        "actions: are of space Discrete; tabb needs vectors",
    ),
    "matrices": (
        {"observation_space": Box(-1, 1, (2, 3))},
        [episode(4, "truncated", 1, np.zeros((5, 2, 3)))],
        r"observations: are of space Box\(2, 3\)",
    ),
    "actions outside of their space": (
        {"action_space": Box(-2, 2, (2,))},
        [episode(4, "truncated", 1, actions=np.full((4, 2), 2.5))],
        r"actions: row 0, column 0 is 2.5, outside its bounds \[-2, 2\]",
    ),
    "an observation is missing": (
        {},
        [episode(4, "truncated", 1), episode(4, "truncated", 1, np.zeros((4, 3)))],
        r"observations: episode 1 has shape \(4, 3\), not \(5, 3\) as its 4 rewards ask for",
    ),
    "not a number": ({}, [episode(4, "truncated", 1, np.full((5, 3), np.nan))], "observations: row 0, column 0 is nan"),
    "no episodes": ({}, [], "episodes: are none"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_used(case, make):
    options, episodes, words = WRONG[case]
    name = make(episodes=episodes, **options)
    with pytest.raises(DataError, match=words) as caught:
        load(f"minari:{name}")
    assert str(caught.value).startswith("minari:own/robot/medium-v0: ")
    assert "\n" not in str(caught.value)


def test_actions_are_scaled_by_the_action_space(make):
    name = make(action_space=Box(-0.4, 0.4, (2,)), episodes=[episode(4, "truncated", 1, actions=np.full((4, 2), 0.3))])
    data = load(f"minari:{name}")
    np.testing.assert_allclose(data.action, 0.75, rtol=1e-6)
    np.testing.assert_allclose(data.action_bounds.high, 0.4, rtol=1e-6)


def damage(path, edit):
    path.write_bytes(edit(path.read_bytes()))


def link_away(path):
    outside = path.parent / "outside.hdf5"
    with h5py.File(outside, "w") as file:
        file["x"] = np.zeros((6, 3), np.float32)
    with h5py.File(path, "a") as file:
        del file["episode_0/observations"]
        file["episode_0/observations"] = h5py.ExternalLink("outside.hdf5", "x")


def claim(path):
    with h5py.File(path, "a") as file:
        del file["episode_0/rewards"]
        file["episode_0"].create_dataset("rewards", (10**11,), "f8", chunks=(1000,))


def without_space(folder):
    path = folder / "data" / "metadata.json"
    metadata = json.loads(path.read_text())
    del metadata["observation_space"]
    metadata["env_spec"] = '{"id": "x-v0", "entry_point": "os:abort"}'
    path.write_text(json.dumps(metadata))


DAMAGE = {
    "cut": (lambda f: damage(f / "data/main_data.hdf5", lambda data: data[:3000]), "cannot be read by Minari"),
    "empty": (lambda f: damage(f / "data/main_data.hdf5", lambda data: b""), "cannot be read by Minari"),
    "metadata cut": (lambda f: damage(f / "data/metadata.json", lambda data: data[:50]), "cannot be read by Minari"),
    "metadata a list": (lambda f: damage(f / "data/metadata.json", lambda data: b"[]"), "cannot be read by Minari"),
    "external link": (lambda f: link_away(f / "data/main_data.hdf5"), "observations: is a link into another file"),
    "claimed size": (lambda f: claim(f / "data/main_data.hdf5"), "rewards: claims 800,000,000,000 bytes"),
    "a program to run": (without_space, "observation_space: is not stated"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_folders(case, make, root):
    edit, words = DAMAGE[case]
    name = make()
    edit(root / name)
    with pytest.raises(DataError, match=words) as caught:
        load_minari(root / name)
    assert "\n" not in str(caught.value)


def test_names(root, monkeypatch):
    for name in ("", "medium", "../up-v0", "hf://x/y-v0", "a b-v0"):
        with pytest.raises(UsageError, match="is no Minari id"):
            folder_of(name)
    monkeypatch.setenv("MINARI_REMOTE", "nowhere://x")
    with pytest.raises(DataError, match=r"minari:own/absent-v0: is not in .* and Minari cannot download it"):
        load("minari:own/absent-v0")
    assert not (root / "own" / "absent-v0").exists()


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(UsageError, match=r'pip install "tabb-rl\[minari\]"'):
        load("minari:own/robot/medium-v0")


def test_audit_reads_the_folder(make):
    from tabb.data.audit import audit

    found = audit(f"minari:{make()}")
    assert not found.of_level("error")
    assert next(iter(found.loaded)) == "minari:own/robot/medium-v0"
    odd = episode(5, "terminal", 1)
    odd.actions[:, 1] = 0.25
    found = audit(f"minari:{make('own/robot/odd-v0', [odd])}")
    assert [finding.what for finding in found.of_level("warning") if finding.code == "constant"] == [
        "columns 1 are the same in every row"
    ]
