"""Fitted Q evaluation: the value of a policy from logged target rows alone, nothing rolled out.

    Q_0 = 0,   Q_{t+1} = argmin_Q  mean w (Q(s, a) - r - γ (1 - d) Q_t(s', π(s')))² + λ |θ|²       (Le et al. 2019)
    Q(s, a) = θ · φ(s, a)            φ: random Fourier features of a Gaussian kernel (Rahimi and Recht 2007), s, a and 1
    value   = mean of Q(s, π(s)) over the first states of the logged episodes

Each regression is solved, not descended: the same matrix for all policies and iterations. Members of an ensemble weigh
rows by a bootstrap of blocks of the log; their spread gives the interval. It covers the sampling of the log, not what
the log does not show: where π leaves the logged actions, Q falls back to little, and the estimate is not to be trusted.
What it is worth for ranking policies was measured: docs/selection.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, Float
from numpy.typing import NDArray

from tabb.errors import DataError, UsageError
from tabb.evaluation.statistics import CONFIDENCE, Estimate
from tabb.policy import Policy
from tabb.transitions import Transitions

Report = Callable[[str, float], None]
PHASE = "off-policy evaluation"
FARTHEST = 10.0
"""standard deviations from the log's mean at which s and a are cut off, before they go into φ"""


@dataclasses.dataclass(frozen=True)
class FQE:
    """How policies are valued off-policy."""

    discount: float = 0.99
    """γ"""
    features: int = 512
    """random Fourier features"""
    bandwidth: float = 1.0
    """width of the kernel, in units of the median distance of two logged (s, a)"""
    ridge: float = 1e-3
    """λ"""
    members: int = 10
    """members of the ensemble, for the interval"""
    block: int = 50
    """adjacent rows that are drawn together in the bootstrap: rows of one stretch say much the same"""
    remainder: float = 0.01
    """share of the value that is still missing when the iterations end: γ^iterations"""
    seed: int = 0
    """of the features and the bootstrap"""

    def __post_init__(self) -> None:
        for name in ("discount", "remainder"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(f"fqe {name}={getattr(self, name)}: must lie between 0 and 1")
        for name, least in (("features", 1), ("members", 2), ("block", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"fqe {name}={getattr(self, name)}: must be at least {least}")
        for name in ("bandwidth", "ridge"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"fqe {name}={getattr(self, name)}: must be a positive number")

    @property
    def iterations(self) -> int:
        return math.ceil(math.log(self.remainder) / math.log(self.discount))


class Basis(NamedTuple):
    """φ, with the log's own units."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    frequencies: NDArray[np.float32]
    phases: NDArray[np.float32]

    def __call__(self, observation: NDArray[np.float32], action: NDArray[np.float32]) -> NDArray[np.float32]:
        """Shape [N, F + S + A + 1]."""
        x = np.concatenate([observation, action], axis=-1)
        x = np.clip((x - self.mean) / self.scale, -FARTHEST, FARTHEST)
        waves = math.sqrt(2.0 / len(self.phases)) * np.cos(x @ self.frequencies + self.phases)
        # Linear terms are made small, so that λ holds them back and far-off states do not take over.
        return np.concatenate([waves, 0.1 * x, np.ones((len(x), 1), np.float32)], axis=-1).astype(np.float32)


def make_basis(config: FQE, observation: NDArray[np.float32], action: NDArray[np.float32]) -> Basis:
    """φ for a log of rows (s, a)."""
    draw = np.random.default_rng(config.seed)
    x = np.concatenate([observation, action], axis=-1)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale < 1e-6, 1.0, scale)
    one, other = ((x - mean) / scale)[draw.integers(0, len(x), (2, 2000))]
    distances = np.linalg.norm(one - other, axis=-1)
    width = config.bandwidth * max(float(np.median(distances)), 1e-6)
    frequencies = draw.normal(size=(x.shape[-1], config.features)) / width
    phases = draw.uniform(0.0, 2.0 * np.pi, config.features)
    return Basis(*(values.astype(np.float32) for values in (mean, scale, frequencies, phases)))


def block_bootstrap(rows: int, block: int, members: int, seed: int) -> NDArray[np.float32]:
    """How often each row counts for each member, shape [N, K]: blocks are drawn with replacement."""
    blocks = -(-rows // block)
    drawn = np.random.default_rng(seed).integers(0, blocks, (members, blocks))
    counts = np.stack([np.bincount(one, minlength=blocks) for one in drawn])
    return counts[:, np.arange(rows) // block].T.astype(np.float32)


def value_bounds(reward: NDArray[np.float32], discount: float) -> tuple[float, float]:
    """No policy is worth less or more than the log's worst or best reward for ever (or an end at once: 0)."""
    return min(float(reward.min()), 0.0) / (1.0 - discount), max(float(reward.max()), 0.0) / (1.0 - discount)


@jax.jit
def fitted_values(
    inverse: Float[Array, "k f f"],
    weighted: Float[Array, "n k"],
    now: Float[Array, "n f"],
    following: Float[Array, "n f"],
    reward: Float[Array, " n"],
    goes_on: Float[Array, " n"],
    first: Float[Array, "m f"],
    bounds: Float[Array, " 2"],
    iterations: Array,
) -> Float[Array, "k m"]:
    """Q of the first states after so many regressions, for each member.

    `inverse` is (mean w φ φᵀ + λ)⁻¹ and `weighted` w / N; `following` is φ(s', π(s')), `goes_on` γ (1 - d).
    """

    def regress(_: Array, theta: Float[Array, "f k"]) -> Float[Array, "f k"]:
        next_value = jnp.clip(following @ theta, bounds[0], bounds[1])
        backup = reward[:, None] + goes_on[:, None] * next_value
        return jnp.einsum("kfg,gk->fk", inverse, now.T @ (weighted * backup))

    theta = jax.lax.fori_loop(0, iterations, regress, jnp.zeros((now.shape[-1], weighted.shape[-1])))
    return jnp.clip(first @ theta, bounds[0], bounds[1]).T


def first_rows(episode: NDArray[np.int32]) -> NDArray[np.intp]:
    """Numbers of the rows that begin an episode."""
    return np.flatnonzero(np.diff(episode, prepend=episode[0] - 1))


def estimate(
    policies: Sequence[Policy], target: Transitions, config: FQE | None = None, report: Report | None = None
) -> list[Estimate]:
    """Off-policy value of each policy with its 95 % interval, in units of discounted return.

    Args:
        policies: deterministic policies of raw observations.
        target: logged rows of the target domain, raw.
        report: is told the share done, before each policy.

    Raises:
        DataError: no rows, or rows of another size than the policies'.
    """
    config, report = config or FQE(), report or (lambda what, share: None)
    if not len(target):
        raise DataError("off-policy evaluation: the target has no rows")
    for policy in policies:
        for size in ("observation_size", "action_size"):
            if getattr(policy, size) != getattr(target, size):
                raise DataError(
                    f"off-policy evaluation: {size} is {getattr(policy, size)} in the policy and "
                    f"{getattr(target, size)} in the target data; value it on data of its own robot"
                )
    log = jax.tree.map(np.asarray, target)
    basis = make_basis(config, log.observation, log.action)
    now = basis(log.observation, log.action)
    weighted = block_bootstrap(len(log), config.block, config.members, config.seed) / np.float32(len(log))
    inverse = np.stack([_inverse(now, weighted[:, k], config.ridge) for k in range(config.members)])
    starts = log.observation[first_rows(log.episode)]
    fixed = [jnp.asarray(array) for array in (inverse, weighted, now)]
    goes_on = jnp.asarray(config.discount * (1.0 - log.terminal), jnp.float32)
    bounds = jnp.asarray(value_bounds(log.reward, config.discount), jnp.float32)
    found = []
    for number, policy in enumerate(policies):
        report(PHASE, number / len(policies))
        following = basis(log.next_observation, policy.act(log.next_observation))
        first = basis(starts, policy.act(starts))
        values = fitted_values(*fixed, following, log.reward, goes_on, first, bounds, config.iterations)
        found.append(interval(np.asarray(values, np.float64).mean(axis=1)))
    report(PHASE, 1.0)
    return found


def _inverse(features: NDArray[np.float32], weight: NDArray[np.float32], ridge: float) -> NDArray[np.float32]:
    """(Σ w φ φᵀ + λ)⁻¹, in double precision: features of one kernel are nearly dependent."""
    wide = features.astype(np.float64)
    matrix = (wide * weight[:, None]).T @ wide + ridge * np.eye(wide.shape[-1])
    return np.linalg.inv(matrix).astype(np.float32)


def interval(values: NDArray[np.float64]) -> Estimate:
    """Mean of the members and the 95 % interval that their spread gives: mean ± t sd, Student's t."""
    width = scipy.stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * float(np.std(values, ddof=1))
    mean = float(np.mean(values))
    return Estimate(mean, mean - width, mean + width)
