"""PUORL: the share of a mixture, which rows of it are found, and what they weigh."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from steps import step_of
from tabb.batch import make_domains
from tabb.errors import UsageError
from tabb.models.mixture import MixtureConfig, best_bin
from tabb.rules import PU
from tabb.rules.pu import most_positive


def test_best_bin_by_hand():
    """1,000 positive rows score 1; of 1,000 unlabelled, 300 score 1 and the others 0: all thresholds give 0.3."""
    unlabelled = np.concatenate([np.ones(300), np.zeros(700)])
    assert best_bin(np.ones(1000), unlabelled) == pytest.approx(0.3)
    # A fifth of the positive rows score 2, as 6% of the unlabelled; a low threshold has the tighter bound.
    positive = np.concatenate([2 * np.ones(200), np.ones(800)])
    unlabelled = np.concatenate([2 * np.ones(60), np.ones(300), np.zeros(640)])
    assert best_bin(positive, unlabelled) == pytest.approx(0.36)
    # Far more of the others among them score 1: then only the top bin is pure.
    unlabelled = np.concatenate([2 * np.ones(60), np.ones(900), np.zeros(40)])
    assert best_bin(positive, unlabelled) == pytest.approx(0.3)


def test_most_positive_by_hand():
    found = most_positive(jnp.array([3.0, 9.0, 1.0, 2.0, 0.0]), jnp.array([1.0, 0.0, 1.0, 1.0, 1.0]), jnp.array(0.5))
    np.testing.assert_array_equal(found, [1, 0.5, 0, 1, 0])


def test_weights_by_hand(batch):
    batch = dataclasses.replace(batch, columns={"positive": jnp.array([1.0, 0.0, 0.5])})
    step = step_of(batch, models=Holder(Holder(None)))
    weights, metrics = PU(least_weight=0.2).weigh(step)
    for weight in weights:
        np.testing.assert_allclose(weight, [1, 0.2, 0.6, 1, 1, 1], rtol=1e-6)
    assert metrics["target_share"] == 0.25


class Holder:
    """Stands for models whose share is a quarter."""

    def __init__(self, mixture):
        self.mixture, self.share = mixture, jnp.array(0.25)


def test_the_share_of_a_mixture_and_its_rows_are_found(rows):
    """A log of which 30% moves as the target does, by a, and the rest by -a."""
    generator = np.random.default_rng(0)

    def moved(gain, count):
        state, action = generator.normal(size=count), generator.uniform(-1, 1, size=count)
        return rows(state, action, state + gain * action, np.zeros(count))

    own, other = moved(1.0, 600), moved(-1.0, 1400)
    log = jax.tree.map(lambda a, b: np.concatenate([a, b]), own, other)
    domains = make_domains(log, moved(1.0, 800), "none")
    config = MixtureConfig(hidden=(32,), warm_updates=400, rounds=3, round_updates=200, batch_size=128)
    rule = PU(mixture=config)
    models = rule.prepare(domains, jax.random.key(0), lambda what, share: None)
    assert float(models.mixture.share) == pytest.approx(0.3, abs=0.08)
    positive = rule.columns(models, domains)["positive"]
    # Steps of small actions look alike in both.
    assert float(jnp.mean(positive[:600])) > 0.7
    assert float(jnp.mean(positive[600:])) < 0.15
    scored = rule.row_scores(models, domains, lambda x: x[..., 0], 0.9)
    assert float(jnp.mean(scored["logit"][:600])) > float(jnp.mean(scored["logit"][600:]))


@pytest.mark.parametrize(
    ("kind", "settings", "says"),
    [
        (PU, {"least_weight": 1.5}, "least_weight=1.5"),
        (MixtureConfig, {"rounds": 0}, "rounds=0"),
        (MixtureConfig, {"learning_rate": np.inf}, "learning_rate=inf"),
        (MixtureConfig, {"held_out": 1.0}, "held_out=1.0"),
    ],
)
def test_wrong_settings(kind, settings, says):
    with pytest.raises(UsageError, match=says):
        kind(**settings)
