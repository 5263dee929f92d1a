"""How far off is the model of the target domain after one, five and twenty steps, and what does a better fit cost?

The model (`tabb.models.target_model`, one network) is fitted to the source and to the first four fifths of medium
target rows, with several rates of learning and numbers of updates. Then it plays logged actions from logged states:
rows that it was fitted to, the last fifth of the medium rows, and expert rows of a policy that it has never seen.

    e_k = sqrt(mean over entries ((s̃_{t+k} - s_{t+k}) / spread)²)      s̃_{j+1} = s̃_j + f(s̃_j, a_j),  s̃_t = s_t

The tables have medians over 500 starts: single paths leave the data and grow without bound.

    TABB_DATA=... python -m tabb.experiments.model_fit --out benchmarks/results/model-fit
    TABB_DATA=... python -m tabb.experiments.model_fit --alone --out benchmarks/results/model-alone
        the model as it is used, beside one of target rows alone
    python -m tabb.experiments.model_fit --table benchmarks/results/model-fit        prints it again
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from tabb.experiments.reliability import results_in, rows_of
from tabb.float32 import is_constant
from tabb.models.target_model import TargetModel, TargetModelConfig, fit_target_model
from tabb.provenance import environment
from tabb.transitions import Transitions

TASKS = ("hopper-gravity-0.5", "hopper-morph", "walker2d-gravity-0.5", "halfcheetah-kinematic", "ant-kinematic")
FITS = ((1e-3, 5_000), (3e-3, 5_000), (1e-2, 5_000), (1e-2, 10_000))
"""rates of learning and numbers of updates, of the model of both domains"""
USED = (1e-2, 5_000)
"""those with which policies' models are fitted"""
STEPS = (1, 5, 20)
STARTS = 500
ROWS = {"fitted": "rows that it was fitted to", "held": "held-out rows", "expert": "expert rows"}


def starts_of(rows: Transitions, steps: int, count: int) -> NDArray[np.intp]:
    """At most `count` rows, spread evenly, from which `steps` more rows of the same episode follow."""
    number, terminal = np.asarray(rows.episode), np.asarray(rows.terminal)
    ends = np.r_[0, np.cumsum(terminal > 0)]
    first = np.arange(max(len(number) - steps, 0))
    whole = first[(number[first] == number[first + steps]) & (ends[first + steps] == ends[first])]
    return whole[np.linspace(0, len(whole) - 1, min(count, len(whole))).astype(int)] if len(whole) else whole


def errors_along(model: TargetModel, rows: Transitions, spread: NDArray[np.float64], steps: int) -> Float[Array, "k n"]:
    """e_1, ..., e_k of the logged actions of (normalised) rows, from `STARTS` of them; nothing for still entries."""
    first = starts_of(rows, steps, STARTS)
    states, actions = (
        jnp.stack([jnp.asarray(column)[first + k] for k in range(steps + 1)])
        for column in (rows.observation, rows.action)
    )
    moves = spread > 0
    per_spread = jnp.asarray(np.where(moves, 1.0 / np.where(moves, spread, 1.0), 0.0), jnp.float32)

    def step(state: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        action, goal = now
        state = state + model(state, action).change
        off = ((state - goal) * per_spread) ** 2
        return state, jnp.sqrt(jnp.sum(off, axis=-1) / moves.sum())

    _, errors = jax.lax.scan(step, states[0], (actions[:-1], states[1:]))
    return errors


def run_task(task: str, fits: Sequence[tuple[float, int]] = FITS, alone: bool = False) -> dict[str, Any]:
    """The result of a task as JSON types; with `alone` each fit is also made to target rows alone."""
    domains, unseen = rows_of(task)
    observation = np.asarray(domains.target.observation, np.float64)
    mean, spread = observation.mean(axis=0), observation.std(axis=0)
    spread = np.where(is_constant(mean, spread), 0.0, spread)
    rows = {"fitted": domains.target} | unseen
    results = []
    for (rate, updates), source in itertools.product(fits, (None, domains.source) if alone else (domains.source,)):
        began = time.monotonic()
        config = TargetModelConfig(learning_rate=rate, updates=updates)
        model = jax.block_until_ready(fit_target_model(config, source, domains.target, jax.random.key(0)))
        seconds = time.monotonic() - began
        along = {name: np.median(errors_along(model, part, spread, max(STEPS)), axis=1) for name, part in rows.items()}
        errors = {name: [round(float(one[k - 1]), 4) for k in STEPS] for name, one in along.items()}
        about = {"learning_rate": rate, "updates": updates, "source": source is not None}
        results.append({**about, "seconds": round(seconds, 1), "errors": errors})
    return {"task": task, "fits": results, "environment": environment()}


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: errors after one, five and twenty steps by task and fit."""
    lines = [
        f"| task | rate, updates | seconds | {' | '.join(ROWS.values())} |",
        "|---" * (3 + len(ROWS)) + "|",
    ]
    for result in results:
        for fit in result["fits"]:
            cells = [", ".join(f"{error:.3f}" for error in fit["errors"][name]) for name in ROWS]
            about = f"{fit['learning_rate']:g}, {fit['updates']:,}" + (
                ", target rows alone" if not fit.get("source", True) else ""
            )
            lines.append(f"| {result['task']} | {about} | {fit['seconds']:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--alone", action="store_true", help="the fit as it is used, beside one of target rows alone")
    parser.add_argument("--out", type=Path, default=Path("runs/model-fit"))
    parser.add_argument("--table", type=Path, metavar="FOLDER", help="print the results of this folder")
    options = parser.parse_args()
    run = partial(run_task, fits=(USED,), alone=True) if options.alone else run_task
    print(table(results_in(options.table or options.out, () if options.table else options.tasks, run)))


if __name__ == "__main__":
    main()
