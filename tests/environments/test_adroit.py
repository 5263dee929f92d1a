"""Adroit: the edits, the engine rules, and steps beside gymnasium-robotics' own environments."""

import importlib
import json
import os
from pathlib import Path

import mujoco
import numpy as np
import pytest

from tabb.environments import make, one_step
from tabb.environments.adroit_shifts import HANDS, LEVELS, SHIFTS, hand_edits
from tabb.environments.engine import _compile_with_cylinders
from tabb.environments.tasks import MORE_TASKS, get_task
from tabb.errors import UsageError

gymnasium_robotics = pytest.importorskip("gymnasium_robotics", reason='pip install "tabb-rl[adroit]"')

adroit = importlib.import_module("tabb.environments.adroit")  # needs the extra
DATA = os.environ.get("TABB_DATA")
THEIRS = {
    "pen": adroit.AdroitHandPenEnv,
    "door": adroit.AdroitHandDoorEnv,
    "hammer": adroit.AdroitHandHammerEnv,
    "relocate": adroit.AdroitHandRelocateEnv,
}


def _value(model, edit):
    found = np.array(getattr(getattr(model, edit.element)(edit.name), edit.attribute)).ravel()
    return found if edit.index is None else found[[edit.index]]


@pytest.mark.parametrize("shift", SHIFTS)
def test_exactly_the_named_attributes_are_edited(shift):
    base = adroit.build_hand("door", engine="native")
    changed = {
        "broken-joint": {"jnt_range"},
        "shrink-finger": {"geom_pos", "geom_size", "body_pos", "body_ipos", "site_pos"},
    }[shift]
    for level in LEVELS:
        model = adroit.build_hand("door", shift, level, "native")
        for array in ("jnt_range", "geom_pos", "geom_size", "body_pos", "body_ipos", "site_pos", "body_mass", "jnt_pos",
                      "actuator_ctrlrange", "body_quat", "geom_friction"):  # fmt: skip
            same = np.array_equal(getattr(model, array), getattr(base, array))
            assert same == (array not in changed), array
        for edit in hand_edits("door", shift, level):
            np.testing.assert_allclose(_value(model, edit), edit.value, atol=1e-12)
        joints = (model.jnt_range != base.jnt_range).any(axis=1).sum()
        assert joints == (9 if shift == "broken-joint" else 0)
        assert (model.geom_size != base.geom_size).any(axis=1).sum() == (12 if shift == "shrink-finger" else 0)


def test_the_published_slip_is_kept():
    assert adroit.build_hand("pen", "shrink-finger", "hard").body("lfdistal").pos[2] == 0.03125
    assert adroit.build_hand("pen", "shrink-finger", "medium").body("lfdistal").pos[2] == 0.00625
    assert adroit.build_hand("pen", "broken-joint", "hard").joint("THJ0").range.tolist() == [-0.19625, 0]


@pytest.mark.data
@pytest.mark.skipif(DATA is None, reason="set TABB_DATA to the folder of shifts.json")
def test_every_edit_equals_the_published_table():
    table = json.loads((Path(DATA) / "shifts.json").read_text())["adroit"]["shifts"]
    for level in LEVELS:
        joints = {(e["name"], tuple(e["base"]), tuple(e["value"][level])) for e in table["broken-joint"]["edits"]}
        assert {(e.name, e.base, e.value) for e in hand_edits("pen", "broken-joint", level)} == joints
        published = table["shrink-finger"]
        slips = {(e["name"], e["attr"]): e["value"] for e in published["exceptions"].get(level, [])}
        expected = {
            (e["element"], e["name"], e["attr"], e["index"]): slips.get(
                (e["name"], e["attr"]), pytest.approx(e["base"] * LEVELS[level], abs=1e-12)
            )
            for e in published["edits_times_scale"]
        }
        ours = {
            (e.element, e.name, e.attribute, e.index): e.value[0] for e in hand_edits("pen", "shrink-finger", level)
        }
        assert ours == expected
    scores = json.loads((Path(DATA) / "reference_scores.json").read_text())["odrl"]
    for task in MORE_TASKS.values():
        if task.shift is not None:
            assert scores[task.name] == {"random": task.random_return, "expert": task.expert_return}


@pytest.mark.parametrize("hand", HANDS)
def test_unshifted_steps_are_those_of_gymnasium_robotics(hand, monkeypatch):
    """But for the sign of the palm's distance, the pen's end and the nail's force."""
    monkeypatch.setattr(adroit, "base_edits", lambda hand: [])  # ODRL's two values are not theirs
    ours, theirs = make(hand, "native").unwrapped, THEIRS[hand]()
    np.testing.assert_array_equal(ours.reset(seed=4)[0], theirs.reset(seed=4)[0])
    generator = np.random.default_rng(0)
    for _ in range(12):
        action = generator.uniform(-1, 1, ours.action_space.shape).astype(np.float32)
        (seen, reward, _, _, info), (other, expected, _, _, told) = ours.step(action), theirs.step(action)
        palm = theirs.data.site("S_grasp").xpos
        thing = {
            "pen": palm,
            "door": theirs.data.site("S_handle" if hand == "door" else "S_grasp").xpos,
            "hammer": theirs.data.body("Object").xpos if hand == "hammer" else palm,
            "relocate": theirs.data.body("Object").xpos if hand == "relocate" else palm,
        }[hand]
        assert reward == pytest.approx(float(expected) - 0.2 * np.linalg.norm(palm - thing), abs=1e-10)
        other = np.r_[other[:-1], 0] if hand == "hammer" else other
        np.testing.assert_array_equal(seen, other)
        assert info["success"] == told["success"]


def test_the_pen_ends_where_it_drops():
    env = make("pen").unwrapped
    env.reset(seed=0)
    held = env.step(np.zeros(24))
    assert held[2] is False
    place = env.data.qpos.copy()
    place[-6] += 0.3  # beside the hand
    place[-4] += 0.05 - env.data.body("Object").xpos[2]
    env.set_state(place, 0 * env.data.qvel)
    _, reward, terminal, truncated, _ = env.step(np.zeros(24))
    assert (terminal, truncated) == (True, False)
    assert reward < -4


def test_an_open_door_is_paid_by_hand():
    env = make("door").unwrapped
    env.reset(seed=0)
    env.data.joint("door_hinge").qpos[0] = 1.4
    env.data.qvel[:] = 0.5
    away = np.linalg.norm(env.data.site("S_grasp").xpos - env.data.site("S_handle").xpos)
    reward, success = env._reward()
    assert reward == pytest.approx(-0.1 * away - 0.1 * 0.17**2 - 1e-5 * 30 * 0.25 + 20, abs=1e-12)
    assert success


def test_legacy_margins_and_masses():
    board = adroit.build_hand("hammer").geom("board").margin[0]
    assert board == 0.00025
    assert adroit.build_hand("hammer", engine="native").geom("board").margin[0] == 0
    for hand in HANDS:
        legacy, native = (adroit.build_hand(hand, engine=engine) for engine in ("legacy", "native"))
        np.testing.assert_array_equal(legacy.body_mass, native.body_mass)
        file = Path(gymnasium_robotics.__file__).parent / f"envs/assets/adroit_hand/adroit_{hand}.xml"
        spec = mujoco.MjSpec.from_file(str(file))
        cylinders, plain = _compile_with_cylinders(spec), spec.compile()
        for array in ("body_mass", "body_inertia", "body_ipos"):  # MuJoCo 2.1's rule for capsules has no effect here
            np.testing.assert_array_equal(getattr(cylinders, array), getattr(plain, array))
        halved = native.geom_margin / 2
        if hand == "hammer":
            halved[native.geom("board").id] = 0.00025
        np.testing.assert_allclose(legacy.geom_margin, halved, rtol=1e-12)


def test_tasks_are_made_and_cut_after_200_steps():
    env = make("relocate-broken-joint-hard")
    assert env.spec.id == "tabb-adroit/relocate-broken-joint-hard-v0"
    env.reset(seed=0)
    flags = [env.step(np.zeros(30))[2:4] for _ in range(200)]
    assert flags[-1] == (False, True)
    assert not any(sum(flag) for flag in flags[:-1])
    for name in ("pen", "hammer-shrink-finger-easy"):
        task, env = get_task(name), make(name)
        assert env.reset(seed=1)[0].shape == (task.observation_size,)
        assert env.action_space.shape == (task.action_size,)


def test_wrong_names():
    for wrong, message in (
        (("cup", None, None), "unknown robot 'cup': choose one of pen"),
        (("pen", "gravity", "easy"), "unknown shift 'gravity' of pen: choose one of broken"),
        (("pen", "broken-joint", "0.5"), "unknown level '0.5' of pen broken-joint: choose one of easy"),
    ):
        with pytest.raises(UsageError, match=message):
            hand_edits(*wrong)
    with pytest.raises(UsageError, match="unknown engine 'old'"):
        adroit.build_hand("pen", engine="old")
    with pytest.raises(UsageError, match="do not hold the whole state"):
        one_step("pen", np.zeros((1, 45)), np.zeros((1, 24)))
