"""Policies beside one critic are what runs of their own would give; the table of cells adds up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.backbones.iql import IQL
from tabb.data import from_arrays, save_npz
from tabb.environments.tasks import get_task
from tabb.errors import UsageError
from tabb.experiments import extraction
from tabb.experiments.cells import merged, table
from tabb.experiments.cures import cure_of
from tabb.experiments.extraction import (
    Cell,
    Imitated,
    Imitator,
    InTwoModels,
    returns_of,
    settings_of,
    target_of,
    updates_of_all,
)
from tabb.files import write_json
from tabb.models.imitation import Imitation, imitated_rows
from tabb.models.matching import paths_with
from tabb.models.target_model import TargetModelConfig, init_target_model
from tabb.networks import members_of
from tabb.rules import TargetOnly
from tabb.training.drawing import pack_data, pack_imitated
from tabb.training.loop import Program, compiled_updates


def test_each_policy_is_that_of_a_run_of_its_own(domains, sizes):
    backbone = IQL(policies=1, hidden=(8,), batch_size=8)
    program = Program(backbone, TargetOnly(), 5)
    key = jax.random.key(2)
    data = pack_data(domains._replace(source=domains.source[:0]), {})
    noisy = pack_imitated(imitated_rows(Imitation(rows="noisy", noise=0.5), domains, jax.random.key(3)))
    cures = (cure_of("logged"), cure_of("noisy"), cure_of("logged matched"))
    model = init_target_model(TargetModelConfig(hidden=(8,)), None, domains.target, jax.random.key(4))
    paths = paths_with(model, Imitation(matching=0.1, rollouts=8), domains.target)
    imitated = (Imitated(None, None), Imitated(noisy, None), Imitated(None, paths))

    def start():
        return program.init(sizes, jax.random.key(1))

    _, optimiser = backbone.optimisers(5)
    imitators = tuple(Imitator(start().policy, optimiser.init(start().policy)) for _ in cures)
    state, imitators = updates_of_all(
        program, cures, (), data, imitated, key, (start(), imitators), jnp.int32(0), jnp.int32(5)
    )
    for (copies, held), imitator in zip(imitated, imitators, strict=True):
        own, _ = compiled_updates(program, (), data._replace(imitated=copies, paths=held), key, start(), 0, 5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), imitator.network, own.policy)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), state.critic, own.critic)
    for other in imitators[1:]:
        assert np.abs(imitators[0].network.weights[0] - other.network.weights[0]).max() > 1e-5
    assert members_of(imitators[0].network) == (imitators[0].network,)


def test_half_of_the_rollouts_act_in_each_of_two_models(domains):
    rows, config = domains.target[:6], TargetModelConfig(hidden=(8,))
    one, other = (init_target_model(config, None, domains.target, jax.random.key(seed)) for seed in (0, 1))
    both = InTwoModels(one, other)(rows.observation, rows.action)
    np.testing.assert_allclose(both.change[:3], one(rows.observation, rows.action).change[:3], rtol=1e-5)
    np.testing.assert_allclose(both.change[3:], other(rows.observation, rows.action).change[3:], rtol=1e-5)


def test_names_of_policies():
    assert cure_of("clone").advantages is False
    assert cure_of("best corrective:expert x3") == (Imitation(rows="corrective", best=0.8), "expert", False, True, 3)
    assert cure_of("best+0.03 clone").imitation == Imitation(best=0.8, others=0.03)
    assert cure_of("clone matched:medium x5") == (Imitation(matching=0.1), "medium", False, False, 5)
    assert cure_of("clone matched:alone+medium x5") == (Imitation(matching=0.1), "medium", True, False, 5)
    assert cure_of("clone matched/16:medium").imitation == Imitation(matching=0.1, rollouts=16)
    assert cure_of("logged") == (Imitation(), None, False, True, 1)
    for name in ("perfect", "noisy:expert", "matched", "logged x", "corrective:alone+expert"):
        with pytest.raises(UsageError, match="is unknown: use logged, clone, noisy, corrective"):
            cure_of(name)


def test_the_table_has_every_cell_and_the_means_of_whole_ones(tmp_path):
    def write(folder, cell, scores):
        shared = {name: getattr(cell, name) for name in ("task", "target", "seed", "updates", "target_rows", "critic")}
        (tmp_path / folder).mkdir(exist_ok=True)
        about = {"critic_source": cell.critic_source, "returns": 50.0, "scores": scores}
        write_json(tmp_path / folder / cell.file, shared | about)

    for seed, logged in enumerate((10.0, 30.0)):
        write("first", Cell("hopper-morph", "medium", (), seed=seed), {"logged": logged})
    write("second", Cell("hopper-morph", "medium", (), "tabb", "expert"), {"clone": 25.0})
    assert table([tmp_path / "first", tmp_path / "second"]).splitlines() == [
        "| task | target data | seed | the data | logged | tabb (expert): clone |",
        "|---|---|---|---|---|---|",
        "| hopper-morph | medium | 0 | 50.0 | 10.0 | 25.0 |",
        "| hopper-morph | medium | 1 | 50.0 | 30.0 | - |",
        "| mean of the 1 with all policies | | | 50.0 | 10.0 | 25.0 |",
        "| above logged | | | | | +15.0 [+15.0, +15.0] |",
    ]
    assert len(table([tmp_path / "second"]).splitlines()) == 5


def test_cells_that_contradict_each_other_are_no_table(tmp_path):
    """Files of one name in two folders, and of settings that no name tells."""

    def write(folder, **told):
        (tmp_path / folder).mkdir(exist_ok=True)
        about = {"task": "hopper-morph", "target": "medium", "seed": 0, "updates": 10, "target_rows": None}
        about |= {"critic": "target-only", "critic_source": None, "returns": 50.0, "scores": {"logged": 10.0}}
        write_json(tmp_path / folder / "hopper-morph-medium-seed0.json", about | told)
        return tmp_path / folder

    first = write("first", model={"learning_rate": 0.01})
    assert merged([first, write("same")]) == merged([first])
    with pytest.raises(UsageError, match=r"logged is 11, but .*first.* says 10 of the same cell"):
        merged([first, write("score", scores={"logged": 11.0})])
    with pytest.raises(UsageError, match=r"returns is 51, but .*first.* says 50 of the same cell"):
        merged([first, write("log", returns=51.0, scores={"clone": 1.0})])
    for name, value in (("updates", 20), ("target_rows", 1000), ("model", {"learning_rate": 0.001})):
        other = write(name, **{name: value}, seed=1)
        with pytest.raises(UsageError, match=f"{name} is .*, but .*first.*; print two tables, or allow '{name}'"):
            table([first, other])
        assert len(table([first, other], allowed=[name]).splitlines()) == 6
    beta = write("beta", temperature=3.0, scores={"logged": 11.0})
    assert merged([first, beta])[0]["scores"] == {"logged": 10.0, "β 3: logged": 11.0}


def test_a_cell_says_what_it_was_measured_with():
    cell, cures = Cell("hopper-morph", "medium", ()), [cure_of("logged"), cure_of("clone matched")]
    told = settings_of(cell, IQL(temperature=2.0), cures)
    assert (told["evaluations"], told["episodes"], told["model"]["learning_rate"]) == (5, 10, 0.01)
    assert told == settings_of(cell, IQL(temperature=3.0), cures)
    assert told != settings_of(cell, IQL(learning_rate=1.0), cures)
    assert "model" not in settings_of(cell, IQL(), cures[:1])


def test_an_episode_that_the_limit_cuts_does_not_count_in_what_the_log_has(monkeypatch, tmp_path):
    """Eight episodes of five rows, of which each row has 1; of 28 rows five episodes are whole, and one has three."""
    rewards = np.ones(40, np.float32)
    draw = np.random.default_rng(0)
    log = (draw.normal(size=(40, 11)), draw.uniform(-1, 1, (40, 3)), rewards)
    save_npz(tmp_path / "log.npz", from_arrays(*log, terminals=np.arange(40) % 5 == 4))
    monkeypatch.setattr(extraction, "resolve", lambda quality, task, domain: [tmp_path / "log.npz"])
    task = get_task("hopper-morph")
    for seed in range(6):
        target, cut = target_of(Cell(task.name, "medium", (), seed=seed, target_rows=28))
        assert sorted(np.bincount(target.episode)[np.unique(target.episode)].tolist()) == [3, 5, 5, 5, 5, 5]
        assert returns_of(target, task.name, cut) == pytest.approx(float(task.normalised_score(5.0)))
