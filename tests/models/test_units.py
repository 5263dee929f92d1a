"""The unit of a column changes nothing that is fitted to it: scales follow it; what stands still keeps its answer."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tabb.batch import Domains, make_domains
from tabb.models.agreed_shift import AgreedShift
from tabb.models.ensemble import EnsembleConfig, init_ensemble
from tabb.models.inverse import InverseConfig, init_inverse
from tabb.models.target_model import TargetModelConfig, init_target_model
from tabb.models.tracking import follows, spreads
from tabb.networks import normaliser_of
from tabb.rules.dvdf import relative
from tabb.rules.soft_weights import soft_weight
from tabb.rules.vgdf import backup_likelihood
from tabb.transitions import Transitions

KEY = jax.random.key(0)
UNITS = st.sampled_from([1e-8, 1e-3, 1e3, 1e8])


def log(factors: np.ndarray, seed: int) -> Transitions:
    """Two columns that move and one that stands at 7, each in a unit of its own."""
    draw = np.random.default_rng(seed)
    state = np.c_[draw.normal(seed, 0.7, (300, 2)), np.full(300, 7.0)]
    following = state + np.c_[draw.normal(0, 0.1, (300, 2)), np.zeros(300)]
    columns = (
        factors * state,
        draw.uniform(-1, 1, (300, 1)),
        draw.normal(size=300),
        factors * following,
        np.zeros(300),
    )
    return Transitions(*(np.asarray(column, np.float32) for column in columns), np.arange(300, dtype=np.int32) // 50)


def domains(factors: np.ndarray, normalise: str = "none") -> Domains:
    return make_domains(log(factors, 0), log(factors, 1), normalise)


def scales(data: Domains) -> dict[str, np.ndarray]:
    """What the models divide observations (and changes) by."""
    inverse = init_inverse(InverseConfig(hidden=(4,), domains="both"), data.source, data.target, KEY).inputs
    model = init_target_model(TargetModelConfig(hidden=(4,)), data.source, data.target, KEY)
    ensemble = init_ensemble(EnsembleConfig(members=1, elites=1, hidden=(4,)), data.target, KEY, 1)
    agreed = AgreedShift(heads=1, hidden=4, target_shares=(1.0,)).init(data, KEY)
    found = {
        "inverse": inverse.scale[:3],
        "inverse, changes": inverse.scale[3:],
        "target model": model.inputs.scale[:3],
        "target model, changes": model.change_scale,
        "ensemble": ensemble.inputs.scale[:3],
        "ensemble, changes": ensemble.scale,
        "agreed shift": agreed.spread[:3],
        "agreed shift, changes": agreed.change_scale,
        "tracking": spreads(jnp.asarray(data.target.observation)),
    }
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


USUAL = scales(domains(np.ones(3)))


@settings(max_examples=8, deadline=None)
@given(st.tuples(UNITS, UNITS, UNITS))
def test_scales_follow_the_units(units: tuple[float, float, float]) -> None:
    factors = np.array(units)
    for name, scale in scales(domains(factors)).items():
        expected = USUAL[name] * np.where([True, True, False], factors, 1.0)
        # What stands still has a scale of its own; the agreed shift adds up to a hundredth to each spread.
        moving, tolerance = (slice(0, 2), 1e-2) if name == "agreed shift" else (slice(0, 3), 1e-3)
        np.testing.assert_allclose(scale[moving], expected[moving], rtol=tolerance, err_msg=name)


@pytest.mark.parametrize("unit", [1e-8, 1e8])
@pytest.mark.parametrize("which", [0, slice(0, 3)])
def test_learners_see_the_same(unit: float, which: int | slice) -> None:
    factors = np.ones(3)
    factors[which] = unit
    usual, other = (domains(value, "pooled") for value in (np.ones(3), factors))
    for side in ("source", "target"):
        for part in ("observation", "next_observation"):
            seen = [np.asarray(getattr(getattr(data, side), part)) for data in (usual, other)]
            np.testing.assert_allclose(seen[1], seen[0], rtol=1e-2, atol=1e-5)


def test_a_place_far_from_zero_has_its_spread() -> None:
    """The difference of squares in single precision has none."""
    data = dataclasses.replace(log(np.ones(3), 1), next_observation=log(np.ones(3), 1).observation)
    far = dataclasses.replace(data, observation=data.observation + np.float32(5000), next_observation=data.observation)
    near, moved = (
        init_inverse(InverseConfig(hidden=(4,)), part, jax.tree.map(jnp.asarray, part), KEY).inputs.scale[:3]
        for part in (data, far)
    )
    np.testing.assert_allclose(moved, near, rtol=1e-3)


@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
def test_rows_follow_in_any_unit(unit: float) -> None:
    data = log(np.full(3, unit), 0)
    following = np.roll(data.observation, -1, axis=0)
    following[20] += 0.1 * unit  # a row is missing after it
    np.testing.assert_array_equal(
        np.flatnonzero(np.asarray(follows(dataclasses.replace(data, next_observation=following))) == 0),
        [20, 49, 99, 149, 199, 249, 299],
    )


@pytest.mark.parametrize("unit", [1e-8, 1e8])
def test_returns_in_any_unit(unit: float) -> None:
    draw = np.random.default_rng(0)
    own, predicted = jnp.asarray(draw.normal(size=20)), jnp.asarray(draw.normal(size=(20, 3)))
    usual, other = backup_likelihood(own, predicted), backup_likelihood(unit * own, unit * predicted)
    np.testing.assert_allclose(other + np.log(unit), usual, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(relative(unit * own), relative(own), atol=1e-5)
    doubt = jnp.abs(own)
    weights = [soft_weight(factor * doubt, 1.0, factor * jnp.mean(doubt)) for factor in (1.0, unit)]
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-5)


def test_members_that_agree_have_a_likelihood() -> None:
    predicted = jnp.asarray([[3.0, 3.0], [0.0, 0.0]])
    assert np.isfinite(backup_likelihood(jnp.asarray([3.0, 0.0]), predicted)).all()


@pytest.mark.parametrize("unit", [1e-8, 1e8])
def test_the_normaliser_of_collected_rows_follows_their_unit(unit: float) -> None:
    draw = np.random.default_rng(0)
    table = np.c_[draw.normal(0, 0.5, 200), draw.normal(0, 0.05, 200), np.full(200, 3.0)]
    usual, other = (np.asarray(normaliser_of((factor * table).astype(np.float32)).scale) for factor in (1.0, unit))
    np.testing.assert_allclose(other, usual * [unit, unit, 1.0], rtol=1e-5)
    assert usual[2] == 1.0
