"""A transfer rule: what a cross-domain method adds to a backbone, as seams that all default to the identity.

A rule is a frozen dataclass: its fields are its configuration, its methods fill seams. It holds no arrays. What it
fits before training goes into `models`, what it keeps per row into columns of the batch, and what it learns during
training into `learned`. Every rule with its knobs at neutral equals the plain backbone bit for bit.

Seams outside of updates, in the order in which they are called:

    on, check_backbone        the rule on a backbone
    phases                    parts of a run in which other rules draw and act
    shares, extra_share       how many rows of each domain, and how many extra rows, a batch holds
    reads                     which domains the run needs rows of
    widths                    how wide what V and Q see is
    prepare, template         fit models, once per run
    columns, target_columns   numbers per row, once per run
    extra_rows                rows that the rule makes itself, once per run
    conditions                what a policy that remembers its episode is conditioned on, once per run
    set_aside                 which target rows the policy is to learn nothing from
    init_learned              what `observe` starts from
    policy_optimiser          how the policy's weights follow its gradient
    predict_target            what the models say of target rows, where a run is judged
    row_scores                what a finished run says of each source row

A rule that `fits_again` has `prepare` called again along a run that takes steps, and `columns` and `target_columns` of
all rows after it.

Before updates 0, n, 2 n, ... of a rule with `refresh_every` = n:

    refresh                   make the extra rows anew with the present policy and V (`refresh_shares`: from which rows)

One update calls these, in this order. Each takes a `Step`; those that edit something take it as second argument:

    select                    which source rows of the batch stay
    represent                 what V and Q see (through `see_state` and `see_action`)
    observe                   train the rule's own networks
    weigh                     the weight of each row in the losses
        the backbone updates V, where it has a network for V
    next_value                edit V(s')
    reward                    edit rewards
    backup                    edit backups
    critic_loss, critic_term  the loss of the critics
        the backbone updates Q
    actor_term                an extra term of the policy's loss
        the backbone updates the policy

After each update:

    stopped                   whether the run has ended before its last update
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from numpy.typing import NDArray

from tabb.batch import Batch, Domains, ExtraRows, Sizes
from tabb.errors import UsageError
from tabb.field_types import TypedFields
from tabb.models.imitation import BEST, Imitation
from tabb.models.returns_to_go import Conditions, conditions_of
from tabb.rules.step import Features, Learned, Metrics, Models, Step, Value, Weights, on_extra, on_source
from tabb.transitions import Transitions

UPDATE_SEAMS = (
    "select",
    "represent",
    "observe",
    "weigh",
    "next_value",
    "reward",
    "backup",
    "critic_loss",
    "critic_term",
    "actor_term",
)
"""The seams that take a `Step`, in the order in which an update calls them."""


Seam = TypeVar("Seam", bound=Callable[..., Any])


def row_by_row(seam: Seam) -> Seam:
    """Marks `columns` or `target_columns` as what gives a row the same numbers whatever other rows there are.

    They are then computed piece by piece for rows that stay in a file. A method that replaces them has to be marked
    itself.
    """
    seam.row_by_row = True  # type: ignore[attr-defined]
    return seam


@runtime_checkable
class BackboneTraits(Protocol):
    """What a rule may ask of the backbone that it acts on."""

    name: ClassVar[str]
    has_value_network: ClassVar[bool]
    remembers: ClassVar[bool]


class Phase(NamedTuple):
    """A part of a run. Each but the first begins with the networks of the one before it and with fresh optimisers."""

    rule: Rule
    """What fills the seams of an update and says which rows are drawn"""
    updates: int
    """Its length, and that of the learning rate's schedule"""
    rate_factor: float = 1.0
    """factor on the backbone's learning rates"""


@dataclasses.dataclass(frozen=True)
class Rule(TypedFields):
    """The rule that adds nothing; the base of all others."""

    name: ClassVar[str] = "rule"
    backbone: ClassVar[str] = "iql"
    """The backbone that the method's authors put it on; `tabb train RULE@BACKBONE` takes another."""
    backbone_constants: ClassVar[dict[str, Any]] = {}
    """Constants of that backbone that belong to the method."""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    """Settings that its authors use for a robot or a shift, that public code has, or that serve one purpose: `--preset
    NAME`."""
    imitation: ClassVar[Imitation] = BEST
    """What the policy imitates of the target's rows unless the settings say otherwise [ours: the cure of few rows is
    no transfer, so every rule has it]."""
    on_windows: ClassVar[bool] = False
    """Whether its seams are made for a backbone that sees windows of rows and `remembers`: `select`, `weigh` and
    `actor_term` act there."""
    after_preparation: ClassVar[frozenset[str]] = frozenset()
    """Fields that `prepare` does not read: changing them leaves what was prepared, and cached, as it is."""
    fits_again: ClassVar[bool] = False
    """Whether models are fitted again where a run takes steps, on all rows so far. `prepare` then gives models of the
    same shapes whatever the rows, and `columns` and `target_columns`, row by row, can be traced."""
    trust: ClassVar[str | None] = None
    """The column of `row_scores` of which more means that a row is trusted more; None for the first."""
    trust_meaning: ClassVar[str] = "the number that the rule keeps for each source row"
    """What that column says, in words."""
    extras: ClassVar[tuple[str, ...]] = ()
    """Names of further columns of a log (`Transitions.extras`) that the rule reads, where there are any; others are not
    handed on."""
    neutral: ClassVar[dict[str, Any] | None] = None
    """Settings with which the rule changes nothing: it then equals, bit for bit, the plain backbone on the rows that it
    draws. `{}` for a rule that only says which rows are drawn. The tests hold every registered rule to it."""
    small: ClassVar[dict[str, Any]] = {}
    """Settings with which its models are fitted in a moment, however badly: for tests."""

    @property
    def refresh_every(self) -> int:
        """Updates from one `refresh` of the extra rows to the next; 0 if they stay as they were made."""
        return 0

    @property
    def changes_features(self) -> bool:
        """Whether V or Q see something else than (s) and (s, a): then their weights mean nothing without the rule."""
        return any(name in filled_seams(self) for name in ("see_state", "see_action", "represent"))

    # --- Before training ---

    def on(self, backbone: BackboneTraits) -> Rule:
        """The rule with those defaults that depend on the backbone."""
        del backbone
        return self

    def check_backbone(self, backbone: BackboneTraits) -> None:
        """Raise `UsageError` if the rule cannot act on this backbone."""
        del backbone

    def phases(self, updates: int) -> tuple[Phase, ...]:
        """The parts of a run of so many updates, of one update at least each; their metrics have the same names.

        In a part its own rule is asked for `shares`, `extra_share`, `refresh` and all that follows below. What there is
        once per run is this rule's: the models, the columns, the extra rows and what `init_learned` gives.
        """
        return (Phase(self, updates),)

    def shares(self, batch_size: int) -> tuple[int, int]:
        """How many source and target rows a batch of `batch_size` rows holds."""
        return batch_size // 2, batch_size - batch_size // 2

    def reads(self, batch_size: int) -> tuple[bool, bool]:
        """Whether a run needs source rows, and target rows: unless the rule says more, those that batches hold.

        A domain that is not read is not asked for, and observations are not normalised by it.
        """
        source, target = self.shares(batch_size)
        return source > 0, target > 0

    def extra_share(self, batch_size: int) -> int:
        """How many extra rows a batch holds besides those; with 0 neither `extra_rows` nor `refresh` is called."""
        del batch_size
        return 0

    def widths(self, sizes: Sizes) -> tuple[int, int]:
        """Widths of the features of V and of Q."""
        return sizes.observation, sizes.observation + sizes.action

    def prepare(self, domains: Domains, key: PRNGKeyArray, report: Callable[[str, float], None]) -> Models:
        """Fit what the rule needs, once before training. `report(what, share done)` shows progress."""
        del domains, key, report
        return ()

    def template(self, domains: Domains, key: PRNGKeyArray) -> Models:
        """Models of the structure and shapes that `prepare` returns: a checkpoint of them is read into it."""
        del domains, key
        return ()

    @row_by_row
    def columns(self, models: Models, domains: Domains) -> dict[str, Array]:
        """Values per source row, each with leading axis len(source), that batches carry along."""
        del models, domains
        return {}

    @row_by_row
    def target_columns(self, models: Models, domains: Domains) -> dict[str, Array]:
        """Values per target row, likewise."""
        del models, domains
        return {}

    def is_row_by_row(self, seam: str) -> bool:
        """Whether `columns` or `target_columns` (the seam) can be computed for some of the rows: see `row_by_row`."""
        return bool(getattr(getattr(type(self), seam), "row_by_row", False))

    def computes(self, seam: str) -> bool:
        """Whether `columns` or `target_columns` (the seam) gives rows any numbers with these settings."""
        return getattr(type(self), seam) is not getattr(Rule, seam)

    def extra_rows(self, models: Models, domains: Domains, key: PRNGKeyArray) -> ExtraRows | None:
        """Rows that the rule makes once, before training: a third group, of which each batch holds `extra_share`.

        They must follow from the arguments alone: a run that goes on makes them again. Rows that take long to make
        belong into the models, which are kept. With `refresh_every` they are what the first `refresh` is given.
        """
        del models, domains, key
        return None

    def conditions(self, models: Models, domains: Domains) -> Conditions:
        """For a backbone that `remembers`: what each row's action is conditioned on, and what to ask the policy for.

        Unless the rule says otherwise, the return to go. A domain that the run does not read has no rows here.
        """
        del models
        return conditions_of(domains, domains.source.reward, domains.target.reward)

    def set_aside(self, target: Transitions) -> NDArray[np.bool_]:
        """Which target rows [M] the policy is to learn nothing from: none, unless the rule says otherwise.

        Which episodes it imitates, which paths it is held to and the models behind both are then found without them.
        Their weights in the losses are the rule's own affair (`weigh`).
        """
        return np.zeros(len(target), np.bool_)

    def init_learned(self, sizes: Sizes, key: PRNGKeyArray) -> Learned:
        """What `observe` starts from: networks and optimiser states of the rule's own."""
        del sizes, key
        return ()

    def policy_optimiser(self, plain: optax.GradientTransformation) -> optax.GradientTransformation:
        """What changes the policy by its loss's gradient, from the optimiser that the backbone has for it.

        The rules of all phases of a run must give optimisers with states of one form.
        """
        return plain

    # --- Where a run is judged ---

    def predict_target(self, models: Models, rows: Transitions) -> tuple[Array, Array, Array] | None:
        """What the rule's model of the target domain says of the (normalised) rows from (s, a) alone.

        Rewards and terminals [n, K] and what V sees of the next states [n, K, v], by K heads; None without a model.
        """
        del models, rows
        return None

    def row_scores(self, models: Models, domains: Domains, value: Value, discount: float) -> dict[str, Array]:
        """Scores of all source rows, leading axis len(source) each: the rule's numbers per row if it says nothing else.

        `value` is V after the last update of what `see_state` makes of observations; `discount` is the backbone's.
        """
        del value, discount
        return {name: column for name, column in self.columns(models, domains).items() if jnp.ndim(column) == 1}

    # --- Every n updates ---

    def refresh_shares(self) -> tuple[int, int]:
        """How many source and target rows are drawn for each `refresh`, to start from."""
        return 0, 0

    def refresh(self, step: Step, rows: ExtraRows) -> ExtraRows:
        """The extra rows made anew, as many and with the same columns as `rows`, the present ones.

        `step` has the present policy and V, and in its batch the rows that were drawn to start from. To keep older rows
        (as a buffer does), return a part of `rows` with the new ones.
        """
        del step
        return rows

    # --- One update, in the order of the calls ---

    def select(self, step: Step) -> Batch:
        """The batch less the source rows that do not stay; how many stay is fixed (`Batch.best_source`)."""
        return step.batch

    def see_state(self, models: Models, observation: Float[Array, "*b s"]) -> Float[Array, "*b v"]:
        """What V sees of a state; the same in and outside of updates."""
        del models
        return observation

    def see_action(
        self, models: Models, observation: Float[Array, "*b s"], action: Float[Array, "*b a"]
    ) -> Float[Array, "*b q"]:
        """What Q sees of a state and an action; the same in and outside of updates."""
        del models
        return jnp.concatenate([observation, action], axis=-1)

    def represent(self, step: Step) -> Features:
        """What V and Q see of each row."""
        models, batch = step.models, step.batch
        return Features(
            self.see_state(models, batch.observation),
            self.see_state(models, batch.next_observation),
            self.see_action(models, batch.observation, batch.action),
        )

    def observe(self, step: Step) -> tuple[Learned, Metrics]:
        """Train the rule's own networks on the batch; `step.value` is V from before the update."""
        return step.learned, {}

    def weigh(self, step: Step) -> tuple[Weights, Metrics]:
        """Weight of each row in the critics', V's and the policy's loss; `step.value` is V from before the update."""
        # The barrier keeps the compiler from seeing that these are ones: the compiled update of the neutral
        # rule then rounds exactly as that of a weighting rule whose weights happen to be 1.
        ones = jax.lax.optimization_barrier(jnp.ones(len(step.batch), jnp.float32))
        return Weights(ones, ones, ones), {}

    def next_value(self, step: Step, next_value: Float[Array, " b"]) -> Float[Array, " b"]:
        """V(s') as it enters the backup, after the rule's edit; `step.value` is the new V (see `Step.value`)."""
        del step
        return next_value

    def reward(self, step: Step) -> Float[Array, " b"]:
        """The rewards that enter the backup."""
        return step.batch.reward

    def backup(self, step: Step, backup: Float[Array, " b"]) -> Float[Array, " b"]:
        """The backups after the rule's edit."""
        del step
        return backup

    def critic_loss(self, step: Step, error: Float[Array, "q b"]) -> Float[Array, "q b"]:
        """Loss of each row and critic from its error Q - backup."""
        del step
        return error**2

    def critic_term(self, step: Step, values: Float[Array, "q b"]) -> Float[Array, ""]:
        """Extra term of the critics' loss; `values` are all critics' values of the batch's rows."""
        del step, values
        return jnp.zeros((), jnp.float32)

    def actor_term(self, step: Step, action: Float[Array, "b a"]) -> Float[Array, ""]:
        """Extra term of the policy loss; `action` is the action at each row of the policy that is being updated."""
        del step, action
        return jnp.zeros((), jnp.float32)

    # --- After an update ---

    def stopped(self, learned: Learned) -> Bool[Array, ""] | None:
        """Whether the run has ended early, by what was learned before this update: nothing changes then any more.

        None: it never ends early.
        """
        del learned
        return None


def phases_of(rule: Rule, updates: int) -> tuple[Phase, ...]:
    """The parts of a run of so many updates. Raises `UsageError` unless the rule gives a sequence of `Phase`."""
    phases = rule.phases(updates)
    for phase in phases:
        whole = isinstance(phase, Phase) and isinstance(phase.rule, Rule)
        if not whole or not isinstance(phase.updates, int | np.integer):
            raise UsageError(f"rule {rule.name}: phases gives {phase!r}; give Phase(rule, updates), in whole updates")
    if not phases:
        raise UsageError(f"rule {rule.name}: phases gives none; give Phase(rule, updates) for each part of the run")
    return tuple(phases)


def filled_seams(rule: Rule | type[Rule]) -> list[str]:
    """Names of the update's seams that the rule fills, in calling order."""
    kind = rule if isinstance(rule, type) else type(rule)
    names = (*UPDATE_SEAMS[:1], "see_state", "see_action", *UPDATE_SEAMS[1:])
    return [name for name in names if getattr(kind, name) is not getattr(Rule, name)]


def check_seams(rule: Rule | type[Rule]) -> None:
    """Raise `UsageError` if a seam of the rule has the arguments that tabb's seams had before there was a `Step`."""
    kind = rule if isinstance(rule, type) else type(rule)
    for name in UPDATE_SEAMS:
        wanted = list(inspect.signature(getattr(Rule, name)).parameters)
        signature = inspect.signature(getattr(kind, name))
        try:
            signature.bind(*wanted)
        except TypeError:
            raise UsageError(
                f"rule {kind.name}: tabb does not call {name}({', '.join(signature.parameters)}) any more; write "
                f"{name}({', '.join(wanted)}), where step has models, learned, batch, features, value and discount"
            ) from None


__all__ = [
    "UPDATE_SEAMS",
    "BackboneTraits",
    "ExtraRows",
    "Features",
    "Learned",
    "Metrics",
    "Models",
    "Phase",
    "Rule",
    "Step",
    "Value",
    "Weights",
    "check_seams",
    "filled_seams",
    "on_extra",
    "on_source",
    "phases_of",
    "row_by_row",
]
