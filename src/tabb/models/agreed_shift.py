"""The agreed shift, TABB's default predictor: what the target domain changes, as far as several hypotheses of it agree.

A model f of the dynamics is fitted to both domains together with shifts δ that target rows alone see:

    source rows   (s' - s, r) = f(s, a)             target rows   (s' - s, r) = f(s, a) + δ(s, a)

Data cannot say which part of a difference is the shift and which is f's error in states that the source never visited.
So there are several answers, and what they have in common counts:

- a model f for each share of the target rows' gradient that f takes: with 1, f explains target rows as far as it can
  and δ is what is left; with 0, f is a source model and δ is all that it misses;
- for each f a constant δ (gravity), a linear one, and a network; each K times, on bootstrapped target rows.

The *agreed* shift is the mean of them all, shrunk towards no shift where they disagree (positive-part James-Stein).
Errors are robust (pseudo-Huber, in units of a learned scale): contacts make rare large ones.
[ours; measured: docs/methods/tabb.md]
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import DAMPING, Domains
from tabb.errors import UsageError
from tabb.models.fitting import Report, never_changes, outcome_scales, run_fit
from tabb.models.target_predictor import Outcome, TargetPredictor, check_constants
from tabb.networks import MLP, Normaliser, mlp
from tabb.transitions import Transitions

BLOCK = 50
"""rows that the bootstrap draws together: those that follow each other are not independent"""
FARTHEST = 5.0
"""deviations of the target data at which the input of a shift is cut: it was fitted within"""
SHIFT_HIDDEN = (64, 64)
"""hidden layers of a network shift"""


class Shift(eqx.Module):
    """K shifts δ_k(z) = b_k + W_k z + h_k(z); z is (s, a) in deviations of the target data, o = S + 1."""

    constant: Float[Array, "k o"]
    linear: Float[Array, "i k o"] | None = None
    networks: tuple[MLP, ...] = ()

    def varying(self, z: Float[Array, "b i"]) -> Float[Array, "b k o"]:
        """What depends on z."""
        shift = jnp.zeros((len(z), *self.constant.shape), z.dtype)
        if self.linear is not None:
            shift = shift + jnp.tensordot(z, self.linear, axes=1)
        if self.networks:
            shift = shift + jnp.stack([network(z) for network in self.networks], axis=1)
        return shift

    def __call__(self, z: Float[Array, "b i"]) -> Float[Array, "b k o"]:
        return self.constant + self.varying(z)


class Dynamics(eqx.Module):
    """f with its constant, linear and network shifts, and the logarithms of the errors' scales."""

    model: MLP
    shifts: tuple[Shift, ...]
    log_scale: Float[Array, " o"]
    target_log_scale: Float[Array, "f o"]


class ShiftEnsemble(eqx.Module):
    """All hypotheses, fitted."""

    dynamics: Dynamics
    """Leaves have a leading axis: one f for each share of the target rows' gradient."""
    middle: Float[Array, " i"]
    spread: Float[Array, " i"]
    change_scale: Float[Array, " s"]
    rewards: Normaliser
    """mean and spread of the source's rewards"""

    def standardised(self, observation: Float[Array, "b s"], action: Float[Array, "b a"]) -> Float[Array, "b i"]:
        """z: (s, a) in deviations of the target data, cut where no shift was fitted."""
        z = (jnp.concatenate([observation, action], axis=-1) - self.middle) / self.spread
        return jnp.clip(z, -FARTHEST, FARTHEST)

    def parts(self) -> list[Dynamics]:
        """The models f one by one, each with its shifts."""
        return [jax.tree.map(lambda leaf, i=i: leaf[i], self.dynamics) for i in range(len(self.dynamics.log_scale))]


def agreed_shift(shifts: Float[Array, "b m o"]) -> Float[Array, "b o"]:
    """Mean of M hypotheses, entry by entry shrunk by (1 - variance / mean²)₊: what they disagree on is no shift."""
    mean, variance = jnp.mean(shifts, axis=1), jnp.var(shifts, axis=1, ddof=1)
    return mean * jnp.clip(1.0 - variance / (mean**2 + 1e-12), 0.0, 1.0)


def damped(spread: Float[Array, " i"], still: Array) -> Float[Array, " i"]:
    """What inputs are divided by: the spread + `DAMPING`, as observations are (`tabb.batch.scale_of`); in units as
    small as 0.1 a hundredth of the usual (median) spread takes its place. Columns that stand still have that alone.
    """
    usual = jnp.nanmedian(jnp.where(still, jnp.nan, spread))
    damping = jnp.fmin(DAMPING, 0.01 * usual)
    return jnp.where(still | (spread >= 2 * damping), spread + damping, spread)


def robust(error: Array) -> Array:
    """Near zero a square, far out the absolute error."""
    return jnp.sqrt(error**2 + 0.01)


def block_bootstrap(key: PRNGKeyArray, rows: int, heads: int) -> Float[Array, "n k"]:
    """Weights of rows for each head, mean 1: the Bayesian bootstrap over blocks of neighbouring rows."""
    blocks = jax.random.exponential(key, (-(-rows // BLOCK), heads))
    weights = jnp.repeat(blocks, BLOCK, axis=0)[:rows]
    return weights / jnp.mean(weights, axis=0)


def dynamics_loss(
    dynamics: Dynamics,
    source: tuple[Array, Array, Array],
    target: tuple[Array, Array, Array],
    z: tuple[Float[Array, "b i"], Float[Array, "c i"]],
    weights: Float[Array, "c k"],
    share: float | Float[Array, ""],
    penalty: float,
) -> Float[Array, ""]:
    """Robust negative log-likelihood of both domains' rows, plus the size of the shifts that vary.

    `source` and `target` are (inputs [b, i], goals [b, o], known [b, o]); `z` is what shifts see of both.
    """
    size = source[1].shape[-1] - 1

    def misfit(error: Array, log_scale: Array) -> Array:
        return robust(error / jnp.exp(log_scale)) + log_scale

    inputs, goals, known = source
    total = jnp.mean(jnp.sum(known * misfit(dynamics.model(inputs) - goals, dynamics.log_scale), axis=-1)) / size
    inputs, goals, known = target
    base = dynamics.model(inputs)
    base = share * base + (1 - share) * jax.lax.stop_gradient(base)
    unit = jax.lax.stop_gradient(jnp.exp(dynamics.log_scale))
    for shift, log_scale in zip(dynamics.shifts, dynamics.target_log_scale, strict=True):
        varying = shift.varying(z[1])
        error = misfit((base - goals)[:, None] + shift.constant + varying, log_scale)
        total += 0.5 * jnp.mean(weights * jnp.sum(known[:, None] * error, axis=-1)) / size
        if shift.linear is not None:
            for part in (shift.varying(z[0]), varying):
                total += 0.5 * penalty * jnp.mean(jnp.sum(robust(part / unit), axis=-1)) / size
    return total


def rows_to_fit(data: Transitions, ensemble: ShiftEnsemble) -> tuple[Array, Array, Array]:
    """Inputs (s, a) [n, i], goals (scaled change, standardised reward) [n, o], and which goals are known [n, o]."""
    change = (data.next_observation - data.observation) / ensemble.change_scale
    alive = jnp.broadcast_to(1 - data.terminal[:, None], change.shape)
    return (
        jnp.concatenate([data.observation, data.action], axis=-1),
        jnp.concatenate([change, ensemble.rewards(data.reward[:, None])], axis=-1),
        # A terminal row has a reward and no next state.
        jnp.concatenate([alive, jnp.ones((len(data), 1), alive.dtype)], axis=-1),
    )


@dataclasses.dataclass(frozen=True)
class AgreedShift(TargetPredictor):
    """Move a source row's own outcome by the shift that several hypotheses agree on.

    It learns how outcomes differ, and so what a source row's own outcome would be. Of (s, a) alone it says what f does
    with the shifts: a yardstick of the fit.
    """

    name: ClassVar[str] = "agreed"
    moves_own_outcome = True
    gives_target_outcomes = True
    usual_uncertainty = 0.2

    heads: int = 5
    """how often each hypothesis is fitted, on bootstrapped target rows"""
    updates: int = 8_000
    """updates of the fit, before the policy's training begins"""
    batch_size: int = 256
    """source rows per update; half as many target rows"""
    learning_rate: float = 1e-3
    """AdamW's rate, falling to 0 as a cosine"""
    weight_decay: float = 1e-4
    """AdamW's decay of all weights"""
    hidden: int = 256
    """width of the two hidden layers of f"""
    target_shares: tuple[float, ...] = (1.0, 0.1, 0.0)
    """shares of the target rows' gradient that models of the dynamics take, a model each"""
    shift_penalty: float = 0.01
    """factor on the size of shifts that vary with state and action"""

    def __post_init__(self) -> None:
        whole = ("heads", "updates", "batch_size", "hidden")
        check_constants(self, whole, ("learning_rate", "weight_decay", "shift_penalty"))
        if not self.target_shares or not all(0 <= share <= 1 for share in self.target_shares):
            raise UsageError(f"predictor target_shares={self.target_shares}: give numbers in [0, 1], one at least")

    def init(self, domains: Domains, key: PRNGKeyArray) -> ShiftEnsemble:
        """Fresh hypotheses: before they have learned otherwise, the domains are one."""
        size = domains.source.observation_size
        inputs, outputs, k = size + domains.source.action_size, size + 1, self.heads

        def dynamics(key: PRNGKeyArray) -> Dynamics:
            model_key, shift_key = jax.random.split(key)
            fresh = [mlp(part, (inputs, *SHIFT_HIDDEN, outputs)) for part in jax.random.split(shift_key, k)]
            still = tuple(
                eqx.tree_at(lambda net: (net.weights[-1], net.biases[-1]), net, replace_fn=jnp.zeros_like)
                for net in fresh
            )
            constant, linear = jnp.zeros((k, outputs)), jnp.zeros((inputs, k, outputs))
            # A network shift has the linear part too: the network bends it.
            shifts = (Shift(constant), Shift(constant, linear), Shift(constant, linear, still))
            model = mlp(model_key, (inputs, self.hidden, self.hidden, outputs))
            return Dynamics(model, shifts, jnp.zeros(outputs), jnp.zeros((len(shifts), outputs)))

        change_scale, rewards = outcome_scales(domains.source, domains.target)
        target = jnp.concatenate([domains.target.observation, domains.target.action], axis=-1)
        spread, still = jnp.std(target, axis=0), never_changes(target)
        fresh = map(dynamics, jax.random.split(key, len(self.target_shares)))
        return ShiftEnsemble(
            # Stacked by NumPy: JAX would compile a program for each shape.
            jax.tree.map(lambda *leaves: jnp.array(np.stack(leaves)), *fresh),
            jnp.mean(target, axis=0),
            damped(spread, still),
            change_scale,
            rewards,
        )

    def fit(self, domains: Domains, key: PRNGKeyArray, report: Report) -> ShiftEnsemble:
        """Fit f and its shifts, once for each of `target_shares`; deterministic in `key`."""
        init_key, draw_key, weight_key = jax.random.split(key, 3)
        ensemble = self.init(domains, init_key)
        rows, size = self.batch_size, domains.source.observation_size
        optimiser = optax.adamw(
            optax.cosine_decay_schedule(self.learning_rate, self.updates), weight_decay=self.weight_decay
        )
        weights = block_bootstrap(weight_key, len(domains.target), self.heads)
        data = (rows_to_fit(domains.source, ensemble), (*rows_to_fit(domains.target, ensemble), weights))
        shares = jnp.asarray(self.target_shares)

        def drawn(data: Any, key: PRNGKeyArray, count: int) -> Any:
            picked = jax.random.randint(key, (count,), 0, len(data[0]))
            return tuple(column[picked] for column in data)

        def update(carry: Any, data: Any, key: PRNGKeyArray) -> Any:
            source_key, target_key = jax.random.split(key)
            source = drawn(data[0], source_key, rows)
            *target, weights = drawn(data[1], target_key, max(1, rows // 2))
            z = [ensemble.standardised(part[0][:, :size], part[0][:, size:]) for part in (source, target)]

            def one(model: tuple[Dynamics, Any, Array]) -> tuple[Dynamics, Any]:
                dynamics, state, share = model
                gradient = jax.grad(dynamics_loss)(
                    dynamics, source, tuple(target), (z[0], z[1]), weights, share, self.shift_penalty
                )
                step, state = optimiser.update(gradient, state, dynamics)
                return optax.apply_updates(dynamics, step), state

            # One after the other: XLA's batched matrix product is many times slower on a CPU.
            return jax.lax.map(one, (*carry, shares))

        carry = (ensemble.dynamics, jax.vmap(optimiser.init)(ensemble.dynamics))
        dynamics, _ = run_fit(update, carry, data, self.updates, draw_key, report, "shift hypotheses")
        return eqx.tree_at(lambda whole: whole.dynamics, ensemble, dynamics)

    def outcomes(self, models: ShiftEnsemble, rows: Transitions) -> Outcome:
        """Target-domain outcomes of source rows, leading axes [b, 1 + H]: moved by the agreed shift, then by the mean
        over the bootstrap of each of the H hypotheses that vary with (s, a). Whether the task ends is left as it was.

        A terminal row has no next state of its own: there its state stands in, of which nothing is made.
        """
        z = models.standardised(rows.observation, rows.action)
        following = jnp.where(rows.terminal[:, None] > 0, rows.observation, rows.next_observation)
        hypotheses = [shift for part in models.parts() for shift in part.shifts]
        shifts = [shift(z) for shift in hypotheses]
        means = [jnp.mean(of, axis=1) for shift, of in zip(hypotheses, shifts, strict=True) if shift.linear is not None]
        moved = jnp.stack([agreed_shift(jnp.concatenate(shifts, axis=1)), *means], axis=1)
        return Outcome(
            following[:, None] + models.change_scale * moved[..., :-1],
            rows.reward[:, None] + models.rewards.scale * moved[..., -1],
            jnp.broadcast_to(rows.terminal[:, None], moved.shape[:2]),
        )

    def target_outcomes(self, models: ShiftEnsemble, rows: Transitions) -> Outcome:
        """f(s, a) + δ(s, a) by each hypothesis that varies, [b, H]. Whether the task ends is the row's own."""
        z = models.standardised(rows.observation, rows.action)
        inputs = jnp.concatenate([rows.observation, rows.action], axis=-1)
        answers = [
            part.model(inputs) + jnp.mean(shift(z), axis=1)
            for part in models.parts()
            for shift in part.shifts
            if shift.linear is not None
        ]
        answer = jnp.stack(answers, axis=1)
        return Outcome(
            rows.observation[:, None] + models.change_scale * answer[..., :-1],
            models.rewards.mean + models.rewards.scale * answer[..., -1],
            jnp.broadcast_to(rows.terminal[:, None], answer.shape[:2]),
        )

    def predicted_backup(self, backups: Float[Array, "b h"]) -> Float[Array, " b"]:
        """That of the agreed shift, which comes first."""
        return backups[:, 0]

    def doubt(self, backups: Float[Array, "b h"], own: Float[Array, " b"]) -> Float[Array, " b"]:
        """mean_k |b̂_k - b| over the hypotheses that vary: the larger, the more some of them say against the row"""
        return jnp.mean(jnp.abs(backups[:, 1:] - own[:, None]), axis=-1)
