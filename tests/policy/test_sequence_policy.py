"""A policy that remembers its episode: several in step, what it is told, files, what is refused."""

import dataclasses

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tabb.action_bounds import ActionBounds
from tabb.deploy import export
from tabb.environments.rollout import rollout
from tabb.environments.tasks import get_task
from tabb.errors import RunError, UsageError
from tabb.evaluation.fqe import estimate
from tabb.evaluation.scores import evaluate
from tabb.networks import Normaliser, mlp
from tabb.policy import Policy, SequencePolicy
from tabb.rendering.recording import record
from tabb.transformer import Steps, init_transformer

CONTEXT = 3


def made(command=None, **changes):
    network = init_transformer(3, 2, 8, 1, 1, 10, jax.random.key(0))
    normaliser = Normaliser(jnp.full(3, 0.5), jnp.full(3, 2.0))
    policy = SequencePolicy.from_transformer(network, CONTEXT, 10.0, 4.0, command, normaliser, {"seed": 1})
    return dataclasses.replace(policy, **changes)


@pytest.fixture(scope="module")
def episodes():
    """Observations [T, B, S], actions that were applied and rewards of two episodes in step."""
    generator = np.random.default_rng(0)
    seen = generator.normal(size=(6, 2, 3)).astype(np.float32)
    return seen, generator.uniform(-1, 1, (6, 2, 2)).astype(np.float32), generator.normal(size=(6, 2))


def played(policy, episodes):
    """The policy's actions [T, B, A]."""
    actor, actions = policy.actor(2), []
    for seen, applied, reward in zip(*episodes, strict=True):
        actions.append(actor.act(seen))
        actor.told(applied, reward)
    return np.stack(actions)


@pytest.mark.parametrize("offset", [0.0, -0.5])
def test_it_acts_by_the_last_steps_and_what_is_left_of_the_return(episodes, offset):
    policy = made(reward_offset=offset)
    found = played(policy, episodes)
    seen, applied, reward = episodes
    for t in range(6):
        first = max(0, t - CONTEXT + 1)
        window = slice(first, t + 1)
        left = 10.0 - np.cumsum(np.vstack([np.zeros(2), reward + offset]), axis=0)[window]
        steps = Steps(
            (left.T / 4.0).astype(np.float32),
            ((seen[window] - 0.5) / 2.0).swapaxes(0, 1),
            applied[window].swapaxes(0, 1),
            np.broadcast_to(np.arange(first, t + 1), (2, t + 1 - first)),
            np.ones((2, t + 1 - first), np.float32),
        )
        np.testing.assert_allclose(found[t], np.tanh(policy.network(steps)[:, -1]), atol=1e-5)


def test_a_command_says_what_to_ask_for(episodes):
    command = mlp(jax.random.key(1), (3, 4, 1))
    found = played(made(command), episodes)
    # What was gained then does not matter, what was done does.
    seen, applied, reward = episodes
    np.testing.assert_array_equal(played(made(command), (seen, applied, reward + 1)), found)
    assert np.abs(played(made(command), (seen, applied + 0.1, reward))[1:] - found[1:]).max() > 1e-5
    assert np.abs(played(made(), episodes) - found).max() > 1e-5


def test_episodes_in_step_are_the_episodes_alone(episodes):
    policy, (seen, applied, reward) = made(), episodes
    both, actor = played(policy, episodes), policy.actor(2)
    for t in range(3):
        actor.act(seen[t])
        actor.told(applied[t], reward[t])
    actor.keep(np.array([1]))
    for t in range(3, 6):
        np.testing.assert_allclose(actor.act(seen[t, 1:]), both[t, 1:], atol=1e-6)
        actor.told(applied[t, 1:], reward[t, 1:])


def test_actions_in_the_units_of_the_robot(episodes):
    bounds = ActionBounds((0.0, -2.0), (1.0, 2.0))
    seen, applied, reward = episodes
    scaled = played(made(), episodes)
    found = played(made(action_bounds=bounds), (seen, bounds.restored(applied), reward))
    np.testing.assert_allclose(found, bounds.restored(scaled), atol=1e-5)


def test_saved_and_loaded(tmp_path, episodes):
    for policy in (made(), made(mlp(jax.random.key(1), (3, 4, 1)), reward_offset=-1.0)):
        loaded = Policy.load(policy.save(tmp_path / "policy.npz"))
        assert isinstance(loaded, SequencePolicy)
        assert (loaded.context, loaded.start, loaded.unit) == (3, 10.0, 4.0)
        assert loaded.about == {"seed": 1}
        np.testing.assert_array_equal(played(loaded, episodes), played(policy, episodes))


@pytest.mark.parametrize("name", ["network.blocks.0.query.weight", "network.time", "context", "unit"])
def test_a_damaged_file_is_one_line(tmp_path, name):
    path = made().save(tmp_path / "policy.npz")
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    arrays[name] = arrays[name][..., 1:] if arrays[name].ndim else -arrays[name]
    np.savez(path, **arrays)
    with pytest.raises(RunError, match="damaged") as caught:
        Policy.load(path)
    assert "\n" not in str(caught.value)


def test_what_is_refused_is_one_line(tmp_path, episodes, pair):
    policy, (seen, applied, reward) = made(), episodes
    actor = policy.actor(2)

    def twice():
        policy_actor = policy.actor(2)
        policy_actor.act(seen[0])
        policy_actor.act(seen[1])

    for does, says in (
        (lambda: policy.act(seen[0]), "cannot act by an observation alone; begin episodes with policy.actor"),
        (lambda: policy.predict(seen[0]), "policy.actor"),
        (lambda: actor.told(applied[0], reward[0]), "act first"),
        (lambda: actor.act(seen[0, :1]), "one for each of the 2 episodes"),
        (lambda: actor.act(np.full((2, 3), np.nan)), "NaN"),
        (twice, "told"),
        (lambda: policy.actor(0), "episodes=0"),
        (lambda: export(policy, "onnx", tmp_path / "policy.onnx"), "remembers its episode"),
        (lambda: export(policy, "stablehlo", tmp_path / "policy.stablehlo"), "use npz"),
        (lambda: estimate([policy], pair[1]), "no value of a state alone"),
    ):
        with pytest.raises(UsageError, match=says) as caught:
            does()
        assert "\n" not in str(caught.value)
    actor.act(seen[0])
    with pytest.raises(UsageError, match="give"):
        actor.told(applied[0, :1], reward[0])
    for told, says in (
        ((applied[0], [0.0, np.nan]), "told of rewards that hold NaN or infinity"),
        ((applied[0] * np.inf, reward[0]), "told of actions that hold NaN or infinity"),
    ):
        with pytest.raises(UsageError, match=says):
            actor.told(*told)
    assert export(policy, "npz", tmp_path / "policy.npz").is_file()


def test_an_observation_that_is_refused_is_not_remembered(episodes):
    seen, applied, reward = episodes
    policy = made(scale=np.full(3, 0.1, np.float32))
    wanted, actor = played(policy, episodes), policy.actor(2)
    for t in range(3):
        with pytest.raises(UsageError, match="overflow"):
            actor.act(np.full((2, 3), 3e38))
        np.testing.assert_array_equal(actor.act(seen[t]), wanted[t])
        actor.told(applied[t], reward[t])


def test_a_film_shows_the_episodes_of_the_evaluation():
    network = init_transformer(11, 3, 8, 1, 1, 10, jax.random.key(0))
    policy = SequencePolicy.from_transformer(
        network, CONTEXT, 50.0, 10.0, None, Normaliser(jnp.zeros(11), jnp.ones(11))
    )
    wanted = evaluate(policy, "hopper", 2, seed=5)
    (filmed,) = record(policy, get_task("hopper"), 2, 5, [1])
    assert filmed.return_at(len(filmed.rewards)) == wanted.returns[1]


class Wandering(gymnasium.Env):
    """Draws its observations and rewards; its episodes have 5 to 7 steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-0.1, 0.1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        self._draw, self._left = np.random.default_rng(seed), 5 + seed % 3
        return self._draw.normal(size=3).astype(np.float32), {}

    def step(self, action):
        self._left -= 1
        return self._draw.normal(size=3).astype(np.float32), self._draw.normal(), self._left == 0, False, {}


def test_a_rollout_tells_it_what_was_done():
    """As by hand, episode by episode, though episodes end at different steps and actions are clipped."""
    policy = made()
    together = rollout(policy, None, 3, seed=5, env_factory=Wandering, record=True)
    assert together.lengths.tolist() == [7, 5, 6]
    assert np.abs(together.rows.action).max() == np.float32(0.1)  # clipped
    starts = np.cumsum(np.append(0, together.lengths))
    for episode, length in enumerate(together.lengths):
        rows = slice(starts[episode], starts[episode] + length)
        actor, seen = policy.actor(1), together.rows
        for observation, action, reward in zip(
            seen.observation[rows], seen.action[rows], seen.reward[rows], strict=True
        ):
            np.testing.assert_allclose(np.clip(actor.act(observation[None])[0], -0.1, 0.1), action, atol=1e-5)
            actor.told(action[None], reward[None])
