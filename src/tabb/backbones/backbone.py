"""What every backbone offers: a frozen dataclass of constants with `init`, `update` and `policy`.

`Backbone.open_update` is how every update begins; after it each backbone calls the remaining seams of the rule in the
order of `tabb.rules.rule`.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tabb.batch import Batch, Sizes
from tabb.bellman import bellman_backup
from tabb.errors import UsageError
from tabb.field_types import TypedFields
from tabb.models.matching import matching_loss
from tabb.networks import MLP, Committee, Critics, Normaliser, Twin, members_of
from tabb.policy import Policy
from tabb.rules.rule import Metrics, Models, Rule, Value, Weights, filled_seams, phases_of
from tabb.rules.step import Acting, Step

EXPLORATION = 0.1
"""standard deviation of the noise that is added to a policy's action where it gathers steps [TD3: 0.1]"""

RULE_KEY = 7
"""folded into an update's key for the rule, so that what a rule draws disturbs no draw of the backbone"""

ANY_LENGTH = 1_000
"""updates of a run that is not known yet: the rules of its phases do not depend on it"""

State = Any
"""the backbone's own NamedTuple, whose last two fields are `learned`, what the rule learns along the way, and `extra`,
the rows that the rule makes anew along the way; `update` hands `extra` on as it is"""


class Inputs(NamedTuple):
    """What an update is given besides the state."""

    rule: Rule
    models: Models
    """what the rule fitted before training"""
    batch: Batch
    key: PRNGKeyArray
    """a random key of this update alone"""
    number: Int[Array, ""]
    """the number of the update, from 0"""
    updates: int
    """the updates that schedules of learning rates span: the phase's where the rule has phases, else the run's"""
    run_updates: int
    """the updates of the whole run"""


class Backbone(TypedFields, abc.ABC):
    """A single-domain offline learner, as seen by the training loop."""

    name: ClassVar[str]
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Constants of public code that differ from the original's, or that serve one purpose: `--preset NAME`."""
    suite_constants: ClassVar[dict[str, dict[str, Any]]] = {}
    """Constants of ODRL's for a suite: its tasks take them unless told otherwise."""
    has_value_network: ClassVar[bool]
    """Whether V is a network of its own. Without one, V(s) is Q at the policy's action: backups rest on the policy."""
    has_critics: ClassVar[bool] = True
    """Whether it learns Q, as `critic` of its state, and V by `value_at`. A policy that only imitates needs neither."""
    takes_seams: ClassVar[bool] = True
    """Whether a rule can act inside an update. If not, only rules that say which rows are drawn fit."""
    takes_policy_optimiser: ClassVar[bool] = False
    """Whether `Rule.policy_optimiser` says how its policy is changed."""
    parts: ClassVar[dict[str, tuple[str, ...]]]
    """Fields of the state that are the `policy` and the `critic`, each with its slow copies: what another run may start
    from. Networks in them see the observation first."""
    imitates: ClassVar[bool] = True
    """Whether its policy imitates rows, and so can imitate copies of them (`tabb.models.imitation`)."""
    weighs_imitation: ClassVar[bool] = True
    """Whether rows count there by weights, so that some may be left out."""
    remembers: ClassVar[bool] = False
    """Whether its policy acts by what has been in its episode. It then sees `window` rows of each, and its state has a
    field `aim` (`tabb.models.returns_to_go.Aim`); `acts` and `value_at` are of no use to a rule."""
    matches: ClassVar[bool] = False
    """Whether its policy can be held to logged paths in a model (`tabb.models.matching`)."""
    batch_size: int
    discount: float

    @property
    def tuned_numbers(self) -> tuple[str, ...]:
        """Numbers of the state that learn beside the policy: a run that starts from it goes on with them."""
        return ()

    @property
    def clones(self) -> bool:
        """Whether imitation has any weight in its policy's loss, with these constants."""
        return self.imitates

    @property
    def window(self) -> int:
        """Rows of an episode, up to each drawn row, that an update sees; 0 where it sees the drawn rows alone."""
        return 0

    def check_rule(self, rule: Rule) -> None:
        """Raise `UsageError` if `rule` cannot act on this backbone."""
        filled = dict.fromkeys(
            name for one in (rule, *(phase.rule for phase in phases_of(rule, ANY_LENGTH))) for name in filled_seams(one)
        )
        if not self.takes_seams and filled and not (self.remembers and rule.on_windows):
            raise UsageError(
                f"backbone {self.name} takes only rules that say which rows are drawn (pooled, target-only), not "
                f"{rule.name}: it has no place for {' and '.join(filled)}; choose another backbone"
            )
        rule.check_backbone(self)

    @abc.abstractmethod
    def init(self, rule: Rule, sizes: Sizes, updates: int, key: PRNGKeyArray) -> State:
        """Fresh networks and optimisers for a run of `updates` updates."""

    @abc.abstractmethod
    def update(self, state: State, inputs: Inputs) -> tuple[State, Metrics]:
        """One update; pure.

        Metrics hold `critic_loss`, or `policy_loss` where there are no critics.
        """

    @abc.abstractmethod
    def value_at(self, rule: Rule, models: Models, state: State) -> Value:
        """V of what `rule.see_state` makes of observations, with the networks of this state."""

    @abc.abstractmethod
    def acts(self, state: State) -> Acting:
        """The policy of this state as a function of normalised observations: the action that `policy` deploys."""

    def explores(self, state: State, observation: Float[Array, "*b s"], key: PRNGKeyArray) -> Float[Array, "*b a"]:
        """Actions in [-1, 1] that gather steps in an environment: those of `acts`, with normal noise."""
        action = self.acts(state)(observation)
        return jnp.clip(action + EXPLORATION * jax.random.normal(key, action.shape), -1.0, 1.0)

    def step(self, state: State, inputs: Inputs) -> Step:
        """What the rule may know of this state and batch; no features yet."""
        return Step(
            models=inputs.models,
            learned=state.learned,
            batch=inputs.batch,
            value=self.value_at(inputs.rule, inputs.models, state),
            policy=self.acts(state),
            discount=self.discount,
            key=jax.random.fold_in(inputs.key, RULE_KEY),
            number=inputs.number,
            updates=inputs.run_updates,
            action_value=least_of(state.critic) if self.has_critics else None,
        )

    def open_update(self, state: State, inputs: Inputs) -> tuple[Step, Weights, Metrics]:
        """How every update begins: select rows, represent them, train the rule's own networks, weigh the rows.

        The step that comes back has the selected rows, their features and what the rule has learned by now.
        """
        rule, step = inputs.rule, self.step(state, inputs)
        step = dataclasses.replace(step, batch=rule.select(step))
        step = dataclasses.replace(step, represented=rule.represent(step))
        learned, seen = rule.observe(step)
        step = dataclasses.replace(step, learned=learned)
        weights, metrics = rule.weigh(step)
        rows = (len(step.batch),)
        weights = Weights(*(of_shape(rule, f"weigh ({name})", each, rows) for name, each in weights._asdict().items()))
        return step, weights, metrics | seen

    def slowed(self, factor: float) -> Backbone:
        """The backbone with all its learning rates times `factor`."""
        if factor == 1.0:
            return self
        same: Any = self  # every backbone is a dataclass, which this class cannot say
        names = [field.name for field in dataclasses.fields(same) if field.name.endswith("learning_rate")]
        slowed: Backbone = dataclasses.replace(same, **{name: factor * getattr(self, name) for name in names})
        return slowed

    def restarted(self, state: State) -> State:
        """The state with optimisers that begin anew: Adam's moments and counts are zero."""
        names = [name for name in state._fields if name.endswith("optimiser")]
        return state._replace(**{name: jax.tree.map(jnp.zeros_like, getattr(state, name)) for name in names})

    def policy(self, state: State, normaliser: Normaliser, about: dict[str, Any]) -> Policy:
        """The policy to deploy, with the normaliser inside."""
        return Policy.from_networks(state.policy, normaliser, about)


def check_common(constants: Any, shares: Sequence[str], amounts: Sequence[str], widths: Sequence[str] = ()) -> None:
    """Raise `UsageError` unless `shares` lie in (0, 1], `amounts` are numbers from 0 on, and sizes are real."""
    for name in shares:
        if not 0 < getattr(constants, name) <= 1:
            raise UsageError(f"backbone {name}={getattr(constants, name)}: must lie in (0, 1]")
    for name in amounts:
        if not 0 <= getattr(constants, name) < math.inf:
            raise UsageError(f"backbone {name}={getattr(constants, name)}: must be a number, zero or more")
    for name in widths or ("hidden",):
        hidden = getattr(constants, name)
        if constants.batch_size < 2 or not hidden or min(hidden) < 1:
            sizes = f"batch_size={constants.batch_size}, {name}={hidden}"
            raise UsageError(f"backbone {sizes}: needs two rows and layers of width 1 at least")
    if getattr(constants, "policies", 1) < 1:
        raise UsageError(f"backbone policies={constants.policies}: must be at least 1")


def action_at_rows(policy: MLP, batch: Batch, imitating: Float[Array, "b a"]) -> Float[Array, "b a"]:
    """The policy's action at the batch's own rows; `imitating` is that at the rows that it imitates."""
    return imitating if batch.imitated is None else jnp.tanh(policy(batch.observation))


def held_to_paths(
    loss: Float[Array, ""], policy: MLP | Committee, batch: Batch, unit: Float[Array, ""]
) -> Float[Array, ""]:
    """The loss of a policy's networks, and that of trajectory matching where the batch has paths to keep to.

    `unit` is the mean weight of the rows that the policy imitates, so that the two keep their proportion. The networks
    act as their mean there, and each has as much of it as of its own imitation.
    """
    if batch.rollouts is None:
        return loss
    matching = matching_loss(lambda states: jnp.tanh(policy(states)), batch.rollouts)
    return loss + len(members_of(policy)) * jax.lax.stop_gradient(unit) * batch.rollouts.weight * matching


def sum_of(losses: Iterable[Float[Array, ""]]) -> Float[Array, ""]:
    """The sum of losses; a single one stays as it is."""
    first, *others = losses
    return sum(others, start=first)


def critic_activation(layer_norm: bool) -> str:
    """What stands between the layers of V and Q."""
    return "normed-relu" if layer_norm else "relu"


def least_of(critic: Twin | Critics) -> Value:
    """min_i Q_i of these critics."""
    return lambda seen: jnp.min(critic(seen), axis=0)


def policy_value(rule: Rule, models: Models, policy: MLP | Committee, critic: Twin | Critics) -> Value:
    """V(s) = min_i Q_i(s, π(s)) for backbones without a network for V: what rules weigh rows by there."""

    def value(observation: Float[Array, "*rows s"]) -> Float[Array, "*rows"]:
        action = jnp.tanh(policy(observation))
        return jnp.min(critic(rule.see_action(models, observation, action)), axis=0)

    return value


def mean_policy(policy: MLP) -> MLP:
    """The network of μ alone: the deterministic policy that is evaluated and deployed."""
    size = policy.biases[-1].shape[-1] // 2
    return MLP(
        (*policy.weights[:-1], policy.weights[-1][..., :size]),
        (*policy.biases[:-1], policy.biases[-1][..., :size]),
        policy.activation,
    )


def soft_clipped_value(values: Float[Array, "2 b k"], pessimism: float) -> Float[Array, " b"]:
    """max_k {λ min_i Q_i + (1 - λ) max_i Q_i} (BCQ, equation 13)."""
    return jnp.max(pessimism * jnp.min(values, axis=0) + (1.0 - pessimism) * jnp.max(values, axis=0), axis=-1)


def weighted_mean(values: Float[Array, " b"], weights: Float[Array, " b"]) -> Float[Array, ""]:
    """Mean of the rows as they count: Σ w x / Σ w."""
    return jnp.sum(weights * values) / jnp.maximum(jnp.sum(weights), 1e-8)


def cloned_improvement(
    value: Float[Array, " b"], distance: Float[Array, " b"], weights: Float[Array, " b"], weight: float, cloning: float
) -> Float[Array, " b"]:
    """-α Q / mean|Q| + cloning · distance of each row; the mean carries no gradient (TD3+BC, equations 3 and 5).

    In the mean, rows count by their `weights`.
    """
    scale = weight / jnp.maximum(weighted_mean(jnp.abs(jax.lax.stop_gradient(value)), weights), 1e-8)
    return -scale * value + cloning * distance


def of_shape(rule: Rule, seam: str, given: Any, shape: tuple[int, ...]) -> Any:
    """What a seam of the rule gives. Raises `UsageError` for another shape, which a loss might broadcast in silence."""
    if jnp.shape(given) != shape:
        raise UsageError(f"rule {rule.name}: {seam} gives an array of shape {jnp.shape(given)}; give {shape}")
    return given


def edited_backup(rule: Rule, step: Step, next_value: Float[Array, " b"]) -> Float[Array, " b"]:
    """r + γ (1 - d) V(s') with the rule's edits of V(s'), of the rewards and of the sum."""
    rows = (len(step.batch),)
    next_value = of_shape(rule, "next_value", rule.next_value(step, next_value), rows)
    reward = of_shape(rule, "reward", rule.reward(step), rows)
    backup = bellman_backup(reward, step.batch.terminal, next_value, step.discount)
    return of_shape(rule, "backup", rule.backup(step, backup), rows)


def row_losses(rule: Rule, step: Step, error: Float[Array, "q b"]) -> Float[Array, "q b"]:
    """The rule's loss of each row and critic."""
    return of_shape(rule, "critic_loss", rule.critic_loss(step, error), error.shape)


def critic_error(
    rule: Rule, step: Step, weights: Weights, values: Float[Array, "q b"], backup: Float[Array, " b"]
) -> Float[Array, ""]:
    """Σ_i mean_rows w · loss(Q_i - backup), and the rule's extra term: the loss that all backbones share."""
    loss = row_losses(rule, step, values - backup)
    return jnp.sum(jnp.mean(weights.critic * loss, axis=-1)) + rule.critic_term(step, values)
