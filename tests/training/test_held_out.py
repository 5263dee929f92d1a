"""Held-out target episodes: not seen by training, measured rightly, and the same after a stop."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tabb
from tabb.backbones import own_backbone
from tabb.batch import Sizes
from tabb.errors import HeldOutWarning, RunError, UsageError
from tabb.results.row_scores import open_run
from tabb.results.selection import select
from tabb.rules import Pooled
from tabb.training.cache import entry_name
from tabb.training.config import settings_from
from tabb.training.folder import RunFolder
from tabb.training.held_out import share_of, split
from tabb.training.loop import Program

IQL = tabb.IQL(policies=1, hidden=(16, 16), batch_size=16, discount=0.9)  # FQE: 44 iterations, of 0.99 459
SETTINGS = tabb.Settings(updates=60, evaluations=3, backbone=IQL, held_out=0.2)
RULE = tabb.TABB(predictor=tabb.ResidualPredictor(updates=20, hidden=16, heads=2))


def walk(rows: int, seed: int, shift: float = 0.0, length: int = 100) -> tabb.Transitions:
    """Episodes of a damped random walk."""
    draw = np.random.default_rng(seed)
    observation, action = np.zeros((rows, 3)), draw.uniform(-1, 1, (rows, 2))
    for i in range(1, rows):
        pushed = 0.9 * observation[i - 1] + 0.1 * action[i - 1].sum() + shift
        observation[i] = 0.0 if i % length == 0 else pushed + 0.05 * draw.standard_normal(3)
    ends = np.arange(1, rows + 1) % length == 0
    return tabb.from_arrays(observation, action, -np.abs(observation).sum(1), timeouts=ends)


SOURCE, TARGET = walk(2000, 0), walk(1000, 1, 0.05)


def train(rule: Any = RULE, target: tabb.Transitions = TARGET, **options: Any) -> tabb.Run:
    return tabb.train(rule, SOURCE, target, **({"settings": SETTINGS} | options))[0]


@pytest.fixture(scope="module")
def plain() -> tabb.Run:
    """TABB with two of ten episodes held out."""
    return train()


def same_policy(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(a, b) for a, b in zip(one.weights + one.biases, other.weights + other.biases, strict=True)
    )


def test_whole_episodes_are_held_out_evenly() -> None:
    parts = split(TARGET, 0.2)  # ten episodes
    assert parts.episodes == [2, 7]
    assert set(np.unique(parts.train.episode)) == {0, 1, 3, 4, 5, 6, 8, 9}
    assert len(parts.train) + len(parts.held_out) == len(TARGET)
    assert split(TARGET, 0.01).episodes == [5]  # one at least
    nothing = split(TARGET, 0.0)
    assert nothing.episodes == []
    assert len(nothing.train) == len(TARGET)


def test_the_default_holds_out_where_nothing_is_rolled_out() -> None:
    two = TARGET[np.asarray(TARGET.episode) < 2]
    settings = tabb.Settings()
    assert share_of(settings, False, TARGET) == 0.2
    assert share_of(settings, True, TARGET) == 0.0
    with pytest.warns(HeldOutWarning, match="target has 2 episodes, so none is held out .* --held-out 0.5 would"):
        assert share_of(settings, False, two) == 0.0
    with pytest.warns(HeldOutWarning, match="target has 1 episode, so none is held out .* give more episodes"):
        assert share_of(settings, False, TARGET[np.asarray(TARGET.episode) < 1]) == 0.0
    assert share_of(settings, True, two) == 0.0  # rolled out: no word
    assert share_of(tabb.Settings(evaluations=0), False, TARGET) == 0.0
    assert share_of(tabb.Settings(held_out=0.5), True, two) == 0.5
    plain = tabb.Settings(updates=20, evaluations=1, backbone=IQL)
    assert train(Pooled(), settings=plain).held_out[0].update == 20
    with pytest.warns(HeldOutWarning, match="none is held out"):
        assert train(Pooled(), two, settings=plain).held_out == ()


def test_training_does_not_see_them(plain: tabb.Run) -> None:
    held = np.isin(np.asarray(TARGET.episode), [2, 7])
    poisoned = dataclasses.replace(
        TARGET,
        reward=np.where(held, 1e3, TARGET.reward).astype(np.float32),
        observation=np.where(held[:, None], 50.0, TARGET.observation).astype(np.float32),
    )
    one, other = plain, train(target=poisoned)
    assert same_policy(one.policy, other.policy)
    assert np.array_equal(one.policy.mean, other.policy.mean)
    assert one.held_out[-1].td_error != other.held_out[-1].td_error
    seen = train(settings=dataclasses.replace(SETTINGS, held_out=0.0))
    assert not same_policy(one.policy, seen.policy)


def test_the_errors_are_what_they_say(tmp_path: Path) -> None:
    run = train(Pooled(), folder=tmp_path)
    held = split(TARGET, 0.2).held_out
    learner = Program(IQL, Pooled(), 60)
    state, _ = _state(tmp_path / "seed0", learner)
    normalise = lambda x: jnp.asarray((np.asarray(x) - run.policy.mean) / run.policy.scale)  # noqa: E731
    now, following = normalise(held.observation), normalise(held.next_observation)
    pair = jnp.concatenate([now, held.action], axis=1)
    quality = np.minimum(state.critic.first(pair)[:, 0], state.critic.second(pair)[:, 0])
    backup = held.reward + IQL.discount * (1 - held.terminal) * np.asarray(state.value(following))[:, 0]
    look = run.held_out[-1]
    assert look.td_error == pytest.approx(float(np.mean(np.abs(quality - backup))), rel=1e-4)
    assert look.predictor_error is None
    distance = np.sqrt(np.mean((run.policy.act(held.observation) - held.action) ** 2))
    assert look.action_error == pytest.approx(float(distance), rel=1e-5)


def _state(folder: Path, learner: Program) -> tuple[Any, int]:
    saved = RunFolder(folder).restore(learner.init(Sizes(3, 2), jax.random.key(0)))
    assert saved is not None
    return saved.state, saved.update


def test_the_predictors_error_is_small_where_it_was_fitted_well(plain: tabb.Run) -> None:
    good = dataclasses.replace(RULE, predictor=dataclasses.replace(RULE.predictor, updates=600))
    errors = [run.held_out[-1].predictor_error for run in (plain, train(good))]
    assert errors[1] is not None
    assert errors[0] is not None
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("name", ["td3-bc", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cql", "bcq"))])
def test_every_backbone_has_them(name: str) -> None:
    from tabb.backbones import BACKBONES

    kind = BACKBONES[name]
    sizes = {"hidden": (16, 16), "batch_size": 16, "discount": 0.9} | ({"cvae_hidden": (16,)} if name == "bcq" else {})
    settings = dataclasses.replace(SETTINGS, updates=10, evaluations=1, backbone=kind(**sizes))
    (look,) = train(Pooled(), settings=settings).held_out
    assert 0 < look.td_error < 100
    assert look.estimate is not None


def test_bcq_values_a_state_by_its_best_candidate() -> None:
    learner = Program(tabb.BCQ(hidden=(8,), cvae_hidden=(8,), candidates=4), Pooled(), 10)
    state = learner.init(Sizes(3, 2), jax.random.key(0))
    states = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    found = learner.backbone.value_at(Pooled(), (), state)(jnp.asarray(states))
    for row, value in zip(jnp.asarray(states), found, strict=True):
        best = -np.inf
        for latent in state.latents[:4]:
            action = state.cvae.decode(row, latent)
            change = jnp.tanh(state.slow_perturbation(jnp.concatenate([row, action])))
            action = jnp.clip(action + 0.05 * change, -1, 1)
            values = np.asarray(state.slow_critic(jnp.concatenate([row, action])))
            best = max(best, 0.75 * values.min() + 0.25 * values.max())
        assert float(value) == pytest.approx(best, abs=1e-5)


def test_policies_along_the_run_are_kept_and_valued(tmp_path: Path) -> None:
    run = train(folder=tmp_path)
    assert [look.update for look in run.held_out] == [20, 40, 60]
    for look in run.held_out:
        kept = tabb.Policy.load(tmp_path / "seed0" / "policies" / f"{look.update}.npz")
        assert same_policy(kept, look.policy)
        assert kept.about["updates"] == look.update
        assert kept.about["engine"] is None  # nothing was simulated
        assert look.estimate is not None
        assert look.estimate.low <= look.estimate.value <= look.estimate.high
    assert same_policy(run.held_out[-1].policy, run.policy)
    told = json.loads((tmp_path / "seed0" / "result.json").read_text())["held_out"]
    assert told["episodes"] == [2, 7]
    assert told["rows"] == len(split(TARGET, 0.2).held_out)
    assert [line["value"] for line in told["policies"]] == [look.estimate.value for look in run.held_out]  # type: ignore[union-attr]


@pytest.mark.slow
def test_seeds_as_an_axis_are_each_alone(plain: tabb.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [plain.held_out[-1], train(seeds=(1,)).held_out[-1]]
    monkeypatch.setattr(jax, "default_backend", lambda: "seeds")
    both = [run.held_out[-1] for run in tabb.train(RULE, SOURCE, TARGET, settings=SETTINGS, seeds=(0, 1))]
    for one, other in zip(alone, both, strict=True):
        assert other.td_error == pytest.approx(one.td_error, rel=1e-3)
        assert other.action_error == pytest.approx(one.action_error, rel=1e-3)


def test_resumed_is_never_stopped(tmp_path: Path, plain: tabb.Run) -> None:
    whole = plain
    _stop_at(tmp_path / "cut", 40)
    again = train(folder=tmp_path / "cut", resume=True)
    assert same_policy(whole.policy, again.policy)
    for one, other in zip(whole.held_out, again.held_out, strict=True):
        assert dataclasses.replace(one, policy=None) == dataclasses.replace(other, policy=None)  # type: ignore[arg-type]
        assert same_policy(one.policy, other.policy)
    kinds = [line["kind"] for line in RunFolder(tmp_path / "cut" / "seed0").metrics()]
    assert kinds.count("held-out") == 3


def _stop_at(folder: Path, update: int) -> None:
    """A run that was stopped after so many updates: the process ends by SIGINT to itself."""
    import os
    import signal

    original = RunFolder.keep_policy

    def keep(self: RunFolder, policy: Any, number: int) -> None:
        original(self, policy, number)
        if number == update:
            os.kill(os.getpid(), signal.SIGINT)

    RunFolder.keep_policy = keep  # type: ignore[method-assign]
    try:
        with pytest.raises(RunError, match="stopped and saved after 40 updates"):
            train(folder=folder)
    finally:
        RunFolder.keep_policy = original  # type: ignore[method-assign]


def test_scores_of_source_rows_are_made_with_the_rows_that_training_saw(tmp_path: Path, plain: tabb.Run) -> None:
    from tabb.data import save_npz

    save_npz(tmp_path / "source.npz", SOURCE)
    save_npz(tmp_path / "target.npz", TARGET)
    train(folder=tmp_path / "run")
    found = open_run(tmp_path / "run" / "seed0", [tmp_path / "source.npz"], [tmp_path / "target.npz"])
    assert len(found.domains.target) == len(split(TARGET, 0.2).train)
    assert np.array_equal(found.domains.normaliser.mean, plain.policy.mean)


def test_the_cache_knows_what_was_held_out() -> None:
    key, data = jax.random.key(0), {"source": "a", "target": "b"}
    names = {entry_name(RULE, d, "pooled", key) for d in (data, data | {"held_out": [2, 7]}, data | {"held_out": [5]})}
    assert len(names) == 3


def test_a_run_from_before_held_nothing_out() -> None:
    assert settings_from({"settings": {"updates": 5}}).held_out == 0.0
    assert settings_from({"settings": {"held_out": 0.3}}).held_out == 0.3


def test_wrong_shares_are_refused() -> None:
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(UsageError, match="held_out"):
            tabb.Settings(held_out=share)
    one = walk(1000, 1, 0.05, length=1000)
    with pytest.raises(UsageError, match="1 episode, so none would be left"):
        train(target=one)
    assert own_backbone(RULE).name == "iql"


# --- select ---


def test_select_ranks_all_policies_of_the_runs(tmp_path: Path) -> None:
    runs = tabb.train(RULE, SOURCE, TARGET, settings=SETTINGS, seeds=(0, 1), folder=tmp_path / "tabb")
    runs += tabb.train(Pooled(), SOURCE, TARGET, settings=SETTINGS, folder=tmp_path / "pooled")
    looks = [look for run in runs for look in run.held_out]
    by_value = select([tmp_path], by="value").ranked
    assert [one.estimate.value for one in by_value] == sorted((look.estimate.value for look in looks), reverse=True)  # type: ignore[union-attr]
    by_actions = select([tmp_path]).ranked
    assert select(str(tmp_path)).ranked == by_actions
    assert [one.action_error for one in by_actions] == sorted(look.action_error for look in looks)
    last = select([tmp_path / "tabb", tmp_path / "pooled" / "seed0"], last=True).ranked
    assert {(one.learner, one.seed, one.update) for one in last} == {
        ("tabb", 0, 60),
        ("tabb", 1, 60),
        ("pooled", 0, 60),
    }
    assert select([tmp_path]).rank_correlation is None  # nothing was rolled out
    for one in by_value:
        assert tabb.Policy.load(one.policy).about["rule"] == one.learner


def test_select_says_how_its_ranking_agrees_with_rollouts(tmp_path: Path) -> None:
    train(folder=tmp_path)
    file = tmp_path / "seed0" / "result.json"
    result = json.loads(file.read_text())
    errors = {line["update"]: line["action_error"] for line in result["held_out"]["policies"]}
    result["evaluations"] = [{"update": update, "mean": -error} for update, error in errors.items()]
    file.write_text(json.dumps(result))
    assert select([tmp_path], by="actions").rank_correlation == pytest.approx(1.0)


def test_select_refuses_what_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        select([tmp_path])
    train(folder=tmp_path / "a")
    train(target=walk(1000, 2, 0.05), folder=tmp_path / "b")
    with pytest.raises(UsageError, match="rank them separately"):
        select([tmp_path])
    train(settings=dataclasses.replace(SETTINGS, held_out=0.0), folder=tmp_path / "c")
    with pytest.raises(UsageError, match="no target episodes were held out"):
        select([tmp_path / "c"])
    (tmp_path / "b" / "seed0" / "result.json").unlink()
    assert select([tmp_path / "a", tmp_path / "b"]).unfinished == [tmp_path / "b" / "seed0"]
    with pytest.raises(RunError, match="is not finished"):
        select([tmp_path / "b"])
    with pytest.raises(UsageError, match="by='best' is unknown"):
        select([tmp_path / "a"], by="best")  # type: ignore[arg-type]
    result = tmp_path / "a" / "seed0" / "result.json"
    told = json.loads(result.read_text())
    del told["held_out"]["policies"][0]["low"]
    result.write_text(json.dumps(told))
    with pytest.raises(RunError, match="lacks 'low'"):
        select([tmp_path / "a"])
