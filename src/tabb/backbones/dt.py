"""Decision Transformer (Chen et al., NeurIPS 2021): imitate actions given the episode so far and the return to come.

    (g_1, s_1, a_1, ..., g_K, s_K)     the last K steps of an episode up to a drawn row, g_t the return to go
    L_π = mean over steps that there are of  ‖π(g_1, s_1, ..., g_t, s_t) - a_t‖² / A
    act: g_1 = the return that is asked for, g_{t+1} = g_t - r_t

Nothing is valued, so only rules that say which rows are drawn act on it, and those that are made for it (`reag`).
Windows end at the drawn row, so each row is drawn as often as by any other learner, and the short ones are those that
an episode begins with, as in acting.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.backbones.backbone import Backbone, Inputs
from tabb.batch import Sizes
from tabb.errors import UsageError
from tabb.models.returns_to_go import Aim
from tabb.networks import Normaliser
from tabb.policy import SequencePolicy
from tabb.rules.rule import Learned, Metrics, Models, Rule, Value
from tabb.rules.step import Acting
from tabb.transformer import Transformer, init_transformer

DROPOUT = 8
"""folded into an update's key"""


class State(NamedTuple):
    """All that an update changes, and what the policy is asked for as it acts."""

    policy: Transformer
    aim: Aim
    policy_optimiser: optax.OptState
    learned: Learned = ()
    extra: Any = ()


def asked_return(best: Float[Array, ""], aim: float) -> Float[Array, ""]:
    """J* + (aim - 1) |J*|: a larger aim asks for more, of costs (negative returns) too."""
    return best + (aim - 1.0) * jnp.abs(best)


def imitation_loss(
    action: Float[Array, "b k a"], wanted: Float[Array, "b k a"], mask: Float[Array, "b k"], weight: Float[Array, " b"]
) -> Float[Array, ""]:
    """Σ w m ‖π - a‖² / A over Σ m: mean over the steps that there are, each with its window's weight."""
    error = jnp.mean((action - wanted) ** 2, axis=-1)
    return jnp.sum(weight[:, None] * mask * error) / jnp.maximum(jnp.sum(mask), 1.0)


@dataclasses.dataclass(frozen=True)
class DT(Backbone):
    """Decision Transformer."""

    name: ClassVar[str] = "dt"
    has_value_network: ClassVar[bool] = False
    has_critics: ClassVar[bool] = False
    takes_seams: ClassVar[bool] = False
    imitates: ClassVar[bool] = False
    remembers: ClassVar[bool] = True
    parts: ClassVar[dict[str, tuple[str, ...]]] = {"policy": (), "critic": ()}

    context: int = 20
    """K, steps of an episode that the policy looks at, the present one among them [paper: 20]"""
    width: int = 128
    """of a token [paper: 128]"""
    layers: int = 3
    """blocks of attention [paper: 3]"""
    heads: int = 1
    """of attention in each block [paper: 1]"""
    dropout: float = 0.1
    """share of values that an update sets to zero: of tokens, of attention, of each block's changes [paper: 0.1]"""
    longest: int = 1_000
    """times in an episode that have an embedding of their own; later ones share the last [authors' code: 1,000]"""
    learning_rate: float = 1e-4
    """AdamW's rate, constant after the warm-up [paper: 1e-4]"""
    warm_share: float = 0.1
    """share of the run over which the rate rises from 0 [paper: 10,000 of 100,000 updates]"""
    weight_decay: float = 1e-4
    """AdamW's [paper: 1e-4]"""
    largest_gradient: float = 0.25
    """clip of the gradient's norm [paper: 0.25]"""
    aim: float = 1.0
    """the return that the policy is asked for: 1 is the best one among the target's logged episodes, 1.1 a tenth of its
    size more [ours; the paper asks for an expert's return, which logs do not tell]"""
    discount: float = 0.99
    """γ of values that a rule fits; returns to go have none [as IQL here]"""
    batch_size: int = 64
    """windows per update, half source and half target unless the rule says otherwise [paper: 64]"""

    def __post_init__(self) -> None:
        for name, least in (
            ("context", 1),
            ("width", 1),
            ("layers", 1),
            ("heads", 1),
            ("longest", 1),
            ("batch_size", 2),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"backbone {name}={getattr(self, name)}: must be at least {least}")
        if self.width % self.heads:
            raise UsageError(f"backbone width={self.width}: must be a multiple of heads={self.heads}")
        for name in ("dropout", "warm_share"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"backbone {name}={getattr(self, name)}: must lie in [0, 1)")
        if not 0 < self.discount <= 1:
            raise UsageError(f"backbone discount={self.discount}: must lie in (0, 1]")
        for name in ("learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(f"backbone {name}={getattr(self, name)}: must be a number, zero or more")
        if not 0 < self.largest_gradient < math.inf or not math.isfinite(self.aim):
            what = f"largest_gradient={self.largest_gradient}, aim={self.aim}"
            raise UsageError(f"backbone {what}: the first must be a positive number, the second a number")

    @property
    def window(self) -> int:
        return self.context

    def check_rule(self, rule: Rule) -> None:
        super().check_rule(rule)
        if rule.extra_share(self.batch_size):
            raise UsageError(
                f"backbone {self.name}: rule {rule.name} adds single rows, which have no episode before them"
            )

    def optimiser(self, updates: int) -> optax.GradientTransformation:
        """AdamW with clipped gradients; its rate rises over the first `warm_share` of `updates`."""
        warm = max(1, round(self.warm_share * updates))
        schedule = optax.linear_schedule(self.learning_rate / warm, self.learning_rate, warm - 1)
        adam = optax.adamw(schedule, weight_decay=self.weight_decay)
        # On all weights as one vector: an operation for each of them takes long to compile.
        return optax.flatten(optax.chain(optax.clip_by_global_norm(self.largest_gradient), adam))

    def init(self, rule: Rule, sizes: Sizes, updates: int, key: PRNGKeyArray) -> State:
        """Fresh networks; the aim is that of the data, which the run puts in its place."""
        network = init_transformer(
            sizes.observation, sizes.action, self.width, self.layers, self.heads, self.longest, key
        )
        nothing = Aim(jnp.zeros(()), jnp.ones(()))
        learned = rule.init_learned(sizes, jax.random.fold_in(key, 3))
        return State(network, nothing, self.optimiser(updates).init(network), learned)

    def value_at(self, rule: Rule, models: Models, state: State) -> Value:
        """A function that raises `UsageError`: there is no V."""
        del rule, models, state

        def value(observation: Array) -> Array:
            del observation
            raise UsageError("backbone dt estimates no values: use one that does, such as iql")

        return value

    def acts(self, state: State) -> Acting:
        """A function that raises `UsageError`: an observation alone does not say what to do."""
        del state

        def action(observation: Array) -> Array:
            del observation
            raise UsageError(
                "backbone dt acts by the episode so far: use one that acts by the observation, such as iql"
            )

        return action

    def update(self, state: State, inputs: Inputs) -> tuple[State, Metrics]:
        rule, key = inputs.rule, inputs.key
        step, weights, metrics = self.open_update(state, inputs)
        windows = step.batch.windows
        assert windows is not None, "drawn with `window`"
        dropout = jax.random.fold_in(key, DROPOUT), self.dropout

        def policy_loss(policy: Transformer) -> Array:
            action = jnp.tanh(policy(windows, dropout))
            loss = imitation_loss(action, windows.action, windows.mask, weights.policy)
            return loss + rule.actor_term(step, action[:, -1])

        loss, gradient = jax.value_and_grad(policy_loss)(state.policy)
        change, policy_optimiser = self.optimiser(inputs.updates).update(gradient, state.policy_optimiser, state.policy)
        policy = optax.apply_updates(state.policy, change)
        return State(policy, state.aim, policy_optimiser, step.learned, state.extra), metrics | {"policy_loss": loss}

    def policy(self, state: State, normaliser: Normaliser, about: dict[str, Any]) -> SequencePolicy:
        aim = state.aim
        start = asked_return(aim.start, self.aim)
        return SequencePolicy.from_transformer(
            state.policy, self.context, start, aim.unit, aim.command, normaliser, about
        )
