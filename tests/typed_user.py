"""A user's program that type checkers read against the installed package (tests/test_packages.py); nothing runs it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tabb
from tabb.errors import TabbError


def learn(source: Path, target: Path) -> tabb.Policy:
    rows: tabb.Transitions = tabb.load(target)
    learner: tabb.Learner = tabb.Learner(tabb.TABB(), "cql", updates=10, seeds=(0, 1))
    learner.fit(tabb.load(source), rows, task="hopper-gravity-0.5")
    return learner.policy


def judge(policy: tabb.Policy, folder: Path) -> float:
    runs: list[tabb.RunResult] = tabb.results(folder)
    scores: tabb.RowScores = tabb.score_rows(runs[0].path)
    weight: NDArray[np.float64] = np.asarray(scores.columns["weight"], np.float64)
    evaluation: tabb.Evaluation = tabb.evaluate(policy, "hopper-gravity-0.5", episodes=2)
    return evaluation.mean + float(weight.mean())


def tell(file: Path) -> str:
    try:
        found: tabb.Audit = tabb.audit(file)
    except TabbError as error:
        return str(error)
    return f"{found}; {tabb.write_report('runs/mine')}"
