"""The oracle figure (TABB, Figure 3): which ranking of source rows predicts their oracle Bellman error?

For each task and seed, V of pooled IQL is trained, and some thousand source rows are stepped in the target domain's
simulator. Measured are every ranking's rank correlation with the oracle error, and the mean oracle error of the rows
that the ranking would keep. The result of a task and seed is a JSON file, which is not computed again.
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
from tabb.evaluation.figures import new_figure, save_png
from tabb.evaluation.oracle import (
    ask_target,
    kept_error,
    nearest_distance,
    oracle_error,
    rank_correlation,
    usable_rows,
)
from tabb.experiments.figure_results import save_result
from tabb.models.fitting import Report, step_normaliser, steps
from tabb.plain import backbone_from_plain, plain
from tabb.provenance import fingerprint
from tabb.rules import RULES, TABB, Pooled, Rule
from tabb.rules.tabb import Rows
from tabb.training.cache import prepared
from tabb.training.checkpoint import load_tree, save_tree
from tabb.training.config import Settings
from tabb.training.drawing import pack_data
from tabb.training.loop import Program, compiled_updates
from tabb.transitions import Transitions

SHARES = tuple(np.linspace(0.05, 1.0, 20).round(2).tolist())
"""shares of the rows kept: the horizontal axis of the curves"""
RANKING_COLOURS = ("#d55e00", "#e69f00", "#999933", "#009e73", "#56b4e9", "#0072b2", "#cc79a7", "#000000", "#882255")


@dataclasses.dataclass(frozen=True)
class Oracle:
    """What a result depends on, besides its task and seed."""

    source: str = "medium"
    """source data: a quality in $TABB_DATA, or files"""
    target: str = "medium"
    """target data, likewise"""
    rows: int = 3_000
    """source rows that are stepped in the target domain's simulator"""
    updates: int = 40_000
    """updates of pooled IQL, whose V is used"""
    layer_norm: bool = True
    """layer normalisation in its V and Q: a smoother V, and backups that are easier to predict"""
    rankings: tuple[str, ...] = ("tbm", "tbm+", "prediction", "dara", "igdf", "otdf", "nearest", "one-step")
    """rankings to compare (rankings of `RANKINGS`)"""
    tabb: TABB = dataclasses.field(default_factory=TABB)
    """predictor and β of the TABB rankings"""


@dataclasses.dataclass(frozen=True)
class Case:
    """Everything that a ranking may use."""

    oracle: Oracle
    domains: Domains
    rows: NDArray[np.intp]
    """indices of the source rows"""
    value: Callable[[jax.Array], jax.Array]
    """V of normalised observations"""
    following: NDArray[np.float32]
    """next observations in the target domain, normalised: the simulator's, for the reference ranking alone"""
    columns: Callable[[Rule], dict[str, jax.Array]]
    """the columns that a rule prepares, of these source rows"""


# --- Rankings: larger means less trusted ---


def mismatch_of(
    rule: TABB, columns: dict[str, jax.Array], rows: Transitions, value: Callable[[jax.Array], jax.Array]
) -> dict[str, jax.Array]:
    """`tbm` and `tbm_plus` of (normalised) source rows, shape [N] each."""
    own = Rows(rows.reward, rows.terminal, rows.next_observation)
    return rule.judge(rule.backups(own, columns, value, IQL().discount), None)


def _mismatch(case: Case, name: str) -> jax.Array:
    rule = case.oracle.tabb
    return mismatch_of(rule, case.columns(rule), case.domains.source[case.rows], case.value)[name]


def _prediction(case: Case) -> jax.Array:
    """How far the predictor moves the next state."""
    shift = jnp.mean(case.columns(case.oracle.tabb)["next"], axis=1) - case.domains.source[case.rows].next_observation
    return jnp.linalg.norm(shift, axis=-1)


def distances(domains: Domains, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Distance of each source row, none terminal, to the nearest target row in standardised (s, a, s')."""
    normaliser = step_normaliser(domains)
    alive = np.asarray(domains.target.terminal) == 0
    target = normaliser(steps(domains.target))[alive]
    return nearest_distance(np.asarray(normaliser(steps(domains.source[rows]))), np.asarray(target))


def _one_step(case: Case) -> NDArray[np.float64]:
    """The true one-step error of the next state, from the simulator: what perfect knowledge of the dynamics ranks."""
    return np.linalg.norm(case.following - np.asarray(case.domains.source[case.rows].next_observation), axis=-1)


RANKINGS: dict[str, Callable[[Case], Any]] = {
    "tbm": lambda case: _mismatch(case, "tbm"),
    "tbm+": lambda case: _mismatch(case, "tbm_plus"),
    "prediction": _prediction,
    "dara": lambda case: -case.columns(RULES["dara"]())["bonus"],
    "igdf": lambda case: -case.columns(RULES["igdf"]())["score"],
    "otdf": lambda case: -case.columns(RULES["otdf"]())["score"],
    "bosa": lambda case: -case.columns(RULES["bosa"]())["log_likelihood"],
    "nearest": lambda case: distances(case.domains, case.rows),
    "one-step": _one_step,
}


# --- One task and seed ---


def compute_result(
    oracle: Oracle, task_name: str, seed: int, source: Transitions, target: Transitions, folder: Path, tell: Report
) -> None:
    """Compute one task and seed and write the result to `folder`."""
    task = get_task(task_name)
    data = {"source": fingerprint(source), "target": fingerprint(target)}
    save_result(
        oracle, task.name, seed, data, _measured(oracle, task, seed, source, target, data, folder, tell), folder
    )


def _measured(
    oracle: Oracle,
    task: Task,
    seed: int,
    source: Transitions,
    target: Transitions,
    data: dict[str, str],
    folder: Path,
    tell: Report,
) -> dict[str, Any]:
    domains = make_domains(source, target)
    file = value_file(folder / "values", task.name, seed)
    value = learned_value(domains, data, oracle.updates, seed, file, tell, IQL(layer_norm=oracle.layer_norm))
    rows = usable_rows(task, source, oracle.rows, seed)
    tell("simulator", 0.0)
    truth = ask_target(task, source[rows])
    error = oracle_error(
        lambda raw: np.asarray(value(domains.normaliser(jnp.asarray(raw)))), source[rows], truth, IQL().discount
    )
    known: dict[str, dict[str, jax.Array]] = {}

    def columns(rule: Rule) -> dict[str, jax.Array]:
        if rule.name not in known:
            known[rule.name] = prepared_columns(rule, domains, data, seed, rows, tell)
        return known[rule.name]

    following = np.asarray(domains.normaliser(jnp.asarray(truth.next_observation)))
    case = Case(oracle, domains, rows, value, following, columns)
    rankings = {name: np.asarray(RANKINGS[name](case), np.float64) for name in oracle.rankings}
    return {
        "rows": len(rows),
        "oracle_error": {"mean": float(error.mean()), "median": float(np.median(error))},
        "value": {"mean": float(value(domains.source.observation[rows]).mean())},
        "rank_correlation": {name: rank_correlation(ranking, error) for name, ranking in rankings.items()},
        "shares": list(SHARES),
        "kept_error": {name: kept_error(ranking, error, SHARES).tolist() for name, ranking in rankings.items()},
        "least_kept_error": kept_error(error, error, SHARES).tolist(),
    }


def prepared_columns(
    rule: Rule, domains: Domains, data: dict[str, str], seed: int, rows: NDArray[np.intp], tell: Report
) -> dict[str, jax.Array]:
    """The columns that `rule` prepares for these source rows in a training run of this seed."""
    key = jax.random.split(jax.random.key(seed), 3)[1]
    models = prepared(rule, domains, data, Settings().normalise, key, tell, lambda note: None)
    return {name: column[rows] for name, column in rule.columns(models, domains).items()}


def value_file(folder: Path, task: str, seed: int) -> Path:
    """The file of the value function of a task and seed in a folder of them."""
    return folder / f"{task}-seed{seed}.npz"


def learned_value(
    domains: Domains,
    data: Mapping[str, str],
    updates: int,
    seed: int,
    file: Path,
    tell: Report,
    backbone: IQL = IQL(),  # noqa: B008 - frozen
) -> Callable[[jax.Array], jax.Array]:
    """V of pooled IQL after `updates`, a function of normalised observations; read from `file` if that exists.

    `data` are the fingerprints of both data sets. Raises `RunError` if `file` holds the V of other data, another
    length or other constants.
    """
    learner = Program(backbone, Pooled(), updates)
    sizes = Sizes(domains.target.observation_size, domains.target.action_size)
    about = {"updates": updates, "seed": seed, "backbone": plain(backbone), "data": dict(data)}
    init_key, _, draw_key = jax.random.split(jax.random.key(seed), 3)
    state = learner.init(sizes, init_key)
    if file.exists():
        net, header = load_tree(file, state.value)
        # Constants that an older file lacks get their defaults.
        if header | {"backbone": plain(backbone_from_plain(header.get("backbone") or {}))} != about:
            raise RunError(
                f"{file}: holds a value function of other data, updates or constants; use the same ones, or choose "
                "another folder (--out, --values)"
            )
    else:
        packed = pack_data(domains, {})
        stretch = max(1, updates // 20)
        for first in range(0, updates, stretch):
            tell("V of pooled IQL", first / updates)
            state, _ = compiled_updates(learner, (), packed, draw_key, state, first, min(first + stretch, updates))
            jax.block_until_ready(state)
        net = state.value
        file.parent.mkdir(parents=True, exist_ok=True)
        save_tree(file, net, about)
    return lambda observation: net(observation)[..., 0]


# --- All results together ---


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: rank correlation with the oracle error by ranking and task, means over seeds."""
    tasks = list(dict.fromkeys(result["task"] for result in results))
    rankings = list(dict.fromkeys(name for result in results for name in result["rank_correlation"]))
    lines = [f"| ranking | {' | '.join(tasks)} | mean |", "|---" * (len(tasks) + 2) + "|"]
    for ranking in rankings:
        by_task = [
            [r["rank_correlation"][ranking] for r in results if r["task"] == task and ranking in r["rank_correlation"]]
            for task in tasks
        ]
        means = [float(np.mean(seeds)) if seeds else float("nan") for seeds in by_task]
        cells = ["-" if np.isnan(mean) else f"{mean:z.2f}" for mean in [*means, float(np.mean(means))]]
        lines.append(f"| {ranking} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_kept_error(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the mean oracle error of the rows that each ranking keeps, a panel per task; bands span the seeds.

    Errors are relative to that of all rows. The grey line is the ranking by the oracle error itself.
    """
    tasks = list(dict.fromkeys(result["task"] for result in results))
    rankings = list(dict.fromkeys(name for result in results for name in result["kept_error"]))
    width = min(3, len(tasks))
    height = -(-len(tasks) // width)
    figure = new_figure(figsize=(1.2 + 3.2 * width, 0.8 + 2.4 * height), layout="constrained")
    panels = figure.subplots(height, width, sharex=True, squeeze=False)
    for axes, task in zip(panels.flat, tasks, strict=False):
        of_task = [result for result in results if result["task"] == task]
        shares = np.array(of_task[0]["shares"])

        def relative(curves: list[list[float]]) -> np.ndarray:
            return np.array([np.array(curve) / curve[-1] for curve in curves])

        best = relative([result["least_kept_error"] for result in of_task]).mean(axis=0)
        axes.plot(shares, best, color="#bbbbbb", linewidth=1.2, label="oracle itself")
        for i, name in enumerate(rankings):
            curves = relative([result["kept_error"][name] for result in of_task if name in result["kept_error"]])
            colour = RANKING_COLOURS[i % len(RANKING_COLOURS)]
            axes.fill_between(shares, curves.min(axis=0), curves.max(axis=0), color=colour, alpha=0.12, linewidth=0)
            axes.plot(shares, curves.mean(axis=0), color=colour, linewidth=1.6, label=name)
        axes.axhline(1.0, color="#000000", linewidth=0.6, linestyle=":")
        axes.set_title(task, loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
    for axes in list(panels.flat)[len(tasks) :]:
        axes.set_visible(False)
    figure.supxlabel("share of source rows kept", fontsize=10)
    figure.supylabel("mean oracle error / that of all rows", fontsize=10 if height > 1 else 8)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    # A panel has room for two entries beside each other.
    columns = min(5, len(labels), 2 * width)
    figure.set_figheight(figure.get_figheight() + 0.2 * (-(-len(labels) // columns) - 1))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize=9)
    save_png(figure, path)
