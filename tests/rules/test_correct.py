"""STC: the correction by hand, what the models recover, and what enters the update."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steps import step_of
from tabb.batch import make_domains
from tabb.errors import UsageError
from tabb.models.inverse import InverseConfig
from tabb.models.target_model import TargetModelConfig
from tabb.rules import Correct
from tabb.rules.correct import corrections, step_error


def test_step_error_by_hand():
    found = step_error(jnp.array([[1.0, 2.0]]), jnp.array([[0.0, 6.0]]), jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(found, [(1 + 4) / 2])


def test_correction_by_hand(rows):
    """The target moves by 2 a and pays 3 a: rows with a = 0.8 that moved by 0.8, 1.6, 2.8, and a terminal one."""
    data = rows([0, 0, 0, 0], [0.8, 0.8, 0.8, 0.8], [0.8, 1.6, 2.8, 0.8], [0, 0, 0, 1])
    data = dataclasses.replace(jax.tree.map(jnp.asarray, data), reward=jnp.full(4, 10.0))

    def correct(**settings):
        return corrections(
            lambda s, a: (2 * a, 3 * a[..., 0]), data.next_observation / 2, data, jnp.ones(1), Correct(**settings)
        )

    found = correct()
    np.testing.assert_allclose(found.action[:, 0], [0.4, 0.8, 1.0, 0.8])
    np.testing.assert_allclose(found.reward, [10 - 1.0, 10, 10 + 0.6, 10], rtol=1e-6)  # -1.2 is cut at -1
    np.testing.assert_array_equal(found.corrected, [1, 0, 1, 0])
    np.testing.assert_array_equal(found.possible, [1, 1, 0, 1])  # 1.4 is no action
    np.testing.assert_allclose(found.error, [0, 0, 0.64, 0.64], atol=1e-6)
    np.testing.assert_array_equal(correct(tolerance=0.5).possible, [1, 1, 1, 1])
    np.testing.assert_array_equal(correct(margin=0.5).corrected, [1, 0, 1, 0])
    np.testing.assert_array_equal(correct(margin=0.7).corrected, [1, 0, 0, 0])  # the third's error falls by 0.56
    np.testing.assert_array_equal(correct(margin=1.0).action, data.action)


def test_the_update_sees_the_corrected_rows(batch):
    columns = {
        "action": jnp.full((3, 2), 0.25),
        "reward": jnp.full(3, 7.0),
        "possible": jnp.array([1.0, 0.0, 1.0]),
        "corrected": jnp.array([1.0, 1.0, 0.0]),
    }
    rule, step = Correct(), step_of(dataclasses.replace(batch, columns=columns))
    seen = rule.select(step)
    np.testing.assert_array_equal(seen.action, jnp.concatenate([columns["action"], batch.action[3:]]))
    np.testing.assert_array_equal(seen.reward, jnp.concatenate([columns["reward"], batch.reward[3:]]))
    weights, metrics = rule.weigh(step)
    for weight in weights:
        np.testing.assert_array_equal(weight, [1, 0, 1, 1, 1, 1])
    assert float(metrics["corrected"]) == pytest.approx(2 / 3)
    assert float(metrics["dropped"]) == pytest.approx(1 / 3)


def test_source_rows_are_judged_in_units_of_the_sources_changes(rows):
    """Entry 0 hardly moves in the target: in its units every row of the source would miss it by as much as nothing."""
    state, change = np.zeros(2), np.array([1.0, 7.0])
    domains = make_domains(rows(state, state, change, state), rows(state, state, change / 100, state), "none")
    assert float(Correct(**Correct.small).template(domains, jax.random.key(0)).scale[0]) == pytest.approx(5.0)


@pytest.mark.parametrize("fitted_to", ["target", "both"])
def test_actions_of_a_weaker_robot_are_recovered(rows, fitted_to):
    """The source moves by a, the target by 2 a: a source row gets half its action, and the reward that pays for it."""
    generator = np.random.default_rng(0)
    domains = []
    for gain in (1.0, 2.0):
        state, action = generator.normal(size=800), generator.uniform(-0.9, 0.9, size=800)
        data = rows(state, action, state + gain * action, np.zeros(800))
        domains.append(dataclasses.replace(data, reward=(state - action).astype(np.float32)))
    domains = make_domains(*domains, "none")
    rule = Correct(
        inverse=InverseConfig(hidden=(32,), updates=400, batch_size=64, learning_rate=1e-2, domains=fitted_to),
        model=TargetModelConfig(hidden=(32,), updates=600, batch_size=64, learning_rate=1e-2),
    )
    models = rule.prepare(domains, jax.random.key(0), lambda what, share: None)
    found = rule.corrected(models, domains)
    action = domains.source.action
    assert float(jnp.mean(found.corrected)) > 0.8
    assert float(jnp.median(jnp.abs(found.action - action / 2))) < 0.05
    change = found.reward - domains.source.reward
    assert float(jnp.corrcoef(change, action[:, 0] / 2)[0, 1]) > 0.8
    scored = rule.row_scores(models, domains, lambda x: x[..., 0], 0.9)
    assert set(scored) == {"fit", "possible", "corrected"}


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        (Correct, {"margin": 1.5}, "margin=1.5"),
        (Correct, {"largest_change": np.inf}, "largest_change=inf"),
        (Correct, {"tolerance": -1.0}, "tolerance=-1.0"),
        (InverseConfig, {"shift_penalty": -1.0}, "shift_penalty=-1.0"),
        (InverseConfig, {"updates": 0}, "at least 1"),
        (InverseConfig, {"learning_rate": np.nan}, "learning_rate=nan"),
    ],
)
def test_wrong_settings(kind, settings, says):
    with pytest.raises(UsageError, match=says):
        kind(**settings)
