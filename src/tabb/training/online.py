"""How many steps a run takes in the environments of its domains, and before which of its updates."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tabb.errors import UsageError
from tabb.field_types import TypedFields
from tabb.training.loop import Program

Domain = Literal["source", "target"]
DOMAINS: tuple[Domain, Domain] = ("source", "target")


@dataclasses.dataclass(frozen=True)
class Online(TypedFields):
    """Steps that a run takes in environments while it learns; with none, it learns from logged rows alone.

    They are spread evenly over those updates whose batches hold rows of the domain, and each is kept: the batches of a
    domain are drawn from its logged rows, if there are any, and all steps so far.
    """

    target_steps: int = 0
    """exact number of steps in the target environment, the task's or `--env`; evaluations are not counted"""
    source_steps: int = 0
    """the same in the source environment: that of the task's robot without its shift, or `--source-env`"""
    lanes: int = 1
    """episodes at the same time in an environment; they are stepped together"""
    warm_up: int = 1_000
    """of all steps, those before the first update, in each environment whose rows it draws: random, or by the policy
    that the run starts from"""
    refits: int = 4
    """how often the models of a rule (`tabb`: its predictor) are fitted again on all rows so far; each fit takes as
    long as the first. One comes whenever the target's rows have grown by the same factor (the source's, if steps are
    taken there alone); 0 keeps the first fit"""

    def __post_init__(self) -> None:
        for name, least in (("target_steps", 0), ("source_steps", 0), ("lanes", 1), ("warm_up", 0), ("refits", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"online {name}={getattr(self, name)}: must be at least {least}")

    def without_effect(self) -> dict[str, str]:
        return (
            {}
            if self.domains
            else dict.fromkeys(("lanes", "warm_up", "refits"), "target-steps or --online.source-steps")
        )

    def steps(self, domain: Domain) -> int:
        """Those of a domain."""
        return self.source_steps if domain == "source" else self.target_steps

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The domains in which steps are taken."""
        return tuple(domain for domain in DOMAINS if self.steps(domain))


OFFLINE = Online()
"""no steps at all"""


class StepPlan(NamedTuple):
    """When the steps of a domain are taken: before update `rounds[i]` there must have been `totals[i]` of them."""

    steps: int
    warm_up: int
    """Those before the run's first update; 0 where its batch holds no row of the domain."""
    rounds: NDArray[np.int64]
    totals: NDArray[np.int64]

    def due(self, number: int) -> int:
        """How many steps must have been taken before update `number`."""
        place = int(np.searchsorted(self.rounds, number, side="right"))
        return int(self.totals[place - 1]) if place else 0


def step_plan(program: Program, domain: Domain, online: Online) -> StepPlan:
    """The steps of a domain over the updates that draw its rows, as many at a time as there are lanes.

    No lane waits while others take a step, but where the random steps and all steps end.
    """
    side = DOMAINS.index(domain)
    parts = [(first, part.updates) for first, part in program.parts if part.shares[side]]
    drawing = np.concatenate([np.arange(first, first + updates) for first, updates in parts])
    steps = online.steps(domain)
    warm_up = min(online.warm_up, steps) if drawing[0] == 0 else 0
    rest, count = steps - warm_up, len(drawing)
    every = max(1, online.lanes * count // rest) if rest else count
    begun = np.arange(0, count, every)
    rounds = -(-rest * np.minimum(begun + every, count) // (count * online.lanes))  # up: a first batch needs a row
    totals = np.minimum(warm_up + online.lanes * rounds, steps)
    return StepPlan(steps, warm_up, drawing[begun], totals)
