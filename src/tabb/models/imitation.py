"""What a policy imitates of the target's rows: all or those of the best episodes, alone or with copies beside the path.

Few rows of mixed behaviour make a policy that switches between behaviours and falls. With `best` it imitates the best
episodes (kin of %BC, Chen et al. 2021, which knows the share of rows; here the returns say it). The rows of the others
count little, by `others`: where the best episodes have been they hardly matter, elsewhere they alone say what to do.

A network fits a few thousand rows to the last digit and drifts off them at the first deviation, where no row says what
to do. Each target row in a batch therefore stands, in the policy's loss alone, for itself or for one of its copies:

- *noisy*: the state with noise, the action as it is;
- *corrective*: the state with noise, and the action that leads back to the logged next state
  (`tabb.models.corrective`).

V and Q see logged rows alone, and a copy has the advantage weight of its row.
[ours; kin of DART, Laskey et al. 2017, and CCIL, Ke et al. 2024]
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import NDArray

from tabb.batch import Domains
from tabb.errors import UsageError
from tabb.field_types import TypedFields
from tabb.models.corrective import CorrectiveConfig, corrective_rows
from tabb.models.fitting import Report
from tabb.models.target_model import TargetModelConfig, fit_target_model
from tabb.transitions import Transitions

LEAST = 0.2
"""share of the target's rows that a policy imitates at least, however good one episode is"""


@dataclasses.dataclass(frozen=True)
class Imitation(TypedFields):
    """What the policy imitates of the target's rows."""

    best: float = 0.0
    """imitate the episodes whose return is at least this share of the best episode's; 0 imitates all rows alike"""
    others: float = 0.0
    """weight of the rows of all other episodes, where one of the best has 1"""
    rows: Literal["logged", "noisy", "corrective"] = "logged"
    """`logged` rows alone; or with copies: of noisy states (`noisy`), whose actions also lead back (`corrective`)"""
    copies: int = 4
    """copies of each target row"""
    noise: float = 0.05
    """standard deviation of the noise on the states of copies and of the starts of rollouts, in standard deviations of
    the target's observations, entry by entry"""
    stay: float = 0.02
    """weight that holds a corrective action to the logged one"""
    matching: float | None = 0.0
    """weight of trajectory matching (`tabb.models.matching`) against imitation: the policy acts in a model of the
    target domain and is held to the logged paths. 0 is without. None is 0.1 in runs of 5,000 updates or more, on
    backbones that can, with rows in memory, and 0 elsewhere"""
    horizon: int = 5
    """H: steps that the policy acts in the model"""
    rollouts: int = 64
    """paths per update that the policy is held to"""
    model: Literal["both", "target"] = "both"
    """rows that the model behind corrective actions and matching is fitted to: `both` domains' if the rule draws source
    rows, or the `target`'s alone"""
    model_updates: int = 5_000
    """updates of that fit"""

    def __post_init__(self) -> None:
        for name in ("copies", "horizon", "rollouts", "model_updates"):
            if getattr(self, name) < 1:
                raise UsageError(f"imitation {name}={getattr(self, name)}: give a whole number, 1 or more")
        for name in ("noise", "stay"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"imitation {name}={getattr(self, name)}: must be a positive number")
        if self.matching is not None and not 0 <= self.matching < math.inf:
            raise UsageError(f"imitation matching={self.matching}: must be a number, zero or more")
        if not 0 <= self.best <= 1:
            raise UsageError(f"imitation best={self.best}: a share of the best return lies in [0, 1]")
        if not 0 <= self.others <= 1:
            raise UsageError(f"imitation others={self.others}: a weight beside that of the best episodes, in [0, 1]")

    def without_effect(self) -> dict[str, str]:
        held = self.matching is None or self.matching > 0
        silent: dict[str, str] = {}
        if not held:
            silent |= dict.fromkeys(("horizon", "rollouts"), "matching above 0")
        if not self.best:
            silent["others"] = "best above 0"
        if self.rows == "logged":
            silent["copies"] = "rows noisy or corrective"
        if self.rows != "corrective":
            silent["stay"] = "rows corrective"
        if self.rows == "logged" and not held:
            silent["noise"] = "rows noisy or corrective, or matching above 0"
        if self.rows != "corrective" and not held:
            silent |= dict.fromkeys(("model", "model_updates"), "rows corrective, or matching above 0")
        return silent

    @property
    def plain(self) -> bool:
        """Whether the policy imitates every row as it is."""
        return self.rows == "logged" and not self.best


LOGGED = Imitation()
"""every row as it is"""

BEST = Imitation(best=0.8, others=0.01, matching=None)
"""rows of the best episodes, whose paths the policy is held to where that pays, and a little of all others"""

MATCHING = 0.1
"""weight of trajectory matching where None is given and it pays"""
ENOUGH_UPDATES = 5_000
"""updates from which on it is worth the fit of a model: a shorter run would take longer to prepare than to train"""


class ImitatedRows(NamedTuple):
    """States and actions to imitate, [1 + copies, n] each: the target's n logged rows, then their copies, if any."""

    observation: Float[Array, "k n s"]
    """normalised, as `Domains` has them"""
    action: Float[Array, "k n a"]
    weight: Float[Array, "k n"]
    """by `row_weight`"""


def imitated_template(config: Imitation, domains: Domains) -> ImitatedRows:
    """Rows of the shapes that `imitated_rows` returns."""
    target = domains.target
    shape = (1 if config.rows == "logged" else 1 + config.copies, len(target))
    states, actions = (*shape, target.observation_size), (*shape, target.action_size)
    return ImitatedRows(jnp.zeros(states), jnp.zeros(actions), jnp.zeros(shape))


def imitated_rows(
    config: Imitation,
    domains: Domains,
    key: PRNGKeyArray,
    report: Report = lambda what, share: None,
    aside: NDArray[np.bool_] | None = None,
) -> ImitatedRows:
    """Each target row and its copies; deterministic in `key`. Without source rows the model is the target's alone.

    Target rows [n] that are set `aside` are not imitated: the best episodes and the model are found without them.

    Raises:
        DataError: corrective rows of data in which every row is terminal.
    """
    model_key, noise_key = jax.random.split(key)
    target = domains.target
    weight = jnp.asarray(row_weight(config, of_best_episodes(target, config.best, aside), aside))
    if config.rows == "logged":
        return ImitatedRows(target.observation[None], target.action[None], weight[None])
    if config.rows == "noisy":
        made = noisy_rows(config, target, noise_key)
    else:
        source = domains.source if config.model == "both" and len(domains.source) else None
        fitted_to = learned_from(domains, aside).target
        model = fit_target_model(TargetModelConfig(updates=config.model_updates), source, fitted_to, model_key, report)
        made = corrective_rows(CorrectiveConfig(config.copies, config.noise, config.stay), model, target, noise_key)
    shape = (config.copies, len(target), -1)
    return ImitatedRows(
        jnp.concatenate([target.observation[None], made.observation.reshape(shape)]),
        jnp.concatenate([target.action[None], made.action.reshape(shape)]),
        jnp.stack([weight] * (1 + config.copies)),
    )


def row_weight(
    config: Imitation, best: NDArray[np.bool_], aside: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """How much each row is imitated, given whether it is of the best episodes; one that is set `aside` not at all.

    A row of the best episodes counts 1 / `others` times one of another. The mean is 1, so that what else is in the
    policy's loss, such as source rows, counts as much as without a choice of episodes.
    """
    weight = np.where(best, 1.0, config.others)
    if aside is not None:
        weight[aside] = 0.0
    return (weight / weight.mean()).astype(np.float32)


def learned_from(domains: Domains, aside: NDArray[np.bool_] | None) -> Domains:
    """The domains less the target rows that are set aside."""
    if aside is None or not aside.any():
        return domains
    return domains._replace(target=domains.target[np.flatnonzero(~aside)])


def of_best_episodes(target: Transitions, share: float, aside: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
    """Whether the return of each row's episode is near that of the best: within (1 - share) of a return's size.

    That size is |best return|, or the range of returns where this is larger (returns below zero). An episode that the
    log cuts short is judged by its mean reward, against the best episode's. The next best episodes join them until
    `LEAST` of all rows are among them. With `share` 0 all rows are. Rows that are set `aside` are as if not there.
    """
    episode, reward, terminal = np.asarray(target.episode), np.asarray(target.reward), np.asarray(target.terminal)
    there = np.ones(len(target), np.bool_) if aside is None else ~aside
    found = np.zeros(len(target), np.bool_)
    found[there] = best_rows(episode[there], reward[there], terminal[there], share)
    return found


def best_rows(
    episode: NDArray[np.int32], reward: NDArray[np.float32], terminal: NDArray[np.float32], share: float
) -> NDArray[np.bool_]:
    """`of_best_episodes` from the columns that it looks at, [N] each."""
    number = np.unique(episode, return_inverse=True)[1]
    if not share:
        return np.ones(len(number), np.bool_)
    returns = np.bincount(number, np.asarray(reward, np.float64)).astype(np.float64)
    lengths = np.bincount(number)
    best = int(np.argmax(returns))
    near = at_least(returns, returns[best], share)
    ended = np.bincount(number, terminal) > 0
    rates = returns / lengths
    near |= ~ended & (lengths < lengths[best]) & at_least(rates, rates[best], share)
    # One lucky episode is too little to learn from: the next best join it.
    for episode in np.argsort(-returns, kind="stable"):
        if near @ lengths >= LEAST * len(number):
            break
        near[episode] = True
    return near[number]


def at_least(values: NDArray[np.float64], best: float, share: float) -> NDArray[np.bool_]:
    """Whether each value is at least best - (1 - share) · max(|best|, best - worst)."""
    size = max(abs(best), best - float(np.min(values)))
    return values >= best - (1 - share) * size


def noisy_rows(config: Imitation, target: Transitions, key: PRNGKeyArray) -> Transitions:
    """`config.copies` copies of each target row with noise on the state, copy after copy."""
    copies = jax.tree.map(lambda column: jnp.concatenate([jnp.asarray(column)] * config.copies), target)
    spread = jnp.std(jnp.asarray(target.observation), axis=0)
    deviation = config.noise * spread * jax.random.normal(key, copies.observation.shape)
    return dataclasses.replace(copies, observation=copies.observation + deviation)
