"""Target episodes that training does not see: what can be said of a policy that cannot be rolled out.

At each evaluation point the critic's error on the held-out rows is measured, the predictor's with it where the rule has
one, and the policy is kept; at the end of the run each kept policy is valued off-policy (`tabb.evaluation.fqe`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from tabb.bellman import bellman_backup
from tabb.errors import HeldOutWarning, UsageError, warn_caller
from tabb.evaluation.fqe import FQE, estimate
from tabb.evaluation.statistics import Estimate
from tabb.models.fitting import Report
from tabb.networks import Normaliser
from tabb.policy import Policy
from tabb.training.config import Settings
from tabb.training.folder import RunFolder
from tabb.training.loop import Program
from tabb.transitions import StoredRows, Transitions, episode_starts, episodes_of, spread_episodes

DEFAULT_SHARE = 0.2
"""of the target's episodes, where policies are not rolled out"""
FEWEST_EPISODES = 3
"""with fewer, holding one out would cost training a third of its rows or more: only if asked for"""


class Split(NamedTuple):
    """The target data in two."""

    train: Transitions
    held_out: Transitions
    """Whole episodes; no rows if nothing is held out."""

    @property
    def episodes(self) -> list[int]:
        """Numbers of the held-out episodes, as in `Transitions.episode`."""
        return [int(number) for number in np.unique(np.asarray(self.held_out.episode))]


def share_of(settings: Settings, rolls_out: bool, target: Transitions | StoredRows) -> float:
    """The share of episodes to hold out: what was asked for, or else the default for this run.

    Issues `HeldOutWarning` where the target has too few episodes for the default, and where what is held out judges no
    policy.
    """
    if settings.held_out is not None:
        if settings.held_out and not settings.evaluations:
            warn_caller(
                f"held_out={settings.held_out:g} with evaluations=0: nothing is learned from these episodes, and no "
                "policy is judged by them; ask for evaluations, or hold out nothing",
                HeldOutWarning,
            )
        return settings.held_out
    if rolls_out or not settings.evaluations:
        return 0.0
    count = len(np.unique(episodes_of(target)))
    if count >= FEWEST_EPISODES:
        return DEFAULT_SHARE
    remedy = "--held-out 0.5 would hold out one of them" if count > 1 else "give more episodes"
    warn_caller(
        f"the target has {count} episode{'s' if count > 1 else ''}, so none is held out to judge policies by; {remedy} "
        "(--held-out 0 silences this)",
        HeldOutWarning,
    )
    return 0.0


def split(target: Transitions, share: float) -> Split:
    """Hold out `share` of the episodes (one at least, if `share` is not 0), evenly spread over the log.

    Depends on nothing but the data and the share: all methods and seeds learn from the same rows.

    Raises `UsageError` where no episode would be left to learn from.
    """
    chosen = held_out_episodes(np.asarray(target.episode), share)
    held = np.isin(np.asarray(target.episode), chosen)
    return Split(target[~held], target[held]) if len(chosen) else Split(target, target[:0])


def held_out_episodes(episode: NDArray[np.integer], share: float) -> NDArray[np.integer]:
    """Numbers of `share` of the episodes, from the number of each row's episode.

    Raises `UsageError` where no episode would be left to learn from.
    """
    numbers = np.unique(episode)
    chosen = spread_episodes(numbers, share)
    if len(chosen) and len(chosen) == len(numbers):
        raise UsageError(
            f"held_out={share}: the target has {len(numbers)} episode{'s' if len(numbers) > 1 else ''}, so none would "
            "be left to learn from; give more episodes, or held_out=0"
        )
    return chosen


@dataclasses.dataclass(frozen=True)
class HeldOutMeasures:
    """What the held-out rows say of a run after `update` updates."""

    update: int
    td_error: float | None
    """Mean |min_i Q_i(s, a) - (r + γ (1 - d) V(s'))| over the rows, in units of return; None without critics."""
    predictor_error: float | None
    """Mean |mean_k b̂_k - b| of the target-domain predictor, in units of return; None for rules without one."""
    action_error: float
    """Root mean square of π(s) - a over the rows and action entries: how far the policy is from what was done."""
    policy: Policy
    estimate: Estimate | None = None
    """The policy's value, off-policy; known at the end of the run."""

    def to_dict(self) -> dict[str, Any]:
        """The measures as JSON types, without the policy and what is None."""
        values = {name: getattr(self, name) for name in ("update", "td_error", "predictor_error", "action_error")}
        values |= {} if self.estimate is None else self.estimate._asdict()
        return {name: value for name, value in values.items() if value is not None}


def errors(learner: Program, models: Any, state: Any, rows: Transitions) -> tuple[jax.Array | None, jax.Array | None]:
    """Mean absolute errors of Q and of the predictor's backups on (normalised) target rows."""
    rule, backbone = learner.rule, learner.backbone
    if not backbone.has_critics:
        return None, None
    discount: float = backbone.discount
    value = backbone.value_at(rule, models, state)
    following = value(rule.see_state(models, rows.next_observation))
    backup = bellman_backup(rows.reward, rows.terminal, following, discount)
    values = jnp.min(state.critic(rule.see_action(models, rows.observation, rows.action)), axis=0)
    td_error = jnp.mean(jnp.abs(values - backup))
    outcome = rule.predict_target(models, rows)
    if outcome is None:
        return td_error, None
    reward, terminal, states = outcome
    predicted = jnp.mean(bellman_backup(reward, terminal, value(states), discount), axis=-1)
    return td_error, jnp.mean(jnp.abs(predicted - backup))


def action_error(policy: Policy, rows: Transitions) -> float:
    """Root mean square of π(s) - a over (raw) rows and action entries."""
    return float(np.sqrt(np.mean((policy.act_scaled(rows.observation) - np.asarray(rows.action)) ** 2)))


compiled_errors = jax.jit(errors, static_argnums=0)


class HeldOut:
    """The held-out rows of a run and what is measured on them."""

    def __init__(self, target: Transitions, parts: Split, normaliser: Normaliser, config: FQE) -> None:
        episode_starts(target)  # policies are valued from first states: at the end of the run that would be too late
        self._target, self._config = target, config
        self._raw, self._rows = parts.held_out, normalised(parts.held_out, normaliser)
        self.about: dict[str, Any] = {"episodes": parts.episodes, "rows": len(parts.held_out)}

    def measure(self, learner: Program, models: Any, state: Any, policy: Policy, update: int) -> HeldOutMeasures:
        """Errors of the learner in this state; its policy is valued later."""
        td_error, predictor_error = compiled_errors(learner, models, state, self._rows)
        td, predictor = (None if error is None else float(error) for error in (td_error, predictor_error))
        return HeldOutMeasures(update, td, predictor, action_error(policy, self._raw), policy)

    def value(self, measures: Sequence[HeldOutMeasures], report: Report) -> list[HeldOutMeasures]:
        """The measures with their policies' values."""
        estimates = estimate([one.policy for one in measures], self._target, self._config, report)
        return [dataclasses.replace(one, estimate=value) for one, value in zip(measures, estimates, strict=True)]


def measures_from(folder: RunFolder, metrics: Sequence[Mapping[str, Any]]) -> list[HeldOutMeasures]:
    """The measures of a stopped run, from its metrics and the policies in its folder."""
    return [
        HeldOutMeasures(
            values["update"],
            values.get("td_error"),
            values.get("predictor_error"),
            values["action_error"],
            Policy.load(folder.policy_at(values["update"])),
        )
        for values in metrics
        if values["kind"] == "held-out"
    ]


def normalised(rows: Transitions, normaliser: Normaliser) -> Transitions:
    """`rows` on the device as training sees them."""
    rows = jax.tree.map(jnp.asarray, rows)
    seen, following = normaliser(rows.observation), normaliser(rows.next_observation)
    return dataclasses.replace(rows, observation=seen, next_observation=following)
