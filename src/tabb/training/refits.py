"""What a rule fits before training, fitted again along the run on all rows so far, and what it then says of each row.

A fit comes each time that the rows of a domain have grown by the same factor, so that each sees as much that is new.
When that is depends on nothing but the plan of the steps. What the models say of a row is computed in blocks of fixed
places: a row has the same numbers, bit for bit, whether it came just now or is read back.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import NDArray

from tabb.batch import FIELDS, Domains
from tabb.networks import Normaliser
from tabb.rules import Rule
from tabb.training.drawing import Packed, pack
from tabb.training.online import DOMAINS, Domain, Online, StepPlan
from tabb.transitions import Transitions, concatenate

REFITS = 5_000
"""folded into the key of preparation for fits along the run; the number of the update after it"""
BLOCK = 32
"""rows of which the models say something at once, as they come"""
SEAMS = {"source": "columns", "target": "target_columns"}


def fits_along(rule: Rule, domains: tuple[Domain, ...]) -> bool:
    """Whether a run with steps in these domains fits the rule's models again and asks them of the rows that come."""
    return rule.fits_again and all(rule.is_row_by_row(SEAMS[domain]) for domain in domains)


def refit_numbers(plans: dict[Domain, StepPlan], logged: dict[Domain, int], online: Online) -> tuple[int, ...]:
    """Before which updates models are fitted, in order: 0 among them where a domain begins without rows.

    n_k = n_0 (n_1 / n_0)^(k / (m + 1)) rows of the target (of the source, if steps are taken there alone) make the kth
    of m fits due; n_0 are there before the first update, n_1 at the end. Fits that are due together are one.
    """
    domain: Domain = "target" if "target" in plans else "source"
    plan = plans[domain]
    first, last = logged[domain] + plan.due(0), logged[domain] + plan.steps
    due = first * (last / first) ** (np.arange(1, online.refits + 1) / (online.refits + 1))
    at = np.searchsorted(logged[domain] + plan.totals, due)
    numbers = {int(number) for number in plan.rounds[at] if number} if last > first else set()
    return tuple(sorted(numbers | ({0} if any(not logged[domain] for domain in plans) else set())))


def stand_in(domains: Domains) -> Domains:
    """The domains, with two rows of zeros where there is none: what models are shaped by before there are rows."""

    def some(rows: Transitions) -> Transitions:
        if len(rows):
            return rows
        sizes = rows.observation_size, rows.action_size
        return _transitions(jnp.zeros((2, 2 * sizes[0] + sizes[1] + 2), jnp.float32), sizes)

    return domains._replace(source=some(domains.source), target=some(domains.target))


def _transitions(rows: Float[Array, "n width"], sizes: tuple[int, int]) -> Transitions:
    """Rows as batches have them (`FIELDS` side by side) as transitions of one episode."""
    widths = {"observation": sizes[0], "action": sizes[1], "reward": 1, "next_observation": sizes[0], "terminal": 1}
    parts = jnp.split(rows, np.cumsum([widths[name] for name in FIELDS])[:-1].tolist(), axis=1)
    columns: dict[str, Any] = dict(zip(FIELDS, parts, strict=True))
    for name in ("reward", "terminal"):
        columns[name] = columns[name][:, 0]
    return Transitions(**columns, episode=jnp.zeros(len(rows), jnp.int32))


@functools.partial(jax.jit, static_argnums=(0, 1, 3))
def said_of_block(
    rule: Rule,
    seam: str,
    models: Any,
    sizes: tuple[int, int],
    normaliser: Normaliser,
    rows: Float[Array, "n width"] | NDArray[np.float32],
) -> Packed | None:
    """What the models say of each of these rows, packed; None where the rule says nothing of rows of this domain."""
    block = _transitions(jnp.asarray(rows), sizes)
    return pack(getattr(rule, seam)(models, Domains(block, block, normaliser)))


@functools.partial(jax.jit, donate_argnums=0)
def written(matrix: Array, rows: Array, at: Array) -> Array:
    """The matrix with these rows from row `at` on; the matrix that goes in is used up."""
    return jax.lax.dynamic_update_slice(matrix, rows, (at, jnp.zeros((), at.dtype)))


@dataclasses.dataclass
class Refits:
    """The models of a run that fits them again, and what they say of all rows."""

    rule: Rule
    domains: Domains
    """The logged rows."""
    key: PRNGKeyArray
    """The one that models are prepared with before training."""
    numbers: tuple[int, ...]
    """Before which updates models are fitted."""
    models: Any
    report: Callable[[str, float], None]
    note: Callable[[str], None]

    @property
    def fitted(self) -> bool:
        """Whether there are models before the first update."""
        return 0 not in self.numbers

    def fit(self, number: int, stepped: dict[Domain, Transitions], normaliser: Normaliser) -> dict[str, int]:
        """Fit the models before update `number` to the logged rows and those of steps, normalised; how many of each."""
        rows = [
            jax.tree.map(jnp.asarray, _both(getattr(self.domains, domain), stepped.get(domain))) for domain in DOMAINS
        ]
        key = jax.random.fold_in(jax.random.fold_in(self.key, REFITS), number) if number else self.key
        self.models = self.rule.prepare(Domains(rows[0], rows[1], normaliser), key, self.report)
        return {domain: len(part) for domain, part in zip(DOMAINS, rows, strict=True)}

    def of_logged(self, domain: Domain, normaliser: Normaliser) -> Packed | None:
        """What the models say of the domain's logged rows; None where there are none, or it is nothing."""
        if not len(getattr(self.domains, domain)):
            return None
        return pack(getattr(self.rule, SEAMS[domain])(self.models, self.domains._replace(normaliser=normaliser)))

    def of_block(
        self, domain: Domain, rows: Float[Array, "n width"] | NDArray[np.float32], normaliser: Normaliser
    ) -> Packed | None:
        """What they say of a block of its steps, of which none need have been taken yet."""
        return said_of_block(self.rule, SEAMS[domain], self.models, self._sizes, normaliser, rows)

    def room(self, domain: Domain, steps: int, normaliser: Normaliser) -> Packed | None:
        """Zeros for what will be said of the domain's logged rows and of so many steps, in whole blocks."""
        blank = jnp.zeros((BLOCK, 2 * self._sizes[0] + self._sizes[1] + 2), jnp.float32)
        shape = jax.eval_shape(lambda: self.of_block(domain, blank, normaliser))
        if shape is None:
            return None
        count = len(getattr(self.domains, domain)) + -(-steps // BLOCK) * BLOCK
        return Packed(jnp.zeros((count, shape.matrix.shape[1]), jnp.float32), shape.layout)

    @property
    def _sizes(self) -> tuple[int, int]:
        return self.domains.target.observation_size, self.domains.target.action_size


def _both(logged: Transitions, stepped: Transitions | None) -> Transitions:
    """Logged rows and those of steps after them."""
    if stepped is None or not len(stepped):
        return logged
    logged, stepped = (dataclasses.replace(rows, extras={}, action_bounds=None) for rows in (logged, stepped))
    return concatenate(logged, stepped) if len(logged) else stepped
