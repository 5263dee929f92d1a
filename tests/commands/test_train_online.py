"""`tabb train --online...`: which domains have logged rows, which are stepped in, and how such a run is named again."""

import dataclasses
import json

import pytest

import cart
from command_line import FOLDER, refused, told
from tabb.commands import carry_out
from tabb.commands.carry_out import jobs_for
from tabb.commands.train_options import parse_train, place_of, specs_of
from tabb.data import save_npz
from tabb.data.arrays import from_arrays
from tabb.results.train_command import train_command
from tabb.training.folder import RunFolder
from tabb.training.spec import RunSpec

SMALL = ["--updates", "12", "--evaluations", "1", "--episodes", "1", "--progress", "none"]
TINY = ["--backbone.hidden", "8", "--backbone.batch-size", "8"]
STEPS = ["--online.target-steps", "14", "--online.warm-up", "8"]
LOG = str(FOLDER / "hopper_medium.hdf5")


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "cart.npz"
    rows = cart.cart(1_000)
    names, ends = ("observations", "actions", "rewards"), ("terminals", "timeouts", "next_observations")
    save_npz(file, from_arrays(*(rows[name] for name in names), **{name: rows[name] for name in ends}))
    return str(file)


def spec_of(*arguments):
    learners, options = parse_train([arguments[0]], arguments[1:])
    (spec,) = specs_of(learners[0], options, place_of(options, learners))
    return spec


def test_runs_that_step_in_what_may_be_a_robot_follow_one_another(monkeypatch):
    monkeypatch.setattr(carry_out, "jobs_of", lambda asked: asked or 7)
    robot = spec_of("target-only@sac", "--env", "cart:Cart-v0", *STEPS)
    simulated = spec_of("target-only@sac", "--task", "hopper", *STEPS)
    assert jobs_for([simulated, robot], None) == 1
    assert jobs_for([simulated, robot], 2) == 2
    assert jobs_for([simulated, simulated], None) == 7


def test_a_run_from_the_command_line_and_again(log, tmp_path, capsys):
    """Logged source rows and target steps: trained, told, resumed where it is finished, and named by a command."""
    words = ["pooled@sac", "--source", log, "--env", "cart:Cart-v0", *STEPS, *SMALL, *TINY]
    told(capsys, "train", *words, "--out", tmp_path / "out")
    folder = RunFolder(tmp_path / "out" / "seed0")
    assert json.loads(folder.result_file.read_text())["steps"] == {"target": 14}
    config = folder.config()
    assert config["data"]["steps"] == {"target": "Cart-v0"}
    told(capsys, "train", "--resume", tmp_path / "out")
    spec = RunSpec.from_config(config)
    assert spec.target is None
    assert spec == dataclasses.replace(spec_of(*words), settings=spec.settings)
    command = train_command(spec, [0]).split()
    assert command[:3] == ["tabb", "train", "pooled@sac"]
    again = spec_of(*command[2:])
    assert (again.source, again.target, again.env, again.settings.online) == (
        spec.source,
        None,
        spec.env,
        spec.settings.online,
    )


@pytest.mark.parametrize(
    ("words", "source", "target"),
    [
        (["--source", LOG, *STEPS], True, False),  # offline source, online target
        (["--target", LOG, "--online.source-steps", "9"], False, True),  # online source, offline target
        ([*STEPS, "--online.source-steps", "9"], False, False),  # both online
        (["--source", LOG, "--target", LOG, *STEPS], True, True),  # steps beside logged rows
    ],
)
def test_the_modes(words, source, target):
    spec = spec_of("pooled@sac", *words, "--task", "hopper-gravity-0.5")
    assert (spec.source is not None, spec.target is not None) == (source, target)


def test_without_a_task_steps_are_taken_in_the_demos():
    spec = spec_of("pooled@sac", *STEPS)
    assert spec.task == "hopper-gravity-0.5"
    assert spec.source is not None
    assert spec.target is None


def test_a_policy_that_imitates_takes_all_rows_where_steps_are_taken():
    assert spec_of("pooled", *STEPS).settings.imitation.plain
    assert not spec_of("pooled").settings.imitation.plain


def test_a_run_goes_on_from_another_one_by_either_word():
    for word in ("--start", "--from"):
        _, options = parse_train(["pooled"], [*STEPS, word, "runs/offline"])
        assert str(options.start) == "runs/offline"


def test_what_the_command_refuses(log, capsys, tmp_path):
    _, said = refused(capsys, "train", "pooled@sac", "--online.lanes", "4")
    assert "--online.lanes: changes nothing here; it counts with --online.target-steps or --online.source-steps" in said
    _, said = refused(capsys, "train", "pooled@sac", *STEPS, "--online.refits", "2")
    assert "--online.refits: pooled@sac fits no models again along the run; leave it out, or train a rule that" in said
    _, said = refused(capsys, "train", "pooled", "rlpd", *STEPS, "--online.refits", "2")
    assert "--online.refits: pooled and rlpd fit no models again" in said
    _, said = refused(capsys, "train", "pooled", "--backbone.optimised.kept", "4")
    assert "it counts with --backbone.extraction optimised" in said
    _, said = refused(capsys, "train", "pooled@sac", "--source", log, "--task", "none", *STEPS, "--out", tmp_path / "a")
    assert "there is no environment to take them in; name a task, or give env_factory (--env)" in said
    words = ["--source", log, "--target", log, "--env", "cart:Cart-v0", *STEPS, *SMALL]
    _, said = refused(capsys, "train", "pooled@sac", *words, "--online.source-steps", "5", "--out", tmp_path / "b")
    assert "online source_steps=5: there is no environment to take them in" in said
    _, said = refused(capsys, "train", "source-only@sac", *words, "--out", tmp_path / "c")
    assert "rule source-only draws no target rows; leave target_steps out" in said
