"""What a policy imitates of the target's rows: the logged rows alone, or copies beside the logged path as well.

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
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains
from tabb.errors import UsageError
from tabb.field_types import TypedFields
from tabb.models.corrective import CorrectiveConfig, corrective_rows
from tabb.models.fitting import Report
from tabb.models.target_model import TargetModelConfig, fit_target_model
from tabb.transitions import Transitions


@dataclasses.dataclass(frozen=True)
class Imitation(TypedFields):
    """What the policy imitates of the target's rows."""

    rows: Literal["logged", "noisy", "corrective"] = "logged"
    """`logged` rows alone; with copies whose states have noise (`noisy`), and whose actions lead back (`corrective`)"""
    copies: int = 4
    """copies of each target row"""
    noise: float = 0.05
    """standard deviation of the noise on states, in deviations of the target's observations, entry by entry"""
    stay: float = 0.02
    """weight that holds a corrective action to the logged one"""
    model: Literal["both", "target"] = "both"
    """what the model behind corrective actions is fitted to: `both` domains' rows where the rule draws source rows, or
    those of the `target` alone"""
    model_updates: int = 5_000
    """updates of that fit"""

    def __post_init__(self) -> None:
        for name in ("copies", "model_updates"):
            if getattr(self, name) < 1:
                raise UsageError(f"imitation {name}={getattr(self, name)}: give a whole number, 1 or more")
        for name in ("noise", "stay"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"imitation {name}={getattr(self, name)}: must be a positive number")

    @property
    def makes_copies(self) -> bool:
        """Whether there are copies to imitate."""
        return self.rows != "logged"


LOGGED = Imitation()
"""no copies"""


class ImitatedRows(NamedTuple):
    """States and actions to imitate, [1 + copies, n] each: the target's n logged rows, then their copies."""

    observation: Float[Array, "k n s"]
    """normalised, as `Domains` has them"""
    action: Float[Array, "k n a"]


def imitated_template(config: Imitation, domains: Domains) -> ImitatedRows:
    """Rows of the shapes that `imitated_rows` returns."""
    target = domains.target
    shape = (1 + config.copies, len(target))
    return ImitatedRows(jnp.zeros((*shape, target.observation_size)), jnp.zeros((*shape, target.action_size)))


def imitated_rows(
    config: Imitation,
    domains: Domains,
    key: PRNGKeyArray,
    report: Report = lambda what, share: None,
) -> ImitatedRows:
    """Each target row and its copies; deterministic in `key`. Without source rows the model is the target's alone.

    Raises:
        DataError: corrective rows of data in which every row is terminal.
    """
    model_key, noise_key = jax.random.split(key)
    target = domains.target
    if config.rows == "noisy":
        made = noisy_rows(config, target, noise_key)
    else:
        source = domains.source if config.model == "both" and len(domains.source) else None
        model = fit_target_model(TargetModelConfig(updates=config.model_updates), source, target, model_key, report)
        made = corrective_rows(CorrectiveConfig(config.copies, config.noise, config.stay), model, target, noise_key)
    shape = (config.copies, len(target), -1)
    return ImitatedRows(
        jnp.concatenate([target.observation[None], made.observation.reshape(shape)]),
        jnp.concatenate([target.action[None], made.action.reshape(shape)]),
    )


def noisy_rows(config: Imitation, target: Transitions, key: PRNGKeyArray) -> Transitions:
    """`config.copies` copies of each target row with noise on the state, copy after copy."""
    copies = jax.tree.map(lambda column: jnp.concatenate([jnp.asarray(column)] * config.copies), target)
    spread = jnp.std(jnp.asarray(target.observation), axis=0)
    deviation = config.noise * spread * jax.random.normal(key, copies.observation.shape)
    return dataclasses.replace(copies, observation=copies.observation + deviation)
