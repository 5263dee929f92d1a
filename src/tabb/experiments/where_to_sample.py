"""Where should a few target steps be taken: does it pay to take them where the predictor of the target is in doubt?

The aim of the steps is a predictor that tells which source backups hold in the target (TABB). It is fitted to the steps
of a first round, and then, round by round, further steps are taken and it is fitted anew. Four ways to take them:

    in turn           whole episodes of the candidate policies, one after the other
    steered           whole episodes of the candidate whose own steps in the source are in most doubt
    random starts     short episodes from states of source rows, drawn at random; their first action is the row's
    doubtful starts   the same from the rows in most doubt

A robot can do the first two. The other two need a simulator of the target that can be set to a state. The doubt is the
predictor's own, u = std_k b̂_k. After each round, some thousand source rows are stepped in the target's simulator:

    error             mean |b̂ - b_tar|: how far predicted backups are from those of the target
    rank              rank correlation of TBM = |b̂ - b| with the oracle error |b_tar - b|

Candidates are the policy and V of a short IQL run on the source, and that policy with noise on its actions.

    python -m tabb.experiments.where_to_sample --out FOLDER
    python -m tabb.experiments.where_to_sample --out FOLDER --table
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from tabb.backbones import IQL
from tabb.batch import Domains, Sizes, make_domains, on_device
from tabb.bellman import bellman_backup
from tabb.data import inspect_arrays, load, resolve
from tabb.environments.make_robot import make_robot
from tabb.environments.tasks import Task, get_task
from tabb.evaluation.oracle import Truth, ask_target, rank_correlation, usable_rows
from tabb.experiments.figure_results import read_result, result_file, save_result
from tabb.policy import Policy
from tabb.provenance import fingerprint
from tabb.rules import TABB, ResidualPredictor, SourceOnly
from tabb.rules.tabb import Rows
from tabb.training.drawing import pack_data
from tabb.training.loop import Program, compiled_updates
from tabb.transitions import Transitions

WAYS = ("in turn", "steered", "random starts", "doubtful starts")
AGAINST = {"steered": "in turn", "doubtful starts": "random starts"}
"""ways that follow the doubt, and those that they are to be held against"""
NOISES = (0.0, 0.3, 1.0)
"""standard deviations of the noise on a candidate's actions"""

Act = Callable[[NDArray[np.floating]], NDArray[np.float32]]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """What a result depends on, besides its task and seed."""

    source: str = "medium_replay"
    """source data: a quality in $TABB_DATA"""
    source_rows: int = 20_000
    """of which so many are used, the last ones"""
    first: int = 500
    """target steps of the first round, the same for all ways: candidates in turn"""
    rounds: int = 3
    """rounds after it"""
    steps: int = 500
    """target steps of each"""
    horizon: int = 25
    """longest episode from a given state"""
    doubtful: float = 0.1
    """share of source rows, those in most doubt, from which doubtful starts are drawn"""
    rows: int = 2_000
    """source rows that are stepped in the target's simulator"""
    asked: int = 300
    """steps of each candidate in the source, of which the predictor is asked"""
    updates: int = 3_000
    """updates of IQL on the source"""
    predictor: ResidualPredictor = ResidualPredictor(  # noqa: RUF009 - frozen
        updates=1_000, batch_size=128, hidden=64, learning_rate=3e-3
    )


# --- Choices ---


def most_doubted(doubt: Mapping[float, float]) -> float:
    """The candidate (by its noise) in most doubt."""
    return max(doubt, key=lambda noise: doubt[noise])


def doubtful_rows(doubt: NDArray[np.floating], share: float) -> NDArray[np.intp]:
    """Numbers of this share of the rows, one at least, in most doubt."""
    return np.argsort(-np.asarray(doubt), kind="stable")[: max(1, round(share * len(doubt)))]


# --- Steps ---


def noisy(policy: Policy, noise: float, generator: np.random.Generator) -> Act:
    """The policy with normal noise on its actions."""

    def act(observation: NDArray[np.floating]) -> NDArray[np.float32]:
        action = np.asarray(policy.act(observation))
        return np.clip(action + noise * generator.standard_normal(action.shape), -1, 1).astype(np.float32)

    return act


class Log:
    """Steps in an environment, as they are taken."""

    def __init__(self, task: Task) -> None:
        self._env: Any = make_robot(task, "legacy")
        self._limit = task.max_episode_steps
        self._columns: dict[str, list[Any]] = {
            name: [] for name in ("observations", "actions", "rewards", "next_observations", "terminals", "episodes")
        }
        self._episode = 0

    def __len__(self) -> int:
        return len(self._columns["rewards"])

    def episode(self, act: Act, total: int, seed: int) -> None:
        """An episode from the robot's own first states, until it ends or there are `total` steps in all."""
        observation, _ = self._env.reset(seed=seed)
        self._go_on(observation, act, min(total - len(self), self._limit))

    def from_state(self, state: NDArray[np.floating], first: NDArray[np.floating], act: Act, most: int) -> None:
        """An episode from a state (an observation), whose first action is given, of so many steps at most."""
        self._env.restore(state)
        self._go_on(np.asarray(state), act, most, first)

    def _go_on(self, observation: Any, act: Act, most: int, first: Any = None) -> None:
        for step in range(most):
            action = first if step == 0 and first is not None else act(observation)
            following, reward, terminal, _, _ = self._env.step(np.asarray(action, np.float32))
            row = (observation, action, reward, following, terminal, self._episode)
            for column, value in zip(self._columns.values(), row, strict=True):
                column.append(np.array(value))
            observation = following
            if terminal:
                break
        self._episode += 1

    def rows(self) -> Transitions:
        """All steps so far."""
        columns: dict[str, Any] = {name: np.array(column) for name, column in self._columns.items()}
        return inspect_arrays(**columns).transitions

    def copy_of(self, other: Log) -> Log:
        """This log with the steps of another one."""
        self._columns = {name: list(column) for name, column in other._columns.items()}
        self._episode = other._episode
        return self


# --- One task and seed ---


@dataclasses.dataclass(frozen=True)
class Case:
    """What all ways share."""

    sampling: Sampling
    task: Task
    source: Transitions
    domains: Domains
    """normalised by the source; their target rows are none that count"""
    value: Callable[[Any], Any]
    policy: Policy
    rule: TABB
    seed: int

    def fitted(self, target: Transitions) -> Any:
        """The predictor, fitted to the source and these target rows."""
        domains = self.domains._replace(target=on_device(target, self.domains.normaliser))
        return self.rule.prepare(domains, jax.random.key(self.seed), lambda what, share: None)

    def backups(self, models: Any, rows: Transitions) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of source rows their own backups [N], and those that the predictor gives [N, K]."""
        rows = on_device(rows, self.domains.normaliser)
        columns = self.rule.columns(models, self.domains._replace(source=rows))
        found = self.rule.backups(
            Rows(rows.reward, rows.terminal, rows.next_observation), columns, self.value, IQL().discount
        )
        return np.asarray(found.own, np.float64), np.asarray(found.predicted, np.float64)

    def doubt(self, models: Any, rows: Transitions) -> NDArray[np.float64]:
        """u of each row."""
        return self.backups(models, rows)[1].std(axis=1)

    def judged(self, models: Any, rows: Transitions, truth: Truth) -> dict[str, float]:
        """How far the predictor's backups of these rows are from those of the target, and what its TBM ranks."""
        own, predicted = self.backups(models, rows)
        following = self.value(self.domains.normaliser(jnp.asarray(truth.next_observation)))
        true = np.asarray(
            bellman_backup(jnp.asarray(truth.reward), jnp.asarray(truth.terminal), following, IQL().discount),
            np.float64,
        )
        mean = predicted.mean(axis=1)
        return {
            "error": float(np.abs(mean - true).mean()),
            "rank": rank_correlation(np.abs(mean - own), np.abs(true - own)),
            "mismatch": float(np.abs(true - own).mean()),
        }


def taught(sampling: Sampling, source: Transitions) -> tuple[Domains, Callable[[Any], Any], Policy]:
    """The source as a domain, and V and the policy of IQL after some updates on it alone."""
    domains = make_domains(source, source[:2], shares=(1, 0))
    program = Program(IQL(layer_norm=True, policies=1), SourceOnly(), sampling.updates)
    init_key, _, draw_key = jax.random.split(jax.random.key(0), 3)
    state = program.init(Sizes(source.observation_size, source.action_size), init_key)
    state, _ = compiled_updates(program, (), pack_data(domains, {}), draw_key, state, 0, sampling.updates)
    net = state.value
    return domains, lambda seen: net(seen)[..., 0], program.backbone.policy(state, domains.normaliser, {})


def measured(case: Case) -> dict[str, Any]:
    """What the predictor knows after each round of each way."""
    sampling, task = case.sampling, case.task
    generator = np.random.default_rng(case.seed)
    rows = case.source[usable_rows(task, case.source, sampling.rows, case.seed)]
    truth = ask_target(task, rows)
    candidates = {noise: noisy(case.policy, noise, generator) for noise in NOISES}
    there = get_task(task.robot)
    asked = {noise: _steps_of(act, Log(there), sampling.asked, case.seed) for noise, act in candidates.items()}
    begun = _in_turn(Log(task), candidates, sampling.first, generator)
    models = case.fitted(begun.rows())
    result: dict[str, Any] = {"first": case.judged(models, rows, truth), "ways": {}}
    for way in WAYS:
        log, known, rounds = Log(task).copy_of(begun), models, []
        for number in range(1, sampling.rounds + 1):
            total = sampling.first + number * sampling.steps
            chosen = None
            if way == "in turn":
                _in_turn(log, candidates, total, generator)
            elif way == "steered":
                chosen = most_doubted({noise: float(case.doubt(known, asked[noise]).mean()) for noise in NOISES})
                _in_turn(log, {chosen: candidates[chosen]}, total, generator)
            else:
                pool = np.arange(len(rows))
                if way == "doubtful starts":
                    pool = doubtful_rows(case.doubt(known, rows), sampling.doubtful)
                while len(log) < total:
                    row = rows[int(generator.choice(pool))]
                    most = min(sampling.horizon, total - len(log))
                    log.from_state(row.observation, row.action, candidates[NOISES[0]], most)
            known = case.fitted(log.rows())
            round_of: dict[str, Any] = {"steps": total, "candidate": chosen}
            rounds.append(round_of | case.judged(known, rows, truth))
        result["ways"][way] = rounds
    return result


def _in_turn(log: Log, candidates: Mapping[float, Act], total: int, generator: np.random.Generator) -> Log:
    """Episodes of the candidates, one after the other, until there are `total` steps."""
    acts = list(candidates.values())
    number = 0
    while len(log) < total:
        log.episode(acts[number % len(acts)], total, int(generator.integers(2**31)))
        number += 1
    return log


def _steps_of(act: Act, log: Log, steps: int, seed: int) -> Transitions:
    """So many steps of a candidate."""
    return _in_turn(log, {0.0: act}, steps, np.random.default_rng(seed)).rows()


# --- All results together ---


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: error / rank correlation at the end of the budget by way and task, means over seeds; and in how many
    runs a way has a smaller error than the one that it is to be held against."""
    tasks = list(dict.fromkeys(result["task"] for result in results))

    def row(name: str, numbers: Callable[[Mapping[str, Any]], Mapping[str, float]], told: str = "") -> str:
        cells = []
        for task in tasks:
            found = [numbers(result) for result in results if result["task"] == task]
            means = [np.mean([one[key] for one in found]) for key in ("error", "rank") if key in found[0]]
            cells.append(" / ".join(f"{mean:z.2f}" for mean in means))
        return f"| {name} | {' | '.join(cells)} | {told} |"

    def last(way: str) -> Callable[[Mapping[str, Any]], Mapping[str, float]]:
        return lambda result: result["ways"][way][-1]

    lines = [f"| steps | {' | '.join(tasks)} | smaller error than |", "|---" * (len(tasks) + 2) + "|"]
    lines.append(row("none: the source's own backups", lambda result: {"error": result["first"]["mismatch"]}))
    lines.append(row("first round", lambda result: result["first"]))
    for way in WAYS:
        told = ""
        if way in AGAINST:
            wins = sum(last(way)(one)["error"] < last(AGAINST[way])(one)["error"] for one in results)
            told = f"{AGAINST[way]}: {wins} of {len(results)}"
        lines.append(row(way, last(way), told))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tasks", nargs="+", default=["hopper-gravity-0.5", "hopper-kinematic"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results, a file for each task and seed")
    parser.add_argument("--table", action="store_true", help="only show what is there")
    options = parser.parse_args(arguments)
    sampling = Sampling()
    there: dict[str, tuple[Transitions, tuple[Domains, Callable[[Any], Any], Policy]]] = {}
    for seed in options.seeds:
        for name in options.tasks:
            if options.table or result_file(options.out, name, seed).exists():
                continue
            task = get_task(name)
            if task.robot not in there:  # V and the policy of a robot's source are the same for all of its tasks
                rows = load(resolve(sampling.source, name, "source"))[-sampling.source_rows :]
                there[task.robot] = rows, taught(sampling, rows)
            source, (domains, value, policy) = there[task.robot]
            rule = TABB(predictor=sampling.predictor)
            case = Case(sampling, task, source, domains, value, policy, rule, seed)
            found = measured(case)
            save_result(sampling, name, seed, {"source": fingerprint(source)}, found, options.out)
            print(name, seed, {way: round(rounds[-1]["error"], 3) for way, rounds in found["ways"].items()}, flush=True)
    files = [(name, seed) for name in options.tasks for seed in options.seeds]
    there_are = [one for one in files if result_file(options.out, *one).exists()]
    if not there_are:
        raise SystemExit(
            f"{options.out}: holds no results of these tasks and seeds; name the folder that --out wrote to"
        )
    print(table([read_result(options.out, *one, sampling) for one in there_are]))


if __name__ == "__main__":
    main()
