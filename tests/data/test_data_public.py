"""The public data sets: every fact that is known of them from elsewhere."""

import json

import h5py
import numpy as np
import pytest

from tabb.data import available, check_domains, find, inspect_arrays, read

pytestmark = pytest.mark.data

SOURCE_FACTS = {  # README of the data: trajectories, terminated, mean return of the finished ones
    "hopper_medium": (223, 187, 1638.7),
    "hopper_expert": (101, 2, 3702.4),
    "hopper_medium_replay": (1008, 1002, 269.8),
    "halfcheetah_medium": (100, 0, 5310.2),
    "halfcheetah_expert": (100, 0, 11378.7),
    "halfcheetah_medium_replay": (100, 0, 2028.7),
    "walker2d_medium": (158, 108, 2311.3),
    "walker2d_expert": (104, 9, 4277.5),
    "walker2d_medium_replay": (813, 795, 330.7),
    "ant_medium": (106, 9, 1415.0),
    "ant_expert": (107, 14, 4275.5),
    "ant_medium_replay": (239, 164, 198.5),
}
RESETS_TOO_WIDE = {"halfcheetah_medium": 5, "halfcheetah_medium_replay": 43}  # unmarked ends that stay unseen


def otdf_facts():
    return [
        f"{robot}_{shift}_{quality}"
        for robot in ("hopper", "halfcheetah", "walker2d", "ant")
        for shift in ("gravity_0.5", "kinematic", "morph")
        for quality in ("medium", "medium_expert", "expert")
    ]


@pytest.mark.parametrize("name", otdf_facts())
def test_target_file(name, real_data):
    facts = json.loads((real_data / "otdf_datasets.json").read_text())["files"][name]
    path = real_data / "target" / f"{name}.hdf5"
    transitions, report = read(path)
    with h5py.File(path) as file:
        observations, following = file["observations"][()], file["next_observations"][()]
        terminals = file["terminals"][()].ravel() == 1

    assert (report.layout, report.rows) == ("odrl", facts["transitions"])
    assert list(report.episode_ends) == facts["episode_ends"]
    assert list(report.wrong_next) == facts["wrong_next_observation_rows"]
    assert bool(report.unfinished) == facts["unfinished_last_episode"]
    assert np.allclose(report.returns, facts["episode_returns"], atol=0.06)
    assert np.flatnonzero(terminals).tolist() == facts["terminal_rows"]

    gone = [row for row in facts["wrong_next_observation_rows"] if not terminals[row]]
    keep = np.delete(np.arange(report.rows), gone)
    assert sum(report.dropped.values()) == len(gone)
    assert np.array_equal(transitions.observation, observations[keep])
    assert np.array_equal(transitions.terminal, terminals[keep])
    known = np.setdiff1d(keep, facts["wrong_next_observation_rows"])
    at = np.searchsorted(keep, known)
    assert np.array_equal(transitions.next_observation[at], following[known])
    unknown = np.setdiff1d(np.arange(len(keep)), at)
    assert np.array_equal(transitions.next_observation[unknown], transitions.observation[unknown])


@pytest.mark.parametrize("name", SOURCE_FACTS)
def test_source_file(name, real_data):
    transitions, report = read(real_data / "source" / f"{name}.hdf5")
    episodes, terminated, mean = SOURCE_FACTS[name]
    assert (report.rows, report.episodes, report.terminals) == (100_000, episodes, terminated)
    assert (report.layout, report.engine) == ("d4rl", "legacy")
    assert np.delete(report.returns, report.unfinished).mean() == pytest.approx(mean, abs=0.06)
    assert sum(report.dropped.values()) == report.truncations == episodes - terminated
    assert len(transitions) == report.kept == 100_000 - report.truncations


@pytest.mark.parametrize("name", SOURCE_FACTS)
def test_resets_are_found_where_timeouts_are_hidden(name, real_data):
    with h5py.File(real_data / "source" / f"{name}.hdf5") as file:
        columns = {key: file[key][()] for key in ("observations", "actions", "rewards", "terminals")}
        true = np.flatnonzero(file["timeouts"][:-1])
    _, report = inspect_arrays(**columns)
    found = [row for row in report.episode_ends[:-1] if not columns["terminals"][row]]
    assert set(found) <= set(true.tolist())
    assert len(true) - len(found) == RESETS_TOO_WIDE.get(name, 0)


def test_every_pair_of_domains_fits(real_data, monkeypatch):
    monkeypatch.setenv("TABB_DATA", str(real_data))
    listed = [entry for entry in available() if entry.quality != "bundled"]
    assert len(listed) == 48
    for task in ("hopper-gravity-0.5", "ant-morph"):
        source = read(find(task, "medium_expert", "source"))
        target = read(find(task, "medium", "target"))
        assert source.report.rows == 200_000
        assert check_domains(source[0], target[0], source[1], target[1]) == []
