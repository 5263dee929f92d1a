"""Rules whose models are fitted again as steps come in: when, to which rows, what is then said of each, and resumed."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

import tabb
from cart import Cart, cart
from tabb.backbones import IQL, TD3BC
from tabb.errors import UsageError
from tabb.rules import TABB, AgreedShift, LatentPredictor, ResidualPredictor, Rule, TargetOnly, ValueNoise
from tabb.rules.rule import on_source, row_by_row
from tabb.training import Settings, train
from tabb.training.folder import RunFolder
from tabb.training.interaction import InteractingUpdates
from tabb.training.loop import Program
from tabb.training.online import Online, step_plan
from tabb.training.refits import BLOCK, refit_numbers

TINY = TD3BC(hidden=(8,), batch_size=8)


@dataclasses.dataclass(frozen=True)
class Centred(Rule):
    """Weighs source rows by how far their reward is from the mean of the target's, which is its model."""

    name: ClassVar[str] = "centred"
    fits_again: ClassVar[bool] = True

    def prepare(self, domains, key, report):
        return jnp.stack([jnp.mean(domains.target.reward), jnp.asarray(len(domains.source), jnp.float32)])

    def template(self, domains, key):
        return jnp.zeros(2)

    @row_by_row
    def columns(self, models, domains):
        return {"away": jnp.abs(domains.source.reward - models[0])}

    @row_by_row
    def target_columns(self, models, domains):
        return {"sum": domains.target.reward + jnp.sum(domains.target.observation, axis=1)}

    def weigh(self, step):
        weights, _ = super().weigh(step)
        away, known = step.batch.columns["away"], jnp.abs(step.batch.reward[:4] - step.models[0])
        target = step.batch.target_columns["sum"] - step.batch.reward[4:] - jnp.sum(step.batch.observation[4:], axis=1)
        return weights._replace(critic=on_source(step.batch, jnp.exp(-away), 1.0)), {
            "mistaken": jnp.max(jnp.abs(away - known)) + jnp.max(jnp.abs(target)),
            "mean": step.models[0],
        }


def logs(rows, **cart_of):
    log = cart(rows, **cart_of)
    names, ends = ("observations", "actions", "rewards"), ("terminals", "timeouts", "next_observations")
    return tabb.from_arrays(*(log[name] for name in names), **{name: log[name] for name in ends})


def settings(online, updates=24, **changes):
    return Settings(**{"updates": updates, "evaluations": 0, "backbone": TINY, "online": online} | changes)


def test_fits_come_after_equal_growth_by_hand():
    """100 rows become 1,590, ten an update: three fits in between, from 199.7, 398.7 and 796.2 rows on."""
    online = Online(target_steps=1_500, warm_up=0, refits=3)
    plan = step_plan(Program(TINY, TargetOnly(), 150), "target", online)
    logged = {"source": 500, "target": 90}  # 10 steps come before the first update
    assert refit_numbers({"target": plan}, {"source": 500, "target": 90}, online) == (10, 30, 70)
    assert [90 + plan.due(number) for number in (0, 9, 10, 29, 30, 70)] == [100, 190, 200, 390, 400, 800]
    assert refit_numbers({"target": plan}, logged, dataclasses.replace(online, refits=0)) == ()
    assert refit_numbers({"target": plan}, logged | {"target": 0}, dataclasses.replace(online, refits=0)) == (0,)


def test_the_target_says_when_and_the_source_where_it_alone_grows():
    online = Online(target_steps=30, source_steps=300, warm_up=0, refits=1)
    plans = {domain: step_plan(Program(TINY, Centred(), 30), domain, online) for domain in ("source", "target")}
    rows = {"source": 90, "target": 9}
    assert refit_numbers(plans, rows, online) == (10,)  # 10 rows become 39: a fit at 19.7
    assert refit_numbers({"source": plans["source"]}, rows, online) == (10,)  # 100 become 390: one at 197.5


@pytest.mark.slow
@pytest.mark.parametrize("without", ["neither", "target", "both"])
def test_models_and_what_they_say_follow_the_rows(without, tmp_path):
    """Each batch's numbers are those of its rows by the models of the moment, whether logged or of a step."""
    source, target = (None, None) if without == "both" else (logs(300), None if without == "target" else logs(100))
    online = Online(target_steps=50, source_steps=0 if without == "target" else 3 * BLOCK, warm_up=9, refits=2)
    where = {"env_factory": Cart, "source_env": Cart if online.source_steps else None}
    (run,) = train(Centred(), source, target, settings=settings(online), folder=tmp_path, **where)
    lines = RunFolder(tmp_path / "seed0").metrics()
    training = [line for line in lines if line["kind"] == "training"]
    assert len({line["mean"] for line in training}) > 2
    assert max(line["mistaken"] for line in training) < 1e-5
    fits = [line for line in lines if line["kind"] == "refit"]
    assert [fit["update"] == 0 for fit in fits] == ([False, False] if without == "neither" else [True, False, False])
    steps = tabb.load(tmp_path / "seed0" / "target-steps.npz")
    logged = 0 if target is None else len(target)
    taken = fits[-1]["target_rows"] - logged
    assert 9 < taken < 50
    assert fits[-1]["source_rows"] == run.learned.models[1]
    # With one episode at a time the log has the steps in their order.
    rewards = np.concatenate([np.zeros(0) if target is None else target.reward, steps.reward[:taken]])
    assert float(run.learned.models[0]) == pytest.approx(rewards.mean(), rel=1e-5)


def test_a_run_that_was_killed_fits_the_same_again(tmp_path, monkeypatch):
    """What blocks of steps were said to be is no part of the checkpoint, and is the same bit for bit."""
    plan = settings(Online(target_steps=26, source_steps=60, warm_up=8, refits=3), 20, evaluations=2, episodes=1)
    arguments = {"task": "hopper-gravity-0.5", "settings": plan}
    data, call = {}, InteractingUpdates.__call__

    def kept(self, *words):
        done = call(self, *words)
        data[place] = self._data
        return done

    save = RunFolder.save

    def killed(folder, state, update, *others):
        save(folder, state, update, *others)
        raise KeyboardInterrupt

    monkeypatch.setattr(InteractingUpdates, "__call__", kept)
    place = "whole"
    (whole,) = train(Centred(), None, None, folder=tmp_path / "whole", **arguments)
    place = "killed"
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train(Centred(), None, None, folder=tmp_path / "killed", **arguments)
    (again,) = train(Centred(), None, None, folder=tmp_path / "killed", resume=True, **arguments)
    first, second = (RunFolder(tmp_path / name / "seed0") for name in ("whole", "killed"))
    for file in ("checkpoint_file", "prepared_file"):
        with np.load(getattr(first, file)) as a, np.load(getattr(second, file)) as b:
            for name in a.files:
                if name != "header":
                    np.testing.assert_array_equal(a[name], b[name])
    for part in ("columns", "target_columns"):
        one, other = (getattr(data[name], part).matrix for name in ("whole", "killed"))
        np.testing.assert_array_equal(one, other)
        assert np.asarray(one).any()
    untimed = [[line | {"rate": 0} for line in folder.metrics()] for folder in (first, second)]
    assert untimed[0] == untimed[1]
    assert len([line for line in untimed[0] if line["kind"] == "refit"]) == 4
    assert max(line["mistaken"] for line in untimed[0] if line["kind"] == "training") < 1e-5
    np.testing.assert_array_equal(whole.policy.weights[0], again.policy.weights[0])


@pytest.mark.parametrize(
    "predictor", [kind(heads=2, updates=20, batch_size=16, hidden=16) for kind in (ResidualPredictor, AgreedShift)]
)
@pytest.mark.slow
def test_tabb_takes_steps_in_both_domains_and_goes_on(predictor, tmp_path, monkeypatch):
    online = Online(target_steps=26, source_steps=40, warm_up=8, refits=1)
    backbone = IQL(policies=1, hidden=(8,), batch_size=8)
    plan = settings(online, 20, evaluations=2, episodes=1, backbone=backbone)
    arguments = {"task": "hopper-gravity-0.5", "settings": plan}
    (whole,) = train(TABB(predictor=predictor), None, None, folder=tmp_path / "whole", **arguments)
    save = RunFolder.save

    def killed(folder, state, update, *others):
        save(folder, state, update, *others)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            train(TABB(predictor=predictor), None, None, folder=tmp_path / "killed", **arguments)
    train(TABB(predictor=predictor), None, None, folder=tmp_path / "killed", resume=True, **arguments)
    first, second = (RunFolder(tmp_path / name / "seed0") for name in ("whole", "killed"))
    for file in ("checkpoint_file", "prepared_file", "policy_file"):
        with np.load(getattr(first, file)) as a, np.load(getattr(second, file)) as b:
            for name in a.files:
                if name not in ("header", "about"):
                    np.testing.assert_array_equal(a[name], b[name])
    assert next(line["update"] for line in first.metrics() if line["kind"] == "refit") == 0
    weights = [line["source_weight"] for line in first.metrics() if line["kind"] == "training"]
    assert all(0.1 <= weight <= 1 for weight in weights)
    assert whole.learned is not None


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (TABB(predictor=LatentPredictor()), "a new fit would change; use predictor residual or agreed"),
        (ValueNoise(), "rule value-noise computes numbers of each source row before training"),
    ],
)
def test_what_cannot_be_fitted_again(rule, says):
    plan = settings(Online(source_steps=30), backbone=IQL())
    with pytest.raises(UsageError, match=says):
        train(rule, None, logs(100), settings=plan, source_env=Cart)
