"""Extras that a rule reads (costs) belong to the data that a run is known by; runs from before do not tell them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tabb
from tabb.errors import RunError, UsageError
from tabb.networks import Normaliser
from tabb.plain import plain
from tabb.provenance import comparable, extras_fingerprint, fingerprint
from tabb.results.row_scores import run_data
from tabb.rules import CPQ, Pooled
from tabb.training.cache import entry_name, imitated_name, path_model_name
from tabb.training.config import Settings
from tabb.training.folder import RunFolder
from tabb.training.learned_rows import learned_rows
from tabb.training.loop import Program
from tabb.training.record import check_same_run
from tabb.training.same_row import check_seeds_alike

KEY = jax.random.key(0)


def with_costs(rows, first):
    cost = np.full(len(rows), 0.5, np.float32)
    cost[0] = first
    return dataclasses.replace(rows, extras={"cost": cost, "weight": np.ones(len(rows), np.float32)})


def known(rule, source, target):
    """What a run of the rule is known to have learned from."""
    settings = Settings(backbone=tabb.TD3BC())
    return learned_rows(Program(tabb.TD3BC(), rule, 10), source, target, settings, True, "pooled").data


@pytest.fixture
def config(pair):
    def of(cost):
        source, target = pair
        data = known(CPQ(), source, with_costs(target, cost))
        settings = plain(Settings(backbone=tabb.TD3BC(), held_out=0.0))
        origin = {"target": {"files": ["t"]}, "source": {"files": ["s"]}}
        return {"rule": plain(CPQ()), "settings": settings, "task": None, "seed": 0, "origin": origin, "data": data}

    return of


def test_costs_are_known_apart_from_the_rows(pair):
    source, target = pair
    one, other = (known(CPQ(), source, with_costs(target, cost)) for cost in (1.0, 2.0))
    assert one["target"] == other["target"] == fingerprint(target) == known(Pooled(), source, target)["target"]
    assert one["extras"]["source"] is None
    assert one["extras"]["target"] != other["extras"]["target"]
    assert "extras" not in known(Pooled(), source, with_costs(target, 1.0))
    # Extras that the rule does not read are no part of it.
    read = dataclasses.replace(target, extras={"cost": with_costs(target, 1.0).extras["cost"]})
    assert one["extras"]["target"] == extras_fingerprint(read)


def test_fits_of_the_rule_depend_on_them_and_copies_to_imitate_do_not(config):
    one, other = config(1.0)["data"], config(2.0)["data"]
    assert entry_name(CPQ(), one, "pooled", KEY) != entry_name(CPQ(), other, "pooled", KEY)
    copies = tabb.Imitation(rows="noisy")
    units = Normaliser(jnp.zeros(3), jnp.ones(3))
    assert imitated_name(copies, one, True, units, KEY) == imitated_name(copies, other, True, units, KEY)


def test_entries_of_runs_with_other_units_are_others(config):
    """Runs that draw no source rows may still be normalised with them (`--normaliser`)."""
    one, copies = config(1.0)["data"], tabb.Imitation(rows="noisy", matching=0.1)
    units, others = Normaliser(jnp.zeros(3), jnp.ones(3)), Normaliser(jnp.zeros(3), 2 * jnp.ones(3))
    for name in (imitated_name, path_model_name):
        assert name(copies, one, False, units, KEY) != name(copies, one, False, others, KEY)


def test_a_run_with_other_costs_is_not_resumed_and_one_from_before_is(config, tmp_path):
    folder = RunFolder(tmp_path / "seed0")
    folder.start(config(1.0))
    check_same_run(folder, config(1.0))
    with pytest.raises(RunError, match=r"another data \(extras\)"):
        check_same_run(folder, config(2.0))
    with pytest.raises(RunError, match="differs in extras data"):
        check_seeds_alike(tmp_path, config(2.0), [1], None)

    before = config(1.0)
    del before["data"]["extras"]
    old = RunFolder(tmp_path / "old" / "seed0")
    old.start(before)
    check_same_run(old, config(2.0))
    check_seeds_alike(tmp_path / "old", config(2.0), [1], None)
    assert comparable(before["data"], config(1.0)["data"])[1] == before["data"]


def test_rows_that_a_seed_draws_have_costs_of_their_own(config, tmp_path):
    """Seeds with other draws of the target's rows are seeds of one method: their costs differ as their rows do."""

    def drawn(cost, seed):
        about = config(cost)
        return about | {"settings": about["settings"] | {"target_rows": 20, "rows_seed": seed}}

    RunFolder(tmp_path / "seed0").start(drawn(1.0, 0))
    check_seeds_alike(tmp_path, drawn(2.0, 1), [1])
    with pytest.raises(RunError, match="differs in extras data"):
        check_seeds_alike(tmp_path, drawn(2.0, 0), [1])


def test_a_finished_run_is_asked_about_its_own_costs_alone(config, pair, tmp_path):
    _, target = pair
    about = config(1.0)
    for cost in (1.0, 2.0):
        tabb.data.save_npz(tmp_path / f"{cost}.npz", with_costs(target, cost))
    assert len(run_data(about, "target", tmp_path / "1.0.npz", "run").transitions) == len(target)
    with pytest.raises(UsageError, match="is not the target data that run was trained on"):
        run_data(about, "target", tmp_path / "2.0.npz", "run")
    del about["data"]["extras"]
    run_data(about, "target", tmp_path / "2.0.npz", "run")
