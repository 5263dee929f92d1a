"""Actions in the robot's units: scaled by bounds that a file, option or argument states, found without."""

import dataclasses
import json

import gymnasium
import h5py
import numpy as np
import pytest

import tabb
from cart import cart
from command_line import refused, told
from tabb.cli import main
from tabb.data import Reading, load, read, save_npz, write_hdf5
from tabb.data.audit import audit
from tabb.errors import DataError, UsageError
from tabb.results.train_command import train_command
from tabb.training.checks import check_environment
from tabb.training.spec import RunSpec

LOW, HIGH = [-3.0, 0.0], [3.0, 0.5]


@pytest.fixture(scope="module")
def unit():
    """A log whose actions are in [-1, 1]."""
    log = cart(300, 1)
    second = np.random.default_rng(0).uniform(-1, 1, (300, 1))
    return log | {"actions": np.hstack([log["actions"], second]).astype(np.float32)}


@pytest.fixture(scope="module")
def newtons(unit):
    """The same in the robot's units."""
    low, high = np.array(LOW), np.array(HIGH)
    return unit | {"actions": (low + (unit["actions"].astype(np.float64) + 1) / 2 * (high - low)).astype(np.float32)}


def same(one, other):
    for name in ("observation", "reward", "next_observation", "terminal", "episode"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_allclose(one.action, other.action, atol=1e-6)


def test_arguments_attributes_and_keys_mean_the_same(unit, newtons, tmp_path):
    wanted = tabb.from_arrays(**newtons, action_low=LOW, action_high=HIGH)
    same(wanted, tabb.from_arrays(**unit))
    assert (wanted.action_bounds.low, wanted.action_bounds.high) == (tuple(LOW), tuple(HIGH))

    write_hdf5(tmp_path / "stated.hdf5", newtons, {"action_low": LOW, "action_high": HIGH})
    np.savez(tmp_path / "stated.npz", **newtons, action_low=LOW, action_high=HIGH)
    np.savez(tmp_path / "silent.npz", **newtons)
    with h5py.File(tmp_path / "keys.hdf5", "w") as file:
        for key, column in (newtons | {"action_low": LOW, "action_high": HIGH}).items():
            file[key] = column
    save_npz(tmp_path / "saved.npz", wanted)
    found = [load(tmp_path / name) for name in ("stated.hdf5", "stated.npz", "keys.hdf5", "saved.npz")] + [
        load(tmp_path / "silent.npz", action_low=LOW, action_high=HIGH)
    ]
    for one in found:
        np.testing.assert_array_equal(one.action, wanted.action)
        assert one.action_bounds == wanted.action_bounds
    report = read(tmp_path / "stated.hdf5").report
    assert "scaled to [-1, 1] from [-3, 3], [0, 0.5]" in str(report)
    assert json.dumps(report.to_dict())


def test_the_unit_box_is_no_bounds(unit):
    assert tabb.from_arrays(**unit, action_low=-1, action_high=1).action_bounds is None


def test_what_is_stated_counts_more_than_the_file(newtons, tmp_path):
    write_hdf5(tmp_path / "a.hdf5", newtons, {"action_low": LOW, "action_high": HIGH})
    report = read(tmp_path / "a.hdf5", action_low=-6, action_high=6).report
    assert report.action_bounds.low == (-6.0, -6.0)
    assert any("as stated, not [-3, 3], [0, 0.5] as in the file" in note for note in report.notes)


@pytest.mark.parametrize("door", ["arrays", "npz", "hdf5", "parquet", "store"])
def test_doubles_are_scaled_before_they_are_rounded(door, tmp_path, monkeypatch):
    """Float32 has 250,000,000 and then 250,000,016: ticks of a motor are in between."""
    monkeypatch.setenv("TABB_CACHE", str(tmp_path / "cache"))
    ticks = np.array([[2.5e8], [2.5e8 + 25], [2.5e8 + 50], [2.5e8 + 100], [2.5e8]])
    log = {"observations": np.arange(5.0)[:, None], "actions": ticks, "rewards": np.arange(5.0)}
    log |= {"terminals": np.arange(5) == 4}
    bounds = {"action_low": 2.5e8, "action_high": 2.5e8 + 100}
    if door == "arrays":
        found = tabb.from_arrays(**log, **bounds)
    elif door == "parquet":
        pa = pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
        from pyarrow import parquet

        parquet.write_table(pa.table({key: column.reshape(-1) for key, column in log.items()}), tmp_path / "a.parquet")
        found = load(tmp_path / "a.parquet", **bounds)
    elif door == "hdf5":
        with h5py.File(tmp_path / "a.hdf5", "w") as file:
            for key, column in log.items():
                file[key] = column
        found = load(tmp_path / "a.hdf5", **bounds)
    else:
        np.savez(tmp_path / "a.npz", **log)
        found = load(tmp_path / "a.npz", **bounds, store=door == "store")
    assert found.action[:, 0].tolist() == [-1, -0.5, 0, 1, -1]
    assert found.action.dtype == np.float32


def test_rounding_at_the_bounds_is_no_error():
    log = cart(60)
    log["actions"] = np.where(log["actions"] > 0, np.float32(100.3), np.float32(100.1))
    data = tabb.from_arrays(**log, action_low=100.1, action_high=100.3)
    assert set(np.unique(data.action)) == {-1.0, 1.0}


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        ([-1, -1], None, "action_high: is missing"),
        ([-3, 0, 0], 3, "action_low: has 3 numbers, but actions have 2 entries"),
        (3, -3, "give low < high"),
        ([-1, 0], [1, 1], r"actions: row \d+, column 0 is .*, outside its bounds \[-1, 1\]"),
    ],
)
def test_bounds_that_do_not_fit(newtons, low, high, words):
    with pytest.raises(DataError, match=words):
        tabb.from_arrays(**newtons, action_low=low, action_high=high)


def test_what_is_no_bound(newtons):
    with pytest.raises(UsageError, match="action_low is nine; give a number"):
        tabb.from_arrays(**newtons, action_low="nine", action_high=1)


def test_attributes_that_are_no_bounds(newtons, tmp_path):
    path = tmp_path / "a.hdf5"
    write_hdf5(path, newtons, {"action_low": LOW, "action_high": HIGH})
    with h5py.File(path, "a") as file:
        file.attrs["action_low"] = "[low"
    with pytest.raises(DataError, match=r"action_low: is '\[low'; store a number"):
        load(path)


def test_files_of_other_bounds_are_not_joined(unit, newtons, tmp_path):
    write_hdf5(tmp_path / "a.hdf5", newtons, {"action_low": LOW, "action_high": HIGH})
    write_hdf5(tmp_path / "b.hdf5", unit)
    with pytest.raises(DataError, match=r"the bounds of actions are \[-1, 1\] but \[-3, 3\], \[0, 0.5\]"):
        load(f"{tmp_path}/a.hdf5+{tmp_path}/b.hdf5")
    joined = load(f"{tmp_path}/a.hdf5+{tmp_path}/a.hdf5")
    assert joined.action_bounds == load(tmp_path / "a.hdf5").action_bounds
    with pytest.raises(DataError, match="join only data of one action space"):
        tabb.transitions.concatenate(load(tmp_path / "a.hdf5"), load(tmp_path / "b.hdf5"))


def test_saved_transitions_are_scaled_already(newtons, tmp_path):
    save_npz(tmp_path / "a.npz", tabb.from_arrays(**newtons, action_low=LOW, action_high=HIGH))
    with pytest.raises(DataError, match=r"was scaled by the bounds .* before it was saved"):
        load(tmp_path / "a.npz", action_low=-5, action_high=5)
    save_npz(tmp_path / "a.npz", load(tmp_path / "a.npz"))  # tabb's own file may be replaced


def test_describe_shows_unscaled_columns(newtons, tmp_path, capsys):
    np.savez(tmp_path / "a.npz", **newtons)
    assert main(["data", "describe", str(tmp_path / "a.npz")]) == 3
    text = capsys.readouterr().out
    low, high = newtons["actions"].min(axis=0), newtons["actions"].max(axis=0)
    assert f"action   0 {low[0]:.6g} to {high[0]:.6g}" in text
    assert f"action   1 {low[1]:.6g} to {high[1]:.6g}" in text
    assert "outside [-1, 1]" in text
    assert "300 in the file" in text
    assert main(["data", "describe", str(tmp_path / "a.npz"), "--json"]) == 3
    (entry,) = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(entry["unscaled_actions"]["max"], high, rtol=1e-6)
    bounds = ["--action-low", "-3", "0", "--action-high", "3", "0.5"]
    text = told(capsys, "data", "describe", tmp_path / "a.npz", "--columns", *bounds)
    assert "scaled to [-1, 1] from [-3, 3], [0, 0.5]" in text
    assert f"max {high[1]:10.4g}" in text  # in the robot's units


def test_the_audit_finds_unscaled_columns(unit, newtons, tmp_path, capsys):
    np.savez(tmp_path / "a.npz", **newtons)
    found = {finding.code: finding for finding in audit(tmp_path / "a.npz").findings}["action-range"]
    assert "column 0 spans [-2.9" in found.what
    assert "column 1" not in found.what  # [0, 0.5] lies inside [-1, 1]
    # The same as a bare number that nobody can refuse.
    np.savez(tmp_path / "b.npz", **unit | {"actions": unit["actions"] * [1, 0.1]})
    np.savez(tmp_path / "c.npz", **unit | {"actions": np.abs(unit["actions"]) * [1, -1]})
    (small,), (signs,) = (
        [finding for finding in audit(tmp_path / name).findings if finding.code == "action-scale"]
        for name in ("b.npz", "c.npz")
    )
    assert (small.level, small.what) == ("note", "columns 1 never exceed 0.1 in size")
    assert signs.what == "columns 0-1 never change their sign"
    assert not any(
        f.code in ("action-range", "action-scale")
        for f in audit(tmp_path / "a.npz", action_low=LOW, action_high=HIGH).findings
    )
    wrong = audit(tmp_path / "a.npz", action_low=-1, action_high=1.5).findings[0]
    assert "outside [-1, 1.5]; column 0 spans" in wrong.what
    code = main(["audit", str(tmp_path / "a.npz"), "--action-low", "-3", "0", "--action-high", "3", "0.5"])
    assert code == 0


def test_training_keeps_the_bounds(newtons, tmp_path, capsys):
    """A run on data in other units is the run on scaled ones, and its policy acts in these units wherever it goes."""
    np.savez(tmp_path / "a.npz", **newtons)
    data = ["--source", tmp_path / "a.npz", "--target", tmp_path / "a.npz", "--progress", "none"]
    small = ["--updates", "4", "--evaluations", "0", "--held-out", "0"]
    small += ["--backbone.hidden", "8", "--backbone.batch-size", "8", "--backbone.policies", "1"]
    bounds = ["--action-low", "-3", "0", "--action-high", "3", "0.5"]
    told(capsys, "train", "target-only", *data, *small, *bounds, "--out", tmp_path / "runs")
    policy = tabb.Policy.load(tmp_path / "runs" / "seed0")
    scaled = tabb.from_arrays(**newtons, action_low=LOW, action_high=HIGH)
    assert policy.action_bounds == scaled.action_bounds
    (run,) = tabb.train(
        tabb.TargetOnly(),
        None,
        tabb.from_arrays(**newtons | {"actions": scaled.action}),
        backbone=tabb.IQL(policies=1, hidden=(8,), batch_size=8),
        settings=tabb.Settings(updates=4, evaluations=0, held_out=0),
    )
    seen = scaled.observation[:50]
    np.testing.assert_array_equal(policy.act_scaled(seen), run.policy.act(seen))
    np.testing.assert_array_equal(policy.act(seen), scaled.action_bounds.restored(run.policy.act(seen)))
    # What was stated is part of the run, and of the command that repeats it.
    config = json.loads((tmp_path / "runs" / "seed0" / "config.json").read_text())
    assert config["origin"]["reading"] == {"action_low": [-3.0, 0.0], "action_high": [3.0, 0.5]}
    spec = RunSpec.from_config(config)
    assert RunSpec.from_json(spec.to_json()) == spec
    assert "--action-low -3 0 --action-high 3 0.5" in train_command(spec, [0])
    named = dataclasses.replace(spec, reading=Reading(names={"observations": ["q_*", "dq_*"]}))
    assert RunSpec.from_json(named.to_json()) == named
    assert "--names.observations 'q_*' 'dq_*'" in train_command(named, [0])
    code, line = refused(capsys, "train", "target-only", *data, *small, "--out", tmp_path / "other")
    assert code == 3
    assert "action_low and action_high" in line


def test_domains_of_other_bounds_are_doubted(unit, newtons):
    source, target = tabb.from_arrays(**unit), tabb.from_arrays(**newtons, action_low=LOW, action_high=HIGH)
    (warning,) = [line for line in tabb.data.check_domains(source, target) if "scaled from" in line]
    assert "from [-1, 1] in the source and from [-3, 3], [0, 0.5] in the target" in warning


def test_the_environment_has_the_bounds_of_the_data(unit, newtons):
    class Cart(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
        action_space = gymnasium.spaces.Box(np.float32(LOW), np.float32(HIGH))

        def reset(self, *, seed=None, options=None):
            return np.zeros(2, np.float32), {}

        def step(self, action):
            assert self.action_space.contains(action)
            return np.zeros(2, np.float32), 0.0, False, True, {}

    check_environment(Cart, tabb.from_arrays(**newtons, action_low=LOW, action_high=HIGH))
    with pytest.raises(UsageError, match=r"lie in \[-3, 3\], \[0, 0.5\], but those of the policy in \[-1, 1\]"):
        check_environment(Cart, tabb.from_arrays(**unit))


def test_a_task_takes_the_unit_box():
    actions = np.random.default_rng(0).uniform(-2, 2, (20, 3))
    log = {"observations": np.zeros((20, 11)), "actions": actions, "rewards": np.arange(20)}
    data = tabb.from_arrays(**log, episodes=np.arange(20) // 10, action_low=-2, action_high=2)
    with pytest.raises(UsageError, match=r"task hopper takes actions in \[-1, 1\], and these are in \[-2, 2\]"):
        tabb.train(tabb.TargetOnly(), None, data, task="hopper", settings=tabb.Settings(updates=1, evaluations=0))
