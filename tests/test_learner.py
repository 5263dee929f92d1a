"""The learner object: it is `tabb.train` with another handle, and each mistake is one line."""

from __future__ import annotations

import dataclasses
import typing

import numpy as np
import pytest

import tabb
from tabb.data import save_npz
from tabb.data.catalogue import resolve
from tabb.errors import UsageError
from tabb.learner import SettingsByName

SMALL = tabb.IQL(policies=1, hidden=(8,), batch_size=16)
SETTINGS = tabb.Settings(updates=4, evaluations=0)
RULE = tabb.TABB(predictor=tabb.ResidualPredictor(updates=2, hidden=8, heads=2))


def same_policy(one, other):
    return all(
        np.array_equal(a, b) for a, b in zip(one.weights + one.biases, other.weights + other.biases, strict=True)
    )


@pytest.fixture(scope="module")
def fitted(pair):
    return tabb.Learner(RULE, SMALL, updates=4, evaluations=0, seed=3).fit(*pair)


def test_it_learns_what_train_learns(pair, fitted):
    (run,) = tabb.train(RULE, *pair, backbone=SMALL, settings=SETTINGS, seeds=[3])
    assert same_policy(run.policy, fitted.policy)
    (old,) = tabb.train(RULE, *pair, settings=dataclasses.replace(SETTINGS, backbone=SMALL), seeds=[3])
    assert same_policy(run.policy, old.policy)
    observation = pair[1].observation[:5]
    for acting in (fitted, run, fitted.policy):
        np.testing.assert_array_equal(acting.predict(observation), run.policy.act(observation))
    np.testing.assert_array_equal(fitted.act(observation), run.policy.act(observation))
    assert fitted.score is None
    assert fitted.seeds == [3]


def test_seeds_folders_and_files(pair, tmp_path):
    for name, data in zip(("source", "target"), pair, strict=True):
        save_npz(tmp_path / f"{name}.npz", data)
    learner = tabb.Learner(RULE, SMALL, settings=SETTINGS, seeds=(0, 1))
    assert learner.fit(str(tmp_path / "source.npz"), tmp_path / "target.npz", folder=tmp_path / "runs") is learner
    assert [run.seed for run in learner.runs] == [0, 1]
    assert learner.policy is learner.runs[0].policy
    assert same_policy(tabb.Policy.load(learner.save(tmp_path / "policy.npz")), learner.policy)
    # From files, a run can be read back without naming them.
    read_back, here = tabb.score_rows(tmp_path / "runs" / "seed0"), learner.score_rows()
    assert read_back.columns.keys() == here.columns.keys()
    for name, column in read_back.columns.items():
        np.testing.assert_allclose(column, here.columns[name], rtol=1e-5, err_msg=name)


def test_files_of_another_engine_than_the_runs_are_refused():
    """Evaluated with other physics, a policy would seem to be bad where its data are."""
    task = "hopper-gravity-0.5"
    source, target = (resolve("bundled", task, domain)[0] for domain in ("source", "target"))
    with pytest.raises(UsageError, match=r"the source data come from engine legacy but --engine is native"):
        tabb.Learner(RULE, SMALL, updates=4, evaluations=0, engine="native").fit(source, target, task=task)


def test_row_scores_in_memory(pair, fitted, tmp_path):
    scores = fitted.score_rows()
    weight = scores.columns["weight"]
    assert weight.shape == (len(pair[0]),)
    assert ((weight > 0) & (weight <= 1)).all()
    np.testing.assert_array_equal(scores.columns["episode"], pair[0].episode)
    (kept,) = tabb.train(RULE, *pair, backbone=SMALL, settings=SETTINGS, seeds=[3], folder=tmp_path)
    read_back = tabb.score_rows(tmp_path / "seed3", *pair).columns["weight"]
    np.testing.assert_allclose(read_back, weight, rtol=1e-5)
    assert kept.folder == tmp_path / "seed3"
    with pytest.raises(UsageError, match="is not the source data that run of seed 3 was trained on"):
        tabb.score_rows(fitted.runs[0], pair[0][:-10], pair[1])
    with pytest.raises(UsageError, match="was trained from arrays"):
        tabb.score_rows(fitted.runs[0])
    alone = tabb.Learner(tabb.TargetOnly(), SMALL, settings=SETTINGS).fit(None, pair[1])
    with pytest.raises(UsageError, match="draws no source rows"):
        alone.score_rows()


def test_by_name_and_preset():
    learner = tabb.Learner.named("tabb@cql", updates=7)
    assert (learner.name, learner.backbone, learner.settings.updates) == ("tabb@cql", "cql", 7)
    assert tabb.Learner.named("tabb").backbone is None
    quick = tabb.Learner.named("tabb", preset="quick")
    assert dataclasses.replace(tabb.TABB(), **tabb.TABB.presets["quick"]) == quick.rule
    assert quick.backbone is None, "it says nothing of one"
    with pytest.raises(UsageError, match=r"did you mean|use one of"):
        tabb.Learner.named("tab")
    with pytest.raises(UsageError, match="--preset nice"):
        tabb.Learner.named("tabb", preset="nice")


def test_a_backbone_by_name_has_the_constants_of_rule_and_task(pair):
    named = tabb.train(tabb.TargetOnly(), None, pair[1], backbone="iql", settings=SETTINGS)[0]
    own = tabb.train(tabb.TargetOnly(), None, pair[1], settings=SETTINGS)[0]
    assert same_policy(named.policy, own.policy)
    assert tabb.Settings(backbone="cql").backbone == tabb.CQL()  # type: ignore[arg-type]


def test_settings_by_name_are_all_settings():
    names = {field.name for field in dataclasses.fields(tabb.Settings)} - {"backbone"}
    assert set(SettingsByName.__annotations__) == names
    assert typing.get_type_hints(SettingsByName) == {
        name: hint for name, hint in typing.get_type_hints(tabb.Settings).items() if name in names
    }


@pytest.mark.parametrize("part", ["policy", "score", "runs", "predict", "save", "score_rows"])
def test_before_fit(part, tmp_path):
    learner = tabb.Learner(tabb.Pooled())
    arguments = {"predict": [np.zeros(3)], "save": [tmp_path / "p.npz"]}.get(part, [])
    with pytest.raises(UsageError, match=r"^learner pooled is not fitted: call fit\(source, target\) first$"):
        getattr(learner, part)(*arguments)


def refused(call, says):
    with pytest.raises((UsageError, tabb.errors.DataError), match=says) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_wrong_arguments_of_the_learner(pair):
    source, target = pair
    refused(lambda: tabb.Learner("tabb"), r"Learner.named\('tabb'\)")
    refused(lambda: tabb.Learner(tabb.TABB), "rule is TABB: give an instance")
    refused(lambda: tabb.Learner(tabb.TABB(), "iqll"), "unknown backbone 'iqll'")
    refused(lambda: tabb.Learner(tabb.TABB(), tabb.IQL), "backbone is type|backbone is IQL")
    refused(lambda: tabb.Learner(tabb.TABB(), update=3), "update is no setting: did you mean updates")
    refused(lambda: tabb.Learner(tabb.TABB(), seed=1, seeds=[2]), "give one of them")
    refused(lambda: tabb.Learner(tabb.TABB(), seed=-1), "from 0 to 4,294,967,295")
    refused(lambda: tabb.Learner(tabb.TABB(), updates=0), "updates=0")
    refused(lambda: tabb.Learner(tabb.Pooled()).fit(3, target), "source is int: give a file")
    refused(lambda: tabb.Learner(tabb.Pooled()).fit(source, None), "target is NoneType")


def test_wrong_arguments_of_functions(pair, tmp_path):
    source, target = pair

    def changed(**columns):
        """The target with other columns; the tests' own checker of shapes would not let them pass."""
        data = target[:]
        for name, column in columns.items():
            object.__setattr__(data, name, column)
        return data

    def train(data=target, **options):
        return tabb.train(tabb.TargetOnly(), None, data, **{"settings": SETTINGS} | options)

    refused(lambda: tabb.Settings(backbone=tabb.IQL), "backbone is IQL: give an instance such as tabb.IQL")
    refused(lambda: tabb.Settings(backbone="iqll"), "unknown backbone 'iqll'")
    refused(lambda: tabb.Settings(held_out="0.2"), "held_out='0.2': give a number")
    refused(lambda: train(backbone=tabb.IQL), "backbone is IQL: give an instance")
    refused(lambda: train(backbone="iqll"), "unknown backbone 'iqll'")
    refused(lambda: train(env_factory=3), "env_factory is int")
    refused(lambda: train(env_factory="Nowhere-v0"), "'Nowhere-v0' cannot be made")
    refused(lambda: train(task=3), "task is int")
    refused(lambda: train(changed(reward=target.reward[:-5])), "target: reward has shape")
    refused(lambda: train(changed(reward=target.reward[:, None])), "target: reward has shape")
    refused(lambda: train(changed(reward=target.reward * np.nan)), "target: reward holds NaN")
    refused(lambda: train(changed(action=target.action * 3)), "target: action reaches 2.9|3")
    refused(lambda: tabb.train(tabb.Pooled(), source[:0], target, settings=SETTINGS), "needs source data")
    refused(lambda: tabb.evaluate(3, "hopper"), "policy is int")
    refused(lambda: tabb.select([]), "folders is empty")
    refused(lambda: tabb.load(None), "file is NoneType")
    refused(lambda: tabb.get_task(None), "task is NoneType")
    refused(lambda: tabb.score_rows(3), "run is int")
    policy = train()[0].policy
    refused(lambda: policy.act({"position": 1}), "observation is dict: give an array")
    refused(lambda: tabb.evaluate(policy, None), "name a task")
    with pytest.raises(tabb.errors.RunError, match="no such policy"):
        tabb.evaluate(tmp_path / "nowhere.npz", "hopper")
