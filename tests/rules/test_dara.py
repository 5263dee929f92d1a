"""DARA: its reward correction by hand, the rows it edits, its log-ratio against the closed form on two Gaussians."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from steps import step_of
from tabb.batch import make_domains
from tabb.rules import (
    DARA,
)
from tabb.rules.dara import reward_correction


def silent(what, share):
    pass


def test_reward_correction_by_hand():
    found = reward_correction(jnp.array([2.0, -20.0, 20.0]), jnp.array([0.5, 1.0, -1.0]), 10.0)
    np.testing.assert_allclose(found, [1.5, -10.0, 10.0])


def test_dara_edits_source_rewards_alone(batch):
    batch = dataclasses.replace(batch, columns={"bonus": jnp.array([1.0, -2.0, 0.0])})
    edited = DARA(bonus_scale=0.5).reward(step_of(batch))
    np.testing.assert_allclose(edited - batch.reward, [0.5, -1.0, 0, 0, 0, 0], atol=1e-6)


def test_dara_finds_the_log_ratio_of_two_gaussians(rows):
    """s' ~ N(s + a, 1/4) in the source and N(s + a + 1/2, 1/4) in the target: Δr = 2 (s' - s - a) - 1/2."""
    generator = np.random.default_rng(0)

    def domain(shift, count):
        s, a = generator.normal(size=count), generator.uniform(-1, 1, count)
        return rows(s, a, s + a + shift + 0.5 * generator.normal(size=count), np.arange(count) % 50 == 0)

    domains = make_domains(domain(0.0, 20_000), domain(0.5, 20_000), "none")
    rule = DARA(noise=0.0, updates=1_500, batch_size=256, learning_rate=3e-3, hidden=(32, 32))
    found = rule.columns(rule.prepare(domains, jax.random.key(0), silent), domains)["bonus"]
    source = domains.source
    wanted = 2 * (source.next_observation - source.observation - source.action)[:, 0] - 0.5
    alive = np.asarray(source.terminal) == 0
    assert np.abs(found - wanted)[alive].mean() < 0.15  # the wanted ones spread over 0.8 on average
    assert np.abs(np.asarray(found)[~alive]).max() == 0
