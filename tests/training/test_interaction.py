"""Runs that take steps: budgets to the step, what batches hold, resumed as if never stopped, what is refused."""

import json

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tabb
from cart import Cart, cart
from tabb.backbones import SAC, own_backbone
from tabb.environments.running_episodes import world_of_environment
from tabb.errors import UsageError
from tabb.rules import (
    BCSAC,
    DARA,
    DARC,
    H2O,
    PAR,
    PARL,
    PTR,
    RLPD,
    Pooled,
    SACTune,
    SourceOnly,
    TargetOnly,
    VGDFOnline,
)
from tabb.rules.finetune import FineTune
from tabb.training import Settings, train
from tabb.training.config import settings_from
from tabb.training.drawing import draw, pack_data
from tabb.training.folder import RunFolder
from tabb.training.loop import Program
from tabb.training.online import Online, step_plan
from tabb.training.result import switch
from tabb.training.worlds import check_online, check_rows, in_units_of

TINY = SAC(hidden=(8,), batch_size=8)


@pytest.fixture(scope="module")
def logged():
    log = cart(1_000)
    names, ends = ("observations", "actions", "rewards"), ("terminals", "timeouts", "next_observations")
    return tabb.from_arrays(*(log[name] for name in names), **{name: log[name] for name in ends})


def settings(updates=24, online=None, **changes):
    return Settings(
        **{
            "updates": updates,
            "evaluations": 0,
            "backbone": TINY,
            "online": online or Online(target_steps=30, warm_up=8),
        }
        | changes
    )


# --- Plans ---


@pytest.mark.parametrize(
    ("steps", "updates", "lanes", "warm_up"),
    [(40, 40, 1, 8), (7, 40, 1, 0), (100, 24, 3, 10), (5, 9, 2, 8), (1, 5, 1, 0)],
)
def test_a_plan_takes_exactly_its_steps_evenly(steps, updates, lanes, warm_up):
    plan = step_plan(
        Program(TINY, TargetOnly(), updates), "target", Online(target_steps=steps, lanes=lanes, warm_up=warm_up)
    )
    due = [plan.due(number) for number in range(updates)]
    assert due[-1] == steps
    assert due[0] >= max(1, min(warm_up, steps))  # a batch is drawn from something
    rest = steps - plan.warm_up
    for number, count in enumerate(due):
        even = plan.warm_up + rest * (number + 1) / updates
        assert even - 1e-9 <= count <= even + 2 * lanes + rest / updates
    assert all((count - plan.warm_up) % lanes == 0 for count in due if count < steps), "no lane waits for the others"


def test_steps_are_taken_where_their_rows_are_drawn():
    """Of fine-tuning: the source's in the first half of the run, the target's in the second, by the policy."""
    program = Program(TINY, FineTune(source_updates=0.5), 20)
    online = Online(target_steps=10, source_steps=30, warm_up=5)
    source, target = (step_plan(program, domain, online) for domain in ("source", "target"))
    assert [source.due(number) for number in (0, 9, 19)] == [8, 30, 30]
    assert [target.due(number) for number in (9, 10, 19)] == [0, 1, 10]
    assert (source.warm_up, target.warm_up) == (5, 0)


@pytest.mark.parametrize("rule", [SACTune, FineTune, RLPD, BCSAC, DARC, H2O, PAR, PARL, VGDFOnline, Pooled])
def test_rules_for_steps_take_them_in_both_domains(rule):
    plan = settings(online=Online(target_steps=5, source_steps=5))
    check_online(plan, rule(), own_backbone(rule), {"source": None, "target": None})


@pytest.mark.slow
def test_sac_is_tuned_by_steps_in_the_target_after_those_in_the_source(tmp_path):
    plan = settings(12, Online(target_steps=7, source_steps=9, warm_up=4))
    rule = SACTune(source_updates=0.5)
    train(rule, None, None, settings=plan, env_factory=Cart, source_env=Cart, folder=tmp_path)
    assert json.loads((tmp_path / "seed0" / "result.json").read_text())["steps"] == {"source": 9, "target": 7}


# --- Rows ---


def test_batches_hold_no_row_that_is_not_there_yet(domains):
    data = pack_data(domains, {})
    here, there = len(domains.source), len(domains.target)
    marked = data.rows.matrix.at[4:here].set(-77.0).at[here + 9 :].set(-77.0)
    data = data._replace(rows=data.rows._replace(matrix=marked), filled=jnp.array([4, 9], jnp.int32))
    batch = jax.jit(draw, static_argnums=1)(data, (200, 300), jax.random.key(0))
    assert not (batch.reward == -77.0).any()
    assert set(np.unique(batch.reward[:200])) == set(np.asarray(domains.source.reward[:4]))
    assert set(np.unique(batch.reward[200:])) == set(np.asarray(domains.target.reward[:9]))
    assert there > 9


def test_the_steps_of_a_run_are_counted_and_kept(tmp_path):
    (run,) = train(TargetOnly(), None, None, settings=settings(), env_factory=Cart, folder=tmp_path)
    folder = RunFolder(tmp_path / "seed0")
    lines = folder.metrics()
    steps = [line["target_steps"] for line in lines if line["kind"] == "training"]
    assert steps[-1] == 30
    assert steps == sorted(steps)
    ended = sum(sum(line["lengths"]) for line in lines if line["kind"] == "target-episodes")
    assert 0 < ended <= 30
    assert json.loads(folder.result_file.read_text())["steps"] == {"target": 30}
    with np.load(folder.checkpoint_file) as file:
        leaves = [file[name] for name in file.files if name.startswith("leaf")]
    (rows,) = (leaf for leaf in leaves if leaf.shape == (30, 7))
    place, speed, push, reward, after, _, ended = rows.T
    np.testing.assert_allclose(after, place + 0.2 * (0.98 * speed + 0.2 * push), atol=1e-6)
    np.testing.assert_allclose(reward, 1 - abs(after), atol=1e-6)
    assert (abs(push) <= 1).all()
    assert not ended[:8].any()
    again = tabb.load(tmp_path / "seed0" / "target-steps.npz")
    assert len(again) == 30
    np.testing.assert_allclose(np.sort(again.reward), np.sort(reward))
    inside = np.asarray(again.episode)[1:] == np.asarray(again.episode)[:-1]
    np.testing.assert_array_equal(again.next_observation[:-1][inside], again.observation[1:][inside])
    # No logged row says how to normalise: the first steps do.
    np.testing.assert_allclose(run.policy.mean, rows[:8, :2].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("lanes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_takes_the_same_steps(lanes, tmp_path, monkeypatch):
    """Killed after the checkpoint in the middle of an episode; both ends are the same, bit for bit."""
    plan = settings(20, Online(target_steps=26, source_steps=22, lanes=lanes, warm_up=8), evaluations=2, episodes=1)
    arguments = {"task": "hopper-gravity-0.5", "settings": plan}
    (whole,) = train(Pooled(), None, None, folder=tmp_path / "whole", **arguments)
    save = RunFolder.save

    def killed(folder, state, update, *others):
        save(folder, state, update, *others)
        if update == 10:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train(Pooled(), None, None, folder=tmp_path / "killed", **arguments)
    (again,) = train(Pooled(), None, None, folder=tmp_path / "killed", resume=True, **arguments)
    for one, other in zip(whole.policy.weights, again.policy.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    first, second = (RunFolder(tmp_path / name / "seed0") for name in ("whole", "killed"))
    with np.load(first.checkpoint_file) as a, np.load(second.checkpoint_file) as b:
        for name in a.files:
            if name != "header":
                np.testing.assert_array_equal(a[name], b[name])
    steps = tabb.data.read([first.steps_file("target")])
    ends = steps.transitions.terminal[list(steps.report.episode_ends)]
    assert steps.report.unfinished == tuple(np.flatnonzero(ends == 0)), "none reaches the time limit"
    assert 0 < len(steps.report.unfinished) <= lanes
    untimed = [[line | {"rate": 0} for line in folder.metrics()] for folder in (first, second)]
    assert untimed[0] == untimed[1]


def test_a_robots_run_goes_on_in_a_new_episode_and_says_so(tmp_path, monkeypatch, capsys):
    save = RunFolder.save

    def killed(folder, state, update, *others):
        save(folder, state, update, *others)
        raise KeyboardInterrupt

    arguments = {"settings": settings(evaluations=2, episodes=1), "env_factory": Cart, "folder": tmp_path}
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train(TargetOnly(), None, None, **arguments)
    train(TargetOnly(), None, None, resume=True, progress="lines", **arguments)
    assert "the episodes in Cart could not be gone on with: new ones begin" in capsys.readouterr().err
    lines = RunFolder(tmp_path / "seed0").metrics()
    assert [line["target_steps"] for line in lines if line["kind"] == "training"][-1] == 30


def test_a_run_with_source_steps_beside_a_log_holds_nothing_out_and_goes_on(logged, tmp_path):
    """By default a fifth of a target without rollouts is held out, and steps refuse that as the run goes on."""
    plan = settings(online=Online(source_steps=30, warm_up=8), evaluations=1)
    arguments = {"settings": plan, "source_env": Cart, "folder": tmp_path}
    (run,) = train(Pooled(), None, logged, **arguments)
    told = RunFolder(tmp_path / "seed0").config()["settings"]
    assert told["held_out"] == 0.0
    (again,) = train(Pooled(), None, logged, **arguments | {"settings": settings_from({"settings": told})}, resume=True)
    np.testing.assert_array_equal(run.policy.weights[0], again.policy.weights[0])


@pytest.mark.slow
def test_logged_source_rows_and_target_steps_share_the_batches(logged, tmp_path):
    """The normaliser is that of the logged rows; the run is finished, read back and started from."""
    (run,) = train(Pooled(), logged, None, settings=settings(), env_factory=Cart, folder=tmp_path / "one")
    np.testing.assert_allclose(run.policy.mean, np.asarray(logged.observation).mean(axis=0), atol=1e-5)
    (again,) = train(
        Pooled(), logged, None, settings=settings(), env_factory=Cart, folder=tmp_path / "one", resume=True
    )
    np.testing.assert_array_equal(run.policy.weights[0], again.policy.weights[0])
    arguments = {"settings": settings(), "env_factory": Cart, "start": tmp_path / "one", "folder": tmp_path / "two"}
    (on,) = train(TargetOnly(), None, None, **arguments)
    told = json.loads((tmp_path / "two" / "seed0" / "result.json").read_text())["switch"]
    assert told["before"] is None
    assert (told["first_steps"] is None) == (told["episodes"] == 0)
    np.testing.assert_array_equal(on.policy.mean, run.policy.mean)  # without logged rows it sees what that run saw


def test_the_drop_at_the_switch_by_hand():
    """Three episodes ended in the first 10,000 steps, before them the policy returned 7 and 9.

    A long run tells of many steps at once, of which some come later. One of an earlier version does not tell when each
    episode ended.
    """
    lines = [
        {"kind": "training", "update": 1},
        {"kind": "target-episodes", "steps": 100, "returns": [2.0]},
        {"kind": "source-episodes", "steps": 100, "returns": [90.0]},
        {"kind": "target-episodes", "steps": 20_000, "returns": [4.0, 6.0, 70.0], "ends": [9_000, 10_000, 10_001]},
        {"kind": "target-episodes", "steps": 20_001, "returns": [50.0]},
    ]
    assert switch(lines, [7.0, 9.0]) == {"before": 8.0, "first_steps": 4.0, "episodes": 3, "steps": 10_000}
    assert switch([], None) == {"before": None, "first_steps": None, "episodes": 0, "steps": 10_000}


@pytest.mark.slow
def test_sac_learns_to_come_to_the_middle():
    learner = SAC(hidden=(32, 32), batch_size=64, learning_rate=3e-3)
    online = Online(target_steps=1_500, warm_up=200)
    plan = Settings(updates=1_500, evaluations=1, episodes=6, backbone=learner, online=online)
    (run,) = train(TargetOnly(), None, None, settings=plan, env_factory=Cart)
    assert run.score is not None
    assert run.score > 17  # of 20; standing still is 8


# --- What is refused ---


@pytest.mark.parametrize(
    ("rule", "arguments", "says"),
    [
        (TargetOnly(), {}, "there is no environment to take them in; name a task, or give env_factory"),
        (SourceOnly(), {"env_factory": Cart}, "target_steps=30: rule source-only draws no target rows"),
        (DARA(), {"env_factory": Cart}, "rule dara fits models to target rows before training, and there are none"),
        (
            Pooled(),
            {"env_factory": Cart, "source_env": Cart},
            "source_env: no steps are taken in it; say how many as online source_steps",
        ),
        (
            DARA(),
            {"env_factory": Cart, "source_env": Cart, "settings": settings(online=Online(source_steps=5))},
            "online source_steps: rule dara computes numbers of each source row before training",
        ),
        (
            PTR(),
            {"env_factory": Cart},
            "online target_steps: rule ptr computes numbers of each target row before training",
        ),
        (
            TargetOnly(),
            {"env_factory": Cart, "settings": settings(held_out=0.2)},
            "held_out=0.2: steps are not held out",
        ),
        (
            TargetOnly(),
            {"env_factory": Cart, "settings": settings(imitation=tabb.Imitation(best=0.5), backbone=tabb.IQL())},
            "are of logged rows alone",
        ),
    ],
)
def test_what_does_not_go_with_steps(rule, arguments, says, logged):
    with pytest.raises(UsageError) as caught:
        train(rule, logged, None, **{"settings": settings()} | arguments)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_environment_of_another_size_is_refused(pair):
    with pytest.raises(UsageError, match="has 2 observation and 1 action entries, the target data 3 and 2"):
        train(TargetOnly(), None, pair[1], settings=settings(), env_factory=Cart)


class Decimal(Cart):
    """Its bounds in float32 are not quite the 0.1 that its log states."""

    action_space = gymnasium.spaces.Box(-0.1, 0.1, (1,))


def test_bounds_that_differ_by_rounding_are_the_same():
    log = cart(40)
    columns = {name: log[name] for name in ("terminals", "timeouts", "next_observations")}
    rows = tabb.from_arrays(
        log["observations"], 0.1 * log["actions"], log["rewards"], **columns, action_low=-0.1, action_high=0.1
    )
    worlds, given = {"target": world_of_environment(Decimal)}, {"source": rows[:0], "target": rows}
    assert worlds["target"].action_bounds != rows.action_bounds
    check_rows(TargetOnly(), TINY, given, worlds)
    assert in_units_of(worlds, given)["target"].action_bounds == rows.action_bounds
    assert in_units_of(worlds, given | {"target": rows[:0]}) == worlds
    with pytest.raises(UsageError, match=r"takes actions in \[-1, 1\], those of the target data are in \[-0.1, 0.1\]"):
        check_rows(TargetOnly(), TINY, given, {"target": world_of_environment(Cart)})


@pytest.mark.parametrize("wrong", [{"target_steps": -1}, {"lanes": 0}, {"warm_up": -1}])
def test_wrong_numbers_of_steps(wrong):
    with pytest.raises(UsageError, match=f"online {next(iter(wrong))}="):
        Online(**wrong)
