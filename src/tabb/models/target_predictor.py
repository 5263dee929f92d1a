"""What a predictor of the target domain is: constants that fit models, and what these say of a row."""

from __future__ import annotations

import abc
import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tabb.batch import Domains, Sizes
from tabb.errors import UsageError
from tabb.field_types import TypedFields
from tabb.models.fitting import Report, scores
from tabb.transitions import Transitions


class Outcome(NamedTuple):
    """What a step leads to: next state x' as V sees it, reward, probability of terminal."""

    following: Float[Array, "*b x"]
    reward: Float[Array, "*b"]
    terminal: Float[Array, "*b"]


@dataclasses.dataclass(frozen=True)
class TargetPredictor(TypedFields, abc.ABC):
    """A predictor of the target domain: its fields are its constants, its models (arrays) are passed to its methods.

    V sees observations as they are; a predictor with encoders of its own also says what V and Q see.
    """

    name: ClassVar[str]
    gives_target_outcomes: ClassVar[bool] = False
    """Whether it predicts a target row from (s, a) alone, with `target_outcomes`."""
    moves_own_outcome: ClassVar[bool] = False
    """Whether it adds a learned difference of the domains to a source row's own outcome."""
    usual_uncertainty: ClassVar[float] = 1.0
    """β of TABB that suits its doubt"""
    changes_features: ClassVar[bool] = False
    """Whether V and Q see other things than observations and actions: then only a network for V can value states."""

    @abc.abstractmethod
    def init(self, domains: Domains, key: PRNGKeyArray) -> Any:
        """Models of the structure and shapes that `fit` returns, before they have learned."""

    @abc.abstractmethod
    def fit(self, domains: Domains, key: PRNGKeyArray, report: Report) -> Any:
        """Models fitted to both domains (normalised observations); deterministic in `key`."""

    @abc.abstractmethod
    def outcomes(self, models: Any, rows: Transitions) -> Outcome:
        """The K predicted target-domain outcomes of source rows, leading axes [b, K]."""

    def source_outcomes(self, models: Any, source: Transitions) -> Outcome:
        """`outcomes` of a whole data set, computed in pieces."""
        return scores(lambda rows: self.outcomes(models, rows), source)

    def target_outcomes(self, models: Any, rows: Transitions) -> Outcome:
        """The K predicted outcomes of (s, a) alone, leading axes [b, K]. Only where `gives_target_outcomes`."""
        raise UsageError(f"predictor {self.name} predicts no outcome of (s, a) alone; use agreed, residual or direct")

    def mean_target_outcomes(self, models: Any, target: Transitions) -> Outcome:
        """The mean of the K outcomes of each target row, computed in pieces, with an axis of length 1 for K."""

        def mean(rows: Transitions) -> Outcome:
            outcome = self.target_outcomes(models, rows)
            return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=1, keepdims=True), outcome)

        return scores(mean, target)

    @abc.abstractmethod
    def predicted_backup(self, backups: Float[Array, "b k"]) -> Float[Array, " b"]:
        """b̂, the backup that the K predicted ones stand for."""

    @abc.abstractmethod
    def doubt(self, backups: Float[Array, "b k"], own: Float[Array, " b"]) -> Float[Array, " b"]:
        """By how much b̂ may be off, from the K predicted backups and the row's own; in units of return."""

    def widths(self, sizes: Sizes) -> tuple[int, int]:
        """Widths of what V and Q see."""
        return sizes.observation, sizes.observation + sizes.action

    def see_state(self, models: Any, observation: Float[Array, "*b s"]) -> Float[Array, "*b v"]:
        """What V sees of a state."""
        del models
        return observation

    def see_action(
        self, models: Any, observation: Float[Array, "*b s"], action: Float[Array, "*b a"]
    ) -> Float[Array, "*b q"]:
        """What Q sees of a state and an action."""
        del models
        return jnp.concatenate([observation, action], axis=-1)


def check_constants(predictor: TargetPredictor, whole: tuple[str, ...], numbers: tuple[str, ...]) -> None:
    """Raise `UsageError` unless the fields `whole` are at least 1, and `numbers` finite and not negative."""
    for name in whole:
        if getattr(predictor, name) < 1:
            raise UsageError(f"predictor {name}={getattr(predictor, name)}: must be at least 1")
    for name in numbers:
        if not 0 <= getattr(predictor, name) < math.inf:
            raise UsageError(f"predictor {name}={getattr(predictor, name)}: must be a number, zero or more")
