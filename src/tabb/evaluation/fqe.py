"""Fitted Q evaluation: the value of a policy from logged target rows alone, without rollouts.

    Q_0 = 0,   Q_{t+1} = argmin_Q  mean w (Q(s, a) - r - γ (1 - d) Q_t(s', π(s')))² + λ |θ|²       (Le et al. 2019)
    Q(s, a) = θ · φ(s, a)            φ: random Fourier features of a Gaussian kernel (Rahimi and Recht 2007), s, a and 1
    value   = mean of Q(s, π(s)) over the first states of the logged episodes

Each regression is solved in closed form with one matrix for all policies and iterations. The matrix is nearly singular,
so the computation uses double precision and a Cholesky factor; processors and numbers of threads agree to 1e-6.

The members of an ensemble weigh rows by a bootstrap of blocks of the log, and their spread gives the interval. The
interval covers the sampling of rows and nothing else. It does not cover the bias of λ: of 100 logs of a linear system
with a known value, the 95% intervals of λ = 1e-3 contain it in 0 (no noise), 69 (some) and 89 (much), and those of
λ = 1e-5 in 90 to 92 if there is noise. It does not cover actions that the log lacks either: where π leaves the logged
actions, Q falls towards zero, and the estimate cannot be trusted. A smaller λ does not help for logs of robots: the
members then disagree by most of the range that the rewards allow. docs/selection.md says how well values rank policies.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
import scipy.linalg
import scipy.stats
from numpy.typing import NDArray

from tabb.environments.rollout import one_blas_thread
from tabb.errors import DataError, UsageError
from tabb.evaluation.statistics import CONFIDENCE, Estimate
from tabb.field_types import TypedFields
from tabb.float32 import is_constant
from tabb.policy import Policy
from tabb.transitions import Transitions, episode_starts

Report = Callable[[str, float], None]
PHASE = "off-policy evaluation"
TOGETHER = 256 * 2**20
"""bytes of features of next states that are held at once: so many policies are valued together"""
FEWEST_BLOCKS = 10
"""that a bootstrap draws from"""
FARTHEST = 10.0
"""standard deviations from the log's mean at which s and a are clipped before they enter φ"""


@dataclasses.dataclass(frozen=True)
class FQE(TypedFields):
    """Settings of fitted Q evaluation."""

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
    """adjacent rows that the bootstrap draws together, because neighbouring rows are alike; at most a tenth
    of the log"""
    remainder: float = 0.01
    """share of the value that is missing after the last iteration: γ^iterations"""
    seed: int = 0
    """seed of the features and the bootstrap"""

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
    """φ, in standard units of the log."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    phases: NDArray[np.float64]

    def __call__(self, observation: NDArray[np.float32], action: NDArray[np.float32]) -> NDArray[np.float64]:
        """Shape [N, F + S + A + 1]."""
        x = np.concatenate([observation, action], axis=-1, dtype=np.float64)
        x = np.clip((x - self.mean) / self.scale, -FARTHEST, FARTHEST)
        waves = x @ self.frequencies
        waves += self.phases
        np.cos(waves, out=waves)
        waves *= math.sqrt(2.0 / len(self.phases))
        # Linear terms are scaled down, so that λ shrinks them and distant states do not dominate.
        return np.concatenate([waves, 0.1 * x, np.ones((len(x), 1))], axis=-1)


def make_basis(config: FQE, observation: NDArray[np.float32], action: NDArray[np.float32]) -> Basis:
    """φ for a log of rows (s, a)."""
    draw = np.random.default_rng(config.seed)
    x = np.concatenate([observation, action], axis=-1, dtype=np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(is_constant(mean, scale), 1.0, scale)
    one, other = ((x - mean) / scale)[draw.integers(0, len(x), (2, 2000))]
    distances = np.linalg.norm(one - other, axis=-1)
    width = config.bandwidth * max(float(np.median(distances)), 1e-6)
    frequencies = draw.normal(size=(x.shape[-1], config.features)) / width
    phases = draw.uniform(0.0, 2.0 * np.pi, config.features)
    return Basis(mean, scale, frequencies, phases)


def block_bootstrap(rows: int, block: int, members: int, seed: int) -> NDArray[np.float64]:
    """How often each member draws each row, shape [N, K]; blocks are drawn with replacement.

    Blocks are shorter where there would be fewer than `FEWEST_BLOCKS`: all draws of a single one would be alike.
    """
    block = min(block, max(1, rows // FEWEST_BLOCKS))
    blocks = -(-rows // block)
    drawn = np.random.default_rng(seed).integers(0, blocks, (members, blocks))
    counts = np.stack([np.bincount(one, minlength=blocks) for one in drawn])
    return counts[:, np.arange(rows) // block].T.astype(np.float64)


def value_bounds(reward: NDArray[np.float32], discount: float) -> tuple[float, float]:
    """Bounds of any policy's value: the log's worst and best reward for ever, and 0 for an immediate end."""
    return min(float(reward.min()), 0.0) / (1.0 - discount), max(float(reward.max()), 0.0) / (1.0 - discount)


def fitted_values(
    factors: Sequence[NDArray[np.float64]],
    weight: NDArray[np.float64],
    now: NDArray[np.float64],
    following: Sequence[NDArray[np.float64]],
    reward: NDArray[np.float64],
    goes_on: NDArray[np.float64],
    first: Sequence[NDArray[np.float64]],
    bounds: tuple[float, float],
    iterations: int,
    report: Callable[[float], None] = lambda share: None,
) -> list[NDArray[np.float64]]:
    """Q of the first states after `iterations` regressions, for each policy and member: [K, M] for each policy.

    Args:
        factors: Cholesky factor of Σ w φ φᵀ + λ for each member, as `cholesky` gives it.
        weight: w of each row and member, shape [N, K].
        now: φ(s, a), shape [N, F].
        following: φ(s', π(s')) of each policy, shape [N, F].
        reward: r of each row.
        goes_on: γ (1 - d) of each row.
        first: φ(s, π(s)) of the first states of each policy, shape [M, F].
        bounds: least and largest Q; values are clipped to them.
        iterations: number of regressions.
        report: called with the share of them that is done, before each.
    """
    policies, members = len(following), len(factors)
    theta = np.zeros((policies, now.shape[-1], members))
    backup = np.empty((len(now), policies, members))
    for iteration in range(iterations):
        report(iteration / iterations)
        for number, features in enumerate(following):
            backup[:, number] = np.clip(features @ theta[number], *bounds)
        backup *= goes_on[:, None, None]
        backup += reward[:, None, None]
        backup *= weight[:, None]
        # The policies are taken together: what they share, `now` and the factors, is read from memory once for all.
        moments = (now.T @ backup.reshape(len(now), -1)).reshape(-1, policies, members)
        for k, factor in enumerate(factors):
            theta[:, :, k] = scipy.linalg.cho_solve((factor, True), moments[:, :, k], check_finite=False).T
    return [np.clip(features @ one, *bounds).T for features, one in zip(first, theta, strict=True)]


def estimate(
    policies: Sequence[Policy], target: Transitions, config: FQE | None = None, report: Report | None = None
) -> list[Estimate]:
    """Off-policy value of each policy with its 95% interval, in units of discounted return.

    Args:
        policies: deterministic policies of raw observations.
        target: logged rows of the target domain, raw.
        report: called with the phase and the share done, before each regression.

    Raises:
        DataError: there are no rows, or their sizes differ from the policies'.
        UsageError: a policy remembers its episode.
    """
    config, report = config or FQE(), report or (lambda what, share: None)
    if not len(target):
        raise DataError("off-policy evaluation: the target has no rows")
    for policy in policies:
        if policy.remembers:
            raise UsageError(
                "off-policy evaluation: a policy that remembers its episode has no value of a state alone; roll it out "
                "(--task, --env)"
            )
        for size in ("observation_size", "action_size"):
            if getattr(policy, size) != getattr(target, size):
                raise DataError(
                    f"off-policy evaluation: {size} is {getattr(policy, size)} in the policy and "
                    f"{getattr(target, size)} in the target data; use data of the policy's robot"
                )
    log = jax.tree.map(np.asarray, target)
    basis = make_basis(config, log.observation, log.action)
    now = basis(log.observation, log.action)
    weight = block_bootstrap(len(log), config.block, config.members, config.seed) / len(log)
    factors = [cholesky(now, weight[:, k], config.ridge) for k in range(config.members)]
    starts = log.observation[episode_starts(log)]
    reward, terminal = log.reward.astype(np.float64), log.terminal.astype(np.float64)
    goes_on = config.discount * (1.0 - terminal)
    bounds = value_bounds(log.reward, config.discount)
    together = max(1, TOGETHER // now.nbytes)
    estimates: list[Estimate] = []
    for begin in range(0, len(policies), together):
        group = policies[begin : begin + together]
        following = [basis(log.next_observation, policy.act_scaled(log.next_observation)) for policy in group]
        first = [basis(starts, policy.act_scaled(starts)) for policy in group]

        def report_group(share: float, begin: int = begin, size: int = len(group)) -> None:
            report(PHASE, (begin + share * size) / len(policies))

        # The products are narrow: more threads gain little, and on a busy machine they wait for each other.
        with one_blas_thread():
            values = fitted_values(
                factors, weight, now, following, reward, goes_on, first, bounds, config.iterations, report_group
            )
        estimates += [interval(of_policy.mean(axis=1)) for of_policy in values]
    report(PHASE, 1.0)
    return estimates


def cholesky(features: NDArray[np.float64], weight: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    """Lower Cholesky factor of Σ w φ φᵀ + λ.

    The features are nearly dependent, so the matrix is nearly singular and its inverse is never formed.

    Raises:
        UsageError: λ is smaller than the rounding error of the sum.
    """
    matrix = (features * weight[:, None]).T @ features + ridge * np.eye(features.shape[-1])
    try:
        factor: NDArray[np.float64] = scipy.linalg.cho_factor(matrix, lower=True, check_finite=False)[0]
    except np.linalg.LinAlgError:
        raise UsageError(f"fqe ridge={ridge}: too small for these features") from None
    return factor


def interval(values: NDArray[np.float64]) -> Estimate:
    """Mean of the members and the 95% interval that their spread gives: mean ± t sd, Student's t."""
    width = float(scipy.stats.t.ppf(0.5 + CONFIDENCE / 2, len(values) - 1) * np.std(values, ddof=1))
    mean = float(np.mean(values))
    return Estimate(mean, mean - width, mean + width)
