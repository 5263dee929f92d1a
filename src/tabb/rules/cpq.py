"""CPQ (Xu et al., AAAI 2022): learn rewards under a limit on costs, where the data have a cost for each row.

    q_lim     limit (1 - γ^T) / ((1 - γ) T)               the limit on an episode's sum of costs, as a discounted value
    y         r + γ (1 - d) 1{Q_c(s', π(s')) <= q_lim} V(s')
    y_c       c + γ (1 - d) max_i Q_c,i,slow(s', π(s'))
    L_c       Σ_i mean (Q_c,i - y_c)² - e^α mean over unlike actions (Q_c - m q_lim)
    unlike    of n noisy actions of the policy in each state of a row whose cost is known, the quarter that an
              autoencoder of logged actions finds least like those; α rises while these look cheap (their mean is below
              m q_lim), and falls else
    policy    its loss counts in states where its own action is within the limit; in the others it is drawn to the row's
              action, if that is within it

Costs are those of the target's rows, and of the source's where its log has any: "target cost limit, source rewards".
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains, Sizes
from tabb.errors import DataError, UsageError
from tabb.models.cvae import CVAE, CVAEConfig, fit_cvae, init_cvae
from tabb.models.fitting import Report
from tabb.models.imitation import LOGGED, Imitation
from tabb.networks import Twin, moving_average, twin
from tabb.rules.rule import Metrics, Rule, Step, Value, Weights, on_source
from tabb.transitions import Transitions

COSTS = ("cost", "costs")
"""names of the column, the first that a log has"""
LARGEST_LOG = 5.0
"""α stays within ± this [authors: 5]"""
NOISE_KEY = 1
"""folded into an update's key for the noise on the policy's actions"""


class Costs(NamedTuple):
    """What is learned of costs."""

    critic: Twin
    slow_critic: Twin
    optimiser: optax.OptState
    log_weight: Float[Array, ""]
    """α"""
    weight_optimiser: optax.OptState


def cost_limit(limit: float, discount: float, horizon: int) -> float:
    """q_lim: the discounted value of costs that spread a sum of `limit` evenly over `horizon` steps."""
    total = float(horizon) if discount == 1 else (1.0 - discount**horizon) / (1.0 - discount)
    return limit * total / horizon


def least_like(
    divergence: Float[Array, " n"], share: float, known: Float[Array, " n"] | None = None
) -> Float[Array, " n"]:
    """1 for the share of actions of the largest divergence from the data's, else 0; of those alone that are `known`."""
    if known is not None:
        divergence = jnp.where(known > 0, divergence, jnp.nan)
    # No number is larger than one that is none.
    return (divergence >= jnp.nanquantile(divergence, 1.0 - share)).astype(jnp.float32)


def action_divergence(cvae: CVAE, state: Float[Array, "n s"], action: Float[Array, "n a"]) -> Float[Array, " n"]:
    """KL(q(z | s, a), N(0, 1)) of each action, summed over latents: small for actions like the data's."""
    mean, log_deviation = cvae.encode(state, action)
    return -0.5 * jnp.sum(1.0 + 2.0 * log_deviation - mean**2 - jnp.exp(2.0 * log_deviation), axis=-1)


def costs_of(data: Transitions) -> Float[Array, " n"] | None:
    """The costs of rows; None where the log has none."""
    return next((data.extras[name] for name in COSTS if name in data.extras), None)


@dataclasses.dataclass(frozen=True)
class CPQ(Rule):
    """Learn rewards as far as costs stay below a limit."""

    name: ClassVar[str] = "cpq"
    backbone: ClassVar[str] = "td3-bc"
    extras: ClassVar[tuple[str, ...]] = COSTS
    imitation: ClassVar[Imitation] = LOGGED
    """All rows: the episodes of the largest return may be those that cost most."""
    neutral: ClassVar[dict[str, Any] | None] = {"limit": math.inf}
    small: ClassVar[dict[str, Any]] = {
        "hidden": (8,),
        "actions": 2,
        "limit": 0.5,
        "cvae": CVAEConfig(hidden=(8,), updates=40, batch_size=16),
    }
    after_preparation: ClassVar[frozenset[str]] = frozenset(
        {"limit", "horizon", "actions", "noise", "unlike", "margin", "hidden", "learning_rate", "weight_rate"}
        | {"slow_rate", "way_back"}
    )

    limit: float = 10.0
    """largest sum of costs of an episode, in the data's unit; inf asks for none [authors: 10]"""
    horizon: int = 1_000
    """T, steps of an episode over which the limit is spread [authors: 300, which their tasks have]"""
    actions: int = 10
    """n, noisy actions of the policy in each state, of which those unlike the data's are found [authors: 10]"""
    noise: float = 0.2
    """standard deviation of their noise [theirs is the policy's own, which is stochastic; ours: TD3's]"""
    unlike: float = 0.25
    """share of these actions that count as unlike the data's [authors: a quarter]"""
    margin: float = 1.5
    """m: the cost critics learn that unlike actions cost m times the limit [authors: 1.5]"""
    way_back: float = 1.0
    """weight of imitating the row's action in states where the policy's own action is beyond the limit and the row's is
    within it [ours; authors: 0, with which the policy does not learn in such states]"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of the cost critics [authors: 256, 256]"""
    learning_rate: float = 1e-3
    """Adam's rate for the cost critics [authors: 1e-3]"""
    weight_rate: float = 1e-4
    """Adam's rate for α, the logarithm of the weight of unlike actions [authors: 1e-4]"""
    slow_rate: float = 0.005
    """rate of the slow cost critics [authors: 0.005]"""
    cvae: CVAEConfig = dataclasses.field(default_factory=lambda: CVAEConfig(hidden=(400, 400)))
    """the autoencoder of both domains' actions [authors: 2 x 400, divergence 0.5]"""

    def __post_init__(self) -> None:
        if not self.limit > 0:
            raise UsageError(f"limit={self.limit} must be positive (inf asks for none)")
        for name in ("horizon", "actions"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("unlike", "slow_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"{name}={getattr(self, name)} must lie in (0, 1]")
        for name in ("noise", "margin", "way_back", "learning_rate", "weight_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} must be a number, zero or more")
        if not self.hidden or min(self.hidden) < 1:
            raise UsageError(f"hidden={self.hidden}: needs layers of width 1 at least")

    @property
    def limited(self) -> bool:
        """Whether there is a limit at all."""
        return math.isfinite(self.limit)

    # --- Before training ---

    def template(self, domains: Domains, key: PRNGKeyArray) -> CVAE:
        return init_cvae(self.cvae, domains.target.observation_size, domains.target.action_size, key)

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> CVAE:
        logged = [(part.observation, part.action) for part in (domains.source, domains.target)]
        return fit_cvae(self.cvae, logged, key, report, "autoencoder")

    def columns(self, models: Any, domains: Domains) -> dict[str, Array]:
        cost = costs_of(domains.source)
        zeros = jnp.zeros(len(domains.source))
        return {"cost": zeros, "known": zeros} if cost is None else {"cost": cost, "known": zeros + 1.0}

    def target_columns(self, models: Any, domains: Domains) -> dict[str, Array]:
        cost = costs_of(domains.target)
        if cost is None:
            raise DataError("target: rule cpq needs the cost of each row; name the column `cost` or `costs`")
        return {"cost": cost}

    def row_scores(self, models: Any, domains: Domains, value: Value, discount: float) -> dict[str, Array]:
        """Nothing: a row's cost is no doubt about it."""
        return {}

    def init_learned(self, sizes: Sizes, key: PRNGKeyArray) -> Costs:
        critic = twin(key, (sizes.observation + sizes.action, *self.hidden, 1))
        alpha = jnp.zeros(())
        return Costs(
            critic,
            jax.tree.map(jnp.copy, critic),
            optax.adam(self.learning_rate).init(critic),
            alpha,
            optax.adam(self.weight_rate).init(alpha),
        )

    # --- One update ---

    def observe(self, step: Step) -> tuple[Costs, Metrics]:
        learned: Costs = step.learned
        if not self.limited:
            return learned, {"cost_value": jnp.zeros(()), "unlike_cost": jnp.zeros(())}
        batch, cvae, lim = step.batch, step.models, self.value_limit(step)
        cost = jnp.concatenate([batch.columns["cost"], batch.target_columns["cost"]])
        known = on_source(batch, batch.columns["known"], 1.0)
        ahead = cost_at(learned.slow_critic, batch.next_observation, step.policy(batch.next_observation))
        backup = cost + step.discount * (1.0 - batch.terminal) * ahead

        state = jnp.repeat(batch.observation, self.actions, axis=0)
        action = step.policy(state)
        noise = jax.random.normal(jax.random.fold_in(step.key, NOISE_KEY), action.shape)
        action = jnp.clip(action + self.noise * noise, -1.0, 1.0)
        # A row without a cost holds no cost down: none is raised at its state either.
        far = least_like(action_divergence(cvae, state, action), self.unlike, jnp.repeat(known, self.actions))

        def loss(critic: Twin) -> tuple[Array, tuple[Array, Array]]:
            values = critic(jnp.concatenate([batch.observation, batch.action], axis=-1))
            error = jnp.sum(known * (values - backup) ** 2) / jnp.maximum(jnp.sum(known), 1.0)
            costs = jnp.sum(far * critic(jnp.concatenate([state, action], -1)), -1)
            unlike = jnp.mean(costs / jnp.maximum(jnp.sum(far), 1.0))
            return error - jnp.exp(learned.log_weight) * unlike, (jnp.mean(values), unlike)

        gradient, (value, unlike) = jax.grad(loss, has_aux=True)(learned.critic)
        change, optimiser = optax.adam(self.learning_rate).update(gradient, learned.optimiser)
        critic: Twin = optax.apply_updates(learned.critic, change)
        # α descends on the mean's lead over m q_lim.
        slope, weight_optimiser = optax.adam(self.weight_rate).update(
            unlike - self.margin * lim, learned.weight_optimiser
        )
        log_weight = jnp.clip(learned.log_weight + slope, -LARGEST_LOG, LARGEST_LOG)
        slow = moving_average(learned.slow_critic, critic, self.slow_rate)
        return Costs(critic, slow, optimiser, log_weight, weight_optimiser), {
            "cost_value": value,
            "unlike_cost": unlike,
        }

    def value_limit(self, step: Step) -> float:
        """q_lim with the backbone's discount."""
        return cost_limit(self.limit, step.discount, self.horizon)

    def within(self, step: Step, state: Float[Array, "b s"], action: Float[Array, "b a"]) -> Float[Array, " b"]:
        """1 where actions keep the limit, 0 where they do not."""
        cost = cost_at(step.learned.slow_critic, state, action)
        return (cost <= self.value_limit(step)).astype(jnp.float32)

    def next_value(self, step: Step, next_value: Float[Array, " b"]) -> Float[Array, " b"]:
        if not self.limited:
            return next_value
        state = step.batch.next_observation
        return self.within(step, state, step.policy(state)) * next_value

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        plain, metrics = super().weigh(step)
        if not self.limited:
            return plain, metrics | {"within_limit": jnp.ones(())}
        state = step.batch.observation
        within = self.within(step, state, step.policy(state))
        return plain._replace(policy=within), metrics | {"within_limit": jnp.mean(within)}

    def actor_term(self, step: Step, action: Float[Array, "b a"]) -> Float[Array, ""]:
        if not (self.limited and self.way_back):
            return super().actor_term(step, action)
        batch = step.batch
        own = self.within(step, batch.observation, step.policy(batch.observation))
        row = self.within(step, batch.observation, batch.action)
        distance = jnp.mean((action - batch.action) ** 2, axis=-1)
        return self.way_back * jnp.mean((1.0 - own) * row * distance)


def cost_at(critic: Twin, state: Float[Array, "b s"], action: Float[Array, "b a"]) -> Float[Array, " b"]:
    """max_i Q_c,i(s, a): the costlier of the two critics' estimates."""
    return jnp.max(critic(jnp.concatenate([state, action], axis=-1)), axis=0)
