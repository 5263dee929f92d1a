"""REAG: its formulas by hand, returns that are moved to the target's, neutral settings, what is refused."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.backbones import DT, IQL
from tabb.batch import make_domains
from tabb.errors import UsageError
from tabb.models.returns_to_go import places
from tabb.results.row_scores import score_rows
from tabb.rules import REAG, Pooled, REAGDara
from tabb.rules.reag import aligned, gaussian_loss
from tabb.training import Settings, train

KEY = jax.random.key(3)
TINY = DT(context=4, width=8, layers=1, longest=12, batch_size=8)


def silent(what, share):
    pass


def test_returns_are_aligned_by_hand():
    value, source, target = jnp.asarray([5.0, 1.0]), (jnp.full(2, 3.0), jnp.full(2, 2.0)), (jnp.full(2, 10.0),)
    wide = aligned(value, source, (*target, jnp.full(2, 4.0)), 10.0)
    assert wide.tolist() == [14.0, 6.0]  # 10 + 4/2 (5 - 3), 10 + 4/2 (1 - 3)
    clipped = aligned(value, source, (*target, jnp.full(2, 4.0)), 1.5)
    assert clipped.tolist() == [13.0, 7.0]
    narrow = aligned(value, source, (*target, jnp.full(2, 0.1)), 1.25)
    assert narrow.tolist() == pytest.approx([10 + 0.8 * 2, 10 - 0.8 * 2])


def test_the_loss_by_hand():
    loss = gaussian_loss(jnp.asarray([1.0, 0.0]), jnp.log(jnp.asarray([2.0, 1.0])), jnp.asarray([5.0, 3.0]))
    assert float(loss) == pytest.approx((0.5 * 4 + math.log(2) + 0.5 * 9) / 2)


def test_source_returns_get_mean_and_spread_of_the_targets_state_by_state(rows):
    """The method's own point. Each row is an episode, and its reward depends on a state of -1 or 1."""
    draw = np.random.default_rng(0)

    def log(count, mean, slope, spread):
        state = draw.choice([-1.0, 1.0], count)
        data = rows(state, draw.uniform(-1, 1, count), state, np.ones(count))
        reward = mean + slope * state + spread * draw.normal(size=count)
        return dataclasses.replace(data, reward=reward.astype(np.float32), episode=np.arange(count, dtype=np.int32))

    source, target = log(1500, 0.0, 1.0, 1.0), log(1500, 10.0, 5.0, 2.0)
    domains = make_domains(source, target)
    rule = REAG(updates=1500, batch_size=128, hidden=(16,), learning_rate=3e-3, largest_ratio=4.0)
    conditions = rule.conditions(rule.prepare(domains, KEY, silent), domains)
    moved = np.asarray(conditions.source)
    for state, mean in ((-1, 5.0), (1, 15.0)):
        here = np.asarray(source.observation)[:, 0] == state
        assert moved[here].mean() == pytest.approx(mean, abs=0.4)
        assert moved[here].std() == pytest.approx(2.0, abs=0.4)
        assert np.corrcoef(moved[here], source.reward[here])[0, 1] > 0.95  # a better source row stays the better one
    np.testing.assert_array_equal(conditions.target, target.reward)
    assert float(conditions.aim.start) == target.reward.max()


def test_half_the_share_is_half_the_way(domains):
    rule = REAG(**REAG.small)
    models = rule.template(domains, KEY)
    none, half, whole = (
        np.asarray(dataclasses.replace(rule, share=share).conditions(models, domains).source)
        for share in (0.0, 0.5, 1.0)
    )
    np.testing.assert_allclose(half, (none + whole) / 2, rtol=1e-4, atol=1e-4)
    assert np.abs(whole - none).max() > 1e-2


def test_returns_are_summed_from_edited_rewards(domains):
    rule = REAGDara(**REAGDara.small, bonus_scale=0.5)
    models = rule.template(domains, KEY)
    bonus = np.asarray(rule.columns(models, domains)["bonus"])
    found = np.asarray(rule.conditions(models, domains).source)
    reward, place = np.asarray(domains.source.reward) + 0.5 * bonus, places(domains.source)
    ahead, wanted = 0.0, np.zeros(len(reward))
    for row in reversed(range(len(reward))):
        ahead = reward[row] + (ahead if row + 1 < len(reward) and place[row + 1] else 0.0)
        wanted[row] = ahead
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert np.abs(bonus).max() > 0


@pytest.mark.parametrize("kind", [REAG, REAGDara])
def test_neutral_conditions_are_the_logs(kind, domains, same_bits):
    """And nothing else of an update is the rule's, so it is pooled DT bit for bit."""
    rule = kind(**(kind.small | kind.neutral))
    models = rule.template(domains, KEY)
    assert same_bits(rule.conditions(models, domains), Pooled().conditions((), domains))


@pytest.mark.slow
def test_without_spread_there_is_still_a_unit(domains):
    still = domains._replace(target=dataclasses.replace(domains.target, reward=jnp.zeros(len(domains.target))))
    rule = REAG(**REAG.small)
    assert np.isfinite(rule.conditions(rule.prepare(still, KEY, silent), still).source).all()


@pytest.mark.slow
def test_trained_and_scored(pair):
    settings = Settings(updates=2, evaluations=0, backbone=TINY)
    (run,) = train(REAG(**REAG.small), *pair, settings=settings)
    scores = score_rows(run, *pair).columns
    assert {"return_shift", "return_to_go"} <= set(scores)
    assert len(scores["return_shift"]) == len(pair[0])


def test_it_needs_a_backbone_with_returns(pair):
    for rule in (REAG(), REAGDara()):
        with pytest.raises(
            UsageError,
            match=f"rule {rule.name} says what actions are conditioned on, which those of backbone iql are not; use dt",
        ):
            train(rule, *pair, settings=Settings(updates=2, backbone=IQL()))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"share": 1.5}, "share=1.5"),
        ({"largest_ratio": 0.5}, "largest_ratio=0.5"),
        ({"weight_decay": math.nan}, "weight_decay=nan"),
        ({"updates": 0}, "updates=0"),
        ({"hidden": ()}, "hidden"),
    ],
)
def test_wrong_settings_of_reag(settings, says):
    with pytest.raises(UsageError, match=says) as caught:
        REAG(**settings)
    assert "\n" not in str(caught.value)
