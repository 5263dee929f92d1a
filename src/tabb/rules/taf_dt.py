"""TAF-DT (DFDT in its first version): Decision Transformer on target windows and on trusted fragments of the source,
conditioned on advantages, its actions led by a critic and held to the target's.

    fragment   the F rows of an episode up to a source row
    filter 1   least MMD² between the fragment's states and those of a target fragment; the nearest share stays
    filter 2   d: minus the transport cost of the fragment's rows to the target's; of those of a batch the best share
               stays, with weight exp(d̃), d̃ in [-1, 0] over the batch; target windows weigh 1
    condition  2 (A - mean A) / spread,  A = Q - V of both domains' logs; acting: command(s), A's upper expectile at s
    policy     L_bc - η mean Q_i(s, π) / mean |Q_j| - c mean log p̂_T(π | s)          (i, j): the critics, in any order

Everything is fitted before training and then frozen. The authors' constants differ by robot and shift; here one set
serves all tasks. Their critic goes on learning beside the policy, and their transformer predicts states, too.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tabb.batch import Batch, Domains
from tabb.bellman import bellman_backup
from tabb.errors import UsageError
from tabb.models.cvae import CVAE, CVAEConfig, fit_cvae, init_cvae, log_likelihood
from tabb.models.fitting import Report, draw_rows, fit, run_fit, standard_steps, step_normaliser, with_next
from tabb.models.returns_to_go import Aim, Conditions, places
from tabb.models.transport import deviations
from tabb.networks import MLP, Twin, mlp, moving_average, twin
from tabb.rules.otdf import relative_score
from tabb.rules.reag import check_conditioned
from tabb.rules.rule import BackboneTraits, Metrics, Rule, Step, Weights, on_source
from tabb.transitions import Transitions

FEATURES = 256
"""random Fourier features, by which a fragment is the mean of its states' (Rahimi and Recht 2007)"""
AT_ONCE = 4_096
"""fragments that are compared at once: nothing keeps source x target in memory"""


class Trusted(eqx.Module):
    """What is known of each source row's fragment, and the networks."""

    distance: Float[Array, " n"]
    """least MMD² to a target fragment"""
    score: Float[Array, " n"]
    """d: minus the transport cost, mean over the fragment"""
    value: MLP
    critic: Twin
    advantage: Float[Array, " 2"]
    """mean and spread of the advantages of both domains"""
    command: MLP
    cvae: CVAE
    noise: Float[Array, "m z"]


class Kernel(eqx.Module):
    """Features whose products are a Gaussian kernel of states."""

    frequencies: Float[Array, "s f"]
    phases: Float[Array, " f"]

    def __call__(self, state: Float[Array, "*n s"]) -> Float[Array, "*n f"]:
        return jnp.sqrt(2.0 / self.phases.size) * jnp.cos(state @ self.frequencies + self.phases)


def kernel_of(states: Float[Array, "n s"], key: PRNGKeyArray) -> Kernel:
    """A kernel as wide as the median distance of two states."""
    pair_key, wave_key, phase_key = jax.random.split(key, 3)
    first, second = states[jax.random.randint(pair_key, (2, 2_000), 0, len(states))]
    width = jnp.maximum(jnp.median(jnp.linalg.norm(first - second, axis=-1)), 1e-6)
    frequencies = jax.random.normal(wave_key, (states.shape[1], FEATURES)) / width
    return Kernel(frequencies, jax.random.uniform(phase_key, (FEATURES,), maxval=2 * math.pi))


def fragment_rows(number: Array, place: Int[Array, " n"], length: int) -> tuple[Array, Array]:
    """Numbers of the rows of the fragment that ends at row `number`, and 1 for each that there is."""
    back = jnp.arange(1 - length, 1)
    there = (place[number] + back >= 0).astype(jnp.float32)
    return jnp.maximum(number + back, 0), there


def fragment_mean(values: Float[Array, n * w], there: Float[Array, " f"], at: Int[Array, " f"]) -> Float[Array, "*w"]:
    """Mean of a fragment's values over the rows that there are."""
    return jnp.tensordot(there, values[at], axes=1) / jnp.sum(there)


def _over_fragments(one: Any, count: int) -> Array:
    found: Array = jax.lax.map(one, jnp.arange(count), batch_size=AT_ONCE)
    return found


@functools.partial(jax.jit, static_argnums=3)
def fragment_features(
    kernel: Kernel, states: Float[Array, "n s"], place: Int[Array, " n"], length: int
) -> Float[Array, "n f"]:
    """Mean features of the states of each row's fragment: squared distances between them are MMD²."""

    def one(number: Array) -> Array:
        at, there = fragment_rows(number, place, length)
        return there @ kernel(states[at]) / jnp.sum(there)

    return _over_fragments(one, len(states))


@functools.partial(jax.jit, static_argnums=4)
def least_distances(
    kernel: Kernel,
    states: Float[Array, "n s"],
    place: Int[Array, " n"],
    target: Float[Array, "m f"],
    length: int,
) -> Float[Array, " n"]:
    """MMD² between each row's fragment and the nearest of the target's, which are given by their mean features."""

    def one(number: Array) -> Array:
        at, there = fragment_rows(number, place, length)
        mean = there @ kernel(states[at]) / jnp.sum(there)
        # In full precision: GPUs would multiply in 10 bits (TF32), and distances of like fragments would be rounding.
        products = jnp.matmul(target, mean, precision=jax.lax.Precision.HIGHEST)
        own = jnp.matmul(mean, mean, precision=jax.lax.Precision.HIGHEST)
        return jnp.maximum(jnp.min(own - 2.0 * products + jnp.sum(target**2, axis=-1)), 0.0)

    return _over_fragments(one, len(states))


@functools.partial(jax.jit, static_argnums=2)
def fragment_scores(score: Float[Array, " n"], place: Int[Array, " n"], length: int) -> Float[Array, " n"]:
    """Mean score of each row's fragment."""

    def one(number: Array) -> Array:
        at, there = fragment_rows(number, place, length)
        return fragment_mean(score, there, at)

    return _over_fragments(one, len(score))


def expectile_loss(error: Float[Array, " b"], expectile: float) -> Float[Array, ""]:
    """|τ - 1{u < 0}| u², mean over rows."""
    return jnp.mean(jnp.where(error < 0, 1.0 - expectile, expectile) * error**2)


def value_guidance(values: Float[Array, "2 b"], swap: Array) -> Float[Array, ""]:
    """-mean Q_i / mean |Q_j|, the latter without a gradient; (i, j) is (2, 1) where they are swapped."""
    first, second = jnp.where(swap, values[::-1], values)
    return -jnp.mean(first) / jnp.maximum(jnp.mean(jnp.abs(jax.lax.stop_gradient(second))), 1e-8)


@dataclasses.dataclass(frozen=True)
class TAFDT(Rule):
    """Keep the trusted fragments of the source, condition on advantages, and lead the actions by a critic."""

    name: ClassVar[str] = "taf-dt"
    backbone: ClassVar[str] = "dt"
    backbone_constants: ClassVar[dict[str, Any]] = {
        "context": 5,
        "width": 256,
        "layers": 4,
        "heads": 4,
        "learning_rate": 3e-4,
        "largest_gradient": 5.0,
        "batch_size": 256,
    }
    on_windows: ClassVar[bool] = True
    trust: ClassVar[str | None] = "score"
    trust_meaning: ClassVar[str] = "minus the transport cost of its fragment: higher is nearer to the target"
    neutral: ClassVar[dict[str, Any] | None] = {
        "condition": "return",
        "fragments": 1.0,
        "transported": 1.0,
        "weigh_windows": False,
        "value_weight": 0.0,
        "behaviour_scale": 0.0,
    }
    small: ClassVar[dict[str, Any]] = {
        "samples": 2,
        "iterations": 10,
        "value_updates": 20,
        "command_updates": 20,
        "batch_size": 16,
        "hidden": (8,),
        "cvae": CVAEConfig(hidden=(8,), updates=20, batch_size=16),
    }
    after_preparation: ClassVar[frozenset[str]] = frozenset(
        {"condition", "fragments", "transported", "weigh_windows", "value_weight", "behaviour_scale", "variance"}
    )

    condition: Literal["advantage", "return"] = "advantage"
    """what the policy is conditioned on [authors: advantage]"""
    length: int = 5
    """F, rows of a fragment [authors: 5, 10 or 20 by task; ours: 5 for all]"""
    fragments: float = 0.5
    """share of source fragments that are near enough by their states [authors: 0.5]"""
    transported: float = 0.5
    """share of these in a batch that stay, by their transport cost [authors: 0.5, or 0.65 by task]"""
    weigh_windows: bool = True
    """whether source windows weigh exp(d̃) [authors: yes]"""
    value_weight: float = 3.5
    """η, weight of the critic in the policy's loss [authors: 3.5, or 2 to 2.5 by task]"""
    behaviour_scale: float = 0.5
    """c, weight of log p̂_T, the likelihood of an action among the target's: a sum over its entries, where imitation is
    a mean over them, as in the authors' code [authors: 0.4 to 0.9 by task]"""
    advantage_scale: float = 2.0
    """factor on standardised advantages [authors: 2]"""
    command_expectile: float = 0.7
    """which expectile of the advantages at a state the policy is asked for [authors: 0.55 to 0.7 by robot]"""
    value_updates: int = 20_000
    """updates of V and Q before training [authors: 20,000]"""
    command_updates: int = 10_000
    """updates of the command, the network that says which advantage to ask for [authors: 50,000]"""
    batch_size: int = 256
    """rows of each domain in an update of V and Q and of the command [ours]"""
    learning_rate: float = 3e-4
    """Adam's rate for V, Q and the command [authors: 3e-4]"""
    slow_rate: float = 0.005
    """rate of the slow copy of V [authors: 0.005]"""
    discount: float = 0.99
    """γ [authors: 0.99]"""
    hidden: tuple[int, ...] = (256, 256)
    """widths of the hidden layers of V, Q and the command [authors: three of 256]"""
    samples: int = 10
    """latents per estimate of log p̂_T [authors: 10]"""
    variance: float = 0.1
    """variance of an action around its decoding [as OTDF]"""
    regularisation: float = 0.05
    """ε of the transport, in units of the mean cost [as OTDF; authors: 0.1 of the largest]"""
    iterations: int = 100
    """iterations of Sinkhorn's algorithm [as OTDF; authors: at most 1e5]"""
    chunk: int = 10_000
    """source rows transported at once [authors: 10,000]"""
    cvae: CVAEConfig = dataclasses.field(default_factory=CVAEConfig)
    """the autoencoder of target actions"""

    def __post_init__(self) -> None:
        for name in ("fragments", "transported", "slow_rate", "discount"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"{name}={getattr(self, name)} must lie in (0, 1]")
        for name in ("value_weight", "behaviour_scale", "learning_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} must be a number, zero or more")
        for name in ("advantage_scale", "variance", "regularisation"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name}={getattr(self, name)} must be a positive number")
        if not 0 < self.command_expectile < 1:
            raise UsageError(f"command_expectile={self.command_expectile} must lie between 0 and 1")
        counts = ("length", "value_updates", "command_updates", "batch_size", "samples", "iterations", "chunk")
        for name in counts:
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} must be at least 1")
        if not self.hidden or min(self.hidden) < 1:
            raise UsageError(f"hidden={self.hidden}: needs layers of width 1 at least")

    def check_backbone(self, backbone: BackboneTraits) -> None:
        check_conditioned(self, backbone)

    def template(self, domains: Domains, key: PRNGKeyArray) -> Trusted:
        size, action = domains.source.observation_size, domains.source.action_size
        value_key, critic_key, command_key, cvae_key = jax.random.split(key, 4)
        return Trusted(
            distance=jnp.zeros(len(domains.source)),
            score=jnp.zeros(len(domains.source)),
            value=mlp(value_key, (size, *self.hidden, 1)),
            critic=twin(critic_key, (size + action, *self.hidden, 1)),
            advantage=jnp.zeros(2),
            command=mlp(command_key, (size, *self.hidden, 1)),
            cvae=init_cvae(self.cvae, size, action, cvae_key),
            noise=jnp.zeros((self.samples, 2 * action)),
        )

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Trusted:
        init_key, kernel_key, transport_key, *keys = jax.random.split(key, 7)
        fresh = self.template(domains, init_key)
        place = jnp.asarray(places(domains.source))
        kernel = kernel_of(domains.target.observation, kernel_key)
        report("fragments", 0.0)
        target_place = jnp.asarray(places(domains.target))
        near = fragment_features(kernel, domains.target.observation, target_place, self.length)
        distance = least_distances(kernel, domains.source.observation, place, near, self.length)
        score = fragment_scores(self._transported(domains, transport_key, report), place, self.length)
        value, critic = self._values(fresh, domains, keys[0], report)
        both = _both(domains.source, domains.target)
        known = dataclasses.replace(fresh, distance=distance, score=score, value=value, critic=critic)
        plain = _advantage(known, both)
        known = dataclasses.replace(known, advantage=jnp.stack([jnp.mean(plain), jnp.maximum(jnp.std(plain), 1e-6)]))
        command = self.command_of(known, domains, keys[1], report)
        actions = [(domains.target.observation, domains.target.action)]
        cvae = fit_cvae(self.cvae, actions, keys[2], report, "autoencoder")
        noise = jax.random.normal(keys[3], fresh.noise.shape)
        return dataclasses.replace(known, command=command, cvae=cvae, noise=noise)

    def _transported(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Float[Array, " n"]:
        """d of each source row, of [s, a, s', r]; a terminal row's is the mean of the others."""
        alive = [with_next(rows, name) for name, rows in (("source", domains.source), ("target", domains.target))]
        rewards = [rows.reward[kept] for rows, kept in zip((domains.source, domains.target), alive, strict=True)]
        spread = jnp.maximum(jnp.std(jnp.concatenate(rewards)), 1e-6)
        mean = jnp.mean(jnp.concatenate(rewards))
        source, target = (
            jnp.concatenate([steps, ((reward - mean) / spread)[:, None]], axis=1)
            for steps, reward in zip(standard_steps(domains, step_normaliser(domains)), rewards, strict=True)
        )
        found = deviations(source, target, self.chunk, self.regularisation, self.iterations, key, report)
        return jnp.full(len(domains.source), jnp.mean(found)).at[alive[0]].set(found)

    def _values(self, fresh: Trusted, domains: Domains, key: PRNGKeyArray, report: Report) -> tuple[MLP, Twin]:
        """V and Q of what both logs do: Q by regression on y = r + γ (1 - d) V_slow(s'), V on the same y."""
        adam = optax.adam(self.learning_rate)

        def update(carry: tuple[tuple[MLP, Twin], MLP, Any], data: Domains, key: PRNGKeyArray) -> Any:
            (networks, slow, state), drawn = carry, []
            for rows, one in zip((data.source, data.target), jax.random.split(key), strict=True):
                number = draw_rows(jnp.arange(len(rows)), self.batch_size, one)
                drawn.append(jax.tree.map(lambda column, number=number: column[number], rows))
            batch = _both(*drawn)
            pair = jnp.concatenate([batch.observation, batch.action], axis=-1)
            following = slow(batch.next_observation)[..., 0]
            backup = bellman_backup(batch.reward, batch.terminal, following, self.discount)

            def loss(networks: tuple[MLP, Twin]) -> Array:
                value, critic = networks
                error = jnp.mean((critic(pair) - backup) ** 2, axis=-1)
                return jnp.sum(error) + jnp.mean((value(batch.observation)[..., 0] - backup) ** 2)

            change, state = adam.update(jax.grad(loss)(networks), state)
            networks = optax.apply_updates(networks, change)
            return networks, moving_average(slow, networks[0], self.slow_rate), state

        networks = fresh.value, fresh.critic
        begun = networks, jax.tree.map(jnp.copy, fresh.value), adam.init(networks)
        return run_fit(update, begun, domains, self.value_updates, key, report, "values")[0]

    def command_of(self, models: Trusted, domains: Domains, key: PRNGKeyArray, report: Report) -> MLP:
        """The expectile of the advantages at a state, fitted to as many rows of either domain."""
        data = [(rows.observation, self._conditions(models, rows)) for rows in (domains.source, domains.target)]

        def loss(command: MLP, data: list[tuple[Array, Array]], key: PRNGKeyArray) -> Array:
            error = []
            for (observation, wanted), one in zip(data, jax.random.split(key), strict=True):
                rows = draw_rows(jnp.arange(len(wanted)), self.batch_size, one)
                error.append(wanted[rows] - command(observation[rows])[..., 0])
            return expectile_loss(jnp.concatenate(error), self.command_expectile)

        adam = optax.adam(self.learning_rate)
        return fit(loss, models.command, data, adam, self.command_updates, key, report, "command")

    def _conditions(self, models: Trusted, rows: Transitions) -> Float[Array, " n"]:
        """Standardised advantages of the rows."""
        mean, spread = models.advantage
        return self.advantage_scale * (_advantage(models, rows) - mean) / spread

    def conditions(self, models: Trusted, domains: Domains) -> Conditions:
        if self.condition == "return":
            return super().conditions(models, domains)
        source, target = (self._conditions(models, rows) for rows in (domains.source, domains.target))
        return Conditions(source, target, Aim(jnp.zeros(()), jnp.ones(()), models.command))

    def columns(self, models: Trusted, domains: Domains) -> dict[str, Array]:
        del domains
        order = np.argsort(np.asarray(models.distance), kind="stable")
        near = np.zeros(len(order), np.float32)
        near[order[: max(1, round(self.fragments * len(order)))]] = 1.0
        return {"score": models.score, "near": jnp.asarray(near), "distance": models.distance}

    def select(self, step: Step) -> Batch:
        batch = step.batch
        score, near = batch.columns["score"], batch.columns["near"] > 0
        # One that is too far comes after all that are not.
        ranked = jnp.where(near, score, score - (jnp.max(score) - jnp.min(score)) - 1.0)
        return batch.best_source(ranked, max(1, math.floor(self.fragments * self.transported * batch.source_rows)))

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        plain, _ = super().weigh(step)
        if not self.weigh_windows:
            return plain, {}
        source = jnp.exp(relative_score(step.batch.columns["score"]))
        return plain._replace(policy=on_source(step.batch, source, 1.0)), {"source_weight": jnp.mean(source)}

    def actor_term(self, step: Step, action: Float[Array, "b a"]) -> Float[Array, ""]:
        term, models, observation = super().actor_term(step, action), step.models, step.batch.observation
        if self.value_weight:
            values = models.critic(jnp.concatenate([observation, action], axis=-1))
            term = term + self.value_weight * value_guidance(values, jax.random.bernoulli(step.key))
        if self.behaviour_scale:
            likelihood = log_likelihood(models.cvae, observation, action, models.noise, self.variance)
            term = term - self.behaviour_scale * jnp.mean(likelihood)
        return term


def _both(source: Transitions, target: Transitions) -> Transitions:
    """The rows of both domains."""

    def joined(name: str) -> Array:
        return jnp.concatenate([getattr(source, name), getattr(target, name)])

    return Transitions(
        joined("observation"),
        joined("action"),
        joined("reward"),
        joined("next_observation"),
        joined("terminal"),
        joined("episode"),
    )


def _advantage(models: Trusted, rows: Transitions) -> Float[Array, " n"]:
    """A(s, a) = min_i Q_i(s, a) - V(s)."""
    pair = jnp.concatenate([rows.observation, rows.action], axis=-1)
    return jnp.min(models.critic(pair), axis=0) - models.value(rows.observation)[..., 0]
