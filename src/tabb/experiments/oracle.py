"""The oracle figure (TABB, Figure 3): which ranking of source rows foresees their oracle Bellman error?

One cell per task and seed: V of pooled IQL, trained with that seed; some thousand source rows; the target domain's
simulator asked for each of them; then every ranking's rank correlation with the oracle error, and the mean oracle
error of the rows that it would keep. A cell is a JSON file; a cell that is there is not computed again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from tabb.backbones import IQL
from tabb.batch import Domains, Sizes, make_domains
from tabb.environments.tasks import Task, get_task
from tabb.errors import RunError
from tabb.evaluation.oracle import (
    ask_target,
    kept_error,
    nearest_distance,
    oracle_error,
    rank_correlation,
    usable_rows,
)
from tabb.networks import MLP, mlp
from tabb.rules import RULES, TABB, Pooled, Rule
from tabb.rules.fitting import Report, step_normaliser, steps
from tabb.rules.tabb import row_backups
from tabb.training.cache import prepared
from tabb.training.checkpoint import load_tree, save_tree
from tabb.training.config import Settings, environment, fingerprint, from_plain, plain
from tabb.training.folder import read_json, write_json
from tabb.training.loop import Learner, compiled_updates, pack_data
from tabb.transitions import Transitions

SHARES = tuple(np.linspace(0.05, 1.0, 20).round(2).tolist())
"""shares of the rows kept, of the curves"""


@dataclasses.dataclass(frozen=True)
class Oracle:
    """What a cell depends on, besides its task and seed."""

    source: str = "medium"
    """source data: a quality in $TABB_DATA, or files"""
    target: str = "medium"
    """target data, likewise"""
    rows: int = 3_000
    """source rows that the simulator is asked for"""
    updates: int = 40_000
    """updates of the pooled IQL that V comes from"""
    rankings: tuple[str, ...] = ("tbm", "tbm+", "prediction", "dara", "igdf", "otdf", "nearest", "one-step")
    """rankings to compare (rankings of `RANKINGS`)"""
    tabb: TABB = dataclasses.field(default_factory=TABB)
    """predictor and β of the TABB rankings"""


@dataclasses.dataclass(frozen=True)
class Case:
    """Everything that a ranking may look at."""

    oracle: Oracle
    domains: Domains
    rows: NDArray[np.intp]
    """numbers of the source rows"""
    value: Callable[[jax.Array], jax.Array]
    """V of normalised observations"""
    following: NDArray[np.float32]
    """next observations in the target domain, normalised: the simulator's, for the reference ranking alone"""
    columns: Callable[[Rule], dict[str, jax.Array]]
    """what a rule prepares for the source rows, of these rows"""


# --- Rankings: the larger, the less to be trusted ---


def _mismatch(case: Case, uncertainty: float) -> jax.Array:
    columns, source = case.columns(case.oracle.tabb), case.domains.source[case.rows]
    discount = IQL().discount
    own, predicted = row_backups(source.reward, source.terminal, source.next_observation, columns, case.value, discount)
    return dataclasses.replace(case.oracle.tabb, uncertainty=uncertainty).mismatch(predicted, own)


def _prediction(case: Case) -> jax.Array:
    """How far the predictor moves the next state."""
    shift = jnp.mean(case.columns(case.oracle.tabb)["next"], axis=1) - case.domains.source[case.rows].next_observation
    return jnp.linalg.norm(shift, axis=-1)


def _nearest(case: Case) -> NDArray[np.float64]:
    normaliser = step_normaliser(case.domains)
    alive = np.asarray(case.domains.target.terminal) == 0
    target = normaliser(steps(case.domains.target))[alive]
    return nearest_distance(np.asarray(normaliser(steps(case.domains.source[case.rows]))), np.asarray(target))


def _one_step(case: Case) -> NDArray[np.float64]:
    """The true error of the dynamics, which needs the simulator: how far knowing it all of the state would go."""
    return np.linalg.norm(case.following - np.asarray(case.domains.source[case.rows].next_observation), axis=-1)


RANKINGS: dict[str, Callable[[Case], Any]] = {
    "tbm": lambda case: _mismatch(case, 0.0),
    "tbm+": lambda case: _mismatch(case, case.oracle.tabb.uncertainty),
    "prediction": _prediction,
    "dara": lambda case: -case.columns(RULES["dara"]())["bonus"],
    "igdf": lambda case: -case.columns(RULES["igdf"]())["score"],
    "otdf": lambda case: -case.columns(RULES["otdf"]())["score"],
    "bosa": lambda case: -case.columns(RULES["bosa"]())["log_likelihood"],
    "nearest": _nearest,
    "one-step": _one_step,
}


# --- A cell ---


def cell_file(folder: Path, task: str, seed: int) -> Path:
    """Where a cell's result is kept."""
    return folder / f"{task}-seed{seed}.json"


def run_cell(
    oracle: Oracle, task_name: str, seed: int, source: Transitions, target: Transitions, folder: Path, tell: Report
) -> None:
    """Compute one task and seed and keep the result in `folder`."""
    task = get_task(task_name)
    about = {
        "task": task.name,
        "seed": seed,
        "settings": plain(oracle),
        "data": {"source": fingerprint(source), "target": fingerprint(target)},
    }
    result = about | _measured(oracle, task, seed, source, target, folder, tell) | {"environment": environment()}
    folder.mkdir(parents=True, exist_ok=True)
    write_json(cell_file(folder, task.name, seed), result)


def read_cell(folder: Path, task: str, seed: int, oracle: Oracle) -> dict[str, Any]:
    """The result of a cell. Raises `RunError` if it was computed with other settings."""
    file = cell_file(folder, task, seed)
    found = read_json(file)
    # Read and written again: settings that a cell from before did not have yet have their defaults.
    if plain(from_plain(Oracle, found.get("settings") or {})) != plain(oracle):
        raise RunError(f"{file}: was computed with other settings; choose another folder with --out")
    return found


def _measured(
    oracle: Oracle, task: Task, seed: int, source: Transitions, target: Transitions, folder: Path, tell: Report
) -> dict[str, Any]:
    domains = make_domains(source, target)
    net = learned_value(domains, oracle.updates, seed, folder / "values" / f"{task.name}-seed{seed}.npz", tell)

    def value(observation: jax.Array) -> jax.Array:
        return net(observation)[..., 0]

    rows = usable_rows(task, source, oracle.rows, seed)
    tell("simulator", 0.0)
    truth = ask_target(task, source[rows])
    error = oracle_error(
        lambda raw: np.asarray(value(domains.normaliser(jnp.asarray(raw)))), source[rows], truth, IQL().discount
    )
    data = {"source": fingerprint(source), "target": fingerprint(target)}
    known: dict[str, dict[str, jax.Array]] = {}

    def columns(rule: Rule) -> dict[str, jax.Array]:
        if rule.name not in known:
            key = jax.random.split(jax.random.key(seed), 3)[1]  # as a training run of this seed has it
            models = prepared(rule, domains, data, Settings().normalise, key, tell, lambda note: None)
            known[rule.name] = {name: column[rows] for name, column in rule.columns(models, domains).items()}
        return known[rule.name]

    following = np.asarray(domains.normaliser(jnp.asarray(truth.next_observation)))
    case = Case(oracle, domains, rows, value, following, columns)
    found = {name: np.asarray(RANKINGS[name](case), np.float64) for name in oracle.rankings}
    return {
        "rows": len(rows),
        "oracle_error": {"mean": float(error.mean()), "median": float(np.median(error))},
        "value": {"mean": float(value(domains.source.observation[rows]).mean())},
        "rank_correlation": {name: rank_correlation(ranking, error) for name, ranking in found.items()},
        "shares": list(SHARES),
        "kept_error": {name: kept_error(ranking, error, SHARES).tolist() for name, ranking in found.items()},
        "least_kept_error": kept_error(error, error, SHARES).tolist(),
    }


def learned_value(domains: Domains, updates: int, seed: int, file: Path, tell: Report) -> MLP:
    """V of pooled IQL after so many updates; read from `file` if it is there, so that rankings can be tried anew."""
    backbone = IQL()
    learner = Learner(backbone, Pooled(), updates)
    sizes = Sizes(domains.target.observation_size, domains.target.action_size)
    about = {"updates": updates, "seed": seed, "backbone": plain(backbone)}
    template = mlp(jax.random.key(0), (sizes.observation, *backbone.hidden, 1))
    if file.exists():
        value, header = load_tree(file, template)
        if header != about:
            raise RunError(f"{file}: holds a value function of another run; choose another folder with --out")
        return value
    init_key, _, draw_key = jax.random.split(jax.random.key(seed), 3)
    state, data = learner.init(sizes, init_key), pack_data(domains, {})
    stretch = max(1, updates // 20)
    for first in range(0, updates, stretch):
        tell("V of pooled IQL", first / updates)
        state, _ = compiled_updates(learner, (), data, draw_key, state, first, min(first + stretch, updates))
        jax.block_until_ready(state)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_tree(file, state.value, about)
    return state.value


# --- All cells together ---


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Rank correlation with the oracle error, mean over seeds, per ranking and task, as Markdown."""
    tasks = list(dict.fromkeys(result["task"] for result in results))
    rankings = list(dict.fromkeys(name for result in results for name in result["rank_correlation"]))
    lines = [f"| ranking | {' | '.join(tasks)} | mean |", "|---" * (len(tasks) + 2) + "|"]
    for ranking in rankings:
        found = [
            [r["rank_correlation"][ranking] for r in results if r["task"] == task and ranking in r["rank_correlation"]]
            for task in tasks
        ]
        means = [float(np.mean(seeds)) if seeds else float("nan") for seeds in found]
        cells = ["-" if np.isnan(mean) else f"{mean:.2f}" for mean in [*means, float(np.mean(means))]]
        lines.append(f"| {ranking} | {' | '.join(cells)} |")
    return "\n".join(lines)
