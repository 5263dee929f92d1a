"""Target heads: K small networks of the target domain's dynamics beside one of the source's, fitted together.

The source head learns from the large data, each target head from the small data with bootstrap weights of its own. A
head's output is (change of state / `change_scale`, standardised reward, logit of terminal). What the output of target
heads is added to, and what becomes of a source row, is up to the predictor; where states live, to its `space`.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains, Sizes
from tabb.models.fitting import Report, outcome_scales, run_fit
from tabb.models.target_predictor import Outcome, TargetPredictor, check_constants
from tabb.networks import MLP, Normaliser, avg_l1_norm, mlp
from tabb.transitions import Transitions


class Encoders(eqx.Module):
    """f: s -> z_s with AvgL1Norm, and g: (z_s, a) -> z_sa (SALE, Fujimoto et al. 2023)."""

    state: MLP
    state_action: MLP

    def encode(self, observation: Float[Array, "*b s"]) -> Float[Array, "*b z"]:
        return avg_l1_norm(self.state(observation))

    def encode_action(self, latent: Float[Array, "*b z"], action: Float[Array, "*b a"]) -> Float[Array, "*b z"]:
        return self.state_action(jnp.concatenate([latent, action], axis=-1))


class Heads(eqx.Module):
    """Encoders (None where V sees observations), source head, and K target heads.

    The heads are separate networks, not one stacked: XLA's batched matrix product is many times slower on a CPU.
    """

    encoders: Encoders | None
    source_head: MLP
    target_heads: tuple[MLP, ...]
    change_scale: Float[Array, " x"]
    rewards: Normaliser
    """mean and spread of the source's rewards"""

    def encode(self, observation: Float[Array, "*b s"]) -> Float[Array, "*b x"]:
        """The state as V sees it: z_s, or the observation itself."""
        return observation if self.encoders is None else self.encoders.encode(observation)

    def trunk(self, x: Float[Array, "*b x"], action: Float[Array, "*b a"]) -> Float[Array, "*b u"]:
        """What the heads see: z_sa, or [s, a]."""
        if self.encoders is None:
            return jnp.concatenate([x, action], axis=-1)
        return self.encoders.encode_action(x, action)

    def target_outputs(self, trunk: Float[Array, "b u"]) -> Float[Array, "b k o"]:
        """The outputs of all target heads."""
        return jnp.stack([head(trunk) for head in self.target_heads], axis=1)


class Space(NamedTuple):
    """Where states live, and the shapes that follow from it."""

    encoders: Encoders | None
    state: int
    """width of x"""
    trunk: int
    """width of what the heads see"""
    change_scale: Float[Array, " x"]
    source_hidden: tuple[int, ...]
    target_hidden: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class HeadPredictor(TargetPredictor):
    """Constants and fit that all predictors with target heads share; V sees observations."""

    gives_target_outcomes = True

    heads: int = 5
    """K, the number of target heads; their spread estimates the predictor's error"""
    updates: int = 5_000
    """updates of the fit, before the policy's training begins"""
    batch_size: int = 256
    """rows of each domain per update"""
    learning_rate: float = 1e-3
    """AdamW's rate, falling to 0 as a cosine"""
    weight_decay: float = 1e-3
    """AdamW's decay of all weights"""
    input_noise: float = 0.1
    """standard deviation of the noise on normalised states and actions that target heads are fitted with"""
    hidden: int = 256
    """width of the two hidden layers of the source head (and of encoders); target heads have half"""

    def __post_init__(self) -> None:
        whole = ("heads", "updates", "batch_size", "hidden")
        check_constants(self, whole, ("learning_rate", "weight_decay", "input_noise"))

    # --- What the kinds of predictors differ in ---

    @abc.abstractmethod
    def base(self, models: Heads, trunk: Float[Array, "b u"]) -> Float[Array, "*b o"]:
        """What the outputs of target heads are added to; it broadcasts with [b, o]."""

    def fresh_target_heads(self, heads: tuple[MLP, ...]) -> tuple[MLP, ...]:
        """The target heads that a fit begins with, from networks drawn at random."""
        return heads

    def space(self, domains: Domains, keys: tuple[PRNGKeyArray, PRNGKeyArray]) -> Space:
        """Where states live."""
        del keys
        sizes = Sizes(domains.source.observation_size, domains.source.action_size)
        change_scale, _ = outcome_scales(domains.source, domains.target)
        wide, half = (self.hidden, self.hidden), (self.hidden // 2, self.hidden // 2)
        return Space(None, sizes.observation, sizes.observation + sizes.action, change_scale, wide, half)

    def follow(self, slow: Heads, models: Heads) -> Heads:
        """The slow copy after an update: only encoders need one."""
        del models
        return slow

    # --- The fit ---

    def init(self, domains: Domains, key: PRNGKeyArray) -> Heads:
        """Fresh networks; scales come from the data (spread of the changes and of the rewards)."""
        *encoder_keys, source_key, target_key = jax.random.split(key, 4)
        space = self.space(domains, (encoder_keys[0], encoder_keys[1]))
        _, rewards = outcome_scales(domains.source, domains.target)
        output = space.state + 2
        target_heads = tuple(
            mlp(k, (space.trunk, *space.target_hidden, output)) for k in jax.random.split(target_key, self.heads)
        )
        source_head = mlp(source_key, (space.trunk, *space.source_hidden, output))
        return Heads(space.encoders, source_head, self.fresh_target_heads(target_heads), space.change_scale, rewards)

    def fit(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Heads:
        """Fit encoders, source head and target heads together; deterministic in `key`."""
        init_key, draw_key = jax.random.split(key)
        fresh = self.init(domains, init_key)
        optimiser = optax.adamw(
            optax.cosine_decay_schedule(self.learning_rate, self.updates), weight_decay=self.weight_decay
        )
        rows = self.batch_size
        weights = jax.random.exponential(jax.random.fold_in(draw_key, self.updates), (len(domains.target), self.heads))

        def update(carry: Carry, data: tuple[Transitions, Transitions, Array], key: PRNGKeyArray) -> Carry:
            models, slow, state = carry
            source, target, weights = data
            keys = jax.random.split(key, 4)
            source = source[jax.random.randint(keys[0], (rows,), 0, len(source))]
            drawn = jax.random.randint(keys[1], (rows,), 0, len(target))
            target = target[drawn]
            noise = (
                self.input_noise * jax.random.normal(keys[2], target.observation.shape),
                self.input_noise * jax.random.normal(keys[3], target.action.shape),
            )
            learned, fixed = eqx.partition(models, trained(models))
            gradient = jax.grad(
                lambda part: self.loss(eqx.combine(part, fixed), slow, source, target, noise, weights[drawn])
            )(learned)
            step, state = optimiser.update(gradient, state, learned)
            models = eqx.combine(optax.apply_updates(learned, step), fixed)
            return models, self.follow(slow, models), state

        trainable, _ = eqx.partition(fresh, trained(fresh))
        carry = (fresh, jax.tree.map(jnp.copy, fresh), optimiser.init(trainable))
        data = (domains.source, domains.target, weights)
        models, slow, _ = run_fit(update, carry, data, self.updates, draw_key, report, "predictor")
        # The slow encoders are the ones that the heads learned to predict, hence those that V sees.
        return eqx.tree_at(lambda p: p.encoders, models, slow.encoders, is_leaf=lambda leaf: leaf is None)

    def loss(
        self,
        models: Heads,
        slow: Heads,
        source: Transitions,
        target: Transitions,
        noise: tuple[Float[Array, "b s"], Float[Array, "b a"]],
        weights: Float[Array, "b k"],
    ) -> Float[Array, ""]:
        """Prediction loss of both domains, each head on its own domain's batch.

        Head k sees target row i with weight `weights[i, k]`: the Bayesian bootstrap, so that heads disagree where
        few rows decide. No gradient flows back through what the target heads add to.
        """
        source_loss = self.source_loss(models, slow, source)
        change, gain = goals(models, slow, target)
        noisy = models.trunk(models.encode(target.observation + noise[0]), target.action + noise[1])
        base = jax.lax.stop_gradient(self.base(models, models.trunk(models.encode(target.observation), target.action)))
        target_losses = [
            outcome_loss(base + head(noisy), change, gain, target.terminal, weights[:, k])
            for k, head in enumerate(models.target_heads)
        ]
        return source_loss + sum(target_losses)

    def source_loss(self, models: Heads, slow: Heads, source: Transitions) -> Float[Array, ""]:
        """The source head's loss on rows of the source."""
        change, gain = goals(models, slow, source)
        trunk = models.trunk(models.encode(source.observation), source.action)
        return outcome_loss(models.source_head(trunk), change, gain, source.terminal, jnp.ones(len(source)))

    # --- What it predicts ---

    def target_outcomes(self, models: Heads, rows: Transitions) -> Outcome:
        x = models.encode(rows.observation)
        trunk = models.trunk(x, rows.action)
        outputs = models.target_outputs(trunk)
        change, gain, logit = split(outputs + self.base(models, trunk)[..., None, :])
        following = x[:, None] + models.change_scale * change
        return Outcome(following, models.rewards.mean + models.rewards.scale * gain, jax.nn.sigmoid(logit))

    def predicted_backup(self, backups: Float[Array, "b k"]) -> Float[Array, " b"]:
        """mean_k b̂_k"""
        return jnp.mean(backups, axis=-1)

    def doubt(self, backups: Float[Array, "b k"], own: Float[Array, " b"]) -> Float[Array, " b"]:
        """std_k b̂_k, how much the heads disagree"""
        del own
        return jnp.std(backups, axis=-1)


Carry = tuple[Heads, Heads, Any]
"""the models, their slow copy, the optimiser's state"""


def split(output: Float[Array, "*b o"]) -> tuple[Array, Array, Array]:
    """A head's output as (change, reward, terminal logit)."""
    return output[..., :-2], output[..., -2], output[..., -1]


def goals(models: Heads, slow: Heads, data: Transitions) -> tuple[Float[Array, "b x"], Float[Array, " b"]]:
    """What heads are to answer: the change of state as the slow encoders see it, and the standardised reward."""
    x, following = slow.encode(data.observation), slow.encode(data.next_observation)
    change = jax.lax.stop_gradient((following - x) / models.change_scale)
    return change, models.rewards(data.reward)


def outcome_loss(
    output: Float[Array, "b o"],
    change: Float[Array, "b x"],
    reward: Float[Array, " b"],
    terminal: Float[Array, " b"],
    weight: Float[Array, " b"],
) -> Float[Array, ""]:
    """Squared error of change and reward plus cross-entropy of terminal, rows weighted by `weight`.

    A terminal row has no next state to fit: it teaches reward and terminal only.
    """
    predicted_change, predicted_reward, logit = split(output)
    state_loss = (1.0 - terminal) * jnp.mean((predicted_change - change) ** 2, axis=-1)
    reward_loss = (predicted_reward - reward) ** 2
    terminal_loss = optax.sigmoid_binary_cross_entropy(logit, terminal)
    return jnp.mean(weight * (state_loss + reward_loss + terminal_loss))


def trained(models: Heads) -> Heads:
    """Mask of the leaves that the fit changes: all but the scales."""
    mask = jax.tree.map(lambda _: True, models)
    return eqx.tree_at(lambda p: (p.change_scale, p.rewards.mean, p.rewards.scale), mask, (False, False, False))
