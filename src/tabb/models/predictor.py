"""The target-domain predictor of TABB: next state, reward and terminal that the *target* domain would give.

Two spaces: `latent` (shared encoders f: s -> z_s and g: (z_s, a) -> z_sa, trained by prediction alone, no
reinforcement learning gradient) and `raw` (normalised observations). Both have a source head, fitted on the large
data, and an ensemble of K target heads, fitted on the small data. A head's output is
(change of state / `change_scale`, standardised reward, logit of terminal).

Two forms: `direct`, in which target heads predict the outcome itself, and `residual`, in which they predict what
the source head misses on target rows, so that errors common to both domains cancel.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains, Sizes
from tabb.errors import UsageError
from tabb.models.fitting import outcome_scales, run_fit
from tabb.networks import MLP, Normaliser, avg_l1_norm, mlp, moving_average
from tabb.transitions import Transitions


@dataclasses.dataclass(frozen=True)
class PredictorConfig:
    """How the target-domain predictor is built and fitted."""

    space: Literal["raw", "latent"] = "raw"
    """where V and the predictor live: normalised observations, or the shared latent space z_s"""
    form: Literal["residual", "direct", "agreed"] = "residual"
    """whether target heads correct the source head or predict on their own, or several hypotheses of the shift are
    fitted together with the dynamics, and what they agree on counts (rules/shift_hypotheses.py)"""
    source_head: bool = True
    """fit a head on the source too, which shapes the encoders (space latent); without it they learn from the few target
    rows alone (form direct)"""
    heads: int = 5
    """K, the number of target heads; their spread estimates the predictor's error"""
    updates: int = 5_000
    """updates of the fit, before the policy's training begins"""
    batch_size: int = 256
    """rows of each domain per update"""
    learning_rate: float = 1e-3
    """AdamW's rate, falling to 0 as a cosine"""
    weight_decay: float = 1e-3
    """AdamW's decay of the heads' and encoders' weights"""
    input_noise: float = 0.1
    """standard deviation of the noise on normalised states and actions that target heads are fitted with (not with form
    agreed)"""
    latent_size: int = 64
    """width of z_s and z_sa (space latent)"""
    hidden: int = 256
    """width of the two hidden layers of encoders and source head; target heads have half"""
    slow_rate: float = 0.005
    """rate of the slow encoder, which V and the goals of prediction use (space latent)"""
    target_shares: tuple[float, ...] = (1.0, 0.1, 0.0)
    """shares of the target rows' gradient that models of the dynamics take, a model each (form agreed)"""
    shift_penalty: float = 0.01
    """factor on the size of shifts that vary with state and action (form agreed)"""

    def __post_init__(self) -> None:
        for name, known in (("space", ("raw", "latent")), ("form", ("residual", "direct", "agreed"))):
            if getattr(self, name) not in known:
                raise UsageError(f"predictor {name}={getattr(self, name)!r} is unknown: use {' or '.join(known)}")
        if self.form == "agreed" and self.space != "raw":
            raise UsageError("predictor form agreed works on observations: use space raw, or form residual or direct")
        if not self.source_head and self.form != "direct":
            raise UsageError(f"predictor form {self.form} builds on the source head: without it use form direct")
        if not self.target_shares or not all(0 <= share <= 1 for share in self.target_shares):
            raise UsageError(f"predictor target_shares={self.target_shares}: give numbers in [0, 1], one at least")
        for name in ("heads", "updates", "batch_size", "latent_size", "hidden"):
            if getattr(self, name) < 1:
                raise UsageError(f"predictor {name}={getattr(self, name)}: must be at least 1")
        for name in ("learning_rate", "weight_decay", "input_noise", "slow_rate", "shift_penalty"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"predictor {name}={getattr(self, name)}: must be a number, zero or more")


class Encoders(eqx.Module):
    """f: s -> z_s with AvgL1Norm, and g: (z_s, a) -> z_sa (SALE, Fujimoto et al. 2023)."""

    state: MLP
    state_action: MLP

    def encode(self, observation: Float[Array, "*b s"]) -> Float[Array, "*b z"]:
        return avg_l1_norm(self.state(observation))

    def encode_action(self, latent: Float[Array, "*b z"], action: Float[Array, "*b a"]) -> Float[Array, "*b z"]:
        return self.state_action(jnp.concatenate([latent, action], axis=-1))


class Outcome(NamedTuple):
    """What a step leads to: next state x' in the predictor's space, reward, probability of terminal."""

    following: Float[Array, "*b x"]
    reward: Float[Array, "*b"]
    terminal: Float[Array, "*b"]


class Predictor(eqx.Module):
    """Encoders (None in raw space), source head, and K target heads.

    The heads are separate networks, not one stacked: XLA's batched matrix product is many times slower on a CPU.
    """

    encoders: Encoders | None
    source_head: MLP
    target_heads: tuple[MLP, ...]
    change_scale: Float[Array, " x"]
    rewards: Normaliser
    """mean and spread of the source's rewards"""
    form: str = eqx.field(static=True)

    def encode(self, observation: Float[Array, "*b s"]) -> Float[Array, "*b x"]:
        """The state in the predictor's space: z_s, or the observation itself."""
        return observation if self.encoders is None else self.encoders.encode(observation)

    def trunk(self, x: Float[Array, "*b x"], action: Float[Array, "*b a"]) -> Float[Array, "*b u"]:
        """What the heads see: z_sa, or [s, a]."""
        if self.encoders is None:
            return jnp.concatenate([x, action], axis=-1)
        return self.encoders.encode_action(x, action)

    def from_scratch(self, x: Float[Array, "b x"], action: Float[Array, "b a"]) -> Outcome:
        """The K predicted target-domain outcomes of (x, a) alone, leading axes [b, K].

        In `residual` form what the target heads add goes on top of the source head's answer.
        """
        trunk = self.trunk(x, action)
        outputs = jnp.stack([head(trunk) for head in self.target_heads], axis=1)
        if self.form == "residual":
            outputs = outputs + self.source_head(trunk)[:, None]
        change, gain, logit = split(outputs)
        following = x[:, None] + self.change_scale * change
        return Outcome(following, self.rewards.mean + self.rewards.scale * gain, jax.nn.sigmoid(logit))

    def outcomes(
        self,
        x: Float[Array, "b x"],
        action: Float[Array, "b a"],
        reward: Float[Array, " b"],
        following: Float[Array, "b x"],
        terminal: Float[Array, " b"],
    ) -> Outcome:
        """The K predicted target-domain outcomes of source rows, leading axes [b, K].

        `direct` uses (x, action) alone. `residual` shifts the row's own outcome by the learned difference of
        the domains: x' + δ, r + δ_r, d + δ_d; a terminal row has no own x', there the source head stands in.
        """
        blind = self.from_scratch(x, action)
        if self.form == "direct":
            return blind
        trunk = self.trunk(x, action)
        change, gain, logit = split(jnp.stack([head(trunk) for head in self.target_heads], axis=1))
        base_logit = split(self.source_head(trunk)[:, None])[2]
        shift = jax.nn.sigmoid(base_logit + logit) - jax.nn.sigmoid(base_logit)
        ended = terminal[:, None, None] > 0
        return Outcome(
            jnp.where(ended, blind.following, following[:, None] + self.change_scale * change),
            reward[:, None] + self.rewards.scale * gain,
            jnp.clip(terminal[:, None] + shift, 0.0, 1.0),
        )


def split(output: Float[Array, "*b o"]) -> tuple[Array, Array, Array]:
    """A head's output as (change, reward, terminal logit)."""
    return output[..., :-2], output[..., -2], output[..., -1]


def init_predictor(config: PredictorConfig, domains: Domains, key: PRNGKeyArray) -> Predictor:
    """A fresh predictor; scales come from the data (spread of the changes and of the rewards)."""
    sizes = Sizes(domains.source.observation_size, domains.source.action_size)
    spread, rewards = outcome_scales(domains.source)
    encoder_key, action_key, source_key, target_key = jax.random.split(key, 4)
    wide = (config.hidden, config.hidden)
    if config.space == "latent":
        z = config.latent_size
        encoders = Encoders(
            mlp(encoder_key, (sizes.observation, *wide, z), "elu"),
            mlp(action_key, (z + sizes.action, *wide, z), "elu"),
        )
        x_size, trunk_size = z, z
        change_scale = jnp.ones(z, jnp.float32)
        head_hidden: tuple[int, ...] = (config.hidden // 2,)
    else:
        encoders = None
        x_size, trunk_size = sizes.observation, sizes.observation + sizes.action
        change_scale = spread
        head_hidden = (config.hidden // 2, config.hidden // 2)
    source_hidden = wide if config.space == "raw" else head_hidden
    heads = tuple(mlp(k, (trunk_size, *head_hidden, x_size + 2)) for k in jax.random.split(target_key, config.heads))
    if config.form == "residual":
        # The last layer starts at zero: before it has learned otherwise, the target domain equals the source.
        heads = tuple(
            eqx.tree_at(lambda h: (h.weights[-1], h.biases[-1]), head, replace_fn=jnp.zeros_like) for head in heads
        )
    source_head = mlp(source_key, (trunk_size, *source_hidden, x_size + 2))
    return Predictor(encoders, source_head, heads, change_scale, rewards, config.form)


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


def prediction_loss(
    predictor: Predictor,
    slow: Predictor,
    source: Transitions,
    target: Transitions,
    noise: tuple[Float[Array, "b s"], Float[Array, "b a"]],
    weights: Float[Array, "b k"],
    source_head: bool = True,
) -> Float[Array, ""]:
    """Prediction loss of both domains, each head on its own domain's batch; without `source_head` the target's alone.

    Head k sees target row i with weight `weights[i, k]`: the Bayesian bootstrap, so that heads disagree where
    few rows decide. In `residual` form a target head adds to the source head's answer, through which no gradient
    flows back.
    """

    def goals(data: Transitions) -> tuple[Array, Array]:
        x, following = slow.encode(data.observation), slow.encode(data.next_observation)
        change = jax.lax.stop_gradient((following - x) / predictor.change_scale)
        return change, predictor.rewards(data.reward)

    source_loss = jnp.zeros(())
    if source_head:
        change, gain = goals(source)
        trunk = predictor.trunk(predictor.encode(source.observation), source.action)
        source_loss = outcome_loss(predictor.source_head(trunk), change, gain, source.terminal, jnp.ones(len(source)))

    change, gain = goals(target)
    noisy = predictor.trunk(predictor.encode(target.observation + noise[0]), target.action + noise[1])
    base = jnp.zeros(())
    if predictor.form == "residual":
        clean = predictor.trunk(predictor.encode(target.observation), target.action)
        base = jax.lax.stop_gradient(predictor.source_head(clean))
    target_losses = [
        outcome_loss(base + head(noisy), change, gain, target.terminal, weights[:, k])
        for k, head in enumerate(predictor.target_heads)
    ]
    return source_loss + sum(target_losses)


Carry = tuple[Predictor, Predictor, optax.OptState]
"""the predictor, its slow copy, the optimiser's state"""


def fit_predictor(
    config: PredictorConfig, domains: Domains, key: PRNGKeyArray, report: Callable[[str, float], None]
) -> Predictor:
    """Fit encoders, source head and target heads together; deterministic in `key`."""
    init_key, draw_key = jax.random.split(key)
    fresh = init_predictor(config, domains, init_key)
    optimiser = optax.adamw(
        optax.cosine_decay_schedule(config.learning_rate, config.updates), weight_decay=config.weight_decay
    )
    rows = config.batch_size
    weights = jax.random.exponential(jax.random.fold_in(draw_key, config.updates), (len(domains.target), config.heads))

    def update(carry: Carry, data: tuple[Transitions, Transitions, Array], key: PRNGKeyArray) -> Carry:
        predictor, slow, state = carry
        source, target, weights = data
        keys = jax.random.split(key, 4)
        source = source[jax.random.randint(keys[0], (rows,), 0, len(source))]
        drawn = jax.random.randint(keys[1], (rows,), 0, len(target))
        target = target[drawn]
        noise = (
            config.input_noise * jax.random.normal(keys[2], target.observation.shape),
            config.input_noise * jax.random.normal(keys[3], target.action.shape),
        )
        learned, fixed = eqx.partition(predictor, trained(predictor))
        gradient = jax.grad(
            lambda part: prediction_loss(
                eqx.combine(part, fixed), slow, source, target, noise, weights[drawn], config.source_head
            )
        )(learned)
        step, state = optimiser.update(gradient, state, learned)
        predictor = eqx.combine(optax.apply_updates(learned, step), fixed)
        return predictor, moving_average(slow, predictor, config.slow_rate), state

    trainable, _ = eqx.partition(fresh, trained(fresh))
    carry = (fresh, jax.tree.map(jnp.copy, fresh), optimiser.init(trainable))
    data = (domains.source, domains.target, weights)
    predictor, slow, _ = run_fit(update, carry, data, config.updates, draw_key, report, "predictor")
    # The slow encoders are the ones that the heads learned to predict, hence those that V sees.
    return eqx.tree_at(lambda p: p.encoders, predictor, slow.encoders, is_leaf=lambda leaf: leaf is None)


def trained(predictor: Predictor) -> Predictor:
    """Mask of the leaves that the fit changes: all but the scales."""
    mask = jax.tree.map(lambda _: True, predictor)
    return eqx.tree_at(lambda p: (p.change_scale, p.rewards.mean, p.rewards.scale), mask, (False, False, False))
