"""Models: parity with MuJoCo 2.1.0 step by step, the two engines, and files that changed."""

import json
from pathlib import Path

import gymnasium.envs.mujoco
import mujoco
import numpy as np
import pytest

from tabb.environments import ENGINES, engine
from tabb.environments.engine import ASSETS, build_model
from tabb.environments.shifts import SHIFTS, edits_of
from tabb.environments.tasks import get_task
from tabb.errors import TabbError, UsageError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "golden_steps.json").read_text())["steps"]
FOLDER = Path(gymnasium.envs.mujoco.__file__).parent / "assets"
FRAME_SKIP = {"hopper": 4, "halfcheetah": 5, "walker2d": 4, "ant": 5}


def _names(key):
    """robot, shift and level of a golden key."""
    robot, *shift = key.split("/")[1:]
    name, level = shift or (None, None)
    return robot, name, None if level == "default" else level


def _error(model, step, frame_skip):
    """Largest |x - golden| / max(1, |golden|) over positions and velocities after one step."""
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = step["qpos"], step["qvel"]
    mujoco.mj_forward(model, data)
    data.ctrl[:] = step["action"]
    mujoco.mj_step(model, data, nstep=frame_skip)
    golden = np.append(step["next_qpos"], step["next_qvel"])
    return np.max(np.abs(np.append(data.qpos, data.qvel) - golden) / np.maximum(1, np.abs(golden)))


def test_the_golden_file_covers_every_model():
    models = {(robot, None, None) for robot in SHIFTS}
    models |= {(robot, s, level) for robot, shifts in SHIFTS.items() for s in shifts for level in shifts[s].levels}
    assert {_names(key) for key in GOLDEN} == models
    assert sum(map(len, GOLDEN.values())) == 192


@pytest.mark.parametrize("robot", SHIFTS)
def test_legacy_steps_are_those_of_mujoco_2_1(robot):
    # The ant's free joint is integrated otherwise since MuJoCo 4, which nothing can undo.
    tolerance = 5e-4 if robot == "ant" else 1e-6
    steps = 0
    for key, pair in GOLDEN.items():
        if _names(key)[0] != robot:
            continue
        model = build_model(*_names(key), engine="legacy")
        for step in pair:
            assert _error(model, step, FRAME_SKIP[robot]) <= tolerance, (key, step["contact"])
            steps += 1
    assert steps == 48


@pytest.mark.parametrize("robot", SHIFTS)
def test_native_is_another_physics(robot):
    model = build_model(robot, engine="native")
    assert max(_error(model, step, FRAME_SKIP[robot]) for step in GOLDEN[f"base/{robot}"]) > 5e-3


@pytest.mark.parametrize(
    ("robot", "legacy", "native"),
    [
        ("hopper", 15.265, 15.820),
        ("halfcheetah", 14, 14),
        ("walker2d", 22.698, 23.677),
        ("ant", 0.87871, 0.91088),
    ],
)
def test_total_masses(robot, legacy, native):
    """Masses in kg, as environments of MuJoCo 2.1.0 and of later ones have them."""
    assert build_model(robot, engine="legacy").body_mass.sum() == pytest.approx(legacy, rel=3e-5)
    assert build_model(robot, engine="native").body_mass.sum() == pytest.approx(native, rel=3e-5)


def test_native_is_what_mujoco_itself_compiles(tmp_path, monkeypatch):
    """Masses scaled by us equal those scaled by the deprecated `settotalmass`; the others are untouched."""
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log there
    for robot, asset in ASSETS.items():
        theirs = mujoco.MjModel.from_xml_path(str(FOLDER / asset))
        ours = build_model(robot, engine="native")
        for array in (
            "body_mass",
            "body_inertia",
            "body_ipos",
            "body_iquat",
            "dof_invweight0",
            "geom_margin",
        ):
            np.testing.assert_allclose(getattr(ours, array), getattr(theirs, array), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("kind", ENGINES)
def test_building_prints_nothing_and_leaves_no_log(kind, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for robot in SHIFTS:
        build_model(robot, engine=kind)
        build_model(robot, "morph", engine=kind)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_legacy_halves_margins_and_native_keeps_them():
    assert set(build_model("hopper", engine="native").geom_margin) == {0.001}
    assert set(build_model("hopper", engine="legacy").geom_margin) == {0.0005}  # the tests need MuJoCo >= 3.5


def test_masses_follow_the_edited_sizes():
    base, heavy = build_model("hopper"), build_model("hopper", "morph-torso", "hard")
    # Cylinders of radius r and length 2 h + r at 1000 kg/m3.
    assert base.body("torso").mass[0] == pytest.approx(1000 * np.pi * 0.05**2 * 0.45)
    assert heavy.body("torso").mass[0] == pytest.approx(1000 * np.pi * 0.125**2 * 0.925)
    cheetah = build_model("halfcheetah", "morph-torso", "hard")
    assert cheetah.body_mass.sum() == pytest.approx(14)
    assert cheetah.body("bthigh").mass[0] == pytest.approx(2.08, abs=0.005)


def test_a_changed_model_file_is_refused(monkeypatch):
    """walker2d_v5.xml has another foot friction: as if Gymnasium had changed walker2d.xml."""
    monkeypatch.setitem(engine.ASSETS, "walker2d", "walker2d_v5.xml")
    engine._base_model.cache_clear()
    try:
        with pytest.raises(TabbError, match=r"foot_geom friction is \[1\.9, 0\.1, 0\.1\], not \[0\.9") as caught:
            build_model("walker2d", "friction", "0.5")
        assert "\n" not in str(caught.value)
        build_model("walker2d", "gravity", "0.5")  # its base values are as they were
    finally:
        engine._base_model.cache_clear()


def test_a_missing_element_is_refused(monkeypatch):
    monkeypatch.setitem(engine.ASSETS, "hopper", "half_cheetah.xml")
    engine._base_model.cache_clear()
    try:
        with pytest.raises(TabbError, match="joint foot_joint range is \\[\\]"):
            build_model("hopper", "kinematic-footjnt", "easy")
    finally:
        engine._base_model.cache_clear()


def test_an_unknown_engine_is_refused():
    with pytest.raises(UsageError, match=r"^unknown engine 'old': choose one of legacy, native$"):
        build_model("hopper", engine="old")


@pytest.mark.parametrize("name", ["halfcheetah-morph", "halfcheetah-morph-thigh-easy", "walker2d-morph", "ant-morph"])
def test_half_a_shift_is_half_way(name):
    """Limbs end where they should: a capsule has no first end, so blended quaternions would turn them about."""
    task = get_task(name)
    model = build_model(task.robot, task.shift, task.level, share=0.5)
    ends = [edit for edit in edits_of(task.robot, task.shift, task.level) if edit.attribute == "fromto"]
    assert ends
    for edit in ends:
        wanted = (np.array(edit.base) + np.array(edit.value)) / 2
        found = engine._value_in(engine._BaseModel(model, 1.0), edit)
        swapped = np.concatenate([found[3:], found[:3]])
        assert min(np.abs(found - wanted).max(), np.abs(swapped - wanted).max()) < 1e-6


def test_a_share_of_numbers_and_of_nothing():
    assert build_model("hopper", "gravity", "2.0", share=0.5).opt.gravity[2] == pytest.approx(-9.81 * 1.5)
    assert build_model("hopper", "friction", "2.0", share=0.5).geom("foot_geom").friction[0] == pytest.approx(3.0)
    none, base = build_model("walker2d", "morph", share=0.0), build_model("walker2d")
    for field in ("body_mass", "body_inertia", "geom_size", "geom_pos", "body_pos", "jnt_pos"):
        assert getattr(none, field) == pytest.approx(getattr(base, field), abs=1e-9), field
    whole, own = build_model("walker2d", "morph", share=1.0), build_model("walker2d", "morph")
    assert np.array_equal(whole.body_inertia, own.body_inertia)
    assert np.array_equal(whole.geom_pos, own.geom_pos)
