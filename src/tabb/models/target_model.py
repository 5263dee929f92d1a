"""One model of the dynamics of both domains: what a step of the target domain (or of the source) leads to.

A network f(s, a) is fitted to source and target rows together. In the target domain each hidden unit is scaled and
shifted and the outputs get an offset (FiLM, Perez et al. 2018): few numbers, which start at zero and are penalised by
their size, so that the target differs from the source only as far as target rows say so. Fitted to target rows alone it
is a plain network, the control that says what the source is worth.

Errors are robust (pseudo-Huber): contacts make rare large ones. Inputs and errors are in units of the target domain,
where the model is used: a joint that the target hardly moves would otherwise count for next to nothing. Entries in
which many source rows lie beyond all target rows are seen in the source's units too.
[ours; measured: docs/measured-few-rows.md]
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.errors import DataError, UsageError
from tabb.field_types import TypedFields
from tabb.models.fitting import Report, check_widths, outcome_scales, pair_moments, run_fit, unit_beside
from tabb.networks import ACTIVATIONS, MLP, Normaliser, mlp
from tabb.transitions import Transitions

FARTHEST = 10.0
"""deviations of the data at which the model's inputs are cut"""
BEYOND = 0.1
"""share of source rows that are cut in an entry, above which the model sees it in the source's units too"""


@dataclasses.dataclass(frozen=True)
class TargetModelConfig(TypedFields):
    """How the model of both domains is built and fitted."""

    hidden: tuple[int, ...] = (256, 256, 256)
    """widths of the hidden layers"""
    members: int = 1
    """networks, each fitted on its own draws; their spread tells where the model is unsure"""
    updates: int = 6_000
    """updates of the fit"""
    batch_size: int = 256
    """rows of each domain per update"""
    learning_rate: float = 1e-2
    """AdamW's rate, falling to 0 as a cosine [ours; at 1e-3 errors over five steps are more than twice as large:
    docs/measured-few-rows.md]"""
    weight_decay: float = 1e-4
    """AdamW's decay of all weights"""
    target_weight: float = 0.5
    """weight of the target rows' loss against the source rows'"""
    last_target_weight: float = 10.0
    """the same in the last part of the fit"""
    last_part: float = 0.0
    """share of the updates that are its last part: a tighter fit to target rows, and a looser one to states beside them
    [ours; docs/measured-few-rows.md]"""
    shift_penalty: float = 0.01
    """factor on the squared size of what the target domain changes in the network"""
    target_noise: float = 0.0
    """standard deviation of the noise on the inputs of target rows"""

    def __post_init__(self) -> None:
        check_widths(self.hidden)
        for name in ("members", "updates", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"target model {name}={getattr(self, name)}: must be at least 1")
        if not 0 <= self.last_part <= 1:
            raise UsageError(f"target model last_part={self.last_part}: must lie between 0 and 1")
        weights = ("target_weight", "last_target_weight")
        for name in ("learning_rate", "weight_decay", *weights, "shift_penalty", "target_noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"target model {name}={getattr(self, name)}: must be a number, zero or more")


class TwoDomainNetwork(eqx.Module):
    """f(x, c): an MLP, and what the domain c = 1 changes in it: unit by unit a factor 1 + g and a shift, an offset."""

    base: MLP
    gains: tuple[Float[Array, " _width"], ...]
    shifts: tuple[Float[Array, " _width"], ...]
    offset: Float[Array, " o"]

    def __call__(self, x: Float[Array, "*b i"], domain: Float[Array, "*b"] | float) -> Float[Array, "*b o"]:
        """Outputs for inputs x, each in its domain: 0 the source, 1 the target, between them a mixture."""
        activate = ACTIVATIONS[self.base.activation]
        c = jnp.asarray(domain)[..., None]
        last = len(self.base.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.base.weights, self.base.biases, strict=True)):
            x = x @ weight + bias
            if i < last:
                x = activate(x * (1.0 + c * self.gains[i]) + c * self.shifts[i])
        return x + c * self.offset

    def shift_size(self) -> Float[Array, ""]:
        """Squared size of all that the target domain changes."""
        parts = [*self.gains, *self.shifts, self.offset]
        return sum((jnp.sum(part**2) for part in parts), start=jnp.zeros(()))


class PredictedStep(NamedTuple):
    """What a step leads to."""

    change: Float[Array, "*b s"]
    """s' - s"""
    reward: Float[Array, "*b"]
    terminal: Float[Array, "*b"]
    """probability that the task ends"""


class TargetModel(eqx.Module):
    """Predicts change of state, reward and terminal of (s, a), in either domain, in the units of the data.

    Members are separate networks, not one stacked: XLA's batched matrix product is many times slower on a CPU.
    """

    members: tuple[TwoDomainNetwork, ...]
    inputs: Normaliser
    """mean and spread of (s, a) in the target"""
    change_scale: Float[Array, " s"]
    rewards: Normaliser
    beyond: tuple[int, ...] = eqx.field(static=True, default=())
    """entries of (s, a) that are seen in the source's units too"""
    source_inputs: Normaliser | None = None
    """their mean and spread in the source"""

    def seen(self, observation: Float[Array, "*b s"], action: Float[Array, "*b a"]) -> Float[Array, "*b i"]:
        """What the networks see of (s, a): all entries in the target's units, then those `beyond` in the source's."""
        entries = jnp.concatenate([observation, action], axis=-1)
        x = self.inputs(entries)
        if self.source_inputs is not None:
            x = jnp.concatenate([x, self.source_inputs(entries[..., self.beyond])], axis=-1)
        return jnp.clip(x, -FARTHEST, FARTHEST)

    def outputs(
        self, observation: Float[Array, "*b s"], action: Float[Array, "*b a"], domain: float = 1.0
    ) -> Float[Array, "k *b o"]:
        """Each member's (change / change_scale, standardised reward, logit of terminal)."""
        x = self.seen(observation, action)
        return jnp.stack([member(x, domain) for member in self.members])

    def steps(
        self, observation: Float[Array, "*b s"], action: Float[Array, "*b a"], domain: float = 1.0
    ) -> PredictedStep:
        """Each member's prediction, with a leading axis for the members."""
        outputs = self.outputs(observation, action, domain)
        return PredictedStep(
            outputs[..., :-2] * self.change_scale,
            self.rewards.mean + self.rewards.scale * outputs[..., -2],
            jax.nn.sigmoid(outputs[..., -1]),
        )

    def __call__(
        self, observation: Float[Array, "*b s"], action: Float[Array, "*b a"], domain: float = 1.0
    ) -> PredictedStep:
        """The members' mean prediction."""
        return jax.tree.map(lambda part: jnp.mean(part, axis=0), self.steps(observation, action, domain))


def init_target_model(
    config: TargetModelConfig, source: Transitions | None, target: Transitions, key: PRNGKeyArray
) -> TargetModel:
    """A fresh model; before it has learned otherwise the domains are one."""
    mean, scale, moves = pair_moments(target)
    of_source = None if source is None else pair_moments(source)
    if of_source is not None:
        scale, moves = unit_beside(scale, moves, *of_source[1:])
    inputs = Normaliser(jnp.asarray(mean, jnp.float32), jnp.where(moves, jnp.asarray(scale, jnp.float32), 1.0))
    beyond = () if source is None else often_cut(source, inputs)
    source_inputs = None
    if of_source is not None and beyond:
        there = list(beyond)
        source_inputs = Normaliser(*(jnp.asarray(moment[there], jnp.float32) for moment in of_source[:2]))
    change_scale, rewards = outcome_scales(*(jax.tree.map(jnp.asarray, p) for p in (target, source) if p is not None))
    outputs = target.observation_size + 2

    def member(key: PRNGKeyArray) -> TwoDomainNetwork:
        base = mlp(key, (len(mean), *config.hidden, outputs), "swish")
        # The second look at an entry begins without effect.
        first = jnp.concatenate([base.weights[0], jnp.zeros((len(beyond), config.hidden[0]))])
        base = eqx.tree_at(lambda net: net.weights[0], base, first)
        zeros = tuple(jnp.zeros(width) for width in config.hidden)
        return TwoDomainNetwork(base, zeros, zeros, jnp.zeros(outputs))

    members = tuple(member(part) for part in jax.random.split(key, config.members))
    return TargetModel(members, inputs, change_scale, rewards, beyond, source_inputs)


def often_cut(source: Transitions, inputs: Normaliser) -> tuple[int, ...]:
    """Entries of (s, a) in which more than `BEYOND` of the source's rows lie beyond `FARTHEST` in these units."""
    # Entry by entry: all rows of Ant at once would take gigabytes.
    entries = (*np.asarray(source.observation).T, *np.asarray(source.action).T)
    units = zip(np.asarray(inputs.mean), np.asarray(inputs.scale), strict=True)
    cut = [np.mean(np.abs(x - mean) > FARTHEST * scale) for x, (mean, scale) in zip(entries, units, strict=True)]
    return tuple(i for i, share in enumerate(cut) if share > BEYOND)


def robust(error: Array) -> Array:
    """Near zero a square, far out the absolute error."""
    return jnp.sqrt(error**2 + 0.01) - 0.1


def step_loss(output: Float[Array, "b o"], goal: Float[Array, "b o"], known: Float[Array, " b"]) -> Float[Array, " b"]:
    """Loss of each row: change of state (mean over its entries, where `known`), reward, terminal."""
    change = known * jnp.mean(robust(output[:, :-2] - goal[:, :-2]), axis=-1)
    return change + robust(output[:, -2] - goal[:, -2]) + optax.sigmoid_binary_cross_entropy(output[:, -1], goal[:, -1])


def fit_target_model(
    config: TargetModelConfig,
    source: Transitions | None,
    target: Transitions,
    key: PRNGKeyArray,
    report: Report = lambda what, share: None,
) -> TargetModel:
    """Fit the model to both domains' rows, or to target rows alone (`source` None); deterministic in `key`.

    Raises:
        DataError: every row of a domain is terminal, so there are no dynamics to learn.
    """
    for name, part in (("source", source), ("target", target)):
        if part is not None and not np.any(np.asarray(part.terminal) == 0):
            raise DataError(f"{name}: every row is terminal, so there are no dynamics to learn; check terminals")
    init_key, draw_key = jax.random.split(key)
    model = init_target_model(config, source, target, init_key)
    count = config.batch_size

    def packed(data: Transitions) -> Float[Array, "n w"]:
        """Inputs, goals and what is known, side by side: drawing rows is one gather."""
        data = jax.tree.map(jnp.asarray, data)
        change = (data.next_observation - data.observation) / model.change_scale
        columns = [model.rewards(data.reward), data.terminal, 1.0 - data.terminal]
        seen = model.seen(data.observation, data.action)
        return jnp.concatenate([seen, change, *(c[:, None] for c in columns)], axis=-1)

    size = model.inputs.mean.shape[0] + len(model.beyond)
    data = tuple(packed(part) for part in (source, target) if part is not None)
    domain = jnp.repeat(jnp.asarray([0.0, 1.0] if source is not None else [1.0]), count)
    last = round((1.0 - config.last_part) * config.updates)

    def weight_of(target_weight: Array) -> Float[Array, " b"]:
        """Weights of source and target rows, 1 in the mean."""
        if source is None:
            return jnp.ones(count)
        weights = jnp.stack([jnp.ones(()), target_weight])
        return jnp.repeat(weights / jnp.mean(weights), count, total_repeat_length=2 * count)

    optimiser = optax.adamw(
        optax.cosine_decay_schedule(config.learning_rate, config.updates), weight_decay=config.weight_decay
    )

    def loss(
        member: TwoDomainNetwork, rows: Float[Array, "b w"], noise: Float[Array, "b i"], weight: Float[Array, " b"]
    ) -> Float[Array, ""]:
        x, goal, known = rows[:, :size], rows[:, size:-1], rows[:, -1]
        error = step_loss(member(x + noise, domain), goal, known)
        if source is None:  # nothing to differ from: the modulation stays at zero
            return jnp.mean(weight * error)
        return jnp.mean(weight * error) + config.shift_penalty * member.shift_size()

    def update(carry: Any, data: tuple[Array, ...], key: PRNGKeyArray) -> Any:
        members, number = carry
        weight = weight_of(jnp.where(number < last, config.target_weight, config.last_target_weight))
        changed = []
        for member_key, (member, state) in zip(jax.random.split(key, config.members), members, strict=True):
            keys = jax.random.split(member_key, len(data) + 1)
            drawn = [
                part[jax.random.randint(k, (count,), 0, len(part))] for part, k in zip(data, keys[1:], strict=True)
            ]
            noise = jnp.zeros((len(domain), size))
            if config.target_noise:
                noise = config.target_noise * domain[:, None] * jax.random.normal(keys[0], noise.shape)
            gradient = jax.grad(loss)(member, jnp.concatenate(drawn), noise, weight)
            if source is None:
                still = eqx.tree_at(lambda m: m.base, jax.tree.map(jnp.zeros_like, gradient), gradient.base)
                gradient = still
            step, state = optimiser.update(gradient, state, member)
            changed.append((optax.apply_updates(member, step), state))
        return tuple(changed), number + 1

    members = tuple((member, optimiser.init(member)) for member in model.members)
    members, _ = run_fit(update, (members, jnp.int32(0)), data, config.updates, draw_key, report, "target model")
    return eqx.tree_at(lambda m: m.members, model, tuple(member for member, _ in members))
