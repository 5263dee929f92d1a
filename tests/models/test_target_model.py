"""The model of both domains: what it learns of a known shift, and that it is the same each time."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from tabb.errors import DataError, UsageError
from tabb.models.target_model import TargetModelConfig, fit_target_model, init_target_model
from tabb.transitions import Transitions

SMALL = TargetModelConfig(hidden=(64, 64), updates=1_500, batch_size=64)


def rows(count: int, shift: float, seed: int) -> Transitions:
    """s' = s + 0.1 (sin 2s₁, s₀ + a) + (0, shift), reward s₀ + shift, the task ends where s₁ > 1.5."""
    draw = np.random.default_rng(seed)
    s = draw.normal(size=(count, 2)).astype(np.float32)
    a = draw.uniform(-1, 1, (count, 1)).astype(np.float32)
    change = 0.1 * np.stack([np.sin(2 * s[:, 1]), s[:, 0] + a[:, 0]], axis=1) + np.array([0, shift])
    ended = (s[:, 1] > 1.5).astype(np.float32)
    following = np.where(ended[:, None] > 0, s, s + change).astype(np.float32)
    reward = (s[:, 0] + shift).astype(np.float32)
    return Transitions(s, a, reward, following, ended, np.arange(count, dtype=np.int32) // 50)


def error(model, data: Transitions, domain: float) -> float:
    prediction = model(data.observation, data.action, domain)
    alive = np.asarray(data.terminal) == 0
    return float(np.abs(np.asarray(prediction.change) - (data.next_observation - data.observation))[alive].mean())


@pytest.fixture(scope="module")
def fitted():
    return fit_target_model(SMALL, rows(5_000, 0.0, 0), rows(100, 0.1, 1), jax.random.key(0))


def test_it_knows_both_domains(fitted) -> None:
    source, target = rows(500, 0.0, 2), rows(500, 0.1, 3)
    assert error(fitted, source, 0.0) < 0.01
    assert error(fitted, target, 1.0) < 0.02
    assert error(fitted, target, 0.0) > 0.04  # the source's answer lacks the shift of 0.1 in one of two entries
    prediction = fitted(target.observation, target.action)
    assert np.abs(np.asarray(prediction.reward) - target.reward).mean() < 0.1
    assert ((np.asarray(prediction.terminal) > 0.5) == (target.terminal > 0)).mean() > 0.97


def test_the_source_helps_where_target_rows_are_few() -> None:
    few, unseen = rows(50, 0.1, 1), rows(500, 0.1, 4)
    both, alone = (fit_target_model(SMALL, one, few, jax.random.key(0)) for one in (rows(5_000, 0.0, 0), None))
    assert error(both, unseen, 1.0) < 0.5 * error(alone, unseen, 1.0)


def test_a_joint_that_the_target_hardly_moves_is_known_in_the_targets_units() -> None:
    """The source moves s₀ fifteen times as far. In the source's units the errors of the target's s₀ would be small."""

    def narrowed(data: Transitions, factor: float) -> Transitions:
        unit = np.array([factor, 1.0], np.float32)
        observation = data.observation * unit
        return dataclasses.replace(
            data,
            observation=observation,
            next_observation=observation + unit * (data.next_observation - data.observation),
        )

    source, target, unseen = rows(5_000, 0.0, 0), rows(500, 0.0, 1), rows(500, 0.0, 4)
    target, unseen = narrowed(target, 1 / 15), narrowed(unseen, 1 / 15)
    model = fit_target_model(SMALL, source, target, jax.random.key(0))
    np.testing.assert_allclose(model.inputs.scale[0], target.observation[:, 0].std(), rtol=1e-4)
    change = unseen.next_observation - unseen.observation
    missed = np.asarray(model(unseen.observation, unseen.action).change) - change
    alive = unseen.terminal == 0
    assert np.abs(missed[alive, 0]).mean() < 0.2 * change[alive, 0].std()


def far_apart() -> tuple[Transitions, Transitions, Transitions]:
    """The target moves s₀ a hundredth as far as the source does, and only s₀ says what becomes of s₁."""

    def within(data: Transitions, factor: float) -> Transitions:
        observation = data.observation * np.array([factor, 1.0], np.float32)
        change = 0.1 * np.stack([np.zeros(len(data)), np.tanh(observation[:, 0])], axis=1).astype(np.float32)
        alive = np.zeros(len(data), np.float32)
        return dataclasses.replace(
            data, observation=observation, next_observation=observation + change, reward=alive, terminal=alive
        )

    return within(rows(5_000, 0.0, 0), 1.0), within(rows(500, 0.0, 1), 0.01), within(rows(500, 0.0, 2), 1.0)


def test_where_the_target_never_was_the_model_still_tells_the_sources_states_apart() -> None:
    source, target, unseen = far_apart()
    model = fit_target_model(SMALL, source, target, jax.random.key(0))
    assert model.beyond == (0,)  # nine of ten source rows lie beyond ten target deviations, a tenth of a source's
    # Cut at ten, 0.2 and 2 would be one input.
    assert error(model, unseen, 0.0) < 0.2 * np.abs(unseen.next_observation - unseen.observation).mean()
    # By hand: the second look is in the source's units, cut at ten of them.
    moments = float(source.observation[:, 0].mean()), float(source.observation[:, 0].std())
    seen = np.asarray(model.seen(np.array([[1.0, 0.0], [50.0, 0.0]], np.float32), np.zeros((2, 1), np.float32)))
    np.testing.assert_allclose(seen[:, 0], [10.0, 10.0])
    np.testing.assert_allclose(seen[:, 3], [(1.0 - moments[0]) / moments[1], 10.0], rtol=1e-4)


def test_the_second_look_begins_without_effect_and_few_cut_rows_ask_for_none() -> None:
    source, target, _ = far_apart()
    config = TargetModelConfig(hidden=(16,))
    model = init_target_model(config, source, target, jax.random.key(0))
    first = np.asarray(model.members[0].base.weights[0])
    assert first.shape == (4, 16)
    assert not first[3].any()
    plain = init_target_model(config, None, target, jax.random.key(0))
    np.testing.assert_array_equal(first[:3], plain.members[0].base.weights[0])
    assert plain.beyond == ()
    near = rows(200, 0.0, 3)
    assert init_target_model(config, near, near, jax.random.key(0)).beyond == ()
    # Exactly a tenth of the rows may be cut.
    far = np.where(np.arange(200)[:, None] < 20, 1e3, near.observation).astype(np.float32)
    assert init_target_model(config, dataclasses.replace(near, observation=far), near, jax.random.key(0)).beyond == ()
    far[20] = 1e3
    moved = dataclasses.replace(near, observation=far)
    assert init_target_model(config, moved, near, jax.random.key(0)).beyond == (0, 1)


def test_target_rows_count_more_in_the_last_part() -> None:
    """Where domains contradict each other and nothing may tell them apart, the last part decides for the target."""
    source, target = rows(2_000, 0.0, 0), rows(2_000, 0.3, 1)
    held_together = dataclasses.replace(SMALL, shift_penalty=1e6)
    even = fit_target_model(held_together, source, target, jax.random.key(0))
    late = fit_target_model(dataclasses.replace(held_together, last_part=0.4), source, target, jax.random.key(0))
    unseen = rows(500, 0.3, 4)
    assert error(late, unseen, 1.0) < 0.5 * error(even, unseen, 1.0)


def test_alone_it_has_no_modulation() -> None:
    alone = fit_target_model(SMALL, None, rows(100, 0.1, 1), jax.random.key(0))
    assert float(alone.members[0].shift_size()) == 0


def test_members_differ_and_agree_on_shapes() -> None:
    config = TargetModelConfig(hidden=(16,), updates=20, members=2, target_noise=0.1)
    model = fit_target_model(config, rows(200, 0.0, 0), rows(50, 0.1, 1), jax.random.key(0))
    steps = model.steps(np.zeros((7, 2), np.float32), np.zeros((7, 1), np.float32))
    assert steps.change.shape == (2, 7, 2)
    assert steps.reward.shape == steps.terminal.shape == (2, 7)
    assert not np.allclose(steps.change[0], steps.change[1])


def test_a_fit_is_the_same_each_time() -> None:
    config = TargetModelConfig(hidden=(16,), updates=50)
    first, second = (fit_target_model(config, rows(200, 0.0, 0), rows(50, 0.1, 1), jax.random.key(3)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))


def test_what_cannot_be_fitted_is_refused() -> None:
    data = rows(50, 0.0, 0)
    ended = Transitions(
        data.observation, data.action, data.reward, data.observation, np.ones(50, np.float32), data.episode
    )
    with pytest.raises(DataError, match="target"):
        fit_target_model(SMALL, data, ended, jax.random.key(0))
    for name, value in (("members", 0), ("last_part", 1.5), ("last_target_weight", -1.0)):
        with pytest.raises(UsageError, match=name):
            TargetModelConfig(**{name: value})
