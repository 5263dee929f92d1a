"""The audit against the simulator and the catalogue: whose physics a file is of."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest

from tabb.behaviours.collect import arrays_of, collect
from tabb.behaviours.waypoints import walk_the_maze
from tabb.data import read
from tabb.data.audit import audit
from tabb.data.audit.physics import check_physics
from tabb.data.hdf5 import write_hdf5
from tabb.environments import get_task
from tabb.errors import UsageError
from tabb.policy import Policy


def codes(found):
    return {finding.code: finding for finding in found.findings}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """`logs(task, engine, seed)`: a file of 400 rows under random actions."""
    folder = tmp_path_factory.mktemp("logs")

    def make(task, engine="legacy", seed=0):
        path = folder / f"{task}-{engine}-{seed}.hdf5"
        if not path.exists():
            collect(None, task, path, rows=400, engine=engine, seed=seed)
        return path

    return make


def test_hopper_frictions_that_are_the_same_physics(logs, tmp_path):
    first, second = logs("hopper-friction-0.1"), logs("hopper-friction-0.5")
    found = codes(audit(first, second))
    assert "hold the same" in found["identical-rows"].what
    assert found["same-physics"].level == "warning"
    other = audit(first, logs("hopper-friction-0.5", seed=50))
    assert "identical-rows" not in codes(other)
    said = [finding for finding in other.findings if finding.code == "same-physics"]
    assert [finding.level for finding in said] == ["warning"] * 2
    assert "is of hopper-friction-0.1, which is the same physics as hopper-friction-0.5" in said[0].what
    named = shutil.copy(first, tmp_path / "hopper_friction_0.1_medium.hdf5")  # by its name alone
    with h5py.File(named, "a") as file:
        del file.attrs["task"]
    assert codes(audit(named))["same-physics"].level == "note"
    found = codes(audit(first, logs("hopper-friction-2.0", seed=50)))
    assert found["same-physics"].level == "note"
    assert "shared-rows" not in found


def test_steps_are_compared_with_the_simulator(logs, tmp_path):
    file = logs("hopper-gravity-0.5")
    found = codes(audit(file, task="hopper-gravity-0.5"))["physics"]
    assert found.level == "note"
    assert "follows the physics of hopper-gravity-0.5, engine legacy" in found.what
    found = codes(audit(file, task="hopper-gravity-2.0"))["physics"]
    assert found.level == "warning"
    assert "does not follow the physics of hopper-gravity-2.0" in found.what
    unshifted = codes(audit(logs("hopper", "native"), task="hopper-gravity-0.5"))["physics"]
    assert unshifted.level == "warning"
    assert "it follows hopper, engine native" in unshifted.what
    other = codes(audit(logs("halfcheetah-friction-0.1"), task="halfcheetah-friction-0.1"))["physics"]
    assert "halfcheetah-friction-0.1, engine legacy" in other.what
    with pytest.raises(UsageError, match="observation_size is 11 but 17 in task walker2d-morph; name the task"):
        audit(file, task="walker2d-morph")


def test_engines_that_files_do_not_state(logs, tmp_path):
    """The simulator tells engines apart where attributes are wrong or missing."""
    source, target = logs("hopper"), shutil.copy(logs("hopper-gravity-0.5", "native"), tmp_path / "target.hdf5")
    with h5py.File(target, "a") as file:
        file.attrs["engine"] = "legacy"
    found = audit(source=source, target=target, task="hopper-gravity-0.5").of_level("error")
    assert [finding.code for finding in found] == ["engine", "engine"]
    assert any("states engine legacy but follows engine native" in finding.what for finding in found)
    with h5py.File(target, "a") as file:
        del file.attrs["engine"]
    (found,) = audit(source=source, target=target, task="hopper-gravity-0.5").of_level("error")
    assert found.what == f"steps follow different engines: {source} engine legacy and {target} engine native"


@pytest.mark.data
@pytest.mark.parametrize("robot", ["hopper", "halfcheetah", "walker2d", "ant"])
def test_physics_of_the_public_target_files(robot, real_data):
    for shift in ("gravity_0.5", "kinematic", "morph"):
        file = real_data / "target" / f"{robot}_{shift}_medium.hdf5"
        finding, engine = check_physics(read(file), get_task(f"{robot}-{shift.replace('_', '-')}"))
        assert engine == "legacy"
        assert finding.level == "note", str(finding)


def test_of_a_maze_it_cannot_tell(tmp_path):
    rows = Policy(
        np.zeros(27, np.float32), np.ones(27, np.float32), (np.zeros((27, 8), np.float32),), (np.zeros(8, np.float32),)
    )
    walk = walk_the_maze(rows, get_task("antmaze-small"), 300, seed=0)
    write_hdf5(tmp_path / "a.hdf5", arrays_of(walk.rows, True), {"engine": "legacy"})
    found = codes(audit(tmp_path / "a.hdf5", task="antmaze-small"))["physics"]
    assert found.level == "note"
    assert "physics not checked" in found.what
